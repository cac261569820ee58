"""Answers of providers, from the raw text to the cent: read, recorded as usage, priced, against the sum that the price list makes.

Prices are USD per million tokens unless a line says otherwise, as published on the day that stands with them.
"""

import json
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from provider_answers import ANSWERS
from provider_streams import STREAMS

from costwarden.metering.responses import StreamReader, read_response
from costwarden.model import Usage, from_nanos, to_nanos
from costwarden.pricing import UNPRICED, PriceBook, PricingSettings

D = Decimal
M = 1_000_000
NOVEMBER_2026 = "2026-11-15T12:00:00+00:00"


class Sample(NamedTuple):
    """An answer, what the request says beside it, and the sum that it costs in dollars."""

    answer: str
    dollars: D
    request: dict[str, Any] = {}
    at: str = NOVEMBER_2026


SAMPLES = {
    # gpt-4o: input 2.50, cached input 1.25, output 10. 12,000 of prompt include 10,240 cached.
    "openai chat, cached prompt": Sample(
        "openai_chat_cached",
        (D(12_000 - 10_240) * D("2.50") + D(10_240) * D("1.25") + D(800) * D(10)) / M,
    ),
    # o4-mini as priority: input 2, cached 0.50, output 8; the 2,880 of reasoning are in the 3,100 and cost what output costs.
    "openai responses, reasoning, priority": Sample("openai_responses", (D(2_000) * D(2) + D(3_100) * D(8)) / M),
    # The same as standard: input 1.10, output 4.40.
    "openai responses, reasoning, standard": Sample(
        "openai_responses", (D(2_000) * D("1.10") + D(3_100) * D("4.40")) / M, {"service_tier": ""}
    ),
    # gpt-5 as flex: input 0.625, cached 0.0625, output 5: half of 1.25, 0.125 and 10.
    "openai chat, flex": Sample(
        "openai_chat_reasoning_flex",
        (D(4_000 - 1_024) * D("0.625") + D(1_024) * D("0.0625") + D(3_000) * D(5)) / M,
    ),
    # gpt-4o-mini as batch: half of input 0.15 and output 0.60.
    "openai batch": Sample("openai_batch_line", (D(24_000) * D("0.075") + D(12_000) * D("0.30")) / M),
    # A batch before the list had figures of its own for it: half of the same prices, by the published relation.
    "openai batch of 2025": Sample(
        "openai_batch_line", (D(24_000) * D("0.075") + D(12_000) * D("0.30")) / M, at="2025-03-01T00:00:00+00:00"
    ),
    # text-embedding-3-small: 0.02
    "openai embeddings": Sample("openai_embeddings", D(5_000) * D("0.02") / M),
    # gpt-image-1: text input 5, image output 40; 2 images of 1,056 tokens.
    "openai images": Sample("openai_images", (D(100) * D(5) + D(2_112) * D(40)) / M, {"model": "gpt-image-1"}),
    # whisper-1: $0.006 a minute, 95 seconds.
    "openai transcription by time": Sample("openai_transcription_by_time", D(95) * D("0.006") / 60, {"model": "whisper-1"}),
    # gpt-4o-transcribe: text input 2.50, audio input 6, output 10; 100 of 114 tokens are audio.
    "openai transcription by tokens": Sample(
        "openai_transcription_by_tokens",
        (D(14) * D("2.50") + D(100) * D(6) + D(45) * D(10)) / M,
        {"model": "gpt-4o-transcribe"},
    ),
    # Claude Sonnet 4: input 3, cache read 0.30, write for 5 minutes 3.75, for an hour 6, output 15.
    "anthropic, both caches": Sample(
        "anthropic_messages",
        (D(200) * D(3) + D(9_000) * D("0.30") + D(1_000) * D("3.75") + D(2_000) * D(6) + D(500) * D(15)) / M,
    ),
    # Claude Opus 4.5 as batch: half of input 5, cache read 0.50, output 25.
    "anthropic batch": Sample("anthropic_batch_line", (D(11_000) * D("2.50") + D(4_000) * D("0.25") + D(3_600) * D("12.50")) / M),
    # … and 180,000 tokens of input with 3,500 of output for a compaction, which the counts of the answer leave out.
    "anthropic, compacted": Sample("anthropic_compacted", (D(23_000 + 180_000) * D(5) + D(1_000 + 3_500) * D(25)) / M),
    # Claude 3.5 Sonnet is retired; its last price holds for what it was used for: 3 and 15.
    "a retired model": Sample(
        "anthropic_on_bedrock", (D(10) * D(3) + D(5) * D(15)) / M, {"provider": "anthropic"}, "2025-06-01T00:00:00+00:00"
    ),
    # … and on Bedrock, where the stream of InvokeModel names it as Anthropic does.
    "a model of bedrock by anthropic's name": Sample("anthropic_on_bedrock", (D(10) * D(3) + D(5) * D(15)) / M),
    # Gemini 2.5 Pro above 200,000 of prompt: input 2.50, cached 0.25, output 15, for all tokens; thoughts are output.
    "gemini above 200k, thoughts": Sample(
        "gemini_long_with_thoughts",
        (D(150_000) * D("2.50") + D(100_000) * D("0.25") + D(1_000 + 4_000) * D(15)) / M,
    ),
    # As batch: input 1.25, output 7.50 above 200,000; context caching stays at its standard price.
    "gemini above 200k, batch": Sample(
        "gemini_long_with_thoughts",
        (D(150_000) * D("1.25") + D(100_000) * D("0.25") + D(5_000) * D("7.50")) / M,
        {"service_tier": "batch"},
    ),
    # Gemini 2.5 Flash: text input 0.30, audio input 1, output 2.50; a tool's prompt is input.
    "gemini, audio and tools": Sample("vertex_audio_and_tools", (D(200 + 250) * D("0.30") + D(800) * D(1) + D(60) * D("2.50")) / M),
    # Flex, for which the list has no figures: half, by the published relation.
    "gemini, flex": Sample(
        "vertex_audio_and_tools", (D(450) * D("0.15") + D(800) * D("0.50") + D(60) * D("1.25")) / M, {"service_tier": "flex"}
    ),
    # Gemini 2.5 Flash Image: input 0.30, image output 30; an image is 1,290 tokens.
    "gemini image": Sample("gemini_image", (D(10) * D("0.30") + D(1_290) * D(30)) / M),
    # Claude 3.7 Sonnet on Bedrock: input 3, cache read 0.30, write 3.75, for an hour twice the input, output 15.
    "bedrock converse, cache": Sample(
        "bedrock_converse",
        (D(500) * D(3) + D(4_000) * D("0.30") + D(1_000) * D("3.75") + D(500) * 2 * D(3) + D(300) * D(15)) / M,
        {"model": "anthropic.claude-3-7-sonnet-20250219-v1:0"},
    ),
    # grok-3-mini: input 0.30, cached 0.075, output 0.50; the reasoning is counted beside the completion and costs what it costs.
    "xai, reasoning apart": Sample(
        "xai_chat_reasoning_apart",
        (D(32 - 6) * D("0.30") + D(6) * D("0.075") + D(9 + 94) * D("0.50")) / M,
        {"provider": "xai"},
    ),
}


