"""A group of alerts whose members differ."""

from datetime import UTC, datetime

import pytest

pytestmark = pytest.mark.stack


def group_by_name_alone(document):
    """Puts all alerts of one name into one group, which waits for its members and then tells each change at once."""

    def widen(route):
        route |= {"group_by": ["alertname"], "group_wait": "3s", "group_interval": "1s"}
        for child in route.get("routes", ()):
            widen(child)

    widen(document["route"])


def test_only_the_firing_members_of_a_group_act_and_none_is_restored_when_it_resolves(start_stack, hire, delivered, eventually, runs_of):
    clerk = hire("clerk")
    stack = start_stack({"remediation": {"mode": "enforce", "playbooks": [clerk.playbook("note")]}}, edit_alertmanager=group_by_name_alone)
    labels = {"alertname": "BudgetExceededCritical", "category": "finops", "severity": "critical", "action": "note"}
    began = datetime.now(UTC).isoformat()

    def alert(budget, **more):
        return {"labels": labels | {"budget": budget}, "annotations": {"summary": "over"}, "startsAt": began} | more

    def post(*alerts):
        stack.http.post(f"{stack.alertmanagers[0]}/api/v2/alerts", json=alerts).raise_for_status()

    # In one message: else the group's wait could end between the beginning of the second and its end.
    over = datetime.now(UTC).isoformat()
    post(*map(alert, ("fires", "is over", "fires, too")), alert("is over", endsAt=over))

    assert sorted(run["alert"]["labels"]["budget"] for run in runs_of(stack, 2)) == ["fires", "fires, too"]
    assert sorted(call["request"]["parameters"]["target"] for call in clerk.calls("apply")) == ["fires", "fires, too"]
    # The third came in the same delivery, and was taken by its own status.
    eventually("all three on the page", lambda: (delivered(stack, "queued"), delivered(stack, "resolved")) == (2, 1))

    # The end of an alert is no order to take anything back.
    runs = stack.runs()
    post(alert("fires", endsAt=datetime.now(UTC).isoformat()))
    eventually("its end to be delivered", lambda: delivered(stack, "resolved") >= 2)
    # Whatever was queued before this one was run before it.
    post(alert("fires later"))
    *before, later = runs_of(stack, 3)
    assert before == runs
    assert later["alert"]["labels"]["budget"] == "fires later"
    assert len(stack.runs()) == 3
