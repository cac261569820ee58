"""All shipped rules on many tenants, in a real Prometheus: how long each group takes, as a share of its interval, and how that grows.

It runs three times, on a quarter, on half and on all of the tenants, and takes about 4 minutes each time: each group is waited for until it
was evaluated twice, a minute apart. The growth of a cost is the exponent of tenants that it goes with: 1 is linear, 2 is square.

A page of 10,000 tenants × 5 models, every limit on series lifted, is scraped; what rules look back at (`offset`, ranges) is put into blocks
beforehand, so that no rule finds its past empty and is fast for that. The floor is the cheapest question about the same series in the same
server: `count` of the budgets' limits and of the tenants' windows. `bench_rules.py 10000` says how many tenants there are at most.
"""

import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml
from tenant_page import PageServer, Sample, budget_samples, limit_samples, openmetrics, page, usage_samples

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "deploy" / "demo"))

from processes import Processes, free_port, wait_for

PROJECT = Path(__file__).resolve().parent.parent
TOOLS = PROJECT / ".tools" / "bin"

TENANTS = 10_000
INTERVAL = 60
"""Seconds: Prometheus's own default, which the rules leave as it is."""
TARGET = 0.2
"""Share of the interval that a group may take."""
EVALUATIONS = 2
SLOW = 0.02
"""Seconds below which the growth of a cost is noise: of the fewest tenants."""
LINEAR = 1.2
"""Exponent up to which a cost is taken for linear in tenants: from a quarter to all, 5.3 times the time instead of 4."""
DEAREST = 8
"""How many rules are shown, the dearest first."""

FLOORS = ("count(ai_budget_limit_usd)", "count(ai_token_usage_cost_window_usd)")

JOB = "costwarden"

PERIOD_START = "budget:ai_budget_period_start_timestamp_seconds:max"
COUNTED = ("ai_budget_denied_checks_total", "ai_budget_hard_limit_reached")
"""Series of budgets that rules look back at as they were scraped."""


class Measured(NamedTuple):
    """Seconds an evaluation takes."""

    groups: dict[str, float]
    rules: dict[str, float]
    floors: dict[str, float]
    series: int
    megabytes: float


def looked_back_at() -> list[float]:
    """Seconds of every offset and range of the shipped rules."""
    text = "".join(path.read_text() for path in (PROJECT / "alerts").glob("*.rules.yaml"))
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
    found = re.findall(r"(?:offset |\[)(\d+)([smhdw])\b", text)
    return sorted({float(number) * units[unit] for number, unit in found})


def history(tenants: int, now: float, target: dict[str, str]) -> list[str]:
    """What rules look back at of each tenant's budget, at every moment that one looks back to, and beside it."""
    moments = sorted({now - back + beside for back in looked_back_at() for beside in (-60.0, 0.0, 60.0) if now - back + beside < now - 5})
    recorded = {"ai_budget_spent_usd": "budget:ai_budget_used_usd:sum", "ai_budget_period_start_timestamp_seconds": PERIOD_START}
    by_name: dict[str, list[tuple[Sample, list[tuple[float, float]]]]] = {}
    for name, labels, value in budget_samples(tenants, now):
        if name not in {*recorded, *COUNTED}:
            continue
        # A recorded series is about the job, and no target of it.
        of = {"job": target["job"]} if name in recorded else target
        is_spent = name == "ai_budget_spent_usd"
        points = [(at, value * (1 - (now - at) / (0.4 * 30 * 86_400)) if is_spent else value) for at in moments]
        written = recorded.get(name, name)
        by_name.setdefault(written, []).append(((written, labels | of, value), points))
    lines: list[str] = []
    for name in sorted(by_name):
        lines.append(f"# TYPE {name} unknown\n")
        lines += list(openmetrics(by_name[name]))[:-1]
    return [*lines, "# EOF\n"]


