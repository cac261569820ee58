"""The moments that a history is written for, and a series as what it changes to at some of them."""

import re
from array import array
from collections.abc import Iterable, Sequence

from costwarden.model import MICROS_PER_SECOND

DAY_SECONDS = 86_400

_STEP = re.compile(r"^([1-9][0-9]{0,3})([smhd])$")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": DAY_SECONDS}

SHORTEST_STEP = 60


def parse_step(text: str) -> int:
    """The seconds of `5m`, `1h`, `1d`.

    Raises `ValueError` for one that does not divide a day: the samples would fall on other times every day, and an hour's figure would
    not be found where an hour ends.
    """
    found = _STEP.match(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not SHORTEST_STEP <= seconds <= DAY_SECONDS or DAY_SECONDS % seconds:
        raise ValueError(f"{text!r} is no step: it must divide a day and be at least a minute, as 5m, 1h or 1d")
    return seconds


class Steps:
    """The moments `start`, `start` + `step`, … up to `end`, which is the last one where it is hit. Seconds since 1970 UTC."""

    def __init__(self, start: int, end: int, step: int) -> None:
        self.start, self.step = start, step
        self.count = max(0, (end - start) // step + 1)
        # As they end a line; a series is then one `join` for each of its values.
        self.ends = [f" {start + number * step}\n" for number in range(self.count)]

    @property
    def last(self) -> int:
        """The last moment; that before `start` where there is none."""
        return self.start + (self.count - 1) * self.step

    def index(self, at: int) -> int:
        """The first moment at or after `at` seconds; `count` and more where there is none."""
        after = at - self.start
        return -(-after // self.step) if after > 0 else 0

    def after_hours(self, hours: Iterable[int]) -> list[int]:
        """For each of `hours` since 1970 the first moment that knows all of it."""
        start, step = self.start, self.step
        return [-(-after // step) if (after := (hour + 1) * 3600 - start) > 0 else 0 for hour in hours]

    def index_micros(self, at: int) -> int:
        """As `index`, of microseconds."""
        return max(0, -(-(at - self.start * MICROS_PER_SECOND) // (self.step * MICROS_PER_SECOND)))


class Track:
    """What a series changes to: moments, and the value from each on. None is no sample: a series that is gone, or not there yet."""

    def __init__(self) -> None:
        self._at = array("q")
        self._values: list[float | None] = []

    def __len__(self) -> int:
        return len(self._values)

    def set(self, index: int, value: float | None) -> None:
        """From moment `index` on it is `value`. In the order of time; of two values for one moment the second holds."""
        self.extend((index,), (value,))

    def extend(self, indices: Iterable[int], values: Iterable[float | None]) -> None:
        """As `set`, of many: a year by the hour has ten thousand of them."""
        at, kept = self._at, self._values
        last_index, last = (at[-1], kept[-1]) if kept else (-1, None)
        for index, value in zip(indices, values, strict=True):
            if index == last_index:
                kept[-1] = last = value
            elif value != last:
                at.append(index)
                kept.append(value)
                last_index, last = index, value

    def lines(self, prefix: str, ends: Sequence[str]) -> tuple[list[str], int]:
        """Pieces of text, and how many lines they have: `prefix`, the value, and the end of the line of each moment."""
        pieces: list[str] = []
        count, lines = len(ends), 0
        for first, end, value in zip(self._at, [*self._at[1:], count], self._values, strict=False):
            if value is None or first >= count:
                continue
            if end == first + 1:
                pieces.append(f"{prefix}{value!r}{ends[first]}")
            else:
                head = f"{prefix}{value!r}"
                pieces.append(head + head.join(ends[first:end]))
            lines += min(end, count) - first
        return pieces, lines
