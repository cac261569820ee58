"""Bills of a million rows, and Parquet of ten: our reading of them against DuckDB's bare aggregation of the same file, round by round.

Aim: at most 1.5 times the bare aggregation of ten million rows of Parquet, twice that of a million of CSV, under 1 GiB. The bare
aggregation is by day, service and region; four costs summed as DuckDB likes, of doubles in doubles.
Ours is the whole of a first read: every line counted, every row checked, exact decimals, charges by the thirteen columns that budgets
and metrics ask for, as Python records. The third column is DuckDB's aggregation by those same columns: what our grouping alone must cost.

Each measurement is a process of its own; its peak memory is the process's, interpreter and libraries included.
"""

import json
import shutil
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, time_ns
from typing import Any

import duckdb

from costwarden.ledger import Ledger
from costwarden.sources import Read, Requests, Window, open_source
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings
from costwarden.sync import Reading, refresh

ROWS = 1_000_000
LARGE = 10_000_000
ROUNDS = 5
THREADS = 2
MEMORY_MEBIBYTES = 512
COSTS = "sum(BilledCost), sum(EffectiveCost), sum(ListCost), sum(ContractedCost)"
FLOOR_KEYS = "CAST(ChargePeriodStart AS DATE), ServiceName, RegionId"
OUR_KEYS = (
    "CAST(ChargePeriodStart AS DATE), ProviderName, BillingAccountId, SubAccountId, ServiceName, ServiceCategory, RegionId, ChargeCategory,"
    " BillingCurrency, Tags"
)

# A month of 400 resources an account and their hours: 43 columns of FOCUS 1.0, costs with 11 decimal places, tags of three keys.
BILL = """
CREATE VIEW {name} AS SELECT
  'AWS' AS ProviderName, 'Amazon Web Services, Inc.' AS PublisherName, 'AWS' AS InvoiceIssuerName,
  '12345678901' || (hash(i % 400, 1) % 3) AS BillingAccountId, 'Payer ' || (hash(i % 400, 1) % 3) AS BillingAccountName,
  '2000000000' || (10 + hash(i % 400, 1) % 40) AS SubAccountId, 'account-' || (hash(i % 400, 1) % 40) AS SubAccountName,
  TIMESTAMP '2026-05-01' AS BillingPeriodStart, TIMESTAMP '2026-06-01' AS BillingPeriodEnd,
  TIMESTAMP '2026-05-01 00:00' + to_hours(CAST(hash(i, 2) % 744 AS BIGINT)) AS ChargePeriodStart,
  TIMESTAMP '2026-05-01 01:00' + to_hours(CAST(hash(i, 2) % 744 AS BIGINT)) AS ChargePeriodEnd,
  CASE WHEN hash(i, 3) % 200 = 0 THEN 'Credit' WHEN hash(i, 3) % 100 = 0 THEN 'Tax' ELSE 'Usage' END AS ChargeCategory,
  CAST(NULL AS VARCHAR) AS ChargeClass, 'Usage-Based' AS ChargeFrequency,
  '$0.0' || (hash(i, 4) % 90) || ' per GB data transfer out in region ' || (hash(i, 5) % 12) AS ChargeDescription,
  cost AS BilledCost, CAST(cost * 0.9 AS DECIMAL(28, 11)) AS EffectiveCost,
  CAST(cost * 1.1 AS DECIMAL(28, 11)) AS ListCost, CAST(cost * 0.95 AS DECIMAL(28, 11)) AS ContractedCost,
  'USD' AS BillingCurrency, (hash(i, 7) % 100000) / 1000.0 AS ConsumedQuantity, 'Hours' AS ConsumedUnit,
  'Service ' || (hash(i % 2000, 8) % 40) AS ServiceName, 'Category ' || (hash(i % 2000, 8) % 10) AS ServiceCategory,
  'SKU' || (hash(i, 9) % 5000) AS SkuId, 'SKU' || (hash(i, 9) % 5000) || '.JRTCKXETXF' AS SkuPriceId,
  'arn:aws:ec2:region:' || (hash(i % 400, 1) % 40) || ':instance/i-' || (i % 20000) AS ResourceId, 'name-' || (i % 20000) AS ResourceName,
  'Instance' AS ResourceType, 'region-' || (hash(i % 400, 11) % 6) AS RegionId, 'Region ' || (hash(i % 400, 11) % 6) AS RegionName,
  'region-' || (hash(i % 400, 11) % 6) || 'a' AS AvailabilityZone, 'Standard' AS PricingCategory,
  (hash(i, 7) % 100000) / 1000.0 AS PricingQuantity, 'Hours' AS PricingUnit, 0.096 AS ListUnitPrice, 0.08 AS ContractedUnitPrice,
  CAST(NULL AS VARCHAR) AS CommitmentDiscountId, CAST(NULL AS VARCHAR) AS CommitmentDiscountName,
  CAST(NULL AS VARCHAR) AS CommitmentDiscountCategory, CAST(NULL AS VARCHAR) AS CommitmentDiscountType,
  CAST(NULL AS VARCHAR) AS CommitmentDiscountStatus,
  '{{"team": "team-' || (hash(i % 400, 12) % 20) || '", "feature": "feature-' || (hash(i % 400, 12) % 50)
    || '", "environment": "' || (['prod', 'dev', 'test'])[1 + CAST(hash(i % 400, 13) % 3 AS INT)] || '"}}' AS Tags
FROM (SELECT i, CAST(CAST(hash(i, 6) % 100000000 AS BIGINT) - 500000 AS DECIMAL(28, 11)) / 100000000 AS cost0,
             CAST(cost0 AS DECIMAL(28, 11)) AS cost FROM range({rows}) AS rows (i))
"""


