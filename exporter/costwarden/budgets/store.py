"""Budgets in the ledger: what the engine, the command line and the configuration all write the same way."""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from costwarden.budgets.rules import Budget, Dimensions, budget_name, period_bounds, scope_of
from costwarden.budgets.settings import CUSTOM_TIER, BudgetsSettings
from costwarden.ledger import Connection
from costwarden.ledger.audit import append_audit
from costwarden.ledger.budgets import BudgetRow, delete_budget, put_budget, read_budget, read_suspended, resume_tenant, suspend_tenant
from costwarden.model import DIMENSIONS, to_nanos

_TENANT, _MODEL = DIMENSIONS.index("tenant_id"), DIMENSIONS.index("model")


LONGEST_NAME = 2_400
"""Bytes of a budget's name: PostgreSQL indexes no more than 2,704 bytes of a row."""


def budget_of(row: BudgetRow) -> Budget:
    """The budget that a row of the ledger describes."""
    return Budget(
        budget=row.budget,
        scope=row.scope,
        period=row.period,
        limit=row.limit,
        soft_limit_ratio=Decimal(row.soft_limit_ratio),
        thresholds=_ratios(row.thresholds),
        action=row.action,
        origin=row.origin,
        tier=row.tier,
    )


@lru_cache
def _ratios(texts: tuple[str, ...]) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, texts))


def new_budget(settings: BudgetsSettings, scope: Dimensions, period: str, limit: int, origin: str = "api", tier: str = "") -> Budget:
    """A budget of `limit` nano-dollars with the section's soft limit and thresholds, named after its scope and period.

    Raises `ValueError` where the name would be too long.
    """
    name = budget_name(scope, period)
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"the names in the scope are too long together: they must come to at most {LONGEST_NAME} bytes")
    return Budget(
        budget=name,
        scope=scope,
        period=period,
        limit=limit,
        soft_limit_ratio=settings.soft_limit_ratio,
        thresholds=settings.thresholds,
        action="",
        origin=origin,
        tier=tier,
    )


def default_budget(settings: BudgetsSettings, dimensions: Dimensions) -> Budget | None:
    """The budget that a tenant without one gets at such a call; None where the configuration gives it none."""
    default, tenant = settings.default, dimensions[_TENANT]
    if default is None or not tenant or default.model not in ("*", dimensions[_MODEL]):
        return None
    model = "" if default.model == "*" else default.model
    scope = tuple({"tenant_id": tenant, "model": model}.get(name, "") for name in DIMENSIONS)
    return new_budget(settings, scope, "month", to_nanos(settings.default_limit_usd), "default", default.tier)


def configured_budgets(settings: BudgetsSettings) -> list[Budget]:
    """The budgets of the configuration file."""
    return [
        Budget(
            budget=configured.name,
            scope=scope_of(configured.scope),
            period=configured.period,
            limit=to_nanos(settings.limit_usd_of(configured)),
            soft_limit_ratio=configured.soft_limit_ratio or settings.soft_limit_ratio,
            thresholds=settings.thresholds,
            action=configured.action,
            origin="config",
            tier="" if configured.tier == CUSTOM_TIER else configured.tier,
        )
        for configured in settings.configured
    ]


class BudgetIsConfigured(Exception):
    """The budget belongs to the configuration file: it is changed there, or not at all."""


def store_budget(connection: Connection, budget: Budget, zone: ZoneInfo, now: int, actor: str) -> Budget | None:
    """Write a budget, new or changed, and its audit entry; returns what it was before.

    Raises `BudgetIsConfigured` where the name belongs to the configuration and the new one does not.
    """
    found = read_budget(connection, budget.budget)
    before = None if found is None else budget_of(found)
    if before is not None and before.origin == "config" and budget.origin != "config":
        raise BudgetIsConfigured(f"the budget `{budget.budget}` belongs to the configuration file: change it there")
    if before is not None and budget.origin in {"api", "default"} and (before.scope, before.period) != (budget.scope, budget.period):
        # A name is its scope and period; one that a file has given to another scope must not take that scope's cap away.
        raise BudgetIsConfigured(f"the name `{budget.budget}` belongs to a budget of another scope or period, from a file: change it there")
    put_budget(connection, row_of(budget), *period_bounds(budget.period, now, zone), now)
    append_audit(connection, at=now, actor=actor, action="set_budget", subject=budget.budget, before=before, after=budget)
    return before


def row_of(budget: Budget) -> BudgetRow:
    """The row of the ledger that a budget is kept as."""
    return BudgetRow(
        budget=budget.budget,
        scope=budget.scope,
        period=budget.period,
        limit=budget.limit,
        soft_limit_ratio=str(budget.soft_limit_ratio),
        thresholds=tuple(str(ratio) for ratio in budget.thresholds),
        action=budget.action,
        origin=budget.origin,
        tier=budget.tier,
    )


def drop_budget(connection: Connection, name: str, now: int, actor: str, *, configured: bool = False) -> Budget:
    """Remove a budget, with its audit entry; returns what it was.

    Raises `LookupError` where there is no such budget, and `BudgetIsConfigured` where it belongs to the configuration and the caller is
    not that (`configured`).
    """
    found = read_budget(connection, name)
    if found is None:
        raise LookupError(f"there is no budget `{name}`")
    if found.origin == "config" and not configured:
        raise BudgetIsConfigured(f"the budget `{name}` belongs to the configuration file: remove it there")
    delete_budget(connection, name)
    append_audit(connection, at=now, actor=actor, action="delete_budget", subject=name, before=found)
    return budget_of(found)


def store_suspension(connection: Connection, tenant_id: str, *, reason: str, actor: str, run_id: str, now: int) -> dict[str, Any] | None:
    """Suspend a tenant, or everybody (the empty id), with the audit entry; its row, or None where that was so already."""
    if not suspend_tenant(connection, tenant_id, reason=reason, actor=actor, run_id=run_id, now=now):
        return None
    action = "suspend_tenant" if tenant_id else "emergency_stop"
    append_audit(connection, at=now, actor=actor, action=action, subject=tenant_id, after={"reason": reason, "run_id": run_id})
    return {"tenant_id": tenant_id, "reason": reason, "actor": actor, "run_id": run_id, "suspended_at": now}


def lift_suspension(connection: Connection, tenant_id: str, *, actor: str, reason: str, now: int) -> bool:
    """Lift a suspension, with the audit entry; False where there was none."""
    before = read_suspended(connection).get(tenant_id)
    if not resume_tenant(connection, tenant_id):
        return False
    action = "resume_tenant" if tenant_id else "lift_emergency_stop"
    after = {"reason": reason} if reason else None
    append_audit(connection, at=now, actor=actor, action=action, subject=tenant_id, before=before, after=after)
    return True


def configured_changes(known: Sequence[BudgetRow], wanted: Sequence[Budget]) -> tuple[list[Budget], list[str]]:
    """What makes the budgets of origin `config` be exactly `wanted`: those to write and the names to drop.

    Raises `ValueError` where a name belongs to a budget of another origin.
    """
    by_name = {row.budget: row for row in known}
    for budget in wanted:
        row = by_name.get(budget.budget)
        if row is not None and row.origin != "config":
            raise ValueError(f"budgets.configured: the name `{budget.budget}` is taken by a budget that the API made; choose another")
    names = {budget.budget for budget in wanted}
    changed = [budget for budget in wanted if budget.budget not in by_name or budget_of(by_name[budget.budget]) != budget]
    return changed, [row.budget for row in known if row.origin == "config" and row.budget not in names]
