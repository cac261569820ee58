"""Budgets, what their periods have spent, and the reservations that are not settled."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, or_, select, update

from costwarden.ledger.bulk import delete_keys, insert_rows, postgresql_driver, read_keys
from costwarden.ledger.locks import lock_budgets
from costwarden.ledger.schema import book_changes, budget_periods, budgets, reservations, suspended_tenants, thresholds_crossed
from costwarden.ledger.scopes import Scope, sums_by_scope
from costwarden.ledger.usage import spends_between
from costwarden.model import DIMENSIONS

RESERVATION_COLUMNS = ("reservation_id", "event_id", "created_at", "expires_at", "state", "estimate", *DIMENSIONS, "kind", "settled")
PERIOD_COLUMNS = (
    "budget",
    "period_start",
    "spent",
    "input_tokens",
    "output_tokens",
    "requests",
    "reserved",
    "unsettled",
    "period_end",
    "reset_at",
)
_SCOPE_AND_PERIOD = (*DIMENSIONS, "period")
_BUDGET_COLUMNS = (
    "budget",
    *_SCOPE_AND_PERIOD,
    "limit_nanos",
    "soft_limit_ratio",
    "thresholds",
    "action",
    "origin",
    "tier",
    "created_at",
    "updated_at",
)
_ON_BUDGET = "ON CONFLICT (budget) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _BUDGET_COLUMNS if name not in ("budget", "created_at")
)
_PERIOD_KEY = ("budget", "period_start")
_ON_PERIOD = "ON CONFLICT (budget, period_start) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in PERIOD_COLUMNS[2:])
_ON_RESERVATION = "ON CONFLICT (reservation_id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in ("expires_at", "state", "estimate", "settled")
)
_CROSSED_COLUMNS = ("budget", "period_start", "threshold", "crossed_at", "spent", "limit_nanos")
_ON_CROSSED = "ON CONFLICT (budget, period_start, threshold) DO NOTHING"

_RESERVATIONS = f"SELECT {', '.join(RESERVATION_COLUMNS)} FROM reservations"  # noqa: S608
_HOLD_PERIODS = f"SELECT {', '.join(PERIOD_COLUMNS)}, crossed FROM hold_budget_periods(%s::text[], %s::bigint[])"  # noqa: S608
# A period that begins inside another of the same budget is one by a time zone that is configured no more.
_MAKE_PERIODS = (
    "WITH wanted AS (SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS w (budget, period_start, period_end)),"
    " outdated AS (DELETE FROM budget_periods AS p USING wanted AS w"
    " WHERE p.budget = w.budget AND p.period_start > w.period_start AND p.period_start < w.period_end)"
    " INSERT INTO budget_periods (budget, period_start, period_end) SELECT * FROM wanted ORDER BY 1, 2"
    " ON CONFLICT (budget, period_start) DO NOTHING RETURNING budget, period_start"
)
_HOLD_RESERVATIONS = f"{_RESERVATIONS} WHERE reservation_id = ANY(%s::text[]) ORDER BY reservation_id FOR UPDATE"
_ANY_OTHER = " AND ".join(f"({name} IN ('', %s) OR %s = '')" for name in DIMENSIONS if name not in ("tenant_id", "model"))
_HOLD_ANONYMOUS = (
    f"{_RESERVATIONS} WHERE event_id = '' AND kind = 'call' AND tenant_id = %s AND model = %s AND {_ANY_OTHER}"
    " AND reservation_id <> ALL(%s::text[]) ORDER BY state, created_at, reservation_id LIMIT 1 FOR UPDATE SKIP LOCKED"
)
_HOLD_EXPIRED = f"{_RESERVATIONS} WHERE state = 'open' AND expires_at <= %s ORDER BY reservation_id LIMIT %s FOR UPDATE SKIP LOCKED"


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
    tier: str = ""


# --- budgets -------------------------------------------------------------------------------------------------------------------


def read_budgets(connection: Connection, tenant_id: str | None = None) -> list[BudgetRow]:
    """All budgets by name, or those whose scope names `tenant_id`."""
    query = select(budgets).order_by(budgets.c.budget)
    if tenant_id is not None:
        query = query.where(budgets.c.tenant_id == tenant_id)
    return [_budget_row(row) for row in connection.execute(query).mappings()]


def read_configured(connection: Connection, names: Sequence[str]) -> list[BudgetRow]:
    """The budgets of the configuration, and those that have one of `names`, whoever made them."""
    query = select(budgets).where(or_(budgets.c.origin == "config", budgets.c.budget.in_(names)))
    return [_budget_row(row) for row in connection.execute(query).mappings()]


def read_tiered(connection: Connection) -> list[BudgetRow]:
    """The budgets that follow a tier."""
    return [_budget_row(row) for row in connection.execute(select(budgets).where(budgets.c.tier != "")).mappings()]


def read_budget(connection: Connection, budget: str) -> BudgetRow | None:
    """The budget of that name."""
    row = connection.execute(select(budgets).where(budgets.c.budget == budget)).mappings().one_or_none()
    return None if row is None else _budget_row(row)


def read_named(connection: Connection, names: Sequence[str]) -> dict[str, BudgetRow]:
    """Those of the budgets that are there, by name."""
    columns = _BUDGET_COLUMNS[:-2]
    rows = read_keys(connection, budgets, ("budget",), columns, [(name,) for name in names])
    return {row[0]: _budget_row(dict(zip(columns, row, strict=True))) for row in rows}


def _budget_row(row: Any) -> BudgetRow:
    return BudgetRow(
        budget=row["budget"],
        scope=tuple(row[name] for name in DIMENSIONS),
        period=row["period"],
        limit=row["limit_nanos"],
        soft_limit_ratio=row["soft_limit_ratio"],
        thresholds=_thresholds(row["thresholds"]),
        action=row["action"],
        origin=row["origin"],
        tier=row["tier"],
    )


@lru_cache
def _thresholds(text: str) -> tuple[str, ...]:
    # Most budgets have the same: 100,000 of them are read in half the time.
    return tuple(msgspec.json.decode(text))


def put_budget(connection: Connection, row: BudgetRow, period_start: int, period_end: int, now: int) -> None:
    """Write a budget, new or changed; what its scope has spent in the current period counts from the first moment."""
    put_budgets(connection, [(row, period_start, period_end)], now)


def put_budgets(connection: Connection, wanted: Sequence[tuple[BudgetRow, int, int]], now: int) -> None:
    """`put_budget` of many (row, period_start, period_end), each name once.

    The number of statements hardly grows with theirs: on SQLite checks wait meanwhile, and they give up after `BUSY_TIMEOUT_SECONDS`.
    """
    lock_budgets(connection)
    # Everybody locks in the order of the key.
    wanted = sorted(wanted, key=lambda each: each[0].budget)
    found = read_keys(connection, budgets, ("budget",), ("budget", *_SCOPE_AND_PERIOD), [(row.budget,) for row, _, _ in wanted])
    known = {name: scope_and_period for name, *scope_and_period in found}
    rows = [
        (
            row.budget,
            *row.scope,
            row.period,
            row.limit,
            row.soft_limit_ratio,
            msgspec.json.encode(row.thresholds).decode(),
            row.action,
            row.origin,
            row.tier,
            now,
            now,
        )
        for row, _, _ in wanted
    ]
    insert_rows(connection, budgets, _BUDGET_COLUMNS, rows, _ON_BUDGET)
    moved = [(row, start, end) for row, start, end in wanted if known.get(row.budget) != [*row.scope, row.period]]
    names = [row.budget for row, _, _ in moved]
    delete_keys(connection, budget_periods, "budget", names)
    delete_keys(connection, thresholds_crossed, "budget", names)
    by_bounds: dict[tuple[int, int], list[BudgetRow]] = defaultdict(list)
    for row, start, end in moved:
        by_bounds[start, end].append(row)
    for (start, end), alike in by_bounds.items():
        write_periods(connection, count_periods(connection, [(row.budget, row.scope) for row in alike], start, end))


def delete_budget(connection: Connection, budget: str) -> None:
    """Remove a budget; its periods' figures stay, as history."""
    delete_budgets(connection, [budget])


