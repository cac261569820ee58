"""What panels show of one costwarden, of two replicas, and of two costwardens with ledgers of their own: by Prometheis that scrape them."""

import itertools
import math
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Self
from zlib import crc32

import httpx
import pytest
import yaml
from dashboard_queries import Query, kind_of, queries, substituted
from stand_in import Answer, StandIn

from costwarden import __version__
from costwarden.metrics.catalogue import FAMILIES
from costwarden.metrics.family import Family

pytestmark = pytest.mark.stack

PROJECT = Path(__file__).parents[2]

VALUES = {
    "provider": ("aws", "gcp"),
    "month": ("current", "previous"),
    "window": ("1h", "1d", "7d", "30d"),
    "type": ("input", "output", "cache_read"),
    "tenant_id": ("acme", "globex"),
    "target": ("team",),
    "state": ("open", "unsettled", "awaiting_approval", "interrupted", "queued"),
    "outcome": ("denied", "delivered", "retried", "failed"),
    "period": ("month",),
    "version": (__version__,),
    "threshold": ("80",),
    "severity": ("warning",),
}
"""Of labels whose values queries name; every other label has its own name for a value."""
OF_A_BILL = ("provider", "month", "region", "service")
NAMED = ("aws", "gcp", "azure", "kubernetes", "other")
"""Providers with metrics of their own names."""


def lines(family: Family, now: float, since: float) -> Iterator[str]:
    """The samples of a metric: figures that no two series share, moments of the present."""
    # As a bill is told apart where nobody chooses otherwise.
    names = [name for name in family.labels if not family.name.endswith("_cost_monthly_usd") or name in OF_A_BILL]
    of_one = family.name.partition("_")[0]
    choices = VALUES | ({"provider": (of_one,)} if of_one in NAMED else {})
    for values in itertools.product(*(choices.get(name, (name,)) for name in names)):
        labels = ",".join(f'{name}="{value}"' for name, value in zip(names, values, strict=True))
        figure = 1 + crc32(f"{family.name}{labels}".encode()) % 1_000 / 10
        if family.name.endswith("_reset_timestamp_seconds"):
            figure = since + 86_400
        elif family.name.endswith("_timestamp_seconds"):
            figure = since - 100 * figure
        elif family.kind == "counter":
            figure += 10 * (now - since)
        yield f"{family.name}{{{labels}}} {figure}"


Found = dict[tuple[tuple[str, str], ...], list[float]]
"""The values of series by their labels but those of the target: of several costwardens, several values."""