def usage_of(consumed: Any, at: int, request: dict[str, Any]) -> Usage:
    """The usage event of an answer; what the request says comes first."""
    fields = msgspec.structs.asdict(consumed) | request
    event_id = fields.pop("response_id") or "1"
    return Usage(source="test", event_id=event_id, timestamp=at, **fields)


@pytest.mark.parametrize("name", SAMPLES)
def test_an_answer_costs_the_sum_of_its_parts(book, at, name):
    sample = SAMPLES[name]
    body = json.dumps(ANSWERS[sample.answer][0]).encode()
    priced = book.price(usage_of(read_response(body), at(sample.at), sample.request))
    assert (from_nanos(priced.cost), priced.priced_by) == (sample.dollars, "genai-prices")


STREAMED = {
    # gpt-4o: 1,200 of prompt include 1,024 cached.
    "openai_chat": (D(1_200 - 1_024) * D("2.50") + D(1_024) * D("1.25") + D(30) * D(10)) / M,
    # gpt-5 as priority: input 2.50, cached 0.25, output 20.
    "openai_responses": (D(37 - 7) * D("2.50") + D(7) * D("0.25") + D(11) * D(20)) / M,
    # Claude Sonnet 4: 60 input, 4,000 read, 100 written for 5 minutes and 200 for an hour, 75 output.
    "anthropic": (D(60) * D(3) + D(4_000) * D("0.30") + D(100) * D("3.75") + D(200) * D(6) + D(75) * D(15)) / M,
    # Gemini 2.5 Flash: 90 of prompt include 50 cached at 0.03; 4 of answer and 26 of thoughts are output.
    "gemini": (D(90 - 50) * D("0.30") + D(50) * D("0.03") + D(4 + 26) * D("2.50")) / M,
}


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_costs_the_sum_of_its_parts(book, at, name):
    reader = StreamReader()
    reader.feed(STREAMS[name][0])
    assert from_nanos(book.price(usage_of(reader.consumed(), at(NOVEMBER_2026), {})).cost) == STREAMED[name]


def test_an_answer_in_a_tier_without_a_published_price_is_unpriced_and_not_standard(book, at):
    consumed = read_response(ANSWERS["anthropic_messages"][0])
    priced = book.price(usage_of(consumed, at(NOVEMBER_2026), {"service_tier": "priority"}))
    assert (priced.cost, priced.priced_by) == (0, UNPRICED)


@pytest.mark.parametrize(
    ("timestamp", "dollars", "priced_by"),
    [
        # List prices until the contract: 2.50, 1.25 and 10.
        ("2026-10-31T23:59:59+00:00", SAMPLES["openai chat, cached prompt"].dollars, "genai-prices"),
        # The contract's: 2, cached 0.80, output 8.
        ("2026-11-01T00:00:00+00:00", (D(1_760) * D(2) + D(10_240) * D("0.80") + D(800) * D(8)) / M, "override:2026-11-01"),
    ],
)
def test_a_dated_override_holds_from_its_day_on(at, timestamp, dollars, priced_by):
    override = {"valid_from": "2026-11-01", "model": "gpt-4o*", "input_usd_mtok": 2, "cache_read_usd_mtok": "0.80", "output_usd_mtok": 8}
    book = PriceBook(PricingSettings.model_validate({"overrides": [override]}))
    priced = book.price(usage_of(read_response(ANSWERS["openai_chat_cached"][0]), at(timestamp), {}))
    assert (priced.cost, priced.priced_by) == (to_nanos(dollars), priced_by)
