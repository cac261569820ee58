"""Delivers notifications, beside the server: of each receiver one after the other, and no receiver waits for another."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import msgspec
import structlog

from costwarden.config import ConfigError
from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.ledger.notifications import Notification, begin_attempt, first_of_each, mark_delivered, mark_failed, prune
from costwarden.model import MICROS_PER_SECOND
from costwarden.notifier.channels import Channel, ChannelError, open_channel
from costwarden.notifier.settings import NotifierSettings, Receiver, RetrySettings
from costwarden.notifier.text import Text
from costwarden.settings import Secret

POLL_SECONDS = 1.0
"""How soon is found what another process has taken in; what this one takes in wakes the worker at once."""

STOP_SECONDS = 10.0
"""How long the end of what is being sent is awaited; it is sent again where that is too short."""

PRUNE_SECONDS = 3600

MOST_HANGING = 4
"""Threads of one receiver that may hang past their time limit: no socket of theirs waits so long, so that something else is wrong."""

MOST_REFUSALS = 3
"""Failures after which a message is given up that the service itself finds wrong (400, 413, 422): it would not take it an hour later
either, and whatever else its receiver is to be told waits behind it."""

UNKNOWN_SECONDS = 600
"""How long what is for a receiver that nobody here has heard of waits for a reload: another replica may have its configuration first."""

_MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND

# As Apprise ends its sentence about an answer. A key that has expired (401, 403) or an address that is gone may be mended meanwhile.
_REFUSED = frozenset({"error=400", "error=413", "error=422"})
_ANSWERS = re.compile(r"\berror=\w+|\bConnection error\b")

log = structlog.get_logger(__name__)


class _Flight:
    """One attempt that is under way."""

    def __init__(self, notification: Notification, attempt_id: int, retry: RetrySettings) -> None:
        self.notification = notification
        self.attempt_id = attempt_id
        self.retry = retry
        self.deadline = time.monotonic() + retry.timeout_seconds
        self.given_up = False
        self.landed = False


class NotificationWorker:
    """The deliveries of a ledger. `settings` is asked at every step, so that a reload holds from the next one on.

    `reveal` reads a secret, or raises `ConfigError`; `now` gives micros UTC.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], NotifierSettings],
        *,
        reveal: Callable[[Secret], str],
        now: Callable[[], int],
        channel: Callable[[str], Channel] = open_channel,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._reveal = reveal
        self._now = now
        self._channel = channel
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._flying: dict[str, _Flight] = {}
        self._hanging: Counter[str] = Counter()
        self._prune_at = 0.0

    def start(self) -> None:
        """Begin to deliver. May follow a `stop`."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="notifier", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was taken in. Any thread may call it; it does not block."""
        self._wake.set()

    def stop(self) -> None:
        """Begin no further attempt, and wait a while for those that are under way."""
        self._stopping.set()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(STOP_SECONDS + 1)

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self._wake.clear()
            wait = POLL_SECONDS
            try:
                wait = self._step()
                self._prune()
            except LedgerUnavailable as error:
                log.error("the notifier cannot use the ledger", error=str(error))
            except Exception:
                # Whatever it was: a notifier that leaves is worse than one that complains.
                log.exception("the notifier has stumbled")
            self._wake.wait(wait)
        deadline = time.monotonic() + STOP_SECONDS
        while self._flying and (left := deadline - time.monotonic()) > 0:
            self._wake.clear()
            if self._flying:
                self._wake.wait(min(left, POLL_SECONDS))

    def _step(self) -> float:
        """Give up what takes too long, and begin what is due; seconds until there is something to do, unless woken before."""
        self._give_up_overdue()
        wait = POLL_SECONDS
        with self._ledger.read() as connection:
            first = first_of_each(connection)
        # Asked afterwards: what was taken in by a reloaded configuration is delivered by it.
        settings, now = self._settings(), self._now()
        for notification in first:
            with self._lock:
                if notification.receiver in self._flying:
                    continue
            left = (notification.next_attempt_at - now) / MICROS_PER_SECOND
            # Further away than any wait is no time of ours: somebody has set the clock back.
            if 0 < left <= max(settings.retry.longest_wait_seconds * 1.2, settings.retry.timeout_seconds) + 1:
                wait = min(wait, left)
            else:
                self._begin(settings, notification)
        with self._lock:
            return min([wait, *(max(flight.deadline - time.monotonic(), 0.0) for flight in self._flying.values())])

    def _begin(self, settings: NotifierSettings, notification: Notification) -> None:
        now, retry = self._now(), settings.retry
        receiver = settings.receiver(notification.receiver)
        if receiver is None:
            last = now - notification.received_at >= UNKNOWN_SECONDS * MICROS_PER_SECOND
            self._note_failure(notification, None, retry, "no receiver of this name is configured any more", last=last)
            return
        # Nobody else begins it before this one has surely ended.
        until = now + int((retry.timeout_seconds + 1) * MICROS_PER_SECOND)
        attempt_id = self._ledger.write(lambda connection: begin_attempt(connection, notification, now=now, until=until))
        if attempt_id is None:
            return
        flight = _Flight(notification, attempt_id, retry)
        with self._lock:
            self._flying[notification.receiver] = flight
            hangs = self._hanging[notification.receiver] >= MOST_HANGING
        if hangs:
            self._land(flight, "earlier attempts still hang: no further one is begun beside them")
            return
        threading.Thread(target=self._fly, args=(flight, receiver), name=f"notify-{receiver.name}", daemon=True).start()

    def _fly(self, flight: _Flight, receiver: Receiver) -> None:
        try:
            why = self._send(flight, receiver)
        except Exception as error:  # noqa: BLE001 (logged without its text)
            # Its text may hold what it stumbled over.
            log.error("the notifier has stumbled", receiver=receiver.name, error=type(error).__name__)
            why = f"costwarden failed to send it: {type(error).__name__}"
        try:
            self._land(flight, why)
        except LedgerUnavailable as error:
            log.error("the end of a delivery could not be noted; it is sent again", receiver=receiver.name, error=str(error))
        finally:
            self.wake()

    def _send(self, flight: _Flight, receiver: Receiver) -> str:
        try:
            text = msgspec.json.decode(flight.notification.content, type=Text)
            channel = self._channel(self._reveal(receiver.url))
        except (ConfigError, ChannelError) as error:
            return str(error)
        settings = self._settings()
        linked = text.linked(grafana_url=settings.grafana_url, runbook_url=settings.runbook_url)
        return channel.send(linked, seconds=flight.retry.timeout_seconds)

    def _give_up_overdue(self) -> None:
        with self._lock:
            late = [flight for flight in self._flying.values() if time.monotonic() >= flight.deadline]
        for flight in late:
            self._land(flight, f"no end within {flight.retry.timeout_seconds:g} s", given_up=True)

    def _land(self, flight: _Flight, why: str, *, given_up: bool = False) -> None:
        """Write how an attempt has ended. One that was given up and is delivered after all is written too, a failure of it is not."""
        name = flight.notification.receiver
        with self._lock:
            was_given_up = flight.given_up
            if given_up and (flight.landed or was_given_up):
                return
            flight.given_up |= given_up
            flight.landed = not given_up
            self._hanging[name] += given_up - was_given_up
        try:
            if not why:
                self._write_delivered(flight)
            elif not was_given_up:
                self._write_failed(flight, why)
        finally:
            with self._lock:
                if self._flying.get(name) is flight:
                    del self._flying[name]

    def _write_delivered(self, flight: _Flight) -> None:
        number, now = flight.notification.notification_id, self._now()
        self._ledger.write(partial(mark_delivered, notification_id=number, attempt_id=flight.attempt_id, now=now))
        log.info("notified", receiver=flight.notification.receiver, notification=number, attempt=flight.notification.attempts + 1)

    def _write_failed(self, flight: _Flight, why: str) -> None:
        notification = flight.notification
        # What has waited for its first attempt for a day has one alone: of a receiver that is gone for good, each would hold up all that
        # is behind it, which would be more every day.
        last = notification.attempts == 0 and self._now() - notification.received_at >= _MICROS_PER_DAY
        # A receiver may be several addressees: as long as one of them may yet be reached, there is something to try again for.
        last |= notification.failures + 1 >= MOST_REFUSALS and bool(answers := _ANSWERS.findall(why)) and _REFUSED.issuperset(answers)
        self._note_failure(notification, flight.attempt_id, flight.retry, why, last=last)

    def _note_failure(self, notification: Notification, attempt_id: int | None, retry: RetrySettings, why: str, *, last: bool) -> None:
        now, number, failures = self._now(), notification.notification_id, notification.failures + 1
        again_at = 0
        if failures < retry.attempts and not last:
            again_at = now + int(wait_seconds(retry, failures) * MICROS_PER_SECOND)
        self._ledger.write(partial(mark_failed, notification_id=number, attempt_id=attempt_id, message=why, now=now, again_at=again_at))
        told = {"receiver": notification.receiver, "notification": number, "attempt": notification.attempts + 1, "reason": why}
        if again_at:
            log.warning("a delivery has failed and is tried again", **told)
        else:
            log.error("a notification is given up; `costwarden notifications retry` tries it again", **told)

    def _prune(self) -> None:
        if time.monotonic() < self._prune_at:
            return
        before = self._now() - self._settings().keep_days * _MICROS_PER_DAY
        gone = self._ledger.write(lambda connection: prune(connection, before=before))
        # More of them than one transaction should hold up: the rest at the next step.
        self._prune_at = time.monotonic() + (0 if gone else PRUNE_SECONDS)


def wait_seconds(retry: RetrySettings, failures: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds from the `failures`-th failure to the next attempt: twice as long each time, give or take a fifth, so that what has failed
    together does not come again together."""
    wait = min(retry.longest_wait_seconds, retry.first_wait_seconds * 2.0 ** min(failures - 1, 60))
    return wait * uniform(0.8, 1.2)
