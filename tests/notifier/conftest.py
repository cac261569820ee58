"""A ledger, a notifier on it, receivers on loopback, and webhooks as Alertmanager writes them."""

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apprise
import costwarden_server  # noqa: F401 (knows where the programs of the demo are)
import pytest
from stand_in import Answer, Request, StandIn

from costwarden.config import reveal
from costwarden.ledger import Ledger
from costwarden.ledger.notifications import Attempt, Notification, attempts_of, notifications_page, outcome_totals, take_in
from costwarden.model import MICROS_PER_SECOND
from costwarden.notifier.intake import notification_of
from costwarden.notifier.settings import NotifierSettings
from costwarden.notifier.worker import NotificationWorker
from costwarden.remediation.intake import parse_webhook

ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "CloudCostSpike", "severity": "warning", "provider": "aws"},
    "annotations": {"summary": "aws costs twice as much as a week ago", "description": "It was $100 and is $200."},
    "startsAt": "2026-03-02T11:59:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "fingerprint": "0123456789abcdef",
}


def webhook_of(*alerts: dict[str, Any], group_key: str = "g", **more: Any) -> dict[str, Any]:
    """A webhook of alerts, each `ALERT` but for what is said of it."""
    members = [{**ALERT, **alert} for alert in alerts or ({},)]
    return {"version": "4", "groupKey": group_key, "status": "firing", "externalURL": "http://alertmanager:9093", "alerts": members, **more}


@pytest.fixture(scope="session", autouse=True)
def _plugins() -> None:
    """Apprise loads all its plugins at its first URL; one of them imports what Python is going to drop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert apprise.Apprise.instantiate("json://localhost")


@pytest.fixture
def webhook() -> Callable[..., dict[str, Any]]:
    """See `webhook_of`."""
    return webhook_of


def now() -> int:
    return time.time_ns() // 1000


class Scene:
    """A ledger and its notifier, which tries again within a tenth of a second, and has a minute for each attempt."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.folder = folder
        self.settings = NotifierSettings()
        self.worker = NotificationWorker(ledger, lambda: self.settings, reveal=lambda secret: reveal(secret, {}), now=now)

    def configure(self, urls: dict[str, str], **retry: Any) -> None:
        """Receivers by name, with their URLs, from now on."""
        for name, url in urls.items():
            (self.folder / f"{name}.url").write_text(url)
        receivers = [{"name": name, "url": {"file": str(self.folder / f"{name}.url")}} for name in urls]
        waits = {"attempts": 3, "first_wait_seconds": 0.1, "longest_wait_seconds": 0.2, "timeout_seconds": 60}
        self.settings = NotifierSettings.model_validate({"receivers": receivers, "retry": {**waits, **retry}})

    def receive(self, receiver: str, body: dict[str, Any], at: int = 0) -> tuple[int, bool]:
        """Take a webhook in, as the API does: the notification's id, and whether it is new."""
        new = notification_of(receiver, parse_webhook(json.dumps(body).encode()))
        at = at or now()
        since = at - self.settings.duplicate_seconds * MICROS_PER_SECOND
        answer = self.ledger.write(lambda connection: take_in(connection, new, since=since, now=at))
        self.worker.wake()
        return answer

    def all(self) -> list[Notification]:
        """All notifications, the oldest first."""
        with self.ledger.read() as connection:
            return notifications_page(connection, {}, start=0, end=1 << 62, before=None, limit=1000)[::-1]

    def one(self, notification_id: int) -> Notification:
        return next(found for found in self.all() if found.notification_id == notification_id)

    def states(self) -> list[str]:
        return [notification.state for notification in self.all()]

    def attempts(self, notification_id: int) -> list[Attempt]:
        with self.ledger.read() as connection:
            return attempts_of(connection, notification_id)

    def totals(self) -> dict[tuple[str, str], int]:
        with self.ledger.read() as connection:
            return {key: count for key, (count, _) in outcome_totals(connection).items()}


@pytest.fixture
def scene(tmp_path: Path, empty_ledger: Path) -> Iterator[Scene]:
    """A notifier that runs, on an SQLite ledger; no receiver is configured yet."""
    shutil.copy(empty_ledger, tmp_path / "ledger.db")
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", owner=True)
    made = Scene(ledger, tmp_path)
    made.worker.start()
    yield made
    made.worker.stop()
    ledger.close()


@pytest.fixture
def service() -> Iterator[StandIn]:
    """A service on loopback that takes everything, and says `ok` as Slack does."""
    with StandIn(lambda _: Answer(b"ok")) as server:
        yield server


def json_url(server: StandIn, path: str = "hook") -> str:
    """The Apprise URL that posts JSON to the service."""
    return f"json://{server.url.removeprefix('http://')}/{path}"


@pytest.fixture
def json_to() -> Callable[..., str]:
    """See `json_url`."""
    return json_url


@pytest.fixture
def told() -> Callable[[StandIn], list[Any]]:
    """`told(service)`: the titles of the JSON messages that it was sent, in their order."""

    def titles(server: StandIn) -> list[Any]:
        return [title_of(request) for request in server.requests]

    return titles


def title_of(request: Request) -> Any:
    return request.json()["title"]


def at(text: str) -> int:
    """Microseconds of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * MICROS_PER_SECOND


def alerts(count: int, **more: Any) -> Sequence[dict[str, Any]]:
    """So many alerts that differ by their fingerprint and their name."""
    return [
        {"fingerprint": f"{number:016x}", "labels": {"alertname": f"Alert{number}", "severity": "warning"}, **more}
        for number in range(count)
    ]


@pytest.fixture
def many() -> Callable[..., Sequence[dict[str, Any]]]:
    """See `alerts`."""
    return alerts
