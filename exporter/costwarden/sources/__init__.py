"""Where cost comes from: one module a source.

A source is read in *parts* that change as one: a file, an object, an answer. It is told which parts the ledger knows and gives the
changes since. Sources know nothing of the ledger, of metrics or of budgets.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import ClassVar, Protocol

import msgspec

from costwarden.model import Charge, RejectedRow
from costwarden.sources.settings import AttributionSettings, ExchangeRates, SourceSettings

__all__ = [
    "SOURCES",
    "Change",
    "Duplicate",
    "Failed",
    "Gone",
    "KnownPart",
    "Read",
    "Source",
    "SourceError",
    "open_source",
]

SOURCES = {
    "focus": "costwarden.sources.focus:FocusSource",
}
"""`type` in the configuration -> the class that reads it, imported when it is used."""


class SourceError(Exception):
    """A source could not be read at all; what was read before stays as it is. The message says what failed and where."""


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


Change = Read | Duplicate | Failed | Gone


class Source(Protocol):
    """What reads one bill or many. `SOURCES` names the classes; each takes its settings, the attribution rules and the exchange rates."""

    request_cost: ClassVar[int]
    """Nano-dollars that the provider takes for a request."""
    requests: int
    """Requests made since the source was opened."""

    def fetch(self, known: Mapping[str, KnownPart]) -> Iterator[Change]:
        """What has changed since `known`, a part at a time; a part that has not is left out.

        Raises `SourceError`; then none of the changes given so far may be kept.
        """

    def close(self) -> None:
        """End a fetch that is under way in another thread: it raises `SourceError` soon. There is no other fetch after it."""


def open_source(settings: SourceSettings, attribution: AttributionSettings, rates: ExchangeRates) -> Source:
    """The source that `settings` describes."""
    module, name = SOURCES[settings.type].split(":")
    source: Source = getattr(import_module(module), name)(settings, attribution, rates)
    return source
