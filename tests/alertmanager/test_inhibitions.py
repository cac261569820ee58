"""Which alert holds back which, in a real Alertmanager with the shipped configuration."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from alertmanager_server import Alert, AlertmanagerServer, an_alert

from costwarden.artifacts.inhibitions import INHIBITIONS, Inhibition

PROJECT = Path(__file__).resolve().parents[2]
ALERTS = {
    rule["alert"]: rule
    for path in sorted((PROJECT / "alerts").glob("*.rules.yaml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
TARGETS = [(rule, target) for rule in INHIBITIONS for target in rule.targets or [name for name in ALERTS if name != rule.source]]
IDS = [f"{rule.source}-{target}" for rule, target in TARGETS]


def test_every_alert_of_the_table_ships() -> None:
    assert {name for rule in INHIBITIONS for name in (rule.source, *rule.targets)} <= set(ALERTS)


@pytest.mark.parametrize("rule", [rule for rule in INHIBITIONS if rule.targets], ids=lambda rule: f"{rule.source}-{rule.targets[0]}")
def test_an_alert_holds_back_only_what_is_not_worse(rule: Inhibition) -> None:
    rank = {"info": 0, "warning": 1, "critical": 2}
    worse = [name for name in rule.targets if rank[ALERTS[name]["labels"]["severity"]] > rank[ALERTS[rule.source]["labels"]["severity"]]]
    assert worse == []


BEGIN, END = "<!-- begin: from the table of inhibitions -->\n", "<!-- end -->\n"


def table() -> str:
    """The inhibitions as docs/alertmanager.md shows them."""
    rows = ["| while this fires | these are held back | where these labels are the same |", "|---|---|---|"]
    for rule in INHIBITIONS:
        source = f"`{rule.source}`" + (f" with `{rule.where.replace(' = ', '=')}`" if rule.where else "")
        targets = ", ".join(f"`{name}`" for name in rule.targets) or "all other alerts of costwarden"
        rows.append(f"| {source} | {targets} | {', '.join(f'`{label}`' for label in rule.equal) or '–'} |")
    return "\n".join(rows) + "\n"


@pytest.mark.usefixtures("golden")  # so that `make golden` runs it
def test_the_page_of_the_docs_has_the_table() -> None:
    page = PROJECT / "docs" / "alertmanager.md"
    head, _, rest = page.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    expected = f"{head}{BEGIN}{table()}{END}{tail}"
    if os.environ.get("COSTWARDEN_GOLDEN") == "write":
        page.write_text(expected)
    assert page.read_text() == expected, "docs/alertmanager.md is out of date; `make golden` writes it anew"


@pytest.fixture(scope="module")
def alertmanager(tools: Any, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[AlertmanagerServer]:
    server = AlertmanagerServer(tools.alertmanager, tmp_path_factory.mktemp("alertmanager"), free_port(), {})

    def nobody(document: dict[str, Any]) -> None:
        document["receivers"] = [{"name": receiver["name"]} for receiver in document["receivers"]]

    server.configure({}, nobody)
    with server:
        yield server


@pytest.fixture
def held_back(alertmanager: AlertmanagerServer, wait_until: Callable[..., Any]) -> Callable[..., set[str]]:
    """`held_back(*alerts)`: sends them and gives the names of those that are held back; ends them before it returns."""

    def send(*alerts: Alert) -> set[str]:
        # Sent last: once the second is held back by the first, Alertmanager has taken in everything before them.
        control = an_alert("AIBudgetExceeded", budget="control"), an_alert("AIBudgetWarning", "warning", budget="control")
        alertmanager.send(*alerts, *control)
        wait_until(lambda: control[1]["labels"] in alertmanager.held_back())
        names = {labels["alertname"] for labels in alertmanager.held_back() if labels.get("budget") != "control"}
        alertmanager.send(*(alert | {"endsAt": alert["startsAt"]} for alert in (*alerts, *control)))
        wait_until(lambda: not alertmanager.held_back())
        return names

    return send


def one(name: str, **labels: str) -> Alert:
    return an_alert(name, ALERTS[name]["labels"]["severity"], **labels)


def labels_of(rule: Inhibition, value: str) -> dict[str, str]:
    """A value for each label that the rule compares by."""
    return dict.fromkeys({*rule.equal, *rule.given}, value)


def source_of(rule: Inhibition, labels: dict[str, str]) -> Alert:
    name, _, value = rule.where.partition(" = ")
    return one(rule.source, **labels, **({name: value} if name else {}))


@pytest.mark.parametrize(("rule", "target"), TARGETS, ids=IDS)
def test_it_is_held_back(held_back: Callable[..., set[str]], rule: Inhibition, target: str) -> None:
    labels = labels_of(rule, "a")
    assert held_back(source_of(rule, labels), one(target, **labels, action="")) == {target}


APART = [(rule, target, label) for rule, target in TARGETS for label in rule.equal]


@pytest.mark.parametrize(("rule", "target", "label"), APART, ids=[f"{rule.source}-{target}-{label}" for rule, target, label in APART])
def test_it_is_told_where_the_alerts_are_about_different_things(
    held_back: Callable[..., set[str]], rule: Inhibition, target: str, label: str
) -> None:
    labels = labels_of(rule, "a")
    assert held_back(source_of(rule, labels), one(target, **labels | {label: "b"})) == set()


GIVEN = [(rule, target) for rule, target in TARGETS if rule.given]


@pytest.mark.parametrize(("rule", "target"), GIVEN, ids=[f"{rule.source}-{target}" for rule, target in GIVEN])
def test_it_is_told_where_both_lack_the_label_by_which_they_are_compared(
    held_back: Callable[..., set[str]], rule: Inhibition, target: str
) -> None:
    assert held_back(source_of(rule, {}), one(target)) == set()


def test_costwarden_that_is_down_holds_back_no_alert_of_others(held_back: Callable[..., set[str]]) -> None:
    assert held_back(one("CostwardenDown"), an_alert("DiskFull", category="database")) == set()


def test_a_month_that_is_overspent_by_old_figures_is_told(held_back: Callable[..., set[str]]) -> None:
    stale, spike = one("CostSourceStale", job="a", source="cur", provider="aws"), one("CloudCostSpike", job="a", provider="aws")
    overspent = one("BudgetExceededCritical", job="a", provider="aws", budget="a", action="stop-ec2")
    # Neither the source that is stale nor why it is: only what is no more than a view of old figures waits.
    failing, ledger = one("CostSourceFailing", job="a", source="cur"), one("LedgerDown", job="a", instance="b")
    assert held_back(stale, overspent, spike, failing, ledger) == {"CostSourceStale", "CostSourceFailing", "CloudCostSpike"}


def test_old_sizes_of_buckets_are_of_aws_alone(held_back: Callable[..., set[str]]) -> None:
    assert held_back(one("CostSourceStale", provider="gcp"), one("S3BucketLarge", bucket="a")) == set()


def test_an_alert_that_is_held_back_itself_still_holds_back(held_back: Callable[..., set[str]]) -> None:
    failing, stale = one("CostSourceFailing", job="a", source="cur"), one("CostSourceStale", job="a", source="cur", provider="aws")
    assert held_back(failing, stale, one("CloudCostSpike", job="a", provider="aws")) == {"CostSourceStale", "CloudCostSpike"}
