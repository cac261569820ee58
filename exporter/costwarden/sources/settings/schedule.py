"""When a source is read, how far back, and what it may spend on that."""

from decimal import Decimal
from typing import Annotated, Self

import msgspec
from pydantic import Field, StringConstraints, model_validator

from costwarden.settings import Settings, Usd

SourceName = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")]
"""Name of a source: the `source` label of its series."""

CurrencyCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217, as FOCUS's BillingCurrency."""


class PredictedRequests(msgspec.Struct, frozen=True):
    """What a source is going to ask for, as far as its settings tell."""

    what: str
    """Plural, as `Cost Explorer requests`."""
    a_day: Decimal
    usd_each: Decimal


class Schedule(Settings):
    """When a source is read. What every kind of source has."""

    interval_seconds: float = Field(default=900, ge=1, le=31 * 86_400, allow_inf_nan=False)
    """Seconds from the end of one refresh to the beginning of the next."""
    jitter_ratio: float = Field(default=0.1, ge=0, le=1)
    """The interval is lengthened by a random share of itself up to this one, so that many servers do not read at the same moment."""
    stale_after_seconds: float = Field(default=7200, gt=0, allow_inf_nan=False)
    """Seconds without a successful refresh after which the figures count as stale: the limit that an alert compares with."""
    timeout_seconds: float = Field(default=1800, ge=1, allow_inf_nan=False)
    """Seconds after which a refresh is given up that has not ended. What it has read by then is not kept."""
    daily_request_limit_usd: Usd = Decimal(1)
    """What the requests of a day (UTC) may cost, all together, where the provider takes money for them; past it the figures stay as they
    are until the next day."""

    @model_validator(mode="after")
    def _not_always_stale(self) -> Self:
        longest = self.interval_seconds * (1 + self.jitter_ratio)
        if self.stale_after_seconds <= longest:
            raise ValueError(f"`stale_after_seconds` must be above the longest interval, {longest:g} s: else the source is always stale")
        return self

    @property
    def predicted_requests(self) -> tuple[PredictedRequests, ...]:
        """The paid requests of a day; empty where the provider takes no money for them."""
        return ()

    @property
    def refreshes_a_day(self) -> Decimal:
        """At most so many, one that fails apart."""
        return Decimal(86_400) / Decimal(str(self.interval_seconds))


class DailySchedule(Schedule):
    """What every source has that is asked for days, and not for files."""

    interval_seconds: float = Field(default=21_600, ge=1, le=31 * 86_400, allow_inf_nan=False)
    """Seconds from the end of one refresh to the beginning of the next."""
    stale_after_seconds: float = Field(default=86_400, gt=0, allow_inf_nan=False)
    """Seconds without a successful refresh after which the figures count as stale: the limit that an alert compares with."""
    history_days: int = Field(default=62, ge=1, le=400)
    """Days before today that are read at first; `costwarden source backfill` reads more. 62 are this month and the one before."""
    reread_days: int = Field(default=45, ge=1, le=400)
    """Days before today that every refresh reads again, because bills are restated; older ones only where they are missing."""
    accept_empty_answers: bool = False
    """Whether days that had cost may all become empty at once. An account that was closed is like that, and so is a provider that has lost
    its data: unless this is set, such an answer is a failure, and the figures stay."""
