"""Budgets from a file: a YAML list that says which budgets there are to be, and what it would change in the ledger."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from pydantic import ValidationError

from costwarden.budgets.rules import Budget, PeriodBounds, budget_name, describe_scope, scope_of
from costwarden.budgets.settings import CUSTOM_TIER, GUARDRAIL_PREFIX, BudgetName, BudgetsSettings, PeriodKind, Ratio, Scope
from costwarden.budgets.store import BudgetIsConfigured, budget_of, row_of
from costwarden.budgets.tiers import limited_budget
from costwarden.ledger import Connection
from costwarden.ledger.audit import AuditEntry, append_audits
from costwarden.ledger.budgets import BudgetRow, delete_budgets, put_budgets, read_budgets
from costwarden.model import from_nanos, to_nanos
from costwarden.settings import Settings, Usd
from costwarden.strict_yaml import YamlError, line_of, located_sentences, read_yaml

ORIGIN = "apply"
"""Origin of the budgets that a file made; one that has a name of its own adds it: `apply:NAME`."""


class BudgetEntry(Settings):
    """One budget of a file. Either `limit_usd` or `tier` says how much it is."""

    name: BudgetName | None = None
    """Name of the budget; default is that of its scope and period, as the API gives it."""
    scope: Scope = Scope()
    period: PeriodKind = "month"
    limit_usd: Usd | None = None
    tier: str = ""
    soft_limit_ratio: Ratio | None = None
    thresholds: tuple[Ratio, ...] | None = None
    action: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a file does to one budget."""

    kind: Literal["new", "changed", "unchanged", "removed"]
    before: Budget | None = None
    after: Budget | None = None

    @property
    def budget(self) -> str:
        """Its name."""
        budget = self.after or self.before
        assert budget is not None
        return budget.budget

    def differences(self) -> Iterator[tuple[str, str, str]]:
        """(key, before, after) of what is not as it was, as people read it; absent is empty."""
        before, after = budget_entry(self.before), budget_entry(self.after)
        for key in dict.fromkeys([*after, *before]):
            if before.get(key) != after.get(key):
                yield key, _text(before.get(key)), _text(after.get(key))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={item}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(str(item) for item in value)
    return "" if value is None else str(value)


def budget_entry(budget: Budget | None) -> dict[str, Any]:
    """A budget with all that a file can say of it, and its origin; nothing of None. Amounts are dollars."""
    if budget is None:
        return {}
    return {
        "name": budget.budget,
        "scope": describe_scope(budget.scope),
        "period": budget.period,
        "limit_usd": from_nanos(budget.limit),
        "tier": budget.tier,
        "soft_limit_ratio": budget.soft_limit_ratio,
        "thresholds": budget.thresholds,
        "action": budget.action,
        "origin": budget.origin,
    }


def read_budget_file(path: Path, settings: BudgetsSettings, playbooks: Collection[str], origin: str) -> list[Budget]:
    """The budgets that a file asks for. Raises `YamlError` with a line for each mistake: file, line, key, value and rule."""
    data, node = read_yaml(path)
    if not isinstance(data, list):
        raise YamlError(f"{path}: must be a list of budgets, not {'nothing' if data is None else type(data).__name__}")
    mistakes: list[str] = []
    budgets: list[Budget] = []
    for number, item in enumerate(data):
        try:
            budgets.append(_budget(BudgetEntry.model_validate(item), settings, playbooks, origin))
        except ValidationError as error:
            found = [(line_of(node, (number, *location)), sentence) for location, sentence in located_sentences(error, BudgetEntry)]
        except ValueError as error:
            found = [(line_of(node, (number,)), str(error))]
        else:
            continue
        mistakes += [f"{path}: line {line}: {sentence}" for line, sentence in found]
    twice = [name for name, count in Counter(budget.budget for budget in budgets).items() if count > 1]
    mistakes += [f"{path}: the budget `{name}` stands there more than once" for name in twice]
    if mistakes:
        raise YamlError("\n".join(mistakes))
    return budgets


