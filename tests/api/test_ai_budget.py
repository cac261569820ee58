"""The requests of the guide, path by path, with the answers that it documents."""

import asyncio
import json
from collections import Counter
from decimal import Decimal

import httpx
import pytest

SONNET = "claude-3-5-sonnet-20241022"


# --- as documented -------------------------------------------------------------------------------------------------------------


def test_set_gives_a_tenant_a_monthly_budget(server, exact):
    body = {"tenant_id": "tenant-enterprise", "model": SONNET, "monthly_limit_usd": 5000.00}
    answer = server.post("/api/ai-budget/set", body)
    assert answer.status_code == 200
    assert exact(answer) == {
        "tenant_id": "tenant-enterprise",
        "budget": f"tenant_id=tenant-enterprise,model={SONNET}/month",
        "model": SONNET,
        "scope": {"tenant_id": "tenant-enterprise", "model": SONNET},
        "period": "month",
        "monthly_limit_usd": 5000,
        "tier": None,
        "soft_limit_ratio": Decimal("0.8"),
    }


def test_set_gives_a_tenant_the_limit_of_a_tier(server, exact, problem_of):
    answer = server.post("/api/ai-budget/set", {"tenant_id": "acme", "tier": "professional"})
    assert (answer.status_code, exact(answer)["monthly_limit_usd"], exact(answer)["tier"]) == (200, 2000, "professional")
    (budget,) = exact(server.get("/api/ai-budget/tenant/acme"))["budgets"]
    assert (budget["monthly_limit_usd"], budget["tier"]) == (2000, "professional")
    problem = problem_of(server.post("/api/ai-budget/set", {"tenant_id": "acme", "tier": "gold"}), 422, "unknown_tier")
    assert problem["detail"] == "there is no tier `gold`; the configuration has `starter`, `professional`, `enterprise`"
    answer = server.post("/api/ai-budget/set", {"tenant_id": "acme", "tier": "custom", "monthly_limit_usd": 60_000})
    assert (exact(answer)["monthly_limit_usd"], exact(answer)["tier"]) == (60_000, None)


def test_the_status_of_a_tenant_is_the_documented_one(server, exact):
    server.set(5000.00, "tenant-enterprise", model=SONNET)
    spent = {"tenant_id": "tenant-enterprise", "model": SONNET, "input_tokens": 1_250_000, "output_tokens": 625_000, "cost_usd": 3250.45}
    server.post("/api/ai-budget/track", spent)
    answer = exact(server.get("/api/ai-budget/tenant/tenant-enterprise"))
    (budget,) = answer["budgets"]
    documented = {
        "model": SONNET,
        "monthly_limit_usd": 5000,
        "current_usage_usd": Decimal("3250.45"),
        "percentage_used": Decimal("65.01"),  # 3250.45 / 5000 = 65.009 %
        "token_count_input": 1250000,
        "token_count_output": 625000,
        "reset_date": "2025-12-01T00:00:00Z",
        "status": "ok",
        "soft_limit_notified": False,
        "hard_limit_reached": False,
    }
    assert {name: budget[name] for name in documented} == documented
    assert (answer["tenant_id"], answer["total_usage_usd"], answer["total_limit_usd"]) == ("tenant-enterprise", Decimal("3250.45"), 5000)
    more = {"budget", "scope", "period", "tier", "soft_limit_ratio", "reserved_usd", "unsettled_usd", "requests"}
    assert budget.keys() == documented.keys() | more
    assert answer.keys() == {"tenant_id", "budgets", "total_usage_usd", "total_limit_usd", "suspended", "suspended_by_run_id"}


def test_check_reserves_what_the_call_may_cost(server, exact):
    server.set(5000, model=SONNET)
    body = {"tenant_id": "acme", "model": SONNET, "estimated_input_tokens": 10_000, "estimated_output_tokens": 2_000}
    answer = server.post("/api/ai-budget/check", body)
    assert answer.status_code == 200
    assert "x-ai-budget-warning" not in answer.headers
    told = exact(answer)
    assert told.pop("reservation_id")
    # 10,000 × $3.00 / M + 2,000 × $15.00 / M
    assert told == {
        "allowed": True,
        "estimated_cost_usd": Decimal("0.06"),
        "remaining_usd": Decimal("4999.94"),
        "warning": False,
        "expires_at": "2025-11-15T12:10:00Z",
    }


