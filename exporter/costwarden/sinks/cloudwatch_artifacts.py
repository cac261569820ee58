"""The dashboard and the alarms on what the sink sends: as they should be, as they are, and what is between the two."""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.sinks.metric_data import METRIC
from costwarden.sinks.settings import CloudwatchSettings
from costwarden.sources.aws_session import in_words

# What a metric alarm of ours says; what else it has (tags, actions on other states) is left alone where it is there.
_ALARM_KEYS = (
    "AlarmDescription",
    "ActionsEnabled",
    "AlarmActions",
    "Namespace",
    "MetricName",
    "Dimensions",
    "Statistic",
    "Period",
    "EvaluationPeriods",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to be made or changed. `fields` are those that differ: name -> (now, then)."""

    kind: str
    """`dashboard` or `alarm`."""
    name: str
    is_new: bool
    fields: Mapping[str, tuple[Any, Any]]


def dashboard_body(settings: CloudwatchSettings) -> dict[str, Any]:
    """The dashboard: cost by the hour, its rate, and cost by provider.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
    """
    everything = [settings.namespace, METRIC]
    # The metric with the one dimension Provider and no other; new providers appear by themselves.
    by_provider = f"SEARCH('{{{_quoted(settings.namespace)},Provider}} MetricName=\"{METRIC}\"', 'Sum', 3600)"
    dollars = {"left": {"label": "Cost ($)", "showUnits": False}}
    widgets = [
        {"title": "Hourly AI Costs ($)", "metrics": [everything], "stat": "Sum", "period": 3600, "yAxis": dollars},
        {
            "title": "Cost Rate ($/hour)",
            # RATE() would be how fast the sums change; what an hour at this pace costs is the sum of a period by its share of an hour.
            "metrics": [
                [*everything, {"id": "m1", "stat": "Sum", "visible": False}],
                [{"expression": "m1 * 3600 / PERIOD(m1)", "label": "Cost Rate", "id": "e1"}],
            ],
            "stat": "Sum",
            "period": 300,
            "yAxis": {"left": {"label": "$/hour", "showUnits": False}},
        },
        {
            "title": "Cost by Provider",
            "metrics": [[{"expression": by_provider, "label": "", "id": "e1"}]],
            "stat": "Sum",
            "period": 3600,
            "yAxis": dollars,
        },
    ]
    return {
        "widgets": [
            {
                "type": "metric",
                "x": 8 * number,
                "y": 0,
                "width": 8,
                "height": 6,
                "properties": {"region": settings.access.region, "view": "timeSeries", **properties},
            }
            for number, properties in enumerate(widgets)
        ]
    }


def alarms(settings: CloudwatchSettings) -> Iterator[dict[str, Any]]:
    """The alarms, as PutMetricAlarm has them. They read the metric without dimensions."""
    for name, seconds, threshold, words in (
        ("HourlyCostAlarm", 3600, settings.hourly_alarm_usd, "hourly"),
        ("DailyCostAlarm", 86_400, settings.daily_alarm_usd, "daily"),
    ):
        if threshold is None:
            continue
        yield {
            "AlarmName": f"{settings.alarm_prefix}{name}",
            "AlarmDescription": f"Alert when {words} AI costs exceed ${_plain(threshold)}",
            "ActionsEnabled": True,
            "AlarmActions": [settings.sns_topic_arn] if settings.sns_topic_arn else [],
            "Namespace": settings.namespace,
            "MetricName": METRIC,
            "Dimensions": [],
            "Statistic": "Sum",
            "Period": seconds,
            "EvaluationPeriods": 1,
            "Threshold": float(threshold),
            "ComparisonOperator": "GreaterThanThreshold",
            # An hour without a call sends nothing, and costs nothing.
            "TreatMissingData": "notBreaching",
        }


def find_changes(client: Any, settings: CloudwatchSettings) -> list[Change]:
    """What CloudWatch has otherwise than it should be. `client` is boto3's. Raises `SourceError`."""
    found = []
    wanted, there = dashboard_body(settings), _dashboard(client, settings.dashboard)
    if there != wanted:
        found.append(Change(kind="dashboard", name=settings.dashboard, is_new=there is None, fields={"body": (there, wanted)}))
    names = [f"{settings.alarm_prefix}{name}" for name in ("HourlyCostAlarm", "DailyCostAlarm")]
    described = in_words(lambda: client.describe_alarms(AlarmNames=names, AlarmTypes=["MetricAlarm"]))
    present = {alarm["AlarmName"]: alarm for alarm in described["MetricAlarms"]}
    for alarm in alarms(settings):
        now = present.get(alarm["AlarmName"])
        fields = {key: (now.get(key) if now else None, alarm[key]) for key in _ALARM_KEYS if now is None or now.get(key) != alarm[key]}
        if fields:
            found.append(Change(kind="alarm", name=alarm["AlarmName"], is_new=now is None, fields=fields))
    return found


def left_over(client: Any, settings: CloudwatchSettings) -> list[str]:
    """Alarms of ours that are there and not configured any more; nothing is ever deleted."""
    wanted = {alarm["AlarmName"] for alarm in alarms(settings)}
    names = {f"{settings.alarm_prefix}{name}" for name in ("HourlyCostAlarm", "DailyCostAlarm")} - wanted
    if not names:
        return []
    described = in_words(lambda: client.describe_alarms(AlarmNames=sorted(names), AlarmTypes=["MetricAlarm"]))
    return [alarm["AlarmName"] for alarm in described["MetricAlarms"]]


def apply_change(client: Any, settings: CloudwatchSettings, change: Change) -> list[str]:
    """Make it as it should be; gives what CloudWatch has to say about a dashboard that it took. Raises `SourceError`."""
    if change.kind == "dashboard":
        body = json.dumps(dashboard_body(settings))
        answer = in_words(lambda: client.put_dashboard(DashboardName=change.name, DashboardBody=body))
        return [f"{message.get('DataPath')}: {message.get('Message')}" for message in answer.get("DashboardValidationMessages", [])]
    alarm = next(alarm for alarm in alarms(settings) if alarm["AlarmName"] == change.name)
    in_words(lambda: client.put_metric_alarm(**alarm))
    return []


def _dashboard(client: Any, name: str) -> Any:
    from botocore.exceptions import ClientError

    def get() -> Any:
        try:
            return json.loads(client.get_dashboard(DashboardName=name)["DashboardBody"])
        except ClientError as error:
            # Both spellings are in use, by protocol: ResourceNotFound, DashboardNotFoundError.
            if "NotFound" in str(error.response.get("Error", {}).get("Code", "")):
                return None
            raise

    return in_words(get)


def _quoted(namespace: str) -> str:
    # Within SEARCH a namespace with other characters than letters and digits stands in quotes.
    return f'"{namespace}"'


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
