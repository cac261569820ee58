"""From the columns of a FOCUS file to the ones that are kept: names, types, and what makes a row unreadable, as DuckDB's SQL.

Costs become DECIMAL(36, 24): 24 decimal places hold what providers write (AWS 11, Azure and BigQuery up to 17 significant digits), and
12 places are left before the point. Their sums are DECIMAL(38, 24): room for a hundred of the largest. DuckDB reads plain digits into it
exactly and rounds half away from zero what is finer; its reading of `1.2e-7` loses digits beyond a HUGEINT, so the point of such a number
is moved first (`plain`).
"""

from collections.abc import Mapping, Sequence
from datetime import date

import msgspec

DIMENSIONS: dict[str, tuple[str, ...]] = {
    # FOCUS 1.4 drops ProviderName and PublisherName; 1.3 has both generations. The nearest in meaning comes first.
    "provider_name": ("ProviderName", "ServiceProviderName", "HostProviderName", "PublisherName", "InvoiceIssuerName"),
    "billing_account_id": ("BillingAccountId",),
    "sub_account_id": ("SubAccountId",),
    "service_name": ("ServiceName",),
    "service_category": ("ServiceCategory",),
    "region_id": ("RegionId",),
    "charge_category": ("ChargeCategory",),
    "tags": ("Tags",),
}
COST_COLUMNS = {
    "billed_cost": "BilledCost",
    "effective_cost": "EffectiveCost",
    "list_cost": "ListCost",
    "contracted_cost": "ContractedCost",
}
COSTS = tuple(COST_COLUMNS)
DAY, CURRENCY = "ChargePeriodStart", "BillingCurrency"

REQUIRED = ("BilledCost", DAY)
READ_COLUMNS = (*(name for names in DIMENSIONS.values() for name in names), *COST_COLUMNS.values(), DAY, CURRENCY)
"""Every column that is read where the file has it."""

WHOLE_DIGITS = 12
"""Digits of a cost before the point; a row with more is rejected, so that one absurd row cannot spoil the sums of its file."""
_COST = f"DECIMAL({WHOLE_DIGITS + 24}, 24)"

NULLS = ("", "NULL", "null")
"""What stands for nothing in a text column."""

# Cloud bills began in 2006; a day outside is a misread number, an epoch or an `infinity`.
FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)

NUMBER = r" *[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})? *"

# `scientific` moves the point of 0.DIGITS by PLACE among 30 zeros on either side. A place beyond them is as good as the last: the number
# is below 1e-30, or has more than 12 digits before the point, or is 0.
MACROS = rf"""
CREATE MACRO is_number(x) AS regexp_full_match(x, '{NUMBER}');
CREATE MACRO pointed(digits, place) AS digits[1:30 + place] || '.' || digits[31 + place:];
CREATE MACRO place(mantissa, exponent) AS greatest(-30, least(30, strlen(split_part(mantissa, '.', 1)) + exponent));
CREATE MACRO unsigned(mantissa, exponent) AS
  pointed(repeat('0', 30) || replace(mantissa, '.', '') || repeat('0', 30), place(mantissa, exponent));
CREATE MACRO scientific(x) AS
  regexp_extract(x, '^-') || unsigned(ltrim(split_part(x, 'e', 1), '+-'), TRY_CAST(split_part(x, 'e', 2) AS INTEGER));
CREATE MACRO plain(x) AS
  CASE WHEN NOT is_number(x) THEN NULL WHEN contains(lower(x), 'e') THEN scientific(lower(trim(x))) ELSE trim(x) END;
CREATE MACRO is_finer(x) AS strlen(rtrim(split_part(x, '.', 2), '0')) > 24;
CREATE MACRO whole_picos(x) AS TRY_CAST(round(x * 1e12) AS BIGINT);
CREATE MACRO from_picos(n) AS CAST(CAST(n AS DECIMAL(18, 0)) * CAST(0.000000000001 AS DECIMAL(13, 12)) AS DECIMAL(38, 24));
"""


class UnreadableBill(Exception):
    """A file cannot be read as a bill in FOCUS; the message says what is wrong with it."""


class Column(msgspec.Struct, frozen=True):
    """A column as DuckDB sees it."""

    reference: str
    """SQL that names it."""
    type: str = "VARCHAR"


class Bill(msgspec.Struct, frozen=True):
    """A file, or a copy of it, that DuckDB can read."""

    table: str
    """SQL that stands after FROM."""
    columns: Mapping[str, Column]
    """FOCUS name -> column, of those in `READ_COLUMNS` that the file has."""
    row_hash: str
    """SQL of a hash of the whole row, of the columns that are not read too."""
    line: str = "0"
    """SQL of the line, counted from 1; 0 where the reader does not know it."""
    lines: str = "1"
    """SQL of how many lines the row takes."""
    content: str = "''"
    """SQL of the row's text."""
    has_nulls: bool = False
    """Whether the reader gives NULL for `NULLS` already."""
    is_columnar: bool = False
    """Whether columns can be read apart, so that several passes over some of them cost less than one over all."""
    sums_rows: bool = False
    """Whether the rollup makes the digest of the whole rows too."""


