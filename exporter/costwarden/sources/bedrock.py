"""Tokens of Amazon Bedrock, as CloudWatch counts them by model and day.

https://docs.aws.amazon.com/bedrock/latest/userguide/monitoring-runtime-metrics.html. What they cost stands in the bill of AWS.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Any

from costwarden.model import ReportedUsage, to_nanos
from costwarden.sources import Change, KnownPart, SourceError, Surroundings, Window
from costwarden.sources.attribution import Attribution
from costwarden.sources.aws_session import AwsSession, Calls
from costwarden.sources.currency import Rates
from costwarden.sources.daily import DailyCosts
from costwarden.sources.http_json import pages
from costwarden.sources.json_rows import whole
from costwarden.sources.scopes import changed_days, days_to_take, known_days, listed, read_scopes
from costwarden.sources.settings import AttributionSettings, BedrockSettings, ExchangeRates
from costwarden.sources.settings.aws import CLOUDWATCH_USD, METRICS_A_REQUEST
from costwarden.sources.settings.bedrock import METRICS_A_MODEL
from costwarden.sources.windows import ONE_DAY

NAMESPACE = "AWS/Bedrock"

METRICS = {
    "InputTokenCount": "input_tokens",
    "OutputTokenCount": "output_tokens",
    "CacheReadInputTokenCount": "cache_read_tokens",
    "CacheWriteInputTokenCount": "cache_write_tokens",
    "OutputImageCount": "images",
    "Invocations": "requests",
}
"""Metric -> quantity. The tokens read from and written to the cache are not in `InputTokenCount`, as in the answers of the models:
https://docs.aws.amazon.com/bedrock/latest/userguide/quotas-token-burndown.html."""

assert len(METRICS) == METRICS_A_MODEL

NANOS_A_METRIC = to_nanos(CLOUDWATCH_USD)

SECONDS_A_DAY = 86_400

Counts = dict[tuple[date, str], dict[str, float]]
"""(Day, model) -> metric -> sum."""


