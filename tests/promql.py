"""Which series a PromQL expression reads and which labels its result has: what the checks of rules and dashboards stand on."""

from collections.abc import Iterable, Mapping
from typing import Any

import promql_parser as promql

from costwarden.metrics.catalogue import FAMILIES

Labels = frozenset[str]
Series = Mapping[str, Labels]
"""The labels that each known series may have."""

TARGET: Labels = frozenset({"job", "instance", "pod"})
"""What Prometheus adds to everything that it scrapes."""

_KEEPS_LABELS = {"topk", "bottomk"}
_SET_OPERATORS = {"and", "or", "unless"}


def exported() -> dict[str, Labels]:
    """What costwarden exports, and the series that Prometheus makes by itself."""
    alert = frozenset({"alertname", "alertstate", "severity", "category", "team", "budget", "tenant_id", "provider", "source"})
    return {name: frozenset(family.labels) | TARGET for name, family in FAMILIES.items()} | {"up": TARGET, "ALERTS": alert}


def with_recorded(documents: Iterable[Any], series: Series) -> dict[str, Labels]:
    """`series` and what the rule files record, in the order in which they do."""
    known = dict(series)
    for document in documents:
        for group in document["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    labels, _ = analyse(rule["expr"], known)
                    known[rule["record"]] = labels | known.get(rule["record"], frozenset()) | rule.get("labels", {}).keys()
    return known


def analyse(expression: str, series: Series) -> tuple[Labels, list[str]]:
    """The labels that the result may have, and what is wrong with the expression: a sentence for each unknown series or label."""
    try:
        tree = promql.parse(expression)
    except ValueError as error:
        return frozenset(), [f"is no PromQL: {error}"]
    faults: list[str] = []
    return _labels(tree, series, faults), faults


def _labels(node: Any, series: Series, faults: list[str]) -> Labels:
    match node:
        case promql.VectorSelector():
            return _selected(node, series, faults)
        case promql.MatrixSelector():
            return _selected(node.vector_selector, series, faults)
        case promql.Call():
            return frozenset().union(*(_labels(argument, series, faults) for argument in node.args))
        case promql.AggregateExpr():
            return _aggregated(node, series, faults)
        case promql.BinaryExpr():
            return _combined(node, series, faults)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _labels(node.expr, series, faults)
    return frozenset()


def _selected(node: Any, series: Series, faults: list[str]) -> Labels:
    if node.name not in series:
        faults.append(f"{node.name or 'a selector without a name'} is no series of costwarden and is not recorded")
        return frozenset()
    known = series[node.name]
    faults += [f"{node.name} has no label {matcher.name}" for matcher in node.matchers.matchers if matcher.name not in known]
    return known


def _aggregated(node: Any, series: Series, faults: list[str]) -> Labels:
    inner = _labels(node.expr, series, faults)
    if node.modifier is None:
        return inner if str(node.op) in _KEEPS_LABELS else frozenset()
    named = frozenset(node.modifier.labels)
    # `without` may name what is only sometimes there: a target label, a label that is already gone.
    if node.modifier.type == promql.AggModifierType.Without:
        return inner - named
    faults += [f"aggregates by {label}, which is not there" for label in sorted(named - inner)]
    return named


def _combined(node: Any, series: Series, faults: list[str]) -> Labels:
    left, right = _labels(node.lhs, series, faults), _labels(node.rhs, series, faults)
    modifier = node.modifier
    matching = modifier.matching if modifier else None
    on = frozenset(matching.labels) if matching and matching.type == promql.LabelModifierType.Include else None
    ignored = frozenset(matching.labels) if matching and on is None else frozenset()
    faults += [f"matches on {label}, which is not on both sides" for label in sorted((on or frozenset()) - (left & right))]
    faults += [f"ignores {label}, which is on neither side" for label in sorted(ignored - (left | right))]
    if str(node.op) == "or":
        return left | right
    if str(node.op) in _SET_OPERATORS:
        return left
    if _is_scalar(node.lhs) or _is_scalar(node.rhs):
        return left | right
    match modifier.card if modifier else None:
        case promql.VectorMatchCardinality.ManyToOne:
            return left | frozenset(modifier.group_labels)
        case promql.VectorMatchCardinality.OneToMany:
            return right | frozenset(modifier.group_labels)
    return on if on is not None else left - ignored


def _is_scalar(node: Any) -> bool:
    match node:
        case promql.NumberLiteral():
            return True
        case promql.Call():
            return node.func.name in {"time", "scalar", "pi"}
        case promql.ParenExpr() | promql.UnaryExpr():
            return _is_scalar(node.expr)
        case promql.BinaryExpr():
            return _is_scalar(node.lhs) and _is_scalar(node.rhs)
    return False
