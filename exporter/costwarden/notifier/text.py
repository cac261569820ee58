"""What a notification says: subject and body out of the annotations of its alerts, as text, HTML, Markdown or an SMS.

Labels and annotations are other people's text. They are shown and never obeyed: markup in them is escaped, a mention of everybody is
broken up, a line of theirs cannot pretend to be one of ours, and only an http(s) address becomes a link.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum

import msgspec

from costwarden.notifier.markup import MARKUPS, Markup, cut, one_line, segment

SHOWN_ANNOTATIONS = ("summary", "description", "escalation", "runbook_url", "dashboard_url")

MOST_MEMBERS = 50
"""Alerts of a group that are kept to be shown; the others are counted."""

LONGEST_VALUE = 2000
"""Characters of an annotation or a label that are kept."""

MOST_LABELS = 30

SHORT_MESSAGE = 320
"""A service that takes no longer body than this is told the gist alone, in one segment of an SMS."""

_SEVERITIES = ("critical", "warning", "info")

_NOT_SHOWN = ("alertname", "severity", "category")
"""Labels that the text says otherwise, or that say nothing to people."""


class Alarm(Enum):
    """How loud a message is."""

    CRITICAL = "critical"
    FIRING = "firing"
    RESOLVED = "resolved"


class Format(msgspec.Struct, frozen=True):
    """What a service takes: `markup` is `text`, `html` or `markdown`; limits in characters, a title of 0 is no title."""

    markup: str
    body_limit: int
    title_limit: int


class Written(msgspec.Struct, frozen=True):
    """A message as a service takes it."""

    title: str
    body: str
    markup: str
    alarm: Alarm


class Member(msgspec.Struct, frozen=True):
    """One alert of a group, as far as people are told of it."""

    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str
    """Empty while it fires."""

    @property
    def severity(self) -> str:
        """`critical`, `warning`, `info`, whatever the label says, or nothing."""
        return cut(one_line(self.labels.get("severity", "")), 20)

    @property
    def name(self) -> str:
        """The alert's name."""
        return cut(one_line(self.labels.get("alertname", "")), 100) or "alert without a name"

    @property
    def summary(self) -> str:
        """What it is about, in a sentence; its name where it has none."""
        return one_line(self.annotations.get("summary", "")) or self.name


