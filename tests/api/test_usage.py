"""`/api/usage`: events recorded once, and read page by page."""

import pytest

from costwarden.api.pages import encode_cursor

MINUTE = 60_000_000


@pytest.fixture
def server(either_server):
    """Every test on both databases: what pages and sums read is SQL."""
    return either_server


def event(number, tenant="acme", **more):
    return {"tenant_id": tenant, "event_id": f"e{number}", "model": "plain", "input_tokens": 1000 * number, **more}


@pytest.fixture
def filled(server):
    """Seven events, a minute apart."""
    for number in range(1, 8):
        body = event(number, "acme" if number % 2 else "globex", team="search", success=number != 3)
        assert server.post("/api/usage", body).status_code == 200
        server.now += MINUTE
    return server


def pages(server, **query):
    """The event ids of all pages."""
    found, cursor = [], None
    while True:
        page = server.get("/api/usage", params={"limit": 2, **query, **({"cursor": cursor} if cursor else {})}).json()
        found.append([entry["event_id"] for entry in page["usage"]])
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_an_event_is_recorded_once_at_the_cost_of_the_first_time(server, exact):
    first = server.post("/api/usage", event(1))
    assert exact(first) == {
        "recorded": 1,
        "repeated": 0,
        "events": [{"event_id": "e1", "cost_usd": exact(server.track(1000))["cost_usd"], "repeated": False}],
    }
    again = exact(server.post("/api/usage", event(1, input_tokens=9_000_000)))
    assert (again["recorded"], again["repeated"]) == (0, 1)
    assert str(again["events"][0]["cost_usd"]) == "0.001"


def test_a_list_is_recorded_with_what_repeats_in_it(server):
    answer = server.post("/api/usage", [event(1), event(2), event(1), event(1, "globex")]).json()
    assert (answer["recorded"], answer["repeated"]) == (3, 1)
    assert [entry["repeated"] for entry in answer["events"]] == [False, False, True, False]


def test_a_thousand_events_are_one_request_and_one_more_is_refused(server, problem_of):
    many = [event(number) for number in range(1, 1001)]
    big = {"content": None}
    assert server.post("/api/usage", many[:500]).json()["recorded"] == 500
    assert server.post("/api/usage", many[:500]).json()["repeated"] == 500
    problem_of(server.post("/api/usage", [{"tenant_id": "a", "event_id": "b", "model": "plain"}] * 1001), 422, "invalid_request")
    problem_of(server.post("/api/usage", []), 422, "invalid_request")
    assert big


def test_of_a_list_with_a_mistake_nothing_is_recorded(server, problem_of):
    problem = problem_of(server.post("/api/usage", [event(1), event(2, timestamp="yesterday")]), 422, "invalid_request")
    assert problem["detail"] == "`timestamp` 'yesterday' is not an RFC 3339 time with a zone"
    assert server.get("/api/usage").json() == {"usage": [], "next_cursor": None}


def test_an_event_that_was_checked_ends_its_reservation(server):
    server.set(5)
    server.check(1000, event_id="e1")
    assert len(server.get("/api/ai-budget/reservations").json()["reservations"]) == 1
    server.post("/api/usage", event(1))
    assert server.get("/api/ai-budget/reservations").json()["reservations"] == []


def test_events_spend_their_budgets(server):
    server.set(5)
    server.post("/api/usage", [event(1), event(2)])
    assert server.get("/api/ai-budget/tenant/acme").json()["budgets"][0]["current_usage_usd"] == 0.003


def test_an_event_is_shown_with_what_it_names(server, exact):
    server.post(
        "/api/usage", event(2, user_id="learner-7", output_tokens=500, images=1, audio_seconds=1.5, service_tier="batch", cost_usd=0.25)
    )
    shown = exact(server.get("/api/usage/api:acme/e2"))
    assert {name: value for name, value in shown.items() if value not in (0, None)} == {
        "source": "api:acme",
        "event_id": "e2",
        "timestamp": "2025-11-15T12:00:00Z",
        "tenant_id": "acme",
        "model": "plain",
        "user_id": "learner-7",
        "input_tokens": 2000,
        "output_tokens": 500,
        "images": 1,
        "audio_seconds": 1.5,
        "requests": 1,
        "service_tier": "batch",
        "success": True,
        "cost_usd": shown["cost_usd"],
        "priced_by": "caller",
    }
    assert str(shown["cost_usd"]) == "0.25"


