"""Legacy AWS Cost and Usage Reports as FOCUS: every line item type, tags, names of columns, and a real report to the last digit.

Columns: https://docs.aws.amazon.com/cur/latest/userguide/data-dictionary.html
"""

import csv
from collections import defaultdict
from decimal import Decimal

import duckdb
import pytest

from costwarden.model import exact_sum

COLUMNS = {
    "bill/PayerAccountId": "111122223333",
    "bill/BillingPeriodStartDate": "2026-11-01T00:00:00Z",
    "lineItem/UsageAccountId": "444455556666",
    "lineItem/LineItemType": "Usage",
    "lineItem/UsageStartDate": "2026-11-15T00:00:00Z",
    "lineItem/ProductCode": "AmazonEC2",
    "lineItem/CurrencyCode": "USD",
    "lineItem/UnblendedCost": "1",
    "product/ProductName": "Amazon Elastic Compute Cloud",
    "product/region": "eu-west-1",
    "pricing/publicOnDemandCost": "",
    "reservation/EffectiveCost": "",
    "reservation/ReservationARN": "",
    "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "",
    "reservation/UnusedRecurringFee": "",
    "savingsPlan/SavingsPlanEffectiveCost": "",
    "savingsPlan/TotalCommitmentToDate": "",
    "savingsPlan/UsedCommitment": "",
    "resourceTags/user:Team": "",
    "resourceTags/aws:createdBy": "",
}
SNAKE = {
    "bill/PayerAccountId": "bill_payer_account_id",
    "lineItem/UsageAccountId": "line_item_usage_account_id",
    "lineItem/LineItemType": "line_item_line_item_type",
    "lineItem/UsageStartDate": "line_item_usage_start_date",
    "lineItem/CurrencyCode": "line_item_currency_code",
    "lineItem/UnblendedCost": "line_item_unblended_cost",
    "product/ProductName": "product_product_name",
    "resourceTags/user:Team": "resource_tags_user_team",
}


@pytest.fixture
def write_report(folder):
    def write(*rows, name="report.csv"):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows([COLUMNS | row for row in rows])

    return write


def one(change):
    (charge,) = change.charges
    return charge


