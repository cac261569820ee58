"""The dashboards as a user imports them: what is committed is what renders, every query means something, and Grafana would lose nothing."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard_queries import DASHBOARDS, FOLDER, SHOWN_AS, Query, constants, kind_of, panels, queries, substituted, variables
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from picture_faults import NAMED
from promql import analyse, exported, with_recorded

from costwarden import __version__

PROJECT = Path(__file__).parents[2]
RULES = {path.name: yaml.safe_load(path.read_text()) for path in sorted((PROJECT / "alerts").glob("*.rules.yaml"), reverse=True)}
SERIES = with_recorded([RULES["recording.rules.yaml"], *RULES.values()], exported())
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

each_dashboard = pytest.mark.parametrize("uid", DASHBOARDS)

QUERIES = [pytest.param(query, id=query.title) for query in queries()]
ANNOTATIONS = [(uid, found) for uid in DASHBOARDS for found in DASHBOARDS[uid]["annotations"]["list"]]


def rendering(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, folder / "render.py", *arguments], capture_output=True, text=True, check=False, timeout=60)


# --- rendering -----------------------------------------------------------------------------------------------------------------


def test_what_is_committed_is_what_the_sources_give() -> None:
    checked = rendering(FOLDER, "--check")
    assert checked.returncode == 0, checked.stderr


def test_a_changed_a_missing_and_an_orphaned_dashboard_are_found(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "dashboards")
    rendered = tmp_path / "dashboards" / "json"
    (rendered / "finops-cloud-cost.json").write_text("{}\n")
    (rendered / "finops-ai-budget.json").rename(rendered / "finops-old.json")
    checked = rendering(tmp_path / "dashboards", "--check")
    assert checked.returncode == 1
    assert checked.stderr.splitlines() == [
        "dashboards/json: finops-ai-budget.json is missing; `make dashboards` renders it anew",
        "dashboards/json: finops-cloud-cost.json is not what its source gives; `make dashboards` renders it anew",
        "dashboards/json: finops-old.json has no source; `make dashboards` renders it anew",
    ]
    (rendered / "finops-old.json").unlink()
    assert rendering(tmp_path / "dashboards").returncode == 0
    assert rendering(tmp_path / "dashboards", "--check").returncode == 0


# --- what Grafana makes of them ------------------------------------------------------------------------------------------------


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """What `before` has and `after` has not, or has otherwise."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after[key], f"{where}.{key}") if key in after else [f"{where}.{key}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from lost(old, new, f"{where}[{index}]")
    elif before != after:
        yield where


# What the plug-in for Prometheus reads of an annotation, and the types of the SDK, which are those of all plug-ins together, leave out.
OF_THE_PLUGIN = re.compile(r"\.annotations\.list\[\d+\]\.titleFormat")


def through_grafana(dashboard: Any) -> Any:
    register_default_plugins()
    return json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))


@each_dashboard
def test_the_way_through_grafanas_own_types_loses_nothing(uid: str) -> None:
    before = DASHBOARDS[uid]
    assert [where for where in lost(before, through_grafana(before)) if not OF_THE_PLUGIN.fullmatch(where)] == []


@pytest.mark.parametrize(
    "path",
    [
        "panels.1.gridpos",
        "panels.1.options.colourMode",
        "panels.1.targets.0.legendFormt",
        "templating.list.1.multy",
        "annotations.list.0.titelFormat",
    ],
)
def test_a_misspelt_key_is_lost_on_that_way(path: str) -> None:
    dashboard = json.loads(json.dumps(DASHBOARDS["finops-cloud-cost"]))
    node = dashboard
    *parents, key = path.split(".")
    for step in parents:
        node = node[int(step) if step.isdigit() else step]
    node[key] = "x"
    found = [where for where in lost(dashboard, through_grafana(dashboard)) if not OF_THE_PLUGIN.fullmatch(where)]
    assert [where.replace("[", ".").replace("]", "").lstrip(".") for where in found] == [path]


