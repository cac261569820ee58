"""Two replicas on one PostgreSQL: nothing is counted twice, nothing is missed, and nobody waits in a circle."""

from concurrent.futures import ThreadPoolExecutor
from zoneinfo import ZoneInfo

import msgspec
import psycopg
import pytest
from sqlalchemy import select

from costwarden.ledger.budgets import BudgetRow, changes_since, newest_change, put_budget, resume_tenant, suspend_tenant
from costwarden.ledger.figures import cost_since, events_since, sums_since
from costwarden.ledger.locks import BUDGETS_LOCK
from costwarden.ledger.partitions import make_partitions
from costwarden.ledger.queries import usage_event
from costwarden.ledger.schema import usage
from costwarden.ledger.usage import append_usage, identified, known_events, spend_between, usage_cursor, usage_since, usage_sums
from costwarden.metrics.windows import MonthSpend, TrailingWindows
from costwarden.model import DIMENSIONS, Usage

DATABASES = ("postgresql",)

NOON = 1_763_208_000_000_000
SECOND = 1_000_000
ANYONE = ("",) * len(DIMENSIONS)


def events(*named):
    rows = [msgspec.structs.astuple(Usage(**{"source": "test", "timestamp": NOON, "tenant_id": "acme", **one})) for one in named]
    return lambda connection: append_usage(connection, rows)


def seen(ledger, cursor):
    with ledger.read() as connection:
        return usage_cursor(connection), [row[-1] for row in usage_since(connection, ("tenant_id",), cursor)]


def test_what_begins_first_and_commits_last_is_neither_missed_nor_told_twice(ledger, second, beside):
    cursor, _ = seen(ledger, "1:1:")
    with beside(second, events({"event_id": "slow", "cost": 1})):
        # Its sequence number is the higher one, and its commit comes first.
        ledger.write(events({"event_id": "quick", "cost": 2, "tenant_id": "umbrella"}))
        cursor, between = seen(ledger, cursor)
        assert between == [2]
        cursor, between = seen(ledger, cursor)
        assert between == []
    cursor, between = seen(ledger, cursor)
    assert between == [1]
    assert seen(ledger, cursor)[1] == []


def test_the_sums_of_the_page_go_on_where_they_stopped_whatever_the_order_of_commits(ledger, second, beside):
    windows, month = TrailingWindows(), MonthSpend(ZoneInfo("UTC"))

    def advance(now):
        with ledger.read() as connection:
            windows.advance(connection, now)
            month.advance(connection, now)
        return sum(windows.sums["1h"].values()), month.cost

    assert advance(NOON) == (0, 0)
    with beside(second, events({"event_id": "slow", "cost": 1, "timestamp": NOON - SECOND})):
        ledger.write(events({"event_id": "quick", "cost": 2, "timestamp": NOON - SECOND, "tenant_id": "umbrella"}))
        assert advance(NOON + SECOND) == (2, 2)
        assert advance(NOON + 2 * SECOND) == (2, 2)
    assert advance(NOON + 3 * SECOND) == (1 + 2, 1 + 2)
    assert advance(NOON + 4 * SECOND) == (1 + 2, 1 + 2)


def test_every_question_since_a_moment_has_the_same_answer(ledger):
    ledger.write(events({"event_id": "before", "cost": 1}))
    with ledger.read() as connection:
        cursor = usage_cursor(connection)
    ledger.write(
        events({"event_id": "a", "cost": 2, "success": False}, {"event_id": "b", "cost": 4, "priced_by": "unpriced", "requests": 3})
    )
    with ledger.read() as connection:
        sums = sums_since(connection, ("tenant_id",), cursor)
        assert cost_since(connection, cursor, NOON, NOON + 1) == 2 + 4
        assert cost_since(connection, cursor, NOON + 1, NOON + 2) == 0
        assert sorted(events_since(connection, ("tenant_id",), cursor, NOON + 1)) == [(NOON, "acme", 2), (NOON, "acme", 4)]
        everything = usage_sums(connection, ("tenant_id",))
    found = {(row["success"], row["priced"]): (row["cost"], row["requests"]) for row in sums}
    assert found == {(0, 1): (2, 1), (1, 0): (4, 3)}
    assert {type(value) for row in [*sums, *everything] for value in row.values()} == {int, str}


def test_a_reader_sees_one_moment_in_all_of_its_statements(ledger, second):
    with ledger.read() as connection:
        cursor = usage_cursor(connection)
        second.write(events({"event_id": "a", "cost": 1}))
        assert usage_since(connection, ("tenant_id",), cursor) == []
        assert usage_sums(connection, ()) == []
        assert usage_cursor(connection) == cursor
    assert seen(ledger, cursor)[1] == [1]


