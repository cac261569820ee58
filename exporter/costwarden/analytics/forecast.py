"""What a month will have cost by its end: what is known of it, and for each day to come the mean of its weekday."""

from collections.abc import Mapping
from datetime import date, timedelta
from math import sqrt
from statistics import fmean

import msgspec

LOOK_BACK_DAYS = 28
"""Days of history that weekdays are averaged over: four of each."""

FEWEST_DAYS = 7
"""Days of history below which there is no forecast: each weekday once."""

EIGHTY_PERCENT = 1.2816
"""Standard deviations on both sides that hold 80 % of a normal distribution."""

_ONE_DAY = timedelta(days=1)


class Forecast(msgspec.Struct, frozen=True):
    """Dollars by the end of a month, and the variance of that."""

    cost: float
    variance: float

    def __add__(self, other: "Forecast") -> "Forecast":
        """Of two bills whose errors have nothing to do with each other."""
        return Forecast(self.cost + other.cost, self.variance + other.variance)

    @property
    def lower(self) -> float:
        """80 % of months end between this and `upper`, if days stray as they did."""
        return self.cost - EIGHTY_PERCENT * sqrt(self.variance)

    @property
    def upper(self) -> float:
        """See `lower`."""
        return self.cost + EIGHTY_PERCENT * sqrt(self.variance)


def days_of_month(day: date) -> tuple[date, date]:
    """The first day of the month of `day`, and the first of the next."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def latest_bill_begins(today: date) -> date:
    """As far back as the month before begins: bills may be that late, and its first day stands for this one's."""
    first, _ = days_of_month(today)
    return min(first - timedelta(days=LOOK_BACK_DAYS + 7), days_of_month(first - _ONE_DAY)[0])


def month_end(costs: Mapping[date, float], newest: date, today: date) -> Forecast | None:
    """The cost of the month of `today` by its end, from daily `costs` that are complete up to `newest`.

    A day that is missing cost nothing. The first of a month does not count in the mean of its weekday, because fees of the month fall on
    it; where it is still to come, the one before stands for it. A day past `newest` that has cost already is worth at least that. None
    where fewer than 7 days are known.
    """
    first, end = days_of_month(today)
    history = _history(costs, newest)
    if len(history) < FEWEST_DAYS:
        return None
    means, spread = _weekdays(history)
    total, to_come = 0.0, 0
    day = first
    while day < end:
        if day <= newest:
            total += costs.get(day, 0.0)
        else:
            expected = means[day.weekday()]
            if day.day == 1:
                expected = costs.get(days_of_month(day - _ONE_DAY)[0], expected)
            total += max(expected, costs.get(day, 0.0))
            to_come += 1
        day += _ONE_DAY
    # Each day strays by itself, and the mean of the past, which is added for every one of them, is uncertain too.
    return Forecast(total, spread * (to_come + to_come**2 / len(history)))


def _history(costs: Mapping[date, float], newest: date) -> dict[date, float]:
    """The last `LOOK_BACK_DAYS` days up to `newest`, from the first that is known on; without firsts of a month."""
    known = [day for day in costs if day <= newest]
    if not known:
        return {}
    begin = max(min(known), newest - _ONE_DAY * (LOOK_BACK_DAYS - 1))
    days = [begin + _ONE_DAY * number for number in range((newest - begin).days + 1)]
    return {day: costs.get(day, 0.0) for day in days if day.day != 1}


def _weekdays(history: Mapping[date, float]) -> tuple[list[float], float]:
    """Mean cost by weekday, Monday first, and the variance of days around the mean of theirs."""
    by_weekday: list[list[float]] = [[] for _ in range(7)]
    for day, cost in history.items():
        by_weekday[day.weekday()].append(cost)
    overall = fmean(history.values())
    means = [fmean(values) if values else overall for values in by_weekday]
    freedom = len(history) - sum(bool(values) for values in by_weekday)
    squares = sum((cost - means[day.weekday()]) ** 2 for day, cost in history.items())
    if freedom > 0:
        return means, squares / freedom
    # One week: each weekday is its own mean. How days stray is then how they stray from each other.
    return means, sum((cost - overall) ** 2 for cost in history.values()) / max(1, len(history) - 1)
