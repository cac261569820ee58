"""Guardrails: breached at the threshold, recorded and acted on once, and the caps that they set are the engine's."""

import asyncio
from decimal import Decimal

import pytest

from costwarden.budgets.guardrails import GuardrailWatch, window
from costwarden.budgets.settings import Guardrail
from costwarden.config import Config
from costwarden.ledger.audit import list_audit
from costwarden.ledger.guardrails import list_breaches
from costwarden.metrics.guardrails import guardrail_collector
from costwarden.model import to_nanos


def guardrail(**more):
    return Guardrail(**{"name": "daily", "metric": "daily_cost", "threshold_usd": 10, **more})


@pytest.fixture
def watch_of(desk_of):
    """`watch_of(guardrail, …)`: a desk that lets anybody spend, and the watch over it."""

    def make(*guardrails, **settings):
        desk = desk_of(**{"unbudgeted": "allow", **settings})
        desk.watch = GuardrailWatch(desk.ledger, desk.engine.suspend, guardrails, desk.zone, lambda: desk.now)
        return desk

    return make


def breached(desk) -> list[str]:
    """Whose breaches the watch finds now."""
    return [breach.guardrail for breach in desk.watch.look()]


def recorded(desk) -> list[tuple[str, int]]:
    with desk.ledger.read() as connection:
        return [(breach.guardrail, breach.spent) for breach in list_breaches(connection)]


def series(desk) -> dict[str, dict[tuple[str, ...], float]]:
    return {family.name: dict(samples) for family, samples in guardrail_collector(desk.watch.figures).collect()}


def test_a_guardrail_is_breached_at_its_threshold_and_not_a_nano_dollar_below(watch_of):
    desk = watch_of(guardrail())
    desk.track("9.999999999")
    assert breached(desk) == []
    desk.track("0.000000001")
    assert breached(desk) == ["daily"]
    assert recorded(desk) == [("daily", to_nanos(Decimal(10)))]


def test_a_breach_is_recorded_once_in_its_window_however_long_it_lasts(watch_of):
    desk = watch_of(guardrail(cool_down_minutes=0))
    desk.track("11")
    assert [breached(desk) for _ in range(3)] == [["daily"], [], []]
    desk.wait(seconds=11 * 3600)  # 23:00
    desk.track("1")
    assert breached(desk) == []
    desk.wait(seconds=3600)  # midnight: nothing is spent yet
    assert breached(desk) == []
    desk.track("10")
    assert breached(desk) == ["daily"]


def test_within_the_cool_down_a_guardrail_does_not_act_again_even_in_another_window(watch_of):
    desk = watch_of(guardrail(metric="hourly_cost", cool_down_minutes=90))
    for seconds, found in ((0, ["daily"]), (3600, []), (1799, []), (1, ["daily"])):  # 12:00, 13:00, 13:29:59, 13:30
        desk.wait(seconds=seconds)
        desk.track("10")
        assert breached(desk) == found


def test_a_trailing_window_forgets_what_is_older_than_it_and_acts_again_after_the_cool_down(watch_of):
    desk = watch_of(guardrail(metric="hourly_cost", trailing=True, cool_down_minutes=10))
    desk.track("10")
    assert breached(desk) == ["daily"]
    desk.wait(seconds=599)
    assert breached(desk) == []
    desk.wait(seconds=1)
    assert breached(desk) == ["daily"]
    desk.wait(seconds=3000)  # an hour after the call
    assert breached(desk) == []
    assert series(desk)["costwarden_guardrail_spend_usd"] == {("daily", "warning", "", *[""] * 9): 0}


def test_a_trailing_window_holds_the_last_hour_to_the_microsecond(watch_of):
    desk = watch_of()
    rail = guardrail(metric="hourly_cost", trailing=True)
    assert window(rail, desk.now, desk.zone) == (desk.now - 3_600_000_000 + 1, desk.now + 1)


def test_a_raised_threshold_is_another_one(watch_of):
    desk = watch_of(guardrail(cool_down_minutes=0))
    desk.track("11")
    assert breached(desk) == ["daily"]
    desk.watch.configure([guardrail(cool_down_minutes=0, threshold_usd=20)])
    assert breached(desk) == []
    desk.track("9")
    assert breached(desk) == ["daily"]


def test_only_the_cost_of_its_scope_counts(watch_of):
    desk = watch_of(guardrail(scope={"tenant_id": "acme"}), guardrail(name="all", threshold_usd=30))
    desk.track("9", tenant_id="acme")
    desk.track("20", tenant_id="globex")
    assert breached(desk) == []
    desk.track("1", tenant_id="acme")
    assert breached(desk) == ["daily", "all"]


