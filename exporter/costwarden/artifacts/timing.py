"""The sections `escalation`, `grouping` and `mute_times` of `values.yaml`: when somebody is told, and what of in one message."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from costwarden.artifacts.shapes import (
    AlertName,
    AlertNames,
    Clock,
    Duration,
    GroupLabels,
    Labels,
    LabelValue,
    LabelValues,
    Name,
    Receivers,
    TimeZone,
    seconds,
)
from costwarden.settings import Settings

SEVERITIES = ("critical", "warning", "info")
Severity = Literal["critical", "warning", "info"]


def _check_intervals(group_interval: str, repeat_interval: str) -> None:
    # https://prometheus.io/docs/alerting/latest/configuration/#route: beyond --data.retention it repeats all the same.
    if seconds(repeat_interval) > 120 * 3600:
        raise ValueError("`repeat_interval` must be at most 5d: Alertmanager forgets after 120 h what it has sent")
    if seconds(group_interval) == 0 or seconds(repeat_interval) == 0:
        raise ValueError("`group_interval` and `repeat_interval` must be above 0")


class Stage(Settings):
    """Who is told of a critical alert that is neither over nor silenced after a while."""

    stage: Name
    """What it is called in the message: `lead`."""
    after: Duration
    """How long it must have fired."""
    receivers: Receivers = Field(min_length=1)
    """Who is told then; receivers of this stage alone."""
    group_by: GroupLabels = Field(default=("...",), min_length=1)
    """What becomes one message. `[...]`: each alert is told at its own time. Fewer labels: fewer messages, and an alert that joins a
    group that has waited already is told before its time."""
    group_interval: Duration | None = None
    """Least time between two messages of a group; the one of critical alerts unless given."""
    repeat_interval: Duration = "1d"
    """How often it is said again while nothing changes."""
    alerts: AlertNames = ()
    """Only of the alerts with these names; of all where none is named."""
    not_alerts: AlertNames = ()
    """Of all alerts but these."""
    teams: LabelValues = ()
    """Only of alerts with one of these for a `team`; of all where none is named."""
    not_teams: LabelValues = ()
    """Of the alerts of all teams but these."""
    category: LabelValue = "finops"
    """Of alerts with this `category`; another one than `finops` is of your own alerts."""

    @field_validator("after")
    @classmethod
    def _some_time(cls, after: str) -> str:
        if seconds(after) == 0:
            raise ValueError("must be above 0: who is told at once stands in `routes.severity.critical`")
        return after

    @field_validator("group_by")
    @classmethod
    def _all_or_some(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if "..." in labels and len(labels) > 1:
            raise ValueError("`...` already means every label: leave out the others")
        return labels

    @model_validator(mode="after")
    def _some_or_all_but_some(self) -> Self:
        for some, but in (("alerts", "not_alerts"), ("teams", "not_teams")):
            if getattr(self, some) and getattr(self, but):
                raise ValueError(f"`{some}` already leaves out every other: leave out `{but}`")
        return self

    @property
    def of(self) -> tuple[object, ...]:
        """Which alerts it is of: the same for stages that follow each other."""
        return self.category, self.alerts, self.not_alerts, self.teams, self.not_teams

    @model_validator(mode="after")
    def _remembered(self) -> Self:
        _check_intervals(self.group_interval or self.after, self.repeat_interval)
        return self


class Timing(Settings):
    """Alertmanager's three times of a group."""

    group_wait: Duration
    """From a group's first alert to its first message."""
    group_interval: Duration
    """Least time between two messages of a group."""
    repeat_interval: Duration
    """How often a message is repeated while nothing changes."""
    by: Labels = ()
    """What becomes one message, in place of `grouping.by`."""

    @model_validator(mode="after")
    def _remembered(self) -> Self:
        _check_intervals(self.group_interval, self.repeat_interval)
        return self


class Grouping(Settings):
    """What becomes one message, and when."""

    by: Labels = Field(default=("alertname", "category", "budget", "guardrail", "tenant_id", "playbook", "receiver"), min_length=1)
    """Without what an alert is about, a second budget (playbook, receiver of the notifier) would wait for the group_interval of the first,
    and be part of an incident that somebody has acknowledged."""
    critical: Timing = Timing(group_wait="10s", group_interval="5m", repeat_interval="1h")
    warning: Timing = Timing(group_wait="30s", group_interval="5m", repeat_interval="4h")
    info: Timing = Timing(group_wait="10m", group_interval="5m", repeat_interval="4d", by=("alertname", "category"))
    """One message for each kind of alert: Slack takes one message a second, and what it refuses for that Alertmanager does not send again;
    a thousand tenants may reach a threshold at once."""

    def of(self, severity: str) -> Timing:
        """The times of a severity."""
        found: Timing = getattr(self, severity)
        return found


Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class MuteTime(Settings):
    """When a severity is not told of. What still fires afterwards is told then."""

    name: Name
    """`nights`."""
    severities: tuple[Severity, ...] = Field(min_length=1)
    """Of which alerts."""
    even_critical: bool = False
    """Must be said for `critical` to be among them; escalation then waits, too."""
    weekdays: tuple[Day, ...] = ()
    """On these days; on all where none is named."""
    start: Clock | None = None
    """From this time of day, as 20:00."""
    end: Clock | None = None
    """To this time of day; before `start`, it is that of the next morning."""
    location: TimeZone = "UTC"
    """Time zone that days and times are of, as Europe/Berlin."""

    @model_validator(mode="after")
    def _some_of_the_time(self) -> Self:
        if "critical" in self.severities and not self.even_critical:
            raise ValueError("`critical` among `severities` mutes pages: say `even_critical: true` if that is meant")
        if (self.start is None) != (self.end is None):
            raise ValueError("needs both `start` and `end`, or neither")
        if self.start is not None and self.start == self.end:
            raise ValueError("`start` and `end` are the same time: leave out both for the whole day")
        if self.start is None and not self.weekdays:
            raise ValueError("mutes always: name `weekdays`, or `start` and `end`")
        return self


class Heartbeat(Settings):
    """Who notices that Prometheus or Alertmanager say nothing at all: a service that calls people when it is *not* told."""

    receivers: Receivers = Field(min_length=1)
    """Told again and again while all is well; receivers of this alone."""
    alert: AlertName = "Watchdog"
    """An alert that always fires, by a rule of yours (`vector(1)`) or of another package; of none of the other routes."""
    every: Duration = "5m"
    """How often; the service should call after two or three times as long."""

    @field_validator("every")
    @classmethod
    def _now_and_then(cls, every: str) -> str:
        if seconds(every) < 10:
            raise ValueError("must be at least 10s")
        return every
