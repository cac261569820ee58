"""Groups on PostgreSQL, where many replicas write: whoever changes the same budgets waits, and a collision is tried again."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import sqlalchemy

from costwarden.ledger.bulk import postgresql_driver
from costwarden.ledger.locks import BUDGETS_LOCK
from costwarden.ledger.operations import Answer, Operation, Participant

ATTEMPTS = 8

# Two replicas waited for each other; recorded the same event at once; or a newer snapshot is needed. Appendix A of PostgreSQL's manual.
_TRY_AGAIN = ("40P01", "40001", "23505")


class PostgresqlTransactions:
    """The one writing connection of this replica.

    Steps share the budgets with the steps of other replicas and lock the rows that they change; a group that must make a budget takes
    them alone. A statement is a transaction of its own.
    """

    steps_on_loop = False
    mixes_statements = False

    def __init__(self, connect: Callable[[], sqlalchemy.Connection], participant: Participant | None) -> None:
        self._connect = connect
        self._participant = participant
        self._connection: sqlalchemy.Connection | None = None
        self._seen: tuple[str, ...] | None = None
        self._newest_change: int | None = None

    def run(self, group: Sequence[Operation], *, patient: bool) -> list[Answer] | None:  # noqa: ARG002 (it always may wait)
        """Begin a transaction and run the group in it, again where it collided with another replica's.

        The second time it has the budgets alone: several that lock in an order that nobody foresaw could collide again and again.
        """
        for attempt in range(ATTEMPTS - 1):
            try:
                return self._run(group, alone=attempt > 0)
            except Exception as error:
                if _sqlstate(error) not in _TRY_AGAIN:
                    raise
                self._roll_back()
        return self._run(group, alone=True)

    def _run(self, group: Sequence[Operation], *, alone: bool) -> list[Answer]:
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        if group and group[0].is_statement:
            return [self._state(connection, group[0])]
        while True:
            newest = self._begin(connection, alone)
            changed, self._newest_change = newest != self._newest_change, None
            arguments = [operation.argument for operation in group]
            if self._participant is None or self._participant.begin(connection, foreign_change=changed, arguments=arguments, alone=alone):
                # Whatever goes wrong before it is taken over: the next group looks again.
                self._newest_change = newest
                break
            self._roll_back()
            alone = True
        answers = [Answer(operation, True, operation.work(operation.argument)) for operation in group]
        if self._participant is not None:
            # None of what is written is waited for by itself: that would be a journey, and the interpreter given up, for each statement.
            with postgresql_driver(connection).pipeline():
                self._participant.flush(connection)
        return answers

    def _state(self, connection: sqlalchemy.Connection, operation: Operation) -> Answer:
        postgresql_driver(connection).execute("BEGIN")
        try:
            return Answer(operation, True, operation.work(connection))
        except Exception as error:
            # What the statement itself refuses is its caller's; a collision is tried again, and a connection that broke is everybody's.
            if _sqlstate(error) in _TRY_AGAIN or _is_broken(error):
                raise
            postgresql_driver(connection).execute("ROLLBACK")
            postgresql_driver(connection).execute("BEGIN")
            return Answer(operation, False, error)

    @staticmethod
    def _begin(connection: sqlalchemy.Connection, alone: bool) -> int:
        """Begin, wait for the budgets, and look for the newest change of them: one journey. Gives its number; 0 where there is none."""
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        look = "SELECT coalesce(max(change_id), 0) FROM book_changes"
        cursor = postgresql_driver(connection).execute(f"BEGIN; SELECT {lock}({BUDGETS_LOCK}); {look}")
        while cursor.nextset():
            pass
        found = cursor.fetchone()
        assert found is not None
        return int(found[0])

    def _roll_back(self) -> None:
        assert self._connection is not None
        postgresql_driver(self._connection).execute("ROLLBACK")
        if self._participant is not None:
            self._participant.rolled_back()

    def commit(self) -> bool:
        """Make it durable; whether anything has changed, here or by another replica."""
        assert self._connection is not None
        # Which transactions that write have ended, and whether this one is of them.
        look = "SELECT pg_current_snapshot()::text, pg_current_xact_id_if_assigned()::text; COMMIT"
        found = postgresql_driver(self._connection).execute(look).fetchone()
        changed, self._seen = found != self._seen, found
        return changed

    def discard(self) -> None:
        """Roll back, as far as the connection still answers."""
        connection, self._connection = self._connection, None
        if connection is not None:
            import psycopg

            with suppress(sqlalchemy.exc.SQLAlchemyError, psycopg.Error):
                connection.invalidate()
                connection.close()


def _is_broken(error: Exception) -> bool:
    import psycopg

    return isinstance(getattr(error, "orig", error), psycopg.OperationalError | psycopg.InterfaceError)


def _sqlstate(error: Exception) -> str | None:
    found: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return found
