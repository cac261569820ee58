"""Group commit: what waits shares one transaction and its one fsync."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

import sqlalchemy
import structlog

from costwarden.ledger.operations import Answer, LedgerUnavailable, Operation, Participant, Transactions, first_line

T = TypeVar("T")

# Bounds how long the first caller of a group waits for the last; 512 settlements take about 10 ms.
GROUP_LIMIT = 512

log = structlog.get_logger(__name__)


class GroupCommit:
    """Runs operations on the one writing connection, grouped into transactions, one group after the other.

    Two kinds: a *step* works on the participant's memory and must not fail; a *statement* is arbitrary SQL in a savepoint of its own,
    so that its failure is its caller's alone (one that also changes memory does so last). Every caller is answered after COMMIT, or
    with `LedgerUnavailable`.

    On SQLite a group of steps from an event loop runs on that loop, because every SQLite call from a second thread would wait for the
    loop to give up the interpreter; only its COMMIT, which waits for the disk, runs on the writer's thread. Every other group runs there
    whole.
    """

    def __init__(self, transactions: Transactions, participant: Participant | None = None) -> None:
        self._transactions = transactions
        self._participant = participant
        self._lock = threading.Lock()
        self._waiting: list[Operation] = []
        self._busy = False
        self._closed = False
        self._refused = False
        self._jobs: SimpleQueue[tuple[list[Operation], list[Answer] | None] | None] = SimpleQueue()
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
        self._put(Operation(False, work, argument, future, loop))
        return await future

    def step_blocking(self, work: Callable[[Any], T], argument: Any) -> T:
        """`step` for a caller outside an event loop."""
        future: Future[T] = Future()
        self._put(Operation(False, work, argument, future, None))
        return future.result()

    async def statement(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """`work(connection)` in a savepoint; what it raises, the caller gets. Raises `LedgerUnavailable`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(Operation(True, work, None, future, loop))
        return await future

    def statement_blocking(self, work: Callable[[sqlalchemy.Connection], T]) -> T:
        """`statement` for a caller outside an event loop."""
        future: Future[T] = Future()
        self._put(Operation(True, work, None, future, None))
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

    def _put(self, operation: Operation) -> None:
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

    def _take(self) -> list[Operation]:
        size = min(len(self._waiting), GROUP_LIMIT)
        if not self._transactions.mixes_statements:
            statement = next((at for at, operation in enumerate(self._waiting[:size]) if operation.is_statement), size)
            size = statement or min(size, 1)
        group, self._waiting = self._waiting[:size], self._waiting[size:]
        return group

    def _begin_on_loop(self) -> None:
        with self._lock:
            if self._busy or not self._waiting:
                return
            self._busy = True
            group = self._take()
        # Nothing that may wait is done on a loop: where another process is writing, the thread waits for it.
        answers = self._open(group, patient=False) if self._belongs_on_a_loop(group) else None
        self._jobs.put((group, answers))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            group, answers = job
            if answers is None:
                answers = self._open(group, patient=True)
            if answers is None:
                answers = [self._alone(operation) for operation in group]
            elif not self._refused:
                answers = self._commit(group, answers)
            self._finish(answers)
        self._transactions.discard()

    def _open(self, group: list[Operation], *, patient: bool) -> list[Answer] | None:
        """Run the group; None where it has to be run in another way: with patience, because it would have to wait, or one by one.

        Where the database is in trouble, all answers are refusals.
        """
        self._refused = False
        try:
            return self._transactions.run(group, patient=patient)
        except Exception as error:  # noqa: BLE001 (whatever it was, every caller must be told)
            if len(group) > 1 and not (isinstance(error, OSError) or _is_driver_error(error)):
                # One of them breaks it, by a value that the database does not take, say: that must not be its neighbours' trouble.
                log.warning("a group is run one by one", error=_cause(error), operations=len(group))
                self._undo()
                return None
            return self._refuse(group, error)

    def _alone(self, operation: Operation) -> Answer:
        answers = self._open([operation], patient=True) or []
        return (answers if self._refused else self._commit([operation], answers))[0]

    def _undo(self) -> None:
        if self._participant is not None:
            self._participant.rolled_back()
        self._transactions.discard()

    def _commit(self, group: list[Operation], answers: list[Answer]) -> list[Answer]:
        try:
            changed = self._transactions.commit()
        except Exception as error:  # noqa: BLE001 (as in _open)
            return self._refuse(group, error)
        self.healthy = not self.condemned
        if self._participant is not None:
            self._participant.committed()
        if changed:
            self.commits += 1
            self.on_change()
        return answers

    def _refuse(self, group: list[Operation], error: Exception) -> list[Answer]:
        self._refused = True
        self.write_errors += 1
        self.healthy = False
        cause = _cause(error)
        log.error("ledger commit failed", error=cause, operations=len(group), exc_info=not _is_driver_error(error))
        self._undo()
        refusal = LedgerUnavailable(f"the ledger did not commit: {cause}")
        return [Answer(operation, False, refusal) for operation in group]

    def _belongs_on_a_loop(self, group: list[Operation]) -> bool:
        on_loop = self._transactions.steps_on_loop
        return on_loop and all(operation.loop is not None and not operation.is_statement for operation in group)

    def _finish(self, answers: list[Answer]) -> None:
        """Let the next group begin, and answer this one."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
        with self._lock:
            if self._closed or (self._waiting and not self._belongs_on_a_loop(self._waiting[:GROUP_LIMIT])):
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

    def _resolve(self, answers: list[Answer]) -> None:
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


def _cause(error: Exception) -> str:
    """For everybody in the group, and so without the statement and its values, which are one caller's own."""
    if _is_driver_error(error):
        return first_line(error)
    return f"{type(error).__name__} in the same transaction; the log says more"


def _is_driver_error(error: Exception) -> bool:
    """Whether the disk or the database server is in trouble: `OperationalError` of SQLAlchemy or of either driver."""
    return isinstance(error, sqlalchemy.exc.OperationalError) or "OperationalError" in {base.__name__ for base in type(error).__mro__}
