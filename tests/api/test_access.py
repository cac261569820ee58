"""Who may do what: tokens, roles, and what is open to everybody on the machine."""

import pytest

ROLES = ("viewer", "service", "alertmanager", "operator", "admin")

CHECK = {"tenant_id": "acme", "model": "plain"}
WEBHOOK = {"version": "4", "groupKey": "g", "alerts": []}

# request -> the roles that may make it
PERMITTED = {
    ("GET", "/api/ai-budget/tenant/acme"): {"viewer", "operator", "admin"},
    ("GET", "/api/remediation/runs"): {"viewer", "operator", "admin"},
    ("GET", "/api/remediation/runs/r1"): {"viewer", "operator", "admin"},
    ("GET", "/metrics"): {"viewer", "operator", "admin"},
    ("POST", "/api/ai-budget/check"): {"service", "admin"},
    ("POST", "/api/ai-budget/track"): {"service", "admin"},
    ("POST", "/api/ai-budget/set"): {"admin"},
    ("POST", "/-/reload"): {"admin"},
    ("POST", "/api/ai-budget/tenant/acme/suspend"): {"operator", "admin"},
    ("POST", "/api/ai-budget/tenant/acme/resume"): {"operator", "admin"},
    ("POST", "/api/remediation/runs/r1/approve"): {"operator", "admin"},
    ("POST", "/api/alerts/webhook"): {"alertmanager"},
}
OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/openapi.json")}

BODIES = {
    "/api/ai-budget/check": CHECK,
    "/api/ai-budget/track": CHECK,
    "/api/ai-budget/set": {"tenant_id": "acme", "monthly_limit_usd": 1},
    "/api/ai-budget/tenant/acme/suspend": {"reason": "runaway"},
    "/api/alerts/webhook": WEBHOOK,
}


@pytest.fixture
def guarded(server_of, secret):
    """A server with a token of each role: `operator-token` and so on."""
    server = server_of(tokens=[{"name": role, "role": role, "secret": secret(f"{role}-token")} for role in ROLES])
    server.page.render()
    return server


@pytest.mark.parametrize(("method", "path"), PERMITTED, ids=lambda value: value.rpartition("/")[2])
def test_a_request_is_for_its_roles_alone(guarded, problem_of, method, path):
    for role in ROLES:
        answer = guarded.request(method, path, json=BODIES.get(path), token=f"{role}-token")
        if role in PERMITTED[method, path]:
            assert answer.status_code not in (401, 403), (role, answer.text)
        else:
            problem = problem_of(answer, 403, "forbidden")
            needed = " or ".join(f"`{name}`" for name in sorted(PERMITTED[method, path]))
            assert problem["detail"] == f"`{role}` has the role `{role}`; this needs {needed}"


@pytest.mark.parametrize(("method", "path"), PERMITTED, ids=lambda value: value.rpartition("/")[2])
def test_without_a_token_nothing_is_told(guarded, problem_of, method, path):
    answer = guarded.request(method, path, json=BODIES.get(path))
    assert problem_of(answer, 401, "unauthenticated")["detail"] == "send `Authorization: Bearer TOKEN`"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), PERMITTED, ids=lambda value: value.rpartition("/")[2])
def test_a_token_that_nobody_has_is_refused_and_not_repeated(guarded, problem_of, method, path):
    answer = guarded.request(method, path, json=BODIES.get(path), token="guessed")
    assert problem_of(answer, 401, "unauthenticated")["detail"] == "the bearer token is not known"
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert "guessed" not in answer.text


@pytest.mark.parametrize(("method", "path"), sorted(OPEN), ids=lambda value: value.rpartition("/")[2])
def test_health_and_the_description_are_for_everybody(guarded, method, path):
    assert guarded.request(method, path).status_code == 200


def test_every_request_of_the_server_is_in_this_table(server):
    described = {
        (method.upper(), path.replace("{tenant_id}", "acme").replace("{run_id}", "r1"))
        for path, methods in server.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert described | {("GET", "/openapi.json")} == PERMITTED.keys() | OPEN


def test_without_tokens_everything_is_open_but_what_starts_a_script(server, problem_of):
    for method, path in PERMITTED:
        if path != "/api/alerts/webhook":
            assert server.request(method, path, json=BODIES.get(path)).status_code not in (401, 403)
    problem = problem_of(server.post("/api/alerts/webhook", WEBHOOK), 401, "unauthenticated")
    assert problem["detail"] == "the webhook needs a token: configure one with the role `alertmanager` under `auth.tokens`"


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic YWRtaW46", "admin-token", "Token admin-token", "Bearer\tadmin-token"])
def test_credentials_of_another_kind_are_none(guarded, problem_of, given):
    problem_of(guarded.get("/metrics", headers={"authorization": given}), 401, "unauthenticated")


@pytest.mark.parametrize("given", ["bearer admin-token", "BEARER admin-token", "Bearer  admin-token"])
def test_the_word_bearer_is_read_in_any_case(guarded, given):
    assert guarded.get("/metrics", headers={"authorization": given}).status_code == 200


def test_the_bearer_of_the_token_is_the_actor_in_the_audit_log(guarded):
    guarded.post("/api/ai-budget/set", BODIES["/api/ai-budget/set"], token="admin-token")
    guarded.post("/api/ai-budget/tenant/acme/suspend", {"reason": "runaway"}, token="operator-token")
    with guarded.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT actor, action FROM audit ORDER BY entry_id").fetchall() == [
            ("admin", "set_budget"),
            ("operator", "suspend_tenant"),
        ]


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
