"""How a source proves to a cloud who it is. Nothing given means: as that cloud's own tools find out by themselves."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from costwarden.settings import ConfigPath, Secret, Settings


def _address_alone(url: str) -> str:
    # Anywhere: `https://me:hun/ter2@host` has its password in what looks like a path.
    if "@" in url or "?" in url:
        raise ValueError("must be an address alone: no user, no password and no query")
    return url


Endpoint = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+"), AfterValidator(_address_alone)]
"""URL of a service, for private endpoints and for tests. It has no secrets: it is shown."""


class AwsAccess(Settings):
    """Credentials of AWS: those that boto3 finds (environment, profile, web identity, instance), then, where given, a role."""

    profile: str = ""
    """Profile of the shared configuration files."""
    region: str = "us-east-1"
    """Region of the requests, for services that have one."""
    role_arn: Annotated[str, StringConstraints(pattern=r"^(arn:aws[a-z-]*:iam::\d{12}:role/.+)?$")] = ""
    """Role to assume."""
    external_id: str = ""
    """External id that the role's trust policy asks for."""
    account_id: Annotated[str, StringConstraints(pattern=r"^(\d{12})?$")] = ""
    """Account that the credentials must belong to; with another one nothing is read. Empty takes any."""
    endpoint_url: Endpoint | None = None
    """Endpoint of all services, instead of AWS's own."""


class GcpAccess(Settings):
    """Credentials of Google Cloud: those that its libraries find (application default credentials), unless a file is given."""

    credentials_file: ConfigPath | None = None
    """Key file of a service account, or configuration of workload identity federation."""
    quota_project: str = ""
    """Project that the requests are counted for, where it is not the credentials' own."""
    endpoint_url: Endpoint | None = None
    """Endpoint of all services, instead of Google's own; without credentials where it begins with `http://`."""


class AzureAccess(Settings):
    """Credentials of Azure: those that its library finds (environment, workload or managed identity, Azure CLI), unless given."""

    tenant_id: str = ""
    """Directory (tenant) of the application."""
    client_id: str = ""
    """Application (client), or user-assigned managed identity."""
    client_secret: Secret | None = None
    """Client secret of the application."""
    endpoint_url: Endpoint | None = None
    """Endpoint instead of `https://management.azure.com`; without credentials where it begins with `http://`."""


HttpTimeout = Annotated[float, Field(ge=1, le=600, allow_inf_nan=False)]
"""Seconds that one request may take."""
