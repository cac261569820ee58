"""A metric has at most so many series, and its totals stay right."""

from collections import defaultdict
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costwarden.metrics.bounds import bound
from costwarden.metrics.catalogue import FAMILIES

MONTHLY = FAMILIES["aws_cost_monthly_usd"].narrowed(("region", "service"))
REQUESTS = FAMILIES["ai_requests_total"].narrowed(("tenant_id",))
LIMITS = FAMILIES["ai_budget_limit_usd"]


def no_pause() -> None:
    pass


def bounded(family, samples, limit, exported=()):
    return bound(family, samples, limit, set(exported), no_pause)


def month(name, region, service, cost):
    return ("aws", name, region, service), cost


def test_as_many_series_as_the_limit_stay_as_they_are():
    samples = [month("current", "us-east-1", "EC2", 3.0), month("current", "us-east-1", "S3", 2.0)]
    assert bounded(MONTHLY, samples, 2) == (samples, 0)


def test_above_the_limit_the_largest_stay_and_the_rest_is_summed_into_other():
    samples = [
        month("current", "us-east-1", "S3", 2.0),
        month("current", "us-east-1", "EC2", 30.0),
        month("current", "eu-west-1", "SNS", 0.5),
        month("current", "eu-west-1", "RDS", 7.0),
    ]
    kept, overflow = bounded(MONTHLY, samples, 2)
    assert kept == [
        month("current", "us-east-1", "EC2", 30.0),
        month("current", "eu-west-1", "RDS", 7.0),
        month("current", "other", "other", 2.0 + 0.5),
    ]
    assert overflow == 2


def test_a_large_credit_is_as_important_as_a_large_cost():
    samples = [
        month("current", "", "EC2", 65.0),
        month("current", "", "Credits", -40.0),
        month("current", "", "S3", 1.0),
        month("current", "", "SQS", -0.25),
    ]
    kept, _ = bounded(MONTHLY, samples, 2)
    assert kept == [
        month("current", "", "EC2", 65.0),
        month("current", "", "Credits", -40.0),
        month("current", "other", "other", 1.0 - 0.25),
    ]


def test_each_month_has_an_other_of_its_own_so_that_the_sum_of_a_month_is_right():
    samples = [month(name, "", f"service-{n}", cost) for name in ("current", "previous") for n, cost in ((1, 10.0), (2, 1.0), (3, 2.0))]
    kept, overflow = bounded(MONTHLY, samples, 2)
    assert kept[2:] == [month("current", "other", "other", 1.0 + 2.0), month("previous", "other", "other", 1.0 + 2.0)]
    assert overflow == 4


def test_a_series_that_is_really_called_other_is_part_of_the_sum():
    samples = [month("current", "other", "other", 100.0), month("current", "", "EC2", 30.0), month("current", "", "S3", 2.0)]
    kept, overflow = bounded(MONTHLY, samples, 1)
    assert kept == [month("current", "", "EC2", 30.0), month("current", "other", "other", 100.0 + 2.0)]
    assert overflow == 2


def test_a_counter_keeps_the_series_it_has_although_others_have_grown_larger():
    before = [(("success", "small"), 1.0), (("success", "big"), 10.0)]
    after = [(("success", "small"), 1.0), (("success", "big"), 10.0), (("success", "bigger"), 50.0)]
    kept, overflow = bounded(REQUESTS, after, 2, exported=[labels for labels, _ in before])
    assert kept == [*before, (("success", "other"), 50.0)]
    assert overflow == 1


def test_a_counter_without_a_past_keeps_the_largest():
    samples = [(("success", f"tenant-{n}"), float(n)) for n in range(5)]
    kept, _ = bounded(REQUESTS, samples, 2)
    assert kept == [(("success", "tenant-3"), 3.0), (("success", "tenant-4"), 4.0), (("success", "other"), 0.0 + 1.0 + 2.0)]


def test_a_counter_fills_what_its_limit_leaves_free():
    samples = [(("success", f"tenant-{n}"), float(n)) for n in range(5)]
    kept, _ = bounded(REQUESTS, samples, 3, exported=[("success", "tenant-0")])
    assert [labels[1] for labels, _ in kept] == ["tenant-0", "tenant-3", "tenant-4", "other"]


def test_a_metric_that_cannot_be_summed_keeps_the_first():
    samples = [((f"budget-{n}", "month", *[""] * 10), float(n)) for n in range(5)]
    assert bounded(LIMITS, samples, 2) == (samples[:2], 3)


names = st.sampled_from(["a", "b", "c", "other", ""])
costs = st.integers(-(10**12), 10**12).map(lambda nanos: nanos / 10**3)


@given(st.dictionaries(st.tuples(st.just("aws"), st.sampled_from(["current", "previous"]), names, names), costs), st.integers(1, 12))
def test_the_total_of_every_month_is_conserved(samples, limit):
    kept, overflow = bounded(MONTHLY, list(samples.items()), limit)
    assert len({labels for labels, _ in kept}) == len(kept) <= limit + 2
    assert overflow == (
        0 if len(samples) <= limit else len(samples) - sum(labels in samples for labels, _ in kept if labels[2:] != ("other", "other"))
    )
    assert _by_month(kept) == pytest.approx(_by_month(samples.items()))


def _by_month(samples):
    months = defaultdict(list)
    for labels, cost in samples:
        months[labels[1]].append(cost)
    return {name: fsum(costs) for name, costs in months.items()}


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 100), max_size=8), min_size=1, max_size=6), st.integers(1, 5))
def test_no_series_of_a_counter_ever_falls(increments, limit):
    counts: dict[str, int] = {}
    last: dict[tuple[str, ...], float] = {}
    for increment in increments:
        for tenant, count in increment.items():
            counts[tenant] = counts.get(tenant, 0) + count
        kept = dict(bounded(REQUESTS, [(("success", tenant), float(count)) for tenant, count in counts.items()], limit, exported=last)[0])
        assert all(kept.get(labels, 0) >= value for labels, value in last.items())
        assert sum(kept.values()) == sum(counts.values())
        last = kept
