"""Batch, flex and priority: by the list's own figures, else by a published relation, else unknown; never silently standard."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal, localcontext

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import StartDateConstraint

from costwarden.model import CORRECTION, EXACT, Priced, Usage, round_to_nanos, to_micros
from costwarden.pricing import FALLBACK, UNPRICED, PriceBook, PricingSettings, UnknownPrice
from costwarden.pricing.published import Listed, PublishedPrices
from costwarden.pricing.rates import take_apart
from costwarden.pricing.tiers import RELATIONS, relation

PUBLISHED = PublishedPrices()
WORDS = {"processing", "service_tier", "speed"}
VARIANTS = [
    (provider, model, variant)
    for provider in get_snapshot().providers
    for model in provider.models
    for variant in model.price_variants or ()
    if variant.when.keys() <= WORDS and vars(variant.prices)
]
SIZES = (
    {"input_tokens": 9_000, "cache_read_tokens": 4_000, "cache_write_tokens": 2_000, "cache_write_1h_tokens": 500, "output_tokens": 700},
    {"input_tokens": 500_000, "cache_read_tokens": 1_000, "output_tokens": 90_000},
    {"input_tokens": 900, "input_audio_tokens": 300, "output_tokens": 50},
)


def begins(variant) -> datetime:
    """The first moment of a price, or some day where it has none."""
    day = variant.constraint.start_date if isinstance(variant.constraint, StartDateConstraint) else datetime(2026, 11, 1, tzinfo=UTC).date()
    return datetime.combine(day, time(), UTC)


def test_every_price_of_a_tier_that_the_list_has_is_computed_as_the_library_does():
    assert len(VARIANTS) > 150
    for provider, model, variant in VARIANTS:
        (tier,) = set(variant.when.values())
        when = begins(variant)
        price = PUBLISHED.tier_price(Listed(provider.id, model, True), tier, to_micros(when))
        for size in SIZES:
            # Of pages of documents there is a price in the list, and none that a usage can meet.
            ours = None if price is None else price.cost(take_apart(Usage(source="t", event_id="1", timestamp=0, **size)))
            with localcontext(EXACT):
                library = model.calc_price(
                    genai_prices.Usage(**size), provider, genai_request_timestamp=when, price_context=variant.when
                ).total_price
            assert (ours or 0) == round_to_nanos(library), (provider.id, model.id, tier, size)


@pytest.mark.parametrize(
    ("provider", "model", "tier", "at_", "input_nanos", "cached_nanos", "output_nanos"),
    [
        # The list's own figures: gpt-4o priority 4.25, 2.125, 17.
        ("openai", "gpt-4o", "priority", "2026-10-12", 4_250, 2_125, 17_000),
        # Half by the relation; no price of cached input is published for its batch, so that stays 1.25.
        ("openai", "gpt-4o", "batch", "2025-06-01", 1_250, 1_250, 5_000),
        ("openai", "o3", "flex", "2025-07-01", 1_000, 250, 4_000),
        # Anthropic's caches cost half too: 3, 0.30 and 15.
        ("anthropic", "claude-3-5-sonnet-20241022", "batch", "2025-01-01", 1_500, 150, 7_500),
        ("google", "gemini-2.5-flash", "batch", "2026-01-01", 150, 30, 1_250),
        ("azure.ai.openai", "gpt-4o-2024-08-06", "batch", "2026-11-15", 1_250, 1_250, 5_000),
        # On Bedrock half too, as far as input and output go.
        ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "batch", "2025-06-01", 125, None, 625),
    ],
)
def test_a_tier_costs_what_is_published_for_it(book, usage, provider, model, tier, at_, input_nanos, cached_nanos, output_nanos):
    def cost(**tokens: int) -> int:
        priced = book.price(usage(f"{at_}T00:00:00+00:00", provider=provider, model=model, service_tier=tier, **tokens))
        assert priced.priced_by == "genai-prices"
        return priced.cost

    assert cost(input_tokens=1_000) == 1_000 * input_nanos
    assert cost(output_tokens=1_000) == 1_000 * output_nanos
    if cached_nanos is not None:
        assert cost(input_tokens=1_000, cache_read_tokens=1_000) == 1_000 * cached_nanos


@pytest.mark.parametrize(
    ("provider", "model", "tier", "timestamp"),
    [
        ("anthropic", "claude-sonnet-4-5", "priority", "2026-11-15T00:00:00+00:00"),  # by commitment, no list price
        ("openai", "gpt-4o", "flex", "2026-11-15T00:00:00+00:00"),  # there is none for this model
        ("openai", "gpt-4o", "scale", "2026-11-15T00:00:00+00:00"),
        ("openai", "gpt-4o", "priority", "2026-10-11T23:59:59+00:00"),  # the day before the list knows it
        ("openai", "gpt-4o", "batch", "2024-04-14T23:59:59+00:00"),  # the day before there was any
        ("gcp.gemini", "gemini-2.5-pro", "priority", "2026-11-15T00:00:00+00:00"),  # a range, no figure
        ("aws.bedrock", "amazon.nova-pro-v1:0", "flex", "2026-11-15T00:00:00+00:00"),
        ("azure", "gpt-4o", "priority", "2026-11-15T00:00:00+00:00"),  # OpenAI's figures are not Azure's
        ("azure.ai.openai", "gpt-4o-2024-08-06", "priority", "2026-11-15T00:00:00+00:00"),
    ],
)
def test_a_tier_without_a_published_price_is_unknown(book, usage, at, provider, model, tier, timestamp):
    used = usage(timestamp, provider=provider, model=model, service_tier=tier, input_tokens=1_000, output_tokens=10)
    assert book.price(used) == Priced(0, UNPRICED)
    size = {"provider": provider, "model": model, "operation": "", "input_tokens": 1_000, "output_tokens": 10, "images": 0}
    with pytest.raises(UnknownPrice, match=f"service tier '{tier}'"):
        book.estimate(**size, at=at(timestamp), service_tier=tier)
    fallback = PriceBook(PricingSettings(unknown_price="fallback"))
    assert fallback.estimate(**size, at=at(timestamp), service_tier=tier) == Priced(10_000_000, FALLBACK)
    assert book.price(usage(timestamp, provider=provider, model=model, input_tokens=1_000)).priced_by == "genai-prices"


def test_each_relation_begins_on_its_day_and_names_its_page():
    for known in RELATIONS:
        start = datetime.combine(known.since, time(), UTC)
        model = known.models[0].replace("*", "x")
        assert relation(known.provider, model, known.tier, to_micros(start)) is known
        assert relation(known.provider, model, known.tier, to_micros(start - timedelta(microseconds=1))) is None
        assert known.url.startswith("https://")


def overridden(**override: object) -> PriceBook:
    return PriceBook(PricingSettings.model_validate({"overrides": [{"valid_from": "2025-01-01", **override}]}))


def test_an_override_is_for_the_standard_tier_unless_it_names_another(usage):
    call = {"provider": "anthropic", "model": "claude-sonnet-4-5", "input_tokens": 10, "output_tokens": 10}
    prices = {"model": "claude-sonnet-4-5", "input_usd_mtok": 2, "output_usd_mtok": 8}
    standard, priority, batch = (usage(**call, service_tier=tier) for tier in ("", "priority", "batch"))

    book = overridden(**prices)
    assert book.price(standard).priced_by == "override:2025-01-01"
    assert book.price(priority).priced_by == UNPRICED
    assert book.price(batch).priced_by == "genai-prices"

    book = overridden(**prices, service_tier="Priority")
    assert book.price(priority) == Priced(10 * 2_000 + 10 * 8_000, "override:2025-01-01")
    assert book.price(standard).priced_by == "genai-prices"

    book = overridden(**prices, service_tier="*")
    assert {book.price(used).priced_by for used in (standard, priority, batch)} == {"override:2025-01-01"}


def test_the_operation_table_is_of_the_standard_tier(book, usage):
    image = {"provider": "replicate", "operation": "generateImage", "images": 2}
    assert book.price(usage(**image)) == Priced(2 * 5_200_000, "operation")
    assert book.price(usage(**image, service_tier="batch")) == Priced(0, UNPRICED)


# --- audio by time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "milliseconds", "dollars"),
    [
        ("openai", "whisper-1", 60_000, Decimal("0.006")),
        ("openai", "whisper-1", 1, Decimal("0.0000001")),  # 0.006 / 60,000 of a dollar a millisecond
        ("openai", "whisper-1", 3_600_000 * 1_000, Decimal(360)),
        ("groq", "whisper-large-v3", 3_600_000, Decimal("0.111")),
        # At least ten seconds are billed: 0.111 * 10 / 3600 = 0.000308333…
        ("groq", "whisper-large-v3", 2_000, Decimal("0.000308333")),
        ("groq", "whisper-large-v3", 10_000, Decimal("0.000308333")),
    ],
)
def test_audio_is_charged_by_time(book, usage, provider, model, milliseconds, dollars):
    priced = book.price(usage(provider=provider, model=model, audio_milliseconds=milliseconds))
    assert priced == Priced(round_to_nanos(dollars), "genai-prices")


def test_audio_of_unknown_length_is_not_free(book, usage, at):
    with pytest.raises(UnknownPrice):
        book.estimate(
            provider="openai",
            model="whisper-1",
            operation="",
            input_tokens=0,
            output_tokens=0,
            images=0,
            at=at("2026-11-01T00:00:00+00:00"),
        )
    assert book.price(usage(provider="openai", model="whisper-1")) == Priced(0, UNPRICED)


def test_an_override_may_charge_by_the_minute_of_audio(usage):
    book = overridden(provider="deepgram", model="nova-*", usd_per_audio_minute="0.0043")
    # 90 seconds at $0.0043 a minute
    priced = book.price(usage(provider="deepgram", model="nova-3", audio_milliseconds=90_000))
    assert priced == Priced(round_to_nanos(Decimal("0.0043") * 90 / 60), "override:2025-01-01")


# --- several calls -------------------------------------------------------------------------------------------------------------


def test_figures_that_stand_for_several_calls_climb_the_steps_of_the_average_call(book, usage):
    # Gemini 2.5 Pro: 1.25 up to 200,000 tokens of a call, 2.50 above.
    assert book.price(usage(model="gemini-2.5-pro", input_tokens=1_000_000, requests=5)).cost == 1_000_000 * 1_250
    assert book.price(usage(model="gemini-2.5-pro", input_tokens=1_000_005, requests=5)).cost == 1_000_005 * 2_500


def test_several_calls_pay_the_price_of_a_call_each(book, usage):
    # Perplexity Sonar: $1 a million tokens each way, $12 a thousand requests.
    search = usage(provider="perplexity", model="sonar", input_tokens=100, output_tokens=50, requests=3)
    assert book.price(search).cost == (100 + 50) * 1_000 + 3 * 12_000_000
    # Three calls without a count are three images of $0.0052.
    assert book.price(usage(provider="replicate", operation="generateImage", requests=3)).cost == 3 * 5_200_000


def test_an_estimate_of_several_calls_is_so_many_times_that_of_one(book, at):
    size = {"provider": "", "model": "gpt-4o-mini", "operation": "", "input_tokens": 1_000, "output_tokens": 500, "images": 0}
    moment = at("2026-11-15T00:00:00+00:00")
    # As batch half of 0.15 and 0.60.
    one = 1_000 * 75 + 500 * 300
    assert book.estimate(**size, at=moment, service_tier="batch") == Priced(one, "genai-prices")
    assert book.estimate(**size, at=moment, service_tier="batch", requests=1_000) == Priced(1_000 * one, "genai-prices")


def test_a_cheaper_model_is_proposed_for_all_the_calls_in_the_same_tier(at):
    book = PriceBook(PricingSettings.model_validate({"cheaper_models": [{"model": "gpt-4o-mini"}, {"model": "claude-3-5-haiku-20241022"}]}))
    size = {"provider": "", "model": "gpt-4o", "operation": "", "input_tokens": 1_000, "output_tokens": 500, "images": 0}
    moment = at("2026-11-15T00:00:00+00:00")
    one = 1_000 * 75 + 500 * 300
    found = book.cheaper(**size, at=moment, available=10 * one, service_tier="batch", requests=10)
    assert (found.model, found.cost) == ("gpt-4o-mini", 10 * one)
    assert book.cheaper(**size, at=moment, available=10 * one - 1, service_tier="batch", requests=10) is None


def test_a_correction_is_never_priced(book, usage):
    correction = usage(model="gpt-4o", requests=0, cost=-7, priced_by="override:2026-01-01")
    correction.source = CORRECTION
    assert book.price(correction) == Priced(-7, "override:2026-01-01")


def test_output_whose_calls_are_counted_with_their_input_is_priced(book, usage):
    apart = (
        book.price(usage(model="gpt-4o", output_tokens=1000, requests=0)).cost + book.price(usage(model="gpt-4o", input_tokens=1000)).cost
    )
    assert apart == book.price(usage(model="gpt-4o", input_tokens=1000, output_tokens=1000)).cost > 0
