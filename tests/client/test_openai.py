"""The real OpenAI SDK through our clients, to a provider that answers from the request, against a real costwarden.

A token of the model `plain` costs a micro-dollar, and amounts are in micro-dollars: they are sums of tokens.
"""

import asyncio
import gc
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import openai
import pytest
from costwarden_server import Costwarden
from llm_provider import WORDS, Provider

from costwarden.client import Budget, BudgetExceeded, NoTenant, async_http_client, attribution, http_client

THREE_WORDS: list[Any] = [{"role": "user", "content": "one two three"}]


def sdk(budget: Budget, provider: Provider, **options: Any) -> openai.OpenAI:
    more = {name: options.pop(name) for name in ("max_retries", "timeout") if name in options}
    client = http_client(budget=budget, provider="openai", **options)
    return openai.OpenAI(api_key="none", base_url=f"{provider.url}/v1", http_client=client, **more)


def async_sdk(budget: Budget, provider: Provider, **options: Any) -> openai.AsyncOpenAI:
    client = async_http_client(budget=budget, provider="openai", **options)
    return openai.AsyncOpenAI(api_key="none", base_url=f"{provider.url}/v1", http_client=client)


def amounts(state: dict[str, Any]) -> tuple[int, int, int]:
    return state["current_usage"], state["reserved"], state["unsettled"]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_call_is_settled_with_what_the_provider_says_it_used(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str, library: Any
) -> None:
    with sdk(budget, provider, feature="summaries", library=library) as client:
        answer = client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=7)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 7)
    assert amounts(costwarden.budget(tenant)) == (3 + 7, 0, 0)
    (event,) = costwarden.usage(tenant)
    expected = {"provider": "openai", "model": "plain", "operation": "chat", "feature": "summaries", "success": 1}
    assert {name: event[name] for name in expected} == expected


def test_the_estimate_is_set_aside_while_the_call_is_under_way(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.hold_after_events = 0
    with sdk(budget, provider) as client:
        stream = client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=100, stream=True)
        _, reserved, _ = amounts(costwarden.budget(tenant))
        assert 3 + 100 <= reserved <= 150  # two bytes a token, with the words that JSON puts around three
        provider.knobs.released.set()
        assert sum(1 for _ in stream) == 101
    assert amounts(costwarden.budget(tenant)) == (3 + 100, 0, 0)


