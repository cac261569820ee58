"""A provider that answers from the request, a real costwarden, and clients of it that end with the test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from costwarden_server import Costwarden
from llm_provider import Provider

from costwarden.client import Budget

_numbers = count()


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_costwarden(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Costwarden]:
    """One for all tests of a worker: each has a tenant of its own."""
    server = Costwarden(tmp_path_factory.mktemp("costwarden"), free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def costwarden(shared_costwarden: Costwarden) -> Costwarden:
    return shared_costwarden


@pytest.fixture
def own_costwarden(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Costwarden]:
    """One that a test may kill."""
    server = Costwarden(tmp_path / "costwarden", free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tenant(costwarden: Costwarden) -> str:
    """A tenant with a dollar a month."""
    name = f"tenant-{next(_numbers)}"
    costwarden.set_budget(name, 1)
    return name


@pytest.fixture
def make_budget(costwarden: Costwarden) -> Iterator[Callable[..., Budget]]:
    """`make_budget(**options)` gives a client of the shared server, which a busy machine may hold up; all are closed at the end."""
    patient = {"url": costwarden.url, "timeout_seconds": 60.0, "close_seconds": 60.0}
    with ExitStack() as budgets:
        yield lambda **options: budgets.enter_context(Budget(**{**patient, **options}))


@pytest.fixture
def budget(make_budget: Callable[..., Budget], tenant: str) -> Budget:
    return make_budget(tenant_id=tenant)
