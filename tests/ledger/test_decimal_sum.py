"""`decimal_sum` adds decimal text to the last digit, which SQLite's own sum does not; PostgreSQL has one of the same name."""

from decimal import Decimal

import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costwarden.ledger.sqlite_database import _DecimalSum
from costwarden.model import exact_sum


def total(ledger, texts):
    with ledger.read() as connection:
        amounts = [f"SELECT CAST(:t{number} AS text), 1" for number in range(len(texts))]
        rows = " UNION ALL ".join(["SELECT CAST(NULL AS text) AS amount, 0 AS counts", *amounts])
        query = sqlalchemy.text(f"SELECT decimal_sum(amount) FROM ({rows}) AS amounts WHERE counts = 1")
        return connection.execute(query, {f"t{n}": text for n, text in enumerate(texts)}).scalar_one()


def test_tenths_make_whole_dollars(ledger):
    # 0.1 + 0.2 + 0.7 in floating point is 0.9999999999999999 or 1.0, by order.
    assert Decimal(total(ledger, ["0.1", "0.2", "0.7"])) == 1


def test_a_digit_far_behind_a_large_amount_is_kept(ledger):
    # 10^15 + 10^-18 - 10^15
    assert Decimal(total(ledger, ["1000000000000000", "0.000000000000000001", "-1000000000000000"])) == Decimal("0.000000000000000001")


def test_no_rows_have_no_sum_as_in_sql(ledger):
    assert total(ledger, []) is None


def test_null_adds_nothing(ledger):
    assert total(ledger, [None, "2.50", None]) == "2.50"
    assert total(ledger, [None, None]) == "0"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amounts=st.lists(st.decimals(min_value=-(10**18), max_value=10**18, places=18), min_size=1, max_size=20))
def test_both_databases_add_any_amounts_exactly(ledger, amounts):
    assert Decimal(total(ledger, [str(amount) for amount in amounts])) == exact_sum(amounts)


@given(st.lists(st.decimals(min_value=-(10**18), max_value=10**18, places=18), max_size=50))
def test_any_amounts_of_a_bill_add_up_exactly(amounts):
    aggregate = _DecimalSum()
    for amount in amounts:
        aggregate.step(str(amount))
    assert Decimal(aggregate.finalize()) == exact_sum(amounts)
