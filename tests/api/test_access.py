"""Who may do what: roles, tenants, and what is open to everybody on the machine."""

import time
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest

from costwarden.api.operations import OPERATIONS

ROLES = ("viewer", "service", "tenant-admin", "alertmanager", "operator", "admin")

KEY = "a shared key of at least thirty-two bytes"

READERS = {"viewer", "tenant-admin", "operator", "admin"}
WATCHERS = {"viewer", "operator", "admin"}
SPENDERS = {"service", "admin"}
OWNERS = {"tenant-admin", "admin"}
OPERATORS = {"operator", "admin"}


@dataclass(frozen=True)
class Row:
    """A request: who may make it, and how it meets the tenant of its caller.

    `forbidden`: it names a tenant, and another one's is refused with 403. `hidden`: what is another tenant's is not there, 404.
    `list`: it tells of one's own tenant alone, and to ask for another is refused. `server`: not for whoever is bound to a tenant.
    `open`: for everybody.
    """

    roles: set[str]
    tenancy: str
    body: Any = None
    query: dict[str, str] = field(default_factory=dict)


TABLE = {
    ("post", "/api/ai-budget/check"): Row(SPENDERS, "forbidden", {"tenant_id": "TENANT", "model": "plain"}),
    ("post", "/api/ai-budget/track"): Row(SPENDERS, "forbidden", {"tenant_id": "TENANT", "model": "plain", "input_tokens": 1}),
    ("post", "/api/ai-budget/lease"): Row(SPENDERS, "forbidden", {"tenant_id": "TENANT", "model": "plain", "amount_usd": 0.001}),
    ("post", "/api/ai-budget/release"): Row(SPENDERS, "forbidden", {"tenant_id": "TENANT", "event_id": "e1"}),
    ("post", "/api/ai-budget/set"): Row(OWNERS, "forbidden", {"tenant_id": "TENANT", "monthly_limit_usd": 9}),
    ("get", "/api/ai-budget/tenant/{tenant_id}"): Row(READERS, "forbidden"),
    ("post", "/api/ai-budget/tenant/{tenant_id}/suspend"): Row({"tenant-admin", *OPERATORS}, "forbidden"),
    ("post", "/api/ai-budget/tenant/{tenant_id}/resume"): Row(OPERATORS, "forbidden"),
    ("get", "/api/ai-budget/reservations"): Row(READERS, "list"),
    ("post", "/api/ai-budget/reservations/{reservation_id}/resolve"): Row(OPERATORS, "hidden", {"cost_usd": 0, "reason": "why"}),
    ("post", "/api/ai-budget/emergency-stop"): Row(OPERATORS, "server", {"reason": "why"}),
    ("delete", "/api/ai-budget/emergency-stop"): Row(OPERATORS, "server"),
    ("post", "/api/usage"): Row(SPENDERS, "forbidden", [{"tenant_id": "TENANT", "event_id": "e2", "model": "plain"}]),
    ("get", "/api/usage"): Row(READERS, "list"),
    ("get", "/api/usage/{source}/{event_id}"): Row(READERS, "hidden"),
    ("get", "/api/costs"): Row(READERS, "list", query={"group_by": "tenant_id"}),
    ("get", "/api/costs/summary"): Row(READERS, "list"),
    ("get", "/api/costs/by-{dimension}"): Row(READERS, "list"),
    ("get", "/api/cloud-costs"): Row(READERS, "server-filtered", query={"group_by": "tenant"}),
    ("get", "/api/budgets"): Row(READERS, "list"),
    ("post", "/api/budgets"): Row(OWNERS, "forbidden", {"scope": {"tenant_id": "TENANT"}, "period": "day", "limit_usd": 1}),
    ("get", "/api/budgets/{name}"): Row(READERS, "hidden"),
    ("put", "/api/budgets/{name}"): Row(OWNERS, "hidden", {"limit_usd": 3}),
    ("patch", "/api/budgets/{name}"): Row(OWNERS, "hidden", {"limit_usd": 3}),
    ("delete", "/api/budgets/{name}"): Row(OWNERS, "hidden"),
    ("get", "/api/budgets/{name}/status"): Row(READERS, "hidden"),
    ("post", "/api/budgets/{name}/reset"): Row(OPERATORS, "hidden", {"reason": "why"}),
    ("get", "/api/alerts"): Row(READERS, "list"),
    ("get", "/api/audit"): Row({"admin"}, "server"),
    ("get", "/api/remediation/runs"): Row(WATCHERS, "server"),
    ("get", "/api/remediation/runs/{run_id}"): Row(WATCHERS, "server"),
    ("post", "/api/remediation/runs/{run_id}/approve"): Row(OPERATORS, "server"),
    ("get", "/api/notifications"): Row(WATCHERS, "server"),
    ("post", "/api/notifications/{receiver}"): Row({"alertmanager"}, "server", {"version": "4", "groupKey": "g", "alerts": []}),
    ("get", "/api/notifications/{notification_id}/attempts"): Row(WATCHERS, "server"),
    ("post", "/api/notifications/{notification_id}/retry"): Row(OPERATORS, "server"),
    ("get", "/api/health"): Row(WATCHERS, "server"),
    ("get", "/metrics"): Row(WATCHERS, "server"),
    ("post", "/-/reload"): Row({"admin"}, "server"),
    ("post", "/api/alerts/webhook"): Row({"alertmanager"}, "server", {"version": "4", "groupKey": "g", "alerts": []}),
    ("get", "/healthz"): Row(set(ROLES), "open"),
    ("get", "/readyz"): Row(set(ROLES), "open"),
}
GUARDED = [request for request, row in TABLE.items() if row.tenancy != "open"]


