"""The providers' published prices, by genai-prices: its data and its rules for names and dates, compiled for speed.

Nothing here goes to the network: the library only does so where its `UpdatePrices` is started, and its prices are as old as the release
that is installed. The library computes some 10,000 prices a second; a test holds the compiled ones against it, model by model.
"""

from decimal import Decimal
from typing import TYPE_CHECKING

from costwarden.model import from_micros
from costwarden.pricing.rates import CompiledPrice, Rates

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice


class PublishedPrices:
    """The bundled price list. Loading takes about 0.4 s and 30 MB, so it is done when the object is made, not at import. Thread-safe."""

    def __init__(self) -> None:
        from genai_prices.data_snapshot import get_snapshot

        self._providers = get_snapshot().providers
        # By identity: price lists are mutable and unhashable, and live as long as the snapshot does.
        self._compiled: dict[int, CompiledPrice | None] = {}

    def find(self, provider: str, model: str) -> "ModelInfo | None":
        """The model that genai-prices knows under these names; the empty provider is inferred from the model's name."""
        from genai_prices.data_snapshot import DataSnapshot

        if not model:
            return None
        # A snapshot remembers every name it was ever asked for, misses too; names come from callers, so each search gets a fresh one.
        snapshot = DataSnapshot(self._providers, from_auto_update=False)
        try:
            return snapshot.find_provider_model(model, None, provider or None, None)[1]
        except LookupError:
            return None

    def price(self, model: "ModelInfo", at: int) -> CompiledPrice | None:
        """The price of `model` at the time `at` (microseconds since 1970 UTC).

        `None` where the library prices nothing that a usage counts: audio by the hour, pages, characters, or nothing at all.
        """
        listed = model.get_prices(from_micros(at)) if isinstance(model.prices, list) else model.prices
        try:
            return self._compiled[id(listed)]
        except KeyError:
            return self._compiled.setdefault(id(listed), _compile(listed, model.id))


def _compile(listed: "ModelPrice", model_id: str) -> CompiledPrice | None:
    from genai_prices.types import TieredPrices

    if not any(_at(listed, key, 0) is not None for key in ("input_mtok", "output_mtok", "requests_kcount")):
        # The library's empty list is a zero that nobody stated; only the name of a `:free` model states it.
        return CompiledPrice([(-1, Rates(input=Decimal(0), output=Decimal(0)))]) if model_id.endswith(":free") else None
    tiers = {tier.start for price in vars(listed).values() if isinstance(price, TieredPrices) for tier in price.tiers}
    return CompiledPrice([(start, _rates(listed, model_id, start + 1)) for start in sorted({-1, *tiers})])


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
