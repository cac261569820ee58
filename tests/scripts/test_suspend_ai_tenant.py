"""suspend_ai_tenant against an HTTP server that keeps state as the budget service does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

SCRIPT = "suspend_ai_tenant"
RUN_ID = "20260302t120000-0badcafe"
HOSTILE = "-oProxyCommand=x; rm -rf /../%2e%2e/?a=b#c"


class Service(ThreadingHTTPServer):
    """Tenants by id: who suspended them, None for not. `answers` are given before any other, as (status, headers, body)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tenants = {"acme": None, "beta": None}
        self.requests = []
        self.answers = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self):
        self.handle_one()

    def do_POST(self):
        self.handle_one()

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, self.headers.get("Authorization"), json.loads(body) if body else None))
        if self.server.answers:
            self.answer(*self.server.answers.pop(0))
            return
        _, api, budget, kind, tenant, *verb = self.path.split("/")
        assert (api, budget, kind) == ("api", "ai-budget", "tenant"), self.path
        tenant = unquote(tenant)
        if tenant not in self.server.tenants:
            self.answer(404, {}, {"title": "Not Found", "status": 404, "detail": f"nothing is known of tenant `{tenant}`"})
            return
        if verb:
            self.server.tenants[tenant] = json.loads(body) if verb == ["suspend"] else None
        suspended = self.server.tenants[tenant]
        answer = {"suspended": None, "suspended_by_run_id": None}
        if suspended is not None:
            answer = {"suspended": suspended["reason"], "suspended_by_run_id": suspended["run_id"]}
        self.answer(200, {}, {"tenant_id": tenant} | answer)

    def answer(self, status, headers, body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = Service()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def suspend(run_script, service, tmp_path):
    """Runs the script with these flags and, if any, this request."""
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    environ = {"COSTWARDEN_URL": service.url, "COSTWARDEN_TOKEN_FILE": str(token)}

    def run(*flags, **request):
        return run_script(SCRIPT, *flags, request={"run_id": RUN_ID} | request if request else None, environ=environ)

    return run


def test_a_plan_asks_and_changes_nothing(suspend, service):
    ran = suspend(parameters={"tenant_id": "acme"})
    assert (ran.status, ran.results) == (0, {"acme": "planned"})
    assert ran.line("acme")["undo"] == {"tenant_id": "acme", "run_id": RUN_ID}
    assert service.requests == [("GET", "/api/ai-budget/tenant/acme", "Bearer s3cret", None)]


def test_apply_suspends_the_tenant_with_reason_and_run(suspend, service):
    ran = suspend("--apply", targets=["acme"], parameters={"tenant_id": "acme", "reason": "100 % of its budget"})
    assert (ran.status, ran.results) == (0, {"acme": "done"})
    body = {"reason": "100 % of its budget", "run_id": RUN_ID}
    assert service.requests[-1] == ("POST", "/api/ai-budget/tenant/acme/suspend", "Bearer s3cret", body)
    assert service.tenants["acme"] == body


def test_a_person_names_tenants_by_flag(suspend, service):
    ran = suspend("--target", "acme", "--target", "beta", "--target", "acme", "--reason", "by hand", "--apply")
    assert ran.results == {"acme": "done", "beta": "done"}
    assert service.tenants["beta"] == {"reason": "by hand", "run_id": ""}


def test_a_tenant_that_is_suspended_already_is_left_as_it_is(suspend, service):
    service.tenants["acme"] = {"reason": "fraud", "run_id": ""}
    ran = suspend("--apply", parameters={"tenant_id": "acme"})
    assert (ran.status, ran.results) == (0, {"acme": "skipped"})
    assert service.tenants["acme"]["reason"] == "fraud"


def test_restore_resumes_what_the_run_suspended(suspend, service):
    suspend("--apply", parameters={"tenant_id": "acme"})
    undo = [{"tenant_id": "acme", "run_id": RUN_ID}]
    assert suspend("--restore", targets=["acme"], undo=undo).results == {"acme": "planned"}
    assert suspend("--restore", "--apply", targets=["acme"], undo=undo).results == {"acme": "done"}
    assert service.tenants["acme"] is None
    assert suspend("--restore", "--apply", targets=["acme"], undo=undo).results == {"acme": "skipped"}


@pytest.mark.parametrize(("by", "name"), [("another-run", "another-run"), ("", "a person")])
def test_restore_leaves_a_suspension_of_somebody_else(suspend, service, by, name):
    service.tenants["acme"] = {"reason": "fraud", "run_id": by}
    ran = suspend("--restore", "--apply", targets=["acme"], undo=[{"tenant_id": "acme", "run_id": RUN_ID}])
    assert ran.results == {"acme": "skipped"}
    assert ran.line("acme")["message"] == f"is suspended by {name}, not by {RUN_ID}"
    assert service.tenants["acme"] is not None


def test_a_person_may_resume_any_tenant(suspend, service):
    service.tenants["acme"] = {"reason": "fraud", "run_id": ""}
    assert suspend("--target", "acme", "--restore", "--apply").results == {"acme": "done"}


def test_a_hostile_tenant_id_is_percent_encoded_into_one_path_segment(suspend, service):
    service.tenants[HOSTILE] = None
    ran = suspend("--apply", targets=[HOSTILE], parameters={"tenant_id": HOSTILE})
    assert (ran.status, ran.results) == (0, {HOSTILE: "done"})
    assert service.requests[-1][1] == "/api/ai-budget/tenant/-oProxyCommand%3Dx%3B%20rm%20-rf%20%2F..%2F%252e%252e%2F%3Fa%3Db%23c/suspend"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"parameters": {}}, "no tenant is named"),
        ({"parameters": {"tenant_id": ""}}, "no tenant is named"),
        ({"targets": [], "parameters": {"tenant_id": "acme"}}, "no tenant is named"),
        ({"targets": [""]}, "no tenant is named"),
        ({"targets": ["beta"], "parameters": {"tenant_id": "acme"}}, "the targets go beyond the tenant 'acme' of the request"),
        ({"parameters": {"tenant_id": ".."}}, "'..' is not a tenant id"),
        ({"parameters": {"tenant_id": "a\r\nX: y"}}, "is not a tenant id"),
    ],
)
def test_what_names_no_tenant_is_refused_before_the_service_is_asked(suspend, service, request_, message):
    ran = suspend("--apply", **request_)
    assert (ran.status, ran.lines, service.requests) == (3, [], [])
    assert message in ran.stderr


