"""The providers' published prices, by genai-prices: its data and its rules for names and dates, compiled for speed.

The library computes some 10,000 prices a second; a test holds the compiled ones against it, model by model.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from costwarden.model import from_micros, to_micros
from costwarden.pricing.rates import CompiledPrice, Rates
from costwarden.pricing.tiers import Relation, relation

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceVariant, Provider

_VERIFIED = re.compile(r"(?:verified on|as of) (20\d\d-[01]\d-[0-3]\d)")

# "Minimum Billed Length 10 seconds": https://console.groq.com/docs/speech-to-text. genai-prices has it in code, not in its data.
_GROQ_LEAST_MILLISECONDS = 10_000


_OPENTELEMETRY = {"azure.ai.inference": "azure", "gcp.gen_ai": "google", "x_ai": "x-ai"}
"""Values of OpenTelemetry's `gen_ai.provider.name` that genai-prices does not know, by its own names; it knows the others."""


class Listed(NamedTuple):
    """A model as a provider lists it."""

    provider: str
    model: "ModelInfo"
    variants: bool
    """Whether the list's prices of service tiers are this provider's: it has some models from another provider's list."""


class PublishedPrices:
    """One price list: the bundled one, or that of `providers`. Thread-safe.

    Loading the bundled one takes about 0.4 s and 30 MB, so it is done when the object is made, not at import.
    """

    def __init__(self, providers: "Sequence[Provider] | None" = None, published_at: int | None = None) -> None:
        if providers is None:
            from genai_prices.data_snapshot import get_snapshot

            providers = get_snapshot().providers
        self._providers = list(providers)
        self.published_at = verified_at(self._providers) if published_at is None else published_at
        """When the list was known to be the newest, in microseconds since 1970 UTC: when it was fetched, or, of the bundled list, the
        newest day on which it says of itself that prices were verified."""
        # By identity: price lists are mutable and unhashable, and live as long as this object does.
        self._compiled: dict[tuple[int, ...], CompiledPrice | None] = {}

    @property
    def model_count(self) -> int:
        """Models that are listed."""
        return sum(len(provider.models) for provider in self._providers)

    def find(self, provider: str, model: str) -> "ModelInfo | None":
        """The model that genai-prices knows under these names; the empty provider is inferred from the model's name."""
        listed = self.look_up(provider, model)
        return None if listed is None else listed.model

    def look_up(self, provider: str, model: str) -> Listed | None:
        """As `find`, with the provider that genai-prices takes it for."""
        from genai_prices.data_snapshot import DataSnapshot

        if not model:
            return None
        # OpenTelemetry's `azure.ai.openai` would be found as OpenAI, whose prices of service tiers are not Azure's.
        provider = "azure" if provider.lower().startswith("azure.") else provider
        # A snapshot remembers every name it was ever asked for, misses too; names come from callers, so each search gets a fresh one.
        snapshot = DataSnapshot(self._providers, from_auto_update=False)
        try:
            found_provider, found = snapshot.find_provider_model(model, None, _OPENTELEMETRY.get(provider, provider) or None, None)
        except LookupError:
            return None
        return Listed(found_provider.id, found, any(found is own for own in found_provider.models))

    def price(self, model: "ModelInfo", at: int) -> CompiledPrice | None:
        """The standard price of `model` at the time `at` (microseconds since 1970 UTC).

        `None` where the library prices nothing that a usage counts: pages, characters, searches, or nothing at all.
        """
        listed = _standard(model, at)
        key = (id(listed),)
        if key not in self._compiled:
            self._compiled[key] = _compile(listed, model.id)
        return self._compiled[key]

    def tier_price(self, listed: Listed, tier: str, at: int) -> CompiledPrice | None:
        """The price of `listed` in the service tier `tier` at the time `at`; `None` where nobody has published one."""
        if not tier:
            return self.price(listed.model, at)
        standard = _standard(listed.model, at)
        variants = _variants(listed.model, tier, at) if listed.variants else []
        if variants:
            key = (id(standard), *map(id, variants))
            if key not in self._compiled:
                # One context for the three words that the list has for it; their values do not meet.
                context = {"processing": tier, "service_tier": tier, "speed": tier}
                self._compiled[key] = _compile(listed.model.get_prices(from_micros(at), context), listed.model.id)
            return self._compiled[key]
        known = relation(listed.provider, listed.model.id, tier, at)
        if known is None:
            return None
        key = (id(standard), id(known))
        if key not in self._compiled:
            self._compiled[key] = _compile(standard, listed.model.id, known)
        return self._compiled[key]

    def compile_all(self) -> None:
        """Compile every price, so that a list which this version cannot read is refused before it is put in force.

        Raises `TypeError` or `ValueError` for such a list.
        """
        for provider in self._providers:
            for model in provider.models:
                lists = [entry.prices for entry in model.prices] if isinstance(model.prices, list) else [model.prices]
                for listed in lists:
                    _compile(listed, model.id)
                for variant in model.price_variants or ():
                    _compile(variant.prices, model.id)


