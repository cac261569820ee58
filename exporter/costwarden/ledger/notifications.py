"""Notifications and their journal.

A notification's state:

    queued -> retrying -> delivered      `retrying` from the first failure on
    queued | retrying -> failed          it has failed too often, or nobody of its receiver's name is configured any more
    failed | retrying -> queued          a person has asked for it again

An attempt is written before anything is sent, and its end afterwards: what a crash cuts off between the two is sent again. So every
notification that was taken in is delivered at least once, or is `failed` and says so.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from costwarden.ledger.audit import append_audit
from costwarden.ledger.bulk import upsert
from costwarden.ledger.locks import lock_notifications
from costwarden.ledger.schema_notifications import notification_attempts, notification_totals, notifications

PENDING = ("queued", "retrying")
"""States of what is still to be delivered."""

OUTCOMES = ("delivered", "failed", "retried")
"""How attempts end that are counted: `retried` has failed and is tried again, `failed` has failed for the last time."""


class NewNotification(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook asks for."""

    receiver: str
    identity: str
    """The same of two webhooks that say the same."""
    group_key: str
    status: str
    """`firing` or `resolved`."""
    alerts: int
    subject: str
    content: str
    """JSON of what the text is made of."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A notification as it is kept; times in microseconds, 0 for never."""

    notification_id: int
    receiver: str
    identity: str
    group_key: str
    status: str
    alerts: int
    subject: str
    content: str
    received_at: int
    last_received_at: int
    receipts: int
    """How often it came: from each Alertmanager of a pair, and sent again."""
    state: str
    attempts: int
    failures: int
    """Those that count towards the limit."""
    next_attempt_at: int
    finished_at: int
    message: str
    """Why the last attempt failed; empty where it did not."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a delivery."""

    attempt_id: int
    notification_id: int
    attempt: int
    started_at: int
    finished_at: int
    outcome: str
    """`delivered`, `retried`, `failed`, `interrupted` by a crash, or empty: under way."""
    message: str


def take_in(connection: Connection, new: NewNotification, *, since: int, now: int) -> tuple[int, bool]:
    """Queue a notification, or count up the one that says the same and was received after `since`; its id, and whether it is new.

    Counted from when that one was first received: of repetitions in short order one in a while is delivered. One received as much later
    than `now` counts too.
    """
    lock_notifications(connection)
    # What has waited for the lock is of an earlier time than what has gone before it, and replicas' clocks differ.
    until = now + (now - since)
    same = select(func.max(notifications.c.notification_id)).where(
        notifications.c.identity == new.identity, notifications.c.received_at > since, notifications.c.received_at < until
    )
    known: int | None = connection.execute(same).scalar_one()
    if known is not None:
        count = {"receipts": notifications.c.receipts + 1, "last_received_at": now}
        connection.execute(update(notifications).where(notifications.c.notification_id == known).values(**count))
        return known, False
    values = msgspec.structs.asdict(new) | {"received_at": now, "last_received_at": now, "receipts": 1, "state": "queued"}
    made = connection.execute(insert(notifications).values(**values).returning(notifications.c.notification_id))
    return made.scalar_one(), True


# --- the worker ----------------------------------------------------------------------------------------------------------------


def first_of_each(connection: Connection) -> list[Notification]:
    """The oldest notification of each receiver that is still to be delivered."""
    oldest = select(func.min(notifications.c.notification_id)).where(notifications.c.state.in_(PENDING)).group_by(notifications.c.receiver)
    query = select(notifications).where(notifications.c.notification_id.in_(oldest.scalar_subquery()))
    return [Notification(**row._mapping) for row in connection.execute(query)]


def begin_attempt(connection: Connection, first: Notification, *, now: int, until: int) -> int | None:
    """Write that a delivery begins, which nobody else begins before `until`; None where somebody has, since `first` was read."""
    mine = (
        notifications.c.notification_id == first.notification_id,
        notifications.c.attempts == first.attempts,
        notifications.c.state.in_(PENDING),
    )
    begun = {"attempts": first.attempts + 1, "next_attempt_at": until}
    if not connection.execute(update(notifications).where(*mine).values(**begun)).rowcount:
        return None
    of_it = (notification_attempts.c.notification_id == first.notification_id, notification_attempts.c.outcome == "")
    interrupted = {"outcome": "interrupted", "finished_at": now, "message": "the server ended meanwhile: it may have been delivered"}
    connection.execute(update(notification_attempts).where(*of_it).values(**interrupted))
    attempt = {"notification_id": first.notification_id, "attempt": first.attempts + 1, "started_at": now}
    made = connection.execute(insert(notification_attempts).values(**attempt).returning(notification_attempts.c.attempt_id))
    attempt_id: int = made.scalar_one()
    return attempt_id


def mark_delivered(connection: Connection, notification_id: int, attempt_id: int, *, now: int) -> None:
    """Write that the receiver has taken it; also of an attempt that was given up, and came to a good end after all."""
    _end_attempt(connection, attempt_id, "delivered", "", now)
    here = (notifications.c.notification_id == notification_id, notifications.c.state != "delivered")
    done = {"state": "delivered", "finished_at": now, "next_attempt_at": 0, "message": ""}
    receiver = connection.execute(update(notifications).where(*here).values(**done).returning(notifications.c.receiver)).scalar()
    if receiver is not None:
        _count(connection, receiver, "delivered", now)


