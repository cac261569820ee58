"""The gate that every alert must pass: complete, true to what costwarden exports, and tested in all four ways."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promql import Series, analyse

LABELS = ("severity", "category", "team")
ANNOTATIONS = ("summary", "description", "runbook_url", "dashboard_url")
SEVERITIES = ("info", "warning", "critical")
KINDS = ("fires", "silent", "boundary", "missing")

TEST_NAME = re.compile(rf"(?P<alert>[A-Z]\w+) (?P<kind>{'|'.join(KINDS)}): \S.*|(recording|document): \S.*")
"""How a test is named: the alert, what kind of case it is, and what happens, as a sentence."""

# A label is part of an alert's identity: with a value in it, every evaluation would end one alert and begin another.
_VALUE = re.compile(r"\$value|\.Value|query|humanize|printf")


@dataclass(frozen=True)
class Surroundings:
    """What a rule file is held against."""

    version: str
    series: Series
    runbook: frozenset[str]
    """Anchors of the runbook's headings."""
    dashboards: frozenset[str]
    """Uids."""


def headings(markdown: str) -> frozenset[str]:
    """The anchors that GitHub gives the second-level headings of one word, as alerts are."""
    return frozenset(name.lower() for name in re.findall(r"^## (\w+)$", markdown, re.MULTILINE))


def rule_faults(path: Path, document: Any, around: Surroundings) -> list[str]:
    """What is wrong with a rule file: a sentence each."""
    stem = path.name.removesuffix(".rules.yaml")
    groups = document["groups"]
    faults = [f"{path.name}: the group is named {group['name']}, not {stem}" for group in groups if group["name"] != stem]
    rules = [rule for group in groups for rule in group["rules"]]
    marks = [rule["labels"] for rule in rules if rule.get("record") == "costwarden_rules_info"]
    if marks != [{"rules": stem, "version": around.version}]:
        faults.append(f"{path.name}: costwarden_rules_info says {marks}, not once rules {stem} and version {around.version}")
    for rule in rules:
        name = rule.get("alert") or rule["record"]
        labels, wrong = analyse(rule["expr"], around.series)
        faults += [f"{name}: {fault}" for fault in wrong]
        if "alert" in rule:
            faults += [f"{name}: {fault}" for fault in _alert_faults(rule, labels | rule.get("labels", {}).keys(), around)]
    return faults


def _alert_faults(rule: Any, known: frozenset[str], around: Surroundings) -> Iterable[str]:
    labels, annotations = rule.get("labels", {}), rule.get("annotations", {})
    yield from (f"lacks the label {label}" for label in LABELS if not labels.get(label))
    yield from (f"lacks the annotation {annotation}" for annotation in ANNOTATIONS if not annotations.get(annotation))
    yield from (f"has a value in the label {label}" for label, text in labels.items() if _VALUE.search(text))
    texts = [*labels.values(), *annotations.values()]
    named = {label for text in texts for label in re.findall(r"\$labels\.(\w+)", text)}
    yield from (f"writes the label {label}, which it never has" for label in sorted(named - known))
    if labels.get("severity", "info") not in SEVERITIES:
        yield f"has the severity {labels['severity']}"
    if labels.get("category", "finops") != "finops":
        yield f"has the category {labels['category']}, which no route knows"
    if "action" in labels:
        yield "names a playbook itself: only a limit's series may"
    if "action" in known and labels.get("severity") != "critical":
        yield "is not critical and could start a playbook"
    anchor = rule["alert"].lower()
    if annotations.get("runbook_url", f"#{anchor}").rpartition("#")[2] != anchor:
        yield "has the runbook_url of another alert"
    if anchor not in around.runbook:
        yield "has no heading in the runbook"
    dashboard = re.match(r"/d/([\w-]+)", annotations.get("dashboard_url", ""))
    if annotations.get("dashboard_url") and (dashboard is None or dashboard[1] not in around.dashboards):
        yield "links a dashboard that does not exist"


def coverage_faults(alerts: Iterable[str], tests: Sequence[Any]) -> list[str]:
    """What the tests lack: a kind of an alert, a proper name, an expectation that fits the kind."""
    faults = []
    seen: set[tuple[str, str]] = set()
    for test in tests:
        name = test.get("name", "")
        parsed = TEST_NAME.fullmatch(name)
        if parsed is None:
            faults.append(f"{name!r} is no name of a test: `<Alert> <{'|'.join(KINDS)}>: <sentence>`")
        elif alert := parsed["alert"]:
            expected = [case["exp_alerts"] for case in test.get("alert_rule_test", []) if case["alertname"] == alert]
            if _fits(parsed["kind"], expected):
                seen.add((alert, parsed["kind"]))
            else:
                faults.append(f"{name!r} does not expect what its name says")
    alerts = list(alerts)
    faults += [f"{alert} has no test of the kind `{kind}`" for alert in alerts for kind in KINDS if (alert, kind) not in seen]
    faults += [f"{alert} is tested and does not exist" for alert in sorted({alert for alert, _ in seen} - set(alerts))]
    return faults


def _fits(kind: str, expected: list[Any]) -> bool:
    if kind == "fires":
        return any(expected)
    if kind == "silent":
        return bool(expected) and not any(expected)
    return bool(expected)
