"""Cloud cost as series: every dollar of the bills, in the right month and on the right day."""

from collections import defaultdict
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from costwarden.ledger.schema import COST_BASES, charges, source_state
from costwarden.metrics.catalogue import CLOUD_LABELS
from costwarden.metrics.cloud import CloudCosts, by_month, cloud_collector
from costwarden.metrics.settings import CloudBudget, MetricsSettings

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""
TODAY = date(2025, 11, 15)


@pytest.fixture
def charge(ledger):
    """`charge("2025-11-14", "12.5", provider_name="aws", …)`: a charge, in dollars, of all cost bases alike unless said otherwise."""

    def add(day, cost, **columns):
        values = {
            "source": "focus",
            "part": "bill.csv",
            "charge_date": day,
            "provider_name": "aws",
            **{f"{basis}_usd": columns.pop(basis, cost) for basis in COST_BASES},
            **columns,
        }
        ledger.write(
            lambda connection: connection.execute(
                insert(charges).values({column.name: values.get(column.name, "") for column in charges.c if column.name != "row_count"})
            )
        )

    return add


@pytest.fixture
def collected(ledger):
    """`collected(budget, …, now=…, cloud_labels=…)`: metric -> label values without the empty ones -> value."""

    def collect(*budgets, now=NOON, **settings):
        found = defaultdict(dict)
        for family, samples in CloudCosts(ledger.read, MetricsSettings(**settings), budgets, lambda: now).collect():
            for labels, value in samples:
                assert len(labels) == len(family.labels)
                found[family.name][tuple(filter(None, labels))] = value
        return found

    return collect


def test_cloud_cost_on_the_page(ledger, charge, shown):
    east = {"region_id": "us-east-1"}
    charge("2025-11-14", "100.25", service_name="Amazon EC2", **east)
    charge("2025-11-14", "-20", service_name="Credits")
    charge("2025-11-13", "80", service_name="Amazon EC2", **east)
    charge("2025-11-13", "5", service_name="Amazon S3", **east)
    charge("2025-10-31", "1000", service_name="Amazon RDS", **east)
    charge("2025-09-30", "900", service_name="Amazon RDS", **east)
    charge("2025-11-12", "7.5", provider_name="gcp", service_name="BigQuery", region_id="eu")
    charge("2025-11-14", "3", provider_name="oracle", service_name="Compute")
    budgets = [
        CloudBudget(name="aws", monthly_limit_usd=2_000, scope={"provider": "aws"}, action="stop_ec2_instances"),
        CloudBudget(name="east", monthly_limit_usd=150, scope={"provider": "aws", "region": "us-east-1"}),
    ]
    shown(cloud_collector(ledger.read, MetricsSettings(), budgets, lambda: NOON), "cloud")


# --- months --------------------------------------------------------------------------------------------------------------------


def test_months_are_current_previous_or_their_own_and_the_oldest_are_summed(charge, collected):
    for day, cost in [("2025-11-01", "1"), ("2025-10-31", "2"), ("2025-09-01", "4"), ("2025-08-31", "8"), ("2024-01-01", "16")]:
        charge(day, cost, service_name="EC2")
    assert collected(months_kept_apart=3)["aws_cost_monthly_usd"] == {
        ("aws", "current", "EC2"): 1,
        ("aws", "previous", "EC2"): 2,
        ("aws", "2025-09", "EC2"): 4,
        ("aws", "older", "EC2"): 8 + 16,
    }


def test_at_the_beginning_of_a_month_what_cost_something_in_the_last_one_stands_at_zero(charge, collected):
    charge("2025-10-31", "50", service_name="EC2")
    charge("2025-09-30", "70", service_name="RDS")
    assert collected()["aws_cost_monthly_usd"] == {
        ("aws", "previous", "EC2"): 50,
        ("aws", "current", "EC2"): 0,
        ("aws", "2025-09", "RDS"): 70,
    }


