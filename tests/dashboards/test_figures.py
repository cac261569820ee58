"""Figures of panels on made-up series, by the engine of a real Prometheus: what is chosen, what counts twice, what a table holds."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard_queries import DASHBOARDS, panels, queries, substituted, variables

PROJECT = Path(__file__).parents[2]

Chosen = Mapping[str, str | Sequence[str]]


def series(name: str, value: float, **labels: str) -> dict[str, str]:
    """A series that has one value from the first minute on."""
    return {"series": selector(name, labels), "values": f"{value}x60"}


def selector(name: str, labels: Mapping[str, str]) -> str:
    return f"{name}{{{', '.join(f'{key}={json.dumps(value, ensure_ascii=False)}' for key, value in labels.items())}}}"


class Asked:
    """Queries of panels, each with what it should find; the recorded series are there."""

    def __init__(self, *given: dict[str, str]) -> None:
        self.given = list(given)
        self.tests: list[dict[str, Any]] = []

    def expect(self, title: str, found: Mapping[tuple[tuple[str, str], ...], float], chosen: Chosen | None = None) -> None:
        """`title` is that of a query; `found` has the labels and the values of its series."""
        (query,) = (query for query in queries() if query.title == title)
        samples = [{"labels": selector("", dict(labels)), "value": value} for labels, value in found.items()]
        self.tests.append({"expr": substituted(query.uid, query.target["expr"], chosen), "eval_time": "5m", "exp_samples": samples})

    def check(self, tools: Any, folder: Path) -> None:
        rules = [str(path) for path in sorted((PROJECT / "alerts").glob("*.rules.yaml"))]
        self._ask(tools, folder, rules, "1m")

    def check_at(self, tools: Any, folder: Path, moment: str) -> None:
        """After days, of samples that lie half an hour apart, and without the rules, which would take as long as days of them do."""
        self.tests = [{**test, "eval_time": moment} for test in self.tests]
        self._ask(tools, folder, [], "30m")

    def _ask(self, tools: Any, folder: Path, rules: list[str], interval: str) -> None:
        test = {"interval": interval, "input_series": self.given, "promql_expr_test": self.tests}
        path = folder / "figures.yaml"
        path.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": interval, "tests": [test]}, allow_unicode=True))
        done = subprocess.run([tools.promtool, "test", "rules", path], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


NOTHING: tuple[tuple[str, str], ...] = ()

# $100 on AWS, of which a cluster explains $30, and a budget of either.
CLUSTER = (
    series("aws_cost_monthly_usd", 100, provider="aws", region="eu-central-1", service="EC2", month="current"),
    series("aws_cost_monthly_usd", 200, provider="aws", region="eu-central-1", service="EC2", month="previous"),
    series("kubernetes_cost_monthly_usd", 30, provider="kubernetes", service="deployment/web", month="current"),
    series("kubernetes_cost_monthly_usd", 60, provider="kubernetes", service="deployment/web", month="previous"),
    series("cloud_cost_allocated_monthly_usd", 30, provider="kubernetes", month="current"),
    series("cloud_cost_allocated_monthly_usd", 60, provider="kubernetes", month="previous"),
    series("cloud_cost_forecast_usd", 150, provider="aws"),
    series("cloud_cost_forecast_usd", 45, provider="kubernetes"),
    series("aws_budget_monthly_limit_usd", 250, provider="aws"),
    series("kubernetes_budget_monthly_limit_usd", 40, provider="kubernetes"),
)


@pytest.mark.parametrize(
    ("chosen", "month", "before", "forecast", "budget"),
    [
        # The cluster's dollars are in the bill of AWS already.
        (None, 100, 200, 150, 250),
        ({"provider": ["aws", "kubernetes"]}, 100, 200, 150, 250),
        ({"provider": "aws"}, 100, 200, 150, 250),
        # Alone it has what it costs.
        ({"provider": "kubernetes"}, 30, 60, 45, 40),
    ],
)
def test_a_cluster_counts_once_beside_its_cloud_and_wholly_alone(
    tools, tmp_path, chosen: Chosen | None, month: float, before: float, forecast: float, budget: float
) -> None:
    asked = Asked(*CLUSTER)
    asked.expect("finops-cloud-cost: Month to date A", {NOTHING: month}, chosen)
    asked.expect("finops-cloud-cost: Month over month A", {NOTHING: forecast / before - 1}, chosen)
    asked.expect("finops-cloud-cost: Month over month B", {NOTHING: month / before - 1}, chosen)
    asked.expect("finops-cloud-cost: Forecast A", {NOTHING: forecast}, chosen)
    asked.expect("finops-cloud-cost: Budget A", {NOTHING: budget}, chosen)
    asked.expect("finops-cloud-cost: Budget used A", {NOTHING: month / budget}, chosen)
    asked.expect("finops-cloud-cost: Months A", {(("month", "this month"),): month, (("month", "last month"),): before}, chosen)
    asked.check(tools, tmp_path)


IN_EUROPE = (("name", "eu-central-1"), ("region", "eu-central-1"))
NOWHERE = (("name", "(no region)"),)


def test_regions_add_up_to_the_month(tools, tmp_path) -> None:
    asked = Asked(*CLUSTER)
    asked.expect("finops-cloud-cost: Cost by region, this month A", {IN_EUROPE: 100, NOWHERE: 0})
    asked.expect("finops-cloud-cost: Cost by region, this month A", {NOWHERE: 30}, {"provider": "kubernetes"})
    asked.check(tools, tmp_path)


def test_what_is_called_as_if_it_had_no_name_does_not_take_the_panel_with_it(tools, tmp_path) -> None:
    asked = Asked(
        series("ai_token_usage_cost_usd", 3, tenant_id="acme", feature="(no feature)"),
        series("ai_token_usage_cost_usd", 2, tenant_id="acme"),
    )
    both = {(("feature", "(no feature)"), ("name", "(no feature)")): 3, (("name", "(no feature)"),): 2}
    asked.expect("finops-ai-budget: Spend by feature, all time A", both)
    asked.check(tools, tmp_path)


def test_a_cluster_that_no_cloud_bills_counts_beside_clouds(tools, tmp_path) -> None:
    asked = Asked(*(found for found in CLUSTER if "allocated" not in found["series"]))
    asked.expect("finops-cloud-cost: Month to date A", {NOTHING: 100 + 30})
    asked.expect("finops-cloud-cost: Forecast A", {NOTHING: 150 + 45})
    asked.expect("finops-overview: Cloud, forecast A", {NOTHING: 150 + 45})
    asked.expect("finops-cloud-cost: Cost by region, this month A", {IN_EUROPE: 100, NOWHERE: 30})
    asked.check(tools, tmp_path)


def test_replicas_of_one_ledger_count_once(tools, tmp_path) -> None:
    both = [{**one, "series": one["series"].replace("{", f'{{job="costwarden", instance="{name}", ')} for one in CLUSTER for name in "ab"]
    asked = Asked(*both)
    asked.expect("finops-cloud-cost: Month to date A", {NOTHING: 100})
    asked.expect("finops-cloud-cost: Forecast A", {NOTHING: 150})
    asked.expect("finops-cloud-cost: Budget used A", {NOTHING: 100 / 250})
    asked.check(tools, tmp_path)


HOSTILE = ("a.b|c+(d)", "a.b", "axb", "c+(d)", "$1 [x]{2}^", "it's", 'quo"te', "back\\slash", "a/b", "漢字")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_tenant_of_any_name_can_be_chosen_and_is_the_only_one(tools, tmp_path, name: str) -> None:
    asked = Asked(*(series("ai_token_usage_cost_window_usd", number, tenant_id=one, window="30d") for number, one in enumerate(HOSTILE)))
    asked.expect("finops-ai-budget: Spend by tenant, 30 days A", {label(name): HOSTILE.index(name)}, {"tenant_id": name})
    asked.check(tools, tmp_path)


def test_several_tenants_of_any_name_can_be_chosen_together(tools, tmp_path) -> None:
    asked = Asked(*(series("ai_token_usage_cost_window_usd", number, tenant_id=one, window="30d") for number, one in enumerate(HOSTILE)))
    for chosen in (HOSTILE[:2], HOSTILE[4:8], HOSTILE):
        found = {label(name): HOSTILE.index(name) for name in chosen}
        asked.expect("finops-ai-budget: Spend by tenant, 30 days A", found, {"tenant_id": list(chosen)})
    asked.check(tools, tmp_path)


def label(tenant_id: str) -> tuple[tuple[str, str], ...]:
    """Those of a tenant's figures in a window."""
    return (("__name__", "tenant:ai_token_usage_cost_window_usd:sum"), ("tenant_id", tenant_id), ("window", "30d"))


