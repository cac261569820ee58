"""JSON over HTTP: what is repeated, what is waited for, what ends it, and what never gets into a message."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime

import pytest
from stand_in import Answer, StandIn

from costwarden.settings import Secret
from costwarden.sources import Requests, SourceError
from costwarden.sources.http_json import JsonApi, Retries, _retry_after, pages, revealed

KEY = "sk-admin-0123456789"
QUICK = Retries(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=2)


@pytest.fixture
def server():
    with StandIn(lambda _: Answer({"value": 1})) as made:
        yield made


@pytest.fixture
def requests():
    return Requests()


@pytest.fixture
def api(server, requests):
    made = JsonApi("Acme", server.url, lambda: {"Authorization": f"Bearer {KEY}"}, requests, timeout_seconds=5, retries=QUICK)
    yield made
    made.release()


def test_numbers_are_exact(server, api) -> None:
    server.answer = lambda _: Answer(b'{"a": 0.1, "b": 1e-30, "c": 12345678901234567.89, "d": 7}')
    assert api.get("/x").body == {"a": Decimal("0.1"), "b": Decimal("1e-30"), "c": Decimal("12345678901234567.89"), "d": 7}


def test_a_number_beyond_all_reckoning_is_left_as_its_text(server, api) -> None:
    server.answer = lambda _: Answer(b'{"a": 1e400, "b": 1e99999999999999999999}')
    assert api.get("/x").body == {"a": Decimal("1e400"), "b": "1e99999999999999999999"}


def test_half_of_a_surrogate_pair_costs_one_letter_and_not_the_answer(server, api) -> None:
    server.answer = lambda _: Answer(rb'{"a": "x\ud800", "b": "\\ud800 \ude00\ud83d", "c": "\ud83d\ude00 \u00e4"}')
    assert api.get("/x").body == {"a": "x\ufffd", "b": "\\ud800 \ufffd\ufffd", "c": "😀 ä"}
    server.answer = lambda _: Answer(rb'{"error": {"message": "bad \ud800"}}', 400)
    with pytest.raises(SourceError, match="HTTP 400: bad \ufffd"):
        api.get("/x")


def test_a_name_may_come_again_in_a_query_and_nothing_in_it_is_taken_for_more(server, api) -> None:
    api.get("/x", [("group_by[]", "a"), ("group_by[]", "b&limit=9"), ("page", "ä ?#")])
    assert server.requests[0].query == {"group_by[]": ["a", "b&limit=9"], "page": ["ä ?#"]}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_a_passing_fault_is_asked_again_and_every_attempt_is_counted(server, api, requests, status) -> None:
    server.fail(status, times=2)
    assert api.get("/x").body == {"value": 1}
    assert requests.made == len(server.requests) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
def test_a_refusal_is_not_asked_again(server, api, status) -> None:
    server.fail(status, {"error": {"message": "no\n  such thing"}}, Location="http://127.0.0.1:1/")
    with pytest.raises(SourceError, match=f"^Acme: GET /x: HTTP {status}: no such thing$"):
        api.get("/x")
    assert len(server.requests) == 1


def test_the_last_fault_is_told_when_all_attempts_are_used_up(server, api) -> None:
    server.fail(500, {"error": {"message": "first"}})
    server.fail(502, b"<html>", times=2)
    with pytest.raises(SourceError, match=r"^Acme: GET /x: HTTP 502 \(3 attempts\)$"):
        api.get("/x")


def test_a_wait_that_is_too_long_is_left_to_the_next_refresh(server, api) -> None:
    server.fail(429, Retry_After="3600")
    with pytest.raises(SourceError, match="it asks to wait 3600 s, so the next refresh tries again"):
        api.get("/x")
    assert len(server.requests) == 1


def test_the_server_says_how_long_to_wait(server, api) -> None:
    server.fail(429, Retry_After="0.3")
    began = time.monotonic()
    api.get("/x")
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("12", 12), ("1.5", 1.5), ("", None), ("soon", None), ("-3", None), ("nan", None)])
def test_retry_after_is_a_number(text, seconds) -> None:
    assert _retry_after(text) == seconds


def test_retry_after_is_a_date() -> None:
    found = _retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert found is not None
    assert 3000 < found <= 3600
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_close_ends_a_wait(server, requests, ends_on_close) -> None:
    api = JsonApi("Acme", server.url, dict, requests, timeout_seconds=5)
    server.fail(429, times=3, Retry_After="60")
    assert ends_on_close(api, lambda: api.get("/x"), server) == "ended while it was being read"
    with pytest.raises(SourceError, match="ended"):
        api.get("/x")
    assert len(server.requests) == 1
    api.release()


def test_an_answer_that_trickles_ends(server, requests) -> None:
    server._faults.append(_trickle)
    api = JsonApi("Acme", server.url, dict, requests, timeout_seconds=1, retries=Retries(attempts=1))
    with pytest.raises(SourceError, match=r"no answer within 1 s \(`request_timeout_seconds`\)"):
        api.get("/x")
    api.release()


def _trickle(handler, _request):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass
    handler.close_connection = True
    return True


def test_no_server_is_told(requests) -> None:
    api = JsonApi("Acme", "http://127.0.0.1:1", dict, requests, timeout_seconds=1, retries=QUICK)
    with pytest.raises(SourceError, match=r"^Acme: GET /x: no whole answer: .*refused.* \(3 attempts\)$"):
        api.get("/x")
    assert requests.made == 3


def test_no_header_gets_into_a_message(server, api) -> None:
    server.fail(401, {"error": {"message": f"Incorrect key: {KEY}"}})
    with pytest.raises(SourceError, match=r"Incorrect key: …$"):
        api.get("/x")


def test_what_forbids_a_request_stops_it(server) -> None:
    def forbid(cost):
        raise SourceError("too dear")

    class Dear(Requests):
        def about_to_ask(self, cost=0):
            forbid(cost)

    api = JsonApi("Acme", server.url, dict, Dear(), timeout_seconds=1)
    with pytest.raises(SourceError, match="too dear"):
        api.get("/x")
    assert server.requests == []


def test_pages_end_or_are_ended() -> None:
    asked = []

    def ask(token):
        asked.append(token)
        return {"next": {"": "a", "a": "b"}.get(token, "")}

    assert len(list(pages("Acme", ask, lambda page: page["next"]))) == 3
    assert asked == ["", "a", "b"]
    with pytest.raises(SourceError, match="comes after itself"):
        list(pages("Acme", lambda _: {}, lambda _: "again"))


@pytest.mark.parametrize("text", ["two words", "line\nbreak", "schlüssel"])
def test_a_secret_that_is_no_key_is_refused_without_showing_it(text) -> None:
    with pytest.raises(SourceError, match="what `admin_key` names holds spaces") as raised:
        revealed(lambda _: text, Secret(env="KEY"), "admin_key")
    assert text not in str(raised.value)
