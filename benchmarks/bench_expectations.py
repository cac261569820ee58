"""How good expectations are: forecasts of months, and the anomalies of services' days and tenants' hours, on simulated spend.

Each forecast is made on a random day of a month and compared with what the month then cost, beside the seasonal naive forecast (each day to
come as the same weekday of the last week known) as the floor. Anomalies are counted as `CloudCostAnomaly` and `AISpendAnomaly` count them
with their defaults: more than 4 deviations and 20 % and $10 above what is expected. `bench_expectations.py BILL.csv` forecasts the month of
a FOCUS file too, day by day for each of its providers and services.
"""

import csv
import math
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from statistics import median

from costwarden.analytics.baseline import Expected, expected_of_bursts, expected_on
from costwarden.analytics.forecast import Forecast, days_of_month, history_begins, month_end

MONTHS = 300
SERVICES = 40
TENANTS = 20
DAY = timedelta(days=1)
WEEK = (1.0, 1.05, 1.1, 1.05, 1.0, 0.6, 0.55)
"""Cost of Monday to Sunday, of $100."""

Costs = dict[date, float]


def spend(kind: str, chance: random.Random, first: date, days: int, known: date) -> Costs:
    """Daily dollars of a kind of spend: $100 a day that stray by 10 %, each day much as the one before."""
    costs: Costs = {}
    off, fee_day = 0.0, chance.randint(2, 28)
    for number in range(days):
        day = first + DAY * number
        off = 0.7 * off + chance.gauss(0, 0.1) * math.sqrt(1 - 0.7**2)
        cost = 100 * WEEK[day.weekday()] * (1 + off)
        # What is bought after the day of the forecast nobody can foresee: it is no fault of a forecast.
        once = day <= known and chance.random() < 1 / 60
        match kind:
            case "independent days":
                cost = 100 * WEEK[day.weekday()] * (1 + chance.gauss(0, 0.1))
            case "growth of 15 % a month":
                cost *= 1.15 ** (number / 30 - days / 30)
            case "fall of 15 % a month":
                cost *= 0.85 ** (number / 30 - days / 30)
            case "$600 on each first":
                cost += 600 if day.day == 1 else 0
            case "$600 on a day of each month":
                cost += 600 if day.day == fee_day else 0
            case "purchases of $10,000":
                cost += 10_000 if once else 0
            case "refunds of $3,000":
                cost -= 3_000 if once else 0
            case "bursts on a fifth of days":
                cost = chance.expovariate(1 / 500) if chance.random() < 0.2 else 0.0
        costs[day] = cost
    return costs


KINDS = (
    "days like those before",
    "independent days",
    "growth of 15 % a month",
    "fall of 15 % a month",
    "$600 on each first",
    "$600 on a day of each month",
    "purchases of $10,000",
    "refunds of $3,000",
    "bursts on a fifth of days",
)


def naive(costs: Mapping[date, float], newest: date, today: date) -> float:
    """The month's end where each day to come is as the same weekday of the last week."""
    first, end = days_of_month(today)
    total, day = 0.0, first
    while day < end:
        weeks = max(0, math.ceil((day - newest).days / 7))
        total += costs.get(day - timedelta(weeks=weeks), 0.0)
        day += DAY
    return total


def forecasts(kind: str) -> Iterator[tuple[float, float, Forecast, float]]:
    """(true cost of a month, cost of a usual one, its forecast, the naive one)."""
    chance = random.Random(kind)
    for _ in range(MONTHS):
        first, end = days_of_month(date(2025, chance.randint(4, 12), 1))
        newest = first + DAY * chance.randint(0, 24) - DAY
        begin = history_begins(first)
        costs = spend(kind, chance, begin, (end - begin).days, newest)
        known = {day: cost for day, cost in costs.items() if day <= newest}
        found = month_end(known, newest, newest + DAY)
        assert found is not None
        yield sum(cost for day, cost in costs.items() if day >= first), 3000.0, found, naive(known, newest, newest + DAY)


def row(name: str, found: list[tuple[float, float, Forecast, float]]) -> str:
    """Mean error of a usual month, share of months between the bounds, the width of these, and the naive error."""
    ours = sum(abs(forecast.cost - true) / usual for true, usual, forecast, _ in found) / len(found)
    floor = sum(abs(other - true) / usual for true, usual, _, other in found) / len(found)
    inside = sum(forecast.lower - 1e-9 <= true <= forecast.upper + 1e-9 for true, _, forecast, _ in found) / len(found)
    width = sum((forecast.upper - forecast.lower) / usual for _, usual, forecast, _ in found) / len(found)
    return f"| {name} | {ours:.1%} | {floor:.1%} | {ours / floor:.2f} | {inside:.0%} | {width:.0%} |"


def bill_forecasts(path: str) -> Iterator[tuple[float, float, Forecast, float]]:
    """Of the dearest month of a FOCUS file: by provider and by service, from the eighth day on."""
    series: dict[tuple[str, ...], Costs] = defaultdict(lambda: defaultdict(float))
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        for line in csv.DictReader(file):
            try:
                cost = float(Decimal(line["BilledCost"]))
            except InvalidOperation:
                continue
            day = date.fromisoformat(line["ChargePeriodStart"][:10])
            for key in ((line["ProviderName"],), (line["ProviderName"], line["ServiceName"])):
                series[key][day] += cost
    for costs in series.values():
        by_month: dict[date, float] = defaultdict(float)
        for day, cost in costs.items():
            by_month[day.replace(day=1)] += cost
        first, end = days_of_month(max(by_month, key=lambda month: abs(by_month[month])))
        # A service of a few days in a month is no series.
        if len([day for day in costs if first <= day < end]) < 20:
            continue
        for number in range(7, (end - first).days):
            newest = first + DAY * number
            known = {day: cost for day, cost in costs.items() if day <= newest}
            found = month_end(known, newest, newest)
            if found is not None:
                true = sum(cost for day, cost in costs.items() if first <= day < end)
                yield true, sum(abs(cost) for day, cost in costs.items() if first <= day < end), found, naive(known, newest, newest)


