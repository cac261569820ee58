"""Changes each rule in small ways and runs its cases on all the changed rules at once: each change must be noticed.

A changed rule gets a name of its own (`CloudCostSpike_m7`), and so does each rule that reads it. They stand in one rule file, and the
cases expect of every one what they expect of the original; promtool then says which of them differ. A series is loaded once for all.
"""

import copy
import math
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
from promql import mutants

from alert_gate.dependencies import Dependencies, Rule, name_of
from alert_gate.documents import dump
from alert_gate.samples import ASKED, evaluations

Promtool = Callable[..., subprocess.CompletedProcess[str]]

# What promtool says of a case that failed, and of a rule that cannot be evaluated.
_FAILED = re.compile(r"^\s*(alertname|rule|expr): (.*), time: ", re.MULTILINE)
_MARK = re.compile(r"_m(\d+)\b")


@dataclass(frozen=True)
class Change:
    """A changed rule."""

    what: str
    rule: Rule


def changes(rule: Rule) -> list[Change]:
    """All small changes of a rule: of its expression, of how long it waits, of how long it goes on."""
    found = [Change(mutant.change, {**rule, "expr": mutant.expression}) for mutant in mutants(rule["expr"])]
    for key in ("for", "keep_firing_for"):
        if key in rule:
            length = promql_parser.parse_duration(rule[key])
            found.append(Change(f"{key} dropped", {other: value for other, value in rule.items() if other != key}))
            found += [
                Change(f"{key} {word}", {**rule, key: f"{int(length.total_seconds() * factor)}s"})
                for word, factor in (("halved", 0.5), ("doubled", 2))
            ]
    return found


class Bench:
    """All rules, in an order in which each comes after those that it reads; and all test documents."""

    def __init__(self, rules: Iterable[Rule], documents: Sequence[Any]) -> None:
        self.rules = [rule for rule in rules if name_of(rule) != "costwarden_rules_info"]
        self._reads = Dependencies(self.rules)
        self._documents = documents

    def cases(self, name: str) -> list[Any]:
        """The test documents of a rule: of an alert its own tests, of a record also those of what reads it."""
        dependents = set(self._reads.dependents(name))
        documents = []
        for document in self._documents:
            tests = []
            for test in document["tests"]:
                asked = [case for case in test.get("promql_expr_test", []) if self._reads.mentioned([case["expr"]]) & dependents]
                alerts = [
                    case
                    for case in test.get("alert_rule_test", [])
                    if case["alertname"] in dependents and test["name"].startswith(case["alertname"] + " ")
                ]
                if asked or alerts:
                    tests.append({**test, "promql_expr_test": asked, "alert_rule_test": alerts})
            if tests:
                documents.append({**document, "tests": tests})
        return documents

    def survivors(self, name: str, promtool: Promtool, folder: Path) -> list[str]:
        """The changes of a rule that none of its cases notices.

        Raises `AssertionError` where the cases fail as they are, or promtool does not understand what it is given.
        """
        rule = next(rule for rule in self.rules if name_of(rule) == name)
        left = dict(enumerate(changes(rule)))
        # What a short case has noticed, the long ones (a month, minute by minute) are spared.
        for cases in _shortest_first(self.cases(name)):
            if left:
                left = self._unnoticed(name, left, cases, promtool, folder)
        return [change.what for change in left.values()]

    def _unnoticed(self, name: str, left: dict[int, Change], cases: Sequence[Any], promtool: Promtool, folder: Path) -> dict[int, Change]:
        broken = True
        while broken and left:
            ran = promtool("test", "rules", *self._written(name, left, cases, folder))
            said = [(kind, _MARK.search(what)) for kind, what in _FAILED.findall(ran.stdout + ran.stderr)]
            sound = all(mark for _, mark in said) and (said or ran.returncode == 0)
            assert sound, f"the cases of {name} fail as they are:\n{_without_blanks(ran.stdout + ran.stderr)[:4000]}"
            noticed = {int(mark[1]) for _, mark in said if mark}
            left = {number: change for number, change in left.items() if number not in noticed}
            # One that cannot be evaluated ends its test, and the others' results with it.
            broken = any(kind == "rule" for kind, _ in said)
        return left

    def _written(self, name: str, left: Mapping[int, Change], cases: Sequence[Any], folder: Path) -> list[Path]:
        dependents = self._reads.dependents(name)
        asked = self._reads.mentioned(
            case[key] for document in cases for test in document["tests"] for part, key in ASKED for case in test[part]
        )  # fmt: skip
        needed = self._reads.ancestors(asked | set(dependents))
        rules = [dict(rule) for rule in self.rules if name_of(rule) in needed]
        for number, change in left.items():
            changed = [change.rule if name_of(other) == name else other for other in self.rules if name_of(other) in dependents]
            rules += [_renamed(other, dependents, number) for other in changed]
        path = folder / "rules.yaml"
        path.write_text(dump({"groups": [{"name": "changed", "rules": rules}]}))
        paths = []
        for place, document in enumerate(cases):
            tests = [_multiplied(test, dependents, left) for test in document["tests"]]
            paths.append(folder / f"{place}.test.yaml")
            paths[-1].write_text(dump({**document, "rule_files": [path.name], "tests": tests}))
        return paths


_STEPS = (30, 60, 120, 240, 480, math.inf)
"""Evaluations up to which cases are run together, the shorter ones first."""


def _shortest_first(documents: Sequence[Any]) -> Iterator[list[Any]]:
    above = -1.0
    for limit in _STEPS:
        chosen = [
            {**document, "tests": [test for test in document["tests"] if above < evaluations(document, test) <= limit]}
            for document in documents
        ]
        if some := [document for document in chosen if document["tests"]]:
            yield some
        above = limit


def _suffixed(text: str, names: Iterable[str], number: int) -> str:
    return re.sub(rf"(?<![\w:])({'|'.join(map(re.escape, names))})(?![\w:])", rf"\1_m{number}", text)


def _renamed(rule: Rule, names: Sequence[str], number: int) -> Rule:
    changed = copy.deepcopy(dict(rule))
    changed["alert" if "alert" in rule else "record"] = f"{name_of(rule)}_m{number}"
    # An alert may be called as a label is: only what is recorded is read.
    recorded = [name for name in names if ":" in name or name.islower()]
    if recorded:
        changed["expr"] = _suffixed(rule["expr"], recorded, number)
        if "annotations" in rule:
            changed["annotations"] = {key: _suffixed(text, recorded, number) for key, text in rule["annotations"].items()}
    return changed


def _multiplied(test: Any, names: Sequence[str], numbers: Iterable[int]) -> Any:
    """The test, which expects of each changed rule what it expects of the original."""
    alerts = list(test["alert_rule_test"])
    asked = list(test["promql_expr_test"])
    for number in numbers:
        alerts += [{**case, "alertname": f"{case['alertname']}_m{number}"} for case in test["alert_rule_test"]]
        asked += list(_asked_of(test["promql_expr_test"], names, number))
    return {key: value for key, value in {**test, "alert_rule_test": alerts, "promql_expr_test": asked}.items() if value}


def _asked_of(cases: Iterable[Any], names: Sequence[str], number: int) -> Iterator[Any]:
    for case in cases:
        samples = [{**sample, "labels": _suffixed(sample["labels"], names, number)} for sample in case.get("exp_samples") or []]
        yield {**case, "expr": _suffixed(case["expr"], names, number), "exp_samples": samples}


def _without_blanks(said: str) -> str:
    return "\n".join(line for line in said.splitlines() if line.strip())
