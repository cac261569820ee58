"""Slices of a budget, spent without a request for each call, against the real server and the real SDK.

A token of the model `plain` costs a micro-dollar, and amounts are in micro-dollars: they are sums of tokens.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import openai
import pytest
from costwarden_server import Costwarden
from llm_provider import Provider

from costwarden.client import Budget, http_client
from costwarden.client.calls import Call, Granted
from costwarden.client.denial import BudgetExceeded
from costwarden.client.leases import Leases, Prices

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]
PRICES = {"input_usd_mtok": Decimal(1), "output_usd_mtok": Decimal(1), "usd_per_call": Decimal(0), "usd_per_image": Decimal("0.01")}


def sdk(budget: Budget, provider: Provider) -> openai.OpenAI:
    client = http_client(budget=budget, provider="openai")
    return openai.OpenAI(api_key="none", base_url=f"{provider.url}/v1", http_client=client, max_retries=0)


def call(client: openai.OpenAI, max_tokens: int = 97, model: str = "plain", **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=max_tokens, **more)


def first_slice(budget: Budget, client: openai.OpenAI, wait_until: Callable[..., Any], model: str = "plain") -> int:
    """Calls until the first one was paid out of a slice; how many were made."""

    def leased() -> bool:
        call(client, model=model)
        return budget.counts.leased > 0

    wait_until(leased)
    return budget.counts.checked + budget.counts.leased


def test_calls_are_paid_out_of_a_slice_and_recorded_one_by_one(
    make_budget: Callable[..., Budget], provider: Provider, costwarden: Costwarden, tenant: str, wait_until: Callable[..., Any]
) -> None:
    budget = make_budget(tenant_id=tenant, lease_usd="0.1")
    with sdk(budget, provider) as client:
        made = first_slice(budget, client, wait_until)
        checked = budget.counts.checked
        for _ in range(20):
            call(client)
        assert budget.counts.checked == checked
    state = costwarden.budget(tenant)
    assert state["current_usage"] == (made + 20) * 100
    assert len({event["event_id"] for event in costwarden.usage(tenant)}) == made + 20
    budget.close()
    assert costwarden.budget(tenant)["reserved"] == 0  # the rest of the slice is given back


def test_slices_never_overshoot_with_many_threads_and_what_is_left_is_given_back(
    make_budget: Callable[..., Budget], provider: Provider, costwarden: Costwarden, tenant: str
) -> None:
    costwarden.set_budget(tenant, "0.01")  # 10,000 tokens: a hundred calls
    budget = make_budget(tenant_id=tenant, lease_usd="0.002")
    refused = 0

    def calls(_: int) -> int:
        count = 0
        for _ in range(20):
            try:
                call(client)
            except openai.RateLimitError:
                count += 1
        return count

    with sdk(budget, provider) as client, ThreadPoolExecutor(8) as pool:
        refused = sum(pool.map(calls, range(8)))
    counts = budget.counts
    assert counts.checked + counts.leased + refused == 8 * 20
    budget.close()
    state = costwarden.budget(tenant)
    assert state["current_usage"] == (counts.checked + counts.leased) * 100
    # Near the end of the budget, what estimates and slices hold is refused to others before it comes back.
    assert 5_000 <= state["current_usage"] <= 10_000
    assert (state["reserved"], state["unsettled"]) == (0, 0)


def test_a_call_of_unknown_size_is_taken_for_what_the_server_takes_it_for(
    make_budget: Callable[..., Budget], provider: Provider, costwarden: Costwarden, tenant: str, wait_until: Callable[..., Any]
) -> None:
    budget = make_budget(tenant_id=tenant, lease_usd="0.1")
    with sdk(budget, provider) as client:
        first_slice(budget, client, wait_until, model="plain-new")
        provider.knobs.holds_answers = True
        with pytest.raises(openai.APITimeoutError):
            client.responses.create(model="plain-new", input="go on", previous_response_id="resp_1", timeout=0.2)
    (failure,) = [event for event in costwarden.usage(tenant) if not event["success"]]
    # budgets.assumed_input_tokens and assumed_output_tokens; not yet what calls like it have been.
    assert failure["cost"] == (1_000 + 1_000) * 1000  # nano-dollars


def test_a_call_that_the_prices_of_a_lease_are_not_for_is_checked(
    make_budget: Callable[..., Budget], provider: Provider, costwarden: Costwarden, tenant: str, wait_until: Callable[..., Any]
) -> None:
    budget = make_budget(tenant_id=tenant, lease_usd="0.1")
    with sdk(budget, provider) as client:
        first_slice(budget, client, wait_until)
        before = budget.counts
        with pytest.raises(openai.UnprocessableEntityError, match=r"no price is known for .* service tier 'priority'"):
            call(client, service_tier="priority")
    assert budget.counts.leased == before.leased


def test_a_timeout_of_a_leased_call_costs_its_estimate(
    make_budget: Callable[..., Budget], provider: Provider, costwarden: Costwarden, tenant: str, wait_until: Callable[..., Any]
) -> None:
    budget = make_budget(tenant_id=tenant, lease_usd="0.1")
    with sdk(budget, provider) as client:
        made = first_slice(budget, client, wait_until)
        provider.knobs.holds_answers = True
        with pytest.raises(openai.APITimeoutError):
            call(client, max_tokens=1000, timeout=0.2)
    (failure,) = [event for event in costwarden.usage(tenant) if not event["success"]]
    assert 1003 * 1000 <= failure["cost"] <= 1050 * 1000  # nano-dollars
    budget.close()
    state = costwarden.budget(tenant)
    assert state["current_usage"] == made * 100 + failure["cost"] // 1000
    assert state["reserved"] == 0


def test_an_idle_slice_is_given_back(
    make_budget: Callable[..., Budget], provider: Provider, costwarden: Costwarden, tenant: str, wait_until: Callable[..., Any]
) -> None:
    budget = make_budget(tenant_id=tenant, lease_usd="0.1", lease_idle_seconds=0.2)
    with sdk(budget, provider) as client:
        first_slice(budget, client, wait_until)
        # Before the 30 s that it would take by itself.
        wait_until(lambda: budget.counts.pending == 0 and costwarden.budget(tenant)["reserved"] == 0, 25)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bank:
    """Grants slices as the server does, at once; `left` dollars, prices as given."""

    def __init__(self, left: str = "1", prices: Any = PRICES) -> None:
        self.left = Decimal(left)
        self.prices = prices
        self.asked: list[dict[str, Any]] = []
        self.released: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def ask(self, path: str, body: dict[str, Any]) -> Granted:
        assert path == "lease"
        self.gate.wait()
        self.asked.append(body)
        amount = min(self.left, Decimal(body["amount_usd"]))
        if not amount:
            raise BudgetExceeded(429, {"detail": "nothing left"})
        self.left -= amount
        return Granted(reservation_id=f"lease-{len(self.asked)}", granted_usd=amount, prices=self.prices)

    def release(self, tenant_id: str, *, reservation_id: str = "", event_id: str = "") -> None:
        assert tenant_id == "acme"
        self.released.append(reservation_id)


def leases(bank: Bank, clock: Clock, **options: Any) -> Leases:
    settings: dict[str, Any] = {"lease_usd": Decimal("0.001"), "seconds": 100, "idle_seconds": 30.0, **options}
    return Leases(bank, release=bank.release, clock=clock, **settings)  # type: ignore[arg-type]


def sized(input_tokens: int | None = 100, output_tokens: int | None = 100, **more: Any) -> Call:
    return Call(tenant_id="acme", model="plain", estimated_input_tokens=input_tokens, estimated_output_tokens=output_tokens, **more)


def drawn(found: Leases, wait_until: Callable[..., Any], call: Call | None = None) -> Any:
    return wait_until(lambda: found.take(call or sized()))


def test_a_slice_gives_no_more_than_it_holds_and_takes_back_what_calls_did_not_use(wait_until: Callable[..., Any]) -> None:
    bank, clock = Bank("0.001"), Clock()
    found = leases(bank, clock)
    held = [drawn(found, wait_until)]
    while more := found.take(sized()):
        held.append(more)
    assert len(held) == 1000 // 200
    found.settled(held[0], 60_000)  # nano-dollars: 140 tokens of 200 come back
    assert found.take(sized(70, 70)) is not None
    assert found.take(sized(1, 0)) is None


def test_the_next_slice_is_drawn_before_the_last_is_used_up(wait_until: Callable[..., Any]) -> None:
    bank, clock = Bank(), Clock()
    found = leases(bank, clock)
    drawn(found, wait_until)
    assert [found.take(sized()) is not None for _ in range(4)] == [True] * 4
    wait_until(lambda: len(bank.asked) == 2)
    drawn(found, wait_until)


def test_nobody_waits_for_a_slice(wait_until: Callable[..., Any]) -> None:
    bank, clock = Bank(), Clock()
    bank.gate.clear()
    found = leases(bank, clock)
    assert found.take(sized()) is None
    assert found.take(sized()) is None
    bank.gate.set()
    drawn(found, wait_until)
    assert len(bank.asked) == 1


def test_a_slice_is_not_used_near_its_end_and_given_back_once_its_calls_are_settled(wait_until: Callable[..., Any]) -> None:
    bank, clock = Bank(), Clock()
    found = leases(bank, clock, idle_seconds=1000.0)
    held = drawn(found, wait_until)
    clock.now += 80
    assert found.take(sized()) is None
    found.tick()
    assert bank.released == []
    found.settled(held, 200_000)
    found.tick()
    assert bank.released == ["lease-1"]


def test_a_slice_of_which_a_call_was_refused_is_left_to_expire(wait_until: Callable[..., Any]) -> None:
    bank, clock = Bank(), Clock()
    found = leases(bank, clock)
    found.unknown(drawn(found, wait_until))
    found.close()
    assert bank.released == []


def test_each_set_of_dimensions_has_a_slice_of_its_own(wait_until: Callable[..., Any]) -> None:
    bank, clock = Bank(), Clock()
    found = leases(bank, clock)
    one, other = drawn(found, wait_until), drawn(found, wait_until, sized(feature="search"))
    assert {one.slice.lease_id, other.slice.lease_id} == {"lease-1", "lease-2"}
    assert {body.get("feature") for body in bank.asked} == {None, "search"}


def test_a_refused_slice_is_asked_for_again_only_later(wait_until: Callable[..., Any]) -> None:
    bank, clock = Bank("0"), Clock()
    found = leases(bank, clock)
    for _ in range(3):
        assert found.take(sized()) is None
        wait_until(lambda: len(bank.asked) == 1 and not threading_draws())
    clock.now += 2
    found.take(sized())
    wait_until(lambda: len(bank.asked) == 2)


def threading_draws() -> bool:
    return any(thread.name == "costwarden-lease" for thread in threading.enumerate())


@pytest.mark.parametrize("missing", ["prices", "input_usd_mtok"])
def test_without_prices_there_is_no_lease_and_what_was_granted_is_given_back(missing: str, wait_until: Callable[..., Any]) -> None:
    prices = None if missing == "prices" else {name: value for name, value in PRICES.items() if name != missing}
    bank, clock = Bank(prices=prices), Clock()
    found = leases(bank, clock)
    assert found.take(sized()) is None
    wait_until(lambda: bank.released == ["lease-1"])
    assert found.take(sized()) is None
    assert len(bank.asked) == 1


def test_calls_that_prices_do_not_cover_are_checked(wait_until: Callable[..., Any]) -> None:
    bank, clock = Bank(prices={**PRICES, "usd_per_image": None}), Clock()
    found = leases(bank, clock)
    drawn(found, wait_until)
    assert found.take(sized(images=1)) is None
    assert Prices(1, None, 0, None).estimate(1, 1, 0) is None
    assert found.take(sized(None)) is None
    assert found.take(sized(100, None)) is None
    assert found.take(sized(service_tier="priority")) is None
    assert found.take(sized(speaks=True)) is None
    assert found.take(sized(audio_seconds=Decimal(1))) is None
    assert found.take(sized()) is not None


def test_an_estimate_is_rounded_up() -> None:
    prices = Prices(input=2_500_000_001, output=10_000_000_000, call=5, image=7)
    assert prices.estimate(3, 2, 2) == 5 + 2 * 7 + 27_501  # 3 × 2500.000001 + 2 × 10000 = 27500.000003
