"""`values.yaml`: your own receivers and addresses, from which routes and rules are rendered.

Everything here ends up in files that Alertmanager and Prometheus read on another machine, some of it in Go templates. So each text has a
shape that means the same in YAML, in PromQL and in a template, and secrets are named by absolute path, never written down.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from pydantic import ValidationError, field_validator, model_validator

from costwarden.artifacts.receivers import Email, Pagerduty, Receiver, Slack
from costwarden.artifacts.shapes import (
    AlertName,
    BaseAddress,
    HostPort,
    Job,
    Labels,
    LabelValue,
    Mailbox,
    Name,
    Receivers,
    SecretFile,
    User,
    seconds,
)
from costwarden.artifacts.timing import SEVERITIES, Grouping, Heartbeat, MuteTime, Stage
from costwarden.settings import Settings
from costwarden.strict_yaml import YamlError, read_yaml, sentences

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


class People(BySeverity):
    """Receivers of a tenant, an alert or a team."""

    in_addition: bool = False
    """`false`: they are told in place of those of the severity; `true`: both are. A severity without receivers here goes its usual way."""


class Routes(Settings):
    """Who hears of what."""

    severity: BySeverity = BySeverity(critical=("finops-pager",), warning=("finops-email",), info=("finops-info",))
    """Of costwarden's alerts (`category: finops`)."""
    tenant: dict[LabelValue, People] = {}
    """Of costwarden's alerts about this tenant (`tenant_id`)."""
    alert: dict[AlertName, People] = {}
    """Of costwarden's alerts of this name."""
    team: dict[LabelValue, People] = {}
    """Of costwarden's alerts with this `team`."""
    category: dict[LabelValue, BySeverity] = {}
    """Of alerts with another category: your own, in the same Alertmanager. A severity without receivers here goes to `otherwise`."""
    otherwise: Name = "finops-email"
    """The receiver of everything else."""

    @property
    def people(self) -> Mapping[str, Mapping[str, People]]:
        """Those of `tenant`, `alert` and `team`, in the order in which an alert comes past them."""
        return {"tenant": self.tenant, "alert": self.alert, "team": self.team}

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
    heartbeat: Heartbeat | None = None
    """Who notices where nothing is told any more; nobody unless given."""

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
        for kind, name in (("alert", "CostwardenDown"), ("team", "finops")):
            if (people := self.routes.people[kind].get(name)) and people.critical and not people.in_addition:
                told[f"routes.{kind}.{name}"] = people.critical
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
        for name in self.heartbeat.receivers if self.heartbeat else ():
            if [used for _, used in self._uses()].count(name) > 1:
                raise ValueError(f"`heartbeat`: `{name}` is told elsewhere too: people would hear of it without end")
            # An end would be one beat more, at the very time at which there should be none.
            if self.receivers[name].send_resolved:
                raise ValueError(f"`heartbeat`: `{name}` needs `send_resolved: false`: the end of the alert is no sign of life")
            # And what it did let through would be silent with costwarden, while Prometheus and Alertmanager are well.
            if self.receivers[name].notifier:
                raise ValueError(
                    f"`heartbeat`: `{name}` is told by costwarden's notifier, which takes a beat that comes again for the same one: name a "
                    "`webhook`"
                )
        return self

    @model_validator(mode="after")
    def _told_once_in_addition(self) -> Self:
        for place, severity, names, later in self._additions():
            if twice := set(names) & set(self.routes.severity.of(severity)):
                raise ValueError(f"`{place}`: `{min(twice)}` is told of `{severity}` already: leave it out there")
            # An alert about this tenant may be of that name and of that team.
            if twice := set(names) & {name for people in later for name in people.of(severity)}:
                raise ValueError(
                    f"`{place}`: `{min(twice)}` may hear of the same alert by another of `routes.alert` and `routes.team`: give one of "
                    "them a receiver of its own"
                )
        return self

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        # Stages of other alerts are another staircase.
        for of in dict.fromkeys(stage.of for stage in self.escalation):
            waits = [seconds(stage.after) for stage in self.escalation if stage.of == of]
            if waits != sorted(set(waits)):
                raise ValueError("`escalation`: each stage must come later than the one before it")
        return self

    def _additions(self) -> Iterator[tuple[str, str, Receivers, list[People]]]:
        """Of all people who are told beside others: where, of which severity, who, and the people that the same alert may come to later."""
        for position, (kind, all_of) in enumerate(self.routes.people.items()):
            later = [people for others in list(self.routes.people.values())[position + 1 :] for people in others.values()]
            for name, people in all_of.items():
                for severity in SEVERITIES if people.in_addition else ():
                    yield f"routes.{kind}.{name}", severity, people.of(severity), later

    def _uses(self) -> Iterator[tuple[str, str]]:
        """Every mention of a receiver: where it stands, and its name."""
        yield "routes.otherwise", self.routes.otherwise
        branches: dict[str, BySeverity] = {"routes.severity": self.routes.severity}
        branches |= {f"routes.{kind}.{name}": people for kind, all_of in self.routes.people.items() for name, people in all_of.items()}
        branches |= {f"routes.category.{name}": category for name, category in self.routes.category.items()}
        for place, branch in branches.items():
            for severity in SEVERITIES:
                yield from ((f"{place}.{severity}", name) for name in branch.of(severity))
        for position, stage in enumerate(self.escalation):
            yield from ((f"escalation[{position}].receivers", name) for name in stage.receivers)
        yield from (("heartbeat.receivers", name) for name in (self.heartbeat.receivers if self.heartbeat else ()))


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