def verified_at(providers: "Sequence[Provider]") -> int:
    """The newest day on which a list says of itself that prices were verified, in microseconds since 1970 UTC; 0 where it says none."""
    days = {
        found
        for provider in providers
        for comment in (provider.price_comments, *(model.price_comments for model in provider.models))
        for found in _VERIFIED.findall(comment or "")
    }
    return to_micros(datetime.combine(date.fromisoformat(max(days)), time(), UTC)) if days else 0


def _standard(model: "ModelInfo", at: int) -> "ModelPrice":
    return model.get_prices(from_micros(at)) if isinstance(model.prices, list) else model.prices


def _variants(model: "ModelInfo", tier: str, at: int) -> "list[PriceVariant]":
    when = from_micros(at)
    return [
        variant
        for variant in model.price_variants or ()
        if all(word in ("processing", "service_tier", "speed") and name == tier for word, name in variant.when.items())
        and (variant.constraint is None or variant.constraint.active(when))
        and any(price is not None for price in vars(variant.prices).values())
    ]


_PRICED = ("input_mtok", "output_mtok", "requests_kcount", "input_audio_hours", "audio_hours")


def _compile(listed: "ModelPrice", model_id: str, related: Relation | None = None) -> CompiledPrice | None:
    from genai_prices.types import TieredPrices

    if not any(_at(listed, key, 0) is not None for key in _PRICED):
        # The library's empty list is a zero that nobody stated; only the name of a `:free` model states it.
        return CompiledPrice([(-1, Rates(input=Decimal(0), output=Decimal(0)))]) if model_id.endswith(":free") else None
    tiers = {tier.start for price in vars(listed).values() if isinstance(price, TieredPrices) for tier in price.tiers}
    steps = [(start, _rates(listed, model_id, start + 1)) for start in sorted({-1, *tiers})]
    if related is not None:
        steps = [(start, rates.times(related.factor, cache=related.cache)) for start, rates in steps]
    return CompiledPrice(steps)


def _rates(listed: "ModelPrice", model_id: str, input_tokens: int) -> Rates:
    def at(key: str) -> Decimal | None:
        return _at(listed, key, input_tokens)

    base = at("input_mtok")
    cache_write_1h = at("cache_write_1h_mtok")
    if cache_write_1h is None and base is not None and "claude" in model_id and at("cache_write_mtok") is not None:
        # The lists of Bedrock, Vertex and OpenRouter lack it. "1h Cache Writes" are twice "Base Input Tokens" for every Claude model:
        # https://docs.anthropic.com/en/docs/about-claude/pricing
        cache_write_1h = 2 * base
    per_thousand_calls = at("requests_kcount")
    audio_hour = at("input_audio_hours")
    return Rates(
        input=base,
        cache_read=at("cache_read_mtok"),
        cache_write=at("cache_write_mtok"),
        cache_write_1h=cache_write_1h,
        input_audio=at("input_audio_mtok"),
        cached_audio=at("cache_audio_read_mtok"),
        output=at("output_mtok"),
        reasoning=at("output_reasoning_mtok"),
        output_audio=at("output_audio_mtok"),
        output_image=at("output_image_mtok"),
        call=None if per_thousand_calls is None else per_thousand_calls.scaleb(-3),
        audio_hour=at("audio_hours") if audio_hour is None else audio_hour,
        least_audio_milliseconds=_GROQ_LEAST_MILLISECONDS if model_id in ("whisper-large-v3", "whisper-large-v3-turbo") else 0,
    )


def _at(listed: "ModelPrice", key: str, input_tokens: int) -> Decimal | None:
    # `vars`, because the attribute access of a list answers for every registered key and refuses the others.
    price: object = vars(listed).get(key)
    if price is None or isinstance(price, Decimal):
        return price
    from genai_prices.types import TieredPrices

    if not isinstance(price, TieredPrices):
        raise TypeError(f"genai-prices states {key} as {type(price).__name__}, which this version does not know")
    reached = [tier.price for tier in price.tiers if input_tokens > tier.start]
    return reached[-1] if reached else price.base
