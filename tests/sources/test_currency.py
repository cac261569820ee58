"""Charges in other currencies: the rate of the day, both amounts kept, and no conversion without a rate."""

import hashlib
from datetime import date
from decimal import Decimal

import pytest

from costwarden.cli.check_config import effective_text
from costwarden.config import ConfigError, load_config
from costwarden.sources.currency import Rates
from costwarden.sources.settings import AttributionSettings, ExchangeRates, FocusSettings
from costwarden.sync import open_for_ledger, refresh

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


# --- rates from a file ---------------------------------------------------------------------------------------------------------------

# The layout of https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist.zip: newest first, a comma at the end, N/A where nothing is quoted.
# The Russian rouble was quoted last on 2022-03-01, the Croatian kuna at the end of 2022; the króna was not quoted from 2008-12-10 to
# 2018-02-01. The figures of 2026 are made up.
ECB = """\
Date,USD,JPY,GBP,ISK,HRK,RUB,
2026-01-19,1.25,180,0.8,150.5,N/A,N/A,
2026-01-16,1.2,175.5,0.75,N/A,N/A,N/A,
2026-01-15,1.1,160,N/A,140,N/A,N/A,
2022-03-01,1.1162,128.31,0.83307,142.2,7.5680,117.2010,
"""


@pytest.fixture
def configured(tmp_path):
    """`configured(text, "rates.csv")`: the configuration that names a file of rates with that text."""

    def load(text, currencies="{}", *, sha256=""):
        (tmp_path / "rates.csv").write_text(text, encoding="utf-8")
        path = tmp_path / "costwarden.yaml"
        path.write_text(f"exchange_rates: {{file: rates.csv, file_sha256: '{sha256}', currencies: {currencies}}}\n", encoding="utf-8")
        return load_config(path)

    return load


OWN = "valid_from,currency,usd\n2026-01-01,EUR,1.08\n2026-02-01,EUR,1.1\n2026-01-01,GBP,1.27\n"


def test_rates_are_read_from_the_file_that_the_configuration_names(configured):
    rates = Rates(configured(OWN).exchange_rates)
    days = date(2025, 12, 31), date(2026, 1, 31), date(2026, 2, 1)
    assert [rates.usd("EUR", day) for day in days] == [None, Decimal("1.08"), Decimal("1.1")]
    assert [rates.usd("GBP", day) for day in days] == [None, Decimal("1.27"), Decimal("1.27")]


def test_neither_the_order_of_columns_and_lines_nor_what_a_spreadsheet_adds_matters(configured):
    text = '\ufeffCurrency, USD ,valid_from\r\n"EUR",1.1,2026-02-01\r\n\r\nEUR,1.08, 2026-01-01\r\n,,\r\n'
    rates = Rates(configured(text).exchange_rates)
    assert [rates.usd("EUR", day) for day in (date(2026, 1, 1), date(2026, 2, 1))] == [Decimal("1.08"), Decimal("1.1")]


def test_the_central_banks_file_is_read_as_it_is(configured):
    rates = Rates(configured(ECB).exchange_rates)
    assert rates.usd("EUR", date(2026, 1, 15)) == Decimal("1.1")
    # A weekend has the rate of the Friday before.
    assert rates.usd("EUR", date(2026, 1, 18)) == Decimal("1.2")
    assert rates.usd("GBP", date(2026, 1, 19)) == Decimal("1.25") / Decimal("0.8") == Decimal("1.5625")
    # 12 significant digits, half to even.
    assert rates.usd("JPY", date(2026, 1, 16)) == round(Decimal("1.2") / Decimal("175.5"), 14) == Decimal("0.00683760683761")


def test_a_currency_that_is_quoted_no_more_has_no_rate_and_none_from_before_a_gap(configured):
    rates = Rates(configured(ECB).exchange_rates)
    assert [rates.usd(currency, date(2026, 1, 19)) for currency in ("RUB", "HRK")] == [None, None]
    assert [rates.usd("ISK", day) for day in (date(2026, 1, 16), date(2026, 1, 18))] == [None, None]
    assert rates.usd("ISK", date(2026, 1, 19)) is not None
    assert rates.usd("GBP", date(2026, 1, 15)) is None


def test_what_the_configuration_says_of_a_currency_holds_in_place_of_the_file(configured):
    rates = Rates(configured(OWN, "{EUR: [{valid_from: 2026-01-15, usd: 1.5}]}").exchange_rates)
    assert [rates.usd("EUR", day) for day in (date(2026, 1, 14), date(2026, 2, 1))] == [None, Decimal("1.5")]
    assert rates.usd("GBP", date(2026, 1, 14)) == Decimal("1.27")


def test_a_bill_is_converted_at_the_rates_of_the_file_and_keeps_both_amounts(configured, write_bill, folder, spending):
    write_bill(
        "bill.csv",
        {"BillingCurrency": "JPY", "BilledCost": "100.5", "ChargePeriodStart": "2026-01-16"},
        {"BillingCurrency": "USD", "BilledCost": "3", "ChargePeriodStart": "2026-01-16"},
        {"BillingCurrency": "RUB", "BilledCost": "7", "ChargePeriodStart": "2026-01-16"},
    )

    def read(text):
        rates = configured(text).exchange_rates
        settings = FocusSettings(path=folder)
        reading = open_for_ledger(spending.ledger, settings, AttributionSettings(), rates, reveal=lambda _: "", now=spending.now)
        assert refresh(spending.ledger, settings.name, reading, spending.now).failure == ""

    read(ECB)
    assert spending.by("billing_currency") == {"JPY": Decimal("100.5"), "USD": 3}
    assert spending.by("billing_currency", cost="billed_cost_usd") == {"JPY": Decimal("100.5") * Decimal("0.00683760683761"), "USD": 3}
    assert spending.rejected() == {"no_exchange_rate": 1}
    # The same bill, another file of rates: read again.
    read(ECB.replace("1.2,175.5", "1.17,175.5"))
    assert spending.by("billing_currency", cost="usd_rate") == {"JPY": Decimal("0.00666666666667"), "USD": 1}


