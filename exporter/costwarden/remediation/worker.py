"""Takes incidents from the queue and runs their playbooks, beside the server."""

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from costwarden.ledger import Connection, Ledger, LedgerUnavailable
from costwarden.ledger.journal import append_journal
from costwarden.ledger.remediation import QueueItem, Run, finish, interrupt_running, next_free, take, waiting_for_approval
from costwarden.model import MICROS_PER_SECOND
from costwarden.remediation.decisions import refuse
from costwarden.remediation.execution import Execution, Interrupted
from costwarden.remediation.settings import RemediationSettings

# Finds what another process queued or approved; what this one queues wakes the worker at once.
POLL_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Worker:
    """The remediation worker of a ledger's owner; two on one ledger are not possible, because a ledger has one owner.

    `settings` is asked at every item, so that a reload holds from the next one on; `environ` is what playbooks may pass on;
    `now` gives micros UTC.
    """

    def __init__(
        self, ledger: Ledger, settings: Callable[[], RemediationSettings], *, environ: Mapping[str, str], now: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._environ = environ
        self._now = now
        self._stopping = threading.Event()
        self._signal = threading.Condition()
        self._signals = 0
        self._taking = threading.Lock()
        self._busy: dict[int, str] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Mark what a crash interrupted, then work in threads of our own. Raises `LedgerUnavailable`."""
        now = self._now()
        for run_id in self._ledger.write(lambda connection: interrupt_running(connection, now)):
            log.error("a run was interrupted by a crash; it is not repeated, see `costwarden remediate show`", run_id=run_id)
        for number in range(self._settings().concurrency):
            thread = threading.Thread(target=self._loop, name=f"remediation-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """Something was queued or approved. Any thread may call it; it does not block."""
        with self._signal:
            self._signals += 1
            self._signal.notify_all()

    def stop(self, patience_seconds: float = 30.0) -> bool:
        """Take nothing more, give up plans (they are made again at the next start), wait for a script that acts.

        False where one still acts after `patience_seconds`: its run will show as interrupted at the next start.
        """
        self._stopping.set()
        self.wake()
        deadline = time.monotonic() + patience_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def run_next(self) -> bool:
        """Handle the oldest item that is free; False where there is none.

        Raises `LedgerUnavailable`, or `Interrupted` on the way to `stop`, while nothing was acted on: the item stays queued.
        """
        taken = self._take()
        if taken is None:
            return False
        item, run = taken
        try:
            self._execute(item, run)
        finally:
            with self._taking:
                del self._busy[item.queue_id]
            # Another thread may have passed over an item of the same playbook.
            self.wake()
        return True

    def _take(self) -> tuple[QueueItem, Run] | None:
        with self._taking:
            # Looking comes first, because budget checks wait for whoever writes.
            with self._ledger.read() as connection:
                if next_free(connection, self._busy) is None:
                    return None
            now = self._now()
            taken = self._ledger.write(lambda connection: take(connection, busy=self._busy, now=now))
            if taken is not None:
                self._busy[taken[0].queue_id] = taken[0].action
            return taken

    def _execute(self, item: QueueItem, run: Run) -> None:
        try:
            Execution(
                self._ledger,
                self._settings,
                item,
                run,
                environ=self._environ,
                now=self._now,
                is_stopping=self._stopping.is_set,
                pause=self._pause,
            ).execute()
        except (Interrupted, LedgerUnavailable):
            raise
        except Exception as error:
            log.exception("a run failed by a fault of costwarden", run_id=run.run_id)
            self._fail(run, repr(error))

    def _fail(self, run: Run, message: str) -> None:
        now = self._now()

        def write(connection: Connection) -> None:
            detail = {"outcome": "failed", "reason": "internal_error", "message": message}
            append_journal(connection, run.run_id, "finished", detail, now)
            finish(connection, run, state="done", outcome="failed", reason="internal_error", now=now)

        self._ledger.write(write)

    def refuse_lapsed(self) -> None:
        """Refuse what waits for a person and has resolved, expired, or lost its playbook. Raises `LedgerUnavailable`."""
        settings = self._settings()
        with self._ledger.read() as connection:
            waiting = waiting_for_approval(connection)
        for item, run in waiting:
            playbook = settings.playbook(item.action)
            if item.status == "resolved":
                refuse(self._ledger, run, "resolved", "the alert resolved before anyone approved", self._now())
            elif playbook is None:
                refuse(self._ledger, run, "no_playbook", f"no playbook is named {item.action!r} any more", self._now())
            elif self._now() - run.planned_at > playbook.approval_expires_after_seconds * MICROS_PER_SECOND:
                limit = playbook.approval_expires_after_seconds
                refuse(self._ledger, run, "approval_expired", f"nobody approved within {limit} s", self._now())

    def _loop(self) -> None:
        while not self._stopping.is_set():
            seen = self._signals
            try:
                self.refuse_lapsed()
                while not self._stopping.is_set() and self.run_next():
                    pass
            except Interrupted:
                return
            except LedgerUnavailable as error:
                log.error("the remediation worker cannot use the ledger", error=str(error))
                self._pause()
                continue
            with self._signal:
                if self._signals == seen and not self._stopping.is_set():
                    self._signal.wait(POLL_SECONDS)

    def _pause(self) -> None:
        self._stopping.wait(POLL_SECONDS)
