"""OpenTelemetry's token metrics to usage: what an application used between two exports.

Two families say so. The counters `gen_ai.client.inference.usage.*` tell cached and reasoning tokens, but not of how many calls; that the
histograms beside them do (https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-token-metrics.md). The
older histogram `gen_ai.client.token.usage` tells calls and tokens, input and output apart, and nothing of cached ones, so that they are
priced as if nothing had been cached. Where both tell of the same calls, the counters count.

Only delta temporality is taken: a delta that comes again is known by its series, times and figures, on every replica and after every
restart, without anything to remember; a cumulative value would need the one before it.

What is input and what is output are two usages, because a collector may cut a batch between their series, and put it together otherwise
when it sends it again: each is known by itself. The calls are those of the input; the output stands for none.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from costwarden.metering import otlp_attributes as names
from costwarden.metering.otlp import Metered, Reading, described, operation_of
from costwarden.metering.otlp_attributes import Attributes, Refusal, attributes_of, text
from costwarden.metering.settings import OtlpSettings

if TYPE_CHECKING:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

TOKEN_USAGE = ("gen_ai.client.token.usage", "llm.usage.tokens")
"""The older histogram, and OpenLLMetry's name for it before that."""

COUNTERS = {
    "gen_ai.client.inference.usage.input_tokens": "input_tokens",
    "gen_ai.client.inference.usage.output_tokens": "output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens": "cache_write_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens": "reasoning_tokens",
}
"""Counters -> fields of a usage. The last three report subsets of the first two."""

CALLS = (
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
    "gen_ai.client.inference.duration",
)
"""Histograms with a measurement for each call that the counters are about."""

_OUTPUT = ("output_tokens", "reasoning_tokens")
_AUDIO = {"input_tokens": "input_audio_tokens", "output_tokens": "output_audio_tokens"}

_DELTA = 1  # opentelemetry.proto.metrics.v1.AGGREGATION_TEMPORALITY_DELTA

_TYPES = {"input": "input_tokens", "prompt": "input_tokens", "output": "output_tokens", "completion": "output_tokens"}
"""Values of `gen_ai.token.type`; the second of each pair is OpenLLMetry's."""

Role = Literal["histogram", "counter", "calls"]


class _Point(msgspec.Struct):
    role: Role
    attributes: Attributes
    resource: Attributes
    scope: str
    start: int
    end: int
    calls: int = 0
    tokens: int = 0
    field: str = ""

    @property
    def modality(self) -> str:
        return str(self.attributes.get("gen_ai.token.modality", ""))

    @property
    def key(self) -> bytes:
        """Of the calls that it is about: all that tell of the same calls have the same.

        Without the start, which SDKs set for each series by itself: at the first of its measurements.
        """
        apart = ("gen_ai.token.type", "gen_ai.token.modality")
        shared = {name: value for name, value in self.attributes.items() if name not in apart}
        return msgspec.json.encode([sorted(self.resource.items()), sorted(shared.items()), self.end])


def tells_of_tokens(metric_name: str) -> bool:
    """Whether a metric of this name is one that usage is taken from."""
    return metric_name in TOKEN_USAGE or metric_name in COUNTERS


def read_points(request: "ExportMetricsServiceRequest", settings: OtlpSettings, own_tenant_id: str = "") -> Reading:
    """The usage in the data points of `request`. `own_tenant_id` is the tenant of a caller that may act for no other."""
    reading = Reading([], [])
    groups: dict[bytes, list[_Point]] = {}
    for resource_metrics in request.resource_metrics:
        resource = attributes_of(resource_metrics.resource.attributes)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                length = len(getattr(metric, kind).data_points) if kind else 0
                try:
                    points = list(_points(metric, kind, resource, scope_metrics.scope.name))
                except Refusal as refusal:
                    reading.refused.append((refusal, length))
                    continue
                reading.passed_over += length - len(points)
                for point in points:
                    groups.setdefault(point.key, []).append(point)
    for key, group in groups.items():
        telling = [point for point in group if point.role == "counter"] or [point for point in group if point.role == "histogram"]
        reading.passed_over += len(group) - len(telling)
        for some in _apart(telling):
            try:
                metered = _usage_of(key, some, group, settings, own_tenant_id)
            except Refusal as refusal:
                reading.refused.append((refusal, len(some)))
                continue
            if metered is None:
                reading.passed_over += len(some)
            else:
                reading.metered.append(metered)
    return reading


