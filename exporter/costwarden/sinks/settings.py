"""The `cloudwatch` section of `costwarden.yaml`."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from costwarden.settings import Settings, Usd
from costwarden.sources.settings import AwsAccess, PredictedRequests

REQUEST_USD = Decimal("0.00001")
"""PutMetricData and the other metric requests: $0.01 a thousand (https://aws.amazon.com/cloudwatch/pricing/)."""

METRIC_MONTH_USD = Decimal("0.30")
"""A custom metric a month, of the first 10,000; by the hour in which it has data (https://aws.amazon.com/cloudwatch/pricing/)."""

Threshold = Annotated[Usd, Field(gt=0)]


class CloudwatchSettings(Settings):
    """AI cost as a metric of Amazon CloudWatch: `OperationCost` by provider, operation and success, by provider, and in all."""

    enabled: bool = True
    """Whether usage is sent. What was recorded while it was off is sent when it is on again, as far as CloudWatch takes it."""
    access: AwsAccess = AwsAccess()
    namespace: Annotated[str, StringConstraints(max_length=255, pattern=r"^[A-Za-z0-9_./#-]+$")] = "VisualNeurons/AI"
    """Namespace of the metric. The default is the one that existing dashboards and alarms for `OperationCost` read."""
    interval_seconds: float = Field(default=60, ge=10, le=3600, allow_inf_nan=False)
    """Seconds from one sending to the next; CloudWatch keeps minutes, so less than 60 only costs more requests."""
    daily_request_limit_usd: Usd = Decimal(1)
    """What the requests of a day (UTC) may cost; past it, what is left is sent the next day."""
    operations_limit: int = Field(default=100, ge=1, le=2000)
    """Pairs of provider and operation with metrics of their own (two each, $0.30 a month); the cost of all others is sent as the operation
    `other`."""
    dashboard: Annotated[str, StringConstraints(max_length=255, pattern=r"^[A-Za-z0-9_-]+$")] = "AI-Costs"
    """Name of the dashboard that `costwarden cloudwatch apply` makes."""
    alarm_prefix: Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9_.-]*$")] = ""
    """Before the names of the alarms, where several costwardens share an account and a region."""
    hourly_alarm_usd: Threshold | None = Decimal(50)
    """AI cost of an hour above which `HourlyCostAlarm` fires; null makes none."""
    daily_alarm_usd: Threshold | None = Decimal(500)
    """AI cost of a day (UTC) above which `DailyCostAlarm` fires; null makes none."""
    sns_topic_arn: Annotated[str, StringConstraints(pattern=r"^(arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]+)?$")] = ""
    """SNS topic that the alarms tell; empty tells nobody."""

    @field_validator("namespace")
    @classmethod
    def _not_of_aws(cls, namespace: str) -> str:
        if namespace.startswith("AWS/"):
            raise ValueError("must not begin with `AWS/`: those are AWS's own")
        return namespace

    @property
    def predicted_requests(self) -> tuple[PredictedRequests, ...]:
        """The paid requests of a day, at most: a sending without new usage makes none."""
        a_day = Decimal(86_400) / Decimal(str(self.interval_seconds))
        return (PredictedRequests("PutMetricData requests", a_day, REQUEST_USD),) if self.enabled else ()
