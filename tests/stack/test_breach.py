"""A late bill to a stopped instance, hop by hop, in the demo's own configuration."""

import csv
from decimal import Decimal
from itertools import pairwise

import bills
import pytest
import stack as parts
import yaml
from timeline import breach_hops

pytestmark = pytest.mark.stack


@pytest.fixture
def stack(start_stack, tmp_path):
    """The demo's stack, on folders that wait for their bills."""
    shipped = yaml.safe_load((parts.HERE / "costwarden.yaml").read_text(encoding="utf-8"))
    for name in bills.PROVIDERS:
        (tmp_path / "stack" / "bills" / name).mkdir(parents=True)
    return start_stack(shipped, moto=True)


def near(exact):
    return pytest.approx(float(exact), abs=1e-6)


def spent_by_development(folder, today):
    """This month's rows of the bill of AWS that are tagged so: what the budget has spent before the late bill."""
    with (folder / "aws" / "focus-1.0.csv").open(encoding="utf-8", newline="") as bill:
        rows = [row for row in csv.DictReader(bill) if '"dev"' in row["Tags"] and row["ChargePeriodStart"] >= f"{today:%Y-%m-01}"]
    return sum(Decimal(row["BilledCost"]) for row in rows)


def test_a_bill_over_the_limit_stops_the_development_instances_and_no_others(stack, eventually, runs_of, today):
    ec2 = stack.ec2()
    dev = parts.start_instances(ec2, 2, {"environment": "dev"})
    protected = parts.start_instances(ec2, 1, {"environment": "dev", "costwarden:protected": "true"})
    prod = parts.start_instances(ec2, 2, {"environment": "prod"})

    # Bills to series.
    totals = bills.write_bills(stack.folder / "bills", today)
    expression = 'sum by (provider) ({__name__=~"(aws|gcp|azure)_cost_monthly_usd", month="current"})'
    found = eventually("series of three clouds", lambda: samples if len(samples := stack.query(expression)) == 3 else None)
    assert {sample.labels["provider"]: sample.value for sample in found} == {name: near(total) for name, total in totals.items()}
    (rejected,) = stack.cli("rejected")["rows"]
    assert (rejected["source"], rejected["part"], rejected["reason"]) == ("aws", "focus-1.0.csv", "bad_cost")
    before = spent_by_development(stack.folder / "bills", today)
    assert 0 < before < 1000

    def shown():
        # Not all that the page shows is of the same moment, and a scrape that takes too long leaves a moment without anything.
        return [sample for sample in stack.query('cloud_budget_spent_usd{budget="aws-dev"}') if sample.value == near(before)]

    (sample,) = eventually("what the budget has spent", shown)
    assert sample.labels.items() >= {"provider": "aws", "environment": "dev"}.items()
    assert stack.firing("BudgetExceededCritical") == []

    # Over the limit: 3 instances × $409.60.
    late, added = bills.write_breach(stack.folder / "bills", today, 3, Decimal("409.60"))
    assert added == Decimal("1228.80")
    (alert,) = eventually("the alert", lambda: stack.firing("BudgetExceededCritical"))
    (routed,) = eventually("the alert in Alertmanager", lambda: stack.routed("BudgetExceededCritical"))
    assert alert["labels"] == {
        "alertname": "BudgetExceededCritical",
        "budget": "aws-dev",
        "provider": "aws",
        "environment": "dev",
        "action": "stop-dev-ec2",
        "job": "costwarden",
        "severity": "critical",
        "category": "finops",
        "team": "finops",
    }
    assert float(alert["value"]) == near((before + Decimal("1228.80")) / 1000)  # of the limit of $1000

    # Alertmanager, webhook, guard, script.
    (run,) = runs_of(stack, 1)
    assert (run["playbook"], run["mode"], run["outcome"], run["targets_count"]) == ("stop-dev-ec2", "enforce", "succeeded", 2)
    assert run["alert"]["labels"] == routed["labels"] == alert["labels"]
    assert run["alert"]["fingerprint"] == routed["fingerprint"]
    states = parts.instance_states(ec2)
    assert states == {**dict.fromkeys(dev, "stopped"), **dict.fromkeys([*protected, *prod], "running")}

    # What is written down, and in which order it happened.
    told = stack.cli("remediate", "show", run["run_id"])
    steps = {entry["step"]: entry["detail"] for entry in told["journal"]}
    assert (steps["plan_done"]["planned"], steps["plan_done"]["population"]) == (2, 2 + 1 + 2)
    assert sorted(record["target"] for record in steps["undo_recorded"]["records"]) == sorted(dev)
    hops = [hop.at for hop in breach_hops(stack, "aws-dev", late, routed, told)]
    # Prometheus aligns the times of its scrapes, by up to 2 ms.
    assert [later > earlier - 0.01 for earlier, later in pairwise(hops)] == [True] * (len(hops) - 1)

    # A person takes it back: exactly the two that were stopped.
    done = stack.cli("remediate", "restore", run["run_id"], "--apply")
    assert sorted((line["target"], line["result"]) for line in done["targets"]) == sorted((name, "done") for name in dev)
    assert set(parts.instance_states(ec2).values()) == {"running"}
