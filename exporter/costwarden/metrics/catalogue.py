"""Every metric that costwarden exports: name, kind, help, labels. A list that is written nowhere else.

Names are interfaces: rules, dashboards and documents query them. `FAMILIES` holds the widest label set; where labels are configured, a
collector narrows the family to those chosen (`Family.narrowed`). A label with an empty value is not written.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from costwarden.model import DIMENSIONS

Kind = Literal["gauge", "counter"]

PROVIDERS = ("aws", "gcp", "azure", "kubernetes")
"""Providers with metrics of their own name; every other provider's metrics begin with `other_`."""

CLOUD_LABELS = ("region", "service", "sub_account_id", "service_category", "charge_category", "team", "feature", "tenant_id", "environment")
"""What the cost of a bill can be told apart by; `metrics.cloud_labels` chooses."""

CLOUD_SCOPE = ("provider", "sub_account_id", "service", "region", "team", "feature", "tenant_id", "environment")
"""What the scope of a cloud budget can name."""

WINDOW_LABELS = ("tenant_id", "provider", "model")

# OpenMetrics wants the unit to end the name: https://prometheus.io/docs/specs/om/open_metrics_spec/#metricfamily
_UNITS = ("usd", "seconds", "bytes", "ratio")


class Family(msgspec.Struct, frozen=True):
    """One metric: its name, kind, help and label names, in the order in which they are written.

    `foldable` are the labels that read `other` where series above the limit are summed into one. A family without any is not additive
    (flags, times, limits): there the series above the limit are left out, so a collector yields the most important first.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    foldable: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """The unit that the name ends in, before `_total`; empty where it is a plain number."""
        last = self.base_name.rpartition("_")[2]
        return last if last in _UNITS else ""

    @property
    def base_name(self) -> str:
        """The name as OpenMetrics calls the family: a counter's without `_total`."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    def narrowed(self, chosen: tuple[str, ...]) -> "Family":
        """This family with only the `chosen` ones of its foldable labels, in this family's order.

        Raises `ValueError` for one that is not foldable.
        """
        if unknown := set(chosen) - set(self.foldable):
            raise ValueError(f"{self.name} has no label {sorted(unknown)} to choose")
        labels = tuple(label for label in self.labels if label not in self.foldable or label in chosen)
        return msgspec.structs.replace(self, labels=labels, foldable=tuple(label for label in self.foldable if label in chosen))


def cloud_prefix(provider: str) -> str:
    """How the metrics of a provider begin: its own name or `other`."""
    return provider if provider in PROVIDERS else "other"


_CLOUDS = {"aws": "AWS", "gcp": "Google Cloud", "azure": "Azure", "kubernetes": "Kubernetes"}


def _cloud() -> Iterator[Family]:
    names = _CLOUDS | {"other": "providers without metrics of their own"}
    for prefix, name in names.items():
        yield Family(
            f"{prefix}_cost_monthly_usd",
            "gauge",
            f"Cost of {name} by calendar month (UTC): current is the month to date, previous the one before.",
            ("provider", "month", *CLOUD_LABELS),
            CLOUD_LABELS,
        )
        yield Family(
            f"{prefix}_cost_daily_usd",
            "gauge",
            f"Cost of {name} on the newest complete day in the data.",
            ("provider", *CLOUD_LABELS),
            CLOUD_LABELS,
        )
        yield Family(
            f"{prefix}_cost_previous_day_usd",
            "gauge",
            f"Cost of {name} on the day before the newest complete day in the data.",
            ("provider", *CLOUD_LABELS),
            CLOUD_LABELS,
        )
        yield Family(
            f"{prefix}_cost_daily_timestamp_seconds",
            "gauge",
            f"Start of the newest complete day in the data of {name}.",
            ("provider",),
        )
        yield Family(
            f"{prefix}_budget_monthly_limit_usd",
            "gauge",
            f"Monthly budget of {name} as a whole: the lowest, where several are configured.",
            ("provider",),
        )
    yield Family("cloud_budget_limit_usd", "gauge", "Monthly limit of a cloud budget.", ("budget", "action", *CLOUD_SCOPE))
    yield Family(
        "cloud_budget_spent_usd", "gauge", "Cost in the scope of a cloud budget this calendar month (UTC).", ("budget", *CLOUD_SCOPE)
    )
    yield Family("cloud_cost_spike_limit_ratio", "gauge", "Growth from one day to the next above which the cost of a cloud is a spike.")
    yield Family("cloud_cost_spike_minimum_usd", "gauge", "Daily cost below which growth is noise, not a spike.")


def _providers() -> Iterator[Family]:
    account = ("source", "account")
    for prefix, name in _CLOUDS.items():
        for bound, words in (("", ""), ("_lower", ", lower bound"), ("_upper", ", upper bound")):
            yield Family(
                f"{prefix}_cost_forecast{bound}_usd",
                "gauge",
                f"Cost of this calendar month as {name} itself forecasts it{words}.",
                account,
            )
    budget = ("source", "provider", "account", "budget", "period")
    yield Family("cloud_provider_budget_limit_usd", "gauge", "Limit of a budget that is kept at a provider, in its period.", budget)
    yield Family("cloud_provider_budget_spent_usd", "gauge", "Spent of a budget that is kept at a provider, in its period.", budget)
    yield Family(
        "cloud_provider_budget_forecast_usd", "gauge", "What a provider forecasts to be spent of a budget by the end of its period.", budget
    )
    yield Family(
        "aws_s3_bucket_size_bytes",
        "gauge",
        "Size of a bucket by storage class, as CloudWatch has it: at most two days old.",
        ("source", "account", "region", "bucket", "storage_class"),
    )


def _attribution() -> Iterator[Family]:
    yield Family(
        "cloud_cost_attributed_ratio",
        "gauge",
        "Share of the usage and purchases in this month's bills that has a team, feature, tenant or environment.",
        ("target",),
    )
    yield Family(
        "cloud_cost_unattributed_usd",
        "gauge",
        "Usage and purchases in this month's bills without a team, feature, tenant or environment.",
        ("target",),
    )
    yield Family(
        "kubernetes_cost_explained_ratio",
        "gauge",
        "Share of a provider's bill that its clusters explain, of the newest 7 complete days that all of them have.",
        ("provider",),
    )
    yield Family(
        "kubernetes_cost_explained_usd", "gauge", "What a cluster explains of a provider's bill, in the same days.", ("source", "provider")
    )
    yield Family("kubernetes_cost_explained_bill_usd", "gauge", "What a provider has billed in the same days.", ("provider",))
    yield Family(
        "cloud_cost_allocated_monthly_usd",
        "gauge",
        "Part of a provider's monthly cost that another provider bills: to be taken off sums over providers.",
        ("provider", "month"),
    )


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
    yield Family("ai_budget_reset_timestamp_seconds", "gauge", "When the current period of a budget ends.", budget)
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
    yield Family("ai_spend_monthly_limit_usd", "gauge", "AI cost a calendar month above which an alert fires.")


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
    for group in (_cloud, _providers, _attribution, _ai, _reconciliation, _guardrails, _sources, _health, _sinks, _page)
    for family in group()
}
"""Every metric by name, in the order in which the document lists them."""

PROVIDER_FAMILIES = tuple(family.name for family in _providers())
"""What providers state beside their bills."""
