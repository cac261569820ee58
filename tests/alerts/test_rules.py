"""The alert rules under promtool, and the gate that keeps them complete. `promtool` runs the cases in *.test.yaml beside this file."""

import copy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_gate import ANNOTATIONS, KINDS, LABELS, Surroundings, coverage_faults, headings, rule_faults
from promql import exported, with_recorded

from costwarden import __version__

TESTS = Path(__file__).parent
RULES = TESTS.parents[1] / "alerts"
DASHBOARDS = TESTS.parents[1] / "dashboards"
RULE_FILES = sorted(RULES.glob("*.rules.yaml"))
TEST_FILES = sorted(TESTS.glob("*.test.yaml"))

# Recording rules first: the others read what they record.
DOCUMENTS = {path: yaml.safe_load(path.read_text()) for path in sorted(RULE_FILES, key=lambda path: path.stem != "recording.rules")}
TEST_DOCUMENTS = [test for path in TEST_FILES for test in yaml.safe_load(path.read_text())["tests"]]
AROUND = Surroundings(
    version=__version__,
    series=with_recorded(DOCUMENTS.values(), exported()),
    runbook=headings((RULES / "README.md").read_text()),
    dashboards=frozenset(path.stem for path in DASHBOARDS.glob("*.jsonnet")),
)


def rules_of(document: Any) -> list[Any]:
    return [rule for group in document["groups"] for rule in group["rules"]]


ALERTS = [rule["alert"] for document in DOCUMENTS.values() for rule in rules_of(document) if "alert" in rule]


Promtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def promtool(tools: Any) -> Promtool:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([tools.promtool, *arguments], capture_output=True, text=True, check=False, timeout=60)

    return run