# Grafana takes any word in these, and passes over what it does not know.
OPTIONS_OF = {"merge": set(), "organize": {"excludeByName", "indexByName", "renameByName"}, "sortBy": {"sort"}}


def passed_over(panel: Any) -> Iterator[str]:
    """What Grafana would ignore in a panel without a word, though its types allow it: each where it stands."""
    named = {target["legendFormat"] for target in panel["targets"]}
    for number, transformation in enumerate(panel.get("transformations", ())):
        known = OPTIONS_OF.get(transformation["id"])
        if known is None or transformation["options"].keys() - known:
            yield f"transformations[{number}]"
        named |= set(transformation["options"].get("renameByName", {}).values())
    for wish in panel["options"].get("sortBy", ()):
        if wish["displayName"] not in named:
            yield "options.sortBy"
    defaults = panel["fieldConfig"]["defaults"]
    looks = [("fieldConfig.defaults", defaults)]
    for number, override in enumerate(panel["fieldConfig"]["overrides"]):
        where = f"fieldConfig.overrides[{number}]"
        if not _finds(override["matcher"], named):
            yield f"{where}.matcher"
        # The same setting, said of all fields: there Grafana's types know its name.
        said: Any = {**defaults, "custom": dict(defaults.get("custom", {}))}
        for setting in override["properties"]:
            parent, _, key = setting["id"].rpartition(".")
            (said[parent] if parent else said)[key] = setting["value"]
        looks.append((where, said))
    for where, said in looks:
        if any(step["color"] not in NAMED for step in said.get("thresholds", {}).get("steps", ())):
            yield f"{where}.thresholds"
        alone = {"uid": "x", "panels": [{**panel, "fieldConfig": {"defaults": said, "overrides": []}}]}
        yield from (f"{where}{lost_at.partition('.defaults')[2]}" for lost_at in lost(alone, through_grafana(alone)))


def _finds(matcher: Any, named: set[str]) -> bool:
    """Whether a matcher of Grafana finds any of the names; in `{{provider}} budget` any text may stand for the label."""
    if matcher["id"] == "byRegexp":
        return any(re.search(matcher["options"].strip("/"), re.sub(r"{{\w+}}", "x", name)) for name in named)
    return matcher["id"] == "byName" and matcher["options"] in named


@each_dashboard
def test_grafana_would_ignore_nothing_in_silence(uid: str) -> None:
    assert {panel["title"]: found for panel in panels(uid) if (found := list(passed_over(panel)))} == {}


@pytest.mark.parametrize(
    ("title", "change", "where"),
    [
        ("Budget status", lambda panel: panel["transformations"][1]["options"].update(renamedByName={}), "transformations[1]"),
        ("Budget status", lambda panel: panel["transformations"][1].update(id="organise"), "transformations[1]"),
        ("Budget status", lambda panel: panel["options"]["sortBy"][0].update(displayName="Value #A"), "options.sortBy"),
        (
            "Budget status",
            lambda panel: panel["fieldConfig"]["overrides"][0]["matcher"].update(options="used"),
            "fieldConfig.overrides[0].matcher",
        ),
        (
            "Cost of a day",
            lambda panel: panel["fieldConfig"]["overrides"][0]["matcher"].update(options="/, usually$/"),
            "fieldConfig.overrides[0].matcher",
        ),
        (
            "Forecast of the month",
            lambda panel: panel["fieldConfig"]["overrides"][0]["properties"][0].update(id="custom.fillOpasity"),
            "fieldConfig.overrides[0].custom.fillOpasity",
        ),
        (
            "Budget status",
            lambda panel: panel["fieldConfig"]["overrides"][0]["properties"][0].update(id="units"),
            "fieldConfig.overrides[0].units",
        ),
        (
            "Budget used",
            lambda panel: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1].update(color="amber"),
            "fieldConfig.defaults.thresholds",
        ),
    ],
)
def test_what_grafana_would_ignore_in_silence_is_found(title: str, change: Any, where: str) -> None:
    (panel,) = (found for found in json.loads(json.dumps(panels("finops-cloud-cost"))) if found["title"] == title)
    change(panel)
    assert where in list(passed_over(panel))


