"""Reserve and settle: the cap that holds.

All decisions fall inside the ledger's groups, one after the other, on figures in memory that equal the ledger's; what they change is
written by the same transaction, and nobody is answered before it is durable. So the sum of what is spent, reserved and unsettled never
passes a limit because of a reservation; only a call that costs more than its own estimate can.
"""

import heapq
import os
from collections.abc import Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from costwarden.budgets.book import MODEL, TENANT, Book, Period, Reservation
from costwarden.budgets.calls import Decision, Reserve, Settle, Settled, named_id
from costwarden.budgets.rules import Budget, Dimensions, budget_name, scope_of, thresholds_reached
from costwarden.budgets.settings import BudgetsSettings
from costwarden.budgets.store import configured_changes, drop_budget, new_budget, store_budget
from costwarden.ledger import Connection
from costwarden.ledger.audit import append_audit
from costwarden.ledger.budgets import (
    delete_reservations,
    mark_unsettled,
    read_budget,
    read_budgets,
    resume_tenant,
    suspend_tenant,
    write_crossed,
    write_periods,
    write_reservations,
)
from costwarden.ledger.usage import DIMENSION_SLICE, append_usage, known_event, known_events
from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, Usage, to_nanos

MOST_NANOS = 1 << 62
"""Four and a half billion dollars: past it, SQLite's integers would soon become floating point."""


