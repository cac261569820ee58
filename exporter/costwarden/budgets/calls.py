"""What the engine is asked, and what it answers."""

import msgspec

from costwarden.budgets.rules import Budget, Dimensions
from costwarden.model import Usage


def named_id(tenant_id: str, event_id: str) -> str:
    """The reservation id of a check that named its event: a repeat finds the same one.

    The length keeps tenant `a` with event `b:c` apart from tenant `a:b` with event `c`.
    """
    return f"event:{len(tenant_id)}:{tenant_id}:{event_id}"


class Reserve(msgspec.Struct, frozen=True):
    """A wish to spend: `estimate` nano-dollars at `at` microseconds. `event_id` makes it idempotent; empty makes it anonymous."""

    dimensions: Dimensions
    estimate: int
    at: int
    event_id: str
    kind: str = "call"
    """`call`, which is settled once, or `lease`, from which many calls are settled until it is given back."""
    seconds: int = 0
    """Until it expires; 0 takes the configured time."""
    at_least: int | None = None
    """Be content with as little as this where a budget has less than `estimate` left; None wants all."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `Reserve`. Amounts are nano-dollars, times microseconds."""

    allowed: bool
    reason: str = ""
    """Why not: `budget_exceeded`, `no_budget`, `tenant_suspended`, `emergency_stop`, or `event_id_conflict`: the event is recorded, or is
    another call."""
    reservation_id: str = ""
    estimate: int = 0
    expires_at: int = 0
    warning: bool = False
    """A matching budget has committed its soft limit or more."""
    remaining: int | None = None
    """What the tightest matching budget has left after this reservation; None where no budget matches."""
    budget: Budget | None = None
    """The budget that denied; of several, the one that resets last."""
    spent: int = 0
    reserved: int = 0
    unsettled: int = 0
    resets_at: int = 0


class Settle(msgspec.Struct, frozen=True):
    """The real cost of a call; `usage.timestamp` is 0 where the caller gave none.

    A caller that names neither a reservation nor an event settles the oldest anonymous reservation of its tenant and model.
    """

    usage: Usage
    reservation_id: str
    at: int


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `Settle`: the nano-dollars recorded, and whether this event had been recorded before."""

    event_id: str
    cost: int
    repeated: bool
    reservation_id: str = ""
    """The reservation that this settled; empty where it settled none."""
    refused: str = ""
    """Why nothing was recorded: `overflow` (a sum would pass what 64 bits hold) or `event_id_needed` (a call of a lease without one)."""


class Release(msgspec.Struct, frozen=True):
    """The end of a reservation for which nothing more will be spent."""

    tenant_id: str
    reservation_id: str


class Released(msgspec.Struct, frozen=True):
    """The answer to `Release`: the nano-dollars that are free again."""

    reservation_id: str
    released: int
    found: bool
    """False where there is no such reservation: it was settled, released or resolved before."""


class Resolve(msgspec.Struct, frozen=True):
    """An operator's word on a reservation: what the call has cost, in nano-dollars; 0 where it was never made."""

    reservation_id: str
    cost: int
    reason: str
    actor: str
    at: int


class Reset(msgspec.Struct, frozen=True):
    """Begin the period of a budget that holds `at` anew."""

    budget: str
    reason: str
    actor: str
    at: int