def _apart(telling: Sequence[_Point]) -> list[list[_Point]]:
    """The points that are one usage: each of the histogram's by itself; of counters those of the input, whose parts they tell, and of the
    output."""
    if telling and telling[0].role == "histogram":
        return [[point] for point in telling]
    sides = [[point for point in telling if point.field in _OUTPUT], [point for point in telling if point.field not in _OUTPUT]]
    return [side for side in sides if side]


def _points(metric: Any, kind: str | None, resource: Attributes, scope: str) -> Iterator[_Point]:
    """What the points of a metric tell. Raises `Refusal` for the metric."""
    if metric.name not in CALLS and not tells_of_tokens(metric.name):
        return
    expected = ("sum",) if metric.name in COUNTERS else ("histogram", "exponential_histogram")
    if kind is None or kind not in expected:
        raise Refusal("wrong_kind", f"`{metric.name}` is a {expected[0]} by the conventions, and this is a {kind or 'metric without data'}")
    data = getattr(metric, kind)
    if data.aggregation_temporality != _DELTA:
        if metric.name in CALLS:
            return
        detail = f"`{metric.name}` is cumulative: set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta in the application"
        raise Refusal("cumulative", detail)
    for point in data.data_points:
        attributes = attributes_of(point.attributes)
        times = point.start_time_unix_nano, point.time_unix_nano
        if metric.name in COUNTERS:
            number = point.WhichOneof("value")
            tokens = names.count({metric.name: getattr(point, number) if number else None}, (metric.name,)) or 0
            yield _Point("counter", attributes, resource, scope, *times, tokens=tokens, field=COUNTERS[metric.name])
            continue
        calls = names.count({"count": point.count}, ("count",)) or 0
        if metric.name in CALLS:
            yield _Point("calls", attributes, resource, scope, *times, calls=calls)
            continue
        field = _TYPES.get(text(attributes, ("gen_ai.token.type",)))
        if field is None:
            raise Refusal("no_token_type", "`gen_ai.token.type` is neither `input` nor `output`")
        if not point.HasField("sum"):
            raise Refusal("no_sum", f"`{metric.name}` has no sum: what its calls used cannot be told from its buckets")
        tokens = names.count({"sum": point.sum}, ("sum",)) or 0
        yield _Point("histogram", attributes, resource, scope, *times, calls, tokens, field)


def _usage_of(key: bytes, telling: Sequence[_Point], group: Sequence[_Point], settings: OtlpSettings, own_tenant_id: str) -> Metered | None:
    first = telling[0]
    operation = operation_of({**first.attributes, "gen_ai.usage.input_tokens": 0}, settings)
    if operation is None or not any(point.calls or point.tokens for point in telling):
        return None
    usage = described(first.attributes, first.resource, operation, settings, own_tenant_id)
    usage.timestamp = min(point.start or point.end for point in telling) // 1000
    usage.success = not text(first.attributes, ("error.type",))
    for point in telling:
        fields = [point.field]
        if point.modality == "audio" and point.field in _AUDIO:
            fields.append(_AUDIO[point.field])
        for field in fields:
            setattr(usage, field, getattr(usage, field) + point.tokens)
    usage.requests = 0 if first.field in _OUTPUT else _calls(telling, group)
    figures = sorted(
        [point.field, str(point.attributes.get("gen_ai.token.modality")), point.scope, point.start, point.calls, point.tokens]
        for point in telling
    )
    usage.event_id = "metric:" + hashlib.sha256(key + msgspec.json.encode(figures)).hexdigest()
    return Metered(usage=usage, response_model=text(first.attributes, names.RESPONSE_MODEL), items=len(telling))


def _calls(telling: Sequence[_Point], group: Sequence[_Point]) -> int:
    if telling[0].role == "histogram":
        return sum(point.calls for point in telling)
    calls = max((point.calls for point in group if point.role == "calls"), default=0)
    if not calls:
        # Without it, the sum of a minute would be priced as one call of a very long context.
        raise Refusal(
            "no_call_count", f"beside the counters there is none of `{'`, `'.join(CALLS)}`, which tell of how many calls they are"
        )
    return calls
