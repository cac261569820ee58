"""The section `receivers` of `values.yaml`: who is told, and by which way."""

from typing import Self

from pydantic import Field, model_validator

from costwarden.artifacts.shapes import Address, Channel, Mailbox, NotifierName, SecretFile
from costwarden.settings import Settings


class Email(Settings):
    """Mail with text and HTML."""

    to: tuple[Mailbox, ...] = Field(min_length=1)
    """Whom it is for."""


class Slack(Settings):
    """A message in a channel."""

    api_url_file: SecretFile
    """File with the URL of the incoming webhook, which is a secret."""
    channel: Channel
    """`#channel`, `@user` or an id."""


class Pagerduty(Settings):
    """An incident through the Events API v2."""

    routing_key_file: SecretFile
    """File with the integration key."""
    url: Address | None = None
    """Another address of the API, as `https://events.eu.pagerduty.com/v2/enqueue`."""


class Webhook(Settings):
    """Alertmanager's own JSON, posted to an address."""

    url: Address
    """Where to; Alertmanager 0.25 reads it from no file, so it must hold no secret."""
    token_file: SecretFile | None = None
    """File with a bearer token."""
    ca_file: SecretFile | None = None
    """Certificate of the authority that signed the server's certificate, where that is your own."""


class Receiver(Settings):
    """Who is told, by any number of ways at once."""

    email: tuple[Email, ...] = ()
    slack: tuple[Slack, ...] = ()
    pagerduty: tuple[Pagerduty, ...] = ()
    webhook: tuple[Webhook, ...] = ()
    notifier: tuple[NotifierName, ...] = ()
    """Receivers of costwarden's own notifier, by their names in `costwarden.yaml`: SMS, SendGrid, Teams and the like."""
    send_resolved: bool = True
    """Whether to tell also that it is over."""

    @model_validator(mode="after")
    def _tells_somebody(self) -> Self:
        if not (self.email or self.slack or self.pagerduty or self.webhook or self.notifier):
            raise ValueError("tells nobody: give it `email`, `slack`, `pagerduty`, `webhook` or `notifier`")
        return self

    @property
    def only_through_costwarden(self) -> bool:
        """Whether nobody hears of anything while costwarden is down."""
        return not (self.email or self.slack or self.pagerduty or self.webhook)
