"""Group commit: what waits shares one transaction, nobody is answered before it is durable, and a mistake is its own caller's."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy

from costwarden.ledger import LedgerUnavailable
from costwarden.ledger.commit import GROUP_LIMIT
from costwarden.ledger.postgresql_transactions import ATTEMPTS
from costwarden.ledger.schema import suspended_tenants

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


def add(connection, tenant_id):
    connection.execute(sqlalchemy.insert(suspended_tenants).values(tenant_id=tenant_id))


def insert(tenant_id):
    return lambda connection: add(connection, tenant_id)


def tenants(ledger):
    """As another connection sees them."""
    with ledger.read() as connection:
        return sorted(connection.exec_driver_sql("SELECT tenant_id FROM suspended_tenants").scalars())


@pytest.fixture
def callers():
    with ThreadPoolExecutor(max_workers=32) as pool:
        yield pool


@pytest.fixture
def held(callers, wait_until):
    """`with held(ledger) as waiting: …; waiting(3)`: keeps the writer busy, so that what comes meanwhile is one group."""

    @contextmanager
    def hold(ledger):
        busy, free = threading.Event(), threading.Event()

        def occupy(_):
            busy.set()
            assert free.wait(60)

        callers.submit(ledger.write, occupy)
        assert busy.wait(60)
        try:
            yield lambda number: wait_until(lambda: len(ledger.writer._waiting) == number)
        finally:
            free.set()

    return hold


class Notes:
    """A participant that keeps names in memory and writes them with the group."""

    def __init__(self):
        self.begun = []
        self.given = []
        self.noted = []
        self.commits = self.rollbacks = 0
        self.flushing = lambda: None

    def begin(self, connection, *, foreign_change, arguments, alone):
        self.begun.append(foreign_change)
        self.given.append(list(arguments))
        return True

    def note(self, name):
        self.noted.append(name)
        return name.upper()

    def flush(self, connection):
        self.flushing()
        for name in self.noted:
            add(connection, name)
        self.noted = []

    def committed(self):
        self.commits += 1

    def rolled_back(self):
        self.rollbacks += 1
        self.noted = []


def test_a_caller_is_answered_once_others_can_read_what_it_wrote(ledger):
    ledger.write(insert("acme"))
    assert tenants(ledger) == ["acme"]


@on_sqlite
def test_what_waits_shares_one_transaction(ledger, callers, held):
    ledger.write(lambda _: None)
    before = ledger.writer.commits
    with held(ledger) as waiting:
        answers = [callers.submit(ledger.write, insert(f"{number:02}")) for number in range(20)]
        waiting(20)
    assert [answer.exception() for answer in answers] == [None] * 20
    assert tenants(ledger) == [f"{number:02}" for number in range(20)]
    # The one that held the writer changed nothing.
    assert ledger.writer.commits == before + 1


def test_a_group_is_bounded_so_that_its_first_caller_does_not_wait_for_ever(open_ledger, callers, held):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    names = [f"{number:04}" for number in range(2 * GROUP_LIMIT + 1)]

    async def everybody():
        return await asyncio.gather(*(ledger.writer.step(notes.note, name) for name in names))

    ledger.write(lambda _: None)
    before = ledger.writer.commits
    with held(ledger) as waiting:
        answers = callers.submit(asyncio.run, everybody())
        waiting(len(names))
    assert answers.result() == [name.upper() for name in names]
    # 512 + 512 + 1
    assert ledger.writer.commits == before + 3


def test_nobody_is_answered_before_the_commit(open_ledger, callers, wait_until):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    reached, go_on = threading.Event(), threading.Event()
    notes.flushing = lambda: (reached.set(), go_on.wait(60))
    answer = callers.submit(ledger.writer.step_blocking, notes.note, "acme")
    assert reached.wait(60)
    assert not answer.done()
    go_on.set()
    assert answer.result() == "ACME"
    assert tenants(ledger) == ["acme"]


def test_a_statement_that_fails_fails_alone_and_leaves_nothing(ledger, callers, held):
    ledger.write(insert("there"))

    def half(connection):
        add(connection, "half")
        raise LookupError("no such budget")

    with held(ledger) as waiting:
        first = callers.submit(ledger.write, insert("first"))
        waiting(1)
        failing = callers.submit(ledger.write, half)
        waiting(2)
        repeating = callers.submit(ledger.write, insert("there"))
        waiting(3)
        last = callers.submit(ledger.write, insert("last"))
        waiting(4)
    with pytest.raises(LookupError, match="no such budget"):
        failing.result()
    # On PostgreSQL it may be another replica's doing, and is tried again before its caller is told that it cannot be.
    with pytest.raises(LedgerUnavailable if ledger.shared else sqlalchemy.exc.IntegrityError):
        repeating.result()
    first.result()
    last.result()
    assert tenants(ledger) == ["first", "last", "there"]
    assert ledger.writer.healthy
    assert ledger.writer.write_errors == (1 if ledger.shared else 0)


def test_a_statement_sees_what_the_steps_before_it_have_gathered(open_ledger, callers, held):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    with held(ledger) as waiting:
        step = callers.submit(ledger.writer.step_blocking, notes.note, "acme")
        waiting(1)
        count = callers.submit(
            ledger.write, lambda connection: connection.exec_driver_sql("SELECT count(*) FROM suspended_tenants").scalar_one()
        )
        waiting(2)
    assert (step.result(), count.result()) == ("ACME", 1)


def test_a_step_that_breaks_its_promise_is_refused_alone_and_is_forgotten(open_ledger, callers, held):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    with held(ledger) as waiting:
        innocent = callers.submit(ledger.writer.step_blocking, notes.note, "acme")
        waiting(1)
        broken = callers.submit(ledger.writer.step_blocking, lambda _: 1 / 0, None)
        waiting(2)
        later = callers.submit(ledger.writer.step_blocking, notes.note, "umbrella")
        waiting(3)
    with pytest.raises(LedgerUnavailable, match="the ledger did not commit: ZeroDivisionError in the same transaction"):
        broken.result()
    assert (innocent.result(), later.result()) == ("ACME", "UMBRELLA")
    assert tenants(ledger) == ["acme", "umbrella"]
    # Its neighbours are told after it, so that the ledger is well again.
    assert ledger.writer.healthy


def test_a_step_that_breaks_its_promise_beside_others_of_a_loop_is_refused_alone(open_ledger):
    notes = Notes()
    ledger = open_ledger(participant=notes)

    async def together():
        steps = [(notes.note, "acme"), (lambda _: 1 / 0, None), (notes.note, "umbrella")]
        return await asyncio.gather(*(ledger.writer.step(*step) for step in steps), return_exceptions=True)

    first, broken, last = asyncio.run(together())
    assert (first, type(broken), last) == ("ACME", LedgerUnavailable, "UMBRELLA")
    assert tenants(ledger) == ["acme", "umbrella"]


@on_sqlite
def test_the_participant_hears_of_writes_of_others_and_not_of_its_own(open_ledger):
    notes = Notes()
    ledger, beside = open_ledger(participant=notes), open_ledger()
    ledger.write(insert("ours"))
    ledger.write(insert("ours again"))
    beside.write(insert("theirs"))
    ledger.write(lambda _: None)
    ledger.write(lambda _: None)
    # A new connection takes everything for news.
    assert notes.begun == [True, False, True, False]


@on_sqlite
def test_a_change_is_told_and_a_look_is_not(open_ledger):
    ledger, beside = open_ledger(), open_ledger()
    told = []
    ledger.writer.on_change = lambda: told.append(tenants(ledger))
    ledger.write(lambda _: None)
    told.clear()
    ledger.write(insert("a"))
    ledger.write(lambda connection: connection.exec_driver_sql("SELECT 1"))
    beside.write(insert("b"))
    ledger.write(lambda connection: connection.exec_driver_sql("SELECT 1"))
    assert told == [["a"], ["a", "b"]]


def test_close_commits_what_waits(ledger, callers, held, wait_until):
    with held(ledger) as waiting:
        answers = [callers.submit(ledger.write, insert(f"{number:02}")) for number in range(10)]
        waiting(10)
        closing = callers.submit(ledger.close)
        wait_until(lambda: ledger.writer._closed)
    closing.result()
    assert [answer.exception() for answer in answers] == [None] * 10
    assert len(tenants(ledger)) == 10


def test_whoever_comes_while_it_closes_is_answered_or_refused(open_ledger, callers):
    for _ in range(20):
        ledger = open_ledger()
        start = threading.Barrier(9)

        def write(ledger=ledger, start=start):
            start.wait()
            for _ in range(50):
                ledger.write(lambda _: None)

        answers = [callers.submit(write) for _ in range(8)]
        start.wait()
        ledger.close()
        refusals = [answer.exception(timeout=60) for answer in answers]
        assert {str(refusal) for refusal in refusals if refusal is not None} <= {"the ledger is closed"}


def test_a_caller_that_leaves_does_not_take_its_neighbours_answer_along(ledger):
    async def leave():
        free = threading.Event()
        holding = asyncio.create_task(ledger.write_async(lambda _: free.wait(60)))
        leaving = asyncio.create_task(ledger.write_async(insert("leaving")))
        staying = asyncio.create_task(ledger.write_async(insert("staying")))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(holding, staying)
        return leaving.cancelled()

    assert asyncio.run(leave())
    assert tenants(ledger) == ["leaving", "staying"]


@pytest.fixture
def leave(wait_until):
    """`leave(ledger, notes)`: a caller whose event loop stops before its answer; gives the loop."""
    loops = []

    def abandon(ledger, notes):
        loop = asyncio.new_event_loop()
        loops.append(loop)
        task = loop.create_task(ledger.writer.step(notes.note, "gone"))
        loop.run_until_complete(asyncio.sleep(0))
        wait_until(lambda: len(ledger.writer._waiting) == 1)
        return loop, task

    yield abandon
    for loop in loops:
        if not loop.is_closed():
            for task in asyncio.all_tasks(loop):
                task.cancel()
                loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            loop.close()


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "standing still"])
def test_an_event_loop_that_is_gone_does_not_hold_up_the_others(open_ledger, callers, held, leave, closed):
    notes = Notes()
    ledger = open_ledger(participant=notes)

    async def stay(name):
        return await ledger.writer.step(notes.note, name)

    with held(ledger) as waiting:
        loop, task = leave(ledger, notes)
        if closed:
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            loop.close()
        staying = [callers.submit(asyncio.run, stay(f"here {number}")) for number in range(3)]
        waiting(4)
    assert sorted(answer.result(timeout=60) for answer in staying) == ["HERE 0", "HERE 1", "HERE 2"]
    assert asyncio.run(stay("later")) == "LATER"
    assert tenants(ledger) == ["gone", "here 0", "here 1", "here 2", "later"]


def test_a_statement_that_runs_out_of_something_does_not_silence_its_neighbours(ledger):
    # asyncio lets no future end with StopIteration.
    async def both():
        failing = ledger.write_async(lambda _: next(iter(())))
        return await asyncio.gather(failing, ledger.write_async(insert("acme")), return_exceptions=True)

    failure, _ = asyncio.run(both())
    assert repr(failure) == "RuntimeError('a statement raised StopIteration()')"
    assert tenants(ledger) == ["acme"]


@on_sqlite
def test_an_event_loop_goes_on_while_another_process_writes(open_ledger):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    other = sqlite3.connect(ledger.path, isolation_level=None)

    async def meanwhile():
        assert await ledger.writer.step(notes.note, "before") == "BEFORE"
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(ledger.writer.step(notes.note, f"during {number}")) for number in range(3)]
        # The loop turns, and nobody is answered.
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert not any(task.done() for task in waiting)
        other.execute("INSERT INTO suspended_tenants (tenant_id) VALUES ('theirs')")
        other.execute("COMMIT")
        return await asyncio.gather(*waiting)

    assert asyncio.run(meanwhile()) == ["DURING 0", "DURING 1", "DURING 2"]
    other.close()
    assert tenants(ledger) == ["before", "during 0", "during 1", "during 2", "theirs"]
    assert notes.begun[-1], "the participant did not hear of the other's write"


def test_steps_of_event_loops_and_of_threads_are_all_answered(open_ledger, callers):
    notes = Notes()
    ledger = open_ledger(participant=notes)

    async def many(loop):
        return await asyncio.gather(*(ledger.writer.step(notes.note, f"loop {loop} {number:03}") for number in range(200)))

    def few(thread):
        return [ledger.writer.step_blocking(notes.note, f"thread {thread} {number:03}") for number in range(20)]

    answers = [callers.submit(asyncio.run, many(loop)) for loop in range(4)] + [callers.submit(few, thread) for thread in range(4)]
    names = [name for answer in answers for name in answer.result(timeout=60)]
    assert len(names) == 4 * 200 + 4 * 20
    assert tenants(ledger) == sorted(name.lower() for name in names)


# --- PostgreSQL ----------------------------------------------------------------------------------------------------------------


@on_postgresql
def test_steps_share_a_transaction_and_a_statement_has_its_own(open_ledger, callers, held):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    ledger.write(lambda _: None)
    before = notes.commits
    with held(ledger) as waiting:
        answers = []
        for position, name in enumerate(("a", "b", "", "c", "d", "e", "", ""), 1):
            work = (ledger.writer.step_blocking, notes.note, name) if name else (ledger.write, insert(f"statement {position}"))
            answers.append(callers.submit(*work))
            waiting(position)
    assert [answer.exception() for answer in answers] == [None] * 8
    # The steps in their order, and all that wait up to the next statement together; nothing is prepared for a statement.
    assert [len(given) for given in notes.given] == [2, 3]
    # The one that held the writer, a and b, a statement, c to e, two statements.
    assert notes.commits == before + 6
    assert len(tenants(ledger)) == 8


@on_postgresql
def test_every_change_is_told_also_one_right_after_a_look_and_one_of_another_replica(open_ledger):
    ledger, beside = open_ledger(), open_ledger()
    told = []
    ledger.write(lambda _: None)
    ledger.writer.on_change = lambda: told.append(tenants(ledger))
    for name in "abc":
        ledger.write(lambda connection: connection.exec_driver_sql("SELECT 1"))
        told.clear()
        ledger.write(insert(name))
        assert told == [list("abc")[: "abc".index(name) + 1]]
    ledger.write(lambda connection: connection.exec_driver_sql("SELECT 1"))
    told.clear()
    beside.write(insert("d"))
    ledger.write(lambda connection: connection.exec_driver_sql("SELECT 1"))
    assert told == [["a", "b", "c", "d"]]


@on_postgresql
@pytest.mark.parametrize("state", ["40P01", "40001", "23505"])
def test_a_group_that_collides_is_tried_again_from_the_beginning(open_ledger, state):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    collisions = iter([True, True, False])

    def collide(name):
        notes.note(name)
        if next(collisions):
            raise_state(notes, state)
        return name

    def raise_state(_, code):
        ledger.writer._transactions._connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'collided' USING ERRCODE = '{code}'; END $$")

    assert ledger.writer.step_blocking(collide, "acme") == "acme"
    assert tenants(ledger) == ["acme"]
    assert (notes.rollbacks, len(notes.begun), ledger.writer.write_errors) == (2, 3, 0)


@on_postgresql
def test_a_group_that_collides_for_ever_is_refused(open_ledger):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    ledger.write(insert("acme"))
    with pytest.raises(LedgerUnavailable, match="the ledger did not commit"):
        ledger.writer.step_blocking(notes.note, "acme")
    assert len(notes.begun) == ATTEMPTS
    assert not ledger.writer.healthy
    assert ledger.writer.step_blocking(notes.note, "umbrella") == "UMBRELLA"
    assert ledger.writer.healthy
    assert tenants(ledger) == ["acme", "umbrella"]


def terminate(ledger, wait_until):
    """Ends the writer's session, as a restart of the server does; returns when it is gone."""
    with ledger.read() as connection:
        pid = ledger.writer._transactions._connection.connection.driver_connection.info.backend_pid
        assert connection.exec_driver_sql("SELECT pg_terminate_backend(%s, 60000)", (pid,)).scalar_one()


