"""Every metric that costwarden exports: name, kind, help, labels. A list that is written nowhere else.

Names are interfaces: rules, dashboards and documents query them. `FAMILIES` holds the widest label set; where labels are configured, a
collector narrows the family to those chosen (`Family.narrowed`). A label with an empty value is not written.
"""

from collections.abc import Iterator

from costwarden.metrics.catalogue_clouds import attribution_families, baseline_families, cloud_families, provider_families
from costwarden.metrics.family import CLOUD_LABELS, CLOUD_SCOPE, PROVIDERS, WINDOW_LABELS, Family, cloud_prefix
from costwarden.model import DIMENSIONS

__all__ = ["CLOUD_LABELS", "CLOUD_SCOPE", "FAMILIES", "PROVIDERS", "PROVIDER_FAMILIES", "WINDOW_LABELS", "Family", "cloud_prefix"]


def _ai() -> Iterator[Family]:
    budget = ("budget", "period", *DIMENSIONS)
    yield Family("ai_budget_limit_usd", "gauge", "Hard limit of an AI budget a period.", ("budget", "period", "action", *DIMENSIONS))
    yield Family("ai_budget_spent_usd", "gauge", "Settled AI cost in the current period of a budget.", budget)
    yield Family("ai_budget_reserved_usd", "gauge", "Set aside in a budget for calls that have not answered yet.", budget)
    yield Family(
        "ai_budget_unsettled_usd", "gauge", "Set aside in a budget for calls whose cost was never reported; it counts as spent.", budget
    )
    yield Family("ai_budget_hard_limit_reached", "gauge", "1 where a budget has spent its limit, else 0.", budget)
    yield Family("ai_budget_soft_limit_reached", "gauge", "1 where a budget has spent its soft limit, else 0.", budget)
    yield Family("ai_budget_soft_limit_ratio", "gauge", "Share of the limit of a budget at which its soft limit lies.", budget)
    yield Family("ai_budget_period_start_timestamp_seconds", "gauge", "When the current period of a budget began.", budget)
    yield Family("ai_budget_reset_timestamp_seconds", "gauge", "When the current period of a budget ends.", budget)
    yield Family(
        "ai_budget_threshold_ratio",
        "gauge",
        "The highest of a budget's thresholds that its spend has reached in the current period, as a share of the limit.",
        ("budget", "period", "threshold", *DIMENSIONS),
    )
    yield Family("ai_budget_checks_total", "counter", "Answers to budget checks.", ("outcome", "reason"))
    yield Family("ai_budget_denied_checks_total", "counter", "Checks that a budget refused.", ("budget", "period"))
    yield Family("ai_token_usage_cost_usd", "gauge", "AI cost since the ledger began.", DIMENSIONS, DIMENSIONS)
    yield Family(
        "ai_token_usage_cost_window_usd",
        "gauge",
        "AI cost in the trailing window that ends now, exact.",
        ("window", *WINDOW_LABELS),
        WINDOW_LABELS,
    )
    yield Family(
        "ai_tokens_total",
        "counter",
        "Tokens since the ledger began, by type: input contains the cached ones, output the reasoning ones.",
        ("type", *DIMENSIONS),
        DIMENSIONS,
    )
    yield Family("ai_requests_total", "counter", "AI operations since the ledger began.", ("outcome", *DIMENSIONS), DIMENSIONS)
    yield Family(
        "ai_unpriced_requests_total",
        "counter",
        "AI operations for which no price was known.",
        ("provider", "model"),
        ("provider", "model"),
    )
    yield Family(
        "ai_estimated_output_tokens",
        "gauge",
        "Output tokens that a call is taken for whose check names no size: the most that any tenant's own calls have taught.",
        ("provider", "model", "operation"),
    )
    yield Family("ai_spend_monthly_usd", "gauge", "AI cost of everything this calendar month.")
    for bound, words in (("", ""), ("_lower", ", lower bound of 80 %"), ("_upper", ", upper bound of 80 %")):
        yield Family(f"ai_spend_forecast{bound}_usd", "gauge", f"AI cost of everything by the end of this month, by its weekdays{words}.")
    yield Family(
        "ai_cost_expected_hourly_usd",
        "gauge",
        "Median AI cost of a tenant at this hour of the day, of the weekdays or of the weekend days of the 4 weeks before.",
        ("tenant_id",),
    )
    yield Family(
        "ai_cost_deviation_hourly_usd",
        "gauge",
        "How far a tenant strays from what is expected of its hour: 1.4826 times the median absolute deviation, at least as its bursts.",
        ("tenant_id",),
    )
    yield Family(
        "http_requests_total",
        "counter",
        "Requests for a tenant that this process has answered, by status.",
        ("tenant_id", "code"),
        ("tenant_id",),
    )