def test_each_kind_of_request_is_metered(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    with sdk(budget, provider) as client:
        client.responses.create(model="plain", input="one two", max_output_tokens=5)
        client.embeddings.create(model="plain", input="one two three four")
        client.images.generate(model="painter", prompt="a house", n=2)
        client.audio.transcriptions.create(model="plain", file=("a.mp3", b"\0" * 4000))
    assert {event["operation"]: (event["input_tokens"], event["output_tokens"], event["images"]) for event in costwarden.usage(tenant)} == {
        "chat": (2, 5, 0),
        "embeddings": (4, 0, 0),
        "image_generation": (0, 0, 2),
        "transcription": (0, 0, 0),
    }
    (transcription,) = [event for event in costwarden.usage(tenant) if event["operation"] == "transcription"]
    assert transcription["audio_milliseconds"] == 9_000
    _, reserved, unsettled = amounts(costwarden.budget(tenant))
    assert (reserved, unsettled) == (0, 0)


def test_an_answer_that_tells_no_usage_costs_its_estimate(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    with sdk(budget, provider) as client:
        sound = client.audio.speech.create(model="plain", voice="alloy", input="one two three")
        assert sound.content == b"ID3sound"
    spent, reserved, unsettled = amounts(costwarden.budget(tenant))
    assert (reserved, unsettled) == (0, 0)
    assert spent >= 1_000  # the size of a call of which nothing is known, budgets.assumed_output_tokens


def test_what_is_no_call_passes_untouched(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    with sdk(budget, provider) as client:
        client.models.list()
    assert [seen.path for seen in provider.seen] == ["/v1/models"]
    assert budget.counts.checked == 0


@pytest.mark.parametrize("asked", [None, False, True])
def test_a_stream_is_settled_with_its_usage_which_only_those_see_who_asked(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str, asked: bool | None
) -> None:
    options: dict[str, Any] = {} if asked is None else {"stream_options": {"include_usage": asked}}
    with sdk(budget, provider) as client:
        chunks = list(client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=7, stream=True, **options))
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices] == ["word "] * 7 + [None]
    assert [chunk.usage is not None for chunk in chunks if not chunk.choices] == ([True] if asked else [])
    assert provider.seen[0].body["stream_options"] == {"include_usage": True}
    assert amounts(costwarden.budget(tenant)) == (3 + 7, 0, 0)


def test_a_server_that_knows_no_stream_options_is_asked_without(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.knows_stream_options = False
    with sdk(budget, provider) as client:
        for _ in range(2):
            chunks = list(client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=30, stream=True))
            assert len(chunks) == 31
    assert [("stream_options" in seen.body) for seen in provider.seen] == [True, False, False]
    spent, reserved, unsettled = amounts(costwarden.budget(tenant))
    # 30 times "word " are 150 characters, three to a token; of the prompt there is our upper bound.
    assert 2 * (3 + 150 // 3) <= spent <= 2 * (50 + 150 // 3)
    assert (reserved, unsettled) == (0, 0)


def test_a_reader_who_stops_early_pays_what_was_delivered(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    provider.knobs.hold_after_events = 60
    with sdk(budget, provider) as client:
        stream = client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=100_000, stream=True)
        for _, _ in zip(range(60), stream, strict=False):
            pass
        stream.close()
    spent, reserved, unsettled = amounts(costwarden.budget(tenant))
    assert 3 + 60 * 5 // 3 <= spent <= 50 + 60 * 5 // 3
    assert (reserved, unsettled) == (0, 0)


def test_an_early_stop_leaves_open_what_a_model_thought_unseen(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.hold_after_events = 1
    with sdk(budget, provider) as client:
        stream = client.chat.completions.create(
            model="plain", messages=THREE_WORDS, max_completion_tokens=1000, stream=True, reasoning_effort="high"
        )
        next(stream)
        stream.close()
    spent, reserved, _ = amounts(costwarden.budget(tenant))
    assert (spent, budget.counts.unsettled) == (0, 1)
    assert reserved >= 1000  # until budgets.reservation_seconds make it unsettled


def test_an_exception_while_reading_pays_what_was_delivered(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.hold_after_events = 30
    client = sdk(budget, provider)
    stream = client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=100_000, stream=True)

    def read() -> None:
        with stream:
            for number, _ in enumerate(stream):
                if number == 20:
                    raise KeyError("the application's own")

    with pytest.raises(KeyError):
        read()
    client.close()
    spent, reserved, unsettled = amounts(costwarden.budget(tenant))
    assert spent >= 3 + 20 * 5 // 3
    assert (reserved, unsettled) == (0, 0)


def test_a_broken_connection_pays_what_was_delivered_as_a_failure(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.cut_after_bytes = 5_000
    client = sdk(budget, provider)
    stream = client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=100_000, stream=True)
    chunks = []
    with pytest.raises(openai.APIConnectionError):
        chunks.extend(iter(stream))
    client.close()
    (event,) = costwarden.usage(tenant)
    assert not event["success"]
    assert event["output_tokens"] >= 5_000 // 250 * 5 // 3
    _, reserved, unsettled = amounts(costwarden.budget(tenant))
    assert (reserved, unsettled) == (0, 0)


def test_an_answer_that_nobody_reads_is_not_free(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str, wait_until: Callable[..., Any]
) -> None:
    client = sdk(budget, provider)
    stream = client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=1000, stream=True)
    next(stream)
    del stream
    gc.collect()
    wait_until(lambda: budget.counts.delivered == 1)
    spent, reserved, _ = amounts(costwarden.budget(tenant))
    assert spent >= 3 + 2
    assert reserved == 0
    client.close()


def test_an_answer_that_breaks_off_in_the_middle_stays_reserved(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.cut_after_bytes = 10
    with sdk(budget, provider, max_retries=0) as client, pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=1000)
    spent, reserved, _ = amounts(costwarden.budget(tenant))
    assert spent == 0
    assert reserved >= 1000


def test_a_timeout_stays_reserved_for_the_provider_may_bill_it(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.holds_answers = True
    with sdk(budget, provider, max_retries=0, timeout=0.2) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=1000)
    spent, reserved, _ = amounts(costwarden.budget(tenant))
    assert spent == 0
    assert reserved >= 1000
    assert budget.counts.unsettled == 1


def test_each_attempt_of_a_retry_is_a_call_of_its_own_and_failures_are_metered(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.fail_with = [500, 503]
    with sdk(budget, provider, max_retries=2) as client:
        client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=7)
    events = costwarden.usage(tenant)
    assert sorted((event["success"], event["output_tokens"]) for event in events) == [(0, 0), (0, 0), (1, 7)]
    assert len({event["event_id"] for event in events}) == 3
    assert amounts(costwarden.budget(tenant)) == (3 + 7, 0, 0)


def test_a_provider_that_cannot_be_reached_costs_nothing(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str, free_port: Callable[[], int]
) -> None:
    client = openai.OpenAI(
        api_key="none", base_url=f"http://127.0.0.1:{free_port()}/v1", http_client=http_client(budget=budget), max_retries=0
    )
    with client, pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=7)
    assert [(event["success"], event["cost"]) for event in costwarden.usage(tenant)] == [(0, 0)]
    assert amounts(costwarden.budget(tenant)) == (0, 0, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_beyond_the_budget_is_the_sdks_own_rate_limit_error_and_not_retried(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str, stream: bool
) -> None:
    costwarden.set_budget(tenant, "0.0001")
    with sdk(budget, provider, max_retries=5) as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=1000, stream=stream)
    assert provider.seen == []
    refusal = BudgetExceeded.of(caught.value)
    assert refusal is not None
    assert refusal.reason == "budget_exceeded"
    assert refusal.denied_by is not None
    assert refusal.denied_by["limit_usd"] == 0.0001
    assert refusal.reset_date is not None
    assert refusal.retry_after_seconds is not None
    assert caught.value.response.headers["retry-after"] == str(refusal.retry_after_seconds)
    assert refusal.fallback["use"] == "cached_template"
    assert "this call may cost $0.00" in str(caught.value)
    assert budget.counts.checked == 0


def test_a_rate_limit_of_the_provider_is_not_taken_for_ours(budget: Budget, provider: Provider) -> None:
    provider.knobs.fail_with = [429]
    with sdk(budget, provider, max_retries=0) as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=7)
    assert BudgetExceeded.of(caught.value) is None


