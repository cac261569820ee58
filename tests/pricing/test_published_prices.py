"""The compiled prices equal genai-prices, over every model of its data set, to the nano-dollar."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, localcontext

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, ModelPrice, Provider, StartDateConstraint, TimeOfDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from costwarden.model import EXACT, Usage, round_to_nanos, to_micros
from costwarden.pricing.published import PublishedPrices
from costwarden.pricing.rates import take_apart

MODELS = [(provider, model) for provider in get_snapshot().providers for model in provider.models]
DATED = [(provider, model) for provider, model in MODELS if isinstance(model.prices, list)]
PUBLISHED = PublishedPrices()


def prices_of(model: ModelInfo) -> list[ModelPrice]:
    return [model.prices] if isinstance(model.prices, ModelPrice) else [conditional.prices for conditional in model.prices]


def lacks_the_hour(model: ModelInfo) -> bool:
    """Claude models whose list has no price of an hour's cache: there we know more than the library."""
    return "claude" in model.id and any("cache_write_mtok" in vars(p) and "cache_write_1h_mtok" not in vars(p) for p in prices_of(model))


def tier_starts(model: ModelInfo) -> list[int]:
    tiers = [tier for prices in prices_of(model) for price in vars(prices).values() for tier in getattr(price, "tiers", ())]
    return sorted({tier.start for tier in tiers})


def in_the_library(provider: Provider, model: ModelInfo, usage: Usage, when: datetime) -> int:
    """Nano-dollars by genai-prices. Its decimals run with 60 digits here: its own 28 round when a long price meets a huge count."""
    in_parts = usage.cache_read_tokens + usage.cache_write_tokens + usage.input_audio_tokens
    cached_audio = max(0, in_parts - usage.input_tokens)
    reported = {
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "cache_audio_read_tokens": cached_audio,
        "output_tokens": usage.output_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
    }
    if usage.images:
        reported["output_image_tokens"] = usage.output_tokens - usage.reasoning_tokens - usage.output_audio_tokens
    with localcontext(EXACT):
        return round_to_nanos(model.calc_price(genai_prices.Usage(**reported), provider, genai_request_timestamp=when).total_price)


def assert_equal(provider: Provider, model: ModelInfo, usage: Usage, when: datetime) -> None:
    price = PUBLISHED.price(model, to_micros(when))
    ours = None if price is None else price.cost(take_apart(usage))
    # Where the library has no price for what was used, it says 0, and we say that there is none.
    assert (ours or 0) == in_the_library(provider, model, usage, when), (provider.id, model.id, usage, when)


def usage_of(
    *,
    plain: int = 0,
    read: int = 0,
    write: int = 0,
    hour: int = 0,
    audio: int = 0,
    text: int = 0,
    reasoning: int = 0,
    spoken: int = 0,
    images: int = 0,
) -> Usage:
    """A usage of counts that exclude each other; a negative `plain` makes that much of the audio cached."""
    return Usage(
        source="test",
        event_id="1",
        timestamp=0,
        input_tokens=max(plain, -read, -audio) + read + write + hour + audio,
        cache_read_tokens=read,
        cache_write_tokens=write + hour,
        cache_write_1h_tokens=hour,
        input_audio_tokens=audio,
        output_tokens=text + reasoning + spoken,
        reasoning_tokens=reasoning,
        output_audio_tokens=spoken,
        images=images,
    )


