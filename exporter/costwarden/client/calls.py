"""What is asked before a call and told after it, in the budget service's words."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.metering.consumed import Consumed
from costwarden.model import from_micros


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

    def check_request(self, event_id: str) -> dict[str, Any]:
        """The body of `POST /api/ai-budget/check`."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return {**fields, "event_id": event_id}


_SIZES = {"estimated_input_tokens", "estimated_output_tokens", "images", "audio_seconds", "service_tier"}

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
