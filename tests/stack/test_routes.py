"""Who is told, by which way and in which words: a real Alertmanager, a mail server, and what plays Slack, PagerDuty and a webhook."""

import time
from datetime import UTC, datetime, timedelta

import pytest
import stack as parts
import yaml
from alertmanager_server import an_alert, ended

from costwarden.artifacts.alertmanager import alertmanager_yaml
from costwarden.artifacts.rendering import values_tmpl
from costwarden.artifacts.values import Values

pytestmark = pytest.mark.stack

QUICK = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
AT_ONCE = {"critical": QUICK, "warning": QUICK, "info": QUICK}

SAYS = {
    "summary": "AI budget acme is used up: requests are refused",
    "description": "AI budget acme stands at 105% of $1000.00, period month.",
    "escalation": "Account manager, within 30 minutes",
    "runbook_url": "alerts/README.md#aibudgetexceeded",
    "dashboard_url": "/d/finops-ai-budget?var-tenant_id=a%26b",
}


@pytest.fixture
def values(inboxes):
    """`values(**more)`: a receiver of each kind, and whatever else the values say."""

    def make(**more):
        receivers = {
            "finops-email": inboxes.email("email"),
            "finops-pager": inboxes.pagerduty("pager"),
            "finops-info": inboxes.slack("slack"),
            "data-team": inboxes.webhook("data"),
            "dba": inboxes.email("dba"),
            "sms": {"notifier": ["on-call-sms"]},
        }
        return {
            "grafana_url": "https://grafana.example.org/team",
            "runbook_url": "https://wiki.example.org/finops",
            "smtp": {"smarthost": inboxes.smarthost, "require_tls": False},
            "costwarden": {"url": inboxes.url, "token_file": inboxes.secret("costwarden", "token-of-alertmanager")},
            "receivers": receivers,
            "routes": {
                "severity": {"critical": ["finops-pager", "sms"], "warning": ["finops-email"], "info": ["finops-info"]},
                "team": {"data": {"warning": ["data-team"], "critical": ["data-team"], "in_addition": True}},
                "category": {"database": {"critical": ["dba"]}},
                "otherwise": "finops-email",
            },
            "escalation": [],
            "grouping": AT_ONCE,
            **more,
        }

    return make


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"severity": "critical"}, {"pager", "api/notifications/on-call-sms"}),
        ({"severity": "critical", "action": "suspend"}, {"pager", "api/notifications/on-call-sms", "api/alerts/webhook"}),
        ({"severity": "warning"}, {"email"}),
        ({"severity": "info"}, {"slack"}),
        ({"severity": "critical", "team": "data"}, {"data", "pager", "api/notifications/on-call-sms"}),
        ({"severity": "warning", "team": "data"}, {"data", "email"}),
        ({"severity": "info", "team": "data"}, {"slack"}),
        ({"severity": "critical", "category": "database"}, {"dba"}),
        ({"severity": "warning", "category": "database"}, {"email"}),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_an_alert_and_its_end_reach_exactly(inboxes, start_alertmanager, values, wait_until, labels, told):
    alertmanager = start_alertmanager(values())
    alert = an_alert("AIBudgetExceeded", budget="acme", **labels)
    alertmanager.send(alert)
    wait_until(lambda: inboxes.told() >= told)
    alertmanager.send(ended(alert))
    wait_until(lambda: len(inboxes.messages) == 2 * len(told))
    # One that would be told to whoever has nothing to do with the first: it comes last, so nobody else was told.
    alertmanager.send(an_alert("Watchdog", severity="none", category="other"))
    wait_until(lambda: len(inboxes.messages) == 2 * len(told) + 1)
    assert inboxes.told() == told | {"email"}


