"""Budgets of Cloud Billing, which know no spend: it is computed from the rows of the export.

Shapes: https://cloud.google.com/billing/docs/reference/budget/rest/v1/billingAccounts.budgets
"""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from cloud_billing_server import budget
from google_cloud import ACCOUNT, FOCUS_TABLE, STORAGE, GoogleCloud, focus_row, row, without_project
from spending import Spending
from stand_in import Answer, Request

D = Decimal


def _day(text: str) -> dict[str, int]:
    year, month, day = text.split("-")
    return {"year": int(year), "month": int(month), "day": int(day)}


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    with GoogleCloud() as made:
        made.add(
            row("2026-10-01", 1000.0),
            row("2026-10-31T23:00", 100.0, credits=[("PROMOTION", -10.0)]),
            row("2026-11-01", 1.0, credits=[("COMMITTED_USAGE_DISCOUNT", -0.3), ("PROMOTION", -0.2)]),
            row("2026-11-17", 2.0, service=STORAGE, labels={"stage": "Prod"}),
            row("2026-11-17", 4.0, project="lab", labels={"stage": "test"}, project_labels={"stage": "Prod"}),
            row("2026-11-18", 8.0, billing_account_id="AAAAAA-BBBBBB-CCCCCC", project="other"),
            without_project(row("2026-11-18", 16.0, cost_type="tax")),
        )
        yield made


ALL = D(1) + 2 + 4 + 8 + 16


CUSTOM = {"calendarPeriod": None}

FILTERS: dict[str, tuple[dict[str, Any], Decimal]] = {
    "everything": ({}, ALL - D("0.5")),
    "before credits": ({"creditTypesTreatment": "EXCLUDE_ALL_CREDITS"}, ALL),
    "promotions": ({"creditTypesTreatment": "INCLUDE_SPECIFIED_CREDITS", "creditTypes": ["PROMOTION"]}, ALL - D("0.2")),
    "a project": ({"projects": ["projects/111"]}, D(1) - D("0.5") + 2),
    "two projects": ({"projects": ["projects/222", "projects/111"]}, D(1) - D("0.5") + 2 + 4),
    "a folder": ({"resourceAncestors": ["folders/6002"]}, D(4)),
    "the organization": ({"resourceAncestors": ["organizations/5000"]}, D(1) - D("0.5") + 2 + 4 + 8),
    "a service": ({"services": [f"services/{STORAGE['id']}"]}, D(2)),
    "a subaccount": ({"subaccounts": ["billingAccounts/AAAAAA-BBBBBB-CCCCCC"]}, D(8)),
    "a label": ({"labels": {"stage": ["Prod"]}}, D(2)),
    "another label": ({"labels": {"tier": ["Prod"]}}, D(0)),
    "a service in a project": ({"projects": ["projects/222"], "services": [f"services/{STORAGE['id']}"]}, D(0)),
    "since a day": ({**CUSTOM, "customPeriod": {"startDate": _day("2026-10-31")}}, D(100) - 10 + ALL - D("0.5")),
    "some days": ({**CUSTOM, "customPeriod": {"startDate": _day("2026-11-02"), "endDate": _day("2026-11-17")}}, D(2) + 4),
    "next year": ({**CUSTOM, "customPeriod": {"startDate": _day("2027-01-01")}}, D(0)),
}
"""Filter of a budget -> what is spent of it."""


def test_what_is_spent_of_a_budget_is_what_its_filter_lets_through(cloud: GoogleCloud, spending: Spending) -> None:
    for name, (chosen, _) in FILTERS.items():
        made = budget(name, account=ACCOUNT, limit="100.25", **chosen)
        made["budgetFilter"] = {field: value for field, value in made["budgetFilter"].items() if value is not None}
        cloud.billing.budgets[ACCOUNT].append(made)
    assert spending.refresh(cloud.settings()).failure == ""
    assert {found.budget: found.spent_usd for found in spending.budgets()} == {name: spent for name, (_, spent) in FILTERS.items()}
    custom = {name for name, (chosen, _) in FILTERS.items() if "customPeriod" in chosen}
    assert {found.budget for found in spending.budgets() if found.period == "custom"} == custom
    assert {(found.provider_name, found.account_id, found.limit_usd) for found in spending.budgets()} == {("gcp", ACCOUNT, D("100.25"))}
    assert len([asked for asked in cloud.bigquery.queries if not asked.get("dryRun")]) == 1


