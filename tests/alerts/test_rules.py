"""The shipped rules under promtool, which runs *.test.yaml beside this file, and under the gate."""

from pathlib import Path
from typing import Any

import pytest
from alert_gate import reasons
from alert_gate.coverage import coverage_faults
from alert_gate.long_cases import without_idle_rules
from alert_gate.rules import names_twice, rule_faults, rules_of
from alert_gate.shipped import ALERTS, AROUND, DOCUMENTS, OF_MONEY, RULE_FILES, TEST_DOCUMENTS, TEST_FILES, read_by
from promql import names, read
from promql_parser import parse


def test_promtool_accepts_every_rule_file(promtool: Any) -> None:
    checked = promtool("check", "rules", *RULE_FILES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_alerts_fire_where_they_must_and_nowhere_else(promtool: Any, tmp_path: Path, path: Path) -> None:
    tested = promtool("test", "rules", *without_idle_rules(path, tmp_path))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_every_rule_is_complete_and_true_to_the_catalogue(path: Path) -> None:
    assert rule_faults(path, DOCUMENTS[path], AROUND) == []


def test_every_rule_has_a_name_of_its_own() -> None:
    assert names_twice(DOCUMENTS) == []


def test_every_alert_has_every_kind_of_test() -> None:
    tests = [test for document in TEST_DOCUMENTS.values() for test in document["tests"]]
    assert coverage_faults({alert: read_by(alert) for alert in ALERTS}, OF_MONEY, tests) == []


def test_every_exception_is_needed_and_says_why() -> None:
    tables = (
        reasons.NUMBERS,
        reasons.DIVISORS,
        reasons.ENDS_WITH_THE_EXPORTER,
        reasons.KEEPS_ITS_TARGET,
        reasons.NO_ROLLOVER,
        reasons.NO_SAMPLES,
    )
    assert all(len(reason) > 20 for table in tables for reason in table.values())
    compared = {(alert, number) for alert, rule in ALERTS.items() for number in read(rule["expr"], AROUND.series).numbers}
    assert reasons.NUMBERS.keys() <= compared
    divided = {divisor for rule in ALERTS.values() for divisor in read(rule["expr"], AROUND.series).shape.divisors}
    assert reasons.DIVISORS.keys() <= {name for divisor in divided for name in names(parse(divisor))}
    excused = reasons.ENDS_WITH_THE_EXPORTER.keys() | reasons.KEEPS_ITS_TARGET.keys()
    assert {alert for alert in excused if alert not in ALERTS} == set()
    without = {
        (table_name, alert) for table_name, table in (("rollover", reasons.NO_ROLLOVER), ("samples", reasons.NO_SAMPLES)) for alert in table
    }
    assert without & {(kind, alert) for kind, alert in _tested()} == set()
    assert {alert for _, alert in without} <= set(OF_MONEY)


def _tested() -> set[tuple[str, str]]:
    tests = [test["name"].partition(":")[0] for document in TEST_DOCUMENTS.values() for test in document["tests"]]
    return {(kind, name.split(" ")[0]) for name in tests for kind in name.partition(" ")[2].split(", ")}


def test_the_rules_of_each_file_are_one_group() -> None:
    """Rules of a group are evaluated one after another: what a group records, its alerts read fresh."""
    for path, document in DOCUMENTS.items():
        assert len(document["groups"]) == 1, path.name
        assert len(rules_of(document)) > 1, path.name