def test_what_is_chosen_stands_in_raw_strings() -> None:
    names = {variable["name"] for uid in DASHBOARDS for variable in variables(uid)}
    found = 0
    for query in queries():
        for name in names:
            for match in re.finditer(rf".{{3}}\$(?:\{{{name}\b[^}}]*\}}|{name}\b).", query.target["expr"]):
                assert match[0] in (f"=~`${{{name}:regex}}`", f"~`(${{{name}:regex}})"), query.title
                found += 1
    assert found > 50


def test_what_fires_is_of_who_is_chosen_or_of_nobody_in_particular_and_each_alert_is_a_row(tools, tmp_path) -> None:
    def alert(name: str, severity: str, **labels: str) -> dict[str, str]:
        return series("ALERTS", 1, alertname=name, alertstate="firing", category="finops", severity=severity, team="finops", **labels)

    asked = Asked(
        alert("AIBudgetExceeded", "critical", tenant_id="acme", budget="acme"),
        alert("AIBudgetThresholdReached", "info", tenant_id="acme", budget="acme", period="month", threshold="0.75"),
        alert("CostGuardrailBreached", "warning", guardrail="daily"),
        alert("CostGuardrailBreached", "warning", guardrail="hourly"),
        alert("AIBudgetExceeded", "critical", tenant_id="globex", budget="globex"),
        alert("TotalAISpendHigh", "warning"),
        series("up", 1, job="costwarden", instance="a"),
    )

    def line(name: str, **labels: str) -> tuple[tuple[str, str], ...]:
        return tuple({"alertname": name, "team": "finops", "about": " " * 6, **labels}.items())

    # Guardrail, playbook, receiver, service, instance, period and threshold, with a space between each.
    everybody = {
        line("TotalAISpendHigh"): 2,
        line("CostGuardrailBreached", about="daily" + " " * 6): 2,
        line("CostGuardrailBreached", about="hourly" + " " * 6): 2,
    }
    acme = {
        line("AIBudgetExceeded", tenant_id="acme", budget="acme"): 3,
        line("AIBudgetThresholdReached", tenant_id="acme", budget="acme", about=" " * 5 + "month 0.75"): 1,
    }
    globex = {line("AIBudgetExceeded", tenant_id="globex", budget="globex"): 3}
    asked.expect("finops-ai-budget: Firing: Severity A", acme | everybody, {"tenant_id": "acme"})
    asked.expect("finops-ai-budget: Firing: Severity A", acme | globex | everybody, {"tenant_id": ["acme", "globex"]})
    asked.expect("finops-ai-budget: Firing: Severity A", acme | globex | everybody)
    asked.expect("finops-ai-budget: Firing: Severity A", everybody, {"tenant_id": "acm"})
    asked.check(tools, tmp_path)


