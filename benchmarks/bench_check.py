"""Check + settle over HTTP, durable, on SQLite and PostgreSQL, all on one budget and on many; and in process under group commit.

The floors of HTTP run under the same uvicorn settings, decode the same request with msgspec and encode an answer of the same size: one as
a Starlette endpoint (the target's floor), one past every framework. The floor of PostgreSQL is a transaction with one
`UPDATE … RETURNING` and one `INSERT` for each request, by plain psycopg on as many connections, without HTTP and without a decision. All
take part in every round, one after the other.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import psycopg
import uvloop
from load import Result, post, run_pairs
from servers import HERE, cpu_seconds, free_port, postgresql, running, serving

from costwarden.budgets.calls import Reserve, Settle
from costwarden.budgets.engine import Engine
from costwarden.budgets.rules import scope_of
from costwarden.budgets.settings import BudgetsSettings, Scope
from costwarden.budgets.store import new_budget
from costwarden.ledger import Ledger
from costwarden.model import Usage

ROUNDS = 3
CONNECTIONS = {1: 200, 16: 2_000, 64: 4_000}
"""Connections -> pairs of requests a round."""
TENANTS = 50
TARGET_RATIO = 0.6
TARGET_PAIRS = 3_000
"""A second, at 16 connections on one replica."""
TARGET_ONE_BUDGET = 0.8
"""Pairs a second when all hit one budget, as a share of those on many budgets."""
TARGET_P50_MS = 3.0
TARGET_IN_PROCESS = 15_000

CONFIG = """
server: {{{{port: {{port}}}}}}
database_url: {url}
logs: {{{{level: error}}}}
budgets:
  default: null
  configured:
    - {{{{name: everything, limit_usd: 1000000000, scope: {{{{feature: one}}}}}}}}
{many}
"""
MANY = "\n".join(
    f"    - {{{{name: tenant-{number}, limit_usd: 1000000000, scope: {{{{feature: many, tenant_id: tenant-{number}}}}}}}}}"
    for number in range(TENANTS)
)


class Case(NamedTuple):
    """Costwardens that share a ledger, and which of their budgets are hit: `one`, or each tenant's own: `many`."""

    ledger: str
    ports: tuple[int, ...]
    feature: str


def call(number: int, feature: str) -> dict[str, str]:
    return {"tenant_id": f"tenant-{number % TENANTS}", "provider": "openai", "model": "gpt-4o", "feature": feature}


def check(feature: str) -> Callable[[int], bytes]:
    def request(number: int) -> bytes:
        body = {**call(number, feature), "estimated_input_tokens": 1000, "estimated_output_tokens": 200}
        return post("/api/ai-budget/check", json.dumps(body).encode())

    return request


def track(feature: str) -> Callable[[bytes, int], bytes]:
    def request(answer: bytes, number: int) -> bytes:
        reservation_id = msgspec.json.decode(answer)["reservation_id"]
        body = {**call(number, feature), "input_tokens": 900, "output_tokens": 180, "reservation_id": reservation_id}
        return post("/api/ai-budget/track", json.dumps(body).encode())

    return request


def nothing(path: str) -> tuple[Callable[[int], bytes], Callable[[bytes, int], bytes]]:
    """The same two requests, to an endpoint that does nothing."""
    first = check("one")

    def request(number: int) -> bytes:
        return first(number).replace(b"/api/ai-budget/check", path.encode())

    return request, lambda _, number: request(number)


