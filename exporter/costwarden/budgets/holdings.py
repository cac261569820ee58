"""Periods, and the money that is set aside in them: what both books are made of."""

from collections.abc import Iterable, Sequence
from typing import Any

from costwarden.budgets.calls import Decision, Resolve
from costwarden.budgets.index import TENANT
from costwarden.budgets.rules import Budget, Dimensions, share, thresholds_reached
from costwarden.model import CORRECTION, DIMENSIONS, Usage

NEVER = 1 << 62

MOST_NANOS = 1 << 62
"""Four and a half billion dollars: past it, SQLite's integers would soon become floating point. Tokens are held to the same number."""


class Period:
    """One period of one budget. Amounts are nano-dollars; `start` and `end` microseconds."""

    __slots__ = (
        "budget",
        "crossed",
        "end",
        "input_tokens",
        "next_threshold",
        "output_tokens",
        "requests",
        "reserved",
        "reset_at",
        "soft_limit",
        "spent",
        "start",
        "unsettled",
    )

    def __init__(self, budget: Budget, start: int, end: int, row: Sequence[Any] | None, crossed: Iterable[str]) -> None:
        self.budget = budget
        self.start = start
        self.end = end
        figures: Sequence[int] = (0,) * 6 if row is None else row[2:8]
        self.spent, self.input_tokens, self.output_tokens, self.requests, self.reserved, self.unsettled = figures
        self.reset_at: int = 0 if row is None else row[9]
        """From when on what is spent counts, where an operator has begun the period anew; else 0."""
        self.crossed = set(crossed)
        self.soft_limit = 0
        self.next_threshold = 0
        self.aim()

    def aim(self) -> None:
        """Set `soft_limit`, and `next_threshold` to the lowest amount at which a threshold is crossed that was not before."""
        self.soft_limit = self.budget.soft_limit
        waiting = [share(self.budget.limit, ratio) for ratio in self.budget.thresholds if str(ratio) not in self.crossed]
        self.next_threshold = min(waiting, default=NEVER)

    @property
    def committed(self) -> int:
        """What is spent or may still be: settled, reserved and unsettled."""
        return self.spent + self.reserved + self.unsettled

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be spent, however little."""
        return self.committed >= self.budget.limit

    def refuse(self, estimate: int) -> Decision:
        """The answer to a wish that does not fit."""
        return Decision(
            allowed=False,
            reason="budget_exceeded",
            budget=self.budget,
            estimate=estimate,
            spent=self.spent,
            reserved=self.reserved,
            unsettled=self.unsettled,
            resets_at=self.end,
            warning=True,
        )

    def counts(self, usage: Usage) -> bool:
        """Whether the event belongs to what is spent: a correction does not whose event a reset has taken out, or it would be credit."""
        return usage.source != CORRECTION or usage.timestamp >= self.reset_at

    def would_overflow(self, usage: Usage) -> bool:
        """Whether a sum would pass what the ledger's 64 bits hold."""
        sums = (self.spent + usage.cost, self.input_tokens + usage.input_tokens, self.output_tokens + usage.output_tokens)
        return max(sums) > MOST_NANOS

    def add(self, usage: Usage) -> None:
        """Count an event."""
        self.spent += usage.cost
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.requests += usage.requests

    def cross(self, at: int) -> list[tuple[Any, ...]]:
        """The thresholds that are reached and were not before, as `ledger.budgets.write_crossed` takes them."""
        rows = []
        for ratio in map(str, thresholds_reached(self.budget, self.spent)):
            if ratio not in self.crossed:
                self.crossed.add(ratio)
                rows.append((self.budget.budget, self.start, ratio, at, self.spent, self.budget.limit))
        self.aim()
        return rows

    def reset(self, at: int) -> None:
        """Begin anew at nothing spent; what is set aside stays set aside."""
        self.reset_at = at
        self.spent = self.input_tokens = self.output_tokens = self.requests = 0
        self.crossed.clear()
        self.aim()

    def row(self) -> tuple[str | int, ...]:
        """As `ledger.budgets.write_periods` takes it."""
        figures = (self.spent, self.input_tokens, self.output_tokens, self.requests, self.reserved, self.unsettled)
        return (self.budget.budget, self.start, *figures, self.end, self.reset_at)


