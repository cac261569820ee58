"""How many series a metric may have, and what becomes of the rest."""

import heapq
from collections.abc import Callable, Container, Iterable, Iterator
from math import fsum
from typing import Any, TypeVar

from costwarden.metrics.catalogue import Family

Labels = tuple[str, ...]
"""Label values in the order of the family's labels; the empty string is absent."""

Sample = tuple[Labels, float]

Item = TypeVar("Item")

OTHER = "other"

_PAUSE_EVERY = 1_000


def bound(
    family: Family, samples: list[Sample], limit: int, exported: Container[Labels], pause: Callable[[], Any]
) -> tuple[list[Sample], int]:
    """At most `limit` of `samples`, plus one `other` for each combination of the labels that do not fold; and how many were left.

    Totals are conserved, negative amounts included: what is not kept is summed. Gauges keep the largest by absolute value. Counters
    keep those that are `exported` already, because a series that left `other` would look like a reset of it, then the largest.
    A family that is not additive keeps the first, and nothing is made of the rest.
    """
    if len(samples) <= limit:
        return samples, 0
    if not family.foldable:
        return samples[:limit], len(samples) - limit
    other = _other_of(family)
    # A series that is itself called `other` would meet the sum under the same name: it is always part of it.
    free = (sample for sample in paced(samples, pause) if sample[0] != other(sample[0]))
    kept = _largest(free, limit) if family.kind == "gauge" else _settled(list(free), limit, exported)
    own: list[Sample] = []
    folded: dict[Labels, list[float]] = {}
    for sample in paced(samples, pause):
        labels, value = sample
        if labels in kept:
            own.append(sample)
        else:
            folded.setdefault(other(labels), []).append(value)
    return own + [(labels, fsum(values)) for labels, values in folded.items()], len(samples) - len(own)


def _largest(samples: Iterable[Sample], limit: int) -> set[Labels]:
    return {labels for labels, _ in heapq.nlargest(limit, samples, key=lambda sample: abs(sample[1]))}


def _settled(samples: list[Sample], limit: int, exported: Container[Labels]) -> set[Labels]:
    kept = [labels for labels, _ in samples if labels in exported][:limit]
    return {*kept, *_largest((sample for sample in samples if sample[0] not in exported), limit - len(kept))}


def _other_of(family: Family) -> Callable[[Labels], Labels]:
    folds = [label in family.foldable for label in family.labels]
    return lambda labels: tuple([OTHER if fold else value for fold, value in zip(folds, labels, strict=True)])


def paced(items: Iterable[Item], pause: Callable[[], Any]) -> Iterator[Item]:
    """`items`, with a pause at the first and at every thousandth after it."""
    for index, item in enumerate(items):
        if index % _PAUSE_EVERY == 0:
            pause()
        yield item
