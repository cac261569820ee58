"""Amazon Bedrock: `type: bedrock`."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from costwarden.sources.settings.access import AwsAccess
from costwarden.sources.settings.aws import CLOUDWATCH_USD
from costwarden.sources.settings.schedule import DailySchedule, PredictedRequests, SourceName

LISTED_DAYS = 13
"""CloudWatch lists only what "reported data in the past two weeks", so that the models of these days are surely listed:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_ListMetrics.html."""

METRICS_A_MODEL = 6

Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]


class BedrockSettings(DailySchedule):
    """Tokens of Amazon Bedrock, from CloudWatch."""

    type: Literal["bedrock"]
    """`bedrock`: tokens of Amazon Bedrock, from CloudWatch."""
    name: SourceName = "bedrock"
    """Name of the source: the `source` label of its series."""
    reread_days: int = Field(default=3, ge=1, le=LISTED_DAYS)
    """Days before today that every refresh reads again. CloudWatch does not list a model two weeks after it was last used: a day that
    is read again later would lose it."""
    access: AwsAccess = AwsAccess()
    regions: tuple[Region, ...] = ()
    """Regions in which models are called. Empty is the one of `access`."""
    models: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Model ids to ask for beside those that CloudWatch lists: of models that were last used more than two weeks ago."""

    @field_validator("regions")
    @classmethod
    def _once(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({region for region in regions if regions.count(region) > 1}):
            raise ValueError(f"{', '.join(twice)} stands there twice")
        return regions

    @property
    def all_regions(self) -> tuple[str, ...]:
        """The regions that are read."""
        return self.regions or (self.access.region,)

    @property
    def predicted_requests(self) -> tuple[PredictedRequests, ...]:
        """The metrics are those of one model: how many there are shows when they are read."""
        reads = self.refreshes_a_day * len(self.all_regions)
        return (
            PredictedRequests("CloudWatch ListMetrics requests", reads, CLOUDWATCH_USD),
            PredictedRequests("CloudWatch metrics for each model", reads * METRICS_A_MODEL, CLOUDWATCH_USD),
        )