def test_an_event_that_another_replica_has_recorded_is_a_unique_violation(ledger, second):
    ledger.write(events({"event_id": "a", "cost": 1}))
    with second.read() as connection:
        assert known_events(connection, [("test", "a"), ("test", "b"), ("tes", "ta")]) == {("test", "a"): 1}

    def again(connection):
        with pytest.raises(psycopg.errors.UniqueViolation):
            events({"event_id": "b", "cost": 2}, {"event_id": "a", "cost": 2})(connection)
        raise RuntimeError("rolled back")

    with pytest.raises(RuntimeError, match="rolled back"):
        second.write(again)
    with ledger.read() as connection:
        assert spend_between(connection, ANYONE, 0, 1 << 60).cost == 1


def test_names_longer_than_an_index_can_hold_are_counted_each_by_itself(ledger):
    # 256 characters of four bytes in each of nine dimensions, and no two alike: nothing to compress.
    names = {
        name: "".join(chr(0x10000 + (position * 7919 + index * 104_729) % 0xF0000) for position in range(256))
        for index, name in enumerate(DIMENSIONS)
    }
    other = {**names, "service": names["service"][:-1] + "x"}
    for event_id in ("a", "b"):
        ledger.write(events({**names, "event_id": event_id * 600, "cost": 1}, {**other, "event_id": event_id * 599, "cost": 2}))
    with ledger.read() as connection:
        assert sorted(row["cost"] for row in usage_sums(connection, DIMENSIONS)) == [1 + 1, 2 + 2]
        assert spend_between(connection, tuple(names.values()), NOON - 1, NOON + 3600 * SECOND).cost == 2


def test_an_event_is_looked_for_in_its_own_month(ledger):
    ledger.write(lambda connection: make_partitions(connection, NOON))
    ledger.write(events({"event_id": "a", "cost": 1}, {"event_id": "b", "cost": 2, "timestamp": NOON - 30 * 86_400 * SECOND}))
    with ledger.read() as connection:
        assert usage_event(connection, "test", "b")["cost"] == 2
        assert usage_event(connection, "test", "c") is None
        query = select(usage.c.cost).where(identified(connection, "test", "b")).compile(connection, compile_kwargs={"literal_binds": True})
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {query}").scalars())
    assert ("usage_2025_10" in plan, "usage_2025_11" in plan) == (True, False)


def test_many_that_record_the_same_tenants_at_once_all_come_through(ledger, second):
    tenants = [f"tenant {number}" for number in range(20)]

    def write(at, name, order):
        for turn in range(10):
            at.write(events(*({"event_id": f"{name} {turn} {tenant}", "tenant_id": tenant, "cost": 1} for tenant in order)))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write, ledger, "a", tenants), pool.submit(write, second, "b", tenants[::-1])]:
            done.result(60)
    with ledger.read() as connection:
        assert {row["tenant_id"]: row["cost"] for row in usage_sums(connection, ("tenant_id",))} == dict.fromkeys(tenants, 2 * 10)


# --- budgets -------------------------------------------------------------------------------------------------------------------

BUDGET = BudgetRow(
    budget="tenant_id=acme/month",
    scope=("acme", *ANYONE[1:]),
    period="month",
    limit=10,
    soft_limit_ratio="0.8",
    thresholds=("0.8", "1"),
    action="",
    origin="api",
)


def test_sql_by_hand_waits_for_the_groups_and_they_for_it(ledger, second, beside, waiting):
    def decide(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock_shared({BUDGETS_LOCK})")

    ledger.write(lambda connection: put_budget(connection, BUDGET, 0, 100, 1))
    by_hand = "UPDATE budgets SET limit_nanos = 20"
    with ThreadPoolExecutor(1) as pool:
        with beside(second, decide):
            changed = pool.submit(ledger.write, lambda connection: connection.exec_driver_sql(by_hand))
            waiting(second, 1)
            assert not changed.done()
        changed.result(60)


def test_changes_come_in_the_order_of_commits(ledger, second, beside, waiting):
    with ledger.read() as connection:
        newest = newest_change(connection)
    with ThreadPoolExecutor(1) as pool:
        with beside(second, lambda connection: suspend_tenant(connection, "acme", reason="", actor="", run_id="", now=1)):
            late = pool.submit(ledger.write, lambda connection: put_budget(connection, BUDGET, 0, 100, 1))
            waiting(second, 1)
            with ledger.read() as connection:
                assert newest_change(connection) == newest
        late.result(60)
    with ledger.read() as connection:
        assert sorted(changes_since(connection, newest)) == [("budget", BUDGET.budget), ("tenant", "acme")]
    assert ledger.write(lambda connection: resume_tenant(connection, "acme"))
