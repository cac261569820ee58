"""The month turns, in a real Prometheus on backfilled samples: what fired for the old month ends, and nothing fires for the new one.

Eight days up to the turn and some hours after it, a sample every 2 minutes. Recorded series are made by promtool from the shipped rules, in
the order in which they need each other; then every alert's own expression is asked for each minute around the turn.
"""

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from processes import Processes

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

RULES = Path(__file__).resolve().parents[2] / "alerts"
JOB = 'job="costwarden",instance="127.0.0.1:3010"'
DAY, HOUR = 86_400, 3_600
STEP = 120
"""Seconds between samples."""

FIRST = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
TURN = int((FIRST - timedelta(days=1)).replace(day=1).timestamp())
"""The month before this one begins: all that is simulated is over."""
BEGAN = int((datetime.fromtimestamp(TURN, UTC) - timedelta(days=1)).replace(day=1).timestamp())
"""The month that ends there."""
ENDS = int(FIRST.timestamp())

BEFORE, AFTER = 8 * DAY, 3 * HOUR
SEEN = 60
"""The exporter shows the new month a minute after it has begun."""
LAG = 2 * HOUR
"""The first bill of the new month comes at night."""

Figure = Callable[[int], float]


def month_of(at: int) -> tuple[int, int]:
    """The period that a page shows at a time, and its end."""
    return (BEGAN, TURN) if at < TURN + SEEN else (TURN, ENDS)


def even(limit: float, factor: float) -> Figure:
    """Spent of a budget that spends its limit `factor` times over in a month, evenly."""
    return lambda at: limit * factor * (at - month_of(at)[0]) / (month_of(at)[1] - month_of(at)[0])


def running_away(at: int) -> float:
    """$500 evenly, and $600 in a loop of the last 5 hours, which ends with the month."""
    spent = even(1000, 0.5)(at)
    return spent + 600 * max(0, at - (TURN - 5 * HOUR)) / (5 * HOUR) if at < TURN + SEEN else spent


AI_BUDGETS: Mapping[str, Figure] = {"calm": even(1000, 0.7), "over": even(1000, 1.3), "away": running_away}


