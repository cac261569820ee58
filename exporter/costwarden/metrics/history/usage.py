"""AI usage as the page would have shown it, from the sums of whole hours: exact wherever a moment is a full hour (UTC).

Usage counts in the hour that it has as its time, whenever it was reported. Series that only grow begin with a 0 before their first usage,
which no scrape would have seen: without it `increase` would miss what made the series.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from zoneinfo import ZoneInfo

from costwarden.budgets.rules import period_bounds
from costwarden.ledger import Connection
from costwarden.ledger.history import HourSums, hourly_sums
from costwarden.ledger.usage import MICROS_PER_HOUR, spend_between
from costwarden.metrics.bounds import Labels
from costwarden.metrics.catalogue import FAMILIES, WINDOW_LABELS, Family
from costwarden.metrics.history.lines import Series
from costwarden.metrics.history.steps import Steps, Track
from costwarden.metrics.windows import WINDOWS
from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, NANOS_PER_USD, TOKEN_CLASSES

_EVERYTHING = ("",) * len(DIMENSIONS)

# As on the page: every operation has these; a series of any other class appears with its first token.
_ALWAYS_SHOWN = ("input_tokens", "output_tokens")

_SECONDS_PER_HOUR = 3600

_Sums = Iterator[tuple[Labels, HourSums]]


def usage_history(
    connection: Connection, labels: tuple[str, ...], zone: ZoneInfo, steps: Steps
) -> Iterator[tuple[Family, Iterable[Series]]]:
    """The families of AI usage with their series: totals by `labels`, trailing windows, the month of `zone`."""
    last_hour = steps.last // _SECONDS_PER_HOUR

    def sums(by: Sequence[str], kinds: Sequence[str], measures: Sequence[str]) -> _Sums:
        return hourly_sums(connection, by, kinds, measures, before=last_hour)

    cost, tokens, requests = (
        FAMILIES[name].narrowed(labels) for name in ("ai_token_usage_cost_usd", "ai_tokens_total", "ai_requests_total")
    )
    yield cost, _running(sums(cost.labels, (), ("cost",)), steps, _in_dollars)
    yield FAMILIES["ai_token_usage_cost_window_usd"], _windows(sums(WINDOW_LABELS, (), ("cost",)), steps)
    yield tokens, _tokens(sums(tokens.labels[1:], (), TOKEN_CLASSES), steps)
    yield requests, _requests(sums(requests.labels[1:], ("success",), ("requests",)), steps)
    yield FAMILIES["ai_unpriced_requests_total"], _unpriced(sums(("provider", "model"), ("priced",), ("requests",)), steps)
    yield FAMILIES["ai_spend_monthly_usd"], _month(connection, sums((), (), ("cost",)), zone, steps)


def _totals(indices: Sequence[int], values: Iterable[int], figure: Callable[[int], float]) -> Track:
    """A series that only grows, from its first value on."""
    track = Track()
    if indices and indices[0]:
        track.set(indices[0] - 1, 0.0)
    track.extend(indices, map(figure, accumulate(values)))
    return track


def _in_dollars(nanos: int) -> float:
    return nanos / NANOS_PER_USD


def _running(sums: _Sums, steps: Steps, figure: Callable[[int], float]) -> Iterator[Series]:
    for labels, rows in sums:
        hours, values = zip(*rows, strict=True)
        yield labels, _totals(steps.after_hours(hours), values, figure)


def _tokens(sums: _Sums, steps: Steps) -> Iterator[Series]:
    for labels, rows in sums:
        hours, *columns = zip(*rows, strict=True)
        indices = steps.after_hours(hours)
        for name, values in zip(TOKEN_CLASSES, columns, strict=True):
            first = 0 if name in _ALWAYS_SHOWN else next((place for place, value in enumerate(values) if value), None)
            if first is not None:
                yield (name.removesuffix("_tokens"), *labels), _totals(indices[first:], values[first:], float)


def _requests(sums: _Sums, steps: Steps) -> Iterator[Series]:
    for labels, rows in sums:
        indices = steps.after_hours(row[0] for row in rows)
        for outcome, wanted in (("success", 1), ("failure", 0)):
            values = [requests if success == wanted else 0 for _, success, requests in rows]
            yield (outcome, *labels), _totals(indices, values, float)


def _unpriced(sums: _Sums, steps: Steps) -> Iterator[Series]:
    for labels, rows in sums:
        if unpriced := [(hour, requests) for hour, priced, requests in rows if not priced]:
            yield from _running(iter([(labels, unpriced)]), steps, float)


def _windows(sums: _Sums, steps: Steps) -> Iterator[Series]:
    """A window that ends at a moment holds the hours that lie in it; a sum of nothing is no series, as on the page."""
    for labels, rows in sums:
        for window, length in WINDOWS.items():
            hours = length // MICROS_PER_HOUR
            moves: dict[int, int] = dict(rows)
            for hour, cost in rows:
                moves[hour + hours] = moves.get(hour + hours, 0) - cost
            moments = sorted(moves)
            track = Track()
            totals = accumulate(map(moves.__getitem__, moments))
            track.extend(steps.after_hours(moments), [total / NANOS_PER_USD if total else None for total in totals])
            yield (window, *labels), track


def _month(connection: Connection, sums: _Sums, zone: ZoneInfo, steps: Steps) -> Iterator[Series]:
    rows = next((found for _, found in sums), [])
    if not rows:
        return
    track, total = Track(), 0
    _, end = period_bounds("month", rows[0][0] * MICROS_PER_HOUR, zone)
    for hour, cost in rows:
        while (hour + 1) * MICROS_PER_HOUR > end:
            total, end = _next_month(connection, track, zone, end, steps)
        # Where a month begins within an hour, what of that hour belongs to it is counted already.
        if hour * MICROS_PER_HOUR >= period_bounds("month", end - 1, zone)[0]:
            total += cost
        track.set(steps.index((hour + 1) * _SECONDS_PER_HOUR), total / NANOS_PER_USD)
    while end <= steps.last * MICROS_PER_SECOND:
        total, end = _next_month(connection, track, zone, end, steps)
    yield (), track


def _next_month(connection: Connection, track: Track, zone: ZoneInfo, start: int, steps: Steps) -> tuple[int, int]:
    """Let the month that begins at `start` microseconds begin: what it has cost up to its first full hour, and where it ends."""
    track.set(steps.index_micros(start), 0.0)
    full_hour = -(-start // MICROS_PER_HOUR) * MICROS_PER_HOUR
    total = spend_between(connection, _EVERYTHING, start, full_hour).cost
    if total:
        track.set(steps.index_micros(full_hour), total / NANOS_PER_USD)
    return total, period_bounds("month", start, zone)[1]
