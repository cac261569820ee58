"""A real promtool takes the backfill, and a real Prometheus answers from it with the figures of the ledger, to the last digit."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from click.testing import CliRunner
from sqlalchemy import insert

from costwarden.cli import cli
from costwarden.ledger import Ledger
from costwarden.ledger.schema import COST_BASES, charges
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage, to_micros

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

TODAY = datetime.now(UTC).date()
FIRST = TODAY - timedelta(days=370)
HOSTILE = 'quote " and backslash \\ and newline \n end € 🙂'
TARGET = {"job": "costwarden", "instance": "127.0.0.1:3010"}


def cost_of(number):
    """What day `number` costs on EC2."""
    return Decimal(number % 7) + Decimal("0.1")


def fill(ledger):
    """A year of two services and a credit a month; a call an hour in the last 40 days."""
    rows = []
    for number in range(370):
        day = FIRST + timedelta(days=number)
        rows.append((day, "EC2", cost_of(number)))
        rows.append((day, HOSTILE, Decimal("0.001")))
        if day.day == 1:
            rows.append((day, "Credits", Decimal(-20)))
    names = [column.name for column in charges.c]

    def write(connection):
        for day, service, cost in rows:
            given = {"source": "focus", "charge_date": day.isoformat(), "provider_name": "aws", "service_name": service}
            given |= {f"{basis}_usd": str(cost) for basis in COST_BASES} | {"row_count": 1}
            connection.execute(insert(charges).values({name: given.get(name, "") for name in names}))
        calls = []
        for number in range(24 * 40):
            when = midnight(TODAY - timedelta(days=40)) + timedelta(hours=number, minutes=30)
            calls.append(
                Usage(
                    source="test",
                    event_id=str(number),
                    timestamp=to_micros(when),
                    tenant_id="acme",
                    provider="openai",
                    model="gpt-4o",
                    input_tokens=100,
                    cost=1_500_000_000,
                )
            )
        append_usage(connection, [msgspec.structs.astuple(call) for call in calls])

    ledger.write(write)


def midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@contextmanager
def prometheus(tools, folder, data, port, wait_until, *options):
    (folder / "prometheus.yaml").write_text("{}")
    argv = [
        tools.prometheus,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=10y",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        *options,
    ]
    process = subprocess.Popen(argv)
    try:
        wait_until(lambda: ask(port, "vector(1)", TODAY))
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def ask(port, expression, at):
    """Labels without name and target -> value, at a moment or the midnight of a day."""
    moment = at if isinstance(at, datetime) else midnight(at)
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression, 'time': moment.timestamp()})}"
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            results = json.load(response)["data"]["result"]
    except urllib.error.HTTPError as refusal:
        refusal.close()
        # Not yet, while it starts.
        if refusal.code != 503:
            raise
        return {}
    except OSError:
        return {}
    return {
        tuple(sorted((name, value) for name, value in result["metric"].items() if name not in {"__name__", *TARGET})): float(
            result["value"][1]
        )
        for result in results
    }


@pytest.fixture(scope="module")
def history(tmp_path_factory, empty_ledger, tools):
    """The folder of blocks that promtool makes of a year."""
    folder = tmp_path_factory.mktemp("backfill")
    shutil.copy(empty_ledger, folder / "costwarden.db")
    (folder / "costwarden.yaml").write_text("{}\n")
    ledger = Ledger(f"sqlite:///{folder / 'costwarden.db'}")
    fill(ledger)
    ledger.close()
    output = folder / "history.om"
    argv = ["backfill", "--config", str(folder / "costwarden.yaml"), "--output", str(output), "--label", f"instance={TARGET['instance']}"]
    result = CliRunner().invoke(cli, argv)
    assert result.exit_code == 0, result.output
    command = [tools.promtool, *["tsdb", "create-blocks-from", "--max-block-duration=744h", "openmetrics"], output, folder / "data"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder


def test_prometheus_answers_from_a_year_that_it_never_scraped(history, tools, free_port, wait_until, project):
    port = free_port()
    with prometheus(tools, history, history / "data", port, wait_until):
        labels = lambda **named: tuple(sorted({"provider": "aws", **named}.items()))  # noqa: E731
        # The newest complete day, half a year ago and yesterday.
        for back in (1, 180, 369):
            day = TODAY - timedelta(days=back)
            daily = ask(port, "aws_cost_daily_usd", day)
            yesterday = day - timedelta(days=1)
            assert daily[labels(service="EC2")] == float(cost_of((yesterday - FIRST).days))
            assert daily[labels(service=HOSTILE)] == 0.001
        # The last day of a year that is over, and the first of the next: the month moves from current to previous.
        # Of today nothing is written: on the first of January it is another month's first day.
        year = (TODAY - timedelta(days=1)).replace(month=1, day=1)
        year = year if year >= FIRST + timedelta(days=32) else year.replace(month=2)
        december = [FIRST + timedelta(days=number) for number in range(370)]
        december = [day for day in december if (year - timedelta(days=1)).replace(day=1) <= day < year]
        whole = float(sum(cost_of((day - FIRST).days) for day in december))
        before_last = float(sum(cost_of((day - FIRST).days) for day in december[:-1]))
        assert ask(port, 'aws_cost_monthly_usd{month="current", service="EC2"}', december[-1]) == {
            labels(month="current", service="EC2"): before_last
        }
        turned = ask(port, 'aws_cost_monthly_usd{service=~"EC2|Credits"}', year)
        assert turned[labels(month="previous", service="EC2")] == whole
        assert turned[labels(month="current", service="EC2")] == 0
        assert turned[labels(month="previous", service="Credits")] == -20
        # Running totals: `increase` sees every hour, the first one included.
        noon = midnight(TODAY - timedelta(days=10)) + timedelta(hours=12)
        acme = (("model", "gpt-4o"), ("provider", "openai"), ("tenant_id", "acme"))
        assert ask(port, "ai_token_usage_cost_usd", noon) == {acme: 1.5 * (24 * 30 + 12)}
        day = ask(port, 'ai_token_usage_cost_window_usd{window="1d"}', noon)
        assert day == {(*acme, ("window", "1d")): 1.5 * 24}
        tokens = 'ai_tokens_total{type="input"} - ai_tokens_total{type="input"} offset 1d'
        assert set(ask(port, tokens, noon).values()) == {100.0 * 24}
        assert list(ask(port, 'rate(ai_tokens_total{type="input"}[6h])', noon).values()) == [pytest.approx(100 / 3600)]
        began = midnight(TODAY - timedelta(days=40)) + timedelta(hours=1)
        assert list(ask(port, 'increase(ai_tokens_total{type="input"}[90m])', began).values()) == [pytest.approx(100)]
        # Between two samples there is nothing for an instant query, and `last_over_time` finds it.
        between = noon + timedelta(minutes=30)
        assert ask(port, "ai_token_usage_cost_usd", between) == {}
        assert ask(port, "last_over_time(ai_token_usage_cost_usd[1h])", between) == {acme: 1.5 * (24 * 30 + 12)}


def test_recording_rules_get_a_past_too(history, tools, free_port, wait_until, project):
    """As docs/backfill.md has it: five times, because rules that read other rules find them only in the next pass; without the intervals of
    groups, which promtool would keep to; and with a look-back of the step, because promtool evaluates a group at an offset into the hour
    that it derives from the group's name."""
    look_back = "--query.lookback-delta=1h"
    port = free_port()
    data = history / "with_rules"
    shutil.copytree(history / "data", data)
    start, end = TODAY - timedelta(days=12), TODAY - timedelta(days=2)
    # An interval as an edited copy may have it: promtool would make ten days of seconds.
    edited = (
        (project / "alerts" / "recording.rules.yaml")
        .read_text()
        .replace("  - name: recording\n", "  - name: recording\n    interval: 1s\n")
    )
    assert "interval: 1s" in edited
    (command,) = re.findall(r"^sed '(.+)' alerts/recording", (project / "docs" / "backfill.md").read_text(), re.MULTILINE)
    recorded = history / "recorded.yaml"
    recorded.write_text(subprocess.run(["sed", command], input=edited, capture_output=True, check=True, text=True).stdout)
    for _ in range(5):
        with prometheus(tools, history, data, port, wait_until, look_back):
            subprocess.run(
                [
                    tools.promtool,
                    *["tsdb", "create-blocks-from", "--max-block-duration=744h", "rules"],
                    f"--url=http://127.0.0.1:{port}",
                    f"--start={int(midnight(start).timestamp())}",
                    f"--end={int(midnight(end).timestamp())}",
                    "--eval-interval=1h",
                    f"--output-dir={data}",
                    recorded,
                ],
                capture_output=True,
                check=True,
            )
    with prometheus(tools, history, data, port, wait_until, look_back):
        day = midnight(TODAY - timedelta(days=10)) + timedelta(hours=12)
        daily = ask(port, "provider:cloud_cost_daily_usd:sum", day)
        costs = {service: cost for (_, (_, service)), cost in ask(port, "aws_cost_daily_usd", day).items()}
        assert daily == {(("provider", "aws"),): pytest.approx(sum(costs.values()))}
        monthly = ask(port, 'provider:cloud_cost_monthly_usd:sum{month="current"}', day)
        assert monthly == {
            (("month", "current"), ("provider", "aws")): pytest.approx(
                sum(ask(port, 'aws_cost_monthly_usd{month="current"}', day).values())
            )
        }
        # The last of five that read each other.
        both = [sum(ask(port, f'aws_cost_monthly_usd{{month="{month}"}}', day).values()) for month in ("current", "previous")]
        assert ask(port, "global:cloud_cost_monthly_growth:ratio", day) == {(): pytest.approx(both[0] / both[1] - 1)}
        assert ask(port, 'tenant:ai_cost_hourly:ratio{tenant_id="acme"}', day) == {(("tenant_id", "acme"),): pytest.approx(1)}
