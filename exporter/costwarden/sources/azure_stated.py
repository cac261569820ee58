"""What Azure states beside the costs: the budgets that are kept at a scope, and its forecast of the month."""

from calendar import monthrange
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from costwarden.model import EXACT, ProviderBudget, ProviderFigure
from costwarden.sources.azure_client import AzureClient, AzureRefused
from costwarden.sources.azure_query import column_positions
from costwarden.sources.currency import Rates
from costwarden.sources.requests import SourceError

PERIODS = {
    "monthly": "month",
    "billingmonth": "month",
    "quarterly": "quarter",
    "billingquarter": "quarter",
    "annually": "year",
    "billingannual": "year",
}
"""`timeGrain`, in lower case: https://learn.microsoft.com/en-us/rest/api/cost-management/budgets/list"""

FORECAST = "azure_cost_forecast_usd"


def account_of(scope: str) -> str:
    """How a scope is named in labels: by the ids of the subscription and the group, of the management group or of the billing account.

    Of a part of a billing account with its kind, as `ACCOUNT/departments/ID`: an enrollment account may have the number of a department.
    """
    _, kind, *ids = scope.split("/")
    if kind == "subscriptions":
        return f"{ids[0]}/{ids[2].lower()}" if len(ids) > 1 else ids[0]
    return "/".join(ids[2:])


def read_budgets(client: AzureClient, source: str, scope: str, today: date, rates: Rates) -> list[ProviderBudget]:
    """The budgets of cost that hold `today`. Raises `SourceError`."""
    found = []
    for entry in client.list(scope, "budgets"):
        properties = entry.get("properties")
        name = str(entry.get("name", ""))
        if not isinstance(properties, dict):
            raise SourceError(f"{scope}: the budget {name!r} has no `properties`")
        # The other category watches how much of a reservation is used, and has no amount.
        if str(properties.get("category", "Cost")).lower() == "cost" and _holds(properties.get("timePeriod") or {}, today):
            found.append(_budget(source, scope, name, properties, today, rates))
    return found


def _budget(source: str, scope: str, name: str, properties: Mapping[str, Any], today: date, rates: Rates) -> ProviderBudget:
    spent, forecast = (properties.get(key) or {} for key in ("currentSpend", "forecastSpend"))
    unit = str(spent.get("unit") or forecast.get("unit") or "").upper()
    rate = rates.usd(unit, today) if unit else None
    if rate is None:
        reason = f"no rate for {unit!r} on {today}: add one to `exchange_rates`" if unit else "Azure does not name its currency"
        raise SourceError(f"{scope}: the budget {name!r}: {reason}")

    def usd(amount: Any) -> Decimal | None:
        if amount is None:
            return None
        if not isinstance(amount, Decimal):
            raise SourceError(f"{scope}: the budget {name!r} has an amount that is no number: {amount!r}")
        return EXACT.multiply(amount, rate)

    limit = usd(properties.get("amount"))
    if limit is None:
        raise SourceError(f"{scope}: the budget {name!r} has no amount")
    return ProviderBudget(
        source=source,
        part=scope,
        provider_name="azure",
        account_id=account_of(scope),
        budget=name,
        period=PERIODS.get(str(properties.get("timeGrain", "")).lower(), "custom"),
        limit_usd=limit,
        spent_usd=usd(spent.get("amount")),
        forecast_usd=usd(forecast.get("amount")),
    )


def _holds(period: Mapping[str, Any], today: date) -> bool:
    first, last = (str(period.get(key) or "")[:10] for key in ("startDate", "endDate"))
    # ISO dates compare as texts; a budget without an end goes on.
    return first <= today.isoformat() and (not last or today.isoformat() <= last)


def read_forecast(client: AzureClient, source: str, scope: str, part: str, today: date, rates: Rates) -> list[ProviderFigure]:
    """The month of `today` as Azure forecasts it: its actual days and those to come. Empty where Azure has too little history (28 days).

    Raises `SourceError`. The month's last day has nothing to come, and Azure refuses it: then it must not be asked.
    https://learn.microsoft.com/en-us/rest/api/cost-management/forecast/usage
    """
    last = today.replace(day=monthrange(today.year, today.month)[1])
    body = {
        "type": "ActualCost",
        "timeframe": "Custom",
        "timePeriod": {"from": f"{today:%Y-%m}-01T00:00:00Z", "to": f"{last}T23:59:59Z"},
        "dataset": {"granularity": "Daily", "aggregation": {"Cost": {"name": "Cost", "function": "Sum"}}},
        "includeActualCost": True,
        "includeFreshPartialCost": True,
    }
    total, rows = Decimal(0), 0
    try:
        for properties in client.post(scope, "forecast", body):
            columns = column_positions(scope, properties)
            for row in properties.get("rows") or []:
                rows += 1
                total = EXACT.add(total, _in_usd(scope, columns, row, today, rates))
    except AzureRefused as error:
        if "forecast is unavailable" in error.message.lower():
            return []
        raise
    figure = ProviderFigure(source=source, part=part, metric=FORECAST, labels=(source, account_of(scope)), value=total)
    return [figure] if rows else []


def _in_usd(scope: str, columns: Mapping[str, int], row: Any, today: date, rates: Rates) -> Decimal:
    try:
        amount, currency = row[columns["cost"]], str(row[columns["currency"]]).upper()
    except (KeyError, IndexError, TypeError):
        raise SourceError(f"{scope}: Azure's forecast has no cost with a currency, only {', '.join(columns)}") from None
    if not isinstance(amount, Decimal):
        raise SourceError(f"{scope}: Azure's forecast has {amount!r} for a cost")
    rate = rates.usd(currency, today)
    if rate is None:
        raise SourceError(f"{scope}: the forecast: no rate for {currency!r} on {today}: add one to `exchange_rates`")
    return EXACT.multiply(amount, rate)
