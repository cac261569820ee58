"""The requests that cost money: which path does what, and how large the answer may become."""

import re
from collections.abc import Mapping
from decimal import Decimal
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any, NamedTuple

import msgspec

from costwarden.client.calls import MOST_TOKENS
from costwarden.client.prompts import AUDIO_BYTES_PER_SECOND, AUDIO_TOKENS_PER_SECOND, measure


class Endpoint(NamedTuple):
    """A path of a provider's API. `operation` is OpenTelemetry's `gen_ai.operation.name` where it has one."""

    path: re.Pattern[str]
    operation: str
    dialect: str
    limits: tuple[str, ...]
    """Fields that bound the output tokens of one answer; the first that is given holds."""
    copies: tuple[str, ...] = ()
    """Fields that say how many answers are made."""
    takes_stream_options: bool = False


# The end of the path tells, so that Azure (`/openai/deployments/NAME/chat/completions`) and whoever else speaks these dialects is known.
# OpenAI: https://platform.openai.com/docs/api-reference; Anthropic: https://docs.anthropic.com/en/api/messages.
ENDPOINTS = (
    Endpoint(re.compile(r"/chat/completions$"), "chat", "openai", ("max_completion_tokens", "max_tokens"), ("n",), True),
    Endpoint(re.compile(r"/responses$"), "chat", "openai", ("max_output_tokens",)),
    Endpoint(re.compile(r"(?<!/chat)/completions$"), "text_completion", "openai", ("max_tokens",), ("n", "best_of"), True),
    Endpoint(re.compile(r"/embeddings$"), "embeddings", "openai", ()),
    Endpoint(re.compile(r"/images/(generations|edits|variations)$"), "image_generation", "openai", ()),
    Endpoint(re.compile(r"/audio/(transcriptions|translations)$"), "transcription", "openai", ()),
    Endpoint(re.compile(r"/audio/speech$"), "speech", "openai", ()),
    # Not `/v1/threads/ID/messages` of OpenAI's assistants, which only stores one.
    Endpoint(re.compile(r"(?:^|/)v1/messages$"), "chat", "anthropic", ("max_tokens",)),
)

PROVIDERS = (
    (re.compile(r"(^|\.)api\.openai\.com$"), "openai"),
    (re.compile(r"\.(openai\.azure|cognitiveservices\.azure|services\.ai\.azure)\.com$"), "azure"),
    (re.compile(r"^api\.anthropic\.com$"), "anthropic"),
    (re.compile(r"^api\.deepseek\.com$"), "deepseek"),
    (re.compile(r"^api\.fireworks\.ai$"), "fireworks"),
    (re.compile(r"^api\.groq\.com$"), "groq"),
    (re.compile(r"^api\.mistral\.ai$"), "mistral"),
    (re.compile(r"^api\.perplexity\.ai$"), "perplexity"),
    (re.compile(r"^api\.together\.(xyz|ai)$"), "together"),
    (re.compile(r"^api\.x\.ai$"), "x-ai"),
    (re.compile(r"^openrouter\.ai$"), "openrouter"),
)
"""Host -> the provider as genai-prices names it. Another host is asked for by `provider=`; else the model alone tells the price."""

_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
_REASONS = re.compile(r"(?:^|/|ft:)(?:o\d|gpt-5|gpt-oss)[^/]*$")
"""OpenAI's models that think, also as `openai/o3` and `ft:o4-mini:…`."""
_FORM_FIELDS = {"model", "n", "stream", "service_tier"}


class Wanted(NamedTuple):
    """What a request asks for."""

    endpoint: Endpoint
    model: str
    fields: dict[str, Any]
    stream: bool
    service_tier: str
    input_tokens: int | None
    output_tokens: int | None
    images: int
    audio_seconds: Decimal | None
    works_unseen: bool
    """The model may think at length and does not stream what it thinks, or goes on when nobody reads: delivered text does not tell what
    was used."""
    speaks: bool
    """The answer may hold sound."""
    answers: int
    """How many are made of each prompt."""


def find_endpoint(method: str, path: str) -> Endpoint | None:
    """The endpoint that a request calls; None where it costs nothing, or is not known."""
    if method != "POST":
        return None
    return next((endpoint for endpoint in ENDPOINTS if endpoint.path.search(path)), None)