def test_track_records_what_the_call_used(server, exact):
    server.set(5000, model=SONNET)
    reservation = server.post("/api/ai-budget/check", {"tenant_id": "acme", "model": SONNET}).json()["reservation_id"]
    body = {"tenant_id": "acme", "model": SONNET, "reservation_id": reservation, "prompt_tokens": 1_000, "completion_tokens": 200}
    answer = server.post("/api/ai-budget/track", body)
    assert answer.status_code == 200
    # 1,000 × $3.00 / M + 200 × $15.00 / M
    assert exact(answer) == {"event_id": reservation, "cost_usd": Decimal("0.006"), "repeated": False, "reservation_id": reservation}
    again = exact(server.post("/api/ai-budget/track", body))
    assert (again["repeated"], again["cost_usd"], again["event_id"]) == (True, Decimal("0.006"), reservation)


def test_over_budget_is_429_with_what_to_do_next(server, exact, problem_of):
    server.set("1.00")
    server.track(900_000)
    answer = server.check(200_000)
    problem = problem_of(answer, 429, "budget_exceeded")
    until_december = 15 * 86_400 + 12 * 3_600
    assert (answer.headers["retry-after"], answer.headers["x-ai-budget-warning"]) == (str(until_december), "true")
    assert problem == {
        "type": "urn:costwarden:budget_exceeded",
        "title": "AI Budget Exceeded",
        "status": 429,
        "detail": "this call may cost $0.20; budget `tenant_id=acme/month` has $0.90 of $1.00 committed",
        "error": "AI Budget Exceeded",
        "allowed": False,
        "reason": "budget_exceeded",
        "denied_by": {
            "budget": "tenant_id=acme/month",
            "scope": {"tenant_id": "acme"},
            "period": "month",
            "limit_usd": 1,
            "spent_usd": Decimal("0.9"),
            "reserved_usd": 0,
            "unsettled_usd": 0,
        },
        "estimated_cost_usd": Decimal("0.2"),
        # 200,000 × $0.10 / M fit into what is left
        "fallback": {"use": "cached_template", "model": {"provider": "", "model": "mini", "estimated_cost_usd": Decimal("0.02")}},
        "reset_date": "2025-12-01T00:00:00Z",
        "retry_after_seconds": until_december,
    }


def test_a_cheaper_model_is_proposed_only_where_it_fits(server):
    server.set("1.00")
    server.track(990_000)
    # 200,000 × $0.10 / M = $0.02 > $0.01
    assert server.check(200_000).json()["fallback"] == {"use": "cached_template"}


def test_above_the_soft_limit_every_answer_warns(server):
    server.set("1.00")
    server.track(700_000)
    below = server.check(50_000)
    assert ("x-ai-budget-warning" in below.headers, below.json()["warning"]) == (False, False)
    # 0.70 + 0.05 + 0.05 = 0.80
    at = server.check(50_000)
    assert (at.headers["x-ai-budget-warning"], at.json()["warning"]) == ("true", True)
    budget = server.get("/api/ai-budget/tenant/acme").json()["budgets"][0]
    assert (budget["status"], budget["soft_limit_notified"]) == ("ok", False)
    server.track(100_000)
    budget = server.get("/api/ai-budget/tenant/acme").json()["budgets"][0]
    assert (budget["status"], budget["soft_limit_notified"]) == ("warning", True)


def test_at_the_hard_limit_the_status_says_so(server, exact):
    server.set("1.00")
    server.track(1_100_000)
    (budget,) = exact(server.get("/api/ai-budget/tenant/acme"))["budgets"]
    assert (budget["status"], budget["hard_limit_reached"], budget["percentage_used"]) == ("exceeded", True, Decimal("110.00"))


def test_a_new_tenant_gets_the_default_budget_of_the_guide(server_of):
    server = server_of(default={})
    answer = server.post("/api/ai-budget/check", {"tenant_id": "new", "model": SONNET})
    assert answer.status_code == 200
    (budget,) = server.get("/api/ai-budget/tenant/new").json()["budgets"]
    assert (budget["model"], budget["monthly_limit_usd"]) == (SONNET, 1000)