def write_bills(folder: Path) -> dict[str, Path]:
    """Name -> file, the only one in its folder. The names of the large ones end in `10M`."""
    double = ", ".join(f"CAST({name} AS DOUBLE) AS {name}" for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"))
    names = ("CSV", "CSV.gz", "Parquet decimal", "Parquet double", "Parquet decimal 10M", "Parquet double 10M")
    bills = {name: folder / name / f"bill.{name.split()[0].lower()}" for name in names}
    with duckdb.connect(config={"memory_limit": "1GiB", "temp_directory": str(folder / "spilled")}) as connection:
        connection.execute(BILL.format(name="bill", rows=ROWS))
        connection.execute(BILL.format(name="large_bill", rows=LARGE))
        for name, path in bills.items():
            path.parent.mkdir()
            view = "large_bill" if name.endswith("10M") else "bill"
            rows = f"SELECT * REPLACE ({double}) FROM {view}" if "double" in name else f"FROM {view}"
            connection.execute(f"COPY ({rows}) TO '{path}'")
    bills["CSV, one row broken"] = folder / "broken" / "bill.csv"
    bills["CSV, one row broken"].parent.mkdir()
    shutil.copy(bills["CSV"], bills["CSV, one row broken"])
    with bills["CSV, one row broken"].open("a") as file:
        file.write('AWS,"never closed\n')
    return bills


def rows_of(path: Path) -> int:
    """Rows of a bill that `write_bills` wrote."""
    return LARGE if path.parent.name.endswith("10M") else ROWS


def measure_floor(path: Path, keys: str) -> dict[str, Any]:
    """Seconds and groups of the bare aggregation."""
    with duckdb.connect(config={"threads": THREADS, "memory_limit": f"{MEMORY_MEBIBYTES}MiB"}) as connection:
        start = perf_counter()
        groups = connection.execute(f"SELECT {keys}, {COSTS}, count(*) FROM '{path}' GROUP BY ALL").fetchall()
        seconds = perf_counter() - start
    assert sum(group[-1] for group in groups) == rows_of(path)
    return {"seconds": seconds, "groups": len(groups)}


def measure_ours(path: Path) -> dict[str, Any]:
    """Seconds and charges of a first read of the folder."""
    settings = FocusSettings(path=path.parent, threads=THREADS, memory_mebibytes=MEMORY_MEBIBYTES)
    source = open_source(settings, AttributionSettings(), ExchangeRates())
    start = perf_counter()
    changes = source.fetch({}, Window(date.min, date.min, date.min))
    (change, charges) = next((change, sum(1 for _ in change.charges)) for change in changes if isinstance(change, Read))
    seconds = perf_counter() - start
    assert change.rows == rows_of(path)
    return {"seconds": seconds, "groups": charges}


def measure_refresh(path: Path) -> dict[str, Any]:
    """Seconds until the folder is in force in a ledger, and the longest wait of another writer meanwhile."""
    settings = FocusSettings(path=path.parent, threads=THREADS, memory_mebibytes=MEMORY_MEBIBYTES)
    waits, done = [0.0], threading.Event()
    with TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/ledger.db")

        def write() -> None:
            while not done.wait(0.002):
                begin = perf_counter()
                ledger.write(lambda _: None)
                waits.append(perf_counter() - begin)

        other = threading.Thread(target=write)
        other.start()
        start = perf_counter()
        reading = Reading(open_source(settings, AttributionSettings(), ExchangeRates()), Requests(), [])
        outcome = refresh(ledger, "focus", reading, lambda: time_ns() // 1000)
        seconds = perf_counter() - start
        done.set()
        other.join()
        ledger.close()
    assert not outcome.failure
    waits.sort()
    return {"seconds": seconds, "longest_wait": waits[-1], "p99_wait": waits[int(len(waits) * 0.99)]}


def peak_mebibytes() -> float:
    """Of this process since it began to run this file; `getrusage` would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def in_child(kind: str, path: Path) -> dict[str, Any]:
    """What a measurement in a process of its own prints."""
    done = subprocess.run([sys.executable, __file__, kind, str(path)], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


MEASUREMENTS = {
    "floor": lambda path: measure_floor(path, FLOOR_KEYS),
    "same keys": lambda path: measure_floor(path, OUR_KEYS),
    "ours": measure_ours,
    "refresh": measure_refresh,
}


def main() -> None:
    """Print a line for each format."""
    with TemporaryDirectory(prefix="bench-focus-") as folder:
        bills = write_bills(Path(folder))
        print(f"{ROWS:,} rows, 10M: {LARGE:,}; {THREADS} threads, DuckDB's memory {MEMORY_MEBIBYTES} MiB; median of {ROUNDS} rounds")
        print("aim: CSV 2.0x, Parquet of 10M 1.5x, 1,024 MiB")
        print(f"{'':<21}{'MB':>5}{'ours':>9}{'charges':>9}{'floor':>9}{'groups':>8}{'ratio':>8}{'same keys':>11}{'ratio':>8}{'peak':>10}")
        for name, path in bills.items():
            has_floor = "broken" not in name
            kinds = ("floor", "same keys", "ours") if has_floor else ("ours",)
            rounds = [{kind: in_child(kind, path) for kind in kinds} for _ in range(ROUNDS)]
            seconds = {kind: median(found[kind]["seconds"] for found in rounds) for kind in kinds}
            peak = max(found["ours"]["peak_mebibytes"] for found in rounds)
            line = f"{name:<21}{path.stat().st_size / 1e6:>5,.0f}{seconds['ours']:>8.2f}s{rounds[0]['ours']['groups']:>9,}"
            if has_floor:
                ratios = [median(found["ours"]["seconds"] / found[kind]["seconds"] for found in rounds) for kind in ("floor", "same keys")]
                line += f"{seconds['floor']:>8.2f}s{rounds[0]['floor']['groups']:>8,}{ratios[0]:>7.1f}x"
                line += f"{seconds['same keys']:>10.2f}s{ratios[1]:>7.1f}x"
            else:
                line += " " * 45
            print(f"{line}{peak:>6,.0f} MiB", flush=True)
        into = in_child("refresh", bills["CSV"])
        print(
            f"CSV into the ledger  {into['seconds']:.2f} s; another writer meanwhile waited {into['p99_wait'] * 1e3:.0f} ms (p99),"
            f" {into['longest_wait'] * 1e3:.0f} ms at the worst: while the charges are put in force together"
        )
    print(LIMITS)


LIMITS = """
What limits it, by profiler. CSV: ours reads 17 columns to the floor's 6 and groups by ten texts to the floor's two (a third of our time;
half of that is the text of the tags), sums exact decimals (a tenth), counts the file's lines, because DuckDB's reading of quoted newlines
is not to be trusted (a tenth), and makes Python records of the charges (a sixth). Parquet: the charges of this bill are 60,000 to 100,000
groups to the floor's 7,000, which no longer fit the cache of the processor: by the same keys DuckDB alone takes three to four times the
floor, as long as ours, which looks at the texts once for each combination; a fifth of ours is the Python records. Doubles: the floor sums
them as they are; ours first finds the decimal that each stands for. A file with a broken row is read twice, the second time
line by line in Python."""


if __name__ == "__main__":
    if len(sys.argv) == 3:
        result = MEASUREMENTS[sys.argv[1]](Path(sys.argv[2]))
        print(json.dumps(result | {"peak_mebibytes": peak_mebibytes()}))
    else:
        main()
