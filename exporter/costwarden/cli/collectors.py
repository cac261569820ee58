"""What the metrics page shows, put together from a configuration."""

from collections.abc import Callable, Sequence

from costwarden.budgets.estimates import LearnedSizes
from costwarden.budgets.guardrails import GuardrailFigure
from costwarden.config import Config
from costwarden.ledger import Ledger
from costwarden.metrics.ai import usage_collectors
from costwarden.metrics.ai_baselines import ai_baseline_collector
from costwarden.metrics.attribution import attribution_collector
from costwarden.metrics.baselines import baseline_collector
from costwarden.metrics.budgets import budget_collector
from costwarden.metrics.cloud import cloud_collector
from costwarden.metrics.counts import Counts
from costwarden.metrics.estimates import estimate_collector
from costwarden.metrics.guardrails import guardrail_collector
from costwarden.metrics.health import LoadState, health_collector, remediation_collector
from costwarden.metrics.notifications import notification_collector
from costwarden.metrics.page import Collector
from costwarden.metrics.prices import price_collector
from costwarden.metrics.process import collect_process
from costwarden.metrics.providers import provider_collector
from costwarden.metrics.reconciliation import reconciliation_collector
from costwarden.metrics.sinks import cloudwatch_collector
from costwarden.metrics.sources import SourceLimits, source_collector
from costwarden.remediation.guard import kill_switch_is_on
from costwarden.sources.settings.kubernetes import billed_by


def collectors(
    config: Config,
    ledger: Ledger,
    counts: Counts,
    load_state: LoadState,
    published_at: Callable[[], int],
    guardrails: Callable[[], Sequence[GuardrailFigure]],
    sizes: LearnedSizes,
    now: Callable[[], int],
) -> list[Collector]:
    """The collectors of all metrics. `published_at` gives the time of the published prices, as `PriceBook.published_at`."""
    limits = {source.name: SourceLimits(source.stale_after_seconds, source.daily_request_limit_usd) for source in config.sources}
    return [
        cloud_collector(ledger.read, config.metrics, config.cloud_budgets, now),
        baseline_collector(ledger.read, config.metrics.cost_basis, config.cloud_budgets, now),
        provider_collector(ledger.read),
        attribution_collector(ledger.read, config.metrics, billed_by(config.sources), now),
        source_collector(ledger.read, limits, now),
        *usage_collectors(ledger.read, config.metrics.usage_labels, config.zone, now),
        ai_baseline_collector(ledger.read, config.zone, now),
        reconciliation_collector(ledger.read, config.reconciliation, now),
        budget_collector(ledger.read, config.zone, now),
        guardrail_collector(guardrails),
        estimate_collector(sizes),
        counts.collector(),
        remediation_collector(ledger.read, lambda: config.remediation.mode, lambda: kill_switch_is_on(config.remediation.kill_switch_file)),
        health_collector(ledger, config.alert_limits, load_state),
        notification_collector(ledger.read, tuple(receiver.name for receiver in config.notifier.receivers)),
        cloudwatch_collector(ledger.read, enabled=bool(config.cloudwatch and config.cloudwatch.enabled)),
        price_collector(published_at, now),
        Collector("process", collect_process),
    ]
