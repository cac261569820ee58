"""Budgets, what their periods have spent, and the reservations that are not settled."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, or_, select
from sqlalchemy.dialects.sqlite import insert as upsert

from costwarden.ledger.bulk import delete_keys, insert_rows
from costwarden.ledger.commit import driver
from costwarden.ledger.schema import budget_periods, budgets, reservations, suspended_tenants, thresholds_crossed
from costwarden.ledger.usage import Spend, spend_between
from costwarden.model import DIMENSIONS

RESERVATION_COLUMNS = ("reservation_id", "event_id", "created_at", "expires_at", "state", "estimate", *DIMENSIONS)
_INSERT_RESERVATION = f"INSERT INTO reservations ({', '.join(RESERVATION_COLUMNS)})"
_INSERT_PERIOD = "INSERT INTO budget_periods (budget, period_start, spent, input_tokens, output_tokens, requests)"
_ON_PERIOD = (
    "ON CONFLICT (budget, period_start) DO UPDATE SET spent = excluded.spent, input_tokens = excluded.input_tokens,"
    " output_tokens = excluded.output_tokens, requests = excluded.requests"
)
_INSERT_CROSSED = "INSERT INTO thresholds_crossed (budget, period_start, threshold, crossed_at, spent, limit_nanos)"
_ON_CROSSED = "ON CONFLICT (budget, period_start, threshold) DO NOTHING"


class BudgetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `budgets`; `scope` is in the order of `DIMENSIONS`, `thresholds` and the ratio are decimal text."""

    budget: str
    scope: tuple[str, ...]
    period: str
    limit: int
    soft_limit_ratio: str
    thresholds: tuple[str, ...]
    action: str
    origin: str


# --- budgets -------------------------------------------------------------------------------------------------------------------


def read_budgets(connection: Connection, tenant_id: str | None = None) -> list[BudgetRow]:
    """All budgets by name, or those whose scope names `tenant_id`."""
    query = select(budgets).order_by(budgets.c.budget)
    if tenant_id is not None:
        query = query.where(budgets.c.tenant_id == tenant_id)
    return [_budget_row(row) for row in connection.execute(query).mappings()]


def read_budget(connection: Connection, budget: str) -> BudgetRow | None:
    """The budget of that name."""
    row = connection.execute(select(budgets).where(budgets.c.budget == budget)).mappings().one_or_none()
    return None if row is None else _budget_row(row)


def _budget_row(row: Any) -> BudgetRow:
    return BudgetRow(
        budget=row["budget"],
        scope=tuple(row[name] for name in DIMENSIONS),
        period=row["period"],
        limit=row["limit_nanos"],
        soft_limit_ratio=row["soft_limit_ratio"],
        thresholds=tuple(msgspec.json.decode(row["thresholds"])),
        action=row["action"],
        origin=row["origin"],
    )


def put_budget(connection: Connection, row: BudgetRow, period_start: int, period_end: int, now: int) -> None:
    """Write a budget, new or changed; what its scope has spent in the current period counts from the first moment."""
    known = read_budget(connection, row.budget)
    values = {
        "budget": row.budget,
        **dict(zip(DIMENSIONS, row.scope, strict=True)),
        "period": row.period,
        "limit_nanos": row.limit,
        "soft_limit_ratio": row.soft_limit_ratio,
        "thresholds": msgspec.json.encode(row.thresholds).decode(),
        "action": row.action,
        "origin": row.origin,
        "created_at": now,
        "updated_at": now,
    }
    changed = {name: value for name, value in values.items() if name not in ("budget", "created_at")}
    connection.execute(upsert(budgets).values(values).on_conflict_do_update(index_elements=["budget"], set_=changed))
    if known is None or (known.scope, known.period) != (row.scope, row.period):
        connection.execute(delete(budget_periods).where(budget_periods.c.budget == row.budget))
        connection.execute(delete(thresholds_crossed).where(thresholds_crossed.c.budget == row.budget))
        write_periods(connection, [_period_row(row.budget, period_start, spend_between(connection, row.scope, period_start, period_end))])


def delete_budget(connection: Connection, budget: str) -> None:
    """Remove a budget; its periods' figures stay, as history."""
    connection.execute(delete(budgets).where(budgets.c.budget == budget))


# --- periods -------------------------------------------------------------------------------------------------------------------


def _period_row(budget: str, period_start: int, spend: Spend) -> tuple[Any, ...]:
    return (budget, period_start, spend.cost, spend.input_tokens, spend.output_tokens, spend.requests)


