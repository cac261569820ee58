"""How much of the cost has an owner, and how much of a bill a cluster explains."""

from collections import defaultdict
from decimal import Decimal

import pytest
from sqlalchemy import insert

from costwarden.ledger import Ledger
from costwarden.ledger.schema import COST_BASES, charges, source_state
from costwarden.metrics.attribution import attribution_collector, coverage, explained
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import from_micros
from costwarden.sources.settings import FocusSettings, KubernetesSettings
from costwarden.sources.settings.kubernetes import billed_by

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""
DAY = 86_400_000_000


@pytest.fixture
def charge(ledger):
    """`charge("2025-11-14", "12.5", provider_name="aws", …)`: a charge, in dollars, of all cost bases alike unless said otherwise."""

    def add(day, cost, **columns):
        values = {
            "source": "bills",
            "charge_date": day,
            "provider_name": "aws",
            "charge_category": "Usage",
            **{f"{basis}_usd": columns.pop(basis, cost) for basis in COST_BASES},
            **columns,
        }
        row = {column.name: values.get(column.name, "") for column in charges.c if column.name != "row_count"}
        ledger.write(lambda connection: connection.execute(insert(charges).values(row)))

    return add


@pytest.fixture
def allocate(charge):
    """`allocate("2025-11-14", "3", source="eks")`: cost of a cluster that another provider bills."""
    return lambda day, cost, source="eks": charge(day, cost, source=source, provider_name="kubernetes", charge_category="Allocated")


@pytest.fixture
def collected(ledger):
    """`collected(eks="aws")`: metric -> labels -> value, where `eks` is billed by AWS."""

    def collect(now=NOON, settings=None, **clusters):
        found = defaultdict(dict)
        for family, samples in attribution_collector(ledger.read, settings or MetricsSettings(), clusters, lambda: now).collect():
            found[family.name].update(samples)
        return found

    return collect


def test_attribution_on_the_page(ledger, charge, allocate, shown):
    charge("2025-11-14", "70", team="web", environment="prod")
    charge("2025-11-14", "30")
    charge("2025-11-14", "19", charge_category="Tax")
    allocate("2025-11-14", "40")
    allocate("2025-10-31", "5")
    shown(attribution_collector(ledger.read, MetricsSettings(), {"eks": "aws"}, lambda: NOON), "attribution")


# --- coverage ------------------------------------------------------------------------------------------------------------------


def test_coverage_counts_the_usage_and_purchases_of_this_month(charge, allocate, collected):
    charge("2025-11-01", "60", team="web")
    charge("2025-11-30", "20", team="web", tenant_id="acme", charge_category="Purchase")
    charge("2025-11-15", "20")
    charge("2025-10-31", "1000")
    charge("2025-12-01", "1000")
    for category in ("Tax", "Credit", "Adjustment"):
        charge("2025-11-02", "-500", charge_category=category)
    allocate("2025-11-02", "1000")
    found = collected()
    assert found["cloud_cost_attributed_ratio"] == {("team",): 0.8, ("feature",): 0, ("tenant_id",): 0.2, ("environment",): 0}
    assert found["cloud_cost_unattributed_usd"] == {("team",): 20, ("feature",): 100, ("tenant_id",): 60 + 20, ("environment",): 100}


def test_coverage_is_of_the_cost_basis_that_is_chosen(charge, collected):
    charge("2025-11-01", "0", team="web", effective_cost="3")
    charge("2025-11-01", "7", effective_cost="1")
    assert collected()["cloud_cost_attributed_ratio"]["team",] == 0
    assert collected(settings=MetricsSettings(cost_basis="effective_cost"))["cloud_cost_attributed_ratio"]["team",] == 0.75


def test_without_cost_there_is_no_ratio_and_nothing_unattributed(collected):
    found = collected()
    assert found["cloud_cost_attributed_ratio"] == {}
    assert set(found["cloud_cost_unattributed_usd"].values()) == {0}


def test_refunds_can_lead_out_of_0_to_1_and_no_cost_at_all_has_no_ratio():
    assert coverage([("web", "", "", "", Decimal(10)), ("", "", "", "", Decimal(-2))])["team"].ratio == Decimal("1.25")
    assert coverage([("web", "", "", "", Decimal(2)), ("", "", "", "", Decimal(-2))])["team"].ratio is None


# --- what clusters explain -----------------------------------------------------------------------------------------------------


def test_a_cluster_explains_its_share_of_the_bill(charge, allocate, collected):
    charge("2025-11-13", "100")
    charge("2025-11-14", "60", service_name="Amazon EC2")
    charge("2025-11-14", "50", service_name="Amazon S3")
    charge("2025-11-14", "-10", charge_category="Credit")
    allocate("2025-11-13", "30")
    allocate("2025-11-14", "40")
    found = collected(eks="aws")
    assert found["kubernetes_cost_explained_ratio"] == {("aws",): (30 + 40) / (100 + 60 + 50 - 10)}
    assert found["kubernetes_cost_explained_usd"] == {("eks", "aws"): 30 + 40}
    assert found["kubernetes_cost_explained_bill_usd"] == {("aws",): 100 + 60 + 50 - 10}