def test_a_page_has_the_figures_and_the_links_of_the_alert(inboxes, start_alertmanager, values, wait_until):
    alertmanager = start_alertmanager(values())
    alert = an_alert("AIBudgetExceeded", budget="acme", tenant_id="a&b") | {"annotations": SAYS}
    alertmanager.send(alert)
    (page,) = wait_until(lambda: inboxes.to("pager"))
    event = page.body
    assert (event["routing_key"], event["event_action"], event["payload"]["severity"]) == ("key-of-the-pager", "trigger", "critical")
    assert event["payload"]["summary"] == "[FIRING critical] AI budget acme is used up: requests are refused"
    assert event["client_url"] == "https://grafana.example.org/team/d/finops-ai-budget?var-tenant_id=a%26b"
    details = event["payload"]["custom_details"]
    since = datetime.fromisoformat(alert["startsAt"]).strftime("%Y-%m-%d %H:%M UTC")
    assert details["firing"] == f"{SAYS['summary']}: {SAYS['description']} Since: {since}\n"
    assert details["answer"] == "Account manager, within 30 minutes"
    assert details["runbook"] == "https://wiki.example.org/finops/alerts/README.md#aibudgetexceeded"
    assert details["prometheus"] == "http://prometheus.example.com/graph?g0.expr=up"
    assert details["acknowledge"].partition("/#/")[2] == (
        "silences/new?filter=%7Balertname%3D%22AIBudgetExceeded%22%2Cbudget%3D%22acme%22%2Ccategory%3D%22finops%22%2C"
        "severity%3D%22critical%22%2Cteam%3D%22finops%22%2Ctenant_id%3D%22a%26b%22%7D"
    )
    alertmanager.send(ended(alert))
    over = wait_until(lambda: inboxes.to("pager")[1:])[0].body
    assert (over["event_action"], over["dedup_key"]) == ("resolve", event["dedup_key"])


def test_what_fails_beside_another_failure_is_an_incident_of_its_own(inboxes, start_alertmanager, values, wait_until):
    alertmanager = start_alertmanager(values())
    about = {"RemediationFailed": "playbook", "NotificationFailing": "receiver", "AIBudgetExceeded": "budget"}
    alerts = [an_alert(name, **{label: value}) for name, label in about.items() for value in ("a", "b")]
    alertmanager.send(*alerts)
    wait_until(lambda: len(inboxes.to("pager")) == 6)
    # Of one that is over the others stay open: somebody who has acknowledged it has not seen these.
    alertmanager.send(ended(alerts[0]))
    wait_until(lambda: len(inboxes.to("pager")) == 7)
    *opened, closed = (page.body for page in inboxes.to("pager"))
    assert (len({page["dedup_key"] for page in opened}), closed["event_action"]) == (6, "resolve")
    assert [page["dedup_key"] for page in opened].count(closed["dedup_key"]) == 1


def test_a_webhook_and_the_notifier_get_a_bearer_token_and_the_whole_group(inboxes, start_alertmanager, values, wait_until):
    start_alertmanager(values()).send(an_alert("AIBudgetExceeded", budget="acme", team="data", action="suspend"))
    wait_until(lambda: len(inboxes.messages) == 4)
    tokens = {message.to: message.headers["Authorization"] for message in inboxes.messages if message.to != "/pager"}
    assert tokens == {
        "/data": "Bearer token-of-the-hook",
        "/api/notifications/on-call-sms": "Bearer token-of-alertmanager",
        "/api/alerts/webhook": "Bearer token-of-alertmanager",
    }
    assert [message.body["alerts"][0]["labels"]["budget"] for message in inboxes.messages if message.to in tokens] == ["acme"] * 3


HOSTILE = 'x" or 1=1 <!channel> <script>alert(1)</script> {{ .ExternalURL }} | \r\nBcc: all@example.com\r\n\r\nRESOLVED: all is well'


