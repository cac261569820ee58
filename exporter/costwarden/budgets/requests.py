"""What an application sends to the budget service: the requests of `/check`, `/track`, `/lease`, `/release` and `/set`."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

LONGEST = 256
"""Characters of a name."""

Name = Annotated[str, Meta(max_length=LONGEST)]
RequiredName = Annotated[str, Meta(min_length=1, max_length=LONGEST)]

MOST_COUNT = 10_000_000_000
"""Ten billion tokens are beyond any call."""

Count = Annotated[int, Meta(ge=0, le=MOST_COUNT)]

MOST_USD_PER_CALL = 1_000_000
"""A call that costs more is taken for a mistake; nine thousand of the dearest fit the ledger's 64-bit nano-dollars."""


_NEW_ID = re.compile(r"[0-9a-f]{32}")
_NAMED_ID = re.compile(r"event:([0-9]{1,3}):(.+)", re.DOTALL)


def is_reservation_id(text: str) -> bool:
    """Whether a check can have given this id: see `Engine._new_id` and `calls.named_id`."""
    if (named := _NAMED_ID.fullmatch(text)) is None:
        return _NEW_ID.fullmatch(text) is not None
    tenant, rest = int(named[1]), named[2]
    return "\0" not in text and len(rest) > tenant + 1 and rest[tenant] == ":"


def checked_name(what: str, name: str) -> str:
    """`name`, which came from elsewhere than a field of a request. Raises `ValueError`."""
    if len(name) > LONGEST:
        raise ValueError(f"`{what}` has {len(name)} characters; at most {LONGEST} are a name")
    if "\0" in name:
        raise ValueError(f"`{what}` cannot hold the character U+0000")
    return name


def checked_count(what: str, number: int) -> int:
    """`number`, which came from elsewhere than a field of a request. Raises `ValueError`."""
    if not 0 <= number <= MOST_COUNT:
        raise ValueError(f"`{what}` is {number}: it must be from 0 to {MOST_COUNT}")
    return number


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
    """May this call be made? A size that is not known is what 95 % of the calls like it had, or the configured assumption."""

    estimated_input_tokens: Count | None = None
    estimated_output_tokens: Count | None = None
    max_tokens: Count | None = None
    """Another name of `estimated_output_tokens`."""
    estimated_cache_write_tokens: Count = 0
    """Of the input tokens, those that may be written to a cache, which costs more with some providers."""
    estimated_output_audio_tokens: Count = 0
    """Of the output tokens, those that may be spoken, which cost more than text."""
    images: Count = 0
    audio_seconds: Decimal | None = None
    """Length of audio that is sold by time."""
    service_tier: Name = ""
    """`batch`, `flex` or `priority`; empty is the provider's standard."""
    requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    """Calls in the job: sizes are those of one call, and the reservation is a lease that the calls' tracks draw from."""

    def __post_init__(self) -> None:
        _check_names(self)
        _without_nul(self.service_tier)
        _check_audio(self.audio_seconds)
        if self.max_tokens is not None:
            if self.estimated_output_tokens is not None:
                raise ValueError("give `estimated_output_tokens` or `max_tokens`, not both")
            self.estimated_output_tokens, self.max_tokens = self.max_tokens, None


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
    audio_seconds: Decimal | None = None
    """Length of audio that is sold by time."""
    service_tier: Name = ""
    """`batch`, `flex` or `priority`; empty is the provider's standard."""
    success: bool = True
    cost_usd: Decimal | None = None
    """What it cost, where the caller knows better than the price book."""
    response: msgspec.Raw = msgspec.Raw()
    """The provider's answer as it came: provider, model, operation, tier and quantities that are not given are read from it."""

    def __post_init__(self) -> None:
        if not bytes(self.response):
            _check_names(self)
        _without_nul(*self.dimensions, self.event_id, self.service_tier)
        _check_audio(self.audio_seconds)
        if (self.input_tokens and self.prompt_tokens) or (self.output_tokens and self.completion_tokens):
            raise ValueError("give `input_tokens` or `prompt_tokens`, `output_tokens` or `completion_tokens`, not both")
        if self.reservation_id and not is_reservation_id(self.reservation_id):
            # Taken as an event's name, the same wrong text would pass for a repeat at every later call, and nothing more be charged.
            raise ValueError(f"`reservation_id` {self.reservation_id!r} is not one that a check has given")
        if self.cost_usd is not None and not (self.cost_usd.is_finite() and 0 <= self.cost_usd <= MOST_USD_PER_CALL):
            raise ValueError(f"`cost_usd` must be from 0 to {MOST_USD_PER_CALL}")


