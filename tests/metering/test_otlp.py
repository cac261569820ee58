"""Spans of every naming become usage; what encloses a call, or was told before, is not counted again."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from costwarden.metering.otlp import NO_CALLS, Metered, Reading, read_spans
from costwarden.metering.settings import OtlpSettings

NOON_NANOS = 1_763_208_000_000_000_000
"""2025-11-15 12:00 UTC."""

ACME = {"costwarden.tenant_id": "acme"}

numbers = count(1)


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    return [KeyValue(key=key, value=AnyValue(**{kinds[type(value)]: value})) for key, value in attributes.items()]


def request_of(*spans: dict[str, Any], resource: dict[str, Any] | None = None, scope: str = "", failed: bool = False) -> Any:
    """A request whose spans have these attributes."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(pairs(resource or {}))
    scope_spans = group.scope_spans.add()
    scope_spans.scope.name = scope
    for attributes in spans:
        number = next(numbers)
        span = scope_spans.spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            start_time_unix_nano=NOON_NANOS,
            end_time_unix_nano=NOON_NANOS + 2_500_000_000,
        )
        span.attributes.extend(pairs(attributes))
        if failed:
            span.status.code = 2
    return request


def read(*spans: dict[str, Any], settings: OtlpSettings | None = None, own_tenant_id: str = "", **more: Any) -> Reading:
    return read_spans(request_of(*spans, **more), settings or OtlpSettings(), own_tenant_id)


def call_of(attributes: dict[str, Any], **more: Any) -> Metered:
    """The one call that a span with these attributes is, of a tenant."""
    reading = read({**ACME, **attributes}, **more)
    assert [str(refusal) for refusal, _ in reading.refused] == []
    [metered] = reading.metered
    return metered


def refusal_of(attributes: dict[str, Any], **more: Any) -> str:
    reading = read(attributes, **more)
    assert reading.metered == []
    [(refusal, items)] = reading.refused
    assert items == 1
    return refusal.reason


CURRENT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 200,
}

# --- names ---------------------------------------------------------------------------------------------------------------------------


def test_a_span_of_the_current_conventions_says_all_of_a_call():
    attributes = {
        **CURRENT,
        "gen_ai.usage.cache_read.input_tokens": 600,
        "gen_ai.usage.cache_write.input_tokens": 100,
        "gen_ai.usage.reasoning.output_tokens": 150,
        "gen_ai.usage.audio.input_tokens": 30,
        "gen_ai.usage.audio.output_tokens": 20,
        "openai.response.service_tier": "flex",
        "costwarden.report_type": "weekly",
        "costwarden.feature": "summaries",
        "costwarden.team": "search",
        "user.id": "u-1",
    }
    metered = call_of(attributes, resource={"service.name": "reports", "tenant.id": "of the resource"})
    usage = metered.usage
    assert usage.source == "otlp:acme"
    assert usage.timestamp == NOON_NANOS // 1000
    assert (usage.tenant_id, usage.provider, usage.model, usage.operation) == ("acme", "openai", "gpt-4o", "chat")
    assert (usage.report_type, usage.feature, usage.team, usage.user_id, usage.service) == (
        "weekly",
        "summaries",
        "search",
        "u-1",
        "reports",
    )
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (1000, 200, 600, 100)
    assert (usage.reasoning_tokens, usage.input_audio_tokens, usage.output_audio_tokens) == (150, 30, 20)
    assert (usage.service_tier, usage.success, usage.requests) == ("flex", True, 1)
    assert metered.response_model == "gpt-4o-2024-08-06"
    assert (metered.settles, metered.reservation_id) == (False, "")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param(
            {"gen_ai.system": "openai", "gen_ai.request.model": "m", "gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 3},
            ("openai", "m", "", 7, 3),
            id="conventions up to 1.26, which named no operation",
        ),
        pytest.param(
            {
                "gen_ai.system": "az.ai.openai",
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "m",
                "gen_ai.usage.input_tokens": 7,
                "gen_ai.usage.output_tokens": 3,
            },
            ("azure.ai.openai", "m", "chat", 7, 3),
            id="conventions up to 1.36, with gen_ai.system",
        ),
        pytest.param(
            {
                "gen_ai.system": "Anthropic",
                "llm.request.type": "completion",
                "gen_ai.request.model": "m",
                "llm.usage.prompt_tokens": 7,
                "llm.usage.completion_tokens": 3,
            },
            ("anthropic", "m", "text_completion", 7, 3),
            id="OpenLLMetry",
        ),
        pytest.param(
            {
                "openinference.span.kind": "LLM",
                "llm.provider": "google",
                "llm.model_name": "m",
                "llm.token_count.prompt": 7,
                "llm.token_count.completion": 3,
            },
            ("gcp.gen_ai", "m", "chat", 7, 3),
            id="OpenInference",
        ),
    ],
)
def test_older_names_are_understood(attributes, expected):
    usage = call_of(attributes).usage
    assert (usage.provider, usage.model, usage.operation, usage.input_tokens, usage.output_tokens) == expected


