"""Sample bills of three clouds in FOCUS, dated up to today: AWS (1.0, CSV), Google Cloud (1.1, CSV.gz), Azure (1.2, Parquet, in euros).

The same days give the same bills. Each has a credit and a tax line; the one of AWS has a row that nobody can read.
"""

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple


def _columns(names: str, *, beside: Sequence[str] = ()) -> tuple[str, ...]:
    return tuple(sorted([*beside, *names.split()]))


# The columns of each version: https://focus.finops.org/focus-specification/
FOCUS_1_0 = _columns("""
    AvailabilityZone BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory
    ChargeClass ChargeDescription ChargeFrequency ChargePeriodEnd ChargePeriodStart CommitmentDiscountCategory CommitmentDiscountId
    CommitmentDiscountName CommitmentDiscountStatus CommitmentDiscountType ConsumedQuantity ConsumedUnit ContractedCost
    ContractedUnitPrice EffectiveCost InvoiceIssuerName ListCost ListUnitPrice PricingCategory PricingQuantity PricingUnit ProviderName
    PublisherName RegionId RegionName ResourceId ResourceName ResourceType ServiceCategory ServiceName SkuId SkuPriceId SubAccountId
    SubAccountName Tags
""")
FOCUS_1_1 = _columns(
    """
    CapacityReservationId CapacityReservationStatus CommitmentDiscountQuantity CommitmentDiscountUnit ServiceSubcategory SkuMeter
    SkuPriceDetails
""",
    beside=FOCUS_1_0,
)
FOCUS_1_2 = _columns(
    """
    BillingAccountType InvoiceId PricingCurrency PricingCurrencyContractedUnitPrice PricingCurrencyEffectiveCost
    PricingCurrencyListUnitPrice SubAccountType
""",
    beside=FOCUS_1_1,
)

EUR_USD = Decimal("1.08")
"""The rate that `costwarden.yaml` beside this file configures."""

EC2 = "Amazon Elastic Compute Cloud"


class Item(NamedTuple):
    """What a resource costs, in the currency of its bill, on an ordinary day."""

    service: str
    category: str
    region: str
    resource: str
    daily: Decimal
    environment: str
    team: str
    feature: str = ""

    @property
    def tags(self) -> str:
        """The column Tags: a JSON object."""
        tags = {"environment": self.environment, "team": self.team, "feature": self.feature}
        return json.dumps({key: value for key, value in tags.items() if value})


class Bill(NamedTuple):
    """A cloud's bill: its items every day, its credit and tax on the first of each month."""

    provider: str
    issuer: str
    account: str
    currency: str
    credit: Decimal
    tax: Decimal
    columns: Sequence[str]
    items: tuple[Item, ...]


AWS = Bill(
    *("AWS", "Amazon Web Services, Inc.", "210987654321", "USD", Decimal("-75.00"), Decimal("23.94"), FOCUS_1_0),
    items=(
        Item(EC2, "Compute", "eu-central-1", "i-web", Decimal("96.40"), "prod", "web"),
        Item(EC2, "Compute", "eu-central-1", "i-train", Decimal("18.55"), "dev", "research", "training"),
        Item("Amazon Relational Database Service", "Databases", "eu-central-1", "db", Decimal("41.27"), "prod", "web", "orders"),
        Item("Amazon Simple Storage Service", "Storage", "us-east-1", "archive", Decimal("12.7531"), "prod", "data"),
    ),
)
GOOGLE = Bill(
    *("Google Cloud", "Google Cloud", "01A2B3-C4D5E6-F7A8B9", "USD", Decimal("-20.00"), Decimal("9.12"), FOCUS_1_1),
    items=(
        Item("Kubernetes Engine", "Compute", "europe-west3", "gke-main", Decimal("33.10"), "prod", "platform"),
        Item("BigQuery", "Analytics", "europe-west3", "warehouse", Decimal("27.482"), "prod", "data", "reports"),
        Item("Cloud Storage", "Storage", "europe-west1", "exports", Decimal("4.96"), "prod", "data", "exports"),
    ),
)
AZURE = Bill(
    *("Microsoft", "Microsoft", "8611537", "EUR", Decimal("-10.00"), Decimal("6.83"), FOCUS_1_2),
    items=(
        Item("Azure OpenAI", "AI and Machine Learning", "westeurope", "openai", Decimal("22.75"), "prod", "reports", "summaries"),
        Item("Virtual Machines", "Compute", "westeurope", "vm-build", Decimal("15.20"), "ci", "platform"),
    ),
)

PROVIDERS = {"aws": AWS, "gcp": GOOGLE, "azure": AZURE}