class Text(msgspec.Struct, frozen=True):
    """The content of a notification, as the ledger keeps it. `firing` and `resolved` count all alerts, `members` are those shown."""

    firing: int
    resolved: int
    members: tuple[Member, ...]
    external_url: str = ""
    """Alertmanager's own page."""

    @property
    def alarm(self) -> Alarm:
        """How loud it is."""
        if not self.firing:
            return Alarm.RESOLVED
        critical = any(member.status == "firing" and member.severity == "critical" for member in self.members)
        return Alarm.CRITICAL if critical else Alarm.FIRING

    @property
    def subject(self) -> str:
        """One line, at most 250 characters, without any markup."""
        total = self.firing + self.resolved
        count = f":{self.firing or self.resolved}" if total > 1 else ""
        also = f", {self.resolved} RESOLVED" if self.firing and self.resolved else ""
        first = self.members[0]
        severity = f" ({first.severity})" if first.severity else ""
        return cut(f"[{'FIRING' if self.firing else 'RESOLVED'}{count}{also}] {first.name}{severity}: {first.summary}", 250)

    def short(self, limit: int) -> str:
        """The gist in one segment of an SMS, at most `limit` characters: severity, summary, how many others there are."""
        first, others = self.members[0], self.firing + self.resolved - 1
        head = "RESOLVED" if not self.firing else first.severity.upper() or "FIRING"
        return segment(f"{head}: ", first.summary, f" (+{others} more)" if others else "", limit)

    def linked(self, *, grafana_url: str | None, runbook_url: str | None) -> "Text":
        """The same with `dashboard_url` and `runbook_url` as whole addresses; a path with nothing to put before it is left out."""
        bases = {"dashboard_url": grafana_url, "runbook_url": runbook_url}
        members = [msgspec.structs.replace(member, annotations=_whole(member.annotations, bases)) for member in self.members]
        return msgspec.structs.replace(self, members=tuple(members))

    def written(self, takes: Format) -> Written:
        """The message for a service that `takes` such a format."""
        if takes.body_limit <= SHORT_MESSAGE:
            return Written("", self.short(takes.body_limit), takes.markup, self.alarm)
        markup = MARKUPS[takes.markup]
        # A title of chat is markup in some services and plain in others: there it opens the body, which is surely escaped.
        has_title = takes.title_limit > 0 and takes.markup != "markdown"
        title = cut(markup.plain_title(self.subject), takes.title_limit) if has_title else ""
        return Written(title, self._body(markup, takes.body_limit, with_subject=not has_title), takes.markup, self.alarm)

    def _body(self, markup: Markup, limit: int, *, with_subject: bool) -> str:
        lines = [markup.heading(cut(self.subject, max(limit // 4, 40)))] if with_subject else []
        shown = 0
        total = self.firing + self.resolved
        room = limit - _RESERVED - markup.length(lines)
        status = ""
        for member in self.members:
            heading = [markup.heading(self._section(member.status))] if member.status != status else []
            for lines_of in (_in_full, _in_brief):
                block = [*heading, *lines_of(member, markup)]
                if (taken := markup.length(block)) <= room:
                    break
            else:
                break
            lines += block
            room -= taken
            status = member.status
            shown += 1
        if shown < total:
            others = total - shown
            lines.append(markup.line(f"… and {others} more alert{'' if others == 1 else 's'}"))
        if (address := _address(self.external_url)) and markup.length([markup.link("Alertmanager", address)]) <= room:
            lines.append(markup.link("Alertmanager", address))
        return markup.joined(lines)

    def _section(self, status: str) -> str:
        return f"Firing: {self.firing}" if status == "firing" else f"Resolved: {self.resolved}"


_RESERVED = 80
"""Characters for the line that counts the others."""


def kept(values: Mapping[str, str], names: Callable[[str], bool] = lambda _: True) -> dict[str, str]:
    """What is kept of labels or annotations: those with such names, name and severity first and the others by name, none longer than
    `LONGEST_VALUE`."""
    wanted = sorted((name for name in values if names(name)), key=lambda name: (name not in ("alertname", "severity"), name))[:MOST_LABELS]
    return {name[:200]: values[name][:LONGEST_VALUE] for name in wanted}


def urgency(status: str, labels: Mapping[str, str]) -> tuple[bool, int]:
    """Key that sorts what fires before what is over, and the critical first."""
    severity = labels.get("severity", "")
    return status != "firing", _SEVERITIES.index(severity) if severity in _SEVERITIES else len(_SEVERITIES)


def _in_full(member: Member, markup: Markup) -> Iterator[str]:
    severity = f"{member.severity.upper()} " if member.severity else ""
    yield markup.item(f"{severity}{member.name}", cut(member.summary, 300))
    notes = member.annotations
    if description := one_line(notes.get("description", "")):
        # The figures of what is over are those of its last evaluation: unmarked, they read as if it went on.
        yield markup.detail(cut(description if member.status == "firing" else f"When it fired last: {description}", 1000))
    yield markup.detail(f"Since {_minute(member.starts_at)}" + (f", until {_minute(member.ends_at)}" if member.ends_at else ""))
    if member.status == "firing" and (escalation := one_line(notes.get("escalation", ""))):
        yield markup.detail(f"Escalation: {cut(escalation, 300)}")
    for name, title in (("runbook_url", "Runbook"), ("dashboard_url", "Dashboard")):
        if value := one_line(notes.get(name, "")):
            yield markup.link(title, address) if (address := _address(value)) else markup.detail(f"{title}: {cut(value, 300)}")
    labels = [f"{one_line(name)}={cut(one_line(value), 100)}" for name, value in member.labels.items() if name not in _NOT_SHOWN]
    if labels:
        yield markup.detail(", ".join(labels[:20]))


def _in_brief(member: Member, markup: Markup) -> Iterator[str]:
    severity = f"{member.severity.upper()} " if member.severity else ""
    yield markup.item(f"{severity}{member.name}", cut(member.summary, 100))


def _minute(when: str) -> str:
    """An ISO time as people read one: `2026-11-21 20:27 UTC`."""
    return datetime.fromisoformat(when).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _whole(annotations: Mapping[str, str], bases: Mapping[str, str | None]) -> dict[str, str]:
    whole = {}
    for name, value in annotations.items():
        if name not in bases or value.startswith(("http://", "https://")):
            whole[name] = value
        # With the slash, a path cannot become a part of the host.
        elif (base := bases[name]) is not None:
            whole[name] = f"{base}/{value.lstrip('/')}"
    return whole


_WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%{}|-]{1,1000}")


def _address(value: str) -> str:
    """`value` where it is an address that may be followed; empty where it is anything else, as `javascript:…`."""
    value = one_line(value)
    return value if _WEB_ADDRESS.fullmatch(value) else ""
