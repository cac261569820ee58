"""A ledger in a file: how it is opened, owned by one server, and read."""

import fcntl
import sqlite3
import time
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from costwarden.ledger.operations import LedgerError, Participant
from costwarden.ledger.sqlite_transactions import BUSY_TIMEOUT_SECONDS, SqliteTransactions
from costwarden.model import EXACT


class SqliteDatabase:
    """An SQLite file in WAL mode with `synchronous=FULL`: any number of connections that read, one that writes."""

    begin_read = "BEGIN"
    begin_migration = "BEGIN IMMEDIATE"

    def __init__(self, url: URL, *, owner: bool) -> None:
        if not url.database or url.database == ":memory:":
            raise LedgerError(f"database_url {url.render_as_string()}: the ledger is kept in a file, `sqlite:///PATH`")
        self.path = Path(url.database)
        if not self.path.parent.is_dir():
            raise LedgerError(f"{self.path}: the directory {self.path.parent} does not exist")
        self.name = str(self.path)
        self._lock: IO[bytes] | None = _take_ownership(self.path) if owner else None
        self.engine = sqlalchemy.create_engine(
            f"sqlite:///{self.path}", poolclass=QueuePool, pool_size=4, max_overflow=12, connect_args={"timeout": BUSY_TIMEOUT_SECONDS}
        )
        event.listen(self.engine, "connect", _prepare)
        self._inode = 0

    def opened(self) -> None:
        """The file is there, with its tables: remember which one it is."""
        self._inode = self.path.stat().st_ino

    def transactions(self, participant: Participant | None) -> SqliteTransactions:
        """What the writer runs its groups by."""
        return SqliteTransactions(self.engine.connect, participant, owner=self._lock is not None)

    def lost(self) -> str:
        """Why what is written now would be lost: the file is not the one that was opened. Empty while all is well."""
        try:
            there = self.path.stat().st_ino == self._inode
        except OSError:
            there = False
        return "" if there else f"the file {self.path} was deleted or replaced; restart costwarden"

    def close(self) -> None:
        """Let go of the file."""
        self.engine.dispose()
        if self._lock is not None:
            self._lock.close()


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


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    # Transactions are begun by hand: the driver's own would begin only at the first write and let two decisions interleave.
    connection.isolation_level = None
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_SECONDS * 1000)}")
    connection.create_aggregate("decimal_sum", 1, _DecimalSum)  # type: ignore[arg-type]


def _use_wal(connection: sqlite3.Connection) -> None:
    # Of two that make a new file at once SQLite refuses one, and does not wait for this as it does for other locks.
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


class _DecimalSum:
    """SQL aggregate: the exact sum of decimal TEXT; only NULL gives '0', and no rows give NULL, as SQL's own sum does."""

    def __init__(self) -> None:
        self._sum = Decimal(0)

    def step(self, text: str | None) -> None:
        if text is not None:
            # Not `localcontext`, which takes as long as the sum: this is called for every charge.
            self._sum = EXACT.add(self._sum, Decimal(text))

    def finalize(self) -> str:
        return str(self._sum)
