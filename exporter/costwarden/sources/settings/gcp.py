"""Google Cloud: `type: gcp`."""

import re
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from costwarden.settings import Price
from costwarden.sources.settings.access import GcpAccess
from costwarden.sources.settings.schedule import DailySchedule, PredictedRequests, SourceName

BYTES_PER_TEBIBYTE = 1 << 40

ExportKind = Literal["standard", "detailed", "focus"]

# https://cloud.google.com/resource-manager/docs/creating-managing-projects: a project id, with the domain of an old one before a colon.
_PROJECT = r"([a-z0-9.-]{1,253}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"

# https://cloud.google.com/bigquery/docs/tables#table_naming and .../datasets#dataset-naming allow more; an export's names have no more.
_TABLE = re.compile(rf"{_PROJECT}\.[A-Za-z0-9_]{{1,1024}}\.[A-Za-z0-9_-]{{1,1024}}")


def _table(name: str) -> str:
    if not _TABLE.fullmatch(name):
        raise ValueError(
            "must be PROJECT.DATASET.TABLE: a project id has 6 to 30 small letters, digits and hyphens, the others have letters, digits "
            "and `_`, a table also `-`"
        )
    return name


BillingAccount = Annotated[str, StringConstraints(pattern=r"^([0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6})?$")]
"""Id of a Cloud Billing account."""


class GcpSettings(DailySchedule):
    """Cost of Google Cloud, from the billing export in BigQuery and the Cloud Billing API."""

    type: Literal["gcp"]
    """`gcp`: cost of Google Cloud, from the billing export in BigQuery and the Cloud Billing API."""
    name: SourceName = "gcp"
    """Name of the source: the `source` label of its series."""
    access: GcpAccess = GcpAccess()
    """Credentials of Google Cloud."""
    table: Annotated[str, AfterValidator(_table)]
    """Table of the billing export, as `project.dataset.gcp_billing_export_v1_010101_F0FFF0_61C528`, or a view with its columns."""
    export: ExportKind | None = None
    """What the table holds: `standard`, `detailed` or `focus`. Without it, as the name of the table says."""
    partition_column: Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,299})?$")] = "_PARTITIONTIME"
    """Column (TIMESTAMP) that the table is partitioned by: when rows were exported. Empty for a view that has none; then each query reads
    the whole table."""
    project: Annotated[str, StringConstraints(pattern=rf"^({_PROJECT})?$")] = ""
    """Project in which the queries run, and which pays for them. Empty takes the table's."""
    location: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]*$")] = ""
    """Location of the dataset, as `EU`. Empty lets BigQuery find it."""
    maximum_bytes_billed: int = Field(default=10 * (1 << 30), ge=10 << 20, le=1 << 50)
    """Bytes that one query may be billed for; a larger one is not made. 10 GiB are $0.06 at $6.25 a TiB."""
    usd_per_tebibyte: Annotated[Price, Field(max_digits=20)] = Decimal("6.25")
    """What BigQuery takes for a TiB (2⁴⁰ bytes) that a query reads, with on-demand prices; 0 where slots are paid for instead."""
    billing_account: BillingAccount = ""
    """Account whose budgets are read, as `010101-F0FFF0-61C528`. Empty takes the one in the table's name."""
    budgets: bool = True
    """Read the budgets of the account, and compute what is spent of them."""

    @model_validator(mode="after")
    def _kind_is_known(self) -> Self:
        if self.export is None and self._named_kind is None:
            raise ValueError("the name of `table` is none of an export's: say which it is with `export: standard`, `detailed` or `focus`")
        if self.budgets and not self.account:
            raise ValueError("the name of `table` names no billing account: set `billing_account`, or `budgets: false`")
        return self

    @property
    def kind(self) -> ExportKind:
        """What the table holds."""
        kind = self.export or self._named_kind
        assert kind is not None
        return kind

    @property
    def _named_kind(self) -> ExportKind | None:
        # https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables
        name = self.table.rsplit(".", 1)[1]
        kinds: dict[str, ExportKind] = {
            "gcp_billing_export_v1_": "standard",
            "gcp_billing_export_resource_v1_": "detailed",
            "gcp_billing_export_focus_": "focus",
        }
        return next((kind for prefix, kind in kinds.items() if name.startswith(prefix)), None)

    @property
    def account(self) -> str:
        """The billing account; empty where neither the settings nor the name of the table tell."""
        if self.billing_account:
            return self.billing_account
        parts = self.table.rsplit(".", 1)[1].rsplit("_", 3)[1:]
        is_account = len(parts) == 3 and all(len(part) == 6 and not set(part) - set("0123456789ABCDEF") for part in parts)
        return "-".join(parts) if is_account else ""

    @property
    def job_project(self) -> str:
        """The project in which the queries run."""
        return self.project or self.table.rsplit(".", 2)[0]

    @property
    def predicted_requests(self) -> tuple[PredictedRequests, ...]:
        """One query a refresh, at most as large as it may be."""
        largest = self.usd_per_tebibyte * self.maximum_bytes_billed / BYTES_PER_TEBIBYTE
        return (PredictedRequests("BigQuery queries of `maximum_bytes_billed`", self.refreshes_a_day, largest),)
