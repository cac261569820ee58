"""Every answer has an id that the log has too; the access log; and health, part by part."""

import re

import pytest
import structlog

PATHS = ["/api/ai-budget/check", "/api/budgets", "/nowhere", "/healthz", "/metrics"]


@pytest.mark.parametrize("path", PATHS)
def test_an_id_that_is_fit_comes_back(server, path):
    assert server.get(path, headers={"x-request-id": "trace/4711:a-b_c=d@e+f.g"}).headers["x-request-id"] == "trace/4711:a-b_c=d@e+f.g"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "ä", "-x", "a;b", '"a"', "a\tb"])
def test_one_that_is_not_is_replaced(server, path, given):
    answer = server.get(path, headers={"x-request-id": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", answer.headers["x-request-id"])
    assert len(answer.headers.get_list("x-request-id")) == 1


def test_no_two_requests_have_the_same_id(server):
    assert len({server.get("/healthz").headers["x-request-id"] for _ in range(50)}) == 50


@pytest.mark.parametrize("path", ["/-/reload", "/api/health"])
def test_the_log_names_the_request(server, path):
    lines = []

    def keep(_, __, event):
        lines.append(event)
        raise structlog.DropEvent

    def fail():
        raise RuntimeError("inside")

    server.reloading = fail
    server.page.rendered_at = "broken"
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep], cache_logger_on_first_use=False)
    try:
        answer = server.request("POST" if path == "/-/reload" else "GET", path, headers={"x-request-id": "r-1"})
    finally:
        structlog.reset_defaults()
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "r-1")
    assert [line["request_id"] for line in lines] == ["r-1"]


def test_the_access_log_has_a_line_a_request_without_its_query(server_of):
    lines = []

    def keep(_, __, event):
        lines.append(event)
        raise structlog.DropEvent

    server = server_of(access_log=True)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep], cache_logger_on_first_use=False)
    try:
        server.get("/api/budgets?tenant_id=secret", headers={"x-request-id": "r-1"})
        server.get("/a%0Ab")
        server.check(1)
    finally:
        structlog.reset_defaults()
    shown = [(line["method"], line["path"], line["status"]) for line in lines]
    assert shown == [("GET", "/api/budgets", 200), ("GET", "/a%0Ab", 404), ("POST", "/api/ai-budget/check", 429)]
    assert lines[0]["request_id"] == "r-1"
    assert all(0 <= line["seconds"] < 60 for line in lines)


# --- health --------------------------------------------------------------------------------------------------------------------------


def test_health_tells_of_each_part(server):
    assert server.get("/api/health").json()["status"] == "degraded"  # no page yet
    server.page.render()
    server.now += 5_000_000
    report = server.get("/api/health").json()
    assert report["status"] == "ok"
    assert report["ledger"]["ok"] is True
    assert report["page"] == {"rendered_at": "2025-11-15T12:00:00Z", "age_seconds": 5}
    assert report["prices"].keys() == {"data_at", "age_seconds"}
    assert report["sources"] == []


def test_health_tells_what_is_wrong(server):
    server.page.render()
    server.ledger.path.unlink()
    server.ledger.check_file()
    report = server.get("/api/health").json()
    assert (report["status"], report["ledger"]["ok"]) == ("degraded", False)
    assert "was deleted or replaced" in report["ledger"]["problem"]


def test_a_source_that_failed_is_told(server):
    server.page.render()
    server.ledger.write(
        lambda connection: connection.exec_driver_sql("INSERT INTO source_state (source, up, message) VALUES ('aws', 0, 'no such folder')")
    )
    report = server.get("/api/health").json()
    assert report["status"] == "degraded"
    assert [(source["source"], source["up"], source["message"]) for source in report["sources"]] == [("aws", False, "no such folder")]
