"""Tokens of the models of Vertex AI, as Cloud Monitoring counts them by model and day. What they cost stands in the bill of Google Cloud.

The metrics: https://cloud.google.com/monitoring/api/metrics_gcp_a_b#gcp-aiplatform. Read by REST: Google's library for Cloud Monitoring
speaks gRPC only, whose requests could be neither counted one by one nor ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from costwarden.model import ReportedUsage
from costwarden.sources import Change, KnownPart, SourceError, Surroundings, Window
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.daily import DailyCosts
from costwarden.sources.gcp_clients import Calls, gcp_credentials
from costwarden.sources.http_json import JsonApi, pages
from costwarden.sources.json_rows import UnreadableRow, as_text, lines_of, object_of, object_row, text_of, whole
from costwarden.sources.scopes import changed_days, days_to_take, known_days, listed, read_scopes
from costwarden.sources.settings import AttributionSettings, ExchangeRates, VertexSettings
from costwarden.sources.windows import ONE_DAY

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

URL = "https://monitoring.googleapis.com"

SCOPE = "https://www.googleapis.com/auth/monitoring.read"

RESOURCE = "aiplatform.googleapis.com/PublisherModel"
"""https://cloud.google.com/monitoring/api/resources#tag_aiplatform.googleapis.com/PublisherModel."""

TOKENS = "aiplatform.googleapis.com/publisher/online_serving/token_count"
CALLS = "aiplatform.googleapis.com/publisher/online_serving/model_invocation_count"

LABELS = ("resource.label.model_user_id", "resource.label.model_version_id", "metric.label.request_type")

SERIES_A_PAGE = "1000"

QUANTITIES = {"input": "input_tokens", "output": "output_tokens"}
"""Label `type` of `token_count` -> quantity."""

TIERS = {"": "", "shared": "", "dedicated": "provisioned_throughput"}
"""Label `request_type` -> service tier, as usage events name it; another stays as it is."""


