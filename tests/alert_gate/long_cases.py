"""Cases as promtool is given them: those that last long without the rules that they do not ask for.

promtool evaluates every rule of a file at each interval, whatever a case asks for: a month of samples every 5 minutes, times thirty rules,
of which the case is about one. So a long case is given the rules that it asks for and those that these read, and proves all that it says.
A rule that cannot be evaluated (two results with the same labels) fails a case whichever it asks for. That goes by the series, not by how
often they are looked at: hence each long case a second time, with all rules of its files, at fewer moments.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alert_gate.dependencies import Dependencies, name_of
from alert_gate.documents import dump, load
from alert_gate.rules import rules_of
from alert_gate.samples import ASKED, evaluations, last_moment, seconds

LONG = 30
"""Evaluations above which a case is long, and about as many moments at which it is looked at with all rules."""

_OF_ALL_ALERTS = re.compile(r"\bALERTS(_FOR_STATE)?\b")


def without_idle_rules(path: Path, folder: Path) -> list[Path]:
    """Test documents, written to `folder`, that together ask all that the one at `path` asks, of the same rules."""
    document = load(path.read_text())
    files = {file: load(file.read_text()) for file in ((path.parent / name).resolve() for name in document["rule_files"])}
    # Else the order of the files is that of a map in Go, another one in each run. In Prometheus they do not wait for each other either.
    order = [group["name"] for rules in files.values() for group in rules["groups"]]
    document = {"group_eval_order": order, **document, "rule_files": [str(file) for file in files]}
    short = [test for test in document["tests"] if evaluations(document, test) <= LONG]
    made = [{**document, "tests": short}] if short else []
    for number, test in enumerate(test for test in document["tests"] if evaluations(document, test) > LONG):
        rules = folder / f"{number}.rules.yaml"
        rules.write_text(dump({"groups": _groups_asked_for(test, files)}))
        interval = f"{math.ceil(evaluations(document, test) / LONG) * seconds(document.get('evaluation_interval', '1m')):.0f}s"
        made.append({**document, "rule_files": [rules.name], "tests": [test]})
        made.append({**document, "evaluation_interval": interval, "tests": [_of_nothing(test)]})
    paths = []
    for number, one in enumerate(made):
        paths.append(folder / f"{path.name.removesuffix('.test.yaml')}_{number}.test.yaml")
        paths[-1].write_text(dump(one))
    return paths


def _groups_asked_for(test: Any, files: Mapping[Path, Any]) -> list[Any]:
    rules = [rule for document in files.values() for rule in rules_of(document)]
    reads = Dependencies(rules)
    asked = [case[key] for part, key in ASKED for case in test.get(part, [])]
    needed = reads.ancestors(reads.mentioned(asked))
    texts = [*asked, *(rule["expr"] for rule in rules if name_of(rule) in needed)]
    if any(map(_OF_ALL_ALERTS.search, texts)):
        needed |= set(map(name_of, rules))
    groups = [group for document in files.values() for group in document["groups"]]
    kept = [{**group, "rules": [rule for rule in group["rules"] if name_of(rule) in needed]} for group in groups]
    return [group for group in kept if group["rules"]]


def _of_nothing(test: Any) -> Any:
    """The test, which asks for no rule, and goes on for as long."""
    asked = {"expr": "vector(1)", "eval_time": f"{last_moment(test):.0f}s", "exp_samples": [{"labels": "{}", "value": 1}]}
    return {key: value for key, value in test.items() if key != "alert_rule_test"} | {"promql_expr_test": [asked]}
