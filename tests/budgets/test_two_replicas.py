"""Two engines on one PostgreSQL database: what one does while the other is in the middle of something."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import delete
from structlog.testing import capture_logs

from costwarden.budgets.store import new_budget
from costwarden.ledger import LedgerUnavailable
from costwarden.ledger.budgets import hold_periods, make_periods, read_periods, write_periods
from costwarden.ledger.schema import budget_periods
from costwarden.model import to_nanos

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def usd(*amounts):
    return tuple(to_nanos(amount) for amount in amounts)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(max_workers=16) as callers:
        yield callers


@pytest.fixture
def holding(pool, wait_until):
    """`with holding(desk): …` lets a group of `desk` end only after the block; what it does first is `work()`, inside the group."""

    @contextmanager
    def hold(desk, argument, work):
        reached, free = threading.Event(), threading.Event()

        def step(value):
            answer = work(value)
            desk.engine.flush(desk.engine._connection)
            reached.set()
            assert free.wait(60)
            return answer

        answer = pool.submit(desk.ledger.writer.step_blocking, step, argument)
        assert reached.wait(60)
        try:
            yield answer
        finally:
            free.set()
            answer.result(timeout=60)

    return hold


def waits_for_a_lock(desk):
    """Whether some session of the database waits for another one."""
    with desk.ledger.read() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return connection.exec_driver_sql(query).scalar_one() > 0


def test_the_same_check_at_two_replicas_at_once_sets_money_aside_once(desk, beside, pool, holding, wait_until):
    budget = desk.put("1.00", tenant_id="acme")
    other = beside()
    other.check("0.01", tenant_id="nobody")
    with holding(desk, desk.wish("0.30", event_id="e1"), desk.engine.reserve) as first:
        second = pool.submit(other.check, "0.30", event_id="e1")
        wait_until(lambda: waits_for_a_lock(desk))
    assert second.result(timeout=60) == first.result()
    assert desk.status(budget) == usd("0", "0.30", "0")


def test_usage_that_overtakes_its_own_check_settles_it(desk, beside, pool, holding, wait_until):
    budget = desk.put("1.00", tenant_id="acme")
    other = beside()
    with holding(desk, desk.wish("0.30", event_id="e1"), desk.engine.reserve) as first:
        second = pool.submit(other.track, "0.20", event_id="e1")
        wait_until(lambda: waits_for_a_lock(desk))
    assert second.result(timeout=60).reservation_id == first.result().reservation_id
    assert desk.status(budget) == usd("0.20", "0", "0")


def test_the_same_usage_at_two_replicas_at_once_is_recorded_once(desk, beside, pool, holding, wait_until):
    desk.settings = desk.settings.model_copy(update={"unbudgeted": "allow"})
    other = beside()
    # No budget makes one wait for the other: the identity of the event does.
    with holding(desk, desk.call("0.30", event_id="e1"), desk.engine.settle) as first:
        second = pool.submit(other.track, "0.99", event_id="e1")
        wait_until(lambda: waits_for_a_lock(desk))
    assert not first.result().repeated
    again = second.result(timeout=60)
    assert (again.repeated, again.cost) == (True, to_nanos("0.30"))


def test_one_reservation_settled_at_two_replicas_at_once_is_settled_once(desk, beside, pool, holding, wait_until):
    budget = desk.put("1.00", tenant_id="acme")
    other = beside()
    held = desk.check("0.30").reservation_id
    with holding(desk, desk.call("0.20", reservation_id=held), desk.engine.settle):
        second = pool.submit(other.track, "0.20", reservation_id=held)
        wait_until(lambda: waits_for_a_lock(desk))
    assert second.result(timeout=60).repeated
    assert desk.status(budget) == usd("0.20", "0", "0")


def test_a_budget_waits_for_the_groups_that_run_and_counts_them(desk, beside, pool, holding, wait_until):
    desk.put("9.00")
    other = beside()
    with holding(desk, desk.call("0.70", event_id="e1"), desk.engine.settle):
        made = pool.submit(other.put, "1.00", tenant_id="acme")
        wait_until(lambda: waits_for_a_lock(desk))
    budget = made.result(timeout=60)
    assert desk.check("0.31").budget == budget
    assert desk.status(budget) == other.status(budget) == usd("0.70", "0", "0")


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_group_that_waited_for_a_change_of_budgets_decides_by_it(desk, beside, pool, wait_until, isolation):
    """However strictly the database isolates by default: a snapshot from before the wait would not show the change."""
    with desk.ledger.read() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
    desk.put("9.00")
    desk.ledger.write(
        lambda connection: connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    )
    desk.restart()
    other = beside()
    assert other.check("0.20").allowed
    reached, free = threading.Event(), threading.Event()
    low = new_budget(desk.settings, desk.wish("0", model="").dimensions, "month", to_nanos("0.50"))

    def put_slowly(connection):
        desk.engine.put(connection, low, "admin")
        reached.set()
        assert free.wait(60)

    made = pool.submit(desk.ledger.write, put_slowly)
    assert reached.wait(60)
    checked = pool.submit(other.check, "0.31")
    wait_until(lambda: waits_for_a_lock(desk))
    free.set()
    made.result(timeout=60)
    assert checked.result(timeout=60).budget == low
    assert other.check("0.30").allowed
    assert desk.status(low) == usd("0", "0.50", "0")


def test_what_one_replica_changes_holds_at_the_next_check_of_the_other(desk, beside):
    desk.put("9.00")
    other = beside()
    assert other.check("0.01").allowed
    low = desk.put("0.05", tenant_id="acme")
    assert other.check("0.06").budget == low
    desk.put("0.50", tenant_id="acme")
    assert other.check("0.06").allowed
    desk.suspend("acme")
    assert other.check("0.06").reason == "tenant_suspended"
    other.resume("acme")
    desk.suspend("")
    assert other.check("0.06").reason == "emergency_stop"
    other.resume("")
    assert desk.check("0.06").allowed
    desk.ledger.write(lambda connection: desk.engine.drop(connection, low.budget, "admin"))
    assert other.check("8.00").allowed


def test_usage_that_names_nothing_settles_a_check_that_expires_in_the_same_group(desk):
    budget = desk.put("1.00", tenant_id="acme")
    held = desk.check("0.30")
    desk.wait(seconds=600)
    engine, writer = desk.engine, desk.ledger.writer

    async def together():
        call = desk.call("0.20")
        return await asyncio.gather(writer.step(engine.expire, desk.now), writer.step(engine.settle, call))

    expired, settled = asyncio.run(together())
    assert (expired, settled.reservation_id) == (1, held.reservation_id)
    assert desk.status(budget) == usd("0.20", "0", "0")


def test_many_settlements_in_one_step_are_each_settled_once(desk):
    budget = desk.put("9.00", tenant_id="acme")
    held = [desk.check("0.30", event_id=f"e{number}").reservation_id for number in range(3)]
    calls = [desk.call("0.20", event_id=f"e{number}") for number in (0, 1, 2, 2)]

    def settle_all(given):
        return [desk.engine.settle(call) for call in given]

    answers = desk.ledger.writer.step_blocking(settle_all, calls)
    assert [answer.reservation_id for answer in answers] == [*held, ""]
    assert desk.status(budget) == usd("0.60", "0", "0")


# --- a connection that ends -------------------------------------------------------------------------------------------------------


class Saboteur:
    """Ends the session of a replica's writer right before its n-th statement from now."""

    def __init__(self, desk):
        self.desk = desk
        self.left = None
        transactions = desk.ledger.writer._transactions
        connect = transactions._connect

        def connect_and_watch():
            connection = connect()
            raw = connection.connection.driver_connection
            cursor = raw.cursor

            def watched(*arguments, **more):
                if self.left == 0:
                    with desk.ledger.read() as other:
                        other.exec_driver_sql("SELECT pg_terminate_backend(%s, 60000)", (raw.info.backend_pid,))
                if self.left is not None:
                    self.left -= 1
                return cursor(*arguments, **more)

            raw.cursor = watched
            return connection

        transactions._connect = connect_and_watch
        transactions.discard()

    @contextmanager
    def before(self, number):
        self.left = number
        try:
            yield
        finally:
            self.left = None


