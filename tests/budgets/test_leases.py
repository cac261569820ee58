"""Slices of a budget that are spent call by call, and what an operator says of a reservation that nobody ends."""

import pytest

from costwarden.budgets.calls import Reset, Resolve
from costwarden.model import Usage, to_nanos

DAY = 86_400


def usd(*amounts):
    return tuple(to_nanos(amount) for amount in amounts)


@pytest.fixture
def lease(desk):
    """`lease("5.00")`: draws up to that much."""

    def draw(amount, *, seconds=600, event_id="", **named):
        scope = desk.wish("0", **named).dimensions
        wish = desk.reserve(scope, amount, event_id=event_id, kind="lease", seconds=seconds, at_least=1)
        return desk.ledger.writer.step_blocking(desk.engine.reserve, wish)

    return draw


# --- leases --------------------------------------------------------------------------------------------------------------------


def test_a_lease_takes_what_is_left_and_a_repeat_of_it_is_the_same_lease(desk, lease):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.40", event_id="e1")
    first = lease("5.00", event_id="slice")
    assert (first.allowed, first.estimate) == (True, to_nanos("0.60"))
    # The answer was lost, and the client asks again: for as much as before.
    assert lease("5.00", event_id="slice") == first
    assert desk.status(budget) == usd("0.40", "0.60", "0")
    assert lease("0.01").reason == "budget_exceeded"


def test_calls_of_a_lease_move_money_from_what_it_holds_to_what_is_spent(desk, lease):
    budget = desk.put("1.00", tenant_id="acme")
    held = lease("0.50").reservation_id
    assert desk.track("0.20", reservation_id=held, event_id="e1").reservation_id == held
    assert desk.track("0.20", reservation_id=held, event_id="e1").repeated
    assert desk.status(budget) == usd("0.20", "0.30", "0")
    # More than it has left: the rest comes out of the budget.
    desk.track("0.40", reservation_id=held, event_id="e2")
    assert desk.status(budget) == usd("0.60", "0", "0")
    assert desk.track("0.01", reservation_id=held).refused == "event_id_needed"
    assert desk.release(held).released == 0
    assert not desk.release(held).found


def test_what_is_left_of_a_lease_comes_back_and_that_of_a_crashed_client_is_unsettled(desk, lease):
    budget = desk.put("1.00", tenant_id="acme")
    closed, crashed = (lease("0.40", seconds=60).reservation_id for _ in range(2))
    desk.track("0.10", reservation_id=closed, event_id="e1")
    desk.track("0.10", reservation_id=crashed, event_id="e2")
    assert desk.release(closed).released == to_nanos("0.30")
    desk.wait(seconds=60)
    assert desk.expire() == 1
    assert desk.status(budget) == usd("0.20", "0", "0.30")
    desk.track("0.20", reservation_id=crashed, event_id="late")
    assert desk.status(budget) == usd("0.40", "0", "0.10")
    desk.restart()
    assert desk.release(crashed).released == to_nanos("0.10")
    assert desk.status(budget) == usd("0.40", "0", "0")


def test_a_lease_that_is_used_up_frees_nothing_that_its_day_has_spent_when_it_ends_on_the_next(desk, lease):
    budget = desk.put("1.00", period="day", tenant_id="acme")
    held = lease("0.10", seconds=3 * DAY).reservation_id
    desk.track("0.10", reservation_id=held, event_id="e1")
    desk.wait(days=1)
    desk.check("0.01")
    desk.check("0.01")
    desk.track("0.30", reservation_id=held, event_id="e2")
    desk.check("0.01")
    desk.release(held)
    desk.restart()
    desk.wait(days=-1)
    assert desk.status(budget) == usd("0.40", "0", "0")


def test_a_call_that_costs_nothing_frees_nothing_of_the_day_it_was_made_when_it_expires_on_the_next(desk):
    budget = desk.put("1.00", period="day", tenant_id="acme")
    desk.check("0")
    noon = desk.now
    desk.wait(days=1)
    desk.check("0.01")
    desk.check("0.01")
    desk.track("0.70", event_id="late", at=noon)
    desk.expire()
    desk.restart()
    desk.now = noon
    assert desk.status(budget) == usd("0.70", "0", "0")


def test_a_lease_is_not_settled_by_usage_that_names_nothing(desk, lease):
    budget = desk.put("1.00", tenant_id="acme")
    lease("0.50")
    assert desk.track("0.10").reservation_id == ""
    assert desk.status(budget) == usd("0.10", "0.50", "0")


# --- cancelled calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_id", ["", "e1"], ids=["anonymous", "named"])
def test_a_call_that_was_not_made_gives_its_money_back_once(desk, event_id):
    budget = desk.put("1.00", tenant_id="acme")
    reservation_id = desk.check("0.60", event_id=event_id).reservation_id
    assert not desk.release(reservation_id, tenant_id="umbrella").found
    assert desk.status(budget) == usd("0", "0.60", "0")
    assert desk.release(reservation_id).released == to_nanos("0.60")
    assert not desk.release(reservation_id).found
    assert desk.status(budget) == usd("0", "0", "0")
    assert desk.check("1.00", event_id=event_id).allowed


