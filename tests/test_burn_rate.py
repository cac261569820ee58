"""docs/burn_rate.md: windows and factors are those of the rules, figures those of the simulation, which computes as promtool does."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT / "benchmarks"))

import bench_burn_rate as bench  # noqa: E402 (benchmarks are no package)
import burn_simulation as simulation  # noqa: E402

RULES = PROJECT / "alerts" / "burn.rules.yaml"
PAGE = (PROJECT / "docs" / "burn_rate.md").read_text(encoding="utf-8")
EXPRESSIONS: dict[str, str] = {
    rule.get("alert") or rule["record"]: rule["expr"] for rule in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
}
Asked = Mapping[int, Mapping[str, float | None]]
"""Figures by query by minute; None is no figure."""

MINUTES = {"m": 1, "h": 60, "d": 1440}
PAIR = re.compile(r"burn:rate(\d+[mhd]) > (\d+) and budget:\w+_budget_burn:rate(\d+[mhd]) > (\d+)")


def minutes(window: str) -> int:
    """`6h` and `6 h` are 360."""
    number, unit = re.fullmatch(r"(\d+) ?([mhd])(?:in)?", window).groups()  # type: ignore[union-attr]
    return int(number) * MINUTES[unit]


def pairs_of_rules(alert: str) -> set[simulation.Pair]:
    """The windows and factors of an alert."""
    found = PAIR.findall(EXPRESSIONS[alert])
    assert all(factor == other for _, factor, _, other in found)
    return {simulation.Pair(minutes(long), minutes(short), int(factor)) for long, factor, short, _ in found}


def periods_of(pair: simulation.Pair) -> set[str]:
    """The periods for which both windows are recorded."""
    names = {minutes(name.rpartition("rate")[2]): name for name in EXPRESSIONS if name.startswith("budget:ai_budget_burn:rate")}

    def recorded(window: int) -> set[str]:
        matcher = re.search(r'period=~?"([\w|]+)"', EXPRESSIONS[names[window]])
        return set(matcher[1].split("|")) if matcher else set(simulation.PERIODS)

    return recorded(pair.long) & recorded(pair.short)


@pytest.mark.parametrize(("alert", "pairs"), [("AIBudgetBurnsFast", simulation.FAST), ("AIBudgetBurnsSlowly", simulation.SLOW)])
def test_the_simulation_has_the_windows_and_factors_of_the_rules(alert: str, pairs: Mapping[str, Sequence[simulation.Pair]]) -> None:
    shipped = {(period, pair) for pair in pairs_of_rules(alert) for period in periods_of(pair)}
    assert shipped == {(period, pair) for period, found in pairs.items() for pair in found}


def test_the_simulation_has_the_windows_and_the_factor_of_cloud_budgets() -> None:
    assert pairs_of_rules("CloudBudgetBurns") == set(simulation.CLOUD)


def test_the_table_of_the_page_is_what_the_rules_say() -> None:
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| (\d+ \w+) \| (\d+ \w+) \| (\d+) \| (\d+) % \|", PAGE, re.MULTILINE)
    said = {(alert, period, simulation.Pair(minutes(long), minutes(short), int(factor))) for period, alert, long, short, factor, _ in rows}
    ours = {"AIBudgetBurnsFast": simulation.FAST, "AIBudgetBurnsSlowly": simulation.SLOW, "CloudBudgetBurns": {"month": simulation.CLOUD}}
    assert said == {(alert, period, pair) for alert, table in ours.items() for period, pairs in table.items() for pair in pairs}
    for period, _, long, _, factor, share in rows:
        assert int(share) == round(100 * int(factor) * minutes(long) / simulation.PERIODS[period])


def test_the_figures_of_the_page_are_those_of_the_simulation() -> None:
    missing = [line for line in bench.tables() if line not in PAGE]
    assert missing == []


# --- the simulation computes as a real promtool does --------------------------------------------------------------------------


def input_series(name: str, period: str, values: Sequence[float | int]) -> dict[str, str]:
    return {"series": f'{name}{{budget="b", period="{period}"}}', "values": " ".join(map(repr, values))}


def promtool_agrees(tools: Any, folder: Path, period: str, used: list[float], step: int, asked: Asked) -> None:
    """Evaluates the shipped rules on `used`, a sample every `step` minutes, and compares what they give in the minutes that are asked."""
    long = simulation.PERIODS[period]
    at = range(0, len(used), step)
    series = [
        input_series("ai_budget_limit_usd", period, [100] * len(at)),
        input_series("ai_budget_spent_usd", period, [used[minute] for minute in at]),
        input_series("ai_budget_period_start_timestamp_seconds", period, [60 * (minute - minute % long) for minute in at]),
        input_series("ai_budget_reset_timestamp_seconds", period, [60 * (minute - minute % long + long) for minute in at]),
    ]
    cases = []
    for minute, figures in asked.items():
        for query, figure in figures.items():
            if figure is None:
                cases.append({"expr": query, "eval_time": f"{minute}m", "exp_samples": []})
            else:
                # Both are floating point, but not in the same order of operations.
                sample = {"labels": f'{{budget="b", period="{period}"}}', "value": 1}
                cases.append({"expr": f"abs({query} - {figure!r}) < bool 1e-6", "eval_time": f"{minute}m", "exp_samples": [sample]})
    case = {"interval": f"{step}m", "input_series": series, "promql_expr_test": cases}
    path = folder / "burn.test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": f"{step}m", "tests": [case]}), encoding="utf-8")
    tested = subprocess.run([tools.promtool, "test", "rules", path], capture_output=True, text=True, check=False, timeout=110)
    assert tested.returncode == 0, tested.stdout[:4000] + tested.stderr[:4000]


def burns(budget: simulation.Budget, used: list[float], minute: int, windows: Sequence[str]) -> dict[str, float | None]:
    return {f"budget:ai_budget_burn:rate{window}": budget.burn(used, minute, minutes(window)) for window in windows}


@pytest.mark.parametrize(("period", "windows"), [("hour", ("5m", "10m")), ("day", ("5m", "1h"))])
def test_the_burn_of_a_loop_is_what_promtool_computes(tools: Any, tmp_path: Path, period: str, windows: tuple[str, ...]) -> None:
    budget = simulation.Budget(100.0, simulation.PERIODS[period])
    begin = budget.minutes + budget.minutes // 3
    used = budget.used(simulation.spend(simulation.business_hours, budget, budget.minutes * 3 // 2, 7, (begin, 20)))
    moments = [3, 30, budget.minutes - 1, budget.minutes, budget.minutes + 5, budget.minutes + 10, begin + 4, begin + 8]
    affordable = "budget:ai_budget_affordable_burn:ratio"
    asked = {minute: burns(budget, used, minute, windows) | {affordable: budget.affordable(used, minute)} for minute in moments}
    assert any(figure for figures in asked.values() for figure in figures.values())
    promtool_agrees(tools, tmp_path, period, used, 1, asked)


def test_the_fast_alert_fires_in_the_minute_in_which_the_simulation_says_so(tools: Any, tmp_path: Path) -> None:
    budget = simulation.Budget(100.0, simulation.PERIODS["day"])
    used = budget.used(simulation.spend(simulation.steady, budget, 600, 7, (400, 20)))
    first = next(minute for minute in range(600) if budget.fires(used, minute, simulation.FAST["day"]))
    assert 400 < first < 500
    fires = f"max without (team) ({EXPRESSIONS['AIBudgetBurnsFast']})"  # the team that a budget without one is given
    long = budget.burn(used, first, 60)
    promtool_agrees(tools, tmp_path, "day", used[: first + 1], 1, {first - 1: {f"({fires})": None}, first: {f"({fires})": long}})


def test_the_burn_and_the_forecast_of_a_month_are_what_promtool_computes(tools: Any, tmp_path: Path) -> None:
    budget = simulation.Budget(100.0, simulation.PERIODS["month"])
    used = budget.used(simulation.spend(simulation.weekend_dip, budget, 8 * 1440 + 5, 7, (6 * 1440, 5)))
    windows = ("30m", "2h", "6h", "1d", "3d")
    asked: dict[int, dict[str, float | None]] = {minute: burns(budget, used, minute, windows) for minute in (60, 1445, 4315, 4320, 9000)}
    for minute in (4300, 7 * 1440 - 5, 8 * 1440):
        asked.setdefault(minute, {})["budget:ai_budget_forecast_usd:sum"] = budget.forecast(used, minute)
    promtool_agrees(tools, tmp_path, "month", used, 5, asked)


def test_a_corrected_cent_is_no_burn_and_increase_would_make_one_of_it() -> None:
    as_difference, as_counter = bench.correction()
    # Half of $100 is read as an hour's spend: 50 / (100 / 720) = 360.
    assert as_difference < 1
    assert as_counter > 360
