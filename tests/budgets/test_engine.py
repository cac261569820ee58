"""Reserve and settle: what is spent, set aside and unsettled never passes a limit because of a reservation."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from costwarden.budgets.calls import Release
from costwarden.budgets.engine import named_id
from costwarden.budgets.store import BudgetIsConfigured
from costwarden.ledger.budgets import read_reservations
from costwarden.ledger.usage import known_event, usage_sums
from costwarden.model import Usage, to_nanos


def usd(*amounts):
    return tuple(to_nanos(amount) for amount in amounts)


# --- one call ------------------------------------------------------------------------------------------------------------------


def test_a_check_sets_its_estimate_aside_and_says_what_is_left(desk):
    budget = desk.put("1.00", tenant_id="acme")
    decision = desk.check("0.05")
    assert decision.allowed
    assert (decision.estimate, decision.remaining) == usd("0.05", "0.95")
    assert decision.expires_at == desk.now + 600 * 1_000_000
    assert desk.status(budget) == usd("0", "0.05", "0")


def test_the_real_cost_takes_the_place_of_the_estimate(desk):
    budget = desk.put("1.00", tenant_id="acme")
    decision = desk.check("0.05")
    settled = desk.track("0.03", reservation_id=decision.reservation_id, input_tokens=100, output_tokens=20)
    assert (settled.cost, settled.repeated, settled.reservation_id) == (to_nanos("0.03"), False, decision.reservation_id)
    assert desk.status(budget) == usd("0.03", "0", "0")
    status = desk.statuses()[budget.budget]
    assert (status.input_tokens, status.output_tokens, status.requests) == (100, 20, 1)


def test_a_call_that_costs_more_than_its_estimate_is_recorded_whole(desk):
    budget = desk.put("1.00", tenant_id="acme")
    decision = desk.check("0.90")
    desk.track("1.25", reservation_id=decision.reservation_id)
    assert desk.status(budget) == usd("1.25", "0", "0")
    assert not desk.check("0.01").allowed


def test_usage_that_nobody_checked_counts_all_the_same(desk):
    budget = desk.put("1.00", tenant_id="acme")
    settled = desk.track("0.40", event_id="e1")
    assert (settled.event_id, settled.reservation_id) == ("e1", "")
    assert desk.status(budget) == usd("0.40", "0", "0")


def test_the_limit_itself_may_be_spent_and_not_a_nano_dollar_more(desk):
    desk.put("1.00", tenant_id="acme")
    desk.track("0.60", event_id="e1")
    # 0.60 + 0.400000001 > 1.00
    assert not desk.check("0.400000001").allowed
    # 0.60 + 0.40 = 1.00
    assert desk.check("0.40").allowed


def test_a_budget_at_its_limit_refuses_even_a_call_that_seems_to_cost_nothing(desk):
    desk.put("1.00", tenant_id="acme")
    assert desk.check("0").allowed
    desk.track("1.00", event_id="e1")
    assert not desk.check("0").allowed


def test_a_budget_of_nothing_allows_nothing(desk):
    desk.put("0", tenant_id="acme")
    assert desk.check("0").reason == "budget_exceeded"


def test_a_refusal_says_how_the_budget_stands_and_changes_nothing(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.50", event_id="e1")
    desk.check("0.30")
    refused = desk.check("0.21")
    assert (refused.allowed, refused.reason, refused.budget) == (False, "budget_exceeded", budget)
    assert (refused.spent, refused.reserved, refused.unsettled, refused.estimate) == usd("0.50", "0.30", "0", "0.21")
    assert refused.resets_at == desk.statuses()[budget.budget].resets_at
    assert desk.status(budget) == usd("0.50", "0.30", "0")


def test_the_warning_comes_with_the_soft_limit(desk):
    desk.put("1.00", tenant_id="acme")
    desk.track("0.70", event_id="e1")
    # 0.70 + 0.09 < 0.80
    assert not desk.check("0.09", event_id="e2").warning
    # 0.70 + 0.09 + 0.01 = 0.80
    assert desk.check("0.01", event_id="e3").warning
    assert desk.check("0.30").warning  # refused


def test_a_tenant_without_a_budget_is_refused_unless_the_configuration_says_otherwise(desk, desk_of):
    assert desk.check("0.01").reason == "no_budget"
    allowing = desk_of(unbudgeted="allow")
    decision = allowing.check("0.01")
    assert (decision.allowed, decision.remaining, decision.warning) == (True, None, False)
    assert allowing.track("0.02", reservation_id=decision.reservation_id).cost == to_nanos("0.02")


# --- every matching budget applies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"tenant_id": "acme"},
        {"provider": "openai"},
        {"model": "m"},
        {"operation": "chat"},
        {"report_type": "annual"},
        {"feature": "search"},
        {"team": "web"},
        {"user_id": "u1"},
        {"service": "api"},
        {"tenant_id": "acme", "model": "m"},
        {"team": "web", "user_id": "u1", "service": "api"},
    ],
    ids=lambda named: "+".join(named) or "global",
)
def test_a_budget_of_any_scope_refuses_what_it_covers_and_nothing_else(desk, named):
    desk.put("1000", period="total")
    budget = desk.put("1.00", period="day", **named)
    call = {
        "tenant_id": "acme",
        "provider": "openai",
        "model": "m",
        "operation": "chat",
        "report_type": "annual",
        "feature": "search",
        "team": "web",
        "user_id": "u1",
        "service": "api",
    }
    desk.track("1.00", event_id="e1", **call)
    assert desk.check("0.01", **call).budget == budget
    for dimension in named:
        assert desk.check("0.01", **{**call, dimension: "another"}).allowed


def test_money_is_set_aside_in_every_matching_budget_or_in_none(desk):
    tenant, model, everything = desk.put("1.00", tenant_id="acme"), desk.put("0.50", model="m"), desk.put("2.00")
    other = desk.put("9.00", tenant_id="umbrella")
    assert desk.check("0.30").remaining == to_nanos("0.20")  # 0.50 - 0.30, the tightest
    assert [desk.status(budget)[1] for budget in (tenant, model, everything, other)] == list(usd("0.30", "0.30", "0.30", "0"))
    assert desk.check("0.30").budget == model
    assert [desk.status(budget)[1] for budget in (tenant, model, everything, other)] == list(usd("0.30", "0.30", "0.30", "0"))


def test_of_several_that_refuse_the_one_that_resets_last_is_named(desk):
    desk.put("0.10", period="hour", tenant_id="acme")
    month = desk.put("0.10", period="month", tenant_id="acme")
    desk.put("0.10", period="day", tenant_id="acme")
    assert desk.check("0.20").budget == month
    total = desk.put("0.10", period="total")
    assert desk.check("0.20").budget == total


def test_the_budgets_that_set_the_money_aside_are_the_ones_that_pay(desk):
    # The provider answers with a dated name of the model, and the application tracks that.
    budget = desk.put("1.00", tenant_id="acme", model="gpt-4o")
    decision = desk.check("0.10", model="gpt-4o")
    desk.track("0.08", model="gpt-4o-2024-08-06", reservation_id=decision.reservation_id)
    assert desk.status(budget) == usd("0.08", "0", "0")


def test_a_dimension_that_only_the_usage_names_counts_too(desk):
    desk.put("1.00", tenant_id="acme")
    user = desk.put("1.00", user_id="u1")
    decision = desk.check("0.10")
    desk.track("0.08", user_id="u1", reservation_id=decision.reservation_id)
    assert desk.status(user) == usd("0.08", "0", "0")


# --- at most once --------------------------------------------------------------------------------------------------------------


def test_the_same_check_twice_sets_money_aside_once(desk):
    budget = desk.put("1.00", tenant_id="acme")
    first, again = desk.check("0.60", event_id="e1"), desk.check("0.60", event_id="e1")
    assert again == first
    assert desk.status(budget) == usd("0", "0.60", "0")


def test_the_same_check_is_the_same_after_a_restart(desk):
    budget = desk.put("1.00", tenant_id="acme")
    first = desk.check("0.60", event_id="e1")
    desk.restart()
    assert desk.check("0.60", event_id="e1") == first
    assert desk.status(budget) == usd("0", "0.60", "0")


def test_the_same_usage_twice_is_recorded_once(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.check("0.05", event_id="e1")
    first = desk.track("0.03", event_id="e1")
    again = desk.track("0.99", event_id="e1")
    assert (first.repeated, again.repeated) == (False, True)
    assert (again.cost, again.event_id) == (to_nanos("0.03"), "e1")
    assert desk.status(budget) == usd("0.03", "0", "0")
    desk.restart()
    assert desk.track("0.99", event_id="e1").repeated
    assert desk.status(budget) == usd("0.03", "0", "0")


@pytest.mark.parametrize("event_id", ["", "e1"], ids=["anonymous", "named"])
def test_usage_by_reservation_id_twice_is_recorded_once(desk, event_id):
    budget = desk.put("1.00", tenant_id="acme")
    reservation_id = desk.check("0.05", event_id=event_id).reservation_id
    first = desk.track("0.03", reservation_id=reservation_id)
    assert not first.repeated
    assert desk.track("0.99", reservation_id=reservation_id).repeated
    desk.restart()
    again = desk.track("0.99", reservation_id=reservation_id)
    assert (again.repeated, again.event_id, again.cost) == (True, first.event_id, to_nanos("0.03"))
    assert desk.status(budget) == usd("0.03", "0", "0")


def test_repeats_within_one_transaction_are_repeats_too(desk):
    budget = desk.put("1.00", tenant_id="acme")

    def all_at_once(_):
        engine = desk.engine
        decisions = [engine.reserve(desk.wish("0.60", event_id="e1")) for _ in range(2)]
        return decisions, [engine.settle(desk.call("0.50", event_id="e1")) for _ in range(2)]

    decisions, settled = desk.ledger.writer.step_blocking(all_at_once, None)
    assert decisions[0] == decisions[1]
    assert [answer.repeated for answer in settled] == [False, True]
    assert desk.status(budget) == usd("0.50", "0", "0")


def test_a_check_that_comes_again_after_its_usage_is_a_conflict_and_sets_nothing_aside(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.check("0.05", event_id="e1")
    desk.track("0.03", event_id="e1")
    assert desk.check("0.05", event_id="e1").reason == "event_id_conflict"
    assert desk.track("0.03", event_id="e1").repeated
    assert desk.status(budget) == usd("0.03", "0", "0")


def test_a_repeated_check_may_shrink_and_not_grow(desk):
    budget = desk.put("1.00", tenant_id="acme")
    first = desk.check("0.05", event_id="e1")
    assert desk.check("0.04", event_id="e1") == first
    assert desk.check("0.06", event_id="e1").reason == "event_id_conflict"
    assert desk.status(budget) == usd("0", "0.05", "0")


def test_an_event_id_of_another_tenant_is_another_call(desk):
    budgets = [desk.put("1.00", tenant_id=tenant) for tenant in ("acme", "umbrella")]
    assert desk.check("0.05", event_id="e1").reservation_id != desk.check("0.05", event_id="e1", tenant_id="umbrella").reservation_id
    assert not desk.track("0.03", event_id="e1").repeated
    assert not desk.track("0.04", event_id="e1", tenant_id="umbrella").repeated
    assert [desk.status(budget) for budget in budgets] == [usd("0.03", "0", "0"), usd("0.04", "0", "0")]


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b:c"), ("a:b", "c")), (("1:a", "b"), ("1", "a:b")), (("a", "e"), ("a:e", ""))],
    ids=["colon", "length", "none"],
)
def test_no_spelling_of_tenant_and_event_makes_two_calls_one(one, other):
    assert named_id(*one) != named_id(*other)


def test_an_event_id_in_use_for_another_call_is_a_conflict(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.check("0.05", event_id="e1", model="m")
    refused = desk.check("0.05", event_id="e1", model="another")
    assert (refused.allowed, refused.reason) == (False, "event_id_conflict")
    assert desk.status(budget) == usd("0", "0.05", "0")


def test_the_reservation_of_another_tenant_is_not_settled(desk):
    acme, umbrella = desk.put("1.00", tenant_id="acme"), desk.put("1.00", tenant_id="umbrella")
    theirs = desk.check("0.05", tenant_id="umbrella").reservation_id
    desk.track("0.03", tenant_id="acme", reservation_id=theirs)
    assert desk.status(acme) == usd("0.03", "0", "0")
    assert desk.status(umbrella) == usd("0", "0.05", "0")


def test_an_event_id_is_no_reservation_id_even_where_both_are_spelled_alike(desk):
    # If both were one identity, the second would break the transaction of everybody who shares it.
    budget = desk.put("1.00", tenant_id="acme")
    reservation_id = desk.check("0.05").reservation_id
    assert desk.track("0.03", event_id=reservation_id).reservation_id == ""
    assert desk.track("0.04", reservation_id=reservation_id).reservation_id == reservation_id
    assert desk.status(budget) == usd("0.07", "0", "0")  # 0.03 + 0.04


# --- anonymous calls -----------------------------------------------------------------------------------------------------------


def test_usage_that_names_nothing_settles_the_oldest_check_of_its_tenant_and_model(desk):
    budget = desk.put("9.00", tenant_id="acme")
    first, second = desk.check("0.10"), desk.check("0.20")
    other = desk.check("0.40", model="another")
    assert desk.track("0.11").reservation_id == first.reservation_id
    assert desk.status(budget) == usd("0.11", "0.60", "0")  # 0.20 + 0.40
    desk.restart()
    assert desk.track("0.22").reservation_id == second.reservation_id
    assert desk.track("0.44", model="another").reservation_id == other.reservation_id
    assert desk.track("0.88").reservation_id == ""
    assert desk.status(budget) == usd("1.65", "0", "0")  # 0.11 + 0.22 + 0.44 + 0.88


def test_usage_does_not_settle_a_check_that_it_contradicts(desk):
    desk.put("9.00", tenant_id="acme")
    theirs, ours = desk.check("0.10", user_id="u1"), desk.check("0.10", user_id="u2")
    assert desk.track("0.10", user_id="u2").reservation_id == ours.reservation_id
    assert desk.track("0.10").reservation_id == theirs.reservation_id


def test_a_check_that_named_its_event_is_not_settled_by_usage_that_does_not(desk):
    desk.put("9.00", tenant_id="acme")
    desk.check("0.10", event_id="e1")
    assert desk.track("0.10").reservation_id == ""


def test_a_call_that_crashed_long_ago_does_not_lend_its_time_to_one_that_answers(desk):
    desk.put("9.00", tenant_id="acme")
    crashed = desk.check("0.10")
    desk.wait(seconds=601)
    desk.expire()
    answering = desk.check("0.20")
    assert desk.track("0.20").reservation_id == answering.reservation_id
    # Its own usage, should it still come.
    assert desk.track("0.10").reservation_id == crashed.reservation_id


# --- sums past 64 bits ---------------------------------------------------------------------------------------------------------


def test_a_sum_that_the_ledger_cannot_hold_is_refused_and_nobody_else_with_it(desk):
    budget = desk.put("1.00", tenant_id="acme")
    other = desk.put("1.00", tenant_id="umbrella")
    desk.track("4600000000", event_id="e1")
    held = desk.check("0.10", tenant_id="umbrella")

    def together(_):
        engine = desk.engine
        too_much = engine.settle(desk.call("100000000", event_id="e2"))
        fine = engine.settle(desk.call("0.10", tenant_id="umbrella", reservation_id=held.reservation_id))
        return too_much, fine

    too_much, fine = desk.ledger.writer.step_blocking(together, None)
    assert (too_much.refused, fine.refused) == ("overflow", "")
    # 4.7 billion dollars would be past 2^62 nano-dollars = 4,611,686,018.427387904.
    assert desk.status(budget) == usd("4600000000", "0", "0")
    assert desk.status(other) == usd("0.10", "0", "0")
    assert not desk.track("0.01", event_id="e2").refused


# --- expiry --------------------------------------------------------------------------------------------------------------------


def test_a_check_that_nobody_settles_counts_on_as_unsettled(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.check("0.70")
    desk.wait(seconds=599)
    assert desk.expire() == 0
    desk.wait(seconds=1)
    assert desk.expire() == 1
    assert desk.expire() == 0
    assert desk.status(budget) == usd("0", "0", "0.70")
    # 0.70 + 0.31 > 1.00
    assert not desk.check("0.31").allowed
    assert desk.check("0.30").allowed


def test_a_late_settle_takes_the_place_of_what_was_unsettled(desk):
    budget = desk.put("1.00", tenant_id="acme")
    late, later = desk.check("0.40"), desk.check("0.50", event_id="e1")
    desk.wait(seconds=600)
    assert desk.expire() == 2
    desk.track("0.41", reservation_id=late.reservation_id)
    assert desk.status(budget) == usd("0.41", "0", "0.50")
    desk.restart()
    assert desk.status(budget) == usd("0.41", "0", "0.50")
    assert desk.track("0.51", event_id="e1").reservation_id == later.reservation_id
    assert desk.status(budget) == usd("0.92", "0", "0")


def test_a_restart_forgets_no_expiry(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.check("0.70")
    desk.wait(seconds=600)
    desk.restart()
    assert desk.expire() == 1
    assert desk.status(budget) == usd("0", "0", "0.70")


def test_the_same_check_after_it_expired_is_still_the_same(desk):
    budget = desk.put("1.00", tenant_id="acme")
    first = desk.check("0.70", event_id="e1")
    desk.wait(seconds=600)
    desk.expire()
    assert desk.check("0.70", event_id="e1") == first
    assert desk.status(budget) == usd("0", "0", "0.70")


def test_a_check_under_an_event_id_that_is_free_again_has_its_own_time_to_expire(desk):
    budget = desk.put("9.00", tenant_id="acme")
    first = desk.check("0.70", event_id="e1")
    desk.track("0.10", reservation_id=first.reservation_id, event_id="another")
    desk.wait(seconds=300)
    assert desk.check("0.70", event_id="e1").reservation_id == first.reservation_id
    desk.wait(seconds=300)
    assert desk.expire() == 0
    assert desk.status(budget) == usd("0.10", "0.70", "0")
    desk.wait(seconds=300)
    assert desk.expire() == 1
    assert desk.status(budget) == usd("0.10", "0", "0.70")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_settled_checks_do_not_fill_the_memory_until_they_would_have_expired(desk):
    desk.put("1000", tenant_id="acme")

    def thousands(_):
        for _ in range(3000):
            decision = desk.engine.reserve(desk.wish("0.01"))
            desk.engine.settle(desk.call("0.01", reservation_id=decision.reservation_id))

    desk.ledger.writer.step_blocking(thousands, None)
    desk.expire()
    assert len(desk.engine._book._expiries) <= 1024


# --- suspended tenants ---------------------------------------------------------------------------------------------------------


def test_a_suspended_tenant_is_refused_until_it_is_resumed(desk):
    desk.put("1.00", tenant_id="acme")
    assert desk.suspend("acme")
    assert not desk.suspend("acme", reason="another")
    desk.restart()
    assert desk.check("0.01").reason == "tenant_suspended"
    assert desk.check("0.01", tenant_id="umbrella").reason == "no_budget"
    assert desk.resume("acme")
    assert not desk.resume("acme")
    assert desk.check("0.01").allowed


def test_what_a_suspended_tenant_still_spends_is_recorded(desk):
    budget = desk.put("1.00", tenant_id="acme")
    decision = desk.check("0.05")
    desk.suspend("acme")
    desk.track("0.03", reservation_id=decision.reservation_id)
    assert desk.status(budget) == usd("0.03", "0", "0")


# --- events metered elsewhere --------------------------------------------------------------------------------------------------


def test_a_batch_is_recorded_once_also_where_it_repeats_itself(desk):
    budget = desk.put("9.00", tenant_id="acme")
    events = [
        Usage(source="otlp", event_id=event_id, timestamp=desk.now, tenant_id="acme", model="m", cost=cost)
        for event_id, cost in (("a", 1), ("b", 2), ("a", 1))
    ]
    ingest = desk.ledger.writer.step_blocking
    assert ingest(desk.engine.ingest, events) == 2
    assert ingest(desk.engine.ingest, events) == 0
    assert desk.status(budget) == (1 + 2, 0, 0)


# --- many at once --------------------------------------------------------------------------------------------------------------


def test_of_200_checks_at_once_a_dollar_pays_for_exactly_20_of_5_cents(desk):
    budget = desk.put("1.00", tenant_id="acme")

    async def everybody():
        return await asyncio.gather(*(desk.ledger.writer.step(desk.engine.reserve, desk.wish("0.05")) for _ in range(200)))

    decisions = asyncio.run(everybody())
    assert sum(decision.allowed for decision in decisions) == 20  # 1.00 / 0.05
    assert desk.status(budget) == usd("0", "1.00", "0")


def test_threads_that_check_and_track_spend_no_more_than_the_limit(desk):
    budget = desk.put("1.00", tenant_id="acme")

    def spend(_):
        decision = desk.check("0.05")
        if decision.allowed:
            desk.track("0.04", reservation_id=decision.reservation_id)
        return decision.allowed

    with ThreadPoolExecutor(max_workers=16) as pool:
        admitted = sum(pool.map(spend, range(200)))
    spent, reserved, unsettled = desk.status(budget)
    assert (spent, reserved, unsettled) == (admitted * to_nanos("0.04"), 0, 0)
    # One by one 24 calls fit (23 × 0.04 + 0.05 ≤ 1.00), all at once 20 (20 × 0.05).
    assert 20 <= admitted <= 24


# --- what the ledger keeps -----------------------------------------------------------------------------------------------------


def test_usage_keeps_what_it_was_about(desk):
    desk.put("9.00", tenant_id="acme")
    decision = desk.check("0.10", team="web", feature="search")
    desk.track("0.08", reservation_id=decision.reservation_id, user_id="u1", success=False, input_tokens=7)
    with desk.ledger.read() as connection:
        (row,) = usage_sums(connection, ("tenant_id", "model", "team", "feature", "user_id"))
        assert known_event(connection, "reservation:acme", decision.reservation_id) == to_nanos("0.08")
        assert read_reservations(connection) == []
    found = {name: row[name] for name in ("tenant_id", "model", "team", "feature", "user_id", "success", "input_tokens", "cost")}
    assert found == {
        "tenant_id": "acme",
        "model": "m",
        "team": "web",
        "feature": "search",
        "user_id": "u1",
        "success": 0,
        "input_tokens": 7,
        "cost": to_nanos("0.08"),
    }


@pytest.mark.parametrize("ending", ["track", "release", "expire"])
def test_a_default_budget_that_is_made_while_calls_end_holds_nothing_of_them(desk_of, ending):
    desk = desk_of(default={"model": "*", "monthly_limit_usd": 1})
    held = desk.check("0.30")
    name = "tenant_id=acme/month"
    desk.delete(name)
    desk.wait(seconds=300)
    writer, engine = desk.ledger.writer, desk.engine
    ends = {
        "track": (engine.settle, desk.call("0.20", reservation_id=held.reservation_id)),
        "release": (engine.release, Release("acme", held.reservation_id)),
        "expire": (engine.expire, held.expires_at),
    }

    async def together():
        await asyncio.gather(writer.step(engine.reserve, desk.wish("0.10")), writer.step(*ends[ending]))

    asyncio.run(together())
    expected = {"track": usd("0.20", "0.10", "0"), "release": usd("0", "0.10", "0"), "expire": usd("0", "0.10", "0.30")}
    assert desk.in_memory() == desk.in_ledger() == {name: expected[ending]}


def test_a_tenant_that_has_a_budget_for_anything_is_given_no_default(desk_of):
    desk = desk_of(default={"model": "m", "monthly_limit_usd": 1000})
    budget = desk.put("5.00", tenant_id="acme", model="other")
    assert desk.check("0.01").reason == "no_budget"
    assert desk.check("0.01", tenant_id="new").allowed
    desk.delete(budget.budget)
    assert desk.check("0.01").allowed


def test_a_name_that_a_file_gave_to_another_scope_is_not_taken_over(desk):
    # A file may name a budget as it likes; the API names budgets by their scope.
    odd = msgspec.structs.replace(desk.put("1.00", tenant_id="umbrella"), budget="tenant_id=acme/month", origin="apply")
    desk.ledger.write(lambda connection: desk.engine.put(connection, odd, "admin"))
    with pytest.raises(BudgetIsConfigured, match="belongs to a budget of another scope or period"):
        desk.put("5.00", tenant_id="acme")
    assert desk.status(odd) == usd("0", "0", "0")
    assert desk.check("1.50", tenant_id="umbrella").reason == "budget_exceeded"


def test_a_budget_that_moves_to_another_tenant_is_news_to_both(desk):
    budget = msgspec.structs.replace(desk.put("1.00", tenant_id="acme"), origin="apply")
    heard = set()
    desk.engine.on_touched = heard.update
    moved = msgspec.structs.replace(budget, scope=desk.wish("0", tenant_id="umbrella", model="").dimensions)
    desk.ledger.write(lambda connection: desk.engine.put(connection, moved, "admin"))
    assert {"acme", "umbrella"} <= heard