@on_postgresql
def test_a_connection_that_ends_between_two_groups_costs_one_of_them(open_ledger, wait_until):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    ledger.writer.step_blocking(notes.note, "before")
    terminate(ledger, wait_until)
    with pytest.raises(LedgerUnavailable, match="the ledger did not commit"):
        ledger.writer.step_blocking(notes.note, "lost")
    assert ledger.writer.step_blocking(notes.note, "after") == "AFTER"
    assert tenants(ledger) == ["after", "before"]
    assert (notes.rollbacks, ledger.writer.healthy) == (1, True)


@on_postgresql
@pytest.mark.parametrize("moment", ["in a step", "in the flush"])
def test_a_connection_that_ends_in_the_middle_of_a_group_leaves_nothing_of_it(open_ledger, wait_until, moment):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    ledger.writer.step_blocking(notes.note, "before")
    ending = [lambda: terminate(ledger, wait_until)]
    notes.flushing = lambda: ending.pop()() if ending and moment == "in the flush" else None

    def end(name):
        notes.note(name)
        if moment == "in a step":
            ending.pop()()

    with pytest.raises(LedgerUnavailable):
        ledger.writer.step_blocking(end, "lost")
    assert ledger.writer.step_blocking(notes.note, "after") == "AFTER"
    assert tenants(ledger) == ["after", "before"]


@on_postgresql
def test_an_answer_that_is_lost_after_the_commit_is_no_yes(open_ledger, wait_until):
    notes = Notes()
    ledger = open_ledger(participant=notes)
    ledger.writer.step_blocking(notes.note, "before")
    transactions = ledger.writer._transactions
    commit = transactions.commit

    def commit_and_lose_the_answer():
        transactions.commit = commit
        commit()
        terminate(ledger, wait_until)
        return commit()

    transactions.commit = commit_and_lose_the_answer
    with pytest.raises(LedgerUnavailable):
        ledger.writer.step_blocking(notes.note, "kept")
    # It is there although nobody may say so: whoever asks again under the same id is told that it is.
    assert tenants(ledger) == ["before", "kept"]
    assert (notes.rollbacks, ledger.writer.step_blocking(notes.note, "after")) == (1, "AFTER")
