"""What the tests of dashboards share: panels and their queries, variables as Grafana puts them in, and the unit of a result."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "json").glob("*.json"))}

INTERVAL = "4m"
"""What Grafana makes of `$__rate_interval` where points lie a minute apart: four times the least interval of a query."""


class Query(NamedTuple):
    """A query of a panel; `column` is what a table names its figures, else empty."""

    uid: str
    panel: Any
    target: Any
    column: str

    @property
    def title(self) -> str:
        return f"{self.uid}: {self.panel['title']}{': ' + self.column if self.column else ''} {self.target['refId']}"

    @property
    def unit(self) -> str:
        """The unit that Grafana shows its figures in."""
        name = self.column or self.target["legendFormat"]
        for override in self.panel["fieldConfig"]["overrides"]:
            if override["matcher"]["options"] == name:
                for prop in override["properties"]:
                    if prop["id"] == "unit":
                        return str(prop["value"])
        return str(self.panel["fieldConfig"]["defaults"]["unit"])


def panels(uid: str) -> list[Any]:
    """The panels of a dashboard without its rows."""
    return [panel for panel in DASHBOARDS[uid]["panels"] if panel["type"] != "row"]


def queries() -> Iterator[Query]:
    """Every query of every panel of every dashboard."""
    for uid in DASHBOARDS:
        for panel in panels(uid):
            for target in panel["targets"]:
                yield Query(uid, panel, target, _column(panel, target))


def _column(panel: Any, target: Any) -> str:
    if panel["type"] != "table":
        return ""
    (organize,) = (found for found in panel["transformations"] if found["id"] == "organize")
    renamed = organize["options"]["renameByName"]
    return str(renamed["Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"])


def variables(uid: str) -> list[Any]:
    """The variables of a dashboard that a query fills."""
    return [variable for variable in DASHBOARDS[uid]["templating"]["list"] if variable["type"] == "query"]


def constants(uid: str) -> dict[str, str]:
    """Its hidden variables that never change."""
    return {found["name"]: found["query"] for found in DASHBOARDS[uid]["templating"]["list"] if found["type"] == "constant"}


def substituted(uid: str, text: str, chosen: Mapping[str, str | Sequence[str]] | None = None) -> str:
    """`text` as Grafana sends it: variables of `chosen` at one value or at several, the others at `All`."""
    values = {"__rate_interval": INTERVAL, **constants(uid)}
    every = {variable["name"]: variable["allValue"] for variable in variables(uid)}
    picked = {name: [value] if isinstance(value, str) else value for name, value in (chosen or {}).items()}

    def value(match: re.Match[str]) -> str:
        name, form = match[1] or match[2], match[3]
        if name in picked and name in every:
            assert form == "regex", f"{match[0]}: Grafana does not escape quotes in it"
            escaped = [escaped_for_regex(one) for one in picked[name]]
            return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"
        # What All stands for is put in as it is, whatever the format.
        return (values | every)[name]

    return re.sub(r"\$(?:(\w+)|\{(\w+):(\w+)\})", value, text)


def escaped_for_regex(value: str) -> str:
    """A value of a variable as Grafana's format `regex` writes it."""
    return re.sub(r"[\\^$*+?.()|\[\]{}/]", lambda match: "\\" + match[0], value)


# --- units ---------------------------------------------------------------------------------------------------------------------

SHOWN_AS = {
    "usd": {"currencyUSD"},
    "seconds": {"s"},
    "milliseconds since 1970": {"dateTimeFromNow"},
    "bytes": {"bytes", "decbytes"},
    "ratio": {"percentunit"},
    "times": {"none", "short"},
    "percent": {"percent"},
    "count": {"none", "short"},
    "a second": {"reqps", "ops", "short"},
    # A limit that is the same for ever.
    "number": {"none"},
}
"""The units of Grafana that fit a kind of figure."""

_SUFFIXES = {
    "_timestamp_seconds": "seconds since 1970",
    "_cpu_seconds_total": "seconds",
    "_usd_total": "usd",
    "_seconds": "seconds",
    "_usd": "usd",
    "_bytes": "bytes",
    "_ratio": "ratio",
    "_percentage_used": "percent",
}
_OPERATIONS = {"ratio": "ratio", "count": "count"}


def kind_of(expression: str) -> str:
    """What the figures of an expression are: dollars, seconds, a ratio, … by the names of the metrics and what is done with them."""
    return _kind(promql.parse(expression))


def _of_metric(name: str) -> str:
    if name == "ALERTS_FOR_STATE":
        return "seconds since 1970"
    level, colon, rest = name.partition(":")
    if colon:
        metric, _, operation = rest.partition(":")
        if operation.startswith("rate") or metric == "ai_cost_hourly":
            return "times"
        if operation in _OPERATIONS and not metric.endswith("_usd"):
            return _OPERATIONS[operation]
        return _of_metric(metric)
    return next((kind for suffix, kind in _SUFFIXES.items() if level.endswith(suffix)), "count")


def _kind(node: Any) -> str:
    match node:
        case promql.VectorSelector():
            return _of_metric(node.name)
        case promql.MatrixSelector():
            return _of_metric(node.vector_selector.name)
        case promql.NumberLiteral():
            return "number"
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _kind(node.expr)
        case promql.AggregateExpr():
            inner = _kind(node.expr)
            if str(node.op) == "count":
                return "count"
            return "ratio" if (str(node.op), inner) == ("avg", "count") else inner
        case promql.Call():
            return _of_call(node)
        case promql.BinaryExpr():
            return _of_pair(node)
    raise AssertionError(f"no kind is known of {node}")


def _of_call(node: Any) -> str:
    name = node.func.name
    if name == "time":
        return "seconds since 1970"
    inner = _kind(node.args[0])
    if name in ("rate", "irate"):
        return {"count": "a second", "seconds": "ratio"}[inner]
    return inner


def _of_pair(node: Any) -> str:
    left, right, operator = _kind(node.lhs), _kind(node.rhs), str(node.op)
    if node.modifier and node.modifier.return_bool:
        return "count"
    match operator, left, right:
        case "-", "seconds since 1970", "seconds since 1970":
            return "seconds"
        case "*", "number", "seconds since 1970":
            return "milliseconds since 1970"
        case "/", "ratio", "ratio":
            return "times"
        case "/", _, _ if left == right:
            return "ratio"
        case "*" | "/", _, "count" | "ratio" | "number":
            return left
        case "*", "number" | "count", _:
            return right
        case "+" | "-" | "or", "number", _:
            return right
        case "+" | "-" | "or", _, _:
            assert right in (left, "number"), f"adds {right} to {left}"
            return left
    return left
