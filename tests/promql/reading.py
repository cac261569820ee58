"""Reads an expression without data: the shape of its result, and sentences on what in it is not, or cannot be, as meant."""

import math
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import promql_parser as promql

from promql import functions, matching
from promql.series import Series, can_be
from promql.shape import MIRRORED, UNKNOWN, Labels, Shape, calculated, ever, narrowed, never, number
from promql.text import bare, names, write

_KEEPS_LABELS = {"topk", "bottomk", "limitk"}
_AGGREGATED = {
    "count": (1.0, math.inf),
    "group": (1.0, 1.0),
    "stddev": (0.0, math.inf),
    "stdvar": (0.0, math.inf),
    "count_values": (1.0, math.inf),
}
_TARGET: Labels = frozenset({"instance", "pod"})
COMPARISONS = frozenset(MIRRORED)
SETS = frozenset({"and", "or", "unless"})


@dataclass
class Reading:
    """What there is to say of an expression."""

    shape: Shape = UNKNOWN
    faults: list[str] = field(default_factory=list)
    """What is wrong wherever the expression stands."""
    in_alerts: list[str] = field(default_factory=list)
    """What is wrong in an alert, and may be meant on a graph."""
    numbers: list[float] = field(default_factory=list)
    """Numbers that something is compared with."""


def analyse(expression: str, series: Series) -> tuple[Labels, list[str]]:
    """The labels that the result may have, and what is wrong with the expression, a sentence each."""
    reading = read(expression, series)
    return reading.shape.labels, reading.faults


def read(expression: str, series: Series) -> Reading:
    """What there is to say of `expression`, where `series` are all that there is."""
    try:
        tree = promql.parse(expression)
    except ValueError as error:
        return Reading(faults=[f"is no PromQL: {error}"])
    reading = Reading()
    reading.shape = _Reader(series, reading).shape(tree)
    return reading


def states_a_condition(node: Any) -> bool:
    """Whether something in the expression decides if there is a sample: a comparison that filters, absence, another vector."""
    match bare(node):
        case promql.BinaryExpr() as binary:
            sign = str(binary.op)
            if sign in COMPARISONS:
                return not binary.modifier or not binary.modifier.return_bool
            sides = [states_a_condition(binary.lhs), states_a_condition(binary.rhs)]
            return all(sides) if sign == "or" else sign in {"and", "unless"} or any(sides)
        case promql.AggregateExpr() | promql.UnaryExpr() as inner:
            return states_a_condition(inner.expr)
        case promql.Call() as call:
            return call.func.name in {"absent", "absent_over_time"} or any(map(states_a_condition, call.args))
        case promql.VectorSelector() as selector:
            return selector.name == "ALERTS"
    return False


