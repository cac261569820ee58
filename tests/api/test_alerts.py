"""`/api/alerts`, `/api/audit`, `/api/ai-budget/reservations`: what happened, who changed what, what is not settled."""

import pytest
from sqlalchemy import insert

from costwarden.ledger.schema import guardrail_breaches, remediation_queue

MINUTE = 60_000_000


@pytest.fixture
def server(either_server):
    """Every test on both databases: what pages and sums read is SQL."""
    return either_server


def pages(server, path, name, **query):
    found, cursor = [], None
    while True:
        page = server.get(path, params={"limit": 2, **query, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page[name]) <= 2
        found += page[name]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.fixture
def eventful(server):
    """At noon two budgets cross five thresholds each, two guardrails are breached and two incidents come; a minute later some more."""
    for tenant in ("acme", "globex"):
        server.set(1, tenant)
    for minute in range(2):
        for tenant in ("acme", "globex"):
            server.track(500_000, tenant)
        at = server.now

        def record(connection, at=at, minute=minute):
            for name in ("hourly", "daily"):
                row = {
                    "guardrail": name,
                    "breached_at": at,
                    "spent": 7,
                    "threshold_nanos": 5,
                    "severity": "high",
                    "actions": '["alert","pause"]',
                }
                connection.execute(insert(guardrail_breaches).values(row))
            for number in range(2):
                row = {
                    "fingerprint": f"f{number}",
                    "starts_at": f"2025-11-15T12:0{minute}:00.000000Z",
                    "action": "pause",
                    "status": "firing",
                }
                more = {"labels": '{"a":"b"}', "received_at": at, "state": "queued"}
                connection.execute(insert(remediation_queue).values(row | more))

        server.ledger.write(record)
        server.now += MINUTE
    return server


def kinds(found):
    return [
        (entry["at"][14:16], entry["kind"], entry.get("guardrail") or entry.get("fingerprint") or entry.get("threshold")) for entry in found
    ]


def test_alerts_are_the_newest_first_and_page_by_page_each_once(eventful):
    found = pages(eventful, "/api/alerts", "alerts")
    everything = eventful.get("/api/alerts", params={"limit": 1000}).json()["alerts"]
    assert found == everything
    assert kinds(found)[:4] == [
        ("01", "guardrail", "daily"),
        ("01", "guardrail", "hourly"),
        ("01", "incident", "f0"),
        ("01", "incident", "f1"),
    ]
    # 0.5 of both budgets at noon; 0.75, 0.8, 0.9 and 1 of both a minute later
    assert [sum(entry["kind"] == "threshold" and entry["at"][14:16] == minute for entry in found) for minute in ("00", "01")] == [2, 8]
    assert len(found) == 2 * 2 * 2 + 10


def test_an_alert_says_what_happened(eventful):
    threshold = eventful.get("/api/alerts?kind=threshold&until=2025-11-15T12:01:00Z&limit=1").json()["alerts"][0]
    assert threshold == {
        "kind": "threshold",
        "at": "2025-11-15T12:00:00Z",
        "budget": "tenant_id=acme/month",
        "tenant_id": "acme",
        "period": "month",
        "period_start": "2025-11-01T00:00:00Z",
        "threshold": 0.5,
        "spent_usd": 0.5,
        "limit_usd": 1,
    }
    breach = eventful.get("/api/alerts?kind=guardrail&limit=1").json()["alerts"][0]
    assert (breach["severity"], breach["actions"]) == ("high", ["alert", "pause"])
    incident = eventful.get("/api/alerts?kind=incident&limit=1").json()["alerts"][0]
    assert (incident["labels"], incident["state"], incident["resolved_at"]) == ({"a": "b"}, "queued", None)


@pytest.mark.parametrize("kind", ["threshold", "guardrail", "incident"])
def test_alerts_of_one_kind(eventful, kind):
    found = pages(eventful, "/api/alerts", "alerts", kind=kind)
    assert {entry["kind"] for entry in found} == {kind}
    assert found == [entry for entry in pages(eventful, "/api/alerts", "alerts") if entry["kind"] == kind]


def test_a_page_goes_on_though_more_happens(eventful):
    first = eventful.get("/api/alerts", params={"limit": 5}).json()
    rest = eventful.get("/api/alerts", params={"cursor": first["next_cursor"], "limit": 1000}).json()["alerts"]
    eventful.set(0.1, "initech")
    eventful.track(100_000, "initech")
    assert eventful.get("/api/alerts", params={"cursor": first["next_cursor"], "limit": 1000}).json()["alerts"] == rest


# --- audit ---------------------------------------------------------------------------------------------------------------------------


def test_every_change_through_the_api_is_in_the_audit_log(server):
    server.set(5)
    server.post("/api/budgets", {"period": "day", "limit_usd": 9})
    server.request("PATCH", "/api/budgets/global/day", json={"limit_usd": 8})
    server.put("/api/budgets/global/day", {"limit_usd": 7})
    server.post("/api/budgets/global/day/reset", {"reason": "why"})
    server.request("DELETE", "/api/budgets/global/day")
    server.post("/api/ai-budget/tenant/acme/suspend", {"reason": "runaway"})
    server.post("/api/ai-budget/tenant/acme/resume")
    server.post("/api/ai-budget/emergency-stop", {"reason": "leak"})
    server.request("DELETE", "/api/ai-budget/emergency-stop")
    reservation = server.check(1000).json()["reservation_id"]
    server.post(f"/api/ai-budget/reservations/{reservation}/resolve", {"cost_usd": 0.5, "reason": "their bill"})
    entries = pages(server, "/api/audit", "entries")
    assert [entry["entry_id"] for entry in entries] == list(range(len(entries), 0, -1))
    assert {entry["actor"] for entry in entries} == {"local"}
    assert [entry["action"] for entry in reversed(entries)] == [
        "set_budget",
        "set_budget",
        "set_budget",
        "set_budget",
        "reset_budget",
        "delete_budget",
        "suspend_tenant",
        "resume_tenant",
        "emergency_stop",
        "lift_emergency_stop",
        "resolve_reservation",
    ]
    assert len(server.get("/api/audit?action=set_budget&subject=global/day").json()["entries"]) == 3
    assert server.get("/api/audit?actor=nobody").json() == {"entries": [], "next_cursor": None}


# --- reservations --------------------------------------------------------------------------------------------------------------------


def test_reservations_are_listed_by_state_and_resolved(server, problem_of):
    server.set(5)
    for number in range(5):
        server.check(1000, event_id=f"e{number}/x")
    open_ = pages(server, "/api/ai-budget/reservations", "reservations", state="open")
    assert [entry["event_id"] for entry in open_] == [f"e{number}/x" for number in range(5)]
    assert open_[0] == {
        "reservation_id": "event:4:acme:e0/x",
        "event_id": "e0/x",
        "kind": "call",
        "state": "open",
        "created_at": "2025-11-15T12:00:00Z",
        "expires_at": "2025-11-15T12:10:00Z",
        "reserved_usd": 0.001,
        "settled_usd": 0,
        "tenant_id": "acme",
        "model": "plain",
    }
    assert pages(server, "/api/ai-budget/reservations", "reservations", state="unsettled") == []
    answer = server.post("/api/ai-budget/reservations/event:4:acme:e0/x/resolve", {"cost_usd": 2, "reason": "their bill"})
    assert answer.json() == {"reservation_id": "event:4:acme:e0/x", "event_id": "e0/x", "cost_usd": 2}
    assert server.get("/api/ai-budget/tenant/acme").json()["total_usage_usd"] == 2
    problem = problem_of(
        server.post("/api/ai-budget/reservations/none/resolve", {"cost_usd": 0, "reason": "x"}), 404, "unknown_reservation"
    )
    assert problem["detail"] == "there is no reservation `none` that is not settled"


def test_an_emergency_stop_denies_everybody_until_it_is_lifted(server):
    server.set(5)
    assert server.post("/api/ai-budget/emergency-stop", {"reason": "leak"}).json() == {"stopped": True, "changed": True}
    assert server.post("/api/ai-budget/emergency-stop", {"reason": "leak"}).json() == {"stopped": True, "changed": False}
    assert server.check(1).json()["reason"] == "emergency_stop"
    assert server.request("DELETE", "/api/ai-budget/emergency-stop").json() == {"stopped": False, "changed": True}
    assert server.check(1).status_code == 200
