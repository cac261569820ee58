"""What becomes of each kind of row: what is read as what, what is rejected and with which sentence."""

from decimal import Decimal

import duckdb
import pytest


def only(change):
    (charge,) = change.charges
    return charge


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"BilledCost": ""}, "missing_cost", "BilledCost is empty"),
        ({"BilledCost": "NULL"}, "missing_cost", "BilledCost is empty"),
        ({"BilledCost": "1,5"}, "bad_cost", "BilledCost '1,5' is not a number"),
        ({"ListCost": "1_000"}, "bad_cost", "ListCost '1_000' is not a number"),
        ({"BilledCost": "nan", "ListCost": "n/a"}, "bad_cost", "BilledCost 'nan' is not a number"),
        ({"ContractedCost": "9" * 15}, "cost_out_of_range", f"ContractedCost '{'9' * 15}' has more than 12 digits before the point"),
        ({"EffectiveCost": "-1e20"}, "cost_out_of_range", "EffectiveCost '-1e20' has more than 12 digits before the point"),
        ({"BilledCost": "9" * 14}, "cost_out_of_range", f"BilledCost '{'9' * 14}' has more than 12 digits before the point"),
        ({"BilledCost": "1e12"}, "cost_out_of_range", "BilledCost '1e12' has more than 12 digits before the point"),
        ({"ChargePeriodStart": "null"}, "missing_date", "ChargePeriodStart is empty"),
        ({"ChargePeriodStart": "31/12/2025"}, "bad_date", "ChargePeriodStart '31/12/2025' is not a time from 2000 to 2099"),
        ({"ChargePeriodStart": "1768435200"}, "bad_date", "ChargePeriodStart '1768435200' is not a time from 2000 to 2099"),
        ({"ChargePeriodStart": "infinity"}, "bad_date", "ChargePeriodStart 'infinity' is not a time from 2000 to 2099"),
        ({"ChargePeriodStart": "x" * 500}, "bad_date", f"ChargePeriodStart '{'x' * 100}…' is not a time from 2000 to 2099"),
        ({"BillingCurrency": "NULL"}, "missing_currency", "BillingCurrency is empty, and the source has no `default_currency`"),
        ({"BillingCurrency": "  "}, "missing_currency", "BillingCurrency is empty, and the source has no `default_currency`"),
        ({"BillingCurrency": "XAU"}, "no_exchange_rate", "no rate for 'XAU' on 2026-01-15: add one to `exchange_rates`"),
    ],
)
@pytest.mark.parametrize("name", ["bill.csv", "bill.csv.gz", "bill.parquet"])
def test_a_row_that_cannot_be_read_is_rejected_with_its_line_reason_and_text_and_the_others_are_kept(
    write_bill, read_one, totals, name, row, reason, detail
):
    write_bill(name, {"BilledCost": "2"}, row, {"BilledCost": "3"})
    change = read_one()
    assert (change.rows, change.rejected, totals(change)["billed_cost"]) == (2, {reason: 1}, 2 + 3)
    (rejected,) = change.rejected_rows
    # The header is line 1 of a CSV file; a Parquet file has none.
    assert (rejected.line, rejected.reason, rejected.detail) == (2 if name.endswith("parquet") else 3, reason, detail)
    assert (rejected.source, rejected.part) == ("focus", name)
    assert "444455556666" in rejected.content


@pytest.mark.parametrize("field", ["BilledCost", "EffectiveCost", "ListCost", "ContractedCost"])
@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("0.00000080000", "0.0000008"),
        ("-12.5", "-12.5"),
        ("+.5", "0.5"),
        ("5.", "5"),
        ("1.5e-7", "0.00000015"),
        ("1E3", "1000"),
        (" 7 ", "7"),
        ("999999999999.999999999999999999999999", "999999999999.999999999999999999999999"),
    ],
)
def test_a_cost_is_read_to_its_last_digit(write_bill, read_one, totals, field, text, cost):
    write_bill("bill.csv", {field: text})
    basis = field.removesuffix("Cost").lower() + "_cost"
    assert totals(read_one())[basis] == Decimal(cost)


def test_a_decimal_of_a_parquet_file_with_more_than_12_digits_before_the_point_is_rejected(folder, read_one, totals):
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT CAST(unnest(['99999999999999', '999999999999', '1']) AS DECIMAL(38, 11)) AS BilledCost,"
            f" DATE '2026-01-01' AS ChargePeriodStart, 'USD' AS BillingCurrency) TO '{folder / 'bill.parquet'}'"
        )
    change = read_one()
    assert (change.rows, change.rejected, totals(change)["billed_cost"]) == (2, {"cost_out_of_range": 1}, 999_999_999_999 + 1)


