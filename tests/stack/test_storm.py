"""A thousand tenants are over their budgets at once: each is told once, none is lost, no playbook goes beyond its caps, and all of it ends.

A wrong price does this, and so does the first of a month with last month's limits.
"""

import itertools
import json
import re
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest
import yaml
from alertmanager_server import an_alert
from inboxes import WebServer
from processes import free_port, wait_for

from costwarden.artifacts.alertmanager import alertmanager_yaml
from costwarden.artifacts.rendering import values_tmpl
from costwarden.artifacts.values import Values

pytestmark = pytest.mark.stack

SECONDS = 240.0
"""Deadline of what takes 5 to 20 s on two quiet cores: it must hold beside other tests that keep both of them busy."""

CAPPED, SWITCHED_OFF, WITHOUT = 50, 550, 400
"""Tenants whose budget names a playbook that may act on 5 targets an hour, one that is off, and none: 1,000 in all."""

MOST_PER_HOUR = 5

TENANTS = [f"t{number:04}" for number in range(CAPPED + SWITCHED_OFF + WITHOUT)]
ACTIONS = dict(zip(TENANTS, ["suspend"] * CAPPED + ["rest"] * SWITCHED_OFF + [""] * WITHOUT, strict=True))

NEAR = "near"
"""A tenant at 85 % of its budget: who is told of it shows that warnings get through."""


def soon(what, probe):
    return wait_for(what, probe, SECONDS)


def keep_firing_for_seconds(document):
    """Shortens `keep_firing_for`: long enough for some scrapes that take too long, and short enough to wait for."""
    for group in document["groups"]:
        for rule in group["rules"]:
            if "keep_firing_for" in rule:
                rule["keep_firing_for"] = "15s"


def told_in_seconds(inboxes, folder):
    """Renders what ships for the inboxes, with seconds for minutes."""
    quick = {"group_wait": "2s", "group_interval": "2s", "repeat_interval": "1h"}
    # What holds a warning back comes a moment after it, a thousand times: these wait, as they do where it is 30 s.
    patient = {"group_wait": "20s", "group_interval": "10s", "repeat_interval": "1h"}

    def edit(document):
        (webhook,) = next(receiver for receiver in document["receivers"] if receiver["name"] == "costwarden")["webhook_configs"]
        shipped = Values()
        lead, executive = shipped.escalation
        read = Values.model_validate(
            {
                "smtp": {"smarthost": inboxes.smarthost, "require_tls": False},
                "costwarden": {
                    "url": webhook["url"].removesuffix("/api/alerts/webhook"),
                    "token_file": webhook["http_config"]["authorization"]["credentials_file"],
                },
                "receivers": {
                    "finops-email": inboxes.email("email"),
                    "finops-pager": inboxes.pagerduty("pager"),
                    "finops-info": inboxes.slack("slack"),
                    "finops-lead": inboxes.webhook("lead"),
                    "finops-executive": inboxes.email("executive"),
                },
                "escalation": [
                    {**lead.model_dump(), "after": "8s", "group_interval": "2s", "repeat_interval": "1h"},
                    {**executive.model_dump(), "after": "12s", "group_interval": "5s", "repeat_interval": "1h"},
                ],
                "grouping": {"critical": quick, "warning": patient, "info": patient},
            }
        )
        document.clear()
        document.update(yaml.safe_load(alertmanager_yaml(read)))
        (folder / "alertmanager" / "templates" / "values.tmpl").write_text(values_tmpl(read), encoding="utf-8")

    return edit


def apply_budgets(stack, limit_usd):
    """Gives every tenant a limit, by a file; that of `NEAR` stays at $1. It is for ever: no month ends under the test."""
    budgets = [{"scope": {"tenant_id": tenant}, "limit_usd": limit_usd, "action": action} for tenant, action in ACTIONS.items()]
    budgets = [{**budget, "period": "total"} for budget in [*budgets, {"scope": {"tenant_id": NEAR}, "limit_usd": 1}]]
    path = stack.folder / "budgets.yaml"
    path.write_text(yaml.safe_dump(budgets), encoding="utf-8")
    return Counter(change["change"] for change in stack.cli("budget", "apply", "--file", str(path), "--yes"))


