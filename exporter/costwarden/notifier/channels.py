"""A way to a receiver: one Apprise URL, what it takes, and what became of a message, in words without any secret.

Apprise tells why a delivery failed in its log alone, and writes addresses with credentials there. So nothing of that log, nor of the
HTTP library's below it, leaves this module but by `_reason`.
"""

import importlib.util
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote

from costwarden.notifier.text import Alarm, Format, Text, Written

LONGEST_REASON = 500

# What log at debug or warning level which URL they ask for, or what they sign; a token may be part of either.
_HTTP_LOGGERS = (
    *("requests", "urllib3", "urllib3.connection", "urllib3.connectionpool", "urllib3.response", "urllib3.util.retry"),
    *("oauthlib.oauth1.rfc5849", "oauthlib.oauth1.rfc5849.signature", "requests_oauthlib.oauth1_auth"),
)

_sending = threading.local()


class ChannelError(Exception):
    """The receiver cannot be told of anything: the message says why, and nothing of its URL."""


class Channel:
    """One receiver, ready to be told. Not to be kept: its secret may be rotated."""

    def __init__(self, plugin: Any, secrets: tuple[str, ...]) -> None:
        self._plugin = plugin
        self._secrets = secrets
        self.service = str(plugin.service_name)
        """What it is, as `Slack`."""
        self.takes = Format(
            markup=plugin.resolve_format(None).value,
            body_limit=int(plugin.body_maxlen),
            title_limit=int(plugin.title_maxlen),
        )

    def send(self, text: Text, *, seconds: float) -> str:
        """Tell the receiver: empty where it has taken the message, else why not. Waits about `seconds` for each answer from the net."""
        written = text.written(self.takes)
        self._plugin.socket_connect_timeout = min(self._plugin.socket_connect_timeout or seconds, seconds)
        self._plugin.socket_read_timeout = seconds
        with _captured() as records:
            try:
                delivered = self._notify(written)
            except Exception as error:  # noqa: BLE001 (some plugin of many: a receiver that raises is one that fails)
                return self._masked(f"{type(error).__name__}: {error}")[:LONGEST_REASON]
        return "" if delivered else self._reason(records)

    def _notify(self, written: Written) -> bool:
        import apprise

        kinds = {
            Alarm.CRITICAL: apprise.NotifyType.FAILURE,
            Alarm.FIRING: apprise.NotifyType.WARNING,
            Alarm.RESOLVED: apprise.NotifyType.SUCCESS,
        }
        # The format is the plugin's own: nothing is converted, and so nothing that was escaped is unescaped.
        return bool(
            self._plugin.notify(
                body=written.body, title=written.title, notify_type=kinds[written.alarm], body_format=written.markup, attach=None
            )
        )

    def _reason(self, records: list[logging.LogRecord]) -> str:
        said = [self._masked(record.getMessage()) for record in records if record.levelno >= logging.WARNING]
        # Exceptions stand at debug level, with the whole address: only forms that can hold no secret are taken out of them.
        details = [found for record in records if record.levelno < logging.WARNING for found in _KNOWN_DETAILS.findall(record.getMessage())]
        reason = " ".join([*said, *dict.fromkeys(details)])
        return reason[:LONGEST_REASON] or f"{self.service} did not take it, and does not say why"

    def _masked(self, message: str) -> str:
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return " ".join(message.split())


_KNOWN_DETAILS = re.compile(
    r"\[Errno -?\d+\] [A-Z][A-Za-z ]{3,60}|Read timed out|timed out|certificate verify failed|Name or service not known|"
    r"Connection unexpectedly closed|Remote end closed connection|Connection reset by peer|Connection refused"
)


def open_channel(url: str) -> Channel:
    """The channel of an Apprise URL. Raises `ChannelError`."""
    if importlib.util.find_spec("apprise") is None:
        raise ChannelError("notifications need a library: `pip install 'costwarden[notifier]'`")
    if len(url.split()) != 1:
        raise ChannelError("holds white space: one Apprise URL is wanted, with spaces written as %20")
    _silence()
    import apprise

    asset = apprise.AppriseAsset(app_id="costwarden", app_desc="costwarden", app_url="", image_url_mask="", image_url_logo="")
    with _captured():
        try:
            plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        except Exception:  # noqa: BLE001 (a plugin that stumbles over a URL must not print it)
            plugin = None
    if plugin is None:
        raise ChannelError("is no URL that Apprise understands: its service is unknown, or a part of it is missing or malformed")
    return Channel(plugin, _secrets_of(url))


def _secrets_of(url: str) -> tuple[str, ...]:
    """Every part of a URL that a message could give away, the longest first."""
    rest = url.partition("://")[2]
    address, _, query = rest.partition("?")
    values = [value for _, value in parse_qsl(query)]
    pieces = [url, rest, *values, *(piece for text in (address, *values) for piece in re.split(r"[/#@:,;]+", text))]
    both = {*pieces, *map(unquote, pieces)}
    # Shorter ones are nobody's secret, and every word holds them.
    return tuple(sorted((piece for piece in both if len(piece) >= _SHORTEST_SECRET), key=len, reverse=True))


_SHORTEST_SECRET = 3


def _keep(record: logging.LogRecord) -> bool:
    """Keeps what Apprise logs for the thread that sends, and shows it to no handler."""
    if (records := getattr(_sending, "records", None)) is not None:
        records.append(record)
    return False


def _is_not_ours(_: logging.LogRecord) -> bool:
    return getattr(_sending, "records", None) is None


def _silence() -> None:
    """Have Apprise log to nobody but us, and the HTTP library to nobody while we send. A filter is asked before any handler is."""
    logger = logging.getLogger("apprise")
    logger.setLevel(logging.DEBUG)
    logger.addFilter(_keep)  # once: a logger knows the filters that it has
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(_is_not_ours)


@contextmanager
def _captured() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []
    _sending.records = records
    try:
        yield records
    finally:
        _sending.records = None
