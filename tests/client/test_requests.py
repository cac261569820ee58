"""What is read from a request before it is sent: which requests cost money, and how large they may become."""

import json
from decimal import Decimal
from typing import Any

import pytest

from costwarden.client.calls import Call
from costwarden.client.endpoints import find_endpoint, provider_of, read_request, with_usage
from costwarden.client.prompts import AUDIO_BYTES_PER_SECOND, IMAGE_TOKENS, measure


def wanted(path: str, body: Any, content_type: str = "application/json") -> Any:
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None
    return read_request(endpoint, path, content_type, body if isinstance(body, bytes) else json.dumps(body).encode(), {})


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/chat/completions", "chat"),
        ("/openai/deployments/mine/chat/completions", "chat"),
        ("/api/v1/chat/completions", "chat"),
        ("/v1/responses", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/images/generations", "image_generation"),
        ("/v1/images/edits", "image_generation"),
        ("/v1/audio/transcriptions", "transcription"),
        ("/v1/audio/speech", "speech"),
        ("/v1/messages", "chat"),
    ],
)
def test_requests_that_cost_money_are_known_by_the_end_of_their_path(path: str, operation: str) -> None:
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None
    assert endpoint.operation == operation


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/threads/thread_1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("POST", "/v1/messages/batches"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("POST", "/v1/files"),
        ("GET", "/v1/models"),
    ],
)
def test_other_requests_are_not(method: str, path: str) -> None:
    assert find_endpoint(method, path) is None


@pytest.mark.parametrize(
    ("path", "body", "output_tokens"),
    [
        ("/v1/chat/completions", {"max_tokens": 10}, 10),
        ("/v1/chat/completions", {"max_tokens": 10, "max_completion_tokens": 20}, 20),
        ("/v1/chat/completions", {"max_tokens": 10, "n": 3}, 30),
        ("/v1/chat/completions", {"n": 3}, None),
        ("/v1/chat/completions", {"max_tokens": None}, None),
        ("/v1/chat/completions", {"max_tokens": True}, None),
        ("/v1/completions", {"max_tokens": 10, "n": 2, "best_of": 5}, 50),
        ("/v1/completions", {"max_tokens": 10, "prompt": ["a", "b"]}, 20),
        ("/v1/completions", {"max_tokens": 10, "prompt": [1, 2, 3]}, 10),
        ("/v1/responses", {"max_output_tokens": 10}, 10),
        ("/v1/embeddings", {"input": "a"}, 0),
        ("/v1/messages", {"max_tokens": 10}, 10),
    ],
)
def test_the_answer_is_at_most_as_long_as_the_request_lets_it_be(path: str, body: dict[str, Any], output_tokens: int | None) -> None:
    assert wanted(path, body).output_tokens == output_tokens


def test_text_counts_with_two_bytes_a_token() -> None:
    letters, japanese = "a" * 1000, "猫" * 1000
    for text, tokens in ((letters, 500), (japanese, 1500)):
        prompt = measure({"messages": [{"role": "user", "content": text}]})
        assert prompt.tokens is not None
        assert tokens <= prompt.tokens <= tokens + 20


def test_a_prompt_given_as_tokens_counts_as_many() -> None:
    prompt = measure({"input": list(range(1000))})
    assert prompt.tokens is not None
    assert 1000 <= prompt.tokens <= 1005


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}},
        {"type": "input_image", "image_url": "https://example.org/a.png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_000_000}},
    ],
)
def test_an_image_counts_by_its_own_and_not_by_its_bytes(part: dict[str, Any]) -> None:
    prompt = measure({"messages": [{"role": "user", "content": [part]}]})
    assert prompt.tokens is not None
    assert IMAGE_TOKENS <= prompt.tokens <= IMAGE_TOKENS + 20


