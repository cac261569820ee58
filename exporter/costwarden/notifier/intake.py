"""From Alertmanager's webhook to the notifications of a receiver.

The payload is the one that starts playbooks (`remediation/intake.py`); every alert of it counts by its own status.
"""

import asyncio
import hashlib

import msgspec

from costwarden.ledger import Connection, Ledger
from costwarden.ledger.bulk import storable
from costwarden.ledger.notifications import NewNotification, take_in
from costwarden.model import MICROS_PER_SECOND
from costwarden.notifier.settings import NotifierSettings
from costwarden.notifier.text import MOST_MEMBERS, SHOWN_ANNOTATIONS, Member, Text, kept, urgency
from costwarden.remediation.intake import Delivery, InvalidWebhook, parse_webhook

LONGEST_GROUP_KEY = 1000
MOST_LEFT_OUT = 1_000_000

LARGE_BYTES = 50_000
"""A payload of this size takes a millisecond to be read."""


class Accepted(msgspec.Struct, frozen=True):
    """What became of a webhook: the notification, whether it was there already, and a sentence for each alert that could not be read."""

    notification_id: int
    duplicate: bool
    problems: tuple[str, ...]


async def accept(ledger: Ledger, settings: NotifierSettings, receiver: str, payload: bytes, now: int) -> Accepted:
    """Keep a notification for `receiver`; returns once it is durable, so that the answer may be given.

    Raises `LookupError` where no receiver has this name, `InvalidWebhook`, or `LedgerUnavailable`: answer 503 then, and Alertmanager
    sends it again.
    """
    if settings.receiver(receiver) is None:
        raise LookupError(f"no receiver is named {receiver!r} in the section `notifier`")
    # Budget checks share the event loop: they do not wait for a group of a thousand alerts.
    new, problems = await asyncio.to_thread(_read, receiver, payload) if len(payload) > LARGE_BYTES else _read(receiver, payload)
    since = now - settings.duplicate_seconds * MICROS_PER_SECOND

    def write(connection: Connection) -> tuple[int, bool]:
        return take_in(connection, new, since=since, now=now)

    notification_id, is_new = await ledger.write_async(write)
    return Accepted(notification_id, not is_new, problems)


def _read(receiver: str, payload: bytes) -> tuple[NewNotification, tuple[str, ...]]:
    delivery = parse_webhook(payload)
    if not delivery.alerts:
        raise InvalidWebhook(422, "; ".join(delivery.problems) or "the webhook has no alerts")
    fires = any(alert.status == "firing" for alert in delivery.alerts)
    if delivery.truncated > 0 and not fires:
        # What fires may be among what was left out; the status of the group says so.
        fires = msgspec.json.decode(payload, type=_Group).status == "firing"
    return notification_of(receiver, delivery, fires=fires), delivery.problems


class _Group(msgspec.Struct):
    status: object = ""


def notification_of(receiver: str, delivery: Delivery, *, fires: bool = False) -> NewNotification:
    """What is kept of a webhook with at least one alert. `fires` where one does, be it among those that were left out."""
    firing = sum(alert.status == "firing" for alert in delivery.alerts)
    members = [
        Member(alert.status, kept(alert.labels), kept(alert.annotations, SHOWN_ANNOTATIONS.__contains__), alert.starts_at, alert.ends_at)
        for alert in sorted(delivery.alerts, key=lambda alert: urgency(alert.status, alert.labels))[:MOST_MEMBERS]
    ]
    # What the sender has left out is of no known status: it counts with the louder ones.
    left_out = min(max(delivery.truncated, 0), MOST_LEFT_OUT)
    fires = fires or firing > 0
    text = Text(
        firing=firing + (left_out if fires else 0),
        resolved=len(delivery.alerts) - firing + (0 if fires else left_out),
        members=tuple(members),
        external_url=delivery.external_url[:1000],
    )
    return NewNotification(
        receiver=receiver,
        identity=_identity(receiver, delivery, fires),
        group_key=storable(delivery.group_key[:LONGEST_GROUP_KEY]),
        status="firing" if fires else "resolved",
        alerts=text.firing + text.resolved,
        subject=storable(text.subject),
        content=msgspec.json.encode(_storable(text)).decode(),
    )


def _identity(receiver: str, delivery: Delivery, fires: bool) -> str:
    """What two webhooks have in common that say the same: 32 hexadecimal digits. When an alert ended is not part of it: of two
    Alertmanagers each has its own word."""
    alerts = sorted((alert.fingerprint, alert.status, alert.starts_at) for alert in delivery.alerts)
    content = msgspec.json.encode([receiver, delivery.group_key, delivery.truncated, fires, alerts])
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _storable(text: Text) -> Text:
    members = [
        msgspec.structs.replace(
            member,
            labels={storable(name): storable(value) for name, value in member.labels.items()},
            annotations={storable(name): storable(value) for name, value in member.annotations.items()},
        )
        for member in text.members
    ]
    return msgspec.structs.replace(text, members=tuple(members), external_url=storable(text.external_url))