class Engine:
    """The participant of the ledger's group commit that decides over budgets. Every method runs inside a group, one after the other."""

    def __init__(self, settings: BudgetsSettings, zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._settings = settings
        self._zone = zone
        self._now = now
        self._book: Book | None = None
        self._connection: Connection | None = None
        self._expiries: list[tuple[int, str]] = []
        self._sequence = 0
        self._instance = os.urandom(6).hex()
        self._forget_pending()

    def configure(self, settings: BudgetsSettings) -> None:
        """Use `settings` from the next operation on."""
        self._settings = settings

    # --- participant of the group commit -----------------------------------------------------------------------------------

    def begin(self, connection: Connection, foreign_change: bool) -> None:
        """Read the figures anew where another process may have changed them, or a group was rolled back."""
        self._connection = connection
        if self._book is None or foreign_change:
            self._book = Book(connection, self._zone, self._now())
            write_periods(connection, [period.row() for period in self._book.recounted])
            self._line_up(self._book)
        else:
            self._book.use(connection)

    def flush(self, connection: Connection) -> None:
        """Write what the operations since the last flush have changed."""
        if self._settled:
            delete_reservations(connection, self._settled)
        if self._reserved:
            write_reservations(connection, [reservation.row() for reservation in self._reserved.values()])
        if self._usage:
            append_usage(connection, self._usage)
        if self._touched:
            write_periods(connection, [period.row() for period in self._touched.values()])
        if self._crossed:
            write_crossed(connection, self._crossed)
        self._forget_pending()

    def rolled_back(self) -> None:
        """Nothing since `begin` has happened: read everything again at the next one."""
        self._book = None
        self._forget_pending()

    def _forget_pending(self) -> None:
        self._reserved: dict[str, Reservation] = {}
        self._settled: list[str] = []
        self._usage: list[tuple[Any, ...]] = []
        self._touched: dict[int, Period] = {}
        self._crossed: list[tuple[Any, ...]] = []
        self._recorded: dict[tuple[str, str], int] = {}

    @property
    def _open(self) -> tuple[Book, Connection]:
        if self._book is None or self._connection is None:
            raise RuntimeError("the engine runs inside a group commit")
        return self._book, self._connection

    # --- steps -------------------------------------------------------------------------------------------------------------

    def reserve(self, wish: Reserve) -> Decision:
        """Set the estimate aside in every matching budget, or in none."""
        book, connection = self._open
        dimensions = wish.dimensions
        if dimensions[TENANT] in book.suspended:
            return Decision(allowed=False, reason="tenant_suspended")
        if wish.event_id and (known := book.reservations.get(named_id(dimensions[TENANT], wish.event_id))) is not None:
            same = known.dimensions == dimensions and wish.estimate <= known.estimate
            return self._admitted(known) if same else Decision(allowed=False, reason="event_id_conflict")
        if wish.event_id and self._is_recorded(connection, f"api:{dimensions[TENANT]}", wish.event_id):
            return Decision(allowed=False, reason="event_id_conflict")
        periods = book.periods(dimensions, wish.at)
        if self._give_default(book, connection, dimensions):
            periods = book.periods(dimensions, wish.at)
        if not periods and self._settings.unbudgeted == "deny":
            return Decision(allowed=False, reason="no_budget")
        refusing = None
        for period in periods:
            committed = period.spent + period.reserved + period.unsettled
            # A budget at its limit refuses even a call that seems to cost nothing.
            full = committed + wish.estimate > period.budget.limit or committed >= period.budget.limit
            if full and (refusing is None or period.end > refusing.end):
                refusing = period
        if refusing is not None:
            return Decision(
                allowed=False,
                reason="budget_exceeded",
                budget=refusing.budget,
                estimate=wish.estimate,
                spent=refusing.spent,
                reserved=refusing.reserved,
                unsettled=refusing.unsettled,
                resets_at=refusing.end,
                warning=True,
            )
        expires_at = wish.at + self._settings.reservation_seconds * MICROS_PER_SECOND
        reservation_id = named_id(dimensions[TENANT], wish.event_id) if wish.event_id else self._new_id(wish.at)
        reservation = Reservation(reservation_id, wish.event_id, wish.at, expires_at, False, wish.estimate, dimensions)
        reservation.periods = periods
        book.hold(reservation)
        heapq.heappush(self._expiries, (expires_at, reservation.reservation_id))
        self._reserved[reservation.reservation_id] = reservation
        return self._admitted(reservation)

    @staticmethod
    def _admitted(reservation: Reservation) -> Decision:
        periods = reservation.periods
        return Decision(
            allowed=True,
            reservation_id=reservation.reservation_id,
            estimate=reservation.estimate,
            expires_at=reservation.expires_at,
            warning=any(period.committed >= period.soft_limit for period in periods),
            remaining=min((period.budget.limit - period.committed for period in periods), default=None),
        )

    def settle(self, call: Settle) -> Settled:
        """Record what a call cost, once per (source, event id), and give back what was set aside for it."""
        book, connection = self._open
        usage = call.usage
        reservation = self._reservation_of(book, call)
        recorded = None
        if not self._identify(call, reservation):
            recorded = self._recorded.get((usage.source, usage.event_id))
            if recorded is None:
                recorded = known_event(connection, usage.source, usage.event_id)
        if recorded is not None:
            if reservation is not None:
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
        if any(period.spent + usage.cost > MOST_NANOS for period in periods):
            return Settled(event_id=usage.event_id, cost=usage.cost, repeated=False, refused=True)
        if reservation is not None:
            self._release(book, reservation)
        self._record(book, usage, call.at)
        return Settled(event_id=usage.event_id, cost=usage.cost, repeated=False, reservation_id=usage.reservation_id)

    def _is_recorded(self, connection: Connection, source: str, event_id: str) -> bool:
        return (source, event_id) in self._recorded or known_event(connection, source, event_id) is not None

    @staticmethod
    def _reservation_of(book: Book, call: Settle) -> Reservation | None:
        usage = call.usage
        if not call.reservation_id and not usage.event_id:
            return book.oldest_anonymous(scope_of(usage))
        reservation = book.reservations.get(call.reservation_id or named_id(usage.tenant_id, usage.event_id))
        if reservation is not None and reservation.dimensions[TENANT] == usage.tenant_id:
            return reservation
        return None

    def _identify(self, call: Settle, reservation: Reservation | None) -> bool:
        """Give the usage its identity; True where that cannot have been recorded yet, so that nobody needs to look.

        A reservation of ours that named no event has a source of its own for its tenant: no event id that a caller makes up can stand
        there, and what settles the reservation also ends it.
        """
        usage = call.usage
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

    def _release(self, book: Book, reservation: Reservation) -> None:
        book.release(reservation)
        if self._reserved.pop(reservation.reservation_id, None) is None:
            self._settled.append(reservation.reservation_id)

    def ingest(self, events: Sequence[Usage]) -> int:
        """Record events that were metered elsewhere; returns how many of them were new."""
        book, connection = self._open
        known = known_events(connection, [(event.source, event.event_id) for event in events])
        known.update(self._recorded)
        recorded = 0
        at = self._now()
        for event in events:
            identity = (event.source, event.event_id)
            if identity not in known:
                known[identity] = event.cost
                self._record(book, event, at)
                recorded += 1
        return recorded

    def _record(self, book: Book, usage: Usage, at: int) -> None:
        row = msgspec.structs.astuple(usage)
        self._usage.append(row)
        self._recorded[usage.source, usage.event_id] = usage.cost
        for period in book.periods(row[DIMENSION_SLICE], usage.timestamp):
            period.spent += usage.cost
            period.input_tokens += usage.input_tokens
            period.output_tokens += usage.output_tokens
            period.requests += 1
            self._touched[id(period)] = period
            if period.spent >= period.next_threshold:
                self._cross(period, at)

    def _cross(self, period: Period, at: int) -> None:
        budget = period.budget
        for ratio in thresholds_reached(budget, period.spent):
            if str(ratio) not in period.crossed:
                period.crossed.add(str(ratio))
                self._crossed.append((budget.budget, period.start, str(ratio), at, period.spent, budget.limit))
        period.aim()

    def expire(self, at: int) -> int:
        """Move the reservations that expired by `at` to *unsettled*; returns how many."""
        book, connection = self._open
        # Settled reservations leave the queue only when they would have expired; at thousands a second they would fill the memory.
        if len(self._expiries) > 2 * len(book.reservations) + 1024:
            self._line_up(book)
        expired = []
        while self._expiries and self._expiries[0][0] <= at:
            _, reservation_id = heapq.heappop(self._expiries)
            reservation = book.reservations.get(reservation_id)
            # A check that comes again after its usage has the id of the first one, which stands here too.
            if reservation is not None and not reservation.unsettled and reservation.expires_at <= at:
                book.mark_unsettled(reservation)
                if reservation_id not in self._reserved:
                    expired.append(reservation_id)
        if expired:
            mark_unsettled(connection, expired)
        return len(expired)

    def _line_up(self, book: Book) -> None:
        self._expiries = [(held.expires_at, held.reservation_id) for held in book.reservations.values() if not held.unsettled]
        heapq.heapify(self._expiries)

    def _new_id(self, at: int) -> str:
        """Rises with time, so that the newest rows of an index lie together; the random part keeps engines apart."""
        self._sequence += 1
        return f"{at:014x}{self._sequence & 0xFFFFFF:06x}{self._instance}"

    # --- statements --------------------------------------------------------------------------------------------------------

    def put(self, connection: Connection, budget: Budget, actor: str) -> Budget | None:
        """Write a budget, new or changed, with its audit entry; returns what it was before."""
        book, _ = self._open
        now = self._now()
        before = store_budget(connection, budget, self._zone, now, actor)
        book.put(budget, now)
        return before

    def _give_default(self, book: Book, connection: Connection, dimensions: Dimensions) -> bool:
        default = self._settings.default
        tenant = dimensions[TENANT]
        if default is None or not tenant or default.model not in ("*", dimensions[MODEL]) or book.covers_tenant(dimensions):
            return False
        model = "" if default.model == "*" else default.model
        scope = tuple({"tenant_id": tenant, "model": model}.get(name, "") for name in DIMENSIONS)
        name = budget_name(scope, "month")
        if read_budget(connection, name) is not None:
            return False
        self.flush(connection)
        self.put(connection, new_budget(self._settings, scope, "month", to_nanos(default.monthly_limit_usd), "default"), "default")
        return True

    def put_configured(self, connection: Connection, budgets: Sequence[Budget]) -> None:
        """Make the budgets of origin `config` be exactly `budgets`. Raises `ValueError` where a name belongs to another origin."""
        book, _ = self._open
        changed, gone = configured_changes(read_budgets(connection), budgets)
        for budget in changed:
            self.put(connection, budget, "config")
        for name in gone:
            drop_budget(connection, name, self._now(), "config")
            book.remove(name)

    def suspend(self, connection: Connection, tenant_id: str, *, reason: str, actor: str, run_id: str) -> bool:
        """Deny every check of a tenant from now on; False where it was suspended already."""
        book, _ = self._open
        now = self._now()
        changed = suspend_tenant(connection, tenant_id, reason=reason, actor=actor, run_id=run_id, now=now)
        if changed:
            after = {"reason": reason, "run_id": run_id}
            append_audit(connection, at=now, actor=actor, action="suspend_tenant", subject=tenant_id, after=after)
            book.suspended[tenant_id] = {"tenant_id": tenant_id, "reason": reason, "actor": actor, "run_id": run_id, "suspended_at": now}
        return changed

    def resume(self, connection: Connection, tenant_id: str, *, actor: str) -> bool:
        """Lift a suspension; False where there was none."""
        book, _ = self._open
        changed = resume_tenant(connection, tenant_id)
        if changed:
            before = book.suspended.pop(tenant_id)
            append_audit(connection, at=self._now(), actor=actor, action="resume_tenant", subject=tenant_id, before=before)
        return changed
