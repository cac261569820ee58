"""What is asked before a call and told after it, in the budget service's words."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.metering.consumed import Consumed
from costwarden.model import DIMENSIONS, from_micros


class Call(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A call that is about to be made: whom it is for, what it calls, and how large it may become.

    Sizes that are `None` are not known here; the service takes what calls like it have been so far.
    """

    tenant_id: str
    provider: str = ""
    model: str = ""
    operation: str = ""
    report_type: str = ""
    feature: str = ""
    team: str = ""
    user_id: str = ""
    service: str = ""
    service_tier: str = ""
    estimated_input_tokens: int | None = None
    estimated_output_tokens: int | None = None
    images: int = 0
    audio_seconds: Decimal | None = None
    speaks: bool = False
    """The answer may hold sound, whose tokens cost more than those of text."""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """In the order of `model.DIMENSIONS`."""
        return (
            self.tenant_id,
            self.provider,
            self.model,
            self.operation,
            self.report_type,
            self.feature,
            self.team,
            self.user_id,
            self.service,
        )

    @property
    def named(self) -> dict[str, str]:
        """The dimensions that are set, by name."""
        fields = msgspec.to_builtins(self)
        return {name: fields[name] for name in fields if name not in _SIZES}

    def check_names(self) -> None:
        """Raises `ValueError` for a name that the service refuses: it would refuse to hear of the call, too."""
        for dimension, name in zip((*DIMENSIONS, "service_tier"), (*self.dimensions, self.service_tier), strict=True):
            if len(name) > LONGEST_NAME:
                raise ValueError(f"`{dimension}` has {len(name)} characters, at most {LONGEST_NAME} are a name: {name[:50]!r}…")
            if "\0" in name:
                raise ValueError(f"`{dimension}` is {name!r}: a name has no NUL")

    def check_request(self, event_id: str) -> dict[str, Any]:
        """The body of `POST /api/ai-budget/check`."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        if fields.pop("speaks", False) and self.estimated_output_tokens:
            fields["estimated_output_audio_tokens"] = self.estimated_output_tokens  # all of it may be sound
        return {**fields, "event_id": event_id}

    @property
    def assumed(self) -> Consumed:
        """What the call is taken to have used where nobody could be asked for an estimate, and the answer does not tell either."""
        output_tokens = self.estimated_output_tokens
        if output_tokens is None:
            # Images and sound that is transcribed have a price of their own, and may have none of tokens.
            output_tokens = 0 if self.images or self.audio_seconds is not None else ASSUMED_OUTPUT_TOKENS
        return Consumed(
            input_tokens=self.estimated_input_tokens or 0,
            output_tokens=output_tokens,
            images=self.images,
            audio_milliseconds=int(((self.audio_seconds or 0) * 1000).__ceil__()),
            service_tier=self.service_tier,
        )


ASSUMED_OUTPUT_TOKENS = 1_000
"""Of a call without a limit that nobody could be asked about: what `budgets.assumed_output_tokens` of the service is by default."""
MOST_TOKENS = 10_000_000_000
"""No size that the service takes is larger; beyond any call."""
LONGEST_NAME = 256
"""Characters of a dimension, as the service takes them."""

_SIZES = {"estimated_input_tokens", "estimated_output_tokens", "images", "audio_seconds", "service_tier", "speaks"}

_TRACKED = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "images",
)


def track_request(
    call: Call,
    event_id: str,
    reservation_id: str,
    *,
    used: Consumed | None,
    success: bool,
    cost_usd: Decimal | None,
    at: int,
) -> dict[str, Any]:
    """The body of `POST /api/ai-budget/track`. `at`, microseconds since 1970 UTC, tells the time of a call that had no reservation."""
    body: dict[str, Any] = {**call.named, "event_id": event_id}
    if reservation_id:
        body["reservation_id"] = reservation_id
    else:
        body["timestamp"] = from_micros(at).isoformat().replace("+00:00", "Z")
    tier = call.service_tier
    if used is not None:
        body.update({name: value for name in _TRACKED if (value := getattr(used, name))})
        if used.audio_milliseconds:
            body["audio_seconds"] = str(Decimal(used.audio_milliseconds) / 1000)
        tier = used.service_tier
    if tier:
        body["service_tier"] = tier
    if not success:
        body["success"] = False
    if cost_usd is not None:
        body["cost_usd"] = str(cost_usd)
    return body


class Granted(msgspec.Struct, kw_only=True):
    """A 200 of `check` or `lease`."""

    reservation_id: str
    estimated_cost_usd: Decimal = Decimal(0)
    """Of a check."""
    granted_usd: Decimal = Decimal(0)
    """Of a lease."""
    warning: bool = False
    prices: Mapping[str, Decimal | None] | None = None
    """Of a lease: the most that a call costs, in dollars a million tokens, a call and an image."""
    assumed_input_tokens: int | None = None
    assumed_output_tokens: int | None = None
    """Of a lease: what a call is taken for that does not say how large it is."""


granted_decoder = msgspec.json.Decoder(Granted)