class VertexSource:
    """Projects. Each is a scope, a part is a day of it."""

    def __init__(
        self, settings: VertexSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings
    ) -> None:
        self._settings, self._surroundings = settings, surroundings
        self._attribution, self._rates = Attribution(attribution), Rates(rates)
        self._credentials: Credentials | None = None
        self._calls = Calls(surroundings.requests)
        self._api = JsonApi(
            "Cloud Monitoring",
            settings.access.endpoint_url or URL,
            self._headers,
            surroundings.requests,
            timeout_seconds=settings.request_timeout_seconds,
            explain=_advice,
        )

    def fetch(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        """The days that have changed. Raises `SourceError` where no project can be read."""
        scopes: dict[str, Callable[[], Iterator[Change]]] = {
            project: partial(self._read, project, known, window) for project in self._settings.projects
        }
        try:
            yield from read_scopes(scopes, known, lambda: self._api.closed)
        finally:
            self._api.release()

    def probe(self) -> Iterator[str]:
        """Ask for yesterday's tokens in the first project."""
        project, day = self._settings.projects[0], datetime.now(UTC).date() - ONE_DAY
        try:
            models = {_model(series) for series, _ in self._series(project, TOKENS, day, day)}
        except UnreadableRow as error:
            raise SourceError(f"Cloud Monitoring: {error}") from None
        finally:
            self._api.release()
        yield f"{project}: models called on {day}: {listed(models)}" + (
            "" if models else "; is the id right, and is it the project in which models are called (`projects`)?"
        )

    def close(self) -> None:
        """End a fetch that is under way in another thread."""
        self._api.close()
        self._calls.close()

    def _read(self, project: str, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        if not (days := days_to_take(window, known_days(project, known))):
            return
        first, last = days[0], days[-1]
        daily = DailyCosts(self._settings.name, project, self._attribution, self._rates)
        for metric in (TOKENS, CALLS):
            for series, points in self._series(project, metric, first, last):
                for point in points:
                    self._add(daily, project, metric, first, series, point)
        accepts_empty = self._settings.accept_empty_answers
        yield from changed_days(daily, first, last, known, days, accepts_empty=accepts_empty, what="usage")

    @staticmethod
    def _add(daily: DailyCosts, project: str, metric: str, first: date, series: Mapping[str, Any], point: Any) -> None:
        day = _day(point)
        if day < first:
            # The end of the day before, which the range touches.
            return
        try:
            kind = text_of(object_of(object_of(series, "metric"), "labels"), "type")
            quantity = "requests" if metric == CALLS else QUANTITIES.get(kind)
            if quantity is None:
                raise UnreadableRow("unknown_token_type", f"{metric}: `type` is {kind!r:.80}")
            value = object_of(object_row(point), "value")
            count = whole(value.get("int64Value", value.get("doubleValue")))
            if count is None:
                raise UnreadableRow("bad_count", f"{metric}: {value!r:.80} is no whole number of at least 0")
            quantities: dict[str, Any] = {quantity: count}
            tier = text_of(object_of(object_of(series, "metric"), "labels"), "request_type")
            usage = ReportedUsage(
                source="",
                part="",
                usage_date=day,
                provider="gcp.vertex_ai",
                account_id=project,
                model=_model(series),
                service_tier=TIERS.get(tier, tier),
                **quantities,
            )
        except UnreadableRow as error:
            daily.reject(day, error.reason, str(error), as_text({**series, "points": [point]}))
        else:
            if count:
                daily.add_usage(usage)

    def _series(self, project: str, metric: str, first: date, last: date) -> Iterator[tuple[Mapping[str, Any], list[Any]]]:
        """The time series of `metric`, without and with its points: one for each day and combination of labels.

        https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/list
        """
        labels = (*LABELS, "metric.label.type") if metric == TOKENS else LABELS
        parameters = [
            # A scoping project would answer for every project of its metrics scope: https://cloud.google.com/monitoring/api/v3/filters.
            ("filter", f'project = "{project}" AND metric.type = "{metric}" AND resource.type = "{RESOURCE}"'),
            ("interval.startTime", f"{first}T00:00:00Z"),
            # The periods are counted back from the end, so that it must be a midnight, that after today too.
            ("interval.endTime", f"{last + ONE_DAY}T00:00:00Z"),
            ("aggregation.alignmentPeriod", "86400s"),
            # Not ALIGN_DELTA, which makes up values for periods that have none.
            ("aggregation.perSeriesAligner", "ALIGN_SUM"),
            ("aggregation.crossSeriesReducer", "REDUCE_SUM"),
            *(("aggregation.groupByFields", label) for label in labels),
            ("pageSize", SERIES_A_PAGE),
        ]
        what = f"Cloud Monitoring: {project}"

        def ask(token: str) -> dict[str, Any]:
            page = self._api.get(f"/v3/projects/{project}/timeSeries", [*parameters, *([("pageToken", token)] if token else [])]).body
            if errors := page.get("executionErrors"):
                # They "may have caused the time series data returned to be incomplete", says the reference.
                raise SourceError(f"{what}: the answer is not whole: {as_text(errors)[:300]}")
            return page

        for page in pages(what, ask, _next_page):
            # An empty list is left out of an answer of Google's.
            for series in lines_of(page, "timeSeries", what) if "timeSeries" in page else []:
                points = lines_of(series, "points", what)
                yield {name: series[name] for name in ("metric", "resource") if name in series}, points

    def _headers(self) -> dict[str, str]:
        from google.auth.transport.requests import Request

        transport = Request()
        headers: dict[str, str] = {}

        def counted(*args: Any, **named: Any) -> Any:
            self._calls.about_to_ask()
            return transport(*args, **named)

        def prove() -> None:
            if self._credentials is None:
                self._credentials = gcp_credentials(self._settings.access, [SCOPE])
            # Not `before_request`, which also looks for a boundary of regions, on a host and in a thread of its own.
            if not self._credentials.valid:
                self._credentials.refresh(counted)  # type: ignore[no-untyped-call]
            self._credentials.apply(headers)  # type: ignore[no-untyped-call]

        self._calls.run("asking for a token", prove)
        return headers


def _model(series: Mapping[str, Any]) -> str:
    labels = object_of(object_of(series, "resource"), "labels")
    model, version = text_of(labels, "model_user_id"), text_of(labels, "model_version_id")
    # As Vertex AI is asked for it: https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude
    return f"{model}@{version}" if version and version != "default" and "@" not in model else model


def _day(point: Any) -> date:
    # A sum of a period carries the end of it; its start is left out, or is the same, where it is taken for a gauge.
    try:
        end = datetime.fromisoformat(point["interval"]["endTime"])
    except (KeyError, TypeError, ValueError):
        raise SourceError("Cloud Monitoring: a point has no `interval.endTime`") from None
    return (end.astimezone(UTC) - timedelta(microseconds=1)).date()


def _next_page(page: Mapping[str, Any]) -> str:
    token = page.get("nextPageToken")
    return token if isinstance(token, str) else ""


def _advice(status: int) -> str:
    if status == 401:
        return "the credentials were refused: set `access.credentials_file`, or run `gcloud auth application-default login`"
    if status == 403:
        return "grant `roles/monitoring.viewer` on the project, and enable the Cloud Monitoring API (`monitoring.googleapis.com`) in it"
    if status == 404:
        return "is the id of the project right (`projects`)?"
    return ""