def queue(stack):
    """Every incident in the queue."""
    found, cursor = [], {}
    while True:
        page = stack.http.get(
            f"{stack.costwarden}/api/alerts",
            params={"kind": "incident", "limit": 1000, **cursor},
            headers={"Authorization": f"Bearer {stack.token('operator')}"},
        ).json()
        found += page["alerts"]
        if not page["next_cursor"]:
            return found
        cursor = {"cursor": page["next_cursor"]}


def incidents(stack):
    """(fingerprint, start, action) of every incident in the queue, as often as it is there."""
    return [(incident["fingerprint"], incident["starts_at"], incident["action"]) for incident in queue(stack)]


def ended_incidents(stack):
    """How many incidents costwarden was told to be over."""
    return sum(incident["status"] == "resolved" for incident in queue(stack))


def series(stack, name):
    """Labels -> value of a family on the server's own page."""
    lines = stack.call("GET", "/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{")}


def refused(stack):
    """What an Alertmanager was answered that is no success, by its own count: (integration, reason) -> messages.

    Not what took too long: it says that again, as it does where nobody answers within the `group_interval`.
    """
    page = stack.http.get(f"{stack.alertmanagers[0]}/metrics").text
    family = r'^alertmanager_notifications_failed_total\{.*?integration="(\w+)".*?reason="(clientError|serverError)".*?\} (\S+)$'
    counts = re.findall(family, page, re.MULTILINE)
    assert counts
    return {(name, reason): float(count) for name, reason, count in counts if float(count)}


def held_back(stack):
    """The labels of what others inhibit."""
    alerts = stack.http.get(f"{stack.alertmanagers[0]}/api/v2/alerts").json()
    return [alert["labels"] for alert in alerts if alert["status"]["inhibitedBy"]]


