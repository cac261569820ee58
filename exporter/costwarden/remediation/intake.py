"""From Alertmanager's webhook to the durable queue.

The payload is version 4 of the `webhook_config` message: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config.
A group's status is that of its worst member, so each member is taken by its own.
"""

from datetime import UTC, datetime

import msgspec

from costwarden.ledger import Connection, Ledger
from costwarden.ledger.remediation import Firing, Resolved, enqueue, mark_resolved

# Alertmanager writes fingerprints as 16 hexadecimal digits, Grafana likewise; the rest is room for other senders.
LONGEST_FINGERPRINT = 64
LONGEST_ACTION = 256
# A group of this size is written in a fraction of a second; the budget checks wait behind it, so that one more than this is refused.
MOST_MEMBERS = 5_000


class InvalidWebhook(Exception):
    """The payload is not an Alertmanager webhook; nothing of it was kept. `status` is the HTTP status that says so: 400 or 422."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Alert(msgspec.Struct, frozen=True):
    """A member of a group. Times are canonical: UTC, ISO, six decimal places, so that two Alertmanagers name one incident alike."""

    fingerprint: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str
    """Empty while it fires."""

    @property
    def action(self) -> str:
        """The playbook that it asks for; empty asks for none."""
        return self.labels.get("action", "")


class Delivery(msgspec.Struct, frozen=True):
    """A parsed payload. `problems` has a sentence for each member that could not be read; the other members are good."""

    group_key: str
    alerts: tuple[Alert, ...]
    problems: tuple[str, ...]
    truncated: int = 0
    """Alerts that the sender has left out (`max_alerts`)."""
    external_url: str = ""
    """Alertmanager's own page."""


class IntakeResult(msgspec.Struct, frozen=True):
    """What became of the members. Answer 422 with `problems` where there are any, else 200: the good members are kept either way."""

    queued: int
    repeated: int
    resolved: int
    ignored: int
    """Firing without an `action` label: for people, not for us."""
    problems: tuple[str, ...]

    @property
    def refused(self) -> int:
        """Members that could not be read."""
        return len(self.problems)


class _Envelope(msgspec.Struct):
    version: str
    alerts: list[msgspec.Raw]
    groupKey: str = ""  # noqa: N815 (Alertmanager's name)
    truncatedAlerts: int = 0  # noqa: N815
    externalURL: str = ""  # noqa: N815


class _Member(msgspec.Struct):
    status: str
    labels: dict[str, str]
    fingerprint: str
    startsAt: datetime  # noqa: N815
    annotations: dict[str, str] = {}
    endsAt: datetime | None = None  # noqa: N815


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_MEMBER = msgspec.json.Decoder(_Member)


def accept(ledger: Ledger, payload: bytes, now: int) -> IntakeResult:
    """Queue the alerts of a webhook; returns once they are durable, so that the answer may be given.

    Raises `InvalidWebhook`, or `LedgerUnavailable`: answer 503 then, and Alertmanager sends it again.
    """
    delivery = parse_webhook(payload)
    return ledger.write(lambda connection: record_delivery(connection, delivery, now))


async def accept_async(ledger: Ledger, payload: bytes, now: int) -> IntakeResult:
    """`accept` for the event loop."""
    delivery = parse_webhook(payload)
    return await ledger.write_async(lambda connection: record_delivery(connection, delivery, now))


def parse_webhook(payload: bytes) -> Delivery:
    """The members of a payload; unknown fields are left aside, one unreadable member does not cost the others.

    Raises `InvalidWebhook`: 400 for what is not JSON, 422 for JSON that is not this message.
    """
    try:
        envelope = _ENVELOPE.decode(payload)
    except msgspec.ValidationError as error:
        raise InvalidWebhook(422, f"not an Alertmanager webhook: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidWebhook(400, f"not JSON: {error}") from error
    if envelope.version != "4":
        raise InvalidWebhook(422, f"webhook version {envelope.version!r} is not known; costwarden reads version 4")
    if "\0" in envelope.groupKey:
        raise InvalidWebhook(422, "`groupKey` holds the character U+0000")
    if len(envelope.alerts) > MOST_MEMBERS:
        raise InvalidWebhook(
            422, f"{len(envelope.alerts)} alerts in one delivery; the limit is {MOST_MEMBERS}, and none was kept: group by more labels"
        )
    alerts, problems = [], []
    for position, raw in enumerate(envelope.alerts):
        try:
            alerts.append(_alert(_MEMBER.decode(raw)))
        except (ValueError, RecursionError) as error:  # msgspec's errors and the rules of _alert
            problems.append(f"alerts[{position}]: {error}")
    return Delivery(envelope.groupKey, tuple(alerts), tuple(problems), envelope.truncatedAlerts, envelope.externalURL)


def record_delivery(connection: Connection, delivery: Delivery, now: int) -> IntakeResult:
    """Write a delivery to the queue; every member counts once in the result."""
    over = [alert for alert in delivery.alerts if alert.status == "resolved"]
    asking = [alert for alert in delivery.alerts if alert.status == "firing" and alert.action]
    mark_resolved(connection, [Resolved(alert.fingerprint, alert.starts_at, alert.ends_at, alert.action) for alert in over], now=now)
    queued = enqueue(
        connection,
        [Firing(alert.fingerprint, alert.starts_at, alert.action, alert.labels, alert.annotations) for alert in asking],
        group_key=delivery.group_key,
        now=now,
    )
    ignored = len(delivery.alerts) - len(over) - len(asking)
    return IntakeResult(queued, len(asking) - queued, len(over), ignored, delivery.problems)


def _alert(member: _Member) -> Alert:
    if member.status not in ("firing", "resolved"):
        raise ValueError(f"status {member.status!r} is neither `firing` nor `resolved`")
    if not 0 < len(member.fingerprint) <= LONGEST_FINGERPRINT:
        raise ValueError(f"fingerprint has {len(member.fingerprint)} characters; 1 to {LONGEST_FINGERPRINT} are allowed")
    if "\0" in member.fingerprint + member.labels.get("action", ""):
        raise ValueError("the fingerprint or the label `action` holds the character U+0000")
    if len(member.labels.get("action", "")) > LONGEST_ACTION:
        raise ValueError(f"label `action` is longer than {LONGEST_ACTION} characters")
    starts_at = _canonical(member.startsAt, "startsAt")
    # Alertmanager writes year 1 where an alert has no end yet.
    ended = member.status == "resolved" and member.endsAt is not None and member.endsAt.year > 1
    ends_at = _canonical(member.endsAt, "endsAt") if ended and member.endsAt is not None else ""
    return Alert(member.fingerprint, member.status, member.labels, member.annotations, starts_at, ends_at)


def _canonical(when: datetime, name: str) -> str:
    if when.tzinfo is None:
        raise ValueError(f"{name} has no time zone")
    # The ledger counts from 1970, and year 9999 in another zone is not a UTC time.
    if not 1970 <= when.year < 9999:
        raise ValueError(f"{name} {when.isoformat()} is out of range")
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
