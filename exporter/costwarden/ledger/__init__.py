"""Where everything is kept: the only SQL of costwarden.

`Ledger` opens an SQLite file in WAL mode with `synchronous=FULL`, brings its schema up to date, and hands out connections: any number
that read, one that writes (`commit.GroupCommit`). The modules beside this one hold the statements, by noun.
"""

import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal, localcontext
from pathlib import Path
from typing import IO, Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool

from costwarden.ledger.commit import BUSY_TIMEOUT_SECONDS, GroupCommit, LedgerUnavailable, Participant
from costwarden.model import EXACT

__all__ = ["Connection", "Ledger", "LedgerError", "LedgerUnavailable"]

T = TypeVar("T")

SCHEMA_REVISION = "0001"
"""The newest migration; a test compares it with `migrations/versions/`."""


class LedgerError(Exception):
    """The ledger cannot be opened: the message says which file and what to do."""


class Ledger:
    """An open ledger.

    `owner=True` takes the right to decide over budgets (`serve`): a second owner of the same file is refused, because each would
    spend what the other has reserved. Readers and the command line open with `owner=False` beside it.
    """

    def __init__(self, database_url: str, *, owner: bool = False, participant: Participant | None = None) -> None:
        self.path = _sqlite_path(database_url)
        self._lock: IO[bytes] | None = _take_ownership(self.path) if owner else None
        self._engine = sqlalchemy.create_engine(
            f"sqlite:///{self.path}", poolclass=QueuePool, pool_size=4, max_overflow=12, connect_args={"timeout": BUSY_TIMEOUT_SECONDS}
        )
        event.listen(self._engine, "connect", _prepare)
        try:
            self._migrate()
            self.writer = GroupCommit(self._engine.connect, participant)
            self._inode = self.path.stat().st_ino
        except sqlalchemy.exc.DatabaseError as error:
            self._release()
            raise LedgerError(f"{self.path}: cannot be opened as a ledger: {error.orig}") from error
        except BaseException:
            self._release()
            raise

    def check_file(self) -> None:
        """Refuse everything from now on where the file is not the one that was opened: writes to a deleted file would be lost."""
        try:
            there = self.path.stat().st_ino == self._inode
        except OSError:
            there = False
        if not there and not self.writer.condemned:
            self.writer.condemn(f"the file {self.path} was deleted or replaced; restart costwarden")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection on a consistent snapshot, for reading only, from any thread. Raises `LedgerUnavailable`."""
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                try:
                    yield connection
                finally:
                    connection.exec_driver_sql("ROLLBACK")
        except sqlalchemy.exc.DBAPIError as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error.orig}") from error

    def write(self, operation: Callable[[Connection], T]) -> T:
        """`operation(connection)` in the writer's next transaction; returns once it is durable.

        Raises what the operation raises (then nothing of it is kept), or `LedgerUnavailable`.
        """
        return self.writer.statement_blocking(operation)

    async def write_async(self, operation: Callable[[Connection], T]) -> T:
        """`write` for a coroutine."""
        return await self.writer.statement(operation)

    def close(self) -> None:
        """Commit what waits and let go of the file."""
        self.writer.close()
        self._release()

    def _release(self) -> None:
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            found = _revision(connection)
        if found == SCHEMA_REVISION:
            return
        known = {path.name.split("_")[0] for path in (Path(__file__).parent / "migrations" / "versions").glob("[0-9]*.py")}
        if found is not None and found not in known:
            raise LedgerError(
                f"{self.path}: written by a newer costwarden (schema {found}, this one knows {SCHEMA_REVISION}); upgrade costwarden"
            )
        # Alembic takes a quarter of a second to import, and most starts find nothing to do.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            # Two processes that start together: the second finds the work done.
            if _revision(connection) != SCHEMA_REVISION:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
            connection.exec_driver_sql("COMMIT")


def _sqlite_path(database_url: str) -> Path:
    try:
        url = make_url(database_url)
    except sqlalchemy.exc.ArgumentError:
        # Not repeated in the message: what cannot be read may hold a password.
        raise LedgerError("database_url: is not a URL, as `sqlite:///PATH`") from None
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise LedgerError(f"database_url {url.render_as_string()}: this version keeps its ledger in a file, `sqlite:///PATH`")
    path = Path(url.database)
    if not path.parent.is_dir():
        raise LedgerError(f"{path}: the directory {path.parent} does not exist")
    return path


def _take_ownership(path: Path) -> IO[bytes]:
    try:
        lock = Path(f"{path}.lock").open("ab")  # noqa: SIM115 (held until close)
    except OSError as error:
        raise LedgerError(f"{path}.lock: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise LedgerError(f"{path}: another costwarden serves this ledger; two would spend the same budget twice") from None
    return lock


def _revision(connection: Connection) -> str | None:
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return found


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    # Transactions are begun by hand: the driver's own would begin only at the first write and let two decisions interleave.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_SECONDS * 1000)}")
    connection.create_aggregate("decimal_sum", 1, _DecimalSum)  # type: ignore[arg-type]


class _DecimalSum:
    """SQL aggregate: the exact sum of decimal TEXT; only NULL gives '0', and no rows give NULL, as SQL's own sum does."""

    def __init__(self) -> None:
        self._sum = Decimal(0)

    def step(self, text: str | None) -> None:
        if text is not None:
            with localcontext(EXACT):
                self._sum += Decimal(text)

    def finalize(self) -> str:
        return str(self._sum)
