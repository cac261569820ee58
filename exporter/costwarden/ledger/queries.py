"""What the API reads: pages of events, sums of cost, what happened to budgets, and who changed what.

A page begins after the place that the last one ended at, so that rows which are added meanwhile neither repeat nor hide others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, tuple_

from costwarden.ledger.schema import (
    audit,
    budgets,
    guardrail_breaches,
    remediation_queue,
    reservations,
    thresholds_crossed,
    usage,
    usage_hourly,
)
from costwarden.ledger.usage import identified
from costwarden.model import QUANTITIES

MEASURES = ("cost", *QUANTITIES)
"""What the hourly sums add up."""


# --- usage ---------------------------------------------------------------------------------------------------------------------


def usage_page(
    connection: Connection,
    where: Mapping[str, str],
    *,
    start: int,
    end: int,
    success: bool | None,
    after: tuple[int, int] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Up to `limit` events with a timestamp in [start, end) microseconds, the newest first, those older than `after`.

    `where` names columns and their values; `after` is the (timestamp, usage_id) that the last page ended at.
    """
    query = select(usage).where(usage.c.timestamp >= start, usage.c.timestamp < end)
    query = query.where(*(usage.c[name] == value for name, value in where.items()))
    if success is not None:
        query = query.where(usage.c.success == int(success))
    if after is not None:
        # The first condition alone would do, but for the index: it says where to begin.
        query = query.where(usage.c.timestamp <= after[0], tuple_(usage.c.timestamp, usage.c.usage_id) < tuple_(*after))
    query = query.order_by(usage.c.timestamp.desc(), usage.c.usage_id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def usage_event(connection: Connection, source: str, event_id: str) -> dict[str, Any] | None:
    """One event; None where it is not recorded."""
    query = select(usage).where(identified(connection, source, event_id))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


# --- costs ---------------------------------------------------------------------------------------------------------------------


def hourly_costs(
    connection: Connection, by: Sequence[str], where: Mapping[str, str], *, first_hour: int, last_hour: int, hours_each: int
) -> list[tuple[Any, ...]]:
    """The hourly sums of the hours in [first_hour, last_hour), hours since 1970: (bucket, *by, *MEASURES).

    A bucket is `hours_each` hours, counted since 1970; 0 puts everything into bucket 0.
    """
    hours = usage_hourly
    # Text of ours, not a parameter: PostgreSQL must see the same expression twice.
    bucket: ColumnElement[Any] = hours.c.hour - hours.c.hour % hours_each if hours_each > 1 else hours.c.hour
    keys = [*([bucket] if hours_each else []), *(hours.c[name] for name in by)]
    query = select(*keys, *(func.coalesce(func.sum(hours.c[name]), 0) for name in MEASURES))
    query = query.where(hours.c.hour >= first_hour, hours.c.hour < last_hour)
    query = query.where(*(hours.c[name] == value for name, value in where.items()))
    if keys:
        query = query.group_by(*(range_of(keys)))
    rows = connection.execute(query)
    return [tuple(_whole(row) if hours_each else (0, *_whole(row))) for row in rows]


def range_of(keys: Sequence[Any]) -> list[Any]:
    """`GROUP BY 1, 2, …`: by position."""
    from sqlalchemy import text

    return [text(str(position)) for position in range(1, len(keys) + 1)]


def _whole(row: Any) -> list[Any]:
    # PostgreSQL sums 64-bit numbers into decimal ones.
    measures = len(MEASURES)
    return [*row[:-measures], *(int(value) for value in row[-measures:])]


# --- alerts --------------------------------------------------------------------------------------------------------------------


def thresholds_page(
    connection: Connection, *, tenant_id: str | None, start: int, end: int, after: tuple[str, int, str] | None, limit: int
) -> list[dict[str, Any]]:
    """Up to `limit` thresholds crossed in [start, end), the newest first; of budgets of `tenant_id`, where one is named.

    At the time `end - 1` only those after the key `after` (budget, period_start, threshold) count.
    """
    crossed = thresholds_crossed
    key = (crossed.c.budget, crossed.c.period_start, crossed.c.threshold)
    query = select(crossed, budgets.c.period, budgets.c.tenant_id).join(
        budgets, budgets.c.budget == crossed.c.budget, isouter=tenant_id is None
    )
    if tenant_id is not None:
        query = query.where(budgets.c.tenant_id == tenant_id)
    return _page(connection, query, crossed.c.crossed_at, key, start, end, after, limit)


def breaches_page(connection: Connection, *, start: int, end: int, after: tuple[str] | None, limit: int) -> list[dict[str, Any]]:
    """As `thresholds_page`, of guardrails; the key is their name."""
    breaches = guardrail_breaches
    return _page(connection, select(breaches), breaches.c.breached_at, (breaches.c.guardrail,), start, end, after, limit)


def incidents_page(connection: Connection, *, start: int, end: int, after: tuple[int] | None, limit: int) -> list[dict[str, Any]]:
    """As `thresholds_page`, of what Alertmanager has told; the key is the `queue_id`."""
    queue = remediation_queue
    return _page(connection, select(queue), queue.c.received_at, (queue.c.queue_id,), start, end, after, limit)


def _page(
    connection: Connection,
    query: Select[Any],
    at: ColumnElement[int],
    key: Sequence[ColumnElement[Any]],
    start: int,
    end: int,
    after: Sequence[Any] | None,
    limit: int,
) -> list[dict[str, Any]]:
    query = query.where(at >= start, at < end)
    if after is not None:
        query = query.where(or_(at < end - 1, and_(at == end - 1, tuple_(*key) > tuple_(*after))))
    return [dict(row) for row in connection.execute(query.order_by(at.desc(), *key).limit(limit)).mappings()]


# --- audit ---------------------------------------------------------------------------------------------------------------------


def audit_page(
    connection: Connection, where: Mapping[str, str], *, start: int, end: int, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Up to `limit` entries of the audit log, the newest first, those with an id smaller than `before`. `where` names columns."""
    query = select(audit).where(audit.c.at >= start, audit.c.at < end)
    query = query.where(*(audit.c[name] == value for name, value in where.items()))
    if before is not None:
        query = query.where(audit.c.entry_id < before)
    return [dict(row) for row in connection.execute(query.order_by(audit.c.entry_id.desc()).limit(limit)).mappings()]


# --- reservations --------------------------------------------------------------------------------------------------------------


def reservation_tenant(connection: Connection, reservation_id: str) -> str | None:
    """The tenant of a reservation; None where there is no such reservation."""
    query = select(reservations.c.tenant_id).where(reservations.c.reservation_id == reservation_id)
    found: str | None = connection.execute(query).scalar_one_or_none()
    return found