class _Reader:
    def __init__(self, series: Series, reading: Reading) -> None:
        self._series, self._reading = series, reading
        self._births = False
        """Inside `counter > 0 unless counter offset …`, or `… and count_over_time(counter[…]) < …`: what sees that one is born."""

    def shape(self, node: Any) -> Shape:
        match node:
            case promql.NumberLiteral():
                return number(node.val)
            case promql.VectorSelector():
                return self._selected(node)
            case promql.MatrixSelector():
                return self._selected(node.vector_selector)
            case promql.Call():
                return self._called(node)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.BinaryExpr():
                return self._combined(node)
            case promql.UnaryExpr():
                inner = self.shape(node.expr)
                return replace(inner, low=-inner.high, high=-inner.low)
            case promql.ParenExpr():
                return self.shape(node.expr)
            case promql.SubqueryExpr():
                return replace(self.shape(node.expr), always=False)
        return Shape()

    def _selected(self, node: Any) -> Shape:
        matchers = [matcher for matcher in node.matchers.matchers if matcher.name != "__name__"]
        if not node.name and len(matchers) < len(node.matchers.matchers):
            return self._selected_by_name(node)
        if node.name not in self._series:
            self._reading.faults.append(f"{node.name or 'a selector without a name'} is no series of costwarden and is not recorded")
            return UNKNOWN
        known = self._series[node.name]
        if node.offset and node.offset < timedelta():
            self._reading.faults.append(f"reads {node.name} of the future, by a negative offset")
        pinned = {}
        for matcher in matchers:
            if matcher.name not in known:
                self._reading.faults.append(f"{node.name} has no label {matcher.name}")
                continue
            listed = matcher.value.split("|") if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe) else [matcher.value]
            for value in listed:
                # What is no plain word is a pattern, and may match anything.
                if value.replace("_", "").replace("-", "").isalnum() and not can_be(node.name, matcher.name, value):
                    self._reading.faults.append(f"{node.name} never has {matcher.name}={value}")
            if matcher.op == promql.MatchOp.Equal:
                pinned[matcher.name] = matcher.value
        gone = frozenset(label for label, value in pinned.items() if not value)
        return replace(known, labels=known.labels - gone, pinned=known.pinned | pinned, shifted=bool(node.offset))

    def _selected_by_name(self, node: Any) -> Shape:
        """Of `{__name__=~"one|other"}`, where each name must be known."""
        listed = [name for matcher in node.matchers.matchers if matcher.name == "__name__" for name in matcher.value.split("|")]
        self._reading.faults += [f"{name} is no series of costwarden and is not recorded" for name in listed if name not in self._series]
        shapes = [self._series[name] for name in listed if name in self._series]
        if len(shapes) < len(listed):
            return UNKNOWN
        labels: Labels = frozenset().union(*(shape.labels for shape in shapes))
        unknown = {matcher.name for matcher in node.matchers.matchers} - labels - {"__name__"}
        self._reading.faults += [f"{'|'.join(listed)} has no label {label}" for label in sorted(unknown)]
        return Shape(labels, min((shape.kind for shape in shapes), key=("counter", "gauge").index))

    def _called(self, node: Any) -> Shape:
        arguments = [self.shape(argument) for argument in node.args]
        self._reading.faults += [*functions.faults(node, arguments), *functions.made_equal(node, arguments)]
        self._reading.in_alerts += functions.short_ranges(node)
        return functions.result(node, arguments)

    def _aggregated(self, node: Any) -> Shape:
        inner = self.shape(node.expr)
        if node.param is not None:
            self.shape(node.param)
        sign, modifier = str(node.op), node.modifier
        named = frozenset(modifier.labels) if modifier else frozenset()
        if modifier is None:
            labels = inner.labels if sign in _KEEPS_LABELS else frozenset()
        elif modifier.type == promql.AggModifierType.Without:
            anywhere: Labels = inner.labels.union(*(shape.labels for shape in self._series.values()))
            # `without` may name what is only sometimes there: a target label, a label that is already gone.
            self._reading.faults += [f"aggregates without {label}, which no series has" for label in sorted(named - anywhere)]
            if len(one := named & _TARGET) == 1 and inner.labels >= _TARGET:
                (other,) = _TARGET - one
                self._reading.faults.append(f"aggregates without {min(one)} and keeps {other}: they are of one target")
            labels = inner.labels - named
        else:
            if inner.known:
                self._reading.faults += [f"aggregates by {label}, which is not there" for label in sorted(named - inner.labels)]
            labels = named
        low, high = _AGGREGATED.get(sign, (inner.low, inner.high))
        if sign == "sum":
            low, high = (low if low >= 0 else -math.inf), (high if high <= 0 else math.inf)
        kind = inner.kind if inner.kind == "gauge" or sign in _AGGREGATED else "counters"
        pinned = {label: value for label, value in inner.pinned.items() if label in labels}
        return replace(inner, labels=labels, kind="gauge" if sign in _AGGREGATED else kind, low=low, high=high, pinned=pinned)

    def _combined(self, node: Any) -> Shape:
        sign = str(node.op)
        births, self._births = self._births, self._births or (sign in {"and", "unless"} and _looks_back(node.rhs))
        left, right = self.shape(node.lhs), self.shape(node.rhs)
        self._births = births
        if left.kind != "scalar" and right.kind != "scalar":
            self._reading.faults += matching.faults(node, left, right)
            labels, pinned = matching.result(node, left, right), left.pinned | right.pinned
        else:
            labels, pinned = left.labels | right.labels, dict(left.pinned | right.pinned)
        pinned = {label: value for label, value in pinned.items() if label in labels}
        known, divisors = left.known and right.known, left.divisors | right.divisors
        if sign in SETS:
            shape = self._of_sets(node, left, right)
        elif sign in COMPARISONS:
            shape = self._compared(node, left, right)
        else:
            shape = self._calculated(node, left, right)
            divisors |= shape.divisors
        if sign == "and":
            divisors -= _known_not_to_be_zero(node.rhs)
        return replace(shape, labels=labels, pinned=pinned, known=known, divisors=divisors)

    def _of_sets(self, node: Any, left: Shape, right: Shape) -> Shape:
        if str(node.op) != "or":
            if contradiction := _contradiction(node, left, right):
                self._reading.faults.append(contradiction)
            return replace(left, always=left.always and right.always and str(node.op) == "and")
        beside = node.rhs
        if isinstance(beside, promql.BinaryExpr) and str(beside.op) not in SETS and any(map(_is_filler, (beside.lhs, beside.rhs))):
            self._reading.faults.append(f"`or` binds weaker than `{beside.op}`: {write(beside)} is only the other case")
        elif right.always and left.labels:
            self._reading.in_alerts.append("`or vector(…)` adds a series without labels beside those that have some")
        counts = left if left.kind != "gauge" else right
        return Shape(
            kind=counts.kind,
            low=min(left.low, right.low),
            high=max(left.high, right.high),
            zero=left.may_be_zero or right.may_be_zero,
            always=left.always or right.always,
        )

    def _compared(self, node: Any, left: Shape, right: Shape) -> Shape:
        sign, text = str(node.op), write(bare(node))[1:-1]
        if write(bare(node.lhs)) == write(bare(node.rhs)):
            self._reading.faults.append(f"`{text}` compares a series with itself")
        elif any(isinstance(side, promql.NumberLiteral) and math.isnan(side.val) for side in (bare(node.lhs), bare(node.rhs))):
            self._reading.faults.append(f"`{text}` compares with NaN, which nothing is equal to, above or below")
        elif left.known and right.known:
            if never(sign, left, right):
                self._reading.faults.append(f"`{text}` can never be true")
            elif ever(sign, left, right):
                self._reading.faults.append(f"`{text}` can never be false")
        for side, shape in ((node.lhs, left), (node.rhs, right)):
            if shape.kind in {"counter", "counters"} and not self._births:
                self._reading.in_alerts.append(f"compares the counter {', '.join(names(side))} without a rate: it only ever rises")
        self._reading.numbers += [shape.low for shape in (left, right) if shape.is_constant]
        if node.modifier and node.modifier.return_bool:
            return Shape(low=0, high=1, always=left.always and right.always)
        passed, other, sign = (right, left, MIRRORED[sign]) if left.kind == "scalar" else (left, right, sign)
        low, high, zero = narrowed(sign, passed, other)
        return replace(passed, low=low, high=high, zero=zero, always=False)

    def _calculated(self, node: Any, left: Shape, right: Shape) -> Shape:
        sign = str(node.op)
        kinds = {left.kind, right.kind}
        if sign == "-" and kinds <= {"counter", "counters"} and left.shifted != right.shifted:
            self._reading.faults.append(f"subtracts {write(bare(node.rhs))} from its counter: only increase() knows of restarts")
        low, high = calculated(sign, left, right)
        if kinds == {"scalar"}:
            kind = "scalar"
        else:
            kind = "counters" if kinds <= {"counter", "counters", "scalar"} and sign in {"+", "-", "*"} else "gauge"
        divisors = frozenset({write(bare(node.rhs))} if sign in {"/", "%"} and right.may_be_zero and right.known else ())
        zero = not (sign in {"*", "/"} and not left.may_be_zero and (sign == "/" or not right.may_be_zero))
        return Shape(
            kind=kind,
            low=low,
            high=high,
            zero=zero,
            always=left.always and right.always,
            shifted=left.shifted and right.shifted,
            divisors=divisors,
        )


