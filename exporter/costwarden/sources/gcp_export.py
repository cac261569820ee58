"""The billing export in BigQuery: the one query that is made of it, and its rows.

Shapes: https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/standard-usage (`detailed-usage` has all of it, and more)
and https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/focus-export.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import msgspec

from costwarden.sources.daily import Cost
from costwarden.sources.settings import GcpSettings
from costwarden.sources.windows import ONE_DAY

# The export's costs are FLOAT64. Their text has the digits that Google wrote: 15 where these give the same number back, else 17
# (GoogleSQL's `RoundTripDoubleToString`), so 0.1 and not 0.1000000000000000055…, as the number itself would become.
# BIGNUMERIC adds them up exactly, to 38 decimal places; NUMERIC would round away what is finer than nine.
# https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types
_EXACT = "SAFE_CAST(CAST({} AS STRING) AS BIGNUMERIC)"

PARTITION_MARGIN = timedelta(days=1)
"""Usage is exported after it began, so that no row of a day stands in an earlier partition; a day more, should partitions begin at another
hour than days do. There is no upper end: late and restated rows stand in later partitions."""

CATEGORIES = {"regular": "Usage", "tax": "Tax", "adjustment": "Adjustment", "rounding_error": "Adjustment"}
"""The export's `cost_type` -> FOCUS's ChargeCategory. What is new there counts as usage, so that no money is lost."""


class Line(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A row of the answer: a day's sum of the rows of the export that agree in every text below, credits apart."""

    day: date
    account: str
    project: str
    project_number: str
    ancestry: str
    """Numbers of the folders and the organization above the project, as `/1234/5678/`."""
    service_id: str
    service: str
    region: str
    kind: str
    """`cost_type`, or in a FOCUS export ChargeCategory."""
    credit: str
    """Type of the credit that this is; empty where it is none."""
    currency: str
    labels: tuple[str, ...]
    """The values for the keys that attribution asks for, in their order."""
    budget_labels: tuple[str, ...]
    """The values of the resource's own labels that budgets are about, in the order of their keys."""
    billed: Decimal
    effective: Decimal
    at_list: Decimal
    contracted: Decimal
    lines: int
    unreadable: int
    """Those of `lines` that have no cost; the sums are without them."""
    rate: str
    """Units of `currency` for a dollar, by which Google has converted its prices."""

    def cost(self, keys: Sequence[str]) -> Cost:
        """As a line of a bill; `keys` are those of `labels`."""
        return Cost(
            day=self.day,
            provider_name="gcp",
            billing_account_id=self.account,
            sub_account_id=self.project,
            service_name=self.service,
            region_id=self.region,
            charge_category="Credit" if self.credit else CATEGORIES.get(self.kind, self.kind if self.kind in _FOCUS else "Usage"),
            billing_currency=self.currency,
            tags=dict(zip(keys, self.labels, strict=True)),
            billed_cost=self.billed,
            effective_cost=self.effective,
            list_cost=self.at_list,
            contracted_cost=self.contracted,
            rows=self.lines - self.unreadable,
        )


_FOCUS = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")

TEXTS = (
    "day", "account", "project", "project_number", "ancestry", "service_id", "service", "region", "kind", "credit", "currency",
)  # fmt: skip
"""The columns before the labels."""


class ExportQuery(msgspec.Struct, frozen=True):
    """A query with its parameters; nothing of a value is in its text."""

    sql: str
    timestamps: dict[str, datetime]
    texts: dict[str, str]
    keys: tuple[str, ...]
    budget_keys: tuple[str, ...]

    def line(self, row: Sequence[object]) -> Line:
        """A row of the answer. Raises `msgspec.ValidationError` where it is none."""
        begin, middle = len(TEXTS), len(TEXTS) + len(self.keys)
        end = middle + len(self.budget_keys)
        return msgspec.convert([*row[:begin], row[begin:middle], row[middle:end], *row[end:]], Line)


def export_query(settings: GcpSettings, first: date, last: date, keys: Sequence[str], budget_keys: Sequence[str] = ()) -> ExportQuery:
    """What the days from `first` to `last` (UTC) cost, by all that `Line` names. One scan of the table, also for the credits.

    `keys` are label keys in lower case; a resource's own label comes before its tag, and that before the label of its project.
    """
    timestamps = {"first": _midnight(first), "after": _midnight(last + ONE_DAY)}
    texts = {f"key_{number}": key for number, key in enumerate(keys)} | {
        f"budget_key_{number}": key for number, key in enumerate(budget_keys)
    }
    begin = "line.ChargePeriodStart" if settings.kind == "focus" else "line.usage_start_time"
    where = [f"{begin} >= @first", f"{begin} < @after"]
    if settings.partition_column:
        timestamps["since"] = _midnight(first - PARTITION_MARGIN)
        where.append(f"line.{settings.partition_column} >= @since")
    columns = _focus_columns(keys, budget_keys) if settings.kind == "focus" else _export_columns(keys, budget_keys)
    grouped = len(TEXTS) + len(keys) + len(budget_keys)
    # The table's name has passed the pattern of the settings: it has no backtick and no backslash.
    source = [f"FROM `{settings.table}` AS line"]
    if settings.kind != "focus":
        # Item 0 is the row's own cost, item n its n-th credit: so the table is read, and paid for, once.
        source.append("CROSS JOIN UNNEST(GENERATE_ARRAY(0, IFNULL(ARRAY_LENGTH(line.credits), 0))) AS item")
    groups = ", ".join(str(number) for number in range(1, grouped + 1))
    selected = ",\n".join(f"  {expression} AS {name}" for name, expression in columns.items())
    lines = (f"SELECT\n{selected}", *source, "WHERE " + " AND ".join(where), f"GROUP BY {groups}", f"ORDER BY {groups}")
    return ExportQuery("\n".join(lines), timestamps, texts, tuple(keys), tuple(budget_keys))


