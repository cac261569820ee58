"""Azure through Microsoft's own client: sums that are conserved, pages, throttling, restated days, and what may not be half there."""

import threading
from datetime import date, timedelta
from decimal import Decimal

import msgspec
import pytest
from azure_costs import OTHER, SUBSCRIPTION, AzureCharge, AzureCosts, azure, budget, error
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from costwarden.model import exact_sum
from costwarden.sources import Read, SourceError, Surroundings, open_source
from costwarden.sources.azure import AzureSource
from costwarden.sources.azure_client import AzureClient
from costwarden.sources.settings import AttributionSettings, AzureAccess, AzureSettings, ExchangeRates
from costwarden.sources.windows import Window, usual_window
from costwarden.sync import refresh

TODAY = date(2026, 11, 20)
DAY = date(2026, 11, 19)
BEFORE = DAY - timedelta(days=1)
SCOPE = f"/subscriptions/{SUBSCRIPTION}"
OTHER_SCOPE = f"/subscriptions/{OTHER}"
GROUP = "/providers/Microsoft.Management/managementGroups/acme"
EUR = {"EUR": [{"valid_from": "2026-01-01", "usd": "1.25"}]}


@pytest.fixture
def costs():
    return AzureCosts(TODAY)


@pytest.fixture
def server(costs):
    with azure(costs) as running:
        yield running


@pytest.fixture
def settings(server):
    def make(**given):
        usual = {"type": "azure", "scopes": [SCOPE], "history_days": 3, "reread_days": 2, "budgets": False, "forecast": False}
        return AzureSettings.model_validate({**usual, "access": {"endpoint_url": server.url}, **given})

    return make


def queries(server):
    return [request.json() for request in server.requests if request.path.endswith("/query")]


BILL = [
    AzureCharge(DAY, "12.345678901234567", region="EU West", service="Virtual Machines"),
    AzureCharge(DAY, "0.1", region="EU West", service="Virtual Machines"),
    AzureCharge(DAY, "0.2", region="US East", service="Storage"),
    AzureCharge(BEFORE, "3", service="Storage"),
    AzureCharge(DAY, "-1.5", charge_type="Refund", service="Storage"),
    AzureCharge(TODAY, "7e-7", service="Bandwidth", region="Unassigned"),
]


def test_the_bill_as_it_is_shown(spending, costs, settings, golden):
    costs.charges = [
        *BILL,
        AzureCharge(DAY, "10", charge_type="Purchase", amortized="0"),
        AzureCharge(DAY, "0", "1", charge_type="UnusedReservation"),
    ]
    costs.budgets[SCOPE] = [budget("shop", "100", "40.25", "81.5")]
    costs.forecast = [(DAY, "20", "Actual", "USD"), (date(2026, 11, 21), "30.5", "Forecast", "USD")]
    assert spending.refresh(settings(budgets=True, forecast=True)).failure == ""
    golden("azure.prom", spending.exposition())


def test_the_sum_of_the_charges_is_the_sum_that_azure_served_to_the_last_digit(spending, costs, settings):
    # More digits than floating point has.
    fine = Decimal("1234567.123456789012345678")
    costs.charges = [*BILL, AzureCharge(DAY, str(fine), service="Fine")]
    assert spending.refresh(settings()).failure == ""
    total = Decimal("12.345678901234567") + Decimal("0.1") + Decimal("0.2") + 3 - Decimal("1.5") + Decimal("7e-7") + fine
    assert spending.total("billed_cost") == spending.total("effective_cost") == costs.served("ActualCost") == total


def test_no_two_keys_more_than_azure_groups_by_count_a_cost_twice(spending, costs, settings):
    costs.charges = BILL
    assert spending.refresh(settings()).failure == ""
    assert spending.by("service_name", "region_id", "charge_category") == {
        ("Virtual Machines", "eu west", "Usage"): Decimal("12.345678901234567") + Decimal("0.1"),
        ("Storage", "us east", "Usage"): Decimal("0.2"),
        ("Storage", "eu west", "Usage"): Decimal(3),
        ("Storage", "eu west", "Purchase"): Decimal("-1.5"),
        ("Bandwidth", "unassigned", "Usage"): Decimal("7e-7"),
    }


