"""What an application sends to the budget service: the requests of `/check`, `/track` and `/set`."""

import re
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(max_length=256)]
RequiredName = Annotated[str, Meta(min_length=1, max_length=256)]
# Ten billion tokens are beyond any call.
Count = Annotated[int, Meta(ge=0, le=10_000_000_000)]

MOST_USD_PER_CALL = 1_000_000
"""A call that costs more is taken for a mistake; nine thousand of the dearest fit the ledger's 64-bit nano-dollars."""


_RESERVATION_ID = re.compile(r"[0-9a-f]{32}|event:.+", re.DOTALL)
"""See `calls.named_id` and `Engine._new_id`."""


class _Call(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What both requests name: the dimensions, and the event that they belong to."""

    tenant_id: RequiredName
    model: Name = ""
    provider: Name = ""
    operation: Name = ""
    report_type: Name = ""
    feature: Name = ""
    team: Name = ""
    user_id: Name = ""
    service: Name = ""
    event_id: Name = ""
    """Id of this call, unique for the tenant; makes the request idempotent."""

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


class CheckRequest(_Call, kw_only=True, forbid_unknown_fields=True):
    """May this call be made? Sizes that are not known take the configured assumption."""

    estimated_input_tokens: Count | None = None
    estimated_output_tokens: Count | None = None
    images: Count = 0

    def __post_init__(self) -> None:
        _check_names(self)


class TrackRequest(_Call, kw_only=True, forbid_unknown_fields=True):
    """What a call really used. `prompt_tokens` and `completion_tokens` are other names of input and output tokens."""

    reservation_id: Annotated[str, Meta(max_length=600)] = ""
    """Of the check that admitted the call."""
    timestamp: str = ""
    """RFC 3339 with a zone; default is the time of the check, or now."""
    input_tokens: Count = 0
    """All input tokens, cached ones included."""
    output_tokens: Count = 0
    """All output tokens, reasoning included."""
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    cache_write_1h_tokens: Count = 0
    reasoning_tokens: Count = 0
    input_audio_tokens: Count = 0
    output_audio_tokens: Count = 0
    images: Count = 0
    success: bool = True
    cost_usd: Decimal | None = None
    """What it cost, where the caller knows better than the price book."""

    def __post_init__(self) -> None:
        _check_names(self)
        if (self.input_tokens and self.prompt_tokens) or (self.output_tokens and self.completion_tokens):
            raise ValueError("give `input_tokens` or `prompt_tokens`, `output_tokens` or `completion_tokens`, not both")
        if self.reservation_id and not _RESERVATION_ID.fullmatch(self.reservation_id):
            # Taken as an event's name, the same wrong text would pass for a repeat at every later call, and nothing more be charged.
            raise ValueError(f"`reservation_id` {self.reservation_id!r} is not one that a check has given")
        if self.cost_usd is not None and not (self.cost_usd.is_finite() and 0 <= self.cost_usd <= MOST_USD_PER_CALL):
            raise ValueError(f"`cost_usd` must be from 0 to {MOST_USD_PER_CALL}")


def _check_names(call: _Call) -> None:
    if not call.model and not call.operation:
        raise ValueError("name the `model`, the `operation`, or both: one of them tells the price")
    _without_nul(*call.dimensions, call.event_id)


def _without_nul(*names: str) -> None:
    # SQLite's JSON functions end a text there: the ledger would take the name for a shorter one.
    if "\0" in "".join(names):
        raise ValueError("a name cannot hold the character U+0000")


class SetRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A budget of a tenant: `monthly_limit_usd` for `model`, or for all its models together where none is named."""

    tenant_id: RequiredName
    model: Name = ""
    monthly_limit_usd: Decimal

    def __post_init__(self) -> None:
        _without_nul(self.tenant_id, self.model)
        if not (self.monthly_limit_usd.is_finite() and 0 <= self.monthly_limit_usd <= 1_000_000_000):
            raise ValueError("`monthly_limit_usd` must be from 0 to 1000000000")
        if self.monthly_limit_usd != round(self.monthly_limit_usd, 9):
            raise ValueError("`monthly_limit_usd` is finer than a nano-dollar (9 decimal places)")


class SuspendRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why a tenant is suspended, and by which remediation run."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000)] = "no reason was given"
    run_id: Name = ""
