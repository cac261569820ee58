"""Streams as the providers publish them, as bytes, each with what it consumed in the end."""

import base64
import json
import struct
import zlib
from typing import Any


def events(*payloads: Any, named: bool = False, end: str = "\n\n") -> bytes:
    """Server-sent events; `named` gives each the name of its type, as Anthropic and OpenAI's responses do."""
    lines = []
    for payload in payloads:
        data = payload if isinstance(payload, str) else json.dumps(payload)
        name = f"event: {payload['type']}{end[: len(end) // 2]}" if named else ""
        lines.append(f"{name}data: {data}{end}")
    return "".join(lines).encode()


def message(name: str, payload: Any) -> bytes:
    """A message of AWS's event stream."""
    headers = b"".join(
        struct.pack(">B", len(key)) + key + struct.pack(">BH", 7, len(value)) + value
        for key, value in ((b":event-type", name.encode()), (b":content-type", b"application/json"), (b":message-type", b"event"))
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    start = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return start + struct.pack(">I", zlib.crc32(start))


def chunk(payload: Any) -> bytes:
    """A message of Bedrock's InvokeModelWithResponseStream."""
    return message("chunk", {"bytes": base64.b64encode(json.dumps(payload).encode()).decode(), "p": "abcd"})


def chat_chunk(**fields: Any) -> dict[str, Any]:
    """A chunk of OpenAI's chat completions."""
    return {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06", "usage": None, **fields}


def _delta(**delta: str) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "finish_reason": None}]


OPENAI_CHAT = events(
    chat_chunk(choices=_delta(role="assistant", content="")),
    chat_chunk(choices=_delta(content="Hello")),
    chat_chunk(choices=_delta(content=" wörld")),
    chat_chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
    chat_chunk(
        choices=[],
        usage={
            "prompt_tokens": 1_200,
            "completion_tokens": 30,
            "total_tokens": 1_230,
            "prompt_tokens_details": {"cached_tokens": 1_024},
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        service_tier="default",
    ),
    "[DONE]",
)

OPENAI_RESPONSES = events(
    {
        "type": "response.created",
        "response": {"id": "resp_1", "model": "gpt-5", "status": "in_progress", "service_tier": "auto", "usage": None},
    },
    {"type": "response.output_text.delta", "item_id": "m", "delta": "Hello"},
    {"type": "response.function_call_arguments.delta", "item_id": "f", "delta": '{"a":'},
    {
        "type": "response.completed",
        "response": {
            "id": "resp_1",
            "model": "gpt-5-2025-08-07",
            "status": "completed",
            "service_tier": "priority",
            "usage": {
                "input_tokens": 37,
                "input_tokens_details": {"cached_tokens": 7},
                "output_tokens": 11,
                "output_tokens_details": {"reasoning_tokens": 5},
                "total_tokens": 48,
            },
        },
    },
    named=True,
)

_ANTHROPIC = (
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-20250514",
            "content": [],
            "usage": {
                "input_tokens": 25,
                "cache_creation_input_tokens": 300,
                "cache_read_input_tokens": 4_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
                "output_tokens": 1,
                "service_tier": "standard",
            },
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 0},
    # A turn of a server tool: cumulative, and not the last.
    {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 40}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 60, "output_tokens": 75}},
    {"type": "message_stop"},
)
ANTHROPIC = events(*_ANTHROPIC, named=True)

