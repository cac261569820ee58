"""What passes between those who want something written and the transaction that writes it."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import sqlalchemy


class LedgerUnavailable(Exception):
    """The ledger could not write durably (disk full, database gone, closed): nothing of the request was kept; answer 503."""


class LedgerError(Exception):
    """The ledger cannot be opened: the message says which one and what to do."""


class Participant(Protocol):
    """What keeps state in memory beside the ledger and writes it with the group."""

    def begin(self, connection: sqlalchemy.Connection, *, foreign_change: bool, arguments: Sequence[Any], alone: bool) -> bool:
        """Called inside the transaction, before its first operation.

        `foreign_change`: another process may have written since the last group. `arguments` are those of the steps to come, where several
        replicas write. `alone`: no other engine decides over the same budgets meanwhile; False from here asks for such a transaction.
        """

    def flush(self, connection: sqlalchemy.Connection) -> None:
        """Write what the operations so far have gathered in memory."""

    def committed(self) -> None:
        """The transaction is durable."""

    def rolled_back(self) -> None:
        """Forget what the operations have gathered: the transaction did not happen."""


class Operation(NamedTuple):
    """Something to be done in a transaction; `loop` is where its caller waits, None for a thread."""

    is_statement: bool
    work: Callable[..., Any]
    argument: Any
    future: Any
    loop: asyncio.AbstractEventLoop | None


class Answer(NamedTuple):
    """What an operation's caller is told: the value, or the exception."""

    operation: Operation
    succeeded: bool
    value: Any


def is_database_error(error: BaseException) -> bool:
    """Whether the database raised it, through SQLAlchemy or by SQLite's or PostgreSQL's own driver (which may not be installed)."""
    return isinstance(error, sqlalchemy.exc.DBAPIError | sqlite3.Error) or type(error).__module__.startswith("psycopg.")


def first_line(error: BaseException) -> str:
    """What the database says, without the statement and its values."""
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]


class Transactions(Protocol):
    """How one database runs a group of operations as a transaction."""

    steps_on_loop: bool
    """Whether a group of steps may run on the event loop that asked: nothing in it waits."""
    mixes_statements: bool
    """Whether one transaction may hold steps and statements."""

    def run(self, group: Sequence[Operation], *, patient: bool) -> list[Answer] | None:
        """Begin a transaction and run the group in it; None where another writes and there is no patience. Raises what broke it."""

    def commit(self) -> bool:
        """Make it durable; whether anything has changed, here or elsewhere."""

    def discard(self) -> None:
        """Roll back, and begin the next one on a new connection."""
