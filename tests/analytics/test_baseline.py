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
    assert expected_of_bursts([1.0, 2.0], 3, 0) is None


def test_what_is_mostly_nothing_strays_as_far_as_its_bursts():
    # 18 hours of nothing and 2 of $50: the median deviation is 0, the 90 % quantile (the 18th of 0…19) is $50.
    found = expected_of_bursts([0.0] * 17 + [50.0] * 3, 5, 0)
    assert found is not None
    assert (found.cost, found.deviation) == (0, pytest.approx(50 / 1.2816))


def test_a_single_burst_is_an_outlier_and_no_habit():
    assert expected_of_bursts([0.0] * 19 + [50.0], 5, 0) == Expected(0, 0)


def test_bursts_that_come_at_any_hour_are_known_from_the_busiest_one():
    # At this hour nothing was ever used, but there was an hour of $50 on most days.
    assert expected_of_bursts([0.0] * 20, 5, 50) == Expected(0, pytest.approx(50 / 1.2816))
    # A busiest hour that is below what is expected adds nothing.
    assert expected_of_bursts([60.0] * 20, 5, 50) == Expected(60, 0)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.integers(1, 10), st.randoms())
def test_what_is_expected_lies_among_the_values_whatever_their_order(values, fewest, chance):
    found = expected_of(values, fewest)
    assert (found is None) == (len(values) < fewest)
    if found is not None:
        assert min(values) <= found.cost <= max(values)
        assert 0 <= found.deviation <= 1.4826 * (max(values) - min(values))
        chance.shuffle(values)
        assert expected_of(values, fewest) == found


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=40), st.integers(0, 1000))
def test_every_value_that_rises_by_as_much_raises_what_is_expected_by_that_and_no_deviation(values, by):
    found, risen = expected_of(values, 3), expected_of([value + by for value in values], 3)
    assert (risen.cost, risen.deviation) == (pytest.approx(found.cost + by), pytest.approx(found.deviation))


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=40), st.data())
def test_no_value_that_rises_lowers_what_is_expected(values, data):
    risen = [value + data.draw(st.integers(0, 50)) for value in values]
    assert expected_of(risen, 3).cost >= expected_of(values, 3).cost


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=40), st.floats(0, 1e6))
def test_the_deviation_is_never_negative_and_bursts_only_add_to_it(values, busiest):
    plain, bursts = expected_of(values, 3), expected_of_bursts(values, 3, busiest)
    assert plain is not None
    assert bursts is not None
    assert plain.cost == bursts.cost
    assert 0 <= plain.deviation <= bursts.deviation