def test_every_kind_of_panel_says_what_it_is_coloured_by() -> None:
    # From 12.4 on Grafana hides the marks of a gauge that does not say so.
    modes = {"stat": "thresholds", "gauge": "thresholds", "bargauge": "thresholds", "table": "thresholds"}
    modes |= {"timeseries": "palette-classic", "barchart": "fixed"}
    for uid in DASHBOARDS:
        for panel in panels(uid):
            assert panel["fieldConfig"]["defaults"]["color"]["mode"] == modes[panel["type"]], panel["title"]


def test_green_and_red_say_good_and_bad_and_nothing_else() -> None:
    for uid in DASHBOARDS:
        for panel in panels(uid):
            defaults = panel["fieldConfig"]["defaults"]
            colours = [step["color"] for step in defaults["thresholds"]["steps"]]
            # One colour alone judges nothing.
            assert len(colours) > 1 or colours[0] in ("text", "blue"), panel["title"]


@each_dashboard
def test_a_dashboard_works_wherever_it_is_imported(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    assert dashboard["uid"] == uid
    assert "__inputs" not in dashboard
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    for panel in panels(uid):
        assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [SOURCE] * (1 + len(panel["targets"]))
    for found in (*variables(uid), *dashboard["annotations"]["list"]):
        assert found["datasource"] == SOURCE


@each_dashboard
def test_a_dashboard_carries_the_version_of_the_package(uid: str) -> None:
    assert constants(uid) == {"costwarden_version": __version__}
    (variable,) = (found for found in DASHBOARDS[uid]["templating"]["list"] if found["type"] == "constant")
    assert (variable["current"], variable["hide"]) == ({"text": __version__, "value": __version__}, 2)


def test_the_version_that_is_rendered_is_that_of_the_package(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "dashboards")
    source = tmp_path / "dashboards" / "finops-pipeline.jsonnet"
    code = (
        f"import rjsonnet, json; print(json.loads(rjsonnet.evaluate_file({str(source)!r}, ext_vars={{'version': '9.9.9'}}))['templating'])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "'query': '9.9.9'" in told
    assert __version__ not in told


@each_dashboard
def test_every_panel_says_what_it_shows_and_in_which_unit(uid: str) -> None:
    known = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
    for panel in panels(uid):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in known, panel["title"]


@each_dashboard
def test_panels_do_not_overlap_and_stay_on_the_grid(uid: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARDS[uid]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for cell in itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])):
            assert cell not in taken, f"{panel['title']} lies on {taken.get(cell)}"
            taken[cell] = panel["title"]
    ids = [panel["id"] for panel in DASHBOARDS[uid]["panels"]]
    assert len(set(ids)) == len(ids)


