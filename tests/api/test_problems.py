"""Every error has the one shape, says what to do, and is counted."""

import http.client
import json
import socket

import httpx
import pytest

from costwarden.api.operations import OPERATIONS
from costwarden.api.problems import Problem

CHECK = "/api/ai-budget/check"
BODIES = ("/api/ai-budget/check", "/api/ai-budget/track", "/api/ai-budget/set", "/api/ai-budget/tenant/acme/suspend")


def rejected(server, kind):
    return server.series().get(f'costwarden_http_rejected_requests_total{{reason="{kind}"}}', 0)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"tenant_id": "acme", "model": "plain", "estimated_input_tokens": -1}, "Expected `int` >= 0 - at `$.estimated_input_tokens`"),
        ({"tenant_id": "acme", "model": "plain", "modell": 1}, "Object contains unknown field `modell`, did you mean `model`?"),
        ({"tenant_id": "acme", "model": "plain", "colour": 1}, "Object contains unknown field `colour`"),
        ({"model": "plain"}, "Object missing required field `tenant_id`"),
        ([], "Expected `object`, got `array`"),
        ("acme", "Expected `object`, got `str`"),
        (None, "Expected `object`, got `null`"),
    ],
)
def test_a_request_that_breaks_a_rule_is_422_and_counted(server, problem_of, body, sentence):
    answer = server.request("POST", CHECK, content=json.dumps(body))
    assert problem_of(answer, 422, "invalid_request")["detail"] == sentence
    assert rejected(server, "invalid_request") == 1


def test_a_body_that_is_missing_is_refused_but_where_nothing_needs_to_be_said(server, problem_of):
    for path in BODIES[:3]:
        problem_of(server.request("POST", path, content=b""), 400, "invalid_json")
    assert server.request("POST", BODIES[3], content=b"").json() == {"tenant_id": "acme", "suspended": True, "changed": True}


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("body", [b"{", b"tenant_id=acme", b'{"%s": "\xff"}', b'{"%s": "\\ud800"}', b"\x00"])
def test_a_body_that_is_no_json_is_refused_and_counted(server, problem_of, path, body):
    answer = server.request("POST", path, content=body.replace(b"%s", b"reason" if "suspend" in path else b"tenant_id"))
    problem_of(answer, 400, "invalid_json")
    assert rejected(server, "invalid_json") == 1


@pytest.mark.parametrize("path", BODIES)
def test_brackets_without_end_are_refused(server, problem_of, path):
    problem_of(server.request("POST", path, content=b"[" * 50_000), 422, "invalid_request")


@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_is_too_large_is_413_and_counted(server, problem_of, path):
    answer = server.request("POST", path, content=b" " * 100_001)
    assert problem_of(answer, 413, "body_too_large")["detail"] == "the body is larger than 100000 bytes"
    assert rejected(server, "body_too_large") == 1


@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_does_not_tell_its_length_is_cut_off_too(server, problem_of, path):
    async def pieces():
        for _ in range(101):
            yield b" " * 1000

    problem_of(server.request("POST", path, content=pieces()), 413, "body_too_large")


WITH_BODY = [
    (method.upper(), path.format(tenant_id="acme", name="global/month", reservation_id="r1"))
    for (path, method), operation in OPERATIONS.items()
    if operation.body is not None and operation.permission != "alert"
]


