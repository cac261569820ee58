"""Parquet files whose costs are plain are grouped in a shorter way: what comes out is what comes out of the same rows as text."""

from decimal import Decimal

import duckdb
import pytest

from costwarden.sources import Duplicate, Read

COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
ROWS = 5_000

BILL = f"""
SELECT 'AWS' AS ProviderName, ['1', '2', ' 2', NULL, 'NULL'][1 + i % 5] AS SubAccountId, 'Service ' || (i % 7) AS ServiceName,
  ['Usage', 'Tax'][1 + i % 2] AS ChargeCategory, TIMESTAMP '2026-05-01' + to_hours(i % 744) AS ChargePeriodStart,
  ['USD', 'EUR', 'usd ', 'XAU', NULL][CASE WHEN i % 50 < 5 THEN 1 + i % 50 ELSE 1 END] AS BillingCurrency,
  ['{{"team": "a"}}', '{{"team":"b"}}', 'no tags', NULL][1 + i % 4] AS Tags, 'i-' || i AS ResourceId,
  CAST((hash(i) % 200000)::BIGINT - 1000 AS DECIMAL(28, 11)) / 100000 AS BilledCost,
  CAST(BilledCost * 0.9 AS DECIMAL(28, 11)) AS EffectiveCost, CAST(BilledCost * 2 AS DECIMAL(28, 11)) AS ListCost,
  CAST(i % 3 AS DECIMAL(28, 11)) / 8 AS ContractedCost
FROM range({ROWS}) AS rows (i)"""

KINDS = {
    "decimal": ", ".join(f"CAST({name} AS DECIMAL(28, 11)) AS {name}" for name in COSTS),
    "double": ", ".join(f"CAST({name} AS DOUBLE) AS {name}" for name in COSTS),
}
AS_TEXT = ", ".join(f"CAST(CAST({name} AS DECIMAL(28, 11)) AS VARCHAR) AS {name}" for name in COSTS)
EUR = {"EUR": [{"valid_from": "2026-05-10", "usd": "1.08"}]}


@pytest.fixture
def write(folder):
    """`write("a.parquet", sql)`: the rows of a query."""

    def run(name, sql):
        with duckdb.connect() as connection:
            connection.execute(f"COPY ({sql}) TO '{folder / name}'")

    return run


def charges(change):
    return sorted(repr(charge).replace(charge.part, "") for charge in change.charges)


@pytest.mark.parametrize("kind", KINDS)
def test_charges_and_rejected_rows_are_those_of_the_same_rows_as_text(folder, write, fetch, kind):
    write("plain.parquet", f"SELECT * REPLACE ({KINDS[kind]}) FROM ({BILL})")
    write("text.parquet", f"SELECT * REPLACE ({AS_TEXT}) FROM ({BILL})")
    changes = fetch(currencies=EUR)
    plain, text = changes["plain.parquet"], changes["text.parquet"]
    # XAU has no rate, EUR none before May 10, and one row in fifty names no currency.
    assert plain.rejected == text.rejected
    assert set(plain.rejected) == {"missing_currency", "no_exchange_rate"}
    assert plain.rows + sum(plain.rejected.values()) == ROWS
    assert [(row.line, row.reason) for row in plain.rejected_rows] == [(row.line, row.reason) for row in text.rejected_rows]
    assert charges(plain) == charges(text)
    assert (plain.message, plain.rounded) == (text.message, 0)


