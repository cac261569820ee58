"""The `otlp` section of `costwarden.yaml`."""

from typing import Annotated, Literal

from pydantic import Field

from costwarden.settings import Settings

AttributeNames = tuple[Annotated[str, Field(min_length=1, max_length=256)], ...]


class OtlpAttributes(Settings):
    """Which attribute tells what: the first of each list that a span or data point has, else its resource, is taken."""

    tenant_id: AttributeNames = ("costwarden.tenant_id", "tenant.id")
    report_type: AttributeNames = ("costwarden.report_type",)
    feature: AttributeNames = ("costwarden.feature",)
    team: AttributeNames = ("costwarden.team",)
    user_id: AttributeNames = ("costwarden.user_id", "user.id", "enduser.id")
    service: AttributeNames = ("costwarden.service", "service.name")


class OtlpSettings(Settings):
    """What is taken of the telemetry that OpenTelemetry SDKs and collectors send to `/v1/traces` and `/v1/metrics`."""

    accept: Literal["traces", "metrics"] = "traces"
    """Which of the two tells what was used; the other one is received and passed over, because both tell of the same calls."""
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    """Largest request body in bytes, before and after decompression; a larger one is answered with 413."""
    default_tenant_id: str = Field(default="", max_length=256)
    """Tenant of what names none; empty rejects it, aloud."""
    operations: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = (
        "chat",
        "generate_content",
        "text_completion",
        "embeddings",
        "image_generation",
        "transcription",
        "speech",
    )
    """Values of `gen_ai.operation.name` that are one call of a model. Agents and workflows repeat the tokens of the calls within them."""
    attributes: OtlpAttributes = OtlpAttributes()
    cached_tokens: dict[str, Literal["included", "excluded"]] = Field(default_factory=dict)
    """Whether `gen_ai.usage.input_tokens` include the cached ones, by the name of an instrumentation scope or of a provider, where an
    instrumentation does not do as the documents say that it does."""
