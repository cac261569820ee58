"""What is known of a series or of an expression's result before there are any data."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Labels = frozenset[str]

Kind = Literal["gauge", "counter", "counters", "scalar"]
"""`counters` are added up or compared across restarts: no `rate` can be taken of them any more."""


@dataclass(frozen=True)
class Shape:
    """The labels that a result may have, its kind, and the range in which its values lie."""

    labels: Labels = frozenset()
    kind: Kind = "gauge"
    low: float = -math.inf
    high: float = math.inf
    zero: bool = True
    """Whether it can be 0, where 0 lies in the range."""
    pinned: Mapping[str, str] = field(default_factory=dict)
    """Labels that have one value only, by a matcher."""
    always: bool = False
    """Whether there is a sample whatever Prometheus has."""
    shifted: bool = False
    """Whether it is of another time, by `offset`."""
    divisors: frozenset[str] = frozenset()
    """What it was divided by that can be 0, as text."""
    known: bool = True
    """False where it stands on a series that nobody knows, and nothing follows from it."""

    def __contains__(self, label: str) -> bool:
        return label in self.labels

    @property
    def may_be_zero(self) -> bool:
        """Whether dividing by it can give infinity or no number."""
        return self.zero and self.low <= 0 <= self.high

    @property
    def is_constant(self) -> bool:
        """Whether it is one number, written in the expression."""
        return self.kind == "scalar" and self.low == self.high


UNKNOWN = Shape(known=False)


def number(value: float) -> Shape:
    """The shape of a number."""
    return Shape(kind="scalar", low=value, high=value, always=True)


def never(operator: str, left: Shape, right: Shape) -> bool:
    """Whether a comparison cannot be true."""
    match operator:
        case ">":
            return left.high <= right.low
        case ">=":
            return left.high < right.low
        case "<":
            return left.low >= right.high
        case "<=":
            return left.low > right.high
        case "==":
            return left.high < right.low or left.low > right.high or (right.low == right.high == 0 and not left.may_be_zero)
        case _:
            return left.low == left.high == right.low == right.high


_OPPOSITE = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}
MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}
"""The operator that says the same with the sides changed."""


def ever(operator: str, left: Shape, right: Shape) -> bool:
    """Whether a comparison cannot be false."""
    return never(_OPPOSITE[operator], left, right)


def narrowed(operator: str, left: Shape, right: Shape) -> tuple[float, float, bool]:
    """Lowest, highest and whether 0 remains, of what passes a comparison."""
    low, high, zero = left.low, left.high, left.may_be_zero
    match operator:
        case ">" | ">=":
            low = max(low, right.low)
            zero = zero and (right.low < 0 or (operator == ">=" and right.low == 0))
        case "<" | "<=":
            high = min(high, right.high)
            zero = zero and (right.high > 0 or (operator == "<=" and right.high == 0))
        case "==":
            low, high = max(low, right.low), min(high, right.high)
            zero = zero and right.may_be_zero
        case "!=":
            zero = zero and not (right.low == right.high == 0)
    return low, high, zero


def _times(one: float, other: float) -> float:
    return 0.0 if 0 in (one, other) else one * other


def calculated(operator: str, left: Shape, right: Shape) -> tuple[float, float]:
    """The range of a sum, difference, product or quotient; of anything else, all numbers."""
    match operator:
        case "+":
            return left.low + right.low, left.high + right.high
        case "-":
            return left.low - right.high, left.high - right.low
        case "*":
            corners = [_times(one, other) for one in (left.low, left.high) for other in (right.low, right.high)]
            return min(corners), max(corners)
        case "/" if left.low >= 0 and right.low >= 0:
            if right.low == right.high and 0 < right.low < math.inf:
                return left.low / right.low, left.high / right.low
            return 0.0, math.inf
    return -math.inf, math.inf
