"""`values.yaml`: your own receivers and addresses, from which routes and rules are rendered.

Everything here ends up in files that Alertmanager and Prometheus read on another machine, some of it in Go templates. So each text has a
shape that means the same in YAML, in PromQL and in a template, and secrets are named by absolute path, never written down.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from costwarden.artifacts.receivers import Email, Pagerduty, Receiver, Slack
from costwarden.artifacts.shapes import (
    BaseAddress,
    Clock,
    Duration,
    GroupLabels,
    HostPort,
    Job,
    Labels,
    LabelValue,
    Mailbox,
    Name,
    Receivers,
    SecretFile,
    TimeZone,
    User,
    seconds,
)
from costwarden.settings import Settings
from costwarden.strict_yaml import YamlError, read_yaml, sentences

SEVERITIES = ("critical", "warning", "info")
Severity = Literal["critical", "warning", "info"]

PLAYBOOKS = "costwarden"
"""The receiver that every alert with an `action` goes to."""


_OF_THE_ALERT = ("alertname", "severity", "category", "team", "action")


class Prometheus(Settings):
    """The Prometheus whose alerts these are."""

    job: Job = "costwarden"
    """`job_name` under which it scrapes costwarden; the rules look for it."""
    external_labels: Labels = ()
    """Labels by which several Prometheus servers of one Alertmanager differ, as `cluster`: an alert of one holds back none of another's."""

    @field_validator("external_labels")
    @classmethod
    def _of_the_server(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        for label in labels:
            if label in _OF_THE_ALERT:
                raise ValueError(f"`{label}` is what an alert says of itself: compared by it, hardly any would hold back another")
        return labels


class Costwarden(Settings):
    """Where Alertmanager finds costwarden."""

    url: BaseAddress = "http://127.0.0.1:3010"
    """Address of its server."""
    token_file: SecretFile = "/etc/alertmanager/secrets/costwarden-token"  # noqa: S105 (a path)
    """File with a token of the role `alertmanager`."""
    ca_file: SecretFile | None = None
    """Certificate of the authority that signed its certificate, where that is your own."""


class Smtp(Settings):
    """The mail server."""

    smarthost: HostPort = "smtp.example.com:587"
    """Host and port."""
    sender: Mailbox = "costwarden@example.com"
    """From whom the mails are."""
    username: User | None = None
    """User, where the server asks for one."""
    password_file: SecretFile | None = None
    """File with the user's password."""
    require_tls: bool = True
    """Whether to send nothing without TLS."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("needs both `username` and `password_file`, or neither")
        return self


class BySeverity(Settings):
    """Receivers for each severity; all of them are told."""

    critical: Receivers = ()
    warning: Receivers = ()
    info: Receivers = ()

    def of(self, severity: str) -> Receivers:
        """Those of a severity."""
        found: Receivers = getattr(self, severity)
        return found


class Team(BySeverity):
    """Receivers of a team."""

    in_addition: bool = False
    """`false`: they are told in place of those of the severity; `true`: both are. A severity without receivers here goes its usual way."""


class Routes(Settings):
    """Who hears of what."""

    severity: BySeverity = BySeverity(critical=("finops-pager",), warning=("finops-email",), info=("finops-info",))
    """Of costwarden's alerts (`category: finops`)."""
    team: dict[LabelValue, Team] = {}
    """Of costwarden's alerts with this `team`."""
    category: dict[LabelValue, BySeverity] = {}
    """Of alerts with another category: your own, in the same Alertmanager. A severity without receivers here goes to `otherwise`."""
    otherwise: Name = "finops-email"
    """The receiver of everything else."""

    @field_validator("severity")
    @classmethod
    def _somebody(cls, told: BySeverity) -> BySeverity:
        for severity in SEVERITIES:
            if not told.of(severity):
                raise ValueError(f"`{severity}` names no receiver: nobody would be told")
        return told

    @field_validator("category")
    @classmethod
    def _not_ours(cls, categories: dict[str, BySeverity]) -> dict[str, BySeverity]:
        if "finops" in categories:
            raise ValueError("`finops` is the category of costwarden's own alerts: use `severity` and `team`")
        return categories


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

    by: Labels = Field(default=("alertname", "category", "budget", "guardrail", "tenant_id"), min_length=1)
    """Without `budget`, `guardrail` and `tenant_id`, a second budget would wait for the group_interval of the first, and be part of an
    incident that somebody has acknowledged."""
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


DEFAULT_RECEIVERS: dict[str, Receiver] = {
    "finops-email": Receiver(email=(Email(to=("finops@example.com",)),)),
    "finops-pager": Receiver(pagerduty=(Pagerduty(routing_key_file="/etc/alertmanager/secrets/pagerduty-key"),)),
    "finops-info": Receiver(slack=(Slack(api_url_file="/etc/alertmanager/secrets/slack-url", channel="#finops"),)),
    "finops-lead": Receiver(email=(Email(to=("eng-lead@example.com",)),)),
    "finops-executive": Receiver(email=(Email(to=("cfo@example.com", "cto@example.com")),)),
}

# The lead hears of each alert at its time. The executive gets one mail of a kind of alert, however many budgets it is about.
DEFAULT_ESCALATION = (
    Stage(stage="lead", after="30m", receivers=("finops-lead",), repeat_interval="4h"),
    Stage(
        stage="executive",
        after="1h",
        receivers=("finops-executive",),
        group_by=("alertname", "category"),
        group_interval="1h",
    ),
)


class Values(Settings):
    """The whole file; what it leaves out is as it ships."""

    grafana_url: BaseAddress = "https://grafana.example.com"
    """Where the dashboards are."""
    runbook_url: BaseAddress = "https://docs.example.com/costwarden"
    """Where your people read `alerts/README.md`."""
    prometheus: Prometheus = Prometheus()
    costwarden: Costwarden = Costwarden()
    smtp: Smtp = Smtp(username="costwarden", password_file="/etc/alertmanager/secrets/smtp-password")  # noqa: S106 (a path)
    receivers: dict[Name, Receiver] = DEFAULT_RECEIVERS
    """By name; those given here take the place of all that ship."""
    routes: Routes = Routes()
    escalation: tuple[Stage, ...] = DEFAULT_ESCALATION
    """Of critical alerts; `[]` has none."""
    grouping: Grouping = Grouping()
    mute_times: tuple[MuteTime, ...] = ()

    @field_validator("receivers")
    @classmethod
    def _reserved(cls, receivers: dict[str, Receiver]) -> dict[str, Receiver]:
        if PLAYBOOKS in receivers:
            raise ValueError(f"`{PLAYBOOKS}` is the receiver that starts playbooks: its address stands in the section `costwarden`")
        return receivers

    @field_validator("mute_times")
    @classmethod
    def _distinct(cls, mutes: tuple[MuteTime, ...]) -> tuple[MuteTime, ...]:
        names = [mute.name for mute in mutes]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the name `{name}` is given twice")
        return mutes

    @model_validator(mode="after")
    def _known_receivers(self) -> Self:
        used = [name for _, name in self._uses()]
        for place, name in self._uses():
            if name not in self.receivers:
                known = ", ".join(f"`{known}`" for known in self.receivers)
                raise ValueError(f"`{place}`: `{name}` is none of `receivers`; these are {known}")
        for name in self.receivers:
            if name not in used:
                raise ValueError(f"`receivers`: no route leads to `{name}`: name it under `routes` or `escalation`, or leave it out")
        return self

    @model_validator(mode="after")
    def _told_without_costwarden(self) -> Self:
        told = {"routes.severity": self.routes.severity.critical}
        # CostwardenDown itself is of the team `finops`.
        if (finops := self.routes.team.get("finops")) and finops.critical and not finops.in_addition:
            told["routes.team.finops"] = finops.critical
        for place, names in told.items():
            if all(self.receivers[name].only_through_costwarden for name in names):
                raise ValueError(
                    f"`{place}.critical`: costwarden's notifier cannot tell that costwarden is down: name a receiver with `email`, "
                    "`slack`, `pagerduty` or `webhook` beside it"
                )
        return self

    @model_validator(mode="after")
    def _told_once(self) -> Self:
        # Alertmanager remembers by route and receiver what it has sent: a stage of people who know already would send nothing.
        for stage in self.escalation:
            for name in stage.receivers:
                if [used for _, used in self._uses()].count(name) > 1:
                    raise ValueError(f"`escalation`: `{name}` is told elsewhere too: give the stage `{stage.stage}` a receiver of its own")
        for name, team in self.routes.team.items():
            for severity in SEVERITIES:
                if team.in_addition and (twice := set(team.of(severity)) & set(self.routes.severity.of(severity))):
                    raise ValueError(f"`routes.team.{name}`: `{min(twice)}` is told of `{severity}` already: leave it out there")
        return self

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        waits = [seconds(stage.after) for stage in self.escalation]
        if waits != sorted(set(waits)):
            raise ValueError("`escalation`: each stage must come later than the one before it")
        return self

    def _uses(self) -> Iterator[tuple[str, str]]:
        """Every mention of a receiver: where it stands, and its name."""
        yield "routes.otherwise", self.routes.otherwise
        branches: dict[str, BySeverity] = {"routes.severity": self.routes.severity}
        branches |= {f"routes.team.{name}": team for name, team in self.routes.team.items()}
        branches |= {f"routes.category.{name}": category for name, category in self.routes.category.items()}
        for place, branch in branches.items():
            for severity in SEVERITIES:
                yield from ((f"{place}.{severity}", name) for name in branch.of(severity))
        for position, stage in enumerate(self.escalation):
            yield from ((f"escalation[{position}].receivers", name) for name in stage.receivers)


class ValuesError(Exception):
    """`values.yaml` is not usable; the message has a line for each mistake: file, key, value, rule."""


def load_values(path: Path) -> Values:
    """What `path` says. Raises `ValuesError`."""
    try:
        content, _ = read_yaml(path)
    except YamlError as error:
        raise ValuesError(str(error)) from None
    try:
        return Values.model_validate({} if content is None else content)
    except ValidationError as error:
        raise ValuesError("\n".join(f"{path}: {sentence}" for sentence in sentences(error, Values))) from None
