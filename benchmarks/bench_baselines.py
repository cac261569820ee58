"""What it costs to know what was to be expected: the collectors `baselines`, `cloud` and `ai_baselines` on a large ledger.

1,000,000 charges of four months in 10 accounts, with 1 and with 100 cloud budgets on their teams, services, regions and sub-accounts; and
10,000 tenants × 5 models that use four hours of each of 28 days. While each is collected, another thread asks for the interpreter every
millisecond, as the event loop that answers checks does: what it waits is what a check would wait.

The floor is SQLite alone with the same rows: the same grouping and sums of floats, with nothing made of them. `bench_baselines.py 100000`
takes another number of charges, and a hundredth of it as tenants.
"""

import gc
import resource
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from costwarden.cli.serve import GC_THRESHOLDS
from costwarden.ledger import Ledger
from costwarden.metrics.ai_baselines import AiBaselines
from costwarden.metrics.baselines import Baselines
from costwarden.metrics.cloud import CloudCosts
from costwarden.metrics.settings import CloudBudget, MetricsSettings
from costwarden.model import to_micros

CHARGES = 1_000_000
DAYS = 120
BUDGETS = 100
MODELS = 5
HOURS_A_DAY = 4
ROUNDS = 3
TARGET_WAIT_MS = 10.0
"""What 99 of 100 waits for the interpreter may take: twice Python's switch interval."""
TARGET_RATIO = 5.0
"""Of our CPU time to the floor's, which adds floats."""
TODAY = date(2026, 11, 15)
HOUR = 3600 * 1_000_000


def fill_charges(path: Path, count: int) -> None:
    each = count // DAYS
    first = date.toordinal(TODAY) - DAYS
    with sqlite3.connect(path) as raw:
        columns = [row[1] for row in raw.execute("PRAGMA table_info(charges)")]
        given = {
            "source": "'source-' || (n % 10)",
            "part": "'part-' || d",
            "charge_date": f"date('1970-01-01', '+' || (d + {first - date(1970, 1, 1).toordinal()}) || ' days')",
            "provider_name": "CASE WHEN n % 10 < 6 THEN 'aws' WHEN n % 10 < 9 THEN 'gcp' ELSE 'azure' END",
            "billing_account_id": "'account-' || (n % 10)",
            "sub_account_id": "'sub-' || n",
            "service_name": "'service-' || (n % 50)",
            "region_id": "'region-' || (n % 7)",
            "team": "'team-' || (n % 200)",
            "charge_category": "'Usage'",
            "row_count": "1",
        }
        cost = "printf('%d.%011d', n % 90, (n * 7919 + d * 104729) % 100000000000)"
        values = [cost if name.endswith(("_cost", "_usd")) else given.get(name, "'1'" if name == "usd_rate" else "''") for name in columns]
        raw.execute(
            f"INSERT INTO charges ({', '.join(columns)})"
            f" WITH RECURSIVE days(d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM days WHERE d < {DAYS - 1}),"
            f" kinds(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM kinds WHERE n < {each - 1})"
            f" SELECT {', '.join(values)} FROM days CROSS JOIN kinds"
        )


def fill_usage(path: Path, tenants: int) -> None:
    last = to_micros(datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)) // HOUR
    with sqlite3.connect(path) as raw:
        columns = [(row[1], row[2]) for row in raw.execute("PRAGMA table_info(usage_hourly)")]
        given = {"hour": f"{last} - d * 24 - h", "tenant_id": "'tenant-' || t", "model": "'model-' || m", "cost": "1000000 + t * 7 + d"}
        given |= {"success": "1", "priced": "1", "requests": "1"}
        values = [given.get(name, "0" if "INT" in kind.upper() else "''") for name, kind in columns]
        for numbers, limit in (("t", tenants), ("m", MODELS), ("d", 28), ("h", HOURS_A_DAY)):
            raw.execute(f"CREATE TEMP TABLE numbers_{numbers} ({numbers} INTEGER)")
            raw.executemany(f"INSERT INTO numbers_{numbers} VALUES (?)", [(number,) for number in range(limit)])
        raw.execute(
            f"INSERT INTO usage_hourly ({', '.join(name for name, _ in columns)}) SELECT {', '.join(values)}"
            " FROM numbers_d CROSS JOIN numbers_h CROSS JOIN numbers_t CROSS JOIN numbers_m"
        )


