"""Budgets in the ledger: what the engine, the command line and the configuration all write the same way."""

from collections.abc import Sequence
from decimal import Decimal
from zoneinfo import ZoneInfo

from costwarden.budgets.rules import Budget, Dimensions, budget_name, period_bounds, scope_of
from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import Connection
from costwarden.ledger.audit import append_audit
from costwarden.ledger.budgets import BudgetRow, delete_budget, put_budget, read_budget
from costwarden.model import to_nanos


def budget_of(row: BudgetRow) -> Budget:
    """The budget that a row of the ledger describes."""
    return Budget(
        budget=row.budget,
        scope=row.scope,
        period=row.period,
        limit=row.limit,
        soft_limit_ratio=Decimal(row.soft_limit_ratio),
        thresholds=tuple(Decimal(ratio) for ratio in row.thresholds),
        action=row.action,
        origin=row.origin,
    )


def new_budget(settings: BudgetsSettings, scope: Dimensions, period: str, limit: int, origin: str = "api") -> Budget:
    """A budget of `limit` nano-dollars with the section's soft limit and thresholds, named after its scope and period."""
    return Budget(
        budget=budget_name(scope, period),
        scope=scope,
        period=period,
        limit=limit,
        soft_limit_ratio=settings.soft_limit_ratio,
        thresholds=settings.thresholds,
        action="",
        origin=origin,
    )


def configured_budgets(settings: BudgetsSettings) -> list[Budget]:
    """The budgets of the configuration file."""
    return [
        Budget(
            budget=configured.name,
            scope=scope_of(configured.scope),
            period=configured.period,
            limit=to_nanos(configured.limit_usd),
            soft_limit_ratio=configured.soft_limit_ratio or settings.soft_limit_ratio,
            thresholds=settings.thresholds,
            action=configured.action,
            origin="config",
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
    row = BudgetRow(
        budget=budget.budget,
        scope=budget.scope,
        period=budget.period,
        limit=budget.limit,
        soft_limit_ratio=str(budget.soft_limit_ratio),
        thresholds=tuple(str(ratio) for ratio in budget.thresholds),
        action=budget.action,
        origin=budget.origin,
    )
    put_budget(connection, row, *period_bounds(budget.period, now, zone), now)
    append_audit(connection, at=now, actor=actor, action="set_budget", subject=budget.budget, before=before, after=budget)
    return before


def drop_budget(connection: Connection, name: str, now: int, actor: str) -> None:
    """Remove a budget, with its audit entry."""
    found = read_budget(connection, name)
    delete_budget(connection, name)
    append_audit(connection, at=now, actor=actor, action="delete_budget", subject=name, before=found)


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
