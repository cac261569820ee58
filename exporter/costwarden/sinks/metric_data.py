"""Usage as CloudWatch takes it: sets of statistics by minute, under each combination of dimensions that is asked for.

CloudWatch adds nothing up over the dimensions of custom metrics: an alarm or a widget that names no dimension reads a metric without any,
and finds nothing where only one with dimensions was sent. So each cost goes out three times: by provider, operation and success, by
provider, and in all. (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#dimension-combinations)
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from costwarden.ledger.sinks import MinuteCost
from costwarden.model import MICROS_PER_SECOND, NANOS_PER_USD

METRIC = "OperationCost"

# Limits of a request and of its times: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
MOST_DATA = 1_000
OLDEST_SECONDS = 14 * 86_400 - 3600
"""Two weeks, less an hour in which it may have to wait."""
NEWEST_SECONDS = 2 * 3600

LONGEST_VALUE = 200
"""Characters of a dimension's value, which may have 1,024: so a full request stays below 1 MB."""

OTHER = "other"
NONE = "none"
"""Of a call that names no provider or no operation: a dimension cannot be empty."""

Dimensions = tuple[tuple[str, str], ...]


def dimension_value(text: str) -> str:
    """`text` as a dimension can have it: printable ASCII, not empty.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html
    """
    return re.sub(r"[^\x20-\x7e]", "?", text).strip()[:LONGEST_VALUE].strip() or NONE


def metric_data(costs: Iterable[MinuteCost], kept: Collection[tuple[str, str]], at: int) -> tuple[list[dict[str, Any]], int]:
    """The data of `MetricData`, in a fixed order, and how many CloudWatch would not take at `at` microseconds for their times.

    `kept` are the pairs of provider and operation with metrics of their own. A correction is a record like any other: at the minute of what
    it corrects, and negative where that had been too dear.
    """
    sums: dict[tuple[int, Dimensions], list[int]] = {}
    for cost in costs:
        for dimensions in _combinations(cost, kept):
            found = sums.get((cost.minute, dimensions))
            if found is None:
                sums[cost.minute, dimensions] = [cost.records, cost.cost, cost.least, cost.most]
            else:
                found[0] += cost.records
                found[1] += cost.cost
                found[2] = min(found[2], cost.least)
                found[3] = max(found[3], cost.most)
    now = at // MICROS_PER_SECOND
    taken = {key: sums[key] for key in sorted(sums) if now - OLDEST_SECONDS <= key[0] * 60 <= now + NEWEST_SECONDS}
    return [_datum(minute, dimensions, *statistics) for (minute, dimensions), statistics in taken.items()], len(sums) - len(taken)


def requests_of(data: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    """`data` in pieces that a request may have."""
    for start in range(0, len(data), MOST_DATA):
        yield data[start : start + MOST_DATA]


def _combinations(cost: MinuteCost, kept: Collection[tuple[str, str]]) -> tuple[Dimensions, ...]:
    operation = cost.operation if (cost.provider, cost.operation) in kept else OTHER
    provider = ("Provider", dimension_value(cost.provider))
    own = (provider, ("Operation", dimension_value(operation)), ("Success", "true" if cost.success else "false"))
    return own, (provider,), ()


def _datum(minute: int, dimensions: Dimensions, records: int, cost: int, least: int, most: int) -> dict[str, Any]:
    dollars = {"Sum": cost / NANOS_PER_USD, "Minimum": least / NANOS_PER_USD, "Maximum": most / NANOS_PER_USD}
    return {
        "MetricName": METRIC,
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions],
        "Timestamp": datetime.fromtimestamp(minute * 60, UTC),
        "StatisticValues": {"SampleCount": float(records), **dollars},
        "Unit": "None",
    }