def test_a_current_name_comes_before_an_old_one():
    both = {**CURRENT, "gen_ai.usage.prompt_tokens": 1, "gen_ai.usage.completion_tokens": 1, "gen_ai.system": "az.ai.openai"}
    usage = call_of(both).usage
    assert (usage.provider, usage.input_tokens, usage.output_tokens) == ("openai", 1000, 200)


def test_a_whole_number_may_come_as_a_double():
    assert call_of({**CURRENT, "gen_ai.usage.input_tokens": 12.0}).usage.input_tokens == 12


# --- which spans count -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", sorted(NO_CALLS))
def test_a_span_that_repeats_the_tokens_of_those_within_it_is_passed_over(operation):
    reading = read({**ACME, **CURRENT, "gen_ai.operation.name": operation})
    assert (reading.metered, reading.refused, reading.passed_over) == ([], [], 1)


def test_an_agent_of_two_calls_counts_as_two_calls_and_not_as_four():
    spans = [
        {**ACME, **CURRENT, "gen_ai.usage.input_tokens": 2239, "gen_ai.usage.output_tokens": 192},
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather"},
        {**ACME, **CURRENT, "gen_ai.usage.input_tokens": 2569, "gen_ai.usage.output_tokens": 99},
        {**ACME, **CURRENT, "gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 4808, "gen_ai.usage.output_tokens": 291},
    ]
    reading = read(*spans)
    assert sum(metered.usage.input_tokens for metered in reading.metered) == 2239 + 2569
    assert sum(metered.usage.output_tokens for metered in reading.metered) == 192 + 99
    assert reading.passed_over == 2


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.request.method": "GET", "url.full": "https://example.com/"},
        {},
        {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 5, "llm.model_name": "m"},
        {"openinference.span.kind": "AGENT", "llm.token_count.prompt": 5, "llm.model_name": "m"},
        {"traceloop.span.kind": "workflow", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5},
        {"gen_ai.agent.name": "writer", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5},
        {"llm.request.type": "rerank", "gen_ai.request.model": "m"},
    ],
    ids=["HTTP", "nothing", "chain", "agent", "workflow", "agent without an operation", "rerank without tokens"],
)
def test_what_is_no_call_of_a_model_is_passed_over_without_a_tenant_and_without_a_word(attributes):
    reading = read(attributes)
    assert (reading.metered, reading.refused, reading.passed_over) == ([], [], 1)


def test_an_operation_that_nobody_knows_is_refused_until_the_configuration_names_it():
    span = {**ACME, **CURRENT, "gen_ai.operation.name": "rerank"}
    assert refusal_of(span) == "unknown_operation"
    assert call_of(span, settings=OtlpSettings(operations=("chat", "rerank"))).usage.operation == "rerank"


def test_a_failed_call_is_one():
    assert call_of(CURRENT, failed=True).usage.success is False
    assert call_of({**CURRENT, "error.type": "timeout"}).usage.success is False


def test_images_are_counted_where_the_span_tells_how_many():
    usage = call_of(
        {"gen_ai.operation.name": "image_generation", "gen_ai.request.model": "dall-e-3", "gen_ai.request.choice.count": 3}
    ).usage
    assert usage.images == 3
    assert call_of({**CURRENT, "gen_ai.request.choice.count": 3}).usage.images == 0


# --- cached tokens: included or not ---------------------------------------------------------------------------------------------------

READ, WRITE = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
OLD_READ, OLD_WRITE = "gen_ai.usage.cache_read_input_tokens", "gen_ai.usage.cache_creation_input_tokens"


