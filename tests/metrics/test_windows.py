"""Trailing windows and the month equal, to the nano-dollar, what reading all history again would give."""

from collections import defaultdict
from contextlib import contextmanager
from itertools import count
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st

from costwarden.ledger.schema import METADATA
from costwarden.ledger.usage import append_usage
from costwarden.metrics.windows import WINDOWS, MonthSpend, TrailingWindows
from costwarden.model import Usage, from_micros

HOUR = 3_600_000_000
DAY = 24 * HOUR
# 2025-11-15 12:20 UTC: neither on an hour nor at the beginning of a month.
NOW = 1_763_209_200_000_000


@contextmanager
def history():
    """`record(*(timestamp, tenant, cost))` and the connection that it records through."""
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.StaticPool)
    METADATA.create_all(engine)
    numbers = count()
    with engine.connect() as connection:

        def record(*events):
            rows = [
                Usage(
                    source="test",
                    event_id=str(next(numbers)),
                    timestamp=timestamp,
                    tenant_id=tenant,
                    provider="openai",
                    model="m",
                    cost=cost,
                )
                for timestamp, tenant, cost in events
            ]
            append_usage(connection, [msgspec.structs.astuple(row) for row in rows])

        yield record, connection
    engine.dispose()


@pytest.fixture
def ledger():
    with history() as opened:
        yield opened


def windows_of(events, now):
    """What the windows must be, from all events."""
    sums = {name: defaultdict(int) for name in WINDOWS}
    for timestamp, tenant, cost in events:
        for name, length in WINDOWS.items():
            if now - length <= timestamp < now:
                sums[name][tenant, "openai", "m"] += cost
    return {name: {labels: cost for labels, cost in by_labels.items() if cost} for name, by_labels in sums.items()}


def test_an_event_leaves_each_window_when_it_is_as_old_as_the_window(ledger):
    record, connection = ledger
    record((NOW, "acme", 5))
    windows = TrailingWindows()
    for age, names in [
        (0, ()),  # the end of a window is not part of it
        (1, ("1h", "1d", "7d", "30d")),
        (HOUR, ("1h", "1d", "7d", "30d")),  # the beginning is
        (HOUR + 1, ("1d", "7d", "30d")),
        (DAY + 1, ("7d", "30d")),
        (7 * DAY + 1, ("30d",)),
        (30 * DAY + 1, ()),
    ]:
        windows.advance(connection, NOW + age)
        assert [name for name, sums in windows.sums.items() if sums] == list(names), age


def test_an_event_that_is_reported_late_counts_from_the_next_rendering_on(ledger):
    record, connection = ledger
    windows = TrailingWindows()
    windows.advance(connection, NOW)
    record((NOW - 2 * HOUR, "acme", 5))
    windows.advance(connection, NOW + 1)
    assert windows.sums["1h"] == {}
    assert windows.sums["1d"] == {("acme", "openai", "m"): 5}


def test_an_event_of_the_future_counts_when_its_time_has_come(ledger):
    record, connection = ledger
    windows = TrailingWindows()
    windows.advance(connection, NOW)
    record((NOW + 10, "acme", 5))
    windows.advance(connection, NOW + 10)
    assert windows.sums["1h"] == {}
    windows.advance(connection, NOW + 11)
    assert windows.sums["1h"] == {("acme", "openai", "m"): 5}


def test_a_failed_read_changes_nothing_and_the_next_one_makes_up_for_it(ledger):
    record, connection = ledger
    windows = TrailingWindows()
    windows.advance(connection, NOW)
    record((NOW - 1, "acme", 5))
    connection.exec_driver_sql("ALTER TABLE usage RENAME TO usage_away")
    with pytest.raises(sqlalchemy.exc.OperationalError):
        windows.advance(connection, NOW + 1)
    connection.exec_driver_sql("ALTER TABLE usage_away RENAME TO usage")
    windows.advance(connection, NOW + 1)
    assert windows.sums["1h"] == {("acme", "openai", "m"): 5}


# Edges of windows and hours are where a mistake would be.
offsets = st.one_of(
    st.integers(-31 * DAY, 2 * HOUR),
    st.tuples(st.sampled_from([0, *WINDOWS.values()]), st.integers(-2, 2)).map(lambda pair: pair[1] - pair[0]),
    st.integers(-26, 2).map(lambda hours: hours * HOUR - NOW % HOUR),
)
events = st.lists(st.tuples(offsets, st.sampled_from(["acme", "globex"]), st.integers(-100, 1_000)), max_size=4)
steps = st.one_of(st.integers(0, 10), st.integers(0, 3 * HOUR), st.integers(0, 8 * DAY), st.just(HOUR), st.integers(-5, -1))


@settings(max_examples=150)
@given(st.lists(st.tuples(steps, events), max_size=8))
def test_the_windows_equal_a_sum_over_all_history_at_every_moment(script):
    with history() as (record, connection):
        windows = TrailingWindows()
        recorded = []
        now = NOW
        for step, offered in script:
            now += step
            new = [(now + offset, tenant, cost) for offset, tenant, cost in offered]
            record(*new)
            recorded += new
            windows.advance(connection, now)
            assert windows.sums == windows_of(recorded, now)


def month_of(events, now, zone):
    def month(micros):
        local = from_micros(micros).astimezone(zone)
        return local.year, local.month

    return sum(cost for timestamp, _, cost in events if month(timestamp) == month(now))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 20 * DAY), events), max_size=8), st.sampled_from(["UTC", "Asia/Kolkata", "America/New_York"]))
def test_the_month_equals_a_sum_over_all_history_at_every_moment(script, zone_name):
    zone = ZoneInfo(zone_name)
    with history() as (record, connection):
        spend = MonthSpend(zone)
        recorded = []
        now = NOW
        for step, offered in script:
            now += step
            new = [(now + offset, tenant, cost) for offset, tenant, cost in offered]
            record(*new)
            recorded += new
            spend.advance(connection, now)
            assert spend.cost == month_of(recorded, now, zone)
