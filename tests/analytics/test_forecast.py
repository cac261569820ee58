"""The month's end: what is known, and for each day to come the mean of its weekday."""

import random
from datetime import date, timedelta
from math import sqrt

import pytest

from costwarden.analytics.forecast import Forecast, days_of_month, month_end

TODAY = date(2025, 11, 15)
YESTERDAY = date(2025, 11, 14)


def days(count, cost, end=YESTERDAY):
    return {end - timedelta(days=back): cost(end - timedelta(days=back)) for back in range(count)}


def test_a_steady_cost_ends_where_it_says_without_doubt():
    # 14 days of $10 are known, 16 are to come: 30 × $10.
    assert month_end(days(40, lambda _: 10.0), YESTERDAY, TODAY) == Forecast(300.0, 0.0)


def test_weekends_that_cost_nothing_are_no_growth():
    found = month_end(days(40, lambda day: 0.0 if day.weekday() >= 5 else 100.0), YESTERDAY, TODAY)
    assert found == Forecast(20 * 100.0, 0.0)  # November 2025 has 20 working days


def test_a_fee_on_the_first_of_the_month_counts_once():
    def cost(day):
        return 510.0 if day.day == 1 else 10.0

    assert month_end(days(40, cost), YESTERDAY, TODAY) == Forecast(30 * 10.0 + 500.0, 0.0)


def test_the_first_of_the_month_is_expected_to_be_as_the_one_before():
    # The bill ends with 30 November: all of December is to come, its first day as that of November.
    def cost(day):
        return 510.0 if day.day == 1 else 10.0

    newest = date(2025, 11, 30)
    assert month_end(days(40, cost, newest), newest, date(2025, 12, 1)) == Forecast(31 * 10.0 + 500.0, 0.0)


def test_a_day_that_has_cost_more_already_is_worth_that():
    costs = days(40, lambda _: 10.0) | {TODAY: 250.0}
    assert month_end(costs, YESTERDAY, TODAY) == Forecast(29 * 10.0 + 250.0, 0.0)


def test_with_less_than_a_week_there_is_no_forecast():
    assert month_end(days(6, lambda _: 10.0), YESTERDAY, TODAY) is None
    assert month_end({}, YESTERDAY, TODAY) is None
    assert month_end(days(7, lambda _: 10.0), YESTERDAY, TODAY) is not None


def test_what_was_before_the_last_four_weeks_does_not_count():
    assert month_end(days(80, lambda day: 1000.0 if day < date(2025, 10, 10) else 10.0), YESTERDAY, TODAY) == Forecast(300.0, 0.0)


def test_days_that_stray_widen_the_bounds_with_what_is_to_come():
    costs = days(28, lambda day: 10.0 + (1 if day.toordinal() // 7 % 2 else -1))
    found = month_end(costs, YESTERDAY, TODAY)
    assert found.lower < found.cost < found.upper
    later = month_end(costs, YESTERDAY, date(2025, 11, 30))
    assert later == found  # the day on which one looks changes nothing, the newest day of the bill does


def test_the_errors_of_two_bills_add_as_squares():
    both = Forecast(100.0, 9.0) + Forecast(50.0, 16.0)
    assert both == Forecast(150.0, 25.0)
    assert both.upper - both.lower == pytest.approx(2 * 1.2816 * sqrt(25))


def test_eight_of_ten_months_end_between_the_bounds():
    chance = random.Random(7)
    inside = 0
    for _ in range(1000):
        costs = {date(2025, 10, 1) + timedelta(days=number): chance.gauss(100, 15) for number in range(61)}
        first, end = days_of_month(TODAY)
        true = sum(cost for day, cost in costs.items() if first <= day < end)
        found = month_end({day: cost for day, cost in costs.items() if day <= YESTERDAY}, YESTERDAY, TODAY)
        inside += found.lower <= true <= found.upper
    assert 750 <= inside <= 850
