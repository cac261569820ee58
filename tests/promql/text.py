"""PromQL as text again: every operation in brackets, so that no part can bind otherwise than it did."""

import json
import math
from datetime import timedelta
from typing import Any

import promql_parser as promql

_MATCH = ((promql.MatchOp.Equal, "="), (promql.MatchOp.NotEqual, "!="), (promql.MatchOp.Re, "=~"), (promql.MatchOp.NotRe, "!~"))
_SIDE = ((promql.VectorMatchCardinality.ManyToOne, "group_left"), (promql.VectorMatchCardinality.OneToMany, "group_right"))


def bare(node: Any) -> Any:
    """What stands in the brackets, if it is brackets."""
    return bare(node.expr) if isinstance(node, promql.ParenExpr) else node


def names(node: Any) -> list[str]:
    """The series that an expression reads, in their order."""
    found: list[str] = []

    def visit(part: Any) -> bool:
        if isinstance(part, promql.VectorSelector):
            found.append(part.name or "")
        elif isinstance(part, promql.MatrixSelector):
            found.append(part.vector_selector.name or "")
        return True

    promql.walk(node, visit)
    return list(dict.fromkeys(found))


def write(node: Any) -> str:
    """The expression as text that means the same."""
    match node:
        case promql.BinaryExpr():
            return f"({write(bare(node.lhs))} {operator(node)} {write(bare(node.rhs))})"
        case promql.AggregateExpr():
            parameter = f"{write(node.param)}, " if node.param is not None else ""
            return f"{node.op}{grouping(node)} ({parameter}{inside(node.expr)})"
        case promql.Call():
            return f"{node.func.name}({', '.join(inside(argument) for argument in node.args)})"
        case promql.ParenExpr():
            return write(node.expr)
        case promql.SubqueryExpr():
            step = promql.display_duration(node.step) if node.step else ""
            return f"{write(node.expr)}[{promql.display_duration(node.range)}:{step}]{moved(node.offset)}"
        case promql.UnaryExpr():
            return f"(-{write(node.expr)})"
        case promql.MatrixSelector():
            selector = node.vector_selector
            return f"{selected(selector, selector.matchers.matchers)}[{promql.display_duration(node.range)}]{moved(selector.offset)}"
        case promql.VectorSelector():
            return selected(node, node.matchers.matchers) + moved(node.offset)
        case promql.NumberLiteral():
            if not math.isfinite(node.val):
                return "NaN" if math.isnan(node.val) else "Inf" if node.val > 0 else "-Inf"
            return f"{node.val:.17g}" if node.val != int(node.val) else f"{node.val:g}" if abs(node.val) < 1e6 else repr(node.val)
        case _:
            return str(node)


def inside(node: Any) -> str:
    """The text of what stands in the brackets of a call already."""
    text = write(bare(node))
    return text[1:-1] if isinstance(bare(node), promql.BinaryExpr) else text


def selected(node: Any, matchers: list[Any]) -> str:
    """A selector with these matchers."""
    written = [f"{matcher.name}{_sign(matcher)}{json.dumps(matcher.value, ensure_ascii=False)}" for matcher in matchers]
    return f"{node.name or ''}{{{', '.join(written)}}}" if matchers or not node.name else node.name


def _sign(matcher: Any) -> str:
    return next(sign for kind, sign in _MATCH if kind == matcher.op)


def moved(offset: timedelta | None) -> str:
    """`offset …`, or nothing."""
    if not offset:
        return ""
    return f" offset {'-' if offset < timedelta() else ''}{promql.display_duration(abs(offset))}"


def grouping(node: Any, labels: list[str] | None = None) -> str:
    """` by (…)` of an aggregation, with other labels where these are given."""
    if node.modifier is None:
        return ""
    word = "without" if node.modifier.type == promql.AggModifierType.Without else "by"
    return f" {word} ({', '.join(node.modifier.labels if labels is None else labels)})"


def operator(node: Any, sign: str = "") -> str:
    """The operator with what is matched on; another sign where one is given."""
    sign = sign or str(node.op)
    if (modifier := node.modifier) is None:
        return sign
    parts = [sign, *(["bool"] if modifier.return_bool else [])]
    if modifier.matching is not None:
        word = "on" if modifier.matching.type == promql.LabelModifierType.Include else "ignoring"
        parts.append(f"{word} ({', '.join(modifier.matching.labels)})")
    if side := next((word for card, word in _SIDE if card == modifier.card), ""):
        parts.append(f"{side} ({', '.join(modifier.group_labels or [])})")
    return " ".join(parts)