def test_a_model_whose_price_nobody_knows_is_refused(budget: Budget, provider: Provider) -> None:
    with sdk(budget, provider) as client, pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model="never-heard-of", messages=THREE_WORDS, max_tokens=7)
    refusal = BudgetExceeded.of(caught.value)
    assert refusal is not None
    assert refusal.reason == "unknown_price"


def test_attribution_comes_from_the_nearest_place(
    make_budget: Callable[..., Budget], provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    budget = make_budget(tenant_id="nobody", team="core")
    with sdk(budget, provider, tenant_id="nobody", feature="client", user_id="client") as client:

        def call(**headers: str) -> None:
            client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=1, extra_headers=headers)

        with attribution(tenant_id=tenant, feature="outer"):
            call()
            with attribution(feature="inner"):
                call(**{"X-Costwarden-User": "header", "X-Costwarden-Report-Type": "weekly"})
        call(**{"X-Costwarden-Tenant": tenant})
    found = [
        (event["team"], event["feature"], event["user_id"], event["report_type"])
        for event in sorted(costwarden.usage(tenant), key=lambda event: event["timestamp"])
    ]
    assert found == [("core", "outer", "client", ""), ("core", "inner", "header", "weekly"), ("core", "client", "client", "")]
    assert not [name for seen in provider.seen for name in seen.headers if name.lower().startswith("x-costwarden")]


def test_a_call_without_a_tenant_is_a_mistake_that_says_what_to_do(make_budget: Callable[..., Budget], provider: Provider) -> None:
    with sdk(make_budget(), provider) as client, pytest.raises(NoTenant, match="names no tenant: give `tenant_id` to http_client"):
        client.chat.completions.create(model="plain", messages=THREE_WORDS)
    assert provider.seen == []


def test_azure_names_its_deployment_in_the_path(
    make_budget: Callable[..., Budget], provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    budget = make_budget(tenant_id=tenant, models={"my-deployment": "plain"})
    client = openai.AzureOpenAI(
        api_key="none",
        api_version="2024-10-21",
        azure_endpoint=provider.url,
        http_client=http_client(budget=budget, provider="azure"),
    )
    with client:
        client.chat.completions.create(model="my-deployment", messages=THREE_WORDS, max_tokens=4)
    assert provider.seen[0].path.startswith("/openai/deployments/my-deployment/chat/completions")
    assert [(event["model"], event["provider"], event["output_tokens"]) for event in costwarden.usage(tenant)] == [("plain", "azure", 4)]


def test_the_asynchronous_sdk_streams_and_counts_alike(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    async def calls() -> int:
        async with async_sdk(budget, provider) as client:
            await client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=7)
            stream = await client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=9, stream=True)
            return len([chunk async for chunk in stream])

    assert asyncio.run(calls()) == 10
    assert amounts(costwarden.budget(tenant)) == (3 + 7 + 3 + 9, 0, 0)