@pytest.mark.parametrize(
    ("row", "category", "costs"),
    [
        # billed, effective, list, contracted
        ({"pricing/publicOnDemandCost": "1.5"}, "Usage", ("1", "1", "1.5", "1")),
        ({}, "Usage", ("1", "1", "1", "1")),
        (
            {
                "lineItem/LineItemType": "DiscountedUsage",
                "lineItem/UnblendedCost": "0",
                "reservation/EffectiveCost": "0.6",
                "pricing/publicOnDemandCost": "1.5",
            },
            "Usage",
            ("0", "0.6", "1.5", "1.5"),
        ),
        (
            {
                "lineItem/LineItemType": "SavingsPlanCoveredUsage",
                "savingsPlan/SavingsPlanEffectiveCost": "7.2E-1",
                "pricing/publicOnDemandCost": "1.5",
            },
            "Usage",
            ("1", "0.72", "1.5", "1"),
        ),
        ({"lineItem/LineItemType": "SavingsPlanNegation", "lineItem/UnblendedCost": "-1"}, "Usage", ("-1", "0", "0", "0")),
        (
            {
                "lineItem/LineItemType": "SavingsPlanRecurringFee",
                "savingsPlan/TotalCommitmentToDate": "24",
                "savingsPlan/UsedCommitment": "23.999999999999999999999999",
            },
            "Purchase",
            ("1", "0.000000000000000000000001", "0", "0"),
        ),
        ({"lineItem/LineItemType": "SavingsPlanUpfrontFee", "lineItem/UnblendedCost": "500"}, "Purchase", ("500", "0", "0", "0")),
        (
            {
                "lineItem/LineItemType": "RIFee",
                "lineItem/UnblendedCost": "72",
                "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "0.1",
                "reservation/UnusedRecurringFee": "0.2",
            },
            "Purchase",
            ("72", "0.3", "0", "0"),
        ),
        # Of a reservation without an upfront fee, all of it used: its cost is with the usage.
        (
            {"lineItem/LineItemType": "RIFee", "lineItem/UnblendedCost": "72", "reservation/UnusedRecurringFee": "0"},
            "Purchase",
            ("72", "0", "0", "0"),
        ),
        (
            {
                "lineItem/LineItemType": "RIFee",
                "lineItem/UnblendedCost": "72",
                "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "0.1",
            },
            "Purchase",
            ("72", "0.1", "0", "0"),
        ),
        (
            {"lineItem/LineItemType": "Fee", "lineItem/UnblendedCost": "300", "reservation/ReservationARN": "arn:x"},
            "Purchase",
            ("300", "0", "0", "0"),
        ),
        ({"lineItem/LineItemType": "Fee", "lineItem/UnblendedCost": "300"}, "Purchase", ("300", "300", "300", "300")),
        ({"lineItem/LineItemType": "Tax", "lineItem/UnblendedCost": "0.19"}, "Tax", ("0.19", "0.19", "0.19", "0.19")),
        ({"lineItem/LineItemType": "Credit", "lineItem/UnblendedCost": "-5"}, "Credit", ("-5", "-5", "-5", "-5")),
        ({"lineItem/LineItemType": "Refund", "lineItem/UnblendedCost": "-5"}, "Adjustment", ("-5", "-5", "-5", "-5")),
        ({"lineItem/LineItemType": "EdpDiscount", "lineItem/UnblendedCost": "-0.1"}, "Usage", ("-0.1", "-0.1", "0", "-0.1")),
        ({"lineItem/LineItemType": "BundledDiscount", "lineItem/UnblendedCost": "-0.1"}, "Usage", ("-0.1", "-0.1", "0", "-0.1")),
        ({"lineItem/LineItemType": "SomethingNew"}, "SomethingNew", ("1", "1", "1", "1")),
    ],
)
def test_each_kind_of_line_item_has_its_category_and_its_four_costs(write_report, read_one, totals, row, category, costs):
    write_report(row)
    change = read_one()
    assert one(change).charge_category == category
    assert tuple(totals(change).values()) == tuple(map(Decimal, costs))


def test_accounts_service_region_currency_day_and_tags_are_read(write_report, read_one):
    write_report({"resourceTags/user:Team": "search", "resourceTags/aws:createdBy": "Root"})
    charge = one(read_one(rules=[{"target": "feature", "origins": ["tag:aws:createdBy"]}]))
    assert (charge.provider_name, charge.billing_account_id, charge.sub_account_id) == ("aws", "111122223333", "444455556666")
    assert (charge.service_name, charge.region_id, charge.billing_currency) == ("Amazon Elastic Compute Cloud", "eu-west-1", "USD")
    assert (charge.charge_date.isoformat(), charge.team, charge.feature) == ("2026-11-15", "search", "Root")


def test_a_line_without_a_product_name_or_a_day_takes_the_product_code_and_the_begin_of_the_period(write_report, read_one):
    write_report({"product/ProductName": "", "lineItem/UsageStartDate": ""})
    charge = one(read_one())
    assert (charge.service_name, charge.charge_date.isoformat()) == ("AmazonEC2", "2026-11-01")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"lineItem/UnblendedCost": ""}, "missing_cost"),
        ({"lineItem/UnblendedCost": "n/a"}, "bad_cost"),
        (
            {
                "lineItem/LineItemType": "RIFee",
                "reservation/UnusedRecurringFee": "x",
                "reservation/UnusedAmortizedUpfrontFeeForBillingPeriod": "1",
            },
            "bad_cost",
        ),
        ({"lineItem/LineItemType": "DiscountedUsage", "reservation/EffectiveCost": "x"}, "bad_cost"),
        ({"lineItem/CurrencyCode": ""}, "missing_currency"),
    ],
)
def test_a_line_that_cannot_be_read_is_rejected_with_its_line(write_report, read_one, totals, row, reason):
    write_report({"lineItem/UnblendedCost": "2"}, row)
    change = read_one()
    assert (change.rejected, totals(change)["billed_cost"]) == ({reason: 1}, 2)
    assert change.rejected_rows[0].line == 3


