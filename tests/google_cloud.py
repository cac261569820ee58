"""Google Cloud on loopback, as `type: gcp` meets it: BigQuery with a billing export, and Cloud Billing."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Self

from bigquery_server import FOCUS, STANDARD, BigQuery
from cloud_billing_server import CloudBilling
from stand_in import Answer, Request, StandIn

from costwarden.sources.settings import GcpSettings

ACCOUNT = "010101-F0FFF0-61C528"
TABLE = "billing-host.billing.gcp_billing_export_v1_010101_F0FFF0_61C528"
DETAILED = "billing-host.billing.gcp_billing_export_resource_v1_010101_F0FFF0_61C528"
FOCUS_TABLE = "billing-host.gcp_billing_immutable_010101_F0FFF0_61C528_eu.gcp_billing_export_focus_010101_F0FFF0_61C528"

COMPUTE = {"id": "6F81-5844-456A", "description": "Compute Engine"}
STORAGE = {"id": "95FF-2EF5-5EA1", "description": "Cloud Storage"}


class GoogleCloud:
    """`with GoogleCloud() as cloud: …`: one export of one account, with the rows that are `add`ed."""

    def __init__(self, table: str = TABLE) -> None:
        self.table = table
        self.bigquery = BigQuery()
        self.bigquery.create(table, FOCUS if "_focus_" in table else STANDARD)
        self.billing = CloudBilling(
            accounts=[{"name": f"billingAccounts/{ACCOUNT}", "open": True, "displayName": "Main account"}], budgets={ACCOUNT: []}
        )
        self.server = StandIn(self._answer)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()
        self.bigquery.close()

    def settings(self, **changes: Any) -> GcpSettings:
        """Settings that read this cloud."""
        return GcpSettings.model_validate({"type": "gcp", "table": self.table, "access": {"endpoint_url": self.server.url}, **changes})

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Rows of the export, as `row` makes them."""
        self.bigquery.load(self.table, *rows)

    def asked(self, what: str) -> list[Request]:
        """The requests whose path has `what` in it."""
        return [request for request in self.server.requests if what in request.path]

    def _answer(self, request: Request) -> Answer:
        return (self.bigquery if request.path.startswith("/bigquery/") else self.billing).answer(request)


def row(day: str, cost: float | None, **changes: Any) -> dict[str, Any]:
    """A row of the standard export: an hour of Compute Engine, exported 38 hours later, in which nothing else is remarkable.

    `credits` are pairs of type and amount, `labels` and `project_labels` mappings; every other change is a column.
    """
    start = datetime.fromisoformat(day)
    exported = start + timedelta(hours=38)
    project = changes.pop("project", "shop")
    made = {
        "_PARTITIONTIME": exported.replace(hour=0, minute=0),
        "export_time": exported,
        "billing_account_id": ACCOUNT,
        "invoice": {"month": f"{start:%Y%m}"},
        "cost_type": "regular",
        "service": COMPUTE,
        "sku": {"id": "CF4E-A0C7-E3BF", "description": "N2 Instance Core running in Frankfurt"},
        "usage_start_time": start,
        "usage_end_time": start + timedelta(hours=1),
        "project": {
            "id": project,
            "number": {"shop": "111", "lab": "222"}.get(project, "999"),
            "name": project,
            "labels": _labels(changes.pop("project_labels", {})),
            "ancestry_numbers": {"shop": "/5000/6001/", "lab": "/5000/6002/"}.get(project, "/5000/"),
        },
        "labels": _labels(changes.pop("labels", {})),
        "system_labels": [],
        "location": {"location": "europe-west3", "country": "DE", "region": "europe-west3", "zone": None},
        "tags": [{**tag, "inherited": False, "namespace": "5000"} for tag in _labels(changes.pop("tags", {}))],
        "cost": cost,
        "cost_at_list": cost,
        "currency": "USD",
        "currency_conversion_rate": 1.0,
        "credits": [
            {"id": kind.lower(), "full_name": kind.title(), "type": kind, "name": kind.title(), "amount": amount}
            for kind, amount in changes.pop("credits", ())
        ],
    }
    return made | changes


def without_project(made: Mapping[str, Any]) -> dict[str, Any]:
    """As the export writes what is no project's: tax, support, rounding."""
    return {**made, "project": None, "labels": [], "location": {"location": None, "country": None, "region": None, "zone": None}}


def focus_row(day: str, billed: str, effective: str | None = None, **changes: Any) -> dict[str, Any]:
    """A row of the FOCUS export."""
    start = datetime.fromisoformat(day)
    return {
        "_PARTITIONTIME": start.replace(hour=0, minute=0),
        "BilledCost": Decimal(billed),
        "EffectiveCost": Decimal(effective or billed),
        "ListCost": Decimal(billed),
        "ContractedCost": Decimal(billed),
        "BillingAccountId": ACCOUNT,
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargePeriodStart": start,
        "RegionId": "europe-west3",
        "ServiceName": "Compute Engine",
        "SubAccountId": "shop",
        "x_ServiceId": COMPUTE["id"],
        "x_CurrencyConversionRate": 1.0,
        "x_Project": {"Id": "shop", "Number": "111", "Name": "shop", "AncestryNumbers": "/5000/"},
        "x_Labels": [],
        "x_ProjectLabels": [],
        "x_Tags": [],
    } | changes


def _labels(pairs: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in pairs.items()]


def written(amount: float) -> Decimal:
    """The digits of a FLOAT64 as GoogleSQL casts it to STRING: 15 where they give the number back, else 17."""
    short = f"{amount:.15g}"
    return Decimal(short if float(short) == amount else f"{amount:.17g}")


def total(rows: Sequence[Mapping[str, Any]]) -> Decimal:
    """What rows of the standard export cost, credits subtracted."""
    amounts = [made["cost"] for made in rows] + [credit["amount"] for made in rows for credit in made["credits"]]
    return sum(map(written, amounts), Decimal(0))
