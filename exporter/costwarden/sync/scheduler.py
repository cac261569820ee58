"""Runs the sources on schedule: each in a thread of its own, so that one that hangs or fails leaves the others alone."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TypeVar

import msgspec
import structlog

from costwarden.ledger import Connection, Ledger, LedgerUnavailable
from costwarden.ledger.charges import (
    Part,
    Refresh,
    charge_row,
    clear_staged,
    forget_sources,
    mark_failed,
    overlaps,
    read_parts,
    record_refresh,
    remove_part,
    replace_part,
    stage_charges,
)
from costwarden.model import MICROS_PER_SECOND
from costwarden.sources import Change, Failed, Gone, KnownPart, Read, Source, SourceError, open_source
from costwarden.sources.settings import AttributionSettings, ExchangeRates, SourceSettings

# Charges a transaction: about 10 ms, the time by which a budget check may have to wait for a bill.
BATCH = 500
CLEAR_BATCH = 5_000

# A source that failed is tried again after this, then twice this, and so on up to its interval.
FIRST_RETRY_SECONDS = 30.0

# What stop() waits for threads before it leaves them behind; they are daemons and write nothing any more.
STOP_SECONDS = 5.0

T = TypeVar("T")

Wait = Callable[[threading.Event, float], bool]
"""Waits for an event, or for so many seconds."""

log = structlog.get_logger(__name__)


def refresh(ledger: Ledger, name: str, source: Source, now: Callable[[], int], cancelled: Callable[[], bool] = lambda: False) -> Refresh:
    """Read what has changed in `source` and put it in force, in one transaction; one refresh of a source at a time.

    What the source raises becomes the `failure` of the answer, and all figures stay as they were. Raises `LedgerUnavailable`.
    """
    began, requests = now(), source.requests

    def outcome(failure: str = "") -> Refresh:
        made = source.requests - requests
        duration = (now() - began) / MICROS_PER_SECOND
        return Refresh(at=began, duration_seconds=duration, failure=failure, requests=made, request_cost=made * source.request_cost)

    try:
        changes = _gather(ledger, name, source, now, cancelled)
        succeeded = outcome()
        if not cancelled():
            ledger.write(partial(changes.publish, source=name, refresh=succeeded))
            changes.report(name)
            _clear(ledger, name)
        return succeeded
    except SourceError as error:
        failed = outcome(str(error))
        log.warning("source not read; its figures stay", source=name, error=failed.failure)
    except LedgerUnavailable:
        raise
    except Exception as error:
        failed = outcome(f"{type(error).__name__}: {error}")
        log.exception("source raised; its figures stay", source=name)
    if not cancelled():
        ledger.write(partial(record_refresh, source=name, refresh=failed))
    return failed


def _gather(ledger: Ledger, name: str, source: Source, now: Callable[[], int], cancelled: Callable[[], bool]) -> "_Changes":
    """What has changed, its charges staged."""
    _clear(ledger, name)
    with ledger.read() as connection:
        known = {part.part: KnownPart(part.state, part.fingerprint, part.figures) for _, part in read_parts(connection, name)}
    changes = _Changes()
    for change in source.fetch(known):
        changes.add(change, now())
        if isinstance(change, Read):
            for rows in _batches(map(charge_row, change.charges), BATCH):
                if cancelled():
                    raise SourceError("ended while it was being read")
                ledger.write(partial(stage_charges, rows=rows))
    if changes.read:
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

    def add(self, change: Change, at: int) -> None:
        if isinstance(change, Gone):
            self._gone.append(change.part)
        elif isinstance(change, Failed):
            self._failed.append((change, at))
        else:
            read = change if isinstance(change, Read) else None
            part = Part(
                part=change.part,
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
        for failed, at in self._failed:
            mark_failed(connection, source, failed.part, failed.message, at)
        record_refresh(connection, source, refresh)

    def report(self, source: str) -> None:
        for failed, _ in self._failed:
            log.warning("part not read; its figures stay", source=source, error=failed.message)
        for part, read in self.read:
            log.info(
                "part read", source=source, part=part.part, rows=part.rows, rejected=dict(read.rejected) if read else {}, note=part.message
            )
        if self._gone:
            log.info("parts gone", source=source, parts=self._gone)


class Scheduler:
    """Refreshes every source at its interval. `start` and `stop` are called once each, `configure` in between.

    `now` gives microseconds since 1970 UTC, `wait` waits for an event, `draw` gives a random number in [0, 1).
    """

    def __init__(
        self,
        ledger: Ledger,
        sources: Sequence[SourceSettings],
        attribution: AttributionSettings,
        rates: ExchangeRates,
        *,
        now: Callable[[], int],
        open_source: Callable[[SourceSettings, AttributionSettings, ExchangeRates], Source] = open_source,
        wait: Wait = threading.Event.wait,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._meaning = (attribution, rates)
        self._settings = {settings.name: settings for settings in sources}
        self._now, self._open, self._wait, self._draw = now, open_source, wait, draw
        self._loops: dict[str, _Loop] = {}
        self._running = False

    def start(self) -> None:
        """Refresh every source now and from now on. The bills of sources that are configured no more are dropped."""
        self._running = True
        self._follow()

    def configure(self, sources: Sequence[SourceSettings], attribution: AttributionSettings, rates: ExchangeRates) -> None:
        """Use other settings: sources that they change are read anew, the others go on."""
        meaning = (attribution, rates)
        settings = {found.name: found for found in sources}
        changed = [name for name in self._loops if meaning != self._meaning or settings.get(name) != self._settings[name]]
        self._end([self._loops.pop(name) for name in changed])
        self._settings, self._meaning = settings, meaning
        if self._running:
            self._follow()

    def refresh_now(self, name: str) -> None:
        """Have a source refreshed at once; returns before it is. Raises `KeyError` where no such source runs."""
        self._loops[name].wake()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End all refreshes. What is under way is not kept; a thread that has not ended after `seconds` is left behind."""
        self._running = False
        self._end(list(self._loops.values()), seconds)
        self._loops.clear()

    def _follow(self) -> None:
        try:
            if gone := self._ledger.write(partial(forget_sources, configured=self._settings.keys())):
                log.info("dropped the bills of sources that are configured no more", sources=gone)
        except LedgerUnavailable as error:
            log.error("the bills of sources that are configured no more were not dropped", error=str(error))
        for name, settings in self._settings.items():
            if name not in self._loops:
                open_it = partial(self._open, settings, *self._meaning)
                self._loops[name] = _Loop(self._ledger, settings, open_it, self._now, self._wait, self._draw)
                self._loops[name].start()

    @staticmethod
    def _end(loops: "list[_Loop]", seconds: float = STOP_SECONDS) -> None:
        for loop in loops:
            loop.stop()
        deadline = time.monotonic() + seconds
        for loop in loops:
            if not loop.join(max(0.0, deadline - time.monotonic())):
                log.warning("a source does not end; its thread is left behind", source=loop.name)


