"""The section `reconciliation`: which charges of which bills pay for which metered usage, and which days are compared."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from costwarden.settings import Settings

_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]

ChargeCategory = Literal["Usage", "Purchase", "Tax", "Credit", "Adjustment"]
"""https://focus.finops.org/focus-specification/v1-2/#chargecategory"""


class Bill(Settings):
    """Charges of a bill that pay for AI calls."""

    provider: _Name
    """As the bill's metrics name it: `openai`, `anthropic`, `aws`, `gcp`, `azure`, …"""
    services: Annotated[tuple[_Name, ...], Field(min_length=1)] = ("*",)
    """Service names, as shell patterns; upper and lower case are the same."""


class ReconciledProvider(Settings):
    """A provider whose metered usage is compared with its bill."""

    provider: _Name
    """The `provider` label of the metrics and the name in `costwarden reconcile`."""
    usage_providers: Annotated[tuple[_Name, ...], Field(min_length=1)]
    """What usage events and reported usage call it; corrections are recorded under the first one."""
    models: tuple[_Name, ...] = ()
    """Models, as shell patterns, whose usage is meant where it names no provider."""
    bills: Annotated[tuple[Bill, ...], Field(min_length=1)]
    """Where its bill is found."""


# Names of usage: `gen_ai.provider.name` of OpenTelemetry (https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/), and
# those of genai-prices and of older instrumentations. Names of services: the bills' own. Bedrock's third-party models are sold through
# the AWS Marketplace, each as a service `Claude … (Amazon Bedrock Edition)`; beside them stands `Amazon Bedrock`.
_PROVIDERS = (
    ReconciledProvider(
        provider="openai",
        usage_providers=("openai",),
        models=(
            # Not `gpt-oss`, which others sell.
            *("gpt-[0-9]*", "gpt-audio*", "gpt-image-*", "gpt-realtime*", "chatgpt-*", "o1*", "o3*", "o4*", "ft:gpt-*"),
            *("text-embedding-3*", "text-embedding-ada*", "dall-e-*", "whisper-*", "tts-*", "codex-*", "computer-use-*", "omni-*"),
        ),
        bills=(Bill(provider="openai"),),
    ),
    ReconciledProvider(provider="anthropic", usage_providers=("anthropic",), models=("claude-*",), bills=(Bill(provider="anthropic"),)),
    ReconciledProvider(
        provider="aws-bedrock",
        usage_providers=("aws.bedrock", "aws-bedrock", "aws", "bedrock"),
        models=(
            *("amazon.*", "anthropic.*", "meta.*", "mistral.*", "cohere.*", "ai21.*", "stability.*", "deepseek.*"),
            *("us.*", "eu.*", "apac.*", "global.*", "arn:aws:bedrock:*"),
        ),
        bills=(Bill(provider="aws", services=("*bedrock*",)),),
    ),
    ReconciledProvider(
        provider="google",
        usage_providers=("gcp.vertex_ai", "gcp.gemini", "gcp.gen_ai", "google", "google-vertex", "vertex_ai", "vertex", "gemini"),
        models=("gemini-*", "imagen-*", "veo-*", "models/gemini-*"),
        bills=(Bill(provider="gcp", services=("Vertex AI", "Vertex AI API", "Gemini API", "Generative Language API", "Claude *")),),
    ),
)


class ReconciliationSettings(Settings):
    """How metered spend is compared with bills."""

    lag_days: int = Field(default=2, ge=1, le=60)
    """Age in days (UTC) from which a day is compared: 2 is the day before yesterday. Its bill must have been read at that age or later."""
    window_days: int = Field(default=7, ge=1, le=400)
    """Days that the metrics sum over, the newest one `lag_days` old; the command's default too."""
    cost_basis: Literal["billed_cost", "effective_cost", "list_cost", "contracted_cost"] = "billed_cost"
    """Which cost of the bill is compared."""
    not_compared: tuple[ChargeCategory, ...] = ("Credit", "Tax")
    """Categories of charges that no call pays for: shown, and left out of the comparison."""
    allow_rejected_rows: bool = False
    """Whether days are compared although rows of their bill could not be read, which may be rows of AI calls."""
    providers: tuple[ReconciledProvider, ...] = _PROVIDERS
    """Which bills pay for which usage; a list given here takes the place of the whole one that is built in."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [entry.provider for entry in self.providers]
        usage = [name for entry in self.providers for name in entry.usage_providers]
        for what, found in (("provider", names), ("usage provider", usage)):
            for name in found:
                if found.count(name) > 1:
                    # Its usage, or its bill, would count twice.
                    raise ValueError(f"`providers`: the {what} `{name}` is given twice")
        return self
