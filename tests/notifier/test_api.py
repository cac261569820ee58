"""`/api/notifications` of a real server: who may ask for what, what is answered, and that nothing waits for a delivery."""

import time
from pathlib import Path

import httpx
import pytest
from costwarden_server import Costwarden
from stand_in import Answer, StandIn


@pytest.fixture
def start(tmp_path, free_port):
    """`start({"hook": url}, attempts=…)`: a costwarden that serves, with a token of each role."""
    started = []

    def begin(urls, **retry):
        for name, url in urls.items():
            (tmp_path / f"{name}.url").write_text(url)
        for role in ("alertmanager", "viewer", "operator", "admin"):
            (tmp_path / role).write_text(f"{role}-token")
        tokens = [
            {"name": role, "role": role, "secret": {"file": str(tmp_path / role)}}
            for role in ("alertmanager", "viewer", "operator", "admin")
        ]
        receivers = [{"name": name, "url": {"file": str(tmp_path / f"{name}.url")}} for name in urls]
        retry = {"first_wait_seconds": 0.1, "longest_wait_seconds": 0.2, "timeout_seconds": 60, "attempts": 3, **retry}
        notifier = {"receivers": receivers, "retry": retry}
        server = Costwarden(tmp_path / "server", free_port(), auth={"tokens": tokens}, notifier=notifier)
        started.append(server)
        server.start()
        return server

    yield begin
    for server in started:
        server.stop()


def ask(server, method, path, role="operator", **options):
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        return client.request(method, path, headers={"authorization": f"Bearer {role}-token"}, **options)


def page(server, **query):
    answer = ask(server, "GET", "/api/notifications", "viewer", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer):
    return answer.status_code, answer.json()["type"].removeprefix("urn:costwarden:"), answer.json()["detail"]