def _reconciliation() -> Iterator[Family]:
    days = "on the trailing days that its bill has whole (reconciliation.window_days)"
    names = {
        "ai_billed_cost_usd": "What an AI provider has billed",
        "ai_metered_cost_usd": "What usage of an AI provider was metered at",
        "ai_reconciliation_corrected_usd": "What corrections by its bill have added to the usage of an AI provider",
        "ai_reconciliation_residual_usd": "What an AI provider has billed and neither usage nor corrections have",
        "ai_reconciliation_capture_ratio": "Metered share of what an AI provider has billed",
    }
    for name, words in names.items():
        yield Family(name, "gauge", f"{words}, {days}.", ("provider",))
    yield Family("ai_reconciliation_daily_bills", "gauge", "Trailing days that the bill of an AI provider has whole.", ("provider",))
    yield Family("ai_reported_tokens", "gauge", f"Tokens that an AI provider reports, {days}.", ("provider", "type"))
    yield Family("ai_metered_tokens", "gauge", f"Tokens metered of an AI provider that reports its own, {days}.", ("provider", "type"))


def _guardrails() -> Iterator[Family]:
    labels = ("guardrail", "severity", "action", *DIMENSIONS)
    yield Family("costwarden_guardrail_spend_usd", "gauge", "AI cost in the window of a guardrail.", labels)
    yield Family("costwarden_guardrail_threshold_usd", "gauge", "AI cost from which a guardrail is breached.", labels)
    yield Family("costwarden_guardrail_breached", "gauge", "1 where the threshold of a guardrail is reached, else 0.", labels)
    yield Family("ai_emergency_stop", "gauge", "1 where every check is refused until an operator lifts it, else 0.")


def _sources() -> Iterator[Family]:
    yield Family("costwarden_source_up", "gauge", "1 where the last refresh of a source succeeded, else 0.", ("source",))
    yield Family("costwarden_source_last_success_timestamp_seconds", "gauge", "When a source was last refreshed.", ("source",))
    yield Family("costwarden_source_provider_info", "gauge", "1 for each provider that a source has bills of.", ("source", "provider"))
    yield Family("costwarden_source_stale_after_seconds", "gauge", "Time without a refresh after which a source is stale.", ("source",))
    yield Family("costwarden_source_data_newest_timestamp_seconds", "gauge", "End of the newest day in the data of a source.", ("source",))
    yield Family("costwarden_source_refresh_duration_seconds", "gauge", "Time that the last refresh of a source took.", ("source",))
    yield Family("costwarden_source_rows", "gauge", "Rows of the bills of a source that are kept.", ("source",))
    yield Family("costwarden_source_rejected_rows", "gauge", "Rows of the bills of a source that could not be read.", ("source", "reason"))
    yield Family("costwarden_source_refreshes_total", "counter", "Refreshes of a source.", ("source", "outcome"))
    yield Family("costwarden_source_requests_total", "counter", "Requests that a source has made.", ("source",))
    yield Family("costwarden_source_request_cost_usd_total", "counter", "What the requests of a source have cost.", ("source",))
    yield Family(
        "costwarden_source_daily_request_cost_usd", "gauge", "What the requests of a source have cost today (UTC) so far.", ("source",)
    )
    yield Family(
        "costwarden_source_daily_request_limit_usd",
        "gauge",
        "What the requests of a source may cost a day: past it none is made.",
        ("source",),
    )
    yield Family("costwarden_source_parts", "gauge", "Files, objects or answers of a source by state.", ("source", "state"))


def _limits() -> Iterator[Family]:
    limits = {
        "ai_spend_monthly_limit_usd": "AI cost a calendar month above which an alert fires.",
        "cloud_cost_spike_limit_ratio": "Growth from one day to the next above which the cost of a cloud is a spike.",
        "cloud_cost_spike_minimum_usd": "Daily cost below which growth is noise, not a spike.",
        "cost_anomaly_limit_deviations": "Deviations from the expected cost above which a service's day or a tenant's hour is an anomaly.",
        "cost_anomaly_minimum_usd": "Excess over the expected cost below which it is noise, not an anomaly.",
        "ai_unsettled_limit_ratio": "Share of a budget that may be unsettled.",
        "ai_capture_limit_ratio": "Share of an AI provider's bill that should be metered.",
        "cloud_cost_attributed_limit_ratio": "Share of the month's usage and purchases that should be attributed.",
        "cloud_cost_unattributed_minimum_usd": "Unattributed cost of a month below which a low share is no matter.",
        "s3_bucket_size_limit_bytes": "Size above which a bucket is large.",
        "kubernetes_pod_cpu_minimum_ratio": "Share of the CPU that a pod requests below which it is over-provisioned.",
        "costwarden_price_data_age_limit_seconds": "Age above which published prices are old.",
    }
    yield from (Family(name, "gauge", words) for name, words in limits.items())


def _notifications() -> Iterator[Family]:
    yield Family("costwarden_notifications_total", "counter", "Deliveries of notifications, by how they ended.", ("receiver", "outcome"))
    yield Family("costwarden_notification_queue_length", "gauge", "Notifications that wait for a delivery.", ("receiver", "state"))
    yield Family("costwarden_notification_last_success_timestamp_seconds", "gauge", "When a receiver was last notified.", ("receiver",))