def test_a_key_that_has_one_value_only_takes_no_query_for_each(spending, server, costs, settings):
    costs.charges = [AzureCharge(DAY, "1"), AzureCharge(DAY, "2", service="Storage")]
    spending.refresh(settings(amortized=False))
    assert [len(query["dataset"]["grouping"]) for query in queries(server)] == [1, 2]
    assert all("filter" not in query["dataset"] for query in queries(server))


def test_two_spellings_of_a_value_are_asked_for_once(spending, costs, settings):
    costs.charges = [
        AzureCharge(DAY, "1", charge_type="Usage"),
        AzureCharge(DAY, "2", charge_type="usage"),
        AzureCharge(DAY, "4", charge_type="Tax"),
    ]
    assert spending.refresh(settings(amortized=False)).failure == ""
    assert spending.by("charge_category") == {"Usage": 1 + 2, "Tax": 4}


def test_details_that_do_not_add_up_to_the_whole_are_not_shown(spending, costs, settings):
    costs.charges, costs.lost = BILL, {"Refund"}
    failure = spending.refresh(settings()).failure
    assert "of charge_type 'Refund' Azure says -1.5 USD as a whole and 0 USD in detail" in failure
    assert spending.charges() == []


def test_the_reservation_is_billed_when_it_is_bought_and_counts_when_it_is_used(spending, costs, settings):
    costs.charges = [
        AzureCharge(BEFORE, "365", amortized="0", charge_type="Purchase", service="Virtual Machines"),
        AzureCharge(BEFORE, "0", amortized="0.75", service="Virtual Machines"),
        AzureCharge(BEFORE, "0", amortized="0.25", charge_type="UnusedReservation", service="Virtual Machines"),
        AzureCharge(DAY, "2", service="Storage"),
    ]
    assert spending.refresh(settings()).failure == ""
    assert spending.by("charge_category", cost="billed_cost") == {"Purchase": 365, "Usage": 0 + 0 + 2}
    assert spending.by("charge_category", cost="effective_cost") == {"Purchase": 0, "Usage": Decimal("0.75") + Decimal("0.25") + 2}
    assert spending.total("list_cost") == 365 + 2


def test_without_the_amortized_cost_the_billed_one_counts_as_effective_and_half_as_much_is_asked(spending, server, costs, settings):
    costs.charges = [AzureCharge(DAY, "5", amortized="4")]
    spending.refresh(settings(amortized=False))
    assert {query["type"] for query in queries(server)} == {"ActualCost"}
    assert (spending.total("billed_cost"), spending.total("effective_cost")) == (5, 5)


def test_every_page_is_read_and_asked_for_with_the_same_body(spending, server, costs, settings):
    costs.charges = [AzureCharge(DAY, f"{number}.01", service=f"service {number}") for number in range(1, 8)]
    costs.page = 3
    assert spending.refresh(settings(amortized=False, group_by=["service", "region"])).failure == ""
    assert spending.total("billed_cost") == exact_sum([Decimal(f"{number}.01") for number in range(1, 8)])
    assert [request.first("$skiptoken") for request in server.requests] == ["", "3", "6"]
    assert len({request.body for request in server.requests}) == 1


def test_an_answer_whose_pages_have_no_end_fails(spending, server, costs, settings):
    costs.charges = [AzureCharge(DAY, "1", service=f"service {number}") for number in range(3)]
    costs.page = 1
    costs.url = lambda request: f"{server.url}{request.path}?api-version=2025-03-01&$skiptoken=1&again"
    assert "have no end" in spending.refresh(settings(amortized=False, group_by=["service"])).failure


def test_the_next_page_is_fetched_from_azure_only_because_the_token_goes_along(spending, costs, settings):
    costs.charges = [AzureCharge(DAY, "1", service=f"service {number}") for number in range(3)]
    costs.page = 1
    costs.url = lambda _: "https://elsewhere.example/next?"
    failure = spending.refresh(settings(amortized=False, group_by=["service"])).failure
    assert "said to be at https://elsewhere.example, not at Azure's own" in failure


def test_a_connection_that_drops_in_an_answer_is_tried_again_and_shows_nothing_half(spending, server, costs, settings):
    costs.charges = [AzureCharge(DAY, "1", service=f"service {number}") for number in range(4)]
    spending.refresh(settings(amortized=False, group_by=["service"]))
    costs.charges = [AzureCharge(DAY, "10", service=f"service {number}") for number in range(4)]
    costs.page = 2
    server.delay(0)
    server.cut(after=120, times=3)
    failure = without_pauses(spending, settings(amortized=False, group_by=["service"]))
    assert failure.startswith(f"{SCOPE}: no whole answer from Azure")
    assert failure.endswith(", 3 times in a row")
    assert server.requests[-1].first("$skiptoken") == "2"
    assert spending.total("billed_cost") == 4
    server.cut(after=120)
    assert without_pauses(spending, settings(amortized=False, group_by=["service"])) == ""
    assert spending.total("billed_cost") == 4 * 10


