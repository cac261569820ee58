"""The bill of Google Cloud, read by the real client library from a BigQuery on loopback that runs the query it is sent.

Shapes: https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/standard-usage
"""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from cloud_billing_server import budget
from google_cloud import ACCOUNT, COMPUTE, DETAILED, FOCUS_TABLE, STORAGE, TABLE, GoogleCloud, focus_row, row, total, without_project
from spending import Spending

from costwarden.model import to_micros

D = Decimal


@pytest.fixture
def cloud() -> Iterator[GoogleCloud]:
    with GoogleCloud() as made:
        yield made


def test_a_bill_is_read_by_project_service_region_and_label(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(
        row("2026-11-17T00:00", 1.25, labels={"team": "web"}),
        row("2026-11-17T01:00", 2.5, labels={"team": "web", "goog-dataflow-job-id": "one-of-many"}),
        row("2026-11-17T02:00", 4.0, labels={"team": "search"}),
        row(
            "2026-11-18T00:00",
            8.0,
            project="lab",
            service=STORAGE,
            location={"location": "eu", "country": None, "region": None, "zone": None},
        ),
    )
    read = spending.refresh(cloud.settings())
    assert read.failure == ""
    assert spending.by("charge_date", "sub_account_id", "service_name", "region_id", "team") == {
        ("2026-11-17", "shop", "Compute Engine", "europe-west3", "web"): D("1.25") + D("2.5"),
        ("2026-11-17", "shop", "Compute Engine", "europe-west3", "search"): D(4),
        ("2026-11-18", "lab", "Cloud Storage", "eu", ""): D(8),
    }
    charge = spending.charges(team="web")[0]
    assert (charge["provider_name"], charge["billing_account_id"], charge["charge_category"], charge["row_count"]) == (
        "gcp",
        ACCOUNT,
        "Usage",
        2,
    )


def test_credits_stand_apart_and_nothing_is_lost_or_rounded(cloud: GoogleCloud, spending: Spending) -> None:
    rows = [
        row("2026-11-17T00:00", 0.1, cost_at_list=0.4, credits=[("SUSTAINED_USAGE_DISCOUNT", -0.03)]),
        row("2026-11-17T01:00", 0.2, cost_at_list=0.4, credits=[("SUSTAINED_USAGE_DISCOUNT", -0.07), ("PROMOTION", -0.1)]),
        # As small as the export writes them: finer than NUMERIC's nine decimal places, and with 17 digits.
        row("2026-11-17T02:00", 3.6e-10, cost_at_list=None, credits=[("FREE_TIER", -3.6e-10), ("", -1e-12)]),
        row("2026-11-17T03:00", 0.30000000000000004),
    ]
    cloud.add(*rows)
    assert spending.refresh(cloud.settings()).failure == ""
    usage = D("0.1") + D("0.2") + D("3.6E-10") + D("0.30000000000000004")
    credit = D("-0.03") + D("-0.07") + D("-0.1") + D("-3.6E-10") + D("-1E-12")
    assert spending.by("charge_category") == {"Usage": usage, "Credit": credit}
    assert spending.by("charge_category", cost="effective_cost") == {"Usage": usage, "Credit": credit}
    at_list = D("0.4") + D("0.4") + D("3.6E-10") + D("0.30000000000000004")
    assert spending.by("charge_category", cost="list_cost") == {"Usage": at_list, "Credit": 0}
    assert spending.by("charge_category", cost="contracted_cost") == {"Usage": usage, "Credit": 0}
    assert spending.total("billed_cost") == usage + credit == total(rows)


def test_a_sum_of_many_floats_is_the_sum_of_their_digits(cloud: GoogleCloud, spending: Spending) -> None:
    # As floats, a hundred times 0.1 and 0.7 are 79.9999999999999…
    rows = [row(f"2026-11-{day:02}T00:00", cost) for day in range(1, 21) for cost in (0.1, 0.7) for _ in range(5)]
    cloud.add(*rows)
    spending.refresh(cloud.settings())
    assert spending.total("billed_cost") == 100 * D("0.1") + 100 * D("0.7") == total(rows)
    assert sum(charge["row_count"] for charge in spending.charges()) == 200


def test_sums_are_conserved_over_any_rows(cloud: GoogleCloud, spending: Spending) -> None:
    draw = random.Random(20_261_120)
    rows = [
        row(
            f"2026-11-{draw.randint(1, 20):02}T{draw.randint(0, 23):02}:00",
            draw.choice([draw.uniform(-1, 1), draw.uniform(0, 90_000), round(draw.uniform(0, 10), 6), 0.0]),
            project=draw.choice(["shop", "lab", "other"]),
            service=draw.choice([COMPUTE, STORAGE]),
            labels={"team": draw.choice(["web", "search", ""])},
            cost_type=draw.choice(["regular", "regular", "tax", "adjustment", "rounding_error"]),
            credits=[(draw.choice(["PROMOTION", "DISCOUNT", "FREE_TIER"]), -draw.random()) for _ in range(draw.randint(0, 3))],
        )
        for _ in range(300)
    ]
    cloud.add(*rows)
    assert spending.refresh(cloud.settings()).failure == ""
    assert spending.total("billed_cost") == spending.total("effective_cost") == total(rows)
    assert spending.total("billed_cost", charge_category="Credit") == total([made | {"cost": 0.0} for made in rows])
    assert sum(charge["row_count"] for charge in spending.charges()) == sum(1 + len(made["credits"]) for made in rows)
    assert spending.rejected() == {}


def test_tax_adjustments_and_rounding_are_no_usage(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(
        row("2026-11-17", 100.0),
        without_project(row("2026-11-17", 19.0, cost_type="tax")),
        without_project(row("2026-11-17", -5.0, cost_type="adjustment")),
        without_project(row("2026-11-17", 0.004, cost_type="rounding_error")),
        row("2026-11-17", 0.5, cost_type="a_new_type"),
    )
    spending.refresh(cloud.settings())
    assert spending.by("charge_category", "sub_account_id") == {
        ("Usage", "shop"): D(100) + D("0.5"),
        ("Tax", ""): D(19),
        ("Adjustment", ""): D(-5) + D("0.004"),
    }


def test_a_resources_label_comes_before_its_tag_and_that_before_the_label_of_its_project(cloud: GoogleCloud, spending: Spending) -> None:
    everywhere = {"labels": {"team": "own"}, "tags": {"team": "tag"}, "project_labels": {"team": "project"}}
    cloud.add(
        row("2026-11-17", 1.0, **everywhere),
        row("2026-11-17", 2.0, **{**everywhere, "labels": {"team": "  "}}),
        row("2026-11-17", 4.0, **{**everywhere, "labels": {}, "tags": {}}),
        row("2026-11-17", 8.0, labels={"Team ": "written-otherwise"}),
    )
    spending.refresh(cloud.settings())
    assert spending.by("team") == {"own": 1, "tag": 2, "project": 4, "written-otherwise": 8}


def test_labels_and_their_keys_are_data(cloud: GoogleCloud, spending: Spending) -> None:
    hostile = "x' OR 1=1 --`@first`\\"
    rule = {"target": "feature", "origins": [f"tag:{hostile}"]}
    cloud.add(row("2026-11-17", 1.0, labels={hostile.lower(): "'; DROP TABLE line; --"}), row("2026-11-17", 2.0, labels={"x": "other"}))
    assert spending.refresh(cloud.settings(), rules=[rule]).failure == ""
    assert spending.by("feature") == {"'; DROP TABLE line; --": 1, "": 2}
    for asked in cloud.bigquery.queries:
        assert "DROP" not in asked["query"]["query"]
        assert "OR 1=1" not in asked["query"]["query"]


def test_late_rows_restate_a_past_day_and_leave_the_others(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-10", 5.0), row("2026-11-12", 7.0))
    spending.refresh(cloud.settings())
    before = spending.parts()
    # Usage of the 10th, exported nine days later: it stands in the partition of the 19th.
    late = date(2026, 11, 19)
    cloud.add(row("2026-11-10", 0.5, _PARTITIONTIME=late), row("2026-11-10", 0.0, _PARTITIONTIME=late, credits=[("PROMOTION", -2.0)]))
    spending.minutes = 600
    spending.refresh(cloud.settings())
    assert spending.by("charge_date") == {"2026-11-10": D(5) + D("0.5") - D(2), "2026-11-12": D(7)}
    changed = {part for part, found in spending.parts().items() if found.read_at != before[part].read_at}
    assert changed == {f"{TABLE}/2026-11-10"}


def test_a_cost_that_is_gone_is_gone(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-10", 5.0), row("2026-11-12", 7.0))
    spending.refresh(cloud.settings())
    cloud.bigquery.clear(TABLE)
    cloud.add(row("2026-11-12", 7.0))
    spending.minutes = 600
    spending.refresh(cloud.settings())
    assert spending.by("charge_date") == {"2026-11-12": 7}


def test_an_empty_export_is_a_bill_of_nothing(cloud: GoogleCloud, spending: Spending) -> None:
    assert spending.refresh(cloud.settings()).failure == ""
    assert spending.charges() == []
    assert {part.state for part in spending.parts().values()} == {"ok"}
    assert len(spending.parts()) == 62 + 1


def test_another_currency_is_converted_at_the_rate_of_its_day_and_rejected_without_one(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(
        row("2026-11-09", 10.0, currency="EUR", currency_conversion_rate=0.86),
        row("2026-11-17", 10.0, currency="EUR", currency_conversion_rate=0.86, credits=[("PROMOTION", -4.0)]),
        row("2026-11-17", 1.0, currency="CHF", currency_conversion_rate=0.8),
    )
    rates = {"EUR": [{"valid_from": "2026-10-01", "usd": "1.10"}, {"valid_from": "2026-11-10", "usd": "1.20"}]}
    spending.refresh(cloud.settings(), currencies=rates)
    assert spending.by("charge_date", "charge_category", "billing_currency", cost="billed_cost_usd") == {
        ("2026-11-09", "Usage", "EUR"): 10 * D("1.10"),
        ("2026-11-17", "Usage", "EUR"): 10 * D("1.20"),
        ("2026-11-17", "Credit", "EUR"): -4 * D("1.20"),
    }
    assert spending.rejected() == {"no_exchange_rate": 1}


def test_a_row_without_a_cost_is_rejected_aloud_and_its_credits_count(cloud: GoogleCloud, spending: Spending) -> None:
    cloud.add(row("2026-11-17", None, credits=[("PROMOTION", -1.0)]), row("2026-11-17", float("nan")), row("2026-11-17", 3.0))
    assert spending.refresh(cloud.settings()).failure == ""
    assert spending.by("charge_category") == {"Usage": 3, "Credit": -1}
    assert spending.rejected() == {"missing_cost": 2}


def test_the_detailed_export_is_read_alike(spending: Spending) -> None:
    with GoogleCloud(DETAILED) as cloud:
        cloud.add(row("2026-11-17T00:00", 1.5, labels={"team": "web"}), row("2026-11-17T01:00", 2.5, labels={"team": "web"}))
        spending.refresh(cloud.settings())
        assert spending.by("team") == {"web": D("1.5") + D("2.5")}


def test_the_focus_export_is_read_by_its_own_columns(spending: Spending) -> None:
    label = [{"Key": "team", "Value": "web"}]
    with GoogleCloud(FOCUS_TABLE) as cloud:
        cloud.add(
            focus_row("2026-11-17T00:00", "10.000000001", "8", ListCost=D(12), ContractedCost=None, x_Labels=label),
            focus_row("2026-11-17T05:00", "-3", ChargeCategory="Credit", x_ProjectLabels=label),
            focus_row("2026-11-17T06:00", "1.9", ChargeCategory="Tax", SubAccountId=None, x_Project=None),
            focus_row("2026-11-18T00:00", "1", BilledCost=None),
        )
        assert spending.refresh(cloud.settings()).failure == ""
    assert spending.by("charge_category", "sub_account_id", "team") == {
        ("Usage", "shop", "web"): D("10.000000001"),
        ("Credit", "shop", "web"): D(-3),
        ("Tax", "", ""): D("1.9"),
    }
    (usage,) = spending.charges(charge_category="Usage")
    assert (usage["effective_cost"], usage["list_cost"], usage["contracted_cost"]) == (D(8), D(12), D("10.000000001"))
    assert spending.rejected() == {"missing_cost": 1}


def test_the_days_of_a_table_that_is_read_no_more_are_gone(spending: Spending) -> None:
    with GoogleCloud() as standard:
        standard.add(row("2026-11-17", 5.0))
        spending.refresh(standard.settings())
    with GoogleCloud(DETAILED) as detailed:
        detailed.add(row("2026-11-17", 5.0))
        spending.refresh(detailed.settings())
    assert spending.total("billed_cost") == 5
    assert {part.rpartition("/")[0] for part in spending.parts()} == {DETAILED}


def test_the_newest_day_is_the_exports_and_not_todays(cloud: GoogleCloud, spending: Spending) -> None:
    # 1.6 days late, as Google's export was measured: at noon of the 20th the newest usage is of the 18th.
    cloud.add(row("2026-11-17T12:00", 5.0), row("2026-11-18T21:00", 7.0))
    spending.refresh(cloud.settings())
    days = [charge["charge_date"] for charge in spending.charges()]
    assert max(days) == "2026-11-18"
    assert f"{TABLE}/2026-11-20" in spending.parts()
    assert spending.state("gcp")["data_newest_at"] == to_micros(datetime(2026, 11, 19, tzinfo=UTC))
    begin = datetime(2026, 11, 18, tzinfo=UTC).timestamp()
    assert f'gcp_cost_daily_timestamp_seconds{{provider="gcp"}} {begin}' in spending.exposition().splitlines()


def test_golden_exposition(cloud: GoogleCloud, spending: Spending, golden: Callable[[str, str], None]) -> None:
    cloud.add(
        row("2026-10-31T23:00", 30.0, labels={"team": "web", "env": "production"}),
        row("2026-11-17T00:00", 10.1, labels={"team": "web", "env": "production"}, credits=[("COMMITTED_USAGE_DISCOUNT", -2.02)]),
        row("2026-11-17T01:00", 5.05, project="lab", service=STORAGE, project_labels={"team": "search", "tenant": "acme"}),
        row("2026-11-18T01:00", 1.5, currency="EUR"),
        without_project(row("2026-11-18T02:00", 2.85, cost_type="tax")),
    )
    cloud.billing.budgets[ACCOUNT] = [
        budget("All of it", account=ACCOUNT, limit="500"),
        budget(
            "Shop before credits", account=ACCOUNT, limit="200.5", projects=["projects/111"], creditTypesTreatment="EXCLUDE_ALL_CREDITS"
        ),
        budget("The year", account=ACCOUNT, limit="6000", calendarPeriod="YEAR"),
    ]
    spending.refresh(cloud.settings(), currencies={"EUR": [{"valid_from": "2026-01-01", "usd": "1.2"}]})
    golden("gcp.prom", spending.exposition())
