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
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from promql import analyse, exported, with_recorded

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "dashboards"
RULES = {path.name: yaml.safe_load(path.read_text()) for path in sorted((PROJECT / "alerts").glob("*.rules.yaml"), reverse=True)}
SERIES = with_recorded([RULES["recording.rules.yaml"], *RULES.values()], exported())
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "json").glob("*.json"))}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

each_dashboard = pytest.mark.parametrize("uid", DASHBOARDS)


def panels(uid: str) -> list[Any]:
    return [panel for panel in DASHBOARDS[uid]["panels"] if panel["type"] != "row"]


QUERIES = [
    pytest.param(panel, target, id=f"{uid}: {panel['title']} {target['refId']}")
    for uid in DASHBOARDS
    for panel in panels(uid)
    for target in panel["targets"]
]


def expression(target: Any) -> str:
    """The query as Prometheus gets it, with Grafana's variables replaced."""
    return re.sub(r"\$\w+", "5m", target["expr"].replace("$__rate_interval", "5m"))


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


def through_grafana(dashboard: Any) -> Any:
    register_default_plugins()
    return json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))


@each_dashboard
def test_the_way_through_grafanas_own_types_loses_nothing(uid: str) -> None:
    assert list(lost(DASHBOARDS[uid], through_grafana(DASHBOARDS[uid]))) == []


@pytest.mark.parametrize(
    "path", ["panels.1.gridpos", "panels.1.options.colourMode", "panels.1.targets.0.legendFormt", "templating.list.1.multy"]
)
def test_a_misspelt_key_is_lost_on_that_way(path: str) -> None:
    dashboard = json.loads(json.dumps(DASHBOARDS["finops-cloud-cost"]))
    node = dashboard
    *parents, key = path.split(".")
    for step in parents:
        node = node[int(step) if step.isdigit() else step]
    node[key] = "x"
    assert [where.replace("[", ".").replace("]", "").lstrip(".") for where in lost(dashboard, through_grafana(dashboard))] == [path]


@each_dashboard
def test_a_dashboard_works_wherever_it_is_imported(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    assert dashboard["uid"] == uid
    assert "__inputs" not in dashboard
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    for panel in panels(uid):
        assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [SOURCE] * (1 + len(panel["targets"]))
    for variable in dashboard["templating"]["list"][1:]:
        assert variable["datasource"] == SOURCE


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


@pytest.mark.parametrize(("panel", "target"), QUERIES)
def test_a_query_reads_what_costwarden_exports_or_the_rules_record(panel: Any, target: Any) -> None:
    labels, faults = analyse(expression(target), SERIES)
    assert faults == []
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels
    for transformation in panel.get("transformations", []):
        columns = transformation["options"].get("indexByName", {})
        assert {column for column in columns if not column.startswith("Value")} <= labels


def test_prometheus_itself_can_read_every_query(tools: Any, tmp_path: Path) -> None:
    rules = [{"record": f"query_{number}", "expr": expression(query.values[1])} for number, query in enumerate(QUERIES)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run([tools.promtool, "check", "rules", path], capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {len(QUERIES)} rules found" in checked.stdout


@each_dashboard
def test_variables_offer_the_values_of_a_label_that_exists(uid: str) -> None:
    for variable in DASHBOARDS[uid]["templating"]["list"][1:]:
        metric, label = re.fullmatch(r"label_values\((\S+), (\w+)\)", variable["query"]["query"]).groups()
        assert label == variable["name"]
        assert label in SERIES[metric]


@each_dashboard
def test_queries_use_only_variables_that_the_dashboard_has(uid: str) -> None:
    variables = {variable["name"] for variable in DASHBOARDS[uid]["templating"]["list"]} | {"__rate_interval"}
    for panel in panels(uid):
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables


def test_links_of_alerts_set_only_variables_that_their_dashboard_has() -> None:
    for rule in (rule for document in RULES.values() for group in document["groups"] for rule in group["rules"] if "alert" in rule):
        url = rule["annotations"]["dashboard_url"]
        uid = re.match(r"/d/([\w-]+)", url)[1]
        assert set(re.findall(r"var-(\w+)=", url)) <= {variable["name"] for variable in DASHBOARDS[uid]["templating"]["list"]}


def test_every_recorded_series_is_read_by_a_rule_or_a_panel() -> None:
    rules = [rule for document in RULES.values() for group in document["groups"] for rule in group["rules"]]
    read = " ".join([rule["expr"] for rule in rules] + [query.values[1]["expr"] for query in QUERIES])
    recorded = {rule["record"] for rule in rules if "record" in rule}
    assert {name for name in recorded if not re.search(rf"(?<![\w:]){name}(?![\w:])", read)} == set()


# --- the FinOps guide ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "title"),
    [
        ("finops-cloud-cost", "Month to date against the budget"),
        ("finops-cloud-cost", "Cost by region"),
        ("finops-cloud-cost", "Cost by service"),
        ("finops-cloud-cost", "Top 10 cost drivers"),
        ("finops-cloud-cost", "Month over month"),
        ("finops-cloud-cost", "Cost per customer"),
        ("finops-ai-budget", "Month to date"),
        ("finops-ai-budget", "Spend by tenant"),
        ("finops-ai-budget", "Spend by model"),
        ("finops-ai-budget", "Budget status"),
        ("finops-ai-budget", "Cost of a million tokens"),
        ("finops-ai-budget", "Hour against the week"),
    ],
)
def test_the_dashboards_show_what_the_finops_guide_lists(uid: str, title: str) -> None:
    assert title in [panel["title"] for panel in panels(uid)]