small = st.integers(min_value=0, max_value=400_000)
huge = st.integers(min_value=0, max_value=10**15)
CLASSES = ("read", "write", "hour", "audio", "text", "reasoning", "spoken")
usages = st.one_of(
    *(
        st.builds(usage_of, plain=st.one_of(count, count.map(int.__neg__)), images=st.integers(0, 3), **dict.fromkeys(CLASSES, count))
        for count in (small, huge)
    )
)
moments = st.datetimes(datetime(2022, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis adds the zone


@settings(max_examples=1_000, deadline=None)
@given(st.sampled_from(MODELS), usages, moments)
def test_any_usage_of_any_model_at_any_time_costs_what_the_library_computes(provider_and_model, usage, when):
    provider, model = provider_and_model
    if lacks_the_hour(model):
        usage.cache_write_1h_tokens = 0  # what was written for an hour is written for five minutes then
    assert_equal(provider, model, usage, when)


def test_each_model_costs_what_the_library_computes_on_both_sides_of_each_tier():
    when = datetime(2026, 1, 1, tzinfo=UTC)
    for provider, model in MODELS:
        hour = 0 if lacks_the_hour(model) else 17
        rest = 1_000 + 333 + hour + 7
        for start in (rest, *tier_starts(model)):
            for plain in (start - rest, start - rest + 1):
                assert_equal(
                    provider,
                    model,
                    usage_of(plain=plain, read=1_000, write=333, hour=hour, audio=7, text=4_001, reasoning=99, spoken=13),
                    when,
                )


@pytest.mark.parametrize("images", [0, 2])
def test_each_image_model_costs_what_the_library_computes(images):
    makers = [(p, m) for p, m in MODELS if any("output_image_mtok" in vars(prices) for prices in prices_of(m))]
    assert makers
    for provider, model in makers:
        assert_equal(provider, model, usage_of(plain=50, text=1_290, images=images), datetime(2026, 1, 1, tzinfo=UTC))


def test_each_audio_model_costs_what_the_library_computes_when_some_of_the_audio_was_cached():
    listeners = [(p, m) for p, m in MODELS if any("input_audio_mtok" in vars(prices) for prices in prices_of(m))]
    assert listeners
    for provider, model in listeners:
        # 80 audio and 60 cached of 100, so 40 are both
        assert_equal(provider, model, usage_of(plain=-40, read=60, audio=80, text=20, spoken=10), datetime(2026, 1, 1, tzinfo=UTC))


def boundaries(model: ModelInfo) -> list[datetime]:
    found: list[datetime] = []
    for conditional in model.prices:
        match conditional.constraint:
            case StartDateConstraint(start_date=day):
                found.append(datetime.combine(day, time(), UTC))
            case TimeOfDateConstraint(start_time=start, end_time=end):
                found += [datetime.combine(datetime(2025, 3, 1, tzinfo=UTC).date(), clock) for clock in (start, end)]
    return found


def test_each_dated_price_begins_and_ends_at_the_microsecond_that_the_library_says():
    assert len(DATED) > 100
    for provider, model in DATED:
        for boundary in boundaries(model):
            for when in (boundary - timedelta(microseconds=1), boundary, boundary + timedelta(microseconds=1)):
                assert_equal(provider, model, usage_of(plain=900, text=400), when)


def test_a_model_without_any_price_that_a_usage_can_meet_is_one_that_the_library_gives_away():
    unpriced = [(p, m) for p, m in MODELS if PUBLISHED.price(m, to_micros(datetime(2026, 1, 1, tzinfo=UTC))) is None]
    assert {"tts-1", "moderation"} <= {model.id for _, model in unpriced}
    for provider, model in unpriced:
        assert in_the_library(provider, model, usage_of(plain=9, text=9), datetime(2026, 1, 1, tzinfo=UTC)) == 0


def test_an_hour_of_cache_of_a_claude_model_costs_twice_its_input_in_every_list():
    claudes = [(p, m) for p, m in MODELS if "claude" in m.id and "cache_write_mtok" in vars(m.get_prices(datetime(2026, 1, 1, tzinfo=UTC)))]
    assert any(lacks_the_hour(model) for _, model in claudes)
    assert not all(lacks_the_hour(model) for _, model in claudes)
    for _, model in claudes:
        price = PUBLISHED.price(model, to_micros(datetime(2026, 1, 1, tzinfo=UTC)))
        one_hour = price.cost(take_apart(usage_of(hour=1_000)))
        assert one_hour == 2 * price.cost(take_apart(usage_of(plain=1_000))), model.id


@pytest.mark.parametrize("with_provider", [True, False])
def test_each_model_is_found_under_the_name_by_which_the_library_finds_it(with_provider):
    for provider, model in MODELS:
        named = provider.id if with_provider else None
        try:
            expected = get_snapshot().find_provider_model(model.id, None, named, None)[1]
        except LookupError:
            expected = None
        assert PUBLISHED.find(named or "", model.id) is expected


def test_looking_up_names_that_nobody_knows_leaves_nothing_behind_in_the_library():
    snapshot = get_snapshot()
    before = len(snapshot._provider_misses), len(snapshot._lookup_cache), len(snapshot._provider_cache)
    for number in range(50):
        PUBLISHED.find("nobody", f"model-{number}")
        PUBLISHED.find("anthropic", f"claude-3-5-sonnet-{number}")
    assert (len(snapshot._provider_misses), len(snapshot._lookup_cache), len(snapshot._provider_cache)) == before


def test_a_price_of_a_kind_that_a_later_library_may_bring_is_an_error_and_not_a_zero():
    unknown = ModelInfo(id="x", match=None, prices=ModelPrice(input_mtok=["by the moon"], output_mtok=Decimal(1)))
    with pytest.raises(TypeError, match="genai-prices states input_mtok as list, which this version does not know"):
        PUBLISHED.price(unknown, 0)