def test_what_a_tenant_is_called_is_text_in_every_medium(inboxes, start_alertmanager, values, wait_until):
    alertmanager = start_alertmanager(values())
    says = {name: text.replace("acme", HOSTILE) for name, text in SAYS.items()}
    for severity in ("critical", "warning", "info"):
        alertmanager.send(an_alert("AIBudgetExceeded", severity, budget=HOSTILE, tenant_id=HOSTILE) | {"annotations": says})
    wait_until(lambda: inboxes.told() >= {"pager", "email", "slack"})
    one_line = 'x" or 1=1 <!channel> <script>alert(1)</script> {{ .ExternalURL }} |  Bcc: all@example.com RESOLVED: all is well'
    (mail,) = inboxes.to("email")
    assert mail.subject == f"[FIRING warning] AI budget {one_line} is used up: requests are refused"
    assert mail.mail["Bcc"] is None
    assert f"AI budget {one_line} stands at 105% of $1000.00" in mail.part("plain")
    assert "\nRESOLVED" not in mail.part("plain")
    html = mail.part("html")
    assert ("<script" in html, "&lt;script&gt;alert(1)&lt;/script&gt;" in html) == (False, True)
    (slack,) = inboxes.to("slack")
    (attachment,) = slack.body["attachments"]
    for text in (attachment["title"], attachment["text"], attachment["fallback"]):
        assert ("<!channel>" in text, "<script>" in text, "&lt;!channel&gt; &lt;script&gt;" in text) == (False, False, True)
    # Whoever copies the link gets a silence for this alert alone.
    link = attachment["text"].partition("silences/new?filter=")[2].partition("|")[0]
    assert set(link) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%_-.~")
    (page,) = inboxes.to("pager")
    assert one_line in page.body["payload"]["summary"]


def test_a_heartbeat_beats_while_the_alert_fires_and_stops_with_it(inboxes, start_alertmanager, values, wait_until):
    beat = inboxes.webhook("beat") | {"send_resolved": False}
    # Once the control is told, its group is silent: whatever is looked up after that is the heartbeat's.
    grouping = AT_ONCE | {"warning": QUICK | {"group_interval": "1h"}}
    more = {"receivers": values()["receivers"] | {"beat": beat}, "grouping": grouping}
    alertmanager = start_alertmanager(values(heartbeat={"receivers": ["beat"], "every": "10s"}, **more))
    watchdog = an_alert("Watchdog", "none", category="other")
    alertmanager.send(watchdog)
    wait_until(lambda: len(inboxes.to("beat")) >= 2)
    first, second = (message.at for message in inboxes.to("beat")[:2])
    # Ten seconds, less what the first one was late.
    assert second - first > 5
    # Prometheus is silent: what it said last is over.
    alertmanager.send(ended(watchdog))
    control = an_alert("CloudCostSpike", "warning", provider="aws")
    alertmanager.send(control)
    wait_until(lambda: inboxes.to("email"))
    looks = alertmanager.looks()
    wait_until(lambda: alertmanager.looks() > looks)
    alertmanager.send(an_alert("CloudCostSpike", "warning", provider="aws", budget="second"))
    wait_until(lambda: inboxes.to("email")[1:])
    assert {message.body["status"] for message in inboxes.to("beat")} == {"firing"}
    assert inboxes.told() == {"beat", "email"}


# --- mute times --------------------------------------------------------------------------------------------------------------------


def muted_now(name, **more):
    """A mute time from half an hour ago to half an hour from now."""
    now = datetime.now(UTC)
    start, end = (now + timedelta(minutes=30 * sign) for sign in (-1, 1))
    return {"name": name, "start": f"{start:%H:%M}", "end": f"{end:%H:%M}", **more}


def test_what_is_muted_waits_and_a_page_does_not(inboxes, start_alertmanager, values, wait_until):
    alertmanager = start_alertmanager(values(mute_times=[muted_now("nights", severities=["warning", "info"])]))
    alertmanager.send(*(an_alert("AIBudgetExceeded", severity, budget="acme") for severity in ("info", "warning", "critical")))
    wait_until(lambda: inboxes.to("pager"))
    alertmanager.send(an_alert("Watchdog", severity="none"))
    # Sent after the others, by a route that is never muted.
    wait_until(lambda: inboxes.to("email"))
    assert [mail.subject for mail in inboxes.to("email")] == ["[FIRING none] Watchdog of nobody"]
    assert inboxes.to("slack") == []
    # The night is over.
    alertmanager.configure(values())
    alertmanager.reload()
    wait_until(lambda: inboxes.to("email")[1:] and inboxes.to("slack"))