# --- tables ----------------------------------------------------------------------------------------------------------------------


def test_tables_of_the_first_few_have_no_other_lines(tools, tmp_path) -> None:
    tenants = [f"t{number:02}" for number in range(30)]
    asked = Asked(
        *(series("ai_budget_limit_usd", 100, budget=name, period="month", tenant_id=name) for name in tenants),
        *(series("ai_budget_spent_usd", number, budget=name, period="month", tenant_id=name) for number, name in enumerate(tenants)),
        *(series("ai_budget_unsettled_usd", 0, budget=name, period="month", tenant_id=name) for name in tenants),
        *(
            series("ai_token_usage_cost_window_usd", number, tenant_id=name, window=window)
            for number, name in enumerate(tenants)
            for window in ("30d", "7d")
        ),
    )
    fullest = {(("budget", name), ("period", "month"), ("tenant_id", name)): number for number, name in enumerate(tenants) if number >= 10}
    asked.expect("finops-overview: AI budgets: Used A", {key: number / 100 for key, number in fullest.items()})
    asked.expect("finops-overview: AI budgets: Limit B", dict.fromkeys(fullest, 100))
    asked.expect("finops-overview: AI budgets: Spent C", fullest)
    consumers = {(("tenant_id", name),): number for number, name in enumerate(tenants) if number >= 20}
    asked.expect("finops-overview: Top AI consumers: 30 days A", consumers)
    asked.expect("finops-overview: Top AI consumers: 7 days B", consumers)
    asked.check(tools, tmp_path)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_column_of_a_table_of_the_first_few_is_about_these(uid: str) -> None:
    for panel in panels(uid):
        first, *others = (target["expr"].strip() for target in panel["targets"])
        if panel["type"] == "table" and first.startswith("topk("):
            for other in others:
                assert other.endswith(f" and {first}"), panel["title"]


