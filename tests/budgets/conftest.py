"""A budget engine on a real ledger, with a clock that tests turn by hand."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from costwarden.budgets.calls import Decision, Release, Released, Reserve, Settle, Settled
from costwarden.budgets.engine import Engine
from costwarden.budgets.rules import Budget
from costwarden.budgets.settings import BudgetsSettings
from costwarden.budgets.status import BudgetStatus, budget_statuses
from costwarden.budgets.store import new_budget, store_budget
from costwarden.ledger import Ledger
from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, Usage, to_nanos

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""


def scope(**named: str) -> tuple[str, ...]:
    """The values of dimensions in their order; those that are not named are empty."""
    assert named.keys() <= set(DIMENSIONS)
    return tuple(named.get(dimension, "") for dimension in DIMENSIONS)


class Desk:
    """A ledger and the engine that decides over it, as `serve` has them. Amounts are dollars as text."""

    def __init__(self, url: str, settings: BudgetsSettings, zone: ZoneInfo, *, owner: bool = True) -> None:
        self.url = url
        self.settings = settings
        self.zone = zone
        self.now = NOON
        self.owner = owner
        self.open()

    @property
    def path(self) -> Path:
        """The file of a ledger on SQLite."""
        return self.ledger.path

    def open(self) -> None:
        self.engine = Engine(self.settings, self.zone, lambda: self.now)
        self.ledger = Ledger(self.url, owner=self.owner, participant=self.engine)

    def restart(self) -> None:
        """The process ends and another takes over."""
        self.ledger.close()
        self.open()

    def wait(self, *, days: float = 0, seconds: float = 0) -> None:
        """Turn the clock."""
        self.now += int((days * 86_400 + seconds) * MICROS_PER_SECOND)

    def put(self, limit_usd: str, period: str = "month", **named: str) -> Budget:
        """Give a budget through the API."""
        made = new_budget(self.settings, scope(**named), period, to_nanos(limit_usd))
        self.ledger.write(lambda connection: self.engine.put(connection, made, "admin"))
        return made

    def put_beside(self, limit_usd: str, period: str = "month", **named: str) -> Budget:
        """Give a budget as the command line does, in a process of its own."""
        made = new_budget(self.settings, scope(**named), period, to_nanos(limit_usd))
        beside = Ledger(self.url)
        beside.write(lambda connection: store_budget(connection, made, self.zone, self.now, "command line"))
        beside.close()
        return made

    def wish(self, usd: str, *, event_id: str = "", tenant_id: str = "acme", model: str = "m", **named: str) -> Reserve:
        return Reserve(scope(tenant_id=tenant_id, model=model, **named), to_nanos(usd), self.now, event_id)

    def reserve(self, dimensions: tuple[str, ...], usd: str, **more: Any) -> Reserve:
        """A wish with everything that it can have."""
        return Reserve(dimensions, to_nanos(usd), self.now, **more)

    def check(self, usd: str, **named: str) -> Decision:
        """May a call of this estimate be made?"""
        return self.ledger.writer.step_blocking(self.engine.reserve, self.wish(usd, **named))

    def call(
        self,
        usd: str,
        *,
        reservation_id: str = "",
        event_id: str = "",
        tenant_id: str = "acme",
        model: str = "m",
        at: int = 0,
        **fields: Any,
    ) -> Settle:
        usage = Usage(
            source=f"api:{tenant_id}",
            event_id=event_id,
            timestamp=at,
            tenant_id=tenant_id,
            model=model,
            cost=to_nanos(usd),
            priced_by="caller",
            **fields,
        )
        return Settle(usage, reservation_id, self.now)

    def track(self, usd: str, **named: Any) -> Settled:
        """A call has cost this."""
        return self.ledger.writer.step_blocking(self.engine.settle, self.call(usd, **named))

    def release(self, reservation_id: str, tenant_id: str = "acme") -> Released:
        """The call was not made, or the lease is over."""
        return self.ledger.writer.step_blocking(self.engine.release, Release(tenant_id, reservation_id))

    def expire(self) -> int:
        """What the server does every second."""
        return self.ledger.writer.step_blocking(self.engine.expire, self.now)

    def delete(self, name: str) -> None:
        """Remove a budget through the API."""
        self.ledger.write(lambda connection: self.engine.drop(connection, name, "admin"))

    def suspend(self, tenant_id: str, reason: str = "runaway") -> bool:
        return self.ledger.write(
            lambda connection: self.engine.suspend(connection, tenant_id, reason=reason, actor="operator", run_id="run 1")
        )

    def resume(self, tenant_id: str) -> bool:
        return self.ledger.write(lambda connection: self.engine.resume(connection, tenant_id, actor="operator"))

    def statuses(self) -> dict[str, BudgetStatus]:
        """How the ledger says that every budget stands."""
        with self.ledger.read() as connection:
            return {status.budget.budget: status for status in budget_statuses(connection, self.zone, self.now)}

    def status(self, budget: Budget) -> tuple[int, int, int]:
        """Nano-dollars spent, reserved and unsettled, by the ledger; the engine must agree."""
        assert self.in_memory() == self.in_ledger()
        return self.in_ledger()[budget.budget]

    def in_ledger(self) -> dict[str, tuple[int, int, int]]:
        return {name: (status.spent, status.reserved, status.unsettled) for name, status in self.statuses().items()}

    def in_memory(self) -> dict[str, tuple[int, int, int]]:
        """White-box: the figures that the engine decides by."""

        def read(_: None) -> dict[str, tuple[int, int, int]]:
            book, _ = self.engine._open
            periods = {name: book.period_of(name, self.now) for name in book.index.budgets}
            return {name: (period.spent, period.reserved, period.unsettled) for name, period in periods.items()}

        return self.ledger.writer.step_blocking(read, None)


@pytest.fixture(scope="session")
def desk_class() -> type[Desk]:
    """For tests that make many desks and end them themselves."""
    return Desk


@pytest.fixture
def desk_of(database_url: Callable[[], str]) -> Iterator[Callable[..., Desk]]:
    """`desk_of(zone="Europe/Berlin", unbudgeted="allow")`: a desk with these settings and no default budget unless given."""
    desks: list[Desk] = []

    def make(zone: str = "UTC", **settings: Any) -> Desk:
        chosen = BudgetsSettings(**{"default": None, **settings})
        desks.append(Desk(database_url(), chosen, ZoneInfo(zone)))
        return desks[-1]

    yield make
    for desk in desks:
        desk.ledger.close()


@pytest.fixture
def beside(desk: Desk) -> Iterator[Callable[[], Desk]]:
    """`beside()`: another engine on the ledger of `desk`: the command line beside a server on SQLite, another replica on PostgreSQL."""
    desks: list[Desk] = []

    def make() -> Desk:
        desks.append(Desk(desk.url, desk.settings, desk.zone, owner=False))
        desks[-1].now = desk.now
        return desks[-1]

    yield make
    for other in desks:
        other.ledger.close()


@pytest.fixture
def desk(desk_of: Callable[..., Desk]) -> Desk:
    """A desk without default budget, that refuses what no budget covers."""
    return desk_of()
