"""From the webhook to the queue: what a receiver must survive."""

import asyncio

import pytest

from costwarden.remediation.intake import MOST_MEMBERS, InvalidWebhook, accept, accept_async, parse_webhook


def test_a_firing_alert_with_an_action_is_queued_with_all_it_said(scene, alert):
    result = scene.deliver(alert(tenant_id="acme"))
    assert (result.queued, result.repeated, result.resolved, result.ignored, result.refused) == (1, 0, 0, 0, 0)
    item = scene.item()
    assert (item.state, item.status, item.deliveries, item.action) == ("queued", "firing", 1, "stop_it")
    assert item.labels["tenant_id"] == "acme"
    assert item.annotations == {"summary": "over budget"}
    assert item.starts_at == "2026-03-02T11:59:00.123000Z"
    assert item.received_at == item.last_received_at > 0


def test_an_incident_is_queued_once_however_often_and_by_how_many_alertmanagers_it_is_sent(scene, alert):
    results = [scene.deliver(alert()) for _ in range(3)]
    assert [(result.queued, result.repeated) for result in results] == [(1, 0), (0, 1), (0, 1)]
    item = scene.item()
    assert item.deliveries == 1 + 2
    assert item.last_received_at > item.received_at
    assert scene.lengths() == {"queued": 1}


def test_one_instant_written_in_another_zone_is_the_same_incident(scene, alert):
    scene.deliver(alert(starts_at="2026-03-02T11:59:00.5Z"))
    assert scene.deliver(alert(starts_at="2026-03-02T12:59:00.500000000+01:00")).repeated == 1


def test_another_start_another_series_and_another_action_are_incidents_of_their_own(scene, alert):
    scene.deliver(
        alert(),
        alert(starts_at="2026-03-02T11:59:01Z"),
        alert("00000000000000ff"),
        alert(action="throttle"),
    )
    assert scene.lengths() == {"queued": 4}


def test_each_member_of_a_group_counts_by_its_own_status(scene, alert):
    scene.deliver(alert("aaaa"), alert("bbbb"))
    result = scene.deliver(
        alert("aaaa", status="resolved", ends_at="2026-03-02T12:00:00Z"),
        alert("bbbb"),
        alert("cccc"),
        alert("dddd", action=None),
    )
    assert (result.queued, result.repeated, result.resolved, result.ignored) == (1, 1, 1, 1)
    assert [(scene.item(number).fingerprint, scene.item(number).status) for number in (1, 2, 3)] == [
        ("aaaa", "resolved"),
        ("bbbb", "firing"),
        ("cccc", "firing"),
    ]


def test_a_resolved_alert_that_was_never_queued_is_counted_and_queues_nothing(scene, alert):
    assert scene.deliver(alert(status="resolved", ends_at="2026-03-02T12:00:00Z")).resolved == 1
    assert scene.lengths() == {"done": 1}
    assert scene.deliver(alert("bbbb", action=None, status="resolved", ends_at="2026-03-02T12:00:00Z")).resolved == 1
    assert scene.lengths() == {"done": 1}


def test_a_firing_that_comes_after_its_resolved_is_over_and_a_new_start_is_not(scene, actor, alert):
    # The other Alertmanager was slower, or the first `firing` was answered 503 and sent again.
    scene.configure(actor.playbook())
    scene.deliver(alert(status="resolved", ends_at="2026-03-02T12:00:00Z"))
    late = scene.deliver(alert())
    scene.work()
    assert (late.queued, late.repeated, actor.calls()) == (0, 1, [])
    assert scene.deliver(alert(starts_at="2026-03-02T12:05:00Z")).queued == 1
    scene.work()
    assert len(actor.calls("apply")) == 1


def test_a_delivery_with_too_many_members_is_refused_whole(scene, alert, webhook, ledger, clock):
    members = [alert(f"{number:016x}") for number in range(MOST_MEMBERS)]
    with pytest.raises(InvalidWebhook, match="5001 alerts in one delivery; the limit is 5000, and none was kept") as refusal:
        accept(ledger, webhook(*members, alert()), clock())
    assert (refusal.value.status, scene.lengths()) == (422, {})
    assert accept(ledger, webhook(*members), clock()).queued == MOST_MEMBERS


def test_resolved_ends_every_incident_that_began_while_the_alert_lasted_and_none_that_began_later(scene, alert):
    # A second Prometheus saw it a second earlier: Alertmanager moved startsAt back, and says so only when it resolves.
    scene.deliver(alert(starts_at="2026-03-02T11:59:01Z"))
    scene.deliver(alert(starts_at="2026-03-02T11:59:30Z"))
    scene.deliver(alert(status="resolved", starts_at="2026-03-02T11:59:00Z", ends_at="2026-03-02T11:59:29Z"))
    assert (scene.item(1).status, scene.item(2).status) == ("resolved", "firing")


