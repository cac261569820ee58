"""Whatever is sent, the answer is one that the description names: never a 500, never a broken connection."""

import base64
import json
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costwarden.budgets.requests import CheckRequest, SetRequest, SuspendRequest, TrackRequest

REQUESTS = {
    "/api/ai-budget/check": CheckRequest,
    "/api/ai-budget/track": TrackRequest,
    "/api/ai-budget/set": SetRequest,
    "/api/ai-budget/tenant/acme/suspend": SuspendRequest,
}

# Surrogates are no Unicode text; `json.dumps` writes them as escapes all the same.
TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(categories=["Cs", "Cc", "Lu"]), max_size=5),
    st.sampled_from(
        ["", "acme", "plain", "mini", "painter", "e1", "event:4:acme:e1", "event:4:acme:", "2025-11-15T12:00:00Z", "NaN", "1e400"]
    ),
    st.integers(250, 260).map("x".__mul__),
)
NUMBERS = st.one_of(
    st.integers(-1, 3),
    st.integers(-(2**70), 2**70),
    st.sampled_from([10**10, 10**10 + 1, 2**63, 2**64, 10**400]),
    st.floats(),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def bodies(draw):
    """A request whose fields mostly have the right type, and some that have not."""
    path = draw(st.sampled_from(sorted(REQUESTS)))
    body = {"tenant_id": "acme", "model": "plain"} if "suspend" not in path else {"reason": "runaway"}
    for field in draw(st.lists(st.sampled_from(msgspec.structs.fields(REQUESTS[path])), max_size=5)):
        body[field.encode_name] = draw(st.one_of(TEXTS, NUMBERS, VALUES))
    return path, json.dumps(body)


# One server for all examples, so that what one leaves behind meets the next.
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=bodies())
def test_no_body_makes_the_server_fail(lasting_server, request):
    path, body = request
    answer = lasting_server.request("POST", path, content=body)
    assert answer.status_code in {200, 400, 409, 422, 429}, answer.text
    json.loads(answer.content)
    assert lasting_server.ledger.writer.write_errors == 0


BODIES = [
    ("POST", "/api/ai-budget/check"),
    ("POST", "/api/ai-budget/track"),
    ("POST", "/api/ai-budget/lease"),
    ("POST", "/api/ai-budget/release"),
    ("POST", "/api/ai-budget/set"),
    ("POST", "/api/ai-budget/tenant/acme/suspend"),
    ("POST", "/api/ai-budget/emergency-stop"),
    ("POST", "/api/ai-budget/reservations/r/resolve"),
    ("POST", "/api/usage"),
    ("POST", "/api/budgets"),
    ("PUT", "/api/budgets/global/month"),
    ("PATCH", "/api/budgets/global/month"),
    ("POST", "/api/budgets/global/month/reset"),
]


@pytest.mark.parametrize(("method", "path"), BODIES)
def test_a_body_that_is_nested_too_deeply_is_refused(server, method, path):
    for opening, closing in (("[", "]"), ('{"response":', "}")):
        deep = '{"reason":' + 5_000 * opening + "1" + 5_000 * closing + "}"
        assert server.request(method, path, content=deep).status_code in {400, 422}
    # Where anything may stand, too.
    deep = '{"tenant_id":"acme","model":"plain","event_id":"e","response":' + 40_000 * "[" + 40_000 * "]" + "}"
    assert server.request(method, path, content=deep).status_code in {400, 422}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/ai-budget/emergency-stop", {"reason": "a\0b"}),
        ("POST", "/api/ai-budget/tenant/acme/suspend", {"reason": "a\0b"}),
        ("POST", "/api/ai-budget/tenant/acme/suspend", {"reason": "a", "run_id": "\0"}),
        ("POST", "/api/ai-budget/reservations/r/resolve", {"cost_usd": 0, "reason": "a\0b"}),
        ("POST", "/api/budgets/global/month/reset", {"reason": "a\0b"}),
        ("PUT", "/api/budgets/global/month", {"limit_usd": 1, "action": "\0"}),
        ("PATCH", "/api/budgets/global/month", {"action": "\0"}),
        ("POST", "/api/usage", [{"tenant_id": "acme", "model": "a\0", "event_id": "e"}]),
        ("POST", "/api/ai-budget/release", {"tenant_id": "acme", "reservation_id": "a\0b"}),
    ],
)
def test_a_text_that_no_database_keeps_is_refused(either_server, problem_of, method, path, body):
    either_server.put("/api/budgets/global/month", {"limit_usd": 1})
    detail = problem_of(either_server.request(method, path, json=body), 422, "invalid_request")["detail"]
    assert "cannot hold the character U+0000" in detail
    assert either_server.ledger.writer.write_errors == 0
    assert either_server.check(1).status_code == 200


