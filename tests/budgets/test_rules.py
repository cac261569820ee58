"""Where periods begin and end, which scopes match, what a share of a limit is."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from costwarden.budgets.rules import (
    FOREVER,
    Budget,
    ScopeIndex,
    budget_name,
    describe_scope,
    period_bounds,
    share,
    thresholds_reached,
)
from costwarden.model import DIMENSIONS, from_micros, to_micros

HOUR = 3_600_000_000


def scope(**named):
    return tuple(named.get(dimension, "") for dimension in DIMENSIONS)


def micros(text):
    return to_micros(datetime.fromisoformat(text))


def bounds(period, at, zone="UTC"):
    """In local time, for people to read."""
    start, end = period_bounds(period, micros(at), ZoneInfo(zone))
    return tuple(from_micros(edge).astimezone(ZoneInfo(zone)).isoformat() for edge in (start, end))


def hours(period, at, zone):
    start, end = period_bounds(period, micros(at), ZoneInfo(zone))
    return (end - start) / HOUR


# --- periods -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("hour", "2025-11-15T12:00:00+00:00", "2025-11-15T13:00:00+00:00"),
        ("day", "2025-11-15T00:00:00+00:00", "2025-11-16T00:00:00+00:00"),
        ("week", "2025-11-10T00:00:00+00:00", "2025-11-17T00:00:00+00:00"),
        ("month", "2025-11-01T00:00:00+00:00", "2025-12-01T00:00:00+00:00"),
    ],
)
def test_a_period_holds_its_first_microsecond_and_not_its_last(period, start, end):
    assert bounds(period, "2025-11-15T12:34:56.789012+00:00") == (start, end)
    assert bounds(period, start) == (start, end)
    before_the_end = from_micros(micros(end) - 1).isoformat()
    assert bounds(period, before_the_end) == (start, end)
    assert bounds(period, end)[0] == end


def test_a_total_begins_with_time_and_never_ends():
    assert period_bounds("total", micros("2025-11-15T12:00:00+00:00"), ZoneInfo("Europe/Berlin")) == (0, FOREVER)
    assert from_micros(FOREVER) == datetime(9999, 12, 31, tzinfo=UTC)


def test_an_unknown_period_is_an_error():
    with pytest.raises(ValueError, match="unknown period `fortnight`"):
        period_bounds("fortnight", 0, ZoneInfo("UTC"))


def test_months_are_as_long_as_the_calendar_says():
    assert hours("month", "2024-02-10T12:00:00+00:00", "UTC") == 29 * 24
    assert hours("month", "2025-02-10T12:00:00+00:00", "UTC") == 28 * 24
    assert hours("month", "2025-12-31T23:59:59+00:00", "UTC") == 31 * 24
    # March has the hour less, October the hour more.
    assert hours("month", "2025-03-10T12:00:00+00:00", "Europe/Berlin") == 31 * 24 - 1
    assert hours("month", "2025-10-10T12:00:00+00:00", "Europe/Berlin") == 31 * 24 + 1


def test_a_month_begins_at_midnight_of_the_budgets_zone():
    # Half past eleven of Halloween in London is half past twelve of All Saints' in Berlin.
    assert bounds("month", "2025-10-31T23:30:00+00:00", "Europe/Berlin") == ("2025-11-01T00:00:00+01:00", "2025-12-01T00:00:00+01:00")
    assert bounds("month", "2025-10-31T23:30:00+00:00") == ("2025-10-01T00:00:00+00:00", "2025-11-01T00:00:00+00:00")


def test_a_week_begins_on_monday_also_across_the_turn_of_the_year():
    assert bounds("week", "2026-01-01T12:00:00+00:00") == ("2025-12-29T00:00:00+00:00", "2026-01-05T00:00:00+00:00")
    assert bounds("week", "2025-12-29T00:00:00+00:00")[0] == "2025-12-29T00:00:00+00:00"
    assert bounds("week", "2025-12-28T23:59:59+00:00")[0] == "2025-12-22T00:00:00+00:00"


def test_the_day_of_the_clock_change_has_23_or_25_hours():
    assert bounds("day", "2025-03-30T12:00:00+02:00", "Europe/Berlin") == ("2025-03-30T00:00:00+01:00", "2025-03-31T00:00:00+02:00")
    assert hours("day", "2025-03-30T12:00:00+02:00", "Europe/Berlin") == 23
    assert hours("day", "2025-10-26T12:00:00+01:00", "Europe/Berlin") == 25
    assert hours("week", "2025-03-30T12:00:00+02:00", "Europe/Berlin") == 7 * 24 - 1


def test_the_repeated_hour_of_autumn_is_two_hours():
    # 2:30 twice: first in summer time, then in winter time.
    first = bounds("hour", "2025-10-26T02:30:00+02:00", "Europe/Berlin")
    second = bounds("hour", "2025-10-26T02:30:00+01:00", "Europe/Berlin")
    assert first == ("2025-10-26T02:00:00+02:00", "2025-10-26T02:00:00+01:00")
    assert second == ("2025-10-26T02:00:00+01:00", "2025-10-26T03:00:00+01:00")


def test_an_hour_begins_where_the_clock_of_a_half_hour_zone_shows_it():
    assert bounds("hour", "2025-11-15T12:29:59+00:00", "Asia/Kolkata") == ("2025-11-15T17:00:00+05:30", "2025-11-15T18:00:00+05:30")
    assert bounds("hour", "2025-11-15T12:30:00+00:00", "Asia/Kolkata") == ("2025-11-15T18:00:00+05:30", "2025-11-15T19:00:00+05:30")
    assert bounds("hour", "2025-11-15T12:20:00+00:00", "Asia/Kathmandu")[0] == "2025-11-15T18:00:00+05:45"


def test_a_day_whose_midnight_does_not_exist_begins_with_its_first_moment():
    # In Santiago the clocks of 2025-09-07 go from 24:00 to 01:00.
    assert bounds("day", "2025-09-07T12:00:00-03:00", "America/Santiago") == ("2025-09-07T01:00:00-03:00", "2025-09-08T00:00:00-03:00")
    assert hours("day", "2025-09-07T12:00:00-03:00", "America/Santiago") == 23


ZONES = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",  # winter is the exception there
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",  # changes at midnight
    "America/Havana",  # midnight twice
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Africa/Casablanca",  # summer time but for Ramadan
    "Africa/Cairo",
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Chatham",
    "Pacific/Kiritimati",
]


@given(
    period=st.sampled_from(["hour", "day", "week", "month"]),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    at=st.integers(micros("2020-01-01T00:00:00+00:00"), micros("2036-01-01T00:00:00+00:00")),
)
# Half past one comes twice at Lord Howe on 2025-04-06.
@example("hour", ZoneInfo("Australia/Lord_Howe"), micros("2025-04-06T01:45:00+11:00"))
@example("hour", ZoneInfo("Australia/Lord_Howe"), micros("2025-04-06T01:45:00+10:30"))
@example("hour", ZoneInfo("Australia/Lord_Howe"), micros("2025-10-05T02:40:00+11:00"))
@example("day", ZoneInfo("America/Havana"), micros("2025-11-02T00:30:00-04:00"))
@example("day", ZoneInfo("America/Havana"), micros("2025-11-02T00:30:00-05:00"))
@example("day", ZoneInfo("Africa/Cairo"), micros("2025-10-30T23:30:00+02:00"))
def test_every_moment_belongs_to_one_period_and_periods_follow_each_other(period, zone, at):
    start, end = period_bounds(period, at, zone)
    assert start <= at < end
    assert period_bounds(period, start, zone) == (start, end)
    assert period_bounds(period, end - 1, zone) == (start, end)
    assert period_bounds(period, end, zone)[0] == end
    assert period_bounds(period, start - 1, zone)[1] == start
    if period == "hour":
        assert end - start == HOUR


# --- scopes --------------------------------------------------------------------------------------------------------------------


def test_a_name_tells_the_scope_and_the_period():
    assert budget_name(scope(tenant_id="acme", model="gpt-4o"), "month") == "tenant_id=acme,model=gpt-4o/month"
    assert budget_name(scope(), "day") == "global/day"


NAMES = st.text(st.sampled_from("a,=/%2C"), max_size=6)


@given(st.tuples(*[NAMES] * len(DIMENSIONS)), st.tuples(*[NAMES] * len(DIMENSIONS)))
@example(scope(tenant_id="acme,model=m"), scope(tenant_id="acme", model="m"))
def test_no_two_scopes_share_a_name(one, other):
    assert (budget_name(one, "month") == budget_name(other, "month")) == (one == other)


VALUES = st.sampled_from(["", "a", "b"])
SCOPES = st.tuples(*[VALUES] * len(DIMENSIONS))


@given(st.lists(SCOPES, max_size=30), st.lists(st.integers(0, 29), max_size=10), SCOPES)
def test_the_index_finds_what_comparing_every_scope_finds(filed, removed, dimensions):
    index = ScopeIndex()
    for number, of in enumerate(filed):
        index.add(of, number)
    gone = {number for number in removed if number < len(filed)}
    for number in gone:
        index.remove(filed[number], number)
    expected = [
        number
        for number, of in enumerate(filed)
        if number not in gone and all(wanted in ("", value) for wanted, value in zip(of, dimensions, strict=True))
    ]
    assert sorted(index.matching(dimensions)) == expected


def test_a_scope_is_described_by_what_it_names():
    assert describe_scope(scope(tenant_id="acme", user_id="u1")) == {"tenant_id": "acme", "user_id": "u1"}


# --- shares --------------------------------------------------------------------------------------------------------------------


def budget(limit, *thresholds):
    return Budget(
        budget="b",
        scope=scope(),
        period="month",
        limit=limit,
        soft_limit_ratio=Decimal("0.8"),
        thresholds=tuple(map(Decimal, thresholds)),
        action="",
        origin="api",
    )


def test_a_share_is_rounded_up_to_whole_nano_dollars():
    assert share(10, Decimal("0.8")) == 8
    assert share(11, Decimal("0.8")) == 9  # 8.8
    assert share(1, Decimal("0.5")) == 1
    assert budget(101).soft_limit == 81  # 80.8


def test_a_threshold_is_reached_at_it_and_not_below():
    limits = budget(1000, "0.5", "0.8", "1", "1.2")
    assert list(thresholds_reached(limits, 499)) == []
    assert list(thresholds_reached(limits, 500)) == [Decimal("0.5")]
    assert list(thresholds_reached(limits, 1000)) == [Decimal("0.5"), Decimal("0.8"), Decimal(1)]
    assert list(thresholds_reached(limits, 10**18))[-1] == Decimal("1.2")