def find_columns(names: Sequence[str]) -> dict[str, int]:
    """FOCUS name -> position, of those in `READ_COLUMNS` that are there. Case, outer spaces and a byte order mark do not matter.

    Raises `UnreadableBill` where a required column is missing or one that is read stands twice.
    """
    found: dict[str, int] = {}
    known = {name.lower(): name for name in READ_COLUMNS}
    for position, name in enumerate(names):
        focus_name = known.get(name.strip("\ufeff \t\r\n").lower())
        if focus_name in found:
            raise UnreadableBill(f"the column {focus_name} stands twice")
        if focus_name is not None:
            found[focus_name] = position
    if missing := [name for name in REQUIRED if name not in found]:
        raise UnreadableBill(f"is not a FOCUS bill: no column {' and '.join(missing)}")
    return found


def absent_costs(bill: Bill) -> tuple[str, ...]:
    """Cost columns that the file does not have; they count as 0."""
    return tuple(name for name in COST_COLUMNS.values() if name not in bill.columns)


def row_query(bill: Bill, rate_days: Mapping[str, date], default_currency: str | None) -> str:
    """SQL that gives a row for each row of the bill.

    Columns: line, lines, content, charge_date, the dimensions, billing_currency and the costs (DECIMAL), each NULL where it is not given
    or cannot be read, is_rounded, reason (empty where the row is readable), identity (the hash of the whole row), and the text of day
    and costs (`…_text`). What is not selected is not computed.
    """
    renamed = ", ".join(f"{column.reference} AS {raw(name)}" for name, column in bill.columns.items())
    texts = [f"{_text(bill, name)} AS {cost}_text" for cost, name in COST_COLUMNS.items()]
    by_text = {cost: name for cost, name in COST_COLUMNS.items() if name in bill.columns and not is_exact(bill, name)}
    plain = ["*", *(f"CASE WHEN is_odd THEN plain({_text(bill, name)}) END AS {cost}_plain" for cost, name in by_text.items())]
    dimensions = _dimensions(bill)
    costs = [f"{_cost(bill, cost, name)} AS {cost}" for cost, name in COST_COLUMNS.items()]
    rounded = " OR ".join(["false", *(f"coalesce(is_finer({cost}_plain), false)" for cost in by_text)])
    return f"""
      SELECT *, {_reason(bill, rate_days)} AS reason FROM (
        SELECT *, {", ".join(costs)}, CASE WHEN is_odd THEN {rounded} ELSE false END AS is_rounded FROM (SELECT {", ".join(plain)} FROM (
          SELECT *, {_day(bill)} AS charge_date, {_currency(bill, rate_days, default_currency)} AS billing_currency,
                 {", ".join(dimensions)}, {", ".join(texts)}, {_text(bill, DAY)} AS day_text,
                 ({_is_odd(bill)}) AS is_odd FROM (
            SELECT {bill.line} AS line, {bill.lines} AS lines, {bill.content} AS content, {bill.row_hash} AS identity,
                   {renamed} FROM {bill.table}))))"""  # noqa: S608


def value_query(bill: Bill, rate_days: Mapping[str, date], default_currency: str | None) -> str:
    """SQL of reason, charge_date, billing_currency and the dimensions, as `row_query` has them, from a row with `charge_date` and the
    columns of the file as `raw` names them: for rows whose days and costs are known to be readable."""
    days = " ".join(f"WHEN {literal(currency)} THEN DATE '{max(day, FIRST_DAY)}'" for currency, day in rate_days.items())
    currency = _currency(bill, rate_days, default_currency)
    reason = f"""CASE WHEN charge_date >= CASE {currency} {days} END THEN ''
      WHEN {currency} IS NULL THEN 'missing_currency' ELSE 'no_exchange_rate' END"""
    return ", ".join([f"{reason} AS reason", "charge_date", f"{currency} AS billing_currency", *_dimensions(bill)])


def _dimensions(bill: Bill) -> list[str]:
    return [
        f"coalesce({', '.join([*(_text(bill, name) for name in names if name in bill.columns), 'CAST(NULL AS VARCHAR)'])}) AS {dimension}"
        for dimension, names in DIMENSIONS.items()
    ]


def is_given(bill: Bill, cost: str) -> str:
    """SQL of whether a row of `row_query` gives this cost."""
    name = COST_COLUMNS[cost]
    return f"{_text(bill, name) if _is_text(bill, name) else raw(name)} IS NOT NULL" if name in bill.columns else "false"


def _reason(bill: Bill, rate_days: Mapping[str, date]) -> str:
    unreadable = " OR ".join(f"({cost} IS NULL AND {is_given(bill, cost)})" for cost in COSTS)
    not_numbers = " OR ".join(f"NOT is_number({_text(bill, name)})" for name in COST_COLUMNS.values())
    days = " ".join(f"WHEN {literal(currency)} THEN DATE '{max(day, FIRST_DAY)}'" for currency, day in rate_days.items())
    in_range = f"charge_date BETWEEN DATE '{FIRST_DAY}' AND DATE '{LAST_DAY}'"
    return f"""CASE
      WHEN {in_range} AND billed_cost IS NOT NULL AND NOT ({unreadable}) AND charge_date >= CASE billing_currency {days} END THEN ''
      WHEN day_text IS NULL THEN 'missing_date'
      WHEN NOT coalesce({in_range}, false) THEN 'bad_date'
      WHEN NOT {is_given(bill, "billed_cost")} THEN 'missing_cost'
      WHEN {unreadable} THEN CASE WHEN {not_numbers} THEN 'bad_cost' ELSE 'cost_out_of_range' END
      WHEN billing_currency IS NULL THEN 'missing_currency'
      ELSE 'no_exchange_rate' END"""