def test_from_webhook_to_delivery_with_journal_metrics_and_retry(start, service, json_to, webhook, told, wait_until):
    server = start({"hook": json_to(service), "idle": json_to(service, "idle")})
    service.fail(500, times=3)
    first = ask(server, "POST", "/api/notifications/hook", "alertmanager", json=webhook())
    assert (first.status_code, first.json()) == (202, {"notification_id": 1, "duplicate": False})
    again = ask(server, "POST", "/api/notifications/hook", "alertmanager", json=webhook())
    assert (again.status_code, again.json()) == (202, {"notification_id": 1, "duplicate": True})
    wait_until(lambda: page(server)["notifications"][0]["state"] == "failed")
    shown = ask(server, "GET", "/api/notifications/1/attempts", "viewer").json()
    assert [attempt["outcome"] for attempt in shown["journal"]] == ["retried", "retried", "failed"]
    assert (shown["receipts"], shown["failures"], shown["next_attempt_at"]) == (2, 3, None)
    assert shown["message"] == "Failed to send JSON POST notification: Internal server error., error=500."
    asked = ask(server, "POST", "/api/notifications/1/retry")
    assert (asked.status_code, asked.json()) == (200, {"notification_id": 1, "state": "queued"})
    wait_until(lambda: page(server)["notifications"][0]["state"] == "delivered")
    assert problem(ask(server, "POST", "/api/notifications/1/retry")) == (409, "already_delivered", "notification 1 is delivered already")

    def series():
        text = ask(server, "GET", "/metrics", "viewer").text
        lines = [line for line in text.splitlines() if line.startswith("costwarden_notification")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    wait_until(lambda: series()['costwarden_notifications_total{receiver="hook",outcome="delivered"}'] == 1)
    found = series()
    success = found.pop('costwarden_notification_last_success_timestamp_seconds{receiver="hook"}')
    assert abs(success - time.time()) < 600
    assert found == {
        'costwarden_notifications_total{receiver="hook",outcome="delivered"}': 1,
        'costwarden_notifications_total{receiver="hook",outcome="failed"}': 1,
        'costwarden_notifications_total{receiver="hook",outcome="retried"}': 2,
        'costwarden_notifications_total{receiver="idle",outcome="delivered"}': 0,
        'costwarden_notifications_total{receiver="idle",outcome="failed"}': 0,
        'costwarden_notifications_total{receiver="idle",outcome="retried"}': 0,
        'costwarden_notification_queue_length{receiver="hook",state="queued"}': 0,
        'costwarden_notification_queue_length{receiver="hook",state="retrying"}': 0,
        'costwarden_notification_queue_length{receiver="idle",state="queued"}': 0,
        'costwarden_notification_queue_length{receiver="idle",state="retrying"}': 0,
    }


def test_the_answer_does_not_wait_for_the_receiver(start, json_to, webhook):
    with StandIn(lambda _: Answer(b"ok")) as slow:
        for _ in range(50):
            slow.hang()
        # It would have ten minutes for each of them, and answers none.
        server = start({"hook": json_to(slow)}, timeout_seconds=600)
        for number in range(30):
            answer = ask(server, "POST", "/api/notifications/hook", "alertmanager", json=webhook({"fingerprint": str(number)}))
            assert answer.status_code == 202
        assert [found["state"] for found in page(server)["notifications"]] == ["queued"] * 30


def test_what_is_no_webhook_or_for_nobody_is_refused(start, service, json_to, webhook):
    server = start({"hook": json_to(service)})
    post = lambda name, **body: ask(server, "POST", f"/api/notifications/{name}", "alertmanager", **body)  # noqa: E731
    unknown = (404, "unknown_receiver", "no receiver is named 'nobody' in the section `notifier`")
    assert problem(post("nobody", json=webhook())) == unknown
    assert problem(post("hook", content=b"{"))[:2] == (400, "invalid_webhook")
    assert problem(post("hook", content=b"[]"))[:2] == (422, "invalid_webhook")
    assert problem(post("hook", json={**webhook(), "version": "3"}))[:2] == (422, "invalid_webhook")
    assert problem(post("hook", json={**webhook(), "alerts": []})) == (422, "invalid_webhook", "the webhook has no alerts")
    bad = "alerts[0]: status 'burning' is neither `firing` nor `resolved`"
    assert problem(post("hook", json=webhook({"status": "burning"}))) == (422, "invalid_webhook", bad)
    large = b'{"version": "4", "alerts": [' + b" " * (16 << 20) + b"]}"
    assert problem(post("hook", content=large))[:2] == (413, "body_too_large")
    assert page(server) == {"notifications": [], "next_cursor": None}
    # What can be read of a group is told, and what cannot be is complained of.
    mixed = post("hook", json=webhook({"status": "burning"}, {}))
    assert problem(mixed) == (422, "invalid_alerts", bad)
    assert [found["alerts"] for found in page(server)["notifications"]] == [1]


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_only_alertmanager_tells(start, service, json_to, webhook, role):
    server = start({"hook": json_to(service)})
    assert ask(server, "POST", "/api/notifications/hook", role, json=webhook()).status_code == 403
    assert ask(server, "POST", "/api/notifications/hook", "guessed", json=webhook()).status_code == 401
    assert ask(server, "GET", "/api/notifications", "alertmanager").status_code == 403
    assert ask(server, "POST", "/api/notifications/1/retry", "viewer").status_code == 403


def test_the_journal_comes_in_pages_and_by_receiver_and_state(start, service, json_to, webhook, wait_until):
    server = start({"a": json_to(service), "b": json_to(service)})
    for number in range(5):
        for name in ("a", "b"):
            ask(server, "POST", f"/api/notifications/{name}", "alertmanager", json=webhook({"fingerprint": str(number)}))
    wait_until(lambda: len(page(server, state="delivered")["notifications"]) == 10)
    numbers, cursor = [], None
    while True:
        found = page(server, limit=2, receiver="a", **({"cursor": cursor} if cursor else {}))
        numbers += [entry["notification_id"] for entry in found["notifications"]]
        if (cursor := found["next_cursor"]) is None:
            break
    assert numbers == [9, 7, 5, 3, 1]
    assert page(server, state="failed")["notifications"] == []
    assert problem(ask(server, "GET", "/api/notifications", params={"state": "lost"}))[:2] == (422, "invalid_request")


@pytest.mark.parametrize("number", ["0", "7", "x", "-1", "1" * 30, "%31%00"])
def test_a_notification_that_is_not_there_is_told(start, service, json_to, number):
    server = start({"hook": json_to(service)})
    assert ask(server, "GET", f"/api/notifications/{number}/attempts").status_code == 404
    assert ask(server, "POST", f"/api/notifications/{number}/retry").status_code == 404


def test_a_reload_adds_a_receiver_and_one_with_a_wrong_url_changes_nothing(start, service, json_to, webhook, wait_until):
    server = start({"hook": json_to(service)})
    config = server.folder / "costwarden.yaml"
    text = config.read_text()
    Path(server.folder / "new.url").write_text("hunter2")
    assert "- name: hook" in text
    config.write_text(text.replace("- name: hook", "- name: new\n    url: {file: new.url}\n  - name: hook"))
    refused = ask(server, "POST", "/-/reload", "admin")
    why = "is no URL that Apprise understands: its service is unknown, or a part of it is missing or malformed"
    assert problem(refused) == (422, "invalid_config", f"notifier.receivers `new`: url: {why}")
    assert ask(server, "POST", "/api/notifications/new", "alertmanager", json=webhook()).status_code == 404
    Path(server.folder / "new.url").write_text(json_to(service, "new"))
    assert ask(server, "POST", "/-/reload", "admin").status_code == 200
    assert ask(server, "POST", "/api/notifications/new", "alertmanager", json=webhook()).status_code == 202
    wait_until(lambda: [request.path for request in service.requests] == ["/new"])


def test_kill_9_between_sending_and_noting_it_delivers_again_and_loses_nothing(start, webhook, json_to, wait_until):
    with StandIn(lambda _: Answer(b"ok")) as slow:
        slow.hang()
        # Killed within these seconds, and sent again after them.
        server = start({"hook": json_to(slow)}, timeout_seconds=10)
        for number in range(3):
            assert (
                ask(server, "POST", "/api/notifications/hook", "alertmanager", json=webhook({"fingerprint": str(number)})).status_code
                == 202
            )
        wait_until(lambda: len(slow.requests) == 1)
        server.kill()
        server.start()
        wait_until(lambda: [found["state"] for found in page(server)["notifications"]] == ["delivered"] * 3)
        journal = ask(server, "GET", "/api/notifications/1/attempts").json()["journal"]
        assert [attempt["outcome"] for attempt in journal] == ["interrupted", "delivered"]
        assert journal[0]["message"] == "the server ended meanwhile: it may have been delivered"
        # The first was sent twice, by what it had sent and not noted; the others once.
        assert len(slow.requests) == 4


def test_the_log_of_a_server_has_no_secret_at_any_level(start, service, json_to, webhook, wait_until):
    server = start({"hook": json_to(service, "s3cr3tpath")})
    config = server.folder / "costwarden.yaml"
    config.write_text(config.read_text().replace("level: warning", "level: debug"))
    server.kill()
    server.start()
    service.fail(500)
    ask(server, "POST", "/api/notifications/hook", "alertmanager", json=webhook())
    wait_until(lambda: page(server, state="delivered")["notifications"])
    log = server.folder / "logs" / "costwarden.log"
    wait_until(lambda: "a delivery has failed and is tried again" in log.read_text())
    # All that it had to say of it has been written when it has ended.
    server.stop()
    assert "s3cr3tpath" not in log.read_text()


def test_a_group_of_which_the_firing_alerts_were_left_out_still_says_that_it_fires(start, service, json_to, webhook, told, wait_until):
    server = start({"hook": json_to(service)})
    over = webhook({"status": "resolved", "endsAt": "2026-03-02T12:30:00Z"}, truncatedAlerts=6000)
    for status in ("firing", "resolved"):
        answer = ask(server, "POST", "/api/notifications/hook", "alertmanager", json={**over, "status": status})
        assert answer.status_code == 202
    wait_until(lambda: len(service.requests) == 2)
    # 1 that was sent and 6,000 that were not.
    assert [title.partition(" CloudCostSpike")[0] for title in told(service)] == ["[FIRING:6000, 1 RESOLVED]", "[RESOLVED:6001]"]
