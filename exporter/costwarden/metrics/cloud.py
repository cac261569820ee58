"""Cloud cost: what the bills say by month and by day, and the budgets on parts of them.

Months and days are those of UTC, as bills have them. The collector reads the bills again only after a refresh or at midnight.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from costwarden.analytics.forecast import days_of_month, latest_bill_begins
from costwarden.ledger import Connection
from costwarden.ledger.charges import breakdown
from costwarden.ledger.figures import bills_version, costs_by_month, newest_days
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Labels, Sample
from costwarden.metrics.catalogue import CLOUD_SCOPE, FAMILIES, PROVIDERS, Family, cloud_prefix
from costwarden.metrics.page import Collector
from costwarden.metrics.settings import CloudBudget, MetricsSettings
from costwarden.model import ALLOCATED, EXACT, from_micros

_PREFIXES = (*PROVIDERS, "other")

_COLUMNS = {"provider": "provider_name", "region": "region_id", "service": "service_name"}
"""Columns of the charges that are not named as their label is."""

_ONE_DAY = timedelta(days=1)

Costs = dict[Labels, Decimal]
Families = Iterator[tuple[Family, list[Sample]]]


def charge_column(label: str) -> str:
    """The column of the charges that a label shows."""
    return _COLUMNS.get(label, label)


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
        days = _Days()
        for provider, newest in newest_days(connection, today).items():
            # One that has billed nothing for so long has stopped: its last day would be the newest for ever.
            if newest < latest_bill_begins(today):
                continue
            where = {"provider_name": provider}
            before = newest - _ONE_DAY
            # Of one provider alone nothing counts twice, so what another one bills is shown too.
            rows = breakdown(connection, self._basis, ["charge_date", *columns], first=before, last=newest, where=where, allocated=True)
            days.add(provider, newest, rows)
        return days

    def _spent(self, connection: Connection, today: date) -> list[Sample]:
        spent = cloud_budgets_spent(connection, self._basis, self._budgets, today)
        return [((budget.name, *scope_values(budget)), float(cost)) for budget, cost in spent]


class _Days:
    """The newest complete day of each provider, and the day before it: bills of different providers are of different age."""

    def __init__(self) -> None:
        self.newest: Costs = {}
        self.previous: Costs = {}
        self.starts: Costs = {}

    def add(self, provider: str, newest: date, rows: Iterable[tuple[Any, ...]]) -> None:
        for day, *labels, cost in rows:
            key = (provider, *labels)
            is_newest = day == newest.isoformat()
            # What had cost on one of the days has a figure for both, so that a rule can compare them.
            (self.newest if is_newest else self.previous)[key] = cost
            (self.previous if is_newest else self.newest).setdefault(key, Decimal(0))
        self.starts[provider,] = Decimal(int(datetime(newest.year, newest.month, newest.day, tzinfo=UTC).timestamp()))


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
    if not budgets:
        return []
    first, end = days_of_month(today)
    columns = [*(charge_column(label) for label in CLOUD_SCOPE), "charge_category"]
    rows = breakdown(connection, basis, columns, first=first, last=end - _ONE_DAY, allocated=True)
    return [(budget, _matching(rows, scope_values(budget))) for budget in budgets]


def scope_values(budget: CloudBudget) -> Labels:
    """The scope of a budget in the order of `CLOUD_SCOPE`; empty is any."""
    return tuple([getattr(budget.scope, label) for label in CLOUD_SCOPE])


def in_scope(scope: Labels, values: Sequence[str], category: str) -> bool:
    """Whether a charge with these `values` of `CLOUD_SCOPE` counts towards a budget on `scope`.

    What one provider allocates and another one bills (`model.ALLOCATED`) counts where the scope names the former; everywhere else it would
    count twice.
    """
    counted_elsewhere = not scope[0] and category == ALLOCATED
    return not counted_elsewhere and all(wanted in ("", value) for wanted, value in zip(scope, values, strict=True))


def _matching(rows: Iterable[tuple[Any, ...]], scope: Labels) -> Decimal:
    """The sum of rows (*CLOUD_SCOPE, charge category, dollars)."""
    total = Decimal(0)
    for *values, category, cost in rows:
        if in_scope(scope, values, category):
            total = EXACT.add(total, cost)
    return total


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
