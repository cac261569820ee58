"""Cloud Monitoring on loopback: `projects.timeSeries.list`, aligned and reduced as the request says.

https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/list; metric and resource:
https://cloud.google.com/monitoring/api/metrics_gcp_a_b#gcp-aiplatform,
https://cloud.google.com/monitoring/api/resources#tag_aiplatform.googleapis.com/PublisherModel. Whole numbers are texts, as in all JSON of
Google's; the newest point of a series comes first; what is not grouped by is not there. Filters and metrics scopes:
https://cloud.google.com/monitoring/api/v3/filters, https://cloud.google.com/monitoring/settings.
"""

import re
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from stand_in import Answer, Request

TOKENS = "aiplatform.googleapis.com/publisher/online_serving/token_count"
CALLS = "aiplatform.googleapis.com/publisher/online_serving/model_invocation_count"

_FILTER = re.compile(
    r'(?:project = "([^"]+)" AND )?metric\.type = "([^"]+)" AND resource\.type = "aiplatform\.googleapis\.com/PublisherModel"'
)


class CloudMonitoring:
    """Points of projects; `page` is how many series one answer has at most."""

    def __init__(self) -> None:
        self.points: dict[str, list[tuple[str, datetime, int, dict[str, str]]]] = defaultdict(list)
        self.denied: set[str] = set()
        """Projects that nobody may look into."""
        self.scopes: dict[str, set[str]] = {}
        """Scoping project -> the projects whose metrics it shows, beside its own."""
        self.page = 1000

    def write(self, project: str, metric: str, when: datetime, value: int, model: str, version: str = "", **labels: str) -> None:
        """A point of a DELTA metric."""
        resource = {"model_user_id": model, "model_version_id": version, "location": "us-central1", "publisher": "google"}
        named = {f"resource.label.{name}": text for name, text in resource.items()}
        metrics = {"request_type": "shared", "max_token_size": "1024", **labels}
        self.points[project].append((metric, when, value, named | {f"metric.label.{name}": text for name, text in metrics.items()}))

    def answer(self, request: Request) -> Answer:
        match = re.fullmatch(r"/v3/projects/([^/]+)/timeSeries", request.path)
        asked = _FILTER.fullmatch(request.first("filter"))
        if match is None or asked is None:
            return _error(400, "INVALID_ARGUMENT", f"Field filter had an invalid value of {request.first('filter')!r}")
        if match[1] in self.denied:
            return _error(403, "PERMISSION_DENIED", "Permission monitoring.timeSeries.list denied (or the resource may not exist).")
        aligner, reducer = request.first("aggregation.perSeriesAligner"), request.first("aggregation.crossSeriesReducer")
        if (aligner, reducer) != ("ALIGN_SUM", "REDUCE_SUM"):
            return _error(400, "INVALID_ARGUMENT", "the stand-in only sums")
        projects = {match[1], *self.scopes.get(match[1], ())} & ({asked[1]} if asked[1] else {*self.points})
        return self._page(request, self._series(request, projects, asked[2]))

    def _series(self, request: Request, projects: set[str], metric: str) -> list[dict[str, Any]]:
        start, end = (datetime.fromisoformat(request.first(f"interval.{name}Time")) for name in ("start", "end"))
        period = timedelta(seconds=int(request.first("aggregation.alignmentPeriod").removesuffix("s")))
        groups = request.query.get("aggregation.groupByFields", [])
        sums: dict[tuple[str, ...], dict[datetime, int]] = defaultdict(lambda: defaultdict(int))
        for name, when, value, labels in (point for project in sorted(projects) for point in self.points[project]):
            if name == metric and start < when <= end:
                # Periods are laid from the end of the interval backwards; a point belongs to the one that ends at or after it.
                ends = end - (end - when) // period * period
                sums[tuple(labels.get(group, "") for group in groups)][ends] += value
        return [_one(metric, dict(zip(groups, key, strict=True)), points) for key, points in sorted(sums.items())]

    def _page(self, request: Request, series: list[dict[str, Any]]) -> Answer:
        at, size = int(request.first("pageToken", "0")), min(self.page, int(request.first("pageSize", "100000")))
        body: dict[str, Any] = {"unit": "1"}
        if found := series[at : at + size]:
            body["timeSeries"] = found
        if at + size < len(series):
            body["nextPageToken"] = str(at + size)
        return Answer(body)


def _one(metric: str, labels: dict[str, str], points: dict[datetime, int]) -> dict[str, Any]:
    def named(prefix: str) -> dict[str, str]:
        return {name.removeprefix(prefix): text for name, text in labels.items() if name.startswith(prefix) and text}

    return {
        "metric": {"type": metric, "labels": named("metric.label.")},
        "resource": {"type": "aiplatform.googleapis.com/PublisherModel", "labels": named("resource.label.")},
        "metricKind": "GAUGE",
        "valueType": "INT64",
        "points": [
            {"interval": {"startTime": _text(when), "endTime": _text(when)}, "value": {"int64Value": str(value)}}
            for when, value in sorted(points.items(), reverse=True)
        ],
    }


def _text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def _error(status: int, kind: str, message: str) -> Answer:
    # https://cloud.google.com/apis/design/errors#http_mapping
    return Answer({"error": {"code": status, "message": message, "status": kind}}, status)
