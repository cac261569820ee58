"""What Azure states beside its costs: budgets with what was spent of them, and its forecast of the month."""

from datetime import date
from decimal import Decimal

import pytest
from azure_costs import SUBSCRIPTION, AzureCharge, AzureCosts, azure, budget, error

from costwarden.sources.azure_stated import account_of
from costwarden.sources.settings import AzureSettings
from costwarden.sources.windows import Window

TODAY = date(2026, 11, 20)
SCOPE = f"/subscriptions/{SUBSCRIPTION}"
EUR = {"EUR": [{"valid_from": "2026-01-01", "usd": "1.25"}, {"valid_from": "2026-11-20", "usd": "1.5"}]}


@pytest.fixture
def costs():
    return AzureCosts(TODAY, [AzureCharge(TODAY, "1")])


@pytest.fixture
def settings(costs):
    with azure(costs) as server:
        yield lambda **given: AzureSettings.model_validate(
            {"type": "azure", "scopes": [SCOPE], "history_days": 2, "reread_days": 2, "access": {"endpoint_url": server.url}, **given}
        )


def shown(spending):
    return {(one.account_id, one.budget): (one.period, one.limit_usd, one.spent_usd, one.forecast_usd) for one in spending.budgets()}


def test_budgets_are_read_from_all_pages_and_converted_at_the_rate_of_today(spending, costs, settings):
    costs.budgets[SCOPE] = [
        budget("all", "100", "40.25", "81.5"),
        budget("quarter", "300.10", "0", grain="Quarterly"),
        budget("year", "10", "4", grain="BillingAnnual", unit="EUR"),
        budget("odd", "10", "4", grain="Fortnightly"),
        budget("spent", "10", "11"),
    ]
    assert spending.refresh(settings(), currencies=EUR).failure == ""
    assert shown(spending) == {
        (SUBSCRIPTION, "all"): ("month", 100, Decimal("40.25"), Decimal("81.5")),
        (SUBSCRIPTION, "quarter"): ("quarter", Decimal("300.10"), 0, None),
        (SUBSCRIPTION, "year"): ("year", 10 * Decimal("1.5"), 4 * Decimal("1.5"), None),
        (SUBSCRIPTION, "odd"): ("custom", 10, 4, None),
        (SUBSCRIPTION, "spent"): ("month", 10, 11, None),
    }


def test_budgets_that_are_over_or_to_come_and_rules_on_reservations_are_left_out(spending, costs, settings):
    costs.budgets[SCOPE] = [
        budget("over", "1", "1", last="2026-11-19"),
        budget("last day", "2", "1", last="2026-11-20"),
        budget("to come", "4", "1", first="2026-12-01"),
        budget("reservations", "8", "1", category="ReservationUtilization"),
    ]
    spending.refresh(settings())
    assert [one.budget for one in spending.budgets()] == ["last day"]


def test_a_budget_that_is_deleted_goes(spending, costs, settings):
    costs.budgets[SCOPE] = [budget("shop", "1", "1"), budget("ads", "2", "1")]
    spending.refresh(settings())
    costs.budgets[SCOPE].pop()
    spending.refresh(settings())
    assert [one.budget for one in spending.budgets()] == ["shop"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (budget("shop", "1", "1", unit="EUR"), "the budget 'shop': no rate for 'EUR' on 2026-11-20: add one to `exchange_rates`"),
        (budget("shop", "1", None), "the budget 'shop': Azure does not name its currency"),
        ("shop", "Azure's answer to `budgets` has 'shop' for an entry"),
        ({"name": "shop"}, "the budget 'shop' has no `properties`"),
        ({"name": "shop", "properties": {"currentSpend": {"amount": 1, "unit": "USD"}}}, "the budget 'shop' has no amount"),
        (
            {"name": "shop", "properties": {"amount": "many", "currentSpend": {"amount": 1, "unit": "USD"}}},
            "the budget 'shop' has an amount that is no number: 'many'",
        ),
    ],
)
def test_a_budget_that_cannot_be_read_is_told_and_the_costs_are_read(spending, costs, settings, given, sentence):
    costs.budgets[SCOPE] = [given]
    assert spending.refresh(settings()).failure == ""
    failed = spending.parts()[f"{SCOPE}/budgets"]
    assert (failed.state, failed.message) == ("failed", f"{SCOPE}: {sentence}")
    assert spending.total("billed_cost") == 1
    costs.budgets[SCOPE] = [budget("shop", "1", "1")]
    spending.refresh(settings())
    assert f"{SCOPE}/budgets" not in spending.parts()
    assert [one.budget for one in spending.budgets()] == ["shop"]


def test_budgets_that_may_not_be_read_leave_the_costs_and_the_budgets_of_before(spending, costs, settings):
    costs.budgets[SCOPE] = [budget("shop", "1", "1")]
    spending.refresh(settings())
    costs.refused[f"{SCOPE}/providers/Microsoft.CostManagement/budgets"] = error(403, "AuthorizationFailed", "No.")
    costs.charges.append(AzureCharge(TODAY, "2"))
    assert spending.refresh(settings()).failure == ""
    assert [one.budget for one in spending.budgets()] == ["shop"]
    assert spending.total("billed_cost") == 1 + 2
    assert "403 AuthorizationFailed" in spending.parts()[f"{SCOPE}/budgets"].message


