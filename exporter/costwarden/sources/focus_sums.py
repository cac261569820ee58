"""The first grouping of a Parquet file whose costs are plain: by day and a number for each combination of texts.

Ten texts a row are most of the work of a grouping. Here they are looked at once for each combination: a pass finds the combinations, which
costs little because Parquet keeps texts in dictionaries, and a second groups by the hash of the texts. That this is exact is proved and
not hoped for: no two combinations of the file have the same hash, no cost is missing or out of range, and every day is one. A file
of which that is not true is grouped in the general way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costwarden.sources.focus_columns import (
    COST_COLUMNS,
    COSTS,
    CURRENCY,
    DAY,
    DIMENSIONS,
    FIRST_DAY,
    LAST_DAY,
    WHOLE_DIGITS,
    Bill,
    is_exact,
    is_short,
    raw,
    value_query,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from duckdb import DuckDBPyConnection


def fill_from_plain(connection: DuckDBPyConnection, bill: Bill, rate_days: Mapping[str, date], default_currency: str | None) -> bool:
    """Fill `rows_by_value`; False, and nothing is done, where the file is not plain. Raises `duckdb.Error`."""
    if not _may_be_plain(bill) or not _is_plain(connection, bill):
        return False
    texts = [name for names in DIMENSIONS.values() for name in names if name in bill.columns]
    texts += [CURRENCY] if CURRENCY in bill.columns else []
    named = ", ".join(f"{bill.columns[name].reference} AS {raw(name)}" for name in texts)
    value = f"hash({', '.join(bill.columns[name].reference for name in texts)})" if texts else "0::UBIGINT"
    group = "GROUP BY ALL" if texts else "LIMIT 1"
    connection.execute("DROP TABLE IF EXISTS texts")
    connection.execute(f"CREATE TABLE texts AS SELECT {', '.join(filter(None, (named, f'{value} AS value')))} FROM {bill.table} {group}")  # noqa: S608
    ((combinations, values),) = connection.execute("SELECT count(*), count(DISTINCT value) FROM texts").fetchall()
    if combinations != values:
        return False
    sums = ", ".join(f"{_sum(bill, name)} AS {cost}" for cost, name in COST_COLUMNS.items())
    scaled = ", ".join(f"{_scaled(bill, name, cost)} AS {cost}" for cost, name in COST_COLUMNS.items())
    connection.execute(f"""
        CREATE TABLE rows_by_value AS
        SELECT {value_query(bill, rate_days, default_currency)}, row_count, 0 AS rounded, 0 AS identities,
               {", ".join(f"{'0' if COST_COLUMNS[cost] in bill.columns else 'row_count'} AS no_{cost}" for cost in COSTS[1:])}, {scaled}
        FROM (
          SELECT {value} AS value, {_day(bill)} AS charge_date, count(*) AS row_count, {sums} FROM {bill.table} GROUP BY 1, 2
        ) JOIN texts USING (value)""")  # noqa: S608
    connection.execute("DROP TABLE texts")
    return True


def _may_be_plain(bill: Bill) -> bool:
    """By the types of its columns."""
    days = bill.columns[DAY].type
    return (
        bill.is_columnar
        and days.startswith(("DATE", "TIMESTAMP"))
        and days != "TIMESTAMP_NS"
        and all(is_exact(bill, name) or bill.columns[name].type == "DOUBLE" for name in COST_COLUMNS.values() if name in bill.columns)
    )


def _is_plain(connection: DuckDBPyConnection, bill: Bill) -> bool:
    """By what stands in the columns: DuckDB knows smallest and largest from the file's own statistics, and doubles are looked at."""
    day = bill.columns[DAY].reference
    bounds = f"DATE '{FIRST_DAY}' AND DATE '{LAST_DAY}'"
    checks = [f"count({day}) = count(*)", *(f"CAST({end}({day}) AS DATE) BETWEEN {bounds}" for end in ("min", "max"))]
    for name in COST_COLUMNS.values():
        if name in bill.columns:
            x = bill.columns[name].reference
            checks.append(f"count({x}) = count(*)")
            if is_exact(bill, name):
                limit = f"{10**WHOLE_DIGITS}"
                checks.append(f"min({x}) > -{limit} AND max({x}) < {limit}")
            else:
                checks.append(f"bool_and({is_short(x)})")
    ((plain,),) = connection.execute(f"SELECT coalesce({' AND '.join(checks)}, false) FROM {bill.table}").fetchall()  # noqa: S608
    return bool(plain)


def _day(bill: Bill) -> str:
    return f"CAST({bill.columns[DAY].reference} AS DATE)"


def _sum(bill: Bill, name: str) -> str:
    if name not in bill.columns:
        return "0"
    x = bill.columns[name].reference
    return f"sum({x})" if is_exact(bill, name) else f"sum(CAST(round({x} * 1e12) AS BIGINT))"


def _scaled(bill: Bill, name: str, cost: str) -> str:
    """From picos, for a double: 26 digits hold a hundred thousand million rows of the largest."""
    if name not in bill.columns:
        return "CAST(0 AS DECIMAL(38, 24))"
    if is_exact(bill, name):
        return cost
    return f"CAST(CAST({cost} AS DECIMAL(26, 0)) * CAST(0.000000000001 AS DECIMAL(12, 12)) AS DECIMAL(38, 24))"
