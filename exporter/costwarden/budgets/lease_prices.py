"""By which prices the holder of a lease estimates its calls: the dearest that they may be billed at."""

from decimal import Decimal
from typing import Any

import msgspec

from costwarden.budgets.requests import LeaseRequest
from costwarden.model import from_nanos
from costwarden.pricing.price_book import PriceBook, UnknownPrice

_MILLION = 1_000_000

_KINDS_OF_INPUT = ("cache_write_tokens", "cache_write_1h_tokens", "input_audio_tokens")
_KINDS_OF_OUTPUT = ("reasoning_tokens", "output_audio_tokens")


class LeasePrices(msgspec.Struct, frozen=True):
    """What a lease's holder must take a call for, at most: dollars a million tokens, a call, an image.

    Of tokens the dearest kind (cache writes, audio and reasoning have prices of their own) in the dearest context tier.
    """

    input_usd_mtok: Decimal
    output_usd_mtok: Decimal | None
    """None where output has no price, as with embeddings: a call for some has to be checked."""
    usd_per_call: Decimal
    usd_per_image: Decimal | None
    """As `output_usd_mtok`."""


def lease_prices(prices: PriceBook, request: LeaseRequest, at: int) -> LeasePrices | None:
    """The prices in force at the time `at`, in microseconds since 1970 UTC; None where nobody knows what the calls cost."""

    def price(**sizes: int) -> int | None:
        quantities: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "images": 0, **sizes}
        try:
            return prices.estimate(provider=request.provider, model=request.model, operation=request.operation, at=at, **quantities).cost
        except UnknownPrice:
            return None

    per_call = price()
    # Cached, spoken or thought, whichever is the dearest: the holder does not know beforehand what its calls will be billed as.
    plain = price(input_tokens=_MILLION)
    per_input = _dearest(plain, *(price(input_tokens=_MILLION, **{kind: _MILLION}) for kind in _KINDS_OF_INPUT))
    # With as large a prompt: the answer to a long one has a higher price with some providers.
    whole = {"input_tokens": _MILLION, "output_tokens": _MILLION}
    both = _dearest(price(**whole), *(price(**whole, **{kind: _MILLION}) for kind in _KINDS_OF_OUTPUT))
    per_image = price(images=1)
    if per_input is None and both is None and per_image is None:
        return None
    call = per_call or 0
    return LeasePrices(
        from_nanos(max(0, (per_input or 0) - call)),
        None if both is None else from_nanos(max(0, both - max(plain or 0, call))),
        from_nanos(call),
        None if per_image is None else from_nanos(max(0, per_image - call)),
    )


def _dearest(*costs: int | None) -> int | None:
    return max((cost for cost in costs if cost is not None), default=None)
