"""What every source says of itself: silence must be alertable."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.ledger.charges import count_rejected
from costwarden.ledger.figures import part_counts, source_states
from costwarden.ledger.reading import paid_on
from costwarden.metrics.ai import Read
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector
from costwarden.model import MICROS_PER_SECOND, NANOS_PER_USD, from_micros

_PART_STATES = ("ok", "duplicate", "failed")

_FIGURES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "costwarden_source_up": lambda state: float(state["up"]),
    "costwarden_source_refresh_duration_seconds": lambda state: float(state["duration_seconds"]),
    "costwarden_source_rows": lambda state: float(state["rows"]),
    "costwarden_source_requests_total": lambda state: float(state["requests"]),
    "costwarden_source_request_cost_usd_total": lambda state: state["request_cost"] / NANOS_PER_USD,
}

# A time of 0 is never; as a series it would read as 1970.
_TIMES = {
    "costwarden_source_last_success_timestamp_seconds": "last_success_at",
    "costwarden_source_data_newest_timestamp_seconds": "data_newest_at",
}

_NEVER_READ = dict.fromkeys(
    ("up", "duration_seconds", "rows", "requests", "request_cost", "last_success_at", "data_newest_at", "refreshes_ok", "refreshes_failed"),
    0,
)


class SourceLimits(msgspec.Struct, frozen=True):
    """What a source is compared with."""

    stale_after_seconds: float
    daily_request_usd: Decimal


def source_collector(read: Read, limits: Mapping[str, SourceLimits], now: Callable[[], int]) -> Collector:
    """The collector of the sources in `limits`, by name. One that was never read is there and not up."""

    def collect() -> Iterator[tuple[Family, list[Sample]]]:
        with read() as connection:
            paid = paid_on(connection, from_micros(now()).date().isoformat())
            found = {state["source"]: state for state in source_states(connection)}
            parts = {(source, state): count for source, state, count in part_counts(connection)}
            rejected = count_rejected(connection)
        states = {name: found.get(name, _NEVER_READ) for name in limits}
        of_limits: dict[str, Callable[[str, SourceLimits], float]] = {
            "costwarden_source_stale_after_seconds": lambda _, limit: limit.stale_after_seconds,
            "costwarden_source_daily_request_limit_usd": lambda _, limit: float(limit.daily_request_usd),
            "costwarden_source_daily_request_cost_usd": lambda name, _: paid.get(name, 0) / NANOS_PER_USD,
        }
        for metric, of_limit in of_limits.items():
            yield FAMILIES[metric], [((name,), of_limit(name, limit)) for name, limit in limits.items()]
        for metric, figure in _FIGURES.items():
            yield FAMILIES[metric], [((name,), figure(state)) for name, state in states.items()]
        for metric, column in _TIMES.items():
            yield FAMILIES[metric], [((name,), state[column] / MICROS_PER_SECOND) for name, state in states.items() if state[column]]
        yield FAMILIES["costwarden_source_refreshes_total"], list(_refreshes(states))
        yield (
            FAMILIES["costwarden_source_parts"],
            [((name, state), float(parts.get((name, state), 0))) for name in states for state in _PART_STATES],
        )
        yield FAMILIES["costwarden_source_rejected_rows"], _rejected(rejected, states)

    return Collector("sources", collect)


def _refreshes(states: Mapping[str, Mapping[str, Any]]) -> Iterator[Sample]:
    for name, state in states.items():
        yield (name, "success"), float(state["refreshes_ok"])
        yield (name, "failure"), float(state["refreshes_failed"])


def _rejected(counts: Iterable[tuple[str, str, int]], states: Mapping[str, Any]) -> list[Sample]:
    return [((source, reason), float(rows)) for source, reason, rows in counts if source in states]
