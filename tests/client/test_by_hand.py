"""Calls that no transport sees: `with budget.call(…)`; a token of `plain` costs a micro-dollar."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from costwarden_server import Costwarden
from llm_provider import Provider

from costwarden.client import Budget, BudgetExceeded, BudgetUnavailable, NoTenant, attribution


def amounts(budget: Budget, costwarden: Costwarden, tenant: str) -> tuple[int, int, int]:
    assert budget.flush()
    state = costwarden.budget(tenant)
    return state["current_usage"], state["reserved"], state["unsettled"]


def test_what_was_used_is_settled(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    with budget.call(model="plain", operation="rerank", estimated_input_tokens=100, estimated_output_tokens=50) as call:
        assert call.estimated_cost_usd == Decimal("0.00015")
        assert costwarden.budget(tenant)["reserved"] == 150
        call.used(input_tokens=80, output_tokens=20)
    assert amounts(budget, costwarden, tenant) == (100, 0, 0)
    assert [event["operation"] for event in costwarden.usage(tenant)] == ["rerank"]


def test_the_providers_answer_may_be_given_as_it_came(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    answer = {"object": "list", "model": "plain", "data": [], "usage": {"prompt_tokens": 30, "total_tokens": 30}}
    with budget.call(model="plain", estimated_input_tokens=100, estimated_output_tokens=0) as call:
        call.answered(answer)
    assert amounts(budget, costwarden, tenant) == (30, 0, 0)


def test_a_cost_that_the_caller_knows_comes_before_the_price_book(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    with budget.call(model="plain", estimated_input_tokens=100, estimated_output_tokens=0) as call:
        call.used(input_tokens=100, cost_usd="0.00007")
    assert amounts(budget, costwarden, tenant) == (70, 0, 0)


def test_a_block_that_says_nothing_costs_its_estimate(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    with budget.call(model="painter", images=3):
        pass
    assert amounts(budget, costwarden, tenant) == (30_000, 0, 0)


def test_a_call_that_is_not_made_after_all_is_given_back(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    with budget.call(model="painter", images=3) as call:
        call.cancel()
    assert amounts(budget, costwarden, tenant) == (0, 0, 0)
    assert costwarden.usage(tenant) == []


def test_an_exception_is_a_failure_that_used_what_was_said(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    def fail(*used: int) -> None:
        with budget.call(model="plain", estimated_input_tokens=100, estimated_output_tokens=100) as call:
            for tokens in used:
                call.used(input_tokens=tokens)
            raise KeyError

    for used in ((), (40,)):
        with pytest.raises(KeyError):
            fail(*used)
    assert amounts(budget, costwarden, tenant) == (40, 0, 0)
    assert [event["success"] for event in costwarden.usage(tenant)] == [0, 0]


class ReadTimeout(Exception):
    """As HTTP libraries name theirs."""


@pytest.mark.parametrize("error", [TimeoutError, ConnectionResetError, ReadTimeout, KeyboardInterrupt])
def test_an_exception_that_leaves_open_whether_the_call_was_made_leaves_its_reservation(
    budget: Budget, costwarden: Costwarden, tenant: str, error: type[BaseException]
) -> None:
    def fail() -> None:
        with budget.call(model="plain", estimated_input_tokens=100, estimated_output_tokens=100):
            raise error

    with pytest.raises(error):
        fail()
    assert amounts(budget, costwarden, tenant) == (0, 200, 0)
    assert budget.counts.unsettled == 1


def test_a_call_beyond_the_budget_is_refused_before_the_block(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    costwarden.set_budget(tenant, "0.0001")

    def block() -> None:
        with budget.call(model="plain", estimated_input_tokens=101, estimated_output_tokens=0):
            pytest.fail("the block ran")

    with pytest.raises(BudgetExceeded, match=r"this call may cost \$0\.000101; budget .* has \$0\.00 of \$0\.0001 committed") as caught:
        block()
    assert caught.value.reason == "budget_exceeded"
    assert BudgetExceeded.of(caught.value) is caught.value


def test_the_asynchronous_block_does_the_same(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    async def block() -> None:
        async with budget.call(model="plain", estimated_input_tokens=100, estimated_output_tokens=50) as call:
            call.used(input_tokens=80, output_tokens=20)
        await budget.flush_async()

    asyncio.run(block())
    assert amounts(budget, costwarden, tenant) == (100, 0, 0)


def test_a_cancelled_task_leaves_its_reservation(budget: Budget, costwarden: Costwarden, tenant: str) -> None:
    async def block() -> None:
        entered = asyncio.Event()

        async def call() -> None:
            async with budget.call(model="plain", estimated_input_tokens=100, estimated_output_tokens=50):
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(call())
        await entered.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await budget.flush_async()

    asyncio.run(block())
    assert amounts(budget, costwarden, tenant) == (0, 150, 0)


def test_names_come_from_the_nearest_place(make_budget: Callable[..., Budget], costwarden: Costwarden, tenant: str) -> None:
    budget = make_budget(team="core")
    with attribution(tenant_id=tenant, feature="outer"), budget.call(model="painter", images=1, feature="own"):
        pass
    assert budget.flush()
    assert [(event["team"], event["feature"]) for event in costwarden.usage(tenant)] == [("core", "own")]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "plain"}, NoTenant, "names no tenant"),
        ({"tenant_id": "acme"}, ValueError, "name the `model`, the `operation`, or both"),
        ({"tenant_id": "acme", "model": "plain", "featur": "x"}, TypeError, "'featur' is no attribution; there are tenant_id"),
    ],
)
def test_a_call_that_cannot_be_meant_says_why(
    make_budget: Callable[..., Budget], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_budget().call(**options)


def test_a_quantity_that_there_is_not_says_which_there_are(budget: Budget) -> None:
    def block() -> None:
        with budget.call(model="painter", images=1) as call:
            call.used(tokens=3)

    with pytest.raises(TypeError, match="tokens: no quantity; there are cache_read_tokens"):
        block()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:3010"}, "url is 'localhost:3010': it must begin with http:// or https://"),
        ({"on_unavailable": "open"}, "on_unavailable is 'open': it must be 'deny' or 'allow'"),
        ({"timeout_seconds": 0}, "timeout_seconds is 0: it must be above 0"),
        ({"spool_size": -1}, "spool_size is -1: it must be above 0"),
        ({"lease_usd": 0}, "lease_usd is 0: it must be an amount above 0"),
        ({"lease_usd": "NaN"}, "lease_usd is NaN: it must be an amount above 0"),
    ],
)
def test_an_option_that_cannot_be_meant_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**options)


def test_the_token_is_sent_and_an_address_that_is_no_budget_service_says_so(make_budget: Callable[..., Budget], provider: Provider) -> None:
    budget = make_budget(url=f"{provider.url}/proxied/", token="secret", tenant_id="acme")
    call = budget.call(model="plain", estimated_input_tokens=1, estimated_output_tokens=1)

    async def asynchronously() -> None:
        try:
            async with call:
                pass
        finally:
            await budget.flush_async()

    with pytest.raises(BudgetUnavailable, match="answered 404: "), call:
        pass
    with pytest.raises(BudgetUnavailable, match="answered 404: "):
        asyncio.run(asynchronously())
    assert [(seen.path, seen.headers["authorization"]) for seen in provider.seen] == [("/proxied/api/ai-budget/check", "Bearer secret")] * 2
