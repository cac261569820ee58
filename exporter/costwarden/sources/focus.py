"""FOCUS bills in a folder: which files have changed, which are copies, and what each of them holds."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

from costwarden.model import RejectedRow
from costwarden.sources import Change, Duplicate, Failed, Gone, KnownPart, Read, SourceError
from costwarden.sources.attribution import Attribution
from costwarden.sources.currency import Rates
from costwarden.sources.focus_bill import Reading, Rules, read_csv, read_parquet
from costwarden.sources.focus_columns import UnreadableBill
from costwarden.sources.focus_lines import DAMAGED
from costwarden.sources.focus_rollup import connect, read_charges
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SUFFIXES = (".csv", ".csv.gz", ".parquet")

# Raised by one where the same bytes would be read to other charges than before: then every file is read again.
READER_VERSION = 2

# Characters of a rejected row that are kept.
LONGEST_CONTENT = 2_000


class FocusSource:
    """A folder of FOCUS files; a part is a file, named by its path below the folder."""

    request_cost: ClassVar[int] = 0
    requests = 0

    def __init__(self, settings: FocusSettings, attribution: AttributionSettings, rates: ExchangeRates) -> None:
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
        self._connection: DuckDBPyConnection | None = None

    def fetch(self, known: Mapping[str, KnownPart]) -> Iterator[Change]:
        """What has changed in the folder since `known`.

        Raises `SourceError` where the folder cannot be listed or holds no bill at all: rather an unmounted disk than no cost.
        """
        paths = self._list()
        yield from (Gone(part=part) for part in sorted(known.keys() - paths.keys()))
        fingerprints = {part: self._fingerprint(path) for part, path in paths.items()}
        unchanged = {
            part: known[part]
            for part, fingerprint in fingerprints.items()
            if part in known and known[part].state != "failed" and known[part].fingerprint == fingerprint
        }
        counted = {found.figures: part for part, found in unchanged.items() if found.state == "ok" and found.figures}
        copies = {part for part, found in unchanged.items() if found.state == "duplicate"}
        changed = [part for part in paths if part not in unchanged]
        # Known ones first: one that cannot be read keeps its charges, of which a new one may be a copy. Copies last: whether they still
        # are some shows when all that is counted is known.
        for part in [*sorted(changed, key=lambda part: part not in known), *sorted(copies)]:
            if part in copies and unchanged[part].figures in counted:
                continue
            self._check_open()
            for change in self._read(part, paths[part], fingerprints[part], counted):
                yield change
                if isinstance(change, Read) and change.figures:
                    counted.setdefault(change.figures, part)
                elif isinstance(change, Failed) and part in known and known[part].figures:
                    counted.setdefault(known[part].figures, part)

    def close(self) -> None:
        """Stop the query that runs."""
        self._closing.set()
        if (connection := self._connection) is not None:
            connection.interrupt()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise SourceError("closed while it was being read") from None

    def _list(self) -> dict[str, Path]:
        """The files, by part, in order of their names."""
        root = self._settings.path
        found: dict[str, Path] = {}
        try:
            for folder, names, files in os.walk(root, onerror=_raise):
                names[:] = [name for name in names if not name.startswith(".")]
                for name in files:
                    if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                        path = Path(folder, name)
                        found[path.relative_to(root).as_posix()] = path
        except OSError as error:
            raise SourceError(f"{error.filename}: {error.strerror}") from None
        if not found:
            raise SourceError(f"{root}: holds no {', '.join(f'*{suffix}' for suffix in SUFFIXES)}")
        return dict(sorted(found.items()))

    def _fingerprint(self, path: Path) -> str:
        try:
            status = path.stat()
        except OSError:
            return ""
        # A file that was put in the place of another may have its size and its time, but hardly its inode and never its time of change.
        return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}:{status.st_ctime_ns}:{self._rules_digest}"

    def _read(self, part: str, path: Path, fingerprint: str, counted: Mapping[str, str]) -> Iterator[Change]:
        """One change; its charges can be read until the next is asked for."""
        import duckdb

        unreadable: tuple[type[Exception], ...] = (UnreadableBill, duckdb.Error, OSError, *DAMAGED)
        scratch = ""
        try:
            with TemporaryDirectory(prefix="costwarden-") as scratch, self._open(Path(scratch)) as connection:
                reading = self._roll_up(connection, path, Path(scratch))
                self._check_open()
                if self._fingerprint(path) != fingerprint:
                    yield Failed(part=part, message=f"{part}: changed while it was being read; the next refresh tries again")
                    return
                yield self._change(connection, part, fingerprint, reading, counted)
        except unreadable as error:
            self._check_open()
            sentence = _first_line(error).replace(f"{scratch}/{_link_name(path)}", part)
            yield Failed(part=part, message=f"{part}: {sentence}")

    def _change(self, connection: DuckDBPyConnection, part: str, fingerprint: str, reading: Reading, counted: Mapping[str, str]) -> Change:
        summary = reading.summary
        if original := counted.get(summary.figures):
            message = f"{part}: has the same charges as {original} and is not counted"
            return Duplicate(part=part, fingerprint=fingerprint, figures=summary.figures, message=message)
        return Read(
            part=part,
            fingerprint=fingerprint,
            figures=summary.figures,
            rows=summary.rows,
            rounded=summary.rounded,
            rejected=reading.rejected,
            rejected_rows=[
                RejectedRow(
                    source=self._settings.name,
                    part=part,
                    line=row.line,
                    reason=row.reason,
                    detail=row.detail,
                    content=row.content[:LONGEST_CONTENT],
                )
                for row in reading.unreadable
            ],
            message="; ".join(reading.notes),
            charges=read_charges(connection, self._settings.name, part, self._rules.rates),
        )

    def _roll_up(self, connection: DuckDBPyConnection, path: Path, scratch: Path) -> Reading:
        if not stat.S_ISREG(path.stat().st_mode):
            # To open a named pipe is to wait for its writer.
            raise UnreadableBill("is not a regular file")
        # DuckDB takes `*` and `[` in a name for a pattern and `year=2026` in a path for a column: it gets a name of ours.
        link = scratch / _link_name(path)
        link.symlink_to(path.resolve())
        if link.suffix == ".parquet":
            return read_parquet(connection, link, self._rules)
        return read_csv(connection, link, scratch, self._rules)

    @contextmanager
    def _open(self, scratch: Path) -> Iterator[DuckDBPyConnection]:
        with closing(connect(scratch, self._settings.threads, self._settings.memory_mebibytes)) as connection:
            self._connection = connection
            try:
                yield connection
            finally:
                self._connection = None


def _raise(error: OSError) -> None:
    raise error


def _link_name(path: Path) -> str:
    return "bill" + next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix))


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)