def _is_text(bill: Bill, name: str) -> bool:
    return bill.columns[name].type == "VARCHAR"


def _text(bill: Bill, name: str) -> str:
    """SQL of a column as text, NULL where it stands for nothing."""
    if name not in bill.columns:
        return "CAST(NULL AS VARCHAR)"
    x = raw(name)
    if _is_text(bill, name):
        return x if bill.has_nulls else f"CASE WHEN {x} NOT IN ({', '.join(map(literal, NULLS))}) THEN {x} END"
    return f"CAST(to_json({x}) AS VARCHAR)" if name == "Tags" else f"CAST({x} AS VARCHAR)"


def _day(bill: Bill) -> str:
    kind = bill.columns[DAY].type
    if kind == "TIMESTAMP_NS":
        # DuckDB rounds the last nanosecond of a day up to the next.
        return f"DATE '1970-01-01' + CAST(epoch_ns({raw(DAY)}) // 86400000000000 AS INTEGER)"
    if kind.startswith(("DATE", "TIMESTAMP")):
        return f"CAST({raw(DAY)} AS DATE)"
    # The session's zone is UTC: that of times without one, and that in which the day is taken.
    x = _text(bill, DAY)
    return f"CAST(coalesce(TRY_CAST({x} AS TIMESTAMPTZ), TRY_CAST(trim({x}) AS TIMESTAMPTZ)) AS DATE)"


def _currency(bill: Bill, rate_days: Mapping[str, date], default_currency: str | None) -> str:
    x = _text(bill, CURRENCY)
    as_it_stands = " ".join(f"WHEN {literal(currency)} THEN {literal(currency)}" for currency in rate_days)
    return f"coalesce(CASE {x} {as_it_stands} ELSE nullif(upper(trim({x})), '') END, {literal(default_currency)})"


def _is_odd(bill: Bill) -> str:
    """SQL of whether a cost may be finer than 24 places, or is not written in plain digits."""
    names = [name for name in COST_COLUMNS.values() if name in bill.columns]
    texts = [_text(bill, name) for name in names if _is_text(bill, name)]
    odd = [f"strlen({text}) > 25" for text in texts]
    if texts:
        # DuckDB takes 1_000 for 1000.
        odd += [f"contains(concat({', '.join(texts)}), '{sign}')" for sign in "eE_"]
    odd += [f"NOT ({is_short(raw(name))})" for name in names if bill.columns[name].type == "DOUBLE"]
    odd += ["true" for name in names if bill.columns[name].type != "DOUBLE" and not (_is_text(bill, name) or is_exact(bill, name))]
    return f"coalesce({' OR '.join(odd)}, false)" if odd else "false"


def _cost(bill: Bill, cost: str, name: str) -> str:
    """SQL of the exact cost."""
    if name not in bill.columns:
        return "CAST(0 AS DECIMAL(38, 24))"
    if is_exact(bill, name):
        return f"TRY_CAST({raw(name)} AS DECIMAL({WHOLE_DIGITS + _scale(bill, name)}, {_scale(bill, name)}))"
    from_text = f"TRY_CAST({cost}_plain AS {_COST})"
    if _is_text(bill, name):
        return f"CASE WHEN is_odd THEN {from_text} ELSE TRY_CAST({_text(bill, name)} AS {_COST}) END"
    if bill.columns[name].type != "DOUBLE":
        return from_text
    x = raw(name)
    return f"CASE WHEN {is_short(x)} THEN from_picos(whole_picos({x})) ELSE {from_text} END"


def is_exact(bill: Bill, name: str) -> bool:
    """Whether DuckDB sums the column as it is without loss."""
    return bill.columns[name].type.startswith("DECIMAL") and _scale(bill, name) <= 24


def _scale(bill: Bill, name: str) -> int:
    """Decimal places of a DECIMAL column."""
    return int(bill.columns[name].type.rstrip(")").split(",")[1])


def is_short(x: str) -> str:
    """SQL of whether a double is a whole number of picos."""
    # The shortest decimal that reads as the same double is what the provider wrote. Up to 15 digits have only one such decimal, so a
    # whole number of picos that divides back to the same double is it, without a detour by text.
    return f"abs({x}) < 999 AND CAST(whole_picos({x}) AS DOUBLE) / 1e12 = {x}"


def raw(name: str) -> str:
    """SQL of a column of the file, by FOCUS's name."""
    # With a prefix: `tags` and `Tags` are one name in SQL.
    return f"file_{name}"


def literal(text: str | None) -> str:
    """SQL of a text."""
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"