# --- queries -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_reads_what_costwarden_exports_or_the_rules_record(query: Query) -> None:
    labels, faults = analyse(substituted(query.uid, query.target["expr"]), SERIES)
    assert faults == []
    assert set(re.findall(r"{{(\w+)}}", query.target["legendFormat"])) <= labels
    for transformation in query.panel.get("transformations", []):
        columns = transformation["options"].get("indexByName", {})
        assert {column for column in columns if not column.startswith("Value")} <= labels


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_shown_in_the_unit_of_its_figures(query: Query) -> None:
    kind = kind_of(substituted(query.uid, query.target["expr"]))
    assert query.unit in SHOWN_AS[kind], f"{kind} are shown as {query.unit}"


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("sum(ai_spend_monthly_usd)", "usd"),
        ("time() - max(costwarden_cloudwatch_last_success_timestamp_seconds)", "seconds"),
        ("1000 * max(ai_budget_reset_timestamp_seconds)", "milliseconds since 1970"),
        ("sum(aws_s3_bucket_size_bytes)", "bytes"),
        ("sum(ai_spend_monthly_usd) / max(ai_spend_monthly_limit_usd)", "ratio"),
        ("sum(ai_spend_monthly_usd) / global:tenants:count", "usd"),
        ("1 - budget:ai_budget_spent:ratio", "ratio"),
        ("model:ai_cost_per_mtok_usd:ratio", "usd"),
        ("budget:ai_budget_burn:rate1h", "times"),
        ("budget:ai_budget_spent:ratio / budget:ai_budget_period_elapsed:ratio", "times"),
        ("sum(rate(ai_budget_checks_total[5m]))", "a second"),
        ("sum(rate(process_cpu_seconds_total[5m]))", "ratio"),
        ("sum(increase(ai_budget_checks_total[1d]))", "count"),
        ("count(ai_budget_limit_usd > 5) or vector(0)", "count"),
    ],
)
def test_the_kind_of_figures_follows_from_the_names_of_metrics(expression: str, kind: str) -> None:
    assert kind_of(expression) == kind


def test_sums_of_unlike_figures_are_found() -> None:
    with pytest.raises(AssertionError, match="adds seconds to usd"):
        kind_of("ai_spend_monthly_usd + costwarden_page_render_duration_seconds")