def test_the_effective_configuration_loads_again_the_same_and_only_with_the_same_file(configured, tmp_path):
    config = configured(OWN, "{CHF: [{valid_from: 2026-01-15, usd: 1.125}]}")
    again = tmp_path / "again.yaml"
    again.write_text(effective_text(config), encoding="utf-8")
    assert load_config(again) == config
    assert load_config(again).exchange_rates.rates == config.exchange_rates.rates
    (tmp_path / "rates.csv").write_text(OWN.replace("1.27", "1.28"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rates.csv: has the SHA-256 [0-9a-f]{64}, not [0-9a-f]{64} \(`file_sha256`\)$"):
        load_config(again)


def test_another_content_of_the_file_is_another_configuration(configured):
    first, second, third = (configured(text).exchange_rates for text in (OWN, OWN.replace("1.27", "1.28"), OWN))
    assert first != second
    assert first == third
    assert first.model_dump_json() != second.model_dump_json()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: '': must name the columns valid_from, currency, usd, or begin with Date and name USD, as the"),
        ("valid_from;currency;usd\n", "line 1: 'valid_from;currency;usd': must name the columns valid_from, currency, usd, or"),
        ("Date,JPY,\n", "line 1: 'Date,JPY': must name the columns valid_from, currency, usd, or begin with Date and name USD"),
        (f"{OWN}2026-03-01,EUR\n", "line 5: '2026-03-01,EUR': must have 3 fields"),
        (f"{OWN}\n2026-3-1,EUR,1\n", "line 6: '2026-3-1': must be a day, as 2026-01-31"),
        (f"{OWN}2026-02-30,EUR,1\n", "line 5: '2026-02-30': must be a day, as 2026-01-31"),
        (f"{OWN}2026-03-01,eur,1\n", "line 5: currency 'eur': must be three capital letters, as EUR"),
        (f"{OWN}2026-03-01,USD,1\n", "line 5: currency 'USD': has no rate: a dollar is a dollar"),
        (f"{OWN}2026-02-01,EUR,2\n", "line 5: EUR has a second rate from 2026-02-01 on"),
        (f"{OWN}2026-03-01,EUR,0.0\n", "line 5: usd '0.0': must be a number above 0 of at most 20 digits, with a point"),
        (f"{OWN}2026-03-01,EUR,-1\n", "line 5: usd '-1': must be a number above 0"),
        (f"{OWN}2026-03-01,EUR,1e2\n", "line 5: usd '1e2': must be a number above 0"),
        (f"{OWN}2026-03-01,EUR,NaN\n", "line 5: usd 'NaN': must be a number above 0"),
        (f'{OWN}2026-03-01,EUR,"1,08"\n', "line 5: usd '1,08': must be a number above 0"),
        (f"{OWN}2026-03-01,EUR,1.{'1' * 20}\n", "line 5: usd '1.11111111111111111111': must be a number above 0 of at most 20 digits"),
        (f"{OWN}2026-03-01,EUR,\n", "line 5: usd '': must be a number above 0"),
        (f'{OWN}2026-03-01,"EUR"x,1\n', "line 5: ',' expected after '\"'"),
        (ECB.replace("1.25,", "N/A,"), "line 2: USD 'N/A': must be a number above 0"),
        (ECB.replace("180", "180 yen"), "line 2: JPY '180 yen': must be a number above 0"),
        (ECB.replace("2026-01-16", "16/01/2026"), "line 3: '16/01/2026': must be a day, as 2026-01-31"),
        (ECB.replace("2026-01-16", "2026-01-19"), "line 3: 2026-01-19 stands on line 2, too"),
        (ECB.replace("GBP", "JPY"), "line 1: column 'JPY': must be a currency other than EUR, once"),
        (ECB.replace("GBP", "EUR"), "line 1: column 'EUR': must be a currency other than EUR, once"),
        (ECB.replace("1.1,160,N/A,140,N/A,N/A,", "1.1,160"), "line 4: must have 7 fields, as line 1"),
        (ECB.replace("1.1,160,N/A,140,N/A,N/A,", "1.1,160,N/A,140,N/A,N/A,7"), "line 4: must have 7 fields, as line 1"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_line_value_and_rule(configured, tmp_path, text, sentence):
    with pytest.raises(ConfigError) as raised:
        configured(text)
    assert str(raised.value).startswith(f"{tmp_path / 'costwarden.yaml'}: `exchange_rates`: {tmp_path / 'rates.csv'}: {sentence}")


def test_a_file_that_cannot_be_read_is_told(configured, tmp_path):
    path = tmp_path / "rates.csv"
    for content, sentence in ((b"\xff\xfe", "is not UTF-8 text"), (b"PK\x03\x04", "is a ZIP archive: unpack it"), (None, "No such file")):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path}: {sentence}"):
            ExchangeRates(file=path)
    with pytest.raises(ValueError, match="`file_sha256` is given without `file`"):
        ExchangeRates(file_sha256="0" * 64)


def test_a_file_may_be_required_to_be_the_one_that_was_looked_at(configured):
    digest = hashlib.sha256(OWN.encode()).hexdigest()
    assert configured(OWN, sha256=digest).exchange_rates.file_sha256 == digest
    with pytest.raises(ConfigError, match="has the SHA-256"):
        configured(f"{OWN}2026-03-01,EUR,9\n", sha256=digest)