@pytest.mark.parametrize(
    ("provider", "scope", "attributes", "whole_input"),
    [
        pytest.param(
            "anthropic", "", {"input_tokens": 1000, READ: 600, WRITE: 100}, 1000, id="current names include them, of Anthropic too"
        ),
        pytest.param("openai", "", {"input_tokens": 1000, READ: 600}, 1000, id="current names, OpenAI"),
        pytest.param("openai", "", {"input_tokens": 1000, OLD_READ: 600}, 1000, id="old names pass on OpenAI's count, which includes them"),
        pytest.param("gcp.gemini", "", {"input_tokens": 1000, OLD_READ: 600}, 1000, id="old names, Gemini"),
        pytest.param(
            "anthropic", "", {"input_tokens": 1000, OLD_READ: 600, OLD_WRITE: 100}, 1700, id="old names pass on Anthropic's, which does not"
        ),
        pytest.param("aws.bedrock", "strands", {"input_tokens": 1000, OLD_READ: 600}, 1600, id="old names, Bedrock"),
        pytest.param(
            "anthropic",
            "opentelemetry.instrumentation.anthropic",
            {"input_tokens": 1000, OLD_READ: 600},
            1000,
            id="OpenLLMetry added them up",
        ),
        pytest.param("anthropic", "", {"input_tokens": 300, READ: 600}, 900, id="fewer than the cached ones cannot include them"),
        pytest.param("openai", "", {"input_tokens": 300, READ: 600, WRITE: 1}, 901, id="whoever the provider is"),
        pytest.param(
            "anthropic",
            "",
            {"input_tokens": 1000, "output_tokens": 50, READ: 600, "total_tokens": 1650},
            1600,
            id="a total that has them beside",
        ),
        pytest.param(
            "anthropic",
            "",
            {"input_tokens": 1000, "output_tokens": 50, READ: 600, "total_tokens": 1050},
            1000,
            id="a total that has them within",
        ),
        pytest.param("anthropic", "", {"input_tokens": 1000, OLD_READ: 0, OLD_WRITE: 0}, 1000, id="none"),
    ],
)
def test_input_tokens_come_out_with_the_cached_ones_once(provider, scope, attributes, whole_input):
    named = {name if name.startswith("gen_ai.") else f"gen_ai.usage.{name}": value for name, value in attributes.items()}
    call = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": "m", **named}
    assert call_of(call, scope=scope).usage.input_tokens == whole_input


@pytest.mark.parametrize(("answer", "whole_input"), [("excluded", 1600), ("included", 1000)])
@pytest.mark.parametrize("pattern", ["my-*", "anthropic"])
def test_the_configuration_knows_better(pattern, answer, whole_input):
    settings = OtlpSettings(cached_tokens={pattern: answer})
    attributes = {**CURRENT, "gen_ai.provider.name": "anthropic", READ: 600}
    assert call_of(attributes, scope="my-tracer", settings=settings).usage.input_tokens == whole_input


# --- tenants ---------------------------------------------------------------------------------------------------------------------------


def test_a_call_of_no_tenant_is_refused_unless_there_is_a_default():
    assert refusal_of(CURRENT) == "no_tenant"
    [metered] = read(CURRENT, settings=OtlpSettings(default_tenant_id="everybody")).metered
    assert (metered.usage.tenant_id, metered.usage.source) == ("everybody", "otlp:everybody")


def test_a_caller_of_one_tenant_needs_to_name_none_and_may_name_no_other():
    [metered] = read(CURRENT, own_tenant_id="acme").metered
    assert metered.usage.tenant_id == "acme"
    assert refusal_of({**CURRENT, "tenant.id": "zenith"}, own_tenant_id="acme") == "other_tenant"


def test_the_attributes_that_name_a_dimension_are_configured():
    settings = OtlpSettings(attributes={"tenant_id": ["customer", "deployment.environment.name"], "team": ["squad"]})
    [metered] = read({**CURRENT, "squad": "blue"}, resource={"deployment.environment.name": "prod"}, settings=settings).metered
    assert (metered.usage.tenant_id, metered.usage.team) == ("prod", "blue")
    [metered] = read({**CURRENT, "customer": "c-9"}, resource={"deployment.environment.name": "prod"}, settings=settings).metered
    assert metered.usage.tenant_id == "c-9"


# --- identity --------------------------------------------------------------------------------------------------------------------------


