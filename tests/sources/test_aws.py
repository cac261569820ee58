"""Costs from Cost Explorer, by real boto3, from `tests/cost_explorer.py`."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import NoCredentialsError
from cost_explorer import ACCOUNT, CostExplorer, line, settings, throttled
from spending import Spending

from costwarden.model import exact_sum
from costwarden.sources import Requests, SourceError
from costwarden.sources.aws_session import AwsSession, in_words
from costwarden.sources.settings import AwsAccess
from costwarden.sources.windows import Window

# The credits, the refund, the tax and the fee of a bill, beside usage of two services in two regions.
BILL = (
    line("2026-11-01", "65.00"),
    line("2026-11-01", "35.00", REGION="eu-west-1"),
    line("2026-11-01", "-35.00", RECORD_TYPE="Credit"),
    line("2026-11-02", "10.0000000001", SERVICE="AmazonS3", metrics={"AmortizedCost": "8.5"}),
    line("2026-11-02", "0.05", SERVICE="AmazonS3", REGION="eu-west-1"),
    line("2026-11-02", "-4", SERVICE="AmazonS3", RECORD_TYPE="Refund"),
    line("2026-11-03", "19.20", SERVICE="Tax", REGION="NoRegion", RECORD_TYPE="Tax"),
    line("2026-11-03", "100", RECORD_TYPE="SavingsPlanRecurringFee", metrics={"AmortizedCost": "0"}),
    line("2026-11-03", "0", RECORD_TYPE="SavingsPlanCoveredUsage", metrics={"AmortizedCost": "3.3"}),
    line("2026-11-20", "7"),
)


@pytest.fixture
def aws(moto: str, aws_credentials: None) -> Iterator[CostExplorer]:
    """Cost Explorer with `BILL`, and moto behind it."""
    with CostExplorer(others=moto) as server:
        server.bill.extend(BILL)
        yield server


def test_all_that_is_billed_is_there_in_two_requests_and_in_one_category_each(aws: CostExplorer, spending: Spending) -> None:
    done = spending.refresh(settings(aws))

    assert done.failure == ""
    assert aws.operations() == ["GetCostAndUsage", "GetCostAndUsage"]
    assert spending.by("charge_category") == {
        "Usage": Decimal("65.00") + Decimal("35.00") + Decimal("10.0000000001") + Decimal("0.05") + Decimal(7),
        "Credit": Decimal("-35.00"),
        "Adjustment": Decimal(-4),
        "Tax": Decimal("19.20"),
        "Purchase": Decimal(100),
    }
    assert spending.total() == aws.total() == Decimal("197.2500000001")
    assert spending.total("effective_cost_usd") == aws.total(metric="AmortizedCost")
    assert {charge["billing_account_id"] for charge in spending.charges()} == {ACCOUNT}


def test_golden_exposition(aws: CostExplorer, spending: Spending, golden: Callable[[str, str], None]) -> None:
    spending.refresh(settings(aws, forecast=True))
    golden("aws.prom", spending.exposition())


def test_small_costs_are_not_merged_and_credits_not_lost(aws: CostExplorer, spending: Spending) -> None:
    # electrolux-oss/aws-cost-exporter turned 65 + 35 - 35 into 100.
    spending.refresh(settings(aws))
    assert spending.total(charge_date="2026-11-01") == Decimal("65.00") + Decimal("35.00") - Decimal("35.00")


def test_one_request_asks_for_all_metrics(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws, billed_metric="NetUnblendedCost", effective_metric="NetAmortizedCost"))
    assert all(asked["Metrics"] == ["NetUnblendedCost", "NetAmortizedCost"] for asked in aws.asked())
    assert len(aws.asked()) == 2


def test_a_region_that_is_none_is_empty(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws))
    assert spending.by("region_id") == {
        "us-east-1": Decimal("65.00") + Decimal("10.0000000001") + Decimal(7),
        "eu-west-1": Decimal("35.00") + Decimal("0.05"),
        # What is no usage is told apart by its type and service.
        "": Decimal("-35.00") + Decimal(-4) + Decimal("19.20") + Decimal(100),
    }


def test_a_dollar_in_the_value_of_a_tag_is_kept(aws: CostExplorer, spending: Spending) -> None:
    aws.bill[:] = [line("2026-11-05", "1", **{"TAG:team": "a$b$c"}), line("2026-11-05", "2")]
    spending.refresh(settings(aws, group_by=["TAG:team", "SERVICE"]))
    assert spending.by("team") == {"a$b$c": Decimal(1), "": Decimal(2)}


def test_tags_cost_categories_and_dimensions_attribute(aws: CostExplorer, spending: Spending) -> None:
    aws.bill[:] = [
        line("2026-11-05", "1", **{"COST_CATEGORY:Team": "search", "USAGE_TYPE": "BoxUsage:m5.large"}),
        line("2026-11-05", "-0.5", RECORD_TYPE="Credit", **{"COST_CATEGORY:Team": "search"}),
    ]
    rules = [{"target": "feature", "origins": ["tag:usage_type"]}]
    spending.refresh(settings(aws, group_by=["COST_CATEGORY:Team", "USAGE_TYPE"]), rules=rules)
    assert spending.by("team", "feature", "charge_category") == {
        ("search", "BoxUsage:m5.large", "Usage"): Decimal(1),
        ("search", "", "Credit"): Decimal("-0.5"),
    }


@pytest.mark.parametrize("group_by", [["SERVICE"], ["RECORD_TYPE"], ["RECORD_TYPE", "LINKED_ACCOUNT"]])
def test_where_the_record_type_has_room_there_is_one_request(group_by: list[str], aws: CostExplorer, spending: Spending) -> None:
    chosen = settings(aws, group_by=group_by)
    spending.refresh(chosen)
    assert (len(aws.asked()), chosen.cost_requests) == (1, 1)
    assert spending.total() == aws.total()
    assert spending.by("charge_category")["Credit"] == Decimal("-35.00")


def test_a_third_key_counts_nothing_twice(aws: CostExplorer, spending: Spending) -> None:
    members = {"444455556666": "1", "777788889999": "2", "000011112222": "4"}
    aws.bill[:] = [line("2026-11-05", cost, LINKED_ACCOUNT=member) for member, cost in members.items()]
    aws.bill.append(line("2026-11-05", "-0.5", RECORD_TYPE="Credit", LINKED_ACCOUNT="444455556666"))
    chosen = settings(aws, split_by={"key": "LINKED_ACCOUNT", "values": ["444455556666", "777788889999"]})
    spending.refresh(chosen)
    # One for each value, one for the others, one for what is no usage.
    assert (len(aws.asked()), chosen.cost_requests) == (2 + 1 + 1, 4)
    assert spending.by("sub_account_id") == {"444455556666": Decimal(1), "777788889999": Decimal(2), "": Decimal(4) + Decimal("-0.5")}
    assert spending.total() == aws.total()


def test_a_record_type_that_nobody_knows_is_counted_with_a_note(aws: CostExplorer, spending: Spending) -> None:
    aws.bill[:] = [line("2026-11-05", "3", RECORD_TYPE="Moon Fee")]
    spending.refresh(settings(aws))
    assert spending.by("charge_category") == {"Adjustment": Decimal(3)}
    assert "'Moon Fee'" in spending.parts()[f"{ACCOUNT}/2026-11-20"].message


def test_days_that_aws_estimates_are_said_once(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws))
    noted = {name: part.message for name, part in spending.parts().items() if part.message}
    assert noted == {f"{ACCOUNT}/2026-11-20": "AWS calls the days since 2026-11-01 an estimate"}


@pytest.mark.parametrize("page", [1, 2, 3])
def test_all_pages_are_read_and_each_is_paid_for(page: int, aws: CostExplorer, spending: Spending) -> None:
    aws.page = page
    spending.refresh(settings(aws, reread_days=19, history_days=19))
    assert spending.total() == aws.total()
    # 20 days in the first answer, one of them with two groups more and one with one more; 20 in the second, one with one more.
    pages = len(aws.asked())
    assert pages == -(-(20 + 1 + 1) // page) + -(-(20 + 1) // page)
    assert spending.state("aws")["request_cost"] == pages * 10_000_000


@pytest.mark.parametrize("code", ["LimitExceededException", "ThrottlingException"])
def test_throttled_then_served_and_each_attempt_is_metered(code: str, aws: CostExplorer, spending: Spending) -> None:
    # The first request is that of STS.
    aws.delay(0)
    aws.fail(400, throttled(code))
    assert spending.refresh(settings(aws)).failure == ""
    assert aws.operations() == ["GetCostAndUsage"] * 3
    assert spending.total() == aws.total()
    assert spending.state("aws")["request_cost"] == 3 * 10_000_000


def test_a_restart_does_not_pay_again(aws: CostExplorer, spending: Spending) -> None:
    # Other exporters ask for everything at every restart.
    chosen = settings(aws, forecast=True, history_days=45)
    spending.refresh(chosen)
    spending.minutes = 10
    spending.refresh(chosen)
    assert aws.operations() == ["GetCostAndUsage", "GetCostAndUsage", "GetCostForecast"]
    # After the interval of six hours it does.
    spending.minutes = 360
    spending.refresh(chosen)
    assert len(aws.asked()) == 4
    assert spending.total() == aws.total()


def test_half_a_page_and_a_dropped_connection_leave_the_old_figures(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws))
    before = spending.charges()
    spending.minutes = 400
    aws.bill.append(line("2026-11-01", "1000"))
    aws.page = 5
    # STS and the first page, then half of the second.
    aws.delay(0)
    aws.delay(0)
    aws.cut(after=200)
    failed = spending.refresh(settings(aws))
    assert failed.failure.startswith("GetCostAndUsage: the answer breaks off after 200 of ")
    assert spending.charges() == before
    # The half page was not kept: minutes later all is well.
    spending.minutes = 410
    assert spending.refresh(settings(aws)).failure == ""
    assert spending.total() == aws.total()


def test_nothing_of_a_refresh_is_seen_before_all_of_it(aws: CostExplorer, spending: Spending) -> None:
    # 18 of 46 scrapes of electrolux-oss/aws-cost-exporter saw half a refresh.
    spending.refresh(settings(aws))
    before = spending.charges()
    spending.minutes = 400
    aws.bill.append(line("2026-11-01", "1000"))
    aws.page = 5
    answer, seen = aws.answer, []

    def look(request: Any) -> Any:
        seen.append(spending.charges())
        return answer(request)

    aws.answer = look
    spending.refresh(settings(aws))
    assert len(seen) > 10
    assert all(charges == before for charges in seen)
    assert spending.total() == aws.total()


def test_one_failed_call_wipes_nothing(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws))
    spending.minutes = 400
    aws.denied.add("GetCostAndUsage")
    failed = spending.refresh(settings(aws))
    assert failed.failure.startswith("GetCostAndUsage: AccessDeniedException: ")
    assert "(grant `ce:GetCostAndUsage`)" in failed.failure
    assert spending.total() == aws.total()


def test_a_token_that_ran_out_over_a_restart_starts_anew(aws: CostExplorer, spending: Spending) -> None:
    aws.page = 5
    # STS and the first page, then the server is gone.
    aws.delay(0)
    aws.delay(0)
    aws.fail(400, {"__type": "ValidationException", "message": "down"})
    assert "down" in spending.refresh(settings(aws)).failure
    aws.generation += 1
    spending.minutes = 10
    assert spending.refresh(settings(aws)).failure == ""
    assert spending.total() == aws.total()


def test_a_restated_day_replaces_the_one_before(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws))
    spending.minutes = 400
    aws.bill[0] = line("2026-11-01", "60.00")
    spending.refresh(settings(aws))
    assert spending.total(charge_date="2026-11-01") == Decimal("60.00") + Decimal("35.00") - Decimal("35.00")
    aws.bill[:] = [one for one in aws.bill if one.day != date(2026, 11, 1)]
    spending.minutes = 800
    spending.refresh(settings(aws))
    assert spending.charges(charge_date="2026-11-01") == []


def test_a_day_that_comes_late_is_there_then(aws: CostExplorer, spending: Spending) -> None:
    late = aws.bill.pop(0)
    spending.refresh(settings(aws))
    assert spending.total(charge_date=str(late.day)) == Decimal(0)
    spending.minutes = 400
    aws.bill.append(late)
    spending.refresh(settings(aws))
    assert spending.total(charge_date=str(late.day)) == Decimal("65.00")


def test_only_missing_and_reread_days_are_asked_for(aws: CostExplorer, spending: Spending) -> None:
    chosen = settings(aws, history_days=30, reread_days=3)
    spending.refresh(chosen)
    assert aws.asked()[0]["TimePeriod"] == {"Start": "2026-10-21", "End": "2026-11-21"}
    spending.minutes = 400
    spending.refresh(chosen)
    assert aws.asked()[-1]["TimePeriod"] == {"Start": "2026-11-17", "End": "2026-11-21"}
    assert spending.total() == aws.total()


def test_other_groups_have_the_history_read_again(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws, history_days=30, reread_days=3))
    spending.minutes = 400
    spending.refresh(settings(aws, history_days=30, reread_days=3, group_by=["LINKED_ACCOUNT", "SERVICE"]))
    assert aws.asked()[-1]["TimePeriod"]["Start"] == "2026-10-21"
    assert set(spending.by("region_id")) == {""}
    assert spending.total() == aws.total()


def test_days_that_are_known_are_not_asked_for_by_a_backfill(aws: CostExplorer, spending: Spending) -> None:
    chosen = settings(aws, forecast=True)
    spending.refresh(chosen)
    asked = len(aws.requests)
    spending.refresh(chosen, window=Window(date(2026, 11, 1), date(2026, 12, 1), date(2026, 11, 20)))
    # STS only.
    assert len(aws.requests) == asked + 1
    past = Window(date(2026, 8, 1), date(2026, 9, 1), date(2026, 8, 31))
    aws.bill.append(line("2026-08-05", "11"))
    spending.refresh(chosen, window=past)
    assert aws.operations().count("GetCostForecast") == 1
    assert spending.total() == aws.total()


def test_an_empty_bill_is_no_failure(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.clear()
    assert spending.refresh(settings(aws)).failure == ""
    assert spending.charges() == []
    assert len(spending.parts()) == 62 + 1


def test_yuan_are_converted_at_the_rate_of_the_day(aws: CostExplorer, spending: Spending) -> None:
    aws.bill[:] = [line("2026-11-05", "71.30", unit="CNY"), line("2026-11-12", "-10", unit="CNY", RECORD_TYPE="Credit")]
    rates = {"CNY": [{"valid_from": "2026-11-01", "usd": "0.14"}, {"valid_from": "2026-11-10", "usd": "0.15"}]}
    spending.refresh(settings(aws), currencies=rates)
    assert spending.by("billing_currency") == {"CNY": Decimal("71.30") - Decimal(10)}
    assert spending.total() == Decimal("71.30") * Decimal("0.14") - Decimal(10) * Decimal("0.15")


def test_yuan_without_a_rate_are_rejected_and_never_dollars(aws: CostExplorer, spending: Spending) -> None:
    # electrolux-oss/aws-cost-exporter exports them as USD.
    aws.bill[:] = [line("2026-11-05", "71.30", unit="CNY"), line("2026-11-06", "2")]
    spending.refresh(settings(aws))
    assert spending.rejected() == {"no_exchange_rate": 1}
    assert spending.total() == Decimal(2)


def test_a_group_without_a_metric_or_with_two_currencies_is_rejected(aws: CostExplorer, spending: Spending) -> None:
    answer = aws.answer

    def broken(request: Any) -> Any:
        given = answer(request)
        if request.headers.get("x-amz-target", "").endswith("GetCostAndUsage") and "Not" not in request.json()["Filter"]:
            day = next(day for day in given.body["ResultsByTime"] if day["TimePeriod"]["Start"] == "2026-11-01")
            del day["Groups"][0]["Metrics"]["AmortizedCost"]
            day["Groups"][1]["Metrics"]["AmortizedCost"]["Unit"] = "EUR"
        return given

    aws.answer = broken
    spending.refresh(settings(aws))
    assert spending.rejected() == {"missing_cost": 1, "mixed_currency": 1}
    assert spending.total(charge_date="2026-11-01") == Decimal("-35.00")


def test_an_answer_of_another_shape_is_a_failure(aws: CostExplorer, spending: Spending) -> None:
    aws.delay(0)
    aws.fail(200, {"ResultsByTime": [{"TimePeriod": {"Start": "yesterday", "End": "now"}, "Groups": []}]})
    assert "not as AWS documents it: Invalid RFC3339 encoded date" in spending.refresh(settings(aws)).failure


def test_a_day_that_was_not_answered_for_stays_unknown(aws: CostExplorer, spending: Spending) -> None:
    answer = aws.answer

    def without_a_day(request: Any) -> Any:
        given = answer(request)
        if isinstance(given.body, dict) and "ResultsByTime" in given.body:
            given.body["ResultsByTime"] = [day for day in given.body["ResultsByTime"] if day["TimePeriod"]["Start"] != "2026-11-02"]
        return given

    spending.refresh(settings(aws))
    aws.answer = without_a_day
    spending.minutes = 400
    spending.refresh(settings(aws))
    assert spending.total() == aws.total()


def test_the_cap_stops_requests_and_the_figures_stay(aws: CostExplorer, spending: Spending) -> None:
    chosen = settings(aws, daily_request_limit_usd="0.03")
    spending.refresh(chosen)
    spending.minutes = 400
    aws.bill.append(line("2026-11-20", "1000"))
    failed = spending.refresh(chosen)
    assert len(aws.asked()) == 3
    assert "have cost $0.03 of at most $0.03 (`daily_request_limit_usd`)" in failed.failure
    assert spending.total() == aws.total() - 1000
    spending.today = date(2026, 11, 21)
    aws.today = date(2026, 11, 21)
    assert spending.refresh(chosen).failure == ""
    assert spending.total() == aws.total()


def test_no_credentials_are_a_sentence(aws: CostExplorer, spending: Spending, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert spending.refresh(settings(aws)).failure.startswith("no AWS credentials were found: set `access.profile`")
    assert "nosuch" in spending.refresh(settings(aws, access={"profile": "nosuch"})).failure


def test_credentials_of_another_account_read_nothing(aws: CostExplorer, spending: Spending) -> None:
    failed = spending.refresh(settings(aws, access={"account_id": "999900001111"}))
    assert failed.failure == f"the credentials belong to account {ACCOUNT}, not to 999900001111 (`account_id`)"
    assert aws.asked() == []


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("UnrecognizedClientException", "the access key is wrong or was deleted"),
        ("ExpiredTokenException", "the credentials have expired: renew them"),
        ("InvalidSignatureException", "the secret access key is wrong, or the clock of this machine is"),
        ("DataUnavailableException", "AWS has no figures of this account yet; the first ones take up to 24 hours"),
    ],
)
def test_what_aws_refuses_is_a_sentence(code: str, hint: str, aws: CostExplorer, spending: Spending) -> None:
    aws.delay(0)
    aws.fail(400, {"__type": code, "message": "no"})
    assert spending.refresh(settings(aws)).failure == f"GetCostAndUsage: {code}: no ({hint})"


def test_close_ends_a_request_that_hangs(aws: CostExplorer, spending: Spending, wait_until: Callable[..., object]) -> None:
    aws.delay(0)
    aws.hang()
    reading = spending.open(settings(aws))
    raised: list[BaseException] = []

    def fetch() -> None:
        try:
            list(reading.source.fetch({}, Window(date(2026, 11, 1), date(2026, 11, 1), date(2026, 11, 20))))
        except SourceError as error:
            raised.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    wait_until(lambda: len(aws.requests) == 2)
    reading.source.close()
    thread.join(60)
    assert [str(error) for error in raised] == ["ended while AWS was asked"]
    with pytest.raises(SourceError, match="ended while AWS was asked"):
        list(reading.source.fetch({}, Window(date(2026, 11, 1), date(2026, 11, 1), date(2026, 11, 20))))


def test_the_prediction_is_what_is_asked_for(aws: CostExplorer, spending: Spending) -> None:
    chosen = settings(aws, forecast=True)
    (predicted,) = chosen.predicted_requests
    # Four refreshes of two requests, and a forecast, at a cent each.
    assert (predicted.a_day, predicted.usd_each) == (4 * 2 + 1, Decimal("0.01"))
    for refresh in range(4):
        spending.minutes = 360 * refresh - 700
        spending.refresh(chosen)
    assert spending.state("aws")["request_cost"] == int(predicted.a_day * predicted.usd_each * 10**9)


def test_probe_says_what_it_found_and_what_it_cost(aws: CostExplorer, spending: Spending, today: date) -> None:
    aws.today = today
    reading = spending.open(settings(aws, budgets=True))
    said = list(reading.source.probe())
    assert said[0] == f"account {ACCOUNT}: the credentials are good"
    assert "Cost Explorer answers" in said[1]
    assert "(this request cost $0.01)" in said[1]
    assert said[2] == f"account {ACCOUNT}: AWS Budgets answers; budgets kept there: 0"
    assert (aws.operations(), reading.requests.cost) == (["GetCostAndUsage"], 10_000_000)


def test_probe_names_the_action_to_grant(aws: CostExplorer, spending: Spending) -> None:
    aws.denied.add("GetCostAndUsage")
    with pytest.raises(
        SourceError, match=rf"^account {ACCOUNT}: GetCostAndUsage: AccessDeniedException: .*\(grant `ce:GetCostAndUsage`\)$"
    ):
        list(spending.open(settings(aws)).source.probe())


def test_cost_explorer_that_was_never_opened_is_told_from_a_missing_right(aws: CostExplorer, spending: Spending) -> None:
    aws.delay(0)
    aws.fail(400, {"__type": "AccessDeniedException", "message": "User not enabled for cost explorer access"})
    with pytest.raises(SourceError, match="open Cost Explorer once in the console of the management account"):
        list(spending.open(settings(aws)).source.probe())


def test_a_thousand_groups_are_conserved_to_the_last_digit(aws: CostExplorer, spending: Spending) -> None:
    aws.bill[:] = [
        line(
            f"2026-11-{1 + number % 20:02}",
            f"{number - 300}.{number:010}",
            SERVICE=f"service {number % 97}",
            REGION=f"region-{number % 13}",
        )
        for number in range(1000)
    ]
    aws.page = 333
    spending.refresh(settings(aws))
    assert spending.total() == exact_sum([Decimal(one.cost) for one in aws.bill])
    assert json.dumps(aws.asked()[0]["GroupBy"]) == json.dumps([{"Type": "DIMENSION", "Key": name} for name in ("SERVICE", "REGION")])


def test_days_with_cost_do_not_all_become_empty_in_silence(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws))
    spending.minutes = 400
    before = spending.total()
    aws.bill.clear()
    failed = spending.refresh(settings(aws)).failure
    assert failed.startswith(f"{ACCOUNT}: had cost from 2026-11-01 to 2026-11-20 and has none at all now; its figures stay")
    assert spending.total() == before
    # Another shape has other fingerprints; that there were figures is known nevertheless.
    spending.minutes = 800
    assert spending.refresh(settings(aws, group_by=["SERVICE"])).failure == failed

    spending.minutes = 1200
    assert spending.refresh(settings(aws, accept_empty_answers=True)).failure == ""
    assert spending.charges() == []


def test_one_day_that_becomes_empty_is_a_restatement(aws: CostExplorer, spending: Spending) -> None:
    spending.refresh(settings(aws))
    spending.minutes = 400
    aws.bill[:] = [one for one in aws.bill if one.day != date(2026, 11, 20)]
    assert spending.refresh(settings(aws)).failure == ""
    assert spending.charges(charge_date="2026-11-20") == []
    assert spending.total() == aws.total() != 0


@pytest.mark.parametrize(
    "body",
    [
        {"ResultsByTime": [{"TimePeriod": {"Start": "2026-11-05", "End": "2026-11-06"}, "Groups": [{"Keys": ["a"], "Metrics": {}}]}]},
        {"ResultsByTime": [{"TimePeriod": {"Start": "2026-11-05", "End": "2026-11-06"}}]},
        {"ResultsByTime": [{"TimePeriod": {"Start": "2025-11-05", "End": "2025-11-06"}, "Groups": []}]},
    ],
)
def test_an_answer_that_cannot_be_read_is_paid_for_once_more_and_not_kept(body: Any, aws: CostExplorer, spending: Spending) -> None:
    # The first request is that of STS.
    aws.delay(0)
    aws.fail(200, body)
    assert "GetCostAndUsage: " in spending.refresh(settings(aws)).failure
    spending.minutes = 1
    assert spending.refresh(settings(aws)).failure == ""
    assert spending.total() == aws.total()
    assert spending.state("aws")["request_cost"] == (1 + 2) * 10_000_000


def test_a_page_that_shifts_under_the_reader_counts_nothing_twice(aws: CostExplorer, spending: Spending) -> None:
    aws.bill[:] = [line("2026-11-05", cost, SERVICE=name) for name, cost in {"B": "2", "C": "4"}.items()]
    aws.page = 1
    answer = aws.answer

    def shift(request: Any) -> Any:
        given = answer(request)
        if request.headers.get("x-amz-target", "").endswith("GetCostAndUsage"):
            # On the second page B comes again.
            aws.bill.insert(0, line("2026-11-05", "1", SERVICE="A"))
            aws.answer = answer
        return given

    aws.answer = shift
    chosen = settings(aws, history_days=15, reread_days=15, group_by=["SERVICE"])
    assert spending.refresh(chosen).failure == (
        "GetCostAndUsage: B, Usage comes twice on 2026-11-05: the figures changed between two pages; the next refresh tries again"
    )
    assert spending.charges() == []
    spending.minutes = 400
    assert spending.refresh(chosen).failure == ""
    assert spending.total() == Decimal(1 + 2 + 4)


def test_the_section_of_the_configuration_is_named_as_it_is_called() -> None:
    with pytest.raises(SourceError, match=r"\(`aws.profile`\)$"):
        AwsSession(AwsAccess(profile="nowhere"), Requests(), section="aws")
    with pytest.raises(SourceError, match=r"^no AWS credentials were found: set `aws.profile`"):
        in_words(_no_credentials, "aws")


def _no_credentials() -> None:
    raise NoCredentialsError
