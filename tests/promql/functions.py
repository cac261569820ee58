"""What PromQL's functions make of a series, and which series they cannot be asked of."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import promql_parser as promql

from promql.shape import Shape, number
from promql.text import bare, names

_OF_COUNTERS = {"rate", "irate", "increase", "resets"}
_OF_GAUGES = {"deriv", "delta", "idelta", "predict_linear"}
_OF_A_PERIOD = re.compile(r"_(daily|monthly|previous_day|weekday|window|month_start)_")
_TWO_SCRAPES = timedelta(minutes=2)
_SAME_RANGE = {"max_over_time", "min_over_time", "last_over_time", "avg_over_time", "quantile_over_time", "sort", "sort_desc"}
_RANGES = {
    "count_over_time": (1, math.inf),
    "present_over_time": (1, 1),
    "absent": (1, 1),
    "absent_over_time": (1, 1),
    "sgn": (-1, 1),
    "hour": (0, 23),
    "minute": (0, 59),
    "day_of_month": (1, 31),
    "day_of_week": (0, 6),
    "day_of_year": (1, 366),
    "days_in_month": (28, 31),
    "month": (1, 12),
} | dict.fromkeys(
    ("rate", "irate", "increase", "resets", "changes", "abs", "sqrt", "exp", "year", "timestamp", "stddev_over_time"), (0, math.inf)
)


def faults(node: Any, arguments: Sequence[Shape]) -> Iterator[str]:
    """What a call asks of a series that cannot answer it."""
    function = node.func.name
    ranged = [
        (given, shape)
        for given, shape in zip(node.args, arguments, strict=True)
        if isinstance(given, promql.MatrixSelector | promql.SubqueryExpr)
    ]
    for given, shape in ranged:
        if not shape.known:
            continue
        name = ", ".join(names(given))
        if function in _OF_COUNTERS and shape.kind == "gauge":
            yield f"takes the {function} of the gauge {name}"
        if function in _OF_COUNTERS and shape.kind == "counters":
            yield f"takes the {function} of counters already added up ({name}): one restart looks like a jump"
        if function in _OF_GAUGES and shape.kind != "gauge":
            yield f"takes the {function} of the counter {name}: a restart makes it fall"
        daily = isinstance(given, promql.SubqueryExpr) and given.step is not None and given.step >= timedelta(days=1)
        if function == "sum_over_time" and not daily:
            yield f"adds up the samples of {name}: it counts how often they were scraped"
        if function == "avg_over_time" and _OF_A_PERIOD.search(name) and not daily:
            yield f"averages the samples of {name}, a figure of a whole period: it weighs how often they were scraped"


def made_equal(node: Any, arguments: Sequence[Shape]) -> Iterator[str]:
    """`label_replace` that fills a label in, of series that may differ in it alone: two with the same labels end the whole query."""
    if node.func.name != "label_replace" or not arguments[0].known:
        return
    label, source, pattern = node.args[1].val, node.args[3].val, node.args[4].val
    if label == source and not pattern and label in arguments[0] and "instance" not in arguments[0] and not _copies(node.args[0], label):
        yield f"fills in {label} where nothing else tells apart the series that have it and those that lack it: two become one, an error"


def _copies(node: Any, label: str) -> bool:
    inner = bare(node)
    is_copy = isinstance(inner, promql.Call) and inner.func.name == "label_replace" and inner.args[3].val == label
    return is_copy and inner.args[1].val != label


def short_ranges(node: Any) -> Iterator[str]:
    """Ranges that hold one sample, or none, where costwarden is scraped once a minute."""
    if node.func.name in _OF_COUNTERS | _OF_GAUGES:
        for given in node.args:
            if isinstance(given, promql.MatrixSelector) and given.range < _TWO_SCRAPES:
                text = promql.display_duration(given.range)
                yield f"takes the {node.func.name} of {', '.join(names(given))} over {text}: scraped each minute, it has no two samples"


def result(node: Any, arguments: Sequence[Shape]) -> Shape:
    """What a call gives."""
    function = node.func.name
    vectors = [shape for given, shape in zip(node.args, arguments, strict=True) if not isinstance(given, promql.StringLiteral)]
    if function == "time":
        return Shape(kind="scalar", low=0, zero=False, always=True)
    if function == "pi":
        return number(math.pi)
    if not arguments:  # hour(), month() … of now
        return Shape(always=True, low=_RANGES.get(function, (-math.inf,))[0], high=_RANGES.get(function, (0, math.inf))[1])
    # quantile_over_time and histogram_quantile have a number first.
    first = next((shape for shape in vectors if shape.kind != "scalar"), vectors[0])
    if function in {"vector", "scalar"}:
        return replace(
            first, labels=frozenset(), kind="scalar" if function == "scalar" else "gauge", always=first.always or function == "scalar"
        )
    if function in {"absent", "absent_over_time"}:
        return Shape(frozenset(first.pinned), low=1, high=1, pinned=first.pinned, known=first.known)
    shape = replace(first, kind="gauge")
    if function in _RANGES:
        low, high = _RANGES[function]
        return replace(shape, low=low, high=high, zero=True)
    if function in _SAME_RANGE:
        return shape
    if function in {"label_replace", "label_join"}:
        return replace(first, labels=first.labels | {node.args[1].val})
    if function in {"clamp_min", "clamp_max", "clamp"}:
        limits = [shape for shape in vectors[1:] if shape.is_constant]
        low = limits[0].low if function != "clamp_max" and limits else shape.low
        high = limits[-1].low if function != "clamp_min" and limits else shape.high
        return replace(shape, low=max(low, shape.low), high=min(high, shape.high), zero=True)
    positive = shape.low >= 0 and function in {"floor", "ceil", "round", "sum_over_time", "exp"}
    return replace(shape, low=0 if positive else -math.inf, high=math.inf, zero=True)