def test_a_day_begins_at_midnight_of_the_zone(watch_of):
    desk = watch_of(guardrail(), zone="Pacific/Auckland")  # 12:00 UTC is 01:00 there
    desk.track("10", at=desk.now - 3600 * 1_000_000 - 1)
    assert breached(desk) == []
    desk.track("10", at=desk.now - 3600 * 1_000_000)
    assert breached(desk) == ["daily"]


def test_an_emergency_stop_refuses_everybody_until_it_is_lifted_and_stays_lifted_in_that_window(watch_of):
    desk = watch_of(guardrail(actions=["alert", "emergency_stop"], cool_down_minutes=0))
    desk.track("10.5")
    assert desk.check("1").allowed
    assert breached(desk) == ["daily"]
    assert desk.check("0.1", tenant_id="globex").reason == "emergency_stop"
    with desk.ledger.read() as connection:
        entries = {entry["action"]: entry for entry in list_audit(connection)}
    assert entries["guardrail_breached"]["actor"] == entries["emergency_stop"]["actor"] == "guardrail:daily"
    assert "the guardrail `daily` was breached: $10.50 spent, threshold $10.00 (daily_cost)" in entries["emergency_stop"]["after"]
    desk.restart()
    assert desk.check("0.1").reason == "emergency_stop"
    desk.watch = GuardrailWatch(desk.ledger, desk.engine.suspend, [guardrail(actions=["emergency_stop"])], desk.zone, lambda: desk.now)
    assert desk.resume("")
    assert breached(desk) == []
    assert desk.check("0.1").allowed
    desk.wait(days=1)
    desk.track("10", tenant_id="globex")  # not acme's, whose reservations are of the day before
    assert breached(desk) == ["daily"]
    assert desk.check("0.1").reason == "emergency_stop"


def test_two_replicas_record_a_breach_once(watch_of, database_url):
    desk = watch_of(guardrail())
    desk.track("10")
    others = [GuardrailWatch(desk.ledger, desk.engine.suspend, [guardrail()], desk.zone, lambda: desk.now) for _ in range(3)]

    async def all_at_once() -> list[int]:
        return [len(found) for found in await asyncio.gather(*(asyncio.to_thread(watch.look) for watch in others))]

    assert sorted(asyncio.run(all_at_once())) == [0, 0, 1]
    assert len(recorded(desk)) == 1


def test_blocked_requests_are_refused_by_the_engine_before_the_threshold_is_passed(desk_of):
    config = Config(budgets={"default": None}, guardrails=[guardrail(actions=["block_requests"], scope={"tenant_id": "acme"})])
    desk = desk_of(unbudgeted="allow")
    (budget,) = config.enforced_budgets.configured
    assert (budget.name, budget.period, budget.limit_usd, budget.scope.tenant_id) == ("guardrail:daily", "day", 10, "acme")
    from costwarden.budgets.store import configured_budgets

    desk.ledger.write(lambda connection: desk.engine.put_configured(connection, configured_budgets(config.enforced_budgets)))
    assert desk.check("9").allowed
    refused = desk.check("1.01")
    assert (refused.reason, refused.budget.budget) == ("budget_exceeded", "guardrail:daily")
    assert desk.check("1").allowed
    assert desk.check("100", tenant_id="globex").allowed


def test_a_guardrail_has_a_series_for_each_of_its_playbooks_or_one_without_an_action(watch_of):
    desk = watch_of(
        guardrail(actions=["alert", "notify"]),
        guardrail(
            name="two", severity="critical", scope={"tenant_id": "acme"}, actions=["throttle", "block_requests", "pause", "throttle"]
        ),
    )
    desk.track("4", tenant_id="acme")
    desk.watch.look()
    acme = ("acme", *[""] * 8)
    assert series(desk) == {
        "costwarden_guardrail_spend_usd": {
            ("daily", "warning", "", *[""] * 9): 4,
            ("two", "critical", "throttle", *acme): 4,
            ("two", "critical", "pause", *acme): 4,
        },
        "costwarden_guardrail_threshold_usd": {
            ("daily", "warning", "", *[""] * 9): 10,
            ("two", "critical", "throttle", *acme): 10,
            ("two", "critical", "pause", *acme): 10,
        },
        "costwarden_guardrail_breached": {
            ("daily", "warning", "", *[""] * 9): 0,
            ("two", "critical", "throttle", *acme): 0,
            ("two", "critical", "pause", *acme): 0,
        },
    }


def test_figures_that_nobody_has_looked_at_for_long_are_not_told(watch_of):
    desk = watch_of(guardrail())
    desk.watch.look()
    desk.wait(seconds=120)
    assert len(desk.watch.figures()) == 1
    desk.wait(seconds=1)
    with pytest.raises(TimeoutError, match="looked at 121 seconds ago"):
        desk.watch.figures()
    desk.watch.configure([])
    assert desk.watch.look() == desk.watch.figures() == [] or desk.watch.figures() == ()