FEW = {"Budgets kept at providers"}
"""Panels of what is never as many as tenants: clouds allow few budgets."""


def test_what_may_be_as_many_as_tenants_is_limited_by_the_query() -> None:
    limited = 0
    for query in queries():
        names = set(re.findall(r"{{(\w+)}}", query.target["legendFormat"]))
        if query.column:
            names |= {name for found in re.findall(r"by \(([\w, ]+)\)", query.target["expr"]) for name in found.split(", ")}
        if names & {"tenant_id", "budget", "user_id"} and query.panel["title"] not in FEW:
            assert "topk(" in query.target["expr"], query.title
            limited += 1
    assert limited > 20


@pytest.mark.parametrize(
    ("title", "metric", "labels", "most"),
    [
        ("finops-ai-budget: Spend of 24 hours A", "ai_token_usage_cost_window_usd", {"window": "1d"}, 10),
        ("finops-ai-budget: Hours beyond what is expected A", "ai_token_usage_cost_window_usd", {"window": "1h"}, 5),
        ("finops-cloud-cost: Services beyond what is expected A", "cloud_service_cost_daily_usd", {"provider": "aws"}, 5),
    ],
)
def test_graphs_of_the_first_few_have_no_more_lines_where_the_leaders_change(
    tools, tmp_path, title: str, metric: str, labels: dict[str, str], most: int
) -> None:
    # Of 20 each leads once in these minutes: the first few of each moment would be all of them.
    of = "service" if metric.startswith("cloud") else "tenant_id"
    spikes = [
        {
            "series": selector(metric, {**labels, of: f"t{number:02}"}),
            "values": f"{number}x{number} {1_000 + number} {number}x{20 - number}",
        }
        for number in range(20)
    ]
    usual = (
        "cloud_service_cost_expected_usd",
        "cloud_service_cost_deviation_usd",
        "ai_cost_expected_hourly_usd",
        "ai_cost_deviation_hourly_usd",
    )
    expected = [
        series(name, 1, **({"provider": "aws"} if of == "service" else {}), **{of: f"t{number:02}"})
        for name in usual
        for number in range(20)
    ]
    asked = Asked(*spikes, *expected, series("cost_anomaly_limit_deviations", 4))
    (query,) = (query for query in queries() if query.title == title)
    lines = f"count(count_over_time(({substituted(query.uid, query.target['expr'])})[20m:1m]))"
    asked.tests.append({"expr": lines, "eval_time": "20m", "exp_samples": [{"labels": "{}", "value": most}]})
    asked.check(tools, tmp_path)


def test_every_graph_of_the_first_few_ranks_them_at_the_end() -> None:
    ranked = [query for query in queries() if query.panel["type"] == "timeseries" and "topk(" in query.target["expr"]]
    assert len(ranked) == 7
    for query in ranked:
        assert re.search(r" and on \([\w, ]+\) topk\(\d+, .*@ end\(\)", query.target["expr"], re.DOTALL), query.title


# --- time ------------------------------------------------------------------------------------------------------------------------


def test_a_bill_that_has_today_is_not_younger_than_now(tools, tmp_path) -> None:
    # Asked after five minutes: the data of one end in a day, those of the other ended a minute ago.
    asked = Asked(
        series("costwarden_source_data_newest_timestamp_seconds", 86_400, source="today"),
        series("costwarden_source_data_newest_timestamp_seconds", 240, source="late"),
    )
    asked.expect("finops-pipeline: Sources: Data end ago D", {(("source", "today"),): 0, (("source", "late"),): 60})
    asked.check(tools, tmp_path)


def test_rates_have_samples_of_targets_that_are_scraped_each_minute(tools, tmp_path) -> None:
    for query in queries():
        if "$__rate_interval" in query.target["expr"]:
            assert query.target["interval"] == "1m", query.title
    asked = Asked({"series": 'ai_budget_checks_total{outcome="allowed", reason=""}', "values": "0+60x10"})
    asked.expect("finops-pipeline: Checks a second A", {(("outcome", "allowed"),): 1})
    asked.check(tools, tmp_path)


def counter(name: str, values: str, **labels: str) -> dict[str, str]:
    """A counter by its samples, half an hour apart."""
    return {"series": selector(name, {"job": "costwarden", **labels}), "values": values}


