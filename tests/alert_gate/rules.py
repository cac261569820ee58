"""What is wrong with rule files: a sentence each, which begins with the file or the rule."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
from promql import Labels, Reading, Series, names, read
from promql.reading import states_a_condition
from promql.series import OTHERS

from alert_gate import reasons, texts

LABELS = ("severity", "category", "team")
ANNOTATIONS = ("summary", "description", "condition", "escalation", "runbook_url", "dashboard_url")
SEVERITIES = ("info", "warning", "critical")
MONEY = ("budget", "burn", "spend", "anomaly")
"""Rule files that are about money, not about a process: no alert of theirs carries the scrape target."""
GUARDRAILS = "CostGuardrailBreached"
"""How the alerts begin that may start a playbook without being critical: their guardrail names it."""


@dataclass(frozen=True)
class Surroundings:
    """What a rule file is held against."""

    version: str
    series: Series
    runbook: Mapping[str, str]
    """Chapters by the anchor of their heading."""
    dashboards: Mapping[str, frozenset[str]]
    """Variables by uid."""
    numbers: Mapping[tuple[str, float], str] = field(default_factory=lambda: reasons.NUMBERS)
    divisors: Mapping[str, str] = field(default_factory=lambda: reasons.DIVISORS)


def chapters(markdown: str) -> dict[str, str]:
    """The chapters under second-level headings of one word, as alerts are, by the anchor that GitHub gives them."""
    parts = re.split(r"^## (\w+)$", markdown, flags=re.MULTILINE)
    return {name.lower(): re.split(r"^## ", body, flags=re.MULTILINE)[0] for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def rules_of(document: Any) -> list[Any]:
    """The rules of a file, of all its groups."""
    return [rule for group in document["groups"] for rule in group["rules"]]


def label_names(rule: Any, series: Series) -> Labels:
    """The labels that what a rule makes may have."""
    return read(rule["expr"], series).shape.labels | rule.get("labels", {}).keys()


def names_twice(documents: Mapping[Path, Any]) -> list[str]:
    """Alerts and records that stand in more than one place."""
    made = Counter[tuple[str, str]]()
    for document in documents.values():
        for rule in rules_of(document):
            made[rule.get("alert") or rule["record"], repr(sorted(rule.get("labels", {}).items())) if "record" in rule else ""] += 1
    return [f"{name}: stands {count} times in the rule files" for (name, _), count in made.items() if count > 1]


def rule_faults(path: Path, document: Any, around: Surroundings) -> list[str]:
    """What is wrong with a rule file: a sentence each."""
    stem = path.name.removesuffix(".rules.yaml")
    faults = [f"{path.name}: the group is named {group['name']}, not {stem}" for group in document["groups"] if group["name"] != stem]
    rules = rules_of(document)
    marks = [rule["labels"] for rule in rules if rule.get("record") == "costwarden_rules_info"]
    if marks != [{"rules": stem, "version": around.version}]:
        faults.append(f"{path.name}: costwarden_rules_info says {marks}, not once rules {stem} and version {around.version}")
    for rule in rules:
        reading = read(rule["expr"], around.series)
        found = list(reading.faults)
        if "alert" in rule:
            found += [*expression_faults(rule, reading, around), *_alert_faults(rule, reading, around, stem)]
        faults += [f"{rule.get('alert') or rule['record']}: {fault}" for fault in dict.fromkeys(found)]
    return faults


def expression_faults(rule: Any, reading: Reading, around: Surroundings) -> Iterator[str]:
    """What keeps an alert from firing when it should, or only when it should: a sentence each."""
    yield from reading.in_alerts
    if not reading.shape.known:
        return
    if reading.shape.always:
        yield "is always there: no data can end it"
    elif not states_a_condition(promql_parser.parse(rule["expr"])):
        yield "states no condition that filters: it fires whatever the value is"
    for number in reading.numbers:
        if number not in {0, 1} and math.isfinite(number) and (rule["alert"], number) not in around.numbers:
            yield f"compares with the number {number:g}: a limit is a series"
    for divisor in sorted(reading.shape.divisors):
        if not around.divisors.keys() & set(names(promql_parser.parse(divisor))):
            yield f"divides by {divisor}, which can be 0"


def _alert_faults(rule: Any, reading: Reading, around: Surroundings, stem: str) -> Iterable[str]:
    labels, annotations = rule.get("labels", {}), rule.get("annotations", {})
    known = reading.shape.labels | labels.keys()
    yield from (f"lacks the label {label}" for label in LABELS if not labels.get(label))
    yield from (f"lacks the annotation {annotation}" for annotation in ANNOTATIONS if not annotations.get(annotation))
    yield from texts.faults(labels, annotations, known if reading.shape.known else None, around.series)
    if labels.get("severity", "info") not in SEVERITIES:
        yield f"has the severity {labels['severity']}"
    if labels.get("category", "finops") != "finops":
        yield f"has the category {labels['category']}, which no route knows"
    if "action" in labels:
        yield "names a playbook itself: only a limit's series may"
    if "action" in known and labels.get("severity") != "critical" and not rule["alert"].startswith(GUARDRAILS):
        yield "is not critical and could start a playbook"
    if reading.shape.known:
        yield from _overwritten(rule, reading)
    yield from _duration_faults(rule)
    if stem in MONEY and reading.shape.known and rule["alert"] not in reasons.KEEPS_ITS_TARGET:
        yield from (f"keeps {label}: a restart would end it and begin another" for label in ("instance", "pod") if label in known)
    yield from _link_faults(rule["alert"].lower(), annotations, around)


def _overwritten(rule: Any, reading: Reading) -> Iterator[str]:
    """Labels of the result that the alert writes itself: series that differ in them alone become one labelset, and Prometheus gives up
    the whole rule, for every series."""
    filled = _filled_in(promql_parser.parse(rule["expr"]))
    for label, text in rule.get("labels", {}).items():
        if label not in reading.shape.labels:
            continue
        default = re.fullmatch(r"{{ with \$labels\.(\w+) }}{{ \. }}{{ else }}(.*){{ end }}", text)
        if default is None or default[1] != label:
            yield f"overwrites the label {label} of its result: two series that differ in it alone are an error"
        elif (label, default[2]) not in filled:
            yield f"gives a result without {label} the one of {default[2]}: beside a series that has it, an error"


def _filled_in(node: Any) -> set[tuple[str, str]]:
    """(label, value) of each `label_replace(…, label, value, label, "")`: where it was absent it is there."""
    found = set()

    def visit(part: Any) -> bool:
        if isinstance(part, promql_parser.Call) and part.func.name == "label_replace":
            label, value, source, pattern = (argument.val for argument in part.args[1:])
            if label == source and not pattern:
                found.add((label, value))
        return True

    promql_parser.walk(node, visit)
    return found


def _duration_faults(rule: Any) -> Iterator[str]:
    if "for" not in rule and "keep_firing_for" not in rule:
        yield "has neither `for` nor `keep_firing_for`"
    own = [name for name in names(promql_parser.parse(rule["expr"])) if name not in OTHERS] if _parses(rule["expr"]) else []
    if own and "keep_firing_for" not in rule and "absent" not in rule["expr"] and rule["alert"] not in reasons.ENDS_WITH_THE_EXPORTER:
        yield "ends when costwarden dies: it has no `keep_firing_for`"


def _parses(expression: str) -> bool:
    try:
        promql_parser.parse(expression)
    except ValueError:
        return False
    return True


def _link_faults(anchor: str, annotations: Mapping[str, str], around: Surroundings) -> Iterator[str]:
    if annotations.get("runbook_url", f"#{anchor}").rpartition("#")[2] != anchor:
        yield "has the runbook_url of another alert"
    if anchor not in around.runbook:
        yield "has no heading in the runbook"
    url = annotations.get("dashboard_url", "")
    dashboard = re.match(r"/d/([\w-]+)", url)
    if url and (dashboard is None or dashboard[1] not in around.dashboards):
        yield "links a dashboard that does not exist"
    elif dashboard:
        unknown = set(re.findall(r"var-(\w+)=", url)) - around.dashboards[dashboard[1]]
        yield from (f"sets the variable {name}, which {dashboard[1]} does not have" for name in sorted(unknown))


def chapter_faults(alerts: Iterable[str], runbook: Mapping[str, str]) -> list[str]:
    """What the chapters of the runbook lack: three things to do, how to silence, how to undo; and chapters of no alert."""
    faults = []
    for alert in alerts:
        chapter = runbook.get(alert.lower(), "")
        steps = re.findall(r"^(\d)\. ", chapter, re.MULTILINE)
        wanted = {
            "Look": "**Look**" in chapter and steps[:3] == ["1", "2", "3"],
            "Silence": "Silence:" in chapter,
            "Undo": "Undo:" in chapter,
        }
        faults += [f"{alert}: its chapter in the runbook has no {part}" for part, there in wanted.items() if not there]
    return faults
