import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from costwarden.ledger import Ledger
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for a ledger runs on both databases.

    But for those whose module says `DATABASES = ("sqlite",)`, or that say so themselves: `@parametrize("database", […], indirect=True)`.
    """
    said = any(mark.args[0] == "database" for mark in metafunc.definition.iter_markers("parametrize"))
    if "database" in metafunc.fixturenames and not said:
        metafunc.parametrize("database", getattr(metafunc.module, "DATABASES", ("sqlite", "postgresql")), indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """What the ledger is kept in: `sqlite` or `postgresql`."""
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Of a ledger that is not there yet."""
    if database == "sqlite":
        return f"sqlite:///{tmp_path / 'costwarden.db'}"
    url: str = request.getfixturevalue("postgresql_url")(migrated=False)
    return url


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
def ledger(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """An empty ledger."""
    if database == "sqlite":
        shutil.copy(request.getfixturevalue("empty_ledger"), tmp_path / "costwarden.db")
        url = f"sqlite:///{tmp_path / 'costwarden.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")()
    opened = Ledger(url)
    yield opened
    opened.close()


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


@pytest.fixture
def second(ledger: Ledger, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """Another replica on the same PostgreSQL."""
    postgresql = request.getfixturevalue("postgresql")
    other = Ledger(postgresql.url(ledger._database.engine.url.database))
    yield other
    other.close()


class Beside:
    """`with beside(ledger, work) as other: …`: does `work` in a transaction of that ledger, which ends when the block does."""

    def __init__(self, ledger: Ledger, work: Callable[[Any], Any]) -> None:
        self._ready, self._end = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)

        def run(connection: Any) -> Any:
            answer = work(connection)
            self._ready.set()
            assert self._end.wait(60)
            return answer

        self.answer = self._pool.submit(ledger.write, run)
        self.answer.add_done_callback(lambda _: self._ready.set())
        assert self._ready.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.answer.result(60)
        self._pool.shutdown()


@pytest.fixture
def beside() -> type[Beside]:
    """See `Beside`."""
    return Beside


@pytest.fixture
def waiting(wait_until: Callable[..., object]) -> Callable[[Ledger, int], None]:
    """`waiting(ledger, 1)`: returns once that many sessions of PostgreSQL wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def wait(ledger: Ledger, number: int) -> None:
        def counted() -> int:
            with ledger.read() as connection:
                return int(connection.exec_driver_sql(query).scalar_one())

        wait_until(lambda: counted() == number)

    return wait
