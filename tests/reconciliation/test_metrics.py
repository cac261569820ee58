"""Estimated and billed AI cost as separate series, and what is between them."""

from datetime import date, timedelta

import pytest

from costwarden.metrics.exposition import render, text_metadata
from costwarden.metrics.reconciliation import reconciliation_collector

DAY = date(2026, 11, 10)
NEWEST = date(2026, 11, 18)
"""Two days before today."""


@pytest.fixture
def collector(books):
    return reconciliation_collector(books.ledger.read, books.settings, books.now)


def exposition(collector):
    shown = [
        text_metadata(family) + render(family, samples, 100, None, lambda: None).lines for family, samples in collector.collect() if samples
    ]
    return b"".join(shown).decode()


def values(collector, metric):
    return {labels: value for family, samples in collector.collect() if family.name == metric for labels, value in samples}


def test_the_page(books, collector, golden):
    for age in range(7):
        day = NEWEST - timedelta(days=age)
        reported = (books.reported("gpt-4o", day, input_tokens=1_000_000, output_tokens=200_000, cache_read_tokens=400_000),)
        books.bill(("gpt-4o, input", "2.5"), ("gpt-4o, output", "1.0000000001"), day=day, reported=reported)
        books.meter("2.5", day=day, input_tokens=800_000, output_tokens=100_000)
    books.apply("openai", NEWEST)
    books.bill(("Claude Opus 5 Usage - Input Tokens", "4"), provider="anthropic", day=NEWEST)
    golden("reconciliation.txt", exposition(collector))


def test_a_provider_without_a_bill_has_no_series(books, collector):
    books.meter("5", day=NEWEST)
    assert exposition(collector) == ""
    # Neither has one whose bill is of other services.
    books.bill(("Amazon Bedrock", "5"), provider="aws", day=NEWEST)
    assert values(collector, "ai_billed_cost_usd") == {("aws-bedrock",): 5.0}


def test_days_outside_the_window_and_days_left_out_do_not_count(books, collector):
    for age, amount in ((-1, "1"), (0, "2"), (6, "4"), (7, "8")):
        books.bill(("gpt-4o, input", amount), day=NEWEST - timedelta(days=age))
    books.bill(("gpt-4o, input", "16"), day=NEWEST - timedelta(days=3), rejected=1)
    assert values(collector, "ai_billed_cost_usd") == {("openai",): 6.0}
    assert values(collector, "ai_reconciliation_daily_bills") == {("openai",): 2.0}


def test_what_a_bill_of_nothing_captures_is_not_said(books, collector):
    books.bill(("gpt-4o, input", "0"), day=NEWEST)
    books.meter("1", day=NEWEST)
    assert values(collector, "ai_reconciliation_capture_ratio") == {}
    assert values(collector, "ai_reconciliation_residual_usd") == {("openai",): -1.0}


def test_billed_is_metered_and_corrected_and_residual(books, collector):
    books.bill(("gpt-4o, input", "10"), day=NEWEST)
    books.meter("7", day=NEWEST)
    assert values(collector, "ai_reconciliation_residual_usd") == {("openai",): 3.0}
    books.apply("openai", NEWEST)
    assert values(collector, "ai_metered_cost_usd") == {("openai",): 7.0}
    assert values(collector, "ai_reconciliation_corrected_usd") == {("openai",): 3.0}
    assert values(collector, "ai_reconciliation_residual_usd") == {("openai",): 0.0}
    # What was captured stays to be seen.
    assert values(collector, "ai_reconciliation_capture_ratio") == {("openai",): 0.7}


def test_it_is_collected_again_after_a_refresh_a_correction_and_at_midnight_and_not_for_each_call(books, collector):
    books.bill(("gpt-4o, input", "10"), day=NEWEST)
    seen = [collector.version()]

    def changed():
        seen.append(collector.version())
        return seen[-1] != seen[-2]

    assert not changed()
    books.meter("7", day=NEWEST)
    assert not changed()
    books.apply("openai", NEWEST)
    assert changed()
    books.bill(("gpt-4o, input", "10"), day=NEWEST - timedelta(days=1), read_on=books.today + timedelta(days=1))
    assert changed()
    books.today += timedelta(days=1)
    assert changed()


def test_a_bill_that_two_sources_have_is_on_no_series(books, collector):
    books.bill(("gpt-4o, input", "2"), day=NEWEST)
    for source in ("openai", "file"):
        books.bill(("gpt-4o, input", "10"), source=source, day=NEWEST - timedelta(days=1))
    books.bill(("gpt-4o, input", "0"), source="file", day=NEWEST, account="2")
    assert values(collector, "ai_billed_cost_usd") == {("openai",): 2.0}
    assert values(collector, "ai_reconciliation_daily_bills") == {("openai",): 1.0}