def is_anomaly(expected: Expected | None, cost: float) -> bool:
    """As the rules have it, with their defaults."""
    if expected is None:
        return False
    return cost > expected.cost + 4 * expected.deviation and cost > 1.2 * expected.cost and cost - expected.cost >= 10


def service_alarms(kind: str) -> tuple[float, float]:
    """(false alarms a service and month, share of days of three times the cost that are found)."""
    chance = random.Random(kind)
    alarms = found = tried = 0
    begin, days = date(2025, 3, 1), 150
    for _ in range(SERVICES):
        costs = spend(kind, chance, begin, days, date.max)
        for number in range(60, days):
            day = begin + DAY * number
            expected = expected_on({other: cost for other, cost in costs.items() if other < day}, day, 8, 4)
            alarms += is_anomaly(expected, costs[day])
            tried += 1
            found += is_anomaly(expected, 3 * max(costs[day], 100.0))
    return alarms / SERVICES / ((days - 60) / 30), found / tried


def usage(kind: str, chance: random.Random, days: int) -> list[float]:
    """Dollars of each hour of a tenant; day 0 is a Monday."""
    base = chance.choice([5.0, 20.0, 80.0])
    costs = []
    for hour in range(days * 24):
        day, clock = divmod(hour, 24)
        cost = 0.0
        match kind:
            case "office hours" if day % 7 < 5 and 9 <= clock < 18:
                cost = base * chance.lognormvariate(0, 0.5)
            case "day and night":
                cost = base * (1 + 0.6 * math.sin((clock - 8) / 12 * math.pi)) * chance.lognormvariate(0, 0.3)
            case "steady":
                cost = base * max(0.0, chance.gauss(1, 0.15))
            case "now and then" if chance.random() < 0.05:
                cost = base * chance.lognormvariate(0, 0.6)
            case "a batch each night" if clock == 2 + (chance.random() < 0.3):
                cost = 5 * base * chance.lognormvariate(0, 0.3)
            case "a job each week" if day % 7 == 3 and clock == 10:
                cost = 5 * base * chance.lognormvariate(0, 0.3)
        costs.append(cost)
    return costs


USERS = ("office hours", "day and night", "steady", "now and then", "a batch each night", "a job each week")


def expected_hour(costs: list[float], hour: int, *, busy: bool) -> Expected | None:
    """As `metrics.ai_baselines` has it; without the busiest hour of the days, as a floor."""
    day, clock = divmod(hour, 24)
    alike = [other for other in range(day - 28, day) if (other % 7 >= 5) == (day % 7 >= 5)]
    peaks = [peak for other in range(day - 14, day) if (peak := max(costs[other * 24 : other * 24 + 24]))]
    busiest = median(peaks) if busy and peaks else 0.0
    return expected_of_bursts([costs[other * 24 + clock] for other in alike], 3 if day % 7 >= 5 else 5, busiest)


def tenant_alarms(kind: str, *, busy: bool) -> tuple[float, float, float]:
    """(false alarms a tenant and month, share found of hours of five times the busiest one by day, by night)."""
    chance = random.Random(kind)
    alarms, found, tried, days = 0, [0, 0], 0, 58
    for _ in range(TENANTS):
        costs = usage(kind, chance, days)
        alarms += sum(is_anomaly(expected_hour(costs, hour, busy=busy), costs[hour]) for hour in range(28 * 24, days * 24) if costs[hour])
        for _ in range(20):
            day = chance.randint(30, days - 1)
            runaway = max(15.0, 5 * max(costs[(day - 14) * 24 : day * 24]))
            tried += 1
            for number, clock in enumerate((chance.randint(9, 17), chance.randint(0, 4))):
                found[number] += is_anomaly(expected_hour(costs, day * 24 + clock, busy=busy), runaway)
    return alarms / TENANTS, found[0] / tried, found[1] / tried


def tables(each: Callable[[str], object], bill: str = "") -> None:
    """The tables of `docs/expectations.md`, line by line."""
    each("| spend | error | seasonal naive | ratio | between the bounds | width |\n|---|---|---|---|---|---|")
    for kind in KINDS:
        each(row(kind, list(forecasts(kind))))
    if bill:
        each(row("the bill", list(bill_forecasts(bill))))
    each("\n| spend of a service | false alarms a month | days of three times the cost found |\n|---|---|---|")
    for kind in KINDS:
        alarms, found = service_alarms(kind)
        each(f"| {kind} | {alarms:.2f} | {found:.0%} |")
    each("\n| tenant | false alarms a month | without the busiest hour | runaways found by day | by night |\n|---|---|---|---|---|")
    for kind in USERS:
        alarms, day, night = tenant_alarms(kind, busy=True)
        each(f"| {kind} | {alarms:.2f} | {tenant_alarms(kind, busy=False)[0]:.2f} | {day:.0%} | {night:.0%} |")


if __name__ == "__main__":
    tables(print, *sys.argv[1:2])