@pytest.mark.parametrize(("method", "path"), WITH_BODY, ids=lambda value: value.rpartition("/")[2])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"\xff", 400), (b'{"a":"\\ud800"}', None), (b"[" * 50_000, 422), (b'{"nobody": 1}', 422), (b" " * 100_001, 413)],
    ids=["cut off", "not UTF-8", "half a character", "deep", "unknown", "large"],
)
def test_every_body_is_read_with_care(server, method, path, body, status):
    answer = server.request(method, path, content=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code in (400, 422) if status is None else answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHECK, "POST"),
        ("DELETE", "/api/ai-budget/set", "POST"),
        ("POST", "/metrics", "GET"),
        ("HEAD", "/api/alerts/webhook", "POST"),
        ("DELETE", "/api/ai-budget/tenant/acme", "GET"),
        ("GET", "/api/ai-budget/tenant/acme/suspend", None),  # the status of a tenant named so
        ("POST", "/healthz", "GET"),
        ("PATCH", "/api/remediation/runs", "GET"),
        ("OPTIONS", "/api/budgets", "GET, POST"),
        ("POST", "/api/budgets/global/month", "DELETE, GET, PATCH, PUT"),
        ("PUT", "/api/budgets/global/month/status", "GET"),
        ("GET", "/api/ai-budget/emergency-stop", "DELETE, POST"),
        ("DELETE", "/api/ai-budget/tenant/acme/suspend", "POST"),
    ],
)
def test_a_method_that_a_path_does_not_have_is_405_and_told_which_it_has(server, problem_of, method, path, allowed):
    answer = server.request(method, path)
    if allowed is None:
        problem_of(answer, 404, "unknown_tenant")
        return
    if method == "HEAD":
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        return
    problem = problem_of(answer, 405, "method_not_allowed")
    assert method in problem["detail"]
    assert answer.headers["allow"] == allowed
    assert rejected(server, "method_not_allowed") == 1


@pytest.mark.parametrize("path", ["/", "/api", "/api/ai-budget/checks", "/docs", "/api/ai-budget/check/", "/%00", "/a b"])
def test_a_path_that_is_not_there_is_404(server, problem_of, path):
    problem_of(server.get(path), 404, "not_found")
    assert rejected(server, "not_found") == 1


def test_a_query_that_is_no_number_is_422(server, problem_of):
    problem = problem_of(server.get("/api/remediation/runs?limit=many"), 422, "invalid_request")
    assert problem["detail"].startswith("query.limit: ")


def test_a_run_that_is_not_there_is_404(server, problem_of):
    problem_of(server.get("/api/remediation/runs/r1"), 404, "unknown_run")
    problem_of(server.post("/api/remediation/runs/r1/approve"), 404, "unknown_run")


# --- the ledger ----------------------------------------------------------------------------------------------------------------


def fill(connection):
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


