"""What the engine knows in memory where it is the only one that writes: every period and every reservation that is not settled."""

import heapq
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from costwarden.budgets.holdings import Holdings, Period, Reservation, contradicts
from costwarden.budgets.index import MODEL, TENANT, BudgetIndex
from costwarden.budgets.rules import Budget, Dimensions, PeriodBounds, period_bounds
from costwarden.ledger import Connection
from costwarden.ledger.budgets import count_period, newest_periods, read_crossed, read_periods, read_reservations


def _call(reservation: Reservation) -> tuple[str, str, bool]:
    return reservation.dimensions[TENANT], reservation.dimensions[MODEL], reservation.unsettled


class Book(Holdings):
    """Budgets, periods and reservations, as read from the ledger at one moment and kept since."""

    def __init__(self, connection: Connection, zone: ZoneInfo, now: int) -> None:
        super().__init__()
        self._zone = zone
        self._connection = connection
        self.index = BudgetIndex(connection)
        self._current: dict[str, Period] = {}
        self._older: dict[tuple[str, int], Period] = {}
        self._reservations: dict[str, Reservation] = {}
        self._anonymous: dict[tuple[str, str, bool], dict[str, Reservation]] = {}
        self._expiries: list[tuple[int, str]] = []
        self._read_all(connection, now)

    def _read_all(self, connection: Connection, now: int) -> None:
        budgets = self.index.budgets
        calendar = PeriodBounds(self._zone)
        bounds = {name: calendar.of(budget.period, now) for name, budget in budgets.items()}
        keys = [(name, start) for name, (start, _) in bounds.items()]
        rows, crossed, newest = read_periods(connection, keys), read_crossed(connection, keys), newest_periods(connection)
        stored: dict[int, tuple[int, int]] = {}
        for name, budget in budgets.items():
            start, end = bounds[name]
            row = rows.get((name, start))
            last = newest.get(name, start)
            # The time zone was changed: what was counted from another midnight is counted anew, or a restart would free it.
            recount = row is None and calendar.of(budget.period, last)[0] != last
            if recount:
                row = count_period(connection, name, budget.scope, start, end)
            period = self._current[name] = Period(budget, start, end, row, crossed.get((name, start), ()))
            if recount:
                self.touched[id(period)] = period
            stored[id(period)] = (period.reserved, period.unsettled)
            period.reserved = period.unsettled = 0
        for found in read_reservations(connection):
            reservation = Reservation.of(found)
            reservation.periods = self.periods(reservation.dimensions, reservation.created_at)
            self._hold_again(reservation)
        for period in [*self._current.values(), *self._older.values()]:
            # What is set aside is the sum of the reservations: a ledger of an older version does not have it yet.
            if stored.get(id(period), (-1, -1)) != (period.reserved, period.unsettled):
                self.touched[id(period)] = period

    def _hold_again(self, reservation: Reservation) -> None:
        for period in reservation.periods:
            if reservation.unsettled:
                period.unsettled += reservation.estimate
            else:
                period.reserved += reservation.estimate
        self._remember(reservation)

    def use(self, connection: Connection, now: int, *, foreign_change: bool) -> bool:
        """Read through `connection` from now on; False where another process has changed more than budgets and suspensions."""
        self._connection = connection
        if foreign_change:
            changes = self.index.changes(connection)
            if changes is None:
                return False
            for name in (change for change in changes if isinstance(change, str)):
                self.remove(name)
            self._put_all([change for change in changes if isinstance(change, Budget)], now)
        # Those that hold no reservation any more: the ledger has them.
        for key in [key for key, period in self._older.items() if not period.reserved and not period.unsettled]:
            del self._older[key]
        return True

    def put(self, budget: Budget, now: int) -> None:
        """Take a budget, new or changed, from the ledger, where it is already written."""
        self._put_all([budget], now)

    def _put_all(self, budgets: Sequence[Budget], now: int) -> None:
        # All at once: of a file of a thousand budgets the ledger is asked once.
        made = []
        for budget in budgets:
            name = budget.budget
            known = self.index.budgets.get(name)
            self.index.put(budget)
            if known is not None and (known.scope, known.period) == (budget.scope, budget.period):
                for period in [self._current[name], *(period for (older, _), period in self._older.items() if older == name)]:
                    period.budget = budget
                    period.aim()
                continue
            if known is not None:
                self._forget(name)
            made.append(budget)
        for budget, period in zip(made, self._read(made, now), strict=True):
            self._current[budget.budget] = period
        for budget in made:
            self._count_reservations(budget)

    def _count_reservations(self, budget: Budget) -> None:
        name = budget.budget
        for reservation in self._reservations.values():
            if all(wanted in ("", value) for wanted, value in zip(budget.scope, reservation.dimensions, strict=True)):
                period = self._period(name, reservation.created_at)
                period.unsettled += reservation.estimate if reservation.unsettled else 0
                period.reserved += 0 if reservation.unsettled else reservation.estimate
                self.touched[id(period)] = period
                reservation.periods.append(period)

    def remove(self, name: str) -> None:
        """Drop a budget that the ledger no longer has."""
        self.index.remove(name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        gone = [self._current.pop(name), *(self._older.pop(key) for key in [key for key in self._older if key[0] == name])]
        for period in gone:
            self.touched.pop(id(period), None)
        for reservation in self._reservations.values():
            reservation.periods = [period for period in reservation.periods if period.budget.budget != name]

    def periods(self, dimensions: Dimensions, at: int) -> list[Period]:
        """The period at `at` of every budget whose scope matches."""
        return [self._period(name, at) for name in self.index.matching(dimensions)]

    def period_of(self, name: str, at: int) -> Period | None:
        """The period at `at` of one budget; None where there is no such budget."""
        return self._period(name, at) if name in self.index.budgets else None

    def _period(self, name: str, at: int) -> Period:
        current = self._current[name]
        if current.start <= at < current.end:
            return current
        start, _ = period_bounds(self.index.budgets[name].period, at, self._zone)
        period = self._older.get((name, start)) or self._read([self.index.budgets[name]], at)[0]
        if start > current.start:
            self._older[name, current.start] = current
            self._older.pop((name, start), None)
            self._current[name] = period
        else:
            self._older[name, start] = period
        return period

    def _read(self, budgets: Sequence[Budget], at: int) -> list[Period]:
        calendar = PeriodBounds(self._zone)
        bounds = [calendar.of(budget.period, at) for budget in budgets]
        keys = [(budget.budget, start) for budget, (start, _) in zip(budgets, bounds, strict=True)]
        rows, crossed = read_periods(self._connection, keys), read_crossed(self._connection, keys)
        found = []
        for budget, key, (start, end) in zip(budgets, keys, bounds, strict=True):
            row = rows.get(key)
            if row is None:
                # A period from before the budget was made: what was spent in it then belongs to it all the same.
                row = count_period(self._connection, budget.budget, budget.scope, start, end)
            period = Period(budget, start, end, row, crossed.get(key, ()))
            # A period that is not in memory holds nothing, or its reservations are about to be added.
            period.reserved = period.unsettled = 0
            found.append(period)
        return found

    def find(self, reservation_id: str) -> Reservation | None:
        """The reservation of that id."""
        return self._reservations.get(reservation_id)

    def oldest_anonymous(self, dimensions: Dimensions) -> Reservation | None:
        """The oldest call without an event id, of that tenant and model, that contradicts `dimensions` nowhere.

        One that has not expired comes first: a call that crashed long ago must not lend its time to those that answer.
        """
        for unsettled in (False, True):
            for reservation in self._anonymous.get((dimensions[TENANT], dimensions[MODEL], unsettled), {}).values():
                if not contradicts(dimensions, reservation.dimensions):
                    return reservation
        return None

    def hold(self, reservation: Reservation) -> None:
        """Set the reservation's money aside in its periods, and remember it."""
        super().hold(reservation)
        self._remember(reservation)

    def _remember(self, reservation: Reservation) -> None:
        self._reservations[reservation.reservation_id] = reservation
        if not reservation.unsettled:
            heapq.heappush(self._expiries, (reservation.expires_at, reservation.reservation_id))
        self._wait(reservation)

    def release(self, reservation: Reservation) -> None:
        """Give the reservation's money back to its periods, and forget it."""
        super().release(reservation)
        del self._reservations[reservation.reservation_id]
        self._wait_no_more(reservation)

    def mark_unsettled(self, reservation: Reservation) -> None:
        """The reservation expired: it goes on counting, under its own name."""
        self._wait_no_more(reservation)
        super().mark_unsettled(reservation)
        self._wait(reservation)

    def _wait(self, reservation: Reservation) -> None:
        if reservation.is_anonymous:
            self._anonymous.setdefault(_call(reservation), {})[reservation.reservation_id] = reservation

    def _wait_no_more(self, reservation: Reservation) -> None:
        if reservation.is_anonymous:
            call = _call(reservation)
            del self._anonymous[call][reservation.reservation_id]
            if not self._anonymous[call]:
                del self._anonymous[call]

    def due(self, at: int) -> list[Reservation]:
        """The open reservations that expired by `at`."""
        # Settled reservations leave the queue only when they would have expired; at thousands a second they would fill the memory.
        if len(self._expiries) > 2 * len(self._reservations) + 1024:
            self._expiries = [(held.expires_at, held.reservation_id) for held in self._reservations.values() if not held.unsettled]
            heapq.heapify(self._expiries)
        found: dict[str, Reservation] = {}
        while self._expiries and self._expiries[0][0] <= at:
            _, reservation_id = heapq.heappop(self._expiries)
            reservation = self._reservations.get(reservation_id)
            # A check that comes again after its usage has the id of the first one, which stands here too.
            if reservation is not None and not reservation.unsettled and reservation.expires_at <= at:
                found[reservation_id] = reservation
        return list(found.values())
