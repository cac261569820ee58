"""Baselines and forecasts of bills, as series."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import insert

from costwarden.ledger.schema import COST_BASES, charges
from costwarden.metrics.baselines import Baselines
from costwarden.metrics.settings import CloudBudget
from costwarden.model import ALLOCATED, to_micros

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds, a Saturday."""
NEWEST = date(2025, 11, 14)


@pytest.fixture
def bill(ledger):
    """`bill(days, cost, …)`: a charge on each of the `days` up to 14 November, of `cost(day)` dollars."""

    def add(days, cost, end=NEWEST, **columns):
        rows = []
        for back in range(days):
            day = end - timedelta(days=back)
            values = {"source": "focus", "part": "bill.csv", "charge_date": day.isoformat(), "provider_name": "aws", **columns}
            values |= {f"{basis}_usd": str(cost(day)) for basis in COST_BASES}
            rows.append({column.name: values.get(column.name, "") for column in charges.c if column.name != "row_count"})
        ledger.write(lambda connection: connection.execute(insert(charges), rows))

    return add


@pytest.fixture
def collected(ledger):
    """`collected(budget, …)`: metric -> label values without the empty ones -> value."""

    def collect(*budgets, now=NOON):
        found = defaultdict(dict)
        for family, samples in Baselines(ledger.read, "billed_cost", budgets, lambda: now).collect():
            for labels, value in samples:
                assert len(labels) == len(family.labels)
                found[family.name][tuple(filter(None, labels))] = value
        return found

    return collect


def test_a_provider_is_held_against_the_same_weekday_of_four_weeks(bill, collected):
    # The four Fridays before 14 November cost 7, 14, 21 and 28: their median is 17.5.
    bill(40, lambda day: (NEWEST - day).days or 100)
    found = collected()
    assert found["cloud_cost_weekday_usd"] == {("aws",): 17.5}
    assert found["cloud_cost_month_start_usd"] == {}


def test_with_two_weeks_nothing_is_expected_of_a_weekday(bill, collected):
    bill(20, lambda _: 10)
    assert collected()["cloud_cost_weekday_usd"] == {}


def test_a_first_of_a_month_is_held_against_the_first_before(bill, collected):
    bill(62, lambda day: 500 if day.day == 1 else 10, end=date(2025, 11, 1))
    noon = to_micros_of(date(2025, 11, 2))
    assert collected(now=noon)["cloud_cost_month_start_usd"] == {("aws",): 500}


def to_micros_of(day):
    return to_micros(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))


