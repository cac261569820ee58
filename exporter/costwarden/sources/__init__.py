"""Where cost comes from: one module a source.

A source is read in *parts* that change as one: a file, an object, a day of an account. It is told which parts the ledger knows and gives
the changes since. Sources know nothing of the ledger, of metrics or of budgets.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Protocol

import msgspec

from costwarden.model import Charge, ProviderBudget, ProviderFigure, RejectedRow, ReportedUsage
from costwarden.settings import Secret
from costwarden.sources.daily import Day
from costwarden.sources.requests import RequestLimitReached, Requests, SourceError
from costwarden.sources.settings import AttributionSettings, ExchangeRates, SourceSettings
from costwarden.sources.windows import Window

__all__ = [
    "SOURCES",
    "Change",
    "Duplicate",
    "Failed",
    "Gone",
    "KnownPart",
    "Read",
    "RequestLimitReached",
    "Requests",
    "Source",
    "SourceError",
    "Stated",
    "Surroundings",
    "Window",
    "open_source",
    "read_of",
]

SOURCES = {
    "focus": "costwarden.sources.focus:FocusSource",
    "aws": "costwarden.sources.aws:AwsSource",
    "gcp": "costwarden.sources.gcp:GcpSource",
    "azure": "costwarden.sources.azure:AzureSource",
    "kubernetes": "costwarden.sources.kubernetes:KubernetesSource",
    "openai": "costwarden.sources.openai:OpenaiSource",
    "anthropic": "costwarden.sources.anthropic:AnthropicSource",
    "bedrock": "costwarden.sources.bedrock:BedrockSource",
    "vertex": "costwarden.sources.vertex:VertexSource",
}
"""`type` in the configuration -> the class that reads it, imported when it is used."""


class KnownPart(msgspec.Struct, frozen=True):
    """What the ledger knows of a part."""

    state: str
    """`ok`, `duplicate` or `failed`."""
    fingerprint: str
    """As the source gave it; empty where the part has never been read whole."""
    figures: str
    """As the source gave them: of the charges that the ledger holds, or of the part that this one is a duplicate of."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A part was read: it replaces all that the part held before."""

    part: str
    fingerprint: str
    """Tells whether the part has changed since; the source's own language."""
    figures: str
    """Digest of all rows; empty where there is none to charge. Two parts with the same one are the same bill twice."""
    rows: int
    """Rows that the charges are the sum of."""
    rounded: int
    """Those of `rows` with a cost that was rounded."""
    rejected: Mapping[str, int]
    """Rows that could not be read, by reason: all of them."""
    rejected_rows: Sequence[RejectedRow]
    """The first of them, with the text."""
    message: str
    """What a person should know about the part; empty where there is nothing."""
    charges: Iterable[Charge]
    """To be read once, before the next change is asked for; ordered by day."""
    usage: Sequence[ReportedUsage] = ()
    """What the provider says was used, beside what it cost."""


class Duplicate(msgspec.Struct, frozen=True, kw_only=True):
    """A part holds the same as another one and is not counted."""

    part: str
    fingerprint: str
    figures: str
    message: str


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A part could not be read; what it held before stays."""

    part: str
    message: str


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """A part is there no more, nor are its charges."""

    part: str


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider states beside its bills; it replaces all that `part` stated before. It is no part of a bill and is never `Gone`."""

    part: str
    figures: Sequence[ProviderFigure] = ()
    budgets: Sequence[ProviderBudget] = ()


Change = Read | Duplicate | Failed | Gone | Stated


class Surroundings(msgspec.Struct, frozen=True):
    """What a source is given beside its settings."""

    reveal: Callable[[Secret], str]
    """The secret itself. Raises an exception whose text says what is missing."""
    requests: Requests
    """What every request is told to, before it is made."""


class Source(Protocol):
    """What reads one bill or many.

    `SOURCES` names the classes; each takes its settings, the attribution rules, the exchange rates and its surroundings.
    """

    def fetch(self, known: Mapping[str, KnownPart], window: Window) -> Iterator[Change]:
        """What has changed since `known`, a part at a time; a part that has not is left out.

        A source that is read by days asks for those of `window` and leaves all others as they are; a source that is read by files
        has no use for it. Raises `SourceError`; then none of the changes given so far may be kept.
        """

    def probe(self) -> Iterator[str]:
        """Make one cheap request, and say in plain words what was found, a sentence at a time.

        Raises `SourceError` where something is missing: which right, key or setting, and how to give it.
        """

    def close(self) -> None:
        """End a fetch that is under way in another thread: it raises `SourceError` soon. There is no other fetch after it."""


def open_source(
    settings: SourceSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings | None = None
) -> Source:
    """The source that `settings` describes. Without `surroundings` it has no secrets, and its requests are only counted."""
    module, name = SOURCES[settings.type].split(":")
    given = surroundings or Surroundings(_no_secret, Requests())
    source: Source = getattr(import_module(module), name)(settings, attribution, rates, given)
    return source


def read_of(day: Day) -> Read:
    """A day of `DailyCosts`, as a change."""
    return Read(**{name: getattr(day, name) for name in Day.__struct_fields__})


def _no_secret(secret: Secret) -> str:
    raise SourceError(f"there is nothing to read {secret.file or secret.env} with")