def test_digits_beyond_the_24th_decimal_place_are_rounded_half_away_from_zero_and_the_rows_counted(write_bill, read_one, totals):
    write_bill(
        "bill.csv",
        {"BilledCost": "0.0000000000000000000000005"},
        {"BilledCost": "-2.5e-24", "ListCost": "1.0000000000000000000000000001"},
        {"BilledCost": "1.000000000000000000000000000"},
    )
    change = read_one()
    # One digit up, three down, and 1 that only looks finer than it is.
    assert totals(change)["billed_cost"] == Decimal("0.999999999999999999999998")
    assert (change.rows, change.rounded) == (3, 2)
    assert change.message == "2 rows with a cost finer than 24 decimal places, rounded"


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-01-31 23:59:59", "2026-01-31"),
        ("2026-01-31T23:59:59Z", "2026-01-31"),
        ("2026-01-31T23:59:59.999999999Z", "2026-01-31"),
        ("2026-01-31T23:59:59-01:00", "2026-02-01"),
        ("2026-02-01T00:30:00+01:00", "2026-01-31"),
        ("2026-01-31", "2026-01-31"),
        ("  2026-01-31  ", "2026-01-31"),
    ],
)
def test_the_day_of_a_charge_is_that_of_utc(write_bill, read_one, monkeypatch, text, day):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    write_bill("bill.csv", {"ChargePeriodStart": text})
    assert only(read_one()).charge_date.isoformat() == day


def test_a_cost_that_is_not_given_counts_as_0_and_is_told(write_bill, read_one, totals):
    write_bill("bill.csv", {"BilledCost": "5", "EffectiveCost": "", "ListCost": "NULL"}, {"BilledCost": "7", "EffectiveCost": "null"})
    change = read_one()
    assert totals(change) == {"billed_cost": 5 + 7, "effective_cost": 0, "list_cost": 1, "contracted_cost": 1 + 1}
    assert change.message == "2 rows without EffectiveCost, which counts as 0; 1 row without ListCost, which counts as 0"


@pytest.mark.parametrize("tags", ["{not json", "7", '"a"', "[1, 2]", "[" * 100_000, '{"a": 1'])
def test_tags_that_cannot_be_read_cost_no_money(write_bill, read_one, totals, tags):
    write_bill("bill.csv", {"BilledCost": "5", "Tags": tags}, {"BilledCost": "7", "Tags": '{"team": "web"}'})
    change = read_one()
    assert (totals(change)["billed_cost"], change.rejected) == (5 + 7, {})
    assert change.message == "1 row whose Tags are not a JSON object, read without tags"


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("AWS", "aws"),
        ("Amazon Web Services, Inc.", "aws"),
        ("Microsoft", "azure"),
        ("Google Cloud", "gcp"),
        ("OpenCost", "kubernetes"),
        (" Oracle ", "oracle"),
        ("", ""),
    ],
)
def test_providers_are_named_as_the_metrics_name_them(write_bill, read_one, name, provider):
    write_bill("bill.csv", {"ProviderName": name})
    assert only(read_one()).provider_name == provider


def test_a_dimension_that_is_not_given_is_empty(write_bill, read_one):
    write_bill("bill.csv", {"RegionId": "NULL", "SubAccountId": "null", "ServiceName": "", "ServiceCategory": ...})
    charge = only(read_one())
    assert (charge.region_id, charge.sub_account_id, charge.service_name, charge.service_category) == ("", "", "", "")


def test_rows_that_agree_in_all_that_is_kept_become_one_charge(write_bill, read_one):
    write_bill("bill.csv", {"ResourceId": "a", "Tags": '{"x": 1}'}, {"ResourceId": "b", "RegionId": " us-east-1 "}, {"ServiceName": "S3"})
    assert [(charge.service_name, charge.row_count) for charge in read_one().charges] == [("Amazon EC2", 2), ("S3", 1)]


def test_only_the_first_rejected_rows_are_kept_and_all_are_counted(write_bill, read_one):
    write_bill("bill.csv", *({"BilledCost": f"x{number}"} for number in range(20)))
    change = read_one(keep_rejected_rows=3)
    assert [row.line for row in change.rejected_rows] == [2, 3, 4]
    assert change.rejected == {"bad_cost": 20}


def test_the_text_of_a_rejected_row_is_cut(write_bill, read_one):
    write_bill("bill.csv", {"BilledCost": "x", "Tags": "y" * 5000})
    assert len(read_one().rejected_rows[0].content) == 2000
