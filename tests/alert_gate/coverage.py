"""Which kinds of tests each alert has, and whether a test does what its name says."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from alert_gate import reasons
from alert_gate.samples import Input, inputs, seconds

KINDS = ("fires", "silent", "boundary", "missing", "death", "mixed")
"""What every alert needs a test of."""
MONEY_KINDS = ("rollover", "samples")
"""What alerts on money need beside these, but for those in `reasons.NO_ROLLOVER` and `reasons.NO_SAMPLES`."""

_KIND = "|".join((*KINDS, *MONEY_KINDS))
TEST_NAME = re.compile(rf"(?P<alert>[A-Z]\w+) (?P<kinds>({_KIND})(, ({_KIND}))*): \S.*|(recording|document): \S.*", re.DOTALL)
"""How a test is named: the alert, which kinds of case it is, and what happens, as a sentence."""

_DAY = 86400
_TIME_OF_A_PERIOD = re.compile(r"_(period_start|reset|daily)_timestamp_seconds$")
_MONTH_ENDS = [31 * _DAY, 59 * _DAY, 90 * _DAY, 120 * _DAY]  # promtool's clock begins at 1970-01-01


def coverage_faults(alerts: Mapping[str, frozenset[str]], money: Iterable[str], tests: Sequence[Any]) -> list[str]:
    """What the tests lack: a kind of an alert, a proper name, what a name promises.

    `alerts` are those that exist, each with the series that it reads; `money` are those that need the kinds `MONEY_KINDS`.
    """
    faults = []
    seen: set[tuple[str, str]] = set()
    for test in tests:
        name = test.get("name", "")
        parsed = TEST_NAME.fullmatch(name)
        if parsed is None:
            faults.append(f"{name!r} is no name of a test: `<Alert> <kinds>: <sentence>`, kinds of {', '.join((*KINDS, *MONEY_KINDS))}")
        elif alert := parsed["alert"]:
            kinds = parsed["kinds"].split(", ")
            faults += [f"{name!r} {fault}" for fault in _unkept(kinds, alert, test, alerts.get(alert, frozenset()))]
            seen |= {(alert, kind) for kind in kinds}
    # fmt: off
    excused = {(alert, kind) for kind, table in zip(MONEY_KINDS, (reasons.NO_ROLLOVER, reasons.NO_SAMPLES), strict=True) for alert in table}
    # fmt: on
    wanted = {(alert, kind) for alert in alerts for kind in KINDS} | {(alert, kind) for alert in money for kind in MONEY_KINDS} - excused
    faults += [f"{alert} has no test of the kind `{kind}`" for alert, kind in sorted(wanted - seen)]
    faults += [f"{alert} is tested and does not exist" for alert in sorted({alert for alert, _ in seen} - alerts.keys())]
    return faults


def _unkept(kinds: Sequence[str], alert: str, test: Any, read: frozenset[str]) -> Iterator[str]:
    cases = [case for case in test.get("alert_rule_test", []) if case["alertname"] == alert]
    if not cases:
        yield f"never asks for {alert}"
        return
    expected = [len(case.get("exp_alerts") or []) for case in cases]
    times = [seconds(case["eval_time"]) for case in cases]
    given = inputs(test)
    components = _most_components(given)
    if "fires" in kinds and not any(expected):
        yield "expects no alert, and its name says `fires`"
    if "silent" in kinds and (all(expected) or (kinds == ["silent"] and any(expected))):
        yield "expects an alert, and its name says `silent`"
    # `silent, boundary` and `fires, boundary` say which side they are about; the mutants tell if the edge is sharp.
    if kinds == ["boundary"] and len(set(expected)) == 1 and not 0 < expected[0] < components:
        yield "expects the same on both sides of the boundary"
    if "mixed" in kinds and (components < 2 or not (any(expected) or "silent" in kinds)):
        yield "has no two components, or expects no alert, and its name says `mixed`"
    if "death" in kinds and not any(_ends(series, max(times)) for series in given):
        yield "has no series that ends before it is asked, and its name says `death`"
    if "missing" in kinds and not _lacks_something(given, read):
        yield "has all that the alert reads, of every component, and its name says `missing`"
    if "rollover" in kinds and not _turns(given, times):
        yield "has no period that turns: nothing falls, no start or reset moves, no month ends"
    if "samples" in kinds and not any(series.interval <= _DAY / 2 and series.end - series.begin >= _DAY for series in given):
        yield "has no series of several samples a day over a day"


def _of_metrics(given: Iterable[Input]) -> dict[str, list[Input]]:
    metrics: dict[str, list[Input]] = {}
    for series in given:
        metrics.setdefault(series.metric, []).append(series)
    return metrics


def _most_components(given: Iterable[Input]) -> int:
    return max((len(group) for group in _of_metrics(given).values()), default=0)


def _lacks_something(given: Sequence[Input], read: frozenset[str]) -> bool:
    """Whether a series that the alert reads is not there, has gaps, or lacks a component (an instance, a budget) that another one has."""
    metrics = _of_metrics(given)
    if any(name not in metrics for name in read) or any(series.has_gaps for series in given):
        return True
    for label in {label for series in given for label in series.labels}:
        everywhere = {series.labels[label] for series in given if label in series.labels}
        if any(0 < len(here) < len(everywhere) for here in ({one.labels.get(label) for one in metrics[name]} - {None} for name in read)):
            return True
    return False


def _ends(series: Input, last: float) -> bool:
    """Whether a series stops, for a while or for good, or Prometheus sees that its target does."""
    return series.end < last or series.has_gaps or (series.metric == "up" and series.falls)


def _turns(given: Sequence[Input], times: Sequence[float]) -> bool:
    first = min([*times, *(series.begin for series in given)])
    last = max([*times, *(series.end for series in given)])
    if any(first < end <= last for end in _MONTH_ENDS) or any(series.falls for series in given):
        return True
    # What is only there where something was reached is gone in the new period, while the rest goes on.
    gone = len({series.end for series in given}) > 1
    return gone or any(series.rises and _TIME_OF_A_PERIOD.search(series.metric) for series in given)
