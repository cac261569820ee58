"""Figures that only the metrics page asks for: above all what was recorded since it last looked, so that it never reads history again.

A reader that remembers the cursor (`usage.usage_cursor`) of the transaction in which it last looked misses nothing, and counts nothing
twice.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Integer, and_, cast, false, func, literal_column, or_, select

from costwarden.ledger.bulk import total_of
from costwarden.ledger.schema import charges, reservations, source_parts, source_state, usage, usage_hourly
from costwarden.ledger.usage import MICROS_PER_HOUR, Cursor, recorded_since
from costwarden.model import ALLOCATED, QUANTITIES

_PAGE_ROWS = 5_000
"""Rows that are fetched at once: PostgreSQL would else hand over the whole answer."""


def sums_since(connection: Connection, dimensions: Sequence[str], cursor: Cursor) -> list[dict[str, Any]]:
    """As `usage.usage_sums`, of the events recorded after `cursor` alone."""
    # Written out, because PostgreSQL must see that what is selected is what is grouped by.
    priced = cast(usage.c.priced_by != literal_column("'unpriced'"), Integer)
    keys = [*(usage.c[name] for name in dimensions), usage.c.success]
    sums = [total_of(usage.c[name]).label(name) for name in (*QUANTITIES, "cost")]
    query = select(*keys, priced.label("priced"), *sums).where(recorded_since(connection, cursor)).group_by(*keys, priced)
    return [dict(row) for row in connection.execute(query).mappings()]


def events_since(connection: Connection, dimensions: Sequence[str], cursor: Cursor, before: int) -> list[tuple[Any, ...]]:
    """Events recorded after `cursor` whose timestamp is earlier than `before`: (timestamp, *dimensions, cost)."""
    keys = [usage.c[name] for name in dimensions]
    query = select(usage.c.timestamp, *keys, usage.c.cost).where(recorded_since(connection, cursor), usage.c.timestamp < before)
    return [tuple(row) for row in connection.execute(query)]


def hours_since(connection: Connection, dimensions: Sequence[str], cursor: Cursor) -> list[tuple[Any, ...]]:
    """Of the events recorded after `cursor`: (hour since 1970, *dimensions, cost) summed."""
    hour = usage.c.timestamp.op("/")(literal_column(str(MICROS_PER_HOUR)))
    keys = [hour, *(usage.c[name] for name in dimensions)]
    query = select(*keys, total_of(usage.c.cost)).where(recorded_since(connection, cursor)).group_by(*keys)
    return [tuple(row) for row in connection.execute(query)]


def first_hours(connection: Connection, first_hour: int) -> dict[str, int]:
    """Tenant -> the first hour (since 1970) from `first_hour` on in which it used anything."""
    query = select(usage_hourly.c.tenant_id, func.min(usage_hourly.c.hour)).where(usage_hourly.c.hour >= first_hour)
    return {row[0]: row[1] for row in connection.execute(query.group_by(usage_hourly.c.tenant_id))}


def cost_since(connection: Connection, cursor: Cursor, start: int, end: int) -> int:
    """Nano-dollars of the events recorded after `cursor` with a timestamp in [start, end) microseconds."""
    within = (recorded_since(connection, cursor), usage.c.timestamp >= start, usage.c.timestamp < end)
    cost: int = connection.execute(select(total_of(usage.c.cost)).where(*within)).scalar_one()
    return cost


def busiest_hours(connection: Connection, first_hour: int, last_hour: int) -> dict[str, int]:
    """Tenant -> the nano-dollars of its dearest hour of those in [first_hour, last_hour), since 1970."""
    hours = usage_hourly
    sums = select(hours.c.tenant_id, total_of(hours.c.cost).label("cost")).where(hours.c.hour >= first_hour, hours.c.hour < last_hour)
    found = sums.group_by(hours.c.hour, hours.c.tenant_id).subquery()
    query = select(found.c.tenant_id, func.max(found.c.cost)).group_by(found.c.tenant_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def reservation_counts(connection: Connection) -> dict[str, int]:
    """Reservations that are not settled, by state."""
    query = select(reservations.c.state, func.count()).group_by(reservations.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


# --- bills ---------------------------------------------------------------------------------------------------------------------


def bills_version(connection: Connection) -> tuple[Any, ...]:
    """Differs after every refresh of a source, whichever process made it."""
    state = select(source_state.c.source, source_state.c.last_attempt_at, source_state.c.refreshes_ok).order_by(source_state.c.source)
    parts = select(func.count(), func.max(source_parts.c.read_at), total_of(source_parts.c.rows)).select_from(source_parts)
    return (*(tuple(row) for row in connection.execute(state)), tuple(connection.execute(parts).one()))


def costs_by_month(connection: Connection, basis: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """Cost in dollars of every calendar month: (provider_name, `YYYY-MM`, *columns, exact Decimal). `basis` is one of `COST_BASES`."""
    month = func.substr(charges.c.charge_date, literal_column("1"), literal_column("7"))
    keys = [charges.c.provider_name, month, *(charges.c[name] for name in columns)]
    query = select(*keys, func.decimal_sum(charges.c[f"{basis}_usd"])).group_by(*keys).order_by(*keys)
    return [(*row[:-1], Decimal(row[-1])) for row in connection.execute(query)]


def newest_days(connection: Connection, before: date) -> dict[str, date]:
    """By provider, the newest day earlier than `before` that has any charge."""
    query = select(charges.c.provider_name, func.max(charges.c.charge_date)).where(charges.c.charge_date < before.isoformat())
    return {row[0]: date.fromisoformat(row[1]) for row in connection.execute(query.group_by(charges.c.provider_name))}


def account_days(connection: Connection, first: date, before: date) -> dict[str, dict[tuple[str, str], set[date]]]:
    """Provider -> (source, billing account) -> the days from `first` to the one before `before` that have any charge."""
    keys = (charges.c.provider_name, charges.c.source, charges.c.billing_account_id, charges.c.charge_date)
    query = select(*keys).distinct().where(charges.c.charge_date >= first.isoformat(), charges.c.charge_date < before.isoformat())
    found: dict[str, dict[tuple[str, str], set[date]]] = {}
    for provider, source, account, day in connection.execute(query):
        found.setdefault(provider, {}).setdefault((source, account), set()).add(date.fromisoformat(day))
    return found


def costs_on_days(
    connection: Connection, basis: str, columns: Sequence[str], days: Mapping[str, tuple[date, date]]
) -> Iterator[tuple[Any, ...]]:
    """(provider_name, day, *columns, exact Decimal) of the days from first to last that `days` has of each provider, in no order.

    What one provider allocates and another one bills counts too: of one provider alone nothing counts twice.
    """
    within = [
        and_(charges.c.provider_name == provider, charges.c.charge_date.between(first.isoformat(), last.isoformat()))
        for provider, (first, last) in days.items()
    ]
    keys = [charges.c.provider_name, charges.c.charge_date, *(charges.c[name] for name in columns)]
    query = select(*keys, func.decimal_sum(charges.c[f"{basis}_usd"])).where(or_(false(), *within)).group_by(*keys)
    for provider, day, *values, cost in connection.execute(query, execution_options={"yield_per": _PAGE_ROWS}):
        if cost is not None:
            yield provider, date.fromisoformat(day), *values, Decimal(cost)


def costs_between(
    connection: Connection,
    basis: str,
    columns: Sequence[str],
    *,
    first: date,
    last: date,
    among: Mapping[str, Collection[str]] | None = None,
    allocated: bool = True,
) -> Iterator[tuple[Any, ...]]:
    """(*columns, exact Decimal) of the days from `first` to `last`, in no order.

    `among` names columns whose value is to be one of those given. What one provider allocates and another one bills (`model.ALLOCATED`)
    is left out where `allocated` is False.
    """
    keys = [charges.c[name] for name in columns]
    query = select(*keys, func.decimal_sum(charges.c[f"{basis}_usd"])).group_by(*keys)
    query = query.where(charges.c.charge_date.between(first.isoformat(), last.isoformat()))
    for name, values in (among or {}).items():
        query = query.where(charges.c[name].in_(sorted(values)))
    if not allocated:
        query = query.where(charges.c.charge_category != ALLOCATED)
    for *found, cost in connection.execute(query, execution_options={"yield_per": _PAGE_ROWS}):
        if cost is not None:
            yield *found, Decimal(cost)


def source_providers(connection: Connection) -> list[tuple[str, str]]:
    """(source, provider_name) of every provider that a source has charges of."""
    keys = (charges.c.source, charges.c.provider_name)
    return [(row[0], row[1]) for row in connection.execute(select(*keys).distinct().order_by(*keys))]


def source_states(connection: Connection) -> list[dict[str, Any]]:
    """What every source says of itself: the rows of `source_state`."""
    return [dict(row) for row in connection.execute(select(source_state).order_by(source_state.c.source)).mappings()]


def part_counts(connection: Connection) -> list[tuple[str, str, int]]:
    """(source, state, parts)."""
    keys = (source_parts.c.source, source_parts.c.state)
    return [(row[0], row[1], row[2]) for row in connection.execute(select(*keys, func.count()).group_by(*keys).order_by(*keys))]
