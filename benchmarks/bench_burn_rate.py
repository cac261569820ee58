"""How soon a budget that runs away is told of, and how often one that does not: burn rates against the naive alternatives.

Simulated spend (burn_simulation.py), the same at each run. The peer is what budgets usually have: an alert at 80 % of the limit, and one
window with one factor. docs/burn_rate.md has the figures.
"""

from collections.abc import Callable, Collection, Iterator

from burn_simulation import (
    CLOUD,
    FAST,
    MINUTES_A_DAY,
    NAIVE,
    PERIODS,
    SHAPES,
    SLOW,
    UTILISATION,
    Budget,
    Pair,
    business_hours,
    episodes,
    growth,
    lumps,
    spend,
    steady,
)

SEED = 5
MONTHS = 3
LOOPS = (5, 20, 100)
"""Times the even rate, beside the usual spend."""


def firings(budget: Budget, used: list[float], pairs: tuple[Pair, ...]) -> list[bool]:
    """Whether the pairs fire, minute by minute."""
    return [budget.fires(used, minute, pairs) for minute in range(len(used))]


def crossed(budget: Budget, used: list[float], share: float) -> list[bool]:
    """Whether more than a share of the limit is used, minute by minute."""
    return [value > share * budget.limit for value in used]


def forecast_exceeded(budget: Budget, used: list[float]) -> list[bool]:
    """AIBudgetForecastExceeded on a month past its first 7 days; on what is shorter, where there is no such alert, past its half."""
    firing, since = [], 0
    first = min(PERIODS["week"], budget.minutes // 2)
    for minute in range(len(used)):
        amount = budget.forecast(used, minute)
        is_over = amount is not None and amount > budget.limit and minute % budget.minutes >= first
        since = since + 1 if is_over else 0
        firing.append(since > 60 or (is_over and budget.minutes <= 60))
    return firing


def a_naive_window(budget: Budget, used: list[float], period: str) -> list[bool]:
    """One window and one factor, and nothing else asked."""
    pair = NAIVE[period][0]
    return [(budget.burn(used, minute, pair.long) or 0.0) > pair.factor for minute in range(len(used))]


ALERTS: dict[str, Callable[[Budget, list[float], str], list[bool]]] = {
    "fast": lambda budget, used, period: firings(budget, used, FAST.get(period, ())),
    "slow": lambda budget, used, period: firings(budget, used, SLOW.get(period, ())),
    "forecast": lambda budget, used, _: forecast_exceeded(budget, used),
    "one window": a_naive_window,
    "80 %": lambda budget, used, _: crossed(budget, used, 0.8),
}


def false_alarms(period: str, minutes: int = MONTHS * PERIODS["month"]) -> Iterator[tuple[str, dict[str, int]]]:
    """Of each shape of spend that keeps its budget: how many alarms of each kind there are in `minutes`."""
    budget = Budget(100.0, PERIODS[period])
    for name, shape in SHAPES.items():
        if shape is growth and period != "month":
            continue
        # Growth begins anew each month, or it would be no budget that is kept.
        anew: Callable[[int], float] = (lambda minute: growth(minute % PERIODS["month"])) if shape is growth else shape
        used = budget.used(spend(anew, budget, minutes, SEED))
        over = episodes(crossed(budget, used, 1.0))
        found = {alert: len(episodes(fires(budget, used, period))) for alert, fires in ALERTS.items()}
        yield name, found | {"over 100 %": len(over)}


def detections(period: str, times: float) -> dict[str, float | None]:
    """Minutes from the begin of a loop until each alert, and until the limit; None where it never comes in that period.

    The loop begins on a quiet day, a third into a period that has a whole one before it.
    """
    budget = Budget(100.0, PERIODS[period])
    begin = budget.minutes + budget.minutes // 3
    used = budget.used(spend(steady, budget, 2 * budget.minutes, SEED, (begin, times)))
    kinds: dict[str, list[bool]] = {alert: fires(budget, used, period) for alert, fires in ALERTS.items()}
    kinds["100 %"] = crossed(budget, used, 1.0)
    return {
        name: next((minute - begin + 1 for minute in range(begin, len(used)) if firing[minute]), None) for name, firing in kinds.items()
    }


def cloud_days(days: int, loop: tuple[int, float] | None = None) -> list[float]:
    """What each day costs, in even days: business days and weekends, and from a day on a loop beside them."""
    daily = [
        UTILISATION * sum(business_hours(day * MINUTES_A_DAY + minute) for minute in range(MINUTES_A_DAY)) / MINUTES_A_DAY
        for day in range(days)
    ]
    # Clouds run at night too: half of their cost does not follow the hours of business.
    return [(UTILISATION + dollars) / 2 + (loop[1] if loop and day >= loop[0] else 0.0) for day, dollars in enumerate(daily)]


def cloud_alerts(arriving: list[float]) -> dict[str, list[bool]]:
    """CloudBudgetBurns, one window of a day with factor 2, and 80 %, on the bills that have arrived."""
    budget = Budget(30.0, PERIODS["month"])
    used = budget.used(arriving)
    one = [(budget.burn(used, minute, MINUTES_A_DAY) or 0.0) > 2 for minute in range(len(used))]
    return {
        "burn": firings(budget, used, CLOUD),
        "one window": one,
        "80 %": crossed(budget, used, 0.8),
        "100 %": crossed(budget, used, 1.0),
    }


def cloud_false_alarms() -> Iterator[tuple[str, dict[str, int]]]:
    """Bills that keep their budget, in lumps, with and without an outage."""
    days = cloud_days(MONTHS * 30)
    for name, outage in (("daily lumps", None), ("outage of 3 days, then all at once", (40, 43))):
        firing = cloud_alerts(lumps(days, 2, outage))
        yield name, {alert: len(episodes(minutes, gap=MINUTES_A_DAY)) for alert, minutes in firing.items()}


def cloud_detections(times: float) -> dict[str, float | None]:
    """Days from the begin of a loop until each alert: on the 11th of the second month; bills 2 days late."""
    begin = 40
    firing = cloud_alerts(lumps(cloud_days(60, (begin, times)), 2))
    start = begin * MINUTES_A_DAY
    return {
        alert: next(((minute - start) / MINUTES_A_DAY for minute in range(start, len(minutes)) if minutes[minute]), None)
        for alert, minutes in firing.items()
    }


def correction() -> tuple[float, float]:
    """The burn of an hour in which a cent of $50 was corrected, half of a month's $100: as a difference, and as `increase()` has it."""
    budget = Budget(100.0, PERIODS["month"])
    half = budget.minutes // 2
    used = [minute * budget.limit / budget.minutes - (0.01 if minute >= half else 0.0) for minute in range(half + 30)]
    return budget.burn(used, half + 29, 60) or 0.0, budget.burn_as_counter(used, half + 29, 60)


def after(minutes: float | None) -> str:
    """Minutes as a reader says them: `36 min`, `5.1 h`, `2.4 d`."""
    if minutes is None:
        return "never"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < 2 * MINUTES_A_DAY else f"{minutes / MINUTES_A_DAY:.1f} d"


def soon(period: str, found: dict[str, float | None]) -> Iterator[str]:
    """As `after`; `none` where a period has no such alert."""
    has: dict[str, Collection[str]] = {"fast": FAST, "slow": SLOW, "forecast": {"month": ()}}
    for alert, minutes in found.items():
        yield after(minutes) if period in has.get(alert, PERIODS) else "none"


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def said(period: str, found: dict[str, int]) -> Iterator[str]:
    """Counts of alarms; in brackets those of a forecast that is not shipped for that period."""
    for alert, count in found.items():
        yield f"({count})" if alert == "forecast" and period != "month" else str(count)


def tables() -> Iterator[str]:
    """All figures, as docs/burn_rate.md has them."""
    alerts = tuple(ALERTS)
    yield f"False alarms in {MONTHS} months of 30 days, budgets of which {UTILISATION:.0%} is spent:"
    yield ""
    kept = ((period, name, found) for period in PERIODS for name, found in false_alarms(period))
    yield from table(("period", "spend", *alerts, "over 100 %"), ((period, name, *said(period, found)) for period, name, found in kept))
    yield ""
    as_difference, as_counter = correction()
    yield f"A cent is corrected at half of a month of $100: burn {as_difference:.2f} in the hour, {as_counter:.0f} with `increase()`."
    yield ""
    yield "Time until the alert, of a loop that begins a third into the period, beside steady spend:"
    yield ""
    loops = ((period, times, detections(period, times)) for period in PERIODS for times in LOOPS)
    yield from table(("period", "loop", *alerts, "100 %"), ((period, f"×{times}", *soon(period, found)) for period, times, found in loops))
    yield ""
    yield f"Cloud budgets: alarms in {MONTHS} months without a fault:"
    yield ""
    yield from table(
        ("bills", "burn", "one window", "80 %", "100 %"), ((name, *map(str, found.values())) for name, found in cloud_false_alarms())
    )
    yield ""
    yield "Cloud budgets: time until the alert, of a loop from the 11th of a month on, bills 2 days late:"
    yield ""
    clouds = ((times, cloud_detections(times)) for times in LOOPS)
    yield from table(
        ("loop", "burn", "one window", "80 %", "100 %"),
        ((f"×{times}", *(after(None if days is None else days * MINUTES_A_DAY) for days in found.values())) for times, found in clouds),
    )


def main() -> None:
    """Print the tables."""
    for line in tables():
        print(line)


if __name__ == "__main__":
    main()