def test_what_the_ledger_counted_is_of_the_last_days_and_born_with_its_first_event(tools, tmp_path) -> None:
    # 480 half hours are 10 days, 336 are 7: what was there on the third day is of the past. `1x48` are 49 samples.
    runs = "costwarden_remediation_runs_total"
    asked = Asked(
        counter("costwarden_build_info", "1x480"),
        # Three long ago, of one replica and the other.
        *(counter(runs, "3x480", instance=name, playbook="stop", outcome="failed") for name in ("a", "b")),
        # One long ago, and one on the ninth day; one that timed out on the ninth, the first of its kind.
        *(counter(runs, "1x431 2x48", instance=name, playbook="suspend", outcome="failed") for name in ("a", "b")),
        *(counter(runs, "_x432 1x48", instance=name, playbook="suspend", outcome="timed_out") for name in ("a", "b")),
        counter("costwarden_remediation_refused_total", "4x480", instance="a", playbook="stop", reason="hourly_limit"),
        # The scrape of seven days ago failed.
        counter("costwarden_notifications_total", "5x143 _x1 5x334 6", instance="a", receiver="sms", outcome="failed"),
    )
    # Of what was there before none, then one more, then one that is new.
    asked.expect("finops-remediation: Runs failed, 7 days A", {NOTHING: 2})
    asked.expect("finops-remediation: Refused, 7 days A", {NOTHING: 0})
    asked.expect("finops-pipeline: Notifications: Failed C", {(("job", "costwarden"), ("receiver", "sms")): 1})
    asked.check_at(tools, tmp_path, "10d")


def test_refusals_of_a_day_outlive_a_restart_and_begin_with_the_first(tools, tmp_path) -> None:
    # 96 half hours are 2 days; the last 48 are the day.
    def denied(values: str, budget: str, instance: str = "a") -> dict[str, str]:
        return counter("ai_budget_denied_checks_total", values, instance=instance, budget=budget, period="month")

    asked = Asked(
        counter("costwarden_build_info", "1x96", instance="a"),
        counter("process_start_time_seconds", "1x96", instance="a"),
        denied("7x96", "old"),
        # 7 before the day, 9 in it, and 2 after a restart: 2 + 2.
        denied("7x52 9x20 2x22", "restarted"),
        # Born with 5 refusals.
        denied("_x72 5x24", "born"),
        # A process that began today under an address of its own: 36 hours after 1970.
        counter("process_start_time_seconds", "_x72 129600x24", instance="b"),
        denied("_x72 3x24", "born", instance="b"),
        # One that Prometheus has only just found: nobody knows when it refused.
        counter("process_start_time_seconds", "_x72 1x24", instance="c"),
        denied("_x72 90x24", "found", instance="c"),
        # Other reasons are none of a budget; those of budgets stand there already.
        counter("ai_budget_checks_total", "2x71 8x24", instance="a", outcome="denied", reason="tenant_suspended"),
        counter("ai_budget_checks_total", "9x96", instance="a", outcome="denied", reason="emergency_stop"),
        counter("ai_budget_checks_total", "7x52 19x43", instance="a", outcome="denied", reason="budget_exceeded"),
    )

    def line(budget: str) -> tuple[tuple[str, str], ...]:
        return ("budget", budget), ("period", "month"), ("name", f"{budget} month")

    asked.expect(
        "finops-ai-budget: Refusals, 24 hours A",
        {
            line("born"): 5 + 3,
            line("restarted"): 4,
            line("old"): 0,
            line("found"): 0,
            (("reason", "tenant_suspended"), ("name", "tenant_suspended")): 6,
        },
    )
    asked.check_at(tools, tmp_path, "2d")


# --- what a panel says of itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [uid for uid in DASHBOARDS if variables(uid)])
def test_a_panel_that_does_not_heed_what_is_chosen_says_so(uid: str) -> None:
    for panel in panels(uid):
        heeds = all(any(f"${{{one['name']}:regex}}" in target["expr"] for one in variables(uid)) for target in panel["targets"])
        if not heeds and panel["title"] != "Firing":
            says = re.search(r"\b[Aa]ll (tenants|clouds|accounts)\b|chosen", panel["description"])
            # A limit beside the figures of what is chosen is everybody's.
            some = any("${" in target["expr"] for target in panel["targets"])
            assert says or some, panel["title"]


def test_nothing_is_shown_under_an_empty_name() -> None:
    for query in queries():
        assert "or on () vector(0)" not in query.target["expr"], query.title