# --- an operator's word --------------------------------------------------------------------------------------------------------


def resolve(desk, reservation_id, cost):
    word = Resolve(reservation_id, to_nanos(cost), "asked the provider", "operator", desk.now)
    return desk.ledger.writer.step_blocking(desk.engine.resolve, word)


@pytest.mark.parametrize("event_id", ["", "e1"], ids=["anonymous", "named"])
@pytest.mark.parametrize("cost", ["0", "0.30"])
def test_an_operator_ends_a_reservation_with_what_the_call_has_cost(desk, event_id, cost):
    budget = desk.put("1.00", tenant_id="acme")
    reservation_id = desk.check("0.60", event_id=event_id).reservation_id
    desk.wait(seconds=600)
    desk.expire()
    assert resolve(desk, reservation_id, cost).cost == to_nanos(cost)
    assert resolve(desk, reservation_id, cost) is None
    assert desk.status(budget) == usd(cost, "0", "0")
    with desk.ledger.read() as connection:
        actions = connection.exec_driver_sql("SELECT actor, action, subject FROM audit").fetchall()
    assert actions[-1] == ("operator", "resolve_reservation", reservation_id)


@pytest.mark.parametrize("event_id", ["", "e1"], ids=["anonymous", "named"])
def test_usage_that_comes_after_the_operators_word_is_not_counted_a_second_time(desk, event_id):
    budget = desk.put("1.00", tenant_id="acme")
    reservation_id = desk.check("0.60", event_id=event_id).reservation_id
    resolve(desk, reservation_id, "0.30")
    late = desk.track("0.35", reservation_id=reservation_id)
    assert (late.repeated, late.cost) == (True, to_nanos("0.30"))
    assert desk.status(budget) == usd("0.30", "0", "0")


@pytest.mark.parametrize("kind", ["call", "lease"])
def test_an_event_id_that_is_used_again_can_be_resolved_again(desk, lease, kind):
    budget = desk.put("9.00", tenant_id="acme")
    for _ in range(2):
        made = desk.check("0.60", event_id="e1") if kind == "call" else lease("0.60", event_id="e1")
        if made.allowed:
            assert resolve(desk, made.reservation_id, "0.30").cost == to_nanos("0.30")
    assert desk.status(budget)[1:] == (0, 0)


# --- reset ---------------------------------------------------------------------------------------------------------------------


def test_a_reset_begins_the_period_anew_and_keeps_what_is_set_aside(desk, lease):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.90", event_id="e1")
    held = desk.check("0.10")
    wish = Reset(budget.budget, "end of the trial", "admin", desk.now)
    assert desk.ledger.writer.step_blocking(desk.engine.reset, wish)
    assert desk.status(budget) == usd("0", "0.10", "0")
    desk.restart()
    assert desk.status(budget) == usd("0", "0.10", "0")
    desk.track("0.05", reservation_id=held.reservation_id)
    assert desk.status(budget) == usd("0.05", "0", "0")


def test_a_correction_of_what_a_reset_took_out_is_no_credit(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.90", event_id="e1")
    before = desk.now
    desk.wait(seconds=1)
    desk.ledger.writer.step_blocking(desk.engine.reset, Reset(budget.budget, "end of the trial", "admin", desk.now))
    desk.wait(seconds=1)
    desk.track("0.50", event_id="e2")

    def correct(event_id, at, usd_less):
        less = Usage(
            source="correction", event_id=event_id, timestamp=at, tenant_id="acme", model="m", cost=-to_nanos(usd_less), requests=0
        )
        return desk.ledger.writer.step_blocking(desk.engine.ingest, [less])

    assert correct("e1", before, "0.81") == 1
    assert desk.status(budget) == usd("0.50", "0", "0")
    # What was spent since is corrected, also after a restart.
    desk.restart()
    assert correct("e2", desk.now, "0.20") == 1
    assert correct("e1 again", before, "0.05") == 1
    assert desk.status(budget) == usd("0.30", "0", "0")


def test_a_reset_by_the_command_line_holds_also_where_it_changes_a_budget_right_after(desk, beside):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.90", event_id="e1")
    other = beside()
    wish = Reset(budget.budget, "end of the trial", "admin", desk.now)
    assert other.ledger.writer.step_blocking(other.engine.reset, wish)
    desk.put_beside("2.00", tenant_id="acme")
    assert desk.status(budget) == usd("0", "0", "0")
    desk.track("0.05", event_id="e2")
    assert desk.status(budget) == usd("0.05", "0", "0")


def test_an_operators_word_by_the_command_line_is_heard_by_the_server(desk, beside):
    budget = desk.put("1.00", tenant_id="acme")
    held = desk.check("0.60")
    other = beside()
    assert resolve(other, held.reservation_id, "0.30").cost == to_nanos("0.30")
    assert desk.status(budget) == usd("0.30", "0", "0")
    assert desk.track("0.35", reservation_id=held.reservation_id).repeated
