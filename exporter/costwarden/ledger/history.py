"""What the ledger knows of the past, series by series: streamed in the order of their labels, so that a year never stands in memory."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, func, select

from costwarden.ledger.bulk import total_of
from costwarden.ledger.schema import charges, usage_hourly

_PAGE_ROWS = 5_000
"""Rows that are fetched at once: PostgreSQL would else hand over the whole answer."""

DayCosts = list[tuple[date, Decimal]]
"""The cost in dollars of days, earliest first; days without charges are left out."""

HourSums = list[tuple[Any, ...]]
"""Rows of the hourly sums, earliest first: (hour since 1970, …)."""


def first_day(connection: Connection) -> date | None:
    """The first day (UTC) of which a bill or AI usage tells; None for an empty ledger."""
    billed = connection.execute(select(func.min(charges.c.charge_date))).scalar()
    used = connection.execute(select(func.min(usage_hourly.c.hour))).scalar()
    days = [date.fromisoformat(billed)] if billed else []
    if used is not None:
        days.append(date(1970, 1, 1) + timedelta(hours=used))
    return min(days, default=None)


def charge_days(connection: Connection, before: date) -> dict[str, list[date]]:
    """Provider -> the days before `before` that have any charge of it, earliest first."""
    key = (charges.c.provider_name, charges.c.charge_date)
    query = select(*key).where(charges.c.charge_date < before.isoformat()).distinct().order_by(*key)
    rows = connection.execute(query).all()
    return {provider: [date.fromisoformat(row[1]) for row in found] for provider, found in groupby(rows, itemgetter(0))}


def daily_costs(
    connection: Connection, basis: str, columns: Sequence[str], *, provider: str, before: date
) -> Iterator[tuple[tuple[str, ...], DayCosts]]:
    """(values of `columns`, its days before `before`) of one provider, in the order of the values.

    `basis` is one of `COST_BASES`; `columns` name columns of the charges. What is allocated counts: of one provider alone nothing counts
    twice.
    """
    keys = [*(charges.c[name] for name in columns), charges.c.charge_date]
    query = select(*keys, func.decimal_sum(charges.c[f"{basis}_usd"])).group_by(*keys).order_by(*keys)
    query = query.where(charges.c.provider_name == provider, charges.c.charge_date < before.isoformat())
    width = len(columns)
    for labels, rows in groupby(_stream(connection, query), lambda row: tuple(row[:width])):
        yield labels, [(date.fromisoformat(row[width]), Decimal(row[-1])) for row in rows if row[-1] is not None]


def hourly_sums(
    connection: Connection, labels: Sequence[str], kinds: Sequence[str], measures: Sequence[str], *, before: int, after: int = 0
) -> Iterator[tuple[tuple[str, ...], HourSums]]:
    """(values of `labels`, rows (hour, *kinds, *sums of measures)) of the hours in [after, before), in the order of the values.

    `labels` name dimensions, `kinds` are of `success` and `priced`, `measures` of `MEASURES`.
    """
    hours = usage_hourly
    keys = [*(hours.c[name] for name in labels), hours.c.hour, *(hours.c[name] for name in kinds)]
    query = select(*keys, *(total_of(hours.c[name]) for name in measures)).group_by(*keys).order_by(*keys)
    query = query.where(hours.c.hour >= after, hours.c.hour < before)
    width = len(labels)
    for values, rows in groupby(_stream(connection, query), lambda row: tuple(row[:width])):
        yield values, [tuple(row[width:]) for row in rows]


def _stream(connection: Connection, query: Any) -> Iterator[Any]:
    return iter(connection.execute(query, execution_options={"yield_per": _PAGE_ROWS}))
