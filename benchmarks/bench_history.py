"""What a long history costs: the start of `costwarden serve`, and a tenant's status, on a ledger of many usage rows.

The database makes the rows itself: every hour has `REPEATS` events of every tenant, model and feature, so that the sums by the hour and in
all are known without reading them; that they agree is checked before anything is measured. `bench_history.py 10000000` is the target's
size; `make bench` takes fewer. PostgreSQL gets a tenth of them: there a row goes into two more indexes and is 400 bytes of log.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import sqlalchemy
from load import get, run_pairs
from servers import cpu_seconds, free_port, postgresql, serving

from costwarden.budgets.rules import scope_of
from costwarden.budgets.settings import Scope
from costwarden.ledger import Connection, Ledger
from costwarden.ledger.bulk import on_postgresql, postgresql_driver, sqlite_driver
from costwarden.ledger.partitions import make_partitions
from costwarden.ledger.postgresql_schema import digest
from costwarden.ledger.usage import MICROS_PER_HOUR
from costwarden.model import DIMENSIONS

DEFAULT_ROWS = 2_000_000
TENANTS, MODELS, FEATURES, REPEATS = 100, ("gpt-4o", "gpt-4o-mini"), ("search", "chat"), 4
EVENTS_AN_HOUR = TENANTS * len(MODELS) * len(FEATURES) * REPEATS
INPUT, OUTPUT, COST = 900, 180, 4_050_000
PAIRS, ROUNDS = 200, 3
TARGET_START_SECONDS = 3.0
TARGET_STATUS_MS = 5.0

CONFIG = """
server: {{{{port: {{port}}}}}}
database_url: {url}
logs: {{{{level: error}}}}
budgets:
  default: null
  status_cache: {{{{seconds: 0}}}}
  configured:
    - {{{{name: everything, limit_usd: 1000000000}}}}
{tenants}
"""
BUDGETS = "\n".join(
    f"    - {{{{name: tenant-{number}, limit_usd: 1000000000, scope: {{{{tenant_id: tenant-{number}}}}}}}}}" for number in range(TENANTS)
)

QUANTITIES = ("input_tokens", "output_tokens", "requests", "cost")


def calls() -> list[tuple[object, ...]]:
    """One of each kind: its number, its dimensions, and the digest that PostgreSQL's sums are filed under."""
    kinds = [(f"tenant-{tenant}", model, feature) for tenant in range(TENANTS) for model in MODELS for feature in FEATURES]
    found = []
    for number, (tenant, model, feature) in enumerate(kinds):
        scope = scope_of(Scope(tenant_id=tenant, provider="openai", model=model, operation="chat", feature=feature))
        found.append((number, *scope, digest([*scope, "1", "1"])))
    return found


def fill(connection: Connection, hours: int, last_hour: int) -> None:
    """`hours` hours of history that end where `last_hour` begins."""
    on_server = on_postgresql(connection)
    first = last_hour - hours
    series = f"generate_series({first}, {last_hour - 1})"
    raw = postgresql_driver(connection) if on_server else sqlite_driver(connection)
    raw.execute(f"CREATE TEMP TABLE kinds (number int PRIMARY KEY, {', '.join(f'{name} text' for name in (*DIMENSIONS, 'digest'))})")
    values = "%s" if on_server else "?"
    cursor = raw.cursor()
    cursor.executemany(f"INSERT INTO kinds VALUES ({', '.join([values] * (len(DIMENSIONS) + 2))})", calls())
    raw.execute("CREATE TEMP TABLE repeats (repeat int)")
    cursor.executemany(f"INSERT INTO repeats VALUES ({values})", [(number,) for number in range(REPEATS)])
    if not on_server:
        counted = f"SELECT {first} AS hour UNION ALL SELECT hour + 1 FROM counted WHERE hour < {last_hour - 1}"
        series = f"(WITH RECURSIVE counted(hour) AS ({counted}) SELECT hour FROM counted)"
    each = f"{series} AS hours {'(hour)' if on_server else ''} CROSS JOIN kinds"
    event = f"hours.hour * {REPEATS * 10_000} + kinds.number * {REPEATS} + repeats.repeat"
    timestamp = f"hours.hour * {MICROS_PER_HOUR} + (kinds.number * {REPEATS} + repeats.repeat) * 1000000"
    if on_server:
        event, timestamp = event.replace("hours.hour", "hours.hour::bigint"), timestamp.replace("hours.hour", "hours.hour::bigint")
    names = ", ".join(DIMENSIONS)
    raw.execute(
        f"INSERT INTO usage (source, event_id, timestamp, {names}, input_tokens, output_tokens, requests, cost, success, priced_by)"
        f" SELECT 'api:' || tenant_id, CAST({event} AS text), {timestamp}, {names}, {INPUT}, {OUTPUT}, 1, {COST}, 1, 'genai-prices'"
        f" FROM {each} CROSS JOIN repeats{'' if on_server else ' ORDER BY 3'}"
    )
    digests = "digest, " if on_server else ""
    digest_of = "digest::uuid, " if on_server else ""
    sums = f"{', '.join(QUANTITIES)}, success, priced"
    of_hour = ", ".join(str(REPEATS * figure) for figure in (INPUT, OUTPUT, 1, COST))
    raw.execute(f"INSERT INTO usage_hourly (hour, {digests}{names}, {sums}) SELECT hour, {digest_of}{names}, {of_hour}, 1, 1 FROM {each}")
    of_all = ", ".join(str(hours * REPEATS * figure) for figure in (INPUT, OUTPUT, 1, COST))
    raw.execute(f"INSERT INTO usage_totals ({digests}{names}, {sums}) SELECT {digest_of}{names}, {of_all}, 1, 1 FROM kinds")
    if on_server:
        raw.execute(
            "INSERT INTO usage_identities SELECT md5(source || event_id)::uuid, cost, timestamp FROM usage"  # nobody asks for these
        )
    for table in ("kinds", "repeats"):
        raw.execute(f"DROP TABLE {table}")