class Scraped:
    """A Prometheus that scrapes the same page from `targets` (job -> how many instances)."""

    def __init__(self, prometheus: Path, folder: Path, port: int, page: StandIn, targets: dict[str, int]) -> None:
        folder.mkdir()
        for path in (PROJECT / "alerts").glob("*.rules.yaml"):
            document = yaml.safe_load(path.read_text())
            for group in document["groups"]:
                group.pop("interval", None)
            (folder / path.name).write_text(yaml.safe_dump(document))
        address = page.url.removeprefix("http://")
        jobs = [
            {
                "job_name": job,
                "honor_labels": True,
                "static_configs": [{"targets": [address], "labels": {"instance": f"{job}-{number}"}} for number in range(count)],
            }
            for job, count in targets.items()
        ]
        # A scrape may take as long as its interval.
        config = {"global": {"scrape_interval": "2s", "evaluation_interval": "1s"}, "rule_files": [str(folder / "*.rules.yaml")]}
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config | {"scrape_configs": jobs}))
        self.url = f"http://127.0.0.1:{port}"
        self.argv = [
            prometheus,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
        self.http = httpx.Client(trust_env=False, timeout=60)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(self.argv)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(60)

    def ask(self, expression: str, at: float | None = None) -> Found:
        """What a query finds; nothing while the server starts."""
        try:
            answer = self.http.post(f"{self.url}/api/v1/query", data={"query": expression} | ({"time": at} if at else {})).json()
        except (httpx.TransportError, ValueError):
            return {}
        assert answer["status"] == "success", answer
        found: Found = {}
        for series in answer["data"]["result"]:
            key = tuple(sorted((name, value) for name, value in series["metric"].items() if name not in ("job", "instance")))
            found.setdefault(key, []).append(float(series["value"][1]))
        return found


OF_A_PROCESS = re.compile(
    r"\bai_budget_(denied_)?checks_total|\bhttp_requests_total"
    r"|costwarden_(http_rejected_requests|otlp_received|otlp_rejected|webhook_alerts)_total"
    r"|costwarden_(ledger_commits|ledger_write_errors|status_cache_requests|status_cache_errors)_total"
    r"|count by \(version\) \(costwarden_build_info"
)
"""What each process counts for itself: of two replicas it is added up."""

SAME = {
    "finops-ai-budget: Cost of a million tokens, all time A": "an average",
    "finops-ai-budget: Cost of a report, all time A": "an average",
    "finops-ai-budget: Emergency stop A": "on where any of them is stopped",
    "finops-ai-budget: Unsettled dollars A": "of the budget that has most",
    "finops-cloud-cost: Explained by clusters A": "of sources of one name, the largest",
    "finops-overview: Alerts of budgets C": "there is no such alert",
    "finops-overview: Cost of a million tokens, all time A": "an average",
    "finops-remediation: Kill switch A": "on where any of them is stopped",
    "finops-remediation: Mode A": "a word",
}
"""Dollars and numbers that are no sums over costwardens with ledgers of their own, and why."""

OWN_LINES = re.compile(r"(topk\(\d+, )?(1000 \* )?(max|min|sum) by \([^)]*\bjob\)")
"""Tables in which each of them has its lines: a sum of budgets of one name is nobody's."""

ADDED_UP = {"usd", "count", "a second"}


@pytest.fixture(scope="module")
def scraped(tools, free_port, wait_until, tmp_path_factory) -> Iterator[tuple[float, list[Scraped]]]:
    """A moment, and what a Prometheus knows then of one costwarden, of two replicas, and of two with ledgers of their own."""
    began, scrapes = time.time(), threading.Event()
    folder = tmp_path_factory.mktemp("replicas")

    def answer(_) -> Answer:
        if not scrapes.is_set():
            return Answer(status=503)
        text = "\n".join(line for family in FAMILIES.values() for line in lines(family, time.time(), began))
        return Answer(f"{text}\n".encode(), headers={"Content-Type": "text/plain; version=0.0.4"})

    targets = {"one": {"costwarden": 1}, "replicas": {"costwarden": 2}, "ledgers": {"costwarden": 1, "costwarden-eu": 1}}
    with StandIn(answer) as page, ExitStack() as running:
        made = [running.enter_context(Scraped(tools.prometheus, folder / name, free_port(), page, jobs)) for name, jobs in targets.items()]
        # What they know began at one time: a rate of a short past depends on how long it is.
        wait_until(lambda: all(server.ask("up") for server in made))
        scrapes.set()
        # A scrape that is some seconds late must not be much of the past that a rate has.
        known = "up offset 20s == 1 and on () global:cloud_cost_per_tenant_usd:ratio offset 4s and on () budget:ai_budget_burn:rate1h"

        def calm() -> float | None:
            """A moment before and after which no scrape has failed, which would end all series of its target.

            Eight seconds before: the longest chain of rules is of five, and each looks at what the one before it found at its last turn.
            """
            at = time.time() - 3
            for server, jobs in zip(made, targets.values(), strict=True):
                scraped = f"count(min_over_time(up[11s]) == 1) == {sum(jobs.values())} and on () min(timestamp(up)) > {at}"
                if not server.ask(scraped, at + 3) or not server.ask(known, at):
                    return None
            return at

        yield wait_until(calm, 120), made


def factor(before: Found, after: Found, *, moving: bool) -> str:
    """How many times as large figures are: `1`, `2`, `own lines` where each costwarden has its own, else a sentence."""
    if before.keys() != after.keys():
        return f"{before.keys() ^ after.keys()} are only in one"
    found = set()
    for key, (figure, *_) in before.items():
        times = [value / figure if figure else 1.0 for value in after[key]]
        nearest = [round(one) for one in times]
        # What moves is scraped at other moments.
        if not all(math.isclose(one, near, rel_tol=0.3 if moving else 0.1) for one, near in zip(times, nearest, strict=True)):
            return f"{dict(key)} is {times} times as large"
        found.add("own lines" if nearest == [1, 1] else "/".join(map(str, nearest)))
    return " or ".join(sorted(found))


@cache
def figures(server: Scraped, expression: str, at: float) -> Found:
    """What a query finds at a moment that is past: the same each time."""
    return server.ask(expression, at)


def asked(scraped: tuple[float, list[Scraped]], query: Query, which: int) -> tuple[str, str]:
    """The query, and how many times as large its figures are where not one is scraped, but those of number `which`."""
    at, made = scraped
    expression = substituted(query.uid, query.target["expr"])
    moving = bool(re.search(r"_total\b", expression))
    before, after = (figures(server, expression, at) for server in (made[0], made[which]))
    assert before or query.title in EMPTY, f"{query.title} is empty"
    return expression, factor(before, after, moving=moving)


EMPTY = {
    "finops-ai-budget: At risk: Forecast C": "there is no history",
    "finops-cloud-cost: Burn of a day A": "there is no history",
    "finops-cloud-cost: Burn of a day B": "there is no history",
}
"""Queries that give nothing here, and why."""


def test_replicas_of_one_ledger_double_no_figure(scraped) -> None:
    faults = []
    for query in queries():
        expression, times = asked(scraped, query, 1)
        wanted = "2" if OF_A_PROCESS.search(expression) else "own lines" if "by (instance)" in expression else "1"
        if times not in (wanted, ""):
            faults.append(f"{query.title}: {times}, not {wanted}")
    assert not faults, "\n".join(faults)


def test_ledgers_of_their_own_are_added_up_and_shares_of_them_stay(scraped) -> None:
    faults = []
    for query in queries():
        expression, times = asked(scraped, query, 2)
        if query.uid == "finops-pipeline":
            continue
        if OWN_LINES.match(expression.strip()):
            wanted = "own lines"
        elif kind_of(expression) in ADDED_UP and query.title not in SAME and ": Firing: " not in query.title:
            wanted = "2"
        else:
            wanted = "1"
        if times not in (wanted, ""):
            faults.append(f"{query.title}: {times}, not {wanted}")
    assert not faults, "\n".join(faults)


def test_what_is_told_of_queries_is_about_queries_that_there_are() -> None:
    titles = {query.title for query in queries()}
    assert SAME.keys() | EMPTY.keys() <= titles


def test_a_figure_that_doubles_is_found() -> None:
    one, two = {(): [3.0]}, {(): [6.0]}
    assert factor(one, two, moving=False) == "2"
    assert factor(one, {(): [3.0, 3.0]}, moving=False) == "own lines"
    assert "1.5" in factor(one, {(): [4.5]}, moving=False)
    assert "only in one" in factor(one, {}, moving=False)
