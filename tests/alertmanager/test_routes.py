"""Who hears of which alert: the shipped configuration under amtool, and its inhibitions in a real Alertmanager."""

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "alertmanager"
CONFIG = FOLDER / "alertmanager.yaml"
DOCUMENT = yaml.safe_load(CONFIG.read_text())
ALERTS = {
    rule["alert"]: rule
    for path in sorted((FOLDER.parent / "alerts").glob("*.rules.yaml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}

Amtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def amtool(tools: Any) -> Amtool:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([tools.amtool, *arguments], capture_output=True, text=True, check=False, timeout=30)

    return run


@pytest.fixture
def receivers(amtool: Amtool) -> Callable[[dict[str, str]], list[str]]:
    def route(labels: dict[str, str]) -> list[str]:
        tested = amtool(
            "config", "routes", "test", f"--config.file={CONFIG}", *(f"{name}={json.dumps(value)}" for name, value in labels.items())
        )
        assert tested.returncode == 0, tested.stderr
        return tested.stdout.strip().split(",")

    return route


def test_amtool_accepts_the_configuration_and_its_templates(amtool: Amtool) -> None:
    checked = amtool("check-config", str(CONFIG))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert " - 4 receivers\n - 1 templates\n  SUCCESS" in checked.stdout


# --- routes --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("category=finops severity=warning", ["finops-email"]),
        ("category=finops severity=critical", ["finops-pager"]),
        ("category=finops severity=info", ["finops-info"]),
        ("category=finops severity=critical action=stop_ec2 budget=aws", ["costwarden", "finops-pager"]),
        ("category=finops severity=warning action=notify", ["costwarden", "finops-email"]),
        ("category=finops severity=info action=notify", ["costwarden", "finops-info"]),
        ("category=finops severity=critical action=-oProxyCommand=x;rm", ["costwarden", "finops-pager"]),
        ("category=finops severity=critical action= budget=aws", ["finops-pager"]),
        ("category=finops severity=page", ["finops-email"]),
        ("category=database severity=critical", ["finops-email"]),
        ("alertname=Watchdog", ["finops-email"]),
    ],
)
def test_an_alert_reaches(receivers: Callable[[dict[str, str]], list[str]], labels: str, expected: list[str]) -> None:
    assert receivers(dict(label.split("=", 1) for label in labels.split())) == expected


@pytest.mark.parametrize("name", ALERTS)
def test_every_shipped_alert_reaches_the_people_of_its_severity(receivers: Callable[[dict[str, str]], list[str]], name: str) -> None:
    labels = ALERTS[name]["labels"] | {"alertname": name, "team": "finops"}
    people = {"info": "finops-info", "warning": "finops-email", "critical": "finops-pager"}[labels["severity"]]
    assert receivers(labels) == [people]
    assert receivers(labels | {"action": "stop_ec2"}) == ["costwarden", people]


def test_a_second_budget_does_not_wait_for_the_first() -> None:
    assert DOCUMENT["route"]["group_by"] == ["alertname", "category", "budget", "tenant_id"]


def test_what_a_playbook_waits_for_is_sent_alone_and_at_once() -> None:
    route = DOCUMENT["route"]["routes"][0]
    assert (route["receiver"], route["group_by"], route["group_wait"], route["continue"]) == ("costwarden", ["..."], "0s", True)


# --- receivers -----------------------------------------------------------------------------------------------------------------


def every_key(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from every_key(value)
    elif isinstance(node, list):
        for item in node:
            yield from every_key(item)


def test_no_secret_stands_in_the_file() -> None:
    secrets = {"smtp_auth_password", "auth_password", "credentials", "password", "routing_key", "service_key", "api_url", "slack_api_url"}
    assert secrets.isdisjoint(every_key(DOCUMENT))
    assert {"smtp_auth_password_file", "credentials_file", "routing_key_file", "api_url_file"} <= set(every_key(DOCUMENT))


def test_the_webhook_has_only_keys_that_alertmanager_0_25_knows() -> None:
    (webhook,) = next(receiver for receiver in DOCUMENT["receivers"] if receiver["name"] == "costwarden")["webhook_configs"]
    assert set(webhook) <= {"url", "send_resolved", "http_config", "max_alerts"}


# --- templates -----------------------------------------------------------------------------------------------------------------

GROUP = {
    "status": "firing",
    "commonLabels": {"severity": "critical"},
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "AIBudgetExceeded", "severity": "critical"},
            "annotations": {
                "summary": "AI budget <!channel> & co is used up",
                "description": "It stands at 105% of $1000.00.",
                "escalation": "Account manager, within 30 minutes",
                "runbook_url": "alerts/README.md#aibudgetexceeded",
                "dashboard_url": "/d/finops-ai-budget?var-tenant_id=a%26b",
            },
            "startsAt": "2026-11-05T09:30:00+01:00",
        },
        {
            "status": "resolved",
            "labels": {"alertname": "AIBudgetExceeded", "severity": "critical"},
            "annotations": {"summary": "AI budget b is used up", "description": "It stood at 100% of $5.00."},
            "startsAt": "2026-11-05T08:00:00Z",
        },
    ],
}