def of_bills(limit: float, factor: float) -> Figure:
    """As `even`, of bills that come once a day: the new month has cost nothing until its first one comes."""

    def spent(at: int) -> float:
        if at < TURN + SEEN:
            return even(limit, factor)(at // DAY * DAY)
        return 0.0 if at < TURN + LAG else limit * factor / 30

    return spent


CLOUD_BUDGETS: Mapping[str, Figure] = {"cloud-calm": of_bills(5000, 0.6), "cloud-over": of_bills(5000, 1.2)}


def series() -> Iterator[tuple[str, str, Figure]]:
    """(name, labels, value at a time) of everything that the exporter shows."""
    for name, spent in AI_BUDGETS.items():
        labels = f'budget="{name}/month",period="month",tenant_id="{name}",{JOB}'
        yield "ai_budget_limit_usd", f'action="suspend",{labels}', lambda _: 1000
        yield "ai_budget_spent_usd", labels, spent
        yield "ai_budget_unsettled_usd", labels, lambda _: 0
        yield "ai_budget_soft_limit_ratio", labels, lambda _: 0.8
        yield "ai_budget_hard_limit_reached", labels, lambda at, spent=spent: float(spent(at) >= 1000)
        yield "ai_budget_period_start_timestamp_seconds", labels, lambda at: month_of(at)[0]
        yield "ai_budget_reset_timestamp_seconds", labels, lambda at: month_of(at)[1]
    for name, spent in CLOUD_BUDGETS.items():
        labels = f'budget="{name}",provider="aws",{JOB}'
        yield "cloud_budget_limit_usd", f'action="stop",{labels}', lambda _: 5000
        yield "cloud_budget_spent_usd", labels, spent
    yield "ai_spend_monthly_usd", JOB, lambda at: sum(spent(at) for spent in AI_BUDGETS.values())
    yield "ai_spend_monthly_limit_usd", JOB, lambda _: 2000
    yield "costwarden_build_info", f'version="0.1.0",{JOB}', lambda _: 1
    yield "up", JOB, lambda _: 1


def write_samples(path: Path) -> None:
    moments = range(TURN - BEFORE, TURN + AFTER + 1, STEP)
    families: dict[str, list[str]] = defaultdict(list)
    for name, labels, value in series():
        families[name] += [f"{name}{{{labels}}} {float(value(at))!r} {at}\n" for at in moments]
    path.write_text("".join(f"# TYPE {name} unknown\n{''.join(lines)}" for name, lines in families.items()) + "# EOF\n")


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for path in sorted(RULES.glob("*.rules.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def selectors(expression: str) -> list[Any]:
    """The vector selectors of an expression."""
    found: list[Any] = []

    def walk(node: Any) -> None:
        match node:
            case promql_parser.VectorSelector():
                found.append(node)
            case promql_parser.MatrixSelector():
                found.append(node.vector_selector)
            case promql_parser.Call():
                for argument in node.args:
                    walk(argument)
            case promql_parser.BinaryExpr():
                walk(node.lhs)
                walk(node.rhs)
            case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
                walk(node.expr)

    walk(promql_parser.parse(expression))
    return found


def names_in(expression: str) -> set[str]:
    """The series that an expression reads."""
    return {selector.name for selector in selectors(expression)}


def layers(there: set[str]) -> Iterator[list[dict[str, Any]]]:
    """The recording rules of budgets that can be made from what is `there`, those that can be made from them, and so on."""
    missing = [rule for rule in rules() if rule.get("record", "").startswith(("budget:", "global:utc_month"))]
    while ready := [rule for rule in missing if names_in(rule["expr"]) <= there]:
        yield ready
        there |= {rule["record"] for rule in ready}
        missing = [rule for rule in missing if rule not in ready]
    assert not missing, [rule["record"] for rule in missing]


class History:
    """A Prometheus on the blocks; stopped and started again when there are new ones."""

    def __init__(self, tools: Any, folder: Path, port: int, processes: Processes) -> None:
        self._tools = tools
        self._folder = folder
        self._processes = processes
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        (self._folder / "prometheus.yaml").write_text("{}")
        command = [
            self._tools.prometheus,
            f"--config.file={self._folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--storage.tsdb.retention.time=200d",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        self._processes.launch("prometheus", command)
        self._processes.await_ready("prometheus", self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=60) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as not_yet:
            not_yet.close()
            return False
        except OSError:
            return False

    def make_blocks(self, *arguments: str | Path) -> None:
        done = subprocess.run([self._tools.promtool, "tsdb", "create-blocks-from", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def record(self, layer: list[dict[str, Any]]) -> None:
        """Evaluate recording rules around the turn, those that others look back at from the first sample on; start anew with them."""
        back = {selector.name for rule in rules() for selector in selectors(rule["expr"]) if selector.offset is not None}
        for first, chosen in (
            (TURN - BEFORE, [rule for rule in layer if rule["record"] in back]),
            (TURN - HOUR, [rule for rule in layer if rule["record"] not in back]),
        ):
            if chosen:
                path = self._folder / "layer.rules.yaml"
                path.write_text(yaml.safe_dump({"groups": [{"name": "layer", "interval": "2m", "rules": chosen}]}))
                times = (f"--start={first}", f"--end={TURN + AFTER}", "--eval-interval=2m")
                self.make_blocks("rules", *times, f"--url={self.url}", f"--output-dir={self._folder / 'data'}", path)
        self._processes.stop("prometheus")
        self.start()

    def answers(self, expression: str, first: int, last: int) -> dict[str, list[int]]:
        """Budget (or empty) -> the times in [first, last] at which an expression has an answer."""
        query = urllib.parse.urlencode({"query": expression, "start": first, "end": last, "step": 60})
        with urllib.request.urlopen(f"{self.url}/api/v1/query_range?{query}", timeout=60) as answer:
            result = json.load(answer)["data"]["result"]
        return {found["metric"].get("budget", ""): [int(at) for at, _ in found["values"]] for found in result}


@pytest.fixture(scope="module")
def history(tools: Any, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[History]:
    folder = tmp_path_factory.mktemp("rollover")
    write_samples(folder / "samples.txt")
    with Processes(folder / "logs") as processes:
        prometheus = History(tools, folder, free_port(), processes)
        prometheus.make_blocks("openmetrics", folder / "samples.txt", folder / "data")
        prometheus.start()
        for layer in layers({name for name, _, _ in series()}):
            prometheus.record(layer)
        yield prometheus


OVER = {
    "BudgetExceeded80Percent": {"cloud-over"},
    "BudgetExceededCritical": {"cloud-over"},
    "AIBudgetWarning": {"over/month", "away/month"},
    "AIBudgetExceeded": {"over/month", "away/month"},
    "TotalAISpendHigh": {""},
    "AIBudgetBurnsFast": {"away/month"},
}
"""What must fire in the last minute of the old month, and for whom: spent are 70, 130 and 110 % of $1,000, 60 and 120 % of $5,000."""


def test_what_the_old_month_fired_ends_with_it_and_the_new_one_begins_in_silence(history: History) -> None:
    of_budgets = {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule and names_in(rule["expr"]) & known(history)}
    del of_budgets["RulesOutOfDate"]  # there is no group that is evaluated
    before = {name: history.answers(expression, TURN - 60, TURN) for name, expression in of_budgets.items()}
    assert {name: set(budgets) for name, budgets in before.items() if name in OVER} == OVER
    # What fires is still the old month's where the new one has not been seen. promtool writes no mark where a recorded series ends, so
    # that one goes on for 5 minutes more than it would.
    begins = TURN + SEEN + STEP + 300
    after = {name: history.answers(expression, begins, TURN + AFTER) for name, expression in of_budgets.items()}
    assert {name: set(budgets) for name, budgets in after.items() if budgets} == {}


def test_a_page_that_still_shows_the_old_month_is_no_burst_of_the_new_one(history: History) -> None:
    of_burn = {rule["alert"]: rule["expr"] for rule in rules() if "Burns" in rule.get("alert", "")}
    calm = ("calm/month", "cloud-calm", "cloud-over")
    around = {name: history.answers(expression, TURN - HOUR, TURN + AFTER) for name, expression in of_burn.items()}
    assert {name: budgets.keys() & set(calm) for name, budgets in around.items()} == {name: set() for name in of_burn}


def known(history: History) -> set[str]:
    with urllib.request.urlopen(f"{history.url}/api/v1/label/__name__/values", timeout=60) as answer:
        return set(json.load(answer)["data"])
