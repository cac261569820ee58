"""How calls are settled that end in unusual ways; a recorder stands in for the budget, and a transport that answers for the provider."""

import json
import os
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

import httpx2
import openai
import pytest
from costwarden_server import Costwarden

from costwarden.client import Budget, BudgetUnavailable, http_client
from costwarden.client.budget import Admission
from costwarden.client.calls import Call
from costwarden.client.endpoints import find_endpoint, read_request
from costwarden.client.meter import End, Meter, failed_request
from costwarden.client.streams import UsageChunks

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]


class Told:
    """What a budget is told."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.counted: list[str] = []
        self.given_back = 0

    def tell(self, body: dict[str, Any], held: object) -> None:
        self.bodies.append(body)

    def count(self, what: str) -> None:
        self.counted.append(what)

    def give_back(self, admission: Admission) -> None:
        self.given_back += 1


def admit(told: Told, *, reservation_id: str = "r", estimate: Decimal | None = Decimal(1), **call: Any) -> Admission:
    return Admission(cast(Any, told), Call(tenant_id="acme", **call), "e", reservation_id, estimate, None, warning=False)


def answer(
    told: Told, path: str, request: dict[str, Any], body: bytes, end: End, status: int = 200, kind: str = "text/event-stream"
) -> None:
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None
    wanted = read_request(endpoint, path, "application/json", json.dumps(request).encode(), {})
    meter = Meter(admit(told, model=wanted.model, service_tier=wanted.service_tier), wanted, status, kind)
    meter.feed(body)
    meter.finish(end)


def sse(*payloads: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(payload)}\n\n".encode() for payload in payloads)


def chunk(delta: dict[str, Any], index: int = 0, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "c", "model": "plain", "choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}], **more}


def test_a_failure_costs_nothing_whatever_a_call_of_the_model_costs() -> None:
    told = Told()
    answer(told, "/v1/chat/completions", {"model": "m"}, b'{"error": {}}', "complete", 400, "application/json")
    failed_request(admit(told), httpx2.ConnectError("nobody is there"))
    assert [(body["success"], body["cost_usd"]) for body in told.bodies] == [(False, "0"), (False, "0")]


def test_a_forked_child_ends_no_call_of_its_parent() -> None:
    told = Told()
    admissions = [admit(told) for _ in range(4)]
    child = os.fork()
    if not child:
        admissions[0].settle(None)
        admissions[1].settle_estimate()
        admissions[2].leave()
        admissions[3].cancel()
        os._exit(len(told.bodies) + len(told.counted) + told.given_back)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    admissions[0].settle(None)
    assert len(told.bodies) == 1


def test_a_response_in_the_background_goes_on_without_its_reader() -> None:
    told = Told()
    delta = {"type": "response.output_text.delta", "delta": "word "}
    answer(told, "/v1/responses", {"model": "plain", "background": True, "stream": True}, sse(delta), "stopped")
    assert (told.bodies, told.counted) == ([], ["unsettled"])


@pytest.mark.parametrize(("thinking", "left"), [({"type": "enabled", "budget_tokens": 9}, True), ({"type": "disabled"}, False)])
def test_thoughts_that_a_cut_stream_does_not_count_leave_the_call_open(thinking: dict[str, Any], left: bool) -> None:
    told = Told()
    start = {"type": "message_start", "message": {"id": "msg_1", "model": "c", "usage": {"input_tokens": 10, "output_tokens": 1}}}
    text = {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "yes"}}
    request = {"model": "c", "max_tokens": 100, "stream": True, "thinking": thinking}
    answer(told, "/v1/messages", request, sse(start, text), "stopped")
    assert told.counted == (["unsettled"] if left else [])
    assert [body["input_tokens"] for body in told.bodies] == ([] if left else [10])


def test_a_stream_of_two_answers_is_not_complete_with_the_first() -> None:
    told = Told()
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    stream = sse(chunk({"content": "x" * 300}, 1, usage=usage), chunk({"content": "a"}, 0, "stop", usage=usage))
    answer(told, "/v1/chat/completions", {"model": "plain", "n": 2, "stream": True}, stream, "stopped")
    assert told.bodies[0]["output_tokens"] >= 100


@pytest.mark.parametrize(("named", "tier"), [({}, "priority"), ({"service_tier": "default"}, None)])
def test_the_tier_is_that_of_the_request_while_the_answer_names_none(named: dict[str, str], tier: str | None) -> None:
    told = Told()
    request = {"model": "plain", "service_tier": "priority"}
    path = "/v1/chat/completions"
    answer(told, path, {**request, "stream": True}, sse(chunk({"content": "x" * 30}, **named)), "stopped")
    whole = {"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}, **named}
    answer(told, path, request, json.dumps(whole).encode(), "complete", 200, "application/json")
    assert [body.get("service_tier") for body in told.bodies] == [tier, tier]


def test_text_about_an_error_is_no_error() -> None:
    told = Told()
    request = {"model": "plain", "stream": True}
    usage = {"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    for first in (chunk({"content": "event: error"}), {"error": {"message": "overloaded"}}):
        answer(told, "/v1/chat/completions", request, sse(first, usage), "complete")
    assert [body.get("success", True) for body in told.bodies] == [True, False]


def test_what_nobody_was_asked_about_keeps_its_sizes_and_its_tier() -> None:
    told = Told()
    unasked: dict[str, Any] = {"reservation_id": "", "estimate": None}
    admit(told, **unasked, audio_seconds=Decimal(60), service_tier="priority").settle_estimate()
    admit(told, **unasked, estimated_input_tokens=5).settle_estimate()
    assert (told.bodies[0]["audio_seconds"], told.bodies[0]["service_tier"]) == ("60", "priority")
    assert (told.bodies[1]["input_tokens"], told.bodies[1]["output_tokens"]) == (5, 1_000)


def test_a_name_that_the_service_would_refuse_is_refused_before_the_call(budget: Budget) -> None:
    for names in ({"feature": "x" * 257}, {"team": "a\0b"}):
        with pytest.raises(ValueError, match=r"feature|team"), budget.call(model="plain", **names):
            raise AssertionError("the call was made")
    with pytest.raises(ValueError, match="model"), budget.call(model="m" * 257):
        raise AssertionError("the call was made")
    assert budget.counts.checked == 0


def test_after_its_end_a_budget_admits_nothing_and_still_hears_of_the_calls_under_way(
    make_budget: Callable[..., Budget], costwarden: Costwarden, tenant: str
) -> None:
    budget = make_budget(tenant_id=tenant, on_unavailable="allow")
    call = Call(tenant_id=tenant, model="plain", estimated_input_tokens=1, estimated_output_tokens=1)
    under_way = budget.admit(call)
    budget.close()
    with pytest.raises(BudgetUnavailable, match="closed"):
        budget.admit(call)
    under_way.settle_estimate()
    assert budget.flush()
    budget.close()
    assert costwarden.budget(tenant)["current_usage"] == 2


def sdk(budget: Budget, handler: Callable[[httpx2.Request], httpx2.Response]) -> openai.OpenAI:
    client = http_client(budget=budget, library=httpx2, transport=httpx2.MockTransport(handler))
    return openai.OpenAI(api_key="none", http_client=client, max_retries=0)


def test_an_error_that_echoes_the_request_does_not_end_the_asking_for_usage(budget: Budget) -> None:
    asked: list[bool] = []

    def provider(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        asked.append("stream_options" in body)
        if body["messages"][0]["content"] == "wrong":
            return httpx2.Response(422, json={"detail": [{"msg": "wrong", "input": body}]})
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=sse(chunk({"content": "a"}, 0, "stop")))

    with sdk(budget, provider) as client:
        for text in ("right", "wrong", "right"):
            try:
                list(client.chat.completions.create(model="plain", messages=[{"role": "user", "content": text}], max_tokens=9, stream=True))
            except openai.UnprocessableEntityError:
                assert text == "wrong"
    assert asked == [True, True, False, True]


def test_a_redirect_keeps_whom_the_call_is_for(make_budget: Callable[..., Budget], costwarden: Costwarden, tenant: str) -> None:
    headers: list[str] = []

    def provider(request: httpx2.Request) -> httpx2.Response:
        headers.extend(name for name in request.headers if name.startswith("x-costwarden"))
        if request.url.path.startswith("/v1/"):
            return httpx2.Response(307, headers={"location": "/v2/chat/completions"})
        assert json.loads(request.content)["messages"] == MESSAGES
        return httpx2.Response(200, json={"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}})

    with sdk(make_budget(), provider) as client:
        client.chat.completions.create(model="plain", messages=MESSAGES, max_tokens=7, extra_headers={"X-Costwarden-Tenant": tenant})
    assert headers == []
    assert costwarden.budget(tenant)["current_usage"] == 10


def test_a_large_event_in_small_chunks_is_looked_through_once() -> None:
    event = b"data: " + b"A" * (8 << 20) + b"\n\n"
    usage = UsageChunks()
    started = time.process_time()
    passed = b"".join(usage.without(event[start : start + 1400]) for start in range(0, len(event), 1400))
    assert passed == event
    assert time.process_time() - started < 2  # the square of its length takes ten times as long
    # Split marks and the chunk that only tells the usage, in every chunking.
    told = b"data: " + json.dumps({"choices": [], "usage": {"total_tokens": 1}}).encode()
    for mark in (b"\n\n", b"\r\n\r\n"):
        stream = b"data: {}" + mark + told + mark + b"data: [DONE]" + mark
        for size in range(1, 9):
            usage = UsageChunks()
            out = b"".join(usage.without(stream[start : start + size]) for start in range(0, len(stream), size)) + usage.rest()
            assert out == b"data: {}" + mark + b"data: [DONE]" + mark


def test_counting_may_be_interrupted_by_an_answer_that_nobody_read(budget: Budget) -> None:
    done = threading.Event()

    def count() -> None:
        with budget._tallying:  # as the garbage collector finds it, in the middle of `count`
            budget.count("unsettled")
        done.set()

    threading.Thread(target=count, daemon=True).start()
    assert done.wait(60)
