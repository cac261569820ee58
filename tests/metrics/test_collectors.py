"""All collectors together, as `serve` puts them: every metric of the catalogue has one that gives it."""

import re
import subprocess

import pytest

from costwarden.budgets.estimates import LearnedSizes
from costwarden.budgets.settings import BudgetsSettings
from costwarden.cli.collectors import collectors
from costwarden.config import Config
from costwarden.metrics.catalogue import FAMILIES
from costwarden.metrics.counts import Counts
from costwarden.metrics.page import Page
from costwarden.metrics.settings import MetricsSettings

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""

OF_THE_PAGE = {name for name in FAMILIES if name.startswith(("costwarden_page_", "costwarden_series", "costwarden_collector_"))}
"""What the page says of itself."""


@pytest.fixture
def all_collectors(ledger):
    sizes = LearnedSizes(BudgetsSettings())
    return collectors(Config(), ledger, Counts(), lambda: (True, NOON), lambda: NOON - 86_400_000_000, lambda: (), sizes, lambda: NOON)


def test_every_metric_of_the_catalogue_is_given_by_one_collector(all_collectors):
    given = [family.name for collector in all_collectors for family, _ in collector.collect()]
    assert sorted(given) == sorted(set(FAMILIES) - OF_THE_PAGE)


def test_the_labels_that_are_given_are_those_of_the_catalogue(all_collectors):
    for collector in all_collectors:
        for family, samples in collector.collect():
            assert set(family.labels) <= set(FAMILIES[family.name].labels)
            assert all(len(labels) == len(family.labels) for labels, _ in samples)


def test_the_page_of_an_empty_ledger_is_current_and_clean(all_collectors, tools):
    page = Page(all_collectors, MetricsSettings(), lambda: NOON)
    page.render()
    body = page.answer().body
    up = re.findall(r'^costwarden_collector_up\{collector="(\w+)"\} (\S+)$', body.decode(), re.MULTILINE)
    assert dict(up) == {collector.name: "1.0" for collector in all_collectors}
    result = subprocess.run([tools.promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (result.returncode, result.stdout.decode(), result.stderr.decode()) == (0, "", "")


def test_counts_start_at_zero_where_the_answers_are_known_and_rise_by_what_is_added():
    counts = Counts()
    counts.add("ai_budget_checks_total", "allowed", "")
    counts.add("ai_budget_checks_total", "denied", "no_budget", by=2)
    counts.add("costwarden_http_rejected_requests_total", "unauthorized")
    given = {family.name: dict(samples) for family, samples in counts.collector().collect()}
    assert given["ai_budget_checks_total"]["allowed", ""] == 1
    assert given["ai_budget_checks_total"]["denied", "no_budget"] == 2
    assert given["ai_budget_checks_total"]["denied", "budget_exceeded"] == 0
    assert given["costwarden_http_rejected_requests_total"] == {("unauthorized",): 1}
    assert given["costwarden_webhook_alerts_total"]["queued",] == 0
