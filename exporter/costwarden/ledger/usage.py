"""Usage events: appended once, summed by the hour and since the beginning in the same transaction."""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, select, text

from costwarden.ledger import postgresql_schema as postgresql
from costwarden.ledger.bulk import insert_rows, on_postgresql, read_keys, total_of
from costwarden.ledger.schema import usage, usage_hourly, usage_totals
from costwarden.ledger.scopes import Scope, sums_by_scope
from costwarden.model import DIMENSIONS, QUANTITIES

MICROS_PER_HOUR = 3_600_000_000

Cursor = int | str
"""How far a reader has read; see `usage_cursor`."""

# The order of msgspec.structs.astuple(Usage): a row is a record as it stands.
USAGE_COLUMNS = tuple(column.name for column in usage.columns if column.name != "usage_id")
DIMENSION_SLICE = slice(3, 3 + len(DIMENSIONS))
_QUANTITIES = (*QUANTITIES, "cost")
_quantities_of = itemgetter(*(USAGE_COLUMNS.index(name) for name in _QUANTITIES))
_TIMESTAMP, _SUCCESS, _COST, _PRICED_BY = (USAGE_COLUMNS.index(name) for name in ("timestamp", "success", "cost", "priced_by"))
_TOTALS_KEY = (*DIMENSIONS, "success", "priced")
_HOURLY_COLUMNS = ("hour", *_TOTALS_KEY, *_QUANTITIES)
_ADD_HOURLY = "DO UPDATE SET " + ", ".join(f"{name} = usage_hourly.{name} + excluded.{name}" for name in _QUANTITIES)
_ON_HOURLY = f"ON CONFLICT (hour, {', '.join(_TOTALS_KEY)}) {_ADD_HOURLY}"
_TOTALS_COLUMNS = (*_TOTALS_KEY, *_QUANTITIES)
_ADD_TOTALS = "DO UPDATE SET " + ", ".join(f"{name} = usage_totals.{name} + excluded.{name}" for name in _QUANTITIES)
_ON_TOTALS = f"ON CONFLICT ({', '.join(_TOTALS_KEY)}) {_ADD_TOTALS}"


# --- writing -------------------------------------------------------------------------------------------------------------------


