"""Telling the budget service what calls used, off the caller's path: in order, once, and as long as it takes."""

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from costwarden.client.connections import Unreachable
from costwarden.client.service import BudgetServer
from costwarden.client.spool import PATHS, Record, Spool

log = logging.getLogger("costwarden.client")

RETRY_SECONDS = (0.1, 5.0)
"""First and longest pause while the service cannot be reached."""
TELL_SECONDS = 10.0
TICK_SECONDS = 1.0
PATIENCE_SECONDS = 0.003
"""Before the first settlement after a rest: the thread that put it is on its way to its next call, and should not wait for this one."""

_MENDED = {401, 404, 405, 407, 408, 425, 429}
"""Refusals that may end by a token, an address, a later attempt; any other 4xx is for good, whoever asks again."""

Answered = Callable[[int, bytes], None]


class _Settlement(msgspec.Struct):
    record: Record
    answered: Answered | None


class Delivery:
    """A queue of requests to the budget service and the thread that sends them, oldest first.

    What cannot be delivered stays, at most `size` of them, and is tried again; `spool_folder` keeps it beyond the process. The service
    records an event once, so that a request whose answer was lost may be repeated. Thread-safe; a forked child begins with an empty queue.
    """

    def __init__(
        self, server: BudgetServer, size: int, spool_folder: Path | None, tick: Callable[[], None], at_exit: Callable[[], None]
    ) -> None:
        self._server = server
        self._size = size
        self._spool_folder = spool_folder
        self._tick = tick
        self.delivered = self.refused = self.dropped = 0
        self._spool: Spool | None = None
        self._begin()
        self._at_exit = at_exit
        atexit.register(at_exit)

    def _begin(self) -> None:
        self._pid = os.getpid()
        # Reentrant: the garbage collector may settle an unread answer while this thread is in here.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._hurry = threading.Condition(self._lock)
        self._flushing = 0
        self._hurried = False
        self._queue: deque[_Settlement] = deque()
        self._number = 0
        self._thread: threading.Thread | None = None
        self._failing = False
        self._closing = False
        if self._spool is not None:
            self._spool.abandon()
            self._spool = None
        if self._spool_folder is not None:
            self._spool = Spool(self._spool_folder)
            if adopted := self._spool.adopt(self._adopt):
                log.warning("%d settlements of ended processes are delivered now", adopted)

    def _adopt(self, path: str, body: msgspec.Raw) -> bool:
        if path in PATHS:
            return self._put(path, body, None)
        self.refused += 1
        log.error("a line of the spool is for %r, which is nothing that a budget service is told; it is dropped", path[:100])
        return True

    @property
    def pending(self) -> int:
        """Requests that are not delivered yet."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether there is no room for what another call will have to tell."""
        self._ours()
        return len(self._queue) >= self._size

    def put(self, path: str, body: dict[str, Any], answered: Answered | None = None, *, droppable: bool = False) -> bool:
        """Deliver `POST path`. Where the queue is full, a `droppable` request is counted as dropped, and the answer is False."""
        self._ours()
        with self._lock:
            if droppable and len(self._queue) >= self._size:
                self.dropped += 1
                if self.dropped in {1, 10, 100} or self.dropped % 1000 == 0:
                    log.error("the spool is full (%d): %d settlements are dropped so far", self._size, self.dropped)
                return False
            self._put(path, msgspec.Raw(msgspec.json.encode(body)), answered)
            return True

    def _put(self, path: str, body: msgspec.Raw, answered: Answered | None) -> bool:
        """Whether it is kept where it was to be."""
        with self._lock:
            kept = True
            self._number += 1
            record = Record(self._number, path, body)
            if self._spool is not None:
                try:
                    self._spool.append(record)
                except OSError as error:
                    kept = False
                    log.error("the spool cannot keep a settlement, it is in memory alone: %s", error)
            self._queue.append(_Settlement(record, answered))
            self._changed.notify_all()
            if self._closing:
                self._reopen()
            if self._thread is None:
                self._start()
            return kept

    def _reopen(self) -> None:
        """For a call that was under way when this was closed: it is told all the same, out of memory."""
        self._closing = False
        self._thread = None
        atexit.register(self._at_exit)

    def start(self) -> None:
        """Start the thread where it does not run: its ticks are wanted."""
        self._ours()
        with self._lock:
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="costwarden-delivery", daemon=True)
        self._thread.start()

    def flush(self, seconds: float) -> bool:
        """Wait until everything is delivered, at most `seconds`; whether it is."""
        if self._pid != os.getpid():
            return True  # a forked child that has told nothing: what there is, is its parent's
        deadline = time.monotonic() + seconds
        with self._changed:
            self._flushing += 1
            # No pause before the next attempt, also where the last one is still under way.
            self._hurried = True
            self._changed.notify_all()
            self._hurry.notify_all()
            try:
                while self._queue:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(min(left, 0.1))
            finally:
                self._flushing -= 1
        return True

    def close(self, seconds: float = 5.0) -> None:
        """Deliver what is there, for at most `seconds`, and end. What is left stays in the spool's folder, or is lost with a log line."""
        if self._pid != os.getpid():
            return
        if self._closing:
            return
        atexit.unregister(self._at_exit)
        self.flush(seconds)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(TELL_SECONDS)
        if self._spool is not None:
            self._spool.sync()
            self._spool.close()
            self._spool = None
        elif self._queue:
            log.error("%d settlements could not be delivered and are lost: give `spool_folder` to keep them", len(self._queue))

    def _ours(self) -> None:
        if self._pid != os.getpid():
            self._begin()

    # --- the thread ------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = RETRY_SECONDS[0]
        while True:
            with self._changed:
                if not self._queue and not self._closing:
                    self._changed.wait(TICK_SECONDS)
                    if self._queue and not self._flushing:
                        self._hurry.wait(PATIENCE_SECONDS)
                if self._closing:
                    return
                head = self._queue[0] if self._queue else None
            self._tick()
            if head is None:
                continue
            if self._tell(head):
                pause = RETRY_SECONDS[0]
                continue
            with self._changed:
                if not self._hurried and not self._closing:
                    self._changed.wait(pause)
                self._hurried = False
            pause = min(2 * pause, RETRY_SECONDS[1])

    def _tell(self, settlement: _Settlement) -> bool:
        """Whether the service has taken it, or never will."""
        record = settlement.record
        try:
            status, answer = self._server.tell(record.path, bytes(record.body), TELL_SECONDS)
        except Unreachable as error:
            self._fails(str(error))
            return False
        gone = record.path == "release" and status in {404, 405}  # a service that cannot, or that knows of nothing to give back
        if status != 200 and (status in _MENDED or not 400 <= status < 500) and not gone:
            self._fails(f"it answered {status}: {answer[:200].decode(errors='replace')}")
            if 400 <= status < 500:
                with self._lock:
                    self._queue.rotate(-1)  # it may be this one alone: those behind it have their turn
            return False
        self._failing = False
        if settlement.answered is not None:
            settlement.answered(status, answer)
        with self._changed:
            self._queue.popleft()
            if status == 200 or gone:
                self.delivered += 1
            else:
                self.refused += 1
                log.error("the budget service refuses a %s for good: %s", record.path, answer[:500].decode(errors="replace"))
            if self._spool is not None:
                try:
                    self._spool.done(record.number, last=not self._queue)
                except OSError as error:
                    log.error("the spool cannot be written: %s", error)
            self._changed.notify_all()
        return True

    def _fails(self, reason: str) -> None:
        if not self._failing:
            kept = "on disk" if self._spool is not None else "in memory alone: give `spool_folder` to keep them beyond this process"
            log.warning("the budget service cannot be told what calls used (%s); %d settlements wait, %s", reason, self.pending, kept)
        self._failing = True
        if self._spool is not None:
            with self._lock:
                self._spool.sync()