class LeaseRequest(_Call, kw_only=True, forbid_unknown_fields=True):
    """A slice of budget, to be spent without asking for each call. Where less is left, what is left is granted."""

    amount_usd: Decimal
    seconds: Annotated[int, Meta(ge=1, le=86_400)] = 60
    """Until it expires; what is not given back by then becomes unsettled."""

    def __post_init__(self) -> None:
        _check_names(self)
        _check_amount("amount_usd", self.amount_usd, MOST_USD_PER_CALL)
        if not self.amount_usd:
            raise ValueError("`amount_usd` must be above 0")


class ReleaseRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Nothing more will be spent on a reservation: the call was not made, or the lease is no longer needed."""

    tenant_id: RequiredName
    reservation_id: Annotated[str, Meta(max_length=600)] = ""
    event_id: Name = ""
    """Of the check, instead of `reservation_id`."""

    def __post_init__(self) -> None:
        _without_nul(self.tenant_id, self.reservation_id, self.event_id)
        if bool(self.reservation_id) == bool(self.event_id):
            raise ValueError("give either `reservation_id` or `event_id`")


class ResolveRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an unsettled call has cost, by an operator's word: 0 where it was never made."""

    cost_usd: Decimal
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]

    def __post_init__(self) -> None:
        _check_amount("cost_usd", self.cost_usd, MOST_USD_PER_CALL)


class ReasonRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why: of a reset and of an emergency stop. It is kept in the audit log."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000)]


def _check_amount(name: str, amount: Decimal, most: int) -> None:
    if not (amount.is_finite() and 0 <= amount <= most):
        raise ValueError(f"`{name}` must be from 0 to {most}")
    if amount != round(amount, 9):
        raise ValueError(f"`{name}` is finer than a nano-dollar (9 decimal places)")


def _check_audio(seconds: Decimal | None) -> None:
    if seconds is not None and not (seconds.is_finite() and 0 <= seconds <= 1_000_000):
        raise ValueError("`audio_seconds` must be from 0 to 1000000")


def audio_milliseconds(seconds: Decimal | None) -> int:
    """Whole milliseconds, begun ones counted: as `model.Usage` has them."""
    return 0 if seconds is None else int((seconds * 1000).to_integral_value(ROUND_CEILING))


def _check_names(call: _Call) -> None:
    if not call.model and not call.operation:
        raise ValueError("name the `model`, the `operation`, or both: one of them tells the price")
    _without_nul(*call.dimensions, call.event_id)


def _without_nul(*names: str) -> None:
    # SQLite's JSON functions end a text there: the ledger would take the name for a shorter one.
    if "\0" in "".join(names):
        raise ValueError("a name cannot hold the character U+0000")


class SetRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A budget of a tenant, for `model`, or for all its models together where none is named: `monthly_limit_usd`, or that of a `tier`."""

    tenant_id: RequiredName
    model: Name = ""
    monthly_limit_usd: Decimal | None = None
    tier: Name = ""
    """A tier of the configuration, whose limit the budget follows; `custom` says that `monthly_limit_usd` is its own."""

    def __post_init__(self) -> None:
        _without_nul(self.tenant_id, self.model)
        if (self.monthly_limit_usd is None) == (self.tier in ("", "custom")):
            raise ValueError("give either `monthly_limit_usd` or a `tier`")
        if self.monthly_limit_usd is None:
            return
        if not (self.monthly_limit_usd.is_finite() and 0 <= self.monthly_limit_usd <= 1_000_000_000):
            raise ValueError("`monthly_limit_usd` must be from 0 to 1000000000")
        if self.monthly_limit_usd != round(self.monthly_limit_usd, 9):
            raise ValueError("`monthly_limit_usd` is finer than a nano-dollar (9 decimal places)")


class SuspendRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why a tenant is suspended, and by which remediation run."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000)] = "no reason was given"
    run_id: Name = ""
