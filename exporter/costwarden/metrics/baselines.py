"""What the bills of the weeks before let one expect: of the newest day by its weekday, of this month by its end."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from itertools import chain

from costwarden.analytics.baseline import expected_of, expected_on, same_weekdays
from costwarden.analytics.forecast import Forecast, days_of_month, history_begins, month_end, previous_month
from costwarden.ledger import Connection
from costwarden.ledger.figures import bills_version, costs_between, source_providers
from costwarden.metrics.ai import Read
from costwarden.metrics.bill_days import Known, known_days, newest_complete
from costwarden.metrics.bounds import Labels, Sample, paced
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.cloud_scopes import budget_costs, scope_values
from costwarden.metrics.page import Collector, breathe
from costwarden.metrics.settings import CloudBudget
from costwarden.model import EXACT, from_micros

WEEKS = 4
"""Same weekdays before the newest day that a provider's cost is held against; at least 3 of them must be known."""

SERVICE_WEEKS = 8
"""As `WEEKS`, for services: a deviation needs more of them."""

FEWEST = 3
FEWEST_OF_SERVICES = 4

Days = dict[date, Decimal]

_Bill = tuple[str, date]
"""A provider, and the day up to which the costs of some of its accounts are known."""


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
            known = known_days(connection, today)
            newest = newest_complete(known)
            services = self._services(connection, newest, today)
            of_providers, of_budgets = self._forecasts(connection, known, today)
            sources = source_providers(connection)
        yield from _weekdays(_by_provider(services), newest)
        yield from _services_samples(services, newest)
        yield from forecast_samples("cloud_cost_forecast", {(name,): of_providers.get(name) for name in known})
        forecasts = {(budget.name, *scope_values(budget)): of_budgets.get(budget.name) for budget in self._budgets}
        yield from forecast_samples("cloud_budget_forecast", forecasts)
        yield FAMILIES["costwarden_source_provider_info"], [(pair, 1.0) for pair in sources]

    def _services(self, connection: Connection, newest: Mapping[str, date], today: date) -> dict[tuple[str, str], Days]:
        if not newest:
            return {}
        # The same day of two months before, and two weeks before that, to know what is paid every month.
        first = min(newest.values()) - timedelta(days=2 * 31 + 14)
        services: dict[tuple[str, str], Days] = defaultdict(dict)
        # Of one provider alone nothing counts twice, so what another one bills is part of what it usually costs.
        columns = ["charge_date", "provider_name", "service_name"]
        rows = costs_between(connection, self._basis, columns, first=first, last=today)
        for day, provider, service, cost in paced(rows, breathe):
            services[provider, service][date.fromisoformat(day)] = cost
        return services

    def _forecasts(
        self, connection: Connection, known: Known, today: date
    ) -> tuple[dict[str, Forecast | None], dict[str, Forecast | None]]:
        """By provider, and by budget."""
        providers: dict[str, dict[_Bill, dict[date, float]]] = defaultdict(_bills)
        budgets: dict[str, dict[_Bill, dict[date, float]]] = defaultdict(_bills)
        columns = ["provider_name", "source", "billing_account_id", "charge_date"]
        first, last = history_begins(today), days_of_month(today)[1]
        of_all = (("", values, cost) for *values, cost in costs_between(connection, self._basis, columns, first=first, last=last))
        of_budgets = budget_costs(connection, self._basis, self._budgets, columns, first=first, last=last)
        for budget, (provider, source, account, day), cost in chain(paced(of_all, breathe), of_budgets):
            if provider in known:
                # An account whose charges are all dated ahead is known as far as the others are.
                bill = provider, known[provider].get((source, account), max(known[provider].values()))
                (budgets[budget] if budget else providers[provider])[bill][date.fromisoformat(day)] += float(cost)
        return (
            {name: _forecast(bills, today) for name, bills in providers.items()},
            {name: _forecast(bills, today) for name, bills in budgets.items()},
        )


def _bills() -> dict[_Bill, dict[date, float]]:
    return defaultdict(lambda: defaultdict(float))


def _forecast(bills: Mapping[_Bill, Mapping[date, float]], today: date) -> Forecast | None:
    """The sum of the forecasts of `bills`, each from the day up to which it is known.

    Accounts that are known up to the same day are one bill: their errors have to do with each other. An account that is too young for a
    forecast of its own is one bill with all of its provider.
    """
    forecasts = [month_end(days, newest, today) for (_, newest), days in bills.items()]
    if None in forecasts:
        forecasts = [month_end(days, newest, today) for (_, newest), days in _joined(bills).items()]
    # Half a forecast would be a low one.
    if None in forecasts:
        return None
    return sum((found for found in forecasts if found is not None), Forecast(0.0, 0.0))


def _joined(bills: Mapping[_Bill, Mapping[date, float]]) -> dict[_Bill, dict[date, float]]:
    newest: dict[str, date] = {}
    for provider, known in bills:
        newest[provider] = min(known, newest.get(provider, known))
    joined = _bills()
    for (provider, _), days in bills.items():
        for day, cost in days.items():
            joined[provider, newest[provider]][day] += cost
    return joined


def _by_provider(services: Mapping[tuple[str, str], Days]) -> dict[str, Days]:
    providers: dict[str, Days] = defaultdict(lambda: defaultdict(Decimal))
    for (provider, _), days in services.items():
        for day, cost in days.items():
            providers[provider][day] = EXACT.add(providers[provider][day], cost)
    return providers


def _weekdays(providers: Mapping[str, Days], newest: Mapping[str, date]) -> Iterator[tuple[Family, list[Sample]]]:
    weekdays: list[Sample] = []
    starts: list[Sample] = []
    for provider, days in providers.items():
        if (day := newest.get(provider)) is None:
            continue
        if expected := expected_of(same_weekdays(days, day, WEEKS), FEWEST):
            weekdays.append(((provider,), expected.cost))
        before = previous_month(day)
        if day.day == 1 and before in days:
            starts.append(((provider,), float(days[before])))
    yield FAMILIES["cloud_cost_weekday_usd"], weekdays
    yield FAMILIES["cloud_cost_month_start_usd"], starts


def _services_samples(services: Mapping[tuple[str, str], Days], newest: Mapping[str, date]) -> Iterator[tuple[Family, list[Sample]]]:
    daily: list[Sample] = []
    expected: list[Sample] = []
    deviations: list[Sample] = []
    for key, days in services.items():
        if (day := newest.get(key[0])) is None:
            continue
        found = expected_on(days, day, SERVICE_WEEKS, FEWEST_OF_SERVICES)
        cost = days.get(day, Decimal(0))
        # What is gone for good, and is not missed, needs no series for ever.
        if not cost and (found is None or not found.cost):
            continue
        daily.append((key, float(cost)))
        if found is not None:
            expected.append((key, found.cost))
            deviations.append((key, found.deviation))
    yield FAMILIES["cloud_service_cost_daily_usd"], daily
    yield FAMILIES["cloud_service_cost_expected_usd"], expected
    yield FAMILIES["cloud_service_cost_deviation_usd"], deviations


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
