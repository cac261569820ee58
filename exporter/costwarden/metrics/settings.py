"""The `metrics`, `alert_limits` and `cloud_budgets` sections of `costwarden.yaml`."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from costwarden.metrics.catalogue import FAMILIES
from costwarden.settings import Price, Settings, Usd

CostBasis = Literal["billed_cost", "effective_cost", "list_cost", "contracted_cost"]

CloudLabel = Literal[
    "region", "service", "sub_account_id", "service_category", "charge_category", "team", "feature", "tenant_id", "environment"
]
UsageLabel = Literal["tenant_id", "provider", "model", "operation", "report_type", "feature", "team", "user_id", "service"]


def _distinct_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"the label `{label}` is given twice")
    return labels


def _known_metrics(limits: dict[str, int]) -> dict[str, int]:
    for name in limits:
        if name not in FAMILIES:
            raise ValueError(f"there is no metric `{name}`")
    return limits


class MetricsSettings(Settings):
    """What the metrics page shows, and how often it is rendered."""

    cost_basis: CostBasis = "billed_cost"
    """Which of FOCUS's four costs the cloud metrics show: `billed_cost` (what is invoiced), `effective_cost` (commitments spread over
    their use), `list_cost` or `contracted_cost`."""
    cloud_labels: Annotated[tuple[CloudLabel, ...], AfterValidator(_distinct_labels)] = ("region", "service")
    """What cloud cost is told apart by, beside provider and month."""
    usage_labels: Annotated[tuple[UsageLabel, ...], AfterValidator(_distinct_labels)] = (
        "tenant_id",
        "provider",
        "model",
        "operation",
        "report_type",
        "feature",
        "team",
        "service",
    )
    """What AI usage since the beginning is told apart by. `user_id` makes a series for every user."""
    months_kept_apart: int = Field(default=36, ge=2)
    """Calendar months with a series of their own; the cost of all earlier ones is summed under `month="older"`."""
    series_limit: int = Field(default=10_000, ge=1)
    """Series that one metric may have. The rest is summed into `other`; of a metric that cannot be summed, it is left out.
    `costwarden_series_overflow` counts it."""
    series_limits: Annotated[dict[str, Annotated[int, Field(ge=1)]], AfterValidator(_known_metrics)] = Field(default_factory=dict)
    """Other limits for single metrics, by name."""
    min_interval_seconds: float = Field(default=0.5, ge=0.05, allow_inf_nan=False)
    """A change shows on the page at once, unless the last rendering was less than this ago."""
    max_interval_seconds: float = Field(default=30.0, allow_inf_nan=False)
    """The page is rendered at least this often, so that windows, months and ages move on."""

    @model_validator(mode="after")
    def _intervals(self) -> Self:
        if self.max_interval_seconds < self.min_interval_seconds:
            raise ValueError("`max_interval_seconds` must be at least `min_interval_seconds`")
        return self


class AlertLimits(Settings):
    """Limits that alert rules compare with: exported as series, so that the rules need no templating."""

    ai_spend_monthly_limit_usd: Usd = Decimal(10_000)
    """AI cost of everything in a calendar month above which `TotalAISpendHigh` fires."""
    cloud_cost_spike_limit_ratio: Price = Decimal("0.2")
    """Growth of a day's cloud cost over the day before (0.2 is 20 %) above which `CloudCostSpike` fires."""
    cloud_cost_spike_minimum_usd: Usd = Decimal(1)
    """Growth of a day that costs less than this is noise."""
    cost_anomaly_limit_deviations: Price = Decimal(4)
    """Deviations from what is expected of a service's day or a tenant's hour above which `CloudCostAnomaly` and `AISpendAnomaly` fire."""
    cost_anomaly_minimum_usd: Usd = Decimal(10)
    """An excess over the expected cost that is less than this is noise."""
    ai_unsettled_limit_ratio: Price = Decimal("0.05")
    """Share of a budget's limit that may be unsettled: above it `AIUnsettledSpend` fires."""
    ai_capture_limit_ratio: Price = Decimal("0.9")
    """Share of an AI provider's bill that should be metered: below it `AICaptureLow` fires."""
    cloud_cost_attributed_limit_ratio: Price = Decimal("0.8")
    """Share of the month's usage and purchases that should have a team, feature, tenant or environment: below it
    `CloudCostUnattributed` fires."""
    cloud_cost_unattributed_minimum_usd: Usd = Decimal(100)
    """Unattributed cost of a month that is less than this is no matter."""
    s3_bucket_size_limit_bytes: int = Field(default=10**12, ge=1)
    """Bytes above which `S3BucketLarge` fires: a terabyte."""
    kubernetes_pod_cpu_minimum_ratio: Price = Decimal("0.4")
    """Share of the CPU that a pod requests: where it uses less for 6 hours, `OverprovisionedPod` fires."""
    costwarden_price_data_age_limit_seconds: int = Field(default=60 * 86_400, ge=1)
    """Age in seconds of the published prices above which `PriceDataOld` fires: 60 days."""


class CloudScope(Settings):
    """What a cloud budget is for. What is not named matches anything; a scope that names nothing is all clouds together."""

    provider: str = ""
    """`aws`, `gcp`, `azure`, `kubernetes`, or another provider's name in lower case."""
    sub_account_id: str = ""
    service: str = ""
    region: str = ""
    team: str = ""
    feature: str = ""
    tenant_id: str = ""
    environment: str = ""


class CloudBudget(Settings):
    """A monthly limit on a part of the bills. It warns and acts through alerts; it cannot refuse, because bills come late."""

    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:=@/-]*$")
    """Name of the budget: the `budget` label of its series and alerts."""
    monthly_limit_usd: Annotated[Usd, Field(gt=0)]
    """Limit in dollars a calendar month (UTC, as bills are)."""
    scope: CloudScope = CloudScope()
    """What it is for."""
    action: str = ""
    """Playbook that an alert on this budget names; empty names none."""


def _distinct_budgets(budgets: tuple[CloudBudget, ...]) -> tuple[CloudBudget, ...]:
    names = [budget.name for budget in budgets]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the budget name `{name}` is given twice")
    return budgets


CloudBudgets = Annotated[tuple[CloudBudget, ...], AfterValidator(_distinct_budgets)]
"""The `cloud_budgets` section."""
