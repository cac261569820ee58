"""What AWS states beside the costs: the forecast of Cost Explorer, the budgets of AWS Budgets, the bucket sizes of CloudWatch (moto's)."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import boto3
import pytest
from cost_explorer import ACCOUNT, CostExplorer, line, settings
from spending import Spending
from stand_in import Answer, Request

from costwarden.sources import aws_account
from costwarden.sources.windows import Window

FORECAST = ("aws_cost_forecast_usd", "aws", ACCOUNT)
LOWER = ("aws_cost_forecast_lower_usd", "aws", ACCOUNT)
UPPER = ("aws_cost_forecast_upper_usd", "aws", ACCOUNT)


@pytest.fixture
def aws(moto: str, aws_credentials: None) -> Iterator[CostExplorer]:
    """Cost Explorer without a bill, and moto behind it."""
    with CostExplorer(others=moto) as server:
        reset = Request("POST", "/moto-api/reset", {}, {}, b"")
        assert server.answer(reset).status == 200
        yield server


@pytest.fixture
def budget(moto: str) -> Callable[..., None]:
    """`budget(name, limit, spent, …)` makes one at moto's Budgets, edited now."""
    client = boto3.client("budgets", region_name="us-east-1", endpoint_url=moto)

    def make(name: str, limit: str, spent: str | None = None, forecast: str | None = None, *, unit: str = "USD", **more: Any) -> None:
        spend = {"ActualSpend": spent, "ForecastedSpend": forecast}
        calculated = {key: {"Amount": amount, "Unit": unit} for key, amount in spend.items() if amount is not None}
        made = {
            "BudgetName": name,
            "BudgetLimit": {"Amount": limit, "Unit": unit},
            "TimeUnit": "MONTHLY",
            "BudgetType": "COST",
            **({"CalculatedSpend": calculated} if calculated else {}),
        }
        client.create_budget(AccountId=ACCOUNT, Budget=made | more)

    return make


def days_of(month: str, count: int, cost: str) -> list[Any]:
    """So many days of a month that cost the same."""
    return [line(f"{month}-{day:02}", cost) for day in range(1, count + 1)]


