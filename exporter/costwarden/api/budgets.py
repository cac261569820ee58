"""`/api/budgets`: budgets of every scope and period. What a budget is called says what it is for, so that neither ever changes."""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET, Meta, UnsetType

from costwarden.api.ai_budget import budget_answer
from costwarden.api.callers import Caller
from costwarden.api.pages import Filter, Paging, decode_cursor, encode_cursor, time_answer
from costwarden.api.problems import Problem
from costwarden.budgets.requests import ReasonRequest
from costwarden.budgets.rules import Budget, Dimensions, budget_name, describe_scope, scope_of
from costwarden.budgets.service import BudgetService
from costwarden.budgets.settings import PeriodKind
from costwarden.budgets.status import BudgetStatus, budget_statuses, statuses_of, thresholds_crossed
from costwarden.budgets.store import BudgetIsConfigured, budget_of, new_budget
from costwarden.ledger import Connection, Ledger
from costwarden.ledger.budgets import read_budget
from costwarden.ledger.locks import lock_budgets
from costwarden.model import DIMENSIONS, to_nanos

TENANT = DIMENSIONS.index("tenant_id")
PERIODS = ("hour", "day", "week", "month", "total")


# Left out it is empty; written out as empty it would make everybody's budget of one whose tenant got lost.
ScopeName = Annotated[str, Meta(min_length=1, max_length=256)]


