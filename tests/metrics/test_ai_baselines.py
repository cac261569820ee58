"""Baselines and forecast of AI usage, as series."""

import random
from contextlib import contextmanager
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event

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
    # By UTC the hour before it was this one on 16 of 20 weekdays; in Berlin nothing was ever used from 8 to 9.
    assert series(nine, zone="UTC")["ai_cost_expected_hourly_usd"] == {("acme",): 30}
    assert series(nine, zone="Europe/Berlin")["ai_cost_expected_hourly_usd"] == {("acme",): 0}


def test_what_today_has_cost_already_counts_at_once(record, series):
    for back in range(28):
        record(NOON - back * DAY, cost=5 * USD)
    assert series()["ai_spend_forecast_usd"] == {(): 150}
    record(NOON, cost=100 * USD)
    assert series(NOON + 60_000_000)["ai_spend_forecast_usd"] == {(): 150 - 5 + 105}


def test_what_is_reported_late_counts_at_once(record, series):
    for back in range(28):
        record(NOON - back * DAY, cost=5 * USD)
    assert series()["ai_spend_forecast_usd"] == {(): 150}
    # Yesterday cost $100 more: known of the month, and no habit.
    record(NOON - DAY, cost=100 * USD)
    assert series(NOON + 1)["ai_spend_forecast_usd"] == {(): 150 + 100}
    # What is dated ahead counts when its time has come.
    record(NOON + HOUR, cost=100 * USD)
    assert series(NOON + 2)["ai_spend_forecast_usd"] == {(): 150 + 100}
    assert series(NOON + HOUR)["ai_spend_forecast_usd"] == {(): 150 + 100 + 105 - 5}


def test_what_is_reported_after_months_makes_no_history_of_the_time_between(record, series):
    for back in range(10):
        record(NOON - back * DAY - HOUR, cost=5 * USD)
    record(NOON - HOUR, tenant_id="new", cost=0)
    # Ten days of $5; of today's tenant nothing is expected.
    assert series()["ai_spend_forecast_usd"] == {(): pytest.approx(26 * 5)}
    record(NOON - 200 * DAY, tenant_id="new", cost=USD)
    assert series(NOON + 1)["ai_spend_forecast_usd"] == {(): pytest.approx(26 * 5)}
    assert ("new",) not in series(NOON + 2 * HOUR)["ai_cost_expected_hourly_usd"]


def test_at_hours_that_a_tenant_never_uses_nothing_is_expected_and_its_busiest_hour_is_a_deviation(record, series):
    for back in range(1, 29):
        record(NOON - back * DAY - 3 * HOUR, tenant_id="acme", cost=40 * USD)
        record(NOON - back * DAY - 4 * HOUR, tenant_id="acme", cost=10 * USD)
    found = series()
    assert found["ai_cost_expected_hourly_usd"] == {("acme",): 0}
    assert found["ai_cost_deviation_hourly_usd"] == {("acme",): pytest.approx(40 / 1.2816)}


def test_days_of_23_and_of_25_hours_lose_none_and_count_none_twice(record, series):
    # Berlin's clocks go back on 26 October 2025: that day has 25 hours, each of $2.
    begin = NOON - 14 * HOUR - 40 * DAY  # 22:00 UTC on 4 October: midnight there
    for number in range(40 * 24 + 13):
        record(begin + number * HOUR, cost=2 * USD)
    # On 14 November at 12:00 UTC: 13 days and 13 hours of November are known, and the 14th is expected to be as its weekday.
    assert series(zone="Europe/Berlin")["ai_spend_forecast_usd"] == {(): 30 * 24 * 2}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"])
def test_what_is_read_bit_by_bit_is_what_is_read_at_once(ledger, record, series, zone):
    """Over a midnight, with late reports and new tenants: as a collector that begins with all of it."""
    chance = random.Random(3)
    for back in range(1, 29 * 24):
        record(NOON - back * HOUR, tenant_id=f"tenant-{back % 3}", cost=chance.randrange(50) * USD)
    now = NOON
    for step in range(12):
        now += chance.randrange(1, 4 * HOUR)
        for _ in range(3):
            record(now - chance.randrange(3 * DAY), tenant_id=f"tenant-{chance.randrange(4)}", cost=chance.randrange(50) * USD)
        found = series(now, zone)
        anew = AiBaselines(ledger.read, ZoneInfo(zone), lambda: now)  # noqa: B023 (called at once)
        at_once = {family.name: dict(samples) for family, samples in anew.collect()}
        for name in found:
            if "forecast" in name:
                assert found[name] == pytest.approx(at_once[name]), step


def test_history_is_read_once_a_day_and_then_only_what_is_new(ledger, record):
    """Statements on the hourly sums: in the same hour none."""
    for back in range(1, 29):
        record(NOON - back * DAY, tenant_id="acme", cost=USD)
    statements = []
    now = [NOON]

    @contextmanager
    def read():
        with ledger.read() as connection:
            listener = lambda *args: statements.append(args[2])  # noqa: E731 (to be removed again)
            event.listen(connection, "before_cursor_execute", listener)
            try:
                yield connection
            finally:
                event.remove(connection, "before_cursor_execute", listener)

    baselines = AiBaselines(read, ZoneInfo("UTC"), lambda: now[0])

    def statements_of(moment):
        statements.clear()
        now[0] = moment
        list(baselines.collect())
        return sum("FROM usage_hourly" in statement for statement in statements)

    # History by hour, the first hours, 14 days' dearest hours, and 20 weekdays of two hours.
    assert statements_of(NOON) == 1 + 1 + 14 + 2 * 20
    assert statements_of(NOON + HOUR - 1) == 0
    assert statements_of(NOON + HOUR) == 20
    # A Saturday has begun, of whose kind there were 8 days; the hour before was a Friday's and is known.
    assert statements_of(NOON + 11 * HOUR) == 2 * 20
    assert statements_of(NOON + 12 * HOUR) == 1 + 1 + 14 + 8


def test_an_empty_ledger_expects_nothing(series):
    assert {name: figures for name, figures in series().items() if figures} == {}
