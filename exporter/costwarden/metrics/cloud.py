"""Cloud cost: what the bills say by month and by day, and the budgets on parts of them.

Months and days are those of UTC, as bills have them. The collector reads the bills again only after a refresh or at midnight.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from costwarden.analytics.forecast import days_of_month
from costwarden.ledger import Connection
from costwarden.ledger.figures import bills_version, costs_by_month, costs_on_days
from costwarden.metrics.ai import Read
from costwarden.metrics.bill_days import known_days, newest_complete
from costwarden.metrics.bounds import Labels, Sample
from costwarden.metrics.catalogue import FAMILIES, PROVIDERS, Family, cloud_prefix
from costwarden.metrics.cloud_scopes import budget_costs, charge_column, scope_values
from costwarden.metrics.page import Collector
from costwarden.metrics.settings import CloudBudget, MetricsSettings
from costwarden.model import EXACT, from_micros

_PREFIXES = (*PROVIDERS, "other")

_ONE_DAY = timedelta(days=1)

Costs = dict[Labels, Decimal]
Families = Iterator[tuple[Family, list[Sample]]]


class CloudCosts:
    """Cost by provider, month or day, and the chosen labels; cloud budgets."""

    def __init__(self, read: Read, settings: MetricsSettings, budgets: Sequence[CloudBudget], now: Callable[[], int]) -> None:
        self._read = read
        self._labels = settings.cloud_labels
        self._basis = settings.cost_basis
        self._months_kept = settings.months_kept_apart
        self._budgets = budgets
        self._now = now

    def version(self) -> object:
        """Changes with every refresh of a source, and at midnight."""
        with self._read() as connection:
            return self._today(), bills_version(connection)

    def _today(self) -> date:
        return from_micros(self._now()).date()

    def collect(self) -> Families:
        """Months, days and budgets as of today."""
        today = self._today()
        columns = [charge_column(label) for label in self._family("aws_cost_daily_usd").foldable]
        with self._read() as connection:
            months = by_month(costs_by_month(connection, self._basis, columns), today, self._months_kept)
            days = self._days(connection, columns, today)
            spent = self._spent(connection, today)
        for prefix in _PREFIXES:
            yield self._family(f"{prefix}_cost_monthly_usd"), _samples(months, prefix)
            yield self._family(f"{prefix}_cost_daily_usd"), _samples(days.newest, prefix)
            yield self._family(f"{prefix}_cost_previous_day_usd"), _samples(days.previous, prefix)
            yield self._family(f"{prefix}_cost_daily_timestamp_seconds"), _samples(days.starts, prefix)
            yield self._family(f"{prefix}_budget_monthly_limit_usd"), _samples(_provider_limits(self._budgets), prefix)
        limits = [((budget.name, budget.action, *scope_values(budget)), float(budget.monthly_limit_usd)) for budget in self._budgets]
        yield FAMILIES["cloud_budget_limit_usd"], limits
        yield FAMILIES["cloud_budget_spent_usd"], spent

    def _family(self, name: str) -> Family:
        family = FAMILIES[name]
        return family.narrowed(self._labels) if family.foldable else family

    def _days(self, connection: Connection, columns: Sequence[str], today: date) -> "_Days":
        newest = newest_complete(known_days(connection, today))
        days = _Days(newest)
        for row in costs_on_days(connection, self._basis, columns, {name: (day - _ONE_DAY, day) for name, day in newest.items()}):
            days.add(row)
        return days

    def _spent(self, connection: Connection, today: date) -> list[Sample]:
        spent = cloud_budgets_spent(connection, self._basis, self._budgets, today)
        return [((budget.name, *scope_values(budget)), float(cost)) for budget, cost in spent]


class _Days:
    """The `newest` complete day of each provider, and the day before it."""

    def __init__(self, newest: Mapping[str, date]) -> None:
        self.newest: Costs = {}
        self.previous: Costs = {}
        self.starts: Costs = {(name,): Decimal(int(datetime(*day.timetuple()[:3], tzinfo=UTC).timestamp())) for name, day in newest.items()}
        self._days = newest

    def add(self, row: tuple[Any, ...]) -> None:
        provider, day, *labels, cost = row
        key = (provider, *labels)
        is_newest = day == self._days[provider]
        # What had cost on one of the days has a figure for both, so that a rule can compare them.
        (self.newest if is_newest else self.previous)[key] = cost
        (self.previous if is_newest else self.newest).setdefault(key, Decimal(0))


def by_month(rows: Iterable[tuple[Any, ...]], today: date, months_kept: int) -> Costs:
    """(provider, month, *labels) -> cost, the months named `current`, `previous`, `YYYY-MM` or `older`.

    What had cost in the previous month has a figure for the current one, if only 0, so that a budget's utilisation starts at 0 and
    not at nothing.
    """
    first, _ = days_of_month(today)
    current, previous = _month(first), _month(first - _ONE_DAY)
    oldest = first
    for _ in range(months_kept - 1):
        oldest, _ = days_of_month(oldest - _ONE_DAY)
    names = {current: "current", previous: "previous"}
    costs: Costs = defaultdict(Decimal)
    for provider, month, *labels, cost in rows:
        name = "older" if month < _month(oldest) else names.get(month, month)
        costs[provider, name, *labels] = EXACT.add(costs[provider, name, *labels], cost)
        if name == "previous":
            costs.setdefault((provider, "current", *labels), Decimal(0))
    return costs


def _month(day: date) -> str:
    return f"{day:%Y-%m}"


def _samples(costs: Costs, prefix: str) -> list[Sample]:
    return [(labels, float(cost)) for labels, cost in costs.items() if cloud_prefix(labels[0]) == prefix]


def cloud_budgets_spent(
    connection: Connection, basis: str, budgets: Sequence[CloudBudget], today: date
) -> list[tuple[CloudBudget, Decimal]]:
    """What each budget's scope has cost in the calendar month of `today`, in dollars."""
    first, end = days_of_month(today)
    spent = {budget.name: Decimal(0) for budget in budgets}
    for name, _, cost in budget_costs(connection, basis, budgets, (), first=first, last=end - _ONE_DAY):
        spent[name] = EXACT.add(spent[name], cost)
    return [(budget, spent[budget.name]) for budget in budgets]


def _provider_limits(budgets: Iterable[CloudBudget]) -> Costs:
    limits: Costs = {}
    for budget in budgets:
        provider, *others = scope_values(budget)
        if provider and not any(others):
            limits[provider,] = min(budget.monthly_limit_usd, limits.get((provider,), budget.monthly_limit_usd))
    return limits


def cloud_collector(read: Read, settings: MetricsSettings, budgets: Sequence[CloudBudget], now: Callable[[], int]) -> Collector:
    """The collector of cloud cost and cloud budgets."""
    costs = CloudCosts(read, settings, budgets, now)
    return Collector("cloud", costs.collect, costs.version)
