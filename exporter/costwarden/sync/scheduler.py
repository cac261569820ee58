"""Runs the sources on schedule: each in threads of its own, so that one that hangs, fails or answers garbage leaves the others alone."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from costwarden.config import ConfigError
from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.ledger.charges import Refresh, forget_sources, record_refresh
from costwarden.model import from_micros
from costwarden.sources import SourceError
from costwarden.sources.settings import AttributionSettings, DailySchedule, ExchangeRates, SourceSettings
from costwarden.sources.windows import Window, usual_window
from costwarden.sync.reading import Reading
from costwarden.sync.refresh import BeingRead, refresh

# A source that failed is tried again after this, then twice this, and so on up to its interval.
FIRST_RETRY_SECONDS = 30.0

# What stop() waits for threads before it leaves them behind; they are daemons and write nothing any more.
STOP_SECONDS = 5.0

Wait = Callable[[threading.Event, float], bool]
"""Waits for an event, or for so many seconds."""

Open = Callable[[SourceSettings, AttributionSettings, ExchangeRates], Reading]
"""Opens a source for the ledger."""

log = structlog.get_logger(__name__)


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
        open_source: Open,
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
    """One source: a thread that waits, and one for each refresh, which is left behind where it hangs."""

    def __init__(
        self,
        ledger: Ledger,
        settings: SourceSettings,
        open_it: Callable[[], Reading],
        now: Callable[[], int],
        wait: Wait,
        draw: Callable[[], float],
    ) -> None:
        self.name = settings.name
        self._ledger, self._settings, self._open = ledger, settings, open_it
        self._now, self._wait, self._draw = now, wait, draw
        self._attempt: _Attempt | None = None
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
        if (attempt := self._attempt) is not None:
            attempt.end()

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
        if (hanging := self._attempt) is not None and not hanging.ended(0.0):
            # One thread that hangs is enough.
            return self._note_failure("the refresh before this one still hangs")
        self._attempt = attempt = _Attempt(self.name, self._read)
        if self._stopping.is_set():
            return True
        attempt.start()
        deadline = time.monotonic() + self._settings.timeout_seconds
        while not attempt.ended(max(0.0, min(1.0, deadline - time.monotonic()))):
            if self._stopping.is_set():
                return attempt.ended(STOP_SECONDS)
            if time.monotonic() >= deadline:
                attempt.end()
                log.error("source hangs; its refresh is given up", source=self.name, seconds=self._settings.timeout_seconds)
                return self._note_failure(f"did not end within {self._settings.timeout_seconds:g} s (`timeout_seconds`) and was given up")
        return attempt.succeeded

    def _read(self, attempt: "_Attempt") -> bool:
        try:
            # A new one each time: what a source that hung or failed has left behind is not used again.
            reading = self._open()
        except (SourceError, ConfigError) as error:
            log.warning("source not opened; its figures stay", source=self.name, error=str(error))
            return attempt.cancelled() or self._note_failure(str(error))
        except Exception as error:
            log.exception("source not opened; its figures stay", source=self.name)
            return attempt.cancelled() or self._note_failure(f"{type(error).__name__}: {error}")
        attempt.opened(reading)
        try:
            done = refresh(self._ledger, self.name, reading, self._now, window=self._window(), cancelled=attempt.cancelled)
            return not done.failure
        except BeingRead as error:
            log.info("source not read", source=self.name, reason=str(error))
            return False
        except LedgerUnavailable as error:
            log.error("source not read: the ledger does not write", source=self.name, error=str(error))
            return False
        except Exception as error:
            # Even what has happened could not be noted: a source must not go on as if it were well.
            log.exception("source not read", source=self.name)
            return attempt.cancelled() or self._note_failure(f"{type(error).__name__}, see the log")

    def _window(self) -> Window | None:
        if not isinstance(self._settings, DailySchedule):
            return None
        return usual_window(from_micros(self._now()).date(), self._settings.history_days, self._settings.reread_days)

    def _note_failure(self, sentence: str) -> bool:
        attempt = Refresh(at=self._now(), duration_seconds=0.0, failure=sentence)
        with suppress(LedgerUnavailable):
            self._ledger.write(partial(record_refresh, source=self.name, refresh=attempt))
        return False


class _Attempt:
    """One refresh in a thread of its own."""

    def __init__(self, name: str, read: "Callable[[_Attempt], bool]") -> None:
        self._read = read
        self._reading: Reading | None = None
        self._ending = threading.Event()
        self.succeeded = False
        self._thread = threading.Thread(target=self._run, name=f"refresh-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def opened(self, reading: Reading) -> None:
        self._reading = reading
        if self._ending.is_set():
            reading.source.close()

    def end(self) -> None:
        """Have it write nothing any more, and end as soon as its source lets it."""
        self._ending.set()
        if (reading := self._reading) is not None:
            reading.source.close()

    def cancelled(self) -> bool:
        return self._ending.is_set()

    def ended(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self.succeeded = self._read(self)
