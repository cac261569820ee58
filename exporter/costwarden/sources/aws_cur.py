"""AWS Cost and Usage Reports, the format before FOCUS, as the columns of FOCUS: legacy CSV and Parquet, and CUR 2.0.

Charge categories as FOCUS's authors map them
(https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec/blob/main/supporting_content/columns/chargecategory.md); other discounts as
they map BundledDiscount. Effective cost is AWS's amortised cost, by the query of its Well-Architected Labs
(https://github.com/awslabs/aws-well-architected-labs/blob/main/static/Cost/300_CUR_Queries/Code/Global/amortized_cost_by_charge_type.sql),
from the columns of https://docs.aws.amazon.com/cur/latest/userguide/data-dictionary.html. docs/focus.md has both as tables.
"""

import re
from collections.abc import Sequence

from costwarden.sources.focus_columns import Column, UnreadableBill, literal

CATEGORIES = {
    "Usage": "Usage",
    "DiscountedUsage": "Usage",
    "SavingsPlanCoveredUsage": "Usage",
    "SavingsPlanNegation": "Usage",
    "BundledDiscount": "Usage",
    "Discount": "Usage",
    "EdpDiscount": "Usage",
    "PrivateRateDiscount": "Usage",
    "RiVolumeDiscount": "Usage",
    "DistributorDiscount": "Usage",
    "SppDiscount": "Usage",
    "Fee": "Purchase",
    "RIFee": "Purchase",
    "SavingsPlanUpfrontFee": "Purchase",
    "SavingsPlanRecurringFee": "Purchase",
    "Tax": "Tax",
    "Credit": "Credit",
    "Refund": "Adjustment",
}
"""lineItem/LineItemType -> ChargeCategory; one that is not here keeps its name."""

USED = ("Usage", "DiscountedUsage", "SavingsPlanCoveredUsage")
COMMITMENTS = ("RIFee", "SavingsPlanUpfrontFee", "SavingsPlanRecurringFee", "SavingsPlanNegation")
"""What they cost is in the effective cost of the usage that they cover; they have no list price of their own."""

_COST = "lineitemunblendedcost"
_EXACT = "DECIMAL(36, 24)"


def is_report(names: Sequence[str]) -> bool:
    """Whether a file with these columns is a Cost and Usage Report."""
    return any(_plain(name) == _COST for name in names)


def as_focus(table: str, names: Sequence[str], columns: Sequence[Column]) -> tuple[str, dict[str, Column]]:
    """SQL that gives the rows of `table` with FOCUS's columns beside their own, all text, and those columns by FOCUS's name.

    `names` are those of the file, `columns` the same as DuckDB sees them. Raises `UnreadableBill` where a column is missing or one that is
    read stands twice.
    """
    report = _Report(names, columns)
    sql = {
        "ProviderName": "'AWS'",
        "BillingAccountId": report.text("billpayeraccountid"),
        "SubAccountId": report.text("lineitemusageaccountid"),
        "ServiceName": report.first("productproductname", "product.product_name", "lineitemproductcode"),
        "RegionId": report.first("productregion", "productregioncode", "product.region"),
        "ChargeCategory": report.category(),
        "ChargePeriodStart": report.first("lineitemusagestartdate", "billbillingperiodstartdate"),
        "BillingCurrency": report.text("lineitemcurrencycode"),
        "Tags": report.tags(),
        "BilledCost": report.text(_COST),
        "EffectiveCost": report.effective_cost(),
        "ListCost": report.list_cost(),
        "ContractedCost": report.contracted_cost(),
    }
    added = ", ".join(f"CAST({expression} AS VARCHAR) AS cur_{name}" for name, expression in sql.items())
    return f"(SELECT *, {added} FROM {table})", {name: Column(f"cur_{name}") for name in sql}  # noqa: S608


