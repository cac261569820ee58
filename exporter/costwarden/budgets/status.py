"""How budgets stand: read from the ledger, by the API, the command line and the metrics page alike."""

from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

import msgspec

from costwarden.budgets.rules import Budget, PeriodBounds
from costwarden.budgets.store import budget_of
from costwarden.ledger import Connection
from costwarden.ledger.budgets import read_budgets, read_crossed, read_periods


class BudgetStatus(msgspec.Struct, kw_only=True):
    """One budget in its current period. Amounts are nano-dollars, times microseconds."""

    budget: Budget
    spent: int
    reserved: int
    unsettled: int
    input_tokens: int
    output_tokens: int
    requests: int
    period_start: int
    resets_at: int

    @property
    def hard_limit_reached(self) -> bool:
        """Everything is refused until the period ends, the limit rises or an unsettled call turns out cheaper."""
        return self.spent + self.unsettled >= self.budget.limit

    @property
    def soft_limit_reached(self) -> bool:
        """Spend is at the soft limit or above."""
        return self.spent >= self.budget.soft_limit

    @property
    def status(self) -> str:
        """`ok`, `warning` (soft limit reached) or `exceeded` (hard limit reached)."""
        return "exceeded" if self.hard_limit_reached else "warning" if self.soft_limit_reached else "ok"


def budget_statuses(connection: Connection, zone: ZoneInfo, now: int, tenant_id: str | None = None) -> list[BudgetStatus]:
    """Every budget by name, or those of one tenant, as of `now`."""
    return statuses_of(connection, zone, now, [budget_of(row) for row in read_budgets(connection, tenant_id)])


def statuses_of(connection: Connection, zone: ZoneInfo, now: int, budgets: Sequence[Budget]) -> list[BudgetStatus]:
    """How these budgets stand as of `now`."""
    calendar = PeriodBounds(zone)
    bounds = [calendar.of(budget.period, now) for budget in budgets]
    rows = read_periods(connection, [(budget.budget, start) for budget, (start, _) in zip(budgets, bounds, strict=True)])
    statuses = []
    for budget, (start, end) in zip(budgets, bounds, strict=True):
        figures = rows.get((budget.budget, start))
        spent, input_tokens, output_tokens, requests, reserved, unsettled = (0,) * 6 if figures is None else figures[2:8]
        statuses.append(
            BudgetStatus(
                budget=budget,
                spent=spent,
                reserved=reserved,
                unsettled=unsettled,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                requests=requests,
                period_start=start,
                resets_at=end,
            )
        )
    return statuses


def thresholds_crossed(connection: Connection, status: BudgetStatus) -> Iterator[tuple[str, int]]:
    """The thresholds that a budget has crossed in its current period: (share of the limit, microseconds)."""
    key = status.budget.budget, status.period_start
    yield from read_crossed(connection, [key]).get(key, {}).items()
