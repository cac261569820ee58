"""An incident's script runs exactly once: whoever repeats the alert, however slow the script is, whenever the server is killed."""

import pytest

pytestmark = pytest.mark.stack


def deliver_every_second(document):
    """Shortens the waits of every route, so that each Alertmanager repeats what fires once a second."""

    def shorten(route):
        route |= {"group_interval": "1s", "repeat_interval": "1s"}
        for child in route.get("routes", ()):
            shorten(child)

    shorten(document["route"])


def test_repeats_a_second_alertmanager_a_slow_script_and_two_crashes_run_each_script_once(
    start_stack, hire, overspend, tenant_budgets, delivered, eventually, runs_of
):
    slow, next_in_line = hire("slow"), hire("next")
    sections = {
        "budgets": tenant_budgets({"acme": "slow", "globex": "next"}),
        "remediation": {"mode": "enforce", "playbooks": [slow.playbook("slow"), next_in_line.playbook("next")]},
    }
    stack = start_stack(sections, alertmanagers=2, edit_alertmanager=deliver_every_second)
    slow.hold("apply")
    next_in_line.hold("plan")

    def let_both_repeat():
        # Each alert has a group of its own, so that the two messages a second of an Alertmanager are one of each.
        before = [stack.notifications(number) for number in (1, 2)]
        eventually(
            "both Alertmanagers to repeat both alerts",
            lambda: all(stack.notifications(number) >= sent + 4 for number, sent in zip((1, 2), before, strict=True)),
        )
        eventually("their messages on the page", lambda: delivered(stack, "repeated") >= 6)

    overspend(stack, "acme")
    eventually("the slow script to act", lambda: slow.calls("apply"))
    overspend(stack, "globex")
    # The one worker is busy: this incident is durably queued, and nothing has begun.
    eventually("the second incident in the queue", lambda: delivered(stack, "queued") == 2)
    let_both_repeat()
    assert delivered(stack, "queued") == 2

    stack.kill_costwarden()
    assert (len(slow.calls("apply")), next_in_line.calls("plan")) == (1, [])
    stack.start_costwarden()
    # What was queued goes on; it is killed once more, now in the midst of its plan.
    eventually("the plan of the second incident", lambda: next_in_line.calls("plan"))
    stack.kill_costwarden()
    next_in_line.release("plan")
    stack.start_costwarden()
    eventually("the second incident's script", lambda: next_in_line.calls("apply"))
    let_both_repeat()
    assert delivered(stack, "queued") == 0
    slow.release("apply")

    first, second = runs_of(stack, 2)
    assert (first["playbook"], first["outcome"], first["reason"]) == ("slow", "interrupted", "process_died")
    assert (second["playbook"], second["outcome"]) == ("next", "succeeded")
    assert (len(slow.calls("plan")), len(slow.calls("apply"))) == (1, 1)
    assert (len(next_in_line.calls("plan")), len(next_in_line.calls("apply"))) == (2, 1)
    journal = stack.cli("remediate", "show", second["run_id"])["journal"]
    assert [entry["step"] for entry in journal if entry["step"] != "target"] == [
        *("alert_started", "received", "guard_passed"),
        *("resumed", "guard_passed", "plan_done", "undo_recorded", "script_started", "finished"),
    ]
