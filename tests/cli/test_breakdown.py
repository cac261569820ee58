"""`costwarden breakdown`: cost by anything, exact, and nothing twice."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from click.testing import Result
from spending import Spending
from sqlalchemy import insert

from costwarden.ledger.schema import COST_BASES, charges

NOVEMBER = ("breakdown", "--month", "2026-11")


@pytest.fixture
def charge(spending: Spending) -> Callable[..., None]:
    """`charge("12.5", provider_name="aws", …)`: a charge in dollars, on 2026-11-19 unless said otherwise."""

    def add(cost: str, day: str = "2026-11-19", **columns: str) -> None:
        values = {"charge_date": day, "provider_name": "aws", **{f"{basis}_usd": cost for basis in COST_BASES}, **columns}
        row = {column.name: values.get(column.name, "") for column in charges.c if column.name != "row_count"}
        spending.ledger.write(lambda connection: connection.execute(insert(charges).values(row)))

    return add


def as_json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.output, parse_float=Decimal, parse_int=Decimal)


def test_cost_is_broken_down_exactly_the_dearest_first_and_the_rest_is_other(charge, costwarden):
    charge("0.1", service_name="EC2")
    charge("0.2", "2026-11-01", service_name="EC2")
    charge("5", service_name="S3")
    charge("0.001", service_name="SQS")
    charge("9", "2026-10-31", service_name="S3")
    found = as_json(costwarden(*NOVEMBER, "--top", 1, "--format", "json"))
    assert found["total_usd"] == Decimal("0.1") + Decimal("0.2") + 5 + Decimal("0.001")
    assert found["rows"] == [{"service": "S3", "cost_usd": 5}, {"service": "other", "cost_usd": Decimal("0.301")}]


def test_a_table_shows_all_places_of_an_amount(charge, costwarden):
    charge("12345678901", service_name="EC2")
    charge("0.123456789012345678", service_name="S3")
    # 29 digits: one more than Python's own context of decimals keeps.
    assert "$12,345,678,901.123456789012345678" in costwarden(*NOVEMBER).output


def test_what_another_provider_bills_is_left_out_of_all_providers_and_said_so(charge, costwarden):
    charge("100", service_name="Amazon EC2")
    charge("30", provider_name="kubernetes", service_name="deployment/web", charge_category="Allocated")
    charge("4", provider_name="kubernetes", service_name="deployment/on-premises", charge_category="Usage")
    arguments = (*NOVEMBER, "--by", "provider", "--format", "json")
    found = as_json(costwarden(*arguments))
    assert found["total_usd"] == 100 + 4
    assert found["left_out_allocated_usd"] == {"kubernetes": 30}
    footnote = "left out: $30.00 of kubernetes, which stand in another provider's bill too; `--provider kubernetes` shows them"
    assert footnote in costwarden(*NOVEMBER).output
    cluster = as_json(costwarden(*arguments, "--provider", "kubernetes"))
    assert cluster["total_usd"] == 30 + 4
    assert cluster["left_out_allocated_usd"] == {}
    assert "left out" not in costwarden(*NOVEMBER, "--provider", "kubernetes").output


def test_the_footnote_stands_alone_where_there_is_nothing_else(charge, costwarden):
    charge("30", provider_name="kubernetes", charge_category="Allocated")
    assert costwarden(*NOVEMBER).output.startswith("left out: $30.00 of kubernetes")


def test_a_month_without_cost_says_what_there_is(charge, costwarden):
    charge("9", "2026-10-31")
    assert costwarden(*NOVEMBER).output == "no cost from 2026-11-01 to 2026-11-30; the newest day in the bills is 2026-10-31\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--month", "November"), "--month 'November' is not a month as 2026-03"),
        (("--month", "2026-11", "--days", "3"), "give --days or --month, not both"),
        # Past what a date can be, and before it.
        (("--month", "9999-12"), "--month '9999-12' is not a month as 2026-03"),
        (("--days", "999999999"), "'--days': 999999999 is not in the range 1<=x<=36500"),
    ],
)
def test_a_range_that_is_none_is_a_mistake(charge, costwarden, arguments, sentence):
    charge("1")
    result = costwarden("breakdown", *arguments)
    assert (result.exit_code, sentence in result.output) == (2, True), result.output


def test_a_hundred_years_are_a_range(charge, costwarden):
    charge("1", "1999-01-01")
    assert as_json(costwarden("breakdown", "--days", "36500", "--format", "json"))["total_usd"] == 1


# What a bill can make of a terminal: a title, a cursor, a colour (C0 and C1), and letters that run backwards.
HOSTILE = "EC2\x1b]0;owned\x07\x9b2J\x7f\u202eevil\u2066\r\n$0.00"
SHOWN = "EC2\ufffd]0;owned\ufffd\ufffd2J\ufffd\ufffdevil\ufffd\ufffd\ufffd$0.00"


def test_a_name_in_a_bill_does_not_command_the_terminal(charge, costwarden):
    charge("2", service_name=HOSTILE)
    charge("30", provider_name=HOSTILE, charge_category="Allocated")
    shown = costwarden(*NOVEMBER).output
    assert [line.split()[0] for line in shown.splitlines()[2:4]] == [SHOWN, "total"]
    assert f"left out: $30.00 of {SHOWN}, " in shown
    assert (set(HOSTILE) - set(SHOWN)) & set(shown) == {"\n"}


def test_json_has_the_name_as_it_is_and_nothing_that_a_terminal_obeys(charge, costwarden):
    charge("2", service_name=HOSTILE)
    result = costwarden(*NOVEMBER, "--format", "json")
    assert as_json(result)["rows"] == [{"service": HOSTILE, "cost_usd": 2}]
    assert (set(HOSTILE) - set(SHOWN)) & set(result.output) == {"\n"}
