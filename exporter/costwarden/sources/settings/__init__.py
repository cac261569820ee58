"""The `sources`, `attribution` and `exchange_rates` sections of `costwarden.yaml`: a module a kind of source."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from costwarden.sources.settings.access import AwsAccess, AzureAccess, GcpAccess
from costwarden.sources.settings.anthropic import AnthropicSettings
from costwarden.sources.settings.attribution import ORIGINS, TARGETS, AttributionRule, AttributionSettings, Target
from costwarden.sources.settings.aws import AwsSettings
from costwarden.sources.settings.azure import AzureSettings
from costwarden.sources.settings.bedrock import BedrockSettings
from costwarden.sources.settings.currency import ExchangeRate, ExchangeRates
from costwarden.sources.settings.focus import FocusSettings
from costwarden.sources.settings.gcp import GcpSettings
from costwarden.sources.settings.kubernetes import KubernetesSettings
from costwarden.sources.settings.openai import OpenaiSettings
from costwarden.sources.settings.schedule import CurrencyCode, DailySchedule, PredictedRequests, Schedule, SourceName
from costwarden.sources.settings.vertex import VertexSettings

__all__ = [
    "ORIGINS",
    "TARGETS",
    "AnthropicSettings",
    "AttributionRule",
    "AttributionSettings",
    "AwsAccess",
    "AwsSettings",
    "AzureAccess",
    "AzureSettings",
    "BedrockSettings",
    "CurrencyCode",
    "DailySchedule",
    "ExchangeRate",
    "ExchangeRates",
    "FocusSettings",
    "GcpAccess",
    "GcpSettings",
    "KubernetesSettings",
    "OpenaiSettings",
    "PredictedRequests",
    "Schedule",
    "SourceName",
    "SourceSettings",
    "Target",
    "VertexSettings",
]


def _type(entry: Any) -> Any:
    # The first kind that there was needs no `type`.
    return entry.get("type", "focus") if isinstance(entry, dict) else getattr(entry, "type", None)


SourceSettings = Annotated[
    Annotated[FocusSettings, Tag("focus")]
    | Annotated[AwsSettings, Tag("aws")]
    | Annotated[GcpSettings, Tag("gcp")]
    | Annotated[AzureSettings, Tag("azure")]
    | Annotated[KubernetesSettings, Tag("kubernetes")]
    | Annotated[OpenaiSettings, Tag("openai")]
    | Annotated[AnthropicSettings, Tag("anthropic")]
    | Annotated[BedrockSettings, Tag("bedrock")]
    | Annotated[VertexSettings, Tag("vertex")],
    Discriminator(_type),
]
"""An entry of `sources`: a class for each name in `costwarden.sources.SOURCES`, told apart by `type`."""