def _contradiction(node: Any, left: Shape, right: Shape) -> str:
    """Why nothing can be left of `and` or `unless`; empty where something can."""
    sign, one, other = str(node.op), bare(node.lhs), bare(node.rhs)
    if sign == "unless":
        if write(one) == write(other):
            return f"`{write(one)} unless` itself is nothing"
        modifier = node.modifier
        if right.always and modifier and modifier.matching and not modifier.matching.labels:
            return f"`unless {write(other)}`, which is always there, takes all away"
        return ""
    if node.modifier and node.modifier.matching:
        return ""  # Of some series, and of others.
    comparisons = [part for part in (one, other) if isinstance(part, promql.BinaryExpr) and str(part.op) in COMPARISONS]
    if len(comparisons) < 2 or write(bare(one.lhs)) != write(bare(other.lhs)) or not isinstance(bare(other.rhs), promql.NumberLiteral):
        return ""
    if left.known and never(str(other.op), left, number(bare(other.rhs).val)):
        return f"`{write(one)}` and `{write(other)}` are never both true"
    return ""


def _looks_back(node: Any) -> bool:
    found = []

    def visit(part: Any) -> bool:
        found.append(isinstance(part, promql.VectorSelector) and bool(part.offset))
        found.append(isinstance(part, promql.Call) and part.func.name == "count_over_time")
        return True

    promql.walk(node, visit)
    return any(found)


def _is_filler(node: Any) -> bool:
    inner = bare(node)
    return isinstance(inner, promql.Call) and inner.func.name == "vector"


def _known_not_to_be_zero(node: Any) -> frozenset[str]:
    """What the conditions of `and …` keep from being 0, as text."""
    inner = bare(node)
    if not isinstance(inner, promql.BinaryExpr):
        return frozenset()
    sign, limit = str(inner.op), bare(inner.rhs)
    if sign == "and":
        return _known_not_to_be_zero(inner.lhs) | _known_not_to_be_zero(inner.rhs)
    if not isinstance(limit, promql.NumberLiteral):
        return frozenset()
    guards = (sign in {">", "!="} and limit.val >= 0) or (sign == ">=" and limit.val > 0)
    return frozenset({write(bare(inner.lhs))} if guards and (sign != "!=" or limit.val == 0) else ())