def test_outside_its_time_and_on_other_days_a_mute_time_mutes_nothing(inboxes, start_alertmanager, values, wait_until):
    now = datetime.now(UTC)
    days = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    in_three_days = days[(now.weekday() + 3) % 7]
    later = f"{now + timedelta(hours=3):%H:%M}", f"{now + timedelta(hours=4):%H:%M}"
    mutes = [
        muted_now("other-days", severities=["warning"], weekdays=[in_three_days]),
        {"name": "later", "severities": ["warning"], "start": later[0], "end": later[1]},
        # In Kiribati it is 14 hours later.
        muted_now("elsewhere", severities=["warning"], location="Pacific/Kiritimati"),
    ]
    start_alertmanager(values(mute_times=mutes)).send(an_alert("CloudCostSpike", "warning", provider="aws"))
    wait_until(lambda: inboxes.to("email"))


DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@pytest.mark.parametrize(
    ("hour", "night_of", "muted"),
    [
        (23, 0, True),  # Friday, 23:30: Friday's night has begun.
        (0, -1, True),  # Saturday, 00:30: it goes on.
        (0, 0, False),  # Saturday, 00:30: Saturday's night is still to come.
        (23, -1, False),  # Friday, 23:30: Thursday's is over.
    ],
)
def test_a_night_goes_over_midnight_where_people_are(inboxes, start_alertmanager, values, wait_until, hour, night_of, muted):
    now = datetime.now(UTC)
    # Where it is this hour now. Etc/GMT-5 is 5 hours ahead of UTC.
    ahead = (hour - now.hour + 12) % 24 - 12
    there = now + timedelta(hours=ahead)
    assert there.hour == hour
    night = {"name": "nights", "severities": ["warning"], "start": "21:00", "end": "03:00", "location": f"Etc/GMT{-ahead:+}"}
    night["weekdays"] = [DAYS[(there + timedelta(days=night_of)).weekday()]]
    alertmanager = start_alertmanager(values(mute_times=[night]))
    alertmanager.send(an_alert("CloudCostSpike", "warning", provider="aws"))
    alertmanager.send(an_alert("Watchdog", severity="none"))
    wait_until(lambda: [mail for mail in inboxes.to("email") if "Watchdog" in mail.subject])
    if muted:
        # One that nobody mutes comes after it.
        assert [mail.subject for mail in inboxes.to("email")] == ["[FIRING none] Watchdog of nobody"]
    else:
        wait_until(lambda: [mail for mail in inboxes.to("email") if "CloudCostSpike" in mail.subject])


def test_a_receiver_may_have_several_of_every_kind_and_each_of_them_is_told(inboxes, start_alertmanager, values, wait_until):
    everybody = {
        "email": [{"to": ["a@example.com", "b@example.com"]}, {"to": ["c@example.com"]}],
        "slack": [*inboxes.slack("s1")["slack"], inboxes.slack("s2")["slack"][0] | {"channel": "#フィンオプス"}],
        "pagerduty": [*inboxes.pagerduty("p1")["pagerduty"], *inboxes.pagerduty("p2")["pagerduty"]],
        "webhook": [*inboxes.webhook("w1")["webhook"], *inboxes.webhook("w2")["webhook"]],
        "notifier": ["sms-1", "sms.2"],
    }
    everyone = {severity: ["Everybody_1.x-y"] for severity in ("critical", "warning", "info")}
    more = {"receivers": {"Everybody_1.x-y": everybody}, "routes": {"severity": everyone, "otherwise": "Everybody_1.x-y"}}
    start_alertmanager(values(**more)).send(an_alert("AIBudgetExceeded", budget="データ/month", tenant_id="データ"))
    told = {"a", "b", "c", "s1", "s2", "p1", "p2", "w1", "w2", "api/notifications/sms-1", "api/notifications/sms.2"}
    wait_until(lambda: inboxes.told() == told)
    assert {message.body["channel"] for message in inboxes.messages if message.to in {"/s1", "/s2"}} == {"#finops", "#フィンオプス"}
    (mail,) = inboxes.to("a")
    assert mail.subject == "[FIRING critical] AIBudgetExceeded of データ/month"