def provider_of(host: str) -> str:
    """Whose API a host is; empty where that is not known."""
    return next((name for pattern, name in PROVIDERS if pattern.search(host)), "")


def read_request(endpoint: Endpoint, path: str, content_type: str, body: bytes, models: Mapping[str, str]) -> Wanted:
    """What the request asks for. A body that is not understood asks for what it may: its sizes are not known.

    `models` says which model is behind a name of the caller's own, an Azure deployment say.
    """
    if content_type.lower().startswith("multipart/form-data"):
        fields = _form_fields(content_type, body)
        seconds = Decimal(len(body)) / AUDIO_BYTES_PER_SECOND if endpoint.operation == "transcription" else None
        tokens = int(seconds * AUDIO_TOKENS_PER_SECOND) if seconds is not None else None
    else:
        fields = _json_fields(body)
        tokens, seconds = measure(fields) if fields else (None, None)
    model = str(fields.get("model") or "")
    if not model and (deployment := _DEPLOYMENT.search(path)):
        model = deployment[1]
    model = models.get(model, model)
    answers = copies = max((_count(fields.get(name)) or 1 for name in endpoint.copies), default=1)
    limit = next((count for name in endpoint.limits if (count := _count(fields.get(name))) is not None), None)
    if endpoint.operation == "text_completion" and isinstance(prompt := fields.get("prompt"), list):
        copies *= _prompts(prompt)
    return Wanted(
        endpoint=endpoint,
        model=model,
        fields=fields,
        stream=fields.get("stream") in {True, "true"},
        service_tier=tier if (tier := str(fields.get("service_tier") or "")) in {"flex", "priority"} else "",
        input_tokens=tokens,
        output_tokens=0 if endpoint.operation == "embeddings" else min(limit * copies, MOST_TOKENS) if limit is not None else None,
        images=(_count(fields.get("n")) or 1) if endpoint.operation == "image_generation" else 0,
        audio_seconds=seconds,
        works_unseen=_works_unseen(endpoint, model, fields),
        speaks=bool(fields.get("audio")) or (isinstance(kinds := fields.get("modalities"), list) and "audio" in kinds),
        answers=answers,
    )


def _works_unseen(endpoint: Endpoint, model: str, fields: dict[str, Any]) -> bool:
    # https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking: what is billed is not what is shown.
    if isinstance(thinking := fields.get("thinking"), dict) and thinking.get("type") != "disabled":
        return True
    if endpoint.dialect != "openai":
        return False
    # https://platform.openai.com/docs/guides/background: it is not ended by its reader.
    return bool(_REASONS.search(model.lower())) or any(bool(fields.get(name)) for name in ("reasoning_effort", "reasoning", "background"))


def with_usage(fields: dict[str, Any]) -> bytes | None:
    """The body of a streamed chat that asks for its usage too; None where it does already.

    Without `stream_options.include_usage` OpenAI's chat streams tell nobody what they used.
    """
    options = fields.get("stream_options")
    options = options if isinstance(options, dict) else {}
    if options.get("include_usage"):
        return None
    return msgspec.json.encode({**fields, "stream_options": {**options, "include_usage": True}})


def _json_fields(body: bytes) -> dict[str, Any]:
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _form_fields(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a form, https://www.rfc-editor.org/rfc/rfc7578. What an uploaded file says is none of them."""
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary("")
    fields: dict[str, Any] = {}
    if not boundary:
        return fields
    parts = re.split(rb"\r\n--" + re.escape(boundary.encode(errors="replace")) + rb"(?=--|[ \t]*\r\n)", b"\r\n" + body)
    for part in parts[1:]:
        if part.startswith(b"--"):
            break
        head, _, value = part.lstrip(b" \t").partition(b"\r\n\r\n")
        named = BytesHeaderParser().parsebytes(head.removeprefix(b"\r\n"))
        name = named.get_param("name", header="content-disposition")
        if name in _FORM_FIELDS and named.get_filename() is None:
            fields[str(name)] = value.decode(errors="replace")
    return fields


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _prompts(prompt: list[Any]) -> int:
    """How many prompts there are: a list of numbers is a single one, given as tokens."""
    return 1 if all(isinstance(part, int) for part in prompt) else len(prompt)
