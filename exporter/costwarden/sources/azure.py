"""Cost of Azure, from Cost Management: what was billed and what it is worth when commitments are spread over the time they cover."""

from calendar import monthrange
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal

import structlog

from costwarden.model import EXACT
from costwarden.sources import Change, Failed, Gone, KnownPart, Read, Stated, Surroundings, read_of
from costwarden.sources.attribution import Attribution
from costwarden.sources.azure_client import AzureClient, Ended, Pause
from costwarden.sources.azure_query import Line, definition, months, read_costs, read_lines
from costwarden.sources.azure_stated import read_budgets, read_forecast
from costwarden.sources.currency import Rates
from costwarden.sources.daily import Cost, DailyCosts, KnownDay
from costwarden.sources.requests import SourceError
from costwarden.sources.settings import AttributionSettings, AzureSettings, ExchangeRates
from costwarden.sources.windows import Window

CHARGE_CATEGORIES = {
    "usage": "Usage",
    "unusedreservation": "Usage",
    "unusedsavingsplan": "Usage",
    "purchase": "Purchase",
    "refund": "Purchase",
    "tax": "Tax",
    "credit": "Credit",
    "roundingadjustment": "Adjustment",
}
"""Azure's ChargeType, in lower case -> FOCUS's ChargeCategory, as Microsoft's own exports in FOCUS have it:
https://learn.microsoft.com/en-us/cloud-computing/finops/focus/convert. What is not here is an `Adjustment`."""

ZERO = Decimal(0)

log = structlog.get_logger()


