"""Dated prices of one's own: which one holds, and at what time."""

import pytest

from costwarden.model import Priced
from costwarden.pricing import UNPRICED, PriceBook, PricingSettings

SONNET = "claude-3-5-sonnet-20241022"


def book_of(*overrides: dict[str, object]) -> PriceBook:
    return PriceBook(PricingSettings.model_validate({"overrides": overrides}))


def tokens(valid_from: str, usd: object, **selectors: str) -> dict[str, object]:
    """An override that charges `usd` per million tokens each way."""
    return {"valid_from": valid_from, "input_usd_mtok": usd, "output_usd_mtok": usd, **selectors}


# $3 by genai-prices, then $2 and $1 of one's own; 1,000 nano-dollars a token are $1 per million.
@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2025-12-31T23:59:59.999999+00:00", Priced(10 * 3_000, "genai-prices")),
        ("2026-01-01T00:00:00+00:00", Priced(10 * 2_000, "override:2026-01-01")),
        ("2026-01-01T00:59:59+01:00", Priced(10 * 3_000, "genai-prices")),
        ("2026-05-31T23:59:59.999999+00:00", Priced(10 * 2_000, "override:2026-01-01")),
        ("2026-06-01T00:00:00+00:00", Priced(10 * 1_000, "override:2026-06-01")),
    ],
)
@pytest.mark.parametrize("order", [1, -1], ids=["oldest_first", "newest_first"])
def test_usage_costs_the_override_of_its_own_time(usage, timestamp, expected, order):
    overrides = [tokens("2026-01-01", 2, model=SONNET), tokens("2026-06-01", 1, model=SONNET)]
    assert book_of(*overrides[::order]).price(usage(timestamp, model=SONNET, input_tokens=10)) == expected


def test_appending_a_price_leaves_the_price_of_earlier_usage_alone(usage):
    old = usage("2026-05-01T00:00:00+00:00", model=SONNET, input_tokens=10)
    before = [tokens("2026-01-01", 2, model=SONNET)]
    assert book_of(*before).price(old) == book_of(*before, tokens("2026-06-01", 1, model=SONNET)).price(old)


def test_an_estimate_uses_the_override_of_the_time_that_is_asked_for(at):
    book = book_of(tokens("2026-01-01", 2, model=SONNET))
    size = {"provider": "", "model": SONNET, "operation": "", "input_tokens": 10, "output_tokens": 5, "images": 0}
    assert book.estimate(**size, at=at("2026-01-01T00:00:00+00:00")).cost == (10 + 5) * 2_000


@pytest.mark.parametrize(
    ("event", "nanos"),
    [
        ({"provider": "azure", "model": "gpt-4o"}, 10 * 5_000),  # provider and model: the most exact
        ({"provider": "azure", "model": "gpt-4o-mini"}, 10 * 7_000),  # the provider alone, and newer than the pattern
        ({"provider": "openai", "model": "GPT-4o-mini"}, 10 * 6_000),  # the pattern alone
    ],
)
def test_the_most_exact_override_wins_and_case_does_not_matter(usage, event, nanos):
    book = book_of(
        tokens("2025-01-01", 5, provider="Azure", model="gpt-4o"),
        tokens("2025-02-01", 6, model="gpt-4*"),
        tokens("2025-03-01", 7, provider="azure"),
    )
    assert book.price(usage(input_tokens=10, **event)).cost == nanos


def test_of_two_equally_exact_overrides_of_one_day_the_later_in_the_list_holds(usage):
    book = book_of(tokens("2025-01-01", 5, model="gpt-4*"), tokens("2025-01-01", 6, model="gpt-*"))
    assert book.price(usage(model="gpt-4o", input_tokens=10)).cost == 10 * 6_000


def test_every_token_class_has_a_price_of_its_own(usage):
    book = book_of(
        {
            "valid_from": "2025-01-01",
            "model": "ours",
            "input_usd_mtok": 10,
            "output_usd_mtok": 20,
            "cache_read_usd_mtok": 1,
            "cache_write_usd_mtok": 12,
            "cache_write_1h_usd_mtok": 21,
            "input_audio_usd_mtok": 40,
            "reasoning_usd_mtok": 15,
            "output_audio_usd_mtok": 80,
            "usd_per_call": "0.001",
            "usd_per_image": "0.04",
        }
    )
    used = usage(
        model="ours",
        input_tokens=100 + 7 + 5 + 3 + 2,
        cache_read_tokens=7,
        cache_write_tokens=5 + 3,
        cache_write_1h_tokens=3,
        input_audio_tokens=2,
        output_tokens=50 + 30 + 4,
        reasoning_tokens=30,
        output_audio_tokens=4,
        images=2,
    )
    inputs = 100 * 10_000 + 7 * 1_000 + 5 * 12_000 + 3 * 21_000 + 2 * 40_000
    outputs = 50 * 20_000 + 30 * 15_000 + 4 * 80_000
    assert book.price(used) == Priced(inputs + outputs + 1_000_000 + 2 * 40_000_000, "override:2025-01-01")


