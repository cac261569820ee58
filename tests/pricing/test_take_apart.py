"""How a usage is taken apart, and what becomes of counts that do not belong together."""

from hypothesis import given
from hypothesis import strategies as st

from costwarden.model import QUANTITIES, TOKEN_CLASSES, Usage
from costwarden.pricing import PriceBook, PricingSettings
from costwarden.pricing.rates import take_apart

NAMES = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "cached_audio",
    "output",
    "reasoning",
    "output_audio",
    "output_image",
    "call",
    "image",
    "audio",
)


def parts_of(usage: Usage) -> dict[str, int]:
    """The parts that are not zero, without the call itself."""
    parts = dict(zip(NAMES, take_apart(usage).counts, strict=True))
    assert parts.pop("call") == 1
    return {name: count for name, count in parts.items() if count}


def test_the_parts_of_the_input_are_what_the_whole_includes(usage):
    used = usage(input_tokens=100, cache_read_tokens=50, cache_write_tokens=30, cache_write_1h_tokens=10, input_audio_tokens=5)
    assert parts_of(used) == {
        "input": 100 - 50 - 30 - 5,
        "cache_read": 50,
        "cache_write": 30 - 10,
        "cache_write_1h": 10,
        "input_audio": 5,
    }


def test_audio_counts_as_cached_only_as_far_as_the_counts_leave_no_other_way(usage):
    # 80 audio and 60 cached of 100: at least 40 are both.
    used = usage(input_tokens=100, input_audio_tokens=80, cache_read_tokens=60)
    assert parts_of(used) == {"cached_audio": 80 + 60 - 100, "input_audio": 80 - 40, "cache_read": 60 - 40}


def test_an_input_that_leaves_its_cached_tokens_out_is_raised_to_their_sum(usage):
    # Anthropic's own count handed in unchanged: 3 tokens beside 9,000 read and 500 written.
    used = usage(input_tokens=3, cache_read_tokens=9_000, cache_write_tokens=500)
    assert parts_of(used) == {"cache_read": 9_000, "cache_write": 500}
    assert take_apart(used).whole_input == 9_000 + 500


def test_writes_for_an_hour_are_writes_even_when_the_count_of_writes_leaves_them_out(usage):
    assert parts_of(usage(input_tokens=100, cache_write_1h_tokens=40)) == {"input": 100 - 40, "cache_write_1h": 40}


def test_an_output_that_leaves_its_reasoning_out_is_raised_to_it(usage):
    used = usage(output_tokens=10, reasoning_tokens=300, output_audio_tokens=5)
    assert parts_of(used) == {"reasoning": 300, "output_audio": 5}
    assert take_apart(used).whole_output == 300 + 5


counts = st.integers(min_value=0, max_value=10**15)


@given(st.fixed_dictionaries(dict.fromkeys(QUANTITIES, counts)))
def test_no_counts_however_odd_give_a_negative_part_or_lose_a_token(fields):
    usage = Usage(source="test", event_id="1", timestamp=0, **fields)
    apart = take_apart(usage)
    parts = dict(zip(NAMES, apart.counts, strict=True))
    assert min(parts.values()) >= 0
    assert sum(apart.counts[:6]) == apart.whole_input >= usage.input_tokens
    assert sum(apart.counts[6:10]) == apart.whole_output >= usage.output_tokens
    assert parts["cache_read"] + parts["cached_audio"] == usage.cache_read_tokens
    assert parts["input_audio"] + parts["cached_audio"] == usage.input_audio_tokens
    assert parts["cache_write_1h"] == usage.cache_write_1h_tokens
    assert (parts["call"], parts["image"], parts["audio"]) == (usage.requests, usage.images, usage.audio_milliseconds)


BOOK = PriceBook(PricingSettings())


@given(st.fixed_dictionaries(dict.fromkeys(TOKEN_CLASSES, counts)))
def test_no_counts_however_odd_cost_less_than_nothing(fields):
    assert BOOK.price(Usage(source="test", event_id="1", timestamp=0, model="claude-3-5-sonnet-20241022", **fields)).cost >= 0