def test_the_forecast_is_of_the_whole_month(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(days_of("2026-11", 19, "10"))
    spending.refresh(settings(aws, forecast=True))
    # 19 days at 10, and 11 that are left at their mean; at 80 % thirty percent of the latter to either side.
    assert spending.figures() == {
        FORECAST: Decimal(19 * 10 + 11 * 10),
        LOWER: Decimal(19 * 10 + 11 * 7),
        UPPER: Decimal(19 * 10 + 11 * 13),
    }
    assert aws.asked("GetCostForecast") == [
        {
            "TimePeriod": {"Start": "2026-11-20", "End": "2026-12-01"},
            "Metric": "UNBLENDED_COST",
            "Granularity": "MONTHLY",
            "PredictionIntervalLevel": 80,
        }
    ]


def test_credits_lower_the_forecast(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend([*days_of("2026-11", 19, "10"), line("2026-11-19", "-19", RECORD_TYPE="Credit")])
    spending.refresh(settings(aws, forecast=True))
    assert spending.figures()[FORECAST] == Decimal(19 * 10 - 19 + 11 * 9)


def test_a_forecast_that_covers_the_days_before_is_not_added_to_them(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(days_of("2026-11", 19, "10"))
    answer = aws.answer

    def whole_month(request: Request) -> Answer:
        given = answer(request)
        if request.headers.get("x-amz-target", "").endswith("GetCostForecast"):
            given.body["ForecastResultsByTime"][0]["TimePeriod"]["Start"] = "2026-11-01"
        return given

    aws.answer = whole_month
    spending.refresh(settings(aws, forecast=True))
    assert spending.figures()[FORECAST] == Decimal(11 * 10)


@pytest.mark.parametrize(
    ("today", "days", "left"), [("2026-11-30", 29, 1), ("2026-11-01", 0, 30), ("2026-12-31", 30, 1), ("2028-02-29", 28, 1)]
)
def test_the_first_and_the_last_day_of_a_month(today: str, days: int, left: int, aws: CostExplorer, spending: Spending) -> None:
    spending.today = aws.today = date.fromisoformat(today)
    aws.bill.extend([line(str(spending.today.replace(day=1) - timedelta(days=1)), "10"), *days_of(today[:7], days, "10")])
    spending.refresh(settings(aws, forecast=True))
    assert spending.figures()[FORECAST] == Decimal(days * 10 + left * 10)


def test_the_forecast_is_asked_for_once_a_day(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(days_of("2026-11", 19, "10"))
    chosen = settings(aws, forecast=True)
    for minutes in (-700, -350, 0, 350):
        spending.minutes = minutes
        spending.refresh(chosen)
    assert aws.operations() == ["GetCostAndUsage"] * 2 + ["GetCostForecast"] + ["GetCostAndUsage"] * 2 * 3
    spending.today = aws.today = date(2026, 11, 21)
    spending.refresh(chosen)
    assert aws.operations().count("GetCostForecast") == 2


def test_too_little_history_is_a_note_and_not_a_failure(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(days_of("2026-11", 19, "10"))
    aws.has_history = False
    assert spending.refresh(settings(aws, forecast=True)).failure == ""
    part = spending.parts()[f"{ACCOUNT}/forecast"]
    assert (part.state, part.message) == ("ok", "AWS has no forecast yet: the account has too little history")
    assert spending.total() == Decimal(19 * 10)
    assert spending.figures() == {}
    # It is not asked for again and again.
    spending.minutes = 400
    spending.refresh(settings(aws, forecast=True))
    assert aws.operations().count("GetCostForecast") == 1
    aws.has_history = True
    spending.today = aws.today = date(2026, 11, 21)
    spending.refresh(settings(aws, forecast=True))
    assert FORECAST in spending.figures()
    assert f"{ACCOUNT}/forecast" not in spending.parts()


def test_a_forecast_that_is_denied_leaves_the_costs_and_is_tried_again(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(days_of("2026-11", 19, "10"))
    aws.denied.add("GetCostForecast")
    assert spending.refresh(settings(aws, forecast=True)).failure == ""
    part = spending.parts()[f"{ACCOUNT}/forecast"]
    assert part.state == "failed"
    assert part.message.endswith("(grant `ce:GetCostForecast`)")
    assert spending.total() == Decimal(19 * 10)
    aws.denied.clear()
    spending.minutes = 400
    spending.refresh(settings(aws, forecast=True))
    assert FORECAST in spending.figures()
    assert f"{ACCOUNT}/forecast" not in spending.parts()


def test_yuan_are_forecast_in_dollars_or_not_at_all(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(line(f"2026-11-{day:02}", "10", unit="CNY") for day in range(1, 20))
    spending.refresh(settings(aws, forecast=True))
    assert spending.figures() == {}
    assert "there is no rate for 2026-11-20" in spending.parts()[f"{ACCOUNT}/forecast"].message
    spending.minutes = 400
    spending.refresh(settings(aws, forecast=True), currencies={"CNY": [{"valid_from": "2026-01-01", "usd": "0.14"}]})
    assert spending.figures()[FORECAST] == (19 * 10 + 11 * 10) * Decimal("0.14")


def test_a_month_with_a_rejected_cost_has_no_forecast(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend([*days_of("2026-11", 19, "10"), line("2026-11-05", "10", SERVICE="AmazonS3", unit="CNY")])
    spending.refresh(settings(aws, forecast=True))
    assert spending.figures() == {}
    assert "the cost of its days so far is not known whole" in spending.parts()[f"{ACCOUNT}/forecast"].message


def test_what_is_switched_off_is_taken_back(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(days_of("2026-11", 19, "10"))
    spending.refresh(settings(aws, forecast=True))
    spending.today = aws.today = date(2026, 11, 21)
    spending.refresh(settings(aws))
    assert spending.figures() == {}


def test_the_past_has_no_forecast_and_no_budgets(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(days_of("2026-11", 19, "10"))
    chosen = settings(aws, forecast=True, budgets=True)
    spending.refresh(chosen)
    requests = len(aws.requests)
    spending.refresh(chosen, window=Window(date(2026, 8, 1), date(2026, 8, 1), date(2026, 8, 31)))
    # STS and the two of the costs.
    assert len(aws.requests) == requests + 3


@pytest.fixture
def later(aws: CostExplorer, spending: Spending, today: date) -> Callable[..., date]:
    """`later(10)` has so many days pass since moto's budgets were edited: what moto dates cannot be told another today. Gives the day."""

    def wait(days: int = 10) -> date:
        spending.today = aws.today = today + timedelta(days=days)
        return spending.today

    return wait


def test_budgets_are_read_with_what_aws_says(
    aws: CostExplorer, spending: Spending, budget: Callable[..., None], later: Callable[..., date]
) -> None:
    later()
    budget("all of it", "1000.50", "123.45", "400", TimeUnit="QUARTERLY")
    budget("compute", "200", "50", CostFilters={"Service": ["Amazon EC2"]})
    budget("hours", "200", "50", unit="Hrs", BudgetType="USAGE")
    spending.refresh(settings(aws, budgets=True))
    found = [(one.account_id, one.budget, one.period, one.limit_usd, one.spent_usd, one.forecast_usd) for one in spending.budgets()]
    assert found == [
        (ACCOUNT, "all of it", "quarter", Decimal("1000.50"), Decimal("123.45"), Decimal(400)),
        (ACCOUNT, "compute", "month", Decimal(200), Decimal(50), None),
    ]


def test_golden_budgets(
    aws: CostExplorer, spending: Spending, budget: Callable[..., None], golden: Callable[[str, str], None], later: Callable[..., date]
) -> None:
    later()
    budget("all of it", "1000.50", "123.45", "400")
    spending.refresh(settings(aws, budgets=True))
    golden("aws_budgets.prom", spending.exposition())


def test_a_budget_that_was_edited_does_not_fall_to_nothing(
    aws: CostExplorer, spending: Spending, budget: Callable[..., None], later: Callable[..., date]
) -> None:
    # `CalculatedSpend` is 0 then until AWS has counted anew.
    today = later(0)
    aws.bill.append(line(str(today), "77"))
    budget("all of it", "100", "0", "0")
    budget("compute", "100", "0", "0", CostFilters={"Service": ["Amazon EC2"]})
    budget("quarter", "100", "0", "0", TimeUnit="QUARTERLY")
    budget("counted", "100", "5", "9", CostFilters={"Service": ["Amazon EC2"]})
    spending.refresh(settings(aws, budgets=True))
    assert {one.budget: (one.spent_usd, one.forecast_usd) for one in spending.budgets()} == {
        # The bill tells of a budget on all of it.
        "all of it": (Decimal(77), None),
        "compute": (None, None),
        "quarter": (None, None),
        "counted": (Decimal(5), Decimal(9)),
    }


def test_nothing_spent_is_nothing_where_the_budget_is_old(
    aws: CostExplorer, spending: Spending, budget: Callable[..., None], later: Callable[..., date]
) -> None:
    later()
    budget("compute", "100", "0", "0", CostFilters={"Service": ["Amazon EC2"]})
    spending.refresh(settings(aws, budgets=True))
    (found,) = spending.budgets()
    assert (found.spent_usd, found.forecast_usd) == (Decimal(0), Decimal(0))


def test_budgets_in_yuan_are_converted_or_left_out_aloud(
    aws: CostExplorer, spending: Spending, budget: Callable[..., None], later: Callable[..., date]
) -> None:
    later()
    budget("yuan", "1000", "10", unit="CNY")
    budget("dollars", "1000", "10")
    chosen = settings(aws, budgets=True)
    spending.refresh(chosen)
    assert [one.budget for one in spending.budgets()] == ["dollars"]
    assert "budget 'yuan': it is in 'CNY', and there is no rate" in spending.parts()[f"{ACCOUNT}/budgets"].message
    spending.minutes = 400
    spending.refresh(chosen, currencies={"CNY": [{"valid_from": "2026-01-01", "usd": "0.14"}]})
    assert {one.budget: one.limit_usd for one in spending.budgets()} == {"yuan": Decimal(140), "dollars": Decimal(1000)}
    assert f"{ACCOUNT}/budgets" not in spending.parts()


def test_all_pages_of_budgets_are_read(
    aws: CostExplorer, spending: Spending, budget: Callable[..., None], later: Callable[..., date]
) -> None:
    later()
    for number in range(5):
        budget(f"budget {number}", "10", "1")
    answer = aws.answer

    def paged(request: Request) -> Answer:
        given = answer(request)
        if not request.headers.get("x-amz-target", "").endswith("DescribeBudgets"):
            return given
        all_of_them = Request.json(Request("", "", {}, {}, given.content))["Budgets"]
        start = int(request.json().get("NextToken", "0"))
        more = {"NextToken": str(start + 2)} if start + 2 < len(all_of_them) else {}
        return Answer({"Budgets": all_of_them[start : start + 2], **more}, 200, {"Content-Type": "application/x-amz-json-1.1"})

    aws.answer = paged
    spending.refresh(settings(aws, budgets=True))
    assert [one.budget for one in spending.budgets()] == [f"budget {number}" for number in range(5)]


def test_budgets_that_are_denied_leave_the_costs_and_the_old_budgets(
    aws: CostExplorer, spending: Spending, budget: Callable[..., None], later: Callable[..., date]
) -> None:
    today = later()
    aws.bill.append(line(str(today), "77"))
    budget("all of it", "1000", "10")
    chosen = settings(aws, budgets=True)
    spending.refresh(chosen)
    answer = aws.answer

    def denied(request: Request) -> Answer:
        if request.headers.get("x-amz-target", "").endswith("DescribeBudgets"):
            return Answer({"__type": "AccessDeniedException", "Message": "no"}, 400, {"Content-Type": "application/x-amz-json-1.1"})
        return answer(request)

    aws.answer = denied
    spending.minutes = 400
    assert spending.refresh(chosen).failure == ""
    assert spending.parts()[f"{ACCOUNT}/budgets"].message.endswith(
        "DescribeBudgets: AccessDeniedException: no (grant `budgets:ViewBudget`)"
    )
    assert [one.budget for one in spending.budgets()] == ["all of it"]
    assert spending.total() == Decimal(77)


def test_bucket_sizes_are_those_of_cloudwatch_and_metered_by_the_metric(
    aws: CostExplorer, spending: Spending, moto: str, later: Callable[..., date]
) -> None:
    today = later(0)
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
    s3 = boto3.client("s3", region_name="us-east-1", endpoint_url=moto)
    s3.create_bucket(Bucket="our-photos")
    s3.put_object(Bucket="our-photos", Key="a", Body=b"x" * 1234)
    for region, days_ago, size in (("eu-west-1", 2, 10.0), ("eu-west-1", 1, 3e15)):
        boto3.client("cloudwatch", region_name=region, endpoint_url=moto).put_metric_data(
            Namespace="AWS/S3",
            MetricData=[
                {
                    "MetricName": "BucketSizeBytes",
                    "Dimensions": [{"Name": "BucketName", "Value": "archive"}, {"Name": "StorageType", "Value": "GlacierStorage"}],
                    "Timestamp": midnight - timedelta(days=days_ago),
                    "Value": size,
                    "Unit": "Bytes",
                }
            ],
        )
    chosen = settings(aws, bucket_sizes=True, bucket_regions=["us-east-1", "eu-west-1"])
    assert spending.refresh(chosen).failure == ""
    assert {part.message for part in spending.parts().values() if part.state == "failed"} == set()
    labels = "aws_s3_bucket_size_bytes", "aws", ACCOUNT
    sizes = spending.figures()
    # What moto makes of the object's 1,234 bytes is its own.
    assert sizes[(*labels, "us-east-1", "our-photos", "StandardStorage")] > 0
    # The newest, to the byte.
    assert sizes[(*labels, "eu-west-1", "archive", "GlacierStorage")] == 3 * 10**15
    asked = aws.operations("GraniteServiceVersion20100801.")
    assert asked == ["ListMetrics", "GetMetricData"] * 2
    # A cent a thousand, for each list and for each metric; moto lists the bucket in both regions.
    metrics = asked.count("ListMetrics") + len(sizes)
    assert spending.state("aws")["request_cost"] == 2 * 10_000_000 + metrics * 10_000
    # Once a day.
    spending.minutes = 400
    spending.refresh(chosen)
    assert aws.operations("GraniteServiceVersion20100801.") == asked


def test_cloudwatch_that_fails_leaves_the_costs(aws: CostExplorer, spending: Spending, later: Callable[..., date]) -> None:
    today = later(0)
    aws.bill.append(line(str(today), "7"))
    for _ in range(3):
        aws.delay(0)
    aws.fail(403, {"__type": "AccessDenied", "message": "no"})
    assert spending.refresh(settings(aws, bucket_sizes=True)).failure == ""
    assert spending.parts()[f"{ACCOUNT}/buckets"].state == "failed"
    assert spending.total() == Decimal(7)


@pytest.mark.parametrize("operation", ["DescribeBudgets", "ListMetrics"])
def test_pages_that_go_round_in_circles_come_to_an_end(operation: str, aws: CostExplorer, spending: Spending) -> None:
    aws.bill.append(line("2026-11-19", "10"))
    answer = aws.answer
    asked = []

    def circle(request: Request) -> Answer:
        name = request.headers.get("x-amz-target", "").partition(".")[2]
        if name != operation:
            return answer(request)
        token = request.json().get("NextToken", "")
        asked.append(token)
        return Answer({"NextToken": {"": "a", "a": "b", "b": "a"}[token]}, headers={"Content-Type": "application/x-amz-json-1.1"})

    aws.answer = circle
    assert spending.refresh(settings(aws, budgets=operation == "DescribeBudgets", bucket_sizes=operation == "ListMetrics")).failure == ""
    assert spending.total() == Decimal(10)
    (failed,) = (part.message for part in spending.parts().values() if part.state == "failed")
    assert "the page 'a' comes after itself" in failed
    assert asked == ["", "a", "b"]


def test_what_nobody_has_thought_of_leaves_the_costs(aws: CostExplorer, spending: Spending, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    aws.bill.append(line("2026-11-19", "10"))
    monkeypatch.setattr(aws_account, "describe_budgets", fail)
    assert spending.refresh(settings(aws, budgets=True)).failure == ""
    assert spending.total() == Decimal(10)
    assert spending.parts()[f"{ACCOUNT}/budgets"].message == f"account {ACCOUNT}: budgets: RuntimeError: boom"


def test_a_forecast_that_cannot_be_read_is_not_kept(aws: CostExplorer, spending: Spending) -> None:
    aws.bill.extend(days_of("2026-11", 19, "10"))
    answer = aws.answer

    def broken(request: Request) -> Answer:
        given = answer(request)
        if request.headers.get("x-amz-target", "").endswith("GetCostForecast"):
            given.body["Total"] = {"Amount": "1", "Unit": None}
        return given

    aws.answer = broken
    spending.refresh(settings(aws, forecast=True))
    assert "GetCostForecast: the answer is not as AWS documents it" in spending.parts()[f"{ACCOUNT}/forecast"].message
    aws.answer = answer
    spending.minutes = 1
    spending.refresh(settings(aws, forecast=True))
    assert spending.figures()[FORECAST] == Decimal(19 * 10 + 11 * 10)
