"""The prices of a lease are the dearest that its calls may be billed at."""

from decimal import Decimal
from typing import Any

import pytest

from costwarden.budgets.lease_prices import LeasePrices, lease_prices
from costwarden.budgets.requests import LeaseRequest
from costwarden.pricing import PriceBook, PricingSettings

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""


def prices_of(model: str, **prices: Any) -> LeasePrices | None:
    overrides = [{"valid_from": "2025-01-01", "model": model, **prices}] if prices else []
    request = LeaseRequest(tenant_id="acme", model=model, amount_usd=Decimal(1))
    return lease_prices(PriceBook(PricingSettings(overrides=overrides)), request, NOON)


@pytest.mark.parametrize("kind", ["cache_write", "cache_write_1h", "input_audio"])
def test_input_is_at_the_dearest_kind_of_input(kind):
    found = prices_of("house", input_usd_mtok=4, output_usd_mtok=10, **{f"{kind}_usd_mtok": 7})
    assert found is not None
    assert (found.input_usd_mtok, found.output_usd_mtok) == (7, 10)


@pytest.mark.parametrize("kind", ["reasoning", "output_audio"])
def test_output_is_at_the_dearest_kind_of_output(kind):
    found = prices_of("house", input_usd_mtok=4, output_usd_mtok=10, usd_per_call=1, **{f"{kind}_usd_mtok": 70})
    assert found is not None
    assert (found.input_usd_mtok, found.output_usd_mtok, found.usd_per_call) == (4, 70, 1)


def test_a_cheaper_kind_lowers_nothing():
    found = prices_of("house", input_usd_mtok=4, output_usd_mtok=10, cache_write_usd_mtok=1, reasoning_usd_mtok=1)
    assert found is not None
    assert (found.input_usd_mtok, found.output_usd_mtok) == (4, 10)


def test_a_published_model_that_writes_caches_for_an_hour():
    found = prices_of("claude-sonnet-4-20250514")
    assert found is not None
    assert found.input_usd_mtok >= 6


def test_a_model_that_nobody_knows_has_no_prices():
    assert prices_of("nobody-knows-it") is None