class BedrockSource:
    """The regions of one account. A scope is a region, a part a day of it."""

    def __init__(
        self, settings: BedrockSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings
    ) -> None:
        self._settings, self._surroundings = settings, surroundings
        self._attribution, self._rates = Attribution(attribution), Rates(rates)
        self._calls = Calls()

    def fetch(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        """The days that have changed. Raises `SourceError` where no region can be read."""
        session = self._session()
        account = session.identify()
        scopes: dict[str, Callable[[], Iterator[Change]]] = {
            f"{account}/{region}": partial(self._read, session, account, region, known, window) for region in self._settings.all_regions
        }
        yield from read_scopes(scopes, known, lambda: self._calls.ended)

    def probe(self) -> Iterator[str]:
        """List the models of the first region, and ask for yesterday's calls of one."""
        region = self._settings.all_regions[0]
        cloudwatch = _CloudWatch(self._session(), region)
        models = cloudwatch.models()
        yield f"{region}: models called in the last two weeks: {listed(models)}" + (
            "" if models else f"; is it the right account, and are models called in {region} (`regions`)?"
        )
        model = min(models, default="any")
        yesterday = datetime.now(UTC).date() - ONE_DAY
        counted = cloudwatch.sums([(model, "Invocations")], yesterday, yesterday)
        if models:
            yield f"{model}: calls on {yesterday}: {counted.get((yesterday, model), {}).get('Invocations', 0):.0f}"

    def close(self) -> None:
        """End a fetch that is under way in another thread."""
        self._calls.end()

    def _session(self) -> AwsSession:
        return AwsSession(self._settings.access, self._surroundings.requests, calls=self._calls)

    def _read(self, session: AwsSession, account: str, region: str, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        scope = f"{account}/{region}"
        if not (days := days_to_take(window, known_days(scope, known))):
            return
        cloudwatch = _CloudWatch(session, region)
        models = sorted(cloudwatch.models() | {*self._settings.models})
        daily = DailyCosts(self._settings.name, scope, self._attribution, self._rates)
        for (day, model), sums in cloudwatch.sums([(model, metric) for model in models for metric in METRICS], days[0], days[-1]).items():
            counts = {metric: whole(value) for metric, value in sums.items()}
            if broken := sorted(metric for metric, count in counts.items() if count is None):
                daily.reject(day, "bad_count", f"{model}: {', '.join(broken)} is no whole number of at least 0", repr(sums))
            elif any(counts.values()):
                daily.add_usage(_usage(day, account, model, {METRICS[metric]: count or 0 for metric, count in counts.items()}))
        accepts_empty = self._settings.accept_empty_answers
        yield from changed_days(daily, days[0], days[-1], known, days, accepts_empty=accepts_empty, what="usage")


class _CloudWatch:
    """CloudWatch of one region. Its requests are paid for by the metrics in them."""

    def __init__(self, session: AwsSession, region: str) -> None:
        self._session, self._region = session, region
        self._metrics = 1
        self._client = session.client("cloudwatch", region=region, cost=lambda: self._metrics * NANOS_A_METRIC)

    def models(self) -> set[str]:
        """The models that were called in the last two weeks."""
        self._metrics = 1
        found = set()
        for page in self._pages(self._client.list_metrics, {"Namespace": NAMESPACE, "MetricName": "Invocations"}):
            for metric in page.get("Metrics") or []:
                dimensions = {dimension["Name"]: dimension["Value"] for dimension in metric.get("Dimensions") or []}
                # What has more dimensions counts the same calls again.
                if dimensions.keys() == {"ModelId"}:
                    found.add(dimensions["ModelId"])
        return found

    def sums(self, wanted: list[tuple[str, str]], first: date, last: date) -> Counts:
        """The sums of each day (UTC) from `first` to `last` of (model, metric). Raises `SourceError` where one is not known whole."""
        start, end = (datetime.combine(day, time(), UTC) for day in (first, last + ONE_DAY))
        counts: Counts = {}
        for number in range(0, len(wanted), METRICS_A_REQUEST):
            some = wanted[number : number + METRICS_A_REQUEST]
            self._metrics = len(some)
            status: dict[str, str] = {}
            # Midnights: CloudWatch cuts the periods from the start on.
            asked = {"MetricDataQueries": [_query(*pair, f"m{at}") for at, pair in enumerate(some)], "StartTime": start, "EndTime": end}
            for page in self._pages(self._client.get_metric_data, asked):
                for result in page.get("MetricDataResults") or []:
                    status[result["Id"]] = result.get("StatusCode", "")
                    model, metric = some[int(result["Id"][1:])]
                    for when, value in zip(result["Timestamps"], result["Values"], strict=True):
                        day = when.astimezone(UTC).date()
                        if not first <= day <= last:
                            continue
                        sums = counts.setdefault((day, model), {})
                        sums[metric] = sums.get(metric, 0) + value
            for at, (model, metric) in enumerate(some):
                if (found := status.get(f"m{at}", "no answer")) != "Complete":
                    raise SourceError(f"CloudWatch {self._region}: {metric} of {model}: {found}")
        return counts

    def _pages(self, operation: Callable[..., dict[str, Any]], asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        def ask(token: str) -> dict[str, Any]:
            return self._session.ask(lambda: operation(**asked, **({"NextToken": token} if token else {})))

        return pages(f"CloudWatch {self._region}", ask, lambda page: page.get("NextToken") or "")


def _query(model: str, metric: str, name: str) -> dict[str, Any]:
    dimensions = [{"Name": "ModelId", "Value": model}]
    what = {"Namespace": NAMESPACE, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": what, "Period": SECONDS_A_DAY, "Stat": "Sum"}, "ReturnData": True}


def _usage(day: date, account: str, model: str, counts: Mapping[str, int]) -> ReportedUsage:
    cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
    quantities: dict[str, Any] = {**counts, "input_tokens": counts.get("input_tokens", 0) + cached}
    return ReportedUsage(source="", part="", usage_date=day, provider="aws.bedrock", account_id=account, model=model, **quantities)
