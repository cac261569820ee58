"""What Prometheus would have recorded in the weeks before, of a filled stack: written as blocks before it starts.

An hour is a sample. Bills are a day late, as bills are: a moment knows of the days before its own.
"""

import subprocess
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from costwarden.analytics.forecast import Forecast, month_end

DAYS = 35
DAY = timedelta(days=1)


class Past(NamedTuple):
    """What there was: cost by provider, budget and day, and of AI usage by day."""

    providers: Mapping[str, Mapping[date, Decimal]]
    cloud_budgets: Mapping[str, Mapping[date, Decimal]]
    """By the labels of the budget as they stand between the braces of a series."""
    limits: Mapping[str, int]
    """Monthly limits of providers as wholes."""
    usage: Sequence[datetime]
    """When calls of acme were made, oldest first."""
    call_cost: Decimal
    """What each of them cost."""
    ai_budgets: Iterable[str]
    """Monthly budgets that all of this usage counts in, by their labels."""
    target: str
    """The labels that Prometheus adds to what it scrapes."""


def write_blocks(past: Past, promtool: Path, folder: Path, data: Path) -> None:
    """Write the past as blocks into the data folder of a Prometheus that does not run yet."""
    text = folder / "history.om"
    text.write_text("\n".join([*_lines(past), "# EOF\n"]), encoding="utf-8")
    data.mkdir(parents=True, exist_ok=True)
    argv = [promtool, "tsdb", "create-blocks-from", "--max-block-duration=744h", "openmetrics", text, data]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"promtool: {done.stderr.strip()}")


def _lines(past: Past) -> Iterator[str]:
    now = datetime.now(UTC)
    # The last is newer than an hour: from there on Prometheus scrapes for itself.
    full_hour = now.replace(minute=0, second=0, microsecond=0)
    moments = [full_hour - timedelta(hours=number) for number in range(24 * DAYS, -1, -1)] + [now - timedelta(minutes=1)]
    families: dict[str, list[str]] = defaultdict(list)
    # Bills are the same all day, and so are forecasts.
    of_a_day = {day: [*_clouds(past, day), *_ai_forecast(past, day)] for day in {moment.date() for moment in moments}}
    for moment in sorted(set(moments)):
        for name, labels, value in (*of_a_day[moment.date()], *_ai(past, moment)):
            families[name].append(f"{name}{{{labels}}} {float(value)!r} {moment.timestamp():.3f}")
    for name, lines in families.items():
        yield f"# TYPE {name} gauge"
        yield from sorted(lines, key=lambda line: line.rpartition(" ")[0].rpartition(" ")[0])


Samples = Iterator[tuple[str, str, Any]]


def _clouds(past: Past, today: date) -> Samples:
    month, yesterday = today.replace(day=1), today - DAY
    total = Decimal(0)
    for provider, days in past.providers.items():
        labels = f'provider="{provider}"'
        spent = _between(days, month, today)
        total += spent
        for name in ("provider:cloud_cost_monthly_usd:sum", "provider:cloud_cost_own_monthly_usd:sum"):
            yield name, f'{labels},month="current"', spent
        yield "provider:cloud_cost_daily_usd:sum", labels, days.get(yesterday, Decimal(0))
        if before := days.get(yesterday - DAY):
            yield "provider:cloud_cost_daily_growth:ratio", labels, days.get(yesterday, Decimal(0)) / before - 1
        known = {day: float(cost) for day, cost in days.items() if day < today}
        yield from _bounds("cloud_cost_forecast", f"{labels},{past.target}", month_end(known, yesterday, today))
    for provider, limit in past.limits.items():
        yield "provider:cloud_budget_monthly_limit_usd:sum", f'provider="{provider}"', limit
    yield "global:cloud_cost_monthly_usd:sum", 'month="current"', total
    for labels, days in past.cloud_budgets.items():
        yield "budget:cloud_budget_spent_usd:max", f'{labels},job="costwarden"', _between(days, month, today)


def _ai(past: Past, moment: datetime) -> Samples:
    month = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    spent = _used(past, month, moment)
    yield "ai_spend_monthly_usd", past.target, spent
    yield "ai_spend_monthly_limit_usd", past.target, 10_000
    for labels in past.ai_budgets:
        yield "budget:ai_budget_used_usd:sum", f'{labels},job="costwarden"', spent
        yield "budget:ai_budget_period_start_timestamp_seconds:max", f'{labels},job="costwarden"', month.timestamp()
    for window, hours in {"1h": 1, "1d": 24, "7d": 168, "30d": 720}.items():
        cost = _used(past, moment - timedelta(hours=hours), moment)
        yield "tenant:ai_token_usage_cost_window_usd:sum", f'tenant_id="acme",window="{window}"', cost


def _ai_forecast(past: Past, today: date) -> Samples:
    days: dict[date, float] = defaultdict(float)
    for when in past.usage:
        if when.date() < today:
            days[when.date()] += float(past.call_cost)
    yield from _bounds("ai_spend_forecast", past.target, month_end(days, today - DAY, today))


def _used(past: Past, first: datetime, end: datetime) -> Decimal:
    """What the calls of a half-open span cost."""
    return past.call_cost * (bisect_left(past.usage, end) - bisect_left(past.usage, first))


def _between(days: Mapping[date, Decimal], first: date, end: date) -> Decimal:
    return sum((cost for day, cost in days.items() if first <= day < end), Decimal(0))


def _bounds(name: str, labels: str, forecast: Forecast | None) -> Samples:
    if forecast is not None:
        yield f"{name}_usd", labels, forecast.cost
        yield f"{name}_lower_usd", labels, forecast.lower
        yield f"{name}_upper_usd", labels, forecast.upper
