"""What was to be expected of a day or an hour, and how far off is far: medians, which one odd day does not move."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from statistics import median

import msgspec

from costwarden.analytics.forecast import ONE_OFF, monthly, same_days_before

MAD_TO_DEVIATION = 1.4826
"""The median absolute deviation times this estimates the standard deviation of a normal distribution: 1 / the 75 % quantile of N(0, 1)."""

NINETIETH = 1.2816
"""Standard deviations by which the 90 % quantile of a normal distribution lies above its median."""

A_WEEK = timedelta(days=7)


class Expected(msgspec.Struct, frozen=True):
    """What is expected, in dollars, and how far it usually strays from that."""

    cost: float
    deviation: float


def same_weekdays(history: Mapping[date, float] | Mapping[date, Decimal], day: date, weeks: int) -> list[float]:
    """Cost on the weekday of `day` in the `weeks` before it, newest first.

    Days before the first of `history` are unknown and left out; a later day that is missing cost nothing.
    """
    if not history:
        return []
    first = min(history)
    days = [day - A_WEEK * number for number in range(1, weeks + 1)]
    return [float(history.get(earlier, 0)) for earlier in days if earlier >= first]


def expected_of(values: Sequence[float], fewest: int) -> Expected | None:
    """Median and 1.4826 times the median absolute deviation of `values`; None of fewer than `fewest`."""
    if len(values) < fewest:
        return None
    middle = median(values)
    return Expected(middle, MAD_TO_DEVIATION * median([abs(value - middle) for value in values]))


def expected_of_bursts(values: Sequence[float], fewest: int, busiest: float) -> Expected | None:
    """As `expected_of`, for what often is nothing and sometimes much.

    Where more than half of the values are alike their median deviation is 0, and everything else would be far off. The 90 % quantile
    knows the bursts of these values, and `busiest`, the highest value that others usually reach, those that come at any time: the deviation
    is at least the distance of either from the median, in the standard deviations that the 90 % quantile would be away.
    """
    found = expected_of(values, fewest)
    if found is None:
        return None
    high = max(sorted(values)[round(0.9 * (len(values) - 1))], busiest)
    return Expected(found.cost, max(found.deviation, (high - found.cost) / NINETIETH))


def expected_on(history: Mapping[date, float] | Mapping[date, Decimal], day: date, weeks: int, fewest: int) -> Expected | None:
    """What is expected of `day`: that of its weekday in the `weeks` before it, and what is paid on that day of every month."""
    found = expected_of_bursts(same_weekdays(history, day, weeks), fewest, 0.0)
    if found is None:
        return None
    first = min(history)
    extra = {}
    for same in same_days_before(day):
        near = [other for week in (-2, -1, 1, 2) if (other := same + A_WEEK * week) >= first and other.day > 1]
        if same >= first and near:
            extra[same] = float(history.get(same, 0)) - median([float(history.get(other, 0)) for other in near])
    paid = monthly(extra, day)
    # Days that merely stray the same way in both months are no fee.
    return Expected(found.cost + paid, found.deviation) if paid > ONE_OFF * found.deviation else found
