"""What the engine knows in memory: budgets with their periods, and the reservations that are not settled."""

from collections.abc import Iterable
from zoneinfo import ZoneInfo

from costwarden.budgets.rules import Budget, Dimensions, ScopeIndex, period_bounds, share
from costwarden.budgets.store import budget_of
from costwarden.ledger import Connection
from costwarden.ledger.budgets import newest_periods, read_budgets, read_crossed, read_periods, read_reservations, read_suspended
from costwarden.ledger.usage import Spend, spend_between
from costwarden.model import DIMENSIONS

NEVER = 1 << 62
TENANT, MODEL = DIMENSIONS.index("tenant_id"), DIMENSIONS.index("model")


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
        "soft_limit",
        "spent",
        "start",
        "unsettled",
    )

    def __init__(self, budget: Budget, start: int, end: int, spend: Spend, crossed: Iterable[str]) -> None:
        self.budget = budget
        self.start = start
        self.end = end
        self.spent = spend.cost
        self.input_tokens = spend.input_tokens
        self.output_tokens = spend.output_tokens
        self.requests = spend.requests
        self.reserved = 0
        self.unsettled = 0
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

    def row(self) -> tuple[str, int, int, int, int, int]:
        """As `ledger.budgets.write_periods` takes it."""
        return (self.budget.budget, self.start, self.spent, self.input_tokens, self.output_tokens, self.requests)


class Reservation:
    """Money set aside for a call that has not answered yet, and the periods that it is set aside in."""

    __slots__ = ("created_at", "dimensions", "estimate", "event_id", "expires_at", "periods", "reservation_id", "unsettled")

    def __init__(
        self, reservation_id: str, event_id: str, created_at: int, expires_at: int, unsettled: bool, estimate: int, dimensions: Dimensions
    ) -> None:
        self.reservation_id = reservation_id
        self.event_id = event_id
        self.created_at = created_at
        self.expires_at = expires_at
        self.unsettled = unsettled
        self.estimate = estimate
        self.dimensions = dimensions
        self.periods: list[Period] = []

    def row(self) -> tuple[str | int, ...]:
        """As `ledger.budgets.write_reservations` takes it."""
        state = "unsettled" if self.unsettled else "open"
        return (self.reservation_id, self.event_id, self.created_at, self.expires_at, state, self.estimate, *self.dimensions)


def _call(dimensions: Dimensions, unsettled: bool) -> tuple[str, str, bool]:
    return dimensions[TENANT], dimensions[MODEL], unsettled


