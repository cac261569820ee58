"""What the attributes of a span or data point say, in every naming that instrumentations still send.

Current names: https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/registry/attributes/gen-ai.md, whose registry
also deprecates `gen_ai.system`, `gen_ai.usage.prompt_tokens` and `gen_ai.usage.completion_tokens`. OpenLLMetry's own are
`gen_ai.usage.cache_read_input_tokens` and the like (https://github.com/traceloop/openllmetry/issues/3647) and `llm.usage.*`; those of
OpenInference are `llm.token_count.*` (https://arize-ai.github.io/openinference/spec/attributes/semantic-conventions.html).
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from costwarden.metering.consumed import tier
from costwarden.model import Usage

Attributes = Mapping[str, Any]

MOST_TOKENS = 10_000_000_000
"""As much as `/track` takes; beyond any call."""

LONGEST_NAME = 256

INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens", "llm.token_count.completion")
TOTAL = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total")
REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)
CACHE_READ = ("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read")
CACHE_WRITE = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "llm.token_count.prompt_details.cache_write",
)
OLD_CACHE_READ = ("gen_ai.usage.cache_read_input_tokens", "llm.usage.cache_read_input_tokens")
OLD_CACHE_WRITE = (
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
    "llm.usage.cache_creation_input_tokens",
)
AUDIO_IN = ("gen_ai.usage.audio.input_tokens", "llm.token_count.prompt_details.audio")
AUDIO_OUT = ("gen_ai.usage.audio.output_tokens", "llm.token_count.completion_details.audio")

PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.vendor", "llm.system")
REQUEST_MODEL = ("gen_ai.request.model", "llm.request.model", "llm.request.model_name", "llm.model_name")
RESPONSE_MODEL = ("gen_ai.response.model", "llm.response.model", "llm.response.model_name")
TIER = (
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
    "openai.request.service_tier",
    "gen_ai.openai.request.service_tier",
)

_PROVIDERS = {
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "aws": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gen_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
"""Values of `gen_ai.system` and of OpenLLMetry and OpenInference -> the values of `gen_ai.provider.name`."""

EXCLUDING_PROVIDERS = ("anthropic", "aws.bedrock")
"""Whose own `input_tokens` leave the cached ones out: "Anthropic `input_tokens` excludes cached tokens",
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/anthropic.md; Bedrock:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html. All others' include them."""

_ADDS_THEM_UP = ("opentelemetry.instrumentation.",)
"""Instrumentation scopes that used the old names and added Anthropic's cached tokens up all the same: OpenLLMetry for Python, function
`_set_token_usage` of `opentelemetry.instrumentation.anthropic`."""


class Refusal(Exception):
    """A span or data point that cannot be counted. `reason` is from a closed set, fit for a label; the text is for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def attributes_of(pairs: Iterable[Any]) -> dict[str, Any]:
    """OTLP's `KeyValue` messages as a mapping; only texts, numbers and truth values, which is all that is asked for here."""
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind in ("string_value", "int_value", "double_value", "bool_value"):
            found[pair.key] = getattr(pair.value, kind)
    return found


def text(attributes: Attributes, names: Iterable[str]) -> str:
    """The first of `names` that holds a text that is not empty. Raises `Refusal` for one that the ledger would not take."""
    for name in names:
        value = attributes.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            value = str(value)
        if len(value) > LONGEST_NAME:
            raise Refusal("bad_attribute", f"`{name}` is longer than {LONGEST_NAME} characters")
        if "\0" in value:
            raise Refusal("bad_attribute", f"`{name}` holds the character U+0000")
        return value
    return ""


def count(attributes: Attributes, names: Iterable[str]) -> int | None:
    """The first of `names` that is there. Raises `Refusal` for what is not a count."""
    for name in names:
        value = attributes.get(name)
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
            raise Refusal("bad_count", f"`{name}` is {value!r:.100}: a count is a whole number from 0 to {MOST_TOKENS}")
        return value
    return None


def provider_of(attributes: Attributes) -> str:
    """By the values of `gen_ai.provider.name`, whatever the span calls it; empty where it names none."""
    name = text(attributes, PROVIDER).lower()
    return _PROVIDERS.get(name, name)


class Counted(msgspec.Struct):
    """The tokens of a call as `model.Usage` has them."""

    fields: dict[str, int]
    says_something: bool
    """Whether the attributes held any count of input or output tokens at all."""


def tokens_of(attributes: Attributes, provider: str, scope: str, cached_tokens: Mapping[str, str]) -> Counted:
    """The counts, with input tokens that include the cached ones, as current conventions want it and older ones did not.

    `cached_tokens` is the configured exception: "included" or "excluded" by scope or provider. Raises `Refusal`.
    """
    given, output = count(attributes, INPUT), count(attributes, OUTPUT)
    read, write = count(attributes, CACHE_READ), count(attributes, CACHE_WRITE)
    uses_old_names = read is None and write is None
    if uses_old_names:
        read, write = count(attributes, OLD_CACHE_READ), count(attributes, OLD_CACHE_WRITE)
    cached = (read or 0) + (write or 0)
    whole = given or 0
    if cached:
        total = count(attributes, TOTAL)
        adds_up_only_with_cache = total is not None and total == whole + cached + (output or 0)
        if whole < cached or adds_up_only_with_cache or _leaves_cached_out(provider, scope, uses_old_names, cached_tokens):
            whole += cached
    fields = {
        "input_tokens": whole,
        "output_tokens": output or 0,
        "cache_read_tokens": read or 0,
        "cache_write_tokens": write or 0,
        "reasoning_tokens": count(attributes, REASONING) or 0,
        "input_audio_tokens": count(attributes, AUDIO_IN) or 0,
        "output_audio_tokens": count(attributes, AUDIO_OUT) or 0,
    }
    return Counted(fields, given is not None or output is not None)


def _leaves_cached_out(provider: str, scope: str, uses_old_names: bool, cached_tokens: Mapping[str, str]) -> bool:
    """Whether input tokens come without the cached ones, as far as names tell.

    The names with a dot came into the conventions together with the rule that input tokens include cached ones
    (https://github.com/open-telemetry/semantic-conventions/pull/3163). Whoever uses the names before that passes on the provider's count.
    """
    for pattern, answer in cached_tokens.items():
        if fnmatchcase(scope, pattern) or fnmatchcase(provider, pattern):
            return answer == "excluded"
    return uses_old_names and provider in EXCLUDING_PROVIDERS and not scope.startswith(_ADDS_THEM_UP)


def service_tier_of(attributes: Attributes) -> str:
    """`batch`, `flex`, `priority`; empty is the provider's standard."""
    return tier(text(attributes, TIER))


def apply_tokens(usage: Usage, counted: Counted) -> None:
    """Set the counts of `usage`."""
    for name, value in counted.fields.items():
        setattr(usage, name, value)