def test_a_day_that_is_restated_replaces_the_one_before(spending, costs, settings):
    costs.charges = [AzureCharge(DAY, "5"), AzureCharge(BEFORE, "1")]
    spending.refresh(settings())
    costs.charges = [AzureCharge(DAY, "4.5"), AzureCharge(BEFORE, "1")]
    spending.refresh(settings())
    assert spending.by("charge_date") == {str(BEFORE): 1, str(DAY): Decimal("4.5")}


def test_an_empty_bill_is_no_failure_and_its_days_are_known(spending, settings):
    assert spending.refresh(settings()).failure == ""
    assert (spending.charges(), len(spending.parts())) == ([], 4)


def test_only_days_that_are_missing_or_may_be_restated_are_asked_for(spending, server, costs, settings):
    costs.charges = BILL
    spending.refresh(settings(amortized=False, group_by=["service"]))
    first = [query["timePeriod"] for query in queries(server)]
    assert first == [{"from": "2026-11-17T00:00:00Z", "to": "2026-11-20T23:59:59Z"}]
    spending.refresh(settings(amortized=False, group_by=["service"]))
    again = [query["timePeriod"] for query in queries(server)][len(first) :]
    assert again == [{"from": "2026-11-18T00:00:00Z", "to": "2026-11-20T23:59:59Z"}]


def test_a_long_history_is_asked_for_by_the_month_because_azure_answers_for_one_only(spending, server, costs, settings):
    days = [TODAY - timedelta(days=number) for number in range(71)]
    costs.charges = [AzureCharge(day, "1.1") for day in days]
    assert spending.refresh(settings(amortized=False, group_by=["service"], history_days=70)).failure == ""
    assert [(query["timePeriod"]["from"][:10], query["timePeriod"]["to"][:10]) for query in queries(server)] == [
        ("2026-09-11", "2026-09-30"),
        ("2026-10-01", "2026-10-31"),
        ("2026-11-01", "2026-11-20"),
    ]
    assert spending.total("billed_cost") == 71 * Decimal("1.1")


def test_an_answer_for_another_time_than_was_asked_for_is_refused(spending, costs, settings):
    costs.today = date(2025, 11, 20)
    costs.charges = [AzureCharge(date(2025, 11, 19), "1")]
    failure = spending.refresh(settings()).failure
    assert "asked for 2026-11-17 to 2026-11-20, Azure answered for 2025-11-19" in failure


def test_another_currency_is_converted_and_both_amounts_are_kept(spending, costs, settings):
    costs.charges = [AzureCharge(DAY, "8", currency="EUR")]
    spending.refresh(settings(), currencies=EUR)
    (charge,) = spending.charges()
    assert (charge["billing_currency"], charge["billed_cost"], charge["billed_cost_usd"]) == ("EUR", 8, 8 * Decimal("1.25"))


def test_a_currency_without_a_rate_is_rejected_aloud_and_the_rest_is_kept(spending, costs, settings):
    costs.charges = [AzureCharge(DAY, "8", currency="EUR"), AzureCharge(DAY, "2")]
    assert spending.refresh(settings(amortized=False)).failure == ""
    assert (spending.total("billed_cost"), spending.rejected()) == (2, {"no_exchange_rate": 1})


def test_a_cost_that_is_no_number_is_rejected_aloud(spending, costs, settings):
    costs.charges = [AzureCharge(DAY, {"not": "a number"}), AzureCharge(DAY, "2", service="Storage")]
    spending.refresh(settings(amortized=False, group_by=["service"]))
    assert (spending.total("billed_cost"), spending.rejected()) == (2, {"bad_cost": 1})