def test_a_connection_that_ends_before_any_statement_of_a_group_changes_nothing(desk_of, desk_class):
    """Each time another statement: the group begins with news of another replica, makes a default budget, checks, tracks and expires."""
    desk = desk_of(default={"model": "*", "monthly_limit_usd": "99"})
    other = desk_class(desk.url, desk.settings, desk.zone, owner=False)
    budget = desk.put("1000")
    saboteur = Saboteur(desk)
    engine, writer = desk.engine, desk.ledger.writer
    spent = recorded = lost = 0
    number = 0
    while True:
        desk.wait(seconds=700)
        other.now = desk.now
        tenant = f"t{number}"
        held = other.check("0.10", tenant_id="umbrella", event_id=f"held {number}")
        expiring = other.check("0.10", tenant_id="umbrella", model="n")
        assert (held.allowed, expiring.allowed) == (True, True)
        other.put(f"{500 + number}", user_id="u")
        desk.now += 700 * 1_000_000
        other.now = desk.now

        async def group(number=number, tenant=tenant):
            steps = [
                (engine.reserve, desk.wish("0.10", tenant_id=tenant, event_id="e1")),
                (engine.settle, desk.call("0.20", tenant_id="umbrella", event_id=f"held {number}")),
                (engine.settle, desk.call("0.20", tenant_id="umbrella", user_id="u", event_id=f"unchecked {number}")),
                (engine.expire, desk.now),
            ]
            return await asyncio.gather(*(writer.step(*step) for step in steps), return_exceptions=True)

        with saboteur.before(number), capture_logs():
            first = asyncio.run(group())
        refused = [isinstance(answer, LedgerUnavailable) for answer in first]
        assert refused in ([True] * 4, [False] * 4)
        lost += refused[0]
        # Those that were refused come again.
        checked, settled, unchecked, _ = asyncio.run(group())
        spent += 2 * to_nanos("0.20")
        recorded += 2
        assert checked.allowed
        assert (settled.event_id, unchecked.event_id) == (f"held {number}", f"unchecked {number}")
        assert (settled.cost, unchecked.cost) == usd("0.20", "0.20")
        # It has heard of the change that was news to the group that was lost.
        assert desk.engine._shared_book.index.budgets["user_id=u/month"].limit == to_nanos(f"{500 + number}")
        figures = desk.in_ledger()
        assert figures[budget.budget] == (spent, (number + 1) * to_nanos("0.10"), (number + 1) * to_nanos("0.10"))
        assert figures[f"tenant_id={tenant}/month"] == usd("0", "0.10", "0")
        assert desk.in_memory() == figures == other.in_memory()
        # What is set aside must not expire on the way.
        desk.release(checked.reservation_id, tenant_id=tenant)
        other.check("0.10", tenant_id=tenant, event_id="e1")
        desk.now -= 1400 * 1_000_000
        if not refused[0]:
            break
        number += 1
    other.ledger.close()
    with desk.ledger.read() as connection:
        counted = connection.exec_driver_sql("SELECT count(*), sum(cost) FROM usage").one()
    assert tuple(counted) == (recorded, spent)
    # Every statement of the group, its COMMIT as well.
    assert lost > 12


