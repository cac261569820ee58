"""Kubernetes: `type: kubernetes`."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from costwarden.settings import ConfigPath, Secret
from costwarden.sources.settings.access import Endpoint, HttpTimeout
from costwarden.sources.settings.schedule import CurrencyCode, DailySchedule, SourceName


class KubernetesSettings(DailySchedule):
    """Cost of a cluster by namespace and workload, from OpenCost or Kubecost."""

    type: Literal["kubernetes"]
    """`kubernetes`: cost of a cluster by namespace and workload, from OpenCost or Kubecost."""
    name: SourceName = "kubernetes"
    """Name of the source: the `source` label of its series."""
    url: Endpoint
    """Where the API is, as `http://opencost.opencost.svc:9003` or `http://kubecost-cost-analyzer.kubecost.svc:9090`; without
    `/allocation` or `/model`."""
    product: Literal["opencost", "kubecost"] = "opencost"
    """What answers there: `opencost` (`/allocation`) or `kubecost` (`/model/allocation`)."""
    cluster: Annotated[str, StringConstraints(max_length=200)] = ""
    """Name of the cluster, instead of the one that is answered. Needed where several clusters call themselves `default-cluster`."""
    billed_by: Annotated[str, StringConstraints(max_length=100)] = ""
    """Provider in whose bill the cluster's machines are already: `aws`, `gcp`, `azure`, or another one's name in lower case. Its cost
    then tells whose the bill is, and is left out of sums over providers. Empty: no other source has a bill for the cluster."""
    currency: CurrencyCode = "USD"
    """Currency of the costs: the API does not say."""
    token: Secret | None = None
    """Bearer token, where something in front of the API asks for one."""
    ca_file: ConfigPath | None = None
    """Certificates (PEM) of the authority that signed the API's own, instead of the system's."""
    request_timeout_seconds: HttpTimeout = 120
    """Seconds that a request may take. The API computes a day out of Prometheus while it is being asked."""
    interval_seconds: float = Field(default=3_600, ge=1, le=31 * 86_400, allow_inf_nan=False)
    """Seconds from the end of one refresh to the beginning of the next."""
    history_days: int = Field(default=14, ge=1, le=400)
    """Days before today that are read at first. OpenCost knows what its Prometheus keeps: 15 days unless that is told otherwise."""
    reread_days: int = Field(default=3, ge=1, le=400)
    """Days before today that every refresh reads again: Kubecost corrects its costs when the cloud's bill has come, up to 48 hours later.
    Must be well below what Prometheus keeps."""

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        if "@" in url or "?" in url or "#" in url:
            raise ValueError("must be an address alone; a password belongs into `token`")
        return url.rstrip("/")

    @field_validator("billed_by")
    @classmethod
    def _provider(cls, provider: str) -> str:
        if provider != provider.strip().lower() or provider == "kubernetes":
            raise ValueError("must be the provider's name in lower case, as `aws`, and another one than `kubernetes`")
        return provider


def billed_by(sources: Iterable[object]) -> dict[str, str]:
    """Name -> provider in whose bill its clusters are, of the sources that name one."""
    return {found.name: found.billed_by for found in sources if isinstance(found, KubernetesSettings) and found.billed_by}
