"""All shipped rules on many tenants, in a real Prometheus: how long each group takes, as a share of its interval, and how that grows.

It runs three times, on a quarter, on half and on all of the tenants, and takes some 3 minutes each time: each group is waited for until it
was evaluated twice, a minute apart. The growth of a cost is the exponent of tenants that it goes with: 1 is linear, 2 is square. It is that
of the expressions alone, asked after the scrapes have ended: a server that reads ten times the page beside them is slower for that.

A page of 10,000 tenants × 5 models, every limit on series lifted, is scraped; what rules look back at (`offset`, ranges) is put into blocks
beforehand, so that no rule finds its past empty and is fast for that. The floor is the cheapest question about the same series in the same
server: `count` of the budgets' limits and of the tenants' windows. `bench_rules.py 10000` says how many tenants there are at most.
"""

import math
import os
import re
import signal
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
TIMES = 5
"""How often a question is asked, when it is asked alone."""
SLOW = 0.02
"""Seconds below which the growth of a rule's cost is noise."""
LINEAR = 1.5
"""Exponent up to which a cost is taken for linear in tenants. A plain sum of the series measures up to 1.4: of four times as many, the
processor's caches hold a smaller share. What compares each with each would be near 2."""

FLOORS = ("count(ai_budget_limit_usd)", "count(ai_token_usage_cost_window_usd)")

JOB = "costwarden"

PERIOD_START = "budget:ai_budget_period_start_timestamp_seconds:max"
COUNTED = ("ai_budget_denied_checks_total", "ai_budget_hard_limit_reached")
"""Series of budgets that rules look back at as they were scraped."""


class Measured(NamedTuple):
    """Seconds an evaluation takes."""

    groups: dict[str, float]
    alone: dict[str, float]
    """Of the rules and of the floors: without scrapes beside them."""
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
            groups, expressions = _evaluations(client, time.time())
            floors = {question: statistics.median(_timed(client, question)) for question in FLOORS}
            series = int(float(_query(client, 'scrape_samples_scraped{job="costwarden"}')[0]["value"][1]))
            asked_at = time.time()
            (folder / "prometheus.yaml").write_text(yaml.safe_dump({}))
            os.kill(processes.pid("prometheus"), signal.SIGHUP)
            wait_for("the end of the scrapes", lambda: not client.get("/api/v1/targets").json()["data"]["activeTargets"], 60)
            questions = {question: question for question in FLOORS} | {name: f"count({asked})" for name, asked in expressions.items()}
            alone = {name: min(_timed(client, question, asked_at)) for name, question in questions.items()}
        pages = int(Path(f"/proc/{processes.pid('prometheus')}/statm").read_text().split()[1])
    return Measured(groups, alone, floors, series, pages * 4096 / 2**20)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def _query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/query", params={"query": expression}).json()["data"]["result"]
    return found


def _timed(client: httpx.Client, expression: str, at: float | None = None) -> list[float]:
    """Seconds that `TIMES` answers took, of what stood at `at`, now unless given."""
    params = {"query": expression} | ({} if at is None else {"time": str(at)})
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        client.get("/api/v1/query", params=params).raise_for_status()
        took.append(time.perf_counter() - began)
    return took


def _evaluations(client: httpx.Client, since: float) -> tuple[dict[str, float], dict[str, str]]:
    """Median seconds of the first `EVALUATIONS` evaluations of each group that begin after `since`; and the rules' expressions."""
    seen: dict[str, dict[str, float]] = {}
    expressions: dict[str, str] = {}

    def enough() -> bool:
        for group in client.get("/api/v1/rules").json()["data"]["groups"]:
            evaluations = seen.setdefault(group["name"], {})
            began = group["lastEvaluation"]
            if datetime.fromisoformat(began).timestamp() > since and began not in evaluations:
                evaluations[began] = group["evaluationTime"]
                for number, rule in enumerate(group["rules"]):
                    expressions[f"{group['name']}: {rule['name']} ({number})"] = rule["query"]
                    assert rule["health"] == "ok", (rule["name"], rule.get("lastError"))
        time.sleep(0.2)
        return bool(seen) and all(len(evaluations) >= EVALUATIONS for evaluations in seen.values())

    wait_for("evaluations", enough, 600)
    return {name: statistics.median(evaluations.values()) for name, evaluations in seen.items()}, expressions


def growth(costs: Mapping[int, float]) -> float:
    """The exponent of tenants that a cost goes with, from the fewest to the most."""
    few, many = min(costs), max(costs)
    return math.log(costs[many] / costs[few]) / math.log(many / few)


def _shown(costs: Mapping[int, float]) -> str:
    return "".join(f"{took:9.3f} s" for took in costs.values())


def main() -> int:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else TENANTS
    found: dict[int, Measured] = {}
    for number in (most // 4, most // 2, most):
        with tempfile.TemporaryDirectory(prefix="costwarden-rules-") as folder:
            found[number] = measure(number, Path(folder))
        print(f"{number:,} tenants × 5 models: {found[number].series:,} series, Prometheus {found[number].megabytes:,.0f} MiB", flush=True)
    many = found[most]
    groups = {name: {number: measured.groups[name] for number, measured in found.items()} for name in many.groups}
    floor = sum(many.floors.values())
    print(f"  {'seconds an evaluation, at tenants':<66}" + "".join(f"{number:>11,}" for number in found))
    for name, costs in sorted(groups.items(), key=lambda item: -item[1][most]):
        print(
            f"  group {name:<60}{_shown(costs)}   {costs[most] / INTERVAL:.2%} of {INTERVAL} s, {costs[most] / floor:.1f} times the floor"
        )
    # What is too short to be told from noise with the fewest tenants is left out.
    told = [name for name, took in found[most // 4].alone.items() if took >= SLOW]
    alone = {name: {number: measured.alone[name] for number, measured in found.items()} for name in told}
    print("  alone")
    for name, costs in sorted(alone.items(), key=lambda item: -item[1][most]):
        print(f"  {'floor' if name in FLOORS else 'rule '} {name:<60}{_shown(costs)}   tenants ^ {growth(costs):.2f}")
    slow = [name for name, costs in groups.items() if costs[most] > TARGET * INTERVAL]
    print(f"target: each group under {TARGET:.0%} of {INTERVAL} s: {'missed by ' + ', '.join(slow) if slow else 'reached'}")
    steep = [f"{name} ({growth(costs):.2f})" for name, costs in alone.items() if growth(costs) > LINEAR]
    print(f"target: no rule grows faster than tenants ^ {LINEAR}: {'missed by ' + ', '.join(steep) if steep else 'reached'}")
    return 1 if slow or steep else 0


if __name__ == "__main__":
    sys.exit(main())
