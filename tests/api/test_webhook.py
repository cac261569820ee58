"""Alertmanager's webhook over HTTP: nothing without credentials, every member by its own, and never a word of what it started."""

import json

import pytest

ALERT = {
    "status": "firing",
    "labels": {"alertname": "AIBudgetExceeded", "action": "suspend_tenant"},
    "annotations": {},
    "startsAt": "2025-11-15T11:59:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "fingerprint": "0123456789abcdef",
}


def payload(*alerts, **more):
    return {"version": "4", "groupKey": "g", "status": "firing", "alerts": [{**ALERT, **alert} for alert in alerts], **more}


@pytest.fixture
def guarded(server_of, secret):
    return server_of(tokens=[{"name": "alertmanager", "role": "alertmanager", "secret": secret("hunter2")}])


def deliver(server, body, token="hunter2"):
    return server.post("/api/alerts/webhook", body, token=token)


def queue(server):
    with server.ledger.read() as connection:
        query = "SELECT fingerprint, action, status, state, deliveries FROM remediation_queue ORDER BY fingerprint"
        return connection.exec_driver_sql(query).fetchall()


def counted(server):
    return {
        name.partition('outcome="')[2][:-2]: value
        for name, value in server.series().items()
        if name.startswith("costwarden_webhook_alerts_total") and value
    }


def test_without_credentials_nothing_is_queued(guarded, server, problem_of):
    problem_of(deliver(guarded, payload({}), token=""), 401, "unauthenticated")
    problem_of(deliver(guarded, payload({}), token="guessed"), 401, "unauthenticated")
    problem_of(deliver(server, payload({}), token=""), 401, "unauthenticated")
    assert queue(guarded) == queue(server) == []
    assert guarded.series()['costwarden_http_rejected_requests_total{reason="unauthenticated"}'] == 2
    assert guarded.woken == 0


def test_every_member_of_a_group_is_taken_by_its_own_status(guarded):
    body = payload(
        {},
        {"fingerprint": "b", "status": "resolved", "endsAt": "2025-11-15T12:00:00Z"},
        {"fingerprint": "c", "labels": {"alertname": "Watchdog"}},
    )
    answer = deliver(guarded, body)
    assert (answer.status_code, answer.json()) == (200, {"queued": 1, "repeated": 0, "resolved": 1, "ignored": 1, "refused": 0})
    assert deliver(guarded, body).json() == {"queued": 0, "repeated": 1, "resolved": 1, "ignored": 1, "refused": 0}
    # What is over before it was heard of is remembered, so that a late `firing` does not act.
    assert queue(guarded) == [("0123456789abcdef", "suspend_tenant", "firing", "queued", 2), ("b", "suspend_tenant", "resolved", "done", 1)]
    assert guarded.woken == 2
    assert counted(guarded) == {"queued": 1, "repeated": 1, "resolved": 2, "ignored": 2}


def test_a_member_that_cannot_be_read_is_named_and_the_others_are_kept(guarded, problem_of):
    problem = problem_of(deliver(guarded, payload({"status": "burning", "fingerprint": "x"}, {})), 422, "invalid_alerts")
    assert problem["detail"] == "alerts[0]: status 'burning' is neither `firing` nor `resolved`"
    assert (problem["queued"], problem["refused"]) == (1, 1)
    assert queue(guarded) == [("0123456789abcdef", "suspend_tenant", "firing", "queued", 1)]
    assert counted(guarded) == {"queued": 1, "refused": 1}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b'{"version": "3", "alerts": []}', 422),
        (b'{"version": "4", "alerts": ' + b"[" * 100_000, 400),
        (b'{"version": "4", "alerts": [' + b'{"labels":' * 100_000, 400),
        (b'{"version": "4", "other": ' + b"[" * 100_000, 400),
        (b'{"version": "\xff", "alerts": []}', 400),
    ],
    ids=["empty", "cut off", "list", "version", "deep", "deep labels", "deep unknown", "not UTF-8"],
)
def test_what_is_no_webhook_is_refused(guarded, problem_of, body, status):
    answer = guarded.request("POST", "/api/alerts/webhook", token="hunter2", content=body)
    problem_of(answer, status, "invalid_webhook")
    assert queue(guarded) == []


def test_a_group_of_thousands_fits_and_a_flood_does_not(guarded, problem_of):
    many = payload(*({"fingerprint": f"{number:016x}"} for number in range(2_000)))
    assert deliver(guarded, many).json()["queued"] == 2_000
    flood = b" " * (16 * 1024 * 1024 + 1)
    problem_of(guarded.request("POST", "/api/alerts/webhook", token="hunter2", content=flood), 413, "body_too_large")


def test_labels_are_kept_as_they_came_and_run_nothing(guarded):
    hostile = {"alertname": "x", "action": "suspend_tenant", "tenant_id": "-oProxyCommand=x; rm -rf /", "n": "\u0000\n'\""}
    assert deliver(guarded, payload({"labels": hostile})).json()["queued"] == 1
    with guarded.ledger.read() as connection:
        (labels,) = connection.exec_driver_sql("SELECT labels FROM remediation_queue").one()
    assert json.loads(labels) == hostile


def test_a_ledger_that_cannot_write_is_503_so_that_alertmanager_sends_it_again(guarded, problem_of):
    guarded.ledger.close()
    problem_of(deliver(guarded, payload({})), 503, "ledger_unavailable")
