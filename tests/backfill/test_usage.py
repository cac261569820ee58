"""The past of AI usage: at every full hour what the page would have shown."""

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from costwarden.metrics.ai import usage_collectors
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import to_micros

ACME = {"tenant_id": "acme", "provider": "openai", "model": "gpt-4o"}


def test_running_totals_begin_with_a_nought_so_that_increase_sees_the_first_usage(past, of, at):
    past.use("2026-03-01T10:20", cost=1_500_000_000, input_tokens=1000, output_tokens=10, **ACME)
    past.use("2026-03-01T12:40", cost=250_000_000, input_tokens=500, cache_read_tokens=400, success=False, **ACME)
    found = past.backfill("--last", "2026-03-01")
    cost = of(found, "ai_token_usage_cost_usd", **ACME)
    assert {when: value for when, value in cost.items() if when <= at("2026-03-01T13:00")} == {
        at("2026-03-01T10:00"): 0,
        at("2026-03-01T11:00"): 1.5,
        at("2026-03-01T12:00"): 1.5,
        at("2026-03-01T13:00"): 1.5 + 0.25,
    }
    assert of(found, "ai_tokens_total", type="input", **ACME)[at("2026-03-01T23:00")] == 1000 + 500
    cached = of(found, "ai_tokens_total", type="cache_read", **ACME)
    assert min(cached) == at("2026-03-01T12:00")
    assert cached[at("2026-03-01T13:00")] == 400
    assert of(found, "ai_requests_total", outcome="success", **ACME)[at("2026-03-01T23:00")] == 1
    assert of(found, "ai_requests_total", outcome="failure", **ACME)[at("2026-03-01T13:00")] == 1


def test_what_was_used_before_the_first_day_is_in_the_totals(past, of, at):
    past.use("2026-02-20T10:20", cost=2_000_000_000, **ACME)
    past.use("2026-03-02T10:20", cost=1_000_000_000, **ACME)
    cost = of(past.backfill("--first", "2026-03-01", "--last", "2026-03-02"), "ai_token_usage_cost_usd", **ACME)
    assert cost[at("2026-03-01T00:00")] == 2
    assert cost[at("2026-03-02T11:00")] == 2 + 1


def test_windows_slide_and_end(past, of, at):
    past.use("2026-03-01T10:20", cost=1_000_000_000, **ACME)
    past.use("2026-03-01T11:20", cost=4_000_000_000, **ACME)
    found = past.backfill("--last", "2026-03-03")
    hour = of(found, "ai_token_usage_cost_window_usd", window="1h", **ACME)
    assert hour == {at("2026-03-01T11:00"): 1, at("2026-03-01T12:00"): 4}
    day = of(found, "ai_token_usage_cost_window_usd", window="1d", **ACME)
    assert (day[at("2026-03-01T11:00")], day[at("2026-03-02T10:00")], day[at("2026-03-02T11:00")]) == (1, 1 + 4, 4)
    assert max(day) == at("2026-03-02T11:00")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_every_hour_of_the_past_is_what_the_page_showed_then(past, zone):
    """The page of each hour, from a ledger that knows no later usage, against the backfill from all of it.

    Two of the zones have half hours: there a month begins in the middle of an hour of the sums.
    """
    past.config = {"time_zone": zone}
    draw = random.Random(4)
    start = datetime(2026, 2, 27, tzinfo=UTC)
    pages, shown = {}, MetricsSettings().usage_labels
    for number in range(24 * 4):
        hour = start + timedelta(hours=number)
        calls = []
        for _ in range(draw.choice((0, 0, 1, 3))):
            when = hour + timedelta(seconds=draw.randrange(3600))
            tokens = {name: draw.randrange(2000) for name in ("input_tokens", "output_tokens")} | {"reasoning_tokens": draw.choice((0, 7))}
            labels = {
                "tenant_id": draw.choice("ab"),
                "provider": "openai",
                "model": draw.choice(("x", "y")),
                "feature": draw.choice(("", "f")),
            }
            more = {"success": draw.random() < 0.8, "priced_by": draw.choice(("operation", "unpriced")), "cost": draw.randrange(-9, 10**10)}
            calls.append((when.replace(tzinfo=None).isoformat(), {**tokens, **labels, **more}))
        past.uses(*calls)
        at = to_micros(hour + timedelta(hours=1))
        collectors = usage_collectors(past.ledger.read, shown, ZoneInfo(zone), lambda: at)  # noqa: B023 (called at once)
        pages[at // 1_000_000] = {
            (family.name, frozenset((name, value) for name, value in zip(family.labels, labels, strict=True) if value)): value
            for collector in collectors
            for family, samples in collector.collect()
            for labels, value in samples
        }
    found = past.backfill("--last", "2026-03-03")
    grows = ("ai_token_usage_cost_usd", "ai_tokens_total", "ai_requests_total", "ai_unpriced_requests_total")
    compared = 0
    for at, page in pages.items():
        history = {
            (name, frozenset(label for label in labels if label[0] != "job")): samples[at]
            for (name, labels), samples in found.items()
            if at in samples
        }
        # The noughts before the first usage are the history's own; so is the silence before anything was used at all.
        begun = {key: value for key, value in history.items() if key in page or value or key[0] not in grows}
        assert begun == {key: value for key, value in page.items() if value or key in history}, datetime.fromtimestamp(at, UTC)
        compared += len(begun)
    assert compared > 2000
