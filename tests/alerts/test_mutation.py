"""The cases bite: each small change of each rule is noticed by one of them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_gate.dependencies import name_of
from alert_gate.mutation import Bench, changes
from alert_gate.shipped import TEST_DOCUMENTS, in_order

BENCH = Bench(in_order(), list(TEST_DOCUMENTS.values()))
EQUIVALENT: dict[str, dict[str, str]] = yaml.safe_load((Path(__file__).parent / "equivalent_mutants.yaml").read_text())


@pytest.mark.parametrize("rule", BENCH.rules, ids=name_of)
def test_each_small_change_of_a_rule_is_noticed_by_its_cases(rule: Any, promtool: Any, tmp_path: Path) -> None:
    assert changes(rule) or name_of(rule) in EQUIVALENT, "nothing in it can be changed: it decides nothing"
    assert set(BENCH.survivors(name_of(rule), promtool, tmp_path)) == set(EQUIVALENT.get(name_of(rule), {}))


def test_what_changes_nothing_is_said_with_its_reason() -> None:
    known = {name_of(rule) for rule in BENCH.rules}
    assert EQUIVALENT.keys() <= known
    assert all(len(reason) > 20 for table in EQUIVALENT.values() for reason in table.values())


# --- the bench itself ------------------------------------------------------------------------------------------------------------

RULE = {"alert": "SpentTooMuch", "expr": "spent > 10", "keep_firing_for": "2m"}
DOUBLED = {"record": "level:spent:doubled", "expr": "spent * 2"}
READER = {"alert": "SpentTooMuch", "expr": "level:spent:doubled > 20"}


def cases(values: str, *expected: tuple[str, bool], name: str = "SpentTooMuch fires: it does", **more: Any) -> Any:
    asked = [
        {"eval_time": time, "alertname": "SpentTooMuch", "exp_alerts": [{"exp_labels": {}}] if there else []} for time, there in expected
    ]
    test = {"name": name, "interval": "1m", "input_series": [{"series": "spent", "values": values}], "alert_rule_test": asked, **more}
    return {"evaluation_interval": "1m", "rule_files": ["somewhere"], "tests": [test]}


def survivors(rules: list[Any], document: Any, promtool: Any, folder: Path, name: str = "SpentTooMuch") -> list[str]:
    return Bench(rules, [document]).survivors(name, promtool, folder)


def test_sharp_cases_notice_every_change(promtool: Any, tmp_path: Path) -> None:
    sharp = cases("10 10.005 10.005 9.995 9.995 9.995 9.995", ("0m", False), ("1m", True), ("4m", True), ("5m", False))
    assert survivors([RULE], sharp, promtool, tmp_path) == []


def test_blunt_cases_are_told_what_they_miss(promtool: Any, tmp_path: Path) -> None:
    blunt = cases("5 20 20", ("0m", False), ("2m", True))
    assert survivors([RULE], blunt, promtool, tmp_path) == [
        "`>` became `>=` after spent",
        "10 raised by 1 ‰",
        "10 lowered by 1 ‰",
        "keep_firing_for dropped",
        "keep_firing_for halved",
        "keep_firing_for doubled",
    ]


def test_a_rule_without_cases_is_told_so(promtool: Any, tmp_path: Path) -> None:
    document = cases("5 20 20", ("2m", True), name="SpentTooLittle fires: of another")
    assert len(survivors([RULE], document, promtool, tmp_path)) == len(changes(RULE))


def test_a_record_is_held_by_the_alert_that_reads_it(promtool: Any, tmp_path: Path) -> None:
    sharp = cases("10 10.005", ("0m", False), ("1m", True))
    assert survivors([DOUBLED, READER], sharp, promtool, tmp_path, "level:spent:doubled") == []
    blunt = cases("5 20", ("0m", False), ("1m", True))
    assert survivors([DOUBLED, READER], blunt, promtool, tmp_path, "level:spent:doubled") == ["2 raised by 1 ‰", "2 lowered by 1 ‰"]


def test_a_record_is_held_by_cases_of_its_own(promtool: Any, tmp_path: Path) -> None:
    asked = [{"expr": "level:spent:doubled", "eval_time": "0m", "exp_samples": [{"labels": "level:spent:doubled", "value": 20}]}]
    document = cases("10", name="recording: it is", promql_expr_test=asked)
    assert survivors([DOUBLED], document, promtool, tmp_path, "level:spent:doubled") == []


def test_a_change_that_cannot_be_evaluated_is_noticed_and_hides_no_other(promtool: Any, tmp_path: Path) -> None:
    rule = {"alert": "SpentTooMuch", "expr": "sum by (a) (spent) > on (a) sum by (a) (limit)"}
    document = cases("20", ("1m", True))
    series = [{"series": f'{name}{{a="{a}"}}', "values": values} for a in "12" for name, values in (("spent", "20x3"), ("limit", "10x3"))]
    document["tests"][0]["input_series"] = series
    document["tests"][0]["alert_rule_test"][0]["exp_alerts"] = [{"exp_labels": {"a": a}} for a in "12"]
    assert survivors([rule], document, promtool, tmp_path) == ["`>` became `>=` after sum by (a) (spent)"]


def test_cases_that_fail_as_they_are_prove_nothing(promtool: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the cases of SpentTooMuch fail as they are"):
        survivors([RULE], cases("5 20", ("1m", False)), promtool, tmp_path)