class _Report:
    """SQL of what a row says. Names are without signs and in lower case, so that all three ways to write them are one."""

    def __init__(self, names: Sequence[str], columns: Sequence[Column]) -> None:
        self._names, self._all = names, columns
        self._columns: dict[str, Column] = {}
        twice = set()
        for name, column in zip(names, columns, strict=True):
            twice |= {_plain(name)} & self._columns.keys()
            self._columns.setdefault(_plain(name), column)
        for name in (_COST, "lineitemlineitemtype", "lineitemcurrencycode"):
            if name in twice:
                raise UnreadableBill(f"the column {name} of the AWS report stands twice")
        if not self._columns.keys() & {"lineitemusagestartdate", "billbillingperiodstartdate"}:
            raise UnreadableBill("is an AWS report without the column lineItem/UsageStartDate")
        self.kind = f"coalesce({self.text('lineitemlineitemtype')}, 'Usage')"
        self.billed = self.text(_COST)

    def text(self, name: str) -> str:
        """A column as text, NULL where it is empty or not there. `product.region` is a key of the map of CUR 2.0."""
        if "." in name:
            column, key = name.split(".")
            if column not in self._columns:
                return "NULL"
            return f"nullif(json_extract_string(to_json({self._json(column)}), {literal(f'$.{key}')}), '')"
        if name not in self._columns:
            return "NULL"
        return f"nullif(trim(CAST({self._columns[name].reference} AS VARCHAR)), '')"

    def first(self, *names: str) -> str:
        """The first of these that is given."""
        return f"coalesce({', '.join(map(self.text, names))})"

    def category(self) -> str:
        """ChargeCategory."""
        cases = " ".join(f"WHEN {literal(kind)} THEN {literal(category)}" for kind, category in CATEGORIES.items())
        return f"CASE {self.kind} {cases} ELSE {self.kind} END"

    def effective_cost(self) -> str:
        """What the usage of a commitment costs goes to who uses it, and what is unused stays with the fee."""
        upfront, recurring = (self.text(f"reservationunused{fee}") for fee in ("amortizedupfrontfeeforbillingperiod", "recurringfee"))
        # A reservation without an upfront fee leaves that field empty: the other one alone says what is unused.
        unused_fee = _add(f"coalesce({upfront}, CASE WHEN {recurring} IS NOT NULL THEN '0' END)", "+", recurring)
        unused_plan = _add(self.text("savingsplantotalcommitmenttodate"), "-", self.text("savingsplanusedcommitment"))
        return f"""CASE {self.kind}
          WHEN 'DiscountedUsage' THEN coalesce({self.text("reservationeffectivecost")}, {self.billed})
          WHEN 'SavingsPlanCoveredUsage' THEN coalesce({self.text("savingsplansavingsplaneffectivecost")}, {self.billed})
          WHEN 'SavingsPlanRecurringFee' THEN coalesce({unused_plan}, {self.billed})
          WHEN 'RIFee' THEN coalesce({unused_fee}, {self.billed})
          WHEN 'SavingsPlanNegation' THEN '0' WHEN 'SavingsPlanUpfrontFee' THEN '0'
          WHEN 'Fee' THEN CASE WHEN {self._of_reservation()} THEN '0' ELSE {self.billed} END
          ELSE {self.billed} END"""

    def list_cost(self) -> str:
        """At public prices, before any discount."""
        return f"""CASE
          WHEN {self.kind} IN ({_texts(USED)}) THEN coalesce({self.text("pricingpublicondemandcost")}, {self.billed})
          WHEN {self.kind} IN ({_texts(COMMITMENTS)}) OR ends_with({self.kind}, 'Discount') OR {self._of_reservation()} THEN '0'
          ELSE {self.billed} END"""

    def contracted_cost(self) -> str:
        """At negotiated prices, without commitments: those of usage under a reservation are not in the report, the public ones are."""
        return f"""CASE
          WHEN {self.kind} = 'DiscountedUsage' THEN coalesce({self.text("pricingpublicondemandcost")}, {self.billed})
          WHEN {self.kind} IN ({_texts(COMMITMENTS)}) OR {self._of_reservation()} THEN '0'
          ELSE {self.billed} END"""

    def tags(self) -> str:
        """Tags as a JSON object, the `user:` before a key left out."""
        if "resourcetags" in self._columns:
            text = f"CAST(to_json({self._json('resourcetags')}) AS VARCHAR)"
            return rf"""regexp_replace({text}, '([{{,]\s*)"user[_:]', '\1"', 'g')"""
        found = [(key, column) for name, column in zip(self._names, self._all, strict=True) if (key := _tag(name))]
        pairs = [f"{literal(key)}, nullif(CAST({column.reference} AS VARCHAR), '')" for key, column in found]
        if not found:
            return "NULL"
        given = " OR ".join(f"{column.reference} IS NOT NULL" for _, column in found)
        return f"CASE WHEN {given} THEN json_object({', '.join(pairs)}) END"

    def _of_reservation(self) -> str:
        return f"({self.kind} = 'Fee' AND {self.text('reservationreservationarn')} IS NOT NULL)"

    def _json(self, name: str) -> str:
        column = self._columns[name]
        return f"TRY_CAST({column.reference} AS JSON)" if column.type == "VARCHAR" else column.reference


def _add(one: str, sign: str, other: str) -> str:
    """The exact sum of two costs, the second 0 where it is not given; where one is no number, that one, so that the row is rejected."""
    total = f"TRY_CAST(plain({one}) AS {_EXACT}) {sign} coalesce(TRY_CAST(plain({other}) AS {_EXACT}), 0)"
    both = f"is_number({one}) AND coalesce(is_number({other}), true)"
    return f"CASE WHEN {both} THEN CAST({total} AS VARCHAR) WHEN is_number({one}) THEN {other} ELSE {one} END"


def _tag(name: str) -> str:
    """The key of the tag whose values stand in a column; empty where it is none."""
    if match := re.fullmatch(r"resourceTags/(?:user:)?(.+)", name):
        return match[1]
    match = re.fullmatch(r"resource_tags_(?:user_)?(.+)", name)
    return match[1] if match else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _texts(values: Sequence[str]) -> str:
    return ", ".join(map(literal, values))