def test_a_document_counts_by_its_bytes_and_sound_by_its_length() -> None:
    document = {"type": "document", "source": {"type": "base64", "data": "A" * 4000}}
    assert (measure({"messages": [document]}).tokens or 0) >= 3000 // 2
    sound = {"type": "input_audio", "input_audio": {"data": "A" * (AUDIO_BYTES_PER_SECOND * 4 // 3 * 60), "format": "mp3"}}
    prompt = measure({"messages": [sound]})
    assert prompt.audio_seconds is not None
    assert 59 <= prompt.audio_seconds <= 60
    assert 590 <= (prompt.tokens or 0) <= 620


@pytest.mark.parametrize(
    "body",
    [
        {"input": "go on", "previous_response_id": "resp_1"},
        {"input": "go on", "conversation": "conv_1"},
        {"messages": [{"content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
        {"messages": [{"content": [{"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}]}]},
    ],
)
def test_a_prompt_that_lies_with_the_provider_has_no_known_size(body: dict[str, Any]) -> None:
    assert measure(body).tokens is None


def test_a_body_that_is_not_understood_has_no_known_size() -> None:
    for body in (b"", b"\xff\x00", b"[1]", b"null"):
        read = wanted("/v1/chat/completions", body)
        assert (read.model, read.input_tokens, read.output_tokens) == ("", None, None)


def test_a_form_names_its_model_too() -> None:
    boundary = b"--x\r\n"
    fields = b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    sound = b'Content-Disposition: form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\n' + b"\0" * 40_000 + b"\r\n"
    read = wanted("/v1/audio/transcriptions", boundary + fields + boundary + sound + b"--x--\r\n", "multipart/form-data; boundary=x")
    assert read.model == "whisper-1"
    assert Decimal(10) <= read.audio_seconds <= Decimal(11)
    assert 100 <= read.input_tokens <= 110


def test_the_host_tells_the_provider() -> None:
    hosts = {
        "api.openai.com": "openai",
        "eu.api.openai.com": "openai",
        "mine.openai.azure.com": "azure",
        "api.anthropic.com": "anthropic",
        "openrouter.ai": "openrouter",
        "llm.example.org": "",
        "notapi.openai.com.example.org": "",
    }
    assert {host: provider_of(host) for host in hosts} == hosts


def test_only_a_tier_with_a_price_of_its_own_is_told() -> None:
    told = {tier: wanted("/v1/chat/completions", {"service_tier": tier}).service_tier for tier in ("auto", "default", "flex", "priority")}
    assert told == {"auto": "", "default": "", "flex": "flex", "priority": "priority"}


def test_a_stream_is_asked_for_its_usage_and_keeps_its_other_options() -> None:
    fields = {"model": "m", "temperature": 0.1, "stream_options": {"include_obfuscation": False}}
    body = with_usage(fields)
    assert body is not None
    assert json.loads(body) == {**fields, "stream_options": {"include_obfuscation": False, "include_usage": True}}
    assert with_usage({"stream_options": {"include_usage": True}}) is None


def form(*parts: tuple[str, bytes], boundary: str = "x") -> bytes:
    head = f"--{boundary}\r\nContent-Disposition: form-data; "
    return b"".join(f"{head}{name}\r\n\r\n".encode() + value + b"\r\n" for name, value in parts) + f"--{boundary}--\r\n".encode()


def test_an_uploaded_file_says_nothing_about_the_call() -> None:
    inside = b'ID3 name="model"\r\n\r\nplain\r\n--xy\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n'
    file = 'name="image"; filename="a; name=\\"model\\".png"'
    body = form(('name="model"', b"dear"), ('name="n"', b"10"), (file, inside), ('name="model"; filename="m"', b"plain"))
    for content_type in ("multipart/form-data; boundary=x", 'Multipart/Form-Data; charset=utf-8; boundary="x"'):
        read = wanted("/v1/images/edits", body, content_type)
        assert (read.model, read.images) == ("dear", 10)
    assert wanted("/v1/images/edits", body, "multipart/form-data").model == ""


@pytest.mark.parametrize(("ttl", "hundredths"), [(None, 125), ("5m", 125), ("1h", 200)])
def test_a_prompt_that_is_written_to_the_cache_counts_with_what_that_costs(ttl: str | None, hundredths: int) -> None:
    text = {"type": "text", "text": "a" * 2000}
    plain = wanted("/v1/messages", {"messages": [{"role": "user", "content": [text]}]}).input_tokens
    control = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
    cached = wanted("/v1/messages", {"messages": [{"role": "user", "content": [{**text, "cache_control": control}]}]}).input_tokens
    assert plain * hundredths / 100 <= cached <= (plain + 30) * hundredths / 100


def test_all_of_an_answer_with_sound_is_taken_for_sound() -> None:
    call = Call(tenant_id="acme", model="m", estimated_output_tokens=9, speaks=True)
    assert call.check_request("e") == {
        "tenant_id": "acme",
        "model": "m",
        "estimated_output_tokens": 9,
        "estimated_output_audio_tokens": 9,
        "event_id": "e",
    }
    assert "speaks" not in call.named


def test_an_answer_with_sound_is_known() -> None:
    bodies = ({"modalities": ["text", "audio"]}, {"audio": {"voice": "alloy"}}, {"modalities": ["text"]}, {})
    assert [wanted("/v1/chat/completions", body).speaks for body in bodies] == [True, True, False, False]


@pytest.mark.parametrize(
    ("model", "unseen"),
    [
        ("o3", True), ("openai/o3", True), ("ft:o4-mini-2025-04-16:org::1", True), ("openai/gpt-5:online", True),
        ("accounts/fireworks/models/gpt-oss-120b", True), ("gpt-4o", False), ("openai/gpt-4o", False), ("acme/foo3", False),
    ],
)  # fmt: skip
def test_models_that_think_unseen_are_known_by_any_of_their_names(model: str, unseen: bool) -> None:
    assert wanted("/v1/chat/completions", {"model": model}).works_unseen is unseen


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"input_schema": {"properties": {"content": [{"type": "image", "source": {"type": "base64", "data": ""}}]}}}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "text": "no image"}]}]},
        {"messages": [{"content": [{"type": "tool_use", "input": {"content": [{"type": "image", "source": {"type": "base64"}}]}}]}]},
        {"messages": [{"content": {"type": "image", "source": {"type": "base64"}}}]},
        {"metadata": {"type": "image_url", "image_url": {"url": "https://example.org"}}},
    ],
)
def test_only_a_part_of_a_message_is_an_image(body: dict[str, Any]) -> None:
    body = {**body, "padding": "a" * 100_000}
    assert (measure(body).tokens or 0) < 50_000 + 200
    long = json.loads(json.dumps(body).replace('"image"', '"image", "junk": "' + "b" * 100_000 + '"'))
    assert (measure(long).tokens or 0) >= 50_000 + (50_000 if '"image"' in json.dumps(body) else 0)


def test_an_image_in_the_result_of_a_tool_is_one() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": [image]}
    assert IMAGE_TOKENS <= (measure({"messages": [{"role": "user", "content": [result]}]}).tokens or 0) <= IMAGE_TOKENS + 50
    output = {"type": "function_call_output", "output": [{"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}]}
    assert IMAGE_TOKENS <= (measure({"input": [output]}).tokens or 0) <= IMAGE_TOKENS + 50


def test_no_limit_is_larger_than_the_service_takes() -> None:
    assert wanted("/v1/chat/completions", {"max_tokens": 10**12}).output_tokens == 10**10
