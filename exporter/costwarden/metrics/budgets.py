"""AI budgets: limit, spent and set aside, each as series of its own, so that rules compare series with series."""

from collections.abc import Callable, Iterable, Iterator
from zoneinfo import ZoneInfo

from costwarden.budgets.rules import FOREVER, thresholds_reached
from costwarden.budgets.status import BudgetStatus, budget_statuses
from costwarden.ledger.budgets import read_suspended
from costwarden.ledger.figures import reservation_counts
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Labels, Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.model import MICROS_PER_SECOND, NANOS_PER_USD

_FIGURES: dict[str, Callable[[BudgetStatus], float]] = {
    "ai_budget_spent_usd": lambda status: status.spent / NANOS_PER_USD,
    "ai_budget_reserved_usd": lambda status: status.reserved / NANOS_PER_USD,
    "ai_budget_unsettled_usd": lambda status: status.unsettled / NANOS_PER_USD,
    "ai_budget_hard_limit_reached": lambda status: float(status.hard_limit_reached),
    "ai_budget_soft_limit_reached": lambda status: float(status.soft_limit_reached),
    "ai_budget_soft_limit_ratio": lambda status: float(status.budget.soft_limit_ratio),
}


class AiBudgets:
    """Every budget in its current period, and the reservations that are not settled."""

    def __init__(self, read: Read, zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._read = read
        self._zone = zone
        self._now = now

    def collect(self) -> Iterator[tuple[Family, list[Sample]]]:
        """The budgets nearest to their limit first: where there are more than series, those are the ones to see."""
        with self._read() as connection:
            statuses = budget_statuses(connection, self._zone, self._now())
            reservations = reservation_counts(connection)
            stopped = "" in read_suspended(connection)
        statuses.sort(key=_pressure, reverse=True)
        yield FAMILIES["ai_budget_limit_usd"], [(_limit_labels(status), status.budget.limit / NANOS_PER_USD) for status in statuses]
        for name, figure in _FIGURES.items():
            yield FAMILIES[name], [(_labels(status), figure(status)) for status in statuses]
        yield FAMILIES["ai_budget_threshold_ratio"], list(_thresholds(statuses))
        resets = [status for status in statuses if status.resets_at != FOREVER]
        yield (
            FAMILIES["ai_budget_period_start_timestamp_seconds"],
            [(_labels(status), status.period_start / MICROS_PER_SECOND) for status in resets],
        )
        yield (
            FAMILIES["ai_budget_reset_timestamp_seconds"],
            [(_labels(status), status.resets_at / MICROS_PER_SECOND) for status in resets],
        )
        yield FAMILIES["ai_emergency_stop"], [((), float(stopped))]
        yield FAMILIES["costwarden_reservations"], [((state,), float(reservations.get(state, 0))) for state in ("open", "unsettled")]


def _thresholds(statuses: Iterable[BudgetStatus]) -> Iterator[Sample]:
    """The highest threshold that each budget has reached; of a budget that has reached none, nothing. What is unsettled counts as spent."""
    for status in statuses:
        used = status.spent + status.unsettled
        reached = list(thresholds_reached(status.budget, used)) if used else []
        if reached:
            yield (status.budget.budget, status.budget.period, format(reached[-1], "f"), *status.budget.scope), float(reached[-1])


def _pressure(status: BudgetStatus) -> float:
    committed = status.spent + status.reserved + status.unsettled
    return committed / status.budget.limit if status.budget.limit else float("inf")


def _labels(status: BudgetStatus) -> Labels:
    return (status.budget.budget, status.budget.period, *status.budget.scope)


def _limit_labels(status: BudgetStatus) -> Labels:
    return (status.budget.budget, status.budget.period, status.budget.action, *status.budget.scope)


def budget_collector(read: Read, zone: ZoneInfo, now: Callable[[], int]) -> Collector:
    """The collector of AI budgets."""
    return Collector("ai_budgets", AiBudgets(read, zone, now).collect)