def _health() -> Iterator[Family]:
    yield Family("costwarden_build_info", "gauge", "1, with the version that runs.", ("version",))
    yield Family("costwarden_config_last_reload_successful", "gauge", "1 where the last load of the configuration succeeded, else 0.")
    yield Family("costwarden_config_last_reload_success_timestamp_seconds", "gauge", "When the configuration in force was loaded.")
    yield Family("costwarden_reservations", "gauge", "Reservations that are not settled.", ("state",))
    yield Family("costwarden_ledger_up", "gauge", "1 where the last write to the ledger was durable, else 0.")
    yield Family("costwarden_ledger_commits_total", "counter", "Transactions committed to the ledger.")
    yield Family("costwarden_ledger_write_errors_total", "counter", "Transactions that the ledger did not commit.")
    yield Family(
        "costwarden_http_rejected_requests_total", "counter", "Requests that were refused as malformed or unauthorised.", ("reason",)
    )
    yield Family(
        "costwarden_otlp_received_total",
        "counter",
        "Calls in spans and data points that OpenTelemetry sent: recorded, repeated; and what was passed over as no call of a model.",
        ("signal", "outcome"),
    )
    yield Family(
        "costwarden_otlp_rejected_total",
        "counter",
        "Spans and data points of OpenTelemetry that could not be counted.",
        ("signal", "reason"),
    )
    yield Family("costwarden_status_cache_requests_total", "counter", "Requests for the status of a tenant.", ("outcome",))
    yield Family("costwarden_status_cache_errors_total", "counter", "Operations on the shared status cache that failed or took too long.")
    yield Family(
        "costwarden_price_data_age_seconds",
        "gauge",
        "Time since the published prices were fetched or, where they are built in, verified.",
    )
    yield Family("costwarden_webhook_alerts_total", "counter", "Alerts that Alertmanager delivered.", ("outcome",))
    yield Family("costwarden_remediation_queue_length", "gauge", "Alerts in the remediation queue that are not done with.", ("state",))
    yield Family("costwarden_remediation_runs_total", "counter", "Runs of a playbook.", ("playbook", "outcome"))
    yield Family("costwarden_remediation_refused_total", "counter", "Runs of a playbook that the guard refused.", ("playbook", "reason"))
    yield Family("costwarden_remediation_mode", "gauge", "1, with the mode that remediation is in.", ("mode",))
    yield Family("costwarden_remediation_kill_switch", "gauge", "1 where the kill switch is on: no playbook runs, else 0.")


def _sinks() -> Iterator[Family]:
    yield Family("costwarden_cloudwatch_up", "gauge", "1 where nothing keeps what was used from CloudWatch, else 0.")
    yield Family("costwarden_cloudwatch_sent_total", "counter", "Data points that CloudWatch has taken.")
    yield Family("costwarden_cloudwatch_failed_total", "counter", "Data points that CloudWatch will never have: too old, or refused.")
    yield Family("costwarden_cloudwatch_requests_total", "counter", "Requests that sent data to CloudWatch.")
    yield Family("costwarden_cloudwatch_request_cost_usd_total", "counter", "What the requests to CloudWatch have cost.")
    yield Family("costwarden_cloudwatch_last_success_timestamp_seconds", "gauge", "When CloudWatch has last taken data.")


def _page() -> Iterator[Family]:
    yield Family(
        "costwarden_collector_up", "gauge", "1 where a part of this page is current, 0 where it is the last good one.", ("collector",)
    )
    yield Family("costwarden_page_rendered_timestamp_seconds", "gauge", "When this page was rendered.")
    yield Family("costwarden_page_render_duration_seconds", "gauge", "Time that the rendering before this one took, compression included.")
    yield Family("costwarden_series", "gauge", "Series of a metric on this page.", ("metric",))
    yield Family("costwarden_series_overflow", "gauge", "Series of a metric above its limit: summed into other, or left out.", ("metric",))
    yield Family("process_cpu_seconds_total", "counter", "User and system CPU time that the process has spent.")
    yield Family("process_open_fds", "gauge", "Open file descriptors.")
    yield Family("process_resident_memory_bytes", "gauge", "Resident memory.")
    yield Family("process_start_time_seconds", "gauge", "When the process started.")


FAMILIES: dict[str, Family] = {
    family.name: family
    for group in (
        cloud_families,
        provider_families,
        attribution_families,
        baseline_families,
        _ai,
        _reconciliation,
        _guardrails,
        _sources,
        _limits,
        _health,
        _sinks,
        _notifications,
        _page,
    )
    for family in group()
}
"""Every metric by name, in the order in which the document lists them."""

PROVIDER_FAMILIES = tuple(family.name for family in provider_families())
"""What providers state beside their bills."""
