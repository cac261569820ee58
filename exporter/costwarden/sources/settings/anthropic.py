"""Anthropic: `type: anthropic`."""

from typing import Literal

from pydantic import Field

from costwarden.settings import Secret
from costwarden.sources.settings.access import Endpoint, HttpTimeout
from costwarden.sources.settings.schedule import DailySchedule, SourceName


class AnthropicSettings(DailySchedule):
    """Usage and cost of an Anthropic organisation, from its administration API."""

    type: Literal["anthropic"]
    """`anthropic`: usage and cost of an Anthropic organisation, from its administration API."""
    name: SourceName = "anthropic"
    """Name of the source: the `source` label of its series."""
    interval_seconds: float = Field(default=3600, ge=1, le=31 * 86_400, allow_inf_nan=False)
    """Seconds from the end of one refresh to the beginning of the next. The requests are free."""
    admin_key: Secret
    """Admin key of the organisation (`sk-ant-admin…`). A workspace's key (`sk-ant-api…`) does not do."""
    organization: str = ""
    """The `billing_account_id` of the charges. Empty takes the organisation that the answers name."""
    endpoint_url: Endpoint | None = None
    """Endpoint instead of `https://api.anthropic.com`."""
    request_timeout_seconds: HttpTimeout = 60
    """Seconds that one request may take."""
