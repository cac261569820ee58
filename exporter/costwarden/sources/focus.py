"""FOCUS bills in a folder or an object store: which files have changed, which are copies, and what each of them holds."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from costwarden.model import RejectedRow
from costwarden.sources import Change, Duplicate, Failed, Gone, KnownPart, Read, SourceError, Surroundings, Window
from costwarden.sources.attribution import Attribution, clean
from costwarden.sources.currency import Rates
from costwarden.sources.focus_bill import Reading, Rules, read_csv, read_parquet, whole_rows
from costwarden.sources.focus_columns import UnreadableBill
from costwarden.sources.focus_copies import Copies
from costwarden.sources.focus_lines import DAMAGED
from costwarden.sources.focus_rollup import connect, read_charges
from costwarden.sources.manifests import BILL_SUFFIXES, choose, cut, is_manifest
from costwarden.sources.settings import AttributionSettings, AwsAccess, AzureAccess, ExchangeRates, FocusSettings, GcpAccess
from costwarden.sources.stores import CHANGED, Folder, Item, Store, UnreadableItem

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Raised by one where the same bytes would be read to other charges than before: then every file is read again.
READER_VERSION = 4

# Characters of a sentence about a file: DuckDB's may hold a whole value.
LONGEST_MESSAGE = 1_000


class FocusSource:
    """A part is a file, named by its path below the folder or prefix; or a manifest that something is wrong with."""

    def __init__(self, settings: FocusSettings, attribution: AttributionSettings, rates: ExchangeRates, surroundings: Surroundings) -> None:
        self._settings = settings
        self._rules = Rules(
            attribution=Attribution(attribution),
            rates=Rates(rates),
            default_currency=settings.default_currency,
            keep_rejected_rows=settings.keep_rejected_rows,
        )
        meaning = [settings.default_currency, settings.keep_rejected_rows, READER_VERSION]
        text = repr(meaning) + attribution.model_dump_json() + rates.model_dump_json()
        self._rules_digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._closing = threading.Event()
        self._store = _open_store(settings, surroundings, self._closing)
        self._connections: list[DuckDBPyConnection] = []
        self._connections_lock = threading.Lock()

    def fetch(self, known: Mapping[str, KnownPart], window: Window | None = None) -> Iterator[Change]:  # noqa: ARG002 (a file is read whole)
        """What has changed since `known`.

        Raises `SourceError` where nothing can be listed or no bill is there at all: rather an unmounted disk than no cost.
        """
        items, unnameable = self._list()
        marks = {part: found.fingerprint.rpartition("|")[2] for part, found in known.items() if "|" in found.fingerprint}
        failed = {part for part, found in known.items() if found.state == "failed"}
        deliveries = choose(items, marks, failed, self._store.read)
        parts = dict(sorted(deliveries.bills.items()))
        problems = {**unnameable, **deliveries.failed}
        gone = known.keys() - parts.keys() - deliveries.held - problems.keys()
        yield from (Gone(part=part) for part in sorted(gone))
        yield from (Failed(part=part, message=message) for part, message in sorted(problems.items()))
        fingerprints = {part: self._fingerprint(items[part], mark) for part, mark in parts.items()}
        unchanged = {
            part: known[part]
            for part, fingerprint in fingerprints.items()
            if part in known and known[part].state != "failed" and known[part].fingerprint == fingerprint
        }
        changed = [part for part in parts if part not in unchanged]
        held = {part: known[part] for part in deliveries.held & known.keys()}
        copies = Copies({**unchanged, **held}, lambda part: self._whole_rows(items.get(part)))
        # Known ones first: one that cannot be read keeps its charges, of which a new one may be a copy. Copies last: whether they still
        # are some shows when all that is counted is known; where all is as it was, they are.
        again = sorted(part for part in unchanged if unchanged[part].state == "duplicate") if changed or gone else []
        for part in [*sorted(changed, key=lambda part: part not in known), *again]:
            if part in unchanged and copies.original_of(part, unchanged[part].figures):
                continue
            self._check_open()
            for change in self._read(part, items[part], fingerprints[part], copies):
                yield change
                if isinstance(change, Read):
                    copies.count(part, change.figures)
                elif isinstance(change, Failed) and part in known:
                    copies.count(part, known[part].figures)

    def probe(self) -> Iterator[str]:
        """List once."""
        items, unnameable = self._list()
        bills = sum(not is_manifest(path) for path in items)
        yield f"{self._store.place}: holds {bills} files that may be bills, {sum(item.size for item in items.values()):,} bytes"
        if manifests := len(items) - bills:
            yield f"{manifests} manifests say which of them count"
        yield from unnameable.values()

    def close(self) -> None:
        """Stop the query that runs, and wait for no object store."""
        self._closing.set()
        # One that was closed meanwhile would raise.
        with self._connections_lock:
            for connection in self._connections:
                connection.interrupt()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise SourceError("closed while it was being read") from None

    def _list(self) -> tuple[dict[str, Item], dict[str, str]]:
        """Bills and manifests, by path; and of those whose path is no text, what to do about it, by the path with its odd bytes escaped."""
        found: dict[str, Item] = {}
        unnameable: dict[str, str] = {}
        for item in self._store.list():
            if not (item.path.lower().endswith(BILL_SUFFIXES) or is_manifest(item.path)):
                continue
            if clean(item.path) == item.path:
                found[item.path] = item
            else:
                name = item.path.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
                unnameable[name] = f"{name}: has a name that is not UTF-8 text; rename it"
        if all(map(is_manifest, found)):
            raise SourceError(f"{self._store.place}: holds no {', '.join(f'*{suffix}' for suffix in BILL_SUFFIXES)}")
        return found, unnameable

    def _fingerprint(self, item: Item, mark: str) -> str:
        return f"{item.version}|{self._rules_digest}" + (f"|{mark}" if mark else "|")

    def _read(self, part: str, item: Item, fingerprint: str, copies: Copies) -> Iterator[Change]:
        """One change; its charges can be read until the next is asked for."""
        import duckdb

        unreadable: tuple[type[Exception], ...] = (UnreadableBill, UnreadableItem, duckdb.Error, OSError, *DAMAGED)
        bill = ""
        try:
            with self._opened(item) as (connection, path):
                bill = str(path)
                reading = self._reading(connection, path)
                self._check_open()
                if not self._store.is_current(item):
                    raise UnreadableItem(CHANGED)
                yield self._change(connection, part, fingerprint, reading, copies)
        except unreadable as error:
            self._check_open()
            yield Failed(part=part, message=f"{part}: {cut(_first_line(error).replace(bill or part, part), LONGEST_MESSAGE)}")

    def _reading(self, connection: DuckDBPyConnection, path: Path) -> Reading:
        if path.suffix == ".parquet":
            return read_parquet(connection, path, self._rules)
        return read_csv(connection, path, self._rules, self._check_open)

    def _change(self, connection: DuckDBPyConnection, part: str, fingerprint: str, reading: Reading, copies: Copies) -> Change:
        figures = reading.figures
        if copies.needs_whole_rows(figures):
            figures = f"{figures}/{reading.whole_rows()}"
        if original := copies.original_of(part, figures):
            message = f"{part}: has the same charges as {original} and is not counted"
            return Duplicate(part=part, fingerprint=fingerprint, figures=figures, message=message)
        return Read(
            part=part,
            fingerprint=fingerprint,
            figures=figures,
            rows=reading.summary.rows,
            rounded=reading.summary.rounded,
            rejected=reading.rejected,
            rejected_rows=[
                RejectedRow(
                    source=self._settings.name,
                    part=part,
                    line=row.line,
                    reason=row.reason,
                    detail=row.detail,
                    content=row.content,
                )
                for row in reading.unreadable
            ],
            message="; ".join(reading.notes),
            charges=read_charges(connection, self._settings.name, part, self._rules.rates),
        )

    def _whole_rows(self, item: Item | None) -> str:
        """Of a part that was not read in this fetch; empty where that cannot be done any more."""
        import duckdb

        if item is None or not item.path.lower().endswith(".parquet"):
            return ""
        try:
            with self._opened(item) as (connection, path):
                found = whole_rows(connection, path, self._rules)
            return found if self._store.is_current(item) else ""
        except (UnreadableBill, UnreadableItem, duckdb.Error, OSError):
            self._check_open()
            return ""

    @contextmanager
    def _opened(self, item: Item) -> Iterator[tuple[DuckDBPyConnection, Path]]:
        """An empty database and the content of `item`, in a folder that is gone afterwards."""
        with TemporaryDirectory(prefix="costwarden-") as scratch:
            path = Path(scratch, "bill" + next(suffix for suffix in BILL_SUFFIXES if item.path.lower().endswith(suffix)))
            self._store.fetch(item, path)
            with closing(connect(Path(scratch), self._settings.threads, self._settings.memory_mebibytes)) as connection:
                with self._connections_lock:
                    self._connections.append(connection)
                try:
                    yield connection, path
                finally:
                    with self._connections_lock:
                        self._connections.remove(connection)


def _open_store(settings: FocusSettings, surroundings: Surroundings, closing: threading.Event) -> Store:
    if settings.path is not None:
        return Folder(settings.path)
    # Their libraries take long to import.
    from costwarden.sources.object_stores import AzureContainer, GcsPrefix, S3Prefix

    assert settings.url is not None, "FocusSettings sees to it"
    requests = surroundings.requests
    if settings.scheme == "s3":
        return S3Prefix(settings.url, settings.aws or AwsAccess(), requests, closing)
    if settings.scheme == "gs":
        return GcsPrefix(settings.url, settings.gcp or GcpAccess(), requests, closing)
    return AzureContainer(settings.url, settings.azure or AzureAccess(), surroundings.reveal, requests, closing)


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)
