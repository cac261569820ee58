"""Rules, runbook, dashboards and routes are one: none names what another does not have."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from alert_gate.documents import dump, load
from alert_gate.routing import inhibition_faults
from alert_gate.rules import chapter_faults, label_names
from alert_gate.shipped import ALERTS, AROUND, FILE_OF, PROJECT, RUNBOOK
from alert_gate.table import BEGIN, END, alert_table, with_table

ROUTES = load((PROJECT / "alertmanager" / "alertmanager.yaml").read_text())


@pytest.mark.usefixtures("golden")  # so that `make golden` runs it
def test_the_runbook_begins_with_the_table_of_all_alerts() -> None:
    expected = with_table(RUNBOOK.read_text(), alert_table(ALERTS, FILE_OF))
    if os.environ.get("COSTWARDEN_GOLDEN") == "write":
        RUNBOOK.write_text(expected)
    assert RUNBOOK.read_text() == expected, "alerts/README.md is out of date; `make golden` writes its table anew"


def test_the_table_has_a_row_an_alert_and_no_cell_breaks_it() -> None:
    rule = {"labels": {"severity": "info"}, "annotations": {"condition": "either | or", "escalation": "FinOps team, within 1 day"}}
    table = alert_table({"SpentTooMuch": rule}, {"SpentTooMuch": Path("alerts/spend.rules.yaml")})
    assert table.splitlines()[2:] == [
        "| [SpentTooMuch](#spenttoomuch) | info | either / or | FinOps team, within 1 day | [spend.rules](spend.rules.yaml) |"
    ]


@pytest.mark.parametrize("page", ["", BEGIN, END + BEGIN, BEGIN + BEGIN + END])
def test_a_page_without_a_place_for_the_table_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="no place for the table"):
        with_table(page, "")


def test_every_alert_has_a_whole_chapter() -> None:
    assert chapter_faults(ALERTS, AROUND.runbook) == []


def test_every_chapter_of_one_word_is_of_an_alert_or_says_how_to_use_the_page() -> None:
    assert AROUND.runbook.keys() - {name.lower() for name in ALERTS} <= {"setup", "thresholds", "upgrading"}


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_has_a_route_and_does_not_end_with_the_last_resort(tools: Any, tmp_path: Path, name: str) -> None:
    config = tmp_path / "alertmanager.yaml"
    route = ROUTES["route"] | {"receiver": "nobody", "routes": [*ROUTES["route"]["routes"][:-1], {"receiver": "nobody"}]}
    config.write_text(dump(ROUTES | {"route": route, "receivers": [*ROUTES["receivers"], {"name": "nobody"}]}))
    labels = ALERTS[name]["labels"] | {"alertname": name, "team": "finops"}
    given = [f"{key}={json.dumps(value)}" for key, value in labels.items()]
    tested = subprocess.run(
        [tools.amtool, "config", "routes", "test", f"--config.file={config}", *given],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "GOMAXPROCS": "1"},
    )
    assert tested.returncode == 0, tested.stderr
    assert tested.stdout.strip()
    assert "nobody" not in tested.stdout


def test_every_inhibition_names_alerts_that_exist_and_labels_that_both_sides_have() -> None:
    labels = {name: label_names(rule, AROUND.series) for name, rule in ALERTS.items()}
    assert list(inhibition_faults(ROUTES["inhibit_rules"], ALERTS, labels)) == []


@pytest.mark.parametrize(
    ("rule", "faults"),
    [
        ({"source_matchers": ["alertname = A"], "target_matchers": ["alertname = B"], "equal": ["budget"]}, []),
        ({"source_matchers": ["severity = critical"], "target_matchers": ['severity =~ "warning|info"'], "equal": ["budget"]}, []),
        (
            {"source_matchers": ["alertname = A"], "target_matchers": ['alertname =~ "B|Gone"'], "equal": ["budget"]},
            ["inhibits by Gone, which is no alert"],
        ),
        (
            {"source_matchers": ["severity = page"], "target_matchers": ["alertname = B"]},
            ["inhibits by ['severity = page'], which no alert matches"],
        ),
        (
            {"source_matchers": ["alertname = A"], "target_matchers": ["alertname = B"], "equal": ["period"]},
            ["wants period equal, which B never has"],
        ),
    ],
)
def test_an_inhibition_that_cannot_act_is_found(rule: Any, faults: list[str]) -> None:
    alerts = {"A": {"labels": {"severity": "critical"}}, "B": {"labels": {"severity": "warning"}}}
    assert list(inhibition_faults([rule], alerts, {"A": frozenset({"budget", "period"}), "B": frozenset({"budget"})})) == faults