class Waits(threading.Thread):
    """Asks for the interpreter every millisecond, and notes how long it waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.milliseconds: list[float] = []
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.is_set():
            asked = time.perf_counter()
            time.sleep(0.001)
            self.milliseconds.append((time.perf_counter() - asked) * 1e3 - 1)

    def stop(self) -> tuple[float, float]:
        """(99 % quantile, longest)."""
        self._done.set()
        self.join()
        found = sorted(self.milliseconds)
        return found[int(0.99 * (len(found) - 1))], found[-1]


def measure(collect: Callable[[], Iterable[object]]) -> tuple[float, float, float, float]:
    """(seconds, seconds of CPU, 99 % of waits in milliseconds, the longest) of a call."""
    waits = Waits()
    waits.start()
    time.sleep(0.05)
    started, cpu = time.perf_counter(), time.thread_time()
    for _ in collect():
        pass
    took = time.perf_counter() - started, time.thread_time() - cpu
    return *took, *waits.stop()


def floor(path: Path, statements: list[str]) -> float:
    """Seconds of CPU."""
    raw = sqlite3.connect(path)
    started = time.thread_time()
    for statement in statements:
        for _ in raw.execute(statement):
            pass
    raw.close()
    return time.thread_time() - started


def report(name: str, measured: list[tuple[float, float, float, float]], least: float) -> bool:
    seconds, cpu, p99, longest = (statistics.median(values) for values in zip(*measured, strict=True))
    ratio = f"floor {least:6.2f} s of CPU, ratio {cpu / least:4.1f}" if least else ""
    print(f"{name:>26}  {seconds:6.2f} s, {cpu:6.2f} s of CPU   waits: p99 {p99:5.1f} ms, longest {longest:5.1f} ms   {ratio}")
    return p99 <= TARGET_WAIT_MS and (not least or cpu <= TARGET_RATIO * least)


def budgets_of(count: int) -> list[CloudBudget]:
    scopes = (
        lambda n: {"team": f"team-{n}"},
        lambda n: {"provider": "aws", "service": f"service-{n % 50}"},
        lambda n: {"region": f"region-{n % 7}", "team": f"team-{n}"},
        lambda n: {"sub_account_id": f"sub-{n}"},
    )
    return [CloudBudget(name=f"budget-{n}", monthly_limit_usd=1000, scope=scopes[n % 4](n)) for n in range(count)]


def bills(path: Path, ledger: Ledger) -> bool:
    noon = to_micros(datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC))
    cost = "total(CAST(billed_cost_usd AS REAL))"
    first = (TODAY - timedelta(days=61)).isoformat()
    read = (
        "SELECT DISTINCT provider_name, source, billing_account_id, charge_date FROM charges",
        f"SELECT charge_date, provider_name, service_name, {cost} FROM charges WHERE charge_date >= '{first}' GROUP BY 1, 2, 3",
    )
    scoped = "provider_name, source, billing_account_id, charge_date"
    teams, subs = (", ".join(f"'{kind}-{n}'" for n in range(start, BUDGETS, 4)) for kind, start in (("team", 0), ("sub", 3)))
    shapes = {
        1: [f"team, {scoped}, {cost} FROM charges WHERE team = 'team-0' GROUP BY team, {scoped}"],
        BUDGETS: [
            f"team, {scoped}, {cost} FROM charges WHERE team IN ({teams}) GROUP BY team, {scoped}",
            f"service_name, {scoped}, {cost} FROM charges WHERE provider_name = 'aws' GROUP BY service_name, {scoped}",
            f"region_id, team, {scoped}, {cost} FROM charges WHERE team LIKE 'team-%' GROUP BY region_id, team, {scoped}",
            f"sub_account_id, {scoped}, {cost} FROM charges WHERE sub_account_id IN ({subs}) GROUP BY sub_account_id, {scoped}",
        ],
    }
    met = True
    for count, statements in shapes.items():
        of_all = f"{scoped}, {cost} FROM charges GROUP BY {scoped}"
        least = floor(path, [*read, *(f"SELECT {statement}" for statement in (of_all, *statements))])
        baselines = Baselines(ledger.read, "billed_cost", budgets_of(count), lambda: noon)
        met &= report(f"baselines, {count} budgets", [measure(baselines.collect) for _ in range(ROUNDS)], least)
    keys = "provider_name, substr(charge_date, 1, 7), service_name, region_id"
    month = f"charge_date >= '{TODAY.replace(day=1)}'"
    scope = "sub_account_id, service_name, region_id, team, charge_category, provider_name"
    least = floor(
        path,
        [
            read[0],
            f"SELECT {keys}, {cost} FROM charges GROUP BY {keys}",
            f"SELECT {scope}, {cost} FROM charges WHERE {month} GROUP BY {scope}",
        ],
    )
    cloud = CloudCosts(ledger.read, MetricsSettings(), budgets_of(BUDGETS), lambda: noon)
    return report(f"cloud, {BUDGETS} budgets", [measure(cloud.collect) for _ in range(ROUNDS)], least) and met


def usage(path: Path, ledger: Ledger) -> bool:
    now = [to_micros(datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC))]
    last = now[0] // HOUR
    of_hours = [f"SELECT tenant_id, sum(cost) FROM usage_hourly WHERE hour = {last - 24 * back} GROUP BY 1" for back in range(1, 21)]
    by_hour = f"SELECT tenant_id, sum(cost) AS cost FROM usage_hourly WHERE hour > {last - 24 * 14} GROUP BY hour, tenant_id"
    history = [
        "SELECT hour, sum(cost) FROM usage_hourly GROUP BY 1",
        "SELECT tenant_id, min(hour) FROM usage_hourly GROUP BY 1",
        f"SELECT tenant_id, max(cost) FROM ({by_hour}) GROUP BY 1",
    ]
    started: list[tuple[float, float, float, float]] = []
    turned: list[tuple[float, float, float, float]] = []
    minutes: list[tuple[float, float, float, float]] = []
    for _ in range(ROUNDS):
        baselines = AiBaselines(ledger.read, ZoneInfo("UTC"), lambda: now[0])
        for moment, found in (((last - 1) * HOUR, started), (last * HOUR, turned), (last * HOUR + 60_000_000, minutes)):
            now[0] = moment
            found.append(measure(baselines.collect))
    met = report("ai_baselines, once a day", started, floor(path, history + of_hours + of_hours))
    met &= report("ai_baselines, once an hour", turned, floor(path, of_hours))
    return report("ai_baselines, each minute", minutes, 0.0) and met


def main() -> int:
    """Print the figures; 1 where a target is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CHARGES
    tenants = max(1, count // 100)
    # As the server has it: collections of all objects would be the longest waits of all.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as name:
        path = Path(name) / "ledger.db"
        ledger = Ledger(f"sqlite:///{path}")
        fill_charges(path, count)
        fill_usage(path, tenants)
        print(f"{count:,} charges, {tenants:,} tenants × {MODELS} models × {28 * HOURS_A_DAY} hours")
        report("nothing", [measure(lambda: map(time.sleep, [0.001] * 500)) for _ in range(ROUNDS)], 0.0)
        met = bills(path, ledger)
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at the most so far")
        met &= usage(path, ledger)
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at the most")
        ledger.close()
    print("targets met" if met else "a target was missed")
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