def test_an_unknown_tenant_fails_and_the_others_are_done(suspend, service):
    ran = suspend("--target", "nobody", "--target", "acme", "--apply")
    assert (ran.status, ran.results) == (1, {"nobody": "failed", "acme": "done"})
    assert "HTTP 404 nothing is known of tenant `nobody`" in ran.line("nobody")["message"]


def test_a_service_that_is_away_for_a_moment_is_asked_again(suspend, service):
    service.answers = [(503, {}, {"detail": "the ledger is full"})] * 2
    assert suspend("--target", "acme", "--apply").results == {"acme": "done"}


def test_a_service_that_stays_away_is_a_failure(suspend, service):
    service.answers = [(503, {}, {"detail": "the ledger is full"})] * 3
    ran = suspend("--target", "acme", "--apply")
    assert (ran.status, ran.results) == (1, {"acme": "failed"})
    assert ran.line("acme")["message"].endswith("HTTP 503 the ledger is full (3 attempts)")


def test_a_service_that_does_not_listen_is_a_failure(run_script, free_port):
    ran = run_script(SCRIPT, "--target", "acme", "--url", f"http://127.0.0.1:{free_port()}")
    assert (ran.status, ran.results) == (1, {"acme": "failed"})
    assert "Connection refused" in ran.line("acme")["message"]


def test_a_refusal_is_not_tried_again(suspend, service):
    service.answers = [(403, {}, {"title": "Forbidden"})]
    ran = suspend("--target", "acme", "--apply")
    assert ran.line("acme")["message"].endswith("HTTP 403 Forbidden")
    assert len(service.requests) == 1


def test_a_redirect_is_not_followed_with_the_token(suspend, service):
    service.answers = [(302, {"Location": f"{service.url}/elsewhere"}, b"")]
    ran = suspend("--target", "acme", "--apply")
    assert ran.results == {"acme": "failed"}
    assert [path for _, path, _, _ in service.requests] == ["/api/ai-budget/tenant/acme"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "the answer is not JSON"),
        (b"[]", "the answer is not a JSON object"),
        (b"{}", "does not tell whether the tenant is suspended"),
    ],
)
def test_an_answer_that_is_not_the_services_is_a_failure(suspend, service, body, message):
    service.answers = [(200, {}, body)]
    ran = suspend("--target", "acme", "--apply")
    assert (ran.status, ran.results) == (1, {"acme": "failed"})
    assert message in ran.line("acme")["message"]


@pytest.mark.parametrize("content", [None, "", "two\nlines", "t\u00f6ken"])
def test_a_token_file_that_holds_no_token_is_a_sentence_without_the_token(run_script, service, tmp_path, content):
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content, encoding="utf-8")
    ran = run_script(SCRIPT, "--target", "acme", "--token-file", str(token), "--url", service.url)
    assert (ran.status, service.requests) == (1, [])
    assert ran.stderr.startswith(f"{SCRIPT}: the token file {token} ")
    assert not content or content not in ran.stderr


def test_a_url_that_is_no_web_address_is_bad_usage(run_script):
    ran = run_script(SCRIPT, "--target", "acme", "--url", "file:///etc/passwd")
    assert (ran.status, ran.stderr) == (2, f"{SCRIPT}: 'file:///etc/passwd' is not an http or https URL\n")