def name_of(value):
    return f"{value[0]} {value[1]}" if isinstance(value, tuple) else str(value)


def test_every_operation_of_the_server_is_in_this_table(server):
    described = {(method, path) for path, methods in server.get("/openapi.json").json()["paths"].items() for method in methods}
    assert described == TABLE.keys()
    assert {(method, path) for path, method in OPERATIONS} == TABLE.keys()


# --- roles and tenants ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(server_of, secret, tmp_path):
    """A server with a token of each role, `operator-token` and so on, and tokens that an identity provider signs."""
    tokens = [{"name": role, "role": role, "secret": secret(f"{role}-token")} for role in ROLES if role != "tenant-admin"]
    (tmp_path / "key").write_text(KEY)
    server = server_of(tokens=tokens, jwt={"shared_key": {"file": str(tmp_path / "key")}})
    server.page.render()
    for tenant in ("acme", "globex"):
        server.set(1, tenant, token="admin-token")
        server.track(600_000, tenant, event_id="tracked", token="admin-token")
    return server


def signed(role, tenant_id="", name="somebody", **claims):
    claims = {"sub": name, "role": role, "exp": time.time() + 600, **({"tenant_id": tenant_id} if tenant_id else {}), **claims}
    return jwt.encode(claims, KEY, "HS256")


def ask(server, method, template, tenant, token):
    """Makes the request for what is `tenant`'s."""
    admin = "admin-token"
    reservation = ""
    if "{reservation_id}" in template:
        reservation = server.check(1, tenant, token=admin).json()["reservation_id"]
    if "{name}" in template:
        server.put(f"/api/budgets/tenant_id={tenant}/week", {"limit_usd": 2}, token=admin)
    if (method, template) == ("post", "/api/budgets"):
        server.request("DELETE", f"/api/budgets/tenant_id={tenant}/day", token=admin)
    if (method, template) == ("post", "/api/ai-budget/check"):
        server.post(f"/api/ai-budget/tenant/{tenant}/resume", token=admin)
    path = template.format(
        tenant_id=tenant,
        reservation_id=reservation,
        source=f"api:{tenant}",
        event_id="tracked",
        dimension="tenant",
        name=f"tenant_id={tenant}/week",
        run_id="r1",
        receiver="on-call",
        notification_id="1",
    )
    row = TABLE[method, template]
    body = None if row.body is None else replaced(row.body, tenant)
    query = dict(row.query) | ({"tenant_id": tenant} if row.tenancy == "list" and template != "/api/alerts" else {})
    return server.request(method.upper(), path, json=body, params=query, token=token)


def replaced(node, tenant):
    if isinstance(node, dict):
        return {name: replaced(value, tenant) for name, value in node.items()}
    if isinstance(node, list):
        return [replaced(value, tenant) for value in node]
    return tenant if node == "TENANT" else node


@pytest.mark.parametrize("request_", GUARDED, ids=name_of)
def test_a_request_is_for_its_roles_alone(guarded, problem_of, request_):
    row = TABLE[request_]
    for role in ROLES:
        if role == "tenant-admin":
            continue  # always of a tenant
        answer = ask(guarded, *request_, "globex", f"{role}-token")
        if role in row.roles:
            assert answer.status_code not in (401, 403), (role, answer.text)
        else:
            problem = problem_of(answer, 403, "forbidden")
            needed = " or ".join(f"`{name}`" for name in sorted(row.roles))
            assert problem["detail"] == f"`{role}` has the role `{role}`; this needs {needed}"


