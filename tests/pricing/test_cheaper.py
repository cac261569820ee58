"""The cheaper model that a denial may propose."""

import pytest

from costwarden.pricing import Alternative, PriceBook, PricingSettings

HAIKU = "claude-3-haiku-20240307"
SONNET = "claude-3-5-sonnet-20241022"
OPUS = "claude-3-opus-20240229"
MINI = "gpt-4o-mini"

# 1,000 tokens in, 200 out, in nano-dollars:
COST = {
    OPUS: 1_000 * 15_000 + 200 * 75_000,
    SONNET: 1_000 * 3_000 + 200 * 15_000,
    HAIKU: 1_000 * 250 + 200 * 1_250,
    MINI: 1_000 * 150 + 200 * 600,
}


@pytest.fixture
def advise(at):
    def ask(asked: str, choices: list[str], *, available: int = 10**12, input_tokens: int = 1_000) -> Alternative | None:
        book = PriceBook(PricingSettings.model_validate({"cheaper_models": [{"model": choice} for choice in choices]}))
        return book.cheaper(
            provider="",
            model=asked,
            operation="",
            input_tokens=input_tokens,
            output_tokens=200,
            images=0,
            at=at("2025-11-15T00:00:00+00:00"),
            available=available,
        )

    return ask


def test_the_cheapest_of_the_list_is_proposed(advise):
    assert advise(OPUS, [SONNET, MINI, HAIKU]) == Alternative("", MINI, COST[MINI])


def test_of_two_that_cost_the_same_the_first_in_the_list_is_proposed(advise):
    same_price = "claude-3-7-sonnet-20250219"
    assert advise(OPUS, [SONNET, same_price]).model == SONNET
    assert advise(OPUS, [same_price, SONNET]).model == same_price


def test_no_model_is_proposed_that_is_not_cheaper_than_the_one_asked_for(advise):
    assert advise(HAIKU, [SONNET, OPUS, HAIKU]) is None


@pytest.mark.parametrize(("available", "proposed"), [(COST[HAIKU], HAIKU), (COST[HAIKU] - 1, None)])
def test_a_model_is_proposed_while_what_is_left_of_the_budget_pays_for_it(advise, available, proposed):
    advice = advise(OPUS, [SONNET, HAIKU], available=available)
    assert (advice.model if advice else None) == proposed


def test_a_model_whose_context_window_is_too_small_is_not_proposed(advise):
    # GPT-4o mini holds 128,000 tokens, Claude 3 Haiku 200,000.
    assert advise(OPUS, [MINI, HAIKU], input_tokens=128_000).model == HAIKU
    assert advise(OPUS, [MINI, HAIKU], input_tokens=128_000 - 200).model == MINI


def test_a_model_of_unknown_price_is_not_proposed(advise):
    assert advise(OPUS, ["gpt-imaginary-7"]) is None


def test_a_known_model_is_proposed_for_one_of_unknown_price(advise):
    assert advise("gpt-imaginary-7", [SONNET, HAIKU]) == Alternative("", HAIKU, COST[HAIKU])


def test_nothing_is_proposed_without_a_list(advise):
    assert advise(OPUS, []) is None
