"""Which labels two vectors are matched on, whether they ever can, and what the result has."""

from collections.abc import Iterator
from typing import Any

import promql_parser as promql

from promql.series import that_tell_apart
from promql.shape import Labels, Shape

_MANY_TO_ONE, _ONE_TO_MANY = promql.VectorMatchCardinality.ManyToOne, promql.VectorMatchCardinality.OneToMany


def _clause(node: Any) -> tuple[Labels | None, Labels]:
    """The labels of `on`, or None; the labels of `ignoring`."""
    matched = node.modifier.matching if node.modifier else None
    if matched is None:
        return None, frozenset()
    labels = frozenset(matched.labels)
    return (labels, frozenset()) if matched.type == promql.LabelModifierType.Include else (None, labels)


def faults(node: Any, left: Shape, right: Shape) -> Iterator[str]:
    """What keeps the two sides from meeting as they should."""
    if not (left.known and right.known):
        return
    sign = str(node.op)
    on, ignored = _clause(node)
    if on is not None:
        yield from (f"matches on {label}, which is not on both sides" for label in sorted(on - (left.labels & right.labels)))
    yield from (f"ignores {label}, which is on neither side" for label in sorted(ignored - (left.labels | right.labels)))
    if sign == "or":
        return
    matched = on if on is not None else (left.labels | right.labels) - ignored
    for label in sorted(matched & left.pinned.keys() & right.pinned.keys()):
        if left.pinned[label] != right.pinned[label]:
            yield f"matches {label}={left.pinned[label]} with {label}={right.pinned[label]}: never"
    if on is None:
        for side, more in (("left", left.labels - right.labels), ("right", right.labels - left.labels)):
            for label in sorted(more - ignored):
                yield f"matches on all labels, and only the {side} side of `{sign}` has {label}"
    if sign in {"and", "unless"}:
        return
    card = node.modifier.card if node.modifier else None
    for side, shape, is_many in (("left", left, card == _MANY_TO_ONE), ("right", right, card == _ONE_TO_MANY)):
        if not is_many and (more := that_tell_apart(shape.labels, matched) - shape.pinned.keys()):
            yield f"may find several series of the {side} side of `{sign}` for one: they differ by {', '.join(sorted(more))}"


def result(node: Any, left: Shape, right: Shape) -> Labels:
    """The labels of the result of two vectors."""
    sign, modifier = str(node.op), node.modifier
    on, ignored = _clause(node)
    if sign == "or":
        return left.labels | right.labels
    if sign in {"and", "unless"}:
        return left.labels
    if modifier and modifier.card == _MANY_TO_ONE:
        return left.labels | frozenset(modifier.group_labels or ())
    if modifier and modifier.card == _ONE_TO_MANY:
        return right.labels | frozenset(modifier.group_labels or ())
    return on if on is not None else left.labels - ignored
