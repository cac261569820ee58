"""FOCUS 1.0 to 1.4 and what exporters make of it: columns that come and go, types of Parquet, and a dirty bill as a whole."""

import duckdb
import msgspec
import pytest

from costwarden.sources.focus_columns import READ_COLUMNS
from costwarden.sources.focus_rollup import PROVIDERS


def provider(change):
    (charge,) = change.charges
    return charge.provider_name


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"ProviderName": "AWS", "PublisherName": "A vendor", "InvoiceIssuerName": "A reseller"}, "aws"),  # 1.0 to 1.2
        ({"ProviderName": "AWS", "ServiceProviderName": "A vendor", "HostProviderName": "AWS"}, "aws"),  # 1.3
        ({"ProviderName": ..., "ServiceProviderName": "Microsoft", "HostProviderName": "AWS", "InvoiceIssuerName": "X"}, "azure"),  # 1.4
        ({"ProviderName": ..., "ServiceProviderName": "", "HostProviderName": "AWS", "InvoiceIssuerName": "X"}, "aws"),
        ({"ProviderName": ..., "PublisherName": "Google Cloud", "InvoiceIssuerName": "X"}, "gcp"),
        ({"ProviderName": "NULL", "InvoiceIssuerName": "Amazon Web Services, Inc."}, "aws"),
        ({"ProviderName": ...}, ""),
    ],
)
def test_the_provider_is_named_by_the_nearest_column_that_the_version_has(write_bill, read_one, columns, named):
    write_bill("bill.csv", columns)
    assert provider(read_one()) == named


def test_names_of_columns_may_differ_in_case_and_outer_spaces(folder, read_one, totals):
    (folder / "bill.csv").write_text("billedcost, CHARGEPERIODSTART ,BillingCurrency\n5,2026-01-01,USD\n")
    assert totals(read_one())["billed_cost"] == 5


def test_unknown_columns_are_ignored_whatever_they_hold(write_bill, read_one, totals):
    write_bill("bill.csv", {"x_Discounts": '{"a": [1, 2]}', "Id": "77", "": "?", "BilledCost": "5"})
    assert totals(read_one())["billed_cost"] == 5


def test_a_bill_needs_no_more_than_cost_day_and_currency(folder, read_one, totals):
    (folder / "bill.csv").write_text("BilledCost,ChargePeriodStart,BillingCurrency\n5,2026-01-01,USD\n")
    change = read_one()
    assert totals(change) == {"billed_cost": 5, "effective_cost": 0, "list_cost": 0, "contracted_cost": 0}
    assert change.message == "no column EffectiveCost, ListCost, ContractedCost: each counts as 0"


@pytest.mark.parametrize(
    "tags",
    [
        "MAP {'team': 'search', 'env': 'prod'}",
        "{'team': 'search', 'env': 'prod'}",
        "[{'key': 'team', 'value': 'search'}, {'key': 'env', 'value': 'prod'}]",
        """'{"team": "search", "env": "prod"}'::JSON""",
        """'{"team": "search", "env": "prod"}'""",
        """encode('{"team": "search", "env": "prod"}')""",
    ],
)
def test_tags_of_parquet_may_be_a_map_a_struct_a_list_or_text(folder, read_one, tags):
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 5 AS BilledCost, DATE '2026-01-01' AS ChargePeriodStart, 'USD' AS BillingCurrency, {tags} AS Tags)"
            f" TO '{folder / 'bill.parquet'}'"
        )
    (charge,) = read_one().charges
    assert (charge.team, charge.environment) == ("search", "prod")


@pytest.mark.parametrize(
    "day",
    [
        "DATE '2026-01-31'",
        "TIMESTAMP '2026-01-31 23:59:59'",
        "TIMESTAMP_NS '2026-01-31 23:59:59.999999999'",
        "TIMESTAMPTZ '2026-02-01 00:59:59+01'",
        "'2026-01-31T23:59:59Z'",
    ],
)
def test_days_of_parquet_may_have_any_type_of_time(folder, read_one, day):
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        connection.execute(
            f"COPY (SELECT 5 AS BilledCost, {day} AS ChargePeriodStart, 'USD' AS BillingCurrency) TO '{folder / 'bill.parquet'}'"
        )
    (charge,) = read_one().charges
    assert charge.charge_date.isoformat() == "2026-01-31"


@pytest.mark.parametrize(
    ("cost", "read"),
    [
        ("0.1::DOUBLE", "0.1"),
        ("0.1::FLOAT", "0.1"),
        ("1234567.891::DOUBLE", "1234567.891"),
        ("8.333333333333334e-07::DOUBLE", "0.0000008333333333333334"),
        ("0.00000000001::DECIMAL(38, 11)", "0.00000000001"),
        ("0.00000000000000000000000001::DECIMAL(38, 26)", "0"),
        ("5::BIGINT", "5"),
        ("5::HUGEINT", "5"),
        ("'1.5e-3'", "0.0015"),
    ],
)
def test_costs_of_parquet_may_have_any_type_of_number(folder, read_one, totals, cost, read):
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT {cost} AS BilledCost, DATE '2026-01-31' AS ChargePeriodStart, 'USD' AS BillingCurrency)"
            f" TO '{folder / 'bill.parquet'}'"
        )
    assert format(totals(read_one())["billed_cost"].normalize(), "f") == read


@pytest.mark.parametrize("cost", ["'NaN'::DOUBLE", "'inf'::DOUBLE", "true", "DATE '2026-01-01'"])
def test_a_cost_of_parquet_that_is_no_number_is_rejected(folder, read_one, cost):
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT {cost} AS BilledCost, DATE '2026-01-31' AS ChargePeriodStart, 'USD' AS BillingCurrency)"
            f" TO '{folder / 'bill.parquet'}'"
        )
    assert read_one().rejected == {"bad_cost": 1}


def test_every_column_that_is_read_is_one_of_focus():
    assert len(set(READ_COLUMNS)) == len(READ_COLUMNS)
    assert all(name[0].isupper() and name.isalnum() for name in READ_COLUMNS)


def test_provider_names_are_looked_up_in_lower_case():
    assert [name for name in PROVIDERS if name != name.lower()] == []


def test_a_dirty_bill_as_a_whole(project, fetch, golden):
    currencies = {"EUR": [{"valid_from": "2026-01-01", "usd": "1.08"}]}
    (change,) = fetch(path=project / "tests" / "fixtures" / "focus", currencies=currencies).values()
    assert change.rows + sum(change.rejected.values()) == 13
    lines = [msgspec.structs.asdict(item) for item in (*change.charges, *change.rejected_rows)]
    text = "\n".join(msgspec.json.encode(line).decode() for line in lines)
    golden("dirty.jsonl", f"{text}\n{change.message}\n")
