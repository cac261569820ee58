"""Usage events: appended once, summed by the hour and since the beginning in the same transaction."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, func, select

from costwarden.ledger.bulk import insert_rows
from costwarden.ledger.commit import driver
from costwarden.ledger.schema import usage, usage_hourly, usage_totals
from costwarden.model import DIMENSIONS, TOKEN_CLASSES

MICROS_PER_HOUR = 3_600_000_000

# The order of msgspec.structs.astuple(Usage): a row is a record as it stands.
USAGE_COLUMNS = tuple(column.name for column in usage.columns if column.name != "usage_id")
DIMENSION_SLICE = slice(3, 3 + len(DIMENSIONS))
QUANTITY_SLICE = slice(3 + len(DIMENSIONS), 4 + len(DIMENSIONS) + len(TOKEN_CLASSES))
"""The token classes, then images."""

_QUANTITIES = (*TOKEN_CLASSES, "images", "requests", "cost")
_TOTALS_KEY = (*DIMENSIONS, "success", "priced")
_INSERT_USAGE = f"INSERT INTO usage ({', '.join(USAGE_COLUMNS)})"
_ADD = ", ".join(f"{name} = {name} + excluded.{name}" for name in _QUANTITIES)
_INSERT_HOURLY = f"INSERT INTO usage_hourly (hour, {', '.join((*_TOTALS_KEY, *_QUANTITIES))})"
_ON_HOURLY = f"ON CONFLICT (hour, {', '.join(_TOTALS_KEY)}) DO UPDATE SET {_ADD}"
_INSERT_TOTALS = f"INSERT INTO usage_totals ({', '.join((*_TOTALS_KEY, *_QUANTITIES))})"
_ON_TOTALS = f"ON CONFLICT ({', '.join(_TOTALS_KEY)}) DO UPDATE SET {_ADD}"


def append_usage(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Append `rows` (tuples in the order of `USAGE_COLUMNS`), none of which may be there yet, and add them to both sums."""
    hourly: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        key = (row[2] // MICROS_PER_HOUR, *row[DIMENSION_SLICE], int(row[-4]), int(row[-2] != "unpriced"))
        _add(hourly, key, (*row[QUANTITY_SLICE], 1, row[-3]))
    totals: dict[tuple[Any, ...], list[int]] = {}
    for key, quantities in hourly.items():
        _add(totals, key[1:], quantities)
    raw = driver(connection)
    insert_rows(raw, _INSERT_USAGE, rows)
    insert_rows(raw, _INSERT_HOURLY, [(*key, *quantities) for key, quantities in hourly.items()], _ON_HOURLY)
    insert_rows(raw, _INSERT_TOTALS, [(*key, *quantities) for key, quantities in totals.items()], _ON_TOTALS)


def _add(sums: dict[tuple[Any, ...], list[int]], key: tuple[Any, ...], quantities: Sequence[int]) -> None:
    found = sums.get(key)
    if found is None:
        sums[key] = list(quantities)
    else:
        sums[key] = [a + b for a, b in zip(found, quantities, strict=True)]


def known_event(connection: Connection, source: str, event_id: str) -> int | None:
    """The nano-dollars that one event is recorded at; None where it is not recorded."""
    found = driver(connection).execute("SELECT cost FROM usage WHERE source = ? AND event_id = ?", (source, event_id)).fetchone()
    return None if found is None else found[0]


def known_events(connection: Connection, identities: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Those of `identities` (source, event id) that are recorded already, with the nano-dollars they were recorded at."""
    wanted = msgspec.json.encode(list(identities)).decode()
    rows = driver(connection).execute(
        "SELECT u.source, u.event_id, u.cost FROM json_each(?) AS wanted"
        " JOIN usage AS u ON u.source = wanted.value ->> 0 AND u.event_id = wanted.value ->> 1",
        (wanted,),
    )
    return {(source, event_id): cost for source, event_id, cost in rows}


class Spend(msgspec.Struct):
    """A sum of usage: nano-dollars, tokens, events."""

    cost: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0


def spend_between(connection: Connection, scope: Sequence[str], start: int, end: int) -> Spend:
    """What usage that matches `scope` (values in the order of `DIMENSIONS`, empty = any) spent in [start, end) microseconds.

    Whole hours come from the hourly sums; only the parts of an hour at both ends are read event by event.
    """
    first_hour, last_hour = -(-start // MICROS_PER_HOUR), end // MICROS_PER_HOUR
    total = Spend()
    if first_hour >= last_hour:
        _add_events(connection, total, scope, start, end)
        return total
    _add_events(connection, total, scope, start, first_hour * MICROS_PER_HOUR)
    _add_events(connection, total, scope, last_hour * MICROS_PER_HOUR, end)
    hours = usage_hourly
    matches = [hours.c[name] == value for name, value in zip(DIMENSIONS, scope, strict=True) if value]
    columns = [func.coalesce(func.sum(hours.c[name]), 0) for name in ("cost", "input_tokens", "output_tokens", "requests")]
    _accumulate(
        total, connection.execute(select(*columns).where(and_(hours.c.hour >= first_hour, hours.c.hour < last_hour, *matches))).one()
    )
    return total


def _add_events(connection: Connection, total: Spend, scope: Sequence[str], start: int, end: int) -> None:
    if start >= end:
        return
    matches = [usage.c[name] == value for name, value in zip(DIMENSIONS, scope, strict=True) if value]
    columns = [func.coalesce(func.sum(usage.c[name]), 0) for name in ("cost", "input_tokens", "output_tokens")]
    query = select(*columns, func.count()).where(and_(usage.c.timestamp >= start, usage.c.timestamp < end, *matches))
    _accumulate(total, connection.execute(query).one())


def _accumulate(total: Spend, row: Any) -> None:
    total.cost += row[0]
    total.input_tokens += row[1]
    total.output_tokens += row[2]
    total.requests += row[3]


def usage_sums(connection: Connection, dimensions: Sequence[str]) -> list[dict[str, Any]]:
    """Usage since the ledger began, by `dimensions`, `success` and `priced`: tokens by class, images, requests and cost."""
    keys = [usage_totals.c[name] for name in (*dimensions, "success", "priced")]
    query = select(*keys, *(func.sum(usage_totals.c[name]).label(name) for name in _QUANTITIES)).group_by(*keys)
    return [dict(row) for row in connection.execute(query).mappings()]


def usage_between(
    connection: Connection, dimensions: Sequence[str], start: int, end: int, last_usage_id: int | None = None
) -> list[tuple[Any, ...]]:
    """Events with a timestamp in [start, end) microseconds and a `usage_id` of at most `last_usage_id`: (*dimensions, cost) summed."""
    keys = [usage.c[name] for name in dimensions]
    query = select(*keys, func.sum(usage.c.cost)).where(and_(usage.c.timestamp >= start, usage.c.timestamp < end)).group_by(*keys)
    if last_usage_id is not None:
        query = query.where(usage.c.usage_id <= last_usage_id)
    return [tuple(row) for row in connection.execute(query)]


def usage_hours(connection: Connection, dimensions: Sequence[str], first_hour: int, last_hour: int) -> list[tuple[Any, ...]]:
    """The hourly sums of the hours in [first_hour, last_hour), hours since 1970: (*dimensions, cost) summed."""
    hours = usage_hourly
    keys = [hours.c[name] for name in dimensions]
    query = select(*keys, func.sum(hours.c.cost)).where(and_(hours.c.hour >= first_hour, hours.c.hour < last_hour)).group_by(*keys)
    return [tuple(row) for row in connection.execute(query)]


def usage_since(connection: Connection, dimensions: Sequence[str], last_usage_id: int) -> list[tuple[Any, ...]]:
    """Events recorded after `last_usage_id`, in the order of recording: (usage_id, timestamp, *dimensions, cost)."""
    keys = [usage.c[name] for name in dimensions]
    query = (
        select(usage.c.usage_id, usage.c.timestamp, *keys, usage.c.cost).where(usage.c.usage_id > last_usage_id).order_by(usage.c.usage_id)
    )
    return [tuple(row) for row in connection.execute(query)]


def newest_usage_id(connection: Connection) -> int:
    """The `usage_id` recorded last; 0 where there is none."""
    newest: int = connection.execute(select(func.coalesce(func.max(usage.c.usage_id), 0))).scalar_one()
    return newest
