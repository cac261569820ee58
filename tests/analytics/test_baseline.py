"""What was to be expected: medians that one odd day does not move."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costwarden.analytics.baseline import Expected, expected_of, expected_of_bursts, same_weekdays

SATURDAY = date(2025, 11, 15)


def test_the_same_weekdays_are_those_of_the_weeks_before_newest_first():
    history = {SATURDAY - timedelta(days=back): float(back) for back in range(60)}
    assert same_weekdays(history, SATURDAY, 4) == [7, 14, 21, 28]


def test_a_day_without_cost_is_zero_and_a_day_before_the_history_is_unknown():
    history = {SATURDAY - timedelta(days=15): 3.0, SATURDAY - timedelta(days=7): 5.0}
    assert same_weekdays(history, SATURDAY, 4) == [5.0, 0.0]
    assert same_weekdays({}, SATURDAY, 4) == []


def test_one_odd_day_moves_neither_the_expectation_nor_the_deviation_much():
    # Median of 100, 102, 98, 101, 5000 is 101; distances 1, 1, 3, 0, 4899: their median is 1.
    assert expected_of([100, 102, 98, 101, 5000], 3) == Expected(101, 1.4826 * 1)


def test_of_too_few_values_nothing_is_expected():
    assert expected_of([1.0, 2.0], 3) is None
    assert expected_of_bursts([1.0, 2.0], 3) is None


def test_what_is_mostly_nothing_strays_as_far_as_its_bursts():
    # 18 hours of nothing and 2 of $50: the median deviation is 0, the 90 % quantile (the 18th of 0…19) is $50.
    found = expected_of_bursts([0.0] * 17 + [50.0] * 3, 5)
    assert found is not None
    assert (found.cost, found.deviation) == (0, pytest.approx(50 / 1.2816))


def test_a_single_burst_is_an_outlier_and_no_habit():
    assert expected_of_bursts([0.0] * 19 + [50.0], 5) == Expected(0, 0)


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=40))
def test_the_deviation_is_never_negative_and_bursts_only_add_to_it(values):
    plain, bursts = expected_of(values, 3), expected_of_bursts(values, 3)
    assert plain is not None
    assert bursts is not None
    assert plain.cost == bursts.cost
    assert 0 <= plain.deviation <= bursts.deviation
