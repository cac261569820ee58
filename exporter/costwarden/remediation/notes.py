"""The journal of a script that acts, written beside it: whoever reads the script's output never waits for the ledger."""

import threading
from types import TracebackType
from typing import Any, Self

from costwarden.ledger import Connection, Ledger, LedgerUnavailable
from costwarden.ledger.journal import append_journal

# The first entry is written at once, and what a flood brings after it in few transactions.
FLUSH_SECONDS = 0.25


class Notes:
    """Entries for the journal of a run: `add` takes them in memory, a thread writes them while the context lasts.

    A ledger that is locked by another process holds up a write for seconds; the reading loop has a kill switch and a time limit to keep.
    """

    def __init__(self, ledger: Ledger, run_id: str, *, most: int) -> None:
        """Above `most` entries the rest is only counted: a script may repeat itself by the ten thousand."""
        self._ledger = ledger
        self._run_id = run_id
        self._most = most
        self._added = 0
        self.left_out = 0
        self.unwritten: list[tuple[str, Any, int]] = []
        """(step, detail, micros UTC) that are not in the ledger; complete once the context is left, and to be written with the end."""
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"journal-{run_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._wake.set()
        # The script has ended: now a slow ledger may be waited for.
        self._thread.join()

    def add(self, step: str, detail: Any, at: int) -> None:
        """Note an entry; `at` is in micros UTC. It does not block."""
        if self._added >= self._most:
            self.left_out += 1
            return
        self._added += 1
        self.unwritten.append((step, detail, at))
        self._wake.set()

    def _loop(self) -> None:
        while True:
            self._wake.wait()
            if self._ended.is_set():
                return
            self._wake.clear()
            self._flush()
            self._ended.wait(FLUSH_SECONDS)

    def _flush(self) -> None:
        batch = list(self.unwritten)

        def write(connection: Connection) -> None:
            for step, detail, at in batch:
                append_journal(connection, self._run_id, step, detail, at)

        try:
            self._ledger.write(write)
        except LedgerUnavailable:
            self._wake.set()
            return
        del self.unwritten[: len(batch)]
