"""A CloudWatch on loopback (moto), a ledger with usage, and the sink between the two."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import boto3
import msgspec
import pytest
from moto.cloudwatch.models import cloudwatch_backends
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT

from costwarden.ledger import Ledger
from costwarden.ledger.sinks import SinkState, read_sink
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage, to_micros
from costwarden.sinks.cloudwatch import CloudwatchSink
from costwarden.sinks.settings import CloudwatchSettings

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
"""Yesterday's: moto takes the times of today for what they are."""


@pytest.fixture
def cloudwatch(moto: str, aws_credentials: None) -> Any:
    """boto3's client of an empty CloudWatch; the environment has credentials."""
    cloudwatch_backends.reset()
    return boto3.client("cloudwatch", region_name="us-east-1", endpoint_url=moto)


@pytest.fixture
def settings(moto: str) -> Callable[..., CloudwatchSettings]:
    """`settings(interval_seconds=10, …)`: the section `cloudwatch`; `endpoint=` is another CloudWatch than moto's."""

    def make(endpoint: str = moto, **more: Any) -> CloudwatchSettings:
        return CloudwatchSettings.model_validate({"access": {"endpoint_url": endpoint}, **more})

    return make


class Metered:
    """A ledger on which calls are recorded; `now` is the clock of all, in microseconds."""

    def __init__(self, url: str) -> None:
        self.ledger = Ledger(url)
        self.now = to_micros(NOON)
        self._numbers = count()

    def call(self, cost: int, *, minutes: float = 0, **fields: Any) -> None:
        """A call that cost `cost` nano-dollars, `minutes` after noon."""
        when = to_micros(NOON + timedelta(minutes=minutes))
        given = {"provider": "replicate", "operation": "upscale", **fields}
        event = Usage(source="test", event_id=str(next(self._numbers)), timestamp=when, cost=cost, **given)
        self.ledger.write(lambda connection: append_usage(connection, [msgspec.structs.astuple(event)]))

    def sink(self, settings: CloudwatchSettings | None) -> CloudwatchSink:
        """A sink that has begun: what is recorded from now on is sent."""
        made = CloudwatchSink(self.ledger, settings, lambda: self.now)
        if not self.state.cursor:
            made.send()
        return made

    @property
    def state(self) -> SinkState:
        with self.ledger.read() as connection:
            return read_sink(connection, "cloudwatch")


@pytest.fixture
def metered(sqlite_url: Callable[..., str]) -> Iterator[Metered]:
    made = Metered(sqlite_url("costwarden.db"))
    yield made
    made.ledger.close()


@pytest.fixture
def sums(cloudwatch: Any) -> Callable[..., dict[int, float]]:
    """`sums(Provider="replicate")`: minute after noon -> sum, of the metric with exactly these dimensions, as CloudWatch keeps it.

    Read from moto's own memory: its GetMetricStatistics gives the metrics that have other dimensions besides, too, where AWS's gives none.
    """

    def read(field: str = "sum", **dimensions: str) -> dict[int, float]:
        found: dict[int, float] = {}
        for datum in cloudwatch_backends[ACCOUNT]["us-east-1"].metric_data:
            assert (datum.namespace, datum.name, datum.unit) == ("VisualNeurons/AI", "OperationCost", "None")
            if {dimension.name: dimension.value for dimension in datum.dimensions} == dimensions:
                minute = int((datum.timestamp.replace(tzinfo=UTC) - NOON).total_seconds() // 60)
                value = getattr(datum, field)
                found[minute] = max(found.get(minute, value), value) if field == "max" else found.get(minute, 0) + value
        return found

    return read
