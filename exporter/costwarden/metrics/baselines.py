"""What the bills of the weeks before let one expect: of the newest day by its weekday, of this month by its end."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta

from costwarden.analytics.baseline import expected_of, same_weekdays
from costwarden.analytics.forecast import Forecast, days_of_month, latest_bill_begins, month_end
from costwarden.ledger import Connection
from costwarden.ledger.charges import breakdown
from costwarden.ledger.figures import bills_version, newest_days, source_providers
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Labels, Sample
from costwarden.metrics.catalogue import CLOUD_SCOPE, FAMILIES, Family
from costwarden.metrics.cloud import charge_column, in_scope, scope_values
from costwarden.metrics.page import Collector
from costwarden.metrics.settings import CloudBudget
from costwarden.model import from_micros

WEEKS = 4
"""Same weekdays before the newest day that a provider's cost is held against; at least 3 of them must be known."""

SERVICE_WEEKS = 8
"""As `WEEKS`, for services: a deviation needs more of them."""

FEWEST = 3
FEWEST_OF_SERVICES = 4

Days = dict[date, float]
ScopedCost = tuple[date, str, Labels, float]
"""Day, charge category, values of `CLOUD_SCOPE`, dollars."""


class Baselines:
    """Expected cost of days and months, from the bills. Reads them again only after a refresh or at midnight."""

    def __init__(self, read: Read, basis: str, budgets: Sequence[CloudBudget], now: Callable[[], int]) -> None:
        self._read = read
        self._basis = basis
        self._budgets = budgets
        self._now = now

    def version(self) -> object:
        """Changes with every refresh of a source, and at midnight."""
        with self._read() as connection:
            return self._today(), bills_version(connection)

    def _today(self) -> date:
        return from_micros(self._now()).date()

    def collect(self) -> Iterator[tuple[Family, list[Sample]]]:
        """As of today."""
        today = self._today()
        with self._read() as connection:
            # One that has billed nothing for so long has stopped: what it once cost is no forecast.
            newest = {name: day for name, day in newest_days(connection, today).items() if day >= latest_bill_begins(today)}
            services = self._services(connection, newest, today)
            scopes = self._scopes(connection, today) if self._budgets else []
            sources = source_providers(connection)
        providers = _by_provider(services)
        yield from _weekdays(providers, newest)
        yield from _services_samples(services, newest)
        forecasts: dict[Labels, Forecast | None] = {
            (name,): month_end(days, newest[name], today) for name, days in providers.items() if name in newest
        }
        yield from forecast_samples("cloud_cost_forecast", forecasts)
        of_budgets: dict[Labels, Forecast | None] = {
            (budget.name, *scope_values(budget)): _of_budget(budget, scopes, newest, today) for budget in self._budgets
        }
        yield from forecast_samples("cloud_budget_forecast", of_budgets)
        yield FAMILIES["costwarden_source_provider_info"], [(pair, 1.0) for pair in sources]

    def _services(self, connection: Connection, newest: Mapping[str, date], today: date) -> dict[tuple[str, str], Days]:
        if not newest:
            return {}
        first = min(newest.values()) - timedelta(weeks=SERVICE_WEEKS)
        columns = ["charge_date", "provider_name", "service_name"]
        # Of one provider alone nothing counts twice, so what another one bills is part of what it usually costs.
        rows = breakdown(connection, self._basis, columns, first=first, last=today, allocated=True)
        services: dict[tuple[str, str], Days] = defaultdict(dict)
        for day, provider, service, cost in rows:
            services[provider, service][date.fromisoformat(day)] = float(cost)
        return services

    def _scopes(self, connection: Connection, today: date) -> list[ScopedCost]:
        columns = ["charge_date", "charge_category", *(charge_column(label) for label in CLOUD_SCOPE)]
        rows = breakdown(connection, self._basis, columns, first=latest_bill_begins(today), last=today, allocated=True)
        return [(date.fromisoformat(day), category, tuple(values), float(cost)) for day, category, *values, cost in rows]


def _by_provider(services: Mapping[tuple[str, str], Days]) -> dict[str, Days]:
    providers: dict[str, Days] = defaultdict(lambda: defaultdict(float))
    for (provider, _), days in services.items():
        for day, cost in days.items():
            providers[provider][day] += cost
    return providers


def _weekdays(providers: Mapping[str, Days], newest: Mapping[str, date]) -> Iterator[tuple[Family, list[Sample]]]:
    weekdays: list[Sample] = []
    starts: list[Sample] = []
    for provider, days in providers.items():
        if (day := newest.get(provider)) is None:
            continue
        if expected := expected_of(same_weekdays(days, day, WEEKS), FEWEST):
            weekdays.append(((provider,), expected.cost))
        before = days_of_month(day - timedelta(days=1))[0]
        if day.day == 1 and before in days:
            starts.append(((provider,), days[before]))
    yield FAMILIES["cloud_cost_weekday_usd"], weekdays
    yield FAMILIES["cloud_cost_month_start_usd"], starts


def _services_samples(services: Mapping[tuple[str, str], Days], newest: Mapping[str, date]) -> Iterator[tuple[Family, list[Sample]]]:
    daily: list[Sample] = []
    expected: list[Sample] = []
    deviations: list[Sample] = []
    for key, days in services.items():
        if (day := newest.get(key[0])) is None:
            continue
        found = expected_of(same_weekdays(days, day, SERVICE_WEEKS), FEWEST_OF_SERVICES)
        cost = days.get(day, 0.0)
        # What is gone for good, and is not missed, needs no series for ever.
        if not cost and (found is None or not found.cost):
            continue
        daily.append((key, cost))
        if found is not None:
            expected.append((key, found.cost))
            deviations.append((key, found.deviation))
    yield FAMILIES["cloud_service_cost_daily_usd"], daily
    yield FAMILIES["cloud_service_cost_expected_usd"], expected
    yield FAMILIES["cloud_service_cost_deviation_usd"], deviations


def _of_budget(budget: CloudBudget, rows: Iterable[ScopedCost], newest: Mapping[str, date], today: date) -> Forecast | None:
    """The sum of the forecasts of the providers in the scope of `budget`: their bills are of different age."""
    scope = scope_values(budget)
    providers: dict[str, Days] = defaultdict(lambda: defaultdict(float))
    for day, category, values, cost in rows:
        if in_scope(scope, values, category):
            providers[values[0]][day] += cost
    forecasts = [month_end(days, newest[name], today) for name, days in providers.items() if name in newest]
    # Half a forecast would be a low one.
    if not forecasts or None in forecasts:
        return None
    return sum((found for found in forecasts if found is not None), Forecast(0.0, 0.0))


def forecast_samples(name: str, forecasts: Mapping[Labels, Forecast | None]) -> Iterator[tuple[Family, list[Sample]]]:
    """The families `{name}_usd`, `_lower_usd` and `_upper_usd`, without what is None."""
    known = {labels: forecast for labels, forecast in forecasts.items() if forecast is not None}
    yield FAMILIES[f"{name}_usd"], [(labels, forecast.cost) for labels, forecast in known.items()]
    yield FAMILIES[f"{name}_lower_usd"], [(labels, forecast.lower) for labels, forecast in known.items()]
    yield FAMILIES[f"{name}_upper_usd"], [(labels, forecast.upper) for labels, forecast in known.items()]


def baseline_collector(read: Read, basis: str, budgets: Sequence[CloudBudget], now: Callable[[], int]) -> Collector:
    """The collector of what was to be expected of bills."""
    baselines = Baselines(read, basis, budgets, now)
    return Collector("baselines", baselines.collect, baselines.version)
