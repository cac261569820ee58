"""Vertex AI: `type: vertex`."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from costwarden.sources.settings.access import GcpAccess, HttpTimeout
from costwarden.sources.settings.schedule import DailySchedule, SourceName

ProjectId = Annotated[str, StringConstraints(pattern=r"^(?:[a-z][a-z0-9.:-]{4,61}[a-z0-9]|\d+)$")]
"""Id, with `example.com:` in front where it has a domain, or number: https://cloud.google.com/resource-manager/docs/creating-managing-projects."""


class VertexSettings(DailySchedule):
    """Tokens of Vertex AI, from Cloud Monitoring."""

    type: Literal["vertex"]
    """`vertex`: tokens of Vertex AI, from Cloud Monitoring."""
    name: SourceName = "vertex"
    """Name of the source: the `source` label of its series."""
    interval_seconds: float = Field(default=3600, ge=1, le=31 * 86_400, allow_inf_nan=False)
    """Seconds from the end of one refresh to the beginning of the next."""
    history_days: int = Field(default=41, ge=1, le=400)
    """Days before today that are read at first. Cloud Monitoring keeps them for six weeks."""
    reread_days: int = Field(default=3, ge=1, le=41)
    """Days before today that every refresh reads again. A day that Cloud Monitoring has forgotten would be read as one without usage."""
    access: GcpAccess = GcpAccess()
    projects: tuple[ProjectId, ...] = Field(min_length=1)
    """Projects in which models are called, by id or number."""
    request_timeout_seconds: HttpTimeout = 60
    """Seconds that one request may take."""

    @field_validator("projects")
    @classmethod
    def _once(cls, projects: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({project for project in projects if projects.count(project) > 1}):
            raise ValueError(f"{', '.join(twice)} stands there twice")
        return projects
