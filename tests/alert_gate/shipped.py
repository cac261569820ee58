"""The rules, cases, runbook and dashboards of this project, as the gate takes them."""

import json
from pathlib import Path
from typing import Any

import promql_parser
from promql import exported, names, with_recorded

from alert_gate.documents import load
from alert_gate.rules import MONEY, Surroundings, chapters, rules_of
from costwarden import __version__

PROJECT = Path(__file__).parents[2]
RULES = PROJECT / "alerts"
CASES = PROJECT / "tests" / "alerts"
RUNBOOK = RULES / "README.md"

RULE_FILES = sorted(RULES.glob("*.rules.yaml"))
TEST_FILES = sorted(CASES.glob("*.test.yaml"))
DOCUMENTS: dict[Path, Any] = {path: load(path.read_text()) for path in RULE_FILES}
TEST_DOCUMENTS: dict[Path, Any] = {path: load(path.read_text()) for path in TEST_FILES}
ALERTS: dict[str, Any] = {rule["alert"]: rule for document in DOCUMENTS.values() for rule in rules_of(document) if "alert" in rule}
FILE_OF: dict[str, Path] = {rule["alert"]: path for path, document in DOCUMENTS.items() for rule in rules_of(document) if "alert" in rule}
OF_MONEY = [alert for alert, path in FILE_OF.items() if path.name.removesuffix(".rules.yaml") in MONEY]

AROUND = Surroundings(
    version=__version__,
    series=with_recorded(DOCUMENTS.values(), exported()),
    runbook=chapters(RUNBOOK.read_text()),
    dashboards={
        path.stem: frozenset(variable["name"] for variable in json.loads(path.read_text())["templating"]["list"])
        for path in (PROJECT / "dashboards" / "json").glob("*.json")
    },
)


def read_by(alert: str) -> frozenset[str]:
    """The series of an alert that are not recorded: what its cases have to give."""
    recorded = {rule["record"]: rule for document in DOCUMENTS.values() for rule in rules_of(document) if "record" in rule}
    found: set[str] = set()
    left = set(names(promql_parser.parse(ALERTS[alert]["expr"])))
    seen: set[str] = set()
    while left:
        name = left.pop()
        seen.add(name)
        if name in recorded:
            left |= set(names(promql_parser.parse(recorded[name]["expr"]))) - seen
        else:
            found.add(name)
    return frozenset(found)


def in_order() -> list[Any]:
    """All rules, each after those that it reads."""
    left = [rule for document in DOCUMENTS.values() for rule in rules_of(document)]
    done: list[Any] = []
    while left:
        waiting = {rule["record"] for rule in left if "record" in rule}
        ready = [rule for rule in left if not waiting & set(names(promql_parser.parse(rule["expr"]))) - {rule.get("record")}]
        if not ready:
            raise ValueError(f"{sorted(waiting)} read each other")
        done += ready
        left = [rule for rule in left if rule not in ready]
    return done
