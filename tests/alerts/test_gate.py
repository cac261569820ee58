"""The gate itself: it finds each of a set of faults, the peers' known ones among them, and says of each exactly what it is."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_gate.coverage import KINDS, MONEY_KINDS, coverage_faults
from alert_gate.rules import Surroundings, chapter_faults, chapters, names_twice, rule_faults
from promql import Shape, analyse, exported, mutants, names, with_recorded, write
from promql_parser import parse

FIXTURES = Path(__file__).parents[1] / "fixtures" / "rules"
SOUND = FIXTURES / "budget.rules.yaml"
FAULTS = yaml.safe_load((FIXTURES / "faults.yaml").read_text())


def sown(fault: Any) -> Any:
    """The sound rule file with one fault in it."""
    document = yaml.safe_load(SOUND.read_text())
    rules = document["groups"][0]["rules"]
    alert = rules[-1]
    changes = fault.get("with", {}) | ({"expr": fault["expr"]} if "expr" in fault else {})
    for key, value in changes.items():
        if isinstance(value, dict):
            alert[key] = {name: text for name, text in {**alert[key], **value}.items() if text is not None}
        elif value is None:
            del alert[key]
        else:
            alert[key] = value
    if "beside" in fault:
        rules.insert(-1, fault["beside"])
    return document


def faults_of(document: Any, series: dict[str, list[str]]) -> list[str]:
    known = exported() | {name: Shape(frozenset(labels)) for name, labels in series.items()}
    around = Surroundings(
        version="1.2.3",
        series=with_recorded([document], known),
        runbook={"sownalert": ""},
        dashboards={"finops-ai-budget": frozenset({"tenant_id"})},
        numbers={},
        divisors={},
    )
    return rule_faults(SOUND, document, around)


def test_the_sound_file_is_sound() -> None:
    assert faults_of(sown({}), {}) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault["fault"])
def test_the_gate_finds(fault: Any) -> None:
    document = sown(fault)
    found = faults_of(document, fault.get("series", {}))
    found += names_twice({SOUND: document, FIXTURES / "other.rules.yaml": document if fault.get("twice") else {"groups": []}})
    name = document["groups"][0]["rules"][-1]["alert"]
    assert sorted(line for line in found if line.startswith(f"{name}: ")) == sorted(f"{name}: {sentence}" for sentence in fault["says"])


def test_promtool_lets_all_of_them_pass(tools: Any, tmp_path: Path, promtool: Any) -> None:
    accepted = [fault for fault in FAULTS if fault.get("promtool") != "refuses"]
    for number, fault in enumerate(accepted):
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(sown(fault)))
    checked = promtool("check", "rules", "--lint=none", *(tmp_path / f"{number}.yaml" for number in range(len(accepted))))
    assert checked.returncode == 0, checked.stderr


def test_a_file_of_another_version_or_group_name_is_found() -> None:
    document = sown({})
    document["groups"][0]["name"] = "budgets"
    document["groups"][0]["rules"][0]["labels"]["version"] = "0.0.1"
    assert faults_of(document, {}) == [
        "budget.rules.yaml: the group is named budgets, not budget",
        "budget.rules.yaml: costwarden_rules_info says [{'rules': 'budget', 'version': '0.0.1'}], not once rules budget and version 1.2.3",
    ]


def test_a_rule_file_of_ones_own_can_be_linted(tmp_path: Path) -> None:
    def linted(path: Path) -> tuple[int, str]:
        ran = subprocess.run(
            [sys.executable, "-m", "alert_gate", path], cwd=FIXTURES.parents[1], capture_output=True, text=True, check=False, timeout=120
        )
        return ran.returncode, ran.stdout.strip() or ran.stderr

    assert linted(SOUND) == (0, "")
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(sown({"expr": "increase(ai_spend_monthly_usd[1h]) > 0"})))
    assert linted(own) == (1, f"{own}: SownAlert: takes the increase of the gauge ai_spend_monthly_usd")


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("ai_budget_threshold_ratio{threshold='1'}", exported()["ai_budget_threshold_ratio"].labels),
        ("sum by (budget) (ai_budget_spent_usd)", {"budget"}),
        ("max without (instance, pod) (cloud_cost_weekday_usd)", {"provider", "job"}),
        ('up{job="costwarden"} == 0 or absent(up{job="costwarden"})', {"job", "instance", "pod"}),
        ('absent(up{job="costwarden"})', {"job"}),
        ("sum by (provider) (aws_cost_daily_usd) > on () group_left () max(cloud_cost_spike_minimum_usd)", {"provider"}),
        ('label_replace(sum(up), "to", "$1", "from", "(.*)")', {"to"}),
        ("topk(3, sum by (model) (ai_requests_total))", {"model"}),
        ('count_values("version", sum by (team) (up))', frozenset()),
    ],
)
def test_the_labels_of_a_result(expression: str, labels: set[str]) -> None:
    assert analyse(expression, exported())[0] == labels


@pytest.mark.parametrize(
    "expression",
    [
        # A birth, which increase does not see.
        "sum(ai_unpriced_requests_total) > 0 unless sum(ai_unpriced_requests_total offset 1h)",
        "ai_budget_spent_usd / ignoring (action) group_right () ai_budget_limit_usd > 0.5",
        "sum_over_time(aws_cost_daily_usd[7d:1d]) > 0",
        "costwarden_source_up == 0",
        "min_over_time(costwarden_source_up[5m]) < 1",
        "ai_spend_monthly_usd > 2 * ai_spend_monthly_limit_usd",
        'rate(http_requests_total{code=~"5.."}[5m]) > 0',
        'aws_cost_monthly_usd{month="2026-07"} > 0',
    ],
)
def test_what_is_as_it_should_be_is_left_alone(expression: str) -> None:
    assert analyse(expression, exported())[1] == []


@pytest.mark.parametrize(
    ("divisor", "guard"), [("ai_budget_unsettled_usd", "> 0"), ("ai_budget_unsettled_usd", "!= 0"), ("ai_budget_unsettled_usd", ">= 5")]
)
def test_a_guarded_division_is_left_alone(divisor: str, guard: str) -> None:
    divided = f"ai_budget_spent_usd / {divisor} > 1 and {divisor} {guard}"
    inside = f"ai_budget_spent_usd / ({divisor} {guard}) > 1"
    for expression in (divided, inside):
        found = faults_of(sown({"expr": f"max without (instance, pod) ({expression})"}), {})
        assert [line for line in found if "divides" in line] == []


@pytest.mark.parametrize(
    ("expression", "changed"),
    [
        ("a > 0", {"a >= 0", "a < 0", "a > 1"}),
        ("a == 1", {"a != 1", "a == 1.001", "a == 0.999"}),
        ("a and b", {"a unless b", "a", "b"}),
        ("a or b unless c", {"a", "b unless c", "a or (b and c)", "a or b"}),
        ("sum by (x, y) (a)", {"sum by (y) (a)", "sum by (x) (a)"}),
        ("max without (instance, pod, x) (a)", {"max without (instance, pod) (a)", "max without (x) (a)"}),
        ('rate(a{x="1",y!="2"}[5m] offset 1h)', {'rate(a{x="1"}[5m] offset 1h)', 'rate(a{y!="2"}[5m] offset 1h)'}),
        ("a > on (x) group_left (y) b", {"a >= on (x) group_left (y) b", "a < on (x) group_left (y) b"}),
        ('x{a="b\\"c\\\\"} + y', {"x + y", 'x{a="b\\"c\\\\"} - y'}),
    ],
)
def test_the_mutants_of_an_expression(expression: str, changed: set[str]) -> None:
    def same(text: str) -> str:
        return re.sub(r"[0-9.]{10,}", lambda figure: f"{float(figure[0]):.6g}", write(parse(text)))

    made = mutants(expression)
    assert {same(mutant.expression) for mutant in made} == {same(text) for text in changed}
    assert len({mutant.change for mutant in made}) == len(made)


def test_an_expression_written_again_reads_the_same_series() -> None:
    text = 'sum without (a) (-max_over_time(x{b=~"c|d"}[5m:1m] offset -1h)) * on (e) group_left () quantile(0.9, y) or vector(1e15)'
    assert names(parse(write(parse(text)))) == ["x", "y"]
    assert write(parse(write(parse(text)))) == write(parse(text))


# --- coverage ------------------------------------------------------------------------------------------------------------------

READ = frozenset({"spent", "limit"})
ALERT = [{"exp_labels": {}}]


def a_test(kinds: str, series: dict[str, str], *cases: tuple[str, int], interval: str = "1m") -> Any:
    return {
        "name": f"SpentTooMuch {kinds}: it is as the name says",
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": time, "alertname": "SpentTooMuch", "exp_alerts": ALERT * count} for time, count in cases],
    }


TESTS = {
    "fires": a_test("fires", {"spent": "2x10", "limit": "1x10"}, ("5m", 1)),
    "silent": a_test("silent", {"spent": "1x10", "limit": "2x10"}, ("5m", 0)),
    "boundary": a_test("boundary", {"spent": "1x5 1.01x5", "limit": "1x10"}, ("5m", 0), ("6m", 1)),
    "missing": a_test("missing", {"spent": "1x10"}, ("5m", 0)),
    "death": a_test("death", {"spent": "2x5 stale", "limit": "1x5 _x20"}, ("20m", 1), ("21m", 0)),
    "mixed": a_test("mixed", {'spent{b="1"}': "2x10", 'spent{b="2"}': "0x10", 'limit{b="1"}': "1x10"}, ("5m", 1)),
    "rollover": a_test("rollover", {"spent": "2x30 0x5", "limit": "1x35"}, ("30m", 1), ("34m", 0)),
    "samples": a_test("samples", {"spent": "2x48", "limit": "3x48"}, ("1d", 0), interval="1h"),
}

BROKEN = {
    "fires": (a_test("fires", {"spent": "2x10", "limit": "1x10"}, ("5m", 0)), "expects no alert, and its name says `fires`"),
    "silent": (a_test("silent", {"spent": "2x10", "limit": "1x10"}, ("5m", 1)), "expects an alert, and its name says `silent`"),
    "boundary": (a_test("boundary", {"spent": "1x5 1.01x5", "limit": "1x10"}, ("6m", 1)), "expects the same on both sides of the boundary"),
    "missing": (
        a_test("missing", {"spent": "1x10", "limit": "1x10"}, ("5m", 0)),
        "has all that the alert reads, of every component, and its name says `missing`",
    ),
    "death": (
        a_test("death", {"spent": "2x20", "limit": "1x20"}, ("20m", 1)),
        "has no series that ends before it is asked, and its name says `death`",
    ),
    "mixed": (
        a_test("mixed", {"spent": "2x10", "limit": "1x10"}, ("5m", 1)),
        "has no two components, or expects no alert, and its name says `mixed`",
    ),
    "rollover": (
        a_test("rollover", {"spent": "2x35", "limit": "1x35"}, ("30m", 1)),
        "has no period that turns: nothing falls, no start or reset moves, no month ends",
    ),
    "samples": (
        a_test("samples", {"spent": "2x2", "limit": "3x2"}, ("1d", 0), interval="1d"),
        "has no series of several samples a day over a day",
    ),
}


def coverage(tests: list[Any], money: bool = True) -> list[str]:
    return coverage_faults({"SpentTooMuch": READ}, ["SpentTooMuch"] if money else [], tests)


def test_an_alert_with_every_kind_of_test_is_covered() -> None:
    assert coverage(list(TESTS.values())) == []
    assert coverage([TESTS[kind] for kind in KINDS], money=False) == []


@pytest.mark.parametrize("kind", [*KINDS, *MONEY_KINDS])
def test_a_kind_of_test_that_an_alert_lacks_is_found(kind: str) -> None:
    assert coverage([test for name, test in TESTS.items() if name != kind]) == [f"SpentTooMuch has no test of the kind `{kind}`"]


@pytest.mark.parametrize("kind", [*KINDS, *MONEY_KINDS])
def test_a_test_that_does_not_do_what_it_is_called_is_found(kind: str) -> None:
    test, fault = BROKEN[kind]
    assert coverage([*TESTS.values(), test]) == [f"{test['name']!r} {fault}"]


def test_a_test_of_several_kinds_counts_for_each() -> None:
    series = {'spent{b="1"}': "2x5 stale", 'limit{b="1"}': "1x5 stale", 'spent{b="2"}': "2x30"}
    both = a_test("mixed, death", series, ("20m", 1), ("21m", 0))
    assert coverage([both, *(test for kind, test in TESTS.items() if kind not in {"mixed", "death"})]) == []


@pytest.mark.parametrize("name", ["SpentTooMuch: it says", "SpentTooMuch sometimes: it says", "SpentTooMuch fires:", "", "fires"])
def test_a_test_with_another_name_is_found(name: str) -> None:
    assert any(f"{name!r} is no name of a test" in fault for fault in coverage([*TESTS.values(), {"name": name}]))


def test_a_test_that_asks_for_another_alert_and_one_of_an_alert_that_is_gone_are_found() -> None:
    other = copy.deepcopy(TESTS["fires"])
    other["alert_rule_test"][0]["alertname"] = "SpentTooLittle"
    gone = copy.deepcopy(TESTS["fires"])
    gone["name"] = "Gone fires: it says"
    assert coverage([*TESTS.values(), other]) == [f"{other['name']!r} never asks for SpentTooMuch"]
    assert "Gone is tested and does not exist" in coverage([*TESTS.values(), gone])


# --- the runbook ---------------------------------------------------------------------------------------------------------------


def test_a_chapter_that_lacks_a_part_is_found() -> None:
    whole = "\n## SpentTooMuch\n\nIt means.\n\n**Look**\n\n1. a\n2. b\n3. c\n\nSilence: `amtool`\n\nUndo: nothing acts.\n\n## Other\n"
    assert chapter_faults(["SpentTooMuch"], chapters(whole)) == []
    for part, words in (("Look", "3. c\n"), ("Look", "**Look**"), ("Silence", "Silence:"), ("Undo", "Undo:")):
        found = chapter_faults(["SpentTooMuch"], chapters(whole.replace(words, "")))
        assert found == [f"SpentTooMuch: its chapter in the runbook has no {part}"]
