"""Answers as the providers publish them, each with what it consumed, in the counts of `model.Usage`."""

from typing import Any

Answer = dict[str, Any]

ANSWERS: dict[str, tuple[Answer, dict[str, Any]]] = {
    # prompt_tokens include cached_tokens.
    "openai_chat_cached": (
        {
            "id": "chatcmpl-B1",
            "object": "chat.completion",
            "created": 1741569952,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!", "refusal": None}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 12_000,
                "completion_tokens": 800,
                "total_tokens": 12_800,
                "prompt_tokens_details": {"cached_tokens": 10_240, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
            "service_tier": "default",
        },
        {
            "provider": "openai",
            "model": "gpt-4o-2024-08-06",
            "operation": "chat",
            "response_id": "chatcmpl-B1",
            "input_tokens": 12_000,
            "cache_read_tokens": 10_240,
            "output_tokens": 800,
        },
    ),
    # completion_tokens include reasoning_tokens; served as flex.
    "openai_chat_reasoning_flex": (
        {
            "id": "chatcmpl-B2",
            "object": "chat.completion",
            "model": "gpt-5-2025-08-07",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 4_000,
                "completion_tokens": 3_000,
                "total_tokens": 7_000,
                "prompt_tokens_details": {"cached_tokens": 1_024},
                "completion_tokens_details": {"reasoning_tokens": 2_560},
            },
            "service_tier": "flex",
        },
        {
            "provider": "openai",
            "model": "gpt-5-2025-08-07",
            "operation": "chat",
            "response_id": "chatcmpl-B2",
            "service_tier": "flex",
            "input_tokens": 4_000,
            "cache_read_tokens": 1_024,
            "output_tokens": 3_000,
            "reasoning_tokens": 2_560,
        },
    ),
    "openai_chat_audio": (
        {
            "id": "chatcmpl-B3",
            "object": "chat.completion",
            "model": "gpt-4o-audio-preview-2024-12-17",
            "choices": [{"index": 0, "message": {"role": "assistant", "audio": {"id": "audio_1"}}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 300,
                "completion_tokens": 200,
                "total_tokens": 500,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 180, "text_tokens": 120},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 150, "text_tokens": 50},
            },
        },
        {
            "provider": "openai",
            "model": "gpt-4o-audio-preview-2024-12-17",
            "operation": "chat",
            "response_id": "chatcmpl-B3",
            "input_tokens": 300,
            "input_audio_tokens": 180,
            "output_tokens": 200,
            "output_audio_tokens": 150,
        },
    ),
    "openai_responses": (
        {
            "id": "resp_67ccd2",
            "object": "response",
            "status": "completed",
            "model": "o4-mini-2025-04-16",
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "…"}]}],
            "usage": {
                "input_tokens": 2_000,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": 3_100,
                "output_tokens_details": {"reasoning_tokens": 2_880},
                "total_tokens": 5_100,
            },
            "service_tier": "priority",
        },
        {
            "provider": "openai",
            "model": "o4-mini-2025-04-16",
            "operation": "chat",
            "response_id": "resp_67ccd2",
            "service_tier": "priority",
            "input_tokens": 2_000,
            "output_tokens": 3_100,
            "reasoning_tokens": 2_880,
        },
    ),
    "openai_embeddings": (
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.0023, -0.0093]}],
            "model": "text-embedding-3-small",
            "usage": {"prompt_tokens": 5_000, "total_tokens": 5_000},
        },
        {"provider": "openai", "model": "text-embedding-3-small", "operation": "embeddings", "input_tokens": 5_000},
    ),
    # The answer names no model: the request does.
    "openai_images": (
        {
            "created": 1713833628,
            "data": [{"b64_json": "iVBORw0KGgo="}, {"b64_json": "iVBORw0KGgo="}],
            "usage": {
                "total_tokens": 2_212,
                "input_tokens": 100,
                "output_tokens": 2_112,
                "input_tokens_details": {"text_tokens": 100, "image_tokens": 0},
            },
        },
        {"provider": "openai", "operation": "image_generation", "input_tokens": 100, "output_tokens": 2_112, "images": 2},
    ),
    "openai_images_by_the_piece": (
        {"created": 1589478378, "data": [{"url": "https://example.com/1.png"}]},
        {"provider": "openai", "operation": "image_generation", "images": 1},
    ),
    "openai_transcription_by_time": (
        {"text": "Imagine the wildest idea.", "usage": {"type": "duration", "seconds": 95}},
        {"provider": "openai", "operation": "transcription", "audio_milliseconds": 95_000},
    ),
    "openai_transcription_by_time_without_usage": (
        {"task": "transcribe", "language": "english", "duration": 8.47, "text": "The beach.", "segments": []},
        {"provider": "openai", "operation": "transcription", "audio_milliseconds": 8_470},
    ),
    "openai_transcription_by_tokens": (
        {
            "text": "Imagine the wildest idea.",
            "usage": {
                "type": "tokens",
                "input_tokens": 114,
                "input_token_details": {"text_tokens": 14, "audio_tokens": 100},
                "output_tokens": 45,
                "total_tokens": 159,
            },
        },
        {"provider": "openai", "operation": "transcription", "input_tokens": 114, "input_audio_tokens": 100, "output_tokens": 45},
    ),
    "openai_batch_line": (
        {
            "id": "batch_req_wnaDys",
            "custom_id": "request-2",
            "response": {
                "status_code": 200,
                "request_id": "req_c187b3",
                "body": {
                    "id": "chatcmpl-9758Iw",
                    "object": "chat.completion",
                    "model": "gpt-4o-mini-2024-07-18",
                    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 24_000, "completion_tokens": 12_000, "total_tokens": 36_000},
                },
            },
            "error": None,
        },
        {
            "provider": "openai",
            "model": "gpt-4o-mini-2024-07-18",
            "operation": "chat",
            "response_id": "chatcmpl-9758Iw",
            "service_tier": "batch",
            "input_tokens": 24_000,
            "output_tokens": 12_000,
        },
    ),
    # xAI speaks OpenAI's shape and counts reasoning beside the completion: 32 + 9 + 94 = 135.
    "xai_chat_reasoning_apart": (
        {
            "id": "0daf962f",
            "object": "chat.completion",
            "model": "grok-3-mini",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "303"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "prompt_tokens_details": {"text_tokens": 32, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 94, "audio_tokens": 0},
            },
        },
        {
            "provider": "",
            "model": "grok-3-mini",
            "operation": "chat",
            "response_id": "0daf962f",
            "input_tokens": 32,
            "cache_read_tokens": 6,
            "output_tokens": 9 + 94,
            "reasoning_tokens": 94,
        },
    ),
    # input_tokens, cache_creation_input_tokens and cache_read_input_tokens exclude each other.
    "anthropic_messages": (
        {
            "id": "msg_01XFDU",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-20250514",
            "content": [{"type": "text", "text": "Hi!"}],
            "stop_reason": "end_turn",
            "usage": {
                "input_tokens": 200,
                "cache_creation_input_tokens": 3_000,
                "cache_read_input_tokens": 9_000,
                "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 2_000},
                "output_tokens": 500,
                "output_tokens_details": {"thinking_tokens": 120},
                "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
                "service_tier": "standard",
            },
        },
        {
            "provider": "anthropic",
            "model": "claude-sonnet-4-20250514",
            "operation": "chat",
            "response_id": "msg_01XFDU",
            "input_tokens": 200 + 3_000 + 9_000,
            "cache_read_tokens": 9_000,
            "cache_write_tokens": 3_000,
            "cache_write_1h_tokens": 2_000,
            "output_tokens": 500,
            "reasoning_tokens": 120,
        },
    ),
    "anthropic_batch_line": (
        {
            "custom_id": "my-second-request",
            "result": {
                "type": "succeeded",
                "message": {
                    "id": "msg_014VwiXbi91y3JMjcpyGBHX5",
                    "type": "message",
                    "role": "assistant",
                    "model": "claude-opus-4-5-20251101",
                    "content": [{"type": "text", "text": "Hello again!"}],
                    "usage": {
                        "input_tokens": 11_000,
                        "cache_read_input_tokens": 4_000,
                        "cache_creation_input_tokens": 0,
                        "output_tokens": 3_600,
                        "service_tier": "batch",
                    },
                },
            },
        },
        {
            "provider": "anthropic",
            "model": "claude-opus-4-5-20251101",
            "operation": "chat",
            "response_id": "msg_014VwiXbi91y3JMjcpyGBHX5",
            "service_tier": "batch",
            "input_tokens": 11_000 + 4_000,
            "cache_read_tokens": 4_000,
            "output_tokens": 3_600,
        },
    ),
    # What the compaction took is in none of the counts above it.
    "anthropic_compacted": (
        {
            "id": "msg_01C",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4-5-20251101",
            "content": [],
            "usage": {
                "input_tokens": 23_000,
                "output_tokens": 1_000,
                "iterations": [
                    {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
                    {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
                ],
            },
        },
        {
            "provider": "anthropic",
            "model": "claude-opus-4-5-20251101",
            "operation": "chat",
            "response_id": "msg_01C",
            "input_tokens": 23_000 + 180_000,
            "output_tokens": 1_000 + 3_500,
        },
    ),
    "anthropic_on_bedrock": (
        {
            "id": "msg_bdrk_01",
            "type": "message",
            "role": "assistant",
            "model": "claude-3-5-sonnet-20241022",
            "content": [],
            "usage": {"input_tokens": 10, "output_tokens": 5},
        },
        {
            "provider": "aws.bedrock",
            "model": "claude-3-5-sonnet-20241022",
            "operation": "chat",
            "response_id": "msg_bdrk_01",
            "input_tokens": 10,
            "output_tokens": 5,
        },
    ),
    # promptTokenCount includes cachedContentTokenCount; thoughts are counted beside the candidates.
    "gemini_long_with_thoughts": (
        {
            "candidates": [{"content": {"role": "model", "parts": [{"text": "…"}]}, "finishReason": "STOP", "index": 0}],
            "usageMetadata": {
                "promptTokenCount": 250_000,
                "cachedContentTokenCount": 100_000,
                "candidatesTokenCount": 1_000,
                "thoughtsTokenCount": 4_000,
                "totalTokenCount": 255_000,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 250_000}],
                "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 100_000}],
            },
            "modelVersion": "gemini-2.5-pro",
            "responseId": "aGx3a",
        },
        {
            "provider": "gcp.gemini",
            "model": "gemini-2.5-pro",
            "operation": "generate_content",
            "response_id": "aGx3a",
            "input_tokens": 250_000,
            "cache_read_tokens": 100_000,
            "output_tokens": 1_000 + 4_000,
            "reasoning_tokens": 4_000,
        },
    ),
    "vertex_audio_and_tools": (
        {
            "candidates": [{"content": {"role": "model", "parts": [{"text": "…"}]}, "finishReason": "STOP"}],
            "usageMetadata": {
                "promptTokenCount": 1_000,
                "toolUsePromptTokenCount": 250,
                "candidatesTokenCount": 60,
                "totalTokenCount": 1_310,
                "trafficType": "ON_DEMAND",
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 800}, {"modality": "TEXT", "tokenCount": 200}],
            },
            "modelVersion": "gemini-2.5-flash",
        },
        {
            "provider": "gcp.vertex_ai",
            "model": "gemini-2.5-flash",
            "operation": "generate_content",
            "input_tokens": 1_250,
            "input_audio_tokens": 800,
            "output_tokens": 60,
        },
    ),
    "gemini_image": (
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "Here:"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]},
                    "finishReason": "STOP",
                }
            ],
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 1_290, "totalTokenCount": 1_300},
            "modelVersion": "gemini-2.5-flash-image",
        },
        {
            "provider": "gcp.gemini",
            "model": "gemini-2.5-flash-image",
            "operation": "generate_content",
            "input_tokens": 10,
            "output_tokens": 1_290,
            "images": 1,
        },
    ),
    # inputTokens, cacheReadInputTokens and cacheWriteInputTokens exclude each other; the answer names no model.
    "bedrock_converse": (
        {
            "output": {"message": {"role": "assistant", "content": [{"text": "…"}]}},
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": 500,
                "outputTokens": 300,
                "totalTokens": 6_300,
                "cacheReadInputTokens": 4_000,
                "cacheWriteInputTokens": 1_500,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 500}, {"ttl": "5m", "inputTokens": 1_000}],
            },
            "metrics": {"latencyMs": 1551},
        },
        {
            "provider": "aws.bedrock",
            "operation": "chat",
            "input_tokens": 500 + 4_000 + 1_500,
            "cache_read_tokens": 4_000,
            "cache_write_tokens": 1_500,
            "cache_write_1h_tokens": 500,
            "output_tokens": 300,
        },
    ),
}