def test_all_pages_of_budgets_are_read_and_two_of_one_name_stay_apart(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.billing.budgets[ACCOUNT] = [
        *(budget(f"Budget {number}", account=ACCOUNT) for number in range(5)),
        budget("Twice", account=ACCOUNT, number="aaa"),
        budget("Twice", account=ACCOUNT, number="bbb"),
    ]
    spending.refresh(cloud.settings())
    assert [found.budget for found in spending.budgets()] == [*(f"Budget {number}" for number in range(5)), "Twice (aaa)", "Twice (bbb)"]
    assert len(cloud.asked("/budgets")) == 4  # 7 by 2


def test_a_period_longer_than_the_history_has_no_spend_and_a_longer_history_gives_it(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.billing.budgets[ACCOUNT] = [
        budget("Quarter", account=ACCOUNT, calendarPeriod="QUARTER"),
        budget("Year", account=ACCOUNT, calendarPeriod="YEAR"),
    ]
    spending.refresh(cloud.settings(history_days=45))
    assert {found.period: found.spent_usd for found in spending.budgets()} == {"quarter": None, "year": None}
    spending.refresh(cloud.settings(history_days=62, name="more"))
    quarter = D(1000) + 100 - 10 + ALL - D("0.5")
    assert {found.period: found.spent_usd for found in spending.budgets() if found.source == "more"} == {"quarter": quarter, "year": None}
    # The second refresh reads 45 days of the bill again, and asks for all of the quarter nevertheless.
    assert spending.refresh(cloud.settings(history_days=62, name="more")).failure == ""
    assert {found.period: found.spent_usd for found in spending.budgets() if found.source == "more"} == {"quarter": quarter, "year": None}
    spending.refresh(cloud.settings(history_days=366, name="most"))
    assert {found.period: found.spent_usd for found in spending.budgets() if found.source == "most"} == {
        "quarter": quarter,
        "year": quarter,
    }


def test_a_budget_that_cannot_be_known_makes_no_query_larger(cloud: GoogleCloud, spending: Spending) -> None:
    def first_days() -> list[str]:
        given = [
            {found["name"]: found["parameterValue"]["value"] for found in asked["query"]["queryParameters"]}
            for asked in cloud.bigquery.queries
        ]
        return [parameters["first"][:10] for parameters in given if parameters["first"] >= "2026-10"]

    spending.refresh(cloud.settings())
    cloud.billing.budgets[ACCOUNT] = [budget("Year", account=ACCOUNT, calendarPeriod="YEAR")]
    spending.refresh(cloud.settings())
    assert set(first_days()) == {"2026-10-06"}  # 45 days before the 20th of November
    cloud.billing.budgets[ACCOUNT].append(budget("Quarter", account=ACCOUNT, calendarPeriod="QUARTER"))
    spending.refresh(cloud.settings())
    assert set(first_days()) == {"2026-10-06", "2026-10-01"}


def test_a_limit_of_what_the_last_period_has_cost(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.billing.budgets[ACCOUNT] = [
        budget("As before", account=ACCOUNT, limit=None),
        budget("Year", account=ACCOUNT, limit=None, calendarPeriod="YEAR"),
    ]
    assert spending.refresh(cloud.settings()).failure == ""
    (found,) = spending.budgets()
    assert (found.budget, found.limit_usd, found.spent_usd) == ("As before", D(1000) + 100 - 10, ALL - D("0.5"))
    failed = spending.parts()["budgets"]
    assert failed.state == "failed"
    assert (
        failed.message
        == "budget 'Year' is left out: its limit is what the period before has cost, and that is not known: see `history_days`"
    )
    # When all can be stated, the part is no failure any more.
    cloud.billing.budgets[ACCOUNT].pop()
    spending.refresh(cloud.settings())
    assert "budgets" not in spending.parts()
    assert len(spending.budgets()) == 1


def test_budgets_in_another_currency_are_converted_or_left_out_aloud(spending: Spending) -> None:
    with GoogleCloud() as cloud:
        cloud.add(row("2026-11-02", 10.0, currency="EUR"), row("2026-11-17", 10.0, currency="EUR"))
        cloud.billing.budgets[ACCOUNT] = [budget("Euro", account=ACCOUNT, limit="50", currency="EUR")]
        spending.refresh(cloud.settings())
        assert spending.budgets() == []
        assert "no rate" in spending.parts()["budgets"].message
        rates = {"EUR": [{"valid_from": "2026-01-01", "usd": "1.1"}, {"valid_from": "2026-11-10", "usd": "1.2"}]}
        spending.refresh(cloud.settings(), currencies=rates)
        (found,) = spending.budgets()
        assert (found.limit_usd, found.spent_usd) == (50 * D("1.2"), 10 * D("1.1") + 10 * D("1.2"))


def test_budgets_that_may_not_be_read_do_not_hurt_the_bill(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.billing.budgets[ACCOUNT] = [budget("Mine", account=ACCOUNT)]
    spending.refresh(cloud.settings())
    cloud.billing.refused = "The caller does not have permission"
    cloud.add(row("2026-11-19", 32.0))
    spending.minutes = 600
    assert spending.refresh(cloud.settings()).failure == ""
    assert spending.by("charge_date")["2026-11-19"] == 32
    failed = spending.parts()["budgets"]
    assert failed.state == "failed"
    assert (
        "The caller does not have permission: the credentials need roles/billing.viewer on billing account 010101-F0FFF0-61C528"
        in failed.message
    )
    assert [found.budget for found in spending.budgets()] == ["Mine"], "what was stated before stays"
    cloud.billing.refused = ""
    spending.minutes = 1200
    spending.refresh(cloud.settings())
    assert "budgets" not in spending.parts()
    assert spending.budgets()[0].spent_usd == ALL - D("0.5") + 32


def test_throttled_budgets_are_asked_for_again(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.billing.budgets[ACCOUNT] = [budget("Mine", account=ACCOUNT)]
    cloud.server.fail(429, {"error": {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}})
    spending.refresh(cloud.settings())
    assert [found.budget for found in spending.budgets()] == ["Mine"]
    assert len(cloud.asked("/budgets")) == 2
    assert spending.state("gcp")["requests"] == len(cloud.server.requests)


def test_a_budget_that_was_deleted_is_gone_and_so_are_all_when_they_are_not_read(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.billing.budgets[ACCOUNT] = [budget("One", account=ACCOUNT), budget("Two", account=ACCOUNT)]
    spending.refresh(cloud.settings())
    cloud.billing.budgets[ACCOUNT].pop()
    spending.refresh(cloud.settings())
    assert [found.budget for found in spending.budgets()] == ["One"]
    spending.refresh(cloud.settings(budgets=False))
    assert spending.budgets() == []


def test_a_month_begins_with_its_first_day_and_the_year_with_january(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.billing.budgets[ACCOUNT] = [budget("Month", account=ACCOUNT), budget("Year", account=ACCOUNT, calendarPeriod="YEAR")]
    cloud.add(row("2027-01-01", 64.0))
    spending.today = date(2027, 1, 1)
    spending.refresh(cloud.settings())
    assert {found.period: found.spent_usd for found in spending.budgets()} == {"month": 64, "year": 64}


def test_the_spend_of_a_focus_export_is_not_told_because_its_credits_are_not_apart(spending: Spending) -> None:
    with GoogleCloud(FOCUS_TABLE) as cloud:
        cloud.add(focus_row("2026-11-17", "10", "8"))
        cloud.billing.budgets[ACCOUNT] = [budget("Mine", account=ACCOUNT)]
        spending.refresh(cloud.settings())
    (found,) = spending.budgets()
    assert (found.limit_usd, found.spent_usd) == (100, None)


def test_pages_that_go_round_in_circles_come_to_an_end(cloud: GoogleCloud, spending: Spending) -> None:
    answer = cloud.server.answer

    def circle(request: Request) -> Answer:
        following = {"": "a", "a": "b", "b": "a"}
        if not request.path.endswith("/budgets"):
            return answer(request)
        return Answer({"budgets": [], "nextPageToken": following[request.first("pageToken")]})

    cloud.server.answer = circle
    assert spending.refresh(cloud.settings()).failure == ""
    assert "ListBudgets: the page 'a' comes after itself" in spending.parts()["budgets"].message
    assert len(cloud.asked("/budgets")) == 3
