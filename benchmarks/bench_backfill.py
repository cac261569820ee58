"""What a year of history costs: `costwarden backfill` of 1,000 series at a sample an hour, against writing the same bytes.

Half of the series are bills (a service in a region with its months, each day at another price), half are AI usage (an operation an hour, so
that every sample differs). `bench_backfill.py 400` takes another number of days.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from sqlalchemy import insert

from costwarden.ledger import Connection, Ledger
from costwarden.ledger.schema import COST_BASES, charges
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage, to_micros

DAYS = 365
BILLED, USED = 36, 52
"""Combinations of labels: a billed one has a series a month and two of days, a used one cost, four windows, tokens and requests."""
ROUNDS = 3
TARGET_SECONDS = 30.0


def fill(connection: Connection, days: int, today: datetime) -> None:
    """`days` days of bills, and an operation of every kind in every hour."""
    names = [column.name for column in charges.c]
    for number in range(days):
        day = (today - timedelta(days=days - number)).date().isoformat()
        rows = []
        for kind in range(BILLED):
            cost = f"{(number * 31 + kind * 7) % 997}.{kind:04d}1"
            given: dict[str, object] = {"source": "bench", "charge_date": day, "provider_name": "aws", "row_count": 1}
            given |= {"service_name": f"Amazon Service {kind % 12}", "region_id": f"us-east-{kind // 12}"}
            given |= {f"{basis}_usd": cost for basis in COST_BASES}
            rows.append({name: given.get(name, "") for name in names})
        connection.execute(insert(charges), rows)
    first = to_micros(today - timedelta(days=days))
    for hour in range(days * 24):
        events = [
            Usage(
                source="bench",
                event_id=f"{hour}-{kind}",
                timestamp=first + hour * 3_600_000_000 + kind,
                tenant_id=f"tenant-{kind}",
                provider="openai",
                model="gpt-4o",
                operation="chat",
                input_tokens=900 + kind,
                output_tokens=180 + hour % 7,
                cost=4_050_000 + kind + hour % 11,
            )
            for kind in range(USED)
        ]
        append_usage(connection, [msgspec.structs.astuple(event) for event in events])


def floor(path: Path) -> float:
    """Seconds that writing the same bytes takes, in pieces of a series' size."""
    size, pieces = path.stat().st_size, 1_000
    with path.open("rb") as file:
        piece = file.read(size // pieces)
    began = time.perf_counter()
    with path.with_suffix(".floor").open("wb") as file:
        for _ in range(pieces):
            file.write(piece)
    took = time.perf_counter() - began
    path.with_suffix(".floor").unlink()
    return took


def main() -> int:
    """Print the figures; 1 where the target is missed."""
    days = int(sys.argv[1]) if len(sys.argv) > 1 else DAYS
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        ledger = Ledger(f"sqlite:///{folder / 'costwarden.db'}")
        ledger.write(lambda connection: fill(connection, days, today))
        ledger.close()
        (folder / "costwarden.yaml").write_text("{}\n", encoding="utf-8")
        output = folder / "history.om"
        command = [sys.executable, "-m", "costwarden", "backfill", "--config", str(folder / "costwarden.yaml"), "--output", str(output)]
        ours, cpu, floors, memory, said = [], [], [], 0, ""
        for _ in range(ROUNDS):
            began = time.perf_counter()
            process = subprocess.Popen([*command, "--force"], stdout=subprocess.PIPE, text=True)
            said = process.stdout.read() if process.stdout else ""
            _, status, usage = os.wait4(process.pid, 0)
            ours.append(time.perf_counter() - began)
            if status:
                raise SystemExit(f"costwarden backfill failed: {said}")
            cpu.append(usage.ru_utime + usage.ru_stime)
            memory = max(memory, usage.ru_maxrss)
            floors.append(floor(output))
        print(said.splitlines()[0])
    seconds, least = statistics.median(ours), statistics.median(floors)
    target = f"median of {ROUNDS}; target below {TARGET_SECONDS:.0f} s"
    print(f"backfill  {seconds:6.2f} s, {statistics.median(cpu):.1f} s of CPU, {memory / 1024:.0f} MiB ({target})")
    print(f"floor     {least:6.2f} s to write the same bytes; ratio {seconds / least:.1f}")
    return int(seconds >= TARGET_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
