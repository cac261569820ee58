"""Each provider's usage object, read into the counts of `Consumed`.

The trap: OpenAI's and Gemini's input tokens *include* the cached ones, Anthropic's and Bedrock's *exclude* them.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from costwarden.metering.consumed import Consumed, UnknownResponse, count, items, mapping, text, tier


def openai(into: Consumed, usage: Mapping[str, Any]) -> None:
    """Chat completions, completions, responses, embeddings and images of OpenAI and of those who speak like it.

    https://platform.openai.com/docs/api-reference/chat/object (`prompt_tokens_details`, `completion_tokens_details`),
    https://platform.openai.com/docs/api-reference/responses/object (`input_tokens_details`, `output_tokens_details`),
    https://platform.openai.com/docs/api-reference/images/object.
    """
    inputs = mapping(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    outputs = mapping(usage, "completion_tokens_details", "output_tokens_details", "output_token_details")
    into.input_tokens = count(usage, "prompt_tokens", "input_tokens")
    into.output_tokens = count(usage, "completion_tokens", "output_tokens")
    into.cache_read_tokens = count(inputs, "cached_tokens") or count(usage, "prompt_cache_hit_tokens", "cached_tokens")
    into.cache_write_tokens = count(inputs, "cache_write_tokens")
    into.input_audio_tokens = count(inputs, "audio_tokens")
    into.reasoning_tokens = count(outputs, "reasoning_tokens")
    into.output_audio_tokens = count(outputs, "audio_tokens")
    # xAI counts reasoning beside the completion, OpenAI within; the total tells: https://docs.x.ai/docs/guides/reasoning
    if into.reasoning_tokens and count(usage, "total_tokens") == into.input_tokens + into.output_tokens + into.reasoning_tokens:
        into.output_tokens += into.reasoning_tokens


def transcription(into: Consumed, body: Mapping[str, Any]) -> None:
    """A transcription, sold by tokens or by the duration of the audio: https://platform.openai.com/docs/api-reference/audio/json-object."""
    usage = mapping(body, "usage")
    if text(usage, "type") == "tokens":
        openai(into, usage)
    else:
        into.audio_milliseconds = _milliseconds(usage["seconds"] if "seconds" in usage else body.get("duration"))


def _milliseconds(seconds: Any) -> int:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < 10**9:
        raise UnknownResponse(f"{seconds!r:.100} is not a duration of audio in seconds")
    # By way of text: 8.47 is meant, not the binary fraction next to it.
    return int((Decimal(str(seconds)) * 1000).to_integral_value(ROUND_HALF_UP))


def anthropic(into: Consumed, usage: Mapping[str, Any]) -> None:
    """Messages; `usage` is that of an answer, or what the events of a stream have said so far.

    `input_tokens`, `cache_creation_input_tokens` and `cache_read_input_tokens` are three separate counts; what a compaction took is in
    none of them: https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching,
    https://platform.claude.com/docs/en/build-with-claude/compaction.
    """
    _anthropic_counts(into, usage)
    for iteration in items(usage, "iterations"):
        if isinstance(iteration, Mapping) and iteration.get("type") == "compaction":
            compaction = Consumed()
            _anthropic_counts(compaction, iteration)
            for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens"):
                setattr(into, name, getattr(into, name) + getattr(compaction, name))
    into.service_tier = tier(text(usage, "service_tier"))
    if not into.service_tier and text(usage, "speed") == "fast":
        into.service_tier = "fast"


def _anthropic_counts(into: Consumed, usage: Mapping[str, Any]) -> None:
    written = mapping(usage, "cache_creation")
    into.cache_write_1h_tokens = count(written, "ephemeral_1h_input_tokens")
    for_an_hour_or_less = into.cache_write_1h_tokens + count(written, "ephemeral_5m_input_tokens")
    into.cache_write_tokens = max(count(usage, "cache_creation_input_tokens"), for_an_hour_or_less)
    into.cache_read_tokens = count(usage, "cache_read_input_tokens")
    into.input_tokens = count(usage, "input_tokens") + into.cache_write_tokens + into.cache_read_tokens
    into.output_tokens = count(usage, "output_tokens")
    into.reasoning_tokens = min(count(mapping(usage, "output_tokens_details"), "thinking_tokens"), into.output_tokens)


def gemini(into: Consumed, usage: Mapping[str, Any]) -> None:
    """`usageMetadata` of generateContent, of the Gemini API and of Vertex AI.

    `promptTokenCount` includes `cachedContentTokenCount`; thoughts and the prompts of tools are counted apart from candidates and prompt:
    https://ai.google.dev/api/generate-content#UsageMetadata.
    """
    into.reasoning_tokens = count(usage, "thoughtsTokenCount")
    into.input_tokens = count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount")
    into.output_tokens = count(usage, "candidatesTokenCount", "responseTokenCount") + into.reasoning_tokens
    into.cache_read_tokens = count(usage, "cachedContentTokenCount")
    into.input_audio_tokens = _audio(usage, "promptTokensDetails") + _audio(usage, "toolUsePromptTokensDetails")
    into.output_audio_tokens = _audio(usage, "candidatesTokensDetails") + _audio(usage, "responseTokensDetails")
    into.service_tier = tier(text(usage, "serviceTier") or text(usage, "trafficType"))


def _audio(usage: Mapping[str, Any], name: str) -> int:
    if name not in usage:
        return 0
    details = (detail for detail in items(usage, name) if isinstance(detail, Mapping))
    return sum(count(detail, "tokenCount") for detail in details if detail.get("modality") == "AUDIO")


def converse(into: Consumed, usage: Mapping[str, Any]) -> None:
    """Bedrock's `TokenUsage`: input, cache reads and cache writes are three separate counts, `cacheDetails` splits the writes by lifetime.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
    """
    details = [detail for detail in items(usage, "cacheDetails") if isinstance(detail, Mapping)]
    into.cache_write_1h_tokens = sum(count(detail, "inputTokens") for detail in details if detail.get("ttl") == "1h")
    into.cache_write_tokens = max(count(usage, "cacheWriteInputTokens"), into.cache_write_1h_tokens)
    into.cache_read_tokens = count(usage, "cacheReadInputTokens")
    into.input_tokens = count(usage, "inputTokens") + into.cache_read_tokens + into.cache_write_tokens
    into.output_tokens = count(usage, "outputTokens")


def invocation_metrics(into: Consumed, metrics: Mapping[str, Any]) -> None:
    """`amazon-bedrock-invocationMetrics`, which ends a stream of InvokeModel whatever the model.

    https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html
    """
    into.cache_read_tokens = count(metrics, "cacheReadInputTokenCount")
    into.cache_write_tokens = count(metrics, "cacheWriteInputTokenCount")
    into.input_tokens = count(metrics, "inputTokenCount") + into.cache_read_tokens + into.cache_write_tokens
    into.output_tokens = count(metrics, "outputTokenCount")
