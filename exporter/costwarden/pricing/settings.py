"""The `pricing` section of `costwarden.yaml`."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from costwarden.settings import ConfigPath, Price, Settings, Usd

Selector = Annotated[str, Field(min_length=1)]
"""An exact name, or a pattern with `*`, `?` or `[…]`; case does not matter."""


class PriceOverride(Settings):
    """A price of one's own for what the four selectors match, from one day on.

    A new price is appended with its day; the old one stays, because it is still the price of the usage before that day.
    Where several are in force, the one with the most exact selectors wins, then the newest, then the later in the list.
    """

    valid_from: date
    """First day of this price, from 00:00 UTC."""
    provider: Selector = "*"
    """Provider as the usage names it; default any."""
    model: Selector = "*"
    """Model as the usage names it; default any."""
    operation: Selector = "*"
    """Operation as the usage names it; default any."""
    service_tier: str = ""
    """Service tier as the usage names it: `batch`, `flex`, `priority`, …; default the standard one alone, `*` for any."""
    input_usd_mtok: Price | None = None
    """USD per million input tokens that no price below covers. Given with `output_usd_mtok` or not at all."""
    output_usd_mtok: Price | None = None
    """USD per million output tokens that no price below covers. Given with `input_usd_mtok` or not at all."""
    cache_read_usd_mtok: Price | None = None
    """USD per million input tokens read from the provider's cache; default the price of input."""
    cache_write_usd_mtok: Price | None = None
    """USD per million input tokens written to the provider's cache; default the price of input."""
    cache_write_1h_usd_mtok: Price | None = None
    """USD per million of those that the cache keeps for an hour; default the price of cache writes."""
    input_audio_usd_mtok: Price | None = None
    """USD per million audio input tokens, cached or not; default the price of input."""
    reasoning_usd_mtok: Price | None = None
    """USD per million reasoning tokens; default the price of output."""
    output_audio_usd_mtok: Price | None = None
    """USD per million audio output tokens; default the price of output."""
    usd_per_call: Price | None = None
    """USD per call, beside the other prices; default none."""
    usd_per_image: Price | None = None
    """USD per generated image, beside the other prices; default none. Where it is the only price, a call without a count is one image."""
    usd_per_audio_minute: Price | None = None
    """USD per minute of audio, to the millisecond, beside the other prices; default none."""

    @property
    def selectors(self) -> tuple[str, str, str, str]:
        """Provider, model, operation and service tier in lower case."""
        return self.provider.lower(), self.model.lower(), self.operation.lower(), self.service_tier.lower()

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if self.selectors[:3] == ("*", "*", "*"):
            raise ValueError("name at least one of `provider`, `model` and `operation`: a price for everything is `fallback_usd_per_call`")
        return self

    @model_validator(mode="after")
    def _prices_something(self) -> Self:
        prices = {name for name in type(self).model_fields if "usd" in name and getattr(self, name) is not None}
        if not prices:
            raise ValueError(
                "give a price: `input_usd_mtok` with `output_usd_mtok`, `usd_per_call`, `usd_per_image` or `usd_per_audio_minute`"
            )
        # Without this, a forgotten direction would be free of charge.
        for missing in {"input_usd_mtok", "output_usd_mtok"} - prices:
            if token_prices := sorted(name for name in prices if name.endswith("_mtok")):
                raise ValueError(f"`{missing}` is missing beside `{token_prices[0]}`: give both directions, 0 where one is free")
        return self


class ModelChoice(Settings):
    """A model that a denial may propose."""

    model: str = Field(min_length=1)
    """Model, as the application would name it."""
    provider: str = ""
    """Provider; default is the one that the model's name suggests."""


class RefreshSettings(Settings):
    """Whether the published prices are fetched anew while the server runs."""

    enabled: bool = False
    """Fetch the list at the start and then at every interval. Off, the list is as old as the installed genai-prices, and the server opens
    no connection of its own accord."""
    url: str = Field(
        default="https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json",
        pattern=r"^https?://[^\s/]+",
    )
    """Where the list is: genai-prices' own address, or a mirror's."""
    interval_hours: int = Field(default=24, ge=1, le=24 * 30)
    """Hours between two fetches. Providers change prices a few times a month; the list follows within days."""
    timeout_seconds: int = Field(default=10, ge=1, le=300)
    """Seconds until a fetch that gets no answer is given up."""
    cache_file: ConfigPath | None = None
    """Where the fetched list is kept, so that a restart without a network has it; default `costwarden-prices.json` beside this file."""

    @model_validator(mode="before")
    @classmethod
    def _beside_the_file(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("enabled") and data.get("cache_file") is None:
            return {**data, "cache_file": "costwarden-prices.json"}
        return data


class PricingSettings(Settings):
    """What usage costs: overrides, then prices per operation, then genai-prices, else the decision about unknown prices."""

    overrides: tuple[PriceOverride, ...] = ()
    """Dated prices that come before all others. Append; do not change one that has been in force."""
    unknown_price: Literal["deny", "fallback", "zero"] = "deny"
    """What becomes of a call whose price nobody knows. `deny`: it is refused; one that was made anyway costs 0 and counts as unpriced.
    `fallback`: it costs the three prices below. `zero`: it is allowed, costs 0 and counts as unpriced."""
    fallback_usd_per_call: Usd = Decimal("0.01")
    """USD per call under `fallback`; the default is the default cost of the operation cost table."""
    fallback_input_usd_mtok: Price = Decimal(0)
    """USD per million input tokens under `fallback`, beside the price per call."""
    fallback_output_usd_mtok: Price = Decimal(0)
    """USD per million output tokens under `fallback`, beside the price per call."""
    refresh: RefreshSettings = RefreshSettings()
    """Fetching newer published prices."""
    cheaper_models: tuple[ModelChoice, ...] = ()
    """Models that a denial may propose instead; the cheapest that fits is named."""

    @model_validator(mode="after")
    def _appended_not_repeated(self) -> Self:
        seen: set[tuple[date, tuple[str, str, str, str]]] = set()
        for override in self.overrides:
            key = override.valid_from, override.selectors
            if key in seen:
                names = "/".join(filter(None, override.selectors))
                raise ValueError(f"two overrides for {names} begin on {override.valid_from}: which one holds would be a matter of chance")
            seen.add(key)
        return self
