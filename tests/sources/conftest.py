import csv
import gzip
import io
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from stand_in import StandIn

from costwarden.model import Charge, exact_sum
from costwarden.sources import Change, Duplicate, KnownPart, Read, SourceError, open_source
from costwarden.sources.http_json import JsonApi, Retries
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings

ROW = {
    "ProviderName": "AWS",
    "BillingAccountId": "111122223333",
    "SubAccountId": "444455556666",
    "ServiceName": "Amazon EC2",
    "ServiceCategory": "Compute",
    "RegionId": "us-east-1",
    "ChargeCategory": "Usage",
    "ChargePeriodStart": "2026-01-15T00:00:00Z",
    "BillingCurrency": "USD",
    "BilledCost": "1",
    "EffectiveCost": "1",
    "ListCost": "1",
    "ContractedCost": "1",
    "Tags": "",
}
"""A row of a bill in which nothing is remarkable."""

COSTS = ("billed_cost", "effective_cost", "list_cost", "contracted_cost")


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that fails is asked again after milliseconds, not after half a second, a second and two."""
    monkeypatch.setitem(JsonApi.__init__.__kwdefaults__, "retries", Retries(first_wait_seconds=0.01))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for bills."""
    path = tmp_path / "bills"
    path.mkdir()
    return path


@pytest.fixture
def write_bill(folder: Path) -> Callable[..., Path]:
    """`write_bill("a.csv", {"BilledCost": "5"}, …)`: a FOCUS file with a row for each mapping, which names what is not as in `ROW`.

    The name decides the format: `.csv`, `.csv.gz`, or `.parquet` with text columns. A column set to `...` is left out of the file.
    """

    def write(name: str, *rows: Mapping[str, Any]) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        full = [{**ROW, **row} for row in rows or ({},)]
        columns = [column for column in dict.fromkeys(key for row in full for key in row) if full[0].get(column) is not ...]
        if name.endswith(".parquet"):
            values = ", ".join(f"({', '.join('?' for _ in columns)})" for _ in full)
            names = ", ".join(f'"{column}"' for column in columns)
            with duckdb.connect() as connection:
                connection.execute(
                    f"COPY (SELECT * FROM (VALUES {values}) AS bill ({names})) TO '{path}' (FORMAT parquet)",
                    [row.get(column) for row in full for column in columns],
                )
            return path
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows([row.get(column, "") for column in columns] for row in full)
        data = text.getvalue().encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@pytest.fixture
def ends_on_close(wait_until: Callable[..., object]) -> Callable[..., str]:
    """`ends_on_close(source, read, server)`: what `read` raises where `source` is closed once the server was asked, and no answer comes."""

    def end(source: Any, read: Callable[[], Any], server: StandIn) -> str:
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(read)
            wait_until(lambda: server.requests)
            source.close()
            error = reading.exception(60)
        assert isinstance(error, SourceError), error
        return str(error)

    return end


Fetch = Callable[..., dict[str, Change]]


@pytest.fixture
def fetch(folder: Path) -> Fetch:
    """`fetch(known, rules=…, currencies=…, default_currency="EUR")`: part -> change; charges are lists."""

    def run(known: Mapping[str, KnownPart] | None = None, *, rules: Any = (), currencies: Any = None, **settings: Any) -> dict[str, Change]:
        source = open_source(
            FocusSettings(path=settings.pop("path", folder), **settings),
            AttributionSettings.model_validate({"rules": rules}),
            ExchangeRates.model_validate({"currencies": currencies or {}}),
        )
        found: dict[str, Change] = {}
        for change in source.fetch(known or {}):
            assert change.part not in found
            is_read = isinstance(change, Read)
            found[change.part] = msgspec.structs.replace(change, charges=list(change.charges)) if is_read else change
        return found

    return run


@pytest.fixture
def read_one(fetch: Fetch) -> Callable[..., Read]:
    """`read_one(…)`: as `fetch`, of a folder with one file that can be read."""

    def run(**options: Any) -> Read:
        (change,) = fetch(**options).values()
        assert isinstance(change, Read), change
        return change

    return run


@pytest.fixture
def remember() -> Callable[..., dict[str, KnownPart]]:
    """`remember(changes, known)`: what the ledger knows once it has taken the changes over."""

    def after(changes: Mapping[str, Change], known: Mapping[str, KnownPart] | None = None) -> dict[str, KnownPart]:
        parts = dict(known or {})
        for part, change in changes.items():
            old = parts.pop(part, KnownPart("", "", ""))
            if isinstance(change, Read | Duplicate):
                parts[part] = KnownPart("ok" if isinstance(change, Read) else "duplicate", change.fingerprint, change.figures)
            elif type(change).__name__ == "Failed":
                parts[part] = KnownPart("failed", "", old.figures)
        return parts

    return after


@pytest.fixture
def totals() -> Callable[[Read], dict[str, Decimal]]:
    """Cost basis -> sum of the charges of a part."""
    return lambda change: {cost: exact_sum([getattr(charge, cost) for charge in change.charges]) for cost in COSTS}


@pytest.fixture
def by() -> Callable[..., dict[Any, Decimal]]:
    """`by(change, "team")`: value of that field -> sum of the billed cost."""

    def group(change: Read, *fields: str) -> dict[Any, Decimal]:
        sums: dict[Any, list[Decimal]] = defaultdict(list)
        for charge in change.charges:
            assert isinstance(charge, Charge)
            key = tuple(getattr(charge, field) for field in fields)
            sums[key if len(fields) > 1 else key[0]].append(charge.billed_cost)
        return {key: exact_sum(costs) for key, costs in sums.items()}

    return group
