"""What a service tier costs in terms of the standard price, where a provider publishes that and genai-prices has no figures of its own.

genai-prices states the prices of batch, flex and priority processing model by model, each from the day on which it was verified. This
table fills in where a provider states one relation for all its models. Where neither knows, the price is unknown: a tier is never taken
for the standard one.
"""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

from costwarden.model import to_micros


class Relation(NamedTuple):
    """A published relation between the prices of a tier and the standard ones."""

    provider: str
    """As genai-prices calls it."""
    tier: str
    models: tuple[str, ...]
    """Patterns of genai-prices' model ids."""
    since: date
    """First day, UTC; a new relation is appended with its day."""
    factor: Decimal
    cache: bool
    """Whether what is read from and written to the cache costs the factor too, or what it always does."""
    url: str


_HALF = Decimal("0.5")
_ALL = ("*",)

RELATIONS = (
    # Half the synchronous price; of cached input no batch price is published for most models.
    Relation("openai", "batch", _ALL, date(2024, 4, 15), _HALF, False, "https://platform.openai.com/docs/guides/batch"),
    # The prices of batch, on which the discount of cached input stacks, for the models named there.
    Relation(
        "openai",
        "flex",
        ("o3", "o4-mini", "gpt-5*"),
        date(2025, 4, 17),
        _HALF,
        True,
        "https://platform.openai.com/docs/guides/flex-processing",
    ),
    # Half of what "global standard" costs.
    Relation("azure", "batch", _ALL, date(2024, 10, 1), _HALF, False, "https://learn.microsoft.com/azure/ai-services/openai/how-to/batch"),
    # Half the standard prices; the discounts of caching and batch stack.
    Relation(
        "anthropic", "batch", _ALL, date(2024, 10, 8), _HALF, True, "https://docs.anthropic.com/en/docs/build-with-claude/batch-processing"
    ),
    # Half the standard price; context caching stays at the standard one.
    Relation("google", "batch", ("gemini-*",), date(2025, 7, 7), _HALF, False, "https://ai.google.dev/gemini-api/docs/batch-api"),
    # Half the standard price; priority is published as a range ("75% to 100% more"), so its price stays unknown.
    Relation("google", "flex", ("gemini-*",), date(2026, 4, 2), _HALF, False, "https://ai.google.dev/gemini-api/docs/optimization"),
    # Half the on-demand price; flex ("discounted") and priority ("premium") are published without a figure.
    Relation(
        "aws",
        "batch",
        _ALL,
        date(2024, 8, 19),
        _HALF,
        False,
        "https://docs.aws.amazon.com/bedrock/latest/userguide/capacity-limits-cost-optimization.html",
    ),
    # Half the synchronous price.
    Relation("groq", "batch", _ALL, date(2025, 3, 1), _HALF, False, "https://console.groq.com/docs/batch"),
    # Half the standard price, for every model.
    Relation("mistral", "batch", _ALL, date(2024, 11, 7), _HALF, False, "https://docs.mistral.ai/capabilities/batch/"),
)


def relation(provider: str, model: str, tier: str, at: int) -> Relation | None:
    """The relation in force for `tier` of `model` at the time `at`, microseconds since 1970 UTC; the one listed last holds."""
    for known in reversed(RELATIONS):
        if known.provider != provider or known.tier != tier or at < _start(known.since):
            continue
        if any(fnmatchcase(model, pattern) for pattern in known.models):
            return known
    return None


def _start(day: date) -> int:
    return to_micros(datetime.combine(day, time(), UTC))
