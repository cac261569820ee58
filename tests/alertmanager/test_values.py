"""`values.yaml`: each mistake has its sentence, and what is rendered from it is right for the programs that read it."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from costwarden.artifacts.rendering import rendered, values_tmpl, with_job
from costwarden.artifacts.shapes import seconds
from costwarden.artifacts.timing import Heartbeat
from costwarden.artifacts.values import Values, ValuesError, load_values
from costwarden.cli import cli
from costwarden.strict_yaml import models_in

PROJECT = Path(__file__).resolve().parents[2]
FIXTURES = PROJECT / "tests" / "fixtures" / "values"
EVERYTHING = FIXTURES / "everything.ok.yaml"
BAD = sorted(path.name.removesuffix(".bad.yaml") for path in FIXTURES.glob("*.bad.yaml"))
PACKAGE = PROJECT / "exporter" / "costwarden" / "artifacts"
SECRET = "hunter2"
"""What the fixtures write where a secret does not belong."""


def expected(name: str) -> str:
    """What the first lines of a bad fixture say that its error is."""
    path = FIXTURES / f"{name}.bad.yaml"
    return "\n".join(re.findall(r"^# error: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)).replace("{path}", str(path))


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_told_with_file_key_and_rule(name: str) -> None:
    with pytest.raises(ValuesError) as caught:
        load_values(FIXTURES / f"{name}.bad.yaml")
    assert str(caught.value) == expected(name)
    assert SECRET not in str(caught.value)


def rules() -> Iterator[str]:
    """The message of each rule, as a pattern: of every `raise ValueError`, and of every `_shaped`."""
    for path in (PACKAGE / "shapes.py", PACKAGE / "receivers.py", PACKAGE / "timing.py", PACKAGE / "values.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id="ValueError"), args=[ast.Constant(value=str(text))]):
                    yield re.escape(text)
                case ast.Call(func=ast.Name(id="ValueError"), args=[ast.JoinedStr(values=parts)]):
                    yield "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in parts)
                case ast.Call(func=ast.Name(id="_shaped"), args=[_, ast.Constant(value=str(text))]):
                    yield re.escape(text)


@pytest.mark.parametrize("rule", sorted(set(rules())))
def test_each_rule_has_a_file_that_breaks_it(rule: str) -> None:
    assert [name for name in BAD if re.search(rule, expected(name))] != []


@pytest.mark.parametrize(("text", "is_worth"), [("30s", 30), ("1h30m", 5400), ("4d", 345_600), ("1w", 604_800), ("0", 0), ("0s", 0)])
def test_a_duration_is_worth_its_seconds(text: str, is_worth: int) -> None:
    assert seconds(text) == is_worth


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("# nothing\n")
    assert load_values(tmp_path / "values.yaml") == Values()


def test_what_the_example_leaves_as_a_comment_is_right_as_well() -> None:
    text = (PROJECT / "alertmanager" / "values.yaml").read_text()
    found = re.search(r"^mute_times: \[\]\n((?:# .*\n)+)", text, re.MULTILINE)
    assert found is not None
    mute = yaml.safe_load(re.sub(r"^# ", "", found[1], flags=re.MULTILINE))
    assert Values.model_validate({"mute_times": mute}).mute_times[0].end == "07:00"
    more = re.search(r"^  # finops-sms:\n(?:  # .*\n)+", text, re.MULTILINE)
    assert more is not None
    extra = yaml.safe_load(re.sub(r"^  # ", "", more[0], flags=re.MULTILINE))
    receivers = yaml.safe_load(text)["receivers"] | extra
    stage = re.search(r"^  # - stage: data-lead\n(?:  # .*\n)+", text, re.MULTILINE)
    assert stage is not None
    (data_lead,) = yaml.safe_load(re.sub(r"^  # ", "", stage[0], flags=re.MULTILINE))
    escalated = {
        "receivers": receivers | {"data-lead": receivers["finops-lead"]},
        "routes": {"category": {"database": {"critical": [*extra]}}},
        "escalation": [*(stage.model_dump() for stage in Values().escalation), data_lead],
    }
    assert Values.model_validate(escalated).escalation[2].teams == ("data",)
    beat = re.search(r"^# heartbeat:\n(?:# .*\n)+", text, re.MULTILINE)
    assert beat is not None
    heartbeat = yaml.safe_load(re.sub(r"^# ", "", beat[0], flags=re.MULTILINE))
    (receiver,) = re.findall(r"# (beat: \{.*\})$", beat[0], re.MULTILINE)
    with_one = {"receivers": yaml.safe_load(text)["receivers"] | yaml.safe_load(receiver)} | heartbeat
    assert Values.model_validate(with_one).heartbeat == Heartbeat(receivers=("beat",))
    routes = {"severity": {"critical": ["finops-pager", *extra], "warning": ["finops-email"], "info": ["finops-info"]}}
    assert set(Values.model_validate({"receivers": receivers, "routes": routes}).receivers) >= set(extra)


def test_what_the_page_of_the_docs_shows_is_right(tools: Any, tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "alertmanager.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    shown = [block for block in blocks if block.keys() <= Values.model_fields.keys()]
    assert {key for block in shown for key in block} == {"escalation", "mute_times", "receivers", "heartbeat", "routes"}
    for block in shown:
        names = {name for stage in block.get("escalation", ()) for name in stage["receivers"]} | {"people"}
        people = {"receivers": {name: {"email": [{"to": ["a@example.com"]}]} for name in names} | block.get("receivers", {})}
        everyone = {severity: ["people"] for severity in ("critical", "warning", "info")}
        routes = {"routes": {"severity": everyone, "otherwise": "people"}}
        if "routes" in block:
            del people["receivers"]["people"]
        Values.model_validate(routes | {"escalation": []} | block | people)
    (rules,) = (block for block in blocks if "groups" in block)
    (tmp_path / "heartbeat.rules.yaml").write_text(yaml.safe_dump(rules))
    checked = subprocess.run(
        [tools.promtool, "check", "rules", tmp_path / "heartbeat.rules.yaml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert rules["groups"][0]["rules"][0]["alert"] == Heartbeat(receivers=("beat",)).alert


def keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for inner in models_in(field.annotation):
            yield from keys(inner)


def test_every_key_stands_in_the_example_and_on_the_page_of_the_docs() -> None:
    page = (PROJECT / "docs" / "alertmanager.md").read_text()
    assert {key for key in keys(Values) if not re.search(rf"[`.\s{{]{key}\b", page)} == set()
    # The example does without what few need.
    example = (PROJECT / "alertmanager" / "values.yaml").read_text() + EVERYTHING.read_text()
    assert {key for key in keys(Values) if not re.search(rf"\b{key}:", example)} == set()


# --- rules -------------------------------------------------------------------------------------------------------------------------


def test_rules_look_for_the_job_of_the_values(tools: Any, tmp_path: Path) -> None:
    values = load_values(FIXTURES / "everything.ok.yaml")
    texts = rendered(values, PROJECT)
    rule_files = [path for path in texts if path.match("alerts/*.rules.yaml")]
    assert rule_files != []
    for path in rule_files:
        target = tmp_path / path.name
        target.write_text(texts[path])
        shipped, ours = (yaml.safe_load(text) for text in ((PROJECT / path).read_text(), texts[path]))
        # Nothing else changes: put back, it is what ships.
        assert yaml.safe_load(yaml.safe_dump(ours).replace(values.prometheus.job, "costwarden")) == shipped
    checked = subprocess.run([tools.promtool, "check", "rules", *tmp_path.glob("*.yaml")], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    everything = {path: texts.get(path.relative_to(PROJECT)) or path.read_text() for path in (PROJECT / "alerts").glob("*.rules.yaml")}
    assert [path.name for path, text in everything.items() if re.search(r"job\W+costwarden\b", text)] == []


def test_only_the_job_is_renamed() -> None:
    rules = 'up{job="costwarden"} or absent(up{job="costwarden"}) # costwarden_up{other_job="costwarden"}: no target of job costwarden.'
    assert with_job(rules, "cw") == 'up{job="cw"} or absent(up{job="cw"}) # costwarden_up{other_job="costwarden"}: no target of job cw.'


# --- the command ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def export() -> Callable[..., Any]:
    def run(*arguments: object) -> Any:
        return CliRunner().invoke(cli, ["artifacts", "export", *map(str, arguments)])

    return run


def test_an_export_with_values_is_what_ships_with_what_they_render_to(export: Callable[..., Any], tmp_path: Path, tools: Any) -> None:
    values = FIXTURES / "everything.ok.yaml"
    done = export(tmp_path / "ops", "--values", values)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "ops" / "alertmanager" / "templates" / "values.tmpl").read_text() == values_tmpl(load_values(values))
    assert (tmp_path / "ops" / "scripts").is_dir()
    # It says what it was rendered from, and is rendered anew from its own copy.
    own = tmp_path / "ops" / "alertmanager" / "values.yaml"
    assert own.read_text() == values.read_text()
    own.write_text(values.read_text().replace("https://grafana.example.com/team/", "https://charts.example.com"))
    assert export(tmp_path / "ops", "--values", own, "--force").exit_code == 0
    assert "https://charts.example.com{{ end }}" in (tmp_path / "ops" / "alertmanager" / "templates" / "values.tmpl").read_text()
    assert "https://charts.example.com" in own.read_text()
    checked = subprocess.run(
        [tools.amtool, "check-config", tmp_path / "ops" / "alertmanager" / "alertmanager.yaml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_example_renders_to_exactly_what_ships(export: Callable[..., Any], tmp_path: Path) -> None:
    assert export(tmp_path / "with", "--values", PROJECT / "alertmanager" / "values.yaml").exit_code == 0
    for path in sorted((PROJECT / "alertmanager").rglob("*.*")):
        assert (tmp_path / "with" / path.relative_to(PROJECT)).read_bytes() == path.read_bytes()


def test_bad_values_write_nothing(export: Callable[..., Any], tmp_path: Path) -> None:
    done = export(tmp_path / "ops", "--values", FIXTURES / "muted_pages.bad.yaml")
    assert (done.exit_code, done.output) == (1, f"Error: {expected('muted_pages')}\n")
    assert not (tmp_path / "ops").exists()


def test_no_alert_of_costwarden_is_a_heartbeat_that_people_never_hear_of(export: Callable[..., Any], tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    people = {"email": [{"to": ["a@example.com"]}]}
    beat = {"webhook": [{"url": "https://beats.example.com/1"}], "send_resolved": False}
    routes = {"severity": {severity: ["people"] for severity in ("critical", "warning", "info")}, "otherwise": "people"}
    mine = {"receivers": {"people": people, "beat": beat}, "routes": routes, "escalation": []}
    values.write_text(yaml.safe_dump(mine | {"heartbeat": {"receivers": ["beat"], "alert": "LedgerDown"}}))
    done = export(tmp_path / "ops", "--values", values)
    what = "`LedgerDown` is an alert of costwarden that people must hear of"
    assert (done.exit_code, done.output) == (1, f"Error: {values}: `heartbeat.alert`: {what}\n")


def test_an_alert_that_no_stage_would_ever_hear_of_is_told(export: Callable[..., Any], tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    stage = {"stage": "lead", "after": "30m", "receivers": ["finops-lead"], "alerts": ["LedgerDown", "BudgetExceeded100Percent"]}
    executive = {"stage": "executive", "after": "1h", "receivers": ["finops-executive"]}
    values.write_text(yaml.safe_dump({"escalation": [stage, executive]}))
    done = export(tmp_path / "ops", "--values", values)
    what = "`BudgetExceeded100Percent` is no alert of costwarden; alerts/README.md has their table"
    assert (done.exit_code, done.output) == (1, f"Error: {values}: `escalation[0]`: {what}\n")
    assert not (tmp_path / "ops").exists()
    # What your own rules are called is for you to know.
    values.write_text(yaml.safe_dump({"escalation": [{**stage, "category": "database"}, executive]}))
    assert export(tmp_path / "ops", "--values", values).exit_code == 0


@pytest.mark.parametrize(
    ("name", "severity", "what"),
    [
        (
            "AIBudgetOverspent",
            "critical",
            "`routes.alert`: `AIBudgetOverspent` is no alert of costwarden; alerts/README.md has their table",
        ),
        ("AIBudgetWarning", "critical", "`routes.alert.AIBudgetWarning.critical`: nobody would be told: the alert is `warning`"),
    ],
)
def test_an_alert_that_nobody_would_hear_of_by_its_name_is_told(
    export: Callable[..., Any], tmp_path: Path, name: str, severity: str, what: str
) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"routes": {"alert": {name: {severity: ["finops-pager"]}}}}))
    done = export(tmp_path / "ops", "--values", values)
    assert (done.exit_code, done.output) == (1, f"Error: {values}: {what}\n")


def test_every_alert_can_be_routed_by_its_name_and_severity(export: Callable[..., Any], tmp_path: Path) -> None:
    shipped = [
        (rule["alert"], rule["labels"]["severity"])
        for path in sorted((PROJECT / "alerts").glob("*.rules.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"routes": {"alert": {name: {severity: ["finops-pager"]} for name, severity in shipped}}}))
    done = export(tmp_path / "ops", "--values", values)
    assert done.exit_code == 0, done.output
    routes = yaml.safe_load((tmp_path / "ops" / "alertmanager" / "alertmanager.yaml").read_text())["route"]["routes"]
    named = [route["matchers"][1] for route in routes if route.get("matchers", [])[1:2] and route["matchers"][1].startswith("alertname = ")]
    assert sorted(named) == sorted(f'alertname = "{name}"' for name, _ in shipped)


def test_values_that_are_not_there_are_told(export: Callable[..., Any], tmp_path: Path) -> None:
    done = export(tmp_path / "ops", "--values", tmp_path / "values.yaml")
    assert done.exit_code == 1
    assert f"{tmp_path}/values.yaml" in done.output
    assert "No such file or directory" in done.output
