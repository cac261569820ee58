"""The series that rules and dashboards may read: what costwarden exports, what the rules record, and a few of others."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from costwarden.budgets.settings import PeriodKind
from costwarden.metrics.catalogue import FAMILIES
from costwarden.metrics.family import Family
from costwarden.metrics.health import _OPEN_STATES
from costwarden.metrics.sources import _PART_STATES
from costwarden.metrics.windows import WINDOWS
from costwarden.model import DIMENSIONS, TOKEN_CLASSES
from costwarden.remediation.guard import REASONS
from costwarden.remediation.settings import Mode
from costwarden.sources.settings.attribution import Target
from promql.shape import Labels, Shape

Series = Mapping[str, Shape]

TARGET: Labels = frozenset({"job", "instance", "pod"})
"""What Prometheus adds to everything that it scrapes."""

_ALERT = frozenset({"alertname", "alertstate", "severity", "category", "team", "budget", "period", "tenant_id", "provider", "source"})
_CONTAINER = TARGET | {"namespace", "pod", "container", "node"}

OTHERS: dict[str, Shape] = {
    "up": Shape(TARGET, low=0, high=1),
    "ALERTS": Shape(_ALERT, low=1, high=1),
    "ALERTS_FOR_STATE": Shape(_ALERT - {"alertstate"}, low=0),
    # kubelet's cAdvisor and kube-state-metrics.
    "container_cpu_usage_seconds_total": Shape(_CONTAINER | {"cpu", "id", "image", "name"}, "counter", low=0),
    "kube_pod_container_resource_requests": Shape(_CONTAINER | {"resource", "unit", "uid"}, low=0),
}
"""Series of others that a rule may read."""

_NEVER_NEGATIVE = ("_seconds", "_bytes", "_ratio", "_limit_usd", "_minimum_usd", "_rows", "_length", "_parts", "_fds", "_deviation_usd")


_A_WALL_CLOCK = 1e9
"""2001-09-09 in seconds since 1970: what is lower is no moment of ours."""


def _one_of(values: Iterable[str]) -> str:
    return "|".join(values)


# A pattern for each label that has a closed set of values: of a metric, or (without a metric) of all that have the label.
_CLOSED = {
    ("", "month"): r"current|previous|\d{4}-(0[1-9]|1[0-2])",
    ("", "window"): _one_of(WINDOWS),
    ("", "mode"): _one_of(get_args(Mode)),
    ("", "target"): _one_of(get_args(Target)),
    ("", "type"): _one_of(name.removesuffix("_tokens") for name in TOKEN_CLASSES),
    ("", "alertstate"): "pending|firing",
    ("up", "job"): "costwarden",
    ("kube_pod_container_resource_requests", "resource"): "cpu|memory",
    ("kube_pod_container_resource_requests", "unit"): "core|byte",
    ("ai_requests_total", "outcome"): "success|failure",
    ("ai_budget_checks_total", "outcome"): "allowed|denied|failed",
    ("costwarden_source_parts", "state"): _one_of(_PART_STATES),
    ("costwarden_reservations", "state"): "open|unsettled",
    ("costwarden_remediation_queue_length", "state"): _one_of(_OPEN_STATES),
    ("costwarden_remediation_runs_total", "outcome"): "succeeded|failed|timed_out|stopped|planned|nothing_to_do|refused|interrupted",
    ("costwarden_remediation_refused_total", "reason"): _one_of(REASONS),
    ("costwarden_notifications_total", "outcome"): "delivered|failed|retried",
    ("costwarden_notification_queue_length", "state"): "queued|retrying",
    ("costwarden_guardrail_spend_usd", "severity"): "warning|high|critical|emergency",
    ("costwarden_guardrail_threshold_usd", "severity"): "warning|high|critical|emergency",
    ("costwarden_guardrail_breached", "severity"): "warning|high|critical|emergency",
    **{(name, "period"): _one_of(get_args(PeriodKind)) for name in FAMILIES if name.startswith("ai_budget_")},
}

# Of what one label says, others follow: matched on the first, the others can make no second series.
_FOLLOWS: dict[str, Labels] = {
    "budget": frozenset({"action", "threshold", "provider", "sub_account_id", "region", "environment", *DIMENSIONS}),
    "guardrail": frozenset({"severity", "action", *DIMENSIONS}),
    "severity": frozenset({"action"}),
}
_ONLY_ONE: Labels = frozenset({"job", "action", "threshold"})
"""A budget has one playbook and one highest threshold, and the rules are about one job."""


def can_be(metric: str, label: str, value: str) -> bool:
    """Whether a series can have this value of a label; an absent label is an empty value."""
    pattern = _CLOSED.get((metric, label)) or _CLOSED.get(("", label))
    return value == "" or pattern is None or re.fullmatch(pattern, value) is not None


def that_tell_apart(labels: Labels, matched: Labels) -> Labels:
    """Those of `labels` by which several series can differ that agree in the `matched` ones."""
    return labels - matched - _ONLY_ONE - frozenset().union(*(_FOLLOWS.get(label, frozenset()) for label in matched & labels))


def exported() -> dict[str, Shape]:
    """What costwarden exports, and the series of others that rules may read."""
    return {name: _shape(family) for name, family in FAMILIES.items()} | OTHERS


def _shape(family: Family) -> Shape:
    low, high = -math.inf, math.inf
    # The help says of a flag that it is "1 where … else 0", and of an information that it is "1, with …" or "1 for each …".
    if family.help.startswith("1 where "):
        low, high = 0, 1
    elif family.help.startswith(("1, with ", "1 for each ")):
        low, high = 1, 1
    elif family.name.endswith("_timestamp_seconds"):
        low = _A_WALL_CLOCK
    elif family.kind == "counter" or family.name.endswith(_NEVER_NEGATIVE):
        low = 0
    return Shape(frozenset(family.labels) | TARGET, family.kind, low, high)


def with_recorded(documents: Iterable[Any], series: Series) -> dict[str, Shape]:
    """`series` and what the rule files record, whichever of them is read first."""
    from promql.reading import read

    known = dict(series)
    rules = [rule for document in documents for group in document["groups"] for rule in group["rules"] if "record" in rule]
    while ready := [rule for rule in rules if read(rule["expr"], known).shape.known] or rules:
        for rule in ready:
            labels = rule.get("labels", {})
            before = known.get(rule["record"])
            shape = read(rule["expr"], known).shape
            known[rule["record"]] = Shape(
                shape.labels | labels.keys() | (before.labels if before else frozenset()),
                shape.kind if shape.kind != "scalar" else "gauge",
                min(shape.low, before.low) if before else shape.low,
                max(shape.high, before.high) if before else shape.high,
                shape.may_be_zero or bool(before and before.may_be_zero),
                divisors=shape.divisors,
            )
        rules = [rule for rule in rules if rule not in ready]
    return known
