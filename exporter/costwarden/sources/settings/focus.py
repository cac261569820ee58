"""Bills in FOCUS: `type: focus`."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from costwarden.settings import ConfigPath
from costwarden.sources.settings.access import AwsAccess, AzureAccess, GcpAccess
from costwarden.sources.settings.schedule import CurrencyCode, PredictedRequests, Schedule, SourceName

BillsUrl = Annotated[
    str,
    StringConstraints(pattern=r"^(s3://[a-zA-Z0-9._-]{3,63}|gs://[a-z0-9._-]{3,222}|az://[a-z0-9]{3,24}/[a-z0-9$-]{3,63})(/[^?#]*)?$"),
]
"""`s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://STORAGE_ACCOUNT/CONTAINER/PREFIX`."""

LISTING_USD = {"s3": Decimal("0.000005"), "gs": Decimal("0.000005"), "az": Decimal("0.000005")}
"""What one page of a listing costs, by scheme: https://aws.amazon.com/s3/pricing/ ($0.005 per 1,000 LIST, S3 Standard, us-east-1),
https://cloud.google.com/storage/pricing ($0.05 per 10,000 class A operations, Standard, a region) and
https://azure.microsoft.com/en-us/pricing/details/storage/blobs/ ($0.05 per 10,000 list operations, hot, LRS). Other tiers and regions
differ by a few millionths of a dollar."""

READING_USD = {"s3": Decimal("0.0000004"), "gs": Decimal("0.0000004"), "az": Decimal("0.0000004")}
"""What one read costs: $0.0004 per 1,000 GET, $0.004 per 10,000 class B operations, $0.004 per 10,000 read operations; same pages."""


class FocusSettings(Schedule):
    """Bills in FOCUS 1.0 to 1.4, and AWS Cost and Usage Reports, in a folder or an object store: every *.csv, *.csv.gz and *.parquet
    there, at any depth."""

    type: Literal["focus"] = "focus"
    """`focus`: files in FOCUS."""
    name: SourceName = "focus"
    """Name of the source: the `source` label of its series."""
    path: ConfigPath | None = None
    """The folder. A name that begins with a dot is passed over: such files are still being written. Either this or `url`."""
    url: BillsUrl | None = None
    """The prefix of an object store: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://STORAGE_ACCOUNT/CONTAINER/PREFIX`."""
    aws: AwsAccess | None = None
    """Who reads an `s3://` prefix; without it, whom boto3 finds."""
    gcp: GcpAccess | None = None
    """Who reads a `gs://` prefix; without it, the application default credentials."""
    azure: AzureAccess | None = None
    """Who reads an `az://` prefix; without it, whom azure-identity finds. `endpoint_url` is that of the blob service here, and the storage
    account becomes the first part of its path."""
    default_currency: CurrencyCode | None = None
    """Currency of rows that name none. Without it they are rejected: FOCUS requires BillingCurrency."""
    keep_rejected_rows: int = Field(default=1000, ge=0, le=100_000)
    """Rejected rows of a file that are kept for `costwarden rejected`; all are counted."""
    memory_mebibytes: int = Field(default=512, ge=128)
    """Memory that DuckDB may use; what does not fit goes to the temporary directory, as does an object while it is read."""
    threads: int = Field(default=2, ge=1, le=64)
    """Threads that DuckDB may use."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("needs exactly one of `path` and `url`")
        section = {"s3": "aws", "gs": "gcp", "az": "azure"}.get(self.scheme)
        for name in ("aws", "gcp", "azure"):
            if getattr(self, name) is not None and name != section:
                place = f"`url` {self.url}" if self.url else "`path`"
                raise ValueError(f"`{name}` has no use with {place}" + (f": that is read by `{section}`" if section else ""))
        return self

    @property
    def scheme(self) -> str:
        """`s3`, `gs`, `az`; empty for a folder."""
        return self.url.split(":")[0] if self.url else ""

    @property
    def predicted_requests(self) -> tuple[PredictedRequests, ...]:
        """One listing a refresh, of up to 1,000 objects; reading what has changed comes on top."""
        if not self.url:
            return ()
        return (PredictedRequests("listings of the object store", self.refreshes_a_day, LISTING_USD[self.scheme]),)
