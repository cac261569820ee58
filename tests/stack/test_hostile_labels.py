"""What a tenant calls itself goes through metrics, rules, Alertmanager, webhook, journal and script as plain data."""

import pytest

pytestmark = pytest.mark.stack

HOSTILE = [
    "-oProxyCommand=x; rm -rf /",
    '"quoted" \'twice\' and \\ \\n "} 1',
    "{{ .Labels.action }}{{ query `up` }} $(reboot) `reboot` ${PATH}",
    "--apply",
    "../../../etc/passwd",
    "ünï çødé 漢字 🙂",
]
NOT_PRINTABLE = "two\nlines"


def test_hostile_tenant_ids_reach_the_script_as_they_are_and_nothing_else_does(start_stack, hire, overspend, tenant_budgets, runs_of):
    clerk = hire("clerk")
    playbook = clerk.playbook("note", parameters_from_labels={"tenant": "tenant_id"})
    tenants = [*HOSTILE, NOT_PRINTABLE]
    budgets = tenant_budgets(dict.fromkeys(tenants, "note"))
    stack = start_stack({"budgets": budgets, "remediation": {"mode": "enforce", "playbooks": [playbook]}})
    for tenant in tenants:
        overspend(stack, tenant)
    runs = runs_of(stack, len(tenants))

    by_tenant = {run["alert"]["labels"]["tenant_id"]: run for run in runs}
    assert sorted(by_tenant) == sorted(tenants)
    assert {tenant: by_tenant[tenant]["outcome"] for tenant in HOSTILE} == dict.fromkeys(HOSTILE, "succeeded")
    # A line break would be two lines in whatever reads it next: the guard refuses before any script starts.
    refused = by_tenant[NOT_PRINTABLE]
    assert (refused["outcome"], refused["reason"]) == ("refused", "bad_label")

    plans, applies = clerk.calls("plan"), clerk.calls("apply")
    assert sorted(call["request"]["parameters"]["tenant"] for call in applies) == sorted(HOSTILE)
    assert {tuple(call["argv"]) for call in plans} == {()}
    assert {tuple(call["argv"]) for call in applies} == {("--apply",)}
    assert {name for call in applies for name in call["environ"]} <= {"PATH", "LANG", "LC_CTYPE", "PWD", "SHLVL", "_"}
    for tenant in HOSTILE:
        journal = stack.call("GET", f"/api/remediation/runs/{by_tenant[tenant]['run_id']}").json()["journal"]
        steps = {entry["step"]: entry["detail"] for entry in journal}
        assert steps["alert_started"]["labels"]["tenant_id"] == tenant
        assert steps["guard_passed"]["parameters"]["tenant"] == tenant


def test_a_budget_that_is_named_after_a_hostile_tenant_gets_an_alert_with_its_figures(start_stack, overspend, eventually):
    stack = start_stack({"budgets": {"default": None}})
    for tenant in (*HOSTILE, NOT_PRINTABLE):
        stack.call("POST", "/api/ai-budget/set", {"tenant_id": tenant, "monthly_limit_usd": 0.01}).raise_for_status()
        overspend(stack, tenant)
    names = {f"tenant_id={tenant}/month" for tenant in (*HOSTILE, NOT_PRINTABLE)}

    def routed():
        found = stack.routed("AIBudgetExceeded")
        return found if {alert["labels"]["budget"] for alert in found} == names else None

    for alert in eventually("the alert of each budget", routed):
        # $0.02 of $0.01; the limit comes from a query that has the budget's name in it.
        assert f"AI budget {alert['labels']['budget']} stands at 200% of $0.01, period month." in alert["annotations"]["description"]
        # What it is called has not become the name of a playbook.
        assert "action" not in alert["labels"]
    assert stack.runs() == []
