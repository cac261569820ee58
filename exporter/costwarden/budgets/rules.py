"""The rules of budgets, without state: which scopes match, where a period begins, when a threshold is reached."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, from_micros, to_micros

# The end of a period that never ends: 9999-12-31, the last day that datetime can print.
FOREVER = 253_402_214_400_000_000

MICROS_PER_HOUR = 3600 * MICROS_PER_SECOND

Dimensions = tuple[str, ...]
"""Values in the order of `model.DIMENSIONS`; the empty string is absent (usage) or any (scope)."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on what a scope may spend in a period. `limit` is in nano-dollars, ratios are shares of it."""

    budget: str
    scope: Dimensions
    period: str
    limit: int
    soft_limit_ratio: Decimal
    thresholds: tuple[Decimal, ...]
    action: str
    origin: str
    """Who made it: `api`, `config`, `default` or `apply`."""
    tier: str = ""
    """The tier that its limit follows; empty where the limit was given."""

    @property
    def soft_limit(self) -> int:
        """Nano-dollars from which the soft limit is reached."""
        return share(self.limit, self.soft_limit_ratio)


@lru_cache(maxsize=4096)
def share(limit: int, ratio: Decimal) -> int:
    """The smallest whole number of nano-dollars that is at least `ratio` of `limit`."""
    return int((limit * ratio).to_integral_value(ROUND_CEILING))


def budget_name(scope: Dimensions, period: str) -> str:
    """The name that the API gives a budget: `tenant_id=acme,model=gpt-4o/month`; the global scope is `global/month`.

    A comma inside a value is written `%2C` and a percent sign `%25`, so that no two scopes share a name.
    """
    named = ",".join(f"{dimension}={_escape(value)}" for dimension, value in zip(DIMENSIONS, scope, strict=True) if value)
    return f"{named or 'global'}/{period}"


def _escape(value: str) -> str:
    return value.replace("%", "%25").replace(",", "%2C")


def period_bounds(period: str, at: int, zone: ZoneInfo) -> tuple[int, int]:
    """The half-open range of microseconds of the period that holds `at`.

    Days, weeks (from Monday) and months begin at local midnight of `zone`, so that a day may have 23 or 25 hours; an hour is 60
    minutes always, and begins where the zone's standard time shows a full hour.
    """
    if period == "total":
        return 0, FOREVER
    local = from_micros(at).astimezone(zone)
    if period == "hour":
        # Standard time, whatever the season: the repeated hour of autumn is two hours, and where summer is half an hour ahead
        # (Lord Howe) no two hours overlap.
        standard = (local.utcoffset() or timedelta()) - (local.dst() or timedelta())
        start = at - (at + standard // timedelta(microseconds=1)) % MICROS_PER_HOUR
        return start, start + MICROS_PER_HOUR
    midnight = datetime(local.year, local.month, local.day)  # noqa: DTZ001 (wall time: the zone comes last, so that days may have 23 hours)
    if period == "day":
        begin, end = midnight, midnight + timedelta(days=1)
    elif period == "week":
        begin = midnight - timedelta(days=local.weekday())
        end = begin + timedelta(days=7)
    elif period == "month":
        begin = midnight.replace(day=1)
        end = (begin + timedelta(days=31)).replace(day=1)
    else:
        raise ValueError(f"unknown period `{period}`")
    return _in_zone(begin, zone), _in_zone(end, zone)


def _in_zone(wall: datetime, zone: ZoneInfo) -> int:
    return to_micros(wall.replace(tzinfo=zone).astimezone(UTC))


class PeriodBounds:
    """`period_bounds` in one zone. Remembers the last period of each kind, which nearly every question is about."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._last: dict[str, tuple[int, int]] = {}

    def of(self, period: str, at: int) -> tuple[int, int]:
        """The half-open range of microseconds of the period that holds `at`."""
        last = self._last.get(period)
        if last is None or not last[0] <= at < last[1]:
            last = self._last[period] = period_bounds(period, at, self._zone)
        return last


V = TypeVar("V")


class ScopeIndex(Generic[V]):
    """Finds what is filed under every scope that matches, in time that grows with the number of scope shapes, not of scopes.

    A shape is the set of dimensions that a scope names; a lookup is one dictionary access a shape.
    """

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, ...], dict[Dimensions, list[V]]] = {}

    def add(self, scope: Dimensions, value: V) -> None:
        """File `value` under `scope`."""
        shape = tuple(index for index, name in enumerate(scope) if name)
        self._shapes.setdefault(shape, {}).setdefault(tuple(scope[index] for index in shape), []).append(value)

    def remove(self, scope: Dimensions, value: V) -> None:
        """Take `value` away from `scope`, where it must be."""
        shape = tuple(index for index, name in enumerate(scope) if name)
        table = self._shapes[shape]
        key = tuple(scope[index] for index in shape)
        table[key].remove(value)
        if not table[key]:
            del table[key]
        if not table:
            del self._shapes[shape]

    def matching(self, dimensions: Sequence[str]) -> list[V]:
        """Everything whose scope matches `dimensions`, in the order of filing within a shape."""
        found: list[V] = []
        for shape, table in self._shapes.items():
            values = table.get(tuple([dimensions[index] for index in shape]))
            if values is not None:
                found += values
        return found


def scope_of(named: Any) -> Dimensions:
    """The scope of an object that has the dimensions as attributes."""
    return tuple(getattr(named, dimension) for dimension in DIMENSIONS)


def thresholds_reached(budget: Budget, spent: int) -> Iterator[Decimal]:
    """The thresholds that `spent` nano-dollars reach, rising."""
    for ratio in budget.thresholds:
        if spent < share(budget.limit, ratio):
            return
        yield ratio


def describe_scope(scope: Iterable[str]) -> dict[str, str]:
    """The dimensions that a scope names, for an answer or a label set."""
    return {dimension: value for dimension, value in zip(DIMENSIONS, scope, strict=True) if value}