def _export_columns(keys: Sequence[str], budget_keys: Sequence[str]) -> dict[str, str]:
    amount = _EXACT.format("IF(item = 0, line.cost, line.credits[SAFE_ORDINAL(item)].amount)")
    own = f"IF(item = 0, {amount}, NULL)"
    at_list = f"IF(item = 0, {_EXACT.format('COALESCE(line.cost_at_list, line.cost)')}, NULL)"
    return {
        "day": "DATE(line.usage_start_time)",
        "account": "IFNULL(line.billing_account_id, '')",
        "project": "IFNULL(line.project.id, '')",
        "project_number": "IFNULL(line.project.number, '')",
        "ancestry": "IFNULL(line.project.ancestry_numbers, '')",
        "service_id": "IFNULL(line.service.id, '')",
        "service": "IFNULL(line.service.description, '')",
        "region": "COALESCE(line.location.region, line.location.location, '')",
        "kind": "IFNULL(line.cost_type, '')",
        # A credit without a type is a credit nevertheless.
        "credit": "IF(item = 0, '', IFNULL(NULLIF(line.credits[SAFE_ORDINAL(item)].type, ''), 'CREDIT_TYPE_UNSPECIFIED'))",
        "currency": "IFNULL(line.currency, '')",
        **_labels(keys, ("line.labels", "line.tags", "line.project.labels"), "key", "value"),
        **_budget_labels(budget_keys, "line.labels", "key", "value"),
        "billed": f"IFNULL(SUM({amount}), 0)",
        "effective": f"IFNULL(SUM({amount}), 0)",
        "at_list": f"IFNULL(SUM({at_list}), 0)",
        "contracted": f"IFNULL(SUM({own}), 0)",
        "lines": "COUNT(*)",
        "unreadable": f"COUNTIF({amount} IS NULL)",
        "rate": "IFNULL(MAX(CAST(line.currency_conversion_rate AS STRING)), '')",
    }


def _focus_columns(keys: Sequence[str], budget_keys: Sequence[str]) -> dict[str, str]:
    billed = _EXACT.format("line.BilledCost")
    # Where one cost is missing, the billed one is the best that is known of it; where that is missing, the row counts as unreadable.
    sums = {
        name: f"IFNULL(SUM(IF(line.BilledCost IS NULL, NULL, {_EXACT.format(f'COALESCE(line.{column}, line.BilledCost)')})), 0)"
        for name, column in {"effective": "EffectiveCost", "at_list": "ListCost", "contracted": "ContractedCost"}.items()
    }
    return {
        "day": "DATE(line.ChargePeriodStart)",
        "account": "IFNULL(line.BillingAccountId, '')",
        "project": "IFNULL(line.SubAccountId, '')",
        "project_number": "IFNULL(line.x_Project.Number, '')",
        "ancestry": "IFNULL(line.x_Project.AncestryNumbers, '')",
        "service_id": "IFNULL(line.x_ServiceId, '')",
        "service": "IFNULL(line.ServiceName, '')",
        "region": "IFNULL(line.RegionId, '')",
        "kind": "IFNULL(line.ChargeCategory, '')",
        "credit": "''",
        "currency": "IFNULL(line.BillingCurrency, '')",
        **_labels(keys, ("line.x_Labels", "line.x_Tags", "line.x_ProjectLabels"), "Key", "Value"),
        **_budget_labels(budget_keys, "line.x_Labels", "Key", "Value"),
        "billed": f"IFNULL(SUM({billed}), 0)",
        **sums,
        "lines": "COUNT(*)",
        "unreadable": f"COUNTIF({billed} IS NULL)",
        "rate": "IFNULL(MAX(CAST(line.x_CurrencyConversionRate AS STRING)), '')",
    }


def _labels(keys: Sequence[str], lists: Sequence[str], key: str, value: str) -> dict[str, str]:
    # MIN decides where keys differ in case only: any other choice could differ from one query to the next.
    def found(number: int, of: str) -> str:
        chosen = f"FROM UNNEST({of}) AS label WHERE LOWER(TRIM(label.{key})) = @key_{number}"
        return f"(SELECT MIN(NULLIF(TRIM(label.{value}), '')) {chosen})"

    return {f"label_{number}": f"COALESCE({', '.join(found(number, of) for of in lists)}, '')" for number, _ in enumerate(keys)}


def _budget_labels(keys: Sequence[str], of: str, key: str, value: str) -> dict[str, str]:
    def found(number: int) -> str:
        chosen = f"FROM UNNEST({of}) AS label WHERE label.{key} = @budget_key_{number}"
        return f"IFNULL((SELECT MIN(label.{value}) {chosen}), '')"

    return {f"budget_label_{number}": found(number) for number, _ in enumerate(keys)}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