class Book:
    """Budgets, open reservations and suspended tenants, as read from the ledger at one moment."""

    def __init__(self, connection: Connection, zone: ZoneInfo, now: int) -> None:
        self._zone = zone
        self._connection = connection
        self._scopes: ScopeIndex[str] = ScopeIndex()
        self._budgets: dict[str, Budget] = {}
        self._current: dict[str, Period] = {}
        self._older: dict[tuple[str, int], Period] = {}
        self.reservations: dict[str, Reservation] = {}
        self._anonymous: dict[tuple[str, str, bool], dict[str, Reservation]] = {}
        self.suspended = read_suspended(connection)
        budgets = [budget_of(row) for row in read_budgets(connection)]
        bounds = {budget.budget: period_bounds(budget.period, now, zone) for budget in budgets}
        keys = [(name, start) for name, (start, _) in bounds.items()]
        spends, crossed, newest = read_periods(connection, keys), read_crossed(connection, keys), newest_periods(connection)
        self.recounted: list[Period] = []
        """Periods that the ledger does not have yet, for the engine to write."""
        for budget in budgets:
            name = budget.budget
            start, end = bounds[name]
            spend = spends.get((name, start))
            last = newest.get(name, start)
            # The time zone was changed: what was counted from another midnight is counted anew, or a restart would free it.
            recount = spend is None and period_bounds(budget.period, last, zone)[0] != last
            if recount:
                spend = spend_between(connection, budget.scope, start, end)
            self._budgets[name] = budget
            self._scopes.add(budget.scope, name)
            self._current[name] = Period(budget, start, end, spend or Spend(), crossed.get((name, start), ()))
            if recount:
                self.recounted.append(self._current[name])
        for reservation_id, event_id, created_at, expires_at, state, estimate, *dimensions in read_reservations(connection):
            reservation = Reservation(reservation_id, event_id, created_at, expires_at, state == "unsettled", estimate, tuple(dimensions))
            reservation.periods = self.periods(reservation.dimensions, created_at)
            self.hold(reservation)

    def use(self, connection: Connection) -> None:
        """Read older periods through `connection` from now on, and forget those that hold no reservation: the ledger has them."""
        self._connection = connection
        for key in [key for key, period in self._older.items() if not period.reserved and not period.unsettled]:
            del self._older[key]

    def put(self, budget: Budget, now: int) -> None:
        """Take a budget, new or changed, from the ledger, where it is already written."""
        name = budget.budget
        known = self._budgets.get(name)
        self._budgets[name] = budget
        if known is not None and (known.scope, known.period) == (budget.scope, budget.period):
            for period in [self._current[name], *(period for (older, _), period in self._older.items() if older == name)]:
                period.budget = budget
                period.aim()
            return
        if known is not None:
            self._forget(known)
        self._scopes.add(budget.scope, name)
        self._current[name] = self._read(budget, now)
        for reservation in self.reservations.values():
            if all(wanted in ("", value) for wanted, value in zip(budget.scope, reservation.dimensions, strict=True)):
                period = self._period(name, reservation.created_at)
                period.unsettled += reservation.estimate if reservation.unsettled else 0
                period.reserved += 0 if reservation.unsettled else reservation.estimate
                reservation.periods.append(period)

    def remove(self, name: str) -> None:
        """Drop a budget that the ledger no longer has."""
        self._forget(self._budgets.pop(name))

    def _forget(self, budget: Budget) -> None:
        self._scopes.remove(budget.scope, budget.budget)
        del self._current[budget.budget]
        for key in [key for key in self._older if key[0] == budget.budget]:
            del self._older[key]
        for reservation in self.reservations.values():
            reservation.periods = [period for period in reservation.periods if period.budget.budget != budget.budget]

    def periods(self, dimensions: Dimensions, at: int) -> list[Period]:
        """The period at `at` of every budget whose scope matches."""
        return [self._period(name, at) for name in self._scopes.matching(dimensions)]

    def _period(self, name: str, at: int) -> Period:
        current = self._current[name]
        if current.start <= at < current.end:
            return current
        start, _ = period_bounds(self._budgets[name].period, at, self._zone)
        period = self._older.get((name, start)) or self._read(self._budgets[name], at)
        if start > current.start:
            self._older[name, current.start] = current
            self._older.pop((name, start), None)
            self._current[name] = period
        else:
            self._older[name, start] = period
        return period

    def _read(self, budget: Budget, at: int) -> Period:
        start, end = period_bounds(budget.period, at, self._zone)
        key = budget.budget, start
        spend = read_periods(self._connection, [key]).get(key)
        if spend is None:
            # A period from before the budget was made: what was spent in it then belongs to it all the same.
            spend = spend_between(self._connection, budget.scope, start, end)
        return Period(budget, start, end, spend, read_crossed(self._connection, [key]).get(key, ()))

    def hold(self, reservation: Reservation) -> None:
        """Set the reservation's money aside in its periods, and remember it."""
        for period in reservation.periods:
            if reservation.unsettled:
                period.unsettled += reservation.estimate
            else:
                period.reserved += reservation.estimate
        self.reservations[reservation.reservation_id] = reservation
        self._wait(reservation)

    def release(self, reservation: Reservation) -> None:
        """Give the reservation's money back to its periods, and forget it."""
        for period in reservation.periods:
            if reservation.unsettled:
                period.unsettled -= reservation.estimate
            else:
                period.reserved -= reservation.estimate
        del self.reservations[reservation.reservation_id]
        self._wait_no_more(reservation)

    def _wait(self, reservation: Reservation) -> None:
        if not reservation.event_id:
            call = _call(reservation.dimensions, reservation.unsettled)
            self._anonymous.setdefault(call, {})[reservation.reservation_id] = reservation

    def _wait_no_more(self, reservation: Reservation) -> None:
        if not reservation.event_id:
            call = _call(reservation.dimensions, reservation.unsettled)
            del self._anonymous[call][reservation.reservation_id]
            if not self._anonymous[call]:
                del self._anonymous[call]

    def oldest_anonymous(self, dimensions: Dimensions) -> Reservation | None:
        """The oldest reservation without an event id, of that tenant and model, that contradicts `dimensions` nowhere.

        One that has not expired comes first: a call that crashed long ago must not lend its time to those that answer.
        """
        for unsettled in (False, True):
            for reservation in self._anonymous.get(_call(dimensions, unsettled), {}).values():
                if all("" in pair or pair[0] == pair[1] for pair in zip(dimensions, reservation.dimensions, strict=True)):
                    return reservation
        return None

    def mark_unsettled(self, reservation: Reservation) -> None:
        """The reservation expired: it goes on counting, under its own name."""
        for period in reservation.periods:
            period.reserved -= reservation.estimate
            period.unsettled += reservation.estimate
        self._wait_no_more(reservation)
        reservation.unsettled = True
        self._wait(reservation)

    def covers_tenant(self, dimensions: Dimensions) -> bool:
        """Whether any matching budget is the tenant's own."""
        return any(self._budgets[name].scope[TENANT] for name in self._scopes.matching(dimensions))

    def __len__(self) -> int:
        return len(self._budgets)
