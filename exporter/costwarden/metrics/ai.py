"""AI usage: cost, tokens and requests since the ledger began, trailing windows, the month."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from zoneinfo import ZoneInfo

from costwarden.ledger import Connection
from costwarden.ledger.figures import sums_since
from costwarden.ledger.usage import Cursor, usage_cursor, usage_sums
from costwarden.metrics.bounds import Labels, Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.metrics.windows import MonthSpend, TrailingWindows
from costwarden.model import NANOS_PER_USD, TOKEN_CLASSES

Read = Callable[[], AbstractContextManager[Connection]]
"""`Ledger.read`."""

# Every operation has these; a series of any other class appears with its first token.
_ALWAYS_SHOWN = ("input_tokens", "output_tokens")

_UNPRICED_LABELS = ("provider", "model")


class UsageTotals:
    """Sums since the ledger began, kept current by what was recorded since the last look."""

    def __init__(self, read: Read, labels: tuple[str, ...]) -> None:
        self._read = read
        self._cost = FAMILIES["ai_token_usage_cost_usd"].narrowed(labels)
        self._tokens = FAMILIES["ai_tokens_total"].narrowed(labels)
        self._requests = FAMILIES["ai_requests_total"].narrowed(labels)
        # Unpriced requests are told apart by provider and model even where those are not among the chosen labels.
        chosen = self._cost.labels
        self._dimensions = (*chosen, *(name for name in _UNPRICED_LABELS if name not in chosen))
        self._seen: Cursor | None = None
        self._cost_by: dict[Labels, int] = {}
        self._tokens_by: dict[Labels, dict[str, int]] = {}
        self._requests_by: dict[Labels, list[int]] = {}
        self._unpriced_by: dict[Labels, int] = {}

    def version(self) -> Cursor:
        """Changes with every event."""
        with self._read() as connection:
            return usage_cursor(connection)

    def collect(self) -> Iterator[tuple[Family, Iterator[Sample]]]:
        """Cost, tokens, requests and unpriced requests."""
        self._advance()
        yield self._cost, ((labels, cost / NANOS_PER_USD) for labels, cost in self._cost_by.items())
        yield self._tokens, self._token_samples()
        yield self._requests, self._request_samples()
        yield FAMILIES["ai_unpriced_requests_total"], ((labels, float(count)) for labels, count in self._unpriced_by.items())

    def _advance(self) -> None:
        with self._read() as connection:
            cursor = usage_cursor(connection)
            since = self._seen
            rows = usage_sums(connection, self._dimensions) if since is None else sums_since(connection, self._dimensions, since)
        for row in rows:
            self._add(row)
        self._seen = cursor

    def _add(self, row: dict[str, Any]) -> None:
        labels = tuple([row[name] for name in self._cost.labels])
        self._cost_by[labels] = self._cost_by.get(labels, 0) + row["cost"]
        tokens = self._tokens_by.setdefault(labels, dict.fromkeys(_ALWAYS_SHOWN, 0))
        for name in TOKEN_CLASSES:
            if row[name]:
                tokens[name] = tokens.get(name, 0) + row[name]
        self._requests_by.setdefault(labels, [0, 0])[0 if row["success"] else 1] += row["requests"]
        if not row["priced"]:
            key = tuple([row[name] for name in _UNPRICED_LABELS])
            self._unpriced_by[key] = self._unpriced_by.get(key, 0) + row["requests"]

    def _token_samples(self) -> Iterator[Sample]:
        types = {name: name.removesuffix("_tokens") for name in TOKEN_CLASSES}
        for labels, tokens in self._tokens_by.items():
            for name, count in tokens.items():
                yield (types[name], *labels), float(count)

    def _request_samples(self) -> Iterator[Sample]:
        for labels, (succeeded, failed) in self._requests_by.items():
            yield ("success", *labels), float(succeeded)
            yield ("failure", *labels), float(failed)


class RecentSpend:
    """Trailing windows and the calendar month; they move with time, so they are collected for every page."""

    def __init__(self, read: Read, zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._read = read
        self._now = now
        self._windows = TrailingWindows()
        self._month = MonthSpend(zone)

    def collect(self) -> Iterator[tuple[Family, Iterator[Sample]]]:
        """Windows and month as of now."""
        with self._read() as connection:
            now = self._now()
            self._windows.advance(connection, now)
            self._month.advance(connection, now)
        yield FAMILIES["ai_token_usage_cost_window_usd"], self._window_samples()
        yield FAMILIES["ai_spend_monthly_usd"], iter([((), self._month.cost / NANOS_PER_USD)])

    def _window_samples(self) -> Iterator[Sample]:
        for window, sums in self._windows.sums.items():
            for labels, cost in sums.items():
                yield (window, *labels), cost / NANOS_PER_USD


def usage_collectors(read: Read, labels: tuple[str, ...], zone: ZoneInfo, now: Callable[[], int]) -> list[Collector]:
    """The collectors of AI usage: totals by `labels`, windows, month."""
    totals = UsageTotals(read, labels)
    return [
        Collector("ai_usage", totals.collect, totals.version),
        Collector("ai_windows", RecentSpend(read, zone, now).collect),
    ]
