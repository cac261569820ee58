"""`/api/budgets`: budgets of every scope and period, made, changed, reset and removed; each change in the audit log."""

import asyncio
from decimal import Decimal
from urllib.parse import quote

import httpx
import pytest

from costwarden.api.budgets import parse_budget_name
from costwarden.api.problems import Problem
from costwarden.budgets.rules import budget_name
from costwarden.model import DIMENSIONS


@pytest.fixture
def server(either_server):
    """Every test on both databases: what pages and sums read is SQL."""
    return either_server


def audit(server, action):
    return [entry for entry in server.get("/api/audit").json()["entries"] if entry["action"] == action]


def test_a_budget_of_any_scope_and_period_is_made_and_holds(server, exact):
    made = server.post("/api/budgets", {"scope": {"team": "search", "model": "plain"}, "period": "day", "limit_usd": "0.25"})
    assert made.status_code == 201
    name = "model=plain,team=search/day"
    assert exact(made)["budget"] == name
    assert exact(made)["limit_usd"] == Decimal("0.25")
    assert server.check(250_001, team="search").json()["denied_by"]["budget"] == name
    (entry,) = audit(server, "set_budget")
    assert (entry["actor"], entry["subject"], entry["before"]) == ("local", name, None)
    assert entry["after"]["limit"] == 250_000_000


def test_an_empty_name_in_a_scope_is_refused_by_its_key(server):
    refused = server.post("/api/budgets", {"scope": {"tenant_id": ""}, "limit_usd": 5})
    assert refused.status_code in (400, 422)
    assert "scope.tenant_id" in refused.text
    assert server.get("/api/budgets").json()["budgets"] == []


def test_a_budget_that_is_there_is_not_made_again(server, problem_of):
    body = {"period": "total", "limit_usd": 5}
    assert server.post("/api/budgets", body).json()["budget"] == "global/total"
    assert problem_of(server.post("/api/budgets", body), 409, "budget_exists")["budget"] == "global/total"


def test_names_that_no_index_could_hold_together_are_refused(server, problem_of):
    scope = dict.fromkeys(("tenant_id", "provider", "model"), "\U0001f4b8" * 256)
    refused = problem_of(server.post("/api/budgets", {"scope": scope, "period": "day", "limit_usd": 1}), 422, "invalid_request")
    assert "at most 2400 bytes" in refused["detail"]
    # The longest that a tenant's default budget can be named.
    del scope["provider"]
    assert server.post("/api/budgets", {"scope": scope, "period": "month", "limit_usd": 1}).status_code == 201


def at_once(server, *requests):
    """The answers to (method, path, body), all asked before any is answered."""

    async def send():
        transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://costwarden") as client:
            return await asyncio.gather(*(client.request(method, path, json=body) for method, path, body in requests))

    return asyncio.run(send())


def test_of_several_that_make_the_same_budget_at_once_one_does(server):
    for number in range(5):
        body = {"scope": {"team": f"t{number}"}}
        answers = at_once(server, *(("POST", "/api/budgets", {**body, "limit_usd": usd}) for usd in (1, 2, 3)))
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
        (made,) = (answer.json() for answer in answers if answer.status_code == 201)
        assert server.get(f"/api/budgets/team=t{number}/month").json()["monthly_limit_usd"] == made["monthly_limit_usd"]


def test_of_changes_at_once_none_is_lost(server, exact):
    path = "/api/budgets/global/month"
    for _ in range(5):
        server.put(path, {"limit_usd": 100})
        changes = ({"limit_usd": 1}, {"soft_limit_ratio": 0.5}, {"action": "throttle"}, {"thresholds": [0.25]})
        assert {answer.status_code for answer in at_once(server, *(("PATCH", path, change) for change in changes))} == {200}
        after = audit(server, "set_budget")[0]["after"]
        assert (after["limit"], after["soft_limit_ratio"], after["action"], after["thresholds"]) == (10**9, "0.5", "throttle", ["0.25"])