@contextmanager
def silenced(stack, alertname):
    """Nobody is told of alerts of this name."""
    now = datetime.now(UTC)
    matchers = [{"name": "alertname", "value": alertname, "isRegex": False, "isEqual": True}]
    times = {"startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
    asked = {"matchers": matchers, "createdBy": "test", "comment": "what holds them back is on its way", **times}
    api = f"{stack.alertmanagers[0]}/api/v2"
    made = stack.http.post(f"{api}/silences", json=asked).raise_for_status().json()
    yield
    stack.http.delete(f"{api}/silence/{made['silenceID']}").raise_for_status()


def pages(inboxes):
    """(tenant, event, key) of the messages to PagerDuty about budgets: the silence that each links to names its tenant.

    As a set, as PagerDuty has them: Alertmanager says again what was not answered within the `group_interval`, here 2 s.
    """
    links = ((page.body, page.body["payload"]["custom_details"]["acknowledge"]) for page in inboxes.to("pager"))
    return {
        (re.search(r"tenant_id%3D%22(\w+)%22", link)[1], body["event_action"], body["dedup_key"])
        for body, link in links
        if "AIBudgetExceeded" in link
    }


def lead_messages(inboxes):
    """(tenant, status) of the messages to the lead about budgets, each about one alert; as a set, for the same reason."""
    messages = [message.body for message in inboxes.to("lead")]
    told = [(message["status"], alert["labels"]) for message in messages for alert in message["alerts"]]
    return {(labels["tenant_id"], status) for status, labels in told if labels["alertname"] == "AIBudgetExceeded"}


def to_executives(inboxes):
    """Their mails about budgets."""
    return [mail for mail in inboxes.to("executive") if "AI budget" in mail.subject]


@pytest.mark.timeout(900)
def test_a_thousand_budgets_at_once_are_each_told_once_and_end_and_playbooks_keep_to_their_caps(start_stack, inboxes, hire, tmp_path):
    clerk = hire("clerk")
    playbooks = [
        clerk.playbook("suspend", max_targets_per_hour=MOST_PER_HOUR),
        clerk.playbook("rest", mode="off"),
    ]
    stack = start_stack(
        {"budgets": {"default": None}, "remediation": {"mode": "enforce", "playbooks": playbooks}},
        interval="2s",
        edit_rules=keep_firing_for_seconds,
        edit_alertmanager=told_in_seconds(inboxes, tmp_path / "stack"),
    )
    # Each look at Alertmanager compares 1,000 warnings with the 1,000 alerts that hold them back.
    stack.http.timeout = SECONDS
    assert apply_budgets(stack, 1) == {"new": 1001}

    def spend(tenant):
        call = {"tenant_id": tenant, "provider": "openai", "model": "gpt-4o", "cost_usd": 0.85 if tenant == NEAR else 2}
        stack.call("POST", "/api/ai-budget/track", call, bearer="applications").raise_for_status()

    # A warning and what holds it back are two messages of Prometheus, and on a busy machine long may lie between a thousand of each.
    with silenced(stack, "AIBudgetWarning"):
        with ThreadPoolExecutor(16) as clients:
            list(clients.map(spend, [NEAR, *TENANTS]))

        # Prometheus.
        firing = soon("1,000 alerts", lambda: found if len(found := stack.firing("AIBudgetExceeded")) == 1000 else None)
        assert Counter(alert["labels"]["tenant_id"] for alert in firing) == dict.fromkeys(TENANTS, 1)
        soon("1,001 warnings", lambda: len(stack.firing("AIBudgetWarning")) == 1001)

        # Alertmanager: who is told of the beginning.
        began = soon("1,000 alerts in Alertmanager", lambda: found if len(found := stack.routed("AIBudgetExceeded")) == 1000 else None)
        soon("1,000 pages", lambda: len(pages(inboxes)) >= 1000)
        soon("1,000 messages to the lead", lambda: len(lead_messages(inboxes)) >= 1000)
        # Those who join a group later are in its next message; all are in the last.
        soon("the executives' mail", lambda: [mail for mail in to_executives(inboxes) if mail.subject.endswith("(1000 alerts)")])

        soon("1,000 that are held back", lambda: [labels["alertname"] for labels in held_back(stack)].count("AIBudgetWarning") == 1000)
    # Told after its `group_wait` of 20 s, when every group of a warning has had its turn, each 10 s.
    control = [an_alert("CloudCostSpike", "warning", provider="control")]
    stack.http.post(f"{stack.alertmanagers[0]}/api/v2/alerts", json=control).raise_for_status()

    # Playbooks: 50 + 550 budgets name one.
    asked = CAPPED + SWITCHED_OFF
    soon("600 incidents", lambda: len(incidents(stack)) >= asked)
    assert Counter(incidents(stack)) == {
        (alert["fingerprint"], f"{datetime.fromisoformat(alert['startsAt']):%Y-%m-%dT%H:%M:%S.%fZ}", alert["labels"]["action"]): 1
        for alert in began
        if "action" in alert["labels"]
    }

    def outcomes():
        return series(stack, "costwarden_remediation_runs_total")

    soon("600 runs", lambda: sum(outcomes().values()) >= asked)
    assert len(clerk.calls("apply")) == MOST_PER_HOUR
    assert outcomes() == {
        'costwarden_remediation_runs_total{playbook="suspend",outcome="succeeded"}': MOST_PER_HOUR,
        'costwarden_remediation_runs_total{playbook="suspend",outcome="refused"}': CAPPED - MOST_PER_HOUR,
        'costwarden_remediation_runs_total{playbook="rest",outcome="refused"}': SWITCHED_OFF,
    }
    assert series(stack, "costwarden_remediation_refused_total") == {
        'costwarden_remediation_refused_total{playbook="suspend",reason="hourly_limit"}': CAPPED - MOST_PER_HOUR,
        'costwarden_remediation_refused_total{playbook="rest",reason="mode_off"}': SWITCHED_OFF,
    }

    def mails(words):
        return [mail.subject for mail in inboxes.to("email") if words in mail.part("plain")]

    for playbook, reason in (("suspend", "hourly_limit"), ("rest", "mode_off")):
        soon(f"the mail of {reason}", lambda words=f"Remediation was refused: {playbook}, {reason}": mails(words))
    # Warnings: of the one tenant that has nothing worse.
    soon("the warning", lambda: mails("is above its soft limit"))
    soon("the control", lambda: mails("CloudCostSpike"))
    assert mails("is above its soft limit") == [f"[FIRING warning] AI budget tenant_id={NEAR}/total is above its soft limit"]

    # It ends; so may first what holds back, and then the warning.
    with silenced(stack, "AIBudgetWarning"):
        assert apply_budgets(stack, 1000) == {"changed": 1000, "unchanged": 1}
        soon("1,000 ends to the pager", lambda: len(pages(inboxes)) >= 2000)
        soon("1,000 ends to the lead", lambda: len(lead_messages(inboxes)) >= 2000)
        soon("nothing that fires", lambda: not stack.firing("AIBudgetExceeded"))
        soon("the end of all incidents", lambda: ended_incidents(stack) == asked)
        told = pages(inboxes)
        # PagerDuty closes by this key what it has opened by it: an incident each.
        assert len({key for _, _, key in told}) == 1000
        assert Counter((tenant, event) for tenant, event, _ in told) == Counter(itertools.product(TENANTS, ("trigger", "resolve")))
        assert lead_messages(inboxes) == set(itertools.product(TENANTS, ("firing", "resolved")))
        soon("the end for the executives", lambda: to_executives(inboxes)[-1].subject.startswith("[RESOLVED"))
        # However long it took until all had begun and all had ended: one message in each `group_interval` of 5 s.
        mails_at = [mail.at for mail in to_executives(inboxes)]
        assert len(mails_at) <= 2 + (mails_at[-1] - mails_at[0]) / 5
        assert len(incidents(stack)) == asked
        assert mails("is above its soft limit") == [f"[FIRING warning] AI budget tenant_id={NEAR}/total is above its soft limit"]
        assert refused(stack) == {}


# --- whoever is told cannot take it all at once -------------------------------------------------------------------------------------


class BusyPager(BaseHTTPRequestHandler):
    """Takes `PER_SECOND` messages a second and answers the others as PagerDuty does beyond its rate: 429.

    Its first second lasts until the whole storm has been there, however long that takes.
    """

    STORM, PER_SECOND = 100, 20
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            second = 0 if self.server.tries.total() < self.STORM else int(time.monotonic())
            self.server.tries[second] += 1
            takes = self.server.tries[second] <= self.PER_SECOND
            (self.server.taken if takes else self.server.refused).append(body["dedup_key"])
        self.send_response(202 if takes else 429)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def busy_pager():
    """The server, with what it has `taken` and `refused`."""
    server = WebServer(("127.0.0.1", free_port()), BusyPager)
    server.lock, server.tries, server.taken, server.refused = threading.Lock(), Counter(), [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_storm_of_connections_waits_in_line_for_those_who_are_told():
    with WebServer(("127.0.0.1", free_port()), BusyPager) as server, ExitStack() as connections:
        # Nobody has begun to serve: what is not in line gets no answer at all.
        for _ in range(500):
            connections.enter_context(socket.create_connection(server.server_address, timeout=60))


@pytest.mark.timeout(600)
def test_a_pager_that_is_asked_too_often_gets_each_page_a_little_later(start_alertmanager, inboxes, busy_pager, wait_until):
    key, url = inboxes.secret("key", "key-of-the-pager"), f"http://127.0.0.1:{busy_pager.server_port}/"
    quick = {"group_wait": "0s", "group_interval": "10s", "repeat_interval": "1h"}
    alertmanager = start_alertmanager(
        {
            "receivers": {"pager": {"pagerduty": [{"routing_key_file": key, "url": url}]}},
            "routes": {"severity": {severity: ["pager"] for severity in ("critical", "warning", "info")}, "otherwise": "pager"},
            "escalation": [],
            "grouping": {"critical": quick},
        }
    )
    alertmanager.send(*(an_alert("AIBudgetExceeded", budget=f"b{number}") for number in range(BusyPager.STORM)))
    wait_until(lambda: len(set(busy_pager.taken)) == BusyPager.STORM, seconds=SECONDS)
    assert len(busy_pager.refused) >= BusyPager.STORM - BusyPager.PER_SECOND
    assert sorted(Counter(busy_pager.taken).values()) == [1] * 100
