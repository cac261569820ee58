"""Counters of what this process has answered; they begin at zero with it, as Prometheus expects of counters."""

import threading
from collections.abc import Iterator

from costwarden.metrics.bounds import OTHER, Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector

# Shown from the start, so that the first increase is an increase.
_FROM_ZERO = {
    "ai_budget_checks_total": (
        ("allowed", ""),
        ("denied", "budget_exceeded"),
        ("denied", "no_budget"),
        ("denied", "tenant_suspended"),
        ("denied", "emergency_stop"),
        ("denied", "unknown_price"),
        ("denied", "event_id_conflict"),
        ("failed", "ledger_unavailable"),
        ("failed", "internal_error"),
    ),
    "ai_budget_denied_checks_total": (),
    "costwarden_http_rejected_requests_total": (),
    "costwarden_otlp_received_total": tuple(
        (signal, outcome) for signal in ("traces", "metrics") for outcome in ("recorded", "repeated", "passed_over")
    ),
    "costwarden_otlp_rejected_total": (),
    "costwarden_status_cache_requests_total": (("hit",), ("miss",), ("bypass",)),
    "costwarden_status_cache_errors_total": ((),),
    "http_requests_total": (),
    "costwarden_webhook_alerts_total": (("queued",), ("repeated",), ("resolved",), ("ignored",), ("refused",)),
}


MOST_TENANT_SERIES = 50_000
"""Tenants and statuses that requests are told apart by; what comes beyond is counted under `other`."""


class Counts:
    """Counts by metric and label values. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {name: dict.fromkeys(labels, 0) for name, labels in _FROM_ZERO.items()}

    def add(self, name: str, *labels: str, by: int = 1) -> None:
        """Add `by` to the series of metric `name` with these label values, in the catalogue's order."""
        with self._lock:
            series = self._counts[name]
            series[labels] = series.get(labels, 0) + by

    def add_request(self, tenant_id: str, status: int) -> None:
        """Count one answered request for a tenant. Whoever counts the tenants of the series must not find nobody among them."""
        key = (tenant_id, str(status))
        with self._lock:
            series = self._counts["http_requests_total"]
            if key not in series and len(series) >= MOST_TENANT_SERIES:
                key = (OTHER, key[1])
            series[key] = series.get(key, 0) + 1

    def collector(self) -> Collector:
        """For the page."""
        return Collector("requests", self._collect)

    def _collect(self) -> Iterator[tuple[Family, list[Sample]]]:
        with self._lock:
            copies = {name: dict(series) for name, series in self._counts.items()}
        for name, series in copies.items():
            yield FAMILIES[name], [(labels, float(count)) for labels, count in series.items()]