@pytest.mark.parametrize("request_", GUARDED, ids=name_of)
def test_whoever_is_of_a_tenant_has_what_is_its_own_and_nothing_of_another(guarded, problem_of, request_):
    row = TABLE[request_]
    for role in ROLES:
        token = signed(role, "acme")
        own, other = (ask(guarded, *request_, tenant, token) for tenant in ("acme", "globex"))
        if role not in row.roles or row.tenancy == "server":
            problem_of(own, 403, "forbidden")
            problem_of(other, 403, "forbidden")
            continue
        assert own.status_code in (200, 201, 204), (role, own.text)
        assert "globex" not in own.text
        if row.tenancy == "hidden":
            assert other.status_code == 404, (role, other.text)
        elif row.tenancy == "forbidden" or (row.tenancy == "list" and request_[1] != "/api/alerts"):
            assert problem_of(other, 403, "forbidden")["detail"] == "`somebody` acts for the tenant `acme` alone"
        else:
            assert "globex" not in other.text


@pytest.mark.parametrize("request_", [request for request, row in TABLE.items() if row.tenancy == "list"], ids=name_of)
def test_a_list_that_names_no_tenant_is_of_ones_own(guarded, request_):
    guarded.check(1, "acme", token="admin-token")
    guarded.check(1, "globex", token="admin-token")
    guarded.put("/api/budgets/global/month", {"limit_usd": 10}, token="admin-token")
    guarded.put("/api/budgets/team=search/month", {"limit_usd": 10}, token="admin-token")
    method, template = request_
    path = template.format(dimension="tenant")
    everything = guarded.request(method.upper(), path, params=TABLE[request_].query, token="admin-token").text
    own = guarded.request(method.upper(), path, params=TABLE[request_].query, token=signed("viewer", "acme")).text
    assert "globex" in everything
    assert "acme" in own
    assert [word for word in ("globex", "global/", "search") if word in own] == []


@pytest.mark.parametrize("name", ["global/month", "team=search/month", "tenant_id=globex/month", "tenant_id=globex,model=a/day"])
def test_a_tenant_admin_neither_sees_nor_makes_a_budget_of_more_than_its_tenant(guarded, problem_of, name):
    token = signed("tenant-admin", "acme")
    guarded.put("/api/budgets/global/month", {"limit_usd": 10}, token="admin-token")
    for method, body in (("GET", None), ("PUT", {"limit_usd": 1}), ("PATCH", {"limit_usd": 1}), ("DELETE", None)):
        problem_of(guarded.request(method, f"/api/budgets/{name}", json=body, token=token), 404, "unknown_budget")
    assert guarded.get("/api/budgets/global/month", token="admin-token").json()["monthly_limit_usd"] == 10


def test_a_tenant_admin_cannot_have_a_playbook_act(guarded, problem_of):
    token = signed("tenant-admin", "acme")
    body = {"limit_usd": 1, "action": "stop_ec2_instances"}
    for method, path in (("PUT", "/api/budgets/tenant_id=acme/month"), ("PATCH", "/api/budgets/tenant_id=acme/month")):
        problem_of(guarded.request(method, path, json=body, token=token), 403, "forbidden")
    problem_of(guarded.post("/api/budgets", {**body, "scope": {"tenant_id": "acme"}, "period": "day"}, token=token), 403, "forbidden")


def test_a_suspension_by_an_operator_is_not_for_the_tenant_to_lift(guarded, problem_of):
    guarded.post("/api/ai-budget/tenant/acme/suspend", token="operator-token")
    problem_of(guarded.post("/api/ai-budget/tenant/acme/resume", token=signed("tenant-admin", "acme")), 403, "forbidden")


def test_a_refusal_by_a_budget_of_all_does_not_tell_a_tenant_its_figures(guarded, problem_of):
    guarded.set(100, "acme", token="admin-token")
    guarded.put("/api/budgets/global/month", {"limit_usd": 1.25}, token="admin-token")
    body = {"tenant_id": "acme", "model": "plain", "estimated_input_tokens": 500_000, "estimated_output_tokens": 0}
    problem = problem_of(guarded.post("/api/ai-budget/check", body, token=signed("service", "acme")), 429, "budget_exceeded")
    assert problem["denied_by"] == {"scope": "shared"}
    assert "1.2" not in problem["detail"]
    assert "global" not in problem["detail"]


def test_the_empty_tenant_is_nobody_and_not_everybody(guarded, problem_of):
    problem_of(guarded.post("/api/ai-budget/tenant//suspend", token="operator-token"), 404, "unknown_tenant")
    problem_of(guarded.post("/api/ai-budget/tenant//resume", token="operator-token"), 404, "unknown_tenant")


