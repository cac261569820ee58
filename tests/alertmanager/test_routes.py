"""Who hears of which alert, and in which words: the shipped configuration and one with everything, under amtool."""

import json
import re
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from costwarden.artifacts.alertmanager import alertmanager_yaml
from costwarden.artifacts.rendering import rendered, values_tmpl
from costwarden.artifacts.values import Values, load_values

FOLDER = Path(__file__).parents[2] / "alertmanager"
CONFIG = FOLDER / "alertmanager.yaml"
DOCUMENT = yaml.safe_load(CONFIG.read_text())
EVERYTHING = Path(__file__).parents[1] / "fixtures" / "values" / "everything.ok.yaml"
ALERTS = {
    rule["alert"]: rule
    for path in sorted((FOLDER.parent / "alerts").glob("*.rules.yaml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}

Amtool = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def amtool(tools: Any) -> Amtool:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([tools.amtool, *arguments], capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of values that use every key, with its templates beside it."""
    values = load_values(EVERYTHING)
    folder = tmp_path_factory.mktemp("everything")
    (folder / "templates").mkdir()
    (folder / "alertmanager.yaml").write_text(alertmanager_yaml(values))
    (folder / "templates" / "values.tmpl").write_text(values_tmpl(values))
    (folder / "templates" / "costwarden.tmpl").write_text((FOLDER / "templates" / "costwarden.tmpl").read_text())
    return folder / "alertmanager.yaml"


@pytest.fixture(scope="module")
def receivers(amtool: Amtool) -> Callable[..., list[str]]:
    def route(labels: dict[str, str], config: Path = CONFIG) -> list[str]:
        tested = amtool(
            "config",
            "routes",
            "test",
            f"--config.file={config}",
            *(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()),
        )
        assert tested.returncode == 0, tested.stderr
        return tested.stdout.strip().split(",")

    return route


def test_amtool_accepts_the_configuration_and_its_templates(amtool: Amtool) -> None:
    checked = amtool("check-config", str(CONFIG))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert " - 6 receivers\n - 1 templates\n  SUCCESS" in checked.stdout


def test_amtool_accepts_a_configuration_with_everything(amtool: Amtool, everything: Path) -> None:
    checked = amtool("check-config", str(everything))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert " - 13 receivers\n - 1 templates\n  SUCCESS" in checked.stdout


def test_what_is_committed_is_what_the_default_values_render_to() -> None:
    values = load_values(FOLDER / "values.yaml")
    assert values == Values()
    assert CONFIG.read_text() == alertmanager_yaml(values)
    assert (FOLDER / "templates" / "values.tmpl").read_text() == values_tmpl(values)
    assert rendered(values, FOLDER.parent) == {}


# --- routes --------------------------------------------------------------------------------------------------------------------

CRITICAL = ["finops-lead", "finops-executive", "finops-pager"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("category=finops severity=warning", ["finops-email"]),
        ("category=finops severity=critical", CRITICAL),
        ("category=finops severity=info", ["finops-info"]),
        ("category=finops severity=critical team=data", CRITICAL),
        ("category=finops severity=critical action=stop_ec2 budget=aws", ["costwarden", *CRITICAL]),
        ("category=finops severity=warning action=notify", ["costwarden", "finops-email"]),
        ("category=finops severity=info action=notify", ["costwarden", "finops-info"]),
        ("category=finops severity=critical action=-oProxyCommand=x;rm", ["costwarden", *CRITICAL]),
        ("category=finops severity=critical action= budget=aws", CRITICAL),
        ("category=finops severity=page", ["finops-email"]),
        ("category=database severity=critical", ["finops-email"]),
        ("alertname=Watchdog", ["finops-email"]),
        # A playbook is nobody who reads.
        ("category=database severity=critical action=notify", ["costwarden", "finops-email"]),
        ("category=finops severity=page action=notify", ["costwarden", "finops-email"]),
        ("action=notify", ["costwarden", "finops-email"]),
    ],
)
def test_an_alert_reaches(receivers: Callable[..., list[str]], labels: str, expected: list[str]) -> None:
    assert receivers(dict(label.split("=", 1) for label in labels.split())) == expected


STAGES = ["lead", "cto", "sms-of-the-ceo"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("category=finops severity=critical", [*STAGES, "pager", "chat"]),
        ("category=finops severity=warning", ["chat"]),
        ("category=finops severity=info", ["chat"]),
        # In place of the people of the severity; escalation is for every team.
        ("category=finops severity=critical team=data.platform", [*STAGES, "data"]),
        ("category=finops severity=warning team=data.platform", ["data"]),
        ("category=finops severity=info team=data.platform", ["chat"]),
        ("category=finops severity=info team=data-platform", ["chat"]),
        # Beside them.
        ("category=finops severity=critical team=ml", [*STAGES, "ml", "ml-pager", "pager", "chat"]),
        ("category=finops severity=warning team=ml action=x", ["costwarden", "ml", "chat"]),
        ("category=database severity=critical", ["dba", "chat"]),
        ("category=database severity=warning", ["mailbox"]),
        ("category=database severity=critical team=ml", ["dba", "chat"]),
        ("severity=critical team=ml", ["mailbox"]),
        # Of a tenant, of an alert, of both and of the team.
        ("category=finops severity=warning tenant_id=acme_corp", ["acme", "chat"]),
        ("category=finops severity=info tenant_id=acme_corp", ["chat"]),
        ("category=finops severity=warning tenant_id=hooli team=ml", ["account"]),
        ("category=finops severity=critical tenant_id=hooli team=ml", [*STAGES, "ml", "ml-pager", "pager", "chat"]),
        ("category=finops severity=critical alertname=AIBudgetExceeded", [*STAGES, "account", "pager", "chat"]),
        ("category=finops severity=critical alertname=AIBudgetExceeded tenant_id=acme_corp", [*STAGES, "acme", "account", "pager", "chat"]),
        (
            "category=finops severity=critical alertname=AIBudgetExceeded team=data.platform action=x",
            ["costwarden", *STAGES, "account", "data"],
        ),
        ("category=finops severity=critical alertname=AIEmergencyStop team=ml", [*STAGES, "pager"]),
        ("category=database severity=critical alertname=AIEmergencyStop tenant_id=acme_corp", ["dba", "chat"]),
    ],
)
def test_with_tenants_teams_categories_and_stages_an_alert_reaches(
    receivers: Callable[..., list[str]], everything: Path, labels: str, expected: list[str]
) -> None:
    # A blank stands between labels, and may stand in one.
    given = {name: value.replace("_", " ") for name, value in (label.split("=", 1) for label in labels.split())}
    assert receivers(given, everything) == expected


@pytest.mark.parametrize("severity", ["info", "warning", "critical"])
def test_every_shipped_alert_has_a_route_by_its_severity(receivers: Callable[..., list[str]], severity: str) -> None:
    people = {"info": ["finops-info"], "warning": ["finops-email"], "critical": CRITICAL}[severity]
    shipped = [
        rule["labels"] | {"alertname": name, "team": "finops"} for name, rule in ALERTS.items() if rule["labels"]["severity"] == severity
    ]
    assert len(shipped) > 5
    for labels in shipped:
        assert receivers(labels) == people
    assert receivers(shipped[0] | {"action": "stop_ec2"}) == ["costwarden", *people]


@pytest.mark.parametrize("name", ["Data Platform", "データ", "null", "true", "1", "a, b", "r&d/ml", "#x", "x: y", "it's"])
def test_a_team_and_a_category_may_be_called_what_a_budget_may(receivers: Callable[..., list[str]], tmp_path: Path, name: str) -> None:
    (tmp_path / "values.yaml").write_text(
        json.dumps({"routes": {"team": {name: {"warning": ["finops-pager"]}}, "category": {name: {"info": ["finops-info"]}}}})
    )
    config = tmp_path / "alertmanager.yaml"
    config.write_text(alertmanager_yaml(load_values(tmp_path / "values.yaml")))
    assert receivers({"category": "finops", "severity": "warning", "team": name}, config) == ["finops-pager"]
    assert receivers({"category": "finops", "severity": "warning", "team": f"{name}."}, config) == ["finops-email"]
    assert receivers({"category": name, "severity": "info"}, config) == ["finops-info"]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"category": "finops", "severity": "critical"}, ["0", "true"]),
        ({"category": "finops", "severity": "critical", "team": "null"}, ["0"]),
        ({"category": "finops", "severity": "critical", "team": "データ"}, ["1e3", "0", "true"]),
        ({"category": "finops", "severity": "critical", "team": ".*"}, ["1e3", "0", "true"]),
        ({"category": "finops", "severity": "critical", "team": "=~"}, ["1e3", "0", "true"]),
        ({"category": "finops", "severity": "critical", "team": "it's"}, ["1e3", "0", "true"]),
        ({"category": "finops", "severity": "warning", "team": "~"}, ["true", "a.b-c_d"]),
        ({"category": "finops", "severity": "warning", "team": "~~"}, ["a.b-c_d"]),
        ({"category": "finops", "severity": "info", "team": ".*"}, ["0"]),
        ({"category": "finops", "severity": "info", "team": "a"}, ["a.b-c_d"]),
        ({"category": "finops", "severity": "info", "team": "a, b"}, ["true"]),
        ({"category": "yes", "severity": "critical"}, ["0"]),
        ({"category": "é|b", "severity": "critical"}, ["Data", "0"]),
        ({"category": "é|b", "severity": "critical", "team": "- x"}, ["0"]),
        ({"category": "é|b", "severity": "info"}, ["true"]),
        ({"category": "b", "severity": "critical"}, ["0"]),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_whatever_is_called_like_syntax_is_a_name(
    receivers: Callable[..., list[str]], amtool: Amtool, tmp_path: Path, labels: dict[str, str], told: list[str]
) -> None:
    values = load_values(EVERYTHING.with_name("tricky.ok.yaml"))
    config = tmp_path / "alertmanager.yaml"
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "values.tmpl").write_text(values_tmpl(values))
    (tmp_path / "templates" / "costwarden.tmpl").write_text((FOLDER / "templates" / "costwarden.tmpl").read_text())
    config.write_text(alertmanager_yaml(values))
    checked = amtool("check-config", str(config))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert receivers(labels, config) == told


def test_a_second_budget_does_not_wait_for_the_first() -> None:
    about = ["budget", "guardrail", "tenant_id", "playbook", "receiver"]
    assert DOCUMENT["route"]["group_by"] == ["alertname", "category", *about]


PEOPLE = {name: {"email": [{"to": [f"{name}@example.com"]}]} for name in ("pager", "lead", "data-lead", "cto", "cfo", "dba-lead")}


def staged(tmp_path: Path, *stages: dict[str, Any]) -> Path:
    """The configuration with one person on call, and these stages."""
    everybody = {severity: ["pager"] for severity in ("critical", "warning", "info")}
    used = {"pager", *(name for stage in stages for name in stage["receivers"])}
    receivers = {name: PEOPLE[name] for name in PEOPLE if name in used}
    values = {"receivers": receivers, "routes": {"severity": everybody, "otherwise": "pager"}, "escalation": list(stages)}
    config = tmp_path / "alertmanager.yaml"
    config.write_text(alertmanager_yaml(Values.model_validate(values)))
    return config


def test_a_stage_may_be_of_some_alerts_of_some_teams_and_of_another_category(receivers: Callable[..., list[str]], tmp_path: Path) -> None:
    config = staged(
        tmp_path,
        {"stage": "lead", "after": "30m", "receivers": ["lead"], "not_teams": ["Data (EU)", "ml"]},
        {"stage": "team", "after": "15m", "receivers": ["data-lead"], "teams": ["Data (EU)", "ml"]},
        {"stage": "cto", "after": "1h", "receivers": ["cto"], "not_alerts": ["BudgetExceededCritical", "AIBudgetExceeded"]},
        {"stage": "cfo", "after": "1h", "receivers": ["cfo"], "alerts": ["BudgetExceededCritical", "AIBudgetExceeded"]},
        {"stage": "dba", "after": "1h", "receivers": ["dba-lead"], "category": "data base"},
    )
    critical = {"category": "finops", "severity": "critical"}
    for alert, told in (
        ({"alertname": "LedgerDown", "team": "finops"}, ["lead", "cto"]),
        ({"alertname": "BudgetExceededCritical", "team": "finops"}, ["lead", "cfo"]),
        # Whole names: a pattern that begins like it is another alert.
        ({"alertname": "AIBudgetExceededTwice", "team": "finops"}, ["lead", "cto"]),
        # A team's name is text: its brackets are no pattern.
        ({"alertname": "AIBudgetExceeded", "team": "Data (EU)"}, ["data-lead", "cfo"]),
        ({"alertname": "AIBudgetExceeded", "team": "Data EU"}, ["lead", "cfo"]),
        ({"alertname": "LedgerDown", "team": "ml"}, ["data-lead", "cto"]),
    ):
        assert receivers(critical | alert, config) == [*told, "pager"], alert
        assert receivers(critical | alert | {"severity": "warning"}, config) == ["pager"]
    assert receivers({"category": "data base", "severity": "critical", "alertname": "LedgerDown"}, config) == ["dba-lead", "pager"]


def test_a_heartbeat_is_for_its_receivers_alone(receivers: Callable[..., list[str]], tmp_path: Path) -> None:
    beat = {"webhook": [{"url": "https://beats.example.com/1"}], "send_resolved": False}
    values = {
        "receivers": {"pager": PEOPLE["pager"], "beat": beat, "other": beat},
        "routes": {"severity": {severity: ["pager"] for severity in ("critical", "warning", "info")}, "otherwise": "pager"},
        "escalation": [],
        "heartbeat": {"receivers": ["beat", "other"], "every": "1m"},
    }
    config = tmp_path / "alertmanager.yaml"
    config.write_text(alertmanager_yaml(Values.model_validate(values)))
    assert receivers({"alertname": "Watchdog", "severity": "none"}, config) == ["beat", "other"]
    assert receivers({"alertname": "Watchdog", "category": "finops", "severity": "critical", "action": "x"}, config) == ["beat", "other"]
    assert receivers({"alertname": "LedgerDown", "category": "finops", "severity": "critical"}, config) == ["pager"]


def test_stages_of_other_alerts_are_another_staircase(tmp_path: Path) -> None:
    staged(
        tmp_path,
        {"stage": "cto", "after": "2h", "receivers": ["cto"]},
        {"stage": "lead", "after": "1h", "receivers": ["lead"], "teams": ["ml"]},
        {"stage": "cfo", "after": "2h", "receivers": ["cfo"], "teams": ["ml"]},
    )
    with pytest.raises(ValueError, match="each stage must come later than the one before it"):
        staged(
            tmp_path,
            {"stage": "lead", "after": "1h", "receivers": ["lead"], "teams": ["ml"]},
            {"stage": "cfo", "after": "1h", "receivers": ["cfo"], "teams": ["ml"]},
        )


def test_what_a_playbook_waits_for_is_sent_alone_and_at_once() -> None:
    route = DOCUMENT["route"]["routes"][0]
    assert (route["receiver"], route["group_by"], route["group_wait"], route["continue"]) == ("costwarden", ["..."], "0s", True)


def test_servers_that_differ_by_a_label_neither_share_groups_nor_hold_back_each_others_alerts(everything: Path) -> None:
    document = yaml.safe_load(everything.read_text())
    assert document["route"]["group_by"][-1] == "cluster"
    assert [rule["equal"][-1] for rule in document["inhibit_rules"]] == ["cluster"] * len(document["inhibit_rules"])
    by_kind = [route["group_by"] for route in document["route"]["routes"] if route["receiver"] == "cto"]
    assert by_kind == [["alertname", "category", "cluster"]]


def test_a_night_ends_on_the_next_morning(everything: Path) -> None:
    nights, weekend, holidays = yaml.safe_load(everything.read_text())["time_intervals"]
    assert nights["time_intervals"] == [
        {"times": [{"start_time": "20:00", "end_time": "24:00"}], "weekdays": ["friday", "sunday"], "location": "Europe/Berlin"},
        {"times": [{"start_time": "00:00", "end_time": "07:00"}], "weekdays": ["saturday", "monday"], "location": "Europe/Berlin"},
    ]
    assert weekend["time_intervals"] == [{"weekdays": ["saturday", "sunday"], "location": "UTC"}]
    assert holidays["time_intervals"] == [{"times": [{"start_time": "09:00", "end_time": "17:00"}], "location": "UTC"}]


def test_a_mute_time_is_on_the_routes_of_its_severities_alone(everything: Path) -> None:
    routes = yaml.safe_load(everything.read_text())["route"]["routes"]
    muted = {(route["receiver"], route["matchers"][-1]): route.get("mute_time_intervals", []) for route in routes[:-1]}
    assert routes[-1] == {"receiver": "mailbox"}
    assert muted["chat", "severity = info"] == ["nights", "weekend"]
    assert muted["data", "severity = warning"] == ["nights"]
    assert muted["lead", "severity = critical"] == muted["pager", "severity = critical"] == ["holidays"]
    assert muted["costwarden", 'action != ""'] == []


# --- receivers -----------------------------------------------------------------------------------------------------------------


def every_key(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from every_key(value)
    elif isinstance(node, list):
        for item in node:
            yield from every_key(item)


def test_no_secret_stands_in_the_file(everything: Path) -> None:
    secrets = {"smtp_auth_password", "auth_password", "credentials", "password", "routing_key", "service_key", "api_url", "slack_api_url"}
    for document in (DOCUMENT, yaml.safe_load(everything.read_text())):
        assert secrets.isdisjoint(every_key(document))
        assert {"smtp_auth_password_file", "credentials_file", "routing_key_file", "api_url_file"} <= set(every_key(document))


# https://prometheus.io/docs/alerting/0.25/configuration/
KNOWN_TO_0_25 = {
    "email_configs": {"to", "send_resolved", "headers", "text", "html"},
    "slack_configs": {"api_url_file", "channel", "send_resolved", "title", "title_link", "fallback", "color", "text"},
    "pagerduty_configs": {"url", "routing_key_file", "send_resolved", "description", "severity", "client", "client_url", "details"},
    "webhook_configs": {"url", "send_resolved", "http_config", "max_alerts"},
}


def test_receivers_have_only_keys_that_alertmanager_0_25_knows(everything: Path) -> None:
    seen = set()
    for receiver in yaml.safe_load(everything.read_text())["receivers"]:
        for kind in set(receiver) - {"name"}:
            seen.add(kind)
            for way in receiver[kind]:
                assert set(way) <= KNOWN_TO_0_25[kind]
    assert seen == set(KNOWN_TO_0_25)


def test_what_the_notifier_sends_on_goes_to_costwarden_with_its_token(everything: Path) -> None:
    found = {receiver["name"]: receiver for receiver in yaml.safe_load(everything.read_text())["receivers"]}
    assert found["sms-of-the-ceo"]["webhook_configs"] == [
        {
            "url": "https://costwarden.example.com/api/notifications/sms.ceo",
            "send_resolved": False,
            "max_alerts": 1000,
            "http_config": {
                "authorization": {"type": "Bearer", "credentials_file": "/run/secrets/costwarden"},
                "tls_config": {"ca_file": "/etc/ssl/own-ca.pem"},
            },
        }
    ]


# --- templates -----------------------------------------------------------------------------------------------------------------

GROUP = {
    "receiver": "finops-pager",
    "status": "firing",
    "commonLabels": {"severity": "critical"},
    "externalURL": "http://alertmanager.example.com",
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
            "endsAt": "2026-11-05T09:05:00.4Z",
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
    over = GROUP | {"status": "resolved", "alerts": [GROUP["alerts"][1]]}
    assert render("costwarden.subject", group=over) == "[RESOLVED] AI budget b is used up"
    # An alert that is over is not what a group that fires is about, though it may come first.
    turned = GROUP | {"alerts": GROUP["alerts"][::-1]}
    assert render("costwarden.subject", group=turned) == "[FIRING critical] AI budget <!channel> & co is used up (2 alerts)"


def test_a_stage_says_which_it_is(render: Callable[..., str]) -> None:
    lead = GROUP | {"receiver": "finops-lead"}
    assert render("costwarden.subject", group=lead).startswith("[FIRING critical, lead after 30m] ")
    assert render("costwarden.text", group=lead).startswith("Escalated to lead: not over and not silenced after 30m.\nFIRING: ")
    executive = GROUP | {"receiver": "finops-executive"}
    assert render("costwarden.slack.title", group=executive).startswith("[FIRING critical, executive after 1h] ")


@pytest.mark.parametrize(("template", "kind"), [("text", "text"), ("html", "html"), ("slack", "text"), ("pagerduty.answer", "text")])
def test_a_stage_is_told_of_the_end_as_of_an_end(render: Callable[..., str], template: str, kind: str) -> None:
    over = an_alert(1, "resolved", description="It stood at 105%.", escalation="on call, at once")
    lead = GROUP | {"receiver": "finops-lead", "status": "resolved", "alerts": [over]}
    for title in ("costwarden.subject", "costwarden.slack.title"):
        assert render(title, group=lead) == "[RESOLVED] budget 1 resolved"
    told = render(f"costwarden.{template}", kind, lead)
    assert "It is over.\n" in told
    assert [word for word in ("Escalated", "not over", "Answer", "on call") if word in told] == []
    if template != "pagerduty.answer":
        assert "When it fired last: It stood at 105%." in told
    # While another one of the group fires, the stage is what it was, and only what is over is told as such.
    both = lead | {"status": "firing", "alerts": [over, an_alert(2, "firing", description="It stands at 110%.", escalation="the lead")]}
    told = render(f"costwarden.{template}", kind, both)
    assert "Escalated to lead: not over and not silenced after 30m.\n" in told
    assert "It is over." not in told
    assert told.count("the lead") == 1
    assert told.count("When it fired last: ") == (template != "pagerduty.answer")


def test_an_end_has_its_figures_marked_at_pagerduty_and_none_where_there_are_none(render: Callable[..., str]) -> None:
    resolved = [an_alert(1, "resolved", description="It stood at 105%."), an_alert(2, "resolved")]
    told = render("costwarden.pagerduty.resolved", group=GROUP | {"status": "resolved", "alerts": resolved}).splitlines()
    assert told[0].startswith("budget 1 resolved: When it fired last: It stood at 105%. From 2026-11-05 08:00 UTC")
    assert told[1].startswith("budget 2 resolved:  From 2026-11-05 08:00 UTC")


def test_the_subject_is_of_the_alert_that_fires_since_last(render: Callable[..., str]) -> None:
    starts = {1: "2026-11-05T08:00:00Z", 2: "2026-11-05T10:00:00+01:00", 3: "2026-11-05T08:30:00Z"}
    alerts = [an_alert(number, "firing", dashboard_url=f"/d/{number}") | {"startsAt": start} for number, start in starts.items()]
    # What has begun later and is over already is not what it is about.
    alerts.append(an_alert(4, "resolved", dashboard_url="/d/4") | {"startsAt": "2026-11-05T09:30:00Z"})
    group = GROUP | {"alerts": alerts}
    assert render("costwarden.subject", group=group) == "[FIRING critical] budget 2 firing (4 alerts)"
    assert render("costwarden.slack.title", group=group) == "[FIRING critical] budget 2 firing (4 alerts)"
    assert render("costwarden.link", group=group) == "https://grafana.example.com/d/2"


def test_a_receiver_with_a_dot_in_its_name_is_known_as_a_stage(amtool: Amtool, tmp_path: Path) -> None:
    values = {
        "receivers": {"a.b": {"email": [{"to": ["a@example.com"]}]}, "c": {"email": [{"to": ["c@example.com"]}]}},
        "routes": {"severity": {"critical": ["c"], "warning": ["c"], "info": ["c"]}, "otherwise": "c"},
        "escalation": [{"stage": "lead", "after": "1h", "receivers": ["a.b"]}],
    }
    (tmp_path / "values.tmpl").write_text(values_tmpl(Values.model_validate(values)))
    for name, expected in (("a.b", ", lead after 1h"), ("a\\.b", ", lead after 1h"), ("aab", "")):
        (tmp_path / "group.json").write_text(json.dumps({"receiver": name, "alerts": []}))
        text = '--template.text={{ template "costwarden.stage" . }}'
        filled = amtool("template", "render", f"--template.glob={tmp_path}/*.tmpl", text, f"--template.data={tmp_path / 'group.json'}")
        assert (filled.returncode, filled.stdout) == (0, expected)


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
    assert (
        "RESOLVED: AI budget b is used up\nWhen it fired last: It stood at 100% of $5.00.\n"
        "From 2026-11-05 08:00 UTC to 2026-11-05 09:05 UTC, 1h5m0s\n" in text
    )
    silence = "http://alertmanager.example.com/#/silences/new?filter=%7Balertname%3D%22AIBudgetExceeded%22%2Cseverity%3D%22critical%22%7D"
    # What is over needs no silence.
    assert [line for line in text.splitlines() if line.startswith("Acknowledge")] == [f"Acknowledge (silence): {silence}"]


def test_html_and_slack_take_no_markup_from_an_alert(render: Callable[..., str]) -> None:
    html = render("costwarden.html", "html")
    assert ">FIRING: AI budget &lt;!channel&gt; &amp; co is used up</h3>" in html
    assert '<a href="https://docs.example.com/costwarden/alerts/README.md#aibudgetexceeded">Runbook</a>' in html
    slack = render("costwarden.slack")
    assert "*FIRING: AI budget &lt;!channel&gt; &amp; co is used up*" in slack
    assert "<https://grafana.example.com/d/finops-ai-budget?var-tenant_id=a%26b|Chart>" in slack


def test_a_link_of_an_alert_cannot_run_a_script(render: Callable[..., str]) -> None:
    alert = GROUP["alerts"][0] | {"generatorURL": "javascript:alert(1)"}
    alert["annotations"] = alert["annotations"] | {"dashboard_url": '/d/x" onclick="alert(1)|x> <!channel', "runbook_url": "x|<y>"}
    html = render("costwarden.html", "html", GROUP | {"alerts": [alert]})
    assert ("javascript:" in html, 'onclick="' in html) == (False, False)
    slack = render("costwarden.slack", group=GROUP | {"alerts": [alert]})
    assert '<https://grafana.example.com/d/x"onclick="alert(1)x!channel|Chart>' in slack
    assert "<https://docs.example.com/costwarden/xy|Runbook>" in slack


def test_receivers_use_only_templates_that_exist() -> None:
    defined = "".join(path.read_text() for path in (FOLDER / "templates").glob("*.tmpl"))
    used = [line for line in CONFIG.read_text().splitlines() if "{{ template " in line]
    assert len(used) > 10
    for line in used:
        assert f'{{{{ define "{line.split(chr(34))[1]}"' in defined


def an_alert(number: int, status: str, **annotations: str) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": "A", "severity": "critical", "budget": f"b{number}"},
        "annotations": {"summary": f"budget {number} {status}", **annotations},
        "startsAt": "2026-11-05T08:00:00Z",
        "endsAt": "2026-11-05T09:00:00Z",
    }


@pytest.mark.parametrize(("template", "kind", "most"), [("text", "text", 50), ("html", "html", 50), ("slack", "text", 10)])
def test_what_fires_is_shown_before_what_is_over_however_many_these_are(
    render: Callable[..., str], template: str, kind: str, most: int
) -> None:
    alerts = [an_alert(number, "resolved") for number in range(60)] + [an_alert(number, "firing") for number in (60, 61)]
    text = render(f"costwarden.{template}", kind, GROUP | {"alerts": alerts})
    shown = [line for line in text.splitlines() if "RESOLVED: budget" in line or "FIRING: budget" in line]
    assert ["FIRING" in line for line in shown] == [True] * 2 + [False] * (most - 2)
    assert f"These are {most} of 62 alerts" in text


def test_titles_and_links_are_of_an_alert_that_fires(render: Callable[..., str]) -> None:
    over = an_alert(1, "resolved", dashboard_url="/d/over", runbook_url="over", escalation="over")
    group = GROUP | {"alerts": [over, an_alert(2, "firing", dashboard_url="/d/on", runbook_url="on", escalation="on")]}
    assert render("costwarden.slack.title", group=group) == "[FIRING critical] budget 2 firing (2 alerts)"
    assert render("costwarden.link", group=group) == "https://grafana.example.com/d/on"
    assert render("costwarden.pagerduty.runbook", group=group) == "https://docs.example.com/costwarden/on"
    assert render("costwarden.pagerduty.answer", group=group) == "on"


@pytest.mark.parametrize(
    ("given", "chart"),
    [
        ("https://charts.example.org/d/x", "https://charts.example.org/d/x"),
        ("/d/x", "https://grafana.example.com/d/x"),
        # Neither a user's name nor a part of the host.
        ("@evil.example", "https://grafana.example.com/@evil.example"),
        (".evil.example/", "https://grafana.example.com/.evil.example/"),
    ],
)
def test_an_alert_may_name_a_whole_address_and_leads_to_no_other_host_by_a_path(render: Callable[..., str], given: str, chart: str) -> None:
    book = given if given.startswith("https:") else f"https://docs.example.com/costwarden/{given}"
    group = GROUP | {"alerts": [an_alert(1, "firing", dashboard_url=given, runbook_url=given)]}
    assert render("costwarden.link", group=group) == chart
    assert render("costwarden.pagerduty.runbook", group=group) == book
    assert f"Runbook: {book}\nDashboard: {chart}\n" in render("costwarden.text", group=group)
    assert f"<{chart}|Chart> <{book}|Runbook>" in render("costwarden.slack", group=group)
    html = render("costwarden.html", "html", group)
    assert (f'<a href="{chart}">Chart</a>' in html, f'<a href="{book}">Runbook</a>' in html) == (True, True)


def test_an_alert_without_annotations_says_its_name(render: Callable[..., str]) -> None:
    group = GROUP | {"alerts": [{"status": "firing", "labels": {"alertname": "DiskFull <!here>"}, "startsAt": "2026-11-05T08:00:00Z"}]}
    assert render("costwarden.subject", group=group) == "[FIRING critical] DiskFull <!here>"
    assert render("costwarden.slack.title", group=group) == "[FIRING critical] DiskFull &lt;!here&gt;"
    assert render("costwarden.text", group=group).startswith("FIRING: DiskFull <!here>\n")
    assert "*FIRING: DiskFull &lt;!here&gt;*" in render("costwarden.slack", group=group)
    assert ">FIRING: DiskFull &lt;!here&gt;</h3>" in render("costwarden.html", "html", group)
    assert render("costwarden.pagerduty.firing", group=group).startswith("DiskFull <!here>: ")


@pytest.mark.parametrize(
    ("template", "most"),
    # A line of a mail has at most 998 characters (RFC 5322, 2.1.1), a summary at PagerDuty 1,024; a message at Slack 40,000.
    [("subject", 998), ("slack.title", 1024), ("slack", 40_000), ("pagerduty.firing", 50_000)],
)
def test_a_name_of_ten_thousand_characters_does_not_cost_the_message(render: Callable[..., str], template: str, most: int) -> None:
    long = "ü" * 10_000
    alerts = [an_alert(number, "firing", summary=long, description=long) for number in range(12)]
    text = render(f"costwarden.{template}", group=GROUP | {"commonLabels": {"severity": long}, "alerts": alerts})
    assert 250 < len(text) <= most


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


@pytest.mark.parametrize("character", ["&", "<", "語", "😀", "\u0007", '"'])
def test_the_longest_names_that_a_budget_may_have_fit_into_every_message(render: Callable[..., str], character: str) -> None:
    name = character * 256
    says = {
        "summary": f"AI budget {name} is used up",
        "description": f"{name} stands at 105%.",
        "escalation": "on call",
        "runbook_url": "a#b",
    }
    labels = {"alertname": "AIBudgetExceeded", "severity": "info", "budget": f"tenant_id={name}/month", "tenant_id": name}
    alert = {
        "labels": labels,
        "annotations": says | {"dashboard_url": f"/d/finops-ai-budget?var-tenant_id={quoted(name)}"},
        "generatorURL": f"http://prometheus.example.com/graph?g0.expr={quoted('a' * 1900)}",
        "startsAt": "2026-11-05T08:00:00Z",
        "endsAt": "2026-11-05T09:00:00Z",
    }
    group = GROUP | {"commonLabels": labels, "alerts": [alert | {"status": "firing"}] * 1000}
    slack = render("costwarden.slack", group=group)
    # https://api.slack.com/changelog/2018-truncating-really-long-messages: what is beyond is cut off, and the count of the others with it.
    assert len(slack) <= 40_000
    shown = slack.count("*FIRING: ")
    assert 1 <= shown <= 10
    assert f"These are {shown} of 1000 alerts. <http://alertmanager.example.com/#/alerts|All of them>\n" in slack
    assert re.findall(r"&(?!amp;|lt;|gt;)", re.sub(r"<http[^>]*>", "", slack)) == []
    # https://developer.pagerduty.com/docs/send-alert-event: 1,024 characters of a summary, 512 KB in all.
    assert len(render("costwarden.subject", group=group)) <= 1024
    details = ("pagerduty.firing", "pagerduty.resolved", "pagerduty.answer", "link", "pagerduty.silence", "pagerduty.prometheus")
    assert sum(len(render(f"costwarden.{detail}", group=group).encode()) for detail in details) <= 512_000 / 2
    # https://support.google.com/mail: what is beyond 102 KB of a mail is cut off.
    assert "These are 50 of 1000 alerts" in render("costwarden.html", "html", group)[:1000]


def test_ten_alerts_with_names_as_they_are_in_life_are_all_shown_in_slack(render: Callable[..., str]) -> None:
    says = {"summary": "AI budget tenant_id=globex/month has reached 90%", "description": "It stands at 91% of $1000.00, period month."}
    alerts = [an_alert(number, "firing", **says, dashboard_url="/d/finops-ai-budget?var-tenant_id=globex") for number in range(10)]
    slack = render("costwarden.slack", group=GROUP | {"alerts": alerts})
    assert (slack.count("*FIRING: "), "These are" in slack) == (10, False)


@pytest.mark.parametrize(("template", "kind"), [("text", "text"), ("html", "html"), ("slack", "text"), ("pagerduty.silence", "text")])
def test_a_silence_is_for_all_labels_of_the_alert_or_there_is_no_link_to_one(render: Callable[..., str], template: str, kind: str) -> None:
    for length, is_linked in ((50, True), (10_000, False)):
        labels = {"alertname": "DiskFull", "path": "x" * length}
        told = render(f"costwarden.{template}", kind, GROUP | {"commonLabels": labels, "alerts": [GROUP["alerts"][0] | {"labels": labels}]})
        assert ("http://alertmanager.example.com/#/silences/new?filter=" in told) == is_linked
        assert ("http://alertmanager.example.com/#/alerts" in told) != is_linked


def test_a_mail_brings_its_own_colours_and_nothing_from_the_net(render: Callable[..., str]) -> None:
    html = render("costwarden.html", "html")
    assert re.findall(r"<(?:img|link|style|script|iframe)\b|url\(|@import|src=", html) == []
    # Where a program turns colours round for the dark, it needs to know both.
    assert re.search(r'<div style="[^"]*\bcolor: #24292f; background: #ffffff', html)
    assert '<meta name="color-scheme" content="light">' in html
    assert re.sub(r"<([a-z0-9]+)[^>]*(?<!/)>", "", html).count("</") == len(re.findall(r"<(?!meta|br|!)[a-z]", html))