def write_periods(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Set the figures of periods: (budget, period_start, spent, input_tokens, output_tokens, requests)."""
    insert_rows(driver(connection), _INSERT_PERIOD, rows, _ON_PERIOD)


def read_periods(connection: Connection, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Spend]:
    """What periods (budget, period_start) have spent; one that has spent nothing may be missing."""
    wanted = msgspec.json.encode(list(keys)).decode()
    rows = driver(connection).execute(
        "SELECT p.budget, p.period_start, p.spent, p.input_tokens, p.output_tokens, p.requests FROM json_each(?) AS wanted"
        " JOIN budget_periods AS p ON p.budget = wanted.value ->> 0 AND p.period_start = wanted.value ->> 1",
        (wanted,),
    )
    return {(row[0], row[1]): Spend(row[2], row[3], row[4], row[5]) for row in rows}


def newest_periods(connection: Connection) -> dict[str, int]:
    """The start of the newest period that each budget has spent in."""
    rows = connection.execute(select(budget_periods.c.budget, func.max(budget_periods.c.period_start)).group_by(budget_periods.c.budget))
    return {budget: period_start for budget, period_start in rows}  # noqa: C416 (typed)


def write_crossed(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Record thresholds reached, once a period: (budget, period_start, threshold, crossed_at, spent, limit)."""
    insert_rows(driver(connection), _INSERT_CROSSED, rows, _ON_CROSSED)


def read_crossed(connection: Connection, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], dict[str, int]]:
    """Thresholds that periods (budget, period_start) have reached, in the order of reaching, each with the time that it was."""
    wanted = msgspec.json.encode(list(keys)).decode()
    rows = driver(connection).execute(
        "SELECT t.budget, t.period_start, t.threshold, t.crossed_at FROM json_each(?) AS wanted"
        " JOIN thresholds_crossed AS t ON t.budget = wanted.value ->> 0 AND t.period_start = wanted.value ->> 1"
        " ORDER BY t.crossed_at, t.threshold",
        (wanted,),
    )
    found: dict[tuple[str, int], dict[str, int]] = {}
    for budget, period_start, threshold, crossed_at in rows:
        found.setdefault((budget, period_start), {})[threshold] = crossed_at
    return found


# --- reservations --------------------------------------------------------------------------------------------------------------


def write_reservations(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add reservations, tuples in the order of `RESERVATION_COLUMNS`."""
    insert_rows(driver(connection), _INSERT_RESERVATION, rows)


def delete_reservations(connection: Connection, reservation_ids: Sequence[str]) -> None:
    """Remove reservations that are settled."""
    delete_keys(driver(connection), "reservations", "reservation_id", reservation_ids)


def mark_unsettled(connection: Connection, reservation_ids: Sequence[str]) -> None:
    """Move expired reservations to the state `unsettled`."""
    driver(connection).executemany(
        "UPDATE reservations SET state = 'unsettled' WHERE reservation_id = ?", [(reservation_id,) for reservation_id in reservation_ids]
    )


def read_reservations(connection: Connection, tenant_id: str | None = None) -> list[tuple[Any, ...]]:
    """All reservations in the order of creation, or those of one tenant and of none: tuples in the order of `RESERVATION_COLUMNS`."""
    columns = [reservations.c[name] for name in RESERVATION_COLUMNS]
    query = select(*columns).order_by(reservations.c.reservation_id)
    if tenant_id is not None:
        query = query.where(or_(reservations.c.tenant_id == tenant_id, reservations.c.tenant_id == ""))
    return [tuple(row) for row in connection.execute(query)]


# --- suspended tenants ---------------------------------------------------------------------------------------------------------


def read_suspended(connection: Connection) -> dict[str, dict[str, Any]]:
    """Suspended tenants by id, with reason, actor, run_id and suspended_at."""
    return {row["tenant_id"]: dict(row) for row in connection.execute(select(suspended_tenants)).mappings()}


def suspend_tenant(connection: Connection, tenant_id: str, *, reason: str, actor: str, run_id: str, now: int) -> bool:
    """Suspend a tenant; False where it was suspended already (the first reason stays)."""
    if connection.execute(select(suspended_tenants).where(suspended_tenants.c.tenant_id == tenant_id)).first() is not None:
        return False
    connection.execute(insert(suspended_tenants).values(tenant_id=tenant_id, reason=reason, actor=actor, run_id=run_id, suspended_at=now))
    return True


def resume_tenant(connection: Connection, tenant_id: str) -> bool:
    """Lift a suspension; False where there was none."""
    return connection.execute(delete(suspended_tenants).where(suspended_tenants.c.tenant_id == tenant_id)).rowcount > 0
