"""Usage in PostgreSQL lies in partitions by month, made before they are needed; nothing is lost where one is missing."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import pytest
from structlog.testing import capture_logs

from costwarden.ledger import Ledger
from costwarden.ledger.partitions import make_partitions
from costwarden.ledger.usage import append_usage, known_events, spend_between, usage_cursor, usage_since
from costwarden.model import DIMENSIONS, Usage, to_micros

DATABASES = ("postgresql",)

NOW = to_micros(datetime(2025, 12, 31, 23, 59, tzinfo=UTC))
AROUND = ["usage_2025_11", "usage_2025_12", "usage_2026_01", "usage_2026_02"]
"""The month before, this one, and two ahead."""


def make(ledger, now=NOW):
    return ledger.write(lambda connection: make_partitions(connection, now))


def add(ledger, *times):
    events = [Usage(source="test", event_id=str(at), timestamp=to_micros(at), cost=1) for at in times]
    ledger.write(lambda connection: append_usage(connection, [msgspec.structs.astuple(event) for event in events]))


def held(ledger):
    """Partition -> rows, those that have any."""
    with ledger.read() as connection:
        rows = connection.exec_driver_sql("SELECT tableoid::regclass::text, count(*) FROM usage GROUP BY 1")
        return dict(tuple(row) for row in rows)


def of(ledger, start, end):
    with ledger.read() as connection:
        return spend_between(connection, ("",) * len(DIMENSIONS), to_micros(start), to_micros(end)).requests


def test_the_months_around_now_are_made_once(ledger):
    assert make(ledger) == AROUND
    assert make(ledger) == []
    assert make(ledger, NOW + 60_000_000) == ["usage_2026_03"]


def test_each_event_goes_to_its_month_to_the_microsecond(ledger):
    make(ledger)
    edge = datetime(2026, 1, 1, tzinfo=UTC)
    add(ledger, datetime(2025, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), edge, datetime(2025, 11, 1, tzinfo=UTC))
    assert held(ledger) == {"usage_2025_11": 1, "usage_2025_12": 1, "usage_2026_01": 1}
    assert of(ledger, datetime(2025, 11, 1, tzinfo=UTC), edge) == 2


def test_what_has_no_partition_is_kept_all_the_same_and_moves_once_it_has_one(ledger):
    add(ledger, datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC))
    assert held(ledger) == {"usage_other": 3}
    with ledger.read() as connection:
        cursor = usage_cursor(connection)
    assert make(ledger) == AROUND
    assert held(ledger) == {"usage_2026_01": 2, "usage_other": 1}
    assert of(ledger, datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)) == 2
    with ledger.read() as connection:
        # It was moved, and not recorded again.
        assert usage_since(connection, (), cursor) == []
        assert len(usage_since(connection, (), "1:1:")) == 3
        assert known_events(connection, [("test", str(datetime(2026, 1, 5, tzinfo=UTC)))]) != {}


def test_replicas_that_make_them_at_once_make_each_once(ledger, second):
    together = threading.Barrier(2)

    def at_once(one):
        together.wait(60)
        return make(one)

    with ThreadPoolExecutor(2) as pool:
        made = [future.result(60) for future in [pool.submit(at_once, ledger), pool.submit(at_once, second)]]
    assert sorted(made) == [[], AROUND]


def test_a_partition_that_cannot_be_had_now_is_left_for_the_next_time(ledger, second, beside):
    with (
        beside(second, lambda connection: connection.exec_driver_sql("LOCK TABLE usage_other IN ROW EXCLUSIVE MODE")),
        capture_logs() as logs,
    ):
        assert make(ledger) == []
    # The others would have to wait as long.
    assert [(entry["event"], entry["partition"]) for entry in logs] == [("partition not made", AROUND[0])]
    assert make(ledger) == AROUND


@pytest.mark.parametrize("writes_on", ["before", "after"])
def test_writing_goes_on_while_a_partition_is_made(ledger, second, beside, writes_on):
    make(ledger)
    month = datetime(2025, 12, 5, tzinfo=UTC)
    if writes_on == "before":
        with beside(second, lambda connection: append_one(connection, month)):
            assert make(ledger, NOW + 60_000_000) == ["usage_2026_03"]
    else:
        with beside(second, lambda connection: make_partitions(connection, NOW + 60_000_000)):
            add(ledger, month)
    assert held(ledger) == {"usage_2025_12": 1}


def append_one(connection, at):
    append_usage(connection, [msgspec.structs.astuple(Usage(source="test", event_id="one", timestamp=to_micros(at)))])


def test_a_month_that_a_person_drops_is_gone_and_its_sums_stay(ledger):
    make(ledger)
    add(ledger, datetime(2025, 11, 5, tzinfo=UTC), datetime(2025, 12, 5, tzinfo=UTC))
    ledger.write(lambda connection: connection.exec_driver_sql("DROP TABLE usage_2025_11"))
    assert held(ledger) == {"usage_2025_12": 1}
    assert of(ledger, datetime(2025, 11, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)) == 2
    assert make(ledger) == ["usage_2025_11"]


def test_rows_of_a_restored_dump_are_old_ones(ledger):
    add(ledger, datetime(2025, 12, 5, tzinfo=UTC))
    # As a dump of a database says that has seen more transactions than this one.
    ahead = "UPDATE usage SET recorded_xid = (pg_current_xact_id()::text::bigint + 1000000)::text::xid8"
    ledger.write(lambda connection: connection.exec_driver_sql(ahead))
    for _ in range(2):
        with ledger.read() as connection:
            cursor = usage_cursor(connection)
            assert usage_since(connection, (), cursor) == []
        make(ledger)
    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT recorded_xid::text FROM usage").scalar_one() == "3"
        assert usage_since(connection, (), cursor) == []
    add(ledger, datetime(2025, 12, 6, tzinfo=UTC))
    with ledger.read() as connection:
        assert len(usage_since(connection, (), cursor)) == 1


def test_sqlite_has_none(empty_ledger, tmp_path):
    (tmp_path / "costwarden.db").write_bytes(empty_ledger.read_bytes())
    ledger = Ledger(f"sqlite:///{tmp_path / 'costwarden.db'}")
    assert make(ledger) == []
    ledger.close()