def test_a_scope_that_is_refused_fails_alone_and_comes_back(spending, costs, settings):
    both = settings(scopes=[SCOPE, OTHER_SCOPE])
    costs.charges = [AzureCharge(DAY, "1"), AzureCharge(DAY, "2", subscription=OTHER)]
    costs.refused[OTHER_SCOPE] = error(403, "RBACAccessDenied", "The client does not have authorization to perform action.")
    assert spending.refresh(both).failure == ""
    assert spending.by("sub_account_id") == {SUBSCRIPTION: 1}
    failed = spending.parts()[OTHER_SCOPE]
    assert failed.state == "failed"
    assert "403 RBACAccessDenied" in failed.message
    assert "give the identity the role `Cost Management Reader`" in failed.message
    costs.refused.clear()
    spending.refresh(both)
    assert spending.by("sub_account_id") == {SUBSCRIPTION: 1, OTHER: 2}
    assert OTHER_SCOPE not in spending.parts()


def test_what_nobody_has_thought_of_hurts_its_own_scope_alone(spending, costs, settings, monkeypatch):
    costs.charges = [AzureCharge(DAY, "1"), AzureCharge(DAY, "20", subscription=OTHER)]
    spending.refresh(settings(scopes=[SCOPE, OTHER_SCOPE]))
    costs.charges = [AzureCharge(DAY, "2"), AzureCharge(DAY, "40", subscription=OTHER)]
    post = AzureClient.post

    def fail(self, scope, operation, body):
        if scope == SCOPE:
            raise RuntimeError("boom")
        return post(self, scope, operation, body)

    monkeypatch.setattr(AzureClient, "post", fail)
    assert spending.refresh(settings(scopes=[SCOPE, OTHER_SCOPE])).failure == ""
    assert spending.by("sub_account_id") == {SUBSCRIPTION: Decimal(1), OTHER: Decimal(40)}
    assert spending.parts()[SCOPE].message == f"{SCOPE}: RuntimeError: boom"


def test_days_with_cost_do_not_all_become_empty_in_silence(spending, costs, settings):
    costs.charges = BILL
    spending.refresh(settings())
    before = spending.total()
    costs.charges = []
    failed = spending.refresh(settings()).failure
    assert failed.startswith(f"{SCOPE}: had cost from {BEFORE} to {TODAY} and has none at all now; its figures stay")
    assert spending.total() == before
    assert spending.refresh(settings(accept_empty_answers=True)).failure == ""
    assert spending.charges() == []


def test_a_scope_that_comes_in_the_place_of_another_takes_over_once_it_was_read(spending, costs, settings):
    costs.charges = [AzureCharge(DAY, "1"), AzureCharge(DAY, "20", subscription=OTHER)]
    third = "/subscriptions/77777777-2222-3333-4444-555555555555"
    spending.refresh(settings(scopes=[SCOPE, third]))
    costs.refused[OTHER_SCOPE] = error(403, "Forbidden", "no right")
    assert spending.refresh(settings(scopes=[OTHER_SCOPE, third])).failure == ""
    assert spending.by("sub_account_id") == {SUBSCRIPTION: Decimal(1)}
    costs.refused.clear()
    spending.refresh(settings(scopes=[OTHER_SCOPE, third]))
    assert spending.by("sub_account_id") == {OTHER: Decimal(20)}


def test_a_page_that_shifts_under_the_reader_counts_nothing_twice(spending, server, costs, settings):
    costs.charges = [AzureCharge(DAY, "2", service="B"), AzureCharge(DAY, "4", service="C")]
    costs.page = 1
    answer = server.answer

    def shift(request):
        given = answer(request)
        # On the second page B comes again.
        costs.charges.insert(0, AzureCharge(DAY, "1", service="A"))
        server.answer = answer
        return given

    server.answer = shift
    given = settings(amortized=False, group_by=["service"])
    failed = spending.refresh(given).failure
    assert failed.startswith(f"{SCOPE}: a row of Azure's answer comes twice: 2, 20261119, B, USD; the figures changed between two pages")
    assert spending.refresh(given).failure == ""
    assert spending.total() == Decimal(1 + 2 + 4)


def test_where_all_scopes_fail_the_source_fails(spending, costs, settings):
    costs.refused["/"] = error(401, "InvalidAuthenticationToken", "The access token is invalid.")
    failure = spending.refresh(settings(scopes=[SCOPE, OTHER_SCOPE])).failure
    assert failure.count("401 InvalidAuthenticationToken: The access token is invalid; the credentials were not accepted") == 2


