"""The metrics of clouds: what their bills say, what they state themselves, whom it belongs to, and what was to be expected."""

from collections.abc import Iterator

from costwarden.metrics.family import CLOUD_LABELS, CLOUD_SCOPE, Family

_CLOUDS = {"aws": "AWS", "gcp": "Google Cloud", "azure": "Azure", "kubernetes": "Kubernetes"}


def cloud_families() -> Iterator[Family]:
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


def provider_families() -> Iterator[Family]:
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


def attribution_families() -> Iterator[Family]:
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


def baseline_families() -> Iterator[Family]:
    """What the ledger's history lets one expect: of a day by its weekday, of a month by its days."""
    provider, service = ("provider",), ("provider", "service")
    yield Family(
        "cloud_cost_weekday_usd",
        "gauge",
        "Median cost of a provider on the weekday of its newest complete day, of the 4 weeks before.",
        provider,
    )
    yield Family(
        "cloud_cost_month_start_usd",
        "gauge",
        "Cost of a provider on the first day of the month before, where its newest complete day is the first of a month.",
        provider,
    )
    yield Family("cloud_service_cost_daily_usd", "gauge", "Cost of a service on the newest complete day of its provider.", service)
    yield Family(
        "cloud_service_cost_expected_usd",
        "gauge",
        "Median cost of a service on days of that weekday, of the 8 weeks before, and what it costs on that day of every month.",
        service,
    )
    yield Family(
        "cloud_service_cost_deviation_usd",
        "gauge",
        "How far a service strays from what is expected of it: 1.4826 times the median absolute deviation, at least as far as its bursts.",
        service,
    )
    for bound, words in (("", ""), ("_lower", ", lower bound of 80 %"), ("_upper", ", upper bound of 80 %")):
        yield Family(
            f"cloud_cost_forecast{bound}_usd",
            "gauge",
            f"Cost of a provider by the end of this calendar month, by its weekdays{words}.",
            provider,
        )
    for bound, words in (("", ""), ("_lower", ", lower bound of 80 %"), ("_upper", ", upper bound of 80 %")):
        yield Family(
            f"cloud_budget_forecast{bound}_usd",
            "gauge",
            f"Cost in the scope of a cloud budget by the end of this calendar month, by its weekdays{words}.",
            ("budget", *CLOUD_SCOPE),
        )