# --- money ---------------------------------------------------------------------------------------------------------------------


def test_amounts_are_exact_to_the_last_digit(server, exact):
    server.set("0.30")
    for cost in (0.1, 0.2):
        assert exact(server.post("/api/ai-budget/track", {"tenant_id": "acme", "model": "plain", "cost_usd": cost})) is not None
    answer = server.get("/api/ai-budget/tenant/acme")
    # 0.1 + 0.2 is 0.30000000000000004 in floating point.
    assert b'"current_usage_usd":0.3,' in answer.content
    assert exact(answer)["budgets"][0]["hard_limit_reached"] is True


@pytest.mark.parametrize("limit", ["0.000000001", "123456789.123456789", "1000000000", "1e3", "0.10", "5000.00", '"0.30"'])
def test_a_limit_comes_back_to_the_last_digit(server, exact, limit):
    body = f'{{"tenant_id": "acme", "monthly_limit_usd": {limit}}}'
    answer = server.request("POST", "/api/ai-budget/set", content=body)
    assert exact(answer)["monthly_limit_usd"] == Decimal(limit.strip('"'))


@pytest.mark.parametrize("cost", ["0." + "1" * 70, "1e-2000000", "0.0000000005", "0.0000000015"])
def test_a_cost_with_more_digits_than_the_ledger_keeps_is_rounded_half_to_even(server, exact, cost):
    body = f'{{"tenant_id": "acme", "model": "plain", "cost_usd": {cost}}}'
    answer = server.request("POST", "/api/ai-budget/track", content=body)
    assert answer.status_code == 200
    assert Decimal(str(exact(answer)["cost_usd"])) == round(Decimal(cost), 9)


def test_quantities_that_nobody_can_mean_are_refused_before_they_break_the_ledger(server, problem_of):
    server.set("1000000000")
    # 10,000,000,000 images × $1.00
    for path in ("check", "track"):
        answer = server.post(f"/api/ai-budget/{path}", {"tenant_id": "acme", "model": "painter", "images": 10**10})
        problem = problem_of(answer, 422, "invalid_request")
        assert problem["detail"] == "these quantities cost $10,000,000,000.00; a call above $1,000,000 is taken for a mistake"
    assert server.get("/api/ai-budget/tenant/acme").json()["total_usage_usd"] == 0


# --- many at once --------------------------------------------------------------------------------------------------------------


def test_of_200_checks_at_once_a_dollar_pays_for_exactly_20_of_5_cents(server, exact):
    server.set(1)
    # 50,000 × $1.00 / M
    body = {"tenant_id": "acme", "model": "plain", "estimated_input_tokens": 50_000, "estimated_output_tokens": 0}

    async def everybody():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server.app), base_url="http://costwarden") as client:
            return await asyncio.gather(*(client.post("/api/ai-budget/check", json=body) for _ in range(200)))

    statuses = Counter(answer.status_code for answer in asyncio.run(everybody()))
    assert statuses == {200: 20, 429: 180}  # 1.00 / 0.05
    assert exact(server.get("/api/ai-budget/tenant/acme"))["budgets"][0]["reserved_usd"] == 1


# --- beyond the guide ----------------------------------------------------------------------------------------------------------


def test_an_event_id_makes_check_and_track_safe_to_repeat(server):
    server.set("1.00")
    first, again = (server.check(600_000, event_id="e1").json() for _ in range(2))
    assert first == again
    tracked = [server.track(500_000, event_id="e1").json() for _ in range(2)]
    assert [answer["repeated"] for answer in tracked] == [False, True]
    budget = server.get("/api/ai-budget/tenant/acme").json()["budgets"][0]
    assert (budget["current_usage_usd"], budget["reserved_usd"], budget["requests"]) == (0.5, 0, 1)


def test_an_event_id_in_use_for_another_call_is_409(server, problem_of):
    server.set("1.00")
    server.check(100_000, event_id="e1")
    problem = problem_of(server.check(100_000, event_id="e1", model="mini"), 409, "event_id_conflict")
    assert problem["detail"] == (
        "the event_id 'e1' of `acme` is recorded already, or was checked for another or a smaller call: give each call its own"
    )


