"""Group commit: what waits shares one transaction and its one fsync."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar

import sqlalchemy
import structlog

T = TypeVar("T")

# Bounds how long the first caller of a group waits for the last; 512 settlements take about 10 ms.
GROUP_LIMIT = 512

# The command line may write for a moment; past this the disk is in trouble.
BUSY_TIMEOUT_SECONDS = 10.0

log = structlog.get_logger(__name__)


class LedgerUnavailable(Exception):
    """The ledger could not write durably (disk full, I/O error, closed): nothing of the request was kept; answer 503."""


class Participant(Protocol):
    """What keeps state in memory beside the ledger and writes it with the group."""

    def begin(self, connection: sqlalchemy.Connection, foreign_change: bool) -> None:
        """Called inside the transaction, before its first operation.

        `foreign_change`: another process has written since the last group.
        """

    def flush(self, connection: sqlalchemy.Connection) -> None:
        """Write what the operations so far have gathered in memory."""

    def rolled_back(self) -> None:
        """Forget what the operations have gathered: the transaction did not happen."""


class _Operation(NamedTuple):
    is_statement: bool
    work: Callable[..., Any]
    argument: Any
    future: Any
    loop: asyncio.AbstractEventLoop | None


class _Answer(NamedTuple):
    operation: _Operation
    succeeded: bool
    value: Any


class GroupCommit:
    """Runs operations on the one writing connection, grouped into transactions, one group after the other.

    Two kinds: a *step* works on the participant's memory and must not fail; a *statement* is arbitrary SQL in a savepoint of its own,
    so that its failure is its caller's alone (one that also changes memory does so last). Every caller is answered after COMMIT, or
    with `LedgerUnavailable`.

    A group of steps from an event loop runs on that loop, because every SQLite call from a second thread would wait for the loop to
    give up the interpreter; only its COMMIT, which waits for the disk, runs on the writer's thread. Every other group runs there whole.
    """

    def __init__(self, connect: Callable[[], sqlalchemy.Connection], participant: Participant | None = None) -> None:
        self._connect = connect
        self._participant = participant
        self._connection: sqlalchemy.Connection | None = None
        self._data_version = -1
        self._changes = 0
        self._foreign_change = False
        self._lock = threading.Lock()
        self._waiting: list[_Operation] = []
        self._busy = False
        self._closed = False
        self._jobs: SimpleQueue[tuple[list[_Operation], list[_Answer] | None] | None] = SimpleQueue()
        self.commits = 0
        self.write_errors = 0
        self.healthy = True
        """False from a failed commit until the next one that succeeds."""
        self.condemned = ""
        """Why nothing is written any more; empty while all is well."""
        self.on_change: Callable[[], None] = lambda: None
        """Called on the writer's thread after a commit that changed anything, here or in another process; must be quick."""
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def step(self, work: Callable[[Any], T], argument: Any) -> T:
        """`work(argument)`; returns once it is durable. Raises `LedgerUnavailable`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Operation(False, work, argument, future, loop))
        return await future

    def step_blocking(self, work: Callable[[Any], T], argument: Any) -> T:
        """`step` for a caller outside an event loop."""
        future: Future[T] = Future()
        self._put(_Operation(False, work, argument, future, None))
        return future.result()

    async def statement(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """`work(connection)` in a savepoint; what it raises, the caller gets. Raises `LedgerUnavailable`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Operation(True, work, None, future, loop))
        return await future

    def statement_blocking(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """`statement` for a caller outside an event loop."""
        future: Future[T] = Future()
        self._put(_Operation(True, work, None, future, None))
        return future.result()

    def condemn(self, reason: str) -> None:
        """Refuse every operation from now on."""
        log.error("the ledger is refused", reason=reason)
        self.condemned, self.healthy = reason, False
        self.on_change()

    def close(self) -> None:
        """Commit what waits, then stop. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                if not self._busy:
                    self._busy = True
                    self._jobs.put((self._take(), None) if self._waiting else None)
        self._thread.join()

    def _put(self, operation: _Operation) -> None:
        with self._lock:
            if self._closed:
                raise LedgerUnavailable("the ledger is closed")
            if self.condemned:
                raise LedgerUnavailable(self.condemned)
            self._waiting.append(operation)
            if self._busy:
                return
            if operation.loop is None:
                self._busy = True
                self._jobs.put((self._take(), None))
            elif len(self._waiting) == 1 or self._waiting[-2].loop is not operation.loop:
                # After the requests that this turn of the loop still reads: they share the group.
                operation.loop.call_soon(self._begin_on_loop)

    def _take(self) -> list[_Operation]:
        group, self._waiting = self._waiting[:GROUP_LIMIT], self._waiting[GROUP_LIMIT:]
        return group

    def _begin_on_loop(self) -> None:
        with self._lock:
            if self._busy or not self._waiting:
                return
            self._busy = True
            group = self._take()
        # Nothing that may wait is done on a loop: where another process is writing, the thread waits for it.
        answers = self._open(group, patience_seconds=0) if _belongs_on_a_loop(group) else None
        self._jobs.put((group, answers))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            group, answers = job
            if answers is None:
                answers = self._open(group, patience_seconds=BUSY_TIMEOUT_SECONDS) or []
            if self._connection is not None:
                answers = self._commit(group, answers)
            self._finish(answers)
        self._discard()

    def _open(self, group: list[_Operation], patience_seconds: float) -> list[_Answer] | None:
        """Begin a transaction and run the group in it.

        None where there is no patience and another process is writing, or has written. Where anything fails, all answers are refusals
        and there is no connection.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
                driver(self._connection).execute("PRAGMA busy_timeout=0")
            connection = self._connection
            raw = driver(connection)
            if patience_seconds:
                raw.execute(f"PRAGMA busy_timeout={int(patience_seconds * 1000)}")
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                # The low byte: there are kinds of busy, such as while another process recovers the log of one that was killed.
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY and not patience_seconds:
                    return None
                raise
            if patience_seconds:
                raw.execute("PRAGMA busy_timeout=0")
            seen = raw.execute("PRAGMA data_version").fetchone()[0]
            if seen != self._data_version and not patience_seconds:
                # The participant is about to read everything anew: with many budgets that would hold up the loop.
                raw.execute("ROLLBACK")
                return None
            self._foreign_change, self._data_version = seen != self._data_version, seen
            self._changes = raw.total_changes
            if self._participant is not None:
                self._participant.begin(connection, self._foreign_change)
            answers = [self._operate(connection, operation) for operation in group]
            if self._participant is not None:
                self._participant.flush(connection)
        except Exception as error:  # noqa: BLE001 (whatever it was, every caller must be told)
            return self._refuse(group, error)
        return answers

    def _operate(self, connection: sqlalchemy.Connection, operation: _Operation) -> _Answer:
        if not operation.is_statement:
            return _Answer(operation, True, operation.work(operation.argument))
        # A statement may read what the steps before it have gathered.
        if self._participant is not None:
            self._participant.flush(connection)
        connection.exec_driver_sql("SAVEPOINT statement")
        try:
            answer = _Answer(operation, True, operation.work(connection))
        except _DISK_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 (the caller gets it)
            connection.exec_driver_sql("ROLLBACK TO statement")
            answer = _Answer(operation, False, error)
        connection.exec_driver_sql("RELEASE statement")
        return answer

    def _commit(self, group: list[_Operation], answers: list[_Answer]) -> list[_Answer]:
        assert self._connection is not None
        try:
            raw = driver(self._connection)
            raw.execute("COMMIT")
            changed = self._foreign_change or raw.total_changes != self._changes
        except Exception as error:  # noqa: BLE001 (as in _open)
            return self._refuse(group, error)
        self.healthy = not self.condemned
        if changed:
            self.commits += 1
            self.on_change()
        return answers

    def _refuse(self, group: list[_Operation], error: Exception) -> list[_Answer]:
        self.write_errors += 1
        self.healthy = False
        cause = _cause(error)
        log.error("ledger commit failed", error=cause, operations=len(group), exc_info=not isinstance(error, _DISK_ERRORS))
        if self._participant is not None:
            self._participant.rolled_back()
        self._discard()
        refusal = LedgerUnavailable(f"the ledger did not commit: {cause}")
        return [_Answer(operation, False, refusal) for operation in group]

    def _discard(self) -> None:
        # After a full disk or an I/O error the connection's state is unknown; a new one starts clean.
        connection, self._connection, self._data_version = self._connection, None, -1
        if connection is not None:
            with suppress(sqlalchemy.exc.SQLAlchemyError):
                connection.exec_driver_sql("ROLLBACK")
            connection.invalidate()
            connection.close()

    def _finish(self, answers: list[_Answer]) -> None:
        """Let the next group begin, and answer this one."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
        with self._lock:
            if self._closed or (self._waiting and not _belongs_on_a_loop(self._waiting[:GROUP_LIMIT])):
                self._jobs.put((self._take(), None) if self._waiting else None)
            else:
                self._busy = False
                # All that wait are told, the first one begins: a loop that stands still must not hold up the others.
                by_loop = {operation.loop: [] for operation in self._waiting if operation.loop is not None}
        for answer in answers:
            if answer.operation.loop is not None:
                by_loop.setdefault(answer.operation.loop, []).append(answer)
            elif answer.succeeded:
                answer.operation.future.set_result(answer.value)
            else:
                answer.operation.future.set_exception(answer.value)
        for loop, its_answers in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._resolve, its_answers)
            except RuntimeError:  # the loop closed while its callers were cancelled
                log.warning("callers left before the commit", operations=len(its_answers))
                self._begin_on_thread()

    def _begin_on_thread(self) -> None:
        with self._lock:
            if self._waiting and not self._busy:
                self._busy = True
                self._jobs.put((self._take(), None))

    def _resolve(self, answers: list[_Answer]) -> None:
        # The next group first: the disk works on it while the answers of this one are written.
        self._begin_on_loop()
        for answer in answers:
            future = answer.operation.future
            if future.cancelled():
                continue
            if answer.succeeded:
                future.set_result(answer.value)
            elif isinstance(answer.value, StopIteration):
                # A future refuses this one, and everybody behind it would wait for ever.
                future.set_exception(RuntimeError(f"a statement raised {answer.value!r}"))
            else:
                future.set_exception(answer.value)


def _belongs_on_a_loop(group: list[_Operation]) -> bool:
    return all(operation.loop is not None and not operation.is_statement for operation in group)


# What a full or broken disk raises, through SQLAlchemy or the driver: the whole group's concern, not one statement's.
_DISK_ERRORS = (sqlalchemy.exc.OperationalError, sqlite3.OperationalError)


def _cause(error: Exception) -> str:
    """For everybody in the group, and so without the statement and its values, which are one caller's own."""
    if isinstance(error, _DISK_ERRORS):
        return str(getattr(error, "orig", error))
    return f"{type(error).__name__} in the same transaction; the log says more"


def driver(connection: sqlalchemy.Connection) -> sqlite3.Connection:
    """The driver's own connection, for the hot statements that are written by hand."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw
