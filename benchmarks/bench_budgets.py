"""What 100,000 budgets cost a check, against 10: durable, in process, on SQLite and PostgreSQL; and how long a start takes with them.

Both ledgers answer the same checks, by the same callers, in alternating rounds. Each check is held against five budgets of five shapes:
a tenant's, its model's, its feature's, its team's and a user's. With 100,000 budgets the other 99,990 are of other tenants and other
shapes' values. Beside it the checks of everybody: there each transaction writes other periods than the last, and that is not the lookup's
doing.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import uvloop
from servers import cpu_seconds, free_port, postgresql, serving

from costwarden.budgets.calls import Reserve
from costwarden.budgets.engine import Engine
from costwarden.budgets.rules import budget_name, scope_of
from costwarden.budgets.settings import BudgetsSettings, Scope
from costwarden.ledger import Connection, Ledger
from costwarden.ledger.bulk import insert_rows
from costwarden.ledger.schema import budgets
from costwarden.model import DIMENSIONS

FEW, MANY = 10, 100_000
CALLERS, CHECKS, ROUNDS = 16, 1_600, 5
TARGET_RATIO = 1.3
TARGET_START_SECONDS = 3.0
COLUMNS = ("budget", *DIMENSIONS, "period", "limit_nanos", "soft_limit_ratio", "thresholds", "action", "origin")

CONFIG = """
server: {{{{port: {{port}}}}}}
database_url: {url}
logs: {{{{level: error}}}}
budgets: {{{{default: null}}}}
"""


def scopes_of(number: int) -> list[tuple[str, ...]]:
    """One of each shape, all of which match the calls of tenant `number`."""
    tenant = f"tenant-{number}"
    shapes = (
        Scope(tenant_id=tenant),
        Scope(tenant_id=tenant, model="gpt-4o"),
        Scope(tenant_id=tenant, feature="search"),
        Scope(team=f"team-{number}", service="api"),
        Scope(provider="openai", user_id=f"user-{number}"),
    )
    return [scope_of(shape) for shape in shapes]


def call(number: int) -> tuple[str, ...]:
    return scope_of(
        Scope(
            tenant_id=f"tenant-{number}",
            provider="openai",
            model="gpt-4o",
            feature="search",
            team=f"team-{number}",
            user_id=f"user-{number}",
            service="api",
        )
    )


def fill(connection: Connection, count: int) -> None:
    rows = [
        (budget_name(scope, "month"), *scope, "month", 10**18, "0.8", '["0.5", "0.8", "1"]', "", "api")
        for number in range(count // 5)
        for scope in scopes_of(number)
    ]
    insert_rows(connection, budgets, COLUMNS, rows)


class Desk:
    """An engine on a ledger with so many budgets."""

    def __init__(self, url: str, count: int) -> None:
        ledger = Ledger(url)
        ledger.write(lambda connection: fill(connection, count))
        ledger.close()
        self._engine = Engine(BudgetsSettings(default=None), ZoneInfo("UTC"), self._now)
        self.ledger = Ledger(url, owner=True, participant=self._engine)
        self.budgets = count

    @staticmethod
    def _now() -> int:
        return time.time_ns() // 1000

    def check(self, tenants: int) -> tuple[float, float]:
        """Checks a second of `CALLERS` callers that speak for `tenants` tenants, and microseconds of this process's CPU for each."""

        async def caller(first: int) -> None:
            for number in range(first, CHECKS, CALLERS):
                decision = await self.ledger.writer.step(self._engine.reserve, Reserve(call(number * 7919 % tenants), 1, self._now(), ""))
                assert decision.allowed

        async def all_callers() -> tuple[float, float]:
            started, spent = time.perf_counter(), time.process_time()
            await asyncio.gather(*(caller(number) for number in range(CALLERS)))
            return CHECKS / (time.perf_counter() - started), (time.process_time() - spent) / CHECKS * 1e6

        return uvloop.run(all_callers())


def start_seconds(directory: Path, url: str) -> tuple[float, float]:
    """Until it answers, and the CPU that this took."""
    port = free_port()
    started = time.perf_counter()
    with serving(directory, CONFIG.format(url=url), port) as server:
        return time.perf_counter() - started, cpu_seconds(server)


def bench(name: str, directory: Path, new_url: Callable[[], str]) -> bool:
    few, many = Desk(new_url(), FEW), Desk(many_url := new_url(), MANY)
    same = FEW // 5
    rates: dict[str, list[tuple[float, float]]] = {"few": [], "many": [], "everybody": []}
    # The first look reads the budgets: that is the start's, and measured there.
    few.check(same), many.check(same)
    for _ in range(ROUNDS):
        rates["few"].append(few.check(same))
        rates["many"].append(many.check(same))
        rates["everybody"].append(many.check(MANY // 5))
    few.ledger.close()
    many.ledger.close()
    rate = {case: statistics.median(checks for checks, _ in found) for case, found in rates.items()}
    cpu = {case: statistics.median(micros for _, micros in found) for case, found in rates.items()}
    ratio = statistics.median(one / other for (one, _), (other, _) in zip(rates["few"], rates["many"], strict=True))
    start, start_cpu = min(start_seconds(directory, many_url) for _ in range(2))
    print(
        f"{name}: a check takes {ratio:.2f} times as long with {MANY:,} budgets as with {FEW} (target {TARGET_RATIO}):"
        f" {rate['many']:,.0f} and {rate['few']:,.0f} checks/s of {CALLERS} callers, each against 5 budgets,"
        f" {cpu['many']:.0f} and {cpu['few']:.0f} µs of CPU"
    )
    print(f"    spread over all {MANY // 5:,} tenants: {rate['everybody']:,.0f} checks/s; every check then writes five periods of its own")
    print(f"    serve answers after {start:.2f} s with {MANY:,} budgets (target {TARGET_START_SECONDS}), {start_cpu:.2f} s of CPU")
    return ratio <= TARGET_RATIO and start <= TARGET_START_SECONDS


def main() -> None:
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as name, ExitStack() as stack:
        directory = Path(name)
        numbers: Any = iter(range(100))
        met = bench("SQLite", directory, lambda: f"sqlite:///{directory / f'{next(numbers)}.db'}")
        server = stack.enter_context(postgresql())
        met = bench("PostgreSQL", directory, lambda: server.url(server.create())) and met
    print("targets met" if met else "a target was missed")


if __name__ == "__main__":
    main()