def test_a_repeated_check_cannot_grow_and_a_recorded_event_cannot_be_checked_again(server, problem_of):
    server.set("1.00")
    assert server.check(100_000, event_id="e1").status_code == 200
    assert server.check(100_000, event_id="e1").status_code == 200
    problem_of(server.check(100_001, event_id="e1"), 409, "event_id_conflict")
    assert server.track(100_000, event_id="e1").status_code == 200
    problem_of(server.check(100_000, event_id="e1"), 409, "event_id_conflict")


def test_the_time_of_the_check_pays_whatever_the_clock_of_the_application_says(server, exact):
    server.set("1.00")
    checked = exact(server.check(100_000))
    server.track(100_000, reservation_id=checked["reservation_id"], timestamp="2025-10-31T12:00:00Z")
    assert exact(server.request("GET", "/api/ai-budget/tenant/acme"))["budgets"][0]["current_usage_usd"] == Decimal("0.1")


def test_sizes_that_are_not_given_are_assumed(server, exact):
    server.set("1.00")
    answer = exact(server.post("/api/ai-budget/check", {"tenant_id": "acme", "model": "plain"}))
    assert answer["estimated_cost_usd"] == Decimal("0.002")  # (1,000 + 1,000) × $1.00 / M


def test_a_tenant_without_budget_is_told_where_to_get_one(server, problem_of):
    answer = server.check(1)
    problem = problem_of(answer, 429, "no_budget")
    assert problem["detail"] == "no budget covers this call of tenant `acme`: set one with POST /api/ai-budget/set"
    assert (problem["allowed"], problem["fallback"]) == (False, {"use": "cached_template"})
    assert "retry-after" not in answer.headers


def test_a_price_that_nobody_knows_is_no_silent_zero(server, problem_of):
    server.set("1.00")
    problem = problem_of(server.check(1, model="no-such-model"), 422, "unknown_price")
    assert problem["allowed"] is False
    assert "add one to `pricing.overrides`" in problem["detail"]
    # A call that was made all the same is recorded, as unpriced.
    tracked = server.track(7, model="no-such-model")
    assert (tracked.status_code, tracked.json()["cost_usd"]) == (200, 0)
    with server.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT priced_by, input_tokens FROM usage").one() == ("unpriced", 7)


def test_a_budget_for_all_its_models_is_what_a_tenant_has_in_total(server, exact):
    server.set(10, model="plain")
    server.set(20, model="mini")
    assert exact(server.get("/api/ai-budget/tenant/acme"))["total_limit_usd"] == 30  # 10 + 20
    server.set(25)
    assert exact(server.get("/api/ai-budget/tenant/acme"))["total_limit_usd"] == 25


def test_a_failed_call_is_metered_too(server):
    server.set(1)
    server.track(5, success=False)
    with server.ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT success, input_tokens FROM usage").one() == (0, 5)


@pytest.mark.parametrize(
    ("timestamp", "month"),
    [("2025-10-31T23:59:59Z", "october"), ("2025-11-01T00:30:00+01:00", "october"), ("2025-11-01T00:00:00Z", "november")],
)
def test_usage_is_paid_by_the_month_of_its_timestamp(server, timestamp, month):
    server.set(1)
    server.track(500_000, timestamp=timestamp)
    spent = server.get("/api/ai-budget/tenant/acme").json()["budgets"][0]["current_usage_usd"]
    assert spent == (0.5 if month == "november" else 0)


@pytest.mark.parametrize(
    ("timestamp", "sentence"),
    [
        ("yesterday", "`timestamp` 'yesterday' is not an RFC 3339 time with a zone"),
        ("2025-11-15T12:00:00", "`timestamp` '2025-11-15T12:00:00' is not an RFC 3339 time with a zone"),
        ("2025-11-15T12:05:01Z", "`timestamp` '2025-11-15T12:05:01Z' lies in the future"),
        ("1969-12-31T23:59:59Z", "`timestamp` '1969-12-31T23:59:59Z' lies more than 35 days back"),
        ("0001-01-01T00:00:00+23:59", "`timestamp` '0001-01-01T00:00:00+23:59' lies more than 35 days back"),
        ("9999-12-31T23:59:59-23:59", "`timestamp` '9999-12-31T23:59:59-23:59' lies in the future"),
    ],
)
def test_a_timestamp_that_cannot_be_meant_is_refused(server, problem_of, timestamp, sentence):
    assert problem_of(server.track(1, timestamp=timestamp), 422, "invalid_request")["detail"] == sentence


