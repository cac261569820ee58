"""A call that does not say how large it may be is taken for as large as 95 % of its tenant's newest calls like it were."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costwarden.budgets.estimates import FIRST_LOOK, MOST_KINDS, MOST_KINDS_OF_A_TENANT, NEXT_LOOK, WINDOW, LearnedSizes
from costwarden.budgets.requests import CheckRequest
from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import Ledger
from costwarden.ledger.sizes import MOST_PLAUSIBLE_TOKENS, CallSize
from costwarden.ledger.usage import append_usage
from costwarden.metrics.estimates import estimate_collector
from costwarden.model import Usage

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""

GPT = ("openai", "gpt-4o", "chat")


class Shop:
    """A ledger, and what one replica has learned from it."""

    def __init__(self, database_url: str) -> None:
        self.ledger = Ledger(database_url)
        self.sizes = LearnedSizes(BudgetsSettings())
        self._numbers = count()

    def record(self, *outputs: int, times: int = 1, named: tuple[str, str, str] = GPT, **fields: Any) -> None:
        """Calls of so many output tokens, each so many times, and twice as many input tokens."""
        rows = []
        for output in outputs * times:
            usage = Usage(source="test", event_id=str(next(self._numbers)), timestamp=NOON, input_tokens=2 * output, output_tokens=output)
            told = {"tenant_id": "acme", **dict(zip(("provider", "model", "operation"), named, strict=True)), **fields}
            for name, value in told.items():
                setattr(usage, name, value)
            rows.append(msgspec.structs.astuple(usage))
        self.ledger.write(lambda connection: append_usage(connection, rows))

    def learn(self, sizes: LearnedSizes | None = None) -> None:
        with self.ledger.read() as connection:
            (sizes or self.sizes).refresh(connection)

    def output(self, *named: str, tenant_id: str = "acme") -> int | None:
        return self.sizes.output_tokens(tenant_id, *(named or GPT))


@pytest.fixture
def shop(sqlite_url: Callable[..., str]) -> Iterator[Shop]:
    shop = Shop(sqlite_url())
    yield shop
    shop.ledger.close()


def check(tenant_id: str = "acme", **sizes: int) -> CheckRequest:
    return CheckRequest(tenant_id=tenant_id, provider="openai", model="gpt-4o", operation="chat", **sizes)


# --- what is answered --------------------------------------------------------------------------------------------------------------


def test_the_estimate_is_what_95_of_100_calls_did_not_pass(shop):
    shop.record(*range(1, 101))
    shop.learn()
    assert shop.output() == 95
    assert shop.sizes.input_tokens("acme", *GPT) == 190


def test_too_few_calls_say_nothing_and_one_more_is_enough(shop):
    shop.record(500, times=19)
    shop.learn()
    assert shop.output() is None
    shop.record(500)
    shop.learn()
    assert shop.output() == 500


def test_a_size_that_is_given_stands_one_that_is_learned_comes_next_and_the_assumption_last(shop):
    assert shop.sizes.sizes(check()) == (1000, 1000)
    shop.record(300, times=20)
    shop.learn()
    assert shop.sizes.sizes(check()) == (600, 300)
    assert shop.sizes.sizes(check(estimated_input_tokens=7)) == (7, 300)
    assert shop.sizes.sizes(check(estimated_output_tokens=0)) == (600, 0)
    assert shop.sizes.sizes(check(estimated_input_tokens=7, estimated_output_tokens=9)) == (7, 9)


def test_kinds_are_told_apart_and_an_empty_name_asks_for_all(shop):
    shop.record(100, times=20)
    shop.record(900, times=20, named=("azure", "gpt-4o", "chat"))
    shop.record(5, times=400, named=("openai", "gpt-4o", "embeddings"))
    shop.learn()
    assert shop.output() == 100
    assert shop.output("azure", "gpt-4o", "chat") == 900
    assert shop.output("", "gpt-4o", "chat") == 900  # 95 % of 20 × 100 and 20 × 900
    assert shop.output("openai", "gpt-4o", "") == 5  # of 20 × 100 and 400 × 5
    assert shop.output("openai", "gpt-4o", "text_completion") is None
    assert shop.output("openai", "gpt-4o-mini", "chat") is None


@given(st.lists(st.integers(0, MOST_PLAUSIBLE_TOKENS // 2), min_size=20, max_size=60))
def test_at_most_one_call_in_twenty_passes_the_estimate_and_the_estimate_is_one_of_the_calls(sizes):
    learned = LearnedSizes(BudgetsSettings())
    learned._learn([_call(size) for size in sizes])
    learned.refresh(_NothingNew())
    estimate = learned.output_tokens("acme", *GPT)
    assert estimate in sizes
    assert sum(size > estimate for size in sizes) * 20 <= len(sizes)


# --- what teaches ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"success": False},
        {"requests": 0},
        {"requests": 40},
        {"images": 1},
        {"audio_milliseconds": 9},
        {"model": ""},
        {"priced_by": "caller"},
        {"input_tokens": 0, "output_tokens": 0},
        {"input_tokens": MOST_PLAUSIBLE_TOKENS + 1},
        {"output_tokens": MOST_PLAUSIBLE_TOKENS + 1},
    ],
    ids=[
        "failure",
        "correction",
        "sum",
        "images",
        "audio",
        "no model",
        "sender's price",
        "no tokens",
        "endless question",
        "endless answer",
    ],
)
def test_what_is_not_one_answered_call_of_tokens_teaches_nothing(shop, fields):
    shop.record(50, times=20)
    shop.record(9000, times=40, **fields)
    shop.learn()
    assert shop.output() == 50
    assert shop.output("openai", "", "chat") is None


def test_no_call_is_learned_twice(shop):
    shop.record(100, times=19)
    for _ in range(3):
        shop.learn()
    assert shop.output() is None


def test_another_replica_and_the_next_start_learn_the_same(shop):
    shop.record(*range(1, 101), times=3)
    shop.learn()
    shop.record(5000, times=100)
    shop.learn()
    other = LearnedSizes(BudgetsSettings())
    shop.learn(other)
    assert other.estimated_output_tokens() == shop.sizes.estimated_output_tokens() == {GPT: 5000}


def test_the_first_look_goes_back_ten_thousand_events_and_no_further(shop):
    shop.record(7, times=20, named=("", "old", ""))
    shop.record(100, times=FIRST_LOOK)
    shop.learn()
    assert shop.output("", "old", "") is None
    assert shop.output() == 100


def test_a_busy_second_is_sampled_by_its_newest_events(shop):
    shop.record(100, times=20)
    shop.learn()
    shop.record(7, times=20, named=("", "early", ""))
    shop.record(300, times=NEXT_LOOK)
    shop.learn()
    assert shop.output("", "early", "") is None
    assert shop.output() == 300


# --- following change, in bounded memory ---------------------------------------------------------------------------------------------


def test_an_estimate_rises_with_the_26th_larger_call_of_512(shop):
    shop.record(100, times=WINDOW)
    shop.record(800, times=25)
    shop.learn()
    assert shop.output() == 100
    shop.record(800)
    shop.learn()
    assert shop.output() == 800


def test_an_estimate_falls_once_no_more_than_25_of_512_calls_are_as_large(shop):
    shop.record(800, times=WINDOW)
    shop.record(100, times=WINDOW - 26)
    shop.learn()
    assert shop.output() == 800
    shop.record(100)
    shop.learn()
    assert shop.output() == 100


def test_of_a_tenant_the_kinds_that_were_not_called_for_longest_are_forgotten(shop):
    shop.record(100, times=20)
    shop.record(100, times=20, named=("", "kept", ""))
    shop.learn()
    for number in range(MOST_KINDS_OF_A_TENANT - 2):
        shop.record(1, named=("", f"invented-{number}", ""))
    shop.record(100, named=("", "kept", ""))
    shop.learn()
    assert shop.output("", "kept", "") == 100
    assert shop.output() is None
    assert len(shop.sizes._calls["acme"]) == MOST_KINDS_OF_A_TENANT == shop.sizes._kinds
    assert len(shop.sizes._named) <= MOST_KINDS_OF_A_TENANT


def test_past_the_most_kinds_of_all_the_tenant_is_forgotten_that_was_silent_for_longest():
    learned = LearnedSizes(BudgetsSettings())
    learned._learn([_call(100, "silent")] * 20 + [_call(100, "early")] * 20)
    others = MOST_KINDS // MOST_KINDS_OF_A_TENANT
    for tenant in range(others):
        learned._learn([CallSize(str(tenant), "", f"invented-{number}", "", 1, 1) for number in range(2 * MOST_KINDS_OF_A_TENANT)])
        learned._learn([_call(100, "early")])
    learned.refresh(_NothingNew())
    assert "silent" not in learned._calls
    assert learned.output_tokens("early", *GPT) == 100
    assert learned._kinds == sum(map(len, learned._calls.values())) == MOST_KINDS
    assert len(learned._named) <= MOST_KINDS


# --- whose calls teach whom ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4_000_000])
def test_what_one_tenant_sends_says_nothing_about_another(shop, size):
    shop.record(300, times=20, tenant_id="globex")
    shop.record(size, times=600)
    shop.learn()
    assert shop.output() == size
    assert shop.sizes.sizes(check("globex")) == (600, 300)
    assert shop.sizes.sizes(check("newcomer")) == (1000, 1000)


def test_a_tenant_that_invents_kinds_pushes_out_its_own_alone(shop):
    shop.record(300, times=20, tenant_id="globex")
    for _ in range(3):
        for number in range(NEXT_LOOK // 2):
            shop.record(1, named=("", f"invented-{number}", ""))
        shop.learn()
    assert shop.output(tenant_id="globex") == 300


# --- configuration and metric --------------------------------------------------------------------------------------------------------


def test_another_percentile_or_minimum_holds_for_what_was_learned_before(shop):
    shop.record(*range(1, 101))
    shop.learn()
    shop.sizes.configure(BudgetsSettings(estimate_percentile=50))
    shop.learn()
    assert shop.output() == 50
    shop.sizes.configure(BudgetsSettings(estimate_percentile=100))
    shop.learn()
    assert shop.output() == 100
    shop.sizes.configure(BudgetsSettings(estimate_minimum_calls=101))
    shop.learn()
    assert shop.output() is None


def test_the_metric_shows_the_largest_estimate_of_any_tenant_for_the_kinds_that_calls_named(shop):
    shop.record(300, times=20)
    shop.record(500, times=20, tenant_id="globex")
    shop.record(20, times=30, named=("", "local", ""))
    shop.record(20, times=3, named=("", "rare", ""))
    shop.learn()
    [(family, samples)] = estimate_collector(shop.sizes).collect()
    assert family.name == "ai_estimated_output_tokens"
    assert sorted(samples) == [(("", "local", ""), 20.0), (GPT, 500.0)]


def _call(size: int, tenant_id: str = "acme") -> CallSize:
    return CallSize(tenant_id, *GPT, 2 * size, size)


class _NothingNew:
    """A connection to a ledger in which nothing was recorded."""

    def execute(self, _: Any) -> "_NothingNew":
        return self

    def all(self) -> list[Any]:
        return []