@pytest.fixture
def render(amtool: Amtool, tmp_path: Path) -> Callable[..., str]:
    def fill(template: str, kind: str = "text", group: dict[str, Any] = GROUP) -> str:
        data = tmp_path / "group.json"
        data.write_text(json.dumps(group))
        text = f'{{{{ template "{template}" . }}}}'
        glob = f"--template.glob={FOLDER}/templates/*.tmpl"
        filled = amtool("template", "render", glob, f"--template.text={text}", f"--template.type={kind}", f"--template.data={data}")
        assert filled.returncode == 0, filled.stderr
        return filled.stdout

    return fill


def test_the_subject_says_status_severity_and_how_many(render: Callable[..., str]) -> None:
    assert render("costwarden.subject") == "[FIRING critical] AI budget <!channel> & co is used up (2 alerts)"
    over = {"status": "resolved", "alerts": [GROUP["alerts"][1]], "commonLabels": {"severity": "critical"}}
    assert render("costwarden.subject", group=over) == "[RESOLVED] AI budget b is used up"


def test_the_text_has_the_figures_and_the_links_of_each_alert(render: Callable[..., str]) -> None:
    text = render("costwarden.text")
    assert text.startswith(
        "FIRING: AI budget <!channel> & co is used up\n"
        "It stands at 105% of $1000.00.\n"
        "Answer: Account manager, within 30 minutes\n"
        "Since: 2026-11-05 08:30 UTC\n"
        "Runbook: https://docs.example.com/costwarden/alerts/README.md#aibudgetexceeded\n"
        "Dashboard: https://grafana.example.com/d/finops-ai-budget?var-tenant_id=a%26b\n"
    )
    assert "RESOLVED: AI budget b is used up\nIt stood at 100% of $5.00.\n" in text


def test_html_and_slack_take_no_markup_from_an_alert(render: Callable[..., str]) -> None:
    html = render("costwarden.html", "html")
    assert "<h3>FIRING: AI budget &lt;!channel&gt; &amp; co is used up</h3>" in html
    assert '<a href="https://docs.example.com/costwarden/alerts/README.md#aibudgetexceeded">Runbook</a>' in html
    slack = render("costwarden.slack")
    assert "*FIRING: AI budget &lt;!channel&gt; &amp; co is used up*" in slack
    assert "<https://grafana.example.com/d/finops-ai-budget?var-tenant_id=a%26b|Dashboard>" in slack


def test_receivers_use_only_templates_that_exist() -> None:
    defined = (FOLDER / "templates" / "costwarden.tmpl").read_text()
    for line in CONFIG.read_text().splitlines():
        if "{{ template " in line:
            assert f'{{{{ define "{line.split(chr(34))[1]}"' in defined


