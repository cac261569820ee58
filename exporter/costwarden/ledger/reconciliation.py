"""What a reconciliation asks of bills and reservations that nobody else does."""

from collections.abc import Collection
from datetime import date
from typing import Any

from sqlalchemy import Connection, func, select

from costwarden.ledger.budgets import RESERVATION_COLUMNS
from costwarden.ledger.schema import charges, reservations


def bill_spans(connection: Connection, providers: Collection[str]) -> list[tuple[str, str, date, date]]:
    """(provider_name, source, first day, last day) of the charges of `providers`, each source apart."""
    keys = (charges.c.provider_name, charges.c.source)
    query = select(*keys, func.min(charges.c.charge_date), func.max(charges.c.charge_date)).group_by(*keys).order_by(*keys)
    rows = connection.execute(query.where(charges.c.provider_name.in_(sorted(providers))))
    return [(row[0], row[1], date.fromisoformat(row[2]), date.fromisoformat(row[3])) for row in rows]


def unsettled_between(connection: Connection, start: int, end: int) -> list[tuple[Any, ...]]:
    """Unsettled reservations made in [start, end) microseconds, the oldest first: tuples in the order of `RESERVATION_COLUMNS`."""
    columns = [reservations.c[name] for name in RESERVATION_COLUMNS]
    query = select(*columns).where(reservations.c.state == "unsettled", reservations.c.created_at >= start, reservations.c.created_at < end)
    return [tuple(row) for row in connection.execute(query.order_by(reservations.c.created_at, reservations.c.reservation_id))]