def check_sums(connection: Connection, rows: int) -> None:
    wanted = (rows * COST, rows)
    for table in ("usage", "usage_hourly", "usage_totals"):
        found = connection.exec_driver_sql(f"SELECT CAST(sum(cost) AS text), CAST(sum(requests) AS text) FROM {table}").one()
        assert tuple(map(int, found)) == wanted, (table, found, wanted)


def make_sqlite(path: Path, hours: int, last_hour: int) -> str:
    url = f"sqlite:///{path}"
    Ledger(url).close()
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # The file is thrown away: nothing has to survive a machine that stops.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-1000000", "temp_store=MEMORY"):
            connection.exec_driver_sql(f"PRAGMA {pragma}")
        connection.exec_driver_sql("BEGIN")
        fill(connection, hours, last_hour)
        connection.exec_driver_sql("COMMIT")
        check_sums(connection, hours * EVENTS_AN_HOUR)
    engine.dispose()
    return url


def make_postgresql(url: str, hours: int, last_hour: int) -> str:
    ledger = Ledger(url)
    ledger.write(lambda connection: make_partitions(connection, last_hour * MICROS_PER_HOUR))
    ledger.write(lambda connection: fill(connection, hours, last_hour))
    ledger.write(lambda connection: check_sums(connection, hours * EVENTS_AN_HOUR))
    ledger.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return url


def bench(name: str, directory: Path, url: str, hours: int, made: float) -> bool:
    rows = hours * EVENTS_AN_HOUR
    port = free_port()
    starts, start_cpu, p50, p99, query_cpu = [], [], [], [], []
    for number in range(ROUNDS + 1):
        started = time.perf_counter()
        with serving(directory, CONFIG.format(url=url, tenants=BUDGETS), port) as server:
            starts.append(time.perf_counter() - started)
            if number:
                start_cpu.append(before := cpu_seconds(server))
                result = run_pairs(port, 1, PAIRS, status, lambda _, connection: status(connection))
                p50.append(result.p50_ms)
                p99.append(result.p99_ms)
                query_cpu.append((cpu_seconds(server) - before) / (2 * PAIRS) * 1e3)
    first, start = starts[0], statistics.median(starts[1:])
    status_ms = statistics.median(p99)
    print(f"{name}: {rows:,} usage rows, {hours:,} hours × {EVENTS_AN_HOUR // REPEATS} kinds of calls, made in {made:.0f} s")
    print(
        f"    serve answers after {start:.2f} s (target {TARGET_START_SECONDS}), {statistics.median(start_cpu):.2f} s of them CPU;"
        f" {first:.2f} s where {TENANTS + 1} budgets are new"
    )
    print(
        f"    status of a tenant, computed: p50 {statistics.median(p50):.2f} ms, p99 {status_ms:.2f} ms (target {TARGET_STATUS_MS}),"
        f" {statistics.median(query_cpu):.2f} ms of CPU"
    )
    return start <= TARGET_START_SECONDS and status_ms <= TARGET_STATUS_MS


_asked = iter(range(10**9))


def status(_: int) -> bytes:
    return get(f"/api/ai-budget/tenant/tenant-{next(_asked) * 37 % TENANTS}")


def main() -> None:
    hours = -(-int(sys.argv[1]) // EVENTS_AN_HOUR) if len(sys.argv) > 1 else DEFAULT_ROWS // EVENTS_AN_HOUR
    last_hour = time.time_ns() // 1000 // MICROS_PER_HOUR
    met = True
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as name:
        directory = Path(name)
        started = time.perf_counter()
        url = make_sqlite(directory / "ledger.db", hours, last_hour)
        met = bench("SQLite", directory, url, hours, time.perf_counter() - started)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as name, postgresql() as server:
        fewer = max(1, hours // 10)
        started = time.perf_counter()
        url = make_postgresql(server.url(server.create()), fewer, last_hour)
        met = bench("PostgreSQL", Path(name), url, fewer, time.perf_counter() - started) and met
    print("targets met" if met else "a target was missed")


if __name__ == "__main__":
    main()