def test_of_changes_by_two_replicas_at_once_none_is_lost(server_of, postgresql_url):
    url = postgresql_url()
    first, second = server_of(url=url), server_of(url=url)
    path = "/api/budgets/global/month"

    async def both():
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(first.app), base_url="http://first") as one,
            httpx.AsyncClient(transport=httpx.ASGITransport(second.app), base_url="http://second") as other,
        ):
            for _ in range(10):
                await one.put(path, json={"limit_usd": 100})
                await asyncio.gather(one.patch(path, json={"limit_usd": 1}), other.patch(path, json={"soft_limit_ratio": 0.5}))
                found = (await one.get(path)).json()
                assert (found["monthly_limit_usd"], found["soft_limit_ratio"]) == (1, 0.5)

    asyncio.run(both())


def test_put_makes_what_its_name_says_and_replaces_all_of_it(server, exact):
    path = "/api/budgets/tenant_id=org%2Fteam,model=a%252Cb/week"
    made = exact(server.put(path, {"limit_usd": 5, "soft_limit_ratio": 0.5, "thresholds": [0.1, 1]}))
    assert (made["scope"], made["period"]) == ({"tenant_id": "org/team", "model": "a,b"}, "week")
    assert exact(server.get(f"{path}/status"))["thresholds"] == [Decimal("0.1"), 1]
    replaced = exact(server.put(path, {"limit_usd": 7}))
    assert (replaced["limit_usd"], replaced["soft_limit_ratio"]) == (7, Decimal("0.8"))
    assert len(exact(server.get(f"{path}/status"))["thresholds"]) == 5
    assert [entry["before"] is None for entry in audit(server, "set_budget")] == [False, True]


def test_patch_changes_what_it_names_and_leaves_the_rest(server, exact):
    server.put("/api/budgets/global/month", {"limit_usd": 5, "soft_limit_ratio": 0.5})
    changed = exact(server.request("PATCH", "/api/budgets/global/month", json={"limit_usd": 6, "action": "throttle"}))
    assert (changed["monthly_limit_usd"], changed["soft_limit_ratio"]) == (6, Decimal("0.5"))
    entry = audit(server, "set_budget")[0]
    assert (entry["before"]["limit"], entry["after"]["limit"], entry["after"]["action"]) == (5_000_000_000, 6_000_000_000, "throttle")


def test_delete_removes_the_budget_and_keeps_what_was_spent(server, problem_of):
    server.put("/api/budgets/global/month", {"limit_usd": 5})
    server.track(1_000_000)
    assert server.request("DELETE", "/api/budgets/global/month").status_code == 204
    problem_of(server.get("/api/budgets/global/month"), 404, "unknown_budget")
    problem_of(server.request("DELETE", "/api/budgets/global/month"), 404, "unknown_budget")
    (entry,) = audit(server, "delete_budget")
    assert (entry["actor"], entry["subject"], entry["after"]) == ("local", "global/month", None)
    assert server.put("/api/budgets/global/month", {"limit_usd": 5}).json()["current_usage_usd"] == 1


def test_reset_begins_the_period_anew_and_says_why(server, problem_of):
    server.set(1)
    server.track(1_000_000)
    assert server.check(1).status_code == 429
    path = "/api/budgets/tenant_id=acme/month/reset"
    problem_of(server.post(path, {}), 422, "invalid_request")
    problem_of(server.post("/api/budgets/tenant_id=globex/month/reset", {"reason": "why"}), 404, "unknown_budget")
    answer = server.post(path, {"reason": "billed twice"}).json()
    assert (answer["current_usage_usd"], answer["status"]) == (0, "ok")
    assert server.check(1).status_code == 200
    (entry,) = audit(server, "reset_budget")
    assert (entry["actor"], entry["subject"]) == ("local", "tenant_id=acme/month")
    assert "billed twice" in str(entry)


def test_the_status_says_what_the_period_has_crossed(server, exact):
    server.set(1)
    server.track(800_000)
    status = exact(server.get("/api/budgets/tenant_id=acme/month/status"))
    assert [entry["threshold"] for entry in status["thresholds_crossed"]] == [Decimal("0.5"), Decimal("0.75"), Decimal("0.8")]
    assert {entry["crossed_at"] for entry in status["thresholds_crossed"]} == {"2025-11-15T12:00:00Z"}
    assert (status["period_start"], status["status"]) == ("2025-11-01T00:00:00Z", "warning")


