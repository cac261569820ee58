"""What every test may ask for: tools, ports, golden files, sample bills, and waiting without sleeping."""

import difflib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from postgresql_server import PostgresqlServer

from costwarden.ledger import Ledger

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent
WRITE_GOLDEN = os.environ.get("COSTWARDEN_GOLDEN") == "write"
SAMPLE_DATA = os.environ.get("COSTWARDEN_SAMPLE_DATA")
SAMPLE_DATA_FOLDER = Path(SAMPLE_DATA) if SAMPLE_DATA else PROJECT.parent / "shared" / "data"


def pytest_configure() -> None:
    # Neither the proxy nor the cloud credentials of whoever runs the tests may reach a test.
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            del os.environ[name]
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what has no place in this run: all but golden tests when these are written, sample bills that are not there."""

    def is_wanted(item: pytest.Item) -> bool:
        if WRITE_GOLDEN and "golden" not in getattr(item, "fixturenames", ()):
            return False
        return item.get_closest_marker("sample_data") is None or SAMPLE_DATA is not None or SAMPLE_DATA_FOLDER.is_dir()

    unwanted = [item for item in items if not is_wanted(item)]
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if is_wanted(item)]


@dataclass(frozen=True)
class Tools:
    """The programs that `make tools` puts into .tools/bin."""

    prometheus: Path
    promtool: Path
    alertmanager: Path
    amtool: Path


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The Prometheus programs; a missing one fails the test, because a check that skips proves nothing."""
    folder = PROJECT / ".tools" / "bin"
    found = {name: folder / name for name in ("prometheus", "promtool", "alertmanager", "amtool")}
    missing = [name for name, program in found.items() if not os.access(program, os.X_OK)]
    if missing:
        pytest.fail(f"{', '.join(missing)} not in {folder}: run `rm -r .tools; make tools`")
    return Tools(**found)


@pytest.fixture(scope="session")
def project() -> Path:
    """The root folder of the checkout."""
    return PROJECT


@pytest.fixture
def sample_data() -> Path:
    """The folder of real sample bills; a test that asks for it carries the mark `sample_data`."""
    assert SAMPLE_DATA_FOLDER.is_dir(), f"COSTWARDEN_SAMPLE_DATA names {SAMPLE_DATA_FOLDER}, which is no folder"
    return SAMPLE_DATA_FOLDER


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with all its tables and nothing in them, to be copied: 2 ms, where the migrations take 70."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"
    Ledger(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server, one for each worker: version 18, or the one that COSTWARDEN_POSTGRESQL names, 16."""
    with PostgresqlServer(int(os.environ.get("COSTWARDEN_POSTGRESQL", "18"))) as server:
        yield server


@pytest.fixture(scope="session")
def empty_database(postgresql: PostgresqlServer) -> str:
    """The name of a database with all the tables of a ledger and nothing in them, to be copied: 40 ms, where the migrations take 200."""
    name = postgresql.create()
    Ledger(postgresql.url(name)).close()
    return name


@pytest.fixture
def postgresql_url(postgresql: PostgresqlServer, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """`postgresql_url()` gives the URL of a new and empty ledger; with `migrated=False`, of a database without any table."""
    made = []

    def make(*, migrated: bool = True) -> str:
        made.append(postgresql.create(request.getfixturevalue("empty_database")) if migrated else postgresql.create())
        return postgresql.url(made[-1])

    yield make
    for name in made:
        postgresql.drop(name)


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a loopback port that nothing listens on, another one at each call.

    From below the range out of which Linux takes the ports of outgoing connections: one of those could take it before the server does.
    """
    # Hypothesis seeds the shared generator alike in every worker.
    draw = random.SystemRandom()

    def find() -> int:
        while True:
            port = draw.randrange(10_000, 32_000)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port

    return find


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., object]:
    """`wait_until(predicate, seconds=10)` polls and gives the first true answer; past the deadline the test fails with the last one."""

    def wait(predicate: Callable[[], T], seconds: float = 10) -> T:
        deadline = time.monotonic() + seconds
        while not (answer := predicate()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s; the last answer was {answer!r}")
            time.sleep(0.02)
        return answer

    return wait


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str | bytes], None]:
    """`golden(name, actual)` compares with the file `golden/<name>` beside the test; `make golden` writes it instead."""

    def compare(name: str, actual: str | bytes) -> None:
        path = request.path.parent / "golden" / name
        text = actual.decode() if isinstance(actual, bytes) else actual
        if WRITE_GOLDEN:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            diff = difflib.unified_diff(expected.splitlines(True), text.splitlines(True), f"golden/{name}", "actual")
            pytest.fail("".join(diff) + "\n`make golden` takes the new text over", pytrace=False)

    return compare
