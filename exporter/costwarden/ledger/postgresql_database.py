"""A ledger in PostgreSQL: how it is opened and read, and which of its replicas leads."""

from typing import Any

import sqlalchemy
from sqlalchemy.engine import URL

from costwarden.ledger.locks import LEADER_LOCK, MIGRATION_LOCK
from costwarden.ledger.operations import LedgerError, Participant
from costwarden.ledger.postgresql_transactions import PostgresqlTransactions

CONNECT_TIMEOUT_SECONDS = 5

# Past these the database is in trouble, and 503 is a better answer than none. A migration and a bill have no such bound.
_OPTIONS = (
    "-c lock_timeout=5s -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
    # Whoever waited for a lock must see what its holder has written, whatever the database has as its default.
    r" -c default_transaction_isolation=read\ committed"
)


class PostgresqlDatabase:
    """A database that any number of costwardens share."""

    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    begin_migration = f"BEGIN; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"
    path = None

    def __init__(self, url: URL) -> None:
        try:
            import psycopg  # noqa: F401 (tells whether it is there)
        except ImportError:
            raise LedgerError("database_url: PostgreSQL needs a driver: `pip install 'costwarden[postgresql]'`") from None
        if not url.database:
            raise LedgerError(f"database_url {url.render_as_string()}: names no database, `postgresql://USER@HOST/DATABASE`")
        self.name = url.set(password=None, query={}).render_as_string()
        options = " ".join(filter(None, (_OPTIONS, str(url.query.get("options", "")))))
        arguments: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "costwarden", "options": options}
        self.engine = sqlalchemy.create_engine(
            url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
            # Transactions are begun by hand, here as on SQLite.
            isolation_level="AUTOCOMMIT",
            pool_size=4,
            max_overflow=12,
            pool_pre_ping=True,
            connect_args=arguments,
        )
        self._leading: sqlalchemy.Connection | None = None

    def opened(self) -> None:
        """Nothing to remember."""

    def transactions(self, participant: Participant | None) -> PostgresqlTransactions:
        """What the writer runs its groups by."""
        return PostgresqlTransactions(self.engine.connect, participant)

    def lost(self) -> str:
        """A database that is gone says so itself."""
        return ""

    def lead(self) -> bool:
        """Whether this replica is the one that reads the sources and runs the playbooks; takes the place where it is free.

        The place is a lock of a session: it becomes free when its holder's connection ends, however that comes.
        """
        try:
            if self._leading is None:
                self._leading = self.engine.connect()
                if not self._leading.exec_driver_sql(f"SELECT pg_try_advisory_lock({LEADER_LOCK})").scalar_one():
                    self.resign()
            else:
                self._leading.exec_driver_sql("SELECT 1")
        except sqlalchemy.exc.DBAPIError:
            self.resign()
        return self._leading is not None

    def resign(self) -> None:
        """Give the leader's place up."""
        leading, self._leading = self._leading, None
        if leading is not None:
            # Closed and not given back to the pool: the lock would live on in it.
            leading.invalidate()
            leading.close()

    def close(self) -> None:
        """End all connections."""
        self.resign()
        self.engine.dispose()
