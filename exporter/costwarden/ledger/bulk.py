"""Many rows in few statements, on either database: each statement gives up the interpreter once, however many rows it carries.

SQLite takes them as `VALUES` and as JSON, PostgreSQL as arrays. Names of tables and columns are this package's own; values are always
parameters.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import BigInteger, Column, ColumnElement, Connection, Float, Insert, Integer, Table, Uuid, cast, func

if TYPE_CHECKING:
    import psycopg

# Multiples keep the number of distinct statements small, so that the driver's statement cache holds them all.
_CHUNKS = (64, 16, 4, 1)

# Measured with rows of usage: 16 of them (432 parameters) take 5.3 µs each, 64 take 7.9, 256 take 8.3, one at a time 6.2.
_PARAMETERS = 512


def on_postgresql(connection: Connection) -> bool:
    """Whether the ledger is kept in PostgreSQL."""
    return connection.dialect.name == "postgresql"


def sqlite_driver(connection: Connection) -> sqlite3.Connection:
    """SQLite's own connection, for the hot statements that are written by hand."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def postgresql_driver(connection: Connection) -> "psycopg.Connection[tuple[Any, ...]]":
    """psycopg's own connection, for the hot statements that are written by hand."""
    raw: Any = connection.connection.driver_connection
    return raw  # type: ignore[no-any-return]


def upsert(connection: Connection, table: Table) -> Any:
    """SQLAlchemy's `INSERT` of this database, with `on_conflict_do_update` and `on_conflict_do_nothing`."""
    from sqlalchemy.dialects import postgresql, sqlite

    statement: Insert = (postgresql if on_postgresql(connection) else sqlite).insert(table)
    return statement


def storable(text: str) -> str:
    """`text` as both databases hold it: PostgreSQL's texts have no U+0000, and half of a surrogate pair has no UTF-8 form."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def total_of(column: Column[int]) -> ColumnElement[int]:
    """SQL's sum of whole numbers, 0 where there are no rows. PostgreSQL's own is a decimal."""
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]], conflict: str = "") -> None:
    """Insert all `rows`, values in the order of `columns`. `conflict` is an `ON CONFLICT` clause.

    Where rows may meet those of another writer, the caller brings them in the order of their key: everyone locks in one order.
    """
    if not rows:
        return
    insert = f"INSERT INTO {table.name} ({', '.join(columns)})"
    if on_postgresql(connection):
        arrays = ", ".join(f"%s::{_array_type(table, name)}" for name in columns)
        statement = f"{insert} SELECT * FROM unnest({arrays}) {conflict}"  # noqa: S608
        arrays_of = [_array(table, name, values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)]
        postgresql_driver(connection).execute(statement, arrays_of)
        return
    raw = sqlite_driver(connection)
    row = f"({', '.join('?' * len(columns))})"
    done = 0
    for size in _CHUNKS:
        if len(rows) - done < size or size * len(columns) > _PARAMETERS:
            continue
        statement = f"{insert} VALUES {', '.join([row] * size)} {conflict}"
        while len(rows) - done >= size:
            raw.execute(statement, list(chain.from_iterable(rows[done : done + size])))
            done += size


def delete_keys(connection: Connection, table: Table, column: str, keys: Sequence[str]) -> None:
    """Delete the rows of `table` whose `column` is one of `keys`."""
    if not keys:
        return
    delete = f"DELETE FROM {table.name} WHERE {column}"  # noqa: S608
    if on_postgresql(connection):
        postgresql_driver(connection).execute(f"{delete} = ANY(%s::text[])", [_text_array(keys)])
        return
    raw = sqlite_driver(connection)
    done = 0
    for size in _CHUNKS:
        while len(keys) - done >= size:
            raw.execute(f"{delete} IN ({', '.join('?' * size)})", keys[done : done + size])
            done += size


def read_keys(
    connection: Connection,
    table: Table,
    key: Sequence[str],
    columns: Sequence[str],
    keys: Iterable[Sequence[Any]],
    *,
    lock: bool = False,
) -> list[tuple[Any, ...]]:
    """`columns` of the rows of `table` whose `key` columns are one of `keys`; those that are not there are left out.

    `lock=True` holds the rows until the transaction ends, taken in the order of their key; on SQLite the one writer holds all anyway.
    """
    wanted = list(keys)
    if not wanted:
        return []
    selected = ", ".join(f"t.{name}" for name in columns)
    if on_postgresql(connection):
        arrays = ", ".join(f"%s::{_array_type(table, name)}" for name in key)
        joined = " AND ".join(f"t.{name} = wanted.{name}" for name in key)
        statement = f"SELECT {selected} FROM unnest({arrays}) AS wanted({', '.join(key)}) JOIN {table.name} AS t ON {joined}"  # noqa: S608
        if lock:
            statement += f" ORDER BY {', '.join(f't.{name}' for name in key)} FOR UPDATE OF t"
        values = [_array(table, name, column) for name, column in zip(key, zip(*wanted, strict=True), strict=True)]
        return postgresql_driver(connection).execute(statement, values).fetchall()
    joined = " AND ".join(f"t.{name} = wanted.value ->> {index}" for index, name in enumerate(key))
    statement = f"SELECT {selected} FROM json_each(?) AS wanted JOIN {table.name} AS t ON {joined}"  # noqa: S608
    return sqlite_driver(connection).execute(statement, (msgspec.json.encode(wanted).decode(),)).fetchall()


@cache
def _array_type(table: Table, column: str) -> str:
    kind = table.columns[column].type
    if isinstance(kind, BigInteger | Integer):
        return "bigint[]"
    return "double precision[]" if isinstance(kind, Float) else "uuid[]" if isinstance(kind, Uuid) else "text[]"


def _array(table: Table, column: str, values: Sequence[Any]) -> Any:
    """`values` as PostgreSQL writes arrays: the driver's own way takes five times as long. Truth is a whole number, 1."""
    kind = _array_type(table, column)
    if kind == "bigint[]":
        return f"{{{','.join(map(str, map(int, values)))}}}"
    return list(values) if kind == "double precision[]" else _text_array(values)


def _text_array(values: Sequence[str]) -> str:
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * (len(values) - 1):
        joined = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return f'{{"{joined}"}}' if values else "{}"
