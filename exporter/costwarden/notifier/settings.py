"""The `notifier` section of `costwarden.yaml`: who is told of alerts, and how often it is tried."""

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from costwarden.settings import Secret, Settings

ReceiverName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]


def _base_address(url: str) -> str:
    host = None
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.port != 0:
            host = parts.hostname
    except ValueError:
        pass
    if not host:
        raise ValueError("must be an address that begins with http:// or https://")
    if "@" in url.split("/")[2]:
        raise ValueError("must have no user and no password: everybody who is told of an alert reads it")
    if not re.fullmatch(r"[A-Za-z0-9._~:/\[\]@!$&'()*+,;=%-]{1,500}", url):
        raise ValueError("must end with a path, in at most 500 characters that an address may have: the rest of each link is put behind it")
    return url.rstrip("/")


BaseAddress = Annotated[str, AfterValidator(_base_address)]
"""An http or https URL without credentials, query and fragment; a slash at its end is dropped."""


class Receiver(Settings):
    """One that is told: a mailbox, a channel, a telephone, another service."""

    name: ReceiverName
    """What Alertmanager calls it by, at the end of `/api/notifications/`; the label `receiver` of its metrics."""
    url: Secret
    """Its Apprise URL (https://appriseit.com/services/), as `mailtos://…`, `slack://…`, `workflows://…`, `twilio://…`: a secret, for it
    holds the credentials of the service."""


class RetrySettings(Settings):
    """How often a delivery is tried, and how long one may take."""

    attempts: int = Field(default=10, ge=1, le=100)
    """Failures after which a notification is given up: it is `failed` then, and tried again only by a person's word."""
    first_wait_seconds: float = Field(default=5, ge=0.1, le=3600, allow_inf_nan=False)
    """Seconds from the first failure to the next attempt; each further wait is twice as long, give or take a fifth."""
    longest_wait_seconds: float = Field(default=300, ge=0.1, le=86_400, allow_inf_nan=False)
    """No wait is longer than this. With the defaults a receiver that does not answer is tried for about 20 minutes."""
    timeout_seconds: float = Field(default=30, ge=1, le=600, allow_inf_nan=False)
    """Time limit of an attempt; one that takes longer has failed."""

    @model_validator(mode="after")
    def _waits_grow(self) -> Self:
        if self.longest_wait_seconds < self.first_wait_seconds:
            raise ValueError("`longest_wait_seconds` must be at least `first_wait_seconds`")
        return self


class NotifierSettings(Settings):
    """Who is told of alerts beside Alertmanager's own receivers. Needs `pip install 'costwarden[notifier]'`."""

    receivers: tuple[Receiver, ...] = ()
    """Those that Alertmanager may have told by a webhook to `/api/notifications/NAME`."""
    grafana_url: BaseAddress | None = None
    """Where the dashboards are, as https://grafana.example.com: put before an alert's `dashboard_url`, which is a path; without it the
    message has no link to them."""
    runbook_url: BaseAddress | None = None
    """Where your people read `alerts/README.md`: put before an alert's `runbook_url`, in the same way."""
    retry: RetrySettings = RetrySettings()
    duplicate_seconds: int = Field(default=600, ge=0, le=86_400)
    """How long the same notification of one group counts as one: from both Alertmanagers of a pair, or sent again because an answer was
    lost. Longer than Alertmanager's `group_interval`, and shorter than every `repeat_interval`, whose repetitions are to be delivered."""
    keep_days: int = Field(default=30, ge=1, le=3650)
    """Days that the journal keeps what was delivered or given up."""

    @field_validator("receivers")
    @classmethod
    def _names_are_unique(cls, receivers: tuple[Receiver, ...]) -> tuple[Receiver, ...]:
        names = [receiver.name for receiver in receivers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two receivers are named `{name}`; Alertmanager could not tell them apart")
        return receivers

    def receiver(self, name: str) -> Receiver | None:
        """The receiver of that name."""
        return next((receiver for receiver in self.receivers if receiver.name == name), None)


def url_mistake(url: str) -> str:
    """What is wrong with an Apprise URL, in words that say nothing of it; empty where nothing is."""
    # Apprise takes half a second to load its services: only who has receivers waits for it.
    from costwarden.notifier.channels import ChannelError, open_channel

    try:
        open_channel(url)
    except ChannelError as error:
        return str(error)
    return ""
