"""The month's end: what is known, and for each day to come the mean of its weekday."""

import random
from datetime import date, timedelta
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_what_was_before_the_last_four_weeks_does_not_count_but_says_that_costs_can_jump():
    found = month_end(days(80, lambda day: 1000.0 if day < date(2025, 10, 10) else 10.0), YESTERDAY, TODAY)
    assert found.cost == 300.0
    assert found.upper > 1000.0


def test_what_was_bought_once_is_known_of_its_month_and_not_expected_again():
    # $10 a day, and $5,000 on Thursday, 6 November: the Thursdays to come are as the others.
    costs = days(60, lambda _: 10.0) | {date(2025, 11, 6): 5010.0}
    found = month_end(costs, YESTERDAY, TODAY)
    assert found.cost == 30 * 10.0 + 5000.0
    # A refund neither.
    assert month_end(costs | {date(2025, 11, 6): -990.0}, YESTERDAY, TODAY).cost == 30 * 10.0 - 1000.0


def test_two_days_of_28_are_no_habit_and_three_are():
    once = days(28, lambda day: 500.0 if day.day in (4, 12) else 0.0)
    assert month_end(once, YESTERDAY, TODAY).cost == 2 * 500.0
    # Tuesday the 4th, Wednesday the 12th, Thursday the 30th of October: $125 on each of the two such days to come.
    often = days(28, lambda day: 500.0 if day.day in (4, 12, 30) else 0.0)
    assert month_end(often, YESTERDAY, TODAY).cost == 2 * 500.0 + 6 * 125.0


def test_what_is_paid_on_a_day_of_every_month_is_expected_on_it():
    costs = days(75, lambda day: 310.0 if day.day == 20 else 10.0)
    assert month_end(costs, YESTERDAY, TODAY).cost == 30 * 10.0 + 300.0  # on 20 September and 20 October
    assert month_end(costs | {date(2025, 9, 20): 10.0}, YESTERDAY, TODAY).cost == 30 * 10.0  # on one of them


def test_a_first_that_cost_more_once_is_not_expected_to_again():
    newest, today = date(2025, 11, 30), date(2025, 12, 1)
    costs = days(75, lambda day: 40.0 if day.day == 1 else 10.0, newest)
    assert month_end(costs | {date(2025, 11, 1): 90_040.0}, newest, today).cost == 31 * 10.0 + 30.0


def test_not_every_month_has_a_31st():
    newest, today = date(2025, 11, 30), date(2025, 12, 5)
    costs = days(91, lambda day: 310.0 if day.day == 31 else 10.0, newest)
    assert month_end(costs, newest, today).cost == 31 * 10.0


def test_credits_that_are_given_every_day_go_on():
    assert month_end(days(40, lambda _: -5.0), YESTERDAY, TODAY).cost == 30 * -5.0
    # A refund of today does not take the place of today's usage.
    assert month_end(days(40, lambda _: 10.0) | {TODAY: -100.0}, YESTERDAY, TODAY).cost == 30 * 10.0 - 100.0


def test_days_that_are_missing_after_the_first_have_cost_nothing():
    # $20 on every Monday and no other charge: the 3rd and the 10th are known, the 17th and the 24th to come.
    mondays = {day: cost for day, cost in days(60, lambda _: 20.0).items() if day.weekday() == 0}
    assert month_end(mondays, YESTERDAY, TODAY) == Forecast(4 * 20.0, 0.0)


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


def month_ends(costs_of, chance, months=400):
    """Share of simulated months that end between the bounds, of forecasts on the 15th."""
    inside = 0
    for _ in range(months):
        costs = dict(zip((date(2025, 8, 1) + timedelta(days=number) for number in range(122)), costs_of(chance), strict=False))
        first, end = days_of_month(TODAY)
        true = sum(cost for day, cost in costs.items() if first <= day < end)
        found = month_end({day: cost for day, cost in costs.items() if day <= YESTERDAY}, YESTERDAY, TODAY)
        inside += found.lower <= true <= found.upper
    return inside / months


def test_eight_of_ten_months_end_between_the_bounds_where_days_stray_by_themselves():
    assert 0.75 <= month_ends(lambda chance: [chance.gauss(100, 15) for _ in range(122)], random.Random(7)) <= 0.92


def test_eight_of_ten_months_end_between_the_bounds_where_days_are_like_those_before_them():
    def costs(chance):
        off = 0.0
        for _ in range(122):
            off = 0.8 * off + chance.gauss(0, 9)
            yield 100 + off

    assert 0.72 <= month_ends(costs, random.Random(7)) <= 0.92


daily = st.lists(st.integers(-500, 5000).map(float), min_size=0, max_size=130)


@given(daily, st.integers(0, 20), st.randoms())
def test_the_order_in_which_days_are_told_changes_nothing(costs, ahead, chance):
    known = dict(zip((YESTERDAY - timedelta(days=back) for back in range(len(costs))), costs, strict=True))
    shuffled = list(known.items())
    chance.shuffle(shuffled)
    today = TODAY + timedelta(days=ahead)
    assert month_end(dict(shuffled), YESTERDAY, today) == month_end(known, YESTERDAY, today)


@given(daily)
def test_a_month_that_is_over_ends_as_its_days_add_up(costs):
    newest = date(2025, 11, 30)
    known = dict(zip((newest - timedelta(days=back) for back in range(len(costs))), costs, strict=True))
    found = month_end(known, newest, newest)
    if len(costs) < 7:
        assert found is None
    else:
        assert found == Forecast(sum(cost for day, cost in known.items() if day.month == 11), 0.0)


@given(st.lists(st.integers(0, 5000).map(float), min_size=7, max_size=130))
def test_twice_the_cost_is_twice_the_forecast_and_the_bounds_hold_it(costs):
    known = dict(zip((YESTERDAY - timedelta(days=back) for back in range(len(costs))), costs, strict=True))
    found = month_end(known, YESTERDAY, TODAY)
    double = month_end({day: 2 * cost for day, cost in known.items()}, YESTERDAY, TODAY)
    assert found.lower <= found.cost <= found.upper
    assert (double.cost, double.upper) == (pytest.approx(2 * found.cost), pytest.approx(2 * found.upper))
    assert found.cost >= sum(cost for day, cost in known.items() if day >= date(2025, 11, 1)) - 1e-6