# --- credentials ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", GUARDED, ids=name_of)
def test_without_a_token_nothing_is_told(guarded, problem_of, request_):
    method, template = request_
    for body, query in ((TABLE[request_].body, {}), ([], {"limit": "many", "unknown": "x"})):
        answer = guarded.request(method.upper(), template, json=body, params=query)
        assert problem_of(answer, 401, "unauthenticated")["detail"] == "send `Authorization: Bearer TOKEN`"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("request_", GUARDED, ids=name_of)
def test_a_token_that_nobody_has_is_refused_and_not_repeated(guarded, problem_of, request_):
    method, template = request_
    answer = guarded.request(method.upper(), template, json=TABLE[request_].body, token="guessed")
    assert problem_of(answer, 401, "unauthenticated")["detail"] == "the bearer token is not known"
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert "guessed" not in answer.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_health_and_the_description_are_for_everybody(guarded, path):
    assert guarded.get(path).status_code == 200
    assert guarded.get(path, token="guessed").status_code == 200


def test_without_credentials_everything_is_open_but_what_starts_a_script_or_tells_people(server, problem_of):
    server.set(5, "acme")
    for (method, template), row in TABLE.items():
        if "alertmanager" not in row.roles or row.tenancy == "open":
            answer = server.request(method.upper(), template, json=replaced(row.body, "acme"), params=row.query)
            assert answer.status_code not in (401, 403), answer.text
    for path in ("/api/alerts/webhook", "/api/notifications/on-call"):
        problem = problem_of(server.post(path, {"version": "4", "alerts": []}), 401, "unauthenticated")
        assert problem["detail"] == "the webhook needs a token: configure one with the role `alertmanager` under `auth.tokens`"


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic YWRtaW46", "admin-token", "Token admin-token", "Bearer\tadmin-token"])
def test_credentials_of_another_kind_are_none(guarded, problem_of, given):
    problem_of(guarded.get("/metrics", headers={"authorization": given}), 401, "unauthenticated")


@pytest.mark.parametrize("given", ["bearer admin-token", "BEARER admin-token", "Bearer  admin-token"])
def test_the_word_bearer_is_read_in_any_case(guarded, given):
    assert guarded.get("/metrics", headers={"authorization": given}).status_code == 200


def test_a_token_that_is_rotated_in_its_file_holds_at_once(server_of, secret):
    named = secret("old")
    server = server_of(tokens=[{"name": "prometheus", "role": "viewer", "secret": named}])
    server.page.render()
    assert server.get("/metrics", token="old").status_code == 200
    with open(named["file"], "w") as file:  # noqa: PTH123
        file.write("  new\n")
    assert server.get("/metrics", token="old").status_code == 401
    assert server.get("/metrics", token="new").status_code == 200


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"], ids=["gone", "empty", "not text"])
def test_a_token_whose_file_cannot_be_read_lets_nobody_in_and_costs_nobody_else_an_answer(server_of, secret, tmp_path, content):
    path = tmp_path / "broken"
    if content is not None:
        path.write_bytes(content)
    tokens = [
        {"name": "broken", "role": "admin", "secret": {"file": str(path)}},
        {"name": "prometheus", "role": "viewer", "secret": secret("good")},
    ]
    server = server_of(tokens=tokens)
    server.page.render()
    assert server.get("/metrics", token="good").status_code == 200
    for guess in ("", "x"):
        assert server.get("/metrics", token=guess, headers={"authorization": f"Bearer {guess}"}).status_code == 401


def test_a_token_may_come_from_the_environment(server_of, monkeypatch):
    monkeypatch.setenv("COSTWARDEN_TEST_TOKEN", "from the environment")
    server = server_of(tokens=[{"name": "prometheus", "role": "viewer", "secret": {"env": "COSTWARDEN_TEST_TOKEN"}}])
    server.page.render()
    assert server.get("/metrics", token="from the environment").status_code == 200


def test_a_static_token_of_a_tenant_is_bound_to_it(server_of, secret):
    tokens = [
        {"name": "acme-app", "role": "service", "tenant_id": "acme", "secret": secret("acme-token")},
        {"name": "gateway", "role": "service", "secret": secret("gateway-token")},
    ]
    server = server_of(tokens=tokens, unbudgeted="allow")
    assert server.check(1, "acme", token="acme-token").status_code == 200
    assert server.check(1, "globex", token="acme-token").status_code == 403
    assert [server.check(1, tenant, token="gateway-token").status_code for tenant in ("acme", "globex")] == [200, 200]
