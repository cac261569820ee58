"""costwarden dies while an alert fires: that is no reason to restore anything, nor to stop anything again."""

import pytest

pytestmark = pytest.mark.stack


def without_keeping(document):
    """Takes `keep_firing_for` out of the rules: an alert resolves with the first evaluation that has no data."""
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("keep_firing_for", None)


def deliver_often(document):
    for route in document["route"].get("routes", ()):
        route["group_interval"] = "1s"


@pytest.fixture
def sections(hire, tenant_budgets):
    return {
        "budgets": tenant_budgets({"acme": "note"}),
        "remediation": {"mode": "enforce", "playbooks": [hire("clerk").playbook("note")]},
    }


def is_down(stack):
    return any(sample.value == 0 for sample in stack.query("up"))


def test_its_alerts_fire_on_while_it_is_gone_and_it_does_nothing_when_it_is_back(start_stack, sections, overspend, eventually, runs_of):
    stack = start_stack(sections)
    overspend(stack, "acme")
    (run,) = runs_of(stack, 1)
    assert run["outcome"] == "succeeded"
    (alert,) = stack.firing("AIBudgetExceeded")
    stack.kill_costwarden()
    eventually("Prometheus to miss it", lambda: is_down(stack))
    evaluated = stack.query("ALERTS{alertname='AIBudgetExceeded'}[1m]")[-1].at
    eventually(
        "three more evaluations without data", lambda: stack.query("ALERTS{alertname='AIBudgetExceeded'}[1m]")[-1].at > evaluated + 3
    )
    assert [found["activeAt"] for found in stack.firing("AIBudgetExceeded")] == [alert["activeAt"]]
    stack.start_costwarden()
    eventually("the next scrape", lambda: not is_down(stack))
    assert [found["activeAt"] for found in stack.firing("AIBudgetExceeded")] == [alert["activeAt"]]
    assert stack.runs() == [run]


def test_an_alert_that_its_death_resolved_and_its_return_fires_again_is_held_back(start_stack, sections, overspend, eventually, runs_of):
    stack = start_stack(sections, edit_rules=without_keeping, edit_alertmanager=deliver_often)
    overspend(stack, "acme")
    (run,) = runs_of(stack, 1)
    assert run["outcome"] == "succeeded"
    stack.kill_costwarden()
    eventually("the alert to resolve", lambda: not stack.firing("AIBudgetExceeded"))
    stack.start_costwarden()
    # For Prometheus it is another alert, with another beginning; for the guard it is the one that it has just acted for.
    first, second = runs_of(stack, 2)
    assert first == run
    assert (second["outcome"], second["reason"]) == ("refused", "cooldown")
    # A restore would be a run of its own.
    assert {found["mode"] for found in stack.runs()} == {"enforce"}
