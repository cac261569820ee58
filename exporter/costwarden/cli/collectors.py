"""What the metrics page shows, put together from a configuration."""

from collections.abc import Callable

from costwarden.config import Config
from costwarden.ledger import Ledger
from costwarden.metrics.ai import usage_collectors
from costwarden.metrics.budgets import budget_collector
from costwarden.metrics.cloud import cloud_collector
from costwarden.metrics.counts import Counts
from costwarden.metrics.health import LoadState, health_collector, remediation_collector
from costwarden.metrics.page import Collector
from costwarden.metrics.process import collect_process
from costwarden.metrics.sources import source_collector


def collectors(config: Config, ledger: Ledger, counts: Counts, load_state: LoadState, now: Callable[[], int]) -> list[Collector]:
    """The collectors of all metrics."""
    return [
        cloud_collector(ledger.read, config.metrics, config.cloud_budgets, now),
        source_collector(ledger.read, {source.name: source.stale_after_seconds for source in config.sources}),
        *usage_collectors(ledger.read, config.metrics.usage_labels, config.zone, now),
        budget_collector(ledger.read, config.zone, now),
        counts.collector(),
        remediation_collector(ledger.read, lambda: config.remediation.mode),
        health_collector(ledger, config.alert_limits, load_state),
        Collector("process", collect_process),
    ]