def test_a_token_class_without_a_price_costs_what_its_direction_costs(usage):
    book = book_of({"valid_from": "2025-01-01", "model": "ours", "input_usd_mtok": 10, "output_usd_mtok": 20})
    used = usage(
        model="ours",
        input_tokens=100,
        cache_read_tokens=60,
        cache_write_tokens=30,
        cache_write_1h_tokens=20,
        output_tokens=9,
        reasoning_tokens=8,
    )
    assert book.price(used).cost == 100 * 10_000 + 9 * 20_000


def test_cached_audio_costs_what_audio_costs(usage):
    book = book_of(tokens("2025-01-01", 4, model="ours") | {"cache_read_usd_mtok": 1, "input_audio_usd_mtok": 32})
    # 80 audio and 60 cached of 100, so 40 are both; no key prices cached audio, and the dearer reading is the safe one.
    assert book.price(usage(model="ours", input_tokens=100, input_audio_tokens=80, cache_read_tokens=60)).cost == 80 * 32_000 + 20 * 1_000


def test_an_override_for_an_operation_comes_before_the_operation_table(usage):
    book = book_of({"valid_from": "2025-12-01", "provider": "replicate", "operation": "generateImage", "usd_per_image": "0.003"})
    before = usage("2025-11-30T23:59:59+00:00", provider="replicate", operation="generateImage", images=4)
    after = usage("2025-12-01T00:00:00+00:00", provider="replicate", operation="generateImage", images=4)
    assert book.price(before) == Priced(4 * 5_200_000, "operation")
    assert book.price(after) == Priced(4 * 3_000_000, "override:2025-12-01")


def test_an_override_per_image_counts_one_image_where_the_call_tells_no_count(usage):
    book = book_of({"valid_from": "2025-01-01", "provider": "replicate", "operation": "generateImage", "usd_per_image": "0.003"})
    assert book.price(usage(provider="replicate", operation="generateImage", input_tokens=12)).cost == 1 * 3_000_000


def test_a_price_per_image_beside_token_prices_counts_no_image_for_a_call_that_made_none(usage):
    book = book_of(tokens("2025-01-01", 3, model="ours") | {"usd_per_image": "0.04"})
    assert book.price(usage(model="ours", input_tokens=10)).cost == 10 * 3_000


def test_an_override_that_covers_nothing_of_what_was_used_is_passed_over(usage):
    book = book_of(tokens("2025-01-01", 3, model="*", provider="replicate"))
    assert book.price(usage(provider="replicate", operation="generateImage", images=2)) == Priced(2 * 5_200_000, "operation")
    assert book.price(usage(provider="replicate", operation="dream", images=2)) == Priced(0, UNPRICED)


def test_a_price_of_zero_that_was_stated_is_a_known_price(usage):
    book = book_of({"valid_from": "2025-01-01", "model": "omni-moderation-latest", "usd_per_call": 0})
    assert book.price(usage(provider="openai", model="omni-moderation-latest", input_tokens=10)) == Priced(0, "override:2025-01-01")


# Half a nano-dollar a token ($0.0005 per million): 1 and 3 tokens are 0.5 and 1.5, and an even nano-dollar is the nearest to both ties.
@pytest.mark.parametrize(("count", "nanos"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4)])
def test_a_tie_is_rounded_to_the_even_nano_dollar(usage, count, nanos):
    assert book_of(tokens("2025-01-01", "0.0005", model="ours")).price(usage(model="ours", input_tokens=count)).cost == nanos


def test_an_event_is_rounded_once_and_not_once_per_class(usage):
    # 0.4 nano-dollars a token each way: 1 + 1 tokens are 0.8, which is 1; rounding each would give 0.
    assert book_of(tokens("2025-01-01", "0.0004", model="ours")).price(usage(model="ours", input_tokens=1, output_tokens=1)).cost == 1


def test_a_price_with_more_digits_than_a_float_holds_is_exact(usage):
    book = book_of(tokens("2025-01-01", "0.1234567890123456789012345", model="ours"))
    # 10^22 tokens * 123.4567890123456789012345 nano-dollars
    assert book.price(usage(model="ours", input_tokens=10**22)).cost == 1_234567890123456789012345