def test_only_days_that_the_bill_and_every_cluster_have_are_compared(charge, allocate, collected):
    for day, cost in (("2025-11-11", "1000"), ("2025-11-12", "100"), ("2025-11-13", "100")):
        charge(day, cost)
    for day in ("2025-11-12", "2025-11-13", "2025-11-14"):  # the bill is a day late
        allocate(day, "10")
    for day in ("2025-11-11", "2025-11-13"):
        allocate(day, "20", source="eks-2")
    found = collected(**{"eks": "aws", "eks-2": "aws"})
    assert found["kubernetes_cost_explained_ratio"] == {("aws",): (10 + 20) / 100}
    assert found["kubernetes_cost_explained_usd"] == {("eks", "aws"): 10, ("eks-2", "aws"): 20}


def test_the_newest_seven_complete_days_are_compared(ledger, charge, allocate):
    for day in range(1, 16):
        charge(f"2025-11-{day:02}", "100")
        allocate(f"2025-11-{day:02}", str(day))
    with ledger.read() as connection:
        (aws,) = explained(connection, "billed_cost", {"eks": "aws"}, from_micros(NOON).date())
    assert [day.day for day in aws.days] == [8, 9, 10, 11, 12, 13, 14]
    assert aws.allocated == {"eks": 8 + 9 + 10 + 11 + 12 + 13 + 14}
    assert (aws.billed, aws.ratio) == (700, Decimal("0.11"))


def test_each_provider_has_its_own_clusters(charge, allocate, collected):
    charge("2025-11-14", "100")
    charge("2025-11-14", "50", provider_name="gcp")
    allocate("2025-11-14", "10", source="eks")
    allocate("2025-11-14", "40", source="gke")
    assert collected(eks="aws", gke="gcp")["kubernetes_cost_explained_ratio"] == {("aws",): 0.1, ("gcp",): 0.8}


@pytest.mark.parametrize("bill", [None, "0", "-5"])
def test_without_a_bill_there_is_no_ratio(charge, allocate, collected, bill):
    allocate("2025-11-14", "10")
    if bill is not None:
        charge("2025-11-14", bill)
    assert collected(eks="aws")["kubernetes_cost_explained_ratio"] == {}


def test_a_cluster_that_was_not_read_for_two_months_explains_nothing(charge, allocate, collected):
    charge("2025-09-01", "100")
    allocate("2025-09-01", "10")
    assert collected(eks="aws")["kubernetes_cost_explained_usd"] == {}


def test_a_cluster_that_nobody_else_bills_explains_nothing_and_its_cost_is_its_own(charge, collected):
    charge("2025-11-14", "10", source="on-premises", provider_name="kubernetes")
    for clusters in ({}, {"on-premises": ""}):
        found = collected(**clusters)
        assert found["kubernetes_cost_explained_usd"] == {}
        assert found["cloud_cost_allocated_monthly_usd"] == {}


def test_what_is_to_be_taken_off_sums_over_providers_is_told_by_month(charge, allocate, collected):
    allocate("2025-11-14", "10")
    allocate("2025-10-14", "7")
    allocate("2024-01-01", "3")
    charge("2025-11-14", "99")
    found = collected(settings=MetricsSettings(months_kept_apart=2), eks="aws")["cloud_cost_allocated_monthly_usd"]
    assert found == {("kubernetes", "current"): 10, ("kubernetes", "previous"): 7, ("kubernetes", "older"): 3}


def test_who_bills_a_cluster_is_known_from_its_source(tmp_path):
    sources = [
        FocusSettings(path=tmp_path),
        KubernetesSettings(type="kubernetes", name="eks", url="http://a", billed_by="aws"),
        KubernetesSettings(type="kubernetes", name="on-premises", url="http://b"),
    ]
    assert billed_by(sources) == {"eks": "aws"}


def test_on_postgresql_the_figures_are_the_same(postgresql_url):
    ledger = Ledger(postgresql_url())
    rows = [
        {"charge_date": "2025-11-14", "provider_name": "aws", "charge_category": "Usage", "team": "web", "cost": "0.3"},
        {"charge_date": "2025-11-14", "provider_name": "aws", "charge_category": "Usage", "team": "", "cost": "0.1"},
        {"charge_date": "2025-11-14", "provider_name": "kubernetes", "charge_category": "Allocated", "source": "eks", "cost": "0.2"},
    ]
    for given in rows:
        cost = given.pop("cost")
        values = {**given, **dict.fromkeys([f"{basis}_usd" for basis in COST_BASES], cost)}
        row = {column.name: values.get(column.name, "") for column in charges.c if column.name != "row_count"}
        ledger.write(lambda connection, row=row: connection.execute(insert(charges).values(row)))
    found = {
        family.name: dict(samples)
        for family, samples in attribution_collector(ledger.read, MetricsSettings(), {"eks": "aws"}, lambda: NOON).collect()
    }
    ledger.close()
    assert found["cloud_cost_attributed_ratio"]["team",] == 0.75
    assert found["kubernetes_cost_explained_ratio"] == {("aws",): 0.5}
    assert found["cloud_cost_allocated_monthly_usd"] == {("kubernetes", "current"): 0.2}


# --- when it is read again -----------------------------------------------------------------------------------------------------


def test_the_bills_are_read_again_after_a_refresh_and_at_midnight_only(ledger):
    now = [NOON]
    collector = attribution_collector(ledger.read, MetricsSettings(), {}, lambda: now[0])
    before = collector.version()
    now[0] += DAY // 3
    assert collector.version() == before
    now[0] += DAY // 3
    next_day = collector.version()
    assert next_day != before
    ledger.write(lambda connection: connection.execute(insert(source_state).values(source="focus", last_attempt_at=now[0], refreshes_ok=1)))
    assert collector.version() != next_day
