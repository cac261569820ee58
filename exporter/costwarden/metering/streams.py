"""A provider's streamed answer, read as it passes: what was consumed so far, wherever it breaks off."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, final

import msgspec

from costwarden.metering import usage_fields
from costwarden.metering.consumed import Consumed, UnknownResponse, items, mapping, text, tier
from costwarden.metering.frames import DONE, EventStreamFrames, JsonArray, ServerSentEvents

_decode = msgspec.json.Decoder().decode

_OPENAI_MODELS = (
    "gpt-", "chatgpt-", "o1", "o3", "o4", "ft:gpt-", "text-embedding-", "text-davinci", "davinci", "babbage", "dall-e-", "whisper-", "tts-",
    "codex-", "computer-use-", "omni-",
)  # fmt: skip


def openai_provider(body: Mapping[str, Any]) -> str:
    """Who answered in OpenAI's shape. Many do: where neither the shape nor the model's name tells, nobody is named rather than OpenAI."""
    if "prompt_filter_results" in body:
        return "azure.ai.openai"
    model = text(body, "model")
    return "openai" if model.startswith(_OPENAI_MODELS) else ""


def anthropic_provider(response_id: str) -> str:
    """Who answered in Anthropic's shape: resellers mark their ids."""
    if response_id.startswith("msg_bdrk_"):
        return "aws.bedrock"
    return "gcp.vertex_ai" if response_id.startswith("msg_vrtx_") else "anthropic"


def images_in(body: Mapping[str, Any]) -> int:
    """The images that an answer of OpenAI's image endpoint or of Gemini carries."""
    made = sum(1 for image in items(body, "data") if isinstance(image, Mapping) and (image.get("b64_json") or image.get("url")))
    return made + _images(_parts(body))


def _images(parts: list[Mapping[str, Any]]) -> int:
    return sum(1 for part in parts if "inlineData" in part and text(mapping(part, "inlineData"), "mimeType").startswith("image/"))