def test_january_follows_december(charge, collected):
    charge("2025-12-31", "5")
    charge("2026-01-01", "7")
    new_year = to_micros_of("2026-01-01")
    assert collected(now=new_year)["aws_cost_monthly_usd"] == {("aws", "previous"): 5, ("aws", "current"): 7}
    assert collected(now=new_year - 1)["aws_cost_monthly_usd"] == {("aws", "current"): 5, ("aws", "2026-01"): 7}


months = st.dates(date(2021, 1, 1), date(2026, 3, 1)).map(lambda day: f"{day:%Y-%m}")
rows = st.dictionaries(
    st.tuples(st.sampled_from(["aws", "gcp"]), months, st.sampled_from(["EC2", "S3"])), st.decimals(-(10**6), 10**6, places=12)
)


@given(rows, st.dates(date(2022, 1, 1), date(2026, 1, 31)), st.integers(2, 40))
def test_the_sum_of_all_months_is_the_sum_of_the_bills(costs, today, months_kept):
    found = by_month([(*key, cost) for key, cost in costs.items()], today, months_kept)
    assert sum(found.values()) == sum(costs.values())
    past = {name for _, name, _ in found if not (name[0].isdigit() and name > f"{today:%Y-%m}")}
    assert len(past - {"older"}) <= months_kept
    assert sum(cost for (_, name, _), cost in found.items() if name == "current") == sum(
        cost for (_, month, _), cost in costs.items() if month == f"{today:%Y-%m}"
    )


@given(rows, st.dates(date(2022, 1, 1), date(2026, 1, 31)), st.integers(2, 40), st.randoms())
def test_the_order_of_the_bills_changes_no_month_and_what_is_kept_apart_only_moves_out_of_older(costs, today, months_kept, chance):
    known = [(*key, cost) for key, cost in costs.items()]
    found = by_month(known, today, months_kept)
    chance.shuffle(known)
    assert by_month(known, today, months_kept) == found
    more = by_month(known, today, months_kept + 1)
    assert all(more[key] == cost for key, cost in found.items() if key[1] != "older")


def test_a_cost_with_many_digits_is_the_nearest_float_of_the_exact_sum(charge, collected):
    charge("2025-11-01", "0.1")
    charge("2025-11-02", "0.2")
    charge("2025-11-03", "1234567890123.000000000000000000001", region_id="x")
    found = collected()["aws_cost_monthly_usd"]
    assert found["aws", "current"] == 0.3
    assert found["aws", "current", "x"] == 1234567890123.0


# --- days ----------------------------------------------------------------------------------------------------------------------


def test_the_newest_complete_day_is_the_newest_before_today(charge, collected):
    charge("2025-11-15", "1", service_name="EC2")  # today goes on
    charge("2025-11-14", "20", service_name="EC2")
    charge("2025-11-13", "10", service_name="EC2")
    found = collected()
    assert found["aws_cost_daily_usd"] == {("aws", "EC2"): 20}
    assert found["aws_cost_previous_day_usd"] == {("aws", "EC2"): 10}
    assert found["aws_cost_daily_timestamp_seconds"] == {("aws",): to_micros_of("2025-11-14") / 1e6}


def test_bills_that_are_late_show_their_own_newest_day(charge, collected):
    charge("2025-11-14", "20", provider_name="aws")
    charge("2025-11-10", "30", provider_name="gcp")
    charge("2025-11-09", "25", provider_name="gcp")
    found = collected()
    assert found["gcp_cost_daily_usd"] == {("gcp",): 30}
    assert found["gcp_cost_previous_day_usd"] == {("gcp",): 25}
    assert found["aws_cost_previous_day_usd"] == {("aws",): 0}


def test_of_a_provider_that_has_billed_nothing_for_two_months_no_day_is_the_newest(charge, collected):
    charge("2025-11-14", "20", provider_name="aws")
    charge("2025-09-20", "90", provider_name="gcp")
    charge("2025-09-19", "10", provider_name="gcp")
    found = collected()
    assert found["aws_cost_daily_usd"] == {("aws",): 20}
    assert found["gcp_cost_daily_usd"] == found["gcp_cost_daily_timestamp_seconds"] == {}
    # Bills that are a month late are not gone.
    charge("2025-10-01", "7", provider_name="gcp")
    assert collected()["gcp_cost_daily_usd"] == {("gcp",): 7}


