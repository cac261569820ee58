"""`decimal_sum` adds decimal text to the last digit, which SQLite's own sum does not."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from costwarden.ledger import _DecimalSum
from costwarden.model import exact_sum


def total(ledger, texts):
    with ledger.read() as connection:
        connection.exec_driver_sql("CREATE TEMP TABLE amounts (amount TEXT)")
        for text in texts:
            connection.exec_driver_sql("INSERT INTO amounts VALUES (?)", (text,))
        return connection.exec_driver_sql("SELECT decimal_sum(amount) FROM amounts").scalar_one()


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


@given(st.lists(st.decimals(min_value=-(10**18), max_value=10**18, places=18), max_size=50))
def test_any_amounts_of_a_bill_add_up_exactly(amounts):
    aggregate = _DecimalSum()
    for amount in amounts:
        aggregate.step(str(amount))
    assert Decimal(aggregate.finalize()) == exact_sum(amounts)
