"""Charges in other currencies: the rate of the day, both amounts kept, and no conversion without a rate."""

from datetime import date
from decimal import Decimal

import pytest

from costwarden.sources.currency import Rates
from costwarden.sources.settings import ExchangeRates

EUR = {"EUR": [{"valid_from": "2026-01-01", "usd": 1.08}, {"valid_from": "2026-02-01", "usd": "1.1"}]}


@pytest.mark.parametrize(
    ("currency", "day", "usd"),
    [
        ("EUR", date(2025, 12, 31), None),
        ("EUR", date(2026, 1, 1), Decimal("1.08")),
        ("EUR", date(2026, 1, 31), Decimal("1.08")),
        ("EUR", date(2026, 2, 1), Decimal("1.1")),
        ("EUR", date(2030, 1, 1), Decimal("1.1")),
        ("USD", date(2000, 1, 1), Decimal(1)),
        ("GBP", date(2026, 1, 1), None),
    ],
)
def test_the_newest_rate_that_is_not_after_the_day_holds(currency, day, usd):
    assert Rates(ExchangeRates.model_validate({"currencies": EUR})).usd(currency, day) == usd


def test_a_charge_keeps_its_currency_and_gets_the_rate_of_its_day(write_bill, read_one):
    write_bill(
        "bill.csv",
        {"BillingCurrency": "EUR", "BilledCost": "10", "ChargePeriodStart": "2026-01-31T23:59:59Z"},
        {"BillingCurrency": " eur ", "BilledCost": "10", "ChargePeriodStart": "2026-02-01T00:00:00Z"},
        {"BillingCurrency": "USD", "BilledCost": "10", "ChargePeriodStart": "2026-02-01T00:00:00Z"},
    )
    found = {(charge.billing_currency, charge.usd_rate, charge.billed_cost) for charge in read_one(currencies=EUR).charges}
    assert found == {("EUR", Decimal("1.08"), 10), ("EUR", Decimal("1.1"), 10), ("USD", 1, 10)}


def test_a_row_without_a_rate_is_rejected_and_those_with_one_are_kept(write_bill, read_one, totals):
    write_bill(
        "bill.csv",
        {"BillingCurrency": "EUR", "BilledCost": "1", "ChargePeriodStart": "2025-12-31"},
        {"BillingCurrency": "EUR", "BilledCost": "2", "ChargePeriodStart": "2026-01-01"},
        {"BillingCurrency": "Credits", "BilledCost": "4"},
        {"BillingCurrency": "USD", "BilledCost": "8"},
    )
    change = read_one(currencies=EUR)
    assert (totals(change)["billed_cost"], change.rejected) == (2 + 8, {"no_exchange_rate": 2})
    assert [(row.line, row.detail) for row in change.rejected_rows] == [
        (2, "no rate for 'EUR' on 2025-12-31: add one to `exchange_rates`"),
        (4, "no rate for 'CREDITS' on 2026-01-15: add one to `exchange_rates`"),
    ]


def test_the_default_currency_is_that_of_rows_that_name_none(write_bill, read_one):
    write_bill("bill.csv", {"BillingCurrency": ""}, {"BillingCurrency": "USD"})
    assert {charge.billing_currency for charge in read_one(currencies=EUR, default_currency="EUR").charges} == {"EUR", "USD"}
