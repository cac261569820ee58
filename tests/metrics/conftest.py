from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from costwarden.ledger import Ledger
from costwarden.ledger.usage import append_usage
from costwarden.metrics.bounds import Sample
from costwarden.metrics.catalogue import FAMILIES, Family
from costwarden.metrics.page import Collector, Page
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import Usage

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""


@pytest.fixture
def collector() -> Callable[..., Collector]:
    """`collector(metric=[(labels, value), …])`: a collector that gives these samples."""

    def make(name: str = "test", **samples: Iterable[Sample]) -> Collector:
        families: list[tuple[Family, Iterable[Sample]]] = [(FAMILIES[metric], list(given)) for metric, given in samples.items()]
        return Collector(name, lambda: families)

    return make


@pytest.fixture
def page_of() -> Callable[..., Page]:
    """`page_of(collector, …, series_limit=3)`: a page that is rendered."""

    def make(*collectors: Collector, **settings: Any) -> Page:
        page = Page(collectors, MetricsSettings(**settings), lambda: NOON)
        page.render()
        return page

    return make


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    opened = Ledger(f"sqlite:///{tmp_path / 'costwarden.db'}")
    yield opened
    opened.close()


@pytest.fixture
def record(ledger: Ledger) -> Callable[..., None]:
    """`record(tenant_id="acme", cost=5)`: appends a usage event to the ledger, at noon unless said otherwise."""
    numbers = count()

    def append(timestamp: int = NOON, **fields: Any) -> None:
        event = Usage(source="test", event_id=str(next(numbers)), timestamp=timestamp, **fields)
        ledger.write(lambda connection: append_usage(connection, [msgspec.structs.astuple(event)]))

    return append


@pytest.fixture
def shown(golden: Callable[[str, str], None]) -> Callable[..., None]:
    """`shown(collector, "name")`: compares the collector's metrics, HELP and TYPE included, with `golden/<name>.txt`."""

    def compare(collector: Collector, name: str) -> None:
        page = Page([collector], MetricsSettings(), lambda: NOON)
        page.render()
        text = page.answer().body.decode()
        assert f'costwarden_collector_up{{collector="{collector.name}"}} 1.0' in text
        golden(f"{name}.txt", text.partition("# HELP costwarden_collector_up")[0])

    return compare