class AzureSource:
    """Reads days of scopes. A scope that cannot be read fails alone; what it held stays."""

    def __init__(
        self,
        settings: AzureSettings,
        attribution: AttributionSettings,
        rates: ExchangeRates,
        surroundings: Surroundings,
        pause: Pause | None = None,
    ) -> None:
        self._settings = settings
        self._attribution, self._rates = Attribution(attribution), Rates(rates)
        self._client = AzureClient(settings, surroundings.reveal, surroundings.requests, pause)

    def fetch(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        """As `sources.Source`: a part is a day of a scope, `SCOPE/YYYY-MM-DD`."""
        failures = []
        readers: dict[str, str] = {}
        for scope in self._settings.scopes:
            try:
                there = {day for part, state in known.items() if state.state == "ok" and (day := _day_of_part(part, scope))}
                changes: list[Change] = [*self._days(scope, known, there, window, readers)]
                # Azure tells of budgets as they are now: a window in the past must not replace what was said later.
                if max(there, default=window.last) <= window.last:
                    changes += self._stated(scope, known, window.last)
            except Ended:
                raise
            except SourceError as error:
                failures.append(str(error))
                yield Failed(part=scope, message=str(error))
                continue
            except Exception as error:
                log.exception("scope not read; its figures stay", source=self._settings.name, scope=scope)
                failures.append(f"{scope}: {type(error).__name__}: {error}")
                yield Failed(part=scope, message=failures[-1])
                continue
            yield from changes
            if scope in known:
                yield Gone(part=scope)
        if len(failures) == len(self._settings.scopes):
            raise SourceError("; ".join(failures))
        # Where one fails that has come in the place of another, the figures of that one are the best there are.
        if not failures:
            yield from self._left_over(known)

    def probe(self) -> Iterator[str]:
        """As `sources.Source`: a request for each scope, for its cost of the month as a whole."""
        failures = []
        for scope in self._settings.scopes:
            try:
                yield self._probe(scope)
            except Ended:
                raise
            except SourceError as error:
                failures.append(str(error))
        if failures:
            raise SourceError("; ".join(failures))

    def close(self) -> None:
        """As `sources.Source`."""
        self._client.close()

    def _days(
        self, scope: str, known: Mapping[str, KnownPart], there: set[date], window: Window, readers: dict[str, str]
    ) -> Iterator[Read]:
        asked = window.days_to_ask(there)
        if asked is None:
            return
        first, last = asked
        costs = DailyCosts(self._settings.name, scope, self._attribution, self._rates)
        types = ("ActualCost", "AmortizedCost") if self._settings.amortized else ("ActualCost",)
        for since, until in months(first, last):
            for cost_type in types:
                for line in read_costs(self._client, scope, cost_type, since, until, self._settings.keys_of(scope)):
                    # A period that lies ahead is answered for by Azure with the same one a year ago.
                    if not since <= line.day <= until:
                        raise SourceError(f"{scope}: asked for {since} to {until}, Azure answered for {line.day}")
                    self._count_once(scope, line, readers)
                    costs.add(self._cost(scope, line, cost_type), f"{cost_type}: {line.content}")
        before = {part: KnownDay(state.state, state.fingerprint, state.figures) for part, state in known.items()}
        yield from map(read_of, costs.changes(first, last, before, accepts_empty=self._settings.accept_empty_answers))

    def _cost(self, scope: str, line: Line, cost_type: str) -> Cost:
        """A row, as the billed or as the effective cost: those of one charge meet in its sum.

        A reservation's purchase is in the actual rows only, its use in the amortized ones only: both sums are kept whole.
        """
        values = line.values
        segments = scope.split("/")
        tags = {key.removeprefix("tag:"): value for key, value in values.items() if key.startswith("tag:")}
        tags |= {key: values[key].lower() for key in ("resource_group", "pricing_model") if key in values}
        charge_type = values.get("charge_type")
        split = self._settings.amortized
        amortized = cost_type == "AmortizedCost"
        return Cost(
            day=line.day,
            provider_name="azure",
            billing_account_id=segments[4] if segments[3:4] == ["billingAccounts"] else "",
            sub_account_id=values.get("subscription", segments[2] if segments[1] == "subscriptions" else "").lower(),
            service_name=values.get("service", ""),
            region_id=values.get("region", "").lower(),
            charge_category="" if charge_type is None else CHARGE_CATEGORIES.get(charge_type.lower(), "Adjustment"),
            billing_currency=line.currency,
            tags=tags,
            billed_cost=ZERO if amortized else line.cost,
            effective_cost=line.cost if amortized or not split else ZERO,
        )

    def _count_once(self, scope: str, line: Line, readers: dict[str, str]) -> None:
        """Raises `SourceError` where another scope has told of the same subscription already, unless both are groups of it."""
        if (subscription := line.values.get("subscription", "").lower()) and scope.split("/")[1] != "subscriptions":
            own = next((other for other in self._settings.scopes if other.startswith(f"/subscriptions/{subscription}")), scope)
            other = readers.setdefault(subscription, own)
            if other != scope:
                raise SourceError(
                    f"{scope}: the subscription {subscription} is read from {other}, and would count twice: leave one out of `scopes`"
                )

    def _stated(self, scope: str, known: Mapping[str, KnownPart], today: date) -> Iterator[Change]:
        """The budgets and the forecast; each may fail, and then the costs are still read."""
        forecast, budgets = f"{scope}/forecast", f"{scope}/budgets"
        name = self._settings.name
        try:
            found = read_budgets(self._client, name, scope, today, self._rates) if self._settings.budgets else []
            yield Stated(part=scope, budgets=found)
            yield from _gone(budgets, known)
        except Ended:
            raise
        except SourceError as error:
            yield Failed(part=budgets, message=str(error))
        try:
            if not self._settings.forecast:
                yield Stated(part=forecast)
            elif today.day < monthrange(today.year, today.month)[1]:
                yield Stated(part=forecast, figures=read_forecast(self._client, name, scope, forecast, today, self._rates))
            yield from _gone(forecast, known)
        except Ended:
            raise
        except SourceError as error:
            yield Failed(part=forecast, message=str(error))

    def _left_over(self, known: Mapping[str, KnownPart]) -> Iterator[Change]:
        """What scopes have left that are asked for no more: another one may hold the same cost."""
        stale = {part: scope for part in sorted(known) if (scope := _scope_of_part(part)) not in self._settings.scopes}
        for part in stale:
            yield Gone(part=part)
        for scope in dict.fromkeys(stale.values()):
            yield Stated(part=scope)
            yield Stated(part=f"{scope}/forecast")

    def _probe(self, scope: str) -> str:
        query = {**definition("ActualCost", date.min, date.min, ()), "timeframe": "MonthToDate"}
        del query["timePeriod"]
        sums: dict[str, Decimal] = {}
        for line in read_lines(self._client, scope, query, ()):
            if isinstance(line.cost, Decimal):
                sums[line.currency] = EXACT.add(sums.get(line.currency, ZERO), line.cost)
        if not sums:
            return f"{scope}: answers, and has had no cost this month"
        said = " and ".join(f"{amount:f} {currency}" for currency, amount in sorted(sums.items()))
        missing = [f"`{currency}`" for currency in sorted(sums) if currency not in self._rates.first_days]
        return f"{scope}: {said} this month" + (f"; add a rate for {', '.join(missing)} to `exchange_rates`" if missing else "")


def _day_of_part(part: str, scope: str) -> date | None:
    if not scope or not part.startswith(f"{scope}/"):
        return None
    try:
        return date.fromisoformat(part.removeprefix(f"{scope}/"))
    except ValueError:
        return None


def _scope_of_part(part: str) -> str:
    """A part is a day of a scope, its budgets, its forecast, or the scope itself where it has failed."""
    scope, _, last = part.rpartition("/")
    return scope if last in {"budgets", "forecast"} or _day_of_part(part, scope) else part


def _gone(part: str, known: Mapping[str, KnownPart]) -> Iterator[Gone]:
    if part in known:
        yield Gone(part=part)
