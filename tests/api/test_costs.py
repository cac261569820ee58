"""`/api/costs`: exact sums by dimensions and time, each with the sum that makes it."""

from decimal import Decimal

import pytest

HOUR = 3_600_000_000

# (hours from noon of 15 November, tenant, team, service, user, tokens at a dollar a million)
EVENTS = [
    (0, "acme", "search", "api", "u1", 100_001),
    (1, "acme", "search", "api", "u2", 200_000),
    (1, "acme", "mail", "worker", "u1", 300_000),
    (13, "globex", "search", "api", "u1", 400_000),  # the 16th, 01:00 UTC
    (14, "globex", "", "", "", 7),
]


@pytest.fixture
def server(either_server):
    """Every test on both databases: what pages and sums read is SQL."""
    return either_server


@pytest.fixture
def filled(server):
    start = server.now
    for hours, tenant, team, service, user, tokens in EVENTS:
        server.now = start + hours * HOUR
        server.track(tokens, tenant, team=team, service=service, user_id=user)
    return server


def rows(answer, *names):
    return [tuple(row.get(name) for name in names) for row in answer["rows"]]


def test_without_a_group_there_is_one_row_and_it_is_the_total(filled, exact):
    answer = exact(filled.get("/api/costs"))
    # (100,001 + 200,000 + 300,000 + 400,000 + 7) tokens at a dollar a million
    assert (answer["total_usd"], len(answer["rows"])) == (Decimal("1.000008"), 1)
    (row,) = answer["rows"]
    assert (row["cost_usd"], row["requests"], row["input_tokens"]) == (Decimal("1.000008"), 5, 1_000_008)
    assert (answer["since"], answer["until"]) == ("2025-11-01T00:00:00Z", "2025-11-16T03:00:00Z")


def test_by_dimensions_the_dearest_first(filled, exact):
    answer = exact(filled.get("/api/costs?group_by=tenant_id&group_by=team"))
    assert rows(answer, "tenant_id", "team", "cost_usd") == [
        ("globex", "search", Decimal("0.4")),
        ("acme", "search", Decimal("0.300001")),
        ("acme", "mail", Decimal("0.3")),
        ("globex", "", Decimal("0.000007")),
    ]


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        ("month", [("2025-11", Decimal("1.000008"))]),
        ("day", [("2025-11-15", Decimal("0.600001")), ("2025-11-16", Decimal("0.400007"))]),
        (
            "hour",
            [
                ("2025-11-15T12:00:00Z", Decimal("0.100001")),
                ("2025-11-15T13:00:00Z", Decimal("0.5")),
                ("2025-11-16T01:00:00Z", Decimal("0.4")),
                ("2025-11-16T02:00:00Z", Decimal("0.000007")),
            ],
        ),
    ],
)
def test_by_time(filled, exact, bucket, expected):
    assert rows(exact(filled.get(f"/api/costs?group_by={bucket}")), "period", "cost_usd") == expected


def test_a_day_is_that_of_the_budgets_zone(server_of, exact):
    server = server_of(time_zone="America/New_York")
    server.now += 16 * HOUR  # 04:00 UTC on the 16th is 23:00 on the 15th in New York
    server.track(5)
    server.now += HOUR
    server.track(7)
    answer = exact(server.get("/api/costs?group_by=day"))
    assert rows(answer, "period", "cost_usd") == [("2025-11-15", Decimal("0.000005")), ("2025-11-16", Decimal("0.000007"))]
    assert answer["since"] == "2025-11-01T04:00:00Z"


@pytest.mark.parametrize(
    ("dimension", "column", "expected"),
    [
        ("service", "service", {"api": "0.700001", "worker": "0.3", "": "0.000007"}),
        ("learner", "user_id", {"u1": "0.800001", "u2": "0.2", "": "0.000007"}),
        ("user", "user_id", {"u1": "0.800001", "u2": "0.2", "": "0.000007"}),
        ("model", "model", {"plain": "1.000008"}),
        ("tenant", "tenant_id", {"acme": "0.600001", "globex": "0.400007"}),
        ("report-type", "report_type", {"": "1.000008"}),
    ],
)
def test_by_one_dimension(filled, exact, dimension, column, expected):
    answer = exact(filled.get(f"/api/costs/by-{dimension}"))
    assert {row[column]: str(row["cost_usd"]) for row in answer["rows"]} == expected


def test_filters_and_a_range_of_hours(filled, exact):
    query = "tenant_id=acme&since=2025-11-15T13:00:00Z&until=2025-11-15T14:59:59Z&group_by=team"
    answer = exact(filled.get(f"/api/costs?{query}"))
    assert rows(answer, "team", "cost_usd") == [("mail", Decimal("0.3")), ("search", Decimal("0.2"))]
    assert (answer["since"], answer["until"]) == ("2025-11-15T13:00:00Z", "2025-11-15T14:00:00Z")
    assert exact(filled.get("/api/costs?since=2026-01-01T00:00:00Z"))["rows"][0]["cost_usd"] == 0


def test_of_too_many_rows_the_dearest_are_shown_and_the_others_are_told(filled, exact):
    answer = exact(filled.get("/api/costs?group_by=team&group_by=tenant_id&limit=2"))
    assert rows(answer, "cost_usd") == [(Decimal("0.4"),), (Decimal("0.300001"),)]
    assert (answer["rows_omitted"], answer["omitted_usd"], answer["total_usd"]) == (2, Decimal("0.300007"), Decimal("1.000008"))


def test_the_summary_has_the_total_the_time_before_and_the_dearest(filled, exact):
    answer = exact(filled.get("/api/costs/summary?since=2025-11-15T13:00:00Z&until=2025-11-15T14:00:00Z"))
    assert (answer["total_usd"], answer["previous_usd"], answer["requests"]) == (Decimal("0.5"), Decimal("0.100001"), 2)
    assert answer["top"]["team"] == [
        {"team": "mail", "cost_usd": Decimal("0.3"), "requests": 1},
        {"team": "search", "cost_usd": Decimal("0.2"), "requests": 1},
    ]


@pytest.mark.parametrize("path", ["/api/costs?group_by=week", "/api/costs/by-colour", "/api/costs/summary?group_by=team"])
def test_what_there_is_no_group_for_is_422(server, problem_of, path):
    problem_of(server.get(path), 422, "invalid_request")


def test_bills_are_broken_down_in_dollars(server, exact):
    answer = exact(server.get("/api/cloud-costs?group_by=service&group_by=day&first_day=2025-11-01"))
    assert answer == {"first_day": "2025-11-01", "last_day": "2025-11-15", "basis": "effective_cost", "total_usd": 0, "rows": []}


@pytest.mark.parametrize("day", ["0", "2025-02-30", "20251101", "2025-11-01T00:00:00Z"])
def test_a_day_that_is_none_is_422(server, problem_of, day):
    problem_of(server.get(f"/api/cloud-costs?first_day={day}"), 422, "invalid_request")
