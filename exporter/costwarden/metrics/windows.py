"""Sums that move with time, exact to the nano-dollar: trailing windows and the calendar month.

They start from the hourly sums of the ledger and the events of the broken hours at both ends. From then on only what entered and what
left is read, and added and subtracted as integers, so that nothing drifts.
"""

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from costwarden.budgets.rules import period_bounds
from costwarden.ledger import Connection
from costwarden.ledger.figures import cost_since, events_since
from costwarden.ledger.usage import MICROS_PER_HOUR, Cursor, spend_between, usage_between, usage_cursor, usage_hours
from costwarden.metrics.bounds import Labels
from costwarden.metrics.catalogue import WINDOW_LABELS
from costwarden.model import DIMENSIONS

WINDOWS = {"1h": MICROS_PER_HOUR, "1d": 24 * MICROS_PER_HOUR, "7d": 7 * 24 * MICROS_PER_HOUR, "30d": 30 * 24 * MICROS_PER_HOUR}
"""Length of each window in microseconds."""

_EVERYTHING = ("",) * len(DIMENSIONS)


class TrailingWindows:
    """Cost of the last 1h, 1d, 7d and 30d by tenant, provider and model, as of the last `advance`.

    An event is in a window of length w at time t where t - w <= timestamp < t: one dated in the future enters when its time comes, one
    that is reported late enters at once.
    """

    def __init__(self) -> None:
        self.sums: dict[str, dict[Labels, int]] = {}
        """By window, by labels: nano-dollars; a sum of nothing is left out."""
        self._at: int | None = None
        self._seen: Cursor = 0

    def advance(self, connection: Connection, now: int) -> None:
        """Move the end of the windows to `now` microseconds. A failed read leaves them where they were."""
        # A clock that was set back, or a machine that slept: reading anew is right, and cheaper than the difference.
        if self._at is None or not self._at <= now <= self._at + MICROS_PER_HOUR:
            self._restart(connection, now)
            return
        cursor = usage_cursor(connection)
        late = events_since(connection, WINDOW_LABELS, self._seen, self._at)
        entered = usage_between(connection, WINDOW_LABELS, self._at, now)
        left = {name: usage_between(connection, WINDOW_LABELS, self._at - length, now - length) for name, length in WINDOWS.items()}
        for name, length in WINDOWS.items():
            sums = self.sums[name]
            _add(sums, [row for timestamp, *row in late if timestamp >= self._at - length])
            _add(sums, entered)
            _add(sums, left[name], -1)
        self._at, self._seen = now, cursor

    def _restart(self, connection: Connection, now: int) -> None:
        sums: dict[str, dict[Labels, int]] = {}
        cursor = usage_cursor(connection)
        last_hour = now // MICROS_PER_HOUR
        current = usage_between(connection, WINDOW_LABELS, last_hour * MICROS_PER_HOUR, now)
        for name, length in WINDOWS.items():
            first_hour = -(-(now - length) // MICROS_PER_HOUR)
            sums[name] = {}
            _add(sums[name], usage_between(connection, WINDOW_LABELS, now - length, first_hour * MICROS_PER_HOUR))
            _add(sums[name], usage_hours(connection, WINDOW_LABELS, first_hour, last_hour))
            _add(sums[name], current)
        self.sums, self._at, self._seen = sums, now, cursor


def _add(sums: dict[Labels, int], rows: Sequence[Sequence[Any]], sign: int = 1) -> None:
    for *labels, cost in rows:
        key = tuple(labels)
        total = sums.get(key, 0) + sign * cost
        if total:
            sums[key] = total
        else:
            sums.pop(key, None)


class MonthSpend:
    """What everything has cost in the calendar month of `zone`, as of the last `advance`."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.cost = 0
        """Nano-dollars."""
        self._zone = zone
        self._start: int | None = None
        self._seen: Cursor = 0

    def advance(self, connection: Connection, now: int) -> None:
        """Add what was recorded since the last time, or begin with the month that holds `now` microseconds."""
        start, end = period_bounds("month", now, self._zone)
        cursor = usage_cursor(connection)
        if start == self._start:
            self.cost += cost_since(connection, self._seen, start, end)
        else:
            self.cost = spend_between(connection, _EVERYTHING, start, end).cost
        self._start, self._seen = start, cursor
