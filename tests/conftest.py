"""What every test may ask for: tools, ports, golden files, sample bills, and waiting without sleeping."""

import difflib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import settings
from postgresql_server import PostgresqlServer
from spending import Spending

from costwarden.cli import cli
from costwarden.ledger import Ledger

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "deploy" / "demo"))

from processes import free_port as find_port  # noqa: E402 (the path comes first)

WRITE_GOLDEN = os.environ.get("COSTWARDEN_GOLDEN") == "write"
SAMPLE_DATA = os.environ.get("COSTWARDEN_SAMPLE_DATA")
SAMPLE_DATA_FOLDER = Path(SAMPLE_DATA) if SAMPLE_DATA else PROJECT.parent / "shared" / "data"

# Hypothesis would fail an example that takes 200 ms: a busy machine is no fault.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")


def pytest_configure() -> None:
    # Else every server that a test starts would compile costwarden anew, and every run all tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Neither the proxy nor the cloud credentials of whoever runs the tests may reach a test.
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            del os.environ[name]
    os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest tests first; left out is what has no place: all but golden tests when these are written, sample bills that are not there.

    A run that ends with them would have one worker wait for the other.
    """
    items.sort(key=lambda item: item.get_closest_marker("stack") is None)

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


@pytest.fixture
def sqlite_url(tmp_path: Path, empty_ledger: Path) -> Callable[..., str]:
    """`sqlite_url()` gives the URL of a new and empty ledger in the folder of the test; `sqlite_url("costwarden.db")` has it so named."""
    numbers = count()
    return lambda name="": f"sqlite:///{shutil.copy(empty_ledger, tmp_path / (name or f'{next(numbers)}.db'))}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Callable[[], str]:
    """`database_url()`: of a new and empty ledger; the test runs on each of both databases."""
    fresh: Callable[[], str] = request.getfixturevalue(f"{request.param}_url")
    return fresh


@pytest.fixture
def spending(tmp_path: Path, sqlite_url: Callable[..., str]) -> Iterator[Spending]:
    """A ledger that sources are read into, as of 2026-11-20: `costwarden.db` in the folder of the test; see `Spending`."""
    made = Spending(sqlite_url("costwarden.db"))
    yield made
    made.ledger.close()


@pytest.fixture
def costwarden(tmp_path: Path) -> Callable[..., Result]:
    """`costwarden("sources", answer="y", sources=[…])`: the command with a configuration of these sections, in the folder of the test."""

    def run(*arguments: object, answer: str = "", **sections: Any) -> Result:
        path = tmp_path / "costwarden.yaml"
        path.write_text(yaml.safe_dump(sections), encoding="utf-8")
        return CliRunner().invoke(cli, [*map(str, arguments), "--config", str(path)], input=answer, catch_exceptions=False)

    return run


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of a moto server, one for each worker; what it holds is the process's, and stays until a test resets it."""
    # It takes half a second to import: only for who asks for it.
    from moto.moto_server.threaded_moto_server import MotoRequestHandler
    from moto.server import ThreadedMotoServer

    # It writes headers and body apart: the second would wait 40 ms for the client's word that it has the first.
    MotoRequestHandler.disable_nagle_algorithm = True
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that moto and the stand-ins take; boto3 finds them in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives a loopback port that nothing listens on, another one at each call, and none that another worker is given."""
    return find_port


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., object]:
    """`wait_until(predicate)` polls and gives the first true answer; past the deadline the test fails with the last one."""

    def wait(predicate: Callable[[], T], seconds: float = 60) -> T:
        deadline = time.monotonic() + seconds
        while not (answer := predicate()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s; the last answer was {answer!r}")
            time.sleep(0.02)
        return answer

    return wait


@pytest.fixture
def today(wait_until: Callable[..., Any]) -> date:
    """The day that it is in UTC, of which a minute is left: who asks for it again, a test or costwarden, has the same one."""

    def found() -> date | None:
        now = datetime.now(UTC)
        return now.date() if (now + timedelta(minutes=1)).date() == now.date() else None

    return cast("date", wait_until(found, 120))


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