def test_budgets_of_resource_groups_of_one_subscription_are_told_apart(spending, costs, settings):
    groups = [f"{SCOPE}/resourceGroups/{name}" for name in ("shop", "Ads")]
    for group in groups:
        costs.budgets[group] = [budget("all", "1", "1")]
    spending.refresh(settings(scopes=groups))
    assert list(shown(spending)) == [(f"{SUBSCRIPTION}/ads", "all"), (f"{SUBSCRIPTION}/shop", "all")]


BILLING = "/providers/Microsoft.Billing/billingAccounts"


def test_no_two_scopes_have_one_name_in_labels(settings):
    """All kinds of scopes: https://learn.microsoft.com/en-us/rest/api/cost-management/forecast/usage#uri-parameters"""
    expected = {
        SCOPE: SUBSCRIPTION,
        f"{SCOPE}/resourceGroups/Shop": f"{SUBSCRIPTION}/shop",
        "/providers/Microsoft.Management/managementGroups/5": "5",
        f"{BILLING}/110": "110",
        f"{BILLING}/111/departments/5": "111/departments/5",
        f"{BILLING}/111/enrollmentAccounts/5": "111/enrollmentAccounts/5",
        f"{BILLING}/112/departments/5": "112/departments/5",
        f"{BILLING}/113/customers/5": "113/customers/5",
        f"{BILLING}/114/billingProfiles/5": "114/billingProfiles/5",
        f"{BILLING}/115/billingProfiles/6/invoiceSections/5": "115/billingProfiles/6/invoiceSections/5",
    }
    # Each alone: some of them are inside others.
    scopes = [settings(scopes=[scope]).scopes[0] for scope in expected]
    assert [account_of(scope) for scope in scopes] == list(expected.values())
    assert len(set(expected.values())) == len(expected)


def test_forecasts_of_a_department_and_an_account_of_one_number_stand_side_by_side(spending, costs, settings):
    scopes = [f"{BILLING}/111/{kind}/5" for kind in ("departments", "enrollmentAccounts")]
    costs.forecast = [(TODAY, "10", "Actual", "USD")]
    spending.refresh(settings(scopes=scopes, budgets=False))
    names = ("111/departments/5", "111/enrollmentAccounts/5")
    assert spending.figures() == {("azure_cost_forecast_usd", "azure", name): 10 for name in names}


def test_the_forecast_of_the_month_is_what_was_and_what_is_to_come(spending, costs, settings):
    costs.forecast = [
        (date(2026, 11, 19), "100.125", "Actual", "USD"),
        (date(2026, 11, 20), "10", "Forecast", "USD"),
        (date(2026, 11, 30), "20", "Forecast", "EUR"),
        (date(2026, 12, 1), "4000", "Forecast", "USD"),
    ]
    assert spending.refresh(settings(), currencies=EUR).failure == ""
    total = Decimal("100.125") + 10 + 20 * Decimal("1.5")
    assert spending.figures() == {("azure_cost_forecast_usd", "azure", SUBSCRIPTION): total}


def test_too_little_history_for_a_forecast_is_no_failure(spending, costs, settings):
    costs.forecast = []
    assert spending.refresh(settings()).failure == ""
    assert (spending.figures(), f"{SCOPE}/forecast" in spending.parts()) == ({}, False)


def test_on_the_last_day_of_a_month_nothing_is_forecast_and_the_figure_stays(spending, costs, settings):
    costs.forecast = [(date(2026, 11, 29), "7", "Forecast", "USD")]
    spending.refresh(settings())
    spending.today = costs.today = date(2026, 11, 30)
    assert spending.refresh(settings()).failure == ""
    assert list(spending.figures().values()) == [7]
    assert f"{SCOPE}/forecast" not in spending.parts()


def test_a_forecast_without_a_rate_is_told(spending, costs, settings):
    costs.forecast = [(date(2026, 11, 29), "7", "Forecast", "CHF")]
    assert spending.refresh(settings()).failure == ""
    message = spending.parts()[f"{SCOPE}/forecast"].message
    assert message == f"{SCOPE}: the forecast: no rate for 'CHF' on 2026-11-20: add one to `exchange_rates`"


def test_a_month_in_the_past_that_is_read_later_does_not_touch_them(spending, costs, settings):
    costs.budgets[SCOPE] = [budget("new", "1", "1", first="2026-11-01"), budget("old", "1", "1", last="2026-10-31")]
    costs.forecast = [(date(2026, 11, 29), "7", "Forecast", "USD")]
    spending.refresh(settings())
    costs.charges.append(AzureCharge(date(2026, 10, 5), "2"))
    october = Window(date(2026, 10, 1), date(2026, 11, 1), date(2026, 10, 31))
    assert spending.refresh(settings(), window=october).failure == ""
    assert spending.total("billed_cost") == 1 + 2
    assert [one.budget for one in spending.budgets()] == ["new"]
    assert list(spending.figures().values()) == [7]


def test_neither_is_asked_for_where_neither_is_wanted(spending, costs, settings):
    costs.refused[f"{SCOPE}/providers/Microsoft.CostManagement/budgets"] = error(500, "X", "asked for budgets")
    costs.refused[f"{SCOPE}/providers/Microsoft.CostManagement/forecast"] = error(500, "X", "asked for a forecast")
    spending.refresh(settings(budgets=False, forecast=False))
    assert {part.state for part in spending.parts().values()} == {"ok"}
