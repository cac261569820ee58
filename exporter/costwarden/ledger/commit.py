"""Group commit: one thread writes; what waits shares a transaction and its one fsync."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import sqlalchemy
import structlog

T = TypeVar("T")

# Bounds how long the first caller of a group waits for the last; 512 settlements take about 10 ms.
GROUP_LIMIT = 512

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


class _Stop(Exception):
    pass


class GroupCommit:
    """Runs operations on the one writing connection, grouped into transactions.

    Two kinds: a *step* works on the participant's memory and must not fail; a *statement* is arbitrary SQL in a savepoint of its own,
    so that its failure is its caller's alone (one that also changes memory does so last). Every caller is answered after COMMIT, or
    with `LedgerUnavailable`.
    """

    def __init__(self, connect: Callable[[], sqlalchemy.Connection], participant: Participant | None = None) -> None:
        self._connect = connect
        self._participant = participant
        self._queue: SimpleQueue[tuple[bool, Callable[..., Any], Any, Any, asyncio.AbstractEventLoop | None]] = SimpleQueue()
        self._closed = False
        self.commits = 0
        self.write_errors = 0
        self.healthy = True
        """False from a failed commit until the next one that succeeds."""
        self.on_change: Callable[[], None] = lambda: None
        """Called on the writer thread after a commit that changed anything, here or in another process; must be quick."""
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def step(self, operation: Callable[[Any], T], argument: Any) -> T:
        """`operation(argument)` on the writer thread; returns once it is durable. Raises `LedgerUnavailable`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(False, operation, argument, future, loop)
        return await future

    def step_blocking(self, operation: Callable[[Any], T], argument: Any) -> T:
        """`step` for a caller outside an event loop."""
        future: Future[T] = Future()
        self._put(False, operation, argument, future, None)
        return future.result()

    async def statement(self, operation: Callable[[sqlalchemy.Connection], T]) -> T:
        """`operation(connection)` on the writer thread in a savepoint; what it raises, the caller gets. Raises `LedgerUnavailable`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(True, operation, None, future, loop)
        return await future

    def statement_blocking(self, operation: Callable[[sqlalchemy.Connection], T]) -> T:
        """`statement` for a caller outside an event loop."""
        future: Future[T] = Future()
        self._put(True, operation, None, future, None)
        return future.result()

    def close(self) -> None:
        """Commit what waits, then stop. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put((False, self._stop, None, Future(), None))
        self._thread.join()

    @staticmethod
    def _stop(_: None) -> None:
        raise _Stop

    def _put(
        self, is_statement: bool, operation: Callable[..., Any], argument: Any, future: Any, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        self._queue.put((is_statement, operation, argument, future, loop))

    def _run(self) -> None:
        connection: sqlalchemy.Connection | None = None
        data_version = -1
        stopping = False
        while not stopping:
            group = [self._queue.get()]
            try:
                while len(group) < GROUP_LIMIT:
                    group.append(self._queue.get_nowait())
            except Empty:
                pass
            answers: list[tuple[Any, asyncio.AbstractEventLoop | None, bool, Any]] = []
            try:
                if connection is None:
                    connection = self._connect()
                raw = driver(connection)
                raw.execute("BEGIN IMMEDIATE")
                seen = raw.execute("PRAGMA data_version").fetchone()[0]
                changes, foreign_change, data_version = raw.total_changes, seen != data_version, seen
                if self._participant is not None:
                    self._participant.begin(connection, foreign_change)
                stopping = self._operate(connection, group, answers)
                if self._participant is not None:
                    self._participant.flush(connection)
                raw.execute("COMMIT")
                self.healthy = True
                if foreign_change or raw.total_changes != changes:
                    self.commits += 1
                    self.on_change()
            except Exception as error:
                # Whatever it was, every caller must be told.
                self.write_errors += 1
                self.healthy = False
                log.error("ledger commit failed", error=str(error), operations=len(group), exc_info=not isinstance(error, _DISK_ERRORS))
                if self._participant is not None:
                    self._participant.rolled_back()
                _discard(connection)
                connection = None
                data_version = -1
                stopping = stopping or any(item[1] is self._stop for item in group)
                refusal = LedgerUnavailable(f"the ledger did not commit: {error}")
                answers = [(future, loop, False, refusal) for _, _, _, future, loop in group]
            _deliver(answers)
        _discard(connection)
        self._refuse_rest()

    def _operate(self, connection: sqlalchemy.Connection, group: list[Any], answers: list[Any]) -> bool:
        stopping = False
        for is_statement, operation, argument, future, loop in group:
            if not is_statement:
                if operation is self._stop:
                    stopping = True
                else:
                    answers.append((future, loop, True, operation(argument)))
                continue
            # A statement may read what the steps before it have gathered.
            if self._participant is not None:
                self._participant.flush(connection)
            connection.exec_driver_sql("SAVEPOINT statement")
            try:
                answers.append((future, loop, True, operation(connection)))
            except _DISK_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001 (the caller gets it)
                connection.exec_driver_sql("ROLLBACK TO statement")
                answers.append((future, loop, False, error))
            connection.exec_driver_sql("RELEASE statement")
        return stopping

    def _refuse_rest(self) -> None:
        refusal = LedgerUnavailable("the ledger is closed")
        try:
            while True:
                _, _, _, future, loop = self._queue.get_nowait()
                _deliver([(future, loop, False, refusal)])
        except Empty:
            pass


# What a full or broken disk raises, through SQLAlchemy or the driver: the whole group's concern, not one statement's.
_DISK_ERRORS = (sqlalchemy.exc.OperationalError, sqlite3.OperationalError)


def driver(connection: sqlalchemy.Connection) -> sqlite3.Connection:
    """The driver's own connection, for the hot statements that are written by hand."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _discard(connection: sqlalchemy.Connection | None) -> None:
    # After a full disk or an I/O error the connection's state is unknown; a new one starts clean.
    if connection is not None:
        with suppress(sqlalchemy.exc.SQLAlchemyError):
            connection.exec_driver_sql("ROLLBACK")
        connection.invalidate()
        connection.close()


def _deliver(answers: list[tuple[Any, asyncio.AbstractEventLoop | None, bool, Any]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, bool, Any]]] = {}
    for future, loop, succeeded, value in answers:
        if loop is not None:
            by_loop.setdefault(loop, []).append((future, succeeded, value))
        elif succeeded:
            future.set_result(value)
        else:
            future.set_exception(value)
    for loop, resolved in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, resolved)
        except RuntimeError:  # the loop closed while its callers were cancelled
            log.warning("callers left before the commit", operations=len(resolved))


def _resolve(resolved: list[tuple[asyncio.Future[Any], bool, Any]]) -> None:
    for future, succeeded, value in resolved:
        if future.cancelled():
            continue
        if succeeded:
            future.set_result(value)
        else:
            future.set_exception(value)
