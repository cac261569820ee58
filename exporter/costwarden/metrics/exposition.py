"""Samples to bytes, for Prometheus's text format 0.0.4 and OpenMetrics 1.0.

The two differ in metadata and in the last line alone, so the lines of a metric are rendered once for both. Formats:
https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import msgspec

from costwarden.metrics.bounds import Labels, Sample, bound
from costwarden.metrics.catalogue import Family

# Lines between two pauses: about 0.1 ms of work, so that a request that arrives meanwhile does not wait for the whole page.
SLICE = 250

OPENMETRICS_END = b"# EOF\n"


class Rendered(msgspec.Struct, frozen=True):
    """The lines of one metric, and what the next rendering of it can use again."""

    family: Family
    lines: bytes
    prefixes: dict[Labels, str]
    """By label values, what is before the value of each series: `name{label="value"} `."""
    overflow: int
    """Series above the limit."""


def render(family: Family, samples: Iterable[Sample], limit: int, previous: Rendered | None, pause: Callable[[], Any]) -> Rendered:
    """The lines of `samples`, of which at most `limit` keep a series of their own. `pause` is called between slices.

    Raises `ValueError` for label values that do not fit the family, and for two samples of one series, of which Prometheus would keep
    either.
    """
    known = previous.prefixes if previous is not None and previous.family == family else {}
    kept, overflow = bound(family, _gather(samples, pause), limit, known, pause)
    prefixes: dict[Labels, str] = {}
    slices = []
    for start in range(0, len(kept), SLICE):
        lines = []
        for labels, value in kept[start : start + SLICE]:
            prefix = prefixes[labels] = known.get(labels) or series_prefix(family, labels)
            lines.append(f"{prefix}{float(value)!r}\n")
        slices.append("".join(lines).encode())
        pause()
    if len(prefixes) != len(kept):
        raise ValueError(f"{family.name}: {len(kept) - len(prefixes)} series are given twice")
    return Rendered(family, b"".join(slices), prefixes, overflow)


def _gather(samples: Iterable[Sample], pause: Callable[[], Any]) -> list[Sample]:
    if isinstance(samples, list):
        return samples
    rest = iter(samples)
    gathered: list[Sample] = []
    while batch := list(islice(rest, SLICE)):
        gathered += batch
        pause()
    return gathered


def series_prefix(family: Family, values: Labels) -> str:
    """`name{label="value",…} ` with escaped values; labels with an empty value are left out."""
    if len(values) != len(family.labels):
        raise ValueError(f"{family.name} has the labels {family.labels}, not {values!r}")
    pairs = [f'{label}="{_escaped(value)}"' for label, value in zip(family.labels, values, strict=True) if value]
    prefix = f"{family.name}{{{','.join(pairs)}}} " if pairs else f"{family.name} "
    # A lone surrogate (broken JSON from a client) has no UTF-8 form, and must not cost the page.
    return prefix if prefix.isascii() else prefix.encode("utf-8", "replace").decode()


def _escaped(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def text_metadata(family: Family) -> bytes:
    """HELP and TYPE lines of the text format."""
    return f"# HELP {family.name} {_escaped(family.help, quotes=False)}\n# TYPE {family.name} {family.kind}\n".encode()


def openmetrics_metadata(family: Family) -> bytes:
    """TYPE, UNIT and HELP lines of OpenMetrics."""
    name, unit = family.base_name, family.unit
    unit_line = f"# UNIT {name} {unit}\n" if unit else ""
    return f"# TYPE {name} {family.kind}\n{unit_line}# HELP {name} {_escaped(family.help)}\n".encode()
