"""Whatever is sent, the answer is one that the description names: never a 500, never a broken connection."""

import json

import msgspec
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