def test_a_late_copy_of_a_firing_alert_does_not_bring_a_resolved_incident_back(scene, alert):
    scene.deliver(alert())
    scene.deliver(alert(status="resolved", ends_at="2026-03-02T12:00:00Z"))
    assert scene.deliver(alert()).repeated == 1
    assert scene.item().status == "resolved"


def test_unknown_fields_are_left_aside(scene, alert, webhook, ledger, clock):
    member = alert() | {"silenceURL": "http://grafana.example", "values": {"B": 1}}
    assert accept(ledger, webhook(member, orgId=1, notificationReason="repeat"), clock()).queued == 1


def test_an_empty_action_asks_for_nothing(scene, alert):
    assert scene.deliver(alert(action="")).ignored == 1


@pytest.mark.parametrize(
    ("payload", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b'{"version": "4", "alerts": [', 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[]", 422, "Expected `object`, got `array`"),
        (b'{"version": "4"}', 422, "missing required field `alerts`"),
        (b'{"version": "4", "alerts": {}}', 422, "Expected `array`, got `object`"),
        (b'{"version": "3", "alerts": []}', 422, "webhook version '3' is not known; costwarden reads version 4"),
    ],
)
def test_what_is_no_webhook_is_refused_with_the_status_that_says_why(payload, status, message):
    with pytest.raises(InvalidWebhook, match=message) as refusal:
        parse_webhook(payload)
    assert refusal.value.status == status


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"status": "suppressed"}, "status 'suppressed' is neither `firing` nor `resolved`"),
        ({"fingerprint": ""}, "fingerprint has 0 characters; 1 to 64 are allowed"),
        ({"fingerprint": "f" * 65}, "fingerprint has 65 characters; 1 to 64 are allowed"),
        ({"startsAt": "yesterday"}, "Invalid RFC3339 encoded datetime - at `$.startsAt`"),
        ({"startsAt": "2026-03-02T11:59:00"}, "startsAt has no time zone"),
        ({"startsAt": "0001-01-01T00:00:00Z"}, "startsAt 0001-01-01T00:00:00+00:00 is out of range"),
        ({"labels": {"action": 7}}, "Expected `str`, got `int` - at `$.labels[...]`"),
        ({"labels": {"action": "a" * 257}}, "label `action` is longer than 256 characters"),
    ],
)
def test_a_broken_member_is_named_and_does_not_cost_the_others(ledger, clock, webhook, alert, change, problem):
    result = accept(ledger, webhook(alert() | change, alert("bbbb")), clock())
    assert result.queued == 1
    assert result.problems == (f"alerts[0]: {problem}",)
    assert result.refused == 1


def test_a_label_of_any_content_is_kept_as_it_is(scene, alert):
    hostile = "-oProxyCommand=x; rm -rf / $(reboot) `id` \u0000 'quoted' \"double\""
    scene.deliver(alert(instance=hostile))
    assert scene.item().labels["instance"] == hostile


def test_the_event_loop_has_its_own_way_in(ledger, clock, webhook, alert):
    assert asyncio.run(accept_async(ledger, webhook(alert()), clock())).queued == 1


def test_a_payload_as_alertmanager_writes_it_is_read(ledger, clock):
    # As Alertmanager 0.25 sent it, down to Go's HTML escapes and the nanoseconds of an alert that came without startsAt.
    payload = rb"""{"receiver":"costwarden","status":"firing","alerts":[{"status":"firing","labels":{"action":"suspend_ai_tenant",
    "alertname":"AIBudgetExceeded","budget":"tenant:acme","severity":"critical","tenant_id":"acme"},"annotations":{"summary":
    "acme \u003e 100 %"},"startsAt":"2026-03-02T11:59:26.739266876+02:00","endsAt":"0001-01-01T00:00:00Z",
    "generatorURL":"http://p:9090/graph?g0.expr=a+%3E+1\u0026g0.tab=1","fingerprint":"1a30ba71cca2921f"}],"groupLabels":{},
    "commonLabels":{},"commonAnnotations":{},"externalURL":"http://a:9093","version":"4","groupKey":"{}:{}","truncatedAlerts":0}"""
    (read,) = parse_webhook(payload).alerts
    assert (read.action, read.fingerprint, read.annotations) == ("suspend_ai_tenant", "1a30ba71cca2921f", {"summary": "acme > 100 %"})
    assert read.starts_at == "2026-03-02T09:59:26.739267Z"
    assert accept(ledger, payload, clock()).queued == 1
