"""Callers that never say how long an answer may be: after a warm-up a budget is used to its last call, and never beyond."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from costwarden.budgets.requests import CheckRequest, TrackRequest
from costwarden.budgets.service import BudgetService
from costwarden.model import to_nanos
from costwarden.pricing import PriceBook, PricingSettings

# A dollar a million tokens: 800 tokens in and 200 out cost $0.001.
PRICING = {"overrides": [{"valid_from": "2020-01-01", "model": "plain", "input_usd_mtok": 1, "output_usd_mtok": 1}]}
INPUT, OUTPUT = 800, 200
COST = to_nanos("0.001")
CALLERS = 64


@pytest.fixture(scope="module")
def prices() -> PriceBook:
    return PriceBook(PricingSettings(**PRICING))


class Crowd:
    """Callers of one model that all ask before any of them has an answer."""

    def __init__(self, desk: Any, prices: PriceBook) -> None:
        self.desk = desk
        self.service = BudgetService(desk.ledger, desk.engine, prices, desk.settings, desk.zone, lambda: desk.now)

    def call(self, tenant_id: str, callers: int, **sizes: int) -> int:
        """All check at once, then those that may make their calls and track them; returns how many could."""
        return callers - len(self.write(tenant_id, [OUTPUT] * callers, **sizes))

    def write(self, tenant_id: str, outputs: list[int], **sizes: int) -> list[int]:
        """The same with answers of these lengths; returns those that were refused."""

        async def at_once() -> list[int]:
            request = CheckRequest(tenant_id=tenant_id, model="plain", **sizes)
            decisions = await asyncio.gather(*(self.service.check(request) for _ in outputs))
            asked = list(zip(decisions, outputs, strict=True))
            tracks = [
                TrackRequest(
                    tenant_id=tenant_id,
                    model="plain",
                    input_tokens=INPUT,
                    output_tokens=output,
                    reservation_id=decision.reservation_id,
                )
                for decision, output in asked
                if decision.allowed
            ]
            await asyncio.gather(*(self.service.track(track) for track in tracks))
            return [output for decision, output in asked if not decision.allowed]

        return asyncio.run(at_once())

    def learn(self) -> None:
        """What the server does every second."""
        with self.desk.ledger.read() as connection:
            self.service.sizes.refresh(connection)


@pytest.fixture
def crowd(desk_of: Callable[..., Any], prices: PriceBook) -> Crowd:
    return Crowd(desk_of(), prices)


@pytest.mark.parametrize("sizes", [{}, {"estimated_input_tokens": INPUT}], ids=["no sizes at all", "the input is known"])
def test_after_a_warm_up_64_callers_at_once_use_the_budget_to_its_last_nano_dollar(crowd, sizes):
    crowd.desk.put("1", tenant_id="acme")
    assert crowd.call("acme", 20, **sizes) == 20
    crowd.learn()
    budget = crowd.desk.put("0.084", tenant_id="acme")
    # Not one false refusal, where 1 of 64 would be 1.6 %; and the 65th is a true one.
    assert crowd.call("acme", CALLERS, **sizes) == 64
    assert crowd.desk.status(budget) == (84 * COST, 0, 0)
    assert crowd.call("acme", 1, **sizes) == 0


def test_another_tenant_does_not_move_what_a_tenant_is_refused_for(crowd):
    crowd.desk.put("1", tenant_id="acme")
    crowd.desk.put("1000", tenant_id="other")
    crowd.call("acme", 20)
    # Of a megatoken each: were they learned by all, acme's $0.064 were too little for any.
    crowd.write("other", [1_000_000] * 20)
    crowd.write("other", [0] * 200)
    crowd.learn()
    crowd.desk.put("0.084", tenant_id="acme")
    assert crowd.call("acme", CALLERS) == 64
    # And a tenant that is new has the assumption: 1,000 + 1,000 tokens cost $0.002.
    crowd.desk.put("0.064", tenant_id="new")
    assert crowd.call("new", CALLERS) == 32


def test_what_is_learned_of_one_second_holds_for_the_next(crowd):
    budget = crowd.desk.put("0.640", tenant_id="acme")
    admitted = 0
    for _ in range(10):
        admitted += crowd.call("acme", CALLERS)
        crowd.learn()
    # The first wave takes 1,000 + 1,000 tokens for granted, $0.002 a call, and the budget has room for all of them.
    assert admitted == 640
    assert crowd.desk.status(budget) == (640 * COST, 0, 0)


def test_the_first_calls_of_a_model_are_taken_for_larger_than_they_are_and_none_of_them_overshoots(crowd):
    budget = crowd.desk.put("0.064", tenant_id="acme")
    # 800 tokens known and 1,000 assumed cost $0.0018; 35 of these make $0.063, and there is no room for another: 29 of 64 are refused.
    assert crowd.call("acme", CALLERS, estimated_input_tokens=INPUT) == 35
    crowd.learn()
    assert crowd.call("acme", CALLERS - 35, estimated_input_tokens=INPUT) == 29
    assert crowd.desk.status(budget) == (64 * COST, 0, 0)


def test_what_a_call_says_itself_is_not_learned_over(crowd):
    crowd.desk.put("1", tenant_id="acme")
    crowd.call("acme", 20)
    crowd.learn()
    crowd.desk.put("0.084", tenant_id="acme")
    # 800 + 1,600 tokens: $0.0024, 26 of these make $0.0624.
    assert crowd.call("acme", CALLERS, estimated_input_tokens=INPUT, estimated_output_tokens=1600) == 26


def test_where_answers_differ_much_in_length_one_check_in_fifty_is_refused_falsely_at_most(crowd):
    draw = random.Random(7)
    # Half as long to twice as long, mostly; the 95th percentile is some twice the mean.
    outputs = [int(OUTPUT * draw.lognormvariate(-0.125, 0.5)) for _ in range(1280 + 40)]
    crowd.desk.put("1", tenant_id="acme")
    crowd.write("acme", outputs[1280:], estimated_input_tokens=INPUT)
    crowd.learn()
    waiting = outputs[:1280]
    # All of them fit to the last token, so that every refusal is a false one; whoever is refused asks again.
    fitting = sum(INPUT + output for output in outputs)
    budget = crowd.desk.put(f"{fitting / 1_000_000:.6f}", tenant_id="acme")
    asked = refused = 0
    while waiting:
        wave, waiting = waiting[:CALLERS], waiting[CALLERS:]
        again = crowd.write("acme", wave, estimated_input_tokens=INPUT)
        asked, refused = asked + len(wave), refused + len(again)
        waiting = waiting + again if len(again) < len(wave) else []
        crowd.learn()
    assert refused / asked < 0.02
    spent = crowd.desk.status(budget)[0]
    # What is left is less than the estimate of one call.
    assert 0 <= fitting * 1000 - spent <= (INPUT + 2000) * 1000
