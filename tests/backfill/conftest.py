"""A ledger with a past, and what the backfill makes of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from sqlalchemy import insert

from costwarden.ledger import Ledger
from costwarden.ledger.schema import COST_BASES, charges
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage, to_micros


def micros(text: str) -> int:
    """`2026-03-01T12:30` (UTC) in microseconds."""
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def seconds(text: str) -> int:
    """`2026-03-01T12:30` (UTC) in seconds."""
    return micros(text) // 1_000_000


Samples = dict[tuple[str, frozenset[tuple[str, str]]], dict[int, float]]


def parse(text: str) -> Samples:
    """(name, labels) -> time -> value, by a strict reader of OpenMetrics; it refuses a family or a series in two pieces."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series = found.setdefault((sample.name, frozenset(sample.labels.items())), {})
            at = int(float(sample.timestamp))
            assert at not in series
            assert not series or at > max(series)
            series[at] = sample.value
    return found


@dataclass
class Past:
    """A ledger in a folder of its own, its configuration beside it."""

    folder: Path
    ledger: Ledger
    costwarden: Callable[..., Result]
    config: dict[str, Any] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def output(self) -> Path:
        return self.folder / "history.om"

    def charge(self, day: str, cost: str, provider: str = "aws", **columns: str) -> None:
        """A charge in dollars, of all cost bases alike; a day may have as many as wanted."""
        self.charges((day, cost, provider, columns))

    def charges(self, *given: tuple[str, str, str, dict[str, str]]) -> None:
        """Many of them."""
        rows = [self._row(*one) for one in given]
        self.ledger.write(lambda connection: connection.execute(insert(charges), rows))

    def _row(self, day: str, cost: str, provider: str, columns: dict[str, str]) -> dict[str, Any]:
        values: dict[str, Any] = {"source": "focus", "part": f"bill-{next(self._numbers)}", "charge_date": day, "provider_name": provider}
        values |= {f"{basis}_usd": cost for basis in COST_BASES} | columns
        return {column.name: values.get(column.name, "") for column in charges.c if column.name != "row_count"}

    def use(self, at: str, **fields: Any) -> None:
        """A call; `cost` in nano-dollars."""
        self.uses((at, fields))

    def uses(self, *given: tuple[str, dict[str, Any]]) -> None:
        """Many of them."""
        events = [Usage(source="test", event_id=str(next(self._numbers)), timestamp=micros(at), **fields) for at, fields in given]
        self.ledger.write(lambda connection: append_usage(connection, [msgspec.structs.astuple(event) for event in events]))

    def run(self, *arguments: str) -> Result:
        """`costwarden backfill` with these arguments."""
        return self.costwarden("backfill", "--output", self.output, *arguments, **self.config)

    def backfill(self, *arguments: str) -> Samples:
        """What the command writes."""
        result = self.run("--force", *arguments)
        assert result.exit_code == 0, result.output
        return parse(self.output.read_text(encoding="utf-8"))


@pytest.fixture
def past(tmp_path: Path, sqlite_url: Callable[..., str], costwarden: Callable[..., Result]) -> Iterator[Past]:
    found = Past(tmp_path, Ledger(sqlite_url("costwarden.db")), costwarden)
    yield found
    found.ledger.close()


@pytest.fixture
def of() -> Callable[..., dict[int, float]]:
    """`of(samples, "aws_cost_daily_usd", service="EC2")`: the samples of the one series with these labels and the job's."""

    def find(samples: Samples, name: str, **labels: str) -> dict[int, float]:
        return samples.get((name, frozenset({"job": "costwarden", **labels}.items())), {})

    return find


@pytest.fixture
def at() -> Callable[[str], int]:
    """`at("2026-03-01T12:30")`: seconds since 1970 (UTC)."""
    return seconds


@pytest.fixture
def at_micros() -> Callable[[str], int]:
    """As `at`, in microseconds."""
    return micros
