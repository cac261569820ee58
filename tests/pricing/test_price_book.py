"""What the price book charges without any configuration, and how an unknown price is decided."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from costwarden.model import Priced
from costwarden.pricing import FALLBACK, UNPRICED, PriceBook, PricingSettings, UnknownPrice

# One dollar per million tokens is 1,000 nano-dollars a token: $3 is 3_000, $0.25 is 250.


@pytest.mark.parametrize(
    ("model", "input_nanos", "output_nanos"),
    [
        ("claude-3-5-sonnet-20241022", 3_000, 15_000),  # $3.00, $15.00
        ("claude-3-opus-20240229", 15_000, 75_000),  # $15.00, $75.00
        ("claude-3-haiku-20240307", 250, 1_250),  # $0.25, $1.25
    ],
)
@pytest.mark.parametrize("provider", ["anthropic", ""])
def test_the_retired_claude_models_of_the_guide_cost_what_its_table_says(book, usage, provider, model, input_nanos, output_nanos):
    used = usage(provider=provider, model=model, input_tokens=1_000_000, output_tokens=2_000)
    assert book.price(used) == Priced(1_000_000 * input_nanos + 2_000 * output_nanos, "genai-prices")


def test_the_tokens_in_the_budget_status_of_the_guide_cost_thirteen_dollars_and_an_eighth(book, usage):
    status = usage(model="claude-3-5-sonnet-20241022", input_tokens=1_250_000, output_tokens=625_000)
    # 1.25 M * $3 + 0.625 M * $15 = $3.75 + $9.375. The $3250.45 beside them in the guide's example is not their price.
    assert book.price(status).cost == 3_750_000_000 + 9_375_000_000


# The shapes in which providers report, read as `Usage` counts them. Each price below is per million tokens.
PROVIDER_RESPONSES = {
    # OpenAI chat: prompt_tokens 12000 include prompt_tokens_details.cached_tokens 10240; completion_tokens 800.
    # gpt-4o: input $2.50, cached $1.25, output $10.
    "openai_chat_with_cached_prompt": (
        {"provider": "openai", "model": "gpt-4o-2024-08-06", "input_tokens": 12_000, "cache_read_tokens": 10_240, "output_tokens": 800},
        (12_000 - 10_240) * 2_500 + 10_240 * 1_250 + 800 * 10_000,
    ),
    # OpenAI responses: input_tokens 2000; output_tokens 3100 include output_tokens_details.reasoning_tokens 2880.
    # o4-mini: input $1.10, output $4.40, reasoning as output.
    "openai_responses_with_reasoning": (
        {"provider": "openai", "model": "o4-mini", "input_tokens": 2_000, "output_tokens": 3_100, "reasoning_tokens": 2_880},
        2_000 * 1_100 + 3_100 * 4_400,
    ),
    # Anthropic messages: input_tokens 200, cache_read_input_tokens 9000 and cache_creation_input_tokens 3000 (ephemeral_5m 1000,
    # ephemeral_1h 2000) are three separate counts; output_tokens 500.
    # Claude Sonnet 4: input $3, cache read $0.30, write $3.75, write for an hour $6, output $15.
    "anthropic_messages_with_both_caches": (
        {
            "provider": "anthropic",
            "model": "claude-sonnet-4-20250514",
            "input_tokens": 200 + 9_000 + 3_000,
            "cache_read_tokens": 9_000,
            "cache_write_tokens": 3_000,
            "cache_write_1h_tokens": 2_000,
            "output_tokens": 500,
        },
        200 * 3_000 + 9_000 * 300 + 1_000 * 3_750 + 2_000 * 6_000 + 500 * 15_000,
    ),
    # Gemini generateContent: promptTokenCount 250000 include cachedContentTokenCount 100000; candidatesTokenCount 1000 and
    # thoughtsTokenCount 4000 are two separate counts.
    # Gemini 2.5 Pro above 200,000 tokens of prompt: input $2.50, cached $0.25, output $15, for all tokens of the call.
    "gemini_above_200k_with_thoughts": (
        {
            "provider": "gcp.gemini",
            "model": "gemini-2.5-pro",
            "input_tokens": 250_000,
            "cache_read_tokens": 100_000,
            "output_tokens": 1_000 + 4_000,
            "reasoning_tokens": 4_000,
        },
        150_000 * 2_500 + 100_000 * 250 + 5_000 * 15_000,
    ),
    # Bedrock Converse: inputTokens 500, cacheReadInputTokens 4000 and cacheWriteInputTokens 1500 are three separate counts;
    # outputTokens 300. Claude 3.7 Sonnet: input $3, cache read $0.30, write $3.75, output $15.
    "bedrock_converse_with_cache": (
        {
            "provider": "aws.bedrock",
            "model": "anthropic.claude-3-7-sonnet-20250219-v1:0",
            "input_tokens": 500 + 4_000 + 1_500,
            "cache_read_tokens": 4_000,
            "cache_write_tokens": 1_500,
            "output_tokens": 300,
        },
        500 * 3_000 + 4_000 * 300 + 1_500 * 3_750 + 300 * 15_000,
    ),
}


@pytest.mark.parametrize("name", PROVIDER_RESPONSES)
def test_a_response_with_caching_or_reasoning_costs_what_its_provider_bills(book, usage, name):
    fields, nanos = PROVIDER_RESPONSES[name]
    assert book.price(usage(**fields)) == Priced(nanos, "genai-prices")


@pytest.mark.parametrize(("input_tokens", "nanos"), [(200_000, 1_250), (200_001, 2_500)], ids=["at_the_threshold", "one_token_above"])
def test_a_long_context_price_holds_for_all_tokens_once_the_input_exceeds_its_threshold(book, usage, input_tokens, nanos):
    prompt = usage(provider="google", model="gemini-2.5-pro", input_tokens=input_tokens)
    assert book.price(prompt).cost == input_tokens * nanos


@pytest.mark.parametrize(
    ("timestamp", "nanos"),
    [("2025-06-09T23:59:59.999999+00:00", 10_000), ("2025-06-10T00:00:00+00:00", 2_000), ("2025-06-10T01:00:00+02:00", 10_000)],
)
def test_usage_costs_the_published_price_of_its_own_utc_day(book, usage, timestamp, nanos):
    # o3: input $10 until 2025-06-10, $2 from then on.
    assert book.price(usage(timestamp, provider="openai", model="o3", input_tokens=1_000)).cost == 1_000 * nanos


@pytest.mark.parametrize(("timestamp", "nanos"), [("2025-03-01T00:29:59+00:00", 135), ("2025-03-01T00:30:00+00:00", 270)])
def test_usage_costs_the_published_price_of_its_own_hour(book, usage, timestamp, nanos):
    # deepseek-chat: $0.135 off peak, $0.27 from 00:30 to 16:30 UTC.
    assert book.price(usage(timestamp, provider="deepseek", model="deepseek-chat", input_tokens=1_000)).cost == 1_000 * nanos


def test_no_tokens_of_a_known_model_cost_nothing_by_a_known_price(book, usage):
    assert book.price(usage(model="claude-3-opus-20240229", success=False)) == Priced(0, "genai-prices")


def test_a_huge_count_is_exact_to_the_last_nano_dollar(book, usage):
    huge = usage(model="claude-3-haiku-20240307", input_tokens=10**18 + 1, output_tokens=10**18 + 3)
    # 250 and 1250 nano-dollars a token
    assert book.price(huge).cost == (10**18 + 1) * 250 + (10**18 + 3) * 1250


def test_a_request_price_is_added_to_the_tokens(book, usage):
    # Perplexity Sonar: $1 per million tokens each way, $12 per thousand requests.
    search = usage(provider="perplexity", model="sonar", input_tokens=100, output_tokens=50)
    assert book.price(search).cost == (100 + 50) * 1_000 + 12_000_000_000 // 1_000


def test_the_output_of_a_call_that_made_images_is_charged_as_images(book, usage):
    # Gemini 2.5 Flash Image: input $0.30, text output $2.50, image output $30. One image is 1290 tokens.
    image = usage(provider="google", model="gemini-2.5-flash-image", input_tokens=10, output_tokens=1_290, images=1)
    text = usage(provider="google", model="gemini-2.5-flash-image", input_tokens=10, output_tokens=1_290)
    assert book.price(image).cost == 10 * 300 + 1_290 * 30_000
    assert book.price(text).cost == 10 * 300 + 1_290 * 2_500


def test_an_hour_of_cache_costs_twice_the_input_where_the_list_of_a_claude_reseller_lacks_it(book, usage):
    written = usage(
        provider="bedrock",
        model="anthropic.claude-3-7-sonnet-20250219-v1:0",
        input_tokens=3_000,
        cache_write_tokens=3_000,
        cache_write_1h_tokens=2_000,
    )
    # input $3, write $3.75, so an hour 2 * $3
    assert book.price(written).cost == 1_000 * 3_750 + 2_000 * (2 * 3_000)


UNKNOWN = {"provider": "openai", "model": "gpt-imaginary-7", "input_tokens": 1_000, "output_tokens": 500}
SIZE = {"input_tokens": 1_000, "output_tokens": 500, "images": 0, "operation": ""}


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-imaginary-7"),
        ("nobody", "gpt-4o"),
        ("", "gpt-imaginary-7"),
        ("", "nothing-like-it"),
        ("", ""),
        ("openai", ""),
        ("openai", "whisper-1"),  # audio by the hour, which a usage does not count
        ("cerebras", "qwen-3-coder-480b"),  # listed, without any price
    ],
)
def test_by_default_a_call_of_unknown_price_is_refused_and_one_that_was_made_is_marked_unpriced(book, usage, at, provider, model):
    with pytest.raises(UnknownPrice) as refused:
        book.estimate(provider=provider, model=model, at=at("2025-11-15T00:00:00+00:00"), **SIZE)
    assert (refused.value.provider, refused.value.model) == (provider, model)
    assert str(refused.value).startswith(f"no price is known for provider {provider!r}, model {model!r}, operation ''")
    assert book.price(usage(**UNKNOWN | {"provider": provider, "model": model})) == Priced(0, UNPRICED)


def test_the_fallback_price_defaults_to_a_cent_a_call(usage, at):
    book = PriceBook(PricingSettings(unknown_price="fallback"))
    assert book.price(usage(**UNKNOWN)) == Priced(10_000_000, FALLBACK)
    assert book.estimate(provider="openai", model="gpt-imaginary-7", at=at("2025-11-15T00:00:00+00:00"), **SIZE).priced_by == FALLBACK


def test_the_fallback_price_adds_its_tokens_to_the_call(usage):
    settings = PricingSettings(
        unknown_price="fallback", fallback_usd_per_call="0.002", fallback_input_usd_mtok=15, fallback_output_usd_mtok=75
    )
    # $0.002 + 1000 * $15/M + 500 * $75/M
    assert PriceBook(settings).price(usage(**UNKNOWN)) == Priced(2_000_000 + 1_000 * 15_000 + 500 * 75_000, FALLBACK)


def test_the_zero_policy_allows_the_call_and_still_marks_it_unpriced(usage, at):
    book = PriceBook(PricingSettings(unknown_price="zero"))
    assert book.price(usage(**UNKNOWN)) == Priced(0, UNPRICED)
    assert book.estimate(provider="openai", model="gpt-imaginary-7", at=at("2025-11-15T00:00:00+00:00"), **SIZE) == Priced(0, UNPRICED)


def test_a_price_that_covers_nothing_of_what_was_used_is_no_price(book, usage):
    only_images = usage(provider="openai", model="gpt-4o", images=2)
    assert book.price(only_images) == Priced(0, UNPRICED)


def test_a_model_whose_name_says_free_is_free(book, usage):
    assert book.price(usage(provider="openrouter", model="deepseek/deepseek-r1:free", input_tokens=9)) == Priced(0, "genai-prices")


def test_an_estimate_is_the_price_of_the_same_call_without_cache(book, usage, at):
    estimate = book.estimate(provider="", model="claude-3-5-sonnet-20241022", at=at("2025-11-15T00:00:00+00:00"), **SIZE)
    assert estimate == Priced(1_000 * 3_000 + 500 * 15_000, "genai-prices")


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "images"])
def test_a_negative_count_is_an_error_and_never_a_credit(book, usage, field):
    with pytest.raises(ValueError, match="a usage counts -5 of something: token and image counts are at least 0"):
        book.price(usage(model="gpt-4o", **{field: -5}))


def test_threads_that_meet_a_model_for_the_first_time_agree(usage):
    models = ["claude-3-5-sonnet-20241022", "gpt-4o", "o3", "gemini-2.5-pro", "grok-4", "deepseek-chat", "nobody-knows"]
    events = [usage(model=models[n % len(models)], input_tokens=n, output_tokens=2 * n) for n in range(2_000)]
    alone = PriceBook(PricingSettings())
    shared = PriceBook(PricingSettings())
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.price, events)) == [alone.price(event) for event in events]


def run_python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_importing_the_package_does_not_load_the_price_list():
    assert run_python("import sys, costwarden.pricing; print('genai_prices' in sys.modules)") == "False"


def test_pricing_opens_no_connection():
    # An audit hook cannot be taken away again, hence a process of its own.
    program = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(event)
sys.addaudithook(refuse)
from costwarden.model import Usage
from costwarden.pricing import PriceBook, PricingSettings
print(PriceBook(PricingSettings()).price(Usage(source="s", event_id="1", timestamp=0, model="gpt-4o", input_tokens=4)).cost)
"""
    assert run_python(program) == str(4 * 2_500)


def test_an_estimate_takes_dearer_kinds_of_tokens_for_what_they_cost(usage, at):
    prices = {"cache_write_usd_mtok": 5, "input_usd_mtok": 4, "output_usd_mtok": 10, "output_audio_usd_mtok": 80}
    book = PriceBook(PricingSettings(overrides=[{"valid_from": "2025-01-01", "model": "speaker", **prices}]))
    sizes = {"input_tokens": 1000, "output_tokens": 1000, "cache_write_tokens": 1000, "output_audio_tokens": 1000}
    cost = book.estimate(provider="", model="speaker", operation="", images=0, at=at("2025-11-15T12:00:00+00:00"), **sizes).cost
    assert cost == book.price(usage(model="speaker", **sizes)).cost == (5 + 80) * 1_000_000
