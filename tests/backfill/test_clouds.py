"""The past of bills: on every day what the page would have shown, had each bill been complete at midnight."""

from datetime import UTC, date, datetime, timedelta

import pytest

from costwarden.metrics.cloud import CloudCosts
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import to_micros

HOUR = 3600
DAY = 24 * HOUR


def test_a_month_grows_day_by_day_and_turns_over(past, of, at):
    past.charge("2026-01-30", "10", service_name="EC2")
    past.charge("2026-01-31", "5.5", service_name="EC2")
    past.charge("2026-02-01", "7", service_name="EC2")
    found = past.backfill("--first", "2026-01-30", "--last", "2026-02-03")
    current = of(found, "aws_cost_monthly_usd", provider="aws", month="current", service="EC2")
    previous = of(found, "aws_cost_monthly_usd", provider="aws", month="previous", service="EC2")
    assert min(current) == at("2026-01-31T00:00")  # on the 30th no day was complete yet
    assert [current[at(f"{day}T12:00")] for day in ("2026-01-31", "2026-02-01", "2026-02-02", "2026-02-03")] == [10, 0, 7, 7]
    assert at("2026-01-31T23:00") not in previous
    assert set(previous.values()) == {10 + 5.5}
    assert min(previous) == at("2026-02-01T00:00")


def test_a_year_turns_over_and_months_get_their_names(past, of, at):
    past.charge("2025-11-30", "1", service_name="EC2")
    past.charge("2025-12-31", "2", service_name="EC2")
    past.charge("2026-01-01", "4", service_name="EC2")
    found = past.backfill("--first", "2025-12-31", "--last", "2026-01-02")
    month = lambda name: of(found, "aws_cost_monthly_usd", provider="aws", month=name, service="EC2")  # noqa: E731
    assert month("previous")[at("2025-12-31T23:00")] == 1
    assert month("current")[at("2025-12-31T23:00")] == 0
    assert month("2025-11")[at("2026-01-01T00:00")] == 1
    assert at("2025-12-31T23:00") not in month("2025-11")
    assert month("previous")[at("2026-01-01T00:00")] == 2
    assert month("current")[at("2026-01-01T23:00")] == 0
    assert month("current")[at("2026-01-02T00:00")] == 4


def test_a_credit_is_negative_and_sums_stay_exact(past, of, at):
    past.charge("2026-03-01", "0.1", service_name="EC2")
    past.charge("2026-03-01", "0.2", service_name="EC2")
    past.charge("2026-03-02", "-100.3", service_name="EC2")
    found = past.backfill("--last", "2026-03-03")
    current = of(found, "aws_cost_monthly_usd", provider="aws", month="current", service="EC2")
    assert current[at("2026-03-02T00:00")] == 0.3  # and not 0.1 + 0.2 in floating point, 0.30000000000000004
    assert current[at("2026-03-03T00:00")] == -100.0
    daily = of(found, "aws_cost_daily_usd", provider="aws", service="EC2")
    assert daily[at("2026-03-03T00:00")] == -100.3


def test_the_newest_day_stays_where_no_later_one_has_charges(past, of, at):
    past.charge("2026-03-01", "8", service_name="EC2")
    past.charge("2026-03-02", "9", service_name="S3")
    found = past.backfill("--last", "2026-03-09")
    assert of(found, "aws_cost_daily_usd", provider="aws", service="EC2")[at("2026-03-02T05:00")] == 8
    assert of(found, "aws_cost_daily_usd", provider="aws", service="EC2")[at("2026-03-09T05:00")] == 0
    assert of(found, "aws_cost_previous_day_usd", provider="aws", service="EC2")[at("2026-03-09T05:00")] == 8
    assert of(found, "aws_cost_daily_usd", provider="aws", service="S3")[at("2026-03-09T05:00")] == 9
    assert of(found, "aws_cost_daily_timestamp_seconds", provider="aws")[at("2026-03-09T05:00")] == at("2026-03-02T00:00")


def test_every_midnight_of_the_past_is_what_the_page_showed_then(past, at):
    """The page of each day, from a ledger that knows no later day, against the backfill from all days."""
    settings = MetricsSettings(cloud_labels=("region", "service", "team"), months_kept_apart=3)
    past.config = {"metrics": {"cloud_labels": ["region", "service", "team"], "months_kept_apart": 3}}
    first, pages = date(2025, 9, 20), {}
    for number in range(140):
        day = first + timedelta(days=number)
        bills = []
        for place, provider in enumerate(("aws", "gcp", "kubernetes", "oracle", "snowflake")):
            # Of different rhythm, with gaps, credits, allocated shares, and days on which a provider has nothing at all.
            if number % (place + 2) == 0 or 60 < number < 64:
                columns = {"service_name": f"service-{number % 3}", "region_id": "eu" if number % 2 else "", "team": f"t{place}"}
                cost = f"{(number * 37 + place) % 101 - 20}.{number:03d}"
                bills.append((day.isoformat(), cost, provider, columns))
                if number % 6 == 0:
                    bills.append((day.isoformat(), "3.25", provider, {"charge_category": "Allocated", **columns}))
        if bills:
            past.charges(*bills)
        midnight = to_micros_of(day + timedelta(days=1))
        page = CloudCosts(past.ledger.read, settings, (), lambda: midnight)  # noqa: B023 (called at once)
        pages[midnight // 1_000_000] = {
            (family.name, frozenset((name, value) for name, value in zip(family.labels, labels, strict=True) if value)): float(value)
            for family, samples in page.collect()
            for labels, value in samples
        }
    found = past.backfill("--last", (first + timedelta(days=140)).isoformat(), "--step", "1d")
    assert len(pages) == 140
    for midnight, page in pages.items():
        history = {
            (name, frozenset(label for label in labels if label[0] != "job")): samples[midnight]
            for (name, labels), samples in found.items()
            if midnight in samples
        }
        assert history == page, midnight


def to_micros_of(day):
    return to_micros(datetime(day.year, day.month, day.day, tzinfo=UTC))


@pytest.mark.parametrize(("step", "samples_a_day"), [("5m", 288), ("1h", 24), ("6h", 4), ("1d", 1)])
def test_samples_come_in_the_step_that_was_asked_for(past, of, at, step, samples_a_day):
    past.charge("2026-03-01", "8", service_name="EC2")
    found = past.backfill("--last", "2026-03-03", "--step", step)
    daily = of(found, "aws_cost_daily_usd", provider="aws", service="EC2")
    assert list(daily) == [at("2026-03-02T00:00") + number * DAY // samples_a_day for number in range(2 * samples_a_day)]