def test_a_span_is_known_by_its_ids():
    request = request_of({**ACME, **CURRENT})
    first, again = (read_spans(request, OtlpSettings()).metered[0].usage for _ in range(2))
    span = request.resource_spans[0].scope_spans[0].spans[0]
    assert first.event_id == again.event_id == f"{span.trace_id.hex()}/{span.span_id.hex()}"


def test_two_spans_of_one_trace_with_one_response_are_one_call():
    def event_ids(*responses: str, traces: int = 1) -> list[str]:
        request = request_of(*({**ACME, **CURRENT, "gen_ai.response.id": response} for response in responses))
        for number, span in enumerate(request.resource_spans[0].scope_spans[0].spans):
            span.trace_id = (1 + number % traces).to_bytes(16, "big")
        return [metered.usage.event_id for metered in read_spans(request, OtlpSettings()).metered]

    assert len(set(event_ids("chatcmpl-1", "chatcmpl-1"))) == 1
    assert len(set(event_ids("chatcmpl-1", "chatcmpl-2"))) == 2
    assert len(set(event_ids("chatcmpl-1", "chatcmpl-1", traces=2))) == 2


@pytest.mark.parametrize(
    ("trace_id", "span_id"), [(b"", b"12345678"), (bytes(16), b"12345678"), (b"1" * 16, bytes(8)), (b"1" * 15, b"12345678")]
)
def test_a_span_without_valid_ids_cannot_be_counted_once_and_so_not_at_all(trace_id, span_id):
    request = request_of({**ACME, **CURRENT})
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.trace_id, span.span_id = trace_id, span_id
    [(refusal, _)] = read_spans(request, OtlpSettings()).refused
    assert refusal.reason == "bad_span_id"


def test_a_call_that_the_application_tracks_itself_has_the_identity_that_tracking_gives_it():
    metered = call_of({**CURRENT, "costwarden.event_id": "e-1", "costwarden.reservation_id": "event:4:acme:e-1"})
    assert (metered.settles, metered.usage.source, metered.usage.event_id) == (True, "api:acme", "e-1")
    metered = call_of({**CURRENT, "costwarden.reservation_id": "0" * 32})
    assert (metered.settles, metered.usage.source, metered.usage.event_id, metered.reservation_id) == (True, "api:acme", "", "0" * 32)


# --- what cannot be meant --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"gen_ai.usage.input_tokens": -1}, "bad_count"),
        ({"gen_ai.usage.input_tokens": 0.5}, "bad_count"),
        ({"gen_ai.usage.input_tokens": float("nan")}, "bad_count"),
        ({"gen_ai.usage.output_tokens": float("inf")}, "bad_count"),
        ({"gen_ai.usage.output_tokens": 10**10 + 1}, "bad_count"),
        ({"gen_ai.usage.input_tokens": True}, "bad_count"),
        ({"gen_ai.usage.input_tokens": "many"}, "bad_count"),
        ({"gen_ai.request.model": "m" * 257}, "bad_attribute"),
        ({"costwarden.tenant_id": "a\0b"}, "bad_attribute"),
    ],
)
def test_what_cannot_be_meant_is_refused(attributes, reason):
    assert refusal_of({**ACME, **CURRENT, **attributes}) == reason


def test_one_bad_span_does_not_take_the_others_with_it():
    reading = read({**ACME, **CURRENT}, CURRENT, {**ACME, **CURRENT, "gen_ai.usage.input_tokens": -1}, {**ACME, **CURRENT})
    assert len(reading.metered) == 2
    assert [refusal.reason for refusal, _ in reading.refused] == ["no_tenant", "bad_count"]


VALUES = st.one_of(st.text("a\0é", max_size=3), st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans())
NAMES = [*CURRENT, READ, OLD_READ, "gen_ai.usage.total_tokens", "error.type", "llm.request.type", "costwarden.event_id", "tenant.id"]


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_no_attributes_break_the_reading_and_every_span_is_accounted_for(attributes):
    reading = read(attributes, settings=OtlpSettings(default_tenant_id="t"))
    assert len(reading.metered) + sum(items for _, items in reading.refused) + reading.passed_over == 1
    for metered in reading.metered:
        usage = metered.usage
        assert usage.input_tokens >= usage.cache_read_tokens + usage.cache_write_tokens >= 0
        assert usage.output_tokens >= 0
