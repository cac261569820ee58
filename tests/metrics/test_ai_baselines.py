"""Baselines and forecast of AI usage, as series."""

from zoneinfo import ZoneInfo

import pytest

from costwarden.metrics.ai_baselines import AiBaselines

NOON = 1_763_121_600_000_000
"""2025-11-14 12:00 UTC in microseconds, a Friday."""
HOUR = 3_600_000_000
DAY = 24 * HOUR
USD = 1_000_000_000


@pytest.fixture
def series(ledger):
    """`series(now)`: metric -> label values -> value."""
    baselines = {}

    def collect(now=NOON, zone="UTC"):
        clock = baselines.setdefault(zone, [now, None])
        clock[0] = now
        if clock[1] is None:
            clock[1] = AiBaselines(ledger.read, ZoneInfo(zone), lambda: clock[0])
        return {family.name: dict(samples) for family, samples in clock[1].collect()}

    return collect


def test_an_hour_is_expected_to_cost_what_it_cost_on_the_weekdays_before(record, series):
    for back in range(1, 29):
        # The hours from 11 and from 12 o'clock; weekends are of another kind and cost more.
        is_weekend = (4 - back) % 7 >= 5
        record(NOON - back * DAY, tenant_id="acme", cost=(900 if is_weekend else 30) * USD)
        record(NOON - back * DAY - HOUR, tenant_id="acme", cost=(900 if is_weekend else 10) * USD)
    # At noon the 60 minutes that end now are all of the hour before; at 12:30 half of each.
    assert series()["ai_cost_expected_hourly_usd"] == {("acme",): 10}
    assert series(NOON + HOUR // 2)["ai_cost_expected_hourly_usd"] == {("acme",): 0.5 * 10 + 0.5 * 30}


def test_hours_without_usage_count_from_a_tenants_first_on(record, series):
    # Of the 20 weekdays before, the tenant was there for 10 and used 4 of them: the median is 0.
    for back in (1, 2, 3, 14):
        record(NOON - back * DAY, tenant_id="acme", cost=10 * USD)
        record(NOON - back * DAY - HOUR, tenant_id="acme", cost=10 * USD)
    found = series()
    assert found["ai_cost_expected_hourly_usd"] == {("acme",): 0}
    # Four of ten are bursts: the 90 % quantile is $10, 1.2816 deviations from 0.
    assert found["ai_cost_deviation_hourly_usd"] == {("acme",): pytest.approx(10 / 1.2816)}


def test_of_a_new_tenant_nothing_is_expected(record, series):
    for back in range(4):
        record(NOON - back * DAY, tenant_id="acme", cost=USD)
        record(NOON - back * DAY - HOUR, tenant_id="acme", cost=USD)
    record(NOON - DAY, cost=USD)
    assert series()["ai_cost_expected_hourly_usd"] == {}


def test_the_month_ends_as_its_days_say(record, series):
    for back in range(28):
        record(NOON - back * DAY, cost=5 * USD)
    # 14 days until today are known and 16 are to come.
    found = series()
    assert found["ai_spend_forecast_usd"] == {(): 30 * 5}
    assert found["ai_spend_forecast_lower_usd"] == found["ai_spend_forecast_upper_usd"] == {(): 30 * 5}


def test_days_begin_in_the_time_zone_of_the_budgets(record, series):
    # 23:30 UTC on 31 October is 1 November in Berlin.
    for back in range(28):
        record(NOON - back * DAY + 11 * HOUR + HOUR // 2 - DAY, cost=5 * USD)
    assert series()["ai_spend_forecast_usd"] == {(): 30 * 5}
    assert series(zone="Europe/Berlin")["ai_spend_forecast_usd"] == {(): 30 * 5}


@pytest.mark.parametrize("minutes", [5, 25, 35, 300])
def test_where_days_begin_at_half_past_none_is_lost_at_midnight(record, series, minutes):
    # 18:30 UTC is midnight in India. $5 at 23:45 of each day but today: 14 days of November are known and 16 to come.
    midnight = NOON + 6 * HOUR + HOUR // 2
    for back in range(28):
        record(midnight - HOUR // 4 - back * DAY, cost=5 * USD)
    assert series(midnight - HOUR // 4 + 60_000_000, zone="Asia/Kolkata")["ai_spend_forecast_usd"] == {(): 30 * 5}
    found = series(midnight + minutes * 60_000_000, zone="Asia/Kolkata")
    assert found["ai_spend_forecast_usd"] == {(): 30 * 5}


def test_when_the_clocks_change_people_keep_their_hours(record, series):
    # Friday, 31 October 2025: Berlin has had UTC+1 for 5 days, and UTC+2 before. $30 from 9 to 10 o'clock of its weekdays, and $1 after.
    nine = NOON - 14 * DAY - 4 * HOUR
    for back in range(1, 29):
        if (4 - back) % 7 < 5:
            begin = nine - back * DAY - (HOUR if back > 5 else 0)
            record(begin, tenant_id="acme", cost=30 * USD)
            record(begin + HOUR, tenant_id="acme", cost=USD)
    assert series(nine + HOUR, zone="Europe/Berlin")["ai_cost_expected_hourly_usd"] == {("acme",): 30}
    # By UTC the hour before it was this one on 16 of 20 weekdays.
    assert series(nine, zone="UTC")["ai_cost_expected_hourly_usd"] == {("acme",): 30}
    assert series(nine, zone="Europe/Berlin")["ai_cost_expected_hourly_usd"] == {}


def test_what_today_has_cost_already_counts_at_once(record, series):
    for back in range(28):
        record(NOON - back * DAY, cost=5 * USD)
    assert series()["ai_spend_forecast_usd"] == {(): 150}
    record(NOON, cost=100 * USD)
    assert series(NOON + 60_000_000)["ai_spend_forecast_usd"] == {(): 150 - 5 + 105}


def test_what_is_over_is_read_again_when_the_hour_turns(record, series):
    for back in range(28):
        record(NOON - back * DAY, cost=5 * USD)
    assert series()["ai_spend_forecast_usd"] == {(): 150}
    record(NOON - DAY, cost=100 * USD)  # a late report: yesterday, a Thursday, cost $100 more, and Thursdays $25
    assert series(NOON + HOUR - 1)["ai_spend_forecast_usd"] == {(): 150}
    assert series(NOON + HOUR)["ai_spend_forecast_usd"] == {(): 150 + 100 + 2 * 25}


def test_an_empty_ledger_expects_nothing(series):
    assert {name: figures for name, figures in series().items() if figures} == {}