def delete_budgets(connection: Connection, names: Sequence[str]) -> None:
    """`delete_budget` of many."""
    lock_budgets(connection)
    delete_keys(connection, budgets, "budget", names)


def newest_change(connection: Connection) -> int:
    """The `change_id` of the newest entry of `book_changes`; 0 where there is none."""
    newest: int = connection.execute(select(func.coalesce(func.max(book_changes.c.change_id), 0))).scalar_one()
    return newest


def changes_since(connection: Connection, change_id: int) -> list[tuple[str, str]]:
    """What has changed after `change_id`: (`budget` or `tenant`, name), each once. Triggers of the database write them down."""
    query = select(book_changes.c.kind, book_changes.c.name).where(book_changes.c.change_id > change_id).distinct()
    return [(row[0], row[1]) for row in connection.execute(query)]


def note_figures(connection: Connection) -> None:
    """Tell the server that runs beside this process that figures have changed under it, and not only budgets."""
    connection.execute(insert(book_changes).values(kind="figures", name=""))


# --- periods -------------------------------------------------------------------------------------------------------------------


def count_period(connection: Connection, budget: str, scope: Scope, start: int, end: int) -> tuple[Any, ...]:
    """A period's row, in the order of `PERIOD_COLUMNS`, from the usage and the reservations that fall into it."""
    return count_periods(connection, [(budget, scope)], start, end)[0]