class Reservation:
    """Money set aside for what has not answered yet, and the periods that it is set aside in.

    A `call` is settled once; from a `lease` many calls are, until it is given back. `estimate` is what is still set aside.
    """

    __slots__ = (
        "created_at",
        "dimensions",
        "estimate",
        "event_id",
        "expires_at",
        "kind",
        "periods",
        "reservation_id",
        "settled",
        "stored",
        "unsettled",
    )

    def __init__(
        self,
        reservation_id: str,
        event_id: str,
        created_at: int,
        expires_at: int,
        state: str,
        estimate: int,
        dimensions: Dimensions,
        kind: str,
        settled: int,
        *,
        stored: bool,
    ) -> None:
        self.reservation_id = reservation_id
        self.event_id = event_id
        self.created_at = created_at
        self.expires_at = expires_at
        self.unsettled = state == "unsettled"
        self.estimate = estimate
        self.dimensions = dimensions
        self.kind = kind
        self.settled = settled
        self.stored = stored
        """Whether the ledger has a row of it."""
        self.periods: list[Period] = []

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Reservation":
        """From a row in the order of `ledger.budgets.RESERVATION_COLUMNS`."""
        reservation_id, event_id, created_at, expires_at, state, estimate, *dimensions, kind, settled = row
        scope = tuple(dimensions)
        return cls(reservation_id, event_id, created_at, expires_at, state, estimate, scope, kind, settled, stored=True)

    def row(self) -> tuple[str | int, ...]:
        """As `ledger.budgets.write_reservations` takes it."""
        state = "unsettled" if self.unsettled else "open"
        head = (self.reservation_id, self.event_id, self.created_at, self.expires_at, state, self.estimate)
        return (*head, *self.dimensions, self.kind, self.settled)

    def admit(self) -> Decision:
        """The answer to the wish that made it."""
        return Decision(
            allowed=True,
            reservation_id=self.reservation_id,
            estimate=self.estimate,
            expires_at=self.expires_at,
            warning=any(period.committed >= period.soft_limit for period in self.periods),
            remaining=min((period.budget.limit - period.committed for period in self.periods), default=None),
        )

    def resolved_by(self, word: Resolve) -> Usage:
        """What is recorded where an operator says what it has cost: the same event as its usage would be, should that still come."""
        tenant = self.dimensions[TENANT]
        usage = Usage(
            source=f"api:{tenant}" if self.event_id else f"reservation:{tenant}",
            event_id=self.event_id or self.reservation_id,
            timestamp=self.created_at,
            cost=word.cost,
            priced_by="operator",
            reservation_id=self.reservation_id,
        )
        for name, value in zip(DIMENSIONS, self.dimensions, strict=True):
            setattr(usage, name, value)
        return usage

    @property
    def is_anonymous(self) -> bool:
        """Whether a call that names nothing may settle it."""
        return not self.event_id and self.kind == "call"


class Holdings:
    """What both books do with money that is set aside. `touched` are the periods whose figures the ledger does not have yet."""

    def __init__(self) -> None:
        self.touched: dict[int, Period] = {}

    def hold(self, reservation: Reservation) -> None:
        """Set the reservation's money aside in its periods."""
        self._add(reservation, reservation.estimate)

    def release(self, reservation: Reservation) -> None:
        """Give the reservation's money back to its periods."""
        self._add(reservation, -reservation.estimate)

    def draw(self, reservation: Reservation, cost: int) -> None:
        """Take what a call of a lease has cost out of what is set aside for it."""
        part = min(cost, reservation.estimate)
        self._add(reservation, -part)
        reservation.estimate -= part
        reservation.settled += cost

    def mark_unsettled(self, reservation: Reservation) -> None:
        """The reservation expired: it goes on counting, under its own name."""
        self._add(reservation, -reservation.estimate)
        reservation.unsettled = True
        self._add(reservation, reservation.estimate)

    def _add(self, reservation: Reservation, amount: int) -> None:
        if not amount:
            # A period that holds nothing may have left the memory: what this reservation knows of it is not to be written.
            return
        for period in reservation.periods:
            if reservation.unsettled:
                period.unsettled += amount
            else:
                period.reserved += amount
            self.touched[id(period)] = period


def contradicts(dimensions: Dimensions, others: Dimensions) -> bool:
    """Whether the two name different values of any dimension."""
    return not all("" in pair or pair[0] == pair[1] for pair in zip(dimensions, others, strict=True))