# --- inhibition ----------------------------------------------------------------------------------------------------------------


def an_alert(name: str, **labels: str) -> dict[str, Any]:
    severity = ALERTS[name]["labels"]["severity"]
    return {"labels": {"alertname": name, "category": "finops", "severity": severity} | labels, "startsAt": datetime.now(UTC).isoformat()}


# Sent last: once the second is held back by the first, Alertmanager has taken in everything before them.
CONTROL = (an_alert("CostSourceFailing", source="control"), an_alert("CostSourceStale", source="control"))


@pytest.fixture
def inhibited(
    tools: Any, tmp_path: Path, free_port: Callable[[], int], wait_until: Callable[..., Any]
) -> Iterator[Callable[..., set[str]]]:
    """Sends alerts to a real Alertmanager with the shipped inhibitions; gives the names of those that it holds back."""
    silent = DOCUMENT | {"receivers": [{"name": receiver["name"]} for receiver in DOCUMENT["receivers"]], "templates": []}
    (tmp_path / "alertmanager.yaml").write_text(yaml.safe_dump(silent))
    port = free_port()
    command = [
        tools.alertmanager,
        f"--config.file={tmp_path / 'alertmanager.yaml'}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/api/v2/alerts"

    def is_up() -> bool:
        try:
            held_back()
        except OSError:
            return False
        return True

    def held_back() -> list[dict[str, str]]:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return [alert["labels"] for alert in json.load(answer) if alert["status"]["inhibitedBy"]]

    def send(*alerts: dict[str, Any]) -> set[str]:
        body = urllib.request.Request(address, json.dumps([*alerts, *CONTROL]).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(body, timeout=5):
            pass
        wait_until(lambda: CONTROL[1]["labels"] in held_back())
        return {labels["alertname"] for labels in held_back() if labels != CONTROL[1]["labels"]}

    try:
        wait_until(is_up, seconds=20)
        yield send
    finally:
        server.terminate()
        server.wait(timeout=10)


def test_a_warning_is_held_back_by_the_critical_alert_of_the_same_budget(inhibited: Callable[..., set[str]]) -> None:
    assert inhibited(
        an_alert("BudgetExceededCritical", budget="aws", action="stop_ec2", provider="aws"),
        an_alert("BudgetExceeded80Percent", budget="aws", provider="aws"),
        an_alert("AIBudgetExceeded", budget="acme/month", period="month", tenant_id="acme", action="suspend"),
        an_alert("AIBudgetWarning", budget="acme/month", period="month", tenant_id="acme"),
    ) == {"BudgetExceeded80Percent", "AIBudgetWarning"}


def test_a_critical_alert_holds_back_nothing_about_another_budget(inhibited: Callable[..., set[str]]) -> None:
    assert (
        inhibited(
            an_alert("BudgetExceededCritical", budget="aws"),
            an_alert("BudgetExceeded80Percent", budget="gcp"),
            an_alert("AIBudgetExceeded", budget="acme/month", period="month"),
            an_alert("AIBudgetWarning", budget="acme/day", period="day"),
            an_alert("CostwardenDown", job="costwarden"),
            an_alert("LedgerDown", job="costwarden", instance="b:3010"),
            an_alert("TotalAISpendHigh", job="costwarden"),
            an_alert("CloudCostSpike", provider="aws"),
        )
        == set()
    )


def test_an_exporter_that_is_down_and_a_source_that_fails_hold_back_what_follows(inhibited: Callable[..., set[str]]) -> None:
    assert inhibited(
        an_alert("CostwardenDown", job="costwarden", instance="a:3010"),
        an_alert("MetricsPageStale", job="costwarden", instance="a:3010"),
        an_alert("CostSourceFailing", job="costwarden", instance="b:3010", source="aws"),
        an_alert("CostSourceStale", job="costwarden", instance="b:3010", source="aws"),
    ) == {"MetricsPageStale", "CostSourceStale"}
