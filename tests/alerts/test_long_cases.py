"""Cases that last long ask all that they asked, though promtool does not evaluate every rule all the time."""

from pathlib import Path
from typing import Any

import pytest
from alert_gate.documents import dump, load
from alert_gate.long_cases import LONG, without_idle_rules
from alert_gate.samples import ASKED, evaluations
from alert_gate.shipped import TEST_DOCUMENTS, TEST_FILES

DOUBLED = {"record": "level:spent:doubled", "expr": "spent * 2"}
ALERT = {"alert": "SpentTooMuch", "expr": "level:spent:doubled > 20"}
IDLE = {"alert": "SpentTooLittle", "expr": "spent < 1"}
# Of two series that differ in `a` alone it makes one: an error.
BROKEN = {"alert": "SpentByNobody", "expr": 'label_replace(spent, "a", "", "", "") > 0'}
ALL = {"record": "alerts:active:count", "expr": "count(ALERTS)"}


def written(folder: Path, rules: list[Any], *tests: Any) -> Path:
    (folder / "own.rules.yaml").write_text(dump({"groups": [{"name": "own", "rules": rules}]}))
    path = folder / "own.test.yaml"
    path.write_text(dump({"rule_files": ["own.rules.yaml"], "evaluation_interval": "1m", "tests": list(tests)}))
    return path


def a_test(minutes: int, *, fires: bool = True, name: str = "SpentTooMuch fires: it does", **more: Any) -> Any:
    series = [{"series": f'spent{{a="{a}"}}', "values": f"{value}x{minutes}"} for a, value in (("1", 11), ("2", 10))]
    asked = [{"eval_time": f"{minutes}m", "alertname": "SpentTooMuch", "exp_alerts": [{"exp_labels": {"a": "1"}}] if fires else []}]
    return {"name": name, "interval": "1m", "input_series": series, "alert_rule_test": asked, **more}


def rules_of_each(paths: list[Path]) -> list[list[str]]:
    documents = [load(path.read_text()) for path in paths]
    files = [
        load((path.parent / name).read_text()) for path, document in zip(paths, documents, strict=True) for name in document["rule_files"]
    ]
    return [[rule.get("alert") or rule["record"] for group in file["groups"] for rule in group["rules"]] for file in files]


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_all_that_a_file_asks_is_asked(tmp_path: Path, path: Path) -> None:
    """Of the same series, with the same interval, at the same time, and the same is expected."""

    def alone(test: Any, part: str, case: Any) -> Any:
        return {key: value for key, value in test.items() if key not in dict(ASKED)} | {part: [case]}

    def cases(document: Any) -> list[str]:
        of = {key: value for key, value in document.items() if key not in {"tests", "rule_files", "group_eval_order"}}
        return [dump([of, alone(test, part, case)]) for test in document["tests"] for part, _ in ASKED for case in test.get(part, [])]

    given = {case for file in without_idle_rules(path, tmp_path) for case in cases(load(file.read_text()))}
    wanted = set(cases(TEST_DOCUMENTS[path]))
    assert wanted
    assert wanted <= given


def test_a_short_case_has_all_rules_and_a_long_one_those_that_it_reads(tmp_path: Path) -> None:
    path = written(tmp_path, [DOUBLED, ALERT, IDLE], a_test(LONG), a_test(LONG + 1))
    everything = ["level:spent:doubled", "SpentTooMuch", "SpentTooLittle"]
    assert rules_of_each(without_idle_rules(path, tmp_path)) == [everything, ["level:spent:doubled", "SpentTooMuch"], everything]


def test_what_reads_alerts_has_them_all(tmp_path: Path) -> None:
    asked = [{"expr": "alerts:active:count", "eval_time": "60m", "exp_samples": [{"labels": "alerts:active:count", "value": 1}]}]
    path = written(tmp_path, [DOUBLED, ALERT, IDLE, ALL], a_test(60, name="recording: it is", promql_expr_test=asked))
    everything = ["level:spent:doubled", "SpentTooMuch", "SpentTooLittle", "alerts:active:count"]
    assert rules_of_each(without_idle_rules(path, tmp_path)) == [everything, everything]


@pytest.mark.parametrize("minutes", [LONG, 10 * LONG])
def test_a_case_that_is_wrong_fails_however_long_it_is(promtool: Any, tmp_path: Path, minutes: int) -> None:
    right = without_idle_rules(written(tmp_path, [DOUBLED, ALERT, IDLE], a_test(minutes)), tmp_path)
    assert promtool("test", "rules", *right).returncode == 0
    wrong = without_idle_rules(written(tmp_path, [DOUBLED, ALERT, IDLE], a_test(minutes, fires=False)), tmp_path)
    tested = promtool("test", "rules", *wrong)
    assert tested.returncode == 1
    assert "alertname: SpentTooMuch" in tested.stdout + tested.stderr


@pytest.mark.parametrize("minutes", [LONG, 10 * LONG])
def test_a_rule_that_nobody_asks_for_and_that_cannot_be_evaluated_fails_the_case(promtool: Any, tmp_path: Path, minutes: int) -> None:
    tested = promtool("test", "rules", *without_idle_rules(written(tmp_path, [DOUBLED, ALERT, BROKEN], a_test(minutes)), tmp_path))
    assert tested.returncode == 1
    assert "rule: SpentByNobody" in tested.stdout + tested.stderr


def test_no_case_is_looked_at_with_all_rules_at_fewer_moments_than_a_short_one_may_be(tmp_path: Path) -> None:
    path = written(tmp_path, [DOUBLED, ALERT, IDLE], *(a_test(minutes) for minutes in (LONG + 1, 3 * LONG, 100 * LONG)))
    documents = [load(file.read_text()) for file in without_idle_rules(path, tmp_path)]
    seen = [evaluations(document, test) for document in documents for test in document["tests"]]
    assert seen[0::2] == [LONG + 1, 3 * LONG, 100 * LONG]
    assert all(LONG / 2 <= moments <= LONG for moments in seen[1::2])
