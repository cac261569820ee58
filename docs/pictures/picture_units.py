"""Numbers as Grafana writes them: `$12.3K`, `82.5%`, `in 9 days`."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

Formatter = Callable[[float, int | None, float], str]
"""The value, the decimals (None: as many as tell), the present moment in seconds since 1970."""

MINUTE, HOUR, DAY, WEEK, YEAR = 60.0, 3_600.0, 86_400.0, 604_800.0, 31_536_000.0


def formatted(value: float, unit: str, decimals: int | None = None, now: float = 0) -> str:
    """`value` in a unit by its Grafana id; `now` is for units that are relative to it. Raises `ValueError` for a unit it does not know."""
    if unit not in UNITS:
        raise ValueError(f"there is no picture of the unit {unit!r}: add it to {__name__}")
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return UNITS[unit](value, decimals, now)


def fixed(value: float, decimals: int | None = None) -> str:
    """Without a given number of decimals as many as show three digits, none of a whole number: Grafana's rule.

    What would be a page of digits is written as a power of ten.
    """
    if value and not 1e-9 <= abs(value) < 1e18:
        return f"{value:.3g}"
    if decimals is None:
        decimals = 0 if value == 0 or float(value).is_integer() else max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _scaled(factor: float, suffixes: Sequence[str], prefix: str = "", unit: str = "") -> Formatter:
    def write(value: float, decimals: int | None, _now: float) -> str:
        step = 0
        while abs(value) >= factor and step < len(suffixes) - 1:
            value /= factor
            step += 1
        text = fixed(value, decimals)
        sign = "-" if text.startswith("-") else ""
        return f"{sign}{prefix}{text.removeprefix('-')}{suffixes[step]}{unit}"

    return write


def _percent(factor: float) -> Formatter:
    return lambda value, decimals, _now: f"{fixed(value * factor, decimals)}%"


def _duration(scale: float) -> Formatter:
    steps = ((YEAR, "year"), (WEEK, "week"), (DAY, "day"), (HOUR, "hour"), (MINUTE, "min"))

    def write(value: float, decimals: int | None, _now: float) -> str:
        seconds = value * scale
        for length, name in steps:
            if abs(seconds) >= length:
                text = fixed(seconds / length, decimals)
                return f"{text} {name}" if name == "min" or text == "1" else f"{text} {name}s"
        if seconds and abs(seconds) < 1:
            return f"{fixed(seconds * 1_000, decimals)} ms"
        return f"{fixed(seconds, decimals)} s"

    return write


def _from_now(value: float, _decimals: int | None, now: float) -> str:
    seconds = value / 1_000 - now
    distance = _distance(abs(seconds))
    return f"in {distance}" if seconds > 0 else f"{distance} ago"


def _distance(seconds: float) -> str:
    """The words and limits of moment.js, which Grafana uses."""
    if seconds < 45:
        return "a few seconds"
    for length, name, limit in ((MINUTE, "minute", 45), (HOUR, "hour", 22), (DAY, "day", 26), (YEAR / 12, "month", 11)):
        count = round(seconds / length)
        if count < limit:
            one = "an" if name == "hour" else "a"
            return f"{one} {name}" if count <= 1 else f"{count} {name}s"
    count = max(1, round(seconds / YEAR))
    return "a year" if count == 1 else f"{fixed(float(count))} years"


def _moment(pattern: str) -> Formatter:
    def write(value: float, decimals: int | None, _now: float) -> str:
        try:
            return datetime.fromtimestamp(value / 1_000, UTC).strftime(pattern)
        except (OverflowError, ValueError, OSError):
            # No moment of any calendar.
            return fixed(value, decimals)

    return write


def _words(no: str, yes: str) -> Formatter:
    return lambda value, _decimals, _now: yes if value else no


_COUNTS = ("", "K", "M", "B", "T")
_SHORT = ("", " K", " Mil", " Bil", " Tri")

UNITS: dict[str, Formatter] = {
    "none": lambda value, decimals, _now: fixed(value, decimals),
    "string": lambda value, decimals, _now: fixed(value, decimals),
    "short": _scaled(1_000, _SHORT),
    "currencyUSD": _scaled(1_000, _COUNTS, prefix="$"),
    "percent": _percent(1),
    "percentunit": _percent(100),
    "bytes": _scaled(1_024, (" B", " KiB", " MiB", " GiB", " TiB", " PiB")),
    "decbytes": _scaled(1_000, (" B", " kB", " MB", " GB", " TB", " PB")),
    "reqps": _scaled(1_000, _COUNTS, unit=" req/s"),
    "cps": _scaled(1_000, _COUNTS, unit=" c/s"),
    "ops": _scaled(1_000, _COUNTS, unit=" ops/s"),
    "rps": _scaled(1_000, _COUNTS, unit=" rd/s"),
    "eps": _scaled(1_000, _COUNTS, unit=" evt/s"),
    "ms": _duration(0.001),
    "s": _duration(1),
    "m": _duration(MINUTE),
    "h": _duration(HOUR),
    "d": _duration(DAY),
    "dateTimeFromNow": _from_now,
    "dateTimeAsIso": _moment("%Y-%m-%d %H:%M:%S"),
    "dateTimeAsLocal": _moment("%Y-%m-%d %H:%M:%S"),
    "bool": _words("False", "True"),
    "bool_yes_no": _words("No", "Yes"),
    "bool_on_off": _words("Off", "On"),
}