@pytest.mark.parametrize(("tenant", "event_id"), [("org/team", "a/b"), ("é ?#", "%2F"), ("..", "."), ("a\nb", "c\td")])
def test_an_event_is_found_whatever_its_names_hold(server, tenant, event_id):
    from urllib.parse import quote

    server.post("/api/usage", {**event(1, tenant), "event_id": event_id})
    found = server.get(f"/api/usage/{quote(f'api:{tenant}', safe='')}/{quote(event_id, safe='')}".replace("/.", "/%2E"))
    assert (found.status_code, found.json().get("event_id")) == (200, event_id)


def test_an_event_that_is_not_there_is_404(server, problem_of):
    problem_of(server.get("/api/usage/api:acme/e1"), 404, "unknown_event")
    problem_of(server.get("/api/usage/api:acme/e1/e2"), 404, "unknown_event")


def test_pages_are_the_newest_first_and_hold_everything_once(filled):
    assert pages(filled) == [["e7", "e6"], ["e5", "e4"], ["e3", "e2"], ["e1"]]
    assert pages(filled, limit=7) == [["e7", "e6", "e5", "e4", "e3", "e2", "e1"]]


def test_a_page_goes_on_where_the_last_one_ended_though_events_come_in(filled):
    first = filled.get("/api/usage", params={"limit": 3}).json()
    filled.post("/api/usage", [event(8), event(9)])
    second = filled.get("/api/usage", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [entry["event_id"] for entry in second["usage"]] == ["e4", "e3", "e2"]


def test_events_of_one_moment_are_told_apart(server):
    server.post("/api/usage", [event(number) for number in range(1, 6)])
    assert pages(server) == [["e5", "e4"], ["e3", "e2"], ["e1"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"tenant_id": "globex"}, ["e6", "e4", "e2"]),
        ({"success": "false"}, ["e3"]),
        ({"team": "search", "model": "plain", "tenant_id": "acme", "success": "true"}, ["e7", "e5", "e1"]),
        ({"user_id": ""}, ["e7", "e6", "e5", "e4", "e3", "e2", "e1"]),
        ({"since": "2025-11-15T12:02:00Z", "until": "2025-11-15T12:04:00Z"}, ["e4", "e3"]),
        ({"since": "2025-11-15T13:05:00+01:00"}, ["e7", "e6"]),
        ({"until": "0000-01-01T00:00:00Z"}, []),
    ],
)
def test_filters(filled, query, expected):
    assert sum(pages(filled, **query), []) == expected  # noqa: RUF017


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("since=yesterday", "query.since: 'yesterday' is not an RFC 3339 time with a zone, as 2025-11-01T00:00:00Z"),
        ("since=2025-11-01T00:00:00", "query.since: '2025-11-01T00:00:00' is not an RFC 3339 time with a zone, as 2025-11-01T00:00:00Z"),
        ("tenant=acme", "query.tenant: Extra inputs are not permitted"),
        ("model=a&model=b", "query.model: is given twice"),
        ("limit=0", "query.limit: Input should be greater than or equal to 1"),
        ("limit=1001", "query.limit: Input should be less than or equal to 1000"),
        ("success=perhaps", "query.success: Input should be a valid boolean, unable to interpret input"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_told(server, problem_of, query, sentence):
    assert problem_of(server.get(f"/api/usage?{query}"), 422, "invalid_request")["detail"] == sentence


@pytest.mark.parametrize("cursor", ["x", "!!", encode_cursor("text"), encode_cursor([1]), encode_cursor([1, 2, 3]), "é"])
def test_a_cursor_of_something_else_is_404(server, problem_of, cursor):
    problem_of(server.get("/api/usage", params={"cursor": cursor}), 404, "unknown_cursor")
