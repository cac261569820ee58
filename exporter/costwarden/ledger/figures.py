"""Figures that only the metrics page asks for: above all what was recorded since it last looked, so that it never reads history again.

`usage_id` rises in the order of recording: a reader that remembers the newest one it has seen misses nothing and counts nothing twice.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from costwarden.ledger.schema import reservations, usage
from costwarden.model import TOKEN_CLASSES


def sums_since(connection: Connection, dimensions: Sequence[str], last_usage_id: int) -> list[dict[str, Any]]:
    """As `usage.usage_sums`, of the events recorded after `last_usage_id` alone."""
    priced = (usage.c.priced_by != "unpriced").label("priced")
    keys = [*(usage.c[name] for name in dimensions), usage.c.success, priced]
    sums = [func.sum(usage.c[name]).label(name) for name in (*TOKEN_CLASSES, "images", "cost")]
    query = select(*keys, *sums, func.count().label("requests")).where(usage.c.usage_id > last_usage_id).group_by(*keys)
    return [dict(row) for row in connection.execute(query).mappings()]


def events_since(connection: Connection, dimensions: Sequence[str], last_usage_id: int, before: int) -> list[tuple[Any, ...]]:
    """Events recorded after `last_usage_id` whose timestamp is earlier than `before`: (timestamp, *dimensions, cost)."""
    keys = [usage.c[name] for name in dimensions]
    query = select(usage.c.timestamp, *keys, usage.c.cost).where(usage.c.usage_id > last_usage_id, usage.c.timestamp < before)
    return [tuple(row) for row in connection.execute(query)]


def cost_since(connection: Connection, last_usage_id: int, start: int, end: int) -> int:
    """Nano-dollars of the events recorded after `last_usage_id` with a timestamp in [start, end) microseconds."""
    within = (usage.c.usage_id > last_usage_id, usage.c.timestamp >= start, usage.c.timestamp < end)
    cost: int = connection.execute(select(func.coalesce(func.sum(usage.c.cost), 0)).where(*within)).scalar_one()
    return cost


def reservation_counts(connection: Connection) -> dict[str, int]:
    """Reservations that are not settled, by state."""
    query = select(reservations.c.state, func.count()).group_by(reservations.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}
