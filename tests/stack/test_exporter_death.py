"""costwarden dies while an alert fires: that is no reason to restore anything, nor to stop anything again."""

import time
from datetime import datetime

import pytest

pytestmark = pytest.mark.stack


def without_keeping(document):
    """Takes `keep_firing_for` out of the rules: an alert resolves with the first evaluation that has no data."""
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("keep_firing_for", None)


def deliver_every_second(document):
    """Also what Alertmanager has delivered before: where its word of an alert's end found nobody, the next alert is no news to it."""
    for route in document["route"].get("routes", ()):
        route |= {"group_interval": "1s", "repeat_interval": "1s"}


@pytest.fixture
def sections(hire, tenant_budgets):
    return {
        "budgets": tenant_budgets({"acme": "note"}),
        "remediation": {"mode": "enforce", "playbooks": [hire("clerk").playbook("note")]},
    }


def scraped(stack, up, since):
    """When the first scrape after `since` was that did or did not reach it; nothing where there is none yet."""
    return next((sample.at for sample in stack.query("up[5m]") if sample.at > since and sample.value == up), None)


def evaluated(stack):
    """When the alert was evaluated last, and fired."""
    return max(sample.at for sample in stack.query("ALERTS{alertname='AIBudgetExceeded',alertstate='firing'}[5m]"))


def test_its_alerts_fire_on_while_it_is_gone_and_it_does_nothing_when_it_is_back(
    start_stack, sections, overspend, delivered, eventually, runs_of
):
    stack = start_stack(sections, edit_alertmanager=deliver_every_second)
    overspend(stack, "acme")
    (run,) = runs_of(stack, 1)
    assert run["outcome"] == "succeeded"
    (alert,) = stack.firing("AIBudgetExceeded")
    stack.kill_costwarden()
    killed = time.time()
    missed = eventually("Prometheus to miss it", lambda: scraped(stack, 0, killed))
    eventually("three more evaluations without data", lambda: evaluated(stack) > missed + 3)
    assert [found["activeAt"] for found in stack.firing("AIBudgetExceeded")] == [alert["activeAt"]]
    stack.start_costwarden()
    back = time.time()
    seen = eventually("the next scrape", lambda: scraped(stack, 1, back))
    eventually("two evaluations with data", lambda: evaluated(stack) > seen + 2)
    assert [found["activeAt"] for found in stack.firing("AIBudgetExceeded")] == [alert["activeAt"]]
    eventually("Alertmanager to repeat it", lambda: delivered(stack, "repeated") >= 2)
    assert delivered(stack, "queued") == 0
    assert stack.runs() == [run]


def test_an_alert_that_its_death_resolved_and_its_return_fires_again_is_held_back(start_stack, sections, overspend, eventually):
    stack = start_stack(sections, edit_rules=without_keeping, edit_alertmanager=deliver_every_second)
    overspend(stack, "acme")
    run = eventually("the end of its run", stack.finished_runs)[0]
    assert run["outcome"] == "succeeded"
    stack.kill_costwarden()
    killed = time.time()
    eventually("the alert to resolve", lambda: not stack.firing("AIBudgetExceeded"))
    stack.start_costwarden()

    def began(of):
        return datetime.fromisoformat(of["alert"]["starts_at"]).timestamp()

    # For Prometheus it is another alert, with another beginning; for the guard it is the one that it has just acted for.
    eventually("the end of its run", lambda: any(began(found) > killed for found in stack.finished_runs()))
    first, *others = stack.finished_runs()
    assert first == run
    # A scrape that takes too long is as good as a death: then there is one more of these.
    assert {(found["outcome"], found["reason"]) for found in others} == {("refused", "cooldown")}
    # A restore would be a run of its own.
    assert {found["mode"] for found in stack.runs()} == {"enforce"}
