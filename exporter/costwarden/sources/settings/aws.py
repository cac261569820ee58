"""AWS: `type: aws`."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from costwarden.settings import Settings
from costwarden.sources.settings.access import AwsAccess
from costwarden.sources.settings.schedule import DailySchedule, PredictedRequests, SourceName

COST_EXPLORER_USD = Decimal("0.01")
"""A request, and each further page of its answer: https://aws.amazon.com/aws-cost-management/aws-cost-explorer/pricing/"""

CLOUDWATCH_USD = Decimal("0.00001")
"""A request of `ListMetrics`, and each metric that `GetMetricData` is asked for: $0.01 a thousand, https://aws.amazon.com/cloudwatch/pricing/"""

METRICS_A_REQUEST = 500
"""What `GetMetricData` takes at most: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""

RECORD_TYPE = "RECORD_TYPE"

_DIMENSIONS = (
    "AZ|DATABASE_ENGINE|INSTANCE_TYPE|INVOICING_ENTITY|LEGAL_ENTITY_NAME|LINKED_ACCOUNT|OPERATING_SYSTEM|OPERATION|PLATFORM|PURCHASE_TYPE|"
    "RECORD_TYPE|REGION|SERVICE|TENANCY|USAGE_TYPE"
)

GroupKey = Annotated[str, StringConstraints(pattern=rf"^({_DIMENSIONS}|TAG:.+|COST_CATEGORY:.+)$")]
"""A dimension of Cost Explorer, `TAG:KEY` or `COST_CATEGORY:NAME`."""


class AwsAccount(Settings):
    """An account that is read with a role of its own."""

    account_id: Annotated[str, StringConstraints(pattern=r"^(\d{12})?$")] = ""
    """Account that is read. Where the credentials turn out to belong to another one, nothing is read. Taken from `role_arn` if empty."""
    role_arn: Annotated[str, StringConstraints(pattern=r"^(arn:aws[a-z-]*:iam::\d{12}:role/.+)?$")] = ""
    """Role to assume with the credentials of `access`. Empty reads with these credentials themselves."""
    external_id: str = ""
    """External id that the role's trust policy asks for."""

    @model_validator(mode="after")
    def _of_one_account(self) -> Self:
        if not self.account_id and not self.role_arn:
            raise ValueError("an account needs `account_id` or `role_arn`")
        if self.account_id and self.role_arn and self.account_id != self.role_arn.split(":")[4]:
            raise ValueError(f"`role_arn` is a role of account {self.role_arn.split(':')[4]}, not of {self.account_id}")
        return self

    @property
    def number(self) -> str:
        """The twelve digits."""
        return self.account_id or self.role_arn.split(":")[4]


class AwsSplit(Settings):
    """A third key to group by: a request for each value, and one for all the rest, so that nothing is counted twice or left out."""

    key: GroupKey
    """What is told apart, as in `group_by`."""
    values: tuple[str, ...] = Field(min_length=1, max_length=100)
    """Values that get a request of their own; the cost of all others is there without one."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.key == RECORD_TYPE:
            raise ValueError("record types are told apart already")
        if len(set(self.values)) < len(self.values):
            raise ValueError("a value stands there twice")
        return self


class AwsSettings(DailySchedule):
    """Cost of AWS, from Cost Explorer, AWS Budgets and CloudWatch."""

    type: Literal["aws"]
    """`aws`: cost of AWS, from Cost Explorer, AWS Budgets and CloudWatch."""
    name: SourceName = "aws"
    """Name of the source: the `source` label of its series."""
    access: AwsAccess = AwsAccess()
    accounts: tuple[AwsAccount, ...] = ()
    """Accounts that are read with the credentials of `access`, each on its own. Empty reads the account of these credentials. A management
    account's figures hold its members' already: do not list both."""
    group_by: tuple[GroupKey, ...] = Field(default=("SERVICE", "REGION"), min_length=1, max_length=2)
    """One or two of Cost Explorer's dimensions (`SERVICE`, `REGION`, `LINKED_ACCOUNT`, `USAGE_TYPE`, …), `TAG:KEY` or `COST_CATEGORY:NAME`.
    With two, what is no usage (credits, tax, fees) is asked for apart, by record type and the first of them."""
    split_by: AwsSplit | None = None
    """A third key: one more request for each of its values."""
    billed_metric: Literal["UnblendedCost", "NetUnblendedCost", "BlendedCost"] = "UnblendedCost"
    """Cost Explorer's metric that becomes the billed cost. `Net…` is after discounts, and there for accounts that have any."""
    effective_metric: Literal["AmortizedCost", "NetAmortizedCost"] = "AmortizedCost"
    """Cost Explorer's metric that becomes the effective cost: with what was paid in advance spread over the days that it is for."""
    forecast: bool = True
    """Ask once a day for Cost Explorer's forecast of the month."""
    forecast_interval_percent: int = Field(default=80, ge=51, le=99)
    """How sure the bounds of the forecast are."""
    budgets: bool = True
    """Read the budgets that are kept in AWS Budgets; AWS takes no money for that."""
    bucket_sizes: bool = False
    """Ask CloudWatch once a day how large the S3 buckets are."""
    bucket_regions: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")], ...] = ()
    """Regions whose buckets are asked for. Empty is `access.region`."""

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        numbers = [account.number for account in self.accounts]
        if twice := {number for number in numbers if numbers.count(number) > 1}:
            raise ValueError(f"account {min(twice)} stands there twice: its cost would count twice")
        regions = self.bucket_regions
        if repeated := {region for region in regions if regions.count(region) > 1}:
            raise ValueError(f"`bucket_regions`: {min(repeated)} stands there twice")
        keys = [*self.group_by, *([self.split_by.key] if self.split_by else [])]
        names = [key.partition(":")[2].strip().lower() or key.lower() for key in keys]
        if len(set(names)) < len(names):
            raise ValueError(f"{', '.join(f'`{key}`' for key in keys)}: two keys would be one")
        return self

    @property
    def separates_record_types(self) -> bool:
        """Whether usage and all the rest are asked for apart: else `RECORD_TYPE` has room beside the key."""
        return len(self.group_by) == 2 and RECORD_TYPE not in self.group_by

    @property
    def cost_requests(self) -> int:
        """Cost Explorer requests of an account and refresh, where every answer fits a page."""
        return (len(self.split_by.values) + 1 if self.split_by else 1) + self.separates_record_types

    @property
    def predicted_requests(self) -> tuple[PredictedRequests, ...]:
        """The paid requests of a day, where every answer fits a page."""
        accounts = max(1, len(self.accounts))
        a_day = accounts * (self.cost_requests * self.refreshes_a_day + self.forecast)
        found = [PredictedRequests("Cost Explorer requests", a_day, COST_EXPLORER_USD)]
        if self.bucket_sizes:
            regions = max(1, len(self.bucket_regions)) * accounts
            what = f"CloudWatch requests for up to {METRICS_A_REQUEST} bucket sizes"
            found.append(PredictedRequests(what, Decimal(regions), CLOUDWATCH_USD * (METRICS_A_REQUEST + 1)))
        return tuple(found)