class _Loop:
    """One source and its thread."""

    def __init__(
        self,
        ledger: Ledger,
        settings: SourceSettings,
        open_it: Callable[[], Source],
        now: Callable[[], int],
        wait: Wait,
        draw: Callable[[], float],
    ) -> None:
        self.name = settings.name
        self._ledger, self._settings, self._open = ledger, settings, open_it
        self._now, self._wait, self._draw = now, wait, draw
        self._source: Source | None = None
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source-{self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        self._stopping.set()
        self._woken.set()
        if self._source is not None:
            self._source.close()

    def join(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            # Before the refresh: a wake-up while it runs asks for another one.
            self._woken.clear()
            failures = 0 if self._refresh() else failures + 1
            if not self._stopping.is_set():
                self._wait(self._woken, self._pause(failures))

    def _pause(self, failures: int) -> float:
        interval = self._settings.interval_seconds
        # The exponent is bounded: a float has no 2**2000.
        retry = FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 30)
        return (min(interval, retry) if failures else interval) * (1 + self._settings.jitter_ratio * self._draw())

    def _refresh(self) -> bool:
        """Whether it succeeded."""
        try:
            if self._source is None:
                self._source = self._open()
        except Exception as error:
            log.exception("source not opened", source=self.name)
            return self._note_failure(f"{type(error).__name__}: {error}")
        # stop() closes a source only once it is open.
        if self._stopping.is_set():
            return True
        try:
            return not refresh(self._ledger, self.name, self._source, self._now, self._stopping.is_set).failure
        except LedgerUnavailable as error:
            log.error("source not read: the ledger does not write", source=self.name, error=str(error))
            return False

    def _note_failure(self, sentence: str) -> bool:
        attempt = Refresh(at=self._now(), duration_seconds=0.0, failure=sentence)
        with suppress(LedgerUnavailable):
            self._ledger.write(partial(record_refresh, source=self.name, refresh=attempt))
        return False


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(items, size)):
        yield batch
