"""`values.yaml` to `alertmanager.yaml`: a document made of data and dumped, never a text with values put into it.

It has only keys that Alertmanager 0.25 knows, and means the same to the newest.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from costwarden.artifacts.inhibitions import INHIBITIONS
from costwarden.artifacts.receivers import Receiver, Webhook
from costwarden.artifacts.timing import SEVERITIES, Heartbeat, MuteTime, Stage, Timing
from costwarden.artifacts.values import PLAYBOOKS, Costwarden, Values

Document = dict[str, Any]

NEXT_DAY = {
    "monday": "tuesday",
    "tuesday": "wednesday",
    "wednesday": "thursday",
    "thursday": "friday",
    "friday": "saturday",
    "saturday": "sunday",
    "sunday": "monday",
}


MOST_ALERTS = 1000
"""Alerts of a group that Alertmanager hands to the notifier, which shows 50 of them and counts the others. Without a limit the largest of
all groups would be beyond what the notifier takes, and nobody would hear of it."""


class Entry(NamedTuple):
    """An entry of a list, with the comment that stands above it."""

    comment: str
    value: Document


HEADER = """\
# Routes of costwarden's alerts, for Alertmanager 0.25 and newer. Rendered from values.yaml: edit that one, beside this,
# and render this again with `costwarden artifacts upgrade DIR`.
"""

OF_GLOBAL = (
    "Secrets are in files of their own, by absolute path: Alertmanager takes some relative paths from here and others from where it\n"
    "was started."
)
OF_ROUTE = (
    "From top to bottom. `continue: true` lets an alert go on to the next; each route has its own group and its own clock.\n"
    "Without what an alert is about in `group_by`, a second budget would wait for the group_interval of the first."
)
OF_INHIBITION = (
    "What follows from another alert is held back while that fires. Labels that both sides lack count as equal, so each rule asks\n"
    "for the labels by which it compares."
)


def alertmanager_yaml(values: Values) -> str:
    """The text of `alertmanager.yaml`, with a comment above what is not plain."""
    parts = [
        HEADER,
        _section(OF_GLOBAL, "global", _global(values)),
        _section("", "templates", ["templates/*.tmpl"]),
        _commented(OF_ROUTE, {"route": _root(values)}, "routes", _routes(values), indent=2),
    ]
    if values.mute_times:
        parts.append(
            _section("What still fires when a time is over is told then.", "time_intervals", [_interval(m) for m in values.mute_times])
        )
    parts += [
        _commented(OF_INHIBITION, {}, "inhibit_rules", _inhibitions(values), indent=0),
        _section("", "receivers", list(_receivers(values))),
    ]
    return "\n".join(parts)


# --- text ------------------------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """As a person would write it: short lists on one line, everything else in lines of its own, lists indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 (the name is PyYAML's)
        super().increase_indent(flow, False)

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:  # noqa: ARG002 (as above)
        short = all(isinstance(item, str) for item in sequence) and sum(len(item) + 2 for item in sequence) < 100
        return super().represent_sequence(tag, sequence, flow_style=short)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (as above)
        return True


def _dump(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1000)


def _comment(text: str, indent: int = 0) -> str:
    return "".join(f"{' ' * indent}# {line}\n" for line in text.splitlines())


def _section(comment: str, key: str, data: Any) -> str:
    return _comment(comment) + _dump({key: data})


def _commented(comment: str, above: Document, key: str, entries: Iterable[Entry], indent: int) -> str:
    """A list under `key`, each entry below its comment; `above` is the mapping that it stands in, where it does."""
    text = _comment(comment) + (_dump(above) if above else "") + f"{' ' * indent}{key}:\n"
    for entry in entries:
        lines = _dump([entry.value]).splitlines(keepends=True)
        text += _comment(entry.comment, indent + 2) + "".join(" " * (indent + 2) + line for line in lines)
    return text


# --- routes ----------------------------------------------------------------------------------------------------------------------


def _global(values: Values) -> Document:
    smtp = values.smtp
    document: Document = {"smtp_smarthost": smtp.smarthost, "smtp_from": smtp.sender}
    if smtp.username is not None:
        document |= {"smtp_auth_username": smtp.username, "smtp_auth_password_file": smtp.password_file}
    return document | {"smtp_require_tls": smtp.require_tls}


def _group_by(values: Values, by: Sequence[str]) -> list[str]:
    return [*by, *(label for label in values.prometheus.external_labels if label not in by)]


def _times(timing: Timing) -> Document:
    return timing.model_dump(exclude={"by"})


def _root(values: Values) -> Document:
    return {"receiver": values.routes.otherwise, "group_by": _group_by(values, values.grouping.by)} | _times(values.grouping.warning)


def _routes(values: Values) -> Iterator[Entry]:
    if values.heartbeat:
        yield from _heartbeat_routes(values.heartbeat)
    yield Entry(
        "What names a playbook goes to costwarden, each alert by itself and at once, and on to the people below.",
        {
            "receiver": PLAYBOOKS,
            "matchers": ['action != ""'],
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "10s",
            "repeat_interval": "1h",
            "continue": True,
        },
    )
    for stage in values.escalation:
        comment = f"Escalation: critical alerts that have fired for {stage.after} and are not silenced."
        for receiver in stage.receivers:
            for matchers in _escalated(stage):
                yield Entry(comment, _stage_route(values, stage, receiver, matchers))
                comment = ""
    yield from _people_routes(values)
    comment = "The people of each severity."
    for severity in SEVERITIES:
        matchers = ["category = finops", f"severity = {severity}"]
        for route in _told(values, severity, matchers, values.routes.severity.of(severity), goes_on=False):
            yield Entry(comment, route)
            comment = ""
    for name, category in values.routes.category.items():
        comment = f"Alerts of category {name}, which are not costwarden's."
        for severity in SEVERITIES:
            matchers = [f"category = {_quoted(name)}", f"severity = {severity}"]
            for route in _told(values, severity, matchers, category.of(severity), goes_on=False):
                yield Entry(comment, route)
                comment = ""
    # The receiver at the top hears of nothing that has matched any route, and a playbook or a stage may have been the only one.
    yield Entry("Everything else, a playbook and a stage beside it or not.", {"receiver": values.routes.otherwise})


def _heartbeat_routes(heartbeat: Heartbeat) -> Iterator[Entry]:
    comment = "That all of this is alive: told again and again, to whoever calls people when nothing comes."
    # With a `repeat_interval` as long as the `group_interval` every second beat would be left out: it is a moment too early.
    times = {"group_wait": "0s", "group_interval": heartbeat.every, "repeat_interval": "1s"}
    for receiver in heartbeat.receivers:
        route: Document = {"receiver": receiver, "matchers": [f"alertname = {heartbeat.alert}"], "group_by": ["..."], **times}
        if receiver != heartbeat.receivers[-1]:
            route["continue"] = True
        yield Entry(comment, route)
        comment = ""


def _people_routes(values: Values) -> Iterator[Entry]:
    for label, (kind, all_of) in zip(("tenant_id", "alertname", "team"), values.routes.people.items(), strict=True):
        for name, people in all_of.items():
            comment = f"{kind.capitalize()} {name}, {'beside' if people.in_addition else 'in place of'} those of the severity."
            for severity in SEVERITIES:
                matchers = ["category = finops", f"{label} = {_quoted(name)}", f"severity = {severity}"]
                for route in _told(values, severity, matchers, people.of(severity), goes_on=people.in_addition):
                    yield Entry(comment, route)
                    comment = ""


def _told(values: Values, severity: str, matchers: list[str], receivers: Sequence[str], *, goes_on: bool) -> Iterator[Document]:
    """A route for each receiver; the last ends the search unless it `goes_on`."""
    for position, receiver in enumerate(receivers):
        timing = values.grouping.of(severity)
        by = {"group_by": _group_by(values, timing.by)} if timing.by else {}
        route: Document = {"receiver": receiver, "matchers": matchers, **by, **_times(timing)}
        route |= _muted(values, severity)
        if goes_on or position + 1 < len(receivers):
            route["continue"] = True
        yield route


def _escalated(stage: Stage) -> Iterator[list[str]]:
    """The matchers of the alerts that a stage is of: a list for each of its teams, whose names may mean something in a pattern."""
    category = stage.category if stage.category == "finops" else _quoted(stage.category)
    matchers = [f"category = {category}", "severity = critical"]
    if stage.alerts:
        matchers.append(f'alertname =~ "{"|".join(stage.alerts)}"')
    if stage.not_alerts:
        matchers.append(f'alertname !~ "{"|".join(stage.not_alerts)}"')
    matchers += [f"team != {_quoted(team)}" for team in stage.not_teams]
    if not stage.teams:
        yield matchers
    for team in stage.teams:
        yield [*matchers, f"team = {_quoted(team)}"]


def _stage_route(values: Values, stage: Stage, receiver: str, matchers: list[str]) -> Document:
    # Whoever is told after a while is told by a group that waits that long: it sends nothing where the alert was over or silenced by
    # then. After a restart, what began longer ago than the wait is told at once; docs/alertmanager.md says what a reload does.
    group_by = list(stage.group_by)
    if group_by != ["..."]:
        group_by += [label for label in values.prometheus.external_labels if label not in group_by]
    timing = Timing(
        group_wait=stage.after,
        group_interval=stage.group_interval or values.grouping.critical.group_interval,
        repeat_interval=stage.repeat_interval,
    )
    return {
        "receiver": receiver,
        "matchers": matchers,
        "group_by": group_by,
        **_times(timing),
        **_muted(values, "critical"),
        "continue": True,
    }


def _muted(values: Values, severity: str) -> Document:
    names = [mute.name for mute in values.mute_times if severity in mute.severities]
    return {"mute_time_intervals": names} if names else {}


def _quoted(name: str) -> str:
    # `LabelValue` sees to it that nothing in it needs more than the quotes.
    return f'"{name}"'


# --- mute times ------------------------------------------------------------------------------------------------------------------


def _interval(mute: MuteTime) -> Document:
    """An interval; one that goes over midnight is two, the second on the days after."""
    days = list(mute.weekdays)
    if mute.start is None or mute.end is None:
        spans = [_span(None, None, days, mute.location)]
    elif mute.start < mute.end:
        spans = [_span(mute.start, mute.end, days, mute.location)]
    else:
        spans = [_span(mute.start, "24:00", days, mute.location)]
        if mute.end != "00:00":
            spans.append(_span("00:00", mute.end, [NEXT_DAY[day] for day in days], mute.location))
    return {"name": mute.name, "time_intervals": spans}


def _span(start: str | None, end: str | None, days: Sequence[str], location: str) -> Document:
    span: Document = {}
    if start is not None:
        span["times"] = [{"start_time": start, "end_time": end}]
    if days:
        span["weekdays"] = list(days)
    return span | {"location": location}


# --- inhibitions -----------------------------------------------------------------------------------------------------------------


def _inhibitions(values: Values) -> Iterator[Entry]:
    for rule in INHIBITIONS:
        given = [f'{label} != ""' for label in rule.given]
        if not rule.targets:
            targets = ["category = finops", f"alertname != {rule.source}"]
        elif len(rule.targets) == 1:
            targets = [f"alertname = {rule.targets[0]}"]
        else:
            targets = [f'alertname =~ "{"|".join(rule.targets)}"']
        document: Document = {
            "source_matchers": [f"alertname = {rule.source}", *given, *([rule.where] if rule.where else [])],
            "target_matchers": [*targets, *given],
        }
        if equal := [*rule.equal, *values.prometheus.external_labels]:
            document["equal"] = equal
        yield Entry(rule.comment, document)


# --- receivers -------------------------------------------------------------------------------------------------------------------


def _receivers(values: Values) -> Iterator[Document]:
    url = f"{values.costwarden.url}/api/alerts/webhook"
    yield {"name": PLAYBOOKS, "webhook_configs": [_to_costwarden(values.costwarden, url, send_resolved=True)]}
    for name, receiver in values.receivers.items():
        yield _receiver(name, receiver, values.costwarden)


def _receiver(name: str, receiver: Receiver, costwarden: Costwarden) -> Document:
    resolved = receiver.send_resolved
    # A notifier's own address is made of names that have been checked: nothing in them needs %XX.
    webhooks = [_webhook(webhook, send_resolved=resolved) for webhook in receiver.webhook]
    webhooks += [
        _to_costwarden(costwarden, f"{costwarden.url}/api/notifications/{to}", send_resolved=resolved) | {"max_alerts": MOST_ALERTS}
        for to in receiver.notifier
    ]
    ways: Document = {
        "email_configs": [
            {
                "to": ", ".join(email.to),
                "send_resolved": resolved,
                "headers": {"Subject": _template("subject")},
                "text": _template("text"),
                "html": _template("html"),
            }
            for email in receiver.email
        ],
        "slack_configs": [
            {
                "api_url_file": slack.api_url_file,
                "channel": slack.channel,
                "send_resolved": resolved,
                "title": _template("slack.title"),
                "title_link": _template("link"),
                "fallback": _template("slack.title"),
                "color": _template("slack.color"),
                "text": _template("slack"),
            }
            for slack in receiver.slack
        ],
        "pagerduty_configs": [
            {
                **({"url": pagerduty.url} if pagerduty.url else {}),
                "routing_key_file": pagerduty.routing_key_file,
                "send_resolved": resolved,
                "description": _template("subject"),
                "severity": _template("pagerduty.severity"),
                "client": "costwarden",
                "client_url": _template("link"),
                # The first two take the place of Alertmanager's own, which are long lists of labels.
                "details": {
                    "firing": _template("pagerduty.firing"),
                    "resolved": _template("pagerduty.resolved"),
                    "answer": _template("pagerduty.answer"),
                    "chart": _template("link"),
                    "runbook": _template("pagerduty.runbook"),
                    "prometheus": _template("pagerduty.prometheus"),
                    "acknowledge": _template("pagerduty.silence"),
                },
            }
            for pagerduty in receiver.pagerduty
        ],
        "webhook_configs": webhooks,
    }
    return {"name": name} | {key: found for key, found in ways.items() if found}


def _template(name: str) -> str:
    return f'{{{{ template "costwarden.{name}" . }}}}'


def _webhook(webhook: Webhook, *, send_resolved: bool) -> Document:
    return _post(webhook.url, webhook.token_file, webhook.ca_file, send_resolved=send_resolved)


def _to_costwarden(costwarden: Costwarden, url: str, *, send_resolved: bool) -> Document:
    return _post(url, costwarden.token_file, costwarden.ca_file, send_resolved=send_resolved)


def _post(url: str, token_file: str | None, ca_file: str | None, *, send_resolved: bool) -> Document:
    http: Document = {}
    if token_file:
        http["authorization"] = {"type": "Bearer", "credentials_file": token_file}
    if ca_file:
        http["tls_config"] = {"ca_file": ca_file}
    return {"url": url, "send_resolved": send_resolved} | ({"http_config": http} if http else {})