def test_an_asynchronous_reader_who_is_cancelled_pays_what_was_delivered(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    provider.knobs.hold_after_events = 30

    async def read() -> None:
        async with async_sdk(budget, provider) as client:
            stream = await client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=100_000, stream=True)
            seen = asyncio.Event()

            async def consume() -> None:
                count = 0
                async with stream:
                    async for _ in stream:
                        count += 1
                        if count == 30:
                            seen.set()

            task = asyncio.create_task(consume())
            await seen.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            provider.knobs.released.set()

    asyncio.run(read())
    (event,) = costwarden.usage(tenant)
    assert event["output_tokens"] >= 30 * 5 // 3
    _, reserved, unsettled = amounts(costwarden.budget(tenant))
    assert (reserved, unsettled) == (0, 0)


def test_an_asynchronous_denial_is_the_sdks_own_error(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    costwarden.suspend(tenant)

    async def call() -> None:
        async with async_sdk(budget, provider) as client:
            await client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=7)

    with pytest.raises(openai.RateLimitError) as caught:
        asyncio.run(call())
    refusal = BudgetExceeded.of(caught.value)
    assert refusal is not None
    assert refusal.reason == "tenant_suspended"


def test_a_budget_never_overshoots_with_many_calls_at_once(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    costwarden.set_budget(tenant, "0.001")  # 1,000 tokens

    async def calls() -> list[Any]:
        async with async_sdk(budget, provider) as client:
            wanted = [client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=97) for _ in range(50)]
            return await asyncio.gather(*wanted, return_exceptions=True)

    answers = asyncio.run(calls())
    refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
    assert [answer for answer in answers if isinstance(answer, BaseException) and answer not in refused] == []
    spent, reserved, unsettled = amounts(costwarden.budget(tenant))
    assert spent == (50 - len(refused)) * (3 + 97)
    assert spent <= 1_000
    assert (reserved, unsettled) == (0, 0)
    assert WORDS < 97


def test_an_answer_that_is_compressed_though_nobody_asked_is_read_all_the_same(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    choice = {"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}
    body = gzip.compress(
        json.dumps({"id": "1", "object": "chat.completion", "model": "plain", "choices": [choice], "usage": usage}).encode()
    )

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["accept-encoding"] == "identity"
        headers = {"content-type": "application/json", "content-encoding": "gzip", "content-length": str(len(body))}
        return httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(body))

    client = openai.OpenAI(api_key="none", http_client=http_client(budget=budget, library=httpx2, transport=httpx2.MockTransport(answer)))
    with client:
        found = client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=7)
    assert found.choices[0].message.content == "word"
    assert amounts(costwarden.budget(tenant)) == (3 + 7, 0, 0)
    assert [event["provider"] for event in costwarden.usage(tenant)] == ["openai"]  # by the host


@pytest.mark.parametrize("status", [408, 504, 524])
def test_somebody_on_the_way_who_gave_up_waiting_leaves_the_call_open(
    budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str, status: int
) -> None:
    provider.knobs.fail_with = [status]
    with sdk(budget, provider, max_retries=0) as client, pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="plain", messages=THREE_WORDS, max_tokens=1000)
    spent, reserved, _ = amounts(costwarden.budget(tenant))
    assert spent == 0
    assert reserved >= 1000


def test_the_soft_limit_is_told_with_the_answer(budget: Budget, provider: Provider, costwarden: Costwarden, tenant: str) -> None:
    costwarden.set_budget(tenant, "0.001")
    with sdk(budget, provider) as client:
        answer = client.chat.completions.with_raw_response.create(model="plain", messages=THREE_WORDS, max_tokens=900)
        assert answer.headers["x-ai-budget-warning"] == "true"


def test_a_forked_child_settles_its_own_calls_and_not_those_of_its_parent(costwarden: Costwarden, provider: Provider, tenant: str) -> None:
    program = """
import os, sys, openai
from costwarden.client import Budget, http_client
url, provider, tenant = sys.argv[1:]
budget = Budget(url=url, tenant_id=tenant, lease_usd="0.01", timeout_seconds=60, close_seconds=60)
def call():
    with openai.OpenAI(api_key="none", base_url=provider + "/v1", http_client=http_client(budget=budget, provider="openai")) as client:
        client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "one two three"}], max_tokens=7)
for _ in range(5):
    call()
child = os.fork()
call()
budget.close()
if child:
    os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", program, costwarden.url, provider.url, tenant], check=True)
    state = costwarden.budget(tenant)
    assert (state["current_usage"], state["reserved"]) == (7 * 10, 0)