@pytest.mark.parametrize(
    ("column", "sql", "rejected"),
    [
        ("BilledCost", "CASE WHEN i = 7 THEN NULL ELSE BilledCost END", {"missing_cost": 1}),
        ("BilledCost", "CASE WHEN i = 7 THEN 1e15::DECIMAL(28, 11) ELSE BilledCost END", {"cost_out_of_range": 1}),
        ("BilledCost", "CASE WHEN i = 7 THEN 'nan'::DOUBLE ELSE BilledCost END", {"bad_cost": 1}),
        ("BilledCost", "CASE WHEN i = 7 THEN 0.12345678901234567 ELSE BilledCost END", {}),
        ("EffectiveCost", "CASE WHEN i = 7 THEN NULL ELSE EffectiveCost END", {}),
        ("ChargePeriodStart", "CASE WHEN i = 7 THEN NULL ELSE ChargePeriodStart END", {"missing_date": 1}),
        ("ChargePeriodStart", "CASE WHEN i = 7 THEN TIMESTAMP '1970-01-01' ELSE ChargePeriodStart END", {"bad_date": 1}),
    ],
)
def test_one_row_that_is_not_plain_is_seen_among_all_the_others(write, fetch, column, sql, rejected):
    rows = f"SELECT *, row_number() OVER () - 1 AS i FROM ({BILL}) WHERE BillingCurrency = 'USD'"
    double = f"CAST({sql} AS DOUBLE)" if "nan" in sql or "0.123" in sql else sql
    write("bill.parquet", f"SELECT * REPLACE ({double} AS {column}) FROM ({rows})")
    (change,) = fetch().values()
    assert change.rejected == rejected


def test_a_bill_without_texts_or_without_rows_is_read(write, fetch, totals):
    plain = "CAST(5.25 AS DECIMAL(18, 2)) AS BilledCost, DATE '2026-05-01' AS ChargePeriodStart"
    write("a.parquet", f"SELECT {plain}")
    write("b.parquet", f"SELECT {plain} LIMIT 0")
    changes = fetch(default_currency="USD")
    assert totals(changes["a.parquet"]) == {"billed_cost": Decimal("5.25"), "effective_cost": 0, "list_cost": 0, "contracted_cost": 0}
    assert "no column EffectiveCost, ListCost, ContractedCost: each counts as 0" in changes["a.parquet"].message
    assert (changes["b.parquet"].rows, changes["b.parquet"].figures) == (0, "")


# --- copies: whole rows are compared only where the charges are the same -----------------------------------------------------------


@pytest.fixture
def read_kinds(fetch, remember):
    """Part -> kind of change, against all that was read before."""
    known = {}

    def run():
        changes = fetch(known)
        for part, change in changes.items():
            known.update(remember({part: change}, known))
            if type(change).__name__ == "Gone":
                known.pop(part)
        return {part: type(change) for part, change in changes.items()}

    return run


PLAIN = f"SELECT * REPLACE ({KINDS['decimal']}) FROM ({BILL}) WHERE BillingCurrency = 'USD'"


def test_a_copy_in_another_order_is_known_in_a_later_refresh_too_and_the_next_hour_is_none(write, read_kinds):
    write("a.parquet", PLAIN)
    assert read_kinds() == {"a.parquet": Read}
    write("b.parquet", f"{PLAIN} ORDER BY ResourceId DESC")
    write("c.parquet", f"SELECT * REPLACE ('x' || ResourceId AS ResourceId) FROM ({PLAIN})")
    assert read_kinds() == {"b.parquet": Duplicate, "c.parquet": Read}
    assert read_kinds() == {}


def test_a_copy_counts_when_its_original_becomes_the_next_hour(write, read_kinds):
    write("a.parquet", PLAIN)
    write("b.parquet", PLAIN)
    assert read_kinds() == {"a.parquet": Read, "b.parquet": Duplicate}
    write("a.parquet", f"SELECT * REPLACE ('x' || ResourceId AS ResourceId) FROM ({PLAIN})")
    assert read_kinds() == {"a.parquet": Read, "b.parquet": Read}


def test_a_copy_counts_when_its_original_is_gone_and_only_another_hour_is_left(folder, write, read_kinds):
    write("a.parquet", f"SELECT * REPLACE ('x' || ResourceId AS ResourceId) FROM ({PLAIN})")
    assert read_kinds() == {"a.parquet": Read}
    write("b.parquet", PLAIN)
    write("c.parquet", PLAIN)
    assert read_kinds() == {"b.parquet": Read, "c.parquet": Duplicate}
    (folder / "b.parquet").unlink()
    assert read_kinds()["c.parquet"] is Read
