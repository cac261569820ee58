"""A price in exact integers: compiled once, applied to an event in about a microsecond, rounded once.

Prices come as decimals of USD per million tokens, per call, per image or per hour of audio. Over their common denominator each of them
is a whole number, so that the sum is exact at any count and only the last step, to whole nano-dollars, rounds (half to even).
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import lcm
from operator import mul
from typing import final

import msgspec

from costwarden.model import EXACT, NANOS_PER_USD, Usage

TOKENS_PER_MTOK = 1_000_000
MILLISECONDS_PER_HOUR = 3_600_000


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What one price list says, in USD per million tokens, per call, per image and per hour of audio; `None` is not priced.

    A part of the input that has no price of its own costs what `input` costs, a part of the output what `output` costs.
    """

    input: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    input_audio: Decimal | None = None
    cached_audio: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    output_audio: Decimal | None = None
    output_image: Decimal | None = None
    call: Decimal | None = None
    image: Decimal | None = None
    audio_hour: Decimal | None = None
    least_audio_milliseconds: int = 0
    """A call with audio is billed for at least this much."""

    def by_part(self) -> tuple[Fraction, ...]:
        """Nano-dollars of one unit of each part, in the order of `Parts.counts`."""
        cache_read = _first(self.cache_read, self.input)
        cache_write = _first(self.cache_write, self.input)
        input_audio = _first(self.input_audio, self.input)
        # Without a price of its own, cached audio costs what audio costs; where audio has none either, what the cache costs.
        cached_audio = _first(self.cached_audio, self.input_audio, cache_read)
        tokens = (
            _first(self.input),
            cache_read,
            cache_write,
            _first(self.cache_write_1h, cache_write),
            input_audio,
            cached_audio,
            _first(self.output),
            _first(self.reasoning, self.output),
            _first(self.output_audio, self.output),
            _first(self.output_image, self.output),
        )
        pieces = (_first(self.call), _first(self.image))
        return (
            *(Fraction(usd) * NANOS_PER_USD / TOKENS_PER_MTOK for usd in tokens),
            *(Fraction(usd) * NANOS_PER_USD for usd in pieces),
            Fraction(_first(self.audio_hour)) * NANOS_PER_USD / MILLISECONDS_PER_HOUR,
        )

    def times(self, factor: Decimal, *, cache: bool) -> "Rates":
        """These prices by `factor`: of tokens, images and audio, and of the cache where `cache` says so; the price of a call stays."""
        changed = {name: EXACT.multiply(price, factor) for name in _TIMES if (price := getattr(self, name)) is not None}
        kept = () if cache else _CACHE
        return msgspec.structs.replace(self, **{name: price for name, price in changed.items() if name not in kept})


_CACHE = ("cache_read", "cache_write", "cache_write_1h", "cached_audio")
_TIMES = (*_CACHE, "input", "input_audio", "output", "reasoning", "output_audio", "output_image", "image", "audio_hour")


def _first(*prices: Decimal | None) -> Decimal:
    return next((price for price in prices if price is not None), Decimal(0))


class Parts(msgspec.Struct, frozen=True, gc=False):
    """A usage taken apart so that no token is in two counts."""

    whole_input: int
    whole_output: int
    images: int
    audio_milliseconds: int
    requests: int
    counts: tuple[int, ...]


