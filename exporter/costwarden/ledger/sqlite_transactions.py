"""Groups on SQLite: one writer, its transaction begun by hand, other processes noticed by `data_version`."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress

import sqlalchemy

from costwarden.ledger.bulk import sqlite_driver
from costwarden.ledger.operations import Answer, Operation, Participant

# The command line may write for a moment; past this the disk is in trouble.
BUSY_TIMEOUT_SECONDS = 10.0

# What a full or broken disk raises, through SQLAlchemy or the driver: the whole group's concern, not one statement's.
DISK_ERRORS = (sqlalchemy.exc.OperationalError, sqlite3.OperationalError)


class SqliteTransactions:
    """The one writing connection of this process."""

    steps_on_loop = True
    mixes_statements = True

    def __init__(self, connect: Callable[[], sqlalchemy.Connection], participant: Participant | None, *, owner: bool) -> None:
        self._connect = connect
        self._owner = owner
        self._participant = participant
        self._connection: sqlalchemy.Connection | None = None
        self._data_version = -1
        self._changes = 0
        self._foreign_change = False

    def run(self, group: Sequence[Operation], *, patient: bool) -> list[Answer] | None:
        """Begin a transaction and run the group in it; None where there is no patience and another process is writing, or has written."""
        if self._connection is None:
            self._connection = self._connect()
            sqlite_driver(self._connection).execute("PRAGMA busy_timeout=0")
        connection = self._connection
        raw = sqlite_driver(connection)
        if patient:
            raw.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_SECONDS * 1000)}")
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            # The low byte: there are kinds of busy, such as while another process recovers the log of one that was killed.
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY and not patient:
                return None
            raise
        if patient:
            raw.execute("PRAGMA busy_timeout=0")
        seen = raw.execute("PRAGMA data_version").fetchone()[0]
        if seen != self._data_version and not patient:
            # The participant is about to read everything anew: with many budgets that would hold up the loop.
            raw.execute("ROLLBACK")
            return None
        self._foreign_change, self._data_version = seen != self._data_version, seen
        self._changes = raw.total_changes
        if self._participant is not None:
            self._participant.begin(connection, foreign_change=self._foreign_change, arguments=(), alone=self._owner)
        answers = [self._operate(connection, operation) for operation in group]
        if self._participant is not None:
            self._participant.flush(connection)
        return answers

    def _operate(self, connection: sqlalchemy.Connection, operation: Operation) -> Answer:
        if not operation.is_statement:
            return Answer(operation, True, operation.work(operation.argument))
        # A statement may read what the steps before it have gathered.
        if self._participant is not None:
            self._participant.flush(connection)
        connection.exec_driver_sql("SAVEPOINT statement")
        try:
            answer = Answer(operation, True, operation.work(connection))
        except DISK_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 (the caller gets it)
            connection.exec_driver_sql("ROLLBACK TO statement")
            answer = Answer(operation, False, error)
        connection.exec_driver_sql("RELEASE statement")
        return answer

    def commit(self) -> bool:
        """Make it durable; whether anything has changed, here or in another process."""
        assert self._connection is not None
        raw = sqlite_driver(self._connection)
        raw.execute("COMMIT")
        return self._foreign_change or raw.total_changes != self._changes

    def discard(self) -> None:
        """Roll back. After a full disk or an I/O error the connection's state is unknown; a new one starts clean."""
        connection, self._connection, self._data_version = self._connection, None, -1
        if connection is not None:
            with suppress(sqlalchemy.exc.SQLAlchemyError):
                connection.exec_driver_sql("ROLLBACK")
            connection.invalidate()
            connection.close()
