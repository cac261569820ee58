"""`/api/notifications`: what Alertmanager asks the notifier to tell, and what became of it."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from costwarden.api.answers import Cursor, Time
from costwarden.api.callers import Caller
from costwarden.api.pages import Filter, Number, Paging, Range, decode_cursor, page_answer, time_answer
from costwarden.api.problems import Problem
from costwarden.ledger import Ledger
from costwarden.ledger.notifications import Attempt, Notification, ask_again, attempts_of, notifications_page, read_notification
from costwarden.notifier.intake import accept
from costwarden.notifier.settings import NotifierSettings
from costwarden.remediation.intake import InvalidWebhook

State = Literal["queued", "retrying", "delivered", "failed"]


class NotificationsQuery(Paging, Range):
    """Parameters of `GET /api/notifications`."""

    receiver: Filter = None
    """Only of this receiver."""
    state: State | None = None
    """`queued`: not tried yet; `retrying`: has failed and is tried again; `delivered`; `failed`: given up."""


class NotificationAnswer(msgspec.Struct, kw_only=True):
    """A notification, and how far it is."""

    notification_id: int
    receiver: str
    state: State
    status: Literal["firing", "resolved"]
    """Of its alerts: `firing` where any of them fires."""
    subject: str
    alerts: int
    group_key: str
    received_at: Time | None
    last_received_at: Time | None
    receipts: int
    """How often it came; one delivery answers them all."""
    attempts: int
    failures: int
    next_attempt_at: Time | None
    finished_at: Time | None
    message: Annotated[str | None, msgspec.Meta(description="Why the last attempt failed")]


class NotificationPage(msgspec.Struct, kw_only=True):
    """A page of the journal, the newest first."""

    notifications: list[NotificationAnswer]
    next_cursor: Cursor | None


class AttemptAnswer(msgspec.Struct, kw_only=True):
    """One attempt at a delivery."""

    attempt: int
    started_at: Time | None
    finished_at: Time | None
    outcome: Literal["delivered", "retried", "failed", "interrupted"] | None
    """Null: it is under way."""
    message: str | None


class NotificationWithAttempts(NotificationAnswer, kw_only=True):
    """A notification, attempt by attempt."""

    journal: list[AttemptAnswer]


class AcceptedAnswer(msgspec.Struct, kw_only=True):
    """The notification is kept, and is going to be delivered."""

    notification_id: int
    duplicate: bool
    """It was there already: another Alertmanager has sent it, or this one has sent it before."""


class RetryAnswer(msgspec.Struct, kw_only=True):
    """It is tried again."""

    notification_id: int
    state: State


class NotificationsApi:
    """The endpoints of notifications. `wake` tells the worker that there is something to do."""

    def __init__(self, ledger: Ledger, settings: Callable[[], NotifierSettings], wake: Callable[[], None], now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._settings = settings
        self._wake = wake
        self._now = now

    async def accept(self, receiver: str, body: bytes) -> dict[str, Any]:
        """`POST /api/notifications/{receiver}`. Raises `Problem` 400, 404, 422 or 503."""
        try:
            accepted = await accept(self._ledger, self._settings(), receiver, body, self._now())
        except LookupError as error:
            raise Problem(404, "unknown_receiver", str(error)) from None
        except InvalidWebhook as error:
            raise Problem(error.status, "invalid_webhook", str(error)) from None
        self._wake()
        answer: dict[str, Any] = {"notification_id": accepted.notification_id, "duplicate": accepted.duplicate}
        if accepted.problems:
            raise Problem(422, "invalid_alerts", "; ".join(accepted.problems), **answer)
        return answer

    def page(self, query: NotificationsQuery) -> dict[str, Any]:
        """`GET /api/notifications`: the newest first."""
        filters = {"receiver": query.receiver, "state": query.state}
        where = {name: value for name, value in filters.items() if value is not None}
        before = decode_cursor(query.cursor, Number)
        with self._ledger.read() as connection:
            rows = notifications_page(connection, where, start=query.start, end=query.end, before=before, limit=query.limit + 1)
        return page_answer("notifications", rows, query.limit, lambda row: row.notification_id, notification_answer)

    def notification(self, notification_id: str) -> dict[str, Any]:
        """`GET /api/notifications/{notification_id}/attempts`. Raises `Problem` 404."""
        with self._ledger.read() as connection:
            try:
                found = read_notification(connection, _number(notification_id))
            except LookupError as error:
                raise Problem(404, "unknown_notification", str(error)) from None
            attempts = attempts_of(connection, found.notification_id)
        return {**notification_answer(found), "journal": [attempt_answer(attempt) for attempt in attempts]}

    def retry(self, caller: Caller, notification_id: str) -> dict[str, Any]:
        """`POST /api/notifications/{notification_id}/retry`. Raises `Problem` 404 or 409."""
        try:
            number, now = _number(notification_id), self._now()
            before = self._ledger.write(lambda connection: ask_again(connection, number, actor=caller.name, now=now))
        except LookupError as error:
            raise Problem(404, "unknown_notification", str(error)) from None
        if before == "delivered":
            raise Problem(409, "already_delivered", f"notification {number} is delivered already")
        self._wake()
        return {"notification_id": number, "state": "queued"}


def _number(text: str) -> int:
    # More digits than a key of the ledger may have are the number of nothing.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise LookupError(f"there is no notification {text!r}")
    return int(text)


def notification_answer(notification: Notification) -> dict[str, Any]:
    """A notification as the API and the command line print it."""
    return {
        "notification_id": notification.notification_id,
        "receiver": notification.receiver,
        "state": notification.state,
        "status": notification.status,
        "subject": notification.subject,
        "alerts": notification.alerts,
        "group_key": notification.group_key,
        "received_at": time_answer(notification.received_at),
        "last_received_at": time_answer(notification.last_received_at),
        "receipts": notification.receipts,
        "attempts": notification.attempts,
        "failures": notification.failures,
        "next_attempt_at": time_answer(notification.next_attempt_at),
        "finished_at": time_answer(notification.finished_at),
        "message": notification.message or None,
    }


def attempt_answer(attempt: Attempt) -> dict[str, Any]:
    """An attempt as the API and the command line print it."""
    return {
        "attempt": attempt.attempt,
        "started_at": time_answer(attempt.started_at),
        "finished_at": time_answer(attempt.finished_at),
        "outcome": attempt.outcome or None,
        "message": attempt.message or None,
    }