LARGE = "x" * 256
WRITES = {
    "check": ("/api/ai-budget/check", {"tenant_id": "acme", "model": "plain", "team": LARGE, "user_id": LARGE}),
    "track": ("/api/ai-budget/track", {"tenant_id": "acme", "model": "plain", "team": LARGE, "user_id": LARGE}),
    "set": ("/api/ai-budget/set", {"tenant_id": LARGE, "model": LARGE, "monthly_limit_usd": 1}),
    "suspend": ("/api/ai-budget/tenant/umbrella/suspend", {"reason": LARGE * 3}),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_ledger_that_cannot_write_is_503_and_nothing_is_guessed(server, problem_of, what):
    path, body = WRITES[what]
    server.set(1)
    server.ledger.write(fill)
    answers = [server.post(path, body)]
    # The pages that are there may have room for a few.
    while answers[-1].status_code == 200:
        if what in ("set", "suspend"):
            server.post("/api/ai-budget/tenant/umbrella/resume")
        answers.append(server.post(path, body))
    problem = problem_of(answers[-1], 503, "ledger_unavailable")
    assert problem["detail"] == "the ledger did not commit: database or disk is full; nothing was recorded, try again"
    assert answers[-1].headers["retry-after"] == "1"
    server.page.render()
    problem_of(server.get("/readyz"), 503, "ledger_unavailable")
    # There is room again: the failed connection was the one with the limit.
    assert server.post(path, body).status_code == 200
    assert server.get("/readyz").json() == {"status": "ready"}


def test_a_ledger_that_is_closed_is_503(server, problem_of):
    server.ledger.close()
    for path, body in WRITES.values():
        problem_of(server.post(path, body), 503, "ledger_unavailable")


def test_a_ledger_that_was_deleted_is_503_until_the_restart(server, problem_of):
    server.set(1)
    server.page.render()
    server.ledger.path.unlink()
    server.ledger.check_file()
    for path, body in WRITES.values():
        detail = problem_of(server.post(path, body), 503, "ledger_unavailable")["detail"]
        assert detail == f"the file {server.ledger.path} was deleted or replaced; restart costwarden; nothing was recorded, try again"
    problem_of(server.get("/readyz"), 503, "ledger_unavailable")


def test_a_server_without_a_page_yet_is_not_ready(server, problem_of):
    problem_of(server.get("/readyz"), 503, "starting")
    assert problem_of(server.get("/metrics"), 503, "starting")
    server.page.render()
    assert server.get("/readyz").status_code == 200
    assert server.get("/healthz").json() == {"status": "ok"}


def test_a_failure_of_ours_is_500_without_its_inside(server, problem_of, capsys):
    def fail():
        raise RuntimeError("the secret inside")

    server.reloading = fail
    answer = server.post("/-/reload")
    assert problem_of(answer, 500, "internal_error")["detail"] == "costwarden failed to answer; its log says why"
    assert "the secret inside" not in answer.text
    assert "the secret inside" in capsys.readouterr().out
    assert rejected(server, "internal_error") == 1


def test_a_reload_that_is_refused_says_why(server, problem_of):
    def refuse():
        raise Problem(422, "invalid_config", "costwarden.yaml: unknown key `servr`, did you mean `server`?")

    server.reloading = refuse
    assert "did you mean `server`?" in problem_of(server.post("/-/reload"), 422, "invalid_config")["detail"]
    server.reloading = lambda: None
    assert server.post("/-/reload").json() == {"reloaded": True}


# --- on a real socket ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def connection(listening):
    """One that first sends all it has and then listens, as most clients do; httpx looks for an early answer."""
    opened = http.client.HTTPConnection(listening.removeprefix("http://"))
    opened.auto_open = 0
    opened.connect()
    yield opened
    opened.close()


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("path", [CHECK, "/api/ai-budget/tenant/acme/suspend"])
def test_ten_megabytes_are_413_and_the_connection_goes_on(connection, path, pieces):
    body = b" " * 10_000_000
    for _ in range(3):
        connection.request("POST", path, [body[:100_000]] * 100 if pieces else body, encode_chunked=pieces)
        answer = connection.getresponse()
        problem = json.loads(answer.read())
        assert (answer.status, problem["type"]) == (413, "urn:costwarden:body_too_large")
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"status":"ok"}\n')


def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_error(server, serve, wait_until):
    app, ended = server.app, []

    async def watched(scope, receive, send):
        try:
            await app(scope, receive, send)
        finally:
            ended.append(scope.get("path"))

    server.app = watched
    listening = serve(server)
    host, port = listening.removeprefix("http://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(b"POST /api/ai-budget/check HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert httpx.get(f"{listening}/healthz", timeout=60).status_code == 200
    wait_until(lambda: ended.count(CHECK) == 3)
    assert rejected(server, "invalid_json") == 0


def test_one_connection_serves_good_and_bad_requests_after_each_other(server, listening):
    server.page.render()
    with httpx.Client(base_url=listening, timeout=60) as client:
        statuses = [
            client.post(CHECK, content=b"{").status_code,
            client.post(CHECK, json={"tenant_id": "acme", "model": "plain"}).status_code,
            client.get("/nowhere").status_code,
            client.post("/api/ai-budget/set", json={"tenant_id": "acme", "monthly_limit_usd": 1}).status_code,
            client.post(CHECK, json={"tenant_id": "acme", "model": "plain"}).status_code,
            client.get("/metrics").status_code,
        ]
    assert statuses == [400, 429, 404, 200, 200, 200]
