"""What a text in `values.yaml` may look like, so that it means the same in YAML, in PromQL and in a Go template."""

import re
from ipaddress import IPv6Address
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator


def _address(url: str) -> str:
    host = ""
    try:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and (parts.port is None or parts.port > 0):
            host = parts.hostname or ""
    except ValueError:
        pass
    if not host:
        raise ValueError("must be an address that begins with http:// or https://")
    if "@" in url.split("/")[2]:
        raise ValueError("must have no user and no password: name a file with the token")
    # None of these means anything in a URL, and each of them something in a template, in HTML or to Slack.
    if not re.fullmatch(r"[A-Za-z0-9:/?#\[\]@!$&()*+,;=.~%_-]+", url):
        raise ValueError("has a character that an address may not have: write it as %XX")
    # Go, unlike Python, refuses both, and Alertmanager with it the whole file.
    if re.search(r"%(?![0-9A-Fa-f]{2})", url) or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9a-f:]+", host):
        raise ValueError("must have two hexadecimal digits behind each `%`, and none in the host: write a `%` itself as %25")
    return url.rstrip("/")


def _absolute(path: str) -> str:
    if not PurePosixPath(path).is_absolute():
        raise ValueError(
            "must be an absolute path: Alertmanager takes some relative paths from its file and others from where it was started"
        )
    if not path.isprintable():
        raise ValueError("has a character that no path should have")
    return path


def _duration(text: str) -> str:
    if not _DURATION.fullmatch(text) or not text:
        raise ValueError("must be a duration, as 30s, 5m, 1h30m or 4d")
    # Go counts nanoseconds in 64 bits, and 292 years are all it has.
    if seconds(text) > _LONGEST_SECONDS:
        raise ValueError("must be at most 52w")
    return text


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
        known = name not in _OF_THIS_MACHINE and not name.startswith(("posix/", "right/"))
    # OSError: `Europe` is a folder of the database.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = False
    if not known:
        raise ValueError("is not a time zone of the IANA database, as Europe/Berlin")
    return name


_OF_THIS_MACHINE = {"localtime", "posixrules", "Factory"}
"""Files in the folder of the database that mean something else, or nothing, on Alertmanager's machine."""


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has half a character (a lone surrogate)") from None
    return text


def _smarthost(text: str) -> str:
    host, _, port = text.rpartition(":")
    try:
        if host.startswith("["):
            IPv6Address(host[1:-1])
        right = int(port) < 65_536
    except ValueError:
        right = False
    if not right:
        raise ValueError("must be the address of a host, and a port up to 65535")
    return text


def _shaped(pattern: str, rule: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(rule)
        return text

    return AfterValidator(check)


def _quotable(text: str) -> str:
    if not re.fullmatch(r"[^\s\"\\{}]([^\"\\{}]{0,98}[^\s\"\\{}])?", text) or not text.isprintable():
        raise ValueError("must be up to 100 characters of text, without quotes, backslashes and braces")
    return text


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names `{name}` twice")
    return names


# `[0-9]`, for \d takes the digits of every script, and Go none but these.
_DURATION = re.compile(r"0|(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")
_LONGEST_SECONDS = 52 * 604_800
_UNITS = (604_800, 86_400, 3_600, 60, 1)

Address = Annotated[str, AfterValidator(_address)]
"""An http or https URL without credentials; a slash at its end is dropped."""
BaseAddress = Annotated[Address, _shaped(r"[^?#&]+", "must end with a path: the rest of each link is put behind it")]
SecretFile = Annotated[str, AfterValidator(_absolute)]
"""Absolute path, on Alertmanager's machine, of a file that holds a secret."""
Duration = Annotated[str, AfterValidator(_duration)]
"""Prometheus's own way to write one: 30s, 5m, 1h30m, 4d."""
Name = Annotated[str, _shaped(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", "must be a name of up to 100 letters, digits, `_`, `.` and `-`")]
"""Of a receiver, a stage, a mute time."""
LabelValue = Annotated[str, AfterValidator(_quotable)]
"""Of a team or a category: whatever an alert says there that means the same in quotes to every Alertmanager."""
NotifierName = Annotated[
    str,
    _shaped(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "must be a name as costwarden.yaml has it, of up to 64 letters, digits, `_`, `.` and `-`"),
]
Mailbox = Annotated[
    str,
    # No dot at either end and no two together: Alertmanager would find that out when it sends.
    _shaped(
        r"[A-Za-z0-9!#$%&'*+/=?^_~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_~-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*",
        "must be a mail address, as finops@example.com, and nothing else",
    ),
]
LabelName = Annotated[str, _shaped(r"[a-zA-Z_][a-zA-Z0-9_]*", "must be the name of a label")]
GroupLabel = Annotated[str, _shaped(r"\.\.\.|[a-zA-Z_][a-zA-Z0-9_]*", "must be the name of a label, or `...`")]
Job = Annotated[str, _shaped(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,99}", "must be a name of up to 100 letters, digits, `_`, `.`, `/` and `-`")]
HostPort = Annotated[
    str,
    _shaped(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[1-9][0-9]{0,4}", "must be a host and a port, as smtp.example.com:587"),
    AfterValidator(_smarthost),
]
User = Annotated[str, _shaped(r"[^\s{}]{1,200}", "must be a user's name without white space and braces"), AfterValidator(_encodable)]
Channel = Annotated[str, _shaped(r"[#@]?[\w.-]{1,80}", "must be #channel, @user or an id")]
Clock = Annotated[str, _shaped(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", "must be a time of day, as 08:00")]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Receivers = Annotated[tuple[Name, ...], AfterValidator(_each_once)]
"""Names of receivers, each once."""
LabelValues = Annotated[tuple[LabelValue, ...], AfterValidator(_each_once)]
AlertName = Annotated[str, _shaped(r"[A-Za-z_][A-Za-z0-9_]*", "must be the name of an alert, as LedgerDown")]
AlertNames = Annotated[tuple[AlertName, ...], AfterValidator(_each_once)]
Labels = Annotated[tuple[LabelName, ...], AfterValidator(_each_once)]
GroupLabels = Annotated[tuple[GroupLabel, ...], AfterValidator(_each_once)]
"""As `Labels`, or `...` for all. Alertmanager refuses a label that stands twice."""


def seconds(duration: str) -> int:
    """The seconds of a `Duration`."""
    found = _DURATION.fullmatch(duration)
    assert found is not None, duration
    return sum(int(count or 0) * unit for count, unit in zip(found.groups(), _UNITS, strict=True))