def test_the_bill_is_the_unblended_cost_of_all_lines_negations_and_discounts_included(write_report, read_one, totals):
    kinds = {
        "SavingsPlanCoveredUsage": "10",
        "SavingsPlanNegation": "-10",
        "SavingsPlanRecurringFee": "8",
        "EdpDiscount": "-0.5",
        "Credit": "-1",
    }
    write_report(*({"lineItem/LineItemType": kind, "lineItem/UnblendedCost": cost} for kind, cost in kinds.items()))
    assert totals(read_one())["billed_cost"] == 10 - 10 + 8 - Decimal("0.5") - 1


@pytest.mark.parametrize(
    "tags",
    [
        "'search' AS resource_tags_user_team",
        "MAP {'user_team': 'search'} AS resource_tags",
        """'{"user_team": "search"}' AS resource_tags""",
    ],
)
def test_a_report_in_parquet_is_read_by_its_own_names_of_columns(folder, read_one, totals, tags):
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT '111122223333' AS bill_payer_account_id, '444455556666' AS line_item_usage_account_id,"
            " 'DiscountedUsage' AS line_item_line_item_type, TIMESTAMP '2026-11-15 01:00' AS line_item_usage_start_date,"
            " 'USD' AS line_item_currency_code, 0.0::DOUBLE AS line_item_unblended_cost, 1e-7::DOUBLE AS reservation_effective_cost,"
            f" 0.25::DOUBLE AS pricing_public_on_demand_cost, 'Amazon EC2' AS product_product_name, {tags})"
            f" TO '{folder / 'report.snappy.parquet'}'"
        )
    change = read_one()
    assert tuple(totals(change).values()) == (0, Decimal("0.0000001"), Decimal("0.25"), Decimal("0.25"))
    assert (one(change).team, one(change).charge_date.isoformat()) == ("search", "2026-11-15")


def test_the_same_report_twice_is_a_copy(write_report, fetch):
    write_report({"lineItem/UnblendedCost": "2"}, name="a.csv")
    write_report({"lineItem/UnblendedCost": "2"}, name="b.csv")
    assert sorted(type(change).__name__ for change in fetch().values()) == ["Duplicate", "Read"]


@pytest.mark.sample_data
def test_a_real_report_is_read_to_the_last_digit(sample_data, fetch, totals, by):
    path = sample_data / "aws-cur" / "aws-cur-sample.csv"
    (change,) = fetch(path=path.parent).values()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    billed = defaultdict(list)
    for row in rows:
        billed[row["lineItem/LineItemType"], row["product/ProductName"]].append(Decimal(row["lineItem/UnblendedCost"]))
    assert (change.rows, change.rejected) == (len(rows), {})
    # In this report there is nothing but usage on demand and tax.
    assert by(change, "charge_category", "service_name") == {key: exact_sum(costs) for key, costs in billed.items()}
    listed = [
        Decimal(row["pricing/publicOnDemandCost" if row["lineItem/LineItemType"] == "Usage" else "lineItem/UnblendedCost"]) for row in rows
    ]
    total = exact_sum([cost for costs in billed.values() for cost in costs])
    assert totals(change) == {"billed_cost": total, "effective_cost": total, "list_cost": exact_sum(listed), "contracted_cost": total}
    accounts = {row["lineItem/UsageAccountId"] for row in rows}
    assert {charge.sub_account_id for charge in change.charges} == accounts
