"""Reserve and settle: the cap that holds.

All decisions fall inside the ledger's groups, one after the other, on figures in memory that equal the ledger's; what they change is
written by the same transaction, and nobody is answered before it is durable. So the sum of what is spent, reserved and unsettled never
passes a limit because of a reservation; only a call that costs more than its own estimate can.
"""

import os
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from costwarden.budgets.book import Book
from costwarden.budgets.calls import Decision, Release, Released, Reserve, Reset, Resolve, Settle, Settled, named_id
from costwarden.budgets.holdings import Period, Reservation
from costwarden.budgets.index import EVERYBODY, TENANT, BudgetIndex
from costwarden.budgets.operator_audit import audit_reset, audit_resolution
from costwarden.budgets.pending import Pending
from costwarden.budgets.rules import Budget, Dimensions, scope_of
from costwarden.budgets.settings import BudgetsSettings
from costwarden.budgets.shared_book import SharedBook, reservation_id_of
from costwarden.budgets.store import configured_changes, default_budget, drop_budget, lift_suspension, store_budget, store_suspension
from costwarden.ledger import Connection
from costwarden.ledger.budgets import (
    note_figures,
    read_configured,
    reset_period,
    write_periods,
)
from costwarden.ledger.bulk import on_postgresql
from costwarden.ledger.usage import known_event, known_events
from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, Usage

log = structlog.get_logger(__name__)


