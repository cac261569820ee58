"""The arithmetic: nothing is lost between a residual, what it settles and its correction; and which line is which model."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costwarden.model import round_to_nanos
from costwarden.reconciliation.lines import (
    Day,
    Line,
    Split,
    capture_ratio,
    correction_id,
    finding,
    model_key,
    names_a_model,
    split_residual,
    tokens,
)

ESTIMATES = st.lists(st.integers(0, 10**13), max_size=12).map(lambda found: [(f"r{at}", estimate) for at, estimate in enumerate(found)])


@given(residual=st.integers(-(10**14), 10**14), unsettled=ESTIMATES)
def test_what_is_settled_and_the_correction_are_the_residual_to_the_nano(residual, unsettled):
    split = split_residual(residual, unsettled)
    assert sum(split.settled.values()) + split.correction == residual
    assert split.settled.keys() == dict(unsettled).keys()
    assert all(0 <= split.settled[name] <= estimate for name, estimate in unsettled)


@given(residual=st.integers(1, 10**14), unsettled=ESTIMATES)
def test_each_gets_its_share_to_the_nano(residual, unsettled):
    together = sum(estimate for _, estimate in unsettled)
    split = split_residual(residual, unsettled)
    if residual < together:
        assert split.correction == 0
        assert all(abs(split.settled[name] * together - residual * estimate) < together for name, estimate in unsettled)


def test_what_is_left_over_goes_to_the_largest_remainders_and_among_equals_to_the_first():
    # 10 of 3 + 3 + 14 = 20: 1.5, 1.5 and 7.
    assert split_residual(10, [("b", 3), ("a", 3), ("c", 14)]) == Split({"b": 1, "a": 2, "c": 7}, 0)


def test_more_than_is_unsettled_settles_all_and_the_rest_is_the_correction():
    assert split_residual(100, [("a", 30), ("b", 0)]) == Split({"a": 30, "b": 0}, 70)


@pytest.mark.parametrize("residual", [0, -1, -100])
def test_a_bill_that_says_nothing_more_was_spent_releases_all(residual):
    assert split_residual(residual, [("a", 30), ("b", 5)]) == Split({"a": 0, "b": 0}, residual)


DIGITS = st.decimals(-(10**6), 10**6, places=24)


@given(billed=DIGITS, metered=st.integers(-(10**15), 10**15), corrected=st.integers(-(10**15), 10**15), unsettled=ESTIMATES)
def test_after_a_correction_the_ledger_has_the_bill_to_the_nano_and_a_second_time_finds_nothing(billed, metered, corrected, unsettled):
    before = Day(provider="p", day=date(2026, 1, 1), billed=billed, metered=metered, corrected=corrected, unsettled=tuple(unsettled))
    split = split_residual(before.to_record, before.unsettled)
    after = Day(
        provider="p",
        day=before.day,
        billed=billed,
        metered=metered + sum(split.settled.values()),
        corrected=corrected + split.correction,
    )
    assert after.recorded == round_to_nanos(billed)
    assert after.to_record == 0
    # What a nano-dollar cannot say stays visible.
    assert abs(after.residual) <= Decimal("5e-10")


def test_a_half_nano_goes_to_the_even_one_and_stays_visible():
    day = Day(provider="p", day=date(2026, 1, 1), billed=Decimal("0.0000000025"), metered=1)
    # 2.5 nano-dollars are 2; one is metered.
    assert (day.to_record, day.residual) == (1, Decimal("1.5e-9"))


def test_a_ratio_needs_a_bill_above_nothing():
    assert capture_ratio(Decimal(2), Decimal(3)) == Decimal("0.666667")
    assert capture_ratio(Decimal(2), Decimal(0)) is None
    assert capture_ratio(Decimal(2), Decimal(-1)) is None


def test_the_id_of_a_correction_has_four_parts_whatever_the_provider_is_called():
    assert correction_id(3, "a:b/c", date(2026, 11, 10)) == "billed:3:reconciliation/a%3Ab%2Fc:2026-11-10"


@pytest.mark.parametrize(
    ("line", "model"),
    [
        # https://platform.openai.com/docs/api-reference/usage/costs_object: `line_item`
        ("gpt-4o-2024-08-06, input", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18, cached input", "gpt-4o-mini"),
        ("GPT-4o, output", "gpt-4o-2024-11-20"),
        ("gpt-4.1-2025-04-14, output", "gpt-4.1"),
        # https://platform.claude.com/docs/en/api/admin/cost_report: `description`
        ("Claude Sonnet 4 Usage - Input Tokens", "claude-sonnet-4-20250514"),
        ("Claude Sonnet 4.5 Usage - Input Tokens, Cache Hit", "claude-sonnet-4-5"),
        ("Claude Haiku 3.5 Usage - Output Tokens", "claude-3-5-haiku-20241022"),
        ("claude-opus-4-1-20250805", "claude-opus-4-1@20250805"),
        # Services of the AWS Marketplace against model ids and inference profiles of Bedrock.
        ("Claude Haiku 4.5 (Amazon Bedrock Edition)", "us.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("Claude 3 Haiku (Amazon Bedrock Edition)", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
    ],
)
def test_a_line_of_a_bill_is_known_as_the_model_of_the_calls(line, model):
    assert model_key(line) == model_key(model)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gpt-4o, input", "gpt-4o-mini"),
        ("gpt-4.1", "gpt-4"),
        ("claude-sonnet-4", "claude-sonnet-4-5"),
        ("o1", "o1-mini"),
        ("Claude Opus 4.1 Usage - Input Tokens", "claude-opus-4-20250514"),
    ],
)
def test_other_models_are_others(one, other):
    assert model_key(one) != model_key(other)


def test_a_line_is_about_a_model_by_its_form_or_by_a_pattern():
    assert names_a_model("anything, input", ())
    assert names_a_model("Claude Opus 5 Usage - Output Tokens", ())
    assert names_a_model("gpt-image-1", ("gpt-*",))
    assert not names_a_model("Web Search Usage", ("claude-*",))
    assert not names_a_model("Amazon Bedrock", ("anthropic.*",))


def line(**fields):
    return Line(**{"provider": "p", "name": "m", **fields})


SAME = {"input_tokens": 1_000, "output_tokens": 100}
FEWER = {"input_tokens": 500, "output_tokens": 100}
MORE = {**SAME, "cache_read_tokens": 9}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (line(billed=Decimal(5)), "never metered"),
        (line(reported_tokens=SAME), "never metered"),
        (line(billed=Decimal(1), metered=10**9, requests=1, metered_tokens=SAME, reported_tokens=SAME), "agrees"),
        (line(billed=Decimal("1.009"), metered=10**9, requests=1, metered_tokens=SAME, reported_tokens=SAME), "agrees"),
        (line(billed=Decimal(2), metered=10**9, requests=1, metered_tokens=SAME, reported_tokens=SAME), "another price"),
        (line(metered=10**9, requests=1, metered_tokens=SAME, reported_tokens=SAME), "tokens agree"),
        (line(billed=Decimal(2), metered=10**9, metered_tokens=FEWER, reported_tokens=SAME), "partly metered"),
        (line(billed=Decimal(1), metered=10**9, metered_tokens=MORE, reported_tokens=SAME), "metered above the report"),
        (line(billed=Decimal(1), metered=10**9, requests=1), "agrees"),
        (line(billed=Decimal(2), metered=10**9, requests=1), "differs"),
        (line(metered=10**9, requests=1), "not billed"),
        (line(is_model=False, billed=Decimal(2)), "no model"),
        (line(billed=Decimal(0)), ""),
    ],
)
def test_a_difference_has_a_meaning(found, words):
    assert finding(found, bill_tells_models=True) == words


def test_where_the_bill_has_no_lines_of_models_nothing_is_said_of_one_without():
    assert finding(line(metered=10**9, requests=1), bill_tells_models=False) == ""


def test_input_has_the_cached_tokens_already():
    assert tokens({"input_tokens": 10, "cache_read_tokens": 8, "output_tokens": 5, "reasoning_tokens": 4}) == 15
    assert tokens(None) == 0
