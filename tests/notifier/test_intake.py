"""Alertmanager's webhook to a receiver: kept before it is answered, once for both Alertmanagers of a pair, and again at a repetition."""

import msgspec
import pytest

from costwarden.notifier.text import MOST_MEMBERS, Alarm, Text

MINUTE = 60_000_000
NOON = 1_772_452_800_000_000
"""2026-03-02 12:00 UTC in microseconds."""


@pytest.fixture
def idle(scene):
    """A scene whose notifier does not run: what is taken in stays."""
    scene.worker.stop()
    return scene


def test_the_same_of_both_alertmanagers_or_sent_again_is_one_notification(idle, webhook):
    first, is_new = idle.receive("mail", webhook({}, {"fingerprint": "b"}), NOON)
    assert is_new
    # In another order, minutes later, by the Alertmanager whose group began later; and when it ended is each one's own word.
    assert idle.receive("mail", webhook({"fingerprint": "b"}, {}), NOON + 5 * MINUTE) == (first, False)
    assert idle.receive("mail", webhook({"endsAt": "2026-03-02T12:10:00Z"}, {"fingerprint": "b"}), NOON + 9 * MINUTE) == (first, False)
    (found,) = idle.all()
    assert (found.receipts, found.received_at, found.last_received_at) == (3, NOON, NOON + 9 * MINUTE)


def test_a_repetition_is_delivered_again(idle, webhook):
    first, _ = idle.receive("mail", webhook(), NOON)
    for minute in range(1, 10):
        assert idle.receive("mail", webhook(), NOON + minute * MINUTE) == (first, False)
    # Ten minutes after the first receipt, not after the last: what is repeated without end is told now and then.
    again, is_new = idle.receive("mail", webhook(), NOON + 10 * MINUTE)
    assert (again > first, is_new) == (True, True)
    assert idle.receive("mail", webhook(), NOON + 4 * 60 * MINUTE)[1]


@pytest.mark.parametrize(
    "other",
    [
        {"status": "resolved", "endsAt": "2026-03-02T12:01:00Z"},
        {"startsAt": "2026-03-02T12:00:30Z"},
        {"fingerprint": "fedcba9876543210"},
    ],
)
def test_another_status_start_or_alert_is_another_notification(idle, webhook, other):
    idle.receive("mail", webhook(), NOON)
    assert idle.receive("mail", webhook(other), NOON)[1]
    assert idle.receive("mail", webhook({}, {"fingerprint": "b"}), NOON)[1]
    assert idle.receive("mail", webhook(group_key="other"), NOON)[1]
    assert idle.receive("sms", webhook(), NOON)[1]
    assert len(idle.all()) == 5


def test_what_is_remembered_of_the_future_counts_for_nothing(idle, webhook):
    # The clock was set back.
    idle.receive("mail", webhook(), NOON + 60 * MINUTE)
    assert idle.receive("mail", webhook(), NOON)[1]


def test_every_alert_counts_by_its_own_status(idle, webhook):
    over = {"status": "resolved", "fingerprint": "b", "endsAt": "2026-03-02T12:00:00Z"}
    critical = {"fingerprint": "c", "labels": {"alertname": "C", "severity": "critical"}}
    # The group says `firing`, and one of it is over; and a group that says so too may fire no more.
    idle.receive("mail", webhook({}, over, critical), NOON)
    idle.receive("mail", webhook(over), NOON)
    mixed, resolved = idle.all()
    assert (mixed.status, mixed.alerts, mixed.subject.partition(":")[0]) == ("firing", 3, "[FIRING")
    assert mixed.subject.startswith("[FIRING:2, 1 RESOLVED] C (critical): ")
    assert (resolved.status, resolved.alerts) == ("resolved", 1)
    assert resolved.subject.startswith("[RESOLVED] CloudCostSpike (warning): ")


def test_a_large_group_is_kept_in_part_and_counted_whole(idle, webhook, many):
    idle.receive("mail", webhook(*many(1000, annotations={"summary": "s" * 10_000}), truncatedAlerts=7), NOON)
    (found,) = idle.all()
    assert found.alerts == 1007
    assert found.content.count('"alertname"') == MOST_MEMBERS
    assert len(found.content) < 200_000


def test_of_many_labels_the_name_and_the_severity_are_kept(idle, webhook):
    many = {f"label_{number:03}": "x" for number in range(100)}
    idle.receive("sms", webhook({"labels": {"alertname": "zzz", "severity": "critical", **many}}), NOON)
    (found,) = idle.all()
    text = msgspec.json.decode(found.content, type=Text)
    assert (len(text.members[0].labels), text.alarm) == (30, Alarm.CRITICAL)
    assert text.short(160) == "CRITICAL: aws costs twice as much as a week ago"


def test_text_that_postgresql_cannot_hold_is_held(idle, webhook):
    idle.receive("mail", webhook({"labels": {"alertname": "nul\0", "x\0": "y\0"}, "annotations": {"summary": "\0"}}), NOON)
    (found,) = idle.all()
    assert "\\u0000" not in found.subject + found.content
    assert "x\ufffd" in found.content
