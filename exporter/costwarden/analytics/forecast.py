"""What a month will have cost by its end: what is known of it, and for each day to come the mean of its weekday."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import accumulate
from math import fsum, sqrt
from statistics import fmean, median, variance

import msgspec

LOOK_BACK_DAYS = 28
"""Days of history that weekdays are averaged over: four of each."""

FEWEST_DAYS = 7
"""Days of history below which there is no forecast: each weekday once."""

EIGHTY_PERCENT = 1.2816
"""Standard deviations on both sides that hold 80 % of a normal distribution."""

_OF_FEW = (1.886, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397)
"""The same of Student's distribution with 2, 2, 3, … 8 degrees of freedom: what is known from few comparisons is not known well."""

ONE_OFF = 3
"""So many times as far from the usual as the third furthest of 28 days is no habit."""

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


def previous_month(day: date) -> date:
    """The first day of the month before that of `day`."""
    return days_of_month(day.replace(day=1) - _ONE_DAY)[0]


def latest_bill_begins(today: date) -> date:
    """Five weeks before the month begins: bills may be that late."""
    return days_of_month(today)[0] - timedelta(days=LOOK_BACK_DAYS + 7)


def history_begins(today: date) -> date:
    """As far back as `month_end` looks: three months before, to see how far off it would have been in them."""
    return previous_month(previous_month(previous_month(today)))


def month_end(costs: Mapping[date, float], newest: date, today: date) -> Forecast | None:
    """The cost of the month of `today` by its end, from daily `costs` that are complete up to `newest`.

    A day that is missing cost nothing. Of each day to come is expected the mean of its weekday over 28 days, and what was paid on that day
    of the month, beside the usual, in both months before (of a first, in the one before). A day past `newest` that has cost already is
    worth at least that. The variance is that of the days, or what such means were off by in the months before, whichever is more. None
    where fewer than 7 days are known.
    """
    first, end = days_of_month(today)
    days = _days_between(max(min(costs, default=end), history_begins(today)), newest)
    if len(days) < FEWEST_DAYS:
        return None
    usual = _without_one_offs(days, [costs.get(day, 0.0) for day in days])
    extra = {day: costs.get(day, 0.0) - cost for day, cost in zip(days, usual, strict=True)}
    means = _by_weekday(days[-LOOK_BACK_DAYS:], usual[-LOOK_BACK_DAYS:])
    total, to_come = 0.0, 0
    for day in _days_between(first, end - _ONE_DAY):
        if day <= newest:
            total += costs.get(day, 0.0)
        else:
            total += _at_least(means[day.weekday()] + monthly(extra, day), costs.get(day, 0.0))
            to_come += 1
    return Forecast(total, _variance(days[-LOOK_BACK_DAYS:], usual, to_come))


def _days_between(first: date, last: date) -> list[date]:
    return [first + _ONE_DAY * number for number in range((last - first).days + 1)]


def same_days_before(day: date) -> list[date]:
    """The same day of the two months before, the newer one first; not every month has a 31st."""
    found, month = [], day
    for _ in range(2):
        month = previous_month(month)
        same = month + _ONE_DAY * (day.day - 1)
        if same.month == month.month:
            found.append(same)
    return found


def monthly(extra: Mapping[date, float], day: date) -> float:
    """What is paid on this day of every month, of what was paid beside the usual on days before.

    It was paid in both of the months before, as much as in the cheaper one; on a first, one that is known is enough. What was bought in one
    of them was bought once.
    """
    found = [extra[same] for same in same_days_before(day) if same in extra]
    if not found or (len(found) < 2 and day.day > 1) or min(found) * max(found) < 0:
        return 0.0
    return min(found, key=abs)


def _at_least(expected: float, known: float) -> float:
    """What a day will have cost of which a part is known. A refund does not take the place of the usage that is still to come."""
    if expected * known < 0:
        return expected + known
    return max(expected, known, key=abs)


def _without_one_offs(days: Sequence[date], costs: Sequence[float]) -> list[float]:
    """`costs` of consecutive `days`, with the usual in place of firsts of a month and of days that are far from it.

    What was bought once (a year of a Savings Plan) or given once (a refund) is known of its month, but says nothing of the days to come.
    Monthly fees fall on a first. Usual is the median of the weekday, from two weeks before to two weeks after. Bursts of three days in four
    weeks are a habit, and stay.
    """
    usual = []
    for number in range(len(days)):
        near = [other for week in range(-2, 3) if 0 <= (other := number + 7 * week) < len(days)]
        usual.append(median([costs[other] for other in near if days[other].day > 1] or [0.0]))
    off = [abs(cost - middle) for cost, middle in zip(costs, usual, strict=True)]
    far = sorted(distance for day, distance in zip(days, off, strict=True) if day.day > 1)[-1 - round(len(days) / 14)]
    kept = [day.day > 1 and distance <= ONE_OFF * far for day, distance in zip(days, off, strict=True)]
    return [cost if keep else middle for keep, cost, middle in zip(kept, costs, usual, strict=True)]


def _by_weekday(days: Sequence[date], costs: Sequence[float]) -> list[float]:
    """Mean cost by weekday, Monday first, of at least a week; firsts of a month left out."""
    by_weekday: list[list[float]] = [[] for _ in range(7)]
    for day, cost in zip(days, costs, strict=True):
        if day.day > 1:
            by_weekday[day.weekday()].append(cost)
    overall = fmean(cost for values in by_weekday for cost in values)
    return [fmean(values) if values else overall for values in by_weekday]


def _variance(days: Sequence[date], costs: Sequence[float], to_come: int) -> float:
    """Of the sum of the `to_come` days after `costs`; `days` are the last of them, which the means are of."""
    recent = costs[-len(days) :]
    means = _by_weekday(days, recent)
    squares = [(cost - means[day.weekday()]) ** 2 for day, cost in zip(days, recent, strict=True)]
    # Less than two weeks: weekdays are their own means. How days stray is then how they stray from each other.
    spread = fsum(squares) / (len(recent) - 7) if len(recent) >= 14 else variance(recent)
    # Each day strays by itself, and the mean of the past, which is added for every one of them, is uncertain too.
    by_days = spread * (to_come + to_come**2 / len(recent))
    return max(by_days, (to_come * _drift(costs, to_come)) ** 2)


def _drift(costs: Sequence[float], ahead: int) -> float:
    """How far the mean of so many days was from that of the 28 before them, in the past: the root of the mean square.

    Days are not independent of each other: costs grow, fall and jump. Whole weeks are compared, so that weekends do not matter; with less
    than five weeks the last one with those before it, and with less than two none: 0.
    """
    before = min(LOOK_BACK_DAYS, 7 * (len(costs) // 7 - 1))
    if before < 7:
        return 0.0
    span = 7 * min(-(-ahead // 7), (len(costs) - before) // 7)
    if span < 1:
        return 0.0
    sums = [0.0, *accumulate(costs)]
    off = [
        (sums[begin + span] - sums[begin]) / span - (sums[begin] - sums[begin - before]) / before
        for begin in range(before, len(costs) - span + 1)
    ]
    few = _OF_FEW[min((len(costs) - before) // span, len(_OF_FEW)) - 1] / EIGHTY_PERCENT
    return few * sqrt(fmean([distance**2 for distance in off]))
