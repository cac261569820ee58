"""Spend as budgets see it, minute by minute, and the alerts of alerts/burn.rules.yaml on it, without a Prometheus.

`tests/test_burn_rate.py` holds that these windows and factors are those of the rules, and that a real promtool computes the same burn.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MINUTES_A_DAY = 1440
PERIODS = {"hour": 60, "day": MINUTES_A_DAY, "week": 7 * MINUTES_A_DAY, "month": 30 * MINUTES_A_DAY}
"""Minutes of each period; the month is one of 30 days."""


@dataclass(frozen=True)
class Pair:
    """Burn above `factor` over the long window, in minutes, and over the short one."""

    long: int
    short: int
    factor: float


FAST = {
    "day": (Pair(60, 5, 13),),
    "week": (Pair(60, 5, 13), Pair(360, 30, 6)),
    "month": (Pair(60, 5, 13), Pair(360, 30, 6)),
}
"""AIBudgetBurnsFast by period."""
SLOW = {
    "hour": (Pair(10, 5, 3),),
    "week": (Pair(1440, 120, 3),),
    "month": (Pair(1440, 120, 3), Pair(4320, 360, 2)),
}
"""AIBudgetBurnsSlowly by period."""
CLOUD = (Pair(4320, 1440, 3),)
"""CloudBudgetBurns, of months."""

NAIVE = {period: (Pair(60, 60, 2),) for period in PERIODS} | {"hour": (Pair(5, 5, 2),)}
"""One window of an hour (of an hour's budget: 5 minutes) and a factor that looks prudent, without a second window."""


@dataclass(frozen=True)
class Budget:
    """A limit of so many dollars in each period of so many minutes; minute 0 begins one."""

    limit: float
    minutes: int

    def used(self, spent: Sequence[float]) -> list[float]:
        """What is used of the period at the end of each minute, of dollars spent in each minute: the gauge. It begins anew."""
        used, total = [], 0.0
        for minute, dollars in enumerate(spent):
            if minute % self.minutes == 0:
                total = 0.0
            total += dollars
            used.append(total)
        return used

    def burn(self, used: Sequence[float], minute: int, window: int) -> float | None:
        """Burn of the last `window` minutes; 1 is even spend. None where the period is older and nothing is known of the window's begin."""
        elapsed = minute % self.minutes
        if elapsed < window:
            dollars = used[minute]
        elif minute - window >= 0:
            dollars = used[minute] - used[minute - window]
        else:
            return None
        return max(dollars, 0.0) / window / (self.limit / self.minutes)

    def burn_as_counter(self, used: Sequence[float], minute: int, window: int) -> float:
        """What `increase()` makes of the gauge: whatever falls is a counter that began anew at 0."""
        steps = range(max(1, minute - window + 1), minute + 1)
        dollars = sum(used[at] - used[at - 1] if used[at] >= used[at - 1] else used[at] for at in steps)
        return dollars / window / (self.limit / self.minutes)

    def affordable(self, used: Sequence[float], minute: int) -> float:
        """The burn at which what is left lasts exactly until the end of the period."""
        left = self.minutes - minute % self.minutes
        return max(self.limit - used[minute], 0.0) / left / (self.limit / self.minutes)

    def fires(self, used: Sequence[float], minute: int, pairs: Sequence[Pair]) -> bool:
        """Both windows of a pair burn faster than its factor, and faster than is affordable."""
        for pair in pairs:
            long, short = self.burn(used, minute, pair.long), self.burn(used, minute, pair.short)
            if long is not None and short is not None and long > pair.factor and short > pair.factor:
                return long > self.affordable(used, minute)
        return False

    def forecast(self, used: Sequence[float], minute: int) -> float | None:
        """Dollars by the end of the period: by the last 7 days, else by the period so far; None in the first tenth of it."""
        elapsed = minute % self.minutes
        if elapsed < self.minutes / 10:
            return None
        week = PERIODS["week"]
        if self.minutes > week and elapsed >= week:
            return used[minute] + max(used[minute] - used[minute - week], 0.0) / week * (self.minutes - elapsed)
        return used[minute] * self.minutes / elapsed


# --- spend: dollars in each minute, as shares of an even minute ------------------------------------------------------------------

Shape = Callable[[int], float]
"""Spend in a minute since a Monday's midnight, in even minutes: the mean over whole weeks is 1."""


def steady(_minute: int) -> float:
    """Day and night alike."""
    return 1.0


def business_hours(minute: int) -> float:
    """9 to 18 o'clock from Monday to Friday, the 2 hours around noon half as much again."""
    day, hour = divmod(minute // 60, 24)
    if day % 7 > 4 or not 9 <= hour < 18:
        return 0.0
    return 168 / 50 * (1.5 if 11 <= hour < 13 else 1.0)


def weekend_dip(minute: int) -> float:
    """A third as much on Saturdays and Sundays."""
    return (7 / (5 + 2 / 3)) * (1 / 3 if minute // MINUTES_A_DAY % 7 > 4 else 1.0)


def nightly_batch(minute: int) -> float:
    """All of it from 2 to 4 o'clock, every night."""
    return 12.0 if 2 <= minute // 60 % 24 < 4 else 0.0


def growth(minute: int) -> float:
    """10 % more each week: even in the middle of a month of 30 days."""
    return float(1.1 ** (minute / PERIODS["week"] - 15 / 7))


SHAPES: dict[str, Shape] = {
    "steady": steady,
    "business hours": business_hours,
    "weekend dip": weekend_dip,
    "batch at night": nightly_batch,
    "growth 10 % a week": growth,
}

UTILISATION = 0.8
"""Share of its limit that a budget spends where nothing is wrong: a fifth is kept for noise."""


def largest_period(shape: Shape, budget: Budget) -> float:
    """What the largest of the periods of a month spends of a limit that is 1, at a mean of 1: a budget is made for its busiest period."""
    periods = range(0, PERIODS["month"], budget.minutes)
    return (
        max(sum(shape(minute) for minute in range(begin, min(begin + budget.minutes, PERIODS["month"]))) for begin in periods)
        / budget.minutes
    )


def spend(shape: Shape, budget: Budget, minutes: int, seed: int, loop: tuple[int, float] | None = None) -> list[float]:
    """Dollars in each of `minutes`: calls of random size; with a `loop`, from its minute on so many times the even rate beside them."""
    draw = random.Random(seed)
    even = budget.limit / budget.minutes
    scale = UTILISATION * even / largest_period(shape, budget)
    dollars = []
    for minute in range(minutes):
        usual = scale * shape(minute)
        # A call or two a minute, exponential in size: half of all minutes differ from their mean by more than half of it.
        noisy = usual * (draw.expovariate(2) + draw.expovariate(2))
        dollars.append(noisy + (loop[1] * even if loop and minute >= loop[0] else 0.0))
    return dollars


def lumps(days: Sequence[float], lag_days: int, outage: tuple[int, int] | None = None) -> list[float]:
    """What each minute adds to the bill, of what each day cost: a day comes at 06:00, `lag_days` after its end.

    In an outage, from one day up to another, nothing comes; then all of it at once.
    """
    arriving = [0.0] * (len(days) * MINUTES_A_DAY)
    for day, dollars in enumerate(days):
        at = day + lag_days
        if outage and outage[0] <= at < outage[1]:
            at = outage[1]
        if at < len(days):
            arriving[at * MINUTES_A_DAY + 360] += dollars
    return arriving


def episodes(firing: Sequence[bool], gap: int = 15) -> list[int]:
    """The minutes in which an alert begins, where it goes on for `gap` minutes after its condition has ended."""
    begins, last = [], -gap - 1
    for minute, fires in enumerate(firing):
        if fires:
            if minute - last > gap:
                begins.append(minute)
            last = minute
    return begins
