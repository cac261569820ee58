"""The token histogram becomes sums of usage: input and output of the same calls together, each delta once."""

from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from costwarden.metering.otlp import Metered, Reading
from costwarden.metering.otlp_metrics import read_points
from costwarden.metering.settings import OtlpSettings

NOON_NANOS = 1_763_208_000_000_000_000
"""2025-11-15 12:00 UTC."""

DELTA, CUMULATIVE = 1, 2

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}


COUNTER = "gen_ai.client.inference.usage."
CALLS = "gen_ai.client.inference.operation.input_tokens"


def pairs(attributes: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()]


def request_of(
    *points: tuple[dict[str, str], int, float | None],
    name: str = "gen_ai.client.token.usage",
    temporality: int = DELTA,
    kind: str = "histogram",
    start: int = NOON_NANOS,
) -> Any:
    """A request of one metric with points (attributes, count, sum)."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(pairs({"tenant.id": "acme", "service.name": "reports"}))
    metric = group.scope_metrics.add().metrics.add(name=name)
    data = getattr(metric, kind)
    data.SetInParent()
    if kind != "gauge":
        data.aggregation_temporality = temporality
    for attributes, number, total in points:
        point = data.data_points.add(start_time_unix_nano=start, time_unix_nano=start + 60_000_000_000)
        point.attributes.extend(pairs(attributes))
        if kind in ("histogram", "exponential_histogram"):
            point.count = number
            if total is not None:
                point.sum = total
        elif kind == "sum" and total is not None:
            point.as_int = int(total)
    return request


def read(*points: tuple[dict[str, str], int, float | None], **more: Any) -> Reading:
    return read_points(request_of(*points, **more), OtlpSettings(accept="metrics"))


def typed(kind: str, **more: str) -> dict[str, str]:
    return {**CHAT, "gen_ai.token.type": kind, **more}


def only(reading: Reading) -> Metered:
    assert [str(refusal) for refusal, _ in reading.refused] == []
    [metered] = reading.metered
    return metered


def figures(reading: Reading) -> list[tuple[int, int, int]]:
    """Calls, input and output tokens of each usage."""
    assert [str(refusal) for refusal, _ in reading.refused] == []
    return sorted(((m.usage.requests, m.usage.input_tokens, m.usage.output_tokens) for m in reading.metered), reverse=True)


def reason(reading: Reading) -> tuple[str, int]:
    assert reading.metered == []
    [found] = {refusal.reason for refusal, _ in reading.refused}
    return found, sum(items for _, items in reading.refused)


@pytest.mark.parametrize("kind", ["histogram", "exponential_histogram"])
def test_input_and_output_of_the_same_calls_count_their_calls_once(kind):
    reading = read((typed("input"), 40, 52_000.0), (typed("output"), 40, 8_000.0), kind=kind)
    assert figures(reading) == [(40, 52_000, 0), (0, 0, 8_000)]
    metered = reading.metered[0]
    usage = metered.usage
    assert (usage.tenant_id, usage.provider, usage.model, usage.operation, usage.service) == ("acme", "openai", "gpt-4o", "chat", "reports")
    assert (usage.source, usage.timestamp, metered.items) == ("otlp:acme", NOON_NANOS // 1000, 1)


@pytest.mark.parametrize("kind", ["histogram", "counter"])
def test_what_is_sent_together_and_then_apart_is_known_again(kind):
    def ids(*series: str) -> set[str]:
        if kind == "histogram":
            reading = read(*[(typed(side), 40, 1000.0) for side in series])
        else:
            reading = read_points(newest(*[(f"{side}_tokens", "text", 1000) for side in series], calls=40), OtlpSettings(accept="metrics"))
        assert [str(refusal) for refusal, _ in reading.refused] == []
        return {metered.usage.event_id for metered in reading.metered}

    assert len(ids("input", "output")) == 2
    assert ids("input", "output") == ids("output", "input") == ids("input") | ids("output")


def test_the_same_figures_of_two_scopes_are_two_usages():
    request = request_of((typed("input"), 40, 1000.0))
    request.MergeFrom(request_of((typed("input"), 40, 1000.0)))
    request.resource_metrics[1].scope_metrics[0].scope.name = "another"
    assert len({metered.usage.event_id for metered in read_points(request, OtlpSettings(accept="metrics")).metered}) == 2


def test_embeddings_have_input_alone():
    usage = only(read((typed("input", **{"gen_ai.operation.name": "embeddings"}), 3, 900.0))).usage
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (3, 900, 0)


def test_models_and_failures_are_told_apart():
    reading = read(
        (typed("input"), 1, 10.0),
        (typed("input", **{"gen_ai.request.model": "gpt-4o-mini"}), 2, 20.0),
        (typed("input", **{"error.type": "timeout"}), 3, 30.0),
    )
    found = {(metered.usage.model, metered.usage.success): metered.usage.input_tokens for metered in reading.metered}
    assert found == {("gpt-4o", True): 10, ("gpt-4o-mini", True): 20, ("gpt-4o", False): 30}


def test_a_delta_that_comes_again_is_known_and_the_next_one_is_another():
    def event_id(**more: Any) -> str:
        return only(read((typed("input"), 40, 52_000.0), **more)).usage.event_id

    assert event_id() == event_id()
    assert event_id(start=NOON_NANOS + 60_000_000_000) != event_id()
    assert only(read((typed("input"), 40, 52_001.0))).usage.event_id != event_id()


def test_cumulative_values_are_refused_with_the_setting_that_mends_it():
    reading = read((typed("input"), 40, 52_000.0), (typed("output"), 40, 8_000.0), temporality=CUMULATIVE)
    assert reason(reading) == ("cumulative", 2)
    assert "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta" in str(reading.refused[0][0])


def newest(*counters: tuple[str, str, int], calls: int, beside: Any = ()) -> Any:
    """A request of counters (name, modality, tokens), of the histogram that counts their calls, and of what stands `beside` them."""
    request = request_of((CHAT, calls, 1.0), name=CALLS)
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    for name, modality, tokens in counters:
        other = request_of(({**CHAT, "gen_ai.token.modality": modality}, 0, tokens), name=COUNTER + name, kind="sum")
        metrics.extend(other.resource_metrics[0].scope_metrics[0].metrics)
    for other in beside:
        metrics.extend(other.resource_metrics[0].scope_metrics[0].metrics)
    return request


NEWEST = (
    ("input_tokens", "text", 9_000),
    ("input_tokens", "audio", 1_000),
    ("output_tokens", "unknown", 800),
    ("cache_read.input_tokens", "unknown", 6_000),
    ("cache_write.input_tokens", "text", 500),
    ("reasoning.output_tokens", "text", 300),
)


def test_the_counters_of_the_newest_conventions_tell_cached_and_reasoning_tokens_too():
    reading = read_points(newest(*NEWEST, calls=20), OtlpSettings(accept="metrics"))
    assert figures(reading) == [(20, 10_000, 0), (0, 0, 800)]
    output, usage = (metered.usage for metered in reading.metered)
    assert (usage.cache_read_tokens, usage.cache_write_tokens, output.reasoning_tokens, usage.input_audio_tokens) == (
        6_000,
        500,
        300,
        1_000,
    )


def test_where_both_families_tell_of_the_same_calls_the_counters_count():
    older = request_of((typed("input"), 20, 10_000.0), (typed("output"), 20, 800.0))
    reading = read_points(newest(*NEWEST, calls=20, beside=[older]), OtlpSettings(accept="metrics"))
    assert figures(reading) == [(20, 10_000, 0), (0, 0, 800)]
    # The two of the older histogram, and the one that counts calls.
    assert reading.passed_over == 3


@pytest.mark.parametrize(
    ("points", "more", "expected"),
    [
        ([(typed("thought"), 1, 5.0)], {}, ("no_token_type", 1)),
        ([(CHAT, 1, 5.0)], {}, ("no_token_type", 1)),
        ([(typed("input"), 1, None)], {}, ("no_sum", 1)),
        ([(typed("input"), 1, -5.0)], {}, ("bad_count", 1)),
        ([(typed("input"), 1, 0.5)], {}, ("bad_count", 1)),
        ([(typed("input"), 2**63, 5.0)], {}, ("bad_count", 1)),
        ([(typed("input"), 1, 5.0)], {"kind": "gauge"}, ("wrong_kind", 1)),
        ([(CHAT, 1, 5.0)], {"name": COUNTER + "input_tokens"}, ("wrong_kind", 1)),
        ([(CHAT, 1, 5.0)], {"name": COUNTER + "input_tokens", "kind": "sum", "temporality": CUMULATIVE}, ("cumulative", 1)),
        ([(CHAT, 1, 5.0)], {"name": COUNTER + "input_tokens", "kind": "sum"}, ("no_call_count", 1)),
        ([(typed("input", **{"gen_ai.operation.name": "rerank"}), 1, 5.0)], {}, ("unknown_operation", 1)),
    ],
)
def test_what_cannot_be_counted_is_refused(points, more, expected):
    assert reason(read(*points, **more)) == expected


def test_other_metrics_agents_and_empty_series_are_passed_over():
    reading = read((typed("input"), 1, 5.0), (typed("output"), 1, 5.0), name="http.client.request.duration")
    assert (reading.metered, reading.refused, reading.passed_over) == ([], [], 2)
    reading = read((typed("input", **{"gen_ai.operation.name": "invoke_agent"}), 1, 5.0), (typed("input"), 0, 0.0))
    assert (reading.metered, reading.refused, reading.passed_over) == ([], [], 2)
