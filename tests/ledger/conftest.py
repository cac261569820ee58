import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from costwarden.ledger import Ledger
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Of a ledger that is not there yet."""
    return f"sqlite:///{tmp_path / 'costwarden.db'}"


@pytest.fixture
def open_ledger(database_url: str) -> Iterator[Callable[..., Ledger]]:
    """`open_ledger(owner=True)`: opens the ledger, as often as wanted; all are closed in the end."""
    opened = []

    def make(**options: Any) -> Ledger:
        opened.append(Ledger(database_url, **options))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger], empty_ledger: Path, tmp_path: Path) -> Ledger:
    """An empty ledger."""
    shutil.copy(empty_ledger, tmp_path / "costwarden.db")
    return open_ledger()


@pytest.fixture
def record(ledger: Ledger) -> Callable[..., None]:
    """`record({"cost": 5}, {"cost": 7, "timestamp": …})`: appends usage events in one transaction, at noon unless said otherwise."""
    numbers = count()

    def append(*events: dict[str, Any]) -> None:
        rows = [
            msgspec.structs.astuple(Usage(**{"source": "test", "event_id": str(next(numbers)), "timestamp": NOON, **event}))
            for event in events
        ]
        ledger.write(lambda connection: append_usage(connection, rows))

    return append