def test_budgets_come_in_pages_by_name_and_filtered(server):
    for name in ("global/month", "team=search/day", "tenant_id=acme/month", "tenant_id=acme,model=plain/day", "tenant_id=globex/month"):
        server.put(f"/api/budgets/{name}", {"limit_usd": 1})
    server.track(1_000_000)

    def names(**query):
        found, cursor = [], None
        while cursor is None or cursor:
            page = server.get("/api/budgets", params={**query, **({"cursor": cursor} if cursor else {})}).json()
            found += [budget["budget"] for budget in page["budgets"]]
            cursor = page["next_cursor"] or ""
        return found

    everything = names()
    assert everything == sorted(everything)
    assert len(everything) == 5
    assert names(limit=2) == everything
    assert names(tenant_id="acme") == ["tenant_id=acme,model=plain/day", "tenant_id=acme/month"]
    assert names(scope="global") == ["global/month"]
    assert names(scope="other") == ["team=search/day"]
    assert names(period="day", scope="tenant") == ["tenant_id=acme,model=plain/day"]
    assert names(status="ok") == ["team=search/day", "tenant_id=globex/month"]


def test_a_budget_of_the_configuration_is_changed_there_or_not_at_all(server_of, problem_of):
    server = server_of(configured=[{"name": "cap", "limit_usd": 5}])
    assert server.get("/api/budgets/cap").json()["monthly_limit_usd"] == 5
    for method, body in (("PUT", {"limit_usd": 6}), ("PATCH", {"limit_usd": 6}), ("DELETE", None)):
        problem_of(server.request(method, "/api/budgets/cap", json=body), 409, "budget_is_configured")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"limit_usd": -1}, "`limit_usd` must be from 0 to 1000000000"),
        ({"limit_usd": 1e-10}, "`limit_usd` is finer than a nano-dollar (9 decimal places)"),
        ({"limit_usd": 1, "thresholds": [1, 0.5]}, "`thresholds` must rise and not repeat"),
        ({"limit_usd": 1, "soft_limit_ratio": 0}, "`soft_limit_ratio` and `thresholds` must be above 0 and at most 10 (1 is 100 %)"),
        ({"limit_usd": 1, "thresholds": ["NaN", "0.5"]}, "`soft_limit_ratio` and `thresholds` must be above 0 and at most 10 (1 is 100 %)"),
        ({"limit_usd": 1, "thresholds": ["sNaN"]}, "`soft_limit_ratio` and `thresholds` must be above 0 and at most 10 (1 is 100 %)"),
        ({"limit": 1}, "Object contains unknown field `limit`, did you mean `limit_usd`?"),
        ({}, "Object missing required field `limit_usd`"),
    ],
)
def test_a_budget_that_cannot_be_meant_is_told(server, problem_of, body, sentence):
    for method, path in (("PUT", "/api/budgets/global/month"), ("POST", "/api/budgets")):
        detail = problem_of(server.request(method, path, json=body), 422, "invalid_request")["detail"]
        assert detail.removesuffix(" - at `$`") == sentence


@pytest.mark.parametrize(
    "name", ["", "x", "global", "global/year", "tenant=acme/month", "model=a,tenant_id=b/month", "tenant_id=/month", "/month"]
)
def test_a_name_that_is_none_makes_no_budget(server, problem_of, name):
    if name:
        problem_of(server.put(f"/api/budgets/{quote(name)}", {"limit_usd": 1}), 404, "unknown_budget")
    with pytest.raises(Problem):
        parse_budget_name(name)


@pytest.mark.parametrize("value", ["a", "a,b", "%2C", "a=b", "org/team", "%", "é"])
def test_a_name_is_read_as_it_was_written(value):
    scope = tuple(value if name in ("tenant_id", "model") else "" for name in DIMENSIONS)
    assert parse_budget_name(budget_name(scope, "week")) == (scope, "week")
