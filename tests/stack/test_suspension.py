"""An AI budget that is used up suspends its tenant by the shipped script, and a person lifts that."""

import pytest

pytestmark = pytest.mark.stack

# The second would be an option, a command, and two more segments of a path, if anything took it for more than a name.
TENANTS = ["acme", "-oProxyCommand=x; rm -rf /"]


def suspend_playbook():
    return {
        "name": "suspend",
        "script": ["shutdown/suspend_ai_tenant"],
        "mode": "enforce",
        "parameters": {"url": "http://127.0.0.1:3010", "token_file": "/run/costwarden/tokens/operator"},
        "parameters_from_labels": {"tenant_id": "tenant_id"},
        "max_targets": 1,
    }


def check(stack, tenant_id):
    """Status and reason of a check that any budget would have room for."""
    wish = {
        "tenant_id": tenant_id,
        "provider": "openai",
        "model": "gpt-4o-mini",
        "estimated_input_tokens": 10,
        "estimated_output_tokens": 0,
    }
    answer = stack.call("POST", "/api/ai-budget/check", wish, bearer="applications")
    return answer.status_code, answer.json().get("reason", "")


def test_a_used_up_budget_suspends_its_tenant_until_a_person_restores(start_stack, overspend, tenant_budgets, runs_of):
    budgets = tenant_budgets(dict.fromkeys(TENANTS, "suspend")) | {"unbudgeted": "allow"}
    stack = start_stack({"budgets": budgets, "remediation": {"mode": "enforce", "playbooks": [suspend_playbook()]}})
    assert [check(stack, tenant) for tenant in TENANTS] == [(200, ""), (200, "")]
    # It sees nothing yet: the alert of the first tenant could suspend that one before it is asked for.
    stack.processes.freeze("prometheus")
    for tenant in TENANTS:
        overspend(stack, tenant)
    assert [check(stack, tenant) for tenant in TENANTS] == [(429, "budget_exceeded"), (429, "budget_exceeded")]
    stack.processes.thaw("prometheus")
    runs = runs_of(stack, 2)
    assert [(run["outcome"], run["reason"]) for run in runs] == [("succeeded", None), ("succeeded", None)]
    assert [check(stack, tenant) for tenant in TENANTS] == [(429, "tenant_suspended"), (429, "tenant_suspended")]
    # Nobody else is touched.
    assert check(stack, "globex") == (200, "")

    for run in runs:
        tenant = run["alert"]["labels"]["tenant_id"]
        plan = stack.cli("remediate", "restore", run["run_id"])
        assert [(line["target"], line["result"]) for line in plan["targets"]] == [(tenant, "planned")]
        assert check(stack, tenant) == (429, "tenant_suspended")
        done = stack.cli("remediate", "restore", run["run_id"], "--apply")
        assert [(line["target"], line["result"]) for line in done["targets"]] == [(tenant, "done")]
        # The suspension is gone; the budget is as used up as it was.
        assert check(stack, tenant) == (429, "budget_exceeded")
