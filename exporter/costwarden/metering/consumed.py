"""What one call consumed, in the counts of `model.Usage` whatever the provider calls them."""

from collections.abc import Mapping
from typing import Any

import msgspec


class UnknownResponse(ValueError):
    """A body that is no response of a known shape, or whose counts are no counts."""


class Consumed(msgspec.Struct, kw_only=True):
    """The quantities of one answer and what it says about itself; what it does not say is empty or 0.

    `input_tokens` includes the cached ones and `output_tokens` the reasoning ones, as in `model.Usage`, though Anthropic and Bedrock
    report them apart.
    """

    provider: str = ""
    """By OpenTelemetry's `gen_ai.provider.name`. Empty where the shape is one that many providers speak and the model is not telling."""
    model: str = ""
    """The model that answered. Bedrock's Converse and transcriptions do not name it: the request does."""
    operation: str = ""
    """By OpenTelemetry's `gen_ai.operation.name` where it has one: `chat`, `text_completion`, `embeddings`, `generate_content`; else
    `image_generation`, `transcription`, `speech`."""
    response_id: str = ""
    service_tier: str = ""
    """What served the call: `batch`, `flex`, `priority`, …; empty is the provider's standard."""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    images: int = 0
    """Images made."""
    audio_milliseconds: int = 0


def count(fields: Mapping[str, Any], *names: str) -> int:
    """The count under the first of `names` that is there and not null, else 0. Raises `UnknownResponse` for what is not a count."""
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UnknownResponse(f"`{name}` is {value!r:.100}: a count is a whole number of at least 0")
        return value
    return 0


_NOTHING: Mapping[str, Any] = {}


def mapping(fields: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The object under the first of `names` that is one, else an empty one."""
    for name in names:
        value = fields.get(name)
        # The type first: asking whether something is a `Mapping` takes ten times as long, and decoded JSON is a dict.
        if type(value) is dict or isinstance(value, Mapping):
            return value
    return _NOTHING


def items(fields: Mapping[str, Any], name: str) -> list[Any]:
    """The list under `name`, else an empty one."""
    value = fields.get(name)
    return value if isinstance(value, list) else []


def text(fields: Mapping[str, Any], name: str) -> str:
    """The text under `name`, else an empty one."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


_STANDARD = {"", "auto", "default", "standard", "unspecified", "on_demand", "traffic_type_unspecified"}


def tier(name: str) -> str:
    """The service tier of `model.Usage` for a provider's `name` of it.

    Names: `service_tier` of OpenAI (`default`, `flex`, `priority`; a request's `fast` is answered as `priority`) and Anthropic
    (`standard`, `priority`, `batch`), `serviceTier.type` of Bedrock, `trafficType` of Vertex AI (`ON_DEMAND_PRIORITY`).
    """
    lowered = name.lower().removeprefix("service_tier_")
    return "" if lowered in _STANDARD else lowered.removeprefix("on_demand_")