def test_services_have_their_day_what_is_expected_and_how_far_they_stray(bill, collected):
    bill(60, lambda day: 900 if day == NEWEST else 100, service_name="EC2")
    # Fridays cost 10, 12, 10, 12, …: the median is 11, each is 1 away.
    bill(60, lambda day: 10 + 2 * ((NEWEST - day).days // 7 % 2), service_name="S3")
    bill(3, lambda _: 5, service_name="new")
    bill(20, lambda _: 5, end=date(2025, 10, 1), service_name="gone")
    found = collected()
    assert found["cloud_service_cost_daily_usd"] == {("aws", "EC2"): 900, ("aws", "S3"): 10, ("aws", "new"): 5}
    assert found["cloud_service_cost_expected_usd"] == {("aws", "EC2"): 100, ("aws", "S3"): 11}
    assert found["cloud_service_cost_deviation_usd"] == {("aws", "EC2"): 0, ("aws", "S3"): pytest.approx(1.4826)}


def test_the_month_of_a_provider_and_of_a_budget_ends_as_its_days_say(bill, collected):
    bill(40, lambda _: 10, team="web")
    bill(40, lambda _: 4, team="data")
    found = collected(
        CloudBudget(name="web", monthly_limit_usd=100, scope={"team": "web"}),
        CloudBudget(name="all", monthly_limit_usd=100),
        CloudBudget(name="nothing", monthly_limit_usd=100, scope={"team": "nobody"}),
    )
    assert found["cloud_cost_forecast_usd"] == {("aws",): 30 * (10 + 4)}
    assert found["cloud_budget_forecast_usd"] == {("web", "web"): 30 * 10, ("all",): 30 * (10 + 4)}
    assert found["cloud_budget_forecast_upper_usd"] == found["cloud_budget_forecast_lower_usd"] == found["cloud_budget_forecast_usd"]


def test_bills_of_different_age_are_forecast_each_from_its_newest_day(bill, collected):
    bill(40, lambda _: 10)
    bill(40, lambda _: 2, end=date(2025, 11, 10), provider_name="gcp")
    found = collected(CloudBudget(name="all", monthly_limit_usd=100))
    assert found["cloud_cost_forecast_usd"] == {("aws",): 300, ("gcp",): 60}
    assert found["cloud_budget_forecast_usd"] == {("all",): 300 + 60}


def test_half_a_forecast_is_none(bill, collected):
    bill(40, lambda _: 10)
    bill(3, lambda _: 2, provider_name="gcp")
    assert collected(CloudBudget(name="all", monthly_limit_usd=100))["cloud_budget_forecast_usd"] == {}


def test_what_another_bill_has_counts_once_in_the_forecast_of_all(bill, collected):
    bill(40, lambda _: 10)
    bill(40, lambda _: 6, provider_name="kubernetes", charge_category=ALLOCATED)
    found = collected(
        CloudBudget(name="all", monthly_limit_usd=100),
        CloudBudget(name="cluster", monthly_limit_usd=100, scope={"provider": "kubernetes"}),
    )
    assert found["cloud_budget_forecast_usd"] == {("all",): 300, ("cluster", "kubernetes"): 180}


def test_a_source_names_the_providers_that_it_has_bills_of(bill, collected):
    bill(2, lambda _: 10)
    bill(2, lambda _: 10, provider_name="gcp")
    bill(2, lambda _: 10, source="cur")
    assert collected()["costwarden_source_provider_info"] == {("cur", "aws"): 1, ("focus", "aws"): 1, ("focus", "gcp"): 1}


def test_an_empty_ledger_expects_nothing(collected):
    assert {name: figures for name, figures in collected(CloudBudget(name="all", monthly_limit_usd=1)).items() if figures} == {}


def test_of_a_provider_that_has_billed_nothing_for_two_months_nothing_is_expected_any_more(bill, collected):
    bill(60, lambda _: 100, end=date(2025, 8, 31), provider_name="gcp", service_name="Compute")
    bill(60, lambda _: 10)
    found = collected()
    # 30 days of November at $10; none of it is what another cloud cost in August.
    assert found["cloud_cost_forecast_usd"] == {("aws",): pytest.approx(300)}
    assert found["cloud_cost_weekday_usd"] == {("aws",): 10}
    assert found["cloud_service_cost_daily_usd"] == {("aws",): 10}
    # Bills that are a month late are not gone.
    bill(60, lambda _: 1, end=date(2025, 10, 1), provider_name="oracle")
    assert collected()["cloud_cost_forecast_usd"][("oracle",)] == pytest.approx(30)


# --- accounts of different age -------------------------------------------------------------------------------------------------


def of_account(name):
    return {"source": name, "billing_account_id": name, "service_name": "EC2"}


def test_a_late_account_is_no_cheap_day(bill, collected):
    # Friday has only the first account's $100 so far. On Thursday both are known: $100 + $60.
    bill(60, lambda _: 100, **of_account("punctual"))
    bill(59, lambda _: 60, end=NEWEST - timedelta(days=1), **of_account("late"))
    found = collected(CloudBudget(name="all", monthly_limit_usd=1))
    assert found["cloud_service_cost_daily_usd"] == {("aws", "EC2"): 100 + 60}
    assert found["cloud_service_cost_expected_usd"] == {("aws", "EC2"): 100 + 60}
    assert found["cloud_cost_weekday_usd"] == {("aws",): 100 + 60}
    # Each is forecast from its own newest day.
    assert found["cloud_cost_forecast_usd"] == {("aws",): 30 * (100 + 60)}
    assert found["cloud_budget_forecast_usd"] == {("all",): 30 * (100 + 60)}


def test_an_account_that_has_stopped_fades_from_the_forecast_and_holds_no_day_back(bill, collected):
    bill(60, lambda _: 100, **of_account("going"))
    bill(50, lambda _: 60, end=NEWEST - timedelta(days=8), **of_account("stopped"))
    found = collected()
    assert found["cloud_service_cost_daily_usd"] == {("aws", "EC2"): 100}
    # It cost $60 on 6 days of November; of the last four of each weekday on two or three: 18 of 26 to come would be all, 5 is none.
    assert 30 * 100 + 6 * 60 < found["cloud_cost_forecast_usd"]["aws",] < 30 * 100 + 22 * 60


def test_a_new_account_counts_from_its_first_day(bill, collected):
    bill(60, lambda _: 100, **of_account("old"))
    bill(2, lambda _: 60, **of_account("new"))
    assert collected()["cloud_service_cost_daily_usd"] == {("aws", "EC2"): 160}


def test_a_late_account_that_is_too_young_for_a_forecast_of_its_own_is_one_with_the_others(bill, collected):
    bill(60, lambda _: 100, **of_account("old"))
    # A team that began five days ago, in an account that is a day late.
    bill(59, lambda _: 60, end=NEWEST - timedelta(days=1), **of_account("late"))
    bill(30, lambda _: 8, team="web", **of_account("old"))
    bill(5, lambda _: 1, end=NEWEST - timedelta(days=1), team="web", **of_account("late"))
    found = collected(CloudBudget(name="web", monthly_limit_usd=100, scope={"team": "web"}))["cloud_budget_forecast_usd"]
    # $8 a day, and the five days at $1 that are known; as much again at most.
    assert 30 * 8 + 5 < found["web", "web"] < 30 * (8 + 1)


def test_an_account_that_bills_on_the_first_alone_holds_nothing_back_and_is_expected_on_the_next(bill, collected):
    bill(60, lambda _: 100, **of_account("daily"))
    for first in (date(2025, 11, 1), date(2025, 10, 1), date(2025, 9, 1)):
        bill(1, lambda _: 900, end=first, **of_account("monthly"))
    found = collected()
    assert found["cloud_service_cost_daily_usd"] == {("aws", "EC2"): 100}
    assert found["cloud_cost_forecast_usd"] == {("aws",): 30 * 100 + 900}
    # On 1 December, when the bills end with 30 November: the first as the ones before.
    bill(16, lambda _: 100, end=date(2025, 11, 30), **of_account("daily"))
    december = collected(now=to_micros_of(date(2025, 12, 1)))
    assert december["cloud_cost_forecast_usd"] == {("aws",): 31 * 100 + 900}


def test_a_correction_that_comes_late_counts_on_its_day(bill, collected):
    bill(60, lambda _: 100, **of_account("a"))
    before = collected()
    # A refund of three days ago: known of the month, and not expected again.
    bill(1, lambda _: -250, end=NEWEST - timedelta(days=3), charge_category="Credit", **of_account("a"))
    after = collected()
    assert after["cloud_service_cost_daily_usd"] == before["cloud_service_cost_daily_usd"] == {("aws", "EC2"): 100}
    assert after["cloud_cost_forecast_usd"] == {("aws",): 30 * 100 - 250}


def test_sums_of_days_are_exact(bill, collected):
    for cents in ("0.1", "0.2", "0.3"):
        bill(62, lambda _, cents=cents: cents, end=date(2025, 11, 1), service_name=cents)
    # 0.1 + 0.2 + 0.3 is 0.6 in dollars, and 0.6000000000000001 in floats.
    assert collected(now=to_micros_of(date(2025, 11, 2)))["cloud_cost_month_start_usd"] == {("aws",): 0.6}


def test_a_monthly_fee_of_a_service_is_expected_on_its_day(bill, collected):
    newest = date(2025, 12, 5)
    bill(80, lambda day: 510 if day.day == 5 else 10, end=newest, service_name="Support")
    # The fee of 5 October and 5 November; the other Fridays cost $10.
    found = collected(now=to_micros_of(date(2025, 12, 6)))
    assert found["cloud_service_cost_daily_usd"] == {("aws", "Support"): 510}
    assert found["cloud_service_cost_expected_usd"] == {("aws", "Support"): 510}


def test_what_a_service_was_paid_once_is_not_expected_of_the_same_day_of_the_next_month(bill, collected):
    newest = date(2025, 12, 5)
    bill(80, lambda day: 510 if day == date(2025, 11, 5) else 10, end=newest, service_name="Marketplace")
    assert collected(now=to_micros_of(date(2025, 12, 6)))["cloud_service_cost_expected_usd"] == {("aws", "Marketplace"): 10}
