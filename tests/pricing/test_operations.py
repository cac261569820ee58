"""The operation cost table, figure by figure."""

import pytest

from costwarden.model import Priced
from costwarden.pricing import FALLBACK, UNPRICED, PriceBook, PricingSettings

# Nano-dollars: $0.0052 is 5_200_000.
TABLE = [
    ("replicate", "generateImage", 5_200_000),
    ("replicate", "upscaleImage", 10_400_000),
    ("replicate", "styleTransfer", 15_600_000),
    ("replicate", "outpaint", 20_800_000),
    ("replicate", "inpaint", 15_600_000),
    ("stability", "generateImage", 2_000_000),
    ("stability", "upscaleImage", 6_000_000),
    ("stability", "styleTransfer", 8_000_000),
    ("stability", "outpaint", 10_000_000),
    ("stability", "inpaint", 8_000_000),
    ("gemini", "generateImage", 2_500_000),
]


@pytest.mark.parametrize(("provider", "operation", "nanos"), TABLE)
def test_an_operation_costs_what_the_table_says(book, usage, provider, operation, nanos):
    assert book.price(usage(provider=provider, operation=operation, images=1)) == Priced(nanos, "operation")


def test_an_operation_that_makes_three_images_costs_three(book, usage):
    assert book.price(usage(provider="replicate", operation="generateImage", images=3)).cost == 3 * 5_200_000


@pytest.mark.parametrize("success", [True, False])
def test_an_operation_that_tells_no_count_costs_one_even_when_it_failed(book, usage, success):
    assert book.price(usage(provider="stability", operation="outpaint", success=success)).cost == 1 * 10_000_000


def test_case_does_not_matter(book, usage):
    assert book.price(usage(provider="Replicate", operation="GENERATEIMAGE")) == Priced(5_200_000, "operation")


def test_the_operation_price_comes_before_the_price_of_the_tokens(book, usage):
    drawn = usage(
        provider="gemini", model="gemini-2.5-flash-image", operation="generateImage", input_tokens=10, output_tokens=1_290, images=1
    )
    assert book.price(drawn) == Priced(2_500_000, "operation")


def test_an_estimate_of_an_operation_is_its_price(book, at):
    estimate = book.estimate(
        provider="Replicate", model="", operation="inpaint", input_tokens=0, output_tokens=0, images=2, at=at("2025-11-15T00:00:00+00:00")
    )
    assert estimate == Priced(2 * 15_600_000, "operation")


def test_an_operation_outside_the_table_costs_the_default_of_the_table_under_the_fallback_policy(book, usage):
    restyle = usage(provider="stability", operation="restyle", images=1)
    assert PriceBook(PricingSettings(unknown_price="fallback")).price(restyle) == Priced(10_000_000, FALLBACK)
    assert book.price(restyle) == Priced(0, UNPRICED)