class Transactions:
    """The floor of PostgreSQL: one row updated and one inserted for each request, each in a transaction of its own."""

    def __init__(self, url: str, most_connections: int) -> None:
        self._connections = [psycopg.connect(url, autocommit=True) for _ in range(most_connections)]
        first = self._connections[0]
        first.execute("CREATE TABLE counters (counter int PRIMARY KEY, spent bigint NOT NULL) WITH (fillfactor = 70)")
        first.execute("INSERT INTO counters SELECT generate_series(0, %s), 0", [TENANTS])
        first.execute("CREATE TABLE events (event bigserial PRIMARY KEY, counter int NOT NULL, cost bigint NOT NULL, told text NOT NULL)")

    def run(self, connections: int, pairs: int, feature: str) -> float:
        """Pairs of transactions a second, on one row or on each tenant's own."""

        def work(number: int) -> None:
            counter = 0 if feature == "one" else 1 + number % TENANTS
            connection = self._connections[number]
            for _ in range(2 * (pairs // connections)):
                with connection.transaction():
                    connection.execute("UPDATE counters SET spent = spent + %s WHERE counter = %s RETURNING spent", (4_500_000, counter))
                    connection.execute("INSERT INTO events (counter, cost, told) VALUES (%s, %s, %s)", (counter, 4_500_000, "x" * 100))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return pairs / (time.perf_counter() - started)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def over_http(directory: Path) -> bool:
    with ExitStack() as stack:
        database = stack.enter_context(postgresql())
        sqlite, first, second, floor = (free_port() for _ in range(4))
        shared = CONFIG.format(url=database.url(database.create()), many=MANY)
        embedded = stack.enter_context(serving(directory, CONFIG.format(url="sqlite:///ledger.db", many=MANY), sqlite))
        replica = stack.enter_context(serving(directory, shared, first))
        stack.enter_context(serving(directory, shared, second))
        idle = stack.enter_context(running([sys.executable, str(HERE / "floor_server.py"), str(floor)], floor, "/ready"))
        transactions = Transactions(database.url(database.create()), max(CONNECTIONS))
        stack.callback(transactions.close)
        processes = {"SQLite": embedded, "PostgreSQL": replica}
        cases = [
            Case(ledger, ports, feature)
            for ledger, ports in (("SQLite", (sqlite,)), ("PostgreSQL", (first,)), ("two replicas", (first, second)))
            for feature in ("one", "many")
        ]
        columns = ("connections", "ledger", "budgets", "pairs/s", "p50 ms", "p99 ms", "of Starlette", "of bare", "of psycopg", "CPU µs")
        print("  ".join(f"{column:>12}" for column in columns))
        met = True
        for connections, pairs in CONNECTIONS.items():
            spent: dict[Case, float] = {}
            idle_spent = cpu_seconds(idle)
            results: list[dict[Case, Result]] = []
            floors: list[dict[str, float]] = []
            idle_p50 = []
            for _ in range(ROUNDS):
                results.append({})
                for case in cases:
                    before = cpu_seconds(process) if (process := processes.get(case.ledger)) else 0.0
                    results[-1][case] = run_pairs(case.ports, connections, pairs, check(case.feature), track(case.feature))
                    spent[case] = spent.get(case, 0.0) + (cpu_seconds(process) - before if process else 0.0)
                starlette = run_pairs(floor, connections, pairs, *nothing("/starlette"))
                idle_p50.append(starlette.p50_ms)
                floors.append({"starlette": starlette.pairs_per_second})
                floors[-1]["bare"] = run_pairs(floor, connections, pairs, *nothing("/bare")).pairs_per_second
                floors[-1] |= {feature: transactions.run(connections, pairs, feature) for feature in ("one", "many")}
            rate = {name: statistics.median(found[name] for found in floors) for name in floors[0]}
            idle_cpu = (cpu_seconds(idle) - idle_spent) / (pairs * ROUNDS * 2) * 1e6
            pairs_per_second = {}
            for case in cases:
                ours = pairs_per_second[case] = _median(results, case, "pairs_per_second")
                p50, p99 = _median(results, case, "p50_ms"), _median(results, case, "p99_ms")
                raw = f"{ours / rate[case.feature]:.2f}" if case.ledger != "SQLite" else ""
                cpu = f"{spent[case] / (pairs * ROUNDS) * 1e6:.0f}" if case.ledger in processes else ""
                shares = (f"{ours / rate['starlette']:.2f}", f"{ours / rate['bare']:.2f}", raw, cpu)
                figures = (connections, case.ledger, case.feature, f"{ours:,.0f}", f"{p50:.2f}", f"{p99:.2f}", *shares)
                print("  ".join(f"{figure:>12}" for figure in figures))
                if case == cases[0] and ours / rate["starlette"] < TARGET_RATIO:
                    met = False
                    print(f"    SQLite below {TARGET_RATIO} of Starlette: {limit(directory, p50, statistics.median(idle_p50))}")
                if connections == 16 and len(case.ports) == 1 and (ours < TARGET_PAIRS or p50 > TARGET_P50_MS):
                    met = False
                    print(f"    below {TARGET_PAIRS:,} pairs a second, or p50 above {TARGET_P50_MS} ms")
            print(
                f"    floors, pairs/s: Starlette {rate['starlette']:,.0f}, bare {rate['bare']:,.0f} ({idle_cpu:.0f} µs of CPU a pair),"
                f" psycopg {rate['one']:,.0f} on one row and {rate['many']:,.0f} on many; the servers share two cores with their client"
            )
            for one, many in zip(cases[::2], cases[1::2], strict=True):
                share = pairs_per_second[one] / pairs_per_second[many]
                print(f"    {one.ledger}: one budget at {share:.2f} of many (target {TARGET_ONE_BUDGET})")
                met = met and share >= TARGET_ONE_BUDGET
        return met


def _median(results: list[dict[Case, Result]], case: Case, figure: str) -> float:
    return float(statistics.median(getattr(found[case], figure) for found in results))


def limit(directory: Path, p50_ms: float, floor_p50_ms: float) -> str:
    """What the difference to the floor is made of: the disk's own time to make 8 KiB durable, measured here and now."""
    with (directory / "probe").open("wb") as probe:
        times = []
        for _ in range(200):
            probe.write(b"x" * 8192)
            probe.flush()
            started = time.perf_counter()
            os.fdatasync(probe.fileno())
            times.append(time.perf_counter() - started)
    sync = statistics.median(times) * 1e3
    return (
        f"a request takes {p50_ms:.2f} ms, the floor {floor_p50_ms:.2f} ms, and one fdatasync of this disk {sync:.2f} ms:"
        " each answer waits for one, and the fewer callers, the fewer share it"
    )


def in_process(directory: Path) -> bool:
    """Reserve + settle by 64 coroutines on one ledger."""
    settings = BudgetsSettings(default=None)

    def now() -> int:
        return time.time_ns() // 1000

    engine = Engine(settings, ZoneInfo("UTC"), now)
    ledger = Ledger(f"sqlite:///{directory / 'in-process.db'}", owner=True, participant=engine)
    scope = scope_of(Scope())
    ledger.write(lambda connection: engine.put(connection, new_budget(settings, scope, "month", 10**18), "bench"))
    pairs, coroutines = 40_000, 64

    async def caller(number: int) -> None:
        dimensions = scope_of(Scope(tenant_id=f"tenant-{number % TENANTS}", provider="openai", model="gpt-4o"))
        for _ in range(pairs // coroutines):
            decision = await ledger.writer.step(engine.reserve, Reserve(dimensions, 5_000_000, now(), ""))
            usage = Usage(
                source="bench",
                event_id="",
                timestamp=0,
                tenant_id=dimensions[0],
                provider="openai",
                model="gpt-4o",
                input_tokens=900,
                output_tokens=180,
                cost=4_050_000,
            )
            await ledger.writer.step(engine.settle, Settle(usage, decision.reservation_id, now()))

    async def all_callers() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(coroutines)))
        return pairs / (time.perf_counter() - started)

    rate = statistics.median(uvloop.run(all_callers()) for _ in range(ROUNDS))
    commits = ledger.writer.commits
    ledger.close()
    shared = ROUNDS * pairs * 2 / commits
    print(f"in process, durable, {coroutines} callers: {rate:,.0f} reserve+settle/s ({shared:.0f} operations a commit)")
    print(f"target {TARGET_IN_PROCESS:,}: ratio {rate / TARGET_IN_PROCESS:.2f}")
    return rate >= TARGET_IN_PROCESS


def main() -> None:
    checks: list[Callable[[Path], bool]] = [over_http, in_process]
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as name:
        results = [bench(Path(name)) for bench in checks]
    print("targets met" if all(results) else "a target was missed; the line below its figure says why")


if __name__ == "__main__":
    main()
