"""A provider's raw answer, recognised by its shape."""

from collections.abc import Mapping
from typing import Any

import msgspec

from costwarden.metering import usage_fields
from costwarden.metering.consumed import Consumed, UnknownResponse, mapping, text, tier
from costwarden.metering.streams import StreamReader, anthropic_provider, images_in, openai_provider

__all__ = ["Consumed", "StreamReader", "UnknownResponse", "read_response"]


def read_response(body: "bytes | bytearray | memoryview | str | msgspec.Raw | Mapping[str, Any]") -> Consumed:
    """What the answer `body` says was consumed: JSON as it came, or decoded.

    Known are OpenAI's chat completions, completions, responses, embeddings, images and transcriptions, Anthropic's messages, Gemini's
    generateContent and Bedrock's Converse, a line of a batch's results, and whoever answers in these shapes.
    Raises `UnknownResponse` for anything else, an error among it.
    """
    fields = body
    if not isinstance(fields, Mapping):
        try:
            fields = msgspec.json.decode(fields)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnknownResponse(f"the response is not JSON: {error}") from error
    if not isinstance(fields, Mapping):
        raise UnknownResponse(f"the response is a {type(fields).__name__}, not an object")
    return _read(fields)


def _read(body: Mapping[str, Any]) -> Consumed:
    if "custom_id" in body:
        return _batch_line(body)
    if "usageMetadata" in body:
        return _gemini(body)
    kind = text(body, "object")
    usage = mapping(body, "usage")
    if text(body, "type") == "message" and usage:
        model = text(body, "model")
        read = Consumed(provider=anthropic_provider(text(body, "id")), model=model, operation="chat", response_id=text(body, "id"))
        usage_fields.anthropic(read, usage)
        return read
    if "inputTokens" in usage:
        read = Consumed(provider="aws.bedrock", operation="chat", service_tier=tier(text(mapping(body, "serviceTier"), "type")))
        usage_fields.converse(read, usage)
        return read
    if isinstance(body.get("text"), str) and ("usage" in body or "duration" in body):
        read = Consumed(provider="openai", operation="transcription")
        usage_fields.transcription(read, body)
        return read
    if not usage and not ("created" in body and images_in(body)):
        reason = "it is an error" if "error" in body else f"its fields are {', '.join(sorted(map(str, body))[:12]) or 'none'}"
        raise UnknownResponse(f"the response tells no usage: {reason}")
    if kind == "response" or kind.startswith(("chat.completion", "text_completion")) or "choices" in body:
        return _openai(body, usage, "text_completion" if kind == "text_completion" else "chat")
    if kind == "list":
        return _openai(body, usage, "embeddings")
    if "created" in body and isinstance(body.get("data"), list):
        read = _openai(body, usage, "image_generation")
        read.provider = read.provider or "openai"
        read.images = images_in(body)
        return read
    raise UnknownResponse(f"the response has a usage of no known shape: {', '.join(sorted(map(str, usage))[:12])}")


def _openai(body: Mapping[str, Any], usage: Mapping[str, Any], operation: str) -> Consumed:
    read = Consumed(
        provider=openai_provider(body),
        model=text(body, "model"),
        operation=operation,
        response_id=text(body, "id"),
        service_tier=tier(text(body, "service_tier")),
    )
    usage_fields.openai(read, usage)
    return read


def _gemini(body: Mapping[str, Any]) -> Consumed:
    usage = mapping(body, "usageMetadata")
    read = Consumed(
        provider="gcp.vertex_ai" if "trafficType" in usage else "gcp.gemini",
        model=text(body, "modelVersion"),
        operation="generate_content",
        response_id=text(body, "responseId"),
        images=images_in(body),
    )
    usage_fields.gemini(read, usage)
    return read


def _batch_line(line: Mapping[str, Any]) -> Consumed:
    """A line of a batch's results: https://platform.openai.com/docs/guides/batch, https://docs.anthropic.com/en/docs/build-with-claude/batch-processing."""
    body = mapping(mapping(line, "response"), "body") or mapping(mapping(line, "result"), "message")
    if not body:
        raise UnknownResponse(f"the batch's line {text(line, 'custom_id')!r:.100} has no response")
    read = _read(body)
    read.service_tier = "batch"
    return read
