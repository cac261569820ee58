"""promtool's notation of input series: what a series is called, and when it has samples."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser

_TOKEN = re.compile(
    r"(?P<value>_|stale|[-+]?(?:[\d.]+(?:e[-+]?\d+)?|inf|nan))(?P<step>[-+][\d.]+(?:e[-+]?\d+)?)?(?:x(?P<times>\d+))?", re.IGNORECASE
)

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Input:
    """One input series of a test."""

    metric: str
    labels: Mapping[str, str]
    interval: float
    """Seconds between two samples."""
    values: tuple[float | None, ...]
    """None where there is no sample."""

    @property
    def begin(self) -> float:
        """Seconds at which the first sample lies; infinity without any."""
        return next((place * self.interval for place, value in enumerate(self.values) if value is not None), float("inf"))

    @property
    def end(self) -> float:
        """Seconds at which the last sample lies; -1 without any."""
        return next((place * self.interval for place, value in reversed(list(enumerate(self.values))) if value is not None), -1.0)

    @property
    def has_gaps(self) -> bool:
        """Whether samples are missing that the notation names."""
        return None in self.values

    @property
    def falls(self) -> bool:
        """Whether a value is below the one before."""
        return any(after < before for before, after in self._steps())

    @property
    def rises(self) -> bool:
        """Whether a value is above the one before."""
        return any(after > before for before, after in self._steps())

    def _steps(self) -> Iterator[tuple[float, float]]:
        return itertools.pairwise(value for value in self.values if value is not None)


def seconds(duration: str | int) -> float:
    """A duration as promtool writes it, in seconds."""
    text = str(duration)
    # The parser takes nothing for a duration that is 0.
    return 0.0 if re.fullmatch(r"0+(ms|[smhdwy])?", text) else promql_parser.parse_duration(text).total_seconds()


ASKED = (("promql_expr_test", "expr"), ("alert_rule_test", "alertname"))
"""Where a test asks, and the key under which it says what for."""


def last_moment(test: Any) -> float:
    """Seconds after which a test asks for the last time."""
    return max(seconds(case["eval_time"]) for part, _ in ASKED for case in test.get(part, []))


def evaluations(document: Any, test: Any) -> float:
    """How often promtool evaluates the rules of a test."""
    return last_moment(test) / seconds(document.get("evaluation_interval", "1m"))


def inputs(test: Any) -> list[Input]:
    """The input series of a test."""
    interval = seconds(test.get("interval", "1m"))
    return [
        Input(
            re.match(r"[\w:]*", given["series"])[0], dict(_LABEL.findall(given["series"])), interval, tuple(_expanded(str(given["values"])))
        )
        for given in test.get("input_series", [])
    ]


def _expanded(notation: str) -> Iterator[float | None]:
    for token in notation.split():
        parsed = _TOKEN.fullmatch(token)
        if parsed is None:
            raise ValueError(f"{token} is no value of an input series")
        times = int(parsed["times"] or 0)
        if parsed["value"] in {"_", "stale"}:
            yield from [None] * max(times, 1)
        else:
            yield from (float(parsed["value"]) + place * float(parsed["step"] or 0) for place in range(times + 1))