def append_usage(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Append `rows` (tuples in the order of `USAGE_COLUMNS`), none of which may be there yet, and add them to both sums.

    Where another replica has recorded one of them meanwhile, PostgreSQL answers with a unique violation.
    """
    hourly: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        key = (row[_TIMESTAMP] // MICROS_PER_HOUR, *row[DIMENSION_SLICE], int(row[_SUCCESS]), int(row[_PRICED_BY] != "unpriced"))
        _add(hourly, key, _quantities_of(row))
    totals: dict[tuple[Any, ...], list[int]] = {}
    for key, quantities in hourly.items():
        _add(totals, key[1:], quantities)
    if on_postgresql(connection):
        _append_on_postgresql(connection, rows, hourly, totals)
        return
    insert_rows(connection, usage, USAGE_COLUMNS, rows)
    insert_rows(connection, usage_hourly, _HOURLY_COLUMNS, [(*key, *hourly[key]) for key in sorted(hourly)], _ON_HOURLY)
    insert_rows(connection, usage_totals, _TOTALS_COLUMNS, [(*key, *totals[key]) for key in sorted(totals)], _ON_TOTALS)


def _append_on_postgresql(
    connection: Connection,
    rows: Sequence[tuple[Any, ...]],
    hourly: dict[tuple[Any, ...], list[int]],
    totals: dict[tuple[Any, ...], list[int]],
) -> None:
    # In the order of the keys everywhere: so no two replicas wait for each other.
    identities = sorted((postgresql.digest(row[:2]), row[_COST], row[_TIMESTAMP]) for row in rows)
    insert_rows(connection, postgresql.usage_identities, ("identity", "cost", "timestamp"), identities)
    insert_rows(connection, usage, USAGE_COLUMNS, rows)
    digests = {key: postgresql.digest(map(str, key)) for key in totals}
    by_hour = sorted((key[0], digests[key[1:]], *key[1:], *quantities) for key, quantities in hourly.items())
    columns = ("hour", "digest", *_TOTALS_COLUMNS)
    insert_rows(connection, postgresql.usage_hourly, columns, by_hour, f"ON CONFLICT (hour, digest) {_ADD_HOURLY}")
    since_ever = sorted((digests[key], *key, *quantities) for key, quantities in totals.items())
    insert_rows(connection, postgresql.usage_totals, columns[1:], since_ever, f"ON CONFLICT (digest) {_ADD_TOTALS}")


def _add(sums: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], quantities: Sequence[int]) -> None:
    found = sums.get(key)
    if found is None:
        sums[key] = list(quantities)
    else:
        sums[key] = [a + b for a, b in zip(found, quantities, strict=True)]


# --- what is recorded ----------------------------------------------------------------------------------------------------------


def known_event(connection: Connection, source: str, event_id: str) -> int | None:
    """The nano-dollars that one event is recorded at; None where it is not recorded."""
    return known_events(connection, [(source, event_id)]).get((source, event_id))


def known_events(connection: Connection, identities: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Those of `identities` (source, event id) that are recorded already, with the nano-dollars they were recorded at."""
    if on_postgresql(connection):
        wanted = {postgresql.digest(identity): identity for identity in identities}
        found = read_keys(connection, postgresql.usage_identities, ("identity",), ("identity", "cost"), [(key,) for key in wanted])
        return {wanted[key.hex]: cost for key, cost in found}
    rows = read_keys(connection, usage, ("source", "event_id"), ("source", "event_id", "cost"), identities)
    return {(source, event_id): cost for source, event_id, cost in rows}


def identified(connection: Connection, source: str, event_id: str) -> ColumnElement[bool]:
    """The condition that a row of `usage` is that event. On PostgreSQL it says in which month, so that no other is searched."""
    named = and_(usage.c.source == source, usage.c.event_id == event_id)
    if not on_postgresql(connection):
        return named
    identities = postgresql.usage_identities
    query = select(identities.c.timestamp).where(identities.c.identity == postgresql.digest((source, event_id)))
    return and_(named, usage.c.timestamp == connection.execute(query).scalar_one_or_none())


def usage_cursor(connection: Connection) -> Cursor:
    """How far this transaction sees: give it to a `…_since` in a later one, and that tells what was recorded in between.

    Nothing is missed and nothing told twice. SQLite records one event after the other, and the newest `usage_id` says it all. On
    PostgreSQL transactions end in another order than they began in: there it is the snapshot, and each row knows its transaction. It may
    differ although nothing was recorded.
    """
    query = (
        text("SELECT pg_current_snapshot()::text") if on_postgresql(connection) else select(func.coalesce(func.max(usage.c.usage_id), 0))
    )
    cursor: Cursor = connection.execute(query).scalar_one()
    return cursor


def recorded_since(connection: Connection, cursor: Cursor) -> ColumnElement[bool]:
    """The condition that a row of `usage` was not there yet when `usage_cursor` gave `cursor`."""
    if not on_postgresql(connection):
        return usage.c.usage_id > cursor
    # The first condition is there for the index and the second one is the truth. The third leaves out rows that were restored from a dump
    # of a server that has counted further: they are old, and would be news for ever.
    return and_(
        text("usage.recorded_xid >= pg_snapshot_xmin(CAST(:seen AS pg_snapshot))").bindparams(seen=cursor),
        text("NOT pg_visible_in_snapshot(usage.recorded_xid, CAST(:seen AS pg_snapshot))").bindparams(seen=cursor),
        text("usage.recorded_xid < pg_snapshot_xmax(pg_current_snapshot())"),
    )


# --- sums ----------------------------------------------------------------------------------------------------------------------


class Spend(msgspec.Struct):
    """A sum of usage: nano-dollars, tokens, events."""

    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0


_SPENT = ("cost", "input_tokens", "output_tokens", "requests")

_EACH_HOUR = (
    "WITH RECURSIVE counted (hour) AS (SELECT max(:first_hour, min(hour)) FROM usage_hourly UNION ALL"
    " SELECT hour + 1 FROM counted WHERE hour + 1 < min(:last_hour, (SELECT max(hour) + 1 FROM usage_hourly)))"
    " SELECT hour FROM counted WHERE hour < :last_hour"
)


def spend_between(connection: Connection, scope: Sequence[str], start: int, end: int) -> Spend:
    """What usage that matches `scope` (values in the order of `DIMENSIONS`, empty = any) spent in [start, end) microseconds.

    Whole hours come from the hourly sums; only the parts of an hour at both ends are read event by event.
    """
    return spends_between(connection, [tuple(scope)], start, end)[tuple(scope)]


def spends_between(connection: Connection, scopes: Iterable[Scope], start: int, end: int) -> dict[Scope, Spend]:
    """`spend_between` of many scopes, in hardly more statements."""
    wanted = set(scopes)
    first_hour, last_hour = -(-start // MICROS_PER_HOUR), end // MICROS_PER_HOUR
    if first_hour >= last_hour:
        return _spends(wanted, [_event_sums(connection, wanted, start, end)])
    # The key begins with the hour: one look for a tenant in each hour, where a range would read all the others' rows too.
    of_tenants = set() if on_postgresql(connection) else {scope for scope in wanted if scope[0]}
    each_hour = usage_hourly.c.hour.in_(text(_EACH_HOUR).bindparams(first_hour=first_hour, last_hour=last_hour))
    hours = (usage_hourly.c.hour >= first_hour, usage_hourly.c.hour < last_hour)
    return _spends(
        wanted,
        [
            _event_sums(connection, wanted, start, first_hour * MICROS_PER_HOUR),
            _event_sums(connection, wanted, last_hour * MICROS_PER_HOUR, end),
            sums_by_scope(connection, of_tenants, usage_hourly, _SPENT, each_hour)
            | sums_by_scope(connection, wanted - of_tenants, usage_hourly, _SPENT, *hours),
        ],
    )


def _event_sums(connection: Connection, scopes: Iterable[Scope], start: int, end: int) -> dict[Scope, list[int]]:
    if start >= end:
        return {}
    return sums_by_scope(connection, scopes, usage, _SPENT, usage.c.timestamp >= start, usage.c.timestamp < end)


def _spends(scopes: Iterable[Scope], parts: Sequence[Mapping[Scope, Sequence[int]]]) -> dict[Scope, Spend]:
    return {scope: Spend(*map(sum, zip(*(part[scope] for part in parts if part), strict=True))) for scope in scopes}


def usage_sums(connection: Connection, dimensions: Sequence[str]) -> list[dict[str, Any]]:
    """Usage since the ledger began, by `dimensions`, `success` and `priced`: tokens by class, images, requests and cost."""
    keys = [usage_totals.c[name] for name in (*dimensions, "success", "priced")]
    query = select(*keys, *(total_of(usage_totals.c[name]).label(name) for name in _QUANTITIES)).group_by(*keys)
    return [dict(row) for row in connection.execute(query).mappings()]


def usage_between(connection: Connection, dimensions: Sequence[str], start: int, end: int) -> list[tuple[Any, ...]]:
    """Events with a timestamp in [start, end) microseconds: (*dimensions, cost) summed."""
    keys = [usage.c[name] for name in dimensions]
    query = select(*keys, total_of(usage.c.cost)).where(usage.c.timestamp >= start, usage.c.timestamp < end).group_by(*keys)
    return [tuple(row) for row in connection.execute(query)]


def usage_hours(connection: Connection, dimensions: Sequence[str], first_hour: int, last_hour: int) -> list[tuple[Any, ...]]:
    """The hourly sums of the hours in [first_hour, last_hour), hours since 1970: (*dimensions, cost) summed."""
    hours = usage_hourly
    keys = [hours.c[name] for name in dimensions]
    query = select(*keys, total_of(hours.c.cost)).where(hours.c.hour >= first_hour, hours.c.hour < last_hour).group_by(*keys)
    return [tuple(row) for row in connection.execute(query)]


def usage_since(connection: Connection, dimensions: Sequence[str], cursor: Cursor) -> list[tuple[Any, ...]]:
    """Events recorded after `cursor`, in the order of recording: (usage_id, timestamp, *dimensions, cost)."""
    keys = [usage.c[name] for name in dimensions]
    query = select(usage.c.usage_id, usage.c.timestamp, *keys, usage.c.cost).where(recorded_since(connection, cursor))
    return [tuple(row) for row in connection.execute(query.order_by(usage.c.usage_id))]