def write_bills(folder: Path, today: date) -> dict[str, Decimal]:
    """Write the bills of last month and of this one up to `today`; each cloud's total of this month in dollars, exactly."""
    totals = {}
    for name, bill in PROVIDERS.items():
        rows = list(_rows(bill, today))
        this_month = (Decimal(row["BilledCost"]) for row in rows if row["ChargePeriodStart"] >= f"{today:%Y-%m-01}")
        totals[name] = sum(this_month, Decimal(0)) * (EUR_USD if bill.currency == "EUR" else 1)
        (folder / name).mkdir(parents=True, exist_ok=True)
        if name == "aws":
            rows.append({**rows[-1], "BilledCost": "see attachment", "ChargeDescription": "a row that nobody can read"})
            _write_csv(folder / name / "focus-1.0.csv", bill.columns, rows)
        elif name == "gcp":
            _write_csv(folder / name / "focus-1.1.csv.gz", bill.columns, rows)
        else:
            _write_parquet(folder / name / "focus-1.2.parquet", bill.columns, rows)
    return totals


def write_breach(folder: Path, today: date, instances: int, each: Decimal) -> tuple[str, Decimal]:
    """Write one more bill of AWS: `instances` of a development fleet at `each` dollars, all of today; its file name and its sum."""
    rows = []
    for number in range(instances):
        item = Item(EC2, "Compute", "eu-central-1", f"i-gpu-{number}", each, "dev", "research", "training")
        rows.append(_row(AWS, today, "Usage", each, f"p4d.24xlarge, left running over night ({number + 1})", item))
    name = f"focus-1.0-{today}-late.csv"
    _write_csv(folder / "aws" / name, AWS.columns, rows)
    return name, each * instances


def _rows(bill: Bill, today: date) -> Iterator[dict[str, Any]]:
    day = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    while day <= today:
        if day.day == 1:
            yield _row(bill, day, "Credit", bill.credit, "promotional credit")
            yield _row(bill, day, "Tax", bill.tax, "value added tax")
        for item in bill.items:
            # Up to 10 % above the ordinary, in steps that repeat every eleven days: no day is a spike, no two neighbours are alike.
            cost = item.daily * (100 + day.toordinal() * 7 % 11) / 100
            yield _row(bill, day, "Usage", cost, f"{item.service}, a day", item)
        day += timedelta(days=1)


def _row(bill: Bill, day: date, category: str, cost: Decimal, description: str, item: Item | None = None) -> dict[str, Any]:
    month = day.replace(day=1)
    row = {
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ContractedCost", "ListCost"), f"{cost:f}"),
        "BillingAccountId": bill.account,
        "BillingAccountName": "demo",
        "BillingCurrency": bill.currency,
        "BillingPeriodStart": f"{month}T00:00:00Z",
        "BillingPeriodEnd": f"{(month + timedelta(days=31)).replace(day=1)}T00:00:00Z",
        "ChargeCategory": category,
        "ChargeDescription": description,
        "ChargeFrequency": "Usage-Based" if category == "Usage" else "One-Time",
        "ChargePeriodStart": f"{day}T00:00:00Z",
        "ChargePeriodEnd": f"{day + timedelta(days=1)}T00:00:00Z",
        "InvoiceIssuerName": bill.issuer,
        "ProviderName": bill.provider,
        "PublisherName": bill.issuer,
        "ServiceCategory": item.category if item else "Other",
        "ServiceName": item.service if item else category,
        "SubAccountId": f"{bill.account}-main",
    }
    if item:
        row |= {"RegionId": item.region, "ResourceId": item.resource, "PricingCategory": "Standard", "Tags": item.tags}
    return row


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    # A reader passes over names that begin with a dot: it never sees half a file.
    partial = path.with_name(f".{path.name}")
    with gzip.open(partial, "wt") if path.suffix == ".gz" else partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    partial.rename(path)


def _write_parquet(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    import duckdb

    types = {"Cost": "DECIMAL(28, 10)", "PeriodStart": "TIMESTAMP", "PeriodEnd": "TIMESTAMP"}
    partial = path.with_name(f".{path.name}")
    with duckdb.connect() as connection:
        declared = ", ".join(f"{column} {next((types[end] for end in types if column.endswith(end)), 'VARCHAR')}" for column in columns)
        connection.execute(f"CREATE TABLE bill ({declared})")
        places = ", ".join("?" for _ in columns)
        connection.executemany(f"INSERT INTO bill VALUES ({places})", [[row.get(column) for column in columns] for row in rows])  # noqa: S608
        connection.table("bill").write_parquet(str(partial))
    partial.rename(path)
