"""`costwarden cloudwatch`: the dashboard and the alarms of document 4, planned, applied, and then as they should be.

Shapes: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html and
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
"""

import json
from decimal import Decimal

import pytest
from pydantic import ValidationError

from costwarden.model import to_nanos
from costwarden.sinks.cloudwatch_artifacts import alarms, apply_change, dashboard_body, find_changes, left_over
from costwarden.sinks.settings import CloudwatchSettings

TOPIC = "arn:aws:sns:us-east-1:123456789012:visualneurons-cost-alerts"


@pytest.fixture
def run(costwarden, moto: str, cloudwatch: object):
    """`run("plan", sns_topic_arn=…)`: the command with this section."""
    return lambda *arguments, **section: costwarden("cloudwatch", *arguments, cloudwatch={"access": {"endpoint_url": moto}, **section})


def test_the_dashboard_is_that_of_the_document_with_what_was_wrong_mended(settings, golden):
    golden("dashboard.json", json.dumps(dashboard_body(settings()), indent=2) + "\n")


def test_the_alarms_are_those_of_the_document(settings):
    found = {alarm["AlarmName"]: alarm for alarm in alarms(settings(sns_topic_arn=TOPIC))}
    assert {name: (alarm["Threshold"], alarm["Period"]) for name, alarm in found.items()} == {
        "HourlyCostAlarm": (50.0, 3600),
        "DailyCostAlarm": (500.0, 86_400),
    }
    for alarm in found.values():
        assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("VisualNeurons/AI", "OperationCost", "Sum")
        # The metric without dimensions, which the sink sends beside the one with.
        assert alarm["Dimensions"] == []
        assert (alarm["ComparisonOperator"], alarm["EvaluationPeriods"]) == ("GreaterThanThreshold", 1)
        assert (alarm["TreatMissingData"], alarm["AlarmActions"]) == ("notBreaching", [TOPIC])


def test_a_plan_writes_nothing_and_what_is_applied_needs_no_second_plan(settings, cloudwatch):
    wanted = settings(sns_topic_arn=TOPIC)
    changes = find_changes(cloudwatch, wanted)
    assert [(change.kind, change.name, change.is_new) for change in changes] == [
        ("dashboard", "AI-Costs", True),
        ("alarm", "HourlyCostAlarm", True),
        ("alarm", "DailyCostAlarm", True),
    ]
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []
    assert cloudwatch.list_dashboards()["DashboardEntries"] == []
    for change in changes:
        apply_change(cloudwatch, wanted, change)
    assert find_changes(cloudwatch, wanted) == []
    there = {alarm["AlarmName"]: alarm for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    assert there["HourlyCostAlarm"]["AlarmActions"] == [TOPIC]
    assert json.loads(cloudwatch.get_dashboard(DashboardName="AI-Costs")["DashboardBody"]) == dashboard_body(wanted)


def test_a_plan_names_what_differs_and_only_that(settings, cloudwatch):
    first, second = settings(), settings(hourly_alarm_usd=80)
    for change in find_changes(cloudwatch, first):
        apply_change(cloudwatch, first, change)
    (change,) = find_changes(cloudwatch, second)
    assert (change.name, change.is_new) == ("HourlyCostAlarm", False)
    assert change.fields == {
        "AlarmDescription": ("Alert when hourly AI costs exceed $50", "Alert when hourly AI costs exceed $80"),
        "Threshold": (50.0, 80.0),
    }


def test_an_alarm_that_is_not_configured_any_more_is_named_and_stays(settings, cloudwatch):
    both, one = settings(), settings(daily_alarm_usd=None)
    for change in find_changes(cloudwatch, both):
        apply_change(cloudwatch, both, change)
    assert find_changes(cloudwatch, one) == []
    assert left_over(cloudwatch, one) == ["DailyCostAlarm"]
    assert len(cloudwatch.describe_alarms()["MetricAlarms"]) == 2


def test_the_commands_plan_by_default_and_apply_when_told(run, cloudwatch):
    planned = run("plan", sns_topic_arn=TOPIC)
    assert planned.exit_code == 0, planned.output
    assert [line for line in planned.output.splitlines() if line.startswith("+")] == [
        "+ dashboard AI-Costs",
        "+ alarm HourlyCostAlarm",
        "+ alarm DailyCostAlarm",
    ]
    assert "`costwarden cloudwatch apply --yes` does it" in run("apply", sns_topic_arn=TOPIC).output
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []
    applied = run("apply", "--yes", sns_topic_arn=TOPIC)
    assert "alarm DailyCostAlarm: made" in applied.output
    assert run("plan", sns_topic_arn=TOPIC).output == "dashboard and alarms are as they are configured\n"
    changed = run("apply", "--yes", sns_topic_arn=TOPIC, daily_alarm_usd=750).output
    assert "~ alarm DailyCostAlarm" in changed
    assert "    Threshold: 500.0 -> 750.0" in changed
    assert json.loads(run("plan", "--format", "json", sns_topic_arn=TOPIC, daily_alarm_usd=750).output) == {
        "changes": [],
        "not_configured": [],
    }


def test_without_credentials_the_command_says_so(run, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    result = run("plan")
    assert result.exit_code == 1
    assert "no AWS credentials were found" in result.output


def test_the_status_names_what_was_sent_and_what_the_metrics_cost(run, metered, settings, cloudwatch):
    metered.call(1)
    sink = metered.sink(settings())
    metered.call(1_000_000_000)
    metered.call(1_000_000_000, provider="stability", operation="generate")
    sink.send()
    metered.ledger.close()
    result = run("status", "--format", "json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.output)
    assert (content["sent"], content["not_sent"], content["requests"]) == (2 * 2 + 1, 0, 1)
    assert to_nanos(str(content["request_cost_usd"])) == 10_000
    # Two operations with two metrics each, two providers, and all: 2 × 2 + 2 + 1 = 7 at $0.30.
    assert (content["metrics_at_most"], content["metrics_usd_a_month_at_most"]) == (7, 2.1)


def test_without_a_section_the_command_says_so(costwarden):
    result = costwarden("cloudwatch", "plan")
    assert (result.exit_code, "the section `cloudwatch` is missing" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"namespace": "AWS/Billing"}, "must not begin with `AWS/`"),
        ({"sns_topic_arn": "visualneurons-cost-alerts"}, "should match pattern"),
        ({"hourly_alarm_usd": 0}, "greater than 0"),
        ({"interval_seconds": 1}, "greater than or equal to 10"),
        ({"dashboard": "a b"}, "should match pattern"),
        ({"name_space": "x"}, "Extra inputs"),
    ],
)
def test_what_cloudwatch_would_not_take_is_refused_beforehand(section, sentence):
    with pytest.raises(ValidationError, match=sentence.replace("(", r"\(")):
        CloudwatchSettings.model_validate(section)


def test_the_requests_of_a_day_are_known_beforehand():
    (predicted,) = CloudwatchSettings(interval_seconds=60).predicted_requests
    assert (predicted.a_day, predicted.a_day * predicted.usd_each) == (1440, Decimal("0.0144"))
    assert CloudwatchSettings(enabled=False).predicted_requests == ()
