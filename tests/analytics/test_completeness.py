"""Up to which day bills are known: a late account is waited for, and nobody waits for ever."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costwarden.analytics.completeness import LATE_DAYS, known_up_to

NEWEST = date(2025, 11, 14)
"""A Friday."""
DAY = timedelta(days=1)


def every_day(count, end=NEWEST):
    return {end - DAY * back for back in range(count)}


@pytest.mark.parametrize("late", range(LATE_DAYS + 1))
def test_an_account_that_is_late_is_known_up_to_its_newest_day(late):
    found = known_up_to({"a": every_day(40), "b": every_day(40, NEWEST - DAY * late)})
    assert found == {"a": NEWEST, "b": NEWEST - DAY * late}


def test_an_account_that_has_stopped_is_waited_for_three_days_and_no_longer():
    # It has cost nothing since: that is known as far as the others are.
    assert known_up_to({"a": every_day(40), "b": every_day(40, NEWEST - DAY * 4)}) == {"a": NEWEST, "b": NEWEST}


def test_a_new_account_is_waited_for_from_its_second_week_on():
    assert known_up_to({"a": every_day(40), "b": every_day(6, NEWEST - DAY)})["b"] == NEWEST
    assert known_up_to({"a": every_day(40), "b": every_day(7, NEWEST - DAY)})["b"] == NEWEST - DAY


def test_nobody_waits_for_the_days_that_an_account_that_bills_monthly_or_weekly_does_not_have():
    for today in every_day(31):
        monthly = {day for day in every_day(120, today) if day.day == 1}
        weekly = {day for day in every_day(120, today) if day.weekday() == 0}
        assert known_up_to({"a": every_day(40, today), "monthly": monthly})["monthly"] == today
        # Of a Monday it is waited for: it may be late.
        assert known_up_to({"a": every_day(40, today), "weekly": weekly})["weekly"] == today


def test_an_account_that_rests_at_weekends_is_not_late_on_sunday_and_late_on_monday():
    worked = {day for day in every_day(40) if day.weekday() < 5}
    sunday, monday = NEWEST + 2 * DAY, NEWEST + 3 * DAY
    assert known_up_to({"a": every_day(40, sunday), "b": worked})["b"] == sunday
    assert known_up_to({"a": every_day(40, monday), "b": worked})["b"] == sunday


def test_a_day_without_charges_before_the_newest_one_cost_nothing():
    assert known_up_to({"a": every_day(40), "b": every_day(40) - {NEWEST - DAY}})["b"] == NEWEST


def test_one_account_alone_is_known_up_to_its_newest_day_and_none_to_none():
    assert known_up_to({"a": every_day(40, NEWEST)}) == {"a": NEWEST}
    assert known_up_to({"a": {NEWEST - 30 * DAY}}) == {"a": NEWEST - 30 * DAY}
    assert known_up_to({"a": set()}) == known_up_to({}) == {}


days = st.sets(st.integers(0, 60).map(lambda back: NEWEST - DAY * back))
accounts = st.dictionaries(st.sampled_from("abcd"), days)


@given(accounts)
def test_everything_is_known_up_to_the_newest_day_or_at_most_three_days_before(found):
    known = known_up_to(found)
    assert known.keys() == {account for account, days in found.items() if days}
    newest = max((day for days in found.values() for day in days), default=None)
    assert all(newest - DAY * LATE_DAYS <= day <= newest for day in known.values())


@given(accounts, st.randoms())
def test_the_order_of_accounts_changes_nothing_and_no_account_is_judged_by_another_but_by_the_newest_day(found, chance):
    names = list(found)
    chance.shuffle(names)
    known = known_up_to(found)
    assert known == known_up_to({name: found[name] for name in names})
    newest = {"newest": {max((day for days in found.values() for day in days), default=NEWEST)}}
    for name, day in known.items():
        assert known_up_to({name: found[name]} | newest)[name] == day


@given(accounts)
def test_a_day_that_arrives_takes_nothing_back(found):
    # What was known with a hole in it is known at least as far when the hole is filled.
    known = known_up_to(found)
    newest = max(known.values(), default=NEWEST)
    for name in known:
        filled = {**found, name: found[name] | {newest - DAY * back for back in range(LATE_DAYS + 1)}}
        assert known_up_to(filled)[name] >= known[name]
