"""AI usage and budgets as series: what the ledger holds, to the cent and to the token."""

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from costwarden.ledger.budgets import BudgetRow, put_budget, write_periods, write_reservations
from costwarden.metrics.ai import RecentSpend, UsageTotals, usage_collectors
from costwarden.metrics.budgets import budget_collector
from costwarden.model import DIMENSIONS

UTC = ZoneInfo("UTC")
NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC, as the fixtures have it."""
HOUR = 3_600_000_000
USD = 1_000_000_000
LABELS = ("tenant_id", "provider", "model", "operation", "report_type", "feature", "team", "service")
"""The default of `metrics.usage_labels`."""


def samples_of(collect):
    return {(family, labels): value for family, samples in collect() for labels, value in samples}


def figures(collect, name):
    """Label values without the empty ones -> value."""
    return {tuple(filter(None, labels)): value for family, samples in collect() if family.name == name for labels, value in samples}


def test_ai_usage_on_the_page(ledger, record, shown):
    sonnet = {"provider": "anthropic", "model": "claude-3-5-sonnet-20241022", "operation": "generate", "report_type": "quarterly"}
    record(tenant_id="acme", **sonnet, input_tokens=1_000, output_tokens=500, cost=10_500_000, priced_by="genai-prices")
    record(
        tenant_id="acme", **sonnet, input_tokens=2_000, output_tokens=0, cache_read_tokens=1_500, cost=2_000_000, priced_by="genai-prices"
    )
    record(tenant_id="acme", **sonnet, success=False, priced_by="genai-prices")
    record(tenant_id="globex", provider="openai", model="gpt-unheard-of", user_id="ada", input_tokens=7, priced_by="unpriced")
    totals, _ = usage_collectors(ledger.read, LABELS, UTC, lambda: NOON)
    shown(totals, "ai_usage")


def test_ai_windows_on_the_page(ledger, record, shown):
    for age, cost in [(1, USD), (2 * HOUR, 2 * USD), (40 * 24 * HOUR, 4 * USD)]:
        record(NOON - age, tenant_id="acme", provider="openai", model="gpt-4o", cost=cost)
    _, recent = usage_collectors(ledger.read, LABELS, UTC, lambda: NOON)
    shown(recent, "ai_windows")


def test_totals_follow_what_is_recorded_without_reading_history_again(ledger, record):
    record(tenant_id="acme", input_tokens=10, cost=1 * USD, priced_by="x")
    totals = UsageTotals(ledger.read, ("tenant_id",))
    assert figures(totals.collect, "ai_token_usage_cost_usd") == {("acme",): 1.0}
    record(tenant_id="acme", input_tokens=5, cost=2 * USD, priced_by="x")
    record(tenant_id="globex", output_tokens=3, cost=3 * USD, priced_by="unpriced", success=False)
    assert figures(totals.collect, "ai_token_usage_cost_usd") == {("acme",): 1.0 + 2.0, ("globex",): 3.0}
    assert figures(totals.collect, "ai_tokens_total") == {
        ("input", "acme"): 10 + 5,
        ("output", "acme"): 0,
        ("input", "globex"): 0,
        ("output", "globex"): 3,
    }
    assert figures(totals.collect, "ai_requests_total") == {
        ("success", "acme"): 2,
        ("failure", "acme"): 0,
        ("success", "globex"): 0,
        ("failure", "globex"): 1,
    }
    fresh = UsageTotals(ledger.read, ("tenant_id",))
    assert samples_of(fresh.collect) == samples_of(totals.collect)


def test_the_version_of_the_totals_changes_with_every_event(ledger, record):
    totals = UsageTotals(ledger.read, LABELS)
    before = totals.version()
    assert totals.version() == before
    record(tenant_id="acme")
    assert totals.version() != before


def test_unpriced_requests_are_told_apart_by_model_although_it_is_not_among_the_labels(ledger, record):
    record(tenant_id="acme", provider="openai", model="gpt-9", priced_by="unpriced")
    totals = UsageTotals(ledger.read, ("tenant_id",))
    record(tenant_id="globex", provider="openai", model="gpt-9", priced_by="unpriced")
    assert figures(totals.collect, "ai_unpriced_requests_total") == {("openai", "gpt-9"): 2}
    record(tenant_id="globex", provider="openai", model="gpt-9", priced_by="unpriced")
    assert figures(totals.collect, "ai_unpriced_requests_total") == {("openai", "gpt-9"): 3}
    assert figures(totals.collect, "ai_requests_total") == {
        ("success", "acme"): 1,
        ("failure", "acme"): 0,
        ("success", "globex"): 2,
        ("failure", "globex"): 0,
    }


def test_without_any_label_there_is_one_series_for_everything(ledger, record):
    record(tenant_id="acme", cost=1 * USD)
    record(tenant_id="globex", cost=2 * USD)
    assert figures(UsageTotals(ledger.read, ()).collect, "ai_token_usage_cost_usd") == {(): 1.0 + 2.0}


def test_the_month_begins_at_midnight_of_the_configured_zone(ledger, record):
    # 2025-11-01 00:30 in Berlin is 2025-10-31 23:30 UTC.
    berlin_november = NOON - (14 * 24 + 12) * HOUR - HOUR // 2
    record(berlin_november, cost=7 * USD)
    for zone, expected in [(UTC, 0.0), (ZoneInfo("Europe/Berlin"), 7.0)]:
        assert figures(RecentSpend(ledger.read, zone, lambda: NOON).collect, "ai_spend_monthly_usd") == {(): expected}


# --- budgets -------------------------------------------------------------------------------------------------------------------

NOVEMBER, DECEMBER = NOON - (14 * 24 + 12) * HOUR, NOON + (15 * 24 + 12) * HOUR


@pytest.fixture
def put(ledger):
    """`put("name", limit, spent, tenant_id="acme")`: a monthly budget, limit and spent in nano-dollars."""

    def write(name, limit, spent, *, period="month", action="", reserved=0, unsettled=0, thresholds=("0.5", "1"), **scope):
        row = BudgetRow(
            budget=name,
            scope=tuple(scope.get(dimension, "") for dimension in DIMENSIONS),
            period=period,
            limit=limit,
            soft_limit_ratio="0.8",
            thresholds=thresholds,
            action=action,
            origin="api",
        )
        ledger.write(lambda connection: put_budget(connection, row, NOVEMBER, DECEMBER, NOON))
        start = 0 if period == "total" else NOVEMBER
        ledger.write(lambda connection: write_periods(connection, [(name, start, spent, 0, 0, 1, reserved, unsettled, DECEMBER, 0)]))

    return write


def test_ai_budgets_on_the_page(ledger, put, shown):
    aside = {"reserved": 500_000_000, "unsettled": 250_000_000}
    scope = {"tenant_id": "acme", "model": "claude-3-5-sonnet-20241022"}
    put("acme-sonnet", 5_000 * USD, 4_250 * USD, action="suspend_ai_tenant", **aside, **scope)
    put("everything", 10_000 * USD, 10_000 * USD, **aside)
    put("pilot", 100 * USD, 1, period="total", tenant_id="globex")
    held = ("acme", "", "claude-3-5-sonnet-20241022", *[""] * 6, "call", 0)
    rows = [
        ("r1", "", NOON, NOON + HOUR, "open", 500_000_000, *held),
        ("r2", "", NOON - HOUR, NOON - 1, "unsettled", 250_000_000, *held),
    ]
    ledger.write(lambda connection: write_reservations(connection, rows))
    shown(budget_collector(ledger.read, UTC, lambda: NOON), "ai_budgets")


def test_the_budgets_nearest_to_their_limit_come_first_so_that_they_are_never_the_ones_left_out(ledger, put):
    put("calm", 1_000 * USD, 10 * USD)
    put("nothing-allowed", 0, 0)
    put("exceeded", 10 * USD, 11 * USD)
    put("close", 100 * USD, 90 * USD)
    for family, samples in budget_collector(ledger.read, UTC, lambda: NOON).collect():
        if family.name.startswith("ai_budget_") and family.name != "ai_budget_threshold_ratio":
            assert [labels[0] for labels, _ in samples] == ["nothing-allowed", "exceeded", "close", "calm"]


def test_the_limit_alone_carries_the_action(ledger, put):
    put("acme", 10 * USD, 1 * USD, action="suspend_ai_tenant", tenant_id="acme")
    for family, _ in budget_collector(ledger.read, UTC, lambda: NOON).collect():
        assert ("action" in family.labels) == (family.name == "ai_budget_limit_usd")


def test_the_highest_threshold_that_is_reached_is_shown_and_no_other(ledger, put):
    # 49.9 %, exactly 50 %, 89 % and 110 % of $100; thresholds are 50, 75, 80, 90 and 100 %.
    for name, spent in (("below", "49.9"), ("at", "50"), ("above", "89"), ("over", "110")):
        put(name, 100 * USD, int(Decimal(spent) * USD), thresholds=("0.5", "0.75", "0.8", "0.9", "1"))
    put("unsettled", 100 * USD, 40 * USD, unsettled=35 * USD, thresholds=("0.5", "0.75"))
    found = figures(budget_collector(ledger.read, UTC, lambda: NOON).collect, "ai_budget_threshold_ratio")
    assert found == {
        ("at", "month", "0.5"): 0.5,
        ("above", "month", "0.8"): 0.8,
        ("over", "month", "1"): 1,
        ("unsettled", "month", "0.75"): 0.75,  # 40 + 35 of 100
    }


def test_a_budget_says_when_its_period_began(ledger, put):
    put("acme", 10 * USD, 0)
    found = figures(budget_collector(ledger.read, UTC, lambda: NOON).collect, "ai_budget_period_start_timestamp_seconds")
    assert found == {("acme", "month"): 1_761_955_200}  # 2025-11-01 00:00 UTC


def test_a_budget_without_an_end_has_no_reset_time(ledger, put):
    put("forever", 10 * USD, 0, period="total")
    assert figures(budget_collector(ledger.read, UTC, lambda: NOON).collect, "ai_budget_reset_timestamp_seconds") == {}