def test_a_period_that_appears_while_a_group_waits_for_another_is_not_taken_for_held(desk, pool, wait_until):
    """Else two replicas would each write their own figures over the other's."""
    first, second = desk.put("1"), desk.put("1", tenant_id="acme")
    keys = [(budget.budget, desk.statuses()[budget.budget].period_start) for budget in (first, second)]
    with desk.ledger.read() as connection:
        periods = read_periods(connection, keys)
    missing = periods[keys[1]]
    desk.ledger.write(lambda connection: connection.execute(delete(budget_periods).where(budget_periods.c.budget == second.budget)))
    engine = desk.ledger._database.engine

    def hold(connection):
        connection.exec_driver_sql("BEGIN")
        found = hold_periods(connection, keys)
        made = make_periods(connection, [(*keys[1], missing[-1])])
        again = hold_periods(connection, keys)
        connection.exec_driver_sql("ROLLBACK")
        return set(found), made, set(again)

    with engine.connect() as holder, engine.connect() as waiter:
        holder.exec_driver_sql("BEGIN")
        hold_periods(holder, keys[:1])
        answer = pool.submit(hold, waiter)
        wait_until(lambda: waits_for_a_lock(desk))
        desk.ledger.write(lambda connection: write_periods(connection, [missing]))
        holder.exec_driver_sql("COMMIT")
        assert answer.result(timeout=60) == ({keys[0]}, set(), set(keys))


