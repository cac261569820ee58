"""Where everything is kept: the only SQL of costwarden.

`Ledger` opens an SQLite file or a PostgreSQL database, brings its schema up to date, and hands out connections: any number that read,
one that writes (`commit.GroupCommit`). The modules beside this one hold the statements, by noun; each works on both databases.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import sqlalchemy
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from costwarden.ledger.commit import GroupCommit
from costwarden.ledger.operations import LedgerError, LedgerUnavailable, Participant, first_line, is_database_error
from costwarden.ledger.postgresql_database import PostgresqlDatabase
from costwarden.ledger.sqlite_database import SqliteDatabase

__all__ = ["Connection", "Ledger", "LedgerError", "LedgerUnavailable"]

T = TypeVar("T")

SCHEMA_REVISION = "0004"
"""The newest migration; a test compares it with `migrations/versions/`."""


class Ledger:
    """An open ledger.

    `owner=True` takes the right to decide over budgets (`serve`). Of an SQLite file there is one owner, because each would spend what the
    other has reserved; readers and the command line open with `owner=False` beside it. PostgreSQL has as many as wanted.
    """

    def __init__(self, database_url: str, *, owner: bool = False, participant: Participant | None = None) -> None:
        self._database = _database(database_url, owner=owner)
        try:
            self._migrate()
            self.writer = GroupCommit(self._database.transactions(participant), participant)
            self._database.opened()
        except sqlalchemy.exc.DatabaseError as error:
            self._database.close()
            raise LedgerError(f"{self._database.name}: cannot be opened as a ledger: {first_line(error)}") from error
        except BaseException:
            self._database.close()
            raise

    @property
    def name(self) -> str:
        """Where it is, without any password: for messages."""
        return self._database.name

    @property
    def path(self) -> Path:
        """The file of an SQLite ledger. Raises `LedgerError` for one on PostgreSQL."""
        if self._database.path is None:
            raise LedgerError(f"{self.name}: is not kept in a file")
        return self._database.path

    @property
    def shared(self) -> bool:
        """Whether other replicas may write too: nothing may be remembered of what rows say."""
        return isinstance(self._database, PostgresqlDatabase)

    def lead(self) -> bool:
        """Whether this process is the one that reads the sources and runs the playbooks; asked every few seconds."""
        return not isinstance(self._database, PostgresqlDatabase) or self._database.lead()

    def check_file(self) -> None:
        """Refuse everything from now on where the file is not the one that was opened: writes to a deleted file would be lost."""
        reason = self._database.lost()
        if reason and not self.writer.condemned:
            self.writer.condemn(reason)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection on a consistent snapshot, for reading only, from any thread. Raises `LedgerUnavailable`."""
        try:
            with self._database.engine.connect() as connection:
                connection.exec_driver_sql(self._database.begin_read)
                try:
                    yield connection
                finally:
                    # One that broke says so again here, as another kind of error: what it broke in is what counts.
                    with suppress(sqlalchemy.exc.SQLAlchemyError):
                        connection.exec_driver_sql("ROLLBACK")
        except Exception as error:
            if not is_database_error(error):
                raise
            raise LedgerUnavailable(f"the ledger cannot be read: {first_line(error)}") from error

    def write(self, operation: Callable[[Connection], T]) -> T:
        """`operation(connection)` in the writer's next transaction; returns once it is durable.

        Raises what the operation raises (then nothing of it is kept), or `LedgerUnavailable`.
        """
        return self.writer.statement_blocking(operation)

    async def write_async(self, operation: Callable[[Connection], T]) -> T:
        """`write` for a coroutine."""
        return await self.writer.statement(operation)

    def close(self) -> None:
        """Commit what waits and let go of the database."""
        self.writer.close()
        self._database.close()

    def _migrate(self) -> None:
        with self._database.engine.connect() as connection:
            found = _revision(connection)
        if found == SCHEMA_REVISION:
            return
        known = {path.name.split("_")[0] for path in (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*.py")}
        if found is not None and found not in known:
            raise LedgerError(
                f"{self.name}: written by a newer costwarden (schema {found}, this one knows {SCHEMA_REVISION}); upgrade costwarden"
            )
        # Alembic takes a quarter of a second to import, and most starts find nothing to do.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._database.engine.connect() as connection:
            connection.exec_driver_sql(self._database.begin_migration)
            # Two processes that start together: the second finds the work done.
            if _revision(connection) != SCHEMA_REVISION:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            connection.exec_driver_sql("COMMIT")


def _database(database_url: str, *, owner: bool) -> SqliteDatabase | PostgresqlDatabase:
    try:
        url = make_url(database_url)
    except sqlalchemy.exc.ArgumentError:
        # Not repeated in the message: what cannot be read may hold a password.
        raise LedgerError("database_url: is not a URL, as `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`") from None
    if url.get_backend_name() == "sqlite":
        return SqliteDatabase(url, owner=owner)
    if url.get_backend_name() == "postgresql":
        return PostgresqlDatabase(url)
    raise LedgerError(f"database_url {url.render_as_string()}: is neither `sqlite:///PATH` nor `postgresql://USER@HOST/DATABASE`")


def _revision(connection: Connection) -> str | None:
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return found
