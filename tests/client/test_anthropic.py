"""The real Anthropic SDK through our clients; a token of `plain` costs a micro-dollar, and ten of each prompt are read from the cache."""

import asyncio
from typing import Any

import anthropic
import pytest
from costwarden_server import Costwarden
from llm_provider import Provider

from costwarden.client import Budget, BudgetExceeded, async_http_client, http_client

THREE_WORDS: list[Any] = [{"role": "user", "content": "one two three"}]
CACHED = 10
"""Tokens that the provider adds to each prompt and reads from its cache."""


def sdk(budget: Budget, provider: Provider, **options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        api_key="none", base_url=provider.url, http_client=http_client(budget=budget, provider="anthropic"), **options
    )


def amounts(state: dict[str, Any]) -> tuple[int, int, int]:
    return state["current_usage"], state["reserved"], state["unsettled"]


def test_a_message_is_settled_with_all_its_tokens(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    with sdk(budget, provider) as client:
        client.messages.create(model="plain", messages=THREE_WORDS, max_tokens=7)
    (event,) = costwarden.usage(tenant)
    assert (event["provider"], event["operation"]) == ("anthropic", "chat")
    assert (event["input_tokens"], event["cache_read_tokens"], event["output_tokens"]) == (3 + CACHED, CACHED, 7)
    assert amounts(costwarden.budget(tenant)) == (3 + CACHED + 7, 0, 0)


def test_a_stream_is_settled_with_its_last_figures(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    with sdk(budget, provider) as client, client.messages.stream(model="plain", messages=THREE_WORDS, max_tokens=7) as stream:
        assert stream.get_final_text() == "word " * 7
    assert amounts(costwarden.budget(tenant)) == (3 + CACHED + 7, 0, 0)


def test_a_reader_who_stops_early_pays_the_prompt_exactly_and_what_was_delivered(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.hold_after_events = 62
    with sdk(budget, provider) as client, client.messages.stream(model="plain", messages=THREE_WORDS, max_tokens=1000) as stream:
        for number, _ in enumerate(stream.text_stream, 1):
            if number == 60:
                break
    (event,) = costwarden.usage(tenant)
    assert (event["input_tokens"], event["output_tokens"]) == (3 + CACHED, 60 * 5 // 3)
    assert amounts(costwarden.budget(tenant)) == (3 + CACHED + 100, 0, 0)


def test_a_call_beyond_the_budget_is_the_sdks_own_rate_limit_error(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    costwarden.set_budget(tenant, "0.0001")
    with sdk(budget, provider, max_retries=5) as client, pytest.raises(anthropic.RateLimitError) as caught:
        client.messages.create(model="plain", messages=THREE_WORDS, max_tokens=1000)
    assert provider.seen == []
    refusal = BudgetExceeded.of(caught.value)
    assert refusal is not None
    assert refusal.reason == "budget_exceeded"
    assert refusal.denied_by is not None


def test_attempts_that_fail_are_metered_and_cost_nothing(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    provider.knobs.fail_with = [529]
    with sdk(budget, provider) as client:
        client.messages.create(model="plain", messages=THREE_WORDS, max_tokens=7)
    assert sorted((event["success"], event["output_tokens"]) for event in costwarden.usage(tenant)) == [(0, 0), (1, 7)]
    assert amounts(costwarden.budget(tenant)) == (3 + CACHED + 7, 0, 0)


def test_the_asynchronous_sdk_counts_alike(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    async def calls() -> None:
        client = anthropic.AsyncAnthropic(
            api_key="none", base_url=provider.url, http_client=async_http_client(budget=budget, provider="anthropic")
        )
        async with client:
            await client.messages.create(model="plain", messages=THREE_WORDS, max_tokens=7)
            async with client.messages.stream(model="plain", messages=THREE_WORDS, max_tokens=9) as stream:
                assert await stream.get_final_text() == "word " * 9

    asyncio.run(calls())
    assert amounts(costwarden.budget(tenant)) == (3 + CACHED + 7 + 3 + CACHED + 9, 0, 0)
