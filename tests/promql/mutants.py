"""Small changes of an expression, each of which some test must notice."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import promql_parser as promql

from promql.text import bare, grouping, inside, moved, operator, selected, write

_OPERATORS = {
    ">": (">=", "<"),
    ">=": (">", "<="),
    "<": ("<=", ">"),
    "<=": ("<", ">="),
    "==": ("!=",),
    "!=": ("==",),
    "+": ("-",),
    "-": ("+",),
}
_TARGET = ("instance", "pod")
_SETS = {"and": ("unless",), "unless": ("and",), "or": ()}


class Mutant(NamedTuple):
    """One change: what it is, and the expression that it makes."""

    change: str
    expression: str


def mutants(expression: str) -> list[Mutant]:
    """The changes of `expression`: operators, sides of `and`, `or` and `unless`, numbers, labels of aggregations, matchers.

    Raises `ValueError` where it is no PromQL.
    """
    found: dict[str, Mutant] = {}
    said: Counter[str] = Counter()
    for change, text in _mutants(promql.parse(expression)):
        if text not in found:
            said[change] += 1
            found[text] = Mutant(f"{change} ({said[change]})" if said[change] > 1 else change, text)
    return list(found.values())


def _mutants(node: Any) -> Iterator[tuple[str, str]]:
    match node:
        case promql.ParenExpr():
            yield from _mutants(node.expr)
        case promql.BinaryExpr():
            yield from _of_operation(node)
        case promql.AggregateExpr():
            yield from _of_aggregation(node)
        case promql.Call():
            arguments = [inside(argument) for argument in node.args]
            for place, argument in enumerate(node.args):
                for change, text in _mutants(argument):
                    yield change, f"{node.func.name}({', '.join([*arguments[:place], text, *arguments[place + 1 :]])})"
        case promql.UnaryExpr():
            yield "`-` dropped", write(node.expr)
            yield from ((change, f"(-{text})") for change, text in _mutants(node.expr))
        case promql.SubqueryExpr():
            rest = write(node).removeprefix(write(node.expr))
            yield from ((change, f"({text}){rest}") for change, text in _mutants(node.expr))
        case promql.VectorSelector() | promql.MatrixSelector():
            yield from _of_selector(node)
        case promql.NumberLiteral() if node.val:
            yield f"{node.val:g} raised by 1 ‰", f"{node.val * 1.001:.17g}"
            yield f"{node.val:g} lowered by 1 ‰", f"{node.val * 0.999:.17g}"
        case promql.NumberLiteral():
            yield "0 raised to 1", "1"


def _of_operation(node: Any) -> Iterator[tuple[str, str]]:
    sign, left, right = str(node.op), write(bare(node.lhs)), write(bare(node.rhs))
    for other in _OPERATORS.get(sign, ()) + _SETS.get(sign, ()):
        yield f"`{sign}` became `{other}` after {_short(left)}", f"({left} {operator(node, other)} {right})"
    if sign in _SETS:
        yield f"`{sign} {_short(right)}` dropped", left
        # Without its left side, `unless` is another question.
        if sign != "unless":
            yield f"`{_short(left)} {sign}` dropped", right
    yield from ((change, f"({text} {operator(node)} {right})") for change, text in _mutants(node.lhs))
    yield from ((change, f"({left} {operator(node)} {text})") for change, text in _mutants(node.rhs))


def _of_aggregation(node: Any) -> Iterator[tuple[str, str]]:
    parameter = f"{write(node.param)}, " if node.param is not None else ""
    labels = list(node.modifier.labels) if node.modifier else []
    # The labels of a scrape target go together: the linter sees to it.
    target = [label for label in labels if label in _TARGET and " without " in grouping(node)]
    for dropped in [[label] for label in labels if label not in target] + ([target] if target else []):
        label, fewer = ", ".join(dropped), grouping(node, [other for other in labels if other not in dropped])
        yield (
            f"{label} dropped of `{node.op}{grouping(node)}` of {_short(inside(node.expr))}",
            f"{node.op}{fewer} ({parameter}{inside(node.expr)})",
        )
    yield from ((change, f"{node.op}{grouping(node)} ({parameter}{text})") for change, text in _mutants(node.expr))


def _of_selector(node: Any) -> Iterator[tuple[str, str]]:
    selector = node.vector_selector if isinstance(node, promql.MatrixSelector) else node
    rest = f"[{promql.display_duration(node.range)}]" if isinstance(node, promql.MatrixSelector) else ""
    matchers = list(selector.matchers.matchers)
    for matcher in matchers:
        fewer = [other for other in matchers if other is not matcher]
        if selector.name or fewer:
            yield f"{matcher.name} of {write(node)} dropped", selected(selector, fewer) + rest + moved(selector.offset)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]} … {text[-17:]}"