class Engine:
    """The participant of the ledger's group commit that decides over budgets. Every method runs inside a group, one after the other.

    Where this process is the only one that writes, the figures stay in memory from one group to the next (`Book`). Where replicas write
    too, a group begins by locking what its operations need (`SharedBook`); everything after that is the same.
    """

    def __init__(self, settings: BudgetsSettings, zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._settings = settings
        self._zone = zone
        self._now = now
        self._book: Book | None = None
        self._shared_book: SharedBook | None = None
        self._connection: Connection | None = None
        self._beside_a_server = False
        self._made_default = False
        self._sequence = 0
        self._instance = os.urandom(6).hex()
        self.on_touched: Callable[[set[str]], None] = lambda tenants: None  # noqa: ARG005
        """Called after a commit with the tenants whose figures, budgets or suspension it changed; the empty id stands for all."""
        self._touched_tenants: set[str] = set()
        self._pending = Pending()

    def configure(self, settings: BudgetsSettings) -> None:
        """Use `settings` from the next operation on."""
        self._settings = settings

    # --- participant of the group commit -----------------------------------------------------------------------------------

    def begin(self, connection: Connection, *, foreign_change: bool, arguments: Sequence[Any], alone: bool) -> bool:
        """Bring the figures up to date: what another process has changed, or what a group that was rolled back had changed here.

        False where a tenant needs its default budget, which takes a transaction that has the budgets alone.
        """
        self._connection = connection
        if on_postgresql(connection):
            return self._begin_shared(connection, arguments, foreign_change=foreign_change, alone=alone)
        if foreign_change:
            # Whose figures another process has changed, nobody says.
            self._touched_tenants.add(EVERYBODY)
        self._beside_a_server = not alone
        # A server tells nobody of its figures: what is beside it reads them anew.
        is_stale = foreign_change and not alone
        if self._book is None or is_stale or not self._book.use(connection, self._now(), foreign_change=foreign_change):
            self._book = Book(connection, self._zone, self._now())
            _write_periods(connection, self._book)
        return True

    def _begin_shared(self, connection: Connection, arguments: Sequence[Any], *, foreign_change: bool, alone: bool) -> bool:
        if self._shared_book is None:
            self._shared_book = SharedBook(connection, self._zone)
        book = self._shared_book
        book.use(connection, foreign_change=foreign_change)
        self._pending, self._made_default = Pending(), False
        # Before anything is locked: a budget that is made counts what is set aside, and reservations must know that they count in it.
        for wish in (argument for argument in arguments if isinstance(argument, Reserve)):
            budget = self._missing_default(book.index, wish.dimensions)
            if budget is not None:
                if not alone:
                    return False
                self.put(connection, budget, "default")
                book.index.put(budget)
                self._made_default = True
        self._pending.looked_up = book.prepare(arguments)
        return True

    def flush(self, connection: Connection) -> None:
        """Write what the operations since the last flush have changed."""
        book = self._book or self._shared_book
        if book is not None:
            self._flush(connection, book)

    def _flush(self, connection: Connection, book: Book | SharedBook) -> None:
        if self._beside_a_server and (self._pending or book.touched):
            note_figures(connection)
        self._pending.write(connection)
        _write_periods(connection, book)
        self._pending = Pending()

    def committed(self) -> None:
        """Tell whoever remembers answers which tenants have other figures now."""
        if self._touched_tenants:
            tenants, self._touched_tenants = self._touched_tenants, set()
            self.on_touched(tenants)

    def rolled_back(self) -> None:
        """Nothing since `begin` has happened: read everything again at the next one."""
        self._book = None
        if self._made_default:
            # In memory there is a budget that the ledger does not have.
            self._shared_book = None
        self._touched_tenants.clear()
        self._pending = Pending()

    @property
    def _open(self) -> tuple[Book | SharedBook, Connection]:
        book = self._book or self._shared_book
        if book is None or self._connection is None:
            raise RuntimeError("the engine runs inside a group commit")
        return book, self._connection

    # --- steps -------------------------------------------------------------------------------------------------------------

    def reserve(self, wish: Reserve) -> Decision:
        """Set the estimate aside in every matching budget, or in none."""
        book, connection = self._open
        dimensions = wish.dimensions
        suspended = book.index.suspended
        if suspended and (EVERYBODY in suspended or dimensions[TENANT] in suspended):
            return Decision(allowed=False, reason="emergency_stop" if EVERYBODY in suspended else "tenant_suspended")
        if wish.event_id and (known := book.find(named_id(dimensions[TENANT], wish.event_id))) is not None:
            # One that is content with less has been given what there was.
            least = wish.estimate if wish.at_least is None else wish.at_least
            same = known.dimensions == dimensions and known.kind == wish.kind and least <= known.estimate + known.settled
            return known.admit() if same else Decision(allowed=False, reason="event_id_conflict")
        if wish.event_id and self._cost_recorded(connection, f"api:{dimensions[TENANT]}", wish.event_id) is not None:
            return Decision(allowed=False, reason="event_id_conflict")
        # Where replicas write too, the group has begun with it.
        if self._book is not None and (default := self._missing_default(book.index, dimensions)) is not None:
            self._flush(connection, book)
            self.put(connection, default, "default")
        periods = book.periods(dimensions, wish.at)
        if not periods and self._settings.unbudgeted == "deny":
            return Decision(allowed=False, reason="no_budget")
        estimate = wish.estimate
        if wish.at_least is not None:
            left = min((period.budget.limit - period.committed for period in periods), default=estimate)
            estimate = max(min(estimate, left), wish.at_least)
        # A budget at its limit refuses even a call that seems to cost nothing. Of several, the one that resets last is named.
        refusing = [period for period in periods if period.is_full or period.committed + estimate > period.budget.limit]
        if refusing:
            return max(refusing, key=lambda period: period.end).refuse(estimate)
        expires_at = wish.at + (wish.seconds or self._settings.reservation_seconds) * MICROS_PER_SECOND
        reservation_id = named_id(dimensions[TENANT], wish.event_id) if wish.event_id else self._new_id(wish.at)
        reservation = Reservation(
            reservation_id, wish.event_id, wish.at, expires_at, "open", estimate, dimensions, wish.kind, 0, stored=False
        )
        reservation.periods = periods
        book.hold(reservation)
        self._touched_tenants.add(dimensions[TENANT])
        self._pending.reservations[reservation_id] = reservation
        return reservation.admit()

    def settle(self, call: Settle) -> Settled:
        """Record what a call cost, once per (source, event id), and give back what was set aside for it."""
        book, connection = self._open
        # A copy: where the transaction collides with another replica's, the group is run once more from the beginning.
        usage = copy(call.usage)
        reservation = self._reservation_of(book, call)
        if reservation is not None and reservation.kind == "lease" and not usage.event_id:
            return Settled(event_id="", cost=0, repeated=False, refused="event_id_needed")
        recorded = None
        if not self._identify(usage, call, reservation):
            recorded = self._cost_recorded(connection, usage.source, usage.event_id)
        if recorded is not None:
            if reservation is not None and reservation.kind == "call":
                self._release(book, reservation)
            return Settled(event_id=usage.event_id, cost=recorded, repeated=True)
        if reservation is not None:
            # The budgets that set the money aside are the ones that pay: a model's dated name must not slip out of them.
            for name, value in zip(DIMENSIONS, reservation.dimensions, strict=True):
                if value:
                    setattr(usage, name, value)
            usage.reservation_id = reservation.reservation_id
            # And so are the periods: an application whose clock is wrong must not spend a period that is over.
            usage.timestamp = reservation.created_at
        usage.timestamp = usage.timestamp or call.at
        periods = book.periods(scope_of(usage), usage.timestamp)
        if any(period.would_overflow(usage) for period in periods):
            return Settled(event_id=usage.event_id, cost=usage.cost, repeated=False, refused="overflow")
        if reservation is not None and reservation.kind == "lease":
            book.draw(reservation, usage.cost)
            self._pending.reservations[reservation.reservation_id] = reservation
        elif reservation is not None:
            self._release(book, reservation)
        self._record(book, usage, call.at, periods)
        return Settled(event_id=usage.event_id, cost=usage.cost, repeated=False, reservation_id=usage.reservation_id)

    def _cost_recorded(self, connection: Connection, source: str, event_id: str) -> int | None:
        identity = source, event_id
        pending = self._pending
        if (recorded := pending.recorded.get(identity)) is not None:
            return recorded
        return pending.looked_up[identity] if identity in pending.looked_up else known_event(connection, source, event_id)

    @staticmethod
    def _reservation_of(book: Book | SharedBook, call: Settle) -> Reservation | None:
        wanted = reservation_id_of(call)
        if not wanted:
            return book.oldest_anonymous(scope_of(call.usage))
        reservation = book.find(wanted)
        return reservation if reservation is not None and reservation.dimensions[TENANT] == call.usage.tenant_id else None

    def _identify(self, usage: Usage, call: Settle, reservation: Reservation | None) -> bool:
        """Give the usage its identity; True where that cannot have been recorded yet, so that nobody needs to look.

        A reservation of ours that named no event has a source of its own for its tenant: no event id that a caller makes up can stand
        there, and what settles the reservation also ends it.
        """
        if usage.event_id:
            return False
        reservation_id = reservation.reservation_id if reservation is not None else call.reservation_id
        named = named_id(usage.tenant_id, "")
        if reservation_id.startswith(named):
            usage.event_id = reservation_id.removeprefix(named)
            return False
        usage.source = f"reservation:{usage.tenant_id}"
        usage.event_id = reservation_id or self._new_id(call.at)
        return reservation is not None or not reservation_id

    def _release(self, book: Book | SharedBook, reservation: Reservation) -> None:
        book.release(reservation)
        self._touched_tenants.add(reservation.dimensions[TENANT])
        self._pending.end(reservation)

    def release(self, end: Release) -> Released:
        """Give back what is set aside: the call was not made, or the lease is no longer needed."""
        book, _ = self._open
        reservation = book.find(end.reservation_id)
        if reservation is None or reservation.dimensions[TENANT] != end.tenant_id:
            return Released(end.reservation_id, 0, False)
        released = reservation.estimate
        self._release(book, reservation)
        return Released(end.reservation_id, released, True)

    def resolve(self, word: Resolve) -> Settled | None:
        """Take an operator's word for what a reservation has cost; None where there is no such reservation."""
        book, connection = self._open
        reservation = book.find(word.reservation_id)
        if reservation is None:
            return None
        usage = reservation.resolved_by(word)
        if reservation.kind == "lease" or self._cost_recorded(connection, usage.source, usage.event_id) is not None:
            usage.source, usage.event_id = f"resolved:{usage.tenant_id}", self._new_id(word.at)
        if any(period.would_overflow(usage) for period in reservation.periods):
            return Settled(event_id=usage.event_id, cost=word.cost, repeated=False, refused="overflow")
        audit_resolution(connection, word, reservation)
        self._release(book, reservation)
        if word.cost:
            self._record(book, usage, word.at, reservation.periods)
        return Settled(event_id=usage.event_id, cost=word.cost, repeated=False, reservation_id=word.reservation_id)

    def reset(self, wish: Reset) -> bool:
        """Begin a budget's period anew at nothing spent; False where there is no such budget. What is set aside stays set aside."""
        book, connection = self._open
        period = book.period_of(wish.budget, wish.at)
        if period is None:
            return False
        self._flush(connection, book)
        audit_reset(connection, wish, period)
        reset_period(connection, wish.budget, period.start)
        period.reset(wish.at)
        # Nothing of it is left to be written, but a server beside this process must hear of it.
        book.touched[id(period)] = period
        self._touched_tenants.add(period.budget.scope[TENANT])
        return True

    def ingest(self, events: Sequence[Usage]) -> int:
        """Record events that were metered elsewhere (a list); returns how many of them were new."""
        book, connection = self._open
        known = known_events(connection, [(event.source, event.event_id) for event in events])
        known.update(self._pending.recorded)
        recorded = 0
        at = self._now()
        for event in events:
            identity = (event.source, event.event_id)
            if identity in known:
                continue
            periods = book.periods(scope_of(event), event.timestamp)
            if any(period.would_overflow(event) for period in periods):
                log.error("event not recorded: a sum would pass what 64 bits hold", source=event.source, event_id=event.event_id)
                continue
            known[identity] = event.cost
            self._record(book, event, at, periods)
            recorded += 1
        return recorded

    def _record(self, book: Book | SharedBook, usage: Usage, at: int, periods: Sequence[Period]) -> None:
        self._pending.record(usage)
        self._touched_tenants.add(usage.tenant_id)
        for period in (found for found in periods if found.counts(usage)):
            period.add(usage)
            book.touched[id(period)] = period
            if period.spent >= period.next_threshold:
                self._pending.crossed += period.cross(at)

    def expire(self, at: int) -> int:
        """Move the reservations that expired by `at` to *unsettled*; returns how many."""
        book, _ = self._open
        due = book.due(at)
        for reservation in due:
            book.mark_unsettled(reservation)
            self._touched_tenants.add(reservation.dimensions[TENANT])
            self._pending.reservations[reservation.reservation_id] = reservation
        return len(due)

    def _new_id(self, at: int) -> str:
        """Rises with time, so that the newest rows of an index lie together; the random part keeps engines apart."""
        self._sequence += 1
        return f"{at:014x}{self._sequence & 0xFFFFFF:06x}{self._instance}"

    # --- statements --------------------------------------------------------------------------------------------------------

    def put(self, connection: Connection, budget: Budget, actor: str) -> Budget | None:
        """Write a budget, new or changed, with its audit entry; returns what it was before. Raises `BudgetIsConfigured`."""
        now = self._now()
        before = store_budget(connection, budget, self._zone, now, actor)
        if self._book is not None:
            self._book.put(budget, now)
        self._touched_tenants |= {budget.scope[TENANT], (before or budget).scope[TENANT]}
        return before

    def drop(self, connection: Connection, name: str, actor: str) -> None:
        """Remove a budget, with its audit entry. Raises `BudgetIsConfigured`, or `LookupError` where there is no such budget."""
        dropped = drop_budget(connection, name, self._now(), actor)
        if self._book is not None:
            self._book.remove(name)
        self._touched_tenants.add(dropped.scope[TENANT])

    def _missing_default(self, index: BudgetIndex, dimensions: Dimensions) -> Budget | None:
        if EVERYBODY in index.suspended or dimensions[TENANT] in index.suspended:
            return None
        budget = None if index.has_budget(dimensions[TENANT]) else default_budget(self._settings, dimensions)
        return None if budget is None or budget.budget in index.budgets else budget

    def put_configured(self, connection: Connection, budgets: Sequence[Budget]) -> None:
        """Make the budgets of origin `config` be exactly `budgets`. Raises `ValueError` where a name belongs to another origin."""
        changed, gone = configured_changes(read_configured(connection, [budget.budget for budget in budgets]), budgets)
        for budget in changed:
            self.put(connection, budget, "config")
        for name in gone:
            dropped = drop_budget(connection, name, self._now(), "config", configured=True)
            self._touched_tenants.add(dropped.scope[TENANT])
            if self._book is not None:
                self._book.remove(name)

    def suspend(self, connection: Connection, tenant_id: str, *, reason: str, actor: str, run_id: str) -> bool:
        """Deny every check of a tenant from now on, or of everybody (`EVERYBODY`); False where that was so already."""
        suspended = store_suspension(connection, tenant_id, reason=reason, actor=actor, run_id=run_id, now=self._now())
        if suspended is not None and self._book is not None:
            self._book.index.suspended[tenant_id] = suspended
        self._touched_tenants.add(tenant_id)
        return suspended is not None

    def resume(self, connection: Connection, tenant_id: str, *, actor: str, reason: str = "") -> bool:
        """Lift a suspension; False where there was none."""
        lifted = lift_suspension(connection, tenant_id, actor=actor, reason=reason, now=self._now())
        if lifted:
            if self._book is not None:
                self._book.index.suspended.pop(tenant_id, None)
            self._touched_tenants.add(tenant_id)
        return lifted


def _write_periods(connection: Connection, book: Book | SharedBook) -> None:
    if book.touched:
        # In the order of their keys, as everyone locks them.
        write_periods(connection, sorted(period.row() for period in book.touched.values()))
        book.touched.clear()