def _parts(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts: list[Mapping[str, Any]] = []
    for candidate in items(body, "candidates"):
        if isinstance(candidate, dict):
            parts += [part for part in items(mapping(candidate, "content"), "parts") if isinstance(part, dict)]
    return parts


def _frames(first: int) -> ServerSentEvents | EventStreamFrames | JsonArray:
    """The framing of a body that begins with this byte."""
    # The length of an AWS message is four bytes, the first of them 0 below 16 MiB; text has no such byte.
    if first == 0:
        return EventStreamFrames()
    return JsonArray() if first == ord("[") else ServerSentEvents()


@final
class StreamReader:
    """Reads a stream beside the one who wants it: server-sent events (OpenAI, Anthropic, Gemini), AWS's event stream (Bedrock), or a JSON
    array that grows (Gemini without `alt=sse`).

    It takes the body in any chunks, decompressed, and recognises the form by itself; what it does not understand it passes over, for the
    caller's stream must not break on the meter. `answers` says how many were asked for (OpenAI's `n`). Not thread-safe.
    """

    def __init__(self, answers: int = 1) -> None:
        self._answers = answers
        self._ended: set[object] = set()
        self._failed = False
        self._frames: ServerSentEvents | EventStreamFrames | JsonArray | None = None
        self._consumed: Consumed | None = None
        self._anthropic: dict[str, Any] = {}
        self._finished = False
        self._reported = False
        self.names_tier = False
        """Whether the answer has said by which tier it is served."""
        self.delivered_characters = 0
        """Characters of text, reasoning and tool arguments delivered so far, for an estimate where the figures never come."""

    @property
    def complete(self) -> bool:
        """Whether the provider's final figures have come.

        Where not, the stream broke off or the provider gives none (OpenAI's chat without `stream_options.include_usage`), and
        `consumed()` may fall short of what was delivered.
        """
        return self._finished and self._reported

    @property
    def failed(self) -> bool:
        """Whether the provider told of an error in mid-stream."""
        return self._failed or (isinstance(self._frames, ServerSentEvents) and self._frames.failed)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        if self._frames is None:
            chunk = chunk.lstrip()
        if not chunk:
            return
        if self._frames is None:
            self._frames = _frames(chunk[0])
        for name, event in self._frames.feed(chunk):
            self._take(name, event)

    def consumed(self) -> Consumed | None:
        """What the provider has reported so far; `None` where nothing that was read is a known shape."""
        if self._frames is not None:
            for name, event in self._frames.rest():
                self._take(name, event)
        return None if self._consumed is None else msgspec.structs.replace(self._consumed)

    def _take(self, name: str, event: dict[str, Any]) -> None:
        try:
            if name == DONE:
                self._finished = True
            elif name:
                self._bedrock(name, event)
            else:
                self._event(event)
        except UnknownResponse:
            return

    def _event(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if event.get("error") or kind in ("error", "response.failed"):
            self._failed = True
        if isinstance(kind, str):
            if kind.startswith("response."):
                self._openai_response(kind, event)
            elif kind.startswith(("image_", "transcript.", "speech.")):
                self._openai_media(kind, event)
            else:
                self._anthropic_event(kind, event)
        elif "choices" in event:
            self._openai_chat(event)
        elif "usageMetadata" in event or "candidates" in event:
            self._gemini(event)

    def _known(self, provider: str = "", operation: str = "chat") -> Consumed:
        if self._consumed is None:
            self._consumed = Consumed(provider=provider, operation=operation)
        return self._consumed

    def _openai_chat(self, chunk: dict[str, Any]) -> None:
        """https://platform.openai.com/docs/api-reference/chat-streaming; usage comes in a last chunk without choices, or in every chunk."""
        known = self._known(operation="text_completion" if chunk.get("object") == "text_completion" else "chat")
        self._openai_names(known, chunk)
        choices = items(chunk, "choices")
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            delta = mapping(choice, "delta")
            self.delivered_characters += sum(len(text(delta, name)) for name in ("content", "reasoning_content", "reasoning", "refusal"))
            self.delivered_characters += len(text(choice, "text"))
            for call in items(delta, "tool_calls"):
                if isinstance(call, dict):
                    self.delivered_characters += len(text(mapping(call, "function"), "arguments"))
                    self.delivered_characters += len(text(mapping(call, "custom"), "input"))
            self.delivered_characters += len(text(mapping(delta, "function_call"), "arguments"))
            if choice.get("finish_reason"):
                # A server that tells the usage in every chunk may mean that of one answer, until the last has ended.
                self._ended.add(str(choice.get("index")))
                self._finished = self._finished or len(self._ended) >= self._answers
        if usage := mapping(chunk, "usage") or mapping(mapping(chunk, "x_groq"), "usage"):
            usage_fields.openai(known, usage)
            self._reported = True
            self._finished = self._finished or not choices

    def _openai_names(self, known: Consumed, body: Mapping[str, Any]) -> None:
        known.provider = openai_provider(body) or known.provider
        known.model = text(body, "model") or known.model
        known.response_id = text(body, "id") or known.response_id
        known.service_tier = tier(text(body, "service_tier")) or known.service_tier
        self.names_tier = self.names_tier or bool(text(body, "service_tier"))

    def _openai_response(self, kind: str, event: dict[str, Any]) -> None:
        """`response.completed`, `.incomplete` and `.failed` are last: https://platform.openai.com/docs/api-reference/responses-streaming."""
        known = self._known()
        if kind.endswith(".delta"):
            if "audio." not in kind:
                self.delivered_characters += len(text(event, "delta"))
            return
        if response := mapping(event, "response"):
            named = self.names_tier
            self._openai_names(known, response)
            self.names_tier = named or (kind != "response.created" and text(response, "service_tier") not in ("", "auto"))
            # The tier of a response is what was asked for until it is completed.
            known.service_tier = tier(text(response, "service_tier"))
            if usage := mapping(response, "usage"):
                usage_fields.openai(known, usage)
                self._reported = True
            if kind in ("response.completed", "response.incomplete", "response.failed"):
                self._finished = True

    def _openai_media(self, kind: str, event: dict[str, Any]) -> None:
        """Their last events end in `.completed` and `.done`: https://platform.openai.com/docs/api-reference/images-streaming, …/audio."""
        operation = "image_generation" if kind.startswith("image_") else "transcription" if kind.startswith("transcript.") else "speech"
        known = self._known("openai", operation)
        if kind == "transcript.text.delta":
            self.delivered_characters += len(text(event, "delta"))
        if not kind.endswith((".completed", ".done")):
            return
        if kind.startswith("image_"):
            known.images += 1
        if operation == "transcription" and mapping(event, "usage"):
            usage_fields.transcription(known, event)
            self._reported = True
        elif usage := mapping(event, "usage"):
            usage_fields.openai(known, usage)
            self._reported = True
        self._finished = True

    def _anthropic_event(self, kind: str, event: dict[str, Any]) -> None:
        """The counts of `message_delta` are cumulative: the last one holds. https://docs.anthropic.com/en/docs/build-with-claude/streaming"""
        if kind == "content_block_delta":
            delta = mapping(event, "delta")
            self.delivered_characters += sum(len(text(delta, name)) for name in ("text", "thinking", "partial_json"))
        elif kind == "message_start":
            message = mapping(event, "message")
            known = self._known("anthropic")
            known.response_id = text(message, "id")
            known.model = text(message, "model") or known.model
            if known.provider == "anthropic":
                known.provider = anthropic_provider(known.response_id)
            self._anthropic_usage(known, mapping(message, "usage"))
        elif kind == "message_delta":
            self._anthropic_usage(self._known("anthropic"), mapping(event, "usage"))
            if mapping(event, "delta").get("stop_reason"):
                self._finished = True
        elif kind == "message_stop":
            self._finished = True
        if metrics := mapping(event, "amazon-bedrock-invocationMetrics"):
            self._invocation_metrics(metrics)

    def _anthropic_usage(self, known: Consumed, usage: Mapping[str, Any]) -> None:
        if not usage:
            return
        self.names_tier = self.names_tier or bool(text(usage, "service_tier"))
        self._anthropic.update({name: value for name, value in usage.items() if value is not None})
        usage_fields.anthropic(known, self._anthropic)
        self._reported = True

    def _gemini(self, chunk: dict[str, Any]) -> None:
        """https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent: every chunk may carry the counts so far."""
        known = self._known("gcp.gemini", "generate_content")
        known.model = text(chunk, "modelVersion") or known.model
        known.response_id = text(chunk, "responseId") or known.response_id
        parts = _parts(chunk)
        for part in parts:
            self.delivered_characters += len(text(part, "text"))
        known.images += _images(parts)
        if any(isinstance(candidate, dict) and candidate.get("finishReason") for candidate in items(chunk, "candidates")):
            self._finished = True
        if usage := mapping(chunk, "usageMetadata"):
            if "trafficType" in usage:
                known.provider = "gcp.vertex_ai"
            usage_fields.gemini(known, usage)
            self._reported = True

    def _bedrock(self, name: str, event: dict[str, Any]) -> None:
        """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStreamOutput.html, …/API_runtime_PayloadPart.html."""
        known = self._known("aws.bedrock")
        if name == "contentBlockDelta":
            delta = mapping(event, "delta")
            self.delivered_characters += len(text(delta, "text")) + len(text(mapping(delta, "toolUse"), "input"))
            self.delivered_characters += len(text(mapping(delta, "reasoningContent"), "text"))
        elif name == "metadata":
            known.service_tier = tier(text(mapping(event, "serviceTier"), "type"))
            if usage := mapping(event, "usage"):
                usage_fields.converse(known, usage)
                self._reported = self._finished = True
        elif name == "chunk":
            try:
                inner = _decode(base64.b64decode(text(event, "bytes")))
            except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError):
                return
            if isinstance(inner, dict) and "type" in inner:
                self._event(inner)
            elif isinstance(inner, dict) and (metrics := mapping(inner, "amazon-bedrock-invocationMetrics")):
                self._invocation_metrics(metrics)

    def _invocation_metrics(self, metrics: Mapping[str, Any]) -> None:
        if not self._anthropic:  # Claude's own figures tell more, the lifetime of what was cached among it.
            usage_fields.invocation_metrics(self._known("aws.bedrock"), metrics)
            self._reported = True
        self._finished = True