_GEMINI = (
    {
        "candidates": [{"content": {"parts": [{"text": "Hel"}], "role": "model"}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 90, "candidatesTokenCount": 1, "totalTokenCount": 91},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
    },
    {
        "candidates": [{"content": {"parts": [{"text": 'lo }]\\"{'}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": 90,
            "candidatesTokenCount": 4,
            "thoughtsTokenCount": 26,
            "cachedContentTokenCount": 50,
            "totalTokenCount": 120,
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
    },
)
GEMINI = events(*_GEMINI, end="\r\n\r\n")
GEMINI_ARRAY = ("[" + "\n,\r\n".join(json.dumps(chunk, indent=2, ensure_ascii=False) for chunk in _GEMINI) + "\n]\n").encode()

BEDROCK_CONVERSE = b"".join(
    [
        message("messageStart", {"role": "assistant"}),
        message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}}),
        message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm"}}}),
        message("contentBlockStop", {"contentBlockIndex": 0}),
        message("messageStop", {"stopReason": "end_turn"}),
        message(
            "metadata",
            {
                "usage": {
                    "inputTokens": 47,
                    "outputTokens": 20,
                    "totalTokens": 467,
                    "cacheReadInputTokens": 300,
                    "cacheWriteInputTokens": 100,
                },
                "metrics": {"latencyMs": 100},
                "serviceTier": {"type": "priority"},
            },
        ),
    ]
)

_METRICS = {"inputTokenCount": 60, "outputTokenCount": 75, "invocationLatency": 1, "firstByteLatency": 1}
BEDROCK_INVOKE_CLAUDE = b"".join(
    [*(chunk(event) for event in _ANTHROPIC[:-1]), chunk({**_ANTHROPIC[-1], "amazon-bedrock-invocationMetrics": _METRICS})]
)
BEDROCK_INVOKE_OTHER = chunk({"generation": "Hello"}) + chunk({"generation": "", "amazon-bedrock-invocationMetrics": _METRICS})

OPENAI_IMAGE = events(
    {"type": "image_generation.partial_image", "b64_json": "iVBORw0KGgo=", "partial_image_index": 0},
    {
        "type": "image_generation.completed",
        "b64_json": "iVBORw0KGgo=",
        "usage": {"input_tokens": 50, "output_tokens": 1_056, "total_tokens": 1_106, "input_tokens_details": {"text_tokens": 50}},
    },
    named=True,
)

OPENAI_TRANSCRIPTION = events(
    {"type": "transcript.text.delta", "delta": "I see"},
    {
        "type": "transcript.text.done",
        "text": "I see",
        "usage": {
            "type": "tokens",
            "input_tokens": 14,
            "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
            "output_tokens": 45,
            "total_tokens": 59,
        },
    },
)

_CLAUDE = {
    "operation": "chat",
    "model": "claude-sonnet-4-20250514",
    "response_id": "msg_1",
    "input_tokens": 60 + 300 + 4_000,
    "cache_read_tokens": 4_000,
    "cache_write_tokens": 300,
    "cache_write_1h_tokens": 200,
    "output_tokens": 75,
}

STREAMS: dict[str, tuple[bytes, dict[str, Any], int]] = {
    "openai_chat": (
        OPENAI_CHAT,
        {
            "provider": "openai",
            "operation": "chat",
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-9",
            "input_tokens": 1_200,
            "cache_read_tokens": 1_024,
            "output_tokens": 30,
            "reasoning_tokens": 20,
        },
        len("Hello wörld"),
    ),
    "openai_responses": (
        OPENAI_RESPONSES,
        {
            "provider": "openai",
            "operation": "chat",
            "model": "gpt-5-2025-08-07",
            "response_id": "resp_1",
            "service_tier": "priority",
            "input_tokens": 37,
            "cache_read_tokens": 7,
            "output_tokens": 11,
            "reasoning_tokens": 5,
        },
        len('Hello{"a":'),
    ),
    "openai_image": (
        OPENAI_IMAGE,
        {"provider": "openai", "operation": "image_generation", "input_tokens": 50, "output_tokens": 1_056, "images": 1},
        0,
    ),
    "openai_transcription": (
        OPENAI_TRANSCRIPTION,
        {"provider": "openai", "operation": "transcription", "input_tokens": 14, "input_audio_tokens": 14, "output_tokens": 45},
        len("I see"),
    ),
    "anthropic": (ANTHROPIC, {"provider": "anthropic", **_CLAUDE}, len("HmHello")),
    "gemini": (
        GEMINI,
        {
            "provider": "gcp.gemini",
            "operation": "generate_content",
            "model": "gemini-2.5-flash",
            "response_id": "r1",
            "input_tokens": 90,
            "cache_read_tokens": 50,
            "output_tokens": 30,
            "reasoning_tokens": 26,
        },
        len('Hello }]\\"{'),
    ),
    "gemini_array": (
        GEMINI_ARRAY,
        {
            "provider": "gcp.gemini",
            "operation": "generate_content",
            "model": "gemini-2.5-flash",
            "response_id": "r1",
            "input_tokens": 90,
            "cache_read_tokens": 50,
            "output_tokens": 30,
            "reasoning_tokens": 26,
        },
        len('Hello }]\\"{'),
    ),
    "bedrock_converse": (
        BEDROCK_CONVERSE,
        {
            "provider": "aws.bedrock",
            "operation": "chat",
            "service_tier": "priority",
            "input_tokens": 47 + 300 + 100,
            "cache_read_tokens": 300,
            "cache_write_tokens": 100,
            "output_tokens": 20,
        },
        len("HelloHm"),
    ),
    "bedrock_invoke_claude": (BEDROCK_INVOKE_CLAUDE, {"provider": "aws.bedrock", **_CLAUDE}, len("HmHello")),
    "bedrock_invoke_other": (
        BEDROCK_INVOKE_OTHER,
        {"provider": "aws.bedrock", "operation": "chat", "input_tokens": 60, "output_tokens": 75},
        0,
    ),
}
"""Name -> the whole stream, what it consumed, and the characters that it delivered."""