def count_periods(connection: Connection, named: Sequence[tuple[str, Scope]], start: int, end: int) -> list[tuple[Any, ...]]:
    """`count_period` of many budgets (name, scope) whose periods are the same time, in hardly more statements."""
    scopes = {scope for _, scope in named}
    spends = spends_between(connection, scopes, start, end)
    within = (reservations.c.created_at >= start, reservations.c.created_at < end)
    held = [
        sums_by_scope(connection, scopes, reservations, ("estimate",), reservations.c.state == state, *within)
        for state in ("open", "unsettled")
    ]
    rows = []
    for budget, scope in named:
        spend = spends[scope]
        figures = (spend.cost, spend.input_tokens, spend.output_tokens, spend.requests)
        rows.append((budget, start, *figures, *(sums[scope][0] for sums in held), end, 0))
    return rows


def write_periods(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Set the figures of periods, tuples in the order of `PERIOD_COLUMNS`."""
    insert_rows(connection, budget_periods, PERIOD_COLUMNS, rows, _ON_PERIOD)


def read_periods(connection: Connection, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], tuple[Any, ...]]:
    """The rows of periods (budget, period_start), in the order of `PERIOD_COLUMNS`; one in which nothing happened may be missing."""
    rows = read_keys(connection, budget_periods, _PERIOD_KEY, PERIOD_COLUMNS, keys)
    return {(row[0], row[1]): row for row in rows}


def newest_periods(connection: Connection) -> dict[str, int]:
    """The start of the newest period that each budget has spent in."""
    rows = connection.execute(select(budget_periods.c.budget, func.max(budget_periods.c.period_start)).group_by(budget_periods.c.budget))
    return {budget: period_start for budget, period_start in rows}  # noqa: C416 (typed)


def write_crossed(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Record thresholds reached, once a period: (budget, period_start, threshold, crossed_at, spent, limit)."""
    insert_rows(connection, thresholds_crossed, _CROSSED_COLUMNS, rows, _ON_CROSSED)


def read_crossed(connection: Connection, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], dict[str, int]]:
    """Thresholds that periods (budget, period_start) have reached, in the order of reaching, each with the time that it was."""
    rows = read_keys(connection, thresholds_crossed, _PERIOD_KEY, (*_PERIOD_KEY, "threshold", "crossed_at"), keys)
    found: dict[tuple[str, int], dict[str, int]] = {}
    for budget, period_start, threshold, crossed_at in sorted(rows, key=lambda row: (row[3], row[2])):
        found.setdefault((budget, period_start), {})[threshold] = crossed_at
    return found


def reset_period(connection: Connection, budget: str, period_start: int) -> None:
    """Begin the period's figures anew at nothing spent; what is set aside stays, and so does the record of usage."""
    spent_nothing = {"spent": 0, "input_tokens": 0, "output_tokens": 0, "requests": 0}
    within = (budget_periods.c.budget == budget, budget_periods.c.period_start == period_start)
    connection.execute(update(budget_periods).where(*within).values(spent_nothing))
    crossed = thresholds_crossed
    connection.execute(delete(crossed).where(crossed.c.budget == budget, crossed.c.period_start == period_start))


# --- reservations --------------------------------------------------------------------------------------------------------------


