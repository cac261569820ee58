"""The `sources`, `attribution` and `exchange_rates` sections of `costwarden.yaml`."""

import re
from datetime import date
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from costwarden.settings import ConfigPath, Price, Settings

CurrencyCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217, as FOCUS's BillingCurrency."""

Target = Literal["team", "feature", "tenant_id", "environment"]

TARGETS: tuple[Target, ...] = ("team", "feature", "tenant_id", "environment")
"""What a charge is attributed to."""

ORIGINS = ("provider_name", "billing_account_id", "sub_account_id", "service_name")
"""Columns that a rule may read; `tag:KEY` reads a tag."""


class Schedule(Settings):
    """When a source is read. What every kind of source has."""

    interval_seconds: float = Field(default=900, ge=1, le=31 * 86_400, allow_inf_nan=False)
    """Seconds from the end of one refresh to the beginning of the next."""
    jitter_ratio: float = Field(default=0.1, ge=0, le=1)
    """The interval is lengthened by a random share of itself up to this one, so that many servers do not read at the same moment."""
    stale_after_seconds: float = Field(default=7200, gt=0, allow_inf_nan=False)
    """Seconds without a successful refresh after which the figures count as stale: the limit that an alert compares with."""

    @model_validator(mode="after")
    def _not_always_stale(self) -> Self:
        longest = self.interval_seconds * (1 + self.jitter_ratio)
        if self.stale_after_seconds <= longest:
            raise ValueError(f"`stale_after_seconds` must be above the longest interval, {longest:g} s: else the source is always stale")
        return self


class FocusSettings(Schedule):
    """A folder of bills in FOCUS 1.0 to 1.4: every *.csv, *.csv.gz and *.parquet file in it, at any depth."""

    type: Literal["focus"] = "focus"
    """`focus`: a folder of FOCUS files."""
    name: str = Field(default="focus", max_length=64, pattern=r"^[a-z][a-z0-9_-]*$")
    """Name of the source: the `source` label of its series."""
    path: ConfigPath
    """The folder. A name that begins with a dot is passed over: such files are still being written."""
    default_currency: CurrencyCode | None = None
    """Currency of rows that name none. Without it they are rejected: FOCUS requires BillingCurrency."""
    keep_rejected_rows: int = Field(default=1000, ge=0, le=100_000)
    """Rejected rows of a file that are kept for `costwarden rejected`; all are counted."""
    memory_mebibytes: int = Field(default=512, ge=128)
    """Memory that DuckDB may use; what does not fit goes to the temporary directory."""
    threads: int = Field(default=2, ge=1, le=64)
    """Threads that DuckDB may use."""


SourceSettings = FocusSettings
"""An entry of `sources`: a class for each name in `costwarden.sources.SOURCES`, told apart by `type`."""


class AttributionRule(Settings):
    """Reads `origins` in order; the first that has a value, and one that `values` knows where `values` is given, sets `target`."""

    target: Target
    """What is set: `team`, `feature`, `tenant_id` or `environment`."""
    origins: tuple[str, ...] = Field(min_length=1)
    """`tag:KEY`, `sub_account_id`, `billing_account_id`, `service_name` or `provider_name`. Case and outer spaces of tag keys do not
    matter."""
    values: dict[str, Annotated[str, Field(min_length=1)]] = {}
    """Value, or pattern with `*`, `?` or `[…]` -> what is set, first match wins, case matters. Without it the value itself is set."""

    @field_validator("origins")
    @classmethod
    def _known_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin not in ORIGINS and not re.fullmatch(r"tag:.*\S.*", origin):
                raise ValueError(f"{origin!r} is neither `tag:KEY` nor one of {', '.join(f'`{name}`' for name in ORIGINS)}")
        return origins


def _default_rules() -> tuple[AttributionRule, ...]:
    return (
        AttributionRule(target="team", origins=("tag:team",)),
        AttributionRule(target="feature", origins=("tag:feature",)),
        AttributionRule(target="tenant_id", origins=("tag:tenant_id", "tag:tenant")),
        AttributionRule(target="environment", origins=("tag:environment", "tag:env")),
    )


class AttributionSettings(Settings):
    """Whose cost a charge is. For each target the rules are tried in order, then the defaults, until one sets it; else it is empty."""

    rules: tuple[AttributionRule, ...] = ()
    """Rules of one's own."""
    defaults: tuple[AttributionRule, ...] = Field(default_factory=_default_rules)
    """What holds where no rule sets a target: the tags `team`, `feature`, `tenant_id` or `tenant`, `environment` or `env`."""


class ExchangeRate(Settings):
    """What a currency is worth from a day on."""

    valid_from: date
    """First day (UTC) of this rate; it holds until the day of the next."""
    usd: Annotated[Price, Field(gt=0, max_digits=20)]
    """Dollars for one unit of the currency."""


class ExchangeRates(Settings):
    """Dollars for other currencies. A charge is converted at the rate of its day; one that has none is rejected."""

    currencies: dict[CurrencyCode, Annotated[tuple[ExchangeRate, ...], Field(min_length=1)]] = {}
    """Currency -> its rates, the oldest first. Append; changing a rate changes the past."""

    @field_validator("currencies")
    @classmethod
    def _in_order(cls, currencies: dict[str, tuple[ExchangeRate, ...]]) -> dict[str, tuple[ExchangeRate, ...]]:
        if "USD" in currencies:
            raise ValueError("`USD` has no rate: a dollar is a dollar")
        for currency, rates in currencies.items():
            for earlier, later in pairwise(rates):
                if earlier.valid_from >= later.valid_from:
                    raise ValueError(f"the rates of `{currency}` must ascend: {later.valid_from} stands after {earlier.valid_from}")
        return currencies
