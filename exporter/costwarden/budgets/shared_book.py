"""What the engine knows where other replicas write too: budgets from memory, figures from rows that it locks for one transaction."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

from costwarden.budgets.calls import Release, Reserve, Resolve, Settle, named_id
from costwarden.budgets.holdings import Holdings, Period, Reservation, contradicts
from costwarden.budgets.index import MODEL, TENANT, BudgetIndex
from costwarden.budgets.rules import Budget, Dimensions, PeriodBounds, scope_of
from costwarden.ledger import Connection
from costwarden.ledger.budgets import (
    count_period,
    hold_expired,
    hold_oldest_anonymous,
    hold_periods,
    hold_reservations,
    make_periods,
    write_periods,
)
from costwarden.ledger.usage import known_events
from costwarden.model import Usage

EXPIRED_AT_ONCE = 500
"""Bounds how long one transaction holds the budgets of what has expired; the next second takes the rest."""


class SharedBook(Holdings):
    """Budgets, and of periods and reservations what the transaction under way has locked.

    Reservations are locked before periods, each in the order of their keys, so that two replicas do not wait for each other.
    """

    def __init__(self, connection: Connection, zone: ZoneInfo) -> None:
        super().__init__()
        self._bounds = PeriodBounds(zone)
        self._connection = connection
        self.index = BudgetIndex(connection)
        self._periods: dict[tuple[str, int], Period] = {}
        self._reservations: dict[str, Reservation | None] = {}

    def use(self, connection: Connection, *, foreign_change: bool) -> None:
        """Begin a transaction: take over what has changed in the budgets, if anything, and forget what the last one had locked."""
        self._connection = connection
        self.touched.clear()
        self._periods.clear()
        self._reservations.clear()
        for change in (foreign_change and self.index.changes(connection)) or ():
            if isinstance(change, Budget):
                self.index.put(change)
            else:
                self.index.remove(change)

    def prepare(self, arguments: Sequence[Any]) -> dict[tuple[str, str], int | None]:
        """Lock what steps with these arguments will need, each kind in the order of its keys.

        Gives what is recorded of the events that they name: by (source, event id) the nano-dollars, None where it is not recorded.
        """
        wishes = [argument for argument in arguments if isinstance(argument, Reserve)]
        batches = [argument for argument in arguments if isinstance(argument, list)]
        settlements = [call for call in (*arguments, *chain.from_iterable(batches)) if isinstance(call, Settle)]
        named = [named_id(wish.dimensions[TENANT], wish.event_id) for wish in wishes if wish.event_id]
        ended = [argument.reservation_id for argument in arguments if isinstance(argument, Release | Resolve)]
        self.take_reservations([*named, *filter(None, map(reservation_id_of, settlements)), *ended])
        for at in (argument for argument in arguments if isinstance(argument, int)):
            self.take_due(at)
        # Money is set aside in, or moved within, the periods of these calls at these times.
        calls = [(wish.dimensions, wish.at) for wish in wishes]
        calls += [(held.dimensions, held.created_at) for held in self._reservations.values() if held is not None]
        events: dict[tuple[str, str], int | None] = {
            (f"api:{wish.dimensions[TENANT]}", wish.event_id): None for wish in wishes if wish.event_id
        }
        for settlement in settlements:
            usage = settlement.usage
            named_scope = scope_of(usage)
            calls.append((named_scope, usage.timestamp or settlement.at))
            if (held := self._reservations.get(reservation_id_of(settlement))) is not None:
                # It is recorded under the names of both, and may match budgets that neither matches alone.
                merged = tuple(theirs or ours for theirs, ours in zip(held.dimensions, named_scope, strict=True))
                calls.append((merged, held.created_at))
            if usage.event_id:
                events[usage.source, usage.event_id] = None
        calls += [(scope_of(event), event.timestamp) for event in chain.from_iterable(batches) if isinstance(event, Usage)]
        self.take_periods(key for dimensions, at in calls for key in self.keys(dimensions, at))
        self.take_late_reservations(map(reservation_id_of, settlements))
        for held in self._reservations.values():
            if held is not None:
                held.periods = self.periods(held.dimensions, held.created_at)
        events.update(known_events(self._connection, events))
        return events

    # --- locking -----------------------------------------------------------------------------------------------------------

    def take_reservations(self, reservation_ids: Iterable[str]) -> None:
        """Lock these reservations, those that there are."""
        wanted = sorted(set(reservation_ids) - self._reservations.keys())
        self._reservations.update(dict.fromkeys(wanted))
        if wanted:
            for row in hold_reservations(self._connection, wanted):
                self._reservations[row[0]] = Reservation.of(row)

    def take_late_reservations(self, reservation_ids: Iterable[str]) -> None:
        """Look once more for those that were not there: another replica may have made them until it let go of the periods."""
        missing = sorted({name for name in reservation_ids if name and self._reservations[name] is None})
        found = [Reservation.of(row) for row in hold_reservations(self._connection, missing)]
        self._reservations.update((held.reservation_id, held) for held in found)
        self.take_periods(key for held in found for key in self.keys(held.dimensions, held.created_at))

    def take_due(self, at: int) -> None:
        """Lock the reservations that expired by `at` and that nobody else is working on, up to `EXPIRED_AT_ONCE`."""
        for row in hold_expired(self._connection, at, EXPIRED_AT_ONCE):
            if row[0] not in self._reservations:
                self._reservations[row[0]] = Reservation.of(row)

    def keys(self, dimensions: Dimensions, at: int) -> list[tuple[str, int]]:
        """The keys of the periods at `at` of every budget whose scope matches."""
        return [self._key(name, at) for name in self.index.matching(dimensions)]

    def take_periods(self, keys: Iterable[tuple[str, int]]) -> None:
        """Lock these periods; one that has no row yet is counted from what the ledger has."""
        wanted = sorted(set(keys) - self._periods.keys())
        if not wanted:
            return
        found = hold_periods(self._connection, wanted)
        missing = [key for key in wanted if key not in found]
        if missing:
            # Whoever inserts the row counts; the others wait for that and lock what was counted.
            made = make_periods(self._connection, [(name, start, self._end(name, start)) for name, start in missing])
            for name, start in sorted(made):
                scope = self.index.budgets[name].scope
                write_periods(self._connection, [count_period(self._connection, name, scope, start, self._end(name, start))])
            found.update(hold_periods(self._connection, missing))
        for (name, start), (row, crossed) in found.items():
            self._periods[name, start] = Period(self.index.budgets[name], start, self._end(name, start), row, crossed)

    def _key(self, name: str, at: int) -> tuple[str, int]:
        return name, self._bounds.of(self.index.budgets[name].period, at)[0]

    def _end(self, name: str, start: int) -> int:
        return self._bounds.of(self.index.budgets[name].period, start)[1]

    def _linked(self, reservation_id: str) -> Reservation:
        reservation = self._reservations[reservation_id]
        assert reservation is not None
        if not reservation.periods:
            reservation.periods = self.periods(reservation.dimensions, reservation.created_at)
        return reservation

    # --- as `Book` ---------------------------------------------------------------------------------------------------------

    def periods(self, dimensions: Dimensions, at: int) -> list[Period]:
        """The period at `at` of every budget whose scope matches."""
        keys = self.keys(dimensions, at)
        self.take_periods(keys)
        return [self._periods[key] for key in keys]

    def period_of(self, name: str, at: int) -> Period | None:
        """The period at `at` of one budget; None where there is no such budget."""
        if name not in self.index.budgets:
            return None
        key = self._key(name, at)
        self.take_periods([key])
        return self._periods[key]

    def find(self, reservation_id: str) -> Reservation | None:
        """The reservation of that id."""
        self.take_reservations([reservation_id])
        return None if self._reservations[reservation_id] is None else self._linked(reservation_id)

    def oldest_anonymous(self, dimensions: Dimensions) -> Reservation | None:
        """The oldest call without an event id, of that tenant and model, that contradicts `dimensions` nowhere; an open one first."""
        row = hold_oldest_anonymous(self._connection, dimensions, list(self._reservations))
        if row is not None:
            self._reservations[row[0]] = Reservation.of(row)
        waiting = [
            held
            for held in self._reservations.values()
            if held is not None
            and held.is_anonymous
            and (held.dimensions[TENANT], held.dimensions[MODEL]) == (dimensions[TENANT], dimensions[MODEL])
            and not contradicts(dimensions, held.dimensions)
        ]
        if not waiting:
            return None
        oldest = min(waiting, key=lambda held: (held.unsettled, held.created_at, held.reservation_id))
        return self._linked(oldest.reservation_id)

    def hold(self, reservation: Reservation) -> None:
        """Set the reservation's money aside in its periods, and remember it."""
        super().hold(reservation)
        self._reservations[reservation.reservation_id] = reservation

    def release(self, reservation: Reservation) -> None:
        """Give the reservation's money back to its periods, and forget it."""
        super().release(reservation)
        self._reservations[reservation.reservation_id] = None

    def due(self, at: int) -> list[Reservation]:
        """The open reservations that expired by `at`, as far as they are locked (`take_due`)."""
        found = [held for held in self._reservations.values() if held is not None and not held.unsettled and held.expires_at <= at]
        return [self._linked(held.reservation_id) for held in found]


def reservation_id_of(call: Settle) -> str:
    """The id of the reservation that a settlement names; empty where it names none."""
    usage = call.usage
    return call.reservation_id or (named_id(usage.tenant_id, usage.event_id) if usage.event_id else "")
