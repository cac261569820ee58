"""Partitions of the usage table by month, in PostgreSQL: old months can be dropped as a whole, and a query reads its own months only.

Months are those of UTC. What falls into a month that has no partition goes to `usage_other`.
"""

from collections.abc import Iterator
from datetime import datetime

import sqlalchemy
import structlog
from sqlalchemy import Connection

from costwarden.ledger.bulk import on_postgresql
from costwarden.ledger.locks import PARTITIONS_LOCK
from costwarden.model import from_micros, to_micros

MONTHS_BEFORE = 1
MONTHS_AHEAD = 2

log = structlog.get_logger(__name__)


def make_partitions(connection: Connection, now: int) -> list[str]:
    """Make the partitions from the month before `now` microseconds to the second after it; the names of those that are new.

    To be called in a transaction, at every opening and once a day; several replicas may do so at once. Where one cannot be had within a
    second, because somebody is reading all of the table, it is left for the next time, and so are those after it. SQLite has none.
    """
    if not on_postgresql(connection):
        return []
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({PARTITIONS_LOCK})")
    _reclaim_restored(connection)
    attached = "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'usage'::regclass"
    there = set(connection.exec_driver_sql(attached).scalars())
    made = []
    for start, end in _months(from_micros(now)):
        name = f"usage_{start:%Y_%m}"
        if name in there:
            continue
        connection.exec_driver_sql("SAVEPOINT partition")
        try:
            _make(connection, name, to_micros(start), to_micros(end))
            made.append(name)
        except sqlalchemy.exc.DBAPIError as error:
            connection.exec_driver_sql("ROLLBACK TO partition")
            log.warning("partition not made", partition=name, error=str(error.orig).partition("\n")[0])
            break
        connection.exec_driver_sql("RELEASE partition")
    return made


def _months(now: datetime) -> Iterator[tuple[datetime, datetime]]:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for offset in range(-MONTHS_BEFORE, MONTHS_AHEAD + 1):
        yield _add_months(first, offset), _add_months(first, offset + 1)


def _add_months(first: datetime, months: int) -> datetime:
    years, month = divmod(first.month - 1 + months, 12)
    return first.replace(year=first.year + years, month=month + 1)


def _make(connection: Connection, name: str, start: int, end: int) -> None:
    """Attached, and not made in place: that would lock out everybody who reads or writes any month."""
    connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
    connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE usage INCLUDING DEFAULTS)")
    # Nothing may arrive between looking and attaching.
    connection.exec_driver_sql("LOCK TABLE usage_other IN ACCESS EXCLUSIVE MODE")
    strays = f"DELETE FROM usage_other WHERE timestamp >= {start} AND timestamp < {end} RETURNING *"  # noqa: S608
    connection.exec_driver_sql(f"WITH stray AS ({strays}) INSERT INTO {name} SELECT * FROM stray")  # noqa: S608
    connection.exec_driver_sql(f"ALTER TABLE usage ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})")


def _reclaim_restored(connection: Connection) -> None:
    """Take the rows of a restored dump for old ones, before this server has counted as far as the one that they come from.

    3 is the first number that any transaction has.
    """
    connection.exec_driver_sql("UPDATE usage SET recorded_xid = '3' WHERE recorded_xid > pg_current_xact_id()")
