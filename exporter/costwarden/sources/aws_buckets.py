"""How large the S3 buckets are, as CloudWatch has it once a day.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/metrics-dimensions.html (AWS/S3, BucketSizeBytes by BucketName and StorageType)
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from costwarden.model import ProviderFigure, to_nanos
from costwarden.sources.aws_session import AwsSession
from costwarden.sources.http_json import pages
from costwarden.sources.settings.aws import CLOUDWATCH_USD, METRICS_A_REQUEST, AwsSettings

NANOS_A_METRIC = to_nanos(CLOUDWATCH_USD)

DAYS_BACK = 3
"""A day's size comes up to two days later."""

_DAY_SECONDS = 86_400

METRIC = {"Namespace": "AWS/S3", "MetricName": "BucketSizeBytes"}

Labels = tuple[str, str]
"""Bucket and storage type."""

Dimensions = list[dict[str, str]]
"""As CloudWatch has them."""


class BucketSizes:
    """The sizes of the buckets of one account."""

    def __init__(self, settings: AwsSettings, session: AwsSession, account: str, part: str) -> None:
        self._settings, self._session, self._account, self._part = settings, session, account, part
        self._metrics = 0

    def read(self, today: date) -> list[ProviderFigure]:
        """The newest size of every bucket and storage type, in all configured regions. Raises `SourceError`."""
        return [
            ProviderFigure(
                source=self._settings.name,
                part=self._part,
                metric="aws_s3_bucket_size_bytes",
                labels=(self._settings.name, self._account, region, *labels),
                value=size,
            )
            for region in self._settings.bucket_regions or (self._settings.access.region,)
            for labels, size in self._sizes(region, today)
        ]

    def _sizes(self, region: str, today: date) -> Iterator[tuple[Labels, Decimal]]:
        # A `GetMetricData` is paid for by the metrics in it, not by the request.
        client = self._session.client("cloudwatch", region=region, cost=lambda: self._metrics * NANOS_A_METRIC)
        self._metrics = 1
        listed = self._listed(client)
        end = datetime.combine(today + timedelta(days=1), time(), UTC)
        for start in range(0, len(listed), METRICS_A_REQUEST):
            some = dict(listed[start : start + METRICS_A_REQUEST])
            self._metrics = len(some)
            request = {
                "MetricDataQueries": [
                    {
                        "Id": f"m{number}",
                        "MetricStat": {"Metric": METRIC | {"Dimensions": dimensions}, "Period": _DAY_SECONDS, "Stat": "Average"},
                    }
                    for number, dimensions in enumerate(some.values())
                ],
                "StartTime": end - timedelta(days=DAYS_BACK + 1),
                "EndTime": end,
                "ScanBy": "TimestampDescending",
            }
            found: dict[str, Decimal] = {}
            for answer in self._pages(client.get_metric_data, request):
                for result in answer.get("MetricDataResults") or []:
                    if result.get("Values"):
                        # The newest comes first, and a page has what the one before it had no room for.
                        found.setdefault(result["Id"], Decimal(repr(result["Values"][0])))
            # One without a value has been empty or gone for days: CloudWatch lists it for two weeks.
            yield from ((labels, found[f"m{number}"]) for number, labels in enumerate(some) if f"m{number}" in found)

    def _listed(self, client: Any) -> Sequence[tuple[Labels, Dimensions]]:
        found: dict[Labels, Dimensions] = {}
        for answer in self._pages(client.list_metrics, METRIC):
            for metric in answer.get("Metrics") or []:
                dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
                if dimensions.keys() == {"BucketName", "StorageType"}:
                    found[dimensions["BucketName"], dimensions["StorageType"]] = metric["Dimensions"]
        return sorted(found.items(), key=lambda item: item[0])

    def _pages(self, operation: Any, request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        def ask(token: str) -> dict[str, Any]:
            page = {**request, **({"NextToken": token} if token else {})}
            answer: dict[str, Any] = self._session.ask(lambda: operation(**page))
            return answer

        return pages("CloudWatch", ask, lambda answer: answer.get("NextToken") or "")
