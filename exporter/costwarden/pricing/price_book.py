"""What a usage costs, and what a call would cost: the one place that decides which price holds."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from costwarden.model import CORRECTION, Priced, Usage, to_micros
from costwarden.pricing.operations import operation_price
from costwarden.pricing.published import Listed, PublishedPrices
from costwarden.pricing.rates import CompiledPrice, Parts, Rates, take_apart
from costwarden.pricing.settings import PriceOverride, PricingSettings

PUBLISHED = "genai-prices"
OPERATION = "operation"
FALLBACK = "fallback"
UNPRICED = "unpriced"
"""`priced_by` of usage whose price nobody knows; with `FALLBACK`, what callers count and alert on."""

ALWAYS = -(2**63)  # before any time that a usage can carry

# Names come from callers: past this many combinations the least used are looked up again.
REMEMBERED_NAMES = 4096


class UnknownPrice(LookupError):
    """Nobody knows what the call costs, and the configuration says to refuse such calls."""

    def __init__(self, provider: str, model: str, operation: str, service_tier: str = "") -> None:
        tier = f", service tier {service_tier!r}" if service_tier else ""
        named = "" if provider else "name the `provider`, whose price list may have it, "
        super().__init__(
            f"no price is known for provider {provider!r}, model {model!r}, operation {operation!r}{tier}: "
            f"{named}add one to `pricing.overrides`, or set `pricing.unknown_price` to `fallback` or `zero`"
        )
        self.provider = provider
        self.model = model
        self.operation = operation
        self.service_tier = service_tier


class Alternative(msgspec.Struct, frozen=True):
    """A configured model that does the same call for less. `cost` is the estimate, in nano-dollars."""

    provider: str
    model: str
    cost: int


class _Offer(NamedTuple):
    since: int
    priced_by: str
    price: CompiledPrice


class _Offers(NamedTuple):
    """What there is for one combination of names: our own prices, first to last, then the provider's."""

    own: tuple[_Offer, ...]
    published: Listed | None


class _List:
    """A published list with what was looked up in it: one reference, so that a newer list replaces both at once."""

    def __init__(self, published: PublishedPrices, overrides: Sequence[tuple[tuple[str, ...], _Offer]]) -> None:
        self.published = published
        self._overrides = overrides
        self.offers = lru_cache(maxsize=REMEMBERED_NAMES)(self._look_up)

    def _look_up(self, provider: str, model: str, operation: str, service_tier: str) -> _Offers:
        names = provider.lower(), model.lower(), operation.lower(), service_tier.lower()
        own = [offer for selectors, offer in self._overrides if all(map(fnmatchcase, names, selectors))]
        if not service_tier and (price := operation_price(provider, operation)) is not None:
            own.append(_Offer(ALWAYS, OPERATION, price))
        return _Offers(tuple(own), self.published.look_up(provider, model))