def test_a_clock_that_is_a_little_ahead_is_forgiven(server):
    assert server.track(1, timestamp="2025-11-15T12:05:00Z").status_code == 200


def test_a_suspended_tenant_is_refused_and_shown_as_such(server, problem_of):
    server.set(1)
    suspended = server.post("/api/ai-budget/tenant/acme/suspend", {"reason": "runaway", "run_id": "run 7"})
    assert suspended.json() == {"tenant_id": "acme", "suspended": True, "changed": True}
    assert server.post("/api/ai-budget/tenant/acme/suspend", {"reason": "again"}).json()["changed"] is False
    problem = problem_of(server.check(1), 429, "tenant_suspended")
    assert problem["detail"] == "tenant `acme` is suspended"
    assert server.get("/api/ai-budget/tenant/acme").json()["suspended"] == "runaway"
    assert server.post("/api/ai-budget/tenant/acme/resume").json() == {"tenant_id": "acme", "suspended": False, "changed": True}
    assert server.post("/api/ai-budget/tenant/acme/resume").json()["changed"] is False
    assert server.check(1).status_code == 200


@pytest.mark.parametrize("tenant", ["org/team", "ä ö", "a%b", "a?b#c", "..", "suspend"])
def test_a_tenant_of_any_name_has_a_status_and_can_be_suspended(server, tenant):
    server.set(1, tenant)
    quoted = "".join(f"%{byte:02X}" for byte in tenant.encode())
    assert server.get(f"/api/ai-budget/tenant/{quoted}").json()["tenant_id"] == tenant
    assert server.post(f"/api/ai-budget/tenant/{quoted}/suspend", {"reason": "runaway"}).json()["tenant_id"] == tenant
    assert server.check(1, tenant).json()["reason"] == "tenant_suspended"


def test_a_tenant_that_nobody_knows_is_404(server, problem_of):
    problem = problem_of(server.get("/api/ai-budget/tenant/nobody"), 404, "unknown_tenant")
    assert problem["detail"] == "nothing is known of tenant `nobody`; a new tenant gets its default budget at its first check"


def test_a_budget_of_the_configuration_is_not_changed_through_the_api(server_of, problem_of):
    name = "tenant_id=acme/month"
    server = server_of(configured=[{"name": name, "limit_usd": 1, "scope": {"tenant_id": "acme"}}])
    problem = problem_of(server.set(5), 409, "budget_is_configured")
    assert problem["detail"] == f"the budget `{name}` belongs to the configuration file: change it there"
    assert server.get("/api/ai-budget/tenant/acme").json()["budgets"][0]["monthly_limit_usd"] == 1


def test_a_budget_without_end_has_no_reset(server_of, problem_of):
    server = server_of(configured=[{"name": "everything", "limit_usd": 1, "period": "total"}])
    answer = server.check(2_000_000)
    problem = problem_of(answer, 429, "budget_exceeded")
    assert "retry-after" not in answer.headers
    assert not {"reset_date", "retry_after_seconds"} & problem.keys()


# --- who changed what ----------------------------------------------------------------------------------------------------------


def test_who_set_a_budget_is_in_the_audit_log(server):
    server.set(1)
    server.set(2)
    with server.ledger.read() as connection:
        rows = connection.exec_driver_sql("SELECT actor, action, before, after FROM audit ORDER BY entry_id").fetchall()
    limits = [tuple(json.loads(text)["limit"] if text else None for text in (before, after)) for _, _, before, after in rows]
    assert [(actor, action) for actor, action, _, _ in rows] == [("local", "set_budget")] * 2
    assert limits == [(None, 10**9), (10**9, 2 * 10**9)]