def test_prometheus_itself_can_read_every_query(tools: Any, tmp_path: Path) -> None:
    expressions = [substituted(query.uid, query.target["expr"]) for query in queries()]
    expressions += [substituted(uid, annotation["expr"]) for uid, annotation in ANNOTATIONS]
    rules = [{"record": f"query_{number}", "expr": expression} for number, expression in enumerate(expressions)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run([tools.promtool, "check", "rules", path], capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {len(rules)} rules found" in checked.stdout


@pytest.mark.parametrize(("uid", "annotation"), [pytest.param(uid, found, id=f"{uid}: {found['name']}") for uid, found in ANNOTATIONS])
def test_an_annotation_reads_what_there_is_and_names_labels_that_it_has(uid: str, annotation: Any) -> None:
    labels, faults = analyse(substituted(uid, annotation["expr"]), SERIES)
    assert faults == []
    assert set(re.findall(r"{{(\w+)}}", annotation["titleFormat"])) <= labels


@each_dashboard
def test_every_dashboard_shows_when_alerts_fired_and_playbooks_ran(uid: str) -> None:
    assert [found["name"] for found in DASHBOARDS[uid]["annotations"]["list"]] == ["Alerts", "Remediation runs"]


@each_dashboard
def test_a_series_beside_others_is_not_joined_by_a_zero_without_a_name(uid: str) -> None:
    # `x or vector(0)` has the zero beside every x that has a label; `x or on () vector(0)` only where there is no x.
    for panel in panels(uid):
        for target in panel["targets"]:
            assert "{{" not in target["legendFormat"] or "or vector(0)" not in target["expr"], panel["title"]


@each_dashboard
def test_variables_offer_the_values_of_a_label_that_exists(uid: str) -> None:
    for variable in variables(uid):
        metrics, label = re.fullmatch(r'label_values\((\w[\w:]+|{__name__=~"[\w|]+"}), (\w+)\)', variable["query"]["query"]).groups()
        assert label == variable["name"]
        names = metrics.removeprefix('{__name__=~"').removesuffix('"}')
        assert all(label in SERIES[metric] for metric in names.split("|"))


@each_dashboard
def test_queries_use_only_variables_that_the_dashboard_has(uid: str) -> None:
    names = {variable["name"] for variable in DASHBOARDS[uid]["templating"]["list"]} | {"__rate_interval"}
    for panel in panels(uid):
        for text in (panel["title"], *(target["expr"] for target in panel["targets"])):
            assert set(re.findall(r"\$\{?(\w+)", text)) <= names


# --- links ---------------------------------------------------------------------------------------------------------------------


def links(panel: Any) -> Iterator[tuple[str, str]]:
    """(Column or empty, URL) of each link of a panel."""
    defaults = [("", link) for link in panel["fieldConfig"]["defaults"].get("links", [])]
    of_columns = [
        (override["matcher"]["options"], link)
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "links"
        for link in prop["value"]
    ]
    for column, link in [*defaults, *of_columns]:
        yield column, link["url"]


@each_dashboard
def test_links_lead_to_a_dashboard_and_set_variables_that_it_has(uid: str) -> None:
    for panel in panels(uid):
        for column, url in links(panel):
            target, path = re.fullmatch(r"/d/([\w-]+)\?(.+)", url).groups()
            names = {variable["name"] for variable in DASHBOARDS[target]["templating"]["list"]}
            fixed, *chosen, time = path.split("&")
            assert (fixed, time) == ("${datasource:queryparam}", "${__url_time_range}")
            for setting in chosen:
                name, source = re.fullmatch(r"var-(\w+)=\$\{__(?:data\.fields|field\.labels)\.(\w+):percentencode\}", setting).groups()
                assert name == source
                assert name in names
                shown = {label for target in panel["targets"] for label in analyse(substituted(uid, target["expr"]), SERIES)[0]}
                assert source in shown, panel["title"]
                if column:
                    (organize,) = (found for found in panel["transformations"] if found["id"] == "organize")
                    assert organize["options"]["renameByName"][source] == column


def test_one_gets_from_the_overview_to_every_other_dashboard() -> None:
    reached = {re.match(r"/d/([\w-]+)", url)[1] for panel in panels("finops-overview") for _, url in links(panel)}
    assert {"finops-cloud-cost", "finops-ai-budget", "finops-remediation"} <= reached
    # All of them stand in the menu of each.
    for dashboard in DASHBOARDS.values():
        (menu,) = dashboard["links"]
        assert (menu["type"], menu["tags"]) == ("dashboards", ["costwarden"])
        assert "costwarden" in dashboard["tags"]


def test_links_of_alerts_set_only_variables_that_their_dashboard_has() -> None:
    for rule in (rule for document in RULES.values() for group in document["groups"] for rule in group["rules"] if "alert" in rule):
        url = rule["annotations"]["dashboard_url"]
        uid = re.match(r"/d/([\w-]+)", url)[1]
        assert set(re.findall(r"var-(\w+)=", url)) <= {variable["name"] for variable in DASHBOARDS[uid]["templating"]["list"]}


NO_PANELS = {"Status, Targets", "never metered", "reserved"}
"""What the runbook has in italics and is none of ours."""


def test_the_runbook_names_panels_of_the_dashboard_that_the_alert_leads_to() -> None:
    chapters = re.split(r"^## (\w+)$", (PROJECT / "alerts" / "README.md").read_text(), flags=re.MULTILINE)
    found, faults = set(), []
    for rule in (rule for document in RULES.values() for group in document["groups"] for rule in group["rules"] if "alert" in rule):
        titles = [panel["title"] for panel in DASHBOARDS[re.match(r"/d/([\w-]+)", rule["annotations"]["dashboard_url"])[1]]["panels"]]
        chapter = chapters[chapters.index(rule["alert"]) + 1]
        named = set(re.findall(r"(?<![*\w])\*([^*\n]+)\*(?!\*)", chapter))
        found |= named
        # Without the span of time that a title may end in.
        known = {name for name in named if any(title == name or title.startswith(f"{name}, ") for title in titles)}
        faults += [f"{rule['alert']}: {name}" for name in named - known - NO_PANELS]
    assert found > NO_PANELS
    assert faults == []


def test_every_recorded_series_is_read_by_a_rule_or_a_panel() -> None:
    rules = [rule for document in RULES.values() for group in document["groups"] for rule in group["rules"]]
    read = " ".join([rule["expr"] for rule in rules] + [query.target["expr"] for query in queries()])
    recorded = {rule["record"] for rule in rules if "record" in rule}
    assert {name for name in recorded if not re.search(rf"(?<![\w:]){name}(?![\w:])", read)} == set()


# --- the FinOps guide ----------------------------------------------------------------------------------------------------------

GUIDE = {
    # Its list of dashboards.
    "finops-cloud-cost": {
        "Monthly spend vs. budget": "Month to date against the budget",
        "Cost by region": "Cost by region, this month",
        "Cost by service": "Cost by service, this month",
        "Top 10 cost drivers": "Top 10 cost drivers, this month",
        "Month-over-month growth %": "Month over month",
        "Cost per customer": "Cost per customer",
        # Its monthly review.
        "Forecast for end-of-month": "Forecast of the month",
        "Budget status": "Budget status",
        "S3 bucket sizes": "Buckets",
        "Identify variances": "Expected and observed",
        # The spike of its alerts.
        "spend spike day-over-day": "Day over day",
    },
    "finops-ai-budget": {
        "Total AI spend (MTD)": "Month to date",
        "Spend by tenant (top 10 consumers)": "Spend by tenant, 30 days",
        "Spend by model": "Spend by model, 30 days",
        "Tenant budget status": "Budget status",
        "at-risk tenants": "At risk",
        "Token efficiency (cost per 1M tokens)": "Cost of a million tokens, all time",
        "Anomaly detection (usage spikes)": "Expected and observed",
        "Average cost per report": "Cost of a report, all time",
        "Tenants over budget": "Budgets used up",
    },
    "finops-overview": {
        # Its quarterly review.
        "Total cloud spend trend (12 months)": "Months",
        "Cost per customer (unit economics)": "Cost per customer",
        "Budget adherence rate": "Budget adherence",
        "Forecast": "Month to date and forecast",
        "Cost optimization": "Cost without an owner",
    },
}


@pytest.mark.parametrize(("uid", "asked"), [(uid, asked) for uid, all_of in GUIDE.items() for asked in all_of])
def test_the_dashboards_show_what_the_finops_guide_lists(uid: str, asked: str) -> None:
    assert GUIDE[uid][asked] in [panel["title"] for panel in panels(uid)]


@pytest.mark.parametrize(
    ("uid", "title"),
    [
        ("finops-cloud-cost", "Forecast of the month"),
        ("finops-ai-budget", "Forecast of the month"),
        ("finops-overview", "Month to date and forecast"),
    ],
)
def test_a_forecast_is_a_band_between_its_bounds_with_a_line_for_the_limit(uid: str, title: str) -> None:
    (panel,) = (found for found in panels(uid) if found["title"] == title)
    names = [target["legendFormat"] for target in panel["targets"]]
    assert names[:4] == ["month to date", "forecast", "lower bound", "upper bound"]
    overrides = panel["fieldConfig"]["overrides"]
    properties = {found["matcher"]["options"]: {prop["id"]: prop["value"] for prop in found["properties"]} for found in overrides}
    assert properties["upper bound"]["custom.fillBelowTo"] == "lower bound"
    assert properties[names[4]]["custom.lineStyle"]["fill"] == "dash"


@pytest.mark.parametrize(
    ("query", "alert", "recorded"),
    [
        ("finops-ai-budget: Burn of an hour B", "AIBudgetBurnsFast", "budget:ai_budget_burn:rate1h"),
        ("finops-ai-budget: Burn of a day B", "AIBudgetBurnsSlowly", "budget:ai_budget_burn:rate1d"),
        ("finops-cloud-cost: Burn of a day B", "CloudBudgetBurns", "budget:cloud_budget_burn:rate1d"),
    ],
)
def test_a_burn_is_shown_against_the_factor_that_its_alert_looks_at(query: str, alert: str, recorded: str) -> None:
    (found,) = (one for one in queries() if one.title == query)
    (expression,) = (
        rule["expr"] for document in RULES.values() for group in document["groups"] for rule in group["rules"] if rule.get("alert") == alert
    )
    factor = re.search(rf"{recorded}\b[^>]*> (\d+)", expression)[1]
    assert found.target["legendFormat"] == alert
    assert re.fullmatch(rf"{factor} \+ 0 \* count\({recorded}{{.*}}\)", found.target["expr"])
    assert re.search(rf"{alert} looks\s+at {factor}, the dashed line", found.panel["description"])
    (dashed,) = (one for one in found.panel["fieldConfig"]["overrides"] if one["matcher"]["options"] == alert)
    assert {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}} in dashed["properties"]


def test_a_table_of_the_first_ten_has_room_for_ten() -> None:
    # Grafana's grid: 30 pixels a line and 8 between two; a panel has 32 of them for its title and 16 around its body, a table lines of 36.
    found = 0
    for uid in DASHBOARDS:
        for panel in panels(uid):
            if panel["type"] == "table" and panel["targets"][0]["expr"].startswith("topk(10, "):
                found += 1
                assert 38 * panel["gridPos"]["h"] - 8 - 32 - 16 >= (1 + 10) * 36, panel["title"]
    assert found == 3


def judged(query: Query) -> bool:
    """Whether a figure is coloured by what it is."""
    said = [query.panel["fieldConfig"]["defaults"]] if query.panel["type"] in ("stat", "gauge", "bargauge") else []
    said += [
        {one["id"]: one["value"] for one in override["properties"]}
        for override in query.panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == (query.column or query.target["legendFormat"])
    ]
    return any(len(one.get("thresholds", {}).get("steps", ())) > 1 for one in said)


def test_what_went_wrong_once_is_not_red_for_ever() -> None:
    # A counter alone never falls: it needs a span of time.
    counters = [query for query in queries() if judged(query) and re.search(r"_total\b", query.target["expr"])]
    assert {query.title for query in counters} >= {"finops-remediation: Runs failed, 7 days A", "finops-pipeline: Notifications: Failed C"}
    for query in counters:
        assert re.search(r"_total(\{[^}]*\})?\[1?\d*[dh](\]| offset)", query.target["expr"]), query.title


NEEDING = re.compile(
    r"kubernetes_cost_|aws_s3_bucket|cloud_provider_budget_|ai_reconciliation_|ai_billed_|_cost_forecast_(lower_)?usd or |budget_burn:"
    r"|_expected_|costwarden_notifications_|costwarden_remediation_runs|costwarden_guardrail_|_limit_usd{action!="
)
"""What there is only where something is configured, or has been seen for long enough."""


def test_a_panel_that_needs_something_says_what_where_it_shows_nothing() -> None:
    silent = []
    for uid in DASHBOARDS:
        for panel in panels(uid):
            says = panel["fieldConfig"]["defaults"].get("noValue")
            # A zero in its place says that there was none.
            if all(
                NEEDING.search(target["expr"]) and "0 * max(costwarden_build_info)" not in target["expr"] for target in panel["targets"]
            ):
                silent += [] if says and says.startswith("No data: needs ") else [f"{uid}: {panel['title']}"]
            assert says is None or panel["title"] == "Firing" or says.startswith("No data: needs "), panel["title"]
    assert silent == []


@each_dashboard
def test_shares_of_budgets_change_colour_at_80_and_100_per_cent(uid: str) -> None:
    for query in queries():
        is_share = query.unit == "percentunit" and "budget_spent:ratio" in query.target["expr"] and "> bool" not in query.target["expr"]
        if query.uid == uid and is_share:
            steps = query.panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert [(step["value"], step["color"]) for step in steps] == [(None, "green"), (0.8, "orange"), (1, "red")], query.title
