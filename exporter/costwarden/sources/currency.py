"""Dated exchange rates: what a charge in another currency is in dollars."""

from bisect import bisect_right
from datetime import date
from decimal import Decimal

from costwarden.sources.settings import ExchangeRates

DOLLAR = Decimal(1)


class Rates:
    """The configured rates. The newest one that is not after the day holds; before the first there is none."""

    def __init__(self, settings: ExchangeRates) -> None:
        self._rates = settings.rates

    def usd(self, currency: str, day: date) -> Decimal | None:
        """Dollars for one unit of `currency` on `day`; None where no rate is known."""
        if currency == "USD":
            return DOLLAR
        days, rates = self._rates.get(currency, ((), ()))
        position = bisect_right(days, day)
        return rates[position - 1] if position else None

    @property
    def first_days(self) -> dict[str, date]:
        """The first day with a rate, by currency; the dollar is always one."""
        return {"USD": date.min} | {currency: days[0] for currency, (days, _) in self._rates.items()}
