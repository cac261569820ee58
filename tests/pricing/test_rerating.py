"""What a re-rating changes: differences as corrections, counted together with those that were made before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costwarden.model import CORRECTION, Priced, Usage
from costwarden.pricing.rerating import Rerating

AT = 1_763_208_000_000_000


def recorded(cost: int, priced_by: str, **fields: object) -> Usage:
    return Usage(source="api", event_id="evt:1", timestamp=AT, cost=cost, priced_by=priced_by, **fields)


def rerating(now: Priced, *corrections: Usage) -> Rerating:
    return Rerating(lambda _: now, corrections)


@pytest.mark.parametrize(
    ("recorded_at", "now", "difference"),
    [
        ((0, "unpriced"), (500, "override:2025-11-01"), 500),
        ((0, "unpriced"), (0, "genai-prices"), 0),  # free after all: its price is known now
        ((10_000_000, "fallback"), (4_000, "genai-prices"), 4_000 - 10_000_000),
        ((900, "genai-prices"), (700, "override:2025-11-01"), -200),
        ((900, "override:2025-01-01"), (901, "override:2025-11-01"), 1),
        ((0, "unpriced"), (10_000_000, "fallback"), 10_000_000),  # the decision about unknown prices was changed
    ],
)
def test_the_difference_is_what_todays_price_is_more_or_less(recorded_at, now, difference):
    usage = recorded(*recorded_at, tenant_id="acme", model="m", input_tokens=7, images=2, success=False, service_tier="batch")
    correction = rerating(Priced(*now)).rerate(usage).correction()
    assert (correction.cost, correction.priced_by, correction.source) == (difference, now[1], "correction")
    assert (correction.timestamp, correction.tenant_id, correction.model, correction.success) == (AT, "acme", "m", False)
    assert (correction.requests, correction.input_tokens, correction.images) == (0, 0, 0)


@pytest.mark.parametrize(
    ("recorded_at", "now"),
    [
        ((900, "genai-prices"), (900, "genai-prices")),
        ((900, "genai-prices"), (900, "override:2025-11-01")),  # another list, the same price
        ((900, "genai-prices"), (0, "unpriced")),  # nobody knows it any more
        ((900, "genai-prices"), (10_000_000, "fallback")),
        ((0, "unpriced"), (0, "unpriced")),
        ((900, "caller"), (700, "genai-prices")),
        ((900, "operator"), (700, "genai-prices")),
    ],
)
def test_nothing_is_changed_that_is_right_or_was_said_by_somebody_or_is_not_known_any_more(recorded_at, now):
    assert rerating(Priced(*now)).rerate(recorded(*recorded_at)) is None


def test_a_correction_is_none_of_what_is_rerated():
    correction = recorded(7, "genai-prices", requests=0)
    correction.source = CORRECTION
    assert rerating(Priced(5, "genai-prices")).rerate(correction) is None


def test_a_correction_names_what_it_corrects_and_how_often_that_was_done():
    usage = recorded(0, "unpriced")
    first = rerating(Priced(500, "genai-prices")).rerate(usage).correction()
    assert first.event_id == "priced:1:api:evt:1"
    second = rerating(Priced(450, "override:2025-11-01"), first).rerate(usage).correction()
    assert (second.event_id, second.cost) == ("rerated:2:api:evt:1", -50)
    assert rerating(Priced(450, "override:2025-11-01"), first, second).rerate(usage) is None


def test_a_source_with_a_colon_is_told_from_its_event():
    usages = [
        Usage(source=source, event_id=event_id, timestamp=AT, priced_by="unpriced") for source, event_id in (("a", "b:c"), ("a:b", "c"))
    ]
    plan = rerating(Priced(500, "genai-prices"))
    corrections = [plan.rerate(usage).correction() for usage in usages]
    assert len({correction.event_id for correction in corrections}) == 2
    again = rerating(Priced(500, "genai-prices"), corrections[0])
    assert again.rerate(usages[0]) is None
    assert again.rerate(usages[1]) is not None


def test_usage_is_unpriced_until_a_correction_has_a_price_for_it():
    usage = recorded(0, "unpriced")
    assert rerating(Priced(0, "unpriced")).is_unpriced(usage)
    first = rerating(Priced(500, "genai-prices")).rerate(usage).correction()
    assert not rerating(Priced(500, "genai-prices"), first).is_unpriced(usage)


prices = st.builds(Priced, st.integers(0, 10**12), st.sampled_from(["genai-prices", "override:2025-11-01", "operation"]))


@given(st.integers(0, 10**12), st.sampled_from(["unpriced", "genai-prices", "fallback"]), st.lists(prices, max_size=6))
def test_however_often_prices_change_the_corrections_add_up_to_the_last_one_and_doing_it_twice_adds_nothing(cost, priced_by, changes):
    usage = recorded(cost, priced_by)
    corrections: list[Usage] = []
    for price in changes:
        if change := rerating(price, *corrections).rerate(usage):
            corrections.append(change.correction())
        assert usage.cost + sum(correction.cost for correction in corrections) == price.cost
        assert rerating(price, *corrections).rerate(usage) is None
    assert len({correction.event_id for correction in corrections}) == len(corrections)
