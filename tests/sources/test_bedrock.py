"""Tokens of Bedrock from CloudWatch, by real boto3 from moto, through a door that throttles, hangs and breaks off.

Metrics and dimensions: https://docs.aws.amazon.com/bedrock/latest/userguide/monitoring-runtime-metrics.html.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import boto3
import httpx
import msgspec
import pytest
from botocore.stub import Stubber
from pydantic import ValidationError
from stand_in import Answer, StandIn, pass_on

from costwarden.model import to_nanos
from costwarden.sources import SourceError
from costwarden.sources.aws_session import AwsSession
from costwarden.sources.bedrock import METRICS, _CloudWatch
from costwarden.sources.requests import Requests
from costwarden.sources.settings import AwsAccess, BedrockSettings
from costwarden.sources.windows import Window

TODAY = date(2026, 11, 20)
YESTERDAY = TODAY - timedelta(days=1)
ACCOUNT = "123456789012"
"""As moto has it: whose the credentials are that it knows nothing of."""

SONNET = "anthropic.claude-sonnet-4-20250514-v1:0"
NOVA = "us.amazon.nova-pro-v1:0"


@pytest.fixture
def aws(moto: str, aws_credentials: None) -> Iterator[StandIn]:
    """The door to moto, which is empty."""
    httpx.post(f"{moto}/moto-api/reset")
    with StandIn(lambda request: pass_on(request, moto)) as server:
        yield server


def settings(aws, **options):
    return BedrockSettings(type="bedrock", access={"endpoint_url": aws.url}, **{"history_days": 3, "reread_days": 2, **options})


def publish(moto, day, model, region="us-east-1", hour=12, dimensions=(), **sums):
    """What Bedrock writes during a day; `dimensions` are those beside `ModelId`."""
    client = boto3.client("cloudwatch", region_name=region, endpoint_url=moto)
    named = [{"Name": "ModelId", "Value": model}, *({"Name": name, "Value": value} for name, value in dimensions)]
    when = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
    client.put_metric_data(
        Namespace="AWS/Bedrock",
        MetricData=[{"MetricName": name, "Dimensions": named, "Timestamp": when, "Value": value} for name, value in sums.items()],
    )
    client.close()


def tokens(spending):
    """(Day, model) -> input tokens."""
    return {(line["usage_date"], line["model"]): line["input_tokens"] for line in spending.reported()}


# --- what is read ----------------------------------------------------------------------------------------------------------------


def test_metrics_of_two_regions_become_reported_usage(spending, aws, moto, golden) -> None:
    publish(moto, YESTERDAY, SONNET, Invocations=3, InputTokenCount=100, OutputTokenCount=50)
    publish(moto, YESTERDAY, SONNET, hour=20, Invocations=1, InputTokenCount=10, CacheReadInputTokenCount=900, CacheWriteInputTokenCount=70)
    publish(moto, TODAY, NOVA, region="eu-west-1", Invocations=2, InputTokenCount=5, OutputTokenCount=6)
    publish(moto, TODAY, "amazon.nova-canvas-v1:0", Invocations=2, OutputImageCount=4)
    assert spending.refresh(settings(aws, regions=["us-east-1", "eu-west-1"])).failure == ""
    golden("bedrock.json", msgspec.json.format(msgspec.json.encode(spending.reported()), indent=1).decode() + "\n")


def test_input_tokens_include_what_was_read_from_the_cache_and_written_to_it(spending, aws, moto) -> None:
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=10, CacheReadInputTokenCount=900, CacheWriteInputTokenCount=70)
    spending.refresh(settings(aws))
    (line,) = spending.reported()
    assert line["input_tokens"] == 10 + 900 + 70
    assert (line["provider"], line["account_id"], line["model"]) == ("aws.bedrock", ACCOUNT, SONNET)
    assert spending.charges() == []


def test_what_has_more_dimensions_is_not_counted_twice(spending, aws, moto) -> None:
    publish(moto, TODAY, "amazon.nova-canvas-v1:0", Invocations=2, OutputImageCount=4)
    sizes = [("ImageSize", "1024x1024"), ("BucketedStepSize", "30")]
    publish(moto, TODAY, "amazon.nova-canvas-v1:0", dimensions=sizes, Invocations=2, OutputImageCount=4)
    spending.refresh(settings(aws))
    assert [(line["images"], line["requests"]) for line in spending.reported()] == [(4, 2)]


def test_days_are_those_of_utc(spending, aws, moto) -> None:
    publish(moto, YESTERDAY, SONNET, hour=23, Invocations=1, InputTokenCount=1)
    publish(moto, TODAY, SONNET, hour=0, Invocations=1, InputTokenCount=2)
    spending.refresh(settings(aws))
    assert tokens(spending) == {("2026-11-19", SONNET): 1, ("2026-11-20", SONNET): 2}


def test_late_data_and_a_restated_day_replace_the_day(spending, aws, moto) -> None:
    publish(moto, YESTERDAY, SONNET, Invocations=1, InputTokenCount=100)
    spending.refresh(settings(aws))
    publish(moto, YESTERDAY, SONNET, hour=23, Invocations=1, InputTokenCount=11)
    spending.refresh(settings(aws))
    assert tokens(spending) == {("2026-11-19", SONNET): 100 + 11}


def test_a_region_without_models_is_no_failure(spending, aws) -> None:
    assert spending.refresh(settings(aws)).failure == ""
    assert (spending.reported(), len(spending.parts())) == ([], 4)


def test_only_missing_days_and_those_to_be_read_again_are_taken(spending, aws, moto) -> None:
    for number in range(4):
        publish(moto, TODAY - timedelta(days=number), SONNET, Invocations=1, InputTokenCount=1)
    spending.refresh(settings(aws))
    for number in range(4):
        publish(moto, TODAY - timedelta(days=number), SONNET, Invocations=1, InputTokenCount=10)
    # The day before the two that are read again is known, and stays.
    spending.refresh(settings(aws))
    assert list(tokens(spending).values()) == [1, 11, 11, 11]


def test_a_day_in_between_that_cloudwatch_may_have_forgotten_is_left_alone(spending, aws, moto) -> None:
    for number in range(10):
        publish(moto, TODAY - timedelta(days=number), SONNET, Invocations=1, InputTokenCount=1)
    spending.refresh(settings(aws, history_days=5))
    httpx.post(f"{moto}/moto-api/reset")
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=2)
    # Nine days back are missing, so that all since are in the range that is asked for.
    spending.refresh(settings(aws, history_days=9))
    assert tokens(spending) == {(str(TODAY - timedelta(days=number)), SONNET): 1 for number in (5, 4, 3)} | {(str(TODAY), SONNET): 2}


def test_a_region_whose_usage_is_all_gone_keeps_it_until_that_is_accepted(spending, aws, moto) -> None:
    publish(moto, YESTERDAY, SONNET, Invocations=1, InputTokenCount=5)
    publish(moto, YESTERDAY, NOVA, region="eu-west-1", Invocations=1, InputTokenCount=6)
    regions = ["us-east-1", "eu-west-1"]
    spending.refresh(settings(aws, regions=regions))
    httpx.post(f"{moto}/moto-api/reset")
    publish(moto, YESTERDAY, NOVA, region="eu-west-1", Invocations=1, InputTokenCount=7)
    assert spending.refresh(settings(aws, regions=regions)).failure == ""
    assert tokens(spending) == {("2026-11-19", SONNET): 5, ("2026-11-19", NOVA): 7}
    assert spending.parts()[f"{ACCOUNT}/us-east-1"].message == (
        f"{ACCOUNT}/us-east-1: had usage from 2026-11-19 to 2026-11-19 and has none at all now; its figures stay "
        "(`accept_empty_answers: true` takes it)"
    )
    spending.refresh(settings(aws, regions=regions, accept_empty_answers=True))
    assert tokens(spending) == {("2026-11-19", NOVA): 7}


def test_models_that_cloudwatch_lists_no_more_can_be_named(spending, aws, moto, monkeypatch) -> None:
    publish(moto, TODAY, "old.model", InputTokenCount=7)
    # Nothing is listed: moto has no `Invocations` of it.
    spending.refresh(settings(aws))
    assert spending.reported() == []
    spending.refresh(settings(aws, models=["old.model"]))
    assert tokens(spending) == {("2026-11-20", "old.model"): 7}


def test_a_count_that_is_none_is_rejected_aloud(spending, aws, moto) -> None:
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=1.5)
    publish(moto, TODAY, NOVA, Invocations=1, InputTokenCount=3)
    spending.refresh(settings(aws))
    assert (spending.rejected(), tokens(spending)) == ({"bad_count": 1}, {("2026-11-20", NOVA): 3})


# --- what it costs ---------------------------------------------------------------------------------------------------------------


def test_requests_are_paid_by_the_metrics_in_them(spending, aws, moto) -> None:
    for number in range(100):
        publish(moto, TODAY, f"model-{number:03d}", Invocations=1, InputTokenCount=number + 1)
    spending.refresh(settings(aws))
    state = spending.state("bedrock")
    # Who am I; the list; 100 models × 6 metrics in requests of at most 500.
    assert state["requests"] == 1 + 1 + 2
    assert state["request_cost"] == (1 + 100 * len(METRICS)) * to_nanos(settings(aws).predicted_requests[0].usd_each)
    assert sum(line["input_tokens"] for line in spending.reported()) == sum(range(1, 101))


def test_past_the_daily_limit_nothing_is_asked_and_the_figures_stay(spending, aws, moto) -> None:
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=1)
    spending.refresh(settings(aws))
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=1)
    failure = spending.refresh(settings(aws, daily_request_limit_usd="0.0001")).failure
    assert "`daily_request_limit_usd`" in failure
    assert tokens(spending) == {("2026-11-20", SONNET): 1}


def test_the_requests_of_a_day_are_predicted() -> None:
    made = BedrockSettings(type="bedrock", regions=["us-east-1", "eu-west-1"], interval_seconds=3600)
    # 24 times in two regions, with six metrics for each model.
    assert [(found.a_day, found.a_day * found.usd_each) for found in made.predicted_requests] == [
        (48, made.predicted_requests[0].usd_each * 48),
        (288, made.predicted_requests[1].usd_each * 288),
    ]


# --- the pages of CloudWatch -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cloudwatch(aws):
    return _CloudWatch(AwsSession(AwsAccess(endpoint_url=aws.url), Requests()), "us-east-1")


def result(status, *values):
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    return {"MetricDataResults": [{"Id": "m0", "StatusCode": status, "Timestamps": [midnight for _ in values], "Values": [*values]}]}


def test_all_pages_are_read_and_added_up(cloudwatch) -> None:
    with Stubber(cloudwatch._client) as stub:
        stub.add_response("get_metric_data", {**result("PartialData", 2.0), "NextToken": "more"})
        stub.add_response("get_metric_data", result("Complete", 3.0))
        found = cloudwatch.sums([(SONNET, "InputTokenCount")], TODAY, TODAY)
        stub.assert_no_pending_responses()
    assert found == {(TODAY, SONNET): {"InputTokenCount": 5}}


def test_the_list_of_models_is_read_to_its_last_page(cloudwatch) -> None:
    pages = [[{"Dimensions": [{"Name": "ModelId", "Value": model}]}] for model in (SONNET, NOVA)]
    with Stubber(cloudwatch._client) as stub:
        stub.add_response("list_metrics", {"Metrics": pages[0], "NextToken": "more"})
        stub.add_response("list_metrics", {"Metrics": pages[1]})
        assert cloudwatch.models() == {SONNET, NOVA}


@pytest.mark.parametrize("status", ["InternalError", "Forbidden", "PartialData"])
def test_an_answer_that_is_not_whole_is_no_answer(cloudwatch, status) -> None:
    with Stubber(cloudwatch._client) as stub:
        stub.add_response("get_metric_data", result(status, 2.0))
        with pytest.raises(SourceError, match=f"InputTokenCount of {SONNET}: {status}"):
            cloudwatch.sums([(SONNET, "InputTokenCount")], TODAY, TODAY)


# --- when it goes wrong ----------------------------------------------------------------------------------------------------------


def refusal(code, message="no"):
    return f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>".encode()


def test_throttled_then_served(spending, aws, moto) -> None:
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=1)
    aws.delay(0)
    aws.fail(503)
    assert spending.refresh(settings(aws)).failure == ""
    assert tokens(spending) == {("2026-11-20", SONNET): 1}
    assert spending.state("bedrock")["requests"] == 3 + 1


@pytest.mark.parametrize("whole", [1, 2], ids=["list", "data"])
def test_half_an_answer_is_never_shown(spending, aws, moto, whole) -> None:
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=1)
    spending.refresh(settings(aws))
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=2)
    for _ in range(whole):
        aws.delay(0)
    aws.cut()
    assert "the answer breaks off after 20 of" in spending.refresh(settings(aws)).failure
    assert tokens(spending) == {("2026-11-20", SONNET): 1}
    assert spending.refresh(settings(aws)).failure == ""
    assert tokens(spending) == {("2026-11-20", SONNET): 3}


def test_one_region_that_fails_leaves_the_other_alone(spending, aws, moto) -> None:
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=1)
    publish(moto, TODAY, NOVA, region="eu-west-1", Invocations=1, InputTokenCount=2)
    both = settings(aws, regions=["us-east-1", "eu-west-1"])
    spending.refresh(both)
    publish(moto, TODAY, NOVA, region="eu-west-1", Invocations=1, InputTokenCount=2)
    passed_on = aws.answer
    aws.answer = lambda request: (
        Answer(status=403, body={"__type": "AccessDeniedException", "message": "no"})
        if "/us-east-1/monitoring/" in request.headers["authorization"]
        else passed_on(request)
    )
    assert spending.refresh(both).failure == ""
    assert tokens(spending) == {("2026-11-20", SONNET): 1, ("2026-11-20", NOVA): 4}
    assert spending.parts()[f"{ACCOUNT}/us-east-1"].state == "failed"
    aws.answer = passed_on
    spending.refresh(both)
    assert f"{ACCOUNT}/us-east-1" not in spending.parts()


def test_a_region_that_is_read_no_more_takes_its_usage_along(spending, aws, moto) -> None:
    publish(moto, TODAY, SONNET, Invocations=1, InputTokenCount=1)
    publish(moto, TODAY, NOVA, region="eu-west-1", Invocations=1, InputTokenCount=2)
    spending.refresh(settings(aws, regions=["us-east-1", "eu-west-1"]))
    spending.refresh(settings(aws, regions=["eu-west-1"]))
    assert tokens(spending) == {("2026-11-20", NOVA): 2}


def test_a_missing_right_is_named(spending, aws) -> None:
    aws.delay(0)
    aws.fail(403, {"__type": "AccessDeniedException", "message": "no"})
    failure = spending.refresh(settings(aws)).failure
    assert "AccessDenied" in failure
    assert "cloudwatch:ListMetrics" in failure


def test_missing_credentials_are_told(spending, aws, monkeypatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "no AWS credentials were found" in spending.refresh(settings(aws)).failure


def test_close_ends_a_request_that_hangs(spending, aws, ends_on_close) -> None:
    aws.hang()
    source = spending.open(settings(aws)).source
    assert ends_on_close(source, lambda: list(source.fetch({}, Window(TODAY, TODAY, TODAY))), aws) == "ended while AWS was asked"


# --- settings and `source test` --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"reread_days": 14}, {"regions": ["us-east-1", "us-east-1"]}, {"regions": ["US"]}, {"models": [""]}])
def test_settings_that_would_lose_or_double_usage_are_refused(options) -> None:
    with pytest.raises(ValidationError):
        BedrockSettings(type="bedrock", **options)


def test_source_test_lists_the_models_and_the_calls_of_one(spending, aws, moto, today) -> None:
    yesterday = today - timedelta(days=1)
    publish(moto, yesterday, SONNET, Invocations=5)
    said = list(spending.open(settings(aws)).source.probe())
    assert said == [f"us-east-1: models called in the last two weeks: {SONNET}", f"{SONNET}: calls on {yesterday}: 5"]


def test_source_test_that_finds_nothing_asks_whether_account_and_region_are_the_right_ones(spending, aws) -> None:
    assert list(spending.open(settings(aws)).source.probe()) == [
        "us-east-1: models called in the last two weeks: none; is it the right account, and are models called in us-east-1 (`regions`)?"
    ]