def test_the_newest_complete_day_is_the_newest_that_all_accounts_have(charge, collected):
    for back in range(1, 20):
        charge(str(TODAY - timedelta(days=back)), "20", billing_account_id="punctual")
        charge(str(TODAY - timedelta(days=back + 1)), "10", billing_account_id="late")
    found = collected()
    assert found["aws_cost_daily_usd"] == found["aws_cost_previous_day_usd"] == {("aws",): 20 + 10}
    assert found["aws_cost_daily_timestamp_seconds"] == {("aws",): to_micros_of("2025-11-13") / 1e6}
    charge("2025-11-14", "15", billing_account_id="late")
    assert collected()["aws_cost_daily_usd"] == {("aws",): 20 + 15}


def test_an_account_that_is_later_than_three_days_holds_no_day_back(charge, collected):
    for back in range(1, 20):
        charge(str(TODAY - timedelta(days=back)), "20", source="a")
        charge(str(TODAY - timedelta(days=back + 4)), "10", source="b")
    assert collected()["aws_cost_daily_usd"] == {("aws",): 20}


def test_what_costs_on_one_of_the_two_days_has_a_figure_for_both(charge, collected):
    charge("2025-11-14", "20", service_name="new")
    charge("2025-11-13", "10", service_name="gone")
    found = collected()
    assert found["aws_cost_daily_usd"] == {("aws", "new"): 20, ("aws", "gone"): 0}
    assert found["aws_cost_previous_day_usd"] == {("aws", "new"): 0, ("aws", "gone"): 10}


def test_a_day_without_charges_before_the_newest_counts_as_zero_not_as_the_last_one_with_charges(charge, collected):
    charge("2025-11-14", "20")
    charge("2025-11-12", "10")
    assert collected()["aws_cost_previous_day_usd"] == {("aws",): 0}


# --- what is chosen ------------------------------------------------------------------------------------------------------------


def test_the_cost_basis_is_chosen(charge, collected):
    charge("2025-11-14", "0", billed_cost="10", effective_cost="9", list_cost="12", contracted_cost="11")
    shown = {basis: collected(cost_basis=basis)["aws_cost_daily_usd"]["aws",] for basis in COST_BASES}
    assert shown == {"billed_cost": 10, "effective_cost": 9, "list_cost": 12, "contracted_cost": 11}


@pytest.mark.parametrize("label", CLOUD_LABELS)
def test_cost_is_told_apart_by_any_label_that_is_chosen_and_by_no_other(charge, collected, label):
    column = {"region": "region_id", "service": "service_name"}.get(label, label)
    charge("2025-11-14", "1", **{column: "a"})
    charge("2025-11-14", "2", **{column: "b"})
    assert collected(cloud_labels=[label])["aws_cost_daily_usd"] == {("aws", "a"): 1, ("aws", "b"): 2}
    assert collected(cloud_labels=[])["aws_cost_daily_usd"] == {("aws",): 1 + 2}


def test_providers_without_metrics_of_their_own_share_those_called_other(charge, collected):
    charge("2025-11-14", "1", provider_name="oracle")
    charge("2025-11-14", "2", provider_name="snowflake")
    assert collected()["other_cost_daily_usd"] == {("oracle",): 1, ("snowflake",): 2}


# --- budgets -------------------------------------------------------------------------------------------------------------------


def budget(name, limit, action="", **scope):
    return CloudBudget(name=name, monthly_limit_usd=limit, action=action, scope=scope)