def take_apart(usage: Usage) -> Parts:
    """The disjoint parts of `usage`. Raises `ValueError` for a negative count.

    `input_tokens` includes the cached and the audio ones, `cache_write_tokens` the ones kept for an hour, `output_tokens` the reasoning
    and the audio ones. A whole that is smaller than its parts is taken for a whole that left them out and raised to their sum. How much
    of the audio was cached is not told: it is the least that the counts allow. Where images were made, the output that is neither
    reasoning nor audio is taken for the images.
    """
    cache_read = usage.cache_read_tokens
    cache_write_1h = usage.cache_write_1h_tokens
    audio_in = usage.input_audio_tokens
    reasoning = usage.reasoning_tokens
    audio_out = usage.output_audio_tokens
    images = usage.images
    low = min(
        usage.input_tokens,
        usage.output_tokens,
        cache_read,
        usage.cache_write_tokens,
        cache_write_1h,
        audio_in,
        reasoning,
        audio_out,
        images,
        usage.audio_milliseconds,
        usage.requests,
    )
    if low < 0:
        raise ValueError(f"a usage counts {low} of something: token and image counts are at least 0")
    cache_write = max(usage.cache_write_tokens, cache_write_1h)
    cached = cache_read + cache_write
    whole_input = max(usage.input_tokens, cached, audio_in)
    cached_audio = 0
    if cached + audio_in > whole_input:
        cached_audio = min(cached + audio_in - whole_input, cache_read, audio_in)
        whole_input = max(whole_input, cached + audio_in - cached_audio)
    whole_output = max(usage.output_tokens, reasoning + audio_out)
    plain_output = whole_output - reasoning - audio_out
    return Parts(
        whole_input,
        whole_output,
        images,
        usage.audio_milliseconds,
        usage.requests,
        (
            whole_input - cached - audio_in + cached_audio,
            cache_read - cached_audio,
            cache_write - cache_write_1h,
            cache_write_1h,
            audio_in - cached_audio,
            cached_audio,
            0 if images else plain_output,
            reasoning,
            audio_out,
            plain_output if images else 0,
            usage.requests,
            images,
            usage.audio_milliseconds,
        ),
    )


_IMAGE = -2
_AUDIO = -1


@final
class CompiledPrice:
    """One price list, with the steps that it climbs as the input grows.

    `steps` are (threshold, rates) in rising order, the first threshold -1: the last step whose threshold the input exceeds
    prices *all* tokens of the call, as the providers bill long contexts; of figures that stand for several calls, the input of the
    average one. Where images alone have a price, a call that tells no count, or failed, is one image.
    """

    __slots__ = (
        "_by_image",
        "_denominator",
        "_least_audio",
        "_prices_audio",
        "_prices_call",
        "_prices_image",
        "_prices_input",
        "_prices_output",
        "_steps",
    )

    def __init__(self, steps: Sequence[tuple[int, Rates]]) -> None:
        fractions = [(threshold, rates.by_part()) for threshold, rates in steps]
        self._denominator = lcm(*(rate.denominator for _, parts in fractions for rate in parts))
        self._steps = [(threshold, tuple(int(rate * self._denominator) for rate in parts)) for threshold, parts in fractions]
        _, base = steps[0]
        self._prices_input = base.input is not None
        self._prices_output = base.output is not None
        self._prices_call = base.call is not None
        self._prices_image = base.image is not None
        self._prices_audio = base.audio_hour is not None
        self._least_audio = base.least_audio_milliseconds
        tokens_or_calls = self._prices_input or self._prices_output or self._prices_call
        self._by_image = self._prices_image and not (tokens_or_calls or self._prices_audio)

    def cost(self, parts: Parts) -> int | None:
        """Nano-dollars of `parts`, rounded half to even; `None` where none of what was used has a price here."""
        if not self._covers(parts):
            return None
        rates = self._steps[0][1]
        for threshold, higher in self._steps[1:]:
            if parts.whole_input <= threshold * parts.requests:
                break
            rates = higher
        total: int = sum(map(mul, parts.counts, rates))
        if self._by_image and not parts.images:
            total = rates[_IMAGE] * parts.requests
        if self._least_audio and parts.audio_milliseconds:
            total += max(0, self._least_audio * parts.requests - parts.audio_milliseconds) * rates[_AUDIO]
        nanos, rest = divmod(total, self._denominator)
        if 2 * rest > self._denominator or (2 * rest == self._denominator and nanos & 1):
            nanos += 1
        return nanos

    def _covers(self, parts: Parts) -> bool:
        if self._prices_call or self._by_image:
            return True
        if not (parts.whole_input or parts.whole_output or parts.images or parts.audio_milliseconds):
            return self._prices_input or self._prices_output
        return bool(
            (self._prices_input and parts.whole_input)
            or (self._prices_output and parts.whole_output)
            or (self._prices_image and parts.images)
            or (self._prices_audio and parts.audio_milliseconds)
        )
