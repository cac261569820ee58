"""A call that does not say how large it may be is taken for as large as 95 % of the newest calls like it were."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costwarden.budgets.estimates import FIRST_LOOK, MOST_KINDS, NEXT_LOOK, WINDOW, LearnedSizes
from costwarden.budgets.requests import CheckRequest
from costwarden.budgets.settings import BudgetsSettings
from costwarden.ledger import Ledger
from costwarden.ledger.usage import append_usage
from costwarden.metrics.estimates import estimate_collector
from costwarden.model import Usage

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""

GPT = ("openai", "gpt-4o", "chat")


class Shop:
    """A ledger, and what one replica has learned from it."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(f"sqlite:///{path}")
        self.sizes = LearnedSizes(BudgetsSettings())
        self._numbers = count()

    def record(self, *outputs: int, times: int = 1, named: tuple[str, str, str] = GPT, **fields: Any) -> None:
        """Calls of so many output tokens, each so many times, and twice as many input tokens."""
        rows = []
        for output in outputs * times:
            usage = Usage(source="test", event_id=str(next(self._numbers)), timestamp=NOON, input_tokens=2 * output, output_tokens=output)
            for name, value in {**dict(zip(("provider", "model", "operation"), named, strict=True)), **fields}.items():
                setattr(usage, name, value)
            rows.append(msgspec.structs.astuple(usage))
        self.ledger.write(lambda connection: append_usage(connection, rows))

    def learn(self, sizes: LearnedSizes | None = None) -> None:
        with self.ledger.read() as connection:
            (sizes or self.sizes).refresh(connection)

    def output(self, *named: str) -> int | None:
        return self.sizes.output_tokens(*(named or GPT))


@pytest.fixture
def shop(tmp_path: Path, empty_ledger: Path) -> Iterator[Shop]:
    shop = Shop(shutil.copy(empty_ledger, tmp_path / "shop.db"))
    yield shop
    shop.ledger.close()


def check(**sizes: int) -> CheckRequest:
    return CheckRequest(tenant_id="acme", provider="openai", model="gpt-4o", operation="chat", **sizes)


# --- what is answered --------------------------------------------------------------------------------------------------------------


def test_the_estimate_is_what_95_of_100_calls_did_not_pass(shop):
    shop.record(*range(1, 101))
    shop.learn()
    assert shop.output() == 95
    assert shop.sizes.input_tokens(*GPT) == 190


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


@given(st.lists(st.integers(0, 10**10), min_size=20, max_size=60))
def test_at_most_one_call_in_twenty_passes_the_estimate_and_the_estimate_is_one_of_the_calls(sizes):
    learned = LearnedSizes(BudgetsSettings())
    learned._learn([_call(size) for size in sizes])
    learned.refresh(_NothingNew())
    estimate = learned.output_tokens(*GPT)
    assert estimate in sizes
    assert sum(size > estimate for size in sizes) * 20 <= len(sizes)


# --- what teaches ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [{"success": False}, {"requests": 0}, {"requests": 40}, {"images": 1}, {"audio_milliseconds": 9}, {"model": ""}],
    ids=["a failure", "a correction", "a sum", "images", "audio", "no model"],
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


def test_the_kinds_that_were_not_called_for_longest_are_forgotten(shop):
    shop.record(100, times=20)
    shop.record(100, times=20, named=("", "kept", ""))
    shop.learn()
    for number in range(MOST_KINDS // 2):
        shop.record(1, named=("", f"invented-{number}", ""))
    shop.record(100, named=("", "kept", ""))
    shop.learn()
    assert shop.output("", "kept", "") == 100
    for number in range(MOST_KINDS // 2, MOST_KINDS):
        shop.record(1, named=("", f"invented-{number}", ""))
    shop.learn()
    assert shop.output() is None
    assert len(shop.sizes._calls) == MOST_KINDS
    assert len(shop.sizes._named) <= MOST_KINDS


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


def test_the_metric_shows_the_estimates_of_the_kinds_that_calls_named(shop):
    shop.record(300, times=20)
    shop.record(20, times=30, named=("", "local", ""))
    shop.record(20, times=3, named=("", "rare", ""))
    shop.learn()
    [(family, samples)] = estimate_collector(shop.sizes).collect()
    assert family.name == "ai_estimated_output_tokens"
    assert sorted(samples) == [(("", "local", ""), 20.0), (GPT, 300.0)]


def _call(size: int) -> Any:
    from costwarden.ledger.sizes import CallSize

    return CallSize(*GPT, 2 * size, size)


class _NothingNew:
    """A connection to a ledger in which nothing was recorded."""

    def execute(self, _: Any) -> "_NothingNew":
        return self

    def all(self) -> list[Any]:
        return []