def test_what_a_provider_has_answered_may_hold_any_character(either_server):
    either_server.set(1)
    answer = {"object": "chat.completion", "model": "plain", "choices": [{"message": {"content": "\0"}}], "usage": {"prompt_tokens": 5}}
    tracked = either_server.post("/api/ai-budget/track", {"tenant_id": "acme", "response": answer})
    assert tracked.status_code == 200, tracked.text


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/ai-budget/tenant/x%00y", None, 404),
        ("POST", "/api/ai-budget/tenant/x%00/suspend", None, 404),
        ("POST", "/api/ai-budget/tenant/x%00/resume", None, 404),
        ("GET", "/api/budgets/x%00y", None, 404),
        ("PUT", "/api/budgets/team=%00/month", {"limit_usd": 1}, 404),
        ("PATCH", "/api/budgets/team=%00/month", {"limit_usd": 1}, 404),
        ("DELETE", "/api/budgets/x%00", None, 404),
        ("GET", "/api/budgets/x%00/status", None, 404),
        ("POST", "/api/budgets/x%00/reset", {"reason": "why"}, 404),
        ("GET", "/api/usage/api:acme/x%00", None, 404),
        ("POST", "/api/ai-budget/reservations/x%00y/resolve", {"cost_usd": 0, "reason": "x"}, 404),
        ("GET", "/api/remediation/runs/x%00", None, 404),
        ("POST", "/api/remediation/runs/x%00/approve", None, 404),
        ("GET", "/api/usage?model=x%00", None, 422),
        ("GET", "/api/costs?team=%00", None, 422),
        ("GET", "/api/cloud-costs?provider=%00", None, 422),
        ("GET", "/api/audit?actor=%00", None, 422),
        ("GET", "/api/budgets?tenant_id=%00", None, 422),
        ("GET", "/api/ai-budget/reservations?tenant_id=x%00", None, 422),
    ],
)
def test_an_address_that_no_database_could_look_up_is_refused(either_server, method, path, body, status):
    answer = either_server.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert "U+0000" in answer.json()["detail"]


@pytest.mark.parametrize(
    "place",
    [
        "[9223372036854775808,1]",
        "[1,99999999999999999999]",
        "[-9223372036854775809,1]",
        '[9223372036854775807,"threshold"]',
        '[5,"threshold","",18446744073709551615]',
        '[5,"threshold","\\u0000"]',
        '[18446744073709551615,"incident","",18446744073709551615]',
        "18446744073709551615",
        "9223372036854775808",
        '"a\\u0000b"',
        900 * "[",
    ],
)
def test_a_cursor_that_no_page_has_given_is_no_page(either_server, place):
    cursor = base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
    for path in ("usage", "alerts", "audit", "budgets", "ai-budget/reservations"):
        answer = either_server.get(f"/api/{path}?cursor={cursor}")
        assert answer.status_code == 404, (path, answer.text)
        assert answer.json()["type"] == "urn:costwarden:unknown_cursor"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "9999-12-31T23:59:59.999999Z"])
@pytest.mark.parametrize("side", ["since", "until"])
def test_times_at_both_ends_of_the_calendar_are_times(either_server, side, moment):
    for path in ("usage", "alerts", "audit", "costs", "costs/summary"):
        answer = either_server.get(f"/api/{path}?{side}={quote(moment)}")
        assert answer.status_code == 200, (path, answer.text)
