"""What a provider's answer says was consumed, whatever the provider calls it."""

import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_answers import ANSWERS

from costwarden.metering.responses import Consumed, UnknownResponse, read_response


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read_into_the_counts_of_a_usage(name):
    answer, expected = ANSWERS[name]
    assert read_response(answer) == Consumed(**expected)


@pytest.mark.parametrize("shape", [bytes, bytearray, memoryview, str, msgspec.Raw])
def test_an_answer_may_come_as_it_was_received(shape):
    answer, expected = ANSWERS["openai_chat_cached"]
    text = json.dumps(answer)
    body = text if shape is str else shape(text.encode())
    assert read_response(body) == Consumed(**expected)


@pytest.mark.parametrize(
    ("model", "extra", "provider"),
    [
        ("gpt-4.1-mini", {}, "openai"),
        ("o3", {}, "openai"),
        ("deepseek-chat", {}, ""),
        ("llama-3.3-70b-versatile", {}, ""),
        ("gpt-4o", {"prompt_filter_results": []}, "azure.ai.openai"),
    ],
)
def test_a_shape_that_many_speak_names_a_provider_only_where_something_tells(model, extra, provider):
    answer, _ = ANSWERS["openai_chat_cached"]
    assert read_response({**answer, **extra, "model": model}).provider == provider


@pytest.mark.parametrize(
    ("told", "tier"), [("default", ""), ("auto", ""), (None, ""), ("flex", "flex"), ("priority", "priority"), ("scale", "scale")]
)
def test_the_tier_that_served_the_call_is_told_and_only_the_standard_one_is_empty(told, tier):
    answer, _ = ANSWERS["openai_chat_cached"]
    assert read_response({**answer, "service_tier": told}).service_tier == tier


@pytest.mark.parametrize(
    ("usage", "tier"),
    [
        ({"service_tier": "standard"}, ""),
        ({"service_tier": "priority"}, "priority"),
        ({"service_tier": "batch"}, "batch"),
        ({"service_tier": "standard", "speed": "fast"}, "fast"),
    ],
)
def test_anthropic_tells_tier_and_speed_within_the_usage(usage, tier):
    answer, _ = ANSWERS["anthropic_on_bedrock"]
    assert read_response({**answer, "usage": {**answer["usage"], **usage}}).service_tier == tier


@pytest.mark.parametrize(
    ("traffic", "tier"),
    [
        ("ON_DEMAND", ""),
        ("ON_DEMAND_PRIORITY", "priority"),
        ("ON_DEMAND_FLEX", "flex"),
        ("PROVISIONED_THROUGHPUT", "provisioned_throughput"),
    ],
)
def test_vertex_tells_the_tier_as_a_kind_of_traffic(traffic, tier):
    answer, _ = ANSWERS["vertex_audio_and_tools"]
    read = read_response({**answer, "usageMetadata": {**answer["usageMetadata"], "trafficType": traffic}})
    assert (read.provider, read.service_tier) == ("gcp.vertex_ai", tier)


def test_bedrock_tells_the_tier_beside_the_usage():
    answer, _ = ANSWERS["bedrock_converse"]
    assert read_response({**answer, "serviceTier": {"type": "flex"}}).service_tier == "flex"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"data: {}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "is a list, not an object"),
        (b"null", "is a NoneType, not an object"),
        ({}, "tells no usage: its fields are none"),
        ({"error": {"message": "quota"}}, "tells no usage: it is an error"),
        ({"type": "error", "error": {"type": "overloaded_error"}}, "it is an error"),
        ({"id": "x", "object": "chat.completion", "choices": []}, "tells no usage: its fields are choices, id, object"),
        ({"usage": {"units": 3}}, "a usage of no known shape: units"),
        ({"custom_id": "7", "response": None, "error": {"code": "x"}}, "the batch's line '7' has no response"),
    ],
)
def test_anything_else_is_an_error_that_says_what_was_met(body, reason):
    with pytest.raises(UnknownResponse, match=reason):
        read_response(body)


@pytest.mark.parametrize("value", [-1, "12", 1.5, True, [], {"a": 1}])
def test_a_count_that_is_none_is_an_error_and_not_a_zero(value):
    answer, _ = ANSWERS["openai_chat_cached"]
    with pytest.raises(UnknownResponse, match=r"`prompt_tokens` is .*: a count is a whole number of at least 0"):
        read_response({**answer, "usage": {**answer["usage"], "prompt_tokens": value}})


@pytest.mark.parametrize("seconds", [-1, "7", None, float("nan"), float("inf"), True])
def test_a_duration_that_is_none_is_an_error(seconds):
    with pytest.raises(UnknownResponse, match="is not a duration of audio in seconds"):
        read_response({"text": "", "usage": {"type": "duration", "seconds": seconds}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["usage", "usageMetadata", "choices", "object", "type", "data", "created", "text", "duration", "custom_id", "response", "candidates"]


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), json_values, max_size=6))
def test_no_object_however_odd_breaks_the_reader(body):
    with contextlib.suppress(UnknownResponse):
        read_response(body)


counts = st.integers(0, 10**9)


@given(counts, counts, counts, counts, counts)
def test_what_a_provider_counts_apart_is_added_up_without_losing_a_token(plain, read, short, hour, output):
    usage = {
        "input_tokens": plain,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": short + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour},
        "output_tokens": output,
    }
    consumed = read_response({"type": "message", "id": "msg_1", "usage": usage})
    assert consumed.input_tokens == plain + read + short + hour
    assert consumed.input_tokens - consumed.cache_read_tokens - consumed.cache_write_tokens == plain
    assert (consumed.cache_write_1h_tokens, consumed.output_tokens) == (hour, output)
