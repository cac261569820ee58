"""OpenAI: `type: openai`."""

from typing import Literal

from pydantic import Field

from costwarden.settings import Secret
from costwarden.sources.settings.access import Endpoint, HttpTimeout
from costwarden.sources.settings.schedule import DailySchedule, SourceName


class OpenaiSettings(DailySchedule):
    """Usage and cost of an OpenAI organisation, from its administration API."""

    type: Literal["openai"]
    """`openai`: usage and cost of an OpenAI organisation, from its administration API."""
    name: SourceName = "openai"
    """Name of the source: the `source` label of its series."""
    interval_seconds: float = Field(default=3600, ge=1, le=31 * 86_400, allow_inf_nan=False)
    """Seconds from the end of one refresh to the beginning of the next. The requests are free."""
    admin_key: Secret
    """Admin key of the organisation, with the right to read usage (`api.usage.read`). A project's key does not do."""
    organization: str = ""
    """The `billing_account_id` of the charges. Empty takes the organisation that the answers name, where they name one."""
    split_by_api_key: bool = False
    """Ask for the cost of each API key, for attribution rules that read `tag:api_key_id`."""
    endpoint_url: Endpoint | None = None
    """Endpoint instead of `https://api.openai.com`."""
    request_timeout_seconds: HttpTimeout = 60
    """Seconds that one request may take."""