def mark_failed(connection: Connection, notification_id: int, attempt_id: int | None, message: str, *, now: int, again_at: int) -> None:
    """Write that an attempt has failed; `again_at` is when the next one begins, 0 for never. None is no attempt: it cannot be tried."""
    outcome = "retried" if again_at else "failed"
    if attempt_id is not None:
        _end_attempt(connection, attempt_id, outcome, message, now)
    here = (notifications.c.notification_id == notification_id, notifications.c.state.in_(PENDING))
    values: dict[str, Any] = {"message": message, "failures": notifications.c.failures + 1, "next_attempt_at": again_at}
    values |= {"state": "retrying"} if again_at else {"state": "failed", "finished_at": now}
    receiver = connection.execute(update(notifications).where(*here).values(**values).returning(notifications.c.receiver)).scalar()
    if receiver is not None:
        _count(connection, receiver, outcome, now)


def _end_attempt(connection: Connection, attempt_id: int, outcome: str, message: str, now: int) -> None:
    values = {"outcome": outcome, "message": message, "finished_at": now}
    connection.execute(update(notification_attempts).where(notification_attempts.c.attempt_id == attempt_id).values(**values))


def _count(connection: Connection, receiver: str, outcome: str, now: int) -> None:
    statement = upsert(connection, notification_totals).values(receiver=receiver, outcome=outcome, notifications=1, last_at=now)
    more = {"notifications": notification_totals.c.notifications + 1, "last_at": now}
    connection.execute(statement.on_conflict_do_update(index_elements=["receiver", "outcome"], set_=more))


def prune(connection: Connection, *, before: int, limit: int = 1000) -> int:
    """Forget up to `limit` notifications that ended before a time, with their attempts; how many they were."""
    ended = select(notifications.c.notification_id).where(
        notifications.c.state.in_(("delivered", "failed")), notifications.c.finished_at < before
    )
    gone = connection.execute(ended.order_by(notifications.c.notification_id).limit(limit)).scalars().all()
    for table in (notification_attempts, notifications):
        connection.execute(delete(table).where(table.c.notification_id.in_(gone)))
    return len(gone)


# --- what people and metrics ask -----------------------------------------------------------------------------------------------


def ask_again(connection: Connection, notification_id: int, *, actor: str, now: int) -> str:
    """Have a notification tried again at once, with all attempts before it; gives the state that it was in.

    Nothing is changed where that is `delivered`. Raises `LookupError` where there is no such notification.
    """
    found = read_notification(connection, notification_id)
    if found.state == "delivered":
        return found.state
    here = notifications.c.notification_id == notification_id
    again = {"state": "queued", "failures": 0, "finished_at": 0}
    connection.execute(update(notifications).where(here).values(**again))
    attempts = notification_attempts
    under_way = select(attempts.c.attempt_id).where(attempts.c.notification_id == notification_id, attempts.c.outcome == "").exists()
    # Of one that is being sent at this moment the end is awaited.
    connection.execute(update(notifications).where(here, ~under_way).values(next_attempt_at=0))
    before, after = {"state": found.state, "failures": found.failures}, {"state": "queued", "failures": 0}
    subject = f"notification {notification_id}"
    append_audit(connection, at=now, actor=actor, action="retry_notification", subject=subject, before=before, after=after)
    return found.state


def read_notification(connection: Connection, notification_id: int) -> Notification:
    """A notification. Raises `LookupError` where there is none."""
    row = connection.execute(select(notifications).where(notifications.c.notification_id == notification_id)).first()
    if row is None:
        raise LookupError(f"there is no notification {notification_id}")
    return Notification(**row._mapping)


def attempts_of(connection: Connection, notification_id: int) -> list[Attempt]:
    """The attempts at a notification, in their order."""
    query = select(notification_attempts).where(notification_attempts.c.notification_id == notification_id)
    return [Attempt(**row._mapping) for row in connection.execute(query.order_by(notification_attempts.c.attempt_id))]


def notifications_page(
    connection: Connection, where: Mapping[str, str], *, start: int, end: int, before: int | None, limit: int
) -> list[Notification]:
    """Up to `limit` notifications received in [start, end), the newest first, those with an id smaller than `before`.

    `where` names columns and their values.
    """
    query = select(notifications).where(notifications.c.received_at >= start, notifications.c.received_at < end)
    query = query.where(*(notifications.c[name] == value for name, value in where.items()))
    if before is not None:
        query = query.where(notifications.c.notification_id < before)
    rows = connection.execute(query.order_by(notifications.c.notification_id.desc()).limit(limit))
    return [Notification(**row._mapping) for row in rows]


def pending_counts(connection: Connection) -> dict[tuple[str, str], int]:
    """(receiver, state) -> how many notifications are still to be delivered."""
    here = notifications
    query = select(here.c.receiver, here.c.state, func.count()).where(here.c.state.in_(PENDING))
    return {(receiver, state): count for receiver, state, count in connection.execute(query.group_by(here.c.receiver, here.c.state))}


def outcome_totals(connection: Connection) -> dict[tuple[str, str], tuple[int, int]]:
    """(receiver, outcome) -> (how many since the ledger began, when the last one was)."""
    rows = connection.execute(select(notification_totals))
    return {(row.receiver, row.outcome): (row.notifications, row.last_at) for row in rows}