class ScopeOf(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a budget is for. What is not named matches anything; a scope that names nothing is the global one."""

    tenant_id: ScopeName = ""
    provider: ScopeName = ""
    model: ScopeName = ""
    operation: ScopeName = ""
    report_type: ScopeName = ""
    feature: ScopeName = ""
    team: ScopeName = ""
    user_id: ScopeName = ""
    service: ScopeName = ""


class _Limits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    limit_usd: Decimal
    soft_limit_ratio: Decimal | UnsetType = UNSET
    """Share of the limit above which answers carry `X-AI-Budget-Warning`."""
    thresholds: Annotated[list[Decimal], Meta(max_length=20)] | UnsetType = UNSET
    """Shares of the limit that are recorded when spend first reaches them; they rise."""
    action: Annotated[str, Meta(max_length=100)] | UnsetType = UNSET
    """Playbook that an alert on this budget names."""

    def __post_init__(self) -> None:
        _check(self)


class NewBudget(_Limits, kw_only=True, forbid_unknown_fields=True):
    """A budget that is not there yet."""

    scope: ScopeOf = msgspec.field(default_factory=ScopeOf)
    period: PeriodKind = "month"

    def __post_init__(self) -> None:
        _check(self)
        if "\0" in "".join(scope_of(self.scope)):
            raise ValueError("a name cannot hold the character U+0000")


class BudgetLimits(_Limits, kw_only=True, forbid_unknown_fields=True):
    """All that can be changed of a budget; what is left out takes the configured default."""


class BudgetChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is to change of a budget; what is left out stays."""

    limit_usd: Decimal | UnsetType = UNSET
    soft_limit_ratio: Decimal | UnsetType = UNSET
    thresholds: Annotated[list[Decimal], Meta(max_length=20)] | UnsetType = UNSET
    action: Annotated[str, Meta(max_length=100)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check(self)


def _check(given: _Limits | BudgetChange) -> None:
    limit = given.limit_usd
    if isinstance(limit, Decimal):
        if not (limit.is_finite() and 0 <= limit <= 1_000_000_000):
            raise ValueError("`limit_usd` must be from 0 to 1000000000")
        if limit != round(limit, 9):
            raise ValueError("`limit_usd` is finer than a nano-dollar (9 decimal places)")
    shares = list(given.thresholds) if isinstance(given.thresholds, list) else []
    for share in (*shares, *([given.soft_limit_ratio] if isinstance(given.soft_limit_ratio, Decimal) else [])):
        if not (share.is_finite() and 0 < share <= 10):
            raise ValueError("`soft_limit_ratio` and `thresholds` must be above 0 and at most 10 (1 is 100 %)")
    if shares != sorted(set(shares)):
        raise ValueError("`thresholds` must rise and not repeat")


class BudgetsQuery(Paging):
    """Parameters of `GET /api/budgets`."""

    tenant_id: Filter = None
    """Only budgets whose scope names this tenant."""
    scope: Literal["global", "tenant", "other"] | None = None
    """`tenant`: budgets whose scope names a tenant; `global`: those that hold for everything; `other`: the rest."""
    period: PeriodKind | None = None
    """Only budgets of this period."""
    status: Literal["ok", "warning", "exceeded"] | None = None
    """Only budgets that stand so."""


class BudgetsApi:
    """The endpoints of budgets. To a caller with a tenant, only the budgets that name this tenant exist."""

    def __init__(self, ledger: Ledger, service: BudgetService, zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._service = service
        self._zone = zone
        self._now = now

    def page(self, caller: Caller, query: BudgetsQuery) -> dict[str, Any]:
        """`GET /api/budgets`: by name."""
        after = decode_cursor(query.cursor, str) or ""
        tenant_id = caller.tenant_of(query.tenant_id)
        with self._ledger.read() as connection:
            found = budget_statuses(connection, self._zone, self._now(), tenant_id)
        wanted = [
            status
            for status in found
            if status.budget.budget > after
            and query.period in (None, status.budget.period)
            and query.status in (None, status.status)
            and query.scope in (None, _scope_kind(status.budget.scope))
        ]
        wanted.sort(key=lambda status: status.budget.budget)
        shown = wanted[: query.limit]
        following = encode_cursor(shown[-1].budget.budget) if len(wanted) > query.limit else None
        return {"budgets": [budget_answer(status) for status in shown], "next_cursor": following}

    def budget(self, caller: Caller, name: str) -> dict[str, Any]:
        """`GET /api/budgets/{name}`. Raises `Problem` 404."""
        with self._ledger.read() as connection:
            return budget_answer(self._status(connection, caller, name))

    def status(self, caller: Caller, name: str) -> dict[str, Any]:
        """`GET /api/budgets/{name}/status`: the budget, and what its current period has crossed. Raises `Problem` 404."""
        with self._ledger.read() as connection:
            status = self._status(connection, caller, name)
            crossed = list(thresholds_crossed(connection, status))
        return {
            **budget_answer(status),
            "period_start": time_answer(status.period_start),
            "thresholds": list(status.budget.thresholds),
            "thresholds_crossed": [{"threshold": Decimal(share), "crossed_at": time_answer(at)} for share, at in crossed],
        }

    async def create(self, caller: Caller, given: NewBudget) -> dict[str, Any]:
        """`POST /api/budgets`. Raises `Problem` 409 where there is a budget of this scope and period."""
        scope = scope_of(given.scope)
        caller.require_tenant(scope[TENANT])
        name = budget_name(scope, given.period)
        made = self._made(caller, scope, given.period, name, given)

        def make(found: Budget | None) -> Budget:
            if found is not None:
                raise Problem(409, "budget_exists", f"there is a budget `{name}`: change it with PUT or PATCH", budget=name)
            return made

        return await self._put(caller, name, make)

    async def replace(self, caller: Caller, name: str, given: BudgetLimits) -> dict[str, Any]:
        """`PUT /api/budgets/{name}`: makes it as given, new or changed. Raises `Problem` 404 where the name is none of a budget."""

        def make(found: Budget | None) -> Budget:
            scope, period = (found.scope, found.period) if found is not None else parse_budget_name(name)
            if not caller.sees(scope[TENANT]):
                raise _unknown(name)
            return self._made(caller, scope, period, name, given)

        return await self._put(caller, name, make)

    async def change(self, caller: Caller, name: str, given: BudgetChange) -> dict[str, Any]:
        """`PATCH /api/budgets/{name}`. Raises `Problem` 404."""

        def make(found: Budget | None) -> Budget:
            if found is None or not caller.sees(found.scope[TENANT]):
                raise _unknown(name)
            changed: dict[str, Any] = {"origin": "api"}
            if isinstance(given.limit_usd, Decimal):
                changed |= {"limit": to_nanos(given.limit_usd), "tier": ""}
            if isinstance(given.soft_limit_ratio, Decimal):
                changed["soft_limit_ratio"] = given.soft_limit_ratio
            if isinstance(given.thresholds, list):
                changed["thresholds"] = tuple(given.thresholds)
            if isinstance(given.action, str):
                changed["action"] = _allowed_action(caller, given.action, found.action)
            return msgspec.structs.replace(found, **changed)

        return await self._put(caller, name, make)

    async def delete(self, caller: Caller, name: str) -> None:
        """`DELETE /api/budgets/{name}`: what has been spent stays recorded. Raises `Problem` 404 or 409."""
        with self._ledger.read() as connection:
            self._status(connection, caller, name)
        try:
            await self._service.delete(name, caller.name)
        except LookupError:
            raise _unknown(name) from None
        except BudgetIsConfigured as error:
            raise Problem(409, "budget_is_configured", str(error)) from None

    async def reset(self, caller: Caller, name: str, given: ReasonRequest) -> dict[str, Any]:
        """`POST /api/budgets/{name}/reset`: the current period has spent nothing. Raises `Problem` 404."""
        with self._ledger.read() as connection:
            self._status(connection, caller, name)
        if not await self._service.reset(name, given.reason, caller.name):
            raise _unknown(name)
        return self.budget(caller, name)

    def _made(self, caller: Caller, scope: Dimensions, period: str, name: str, given: _Limits) -> Budget:
        try:
            made = new_budget(self._service.settings, scope, period, to_nanos(given.limit_usd))
        except ValueError as error:
            raise Problem(422, "invalid_request", str(error)) from None
        changed: dict[str, Any] = {"budget": name}
        if isinstance(given.soft_limit_ratio, Decimal):
            changed["soft_limit_ratio"] = given.soft_limit_ratio
        if isinstance(given.thresholds, list):
            changed["thresholds"] = tuple(given.thresholds)
        if isinstance(given.action, str):
            changed["action"] = _allowed_action(caller, given.action, "")
        return msgspec.structs.replace(made, **changed)

    async def _put(self, caller: Caller, name: str, make: Callable[[Budget | None], Budget]) -> dict[str, Any]:
        """Write what `make` makes of the budget called `name` (None: there is none), which nobody else changes meanwhile."""

        def write(connection: Connection) -> Budget:
            lock_budgets(connection)
            row = read_budget(connection, name)
            return make(None if row is None else budget_of(row))

        try:
            await self._service.put(write, caller.name)
        except BudgetIsConfigured as error:
            raise Problem(409, "budget_is_configured", str(error)) from None
        return self.budget(caller, name)

    def _status(self, connection: Connection, caller: Caller, name: str) -> BudgetStatus:
        found = _named(connection, self._zone, self._now(), name)
        if found is None or not caller.sees(found.budget.scope[TENANT]):
            raise _unknown(name)
        return found


def _named(connection: Connection, zone: ZoneInfo, now: int, name: str) -> BudgetStatus | None:
    row = read_budget(connection, name)
    return None if row is None else statuses_of(connection, zone, now, [budget_of(row)])[0]


def _unknown(name: str) -> Problem:
    return Problem(404, "unknown_budget", f"there is no budget `{name}`; GET /api/budgets names them")


def _allowed_action(caller: Caller, action: str, before: str) -> str:
    if caller.tenant_id and action != before:
        raise Problem(403, "forbidden", "a playbook acts on what all tenants share: an `admin` sets the `action` of a budget")
    return action


def _scope_kind(scope: Dimensions) -> str:
    return "tenant" if scope[TENANT] else "other" if describe_scope(scope) else "global"


def parse_budget_name(name: str) -> tuple[Dimensions, str]:
    """Scope and period of a name that `budget_name` gives. Raises `Problem` 404 for any other."""
    named, _, period = name.rpartition("/")
    scope = dict.fromkeys(DIMENSIONS, "")
    if named != "global":
        for part in named.split(","):
            dimension, _, value = part.partition("=")
            if dimension in scope:
                scope[dimension] = value.replace("%2C", ",").replace("%25", "%")
    found = tuple(scope.values())
    if period not in PERIODS or budget_name(found, period) != name or any(len(value) > 256 or "\0" in value for value in found):
        raise Problem(404, "unknown_budget", f"`{name}` names no budget: a name is `tenant_id=acme,model=gpt-4o/month`, or `global/month`")
    return found, period
