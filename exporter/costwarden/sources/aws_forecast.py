"""Cost Explorer's forecast of the month.

`GetCostForecast` tells of the days from today on, and of no others; what the days before have cost is added, so that the figure is that of
the calendar month. https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_GetCostForecast.html
"""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from costwarden.model import EXACT, ProviderFigure
from costwarden.sources.aws_costs import Ask, Month
from costwarden.sources.aws_session import AwsRefused
from costwarden.sources.currency import Rates
from costwarden.sources.requests import SourceError
from costwarden.sources.settings.aws import AwsSettings

NO_HISTORY = "DataUnavailableException"
"""What an account is answered that has too little history to forecast from."""

_METRICS = {"UnblendedCost": "UNBLENDED_COST", "NetUnblendedCost": "NET_UNBLENDED_COST", "BlendedCost": "BLENDED_COST"}

_FIELDS = {"": "MeanValue", "_lower": "PredictionIntervalLowerBound", "_upper": "PredictionIntervalUpperBound"}


def month_forecast(
    settings: AwsSettings, account: str, part: str, rates: Rates, ask: Ask, today: date, month: Month
) -> list[ProviderFigure] | None:
    """The forecast of the month of `today` in dollars, and its bounds; None where AWS has too little history for one.

    Raises `SourceError`, also where the cost of the days before is not known.
    """
    end = (today.replace(day=1) + timedelta(days=31)).replace(day=1)
    request = {
        "TimePeriod": {"Start": today.isoformat(), "End": end.isoformat()},
        "Metric": _METRICS[settings.billed_metric],
        # By months and not by days: bounds of days do not add up to bounds of their sum.
        "Granularity": "MONTHLY",
        "PredictionIntervalLevel": settings.forecast_interval_percent,
    }
    try:
        unit, start, amounts = ask("get_cost_forecast", request, "", _read)
    except AwsRefused as error:
        if error.code == NO_HISTORY:
            return None
        raise
    rate = rates.usd(unit, today)
    if rate is None:
        raise SourceError(f"the forecast is in {unit!r}, and there is no rate for {today}: add one to `exchange_rates`")
    # The answer says from which day on it is: where that is the first of the month, it is all of it.
    first = today.replace(day=1)
    before = month.between(first, max(start, first))
    if before is None:
        raise SourceError("no forecast of the month: the cost of its days so far is not known whole")
    return [
        ProviderFigure(
            source=settings.name,
            part=part,
            metric=f"aws_cost_forecast{bound}_usd",
            labels=(settings.name, account),
            value=EXACT.add(before, EXACT.multiply(amount, rate)),
        )
        for bound, amount in amounts.items()
        if amount is not None
    ]


def _read(body: str) -> tuple[str, date, dict[str, Decimal | None]]:
    """Currency, first day, and the amounts by bound. Raises `SourceError`."""
    try:
        answer = msgspec.json.decode(body)
        (found,) = answer["ForecastResultsByTime"]
        unit = answer["Total"]["Unit"]
        if not isinstance(unit, str):
            raise TypeError("`Unit` is no text")
        return unit, date.fromisoformat(found["TimePeriod"]["Start"]), {bound: _amount(found, field) for bound, field in _FIELDS.items()}
    except (KeyError, TypeError, ValueError, InvalidOperation, RecursionError) as error:
        raise SourceError(f"GetCostForecast: the answer is not as AWS documents it: {type(error).__name__}: {error}") from None


def _amount(found: Mapping[str, Any], field: str) -> Decimal | None:
    if field not in found and field != "MeanValue":
        return None
    amount = Decimal(found[field])
    if not amount.is_finite():
        raise ValueError(f"{field} is {found[field]!r}")
    return amount