# --- in each other's way ----------------------------------------------------------------------------------------------------------


def test_engines_that_lock_overlapping_budgets_in_any_order_all_get_through(desk, beside, pool):
    """Four replicas; what a track names beyond its check matches budgets that nobody had thought to lock."""
    names = {"team": ("x", "y"), "user_id": ("u", "v"), "feature": ("f", "g")}
    for period in ("hour", "month"):
        desk.put("1000", period=period)
        for dimension, values in names.items():
            for value in values:
                desk.put("1000", period=period, **{dimension: value})
        desk.put("1000", period=period, team="y", user_id="v")
        desk.put("1000", period=period, team="x", feature="f")
    replicas = [desk, *(beside() for _ in range(3))]

    def spend(number):
        replica, draw = replicas[number], random.Random(number)
        writer, engine = replica.ledger.writer, replica.engine

        async def client(name):
            for turn in range(10):
                # Other hours, in which nobody has spent yet.
                replica.now += draw.choice([0, 0, 3_600_000_000])
                named = {dimension: draw.choice((*values, "")) for dimension, values in names.items()}
                event_id = draw.choice(["", f"{number} {name} {turn}"])
                checked = await writer.step(engine.reserve, replica.wish("0.01", event_id=event_id, **named))
                more = {dimension: value or draw.choice(names[dimension]) for dimension, value in named.items()}
                by = {"event_id": event_id} if event_id else {"reservation_id": draw.choice([checked.reservation_id, ""])}
                if draw.random() < 0.2:
                    await writer.step(engine.expire, replica.now)
                await writer.step(engine.settle, replica.call("0.02", **by, **more))

        async def clients():
            await asyncio.gather(*(client(name) for name in range(16)))

        asyncio.run(clients())

    for spending in [pool.submit(spend, number) for number in range(4)]:
        spending.result(timeout=240)
    assert [replica.ledger.writer.write_errors for replica in replicas] == [0] * 4
    with desk.ledger.read() as connection:
        read = connection.exec_driver_sql
        events = read("SELECT timestamp, team, user_id, feature, cost FROM usage").fetchall()
        held = read("SELECT created_at, team, user_id, feature, state, estimate FROM reservations").fetchall()
        rows = read("SELECT budget, period_start, period_end, spent, reserved, unsettled FROM budget_periods").fetchall()
        scopes = {row[0]: row[1:] for row in read("SELECT budget, team, user_id, feature FROM budgets")}
    for budget, start, end, *figures in rows:
        ours = [row for row in events if matches(scopes[budget], row[1:4]) and start <= row[0] < end]
        kept = [row for row in held if matches(scopes[budget], row[1:4]) and start <= row[0] < end]
        states = [sum(row[5] for row in kept if row[4] == state) for state in ("open", "unsettled")]
        assert figures == [sum(row[4] for row in ours), *states]


def matches(scope, values):
    return all(wanted in ("", value) for wanted, value in zip(scope, values, strict=True))