class PriceBook:
    """Prices usage by the configured overrides, the operation table, and the published list, in this order.

    A price that covers nothing of what was used is passed over; the first that covers something holds. Where none does, the
    configured decision about unknown prices is taken, and `Priced.priced_by` says so. Thread-safe; making one loads genai-prices (0.4 s).
    """

    def __init__(self, settings: PricingSettings, published: PublishedPrices | None = None) -> None:
        self._settings = settings
        self._overrides = [
            (override.selectors, _compile(override))
            for _, override in sorted(enumerate(settings.overrides), key=lambda item: _precedence(*item), reverse=True)
        ]
        fallback = Rates(
            call=settings.fallback_usd_per_call, input=settings.fallback_input_usd_mtok, output=settings.fallback_output_usd_mtok
        )
        self._fallback = CompiledPrice([(-1, fallback)])
        self._list = _List(published or PublishedPrices(), self._overrides)

    @property
    def published_at(self) -> int:
        """When the published list was known to be the newest, in microseconds since 1970 UTC; 0 where that is unknown."""
        return self._list.published.published_at

    @property
    def model_count(self) -> int:
        """Models in the published list."""
        return self._list.published.model_count

    def replace_published(self, published: PublishedPrices) -> None:
        """Put a newer list in force, at once and for every thread; prices that are being computed keep to the old one."""
        self._list = _List(published, self._overrides)

    def price(self, usage: Usage) -> Priced:
        """What `usage` costs at the prices of its own time.

        The call has been made, so that an unknown price refuses nothing: it costs 0 and is marked `unpriced`, or costs the fallback.
        A correction, which stands for nothing that was used, keeps the cost that it has. Raises `ValueError` for a negative count.
        """
        if usage.source == CORRECTION:
            return Priced(usage.cost, usage.priced_by)
        parts = take_apart(usage)
        known = self._known(usage.provider, usage.model, usage.operation, usage.service_tier, usage.timestamp, parts)
        return known or self._unknown(parts)

    def estimate(
        self,
        *,
        provider: str,
        model: str,
        operation: str,
        input_tokens: int,
        output_tokens: int,
        images: int,
        at: int,
        service_tier: str = "",
        audio_milliseconds: int = 0,
        requests: int = 1,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        input_audio_tokens: int = 0,
        reasoning_tokens: int = 0,
        output_audio_tokens: int = 0,
    ) -> Priced:
        """What `requests` calls, each of this size, would cost at the time `at`, in microseconds since 1970 UTC.

        Of the input and the output so much is taken for cached, audio and reasoning as is said. Raises `UnknownPrice` where nobody knows
        and the configuration says `deny`, `ValueError` for a negative count.
        """
        parts = _parts(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            images=images,
            audio_milliseconds=audio_milliseconds,
            cache_write_tokens=cache_write_tokens,
            cache_write_1h_tokens=cache_write_1h_tokens,
            input_audio_tokens=input_audio_tokens,
            reasoning_tokens=reasoning_tokens,
            output_audio_tokens=output_audio_tokens,
        )
        priced = self._known(provider, model, operation, service_tier, at, parts)
        if priced is None:
            if self._settings.unknown_price == "deny":
                raise UnknownPrice(provider, model, operation, service_tier)
            priced = self._unknown(parts)
        return Priced(priced.cost * requests, priced.priced_by)

    def cheaper(
        self,
        *,
        provider: str,
        model: str,
        operation: str,
        input_tokens: int,
        output_tokens: int,
        images: int,
        at: int,
        available: int,
        service_tier: str = "",
        audio_milliseconds: int = 0,
        requests: int = 1,
    ) -> Alternative | None:
        """The cheapest of the configured `cheaper_models` for these calls that costs at most `available` nano-dollars.

        It must be known by price in the same service tier, cost less than the model asked for, and hold the tokens in its context window
        where that is known. `None` where there is no such model. Raises `ValueError` for a negative count.
        """
        parts = _parts(input_tokens=input_tokens, output_tokens=output_tokens, images=images, audio_milliseconds=audio_milliseconds)
        asked = self._known(provider, model, operation, service_tier, at, parts)
        best: Alternative | None = None
        for choice in self._settings.cheaper_models:
            priced = self._known(choice.provider, choice.model, operation, service_tier, at, parts)
            if priced is None or priced.cost * requests > available or (asked is not None and priced.cost >= asked.cost):
                continue
            if (best is None or priced.cost * requests < best.cost) and self._fits(choice.provider, choice.model, parts):
                best = Alternative(choice.provider, choice.model, priced.cost * requests)
        return best

    def _known(self, provider: str, model: str, operation: str, service_tier: str, at: int, parts: Parts) -> Priced | None:
        listing = self._list
        offers = listing.offers(provider, model, operation, service_tier)
        for offer in offers.own:
            if offer.since <= at and (cost := offer.price.cost(parts)) is not None:
                return Priced(cost, offer.priced_by)
        if offers.published is not None:
            price = listing.published.tier_price(offers.published, service_tier, at)
            if price is not None and (cost := price.cost(parts)) is not None:
                return Priced(cost, PUBLISHED)
        return None

    def _unknown(self, parts: Parts) -> Priced:
        if self._settings.unknown_price == "fallback":
            return Priced(self._fallback.cost(parts) or 0, FALLBACK)
        return Priced(0, UNPRICED)

    def _fits(self, provider: str, model: str, parts: Parts) -> bool:
        published = self._list.published.find(provider, model)
        window = published.context_window if published is not None else None
        return window is None or parts.whole_input + parts.whole_output <= window


def _parts(**quantities: Any) -> Parts:
    return take_apart(Usage(source="", event_id="", timestamp=0, **quantities))


def _precedence(position: int, override: PriceOverride) -> tuple[int, date, int]:
    exact = sum(not set("*?[") & set(selector) for selector in override.selectors)
    return exact, override.valid_from, position


def _compile(override: PriceOverride) -> _Offer:
    rates = Rates(
        input=override.input_usd_mtok,
        cache_read=override.cache_read_usd_mtok,
        cache_write=override.cache_write_usd_mtok,
        cache_write_1h=override.cache_write_1h_usd_mtok,
        input_audio=override.input_audio_usd_mtok,
        output=override.output_usd_mtok,
        reasoning=override.reasoning_usd_mtok,
        output_audio=override.output_audio_usd_mtok,
        call=override.usd_per_call,
        image=override.usd_per_image,
        audio_hour=None if override.usd_per_audio_minute is None else 60 * override.usd_per_audio_minute,
    )
    since = datetime.combine(override.valid_from, time(), UTC)
    return _Offer(to_micros(since), f"override:{override.valid_from}", CompiledPrice([(-1, rates)]))