def test_a_cloud_budget_counts_what_its_scope_matches_this_month(charge, collected):
    charge("2025-11-01", "1", region_id="eu", team="a", environment="production")
    charge("2025-11-30", "2", region_id="us", team="a", environment="staging")  # a bill may be dated ahead
    charge("2025-11-02", "4", provider_name="gcp", region_id="eu", team="b")
    charge("2025-10-31", "8", region_id="eu", team="a")
    budgets = [
        budget("everything", 100),
        budget("aws", 90, provider="aws"),
        budget("team-a-eu", 80, "stop", team="a", region="eu"),
        budget("nobody", 70, tenant_id="globex"),
    ]
    found = collected(*budgets)
    assert found["cloud_budget_spent_usd"] == {
        ("everything",): 1 + 2 + 4,
        ("aws", "aws"): 1 + 2,
        ("team-a-eu", "eu", "a"): 1,
        ("nobody", "globex"): 0,
    }
    assert found["cloud_budget_limit_usd"] == {
        ("everything",): 100,
        ("aws", "aws"): 90,
        ("team-a-eu", "stop", "eu", "a"): 80,
        ("nobody", "globex"): 70,
    }


def test_the_limit_of_a_cloud_is_the_lowest_budget_for_it_as_a_whole(collected):
    budgets = [
        budget("act", 120, provider="aws"),
        budget("warn", 100, provider="aws"),
        budget("part", 10, provider="aws", region="eu"),
        budget("all", 500),
        budget("oracle", 30, provider="oracle"),
    ]
    found = collected(*budgets)
    assert found["aws_budget_monthly_limit_usd"] == {("aws",): 100}
    assert found["other_budget_monthly_limit_usd"] == {("oracle",): 30}
    assert "gcp_budget_monthly_limit_usd" not in found


# --- not counted twice ---------------------------------------------------------------------------------------------------------


def test_what_a_cluster_allocates_of_another_bill_is_on_its_own_metrics(charge, collected):
    charge("2025-11-14", "100", service_name="Amazon EC2")
    charge("2025-11-14", "30", provider_name="kubernetes", service_name="deployment/web", charge_category="Allocated")
    charge("2025-11-13", "20", provider_name="kubernetes", service_name="deployment/web", charge_category="Allocated")
    found = collected()
    assert found["kubernetes_cost_monthly_usd"] == {("kubernetes", "current", "deployment/web"): 30 + 20}
    assert found["kubernetes_cost_daily_usd"] == {("kubernetes", "deployment/web"): 30}
    assert found["kubernetes_cost_previous_day_usd"] == {("kubernetes", "deployment/web"): 20}
    assert found["aws_cost_monthly_usd"] == {("aws", "current", "Amazon EC2"): 100}


def test_a_budget_over_providers_counts_what_a_cluster_allocates_once(charge, collected):
    charge("2025-11-14", "100", team="web")
    charge("2025-11-14", "30", team="web", provider_name="kubernetes", charge_category="Allocated")
    charge("2025-11-14", "4", team="web", provider_name="kubernetes")  # nobody else bills it
    budgets = [
        budget("everything", 500),
        budget("web", 500, team="web"),
        budget("web-in-clusters", 500, team="web", provider="kubernetes"),
        budget("web-at-aws", 500, team="web", provider="aws"),
    ]
    assert collected(*budgets)["cloud_budget_spent_usd"] == {
        ("everything",): 100 + 4,
        ("web", "web"): 100 + 4,
        ("web-in-clusters", "kubernetes", "web"): 30 + 4,
        ("web-at-aws", "aws", "web"): 100,
    }


# --- when it is read again -----------------------------------------------------------------------------------------------------


def test_the_bills_are_read_again_after_a_refresh_and_at_midnight_only(ledger):
    now = [NOON]
    costs = CloudCosts(ledger.read, MetricsSettings(), (), lambda: now[0])
    before = costs.version()
    now[0] += 11 * 3_600_000_000
    assert costs.version() == before
    now[0] += 2 * 3_600_000_000
    next_day = costs.version()
    assert next_day != before
    ledger.write(lambda connection: connection.execute(insert(source_state).values(source="focus", last_attempt_at=now[0], refreshes_ok=1)))
    assert costs.version() != next_day


def to_micros_of(day):
    return int((date.fromisoformat(day) - date(1970, 1, 1)) / timedelta(microseconds=1))