def _budget(entry: BudgetEntry, settings: BudgetsSettings, playbooks: Collection[str], origin: str) -> Budget:
    limit = None if entry.limit_usd is None else to_nanos(entry.limit_usd)
    if (limit is None) == (entry.tier in ("", CUSTOM_TIER)):
        raise ValueError("give either `limit_usd` or the name of a `tier`")
    if entry.name is not None and entry.name.startswith(GUARDRAIL_PREFIX):
        raise ValueError(f"`name`: {entry.name!r}: names that begin with `{GUARDRAIL_PREFIX}` belong to guardrails")
    if entry.action and entry.action not in playbooks:
        raise ValueError(f"`action`: {entry.action!r}: is no playbook of the configuration")
    if entry.thresholds is not None and list(entry.thresholds) != sorted(set(entry.thresholds)):
        raise ValueError("`thresholds` must rise and not repeat")
    budget = limited_budget(settings, scope_of(entry.scope), entry.period, limit, entry.tier, origin)
    return msgspec.structs.replace(
        budget,
        budget=entry.name or budget.budget,
        soft_limit_ratio=entry.soft_limit_ratio or budget.soft_limit_ratio,
        thresholds=budget.thresholds if entry.thresholds is None else entry.thresholds,
        action=entry.action,
    )


def plan_changes(known: Sequence[BudgetRow], wanted: Sequence[Budget], *, origin: str, prune: bool) -> list[Change]:
    """What makes the ledger have the budgets that are wanted, by name; with `prune` those of the same origin that are not, go.

    Raises `BudgetIsConfigured` where a name belongs to the configuration file.
    """
    by_name = {row.budget: row for row in known}
    changes = []
    for after in wanted:
        row = by_name.get(after.budget)
        if row is None:
            changes.append(Change(kind="new", after=after))
            continue
        before = budget_of(row)
        if before.origin == "config":
            raise BudgetIsConfigured(f"the budget `{after.budget}` belongs to the configuration file: change it there")
        changes.append(Change(kind="unchanged" if before == after else "changed", before=before, after=after))
    if prune:
        names = {budget.budget for budget in wanted}
        gone = [row for row in known if row.origin == origin and row.budget not in names]
        changes += [Change(kind="removed", before=budget_of(row)) for row in gone]
    return sorted(changes, key=lambda change: change.budget)


class ChangedMeanwhile(Exception):
    """Between the plan and its execution somebody changed the budgets that it is about."""


def apply_changes(
    connection: Connection, planned: Sequence[Change], wanted: Sequence[Budget], *, origin: str, prune: bool, zone: ZoneInfo, now: int
) -> None:
    """Do what was planned, all of it in the caller's transaction, with an audit entry for each change.

    The statements are as many for a thousand changes as for ten, more or less: checks wait as long as they take. Raises
    `ChangedMeanwhile` where the plan would be another one by now.
    """
    if plan_changes(read_budgets(connection), wanted, origin=origin, prune=prune) != list(planned):
        raise ChangedMeanwhile("somebody changed the budgets in between; nothing was applied: look at the differences again")
    bounds = PeriodBounds(zone)
    changes = [change for change in planned if change.kind != "unchanged"]
    delete_budgets(connection, [change.budget for change in changes if change.after is None])
    put_budgets(connection, [(row_of(after), *bounds.of(after.period, now)) for change in changes if (after := change.after)], now)
    append_audits(connection, [_audit_entry(change) for change in changes], at=now, actor="command line")


def _audit_entry(change: Change) -> AuditEntry:
    action = "delete_budget" if change.after is None else "set_budget"
    return AuditEntry(action=action, subject=change.budget, before=change.before, after=change.after)


def file_entry(budget: Budget, settings: BudgetsSettings) -> dict[str, Any]:
    """A budget as `read_budget_file` takes it, without what it would have anyway."""
    entry = budget_entry(budget)
    if budget.budget == budget_name(budget.scope, budget.period):
        del entry["name"]
    if budget.tier in settings.tiers:
        del entry["limit_usd"]
    else:
        del entry["tier"]
    if budget.soft_limit_ratio == settings.soft_limit_ratio:
        del entry["soft_limit_ratio"]
    if budget.thresholds == settings.thresholds:
        del entry["thresholds"]
    del entry["origin"]
    return {key: _plain(value) for key, value in entry.items() if value not in ("", {})}


def _plain(value: Any) -> Any:
    """What YAML has of it. A decimal is text, so that it keeps all its digits, unless a number keeps them too."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        if value == int(value):
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    return value
