"""One refresh of one source: what has changed is staged a batch at a time, then put in force in one transaction."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import structlog

from costwarden.ledger import Connection, Ledger, LedgerUnavailable
from costwarden.ledger.bulk import storable
from costwarden.ledger.charges import (
    Part,
    Refresh,
    charge_row,
    clear_staged,
    mark_failed,
    overlaps,
    read_parts,
    record_refresh,
    remove_part,
    replace_part,
    stage_charges,
)
from costwarden.ledger.providers import add_reported_usage, replace_stated
from costwarden.ledger.reading import claim_source, holds_source, release_source, renew_source
from costwarden.model import MICROS_PER_SECOND, from_micros
from costwarden.sources import Change, Failed, Gone, KnownPart, Read, Source, SourceError, Stated, Window
from costwarden.sources.windows import usual_window
from costwarden.sync.reading import Reading

# Charges a transaction: about 10 ms, the time by which a budget check may have to wait for a bill.
BATCH = 500
CLEAR_BATCH = 5_000

CLAIM_SECONDS = 600
"""How long a source stays claimed by a reader that died; a living one claims it again and again."""

SERVER = "server"
"""The reader that there is one of: it takes over what a server before it has claimed."""

MOST_PARTS_LOGGED = 20

LONGEST_FAILURE = 1_000
"""Characters of what a fault of ours says of itself."""

OVERTAKEN = "another process has begun to read it; this refresh took too long and was given up"

T = TypeVar("T")

log = structlog.get_logger(__name__)


class BeingRead(Exception):
    """Another process reads the source right now: the server, or `costwarden source backfill`."""


def refresh(
    ledger: Ledger,
    name: str,
    reading: Reading,
    now: Callable[[], int],
    *,
    window: Window | None = None,
    reader: str = SERVER,
    rejected_again: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Refresh:
    """Read what has changed in a source and put it in force, in one transaction; one refresh of a source at a time.

    `window` is None for a source that is read by files; the server alone logs. With `rejected_again`, days of which a row was rejected
    count as not known. What the source raises becomes the `failure` of the answer, and all figures stay as they were. Raises
    `BeingRead` and `LedgerUnavailable`.
    """
    began, free = now(), reading.free_requests
    # A name of its own: a refresh that was given up and goes on in its thread must find that the source is no longer its to write.
    me = f"{reader}/{uuid4()}"
    ended_before = f"{SERVER}/" if reader == SERVER else ""
    claim = partial(claim_source, source=name, reader=me, now=now(), until=_claim_end(now), takes_over=ended_before)
    if not ledger.write(claim):
        raise BeingRead(f"{name}: another process reads it; try again in a moment")

    def outcome(failure: str = "") -> Refresh:
        duration = (now() - began) / MICROS_PER_SECOND
        return Refresh(at=began, duration_seconds=duration, failure=failure, requests=reading.free_requests - free)

    def note(attempt: Refresh) -> Refresh:
        def record(connection: Connection) -> None:
            if holds_source(connection, name, me):
                record_refresh(connection, name, attempt)
                release_source(connection, name, me)

        if not cancelled():
            ledger.write(record)
        return attempt

    def publish(connection: Connection) -> Refresh:
        if not holds_source(connection, name, me):
            raise SourceError(OVERTAKEN)
        succeeded = outcome()
        changes.publish(connection, name, succeeded)
        release_source(connection, name, me)
        return succeeded

    try:
        changes = _gather(ledger, name, me, reading.source, window, now, cancelled, rejected_again=rejected_again)
        if cancelled():
            return outcome("ended while it was being read")
        published = ledger.write(publish)
        if reader == SERVER:
            changes.report(name)
        _clear(ledger, name)
        return published
    except SourceError as error:
        failed = outcome(str(error))
        if reader == SERVER:
            log.warning("source not read; its figures stay", source=name, error=failed.failure)
    except LedgerUnavailable:
        raise
    except Exception as error:
        # What a database says quotes the rows that it was given; its driver's own words do.
        cause = getattr(error, "orig", None) or error
        failed = outcome(f"{type(cause).__name__}: {cause}"[:LONGEST_FAILURE])
        log.exception("source raised; its figures stay", source=name)
    return note(failed)


def _claim_end(now: Callable[[], int]) -> int:
    return now() + CLAIM_SECONDS * MICROS_PER_SECOND


def _gather(
    ledger: Ledger,
    name: str,
    me: str,
    source: Source,
    window: Window | None,
    now: Callable[[], int],
    cancelled: Callable[[], bool],
    *,
    rejected_again: bool,
) -> "_Changes":
    """What has changed, its charges staged by the reader `me`."""

    def stage(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
        # Rows of a reader that was overtaken would mix with those of the one that overtook it.
        if not holds_source(connection, name, me):
            raise SourceError(OVERTAKEN)
        stage_charges(connection, rows)

    _clear(ledger, name)
    with ledger.read() as connection:
        known = {
            part.part: KnownPart(part.state, part.fingerprint, part.figures)
            for _, part in read_parts(connection, name)
            if not (rejected_again and part.rejected)
        }
    changes = _Changes()
    claimed_at = now()
    for change in source.fetch(known, window or usual_window(from_micros(now()).date(), 0, 0)):
        if now() - claimed_at > CLAIM_SECONDS * MICROS_PER_SECOND // 4:
            claimed_at = now()
            if not ledger.write(partial(renew_source, source=name, reader=me, until=_claim_end(now))):
                raise SourceError(OVERTAKEN)
        changes.add(change, now())
        if isinstance(change, Read):
            for rows in _batches(map(charge_row, change.charges), BATCH):
                if cancelled():
                    raise SourceError("ended while it was being read")
                ledger.write(partial(stage, rows=rows))
    if changes.read and window is None:
        with ledger.read() as connection:
            changes.annotate(overlaps(connection, name, changes.replaced()))
    return changes


def _clear(ledger: Ledger, name: str) -> None:
    while ledger.write(partial(clear_staged, source=name, limit=CLEAR_BATCH)) == CLEAR_BATCH:
        pass


class _Changes:
    """What a refresh has found, to be put in force together."""

    def __init__(self) -> None:
        self.read: list[tuple[Part, Read | None]] = []
        self._failed: list[tuple[Failed, int]] = []
        self._gone: list[str] = []
        self._stated: list[Stated] = []

    def add(self, change: Change, at: int) -> None:
        if isinstance(change, Gone):
            self._gone.append(storable(change.part))
        elif isinstance(change, Failed):
            self._failed.append((msgspec.structs.replace(change, part=storable(change.part)), at))
        elif isinstance(change, Stated):
            self._stated.append(change)
        else:
            read = change if isinstance(change, Read) else None
            part = Part(
                part=storable(change.part),
                state="ok" if read else "duplicate",
                fingerprint=change.fingerprint,
                figures=change.figures,
                message=change.message,
                rows=read.rows if read else 0,
                rounded=read.rounded if read else 0,
                read_at=at,
            )
            # The charges hold on to the source's database; they are staged by now or will be at once.
            self.read.append((part, msgspec.structs.replace(read, charges=()) if read else None))

    def replaced(self) -> list[str]:
        """The parts whose charges in force go."""
        return [*self._gone, *(part.part for part, _ in self.read)]

    def annotate(self, messages: dict[str, str]) -> None:
        self.read = [
            (msgspec.structs.replace(part, message="; ".join(filter(None, (part.message, messages.get(part.part))))), read)
            for part, read in self.read
        ]

    def publish(self, connection: Connection, source: str, refresh: Refresh) -> None:
        for name in self._gone:
            remove_part(connection, source, name)
        for part, read in self.read:
            replace_part(connection, source, part, read.rejected if read else {}, read.rejected_rows if read else ())
            if read:
                add_reported_usage(connection, read.usage)
        for failed, at in self._failed:
            mark_failed(connection, source, failed.part, failed.message, at)
        for stated in self._stated:
            replace_stated(connection, source, stated.part, stated.figures, stated.budgets)
        record_refresh(connection, source, refresh)

    def report(self, source: str) -> None:
        for failed, _ in self._failed:
            log.warning("part not read; its figures stay", source=source, error=failed.message)
        if len(self.read) <= MOST_PARTS_LOGGED:
            for part, read in self.read:
                rejected = dict(read.rejected) if read else {}
                # A scrape may see its figures before this line is written.
                read_at = from_micros(part.read_at).isoformat()
                log.info("part read", source=source, part=part.part, rows=part.rows, rejected=rejected, note=part.message, read_at=read_at)
        else:
            # A source that is read by days has hundreds of parts; `costwarden rejected` lists what there is to say of them.
            rows, notes = sum(part.rows for part, _ in self.read), sum(1 for part, _ in self.read if part.message)
            rejected_rows = sum(sum(read.rejected.values()) for _, read in self.read if read)
            log.info("parts read", source=source, parts=len(self.read), rows=rows, rejected_rows=rejected_rows, notes=notes)
        if self._gone:
            log.info("parts gone", source=source, parts=self._gone)


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(items, size)):
        yield batch