def test_promtool_accepts_every_rule_file(promtool: Promtool) -> None:
    checked = promtool("check", "rules", *RULE_FILES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_alerts_fire_where_they_must_and_nowhere_else(promtool: Promtool, path: Path) -> None:
    tested = promtool("test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


# --- the cases bite: each of these changes is seen by one of them --------------------------------------------------------------

CHANGES = [
    ("budget", ") > 0.8", ") >= 0.8"),
    ("budget", ") > 1\n", ") >= 1\n"),
    ("budget", "> ignoring (action) group_left ()", ">= ignoring (action) group_left ()"),
    ("budget", "ai_budget_spent_usd + ai_budget_unsettled_usd >=", "ai_budget_spent_usd + ai_budget_unsettled_usd >"),
    ("budget", "ai_budget_hard_limit_reached == 1", "ai_budget_hard_limit_reached == 2"),
    ("budget", "ai_budget_limit_usd > 0", "ai_budget_limit_usd"),
    ("budget", "max without (instance, pod, action)", "max without (instance, pod)"),
    ("budget", "max without (instance, pod) (", "max without (instance, pod, action) ("),
    ("budget", "max without (instance, pod) (", "max without (pod) ("),
    ("budget", "keep_firing_for: 15m", "keep_firing_for: 1m"),
    ("budget", "ai_spend_monthly_usd > ai", "ai_spend_monthly_usd >= ai"),
    ("spend", "growth:ratio > on", "growth:ratio >= on"),
    ("spend", "sum >= on", "sum > on"),
    ("spend", "unless sum without (instance, pod) (ai_unpriced_requests_total offset 1h)", ""),
    ("pipeline", "or absent(up{job=\"costwarden\"})", ""),
    ("pipeline", "timestamp_seconds > costwarden", "timestamp_seconds >= costwarden"),
    ("pipeline", "timestamp_seconds > 300", "timestamp_seconds >= 300"),
    ("pipeline", "and on () group(costwarden_build_info)", ""),
    ("pipeline", "unless sum without (instance, pod) (costwarden_remediation_runs_total offset 1h)", ""),
    ("recording", "/ 168", "/ 24"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stem", "before", "after"), CHANGES, ids=[f"{before} -> {after or 'nothing'}".strip() for _, before, after in CHANGES]
)
def test_a_changed_rule_fails_its_cases(promtool: Promtool, tmp_path: Path, stem: str, before: str, after: str) -> None:
    shutil.copytree(RULES, tmp_path / "alerts")
    shutil.copytree(TESTS, tmp_path / "tests" / "alerts")
    path = tmp_path / "alerts" / f"{stem}.rules.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    accepted = promtool("check", "rules", path)
    assert accepted.returncode == 0, f"the change is no rule: {accepted.stderr}"
    tested = promtool("test", "rules", *(tmp_path / "tests" / "alerts").glob(f"{stem}*.test.yaml"))
    assert tested.returncode != 0, "no case saw the change"


# --- the gate ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_every_rule_is_complete_and_true_to_the_catalogue(path: Path) -> None:
    assert rule_faults(path, DOCUMENTS[path], AROUND) == []


def test_every_alert_has_a_test_of_each_kind() -> None:
    assert coverage_faults(ALERTS, TEST_DOCUMENTS) == []


def test_the_runbook_speaks_of_no_alert_that_is_gone() -> None:
    chapters = {"setup", "thresholds"}
    assert AROUND.runbook - chapters == {alert.lower() for alert in ALERTS}


def test_limit_series_have_the_labels_of_the_spent_ones_and_action() -> None:
    series = exported()
    assert series["cloud_budget_limit_usd"] - {"action"} == series["cloud_budget_spent_usd"]
    for figure in ("spent_usd", "unsettled_usd", "hard_limit_reached", "soft_limit_ratio"):
        assert series["ai_budget_limit_usd"] - {"action"} == series[f"ai_budget_{figure}"]


# --- the gate shuts: each of these faults is found ------------------------------------------------------------------------------

BUDGET = RULES / "budget.rules.yaml"


def alert_named(document: Any, name: str) -> Any:
    return next(rule for rule in rules_of(document) if rule.get("alert") == name)


def faults_after(change: Callable[[Any], object], alert: str = "AIBudgetWarning") -> list[str]:
    document = copy.deepcopy(DOCUMENTS[BUDGET])
    change(alert_named(document, alert))
    return rule_faults(BUDGET, document, AROUND)


@pytest.mark.parametrize(("part", "name"), [*(("labels", name) for name in LABELS), *(("annotations", name) for name in ANNOTATIONS)])
def test_an_alert_without_a_required_text_is_found(part: str, name: str) -> None:
    faults = faults_after(lambda rule: rule[part].pop(name))
    assert f"AIBudgetWarning: lacks the {part[:-1]} {name}" in faults


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("ai_budget_spend_usd > 1", "ai_budget_spend_usd is no series of costwarden and is not recorded"),
        ('ai_budget_spent_usd{tennant_id="a"} > 1', "ai_budget_spent_usd has no label tennant_id"),
        ('{job="costwarden"} == 0', "a selector without a name is no series of costwarden and is not recorded"),
        ("sum by (tennant_id) (ai_budget_spent_usd) > 1", "aggregates by tennant_id, which is not there"),
        ("ai_budget_spent_usd > on (action) ai_budget_limit_usd", "matches on action, which is not on both sides"),
        ("ai_budget_spent_usd > ignoring (aktion) ai_budget_limit_usd", "ignores aktion, which is on neither side"),
        ("sum(ai_budget_spent_usd", "is no PromQL: unclosed left parenthesis"),
        ("ai_budget_limit_usd > 1", "is not critical and could start a playbook"),
    ],
)
def test_an_expression_that_means_nothing_is_found(expression: str, fault: str) -> None:
    assert f"AIBudgetWarning: {fault}" in faults_after(lambda rule: rule.update(expr=expression))


@pytest.mark.parametrize(
    ("part", "text", "fault"),
    [
        ("labels", {"spent": "{{ $value }}"}, "has a value in the label spent"),
        ("labels", {"limit": '{{ query "ai_spend_monthly_limit_usd" }}'}, "has a value in the label limit"),
        ("labels", {"severity": "page"}, "has the severity page"),
        ("labels", {"category": "money"}, "has the category money, which no route knows"),
        ("labels", {"action": "stop"}, "names a playbook itself: only a limit's series may"),
        ("annotations", {"summary": "{{ $labels.tennant_id }}"}, "writes the label tennant_id, which it never has"),
        ("annotations", {"runbook_url": "alerts/README.md#other"}, "has the runbook_url of another alert"),
        ("annotations", {"dashboard_url": "/d/finops-nothing"}, "links a dashboard that does not exist"),
    ],
)
def test_a_text_that_misleads_is_found(part: str, text: dict[str, str], fault: str) -> None:
    assert f"AIBudgetWarning: {fault}" in faults_after(lambda rule: rule[part].update(text))


def test_an_alert_without_a_heading_in_the_runbook_is_found() -> None:
    assert "NewAlert: has no heading in the runbook" in faults_after(lambda rule: rule.update(alert="NewAlert"))


def test_a_rule_file_of_another_version_or_group_name_is_found() -> None:
    document = copy.deepcopy(DOCUMENTS[BUDGET])
    document["groups"][0]["name"] = "budgets"
    document["groups"][0]["rules"][0]["labels"]["version"] = "0.0.1"
    faults = rule_faults(BUDGET, document, AROUND)
    assert "budget.rules.yaml: the group is named budgets, not budget" in faults
    assert any(fault.startswith("budget.rules.yaml: costwarden_rules_info says") for fault in faults)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alert", ["AIBudgetExceeded", "CostwardenDown"])
def test_an_alert_that_lacks_a_kind_of_test_is_found(alert: str, kind: str) -> None:
    tests = [test for test in TEST_DOCUMENTS if not test["name"].startswith(f"{alert} {kind}:")]
    assert coverage_faults(ALERTS, tests) == [f"{alert} has no test of the kind `{kind}`"]


@pytest.mark.parametrize(
    ("name", "expected", "fault"),
    [
        ("LedgerDown fires: it says", [], "does not expect what its name says"),
        ("LedgerDown silent: it says", [{"exp_labels": {}}], "does not expect what its name says"),
        ("LedgerDown: it says", [], "is no name of a test"),
        ("", [], "is no name of a test"),
        ("LedgerUp silent: it says", [], "does not expect what its name says"),
    ],
)
def test_a_test_that_does_not_do_what_it_is_called_is_found(name: str, expected: list[Any], fault: str) -> None:
    test = {"name": name, "alert_rule_test": [{"alertname": "LedgerDown", "exp_alerts": expected}]}
    assert any(fault in found for found in coverage_faults(ALERTS, [*TEST_DOCUMENTS, test]))


def test_a_test_of_an_alert_that_is_gone_is_found() -> None:
    assert "CloudCostSpike is tested and does not exist" in coverage_faults(
        [name for name in ALERTS if name != "CloudCostSpike"], TEST_DOCUMENTS
    )
