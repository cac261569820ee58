"""Bills, metered usage and reservations in one ledger, on either database, with a clock that tests turn by hand."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from costwarden.budgets.calls import Reserve
from costwarden.budgets.engine import Engine
from costwarden.budgets.settings import BudgetsSettings
from costwarden.budgets.status import budget_statuses
from costwarden.budgets.store import new_budget
from costwarden.ledger import Ledger
from costwarden.ledger.audit import list_audit
from costwarden.ledger.budgets import read_reservations
from costwarden.ledger.charges import (
    Part,
    Refresh,
    charge_row,
    clear_staged,
    mark_failed,
    record_refresh,
    remove_part,
    replace_part,
    stage_charges,
)
from costwarden.ledger.providers import add_reported_usage
from costwarden.ledger.queries import hourly_costs
from costwarden.ledger.schema import usage
from costwarden.model import CORRECTION, DIMENSIONS, Charge, ReportedUsage, Usage, from_nanos, to_micros, to_nanos
from costwarden.reconciliation.apply import Applied, Reconciler, Wish
from costwarden.reconciliation.reading import Reconciliation, day_bounds, read_reconciliation
from costwarden.reconciliation.settings import ReconciliationSettings

TODAY = date(2026, 11, 20)
DAY = date(2026, 11, 10)
"""Ten days old: every bill has it."""


def hour_of(day: date, hour: int = 12) -> int:
    return to_micros(datetime(day.year, day.month, day.day, hour, tzinfo=UTC))


class Books:
    """A ledger with everything that a reconciliation reads. Amounts are dollars as text."""

    def __init__(self, url: str, today: date = TODAY, zone: str = "UTC", *, owner: bool = True, **settings: Any) -> None:
        self.url = url
        self.today = today
        self.settings = ReconciliationSettings(**settings)
        self._numbers = count(1)
        self.zone = ZoneInfo(zone)
        self.engine = Engine(BudgetsSettings(default=None, unbudgeted="allow"), self.zone, self.now)
        self.reconciler = Reconciler(self.engine, self.settings, self.now)
        self.ledger = Ledger(url, owner=owner, participant=self.reconciler)

    def now(self) -> int:
        return hour_of(self.today)

    # --- the bill ----------------------------------------------------------------------------------------------------------

    def bill(
        self,
        *lines: tuple[str, str],
        provider: str = "openai",
        day: date = DAY,
        part: str | None = None,
        source: str = "",
        account: str = "1",
        category: str = "Usage",
        rate: str = "1",
        rejected: int = 0,
        reported: tuple[ReportedUsage, ...] = (),
        read_on: date | None = None,
    ) -> None:
        """Put a bill in force in place of what that day's part held: (service, dollars or currency units) each."""
        source, part = source or provider, f"org/{day}" if part is None else part
        rows = [
            charge_row(
                Charge(
                    source=source,
                    part=part,
                    charge_date=day,
                    provider_name=provider,
                    billing_account_id=account,
                    sub_account_id="",
                    service_name=service,
                    service_category="AI and Machine Learning",
                    region_id="",
                    charge_category=category,
                    billing_currency="USD" if rate == "1" else "EUR",
                    team="",
                    feature="",
                    tenant_id="",
                    environment="",
                    billed_cost=Decimal(amount),
                    effective_cost=Decimal(amount),
                    list_cost=Decimal(amount),
                    contracted_cost=Decimal(amount),
                    usd_rate=Decimal(rate),
                    row_count=1,
                )
            )
            for service, amount in lines
        ]
        read_at = hour_of(read_on or self.today)
        reasons = {"no_exchange_rate": rejected} if rejected else {}

        def write(connection: Any) -> None:
            remove_part(connection, source, part)
            clear_staged(connection, source, 1_000)
            stage_charges(connection, rows)
            replace_part(connection, source, Part(part=part, state="ok", rows=len(rows), read_at=read_at), reasons, [])
            clear_staged(connection, source, 1_000)
            add_reported_usage(connection, reported)
            record_refresh(connection, source, Refresh(at=read_at, duration_seconds=1))

        self.ledger.write(write)

    def fail(self, part: str, source: str = "openai") -> None:
        """A part cannot be read."""
        self.ledger.write(lambda connection: mark_failed(connection, source, part, "no access", self.now()))

    @staticmethod
    def reported(model: str, day: date = DAY, provider: str = "openai", **quantities: int) -> ReportedUsage:
        return ReportedUsage(source=provider, part=f"org/{day}", usage_date=day, provider=provider, model=model, **quantities)

    # --- the meter ---------------------------------------------------------------------------------------------------------

    def meter(self, usd: str, *, day: date = DAY, provider: str = "openai", model: str = "gpt-4o", hour: int = 12, **fields: Any) -> None:
        """A call was metered at this."""
        event = Usage(
            source="test",
            event_id=str(next(self._numbers)),
            timestamp=hour_of(day, hour),
            provider=provider,
            model=model,
            cost=to_nanos(usd),
            priced_by="caller",
            **{"tenant_id": "acme", **fields},
        )
        assert self.ledger.writer.step_blocking(self.engine.ingest, [event]) == 1

    def reserve(self, usd: str, *, day: date = DAY, event_id: str = "", open_: bool = False, kind: str = "call", **named: str) -> str:
        """A check of that day whose call nobody settled; its id."""
        named = {"tenant_id": "acme", "provider": "openai", "model": "gpt-4o", **named}
        dimensions = tuple(named.get(name, "") for name in DIMENSIONS)
        wish = Reserve(dimensions, to_nanos(usd), hour_of(day), event_id, kind)
        decision = self.ledger.writer.step_blocking(self.engine.reserve, wish)
        assert decision.allowed, decision
        if not open_:
            self.ledger.writer.step_blocking(self.engine.expire, self.now())
        return decision.reservation_id

    def budget(self, limit_usd: str = "1000", period: str = "month", **named: str) -> str:
        scope = tuple(named.get(name, "") for name in DIMENSIONS)
        made = new_budget(BudgetsSettings(), scope, period, to_nanos(limit_usd))
        self.ledger.write(lambda connection: self.engine.put(connection, made, "admin"))
        return made.budget

    # --- what comes of it --------------------------------------------------------------------------------------------------

    def read(self, first: date = DAY, last: date = DAY, *names: str) -> Reconciliation:
        wanted = [entry for entry in self.settings.providers if not names or entry.provider in names]
        with self.ledger.read() as connection:
            return read_reconciliation(connection, self.settings, wanted, first, last, self.today)

    def apply(self, provider: str = "openai", day: date = DAY) -> Applied:
        return self.ledger.writer.step_blocking(self.reconciler.reconcile, Wish(provider, day, "auditor", self.now()))

    def recorded(self, provider: str = "openai", day: date = DAY) -> str:
        """Dollars that the ledger's hourly sums have for that day, of all usage with that provider."""
        hours = day_bounds(day)[0] // 3_600_000_000
        with self.ledger.read() as connection:
            rows = hourly_costs(connection, (), {"provider": provider}, first_hour=hours, last_hour=hours + 24, hours_each=0)
        return str(from_nanos(rows[0][1]))

    def spent(self) -> dict[str, str]:
        """By budget: dollars spent, and dollars unsettled where there are any."""
        with self.ledger.read() as connection:
            found = budget_statuses(connection, self.zone, hour_of(DAY))
        return {
            status.budget.budget: f"{from_nanos(status.spent)}" + (f" + {from_nanos(status.unsettled)}" if status.unsettled else "")
            for status in found
        }

    def corrections(self) -> list[dict[str, Any]]:
        with self.ledger.read() as connection:
            query = select(usage).where(usage.c.source == CORRECTION).order_by(usage.c.usage_id)
            return [dict(row) for row in connection.execute(query).mappings()]

    def reservations(self) -> list[str]:
        with self.ledger.read() as connection:
            return [row[0] for row in read_reservations(connection)]

    def audit(self, action: str = "reconcile") -> list[dict[str, Any]]:
        with self.ledger.read() as connection:
            return [entry for entry in list_audit(connection) if entry["action"] == action]


@pytest.fixture(scope="session")
def books_class() -> type[Books]:
    """For tests whose ledger comes from elsewhere."""
    return Books


@pytest.fixture
def books_of(database_url: Callable[[], str]) -> Iterator[Callable[..., Books]]:
    """`books_of(lag_days=3)`: books with these settings of the section `reconciliation`; `url=` opens a ledger once more."""
    made: list[Books] = []

    def make(url: str = "", **settings: Any) -> Books:
        made.append(Books(url or database_url(), **settings))
        return made[-1]

    yield make
    for books in made:
        books.ledger.close()


@pytest.fixture
def books(books_of: Callable[..., Books]) -> Books:
    """Books with the settings that are built in."""
    return books_of()
