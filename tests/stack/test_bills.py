"""The sample bills: on every day of a year what they say they are."""

import csv
import gzip
from datetime import date
from decimal import Decimal

import bills
import duckdb
import pytest

DAYS = {
    "mid-month": date(2026, 11, 21),
    "the first of a month": date(2026, 12, 1),
    "the first of a year": date(2027, 1, 1),
    "a leap day": date(2028, 2, 29),
    "the last of a month": date(2026, 1, 31),
}


def rows_of(folder):
    """Every row of the three bills; those of Azure as Parquet has them."""
    found = {}
    for name, path, opened in (("aws", "focus-1.0.csv", open), ("gcp", "focus-1.1.csv.gz", gzip.open)):
        with opened(folder / name / path, "rt", newline="") as bill:
            found[name] = list(csv.DictReader(bill))
    azure = duckdb.sql(f"SELECT * REPLACE (ChargePeriodStart::DATE::VARCHAR AS ChargePeriodStart) FROM '{folder}/azure/*.parquet'")
    return found | {"azure": [dict(zip(azure.columns, row, strict=True)) for row in azure.fetchall()]}


@pytest.mark.parametrize("today", DAYS.values(), ids=DAYS.keys())
def test_the_totals_that_are_given_are_the_sums_of_this_months_rows(tmp_path, today):
    totals = bills.write_bills(tmp_path, today)
    rows = rows_of(tmp_path)
    assert rows["aws"].pop()["BilledCost"] == "see attachment"
    for name, rate in {"aws": 1, "gcp": 1, "azure": bills.EUR_USD}.items():
        this_month = [Decimal(row["BilledCost"]) for row in rows[name] if row["ChargePeriodStart"] >= f"{today:%Y-%m-01}"]
        assert totals[name] == sum(this_month) * rate
        assert totals[name] > 0
        assert {row["ChargeCategory"] for row in rows[name]} == {"Usage", "Credit", "Tax"}


def test_the_files_have_the_columns_of_focus_1_0_1_1_and_1_2(tmp_path):
    bills.write_bills(tmp_path, date(2026, 11, 21))
    assert {name: len(rows[0]) for name, rows in rows_of(tmp_path).items()} == {"aws": 43, "gcp": 50, "azure": 57}


@pytest.mark.parametrize("today", DAYS.values(), ids=DAYS.keys())
def test_a_late_bill_crosses_the_limit_that_no_ordinary_month_reaches(tmp_path, today):
    bills.write_bills(tmp_path, today)
    ordinary = sum(
        Decimal(row["BilledCost"])
        for row in rows_of(tmp_path)["aws"][:-1]
        if row["ChargePeriodStart"] >= f"{today:%Y-%m-01}" and '"dev"' in row["Tags"]
    )
    assert ordinary < 1000
    _, added = bills.write_breach(tmp_path, today, 3, Decimal("409.60"))
    assert ordinary + added > 1000
