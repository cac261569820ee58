"""The section `reconciliation`: which charges of which bills pay for which metered usage, and which days are compared."""

from fnmatch import fnmatchcase
from itertools import combinations
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
    source: Annotated[str, StringConstraints(max_length=256)] = ""
    """Only charges of this source, by its name: for a provider whose bill several sources have. Empty takes those of all sources."""

    def is_in(self, source: str, provider: str) -> bool:
        """Whether its charges are among those that `source` has of the cloud's or vendor's name `provider`."""
        return self.provider == provider and self.source in ("", source)

    def overlaps(self, other: Self) -> bool:
        """Whether one service could be a charge of both: the same pattern, or one that the other's matches."""
        if not self.is_in(other.source or self.source, other.provider):
            return False
        pairs = [(mine.casefold(), its.casefold()) for mine in self.services for its in other.services]
        return any(fnmatchcase(mine, its) or fnmatchcase(its, mine) for mine, its in pairs)


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
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"`providers`: the provider `{name}` is given twice")
        # Usage finds its provider in any case. Usage of two providers, and a charge of two, would count twice.
        folded = [name.casefold() for name in usage]
        for name in usage:
            if folded.count(name.casefold()) > 1:
                raise ValueError(f"`providers`: the usage provider `{name}` is given twice")
        for one, other in combinations(self.providers, 2):
            for bill in one.bills:
                if any(bill.overlaps(its) for its in other.bills):
                    raise ValueError(
                        f"`providers`: `{one.provider}` and `{other.provider}` take the same services of the bill of `{bill.provider}`"
                    )
        return self