def test_a_management_group_tells_its_subscriptions_apart_whatever_the_order_of_its_columns(spending, costs, settings):
    costs.members[GROUP] = {SUBSCRIPTION, OTHER}
    costs.charges = [AzureCharge(DAY, "1.5"), AzureCharge(DAY, "2.5", subscription=OTHER, charge_type="Tax")]
    assert spending.refresh(settings(scopes=[GROUP])).failure == ""
    assert spending.by("sub_account_id", "charge_category") == {(SUBSCRIPTION, "Usage"): Decimal("1.5"), (OTHER, "Tax"): Decimal("2.5")}


def test_a_subscription_that_is_in_another_scope_too_is_not_counted_twice(spending, costs, settings):
    costs.members[GROUP] = {SUBSCRIPTION, OTHER}
    costs.charges = [AzureCharge(DAY, "1"), AzureCharge(DAY, "2", subscription=OTHER)]
    assert spending.refresh(settings(scopes=[GROUP, SCOPE])).failure == ""
    assert spending.by("sub_account_id") == {SUBSCRIPTION: 1}
    assert f"the subscription {SUBSCRIPTION} is read from {SCOPE}, and would count twice" in spending.parts()[GROUP].message


def test_a_billing_account_is_named_by_its_charges(spending, costs, settings):
    account = "/providers/Microsoft.Billing/billingAccounts/1234567"
    costs.members[account] = {SUBSCRIPTION}
    costs.charges = [AzureCharge(DAY, "1")]
    assert spending.refresh(settings(scopes=[account])).failure == ""
    assert spending.by("billing_account_id", "sub_account_id") == {("1234567", SUBSCRIPTION): 1}


def test_what_a_scope_held_goes_when_it_is_asked_for_no_more(spending, costs, settings):
    costs.members[GROUP] = {SUBSCRIPTION}
    costs.charges = [AzureCharge(DAY, "1")]
    costs.budgets[SCOPE] = [budget("shop", "1", "1")]
    spending.refresh(settings(budgets=True))
    spending.refresh(settings(scopes=[GROUP], budgets=True))
    assert spending.total("billed_cost") == 1
    assert all(part.startswith(GROUP) for part in spending.parts())
    assert spending.budgets() == []


def test_a_resource_group_that_gives_way_to_its_subscription_is_not_counted_twice(spending, costs, settings):
    costs.charges = [AzureCharge(DAY, "1")]
    spending.refresh(settings(scopes=[f"{SCOPE}/resourceGroups/shop"]))
    assert spending.total("billed_cost") == 1
    spending.refresh(settings(scopes=[SCOPE]))
    assert spending.total("billed_cost") == 1


@given(
    st.lists(
        st.builds(
            AzureCharge,
            day=st.sampled_from([date(2026, 9, 30), date(2026, 10, 1), BEFORE, DAY, TODAY]),
            actual=st.decimals(-1000, 1000, places=15).map(str),
            amortized=st.none() | st.decimals(0, 1000, places=9).map(str),
            service=st.sampled_from(["Storage", "Virtual Machines", "Bandwidth"]),
            region=st.sampled_from(["", "EU West"]),
            charge_type=st.sampled_from(["Usage", "usage", "Purchase", "Refund", "NewInAzure"]),
            subscription=st.sampled_from([SUBSCRIPTION, OTHER]),
            tags=st.sampled_from([{}, {"team": "search"}]),
        ),
        max_size=25,
    ),
    st.lists(st.sampled_from(["region", "tag:team"]), max_size=2, unique=True),
    st.lists(st.sampled_from(["service", "charge_type", "subscription"]), max_size=2, unique=True),
    st.integers(1, 4),
)
@settings_of_hypothesis(max_examples=15)
def test_whatever_the_groups_and_pages_the_sums_are_azures(charges, early, late, page):
    served = AzureCosts(TODAY, charges, members={GROUP: {SUBSCRIPTION, OTHER}}, page=page)
    with azure(served) as server:
        asked = AzureSettings(type="azure", scopes=(GROUP,), group_by=(*early, *late), budgets=False, forecast=False)
        asked = asked.model_copy(update={"access": AzureAccess(endpoint_url=server.url)})
        source = open_source(asked, AttributionSettings(), ExchangeRates())
        days = [change for change in source.fetch({}, Window(date(2026, 9, 1), TODAY, TODAY)) if isinstance(change, Read)]
        source.close()
    found = [charge for change in days for charge in change.charges]
    assert exact_sum([charge.billed_cost for charge in found]) == served.served("ActualCost")
    assert exact_sum([charge.effective_cost for charge in found]) == served.served("AmortizedCost")
    assert sum(sum(change.rejected.values()) for change in days) == 0