def add_reservations(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add reservations, tuples in the order of `RESERVATION_COLUMNS`.

    Where another replica has made one of them meanwhile, PostgreSQL answers with a unique violation: set aside twice, its money would leak.
    """
    insert_rows(connection, reservations, RESERVATION_COLUMNS, rows)


def write_reservations(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add reservations, tuples in the order of `RESERVATION_COLUMNS`, or set what such a one has left."""
    insert_rows(connection, reservations, RESERVATION_COLUMNS, rows, _ON_RESERVATION)


def delete_reservations(connection: Connection, reservation_ids: Sequence[str]) -> None:
    """Remove reservations that are settled."""
    delete_keys(connection, reservations, "reservation_id", reservation_ids)


def read_reservations(connection: Connection) -> list[tuple[Any, ...]]:
    """All reservations in the order of creation: tuples in the order of `RESERVATION_COLUMNS`."""
    columns = [reservations.c[name] for name in RESERVATION_COLUMNS]
    return [tuple(row) for row in connection.execute(select(*columns).order_by(reservations.c.created_at, reservations.c.reservation_id))]


def list_reservations(
    connection: Connection, *, state: str = "", tenant_id: str | None = None, after: str = "", limit: int = 100
) -> list[tuple[Any, ...]]:
    """Up to `limit` reservations by id, those after the id `after`: tuples in the order of `RESERVATION_COLUMNS`."""
    query = select(*(reservations.c[name] for name in RESERVATION_COLUMNS)).where(reservations.c.reservation_id > after)
    if state:
        query = query.where(reservations.c.state == state)
    if tenant_id is not None:
        query = query.where(reservations.c.tenant_id == tenant_id)
    return [tuple(row) for row in connection.execute(query.order_by(reservations.c.reservation_id).limit(limit))]


# --- held by a group of checks and settlements ----------------------------------------------------------------------------------
#
# PostgreSQL only, where several engines write. Everybody locks in the order of the key, so that nobody waits in a circle; what is given
# away to whoever comes first skips what another has locked. SQLite has one writer, which holds everything.


def hold_periods(connection: Connection, keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], tuple[tuple[Any, ...], list[str]]]:
    """The periods (budget, period_start) that are there: the row in the order of `PERIOD_COLUMNS`, and the thresholds it has crossed."""
    wanted = list(keys)
    if not wanted:
        return {}
    values = [[budget for budget, _ in wanted], [start for _, start in wanted]]
    rows = postgresql_driver(connection).execute(_HOLD_PERIODS, values).fetchall()
    return {(row[0], row[1]): (row[:-1], row[-1]) for row in rows}


def make_periods(connection: Connection, periods: Iterable[tuple[str, int, int]]) -> set[tuple[str, int]]:
    """Make periods (budget, period_start, period_end) in which nothing has happened; the keys (budget, period_start) that are new.

    Waits for another transaction that is making the same one. What is new is held, and nobody else sees it before the commit. Periods
    that begin inside a new one are removed.
    """
    wanted = list(periods)
    if not wanted:
        return set()
    values = [list(column) for column in zip(*wanted, strict=True)]
    return {(row[0], row[1]) for row in postgresql_driver(connection).execute(_MAKE_PERIODS, values)}


def hold_reservations(connection: Connection, reservation_ids: Sequence[str]) -> list[tuple[Any, ...]]:
    """Those of the reservations that are there, by id: tuples in the order of `RESERVATION_COLUMNS`."""
    if not reservation_ids:
        return []
    return postgresql_driver(connection).execute(_HOLD_RESERVATIONS, (list(reservation_ids),)).fetchall()


def hold_oldest_anonymous(connection: Connection, dimensions: Sequence[str], excluded_ids: Iterable[str]) -> tuple[Any, ...] | None:
    """The oldest call reserved without an event id, of that tenant and model, that contradicts `dimensions` nowhere.

    One that has not expired comes first; what another transaction holds is passed over, and so are `excluded_ids`. `dimensions` are
    values in the order of `DIMENSIONS`, the answer is one in the order of `RESERVATION_COLUMNS`.
    """
    named = dict(zip(DIMENSIONS, dimensions, strict=True))
    values: list[Any] = [named.pop("tenant_id"), named.pop("model")]
    for value in named.values():
        values += (value, value)
    return postgresql_driver(connection).execute(_HOLD_ANONYMOUS, [*values, list(excluded_ids)]).fetchone()


def hold_expired(connection: Connection, at: int, limit: int) -> list[tuple[Any, ...]]:
    """Up to `limit` open reservations that expire at or before `at` microseconds, by id, but for those that others hold."""
    return postgresql_driver(connection).execute(_HOLD_EXPIRED, (at, limit)).fetchall()


# --- suspended tenants ---------------------------------------------------------------------------------------------------------


def read_suspended(connection: Connection) -> dict[str, dict[str, Any]]:
    """Suspended tenants by id, with reason, actor, run_id and suspended_at."""
    return {row["tenant_id"]: dict(row) for row in connection.execute(select(suspended_tenants)).mappings()}


def suspend_tenant(connection: Connection, tenant_id: str, *, reason: str, actor: str, run_id: str, now: int) -> bool:
    """Suspend a tenant, or everybody: the empty id; False where it was suspended already (the first reason stays)."""
    lock_budgets(connection)
    if connection.execute(select(suspended_tenants).where(suspended_tenants.c.tenant_id == tenant_id)).first() is not None:
        return False
    connection.execute(insert(suspended_tenants).values(tenant_id=tenant_id, reason=reason, actor=actor, run_id=run_id, suspended_at=now))
    return True


def resume_tenant(connection: Connection, tenant_id: str) -> bool:
    """Lift a suspension; False where there was none."""
    lock_budgets(connection)
    return connection.execute(delete(suspended_tenants).where(suspended_tenants.c.tenant_id == tenant_id)).rowcount > 0