def test_a_page_is_muted_where_that_was_said(inboxes, start_alertmanager, values, wait_until):
    mute = muted_now("move", severities=["critical"], even_critical=True)
    alertmanager = start_alertmanager(values(mute_times=[mute]))
    alertmanager.send(an_alert("AIBudgetExceeded", budget="acme", action="suspend"))
    wait_until(inboxes.told)
    alertmanager.send(an_alert("CloudCostSpike", "warning", provider="aws"))
    wait_until(lambda: inboxes.to("email"))
    # A playbook is not a person who sleeps.
    assert inboxes.told() == {"api/alerts/webhook", "email"}


# --- with Prometheus ---------------------------------------------------------------------------------------------------------------


def without_keeping(document):
    """Takes `keep_firing_for` out of the rules: an alert is over with the next evaluation."""
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("keep_firing_for", None)


def test_tenants_over_their_budgets_are_told_to_the_people_of_each_severity_and_so_is_the_end(start_stack, inboxes, eventually, tmp_path):
    people = {
        "finops-email": inboxes.email("email"),
        "finops-pager": inboxes.pagerduty("pager"),
        "finops-info": inboxes.slack("slack"),
        "finops-lead": inboxes.email("lead"),
    }
    read = Values.model_validate(
        {
            "smtp": {"smarthost": inboxes.smarthost, "require_tls": False},
            "receivers": people,
            "escalation": [{"stage": "lead", "after": "5s", "receivers": ["finops-lead"]}],
            # What holds an alert back may come a moment after it; these wait, so that it is there in time.
            "grouping": dict.fromkeys(("warning", "info"), QUICK | {"group_wait": "10s"}) | {"critical": QUICK},
        }
    )

    def route(document):
        document.clear()
        document.update(yaml.safe_load(alertmanager_yaml(read)))
        (tmp_path / "stack" / "alertmanager" / "templates" / "values.tmpl").write_text(values_tmpl(read), encoding="utf-8")

    stack: parts.Stack = start_stack({"budgets": {"default": None}}, edit_rules=without_keeping, edit_alertmanager=route)

    def limit(tenant, usd):
        stack.call("POST", "/api/ai-budget/set", {"tenant_id": tenant, "monthly_limit_usd": usd}).raise_for_status()

    def spend(tenant, usd):
        call = {"tenant_id": tenant, "provider": "openai", "model": "gpt-4o", "cost_usd": usd}
        stack.call("POST", "/api/ai-budget/track", call, bearer="applications").raise_for_status()

    began = time.time()
    for tenant, usd in (("over", 2.00), ("near", 0.85)):
        limit(tenant, 1.00)
        spend(tenant, usd)

    def told(name, words):
        return [message for message in inboxes.to(name) if words in (message.subject or str(message.body))]

    # Critical: $2.00 of $1.00.
    (page, *_) = eventually("the page", lambda: told("pager", "is used up"))
    assert page.body["payload"]["summary"].startswith("[FIRING critical] AI budget ")
    assert "stands at 200% of $1.00, period month." in page.body["payload"]["custom_details"]["firing"]
    assert "/graph?g0.expr=" in page.body["payload"]["custom_details"]["prometheus"]
    # Warning: $0.85 of $1.00, above the soft limit of 80 %.
    (mail, *_) = eventually("the mail", lambda: told("email", "is above its soft limit"))
    assert "stands at 85% of $1.00, period month." in mail.part("plain")
    # Info: the highest threshold that is reached is 80 %, the soft limit; the next one is 90 %.
    (chat, *_) = eventually("the chat", lambda: told("slack", "has reached"))
    assert chat.body["attachments"][0]["title"].endswith("has reached 80%")
    # Nobody has ended it.
    (escalated, *_) = eventually("the lead's mail", lambda: told("lead", "is used up"))
    assert escalated.subject.startswith("[FIRING critical, lead after 5s] AI budget ")
    assert escalated.at - began > 5
    # The warning of the same budget is held back by the critical alert: nobody has to read both.
    tenants = {
        word for message in told("email", "soft limit") for word in ("over", "near") if f"tenant_id%3D%22{word}" in message.part("plain")
    }
    assert tenants == {"near"}

    limit("over", 1000.00)
    for name in ("pager", "lead"):
        eventually(f"the end for the {name}", lambda name=name: told(name, "RESOLVED"))
    assert told("pager", "RESOLVED")[-1].body["event_action"] == "resolve"