def test_a_tag_and_the_resource_group_say_whose_cost_it_is(spending, costs, settings):
    costs.charges = [
        AzureCharge(DAY, "1", tags={"Team": "search"}, resource_group="Shop"),
        AzureCharge(DAY, "2", tags={"Team": "ads"}, resource_group="shop"),
        AzureCharge(DAY, "4", resource_group="batch"),
    ]
    rules = [{"target": "feature", "origins": ["tag:resource_group"]}]
    assert spending.refresh(settings(group_by=["tag:Team", "resource_group", "service"]), rules=rules).failure == ""
    assert spending.by("team", "feature") == {("search", "shop"): 1, ("ads", "shop"): 2, ("", "batch"): 4}


def test_a_month_with_too_many_combinations_fails_with_the_way_out(spending, costs, settings):
    costs.charges = [AzureCharge(DAY, "1", service=f"service {number}") for number in range(61)]
    failure = spending.refresh(settings(group_by=["resource_group", "region", "service"])).failure
    assert "61 combinations of service in 2026-11 would take a query each, of at most 60: put a key with fewer values last" in failure


def test_every_request_is_counted_and_names_its_client(spending, server, costs, settings):
    costs.charges = BILL
    refreshed = spending.refresh(settings(client_type="shop-finops", budgets=True, forecast=True))
    assert refreshed.requests == len(server.requests)
    assert spending.state("azure")["request_cost"] == 0
    assert {request.headers["clienttype"] for request in server.requests} == {"shop-finops"}
    assert {request.headers["user-agent"].split("/")[0].split(" ")[0] for request in server.requests} == {"costwarden"}


def test_closing_ends_a_request_that_is_never_answered(spending, server, costs, settings):
    costs.charges = BILL
    server.hang()
    reading = spending.open(settings())
    failure = []

    def fetch():
        try:
            list(reading.source.fetch({}, Window(DAY, DAY, TODAY)))
        except SourceError as error:
            failure.append(str(error))

    thread = threading.Thread(target=fetch)
    thread.start()
    while not server.requests:
        thread.join(0.005)
    reading.source.close()
    thread.join(60)
    assert failure == ["ended while Azure was being read"]


def test_a_request_that_is_never_answered_ends_by_itself(spending, server, costs, settings):
    costs.charges = [AzureCharge(DAY, "3")]
    server.hang()
    assert spending.refresh(settings(request_timeout_seconds=3)).failure == ""
    assert spending.total("billed_cost") == 3


def test_a_probe_says_what_a_scope_has_cost_and_which_rate_is_missing(spending, server, costs, settings):
    costs.charges = [AzureCharge(DAY, "1.25"), AzureCharge(BEFORE, "2"), AzureCharge(DAY, "3", subscription=OTHER, currency="EUR")]
    source = spending.open(settings(scopes=[SCOPE, OTHER_SCOPE])).source
    assert list(source.probe()) == [
        f"{SCOPE}: 3.25 USD this month",
        f"{OTHER_SCOPE}: 3 EUR this month; add a rate for `EUR` to `exchange_rates`",
    ]
    assert len(server.requests) == 2


def test_a_probe_names_each_scope_that_is_refused(spending, costs, settings):
    costs.refused[OTHER_SCOPE] = error(404, "SubscriptionNotFound", "The subscription could not be found.")
    probe = spending.open(settings(scopes=[SCOPE, OTHER_SCOPE])).source.probe()
    assert next(probe) == f"{SCOPE}: answers, and has had no cost this month"
    with pytest.raises(SourceError, match=r"404 SubscriptionNotFound.*there is no such scope, or the identity has no right to see it"):
        next(probe)


def without_pauses(spending, given):
    """The failure of a refresh that does not wait between attempts."""
    reading = spending.open(given)
    surroundings = Surroundings(lambda _: "", reading.requests)
    source = AzureSource(given, AttributionSettings(), ExchangeRates(), surroundings, pause=lambda _: False)
    window = usual_window(spending.today, given.history_days, given.reread_days)
    return refresh(spending.ledger, given.name, msgspec.structs.replace(reading, source=source), spending.now, window=window).failure
