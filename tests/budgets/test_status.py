"""How a budget stands: read from the ledger by everybody who shows it."""

import pytest

from costwarden.budgets.rules import FOREVER
from costwarden.budgets.status import budget_statuses, thresholds_crossed


@pytest.mark.parametrize(
    ("spent", "status", "soft", "hard"),
    [
        ("0.79", "ok", False, False),
        ("0.80", "warning", True, False),
        ("0.99", "warning", True, False),
        ("1.00", "exceeded", True, True),
        ("1.50", "exceeded", True, True),
    ],
)
def test_the_status_follows_what_is_spent(desk, spent, status, soft, hard):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track(spent, event_id="e1")
    found = desk.statuses()[budget.budget]
    assert (found.status, found.soft_limit_reached, found.hard_limit_reached) == (status, soft, hard)


def test_what_is_set_aside_is_no_reason_for_an_alert_but_what_is_unsettled_is(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.check("1.00")
    assert desk.statuses()[budget.budget].status == "ok"
    desk.wait(seconds=600)
    desk.expire()
    assert desk.statuses()[budget.budget].status == "exceeded"


def test_a_tenant_is_shown_its_own_budgets_and_what_is_set_aside_in_them(desk):
    desk.put("9.00")
    ours = [desk.put("1.00", tenant_id="acme").budget, desk.put("1.00", tenant_id="acme", user_id="u1").budget]
    desk.put("1.00", tenant_id="umbrella")
    desk.check("0.10", user_id="u1")
    desk.check("0.20")
    desk.check("0.40", tenant_id="umbrella")
    with desk.ledger.read() as connection:
        found = {status.budget.budget: status.reserved for status in budget_statuses(connection, desk.zone, desk.now, "acme")}
    assert found == dict(zip(ours, (300_000_000, 100_000_000), strict=True))  # 0.10 + 0.20, 0.10


def test_a_total_resets_never(desk):
    budget = desk.put("1.00", period="total", tenant_id="acme")
    assert desk.statuses()[budget.budget].resets_at == FOREVER


def test_thresholds_come_with_the_time_that_they_were_crossed(desk):
    budget = desk.put("1.00", tenant_id="acme")
    desk.track("0.50", event_id="e1")
    crossed_at = desk.now
    desk.wait(seconds=60)
    desk.track("0.26", event_id="e2")
    with desk.ledger.read() as connection:
        found = list(thresholds_crossed(connection, desk.statuses()[budget.budget]))
    assert found == [("0.5", crossed_at), ("0.75", crossed_at + 60_000_000)]