def measure(tenants: int, folder: Path) -> Measured:
    """Run Prometheus on `tenants` tenants until every group was evaluated `EVALUATIONS` times."""
    now = time.time()
    samples = [*limit_samples(), *budget_samples(tenants, now), *usage_samples(tenants)]
    with PageServer(page(samples)) as server, Processes(folder / "logs") as processes:
        target = {"job": JOB, "instance": server.address}
        (folder / "history.txt").write_text("".join(history(tenants, now, target)))
        subprocess.run(
            [TOOLS / "promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "history.txt", folder / "data"],
            check=True,
            capture_output=True,
        )
        # As they are deployed: more often, groups would wait for each other, and the figure would be that of a crowd.
        config = {
            "global": {"scrape_interval": "15s", "scrape_timeout": "15s", "evaluation_interval": f"{INTERVAL}s"},
            "rule_files": [str(PROJECT / "alerts" / "*.rules.yaml")],
            "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [server.address]}]}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        url = f"http://127.0.0.1:{free_port()}"
        processes.launch(
            "prometheus",
            [
                TOOLS / "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=60d",
                f"--web.listen-address={url.removeprefix('http://')}",
            ],
        )
        with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
            processes.await_ready("prometheus", lambda: _answers(client))
            wait_for("a scrape", lambda: _query(client, "count(ai_token_usage_cost_window_usd)"), 120)
            groups, rules = _evaluations(client, time.time())
            floors = {question: _timed(client, question) for question in FLOORS}
            series = int(float(_query(client, 'scrape_samples_scraped{job="costwarden"}')[0]["value"][1]))
        pages = int(Path(f"/proc/{processes.pid('prometheus')}/statm").read_text().split()[1])
    return Measured(groups, rules, floors, series, pages * 4096 / 2**20)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def _query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/query", params={"query": expression}).json()["data"]["result"]
    return found


def _timed(client: httpx.Client, expression: str) -> float:
    took = []
    for _ in range(7):
        began = time.perf_counter()
        _query(client, expression)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _evaluations(client: httpx.Client, since: float) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of the first `EVALUATIONS` evaluations that begin after `since`, by group and by rule."""
    seen: dict[str, dict[str, float]] = {}
    rules: dict[str, list[float]] = {}

    def enough() -> bool:
        for group in client.get("/api/v1/rules").json()["data"]["groups"]:
            evaluations = seen.setdefault(group["name"], {})
            began = group["lastEvaluation"]
            if datetime.fromisoformat(began).timestamp() > since and began not in evaluations:
                evaluations[began] = group["evaluationTime"]
                for number, rule in enumerate(group["rules"]):
                    rules.setdefault(f"{group['name']}: {rule['name']} ({number})", []).append(rule["evaluationTime"])
                    assert rule["health"] == "ok", (rule["name"], rule.get("lastError"))
        time.sleep(0.2)
        return bool(seen) and all(len(evaluations) >= EVALUATIONS for evaluations in seen.values())

    wait_for("evaluations", enough, 600)
    groups = {name: statistics.median(evaluations.values()) for name, evaluations in seen.items()}
    return groups, {name: statistics.median(took) for name, took in rules.items()}


def growth(costs: Mapping[int, float]) -> float | None:
    """The exponent of tenants that a cost goes with, from the fewest to the most; None where it is too small to say."""
    few, many = min(costs), max(costs)
    if costs[few] < SLOW:
        return None
    return math.log(costs[many] / costs[few]) / math.log(many / few)


def _shown(costs: Mapping[int, float]) -> str:
    exponent = growth(costs)
    return "".join(f"{took:9.3f} s" for took in costs.values()) + ("" if exponent is None else f"   tenants ^ {exponent:4.2f}")


def main() -> int:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else TENANTS
    found: dict[int, Measured] = {}
    for number in (most // 4, most // 2, most):
        with tempfile.TemporaryDirectory(prefix="costwarden-rules-") as folder:
            found[number] = measure(number, Path(folder))
        print(f"{number:,} tenants × 5 models: {found[number].series:,} series, Prometheus {found[number].megabytes:,.0f} MiB", flush=True)
    many = found[most]
    groups = {name: {number: measured.groups[name] for number, measured in found.items()} for name in many.groups}
    rules = {name: {number: measured.rules[name] for number, measured in found.items()} for name in many.rules}
    floor = sum(many.floors.values())
    print(f"  {'seconds an evaluation, at tenants':<66}" + "".join(f"{number:>11,}" for number in found))
    for question in FLOORS:
        print(f"  floor {question:<60}{_shown({number: measured.floors[question] for number, measured in found.items()})}")
    for name, costs in sorted(groups.items(), key=lambda item: -item[1][most]):
        print(
            f"  group {name:<60}{_shown(costs)}   {costs[most] / INTERVAL:.2%} of {INTERVAL} s, {costs[most] / floor:.1f} times the floor"
        )
    for name, costs in sorted(rules.items(), key=lambda item: -item[1][most])[:DEAREST]:
        print(f"  rule  {name:<60}{_shown(costs)}")
    slow = [name for name, costs in groups.items() if costs[most] > TARGET * INTERVAL]
    print(f"target: each group under {TARGET:.0%} of {INTERVAL} s: {'missed by ' + ', '.join(slow) if slow else 'reached'}")
    steep = [f"{name} ({exponent:.2f})" for name, costs in rules.items() if (exponent := growth(costs)) is not None and exponent > LINEAR]
    print(f"target: no rule grows faster than tenants ^ {LINEAR}: {'missed by ' + ', '.join(steep) if steep else 'reached'}")
    return 1 if slow or steep else 0


if __name__ == "__main__":
    sys.exit(main())
