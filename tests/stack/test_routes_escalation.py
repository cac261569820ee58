"""On call, then the lead, then the executive: in a real Alertmanager.

Seconds stand for minutes where nothing has to be done within them. Where something has, between the first message and the next stage, the
stages are hours away, and an alert reaches them by being said again with an earlier start, by which Alertmanager goes: no pause of a
machine is that long. What must not arrive is told by a control: an alert that was sent later and has arrived by the same way.
"""

import signal
from datetime import UTC, datetime, timedelta

import pytest
from alertmanager_server import an_alert, ended

pytestmark = pytest.mark.stack

LEAD, EXECUTIVE = 2, 4
"""Seconds after which they are told."""

LATER = {"lead": {"after": "1h"}, "executive": {"after": "2h"}}
"""Stages that no test lives to see, unless it says that hours have passed: `after_hours`."""
HOURS = timedelta(hours=3)
"""Beyond both."""


@pytest.fixture
def values(inboxes):
    """`values(lead={…}, executive={…})`: three people, a second between messages, and what else is said of the two stages."""

    def make(lead=None, executive=None, **more):
        quick = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
        return {
            "smtp": {"smarthost": inboxes.smarthost, "require_tls": False},
            "receivers": {name: inboxes.email(name) for name in ("oncall", "lead", "executive")},
            "routes": {"severity": {"critical": ["oncall"], "warning": ["oncall"], "info": ["oncall"]}, "otherwise": "oncall"},
            "escalation": [
                {"stage": "lead", "after": f"{LEAD}s", "receivers": ["lead"], **(lead or {})},
                {"stage": "executive", "after": f"{EXECUTIVE}s", "receivers": ["executive"], **(executive or {})},
            ],
            "grouping": dict.fromkeys(("critical", "warning", "info"), quick),
            **more,
        }

    return make


@pytest.fixture
def subjects(inboxes):
    """`subjects("lead")`: the subjects of their mails, oldest first."""
    return lambda name: [mail.subject for mail in inboxes.to(name)]


def about(name, *budgets):
    """A critical alert for each budget."""
    return [an_alert(name, budget=budget) for budget in budgets]


def after_hours(alert):
    """The same alert when it has gone on for hours."""
    return alert | {"startsAt": (datetime.now(UTC) - HOURS).isoformat()}


def control():
    """A critical alert of another kind that is due for everybody at once."""
    return an_alert("LedgerDown", budget="control", age=HOURS)


def test_what_is_not_over_reaches_the_lead_and_then_the_executive(inboxes, start_alertmanager, values, subjects, wait_until):
    (alert,) = about("AIBudgetExceeded", "acme")
    start_alertmanager(values()).send(alert)
    wait_until(lambda: all(inboxes.to(name) for name in ("oncall", "lead", "executive")))
    assert subjects("oncall") == ["[FIRING critical] AIBudgetExceeded of acme"]
    assert subjects("lead") == [f"[FIRING critical, lead after {LEAD}s] AIBudgetExceeded of acme"]
    assert subjects("executive") == [f"[FIRING critical, executive after {EXECUTIVE}s] AIBudgetExceeded of acme"]
    # Since it began; a message may be late, and never early.
    began = datetime.fromisoformat(alert["startsAt"]).timestamp()
    assert inboxes.to("lead")[0].at - began > LEAD - 0.1
    assert inboxes.to("executive")[0].at - began > EXECUTIVE - 0.1
    assert inboxes.to("lead")[0].part("plain").startswith("Escalated to lead: not over and not silenced after 2s.\n")


def test_warnings_are_not_escalated(inboxes, start_alertmanager, values, subjects, wait_until):
    alertmanager = start_alertmanager(values())
    alertmanager.send(an_alert("CloudCostSpike", "warning", provider="aws"), an_alert("PriceDataOld", "info"))
    wait_until(lambda: len(subjects("oncall")) == 2)
    alertmanager.send(*about("LedgerDown", "control"))
    wait_until(lambda: subjects("lead") and subjects("executive"))
    assert {subject.split()[-3] for subject in subjects("lead") + subjects("executive")} == {"LedgerDown"}


def test_what_was_over_before_is_told_to_nobody_else(inboxes, start_alertmanager, values, subjects, wait_until):
    alertmanager = start_alertmanager(values(**LATER))
    (alert,) = about("AIBudgetExceeded", "acme")
    alertmanager.send(alert)
    wait_until(lambda: subjects("oncall"))
    alertmanager.send(ended(alert))
    wait_until(lambda: subjects("oncall")[1:])
    # Its stages come.
    alertmanager.send(ended(after_hours(alert)))
    alertmanager.send(control())
    wait_until(lambda: all("control" in "".join(subjects(name)) for name in ("oncall", "lead", "executive")))
    assert subjects("oncall")[:2] == ["[FIRING critical] AIBudgetExceeded of acme", "[RESOLVED] AIBudgetExceeded of acme"]
    assert [subject for name in ("lead", "executive") for subject in subjects(name) if "acme" in subject] == []


def test_the_end_is_told_to_those_who_heard_of_the_beginning(inboxes, start_alertmanager, values, subjects, wait_until):
    alertmanager = start_alertmanager(values(executive={"after": "1h"}))
    (alert,) = about("AIBudgetExceeded", "acme")
    alertmanager.send(alert)
    wait_until(lambda: subjects("lead"))
    alertmanager.send(ended(alert))
    wait_until(lambda: subjects("lead")[1:] and subjects("oncall")[1:])
    assert subjects("lead")[1] == "[RESOLVED] AIBudgetExceeded of acme"
    alertmanager.send(control())
    wait_until(lambda: subjects("executive"))
    assert subjects("executive") == ["[FIRING critical, executive after 1h] LedgerDown of control"]


def test_a_silence_acknowledges_and_what_still_fires_after_it_is_escalated(inboxes, start_alertmanager, values, subjects, wait_until):
    alertmanager = start_alertmanager(values(**LATER))
    alerts = about("AIBudgetExceeded", "acme", "globex")
    alertmanager.send(*alerts)
    wait_until(lambda: len(subjects("oncall")) == 2)
    silence = alertmanager.silence(budget="acme")
    for alert in alerts:
        alertmanager.send(after_hours(alert))
    wait_until(lambda: subjects("lead") and subjects("executive"))
    assert [subject.split()[-1] for subject in subjects("lead") + subjects("executive")] == ["globex", "globex"]
    # The silence is over, and nothing has changed.
    alertmanager.end_silence(silence)
    wait_until(lambda: subjects("lead")[1:] and subjects("executive")[1:])
    assert sorted(subject.split()[-1] for subject in subjects("lead") + subjects("executive")) == ["acme"] * 2 + ["globex"] * 2


def test_what_another_alert_holds_back_is_not_escalated(inboxes, start_alertmanager, values, subjects, wait_until):
    alertmanager = start_alertmanager(values(**LATER))
    # The cause first, and in force when it holds back the spike.
    down, spike = an_alert("CostwardenDown", budget="first", age=HOURS), an_alert("CloudCostSpike", "warning", provider="aws")
    alertmanager.send(down)
    wait_until(lambda: subjects("lead") and subjects("executive"))
    alertmanager.send(spike)
    wait_until(lambda: spike["labels"] in alertmanager.held_back())
    (alert,) = about("AIBudgetExceeded", "acme")
    alertmanager.send(after_hours(alert))
    # Another cause is the one thing that the first does not hold back.
    second = an_alert("CostwardenDown", budget="second", age=HOURS)
    alertmanager.send(second)
    wait_until(lambda: subjects("lead")[1:] and subjects("executive")[1:])
    for name in ("lead", "executive"):
        assert [subject.split()[-1] for subject in subjects(name)] == ["first", "second"]
    alertmanager.send(ended(down), ended(second))
    wait_until(lambda: all("AIBudgetExceeded" in "".join(subjects(name)) for name in ("lead", "executive")))


def test_a_budget_that_is_blown_is_escalated_though_its_source_went_stale_since(inboxes, start_alertmanager, values, subjects, wait_until):
    alertmanager = start_alertmanager(values(**LATER))
    overspent = an_alert("BudgetExceededCritical", budget="aws-month", provider="aws")
    alertmanager.send(overspent)
    wait_until(lambda: subjects("oncall"))
    alertmanager.send(an_alert("CostSourceStale", "warning", source="cur", provider="aws"))
    # Taken in when it is told, and in force when it holds back the spike.
    wait_until(lambda: "CostSourceStale" in "".join(subjects("oncall")))
    spike = an_alert("CloudCostSpike", "warning", provider="aws")
    alertmanager.send(spike)
    wait_until(lambda: spike["labels"] in alertmanager.held_back())
    alertmanager.send(after_hours(overspent))
    wait_until(lambda: subjects("lead") and subjects("executive"))
    assert subjects("lead") + subjects("executive") == [
        "[FIRING critical, lead after 1h] BudgetExceededCritical of aws-month",
        "[FIRING critical, executive after 2h] BudgetExceededCritical of aws-month",
    ]
    assert [subject for subject in subjects("oncall") if "CloudCostSpike" in subject] == []
    # Its end is told as any other.
    alertmanager.send(ended(overspent))
    wait_until(lambda: all(subjects(name)[-1] == "[RESOLVED] BudgetExceededCritical of aws-month" for name in ("lead", "executive")))


def test_a_stage_of_some_alerts_is_for_these_and_no_other(inboxes, start_alertmanager, values, subjects, wait_until):
    money = {"alerts": ["AIBudgetExceeded"]}
    alertmanager = start_alertmanager(values(executive={**money, "after": "1s"}))
    alertmanager.send(*about("LedgerDown", "a"), *about("AIBudgetExceeded", "b"))
    wait_until(lambda: subjects("executive") and len(subjects("lead")) == 2)
    assert subjects("executive") == ["[FIRING critical, executive after 1s] AIBudgetExceeded of b"]


def test_after_a_reload_and_a_restart_what_is_due_is_told_at_once_and_nothing_twice(
    inboxes, start_alertmanager, values, subjects, wait_until
):
    # It has gone on for an hour and a half; what no test could wait for comes nearer instead.
    alertmanager = start_alertmanager(values(lead={"after": "2h"}, executive={"after": "3h"}))
    alert = an_alert("AIBudgetExceeded", budget="acme", age=timedelta(minutes=90))

    def await_message(name, number):
        """Until they have it, and Alertmanager knows that it has sent so many since it started: a reload ends what is under way."""
        wait_until(lambda: subjects(name))
        wait_until(lambda: alertmanager.sent() == number)

    alertmanager.send(alert)
    await_message("oncall", 1)
    alertmanager.configure(values(lead={"after": "1h"}, executive={"after": "3h"}))
    alertmanager.reload()
    await_message("lead", 2)
    alertmanager.stop()
    alertmanager.configure(values(lead={"after": "1h"}, executive={"after": "80m"}))
    alertmanager.start()
    # As Prometheus says again what fires, with the time at which it began.
    alertmanager.send(alert)
    await_message("executive", 1)
    alertmanager.reload()
    alertmanager.send(alert)
    alertmanager.send(control())
    wait_until(lambda: all("control" in "".join(subjects(name)) for name in ("oncall", "lead", "executive")))
    assert [[subject.split()[-1] for subject in subjects(name)] for name in ("oncall", "lead", "executive")] == [["acme", "control"]] * 3


def test_a_kill_may_tell_twice_and_loses_nothing(inboxes, start_alertmanager, values, subjects, wait_until):
    alertmanager = start_alertmanager(values())
    (alert,) = about("AIBudgetExceeded", "acme")
    alertmanager.send(alert)
    wait_until(lambda: subjects("lead"))
    alertmanager.stop(signal.SIGKILL)
    alertmanager.start()
    # Prometheus says again what fires, with the time at which it began.
    alertmanager.send(alert)
    wait_until(lambda: subjects("executive"))
    assert 1 <= len(subjects("lead")) <= 2


def test_a_stage_says_it_again_after_its_repeat_interval_and_no_sooner(inboxes, start_alertmanager, values, subjects, wait_until):
    lead = {"repeat_interval": "3s"}
    executive = {"repeat_interval": "1h"}
    alertmanager = start_alertmanager(values(lead, executive))
    alertmanager.send(*about("AIBudgetExceeded", "acme"))
    wait_until(lambda: len(subjects("lead")) >= 3 and subjects("executive"))
    # Counted from when Alertmanager knows that a message was taken: a late one makes the next one late.
    first, second, third = (mail.at for mail in inboxes.to("lead")[:3])
    assert (second - first > 2.5, third - second > 2.5) == (True, True)
    assert len(subjects("executive")) == 1


# --- many at once ------------------------------------------------------------------------------------------------------------------


KINDS = {"group_by": ["alertname", "category"]}
"""As the executive's stage ships."""


def test_a_thousand_budgets_at_once_are_one_message_to_the_executive(inboxes, start_alertmanager, values, wait_until):
    by_kind = {"by": ["alertname"], **values()["grouping"]}
    # The lead's stage, by contrast, tells of each.
    people = {"oncall": inboxes.email("oncall"), "lead": inboxes.webhook("lead"), "executive": inboxes.email("executive")}
    alertmanager = start_alertmanager(values(executive=KINDS | {"after": "2h"}, grouping=by_kind, receivers=people))
    *most, last = about("AIBudgetExceeded", *(f"tenant-{number}" for number in range(1000)))
    alertmanager.send(*most)
    # All are taken in when the lead, whose stage comes seconds after each, has heard of each: only then is it the executive's turn.
    wait_until(lambda: len(inboxes.to("lead")) == 999)
    alertmanager.send(after_hours(last))
    wait_until(lambda: inboxes.to("executive") and len(inboxes.to("lead")) == 1000)
    (mail,) = inboxes.to("executive")
    assert mail.subject.endswith("(1000 alerts)")
    assert mail.part("plain").count("FIRING: ") == 50
    assert f"These are 50 of 1000 alerts. All of them: {mail_address(mail)}/#/alerts\n" in mail.part("plain")
    assert mail.part("html").count("<h3 ") == 50


def mail_address(mail):
    """The address of Alertmanager, as it stands in a mail."""
    return mail.part("plain").partition("Acknowledge (silence): ")[2].partition("/#/")[0]


def test_the_price_of_one_message_is_that_a_later_alert_of_the_group_comes_before_its_time(
    inboxes, start_alertmanager, values, subjects, wait_until
):
    alertmanager = start_alertmanager(values(lead={"after": "1h"}, executive=KINDS | {"after": "2h"}))
    early, late = about("AIBudgetExceeded", "early", "late")
    alertmanager.send(early, late)
    wait_until(lambda: len(subjects("oncall")) == 2)
    alertmanager.send(after_hours(early))
    wait_until(lambda: subjects("lead") and subjects("executive"))
    # The lead, told of each alert at its own time, does not know of the second yet, which has just begun.
    assert subjects("lead") == ["[FIRING critical, lead after 1h] AIBudgetExceeded of early"]
    assert subjects("executive")[0].endswith("(2 alerts)")


def test_the_executive_hears_of_nothing_where_the_group_is_silenced(inboxes, start_alertmanager, values, subjects, wait_until):
    alertmanager = start_alertmanager(values(executive=KINDS))
    alertmanager.silence(alertname="AIBudgetExceeded", budget="acme")
    alertmanager.send(*about("AIBudgetExceeded", "acme", "globex"))
    wait_until(lambda: subjects("lead") and subjects("executive"))
    assert [subjects(name) for name in ("lead", "executive")] == [
        ["[FIRING critical, lead after 2s] AIBudgetExceeded of globex"],
        ["[FIRING critical, executive after 4s] AIBudgetExceeded of globex"],
    ]


# --- the times that ship -----------------------------------------------------------------------------------------------------------


def test_after_half_an_hour_it_is_the_lead_and_after_an_hour_the_executive(inboxes, start_alertmanager, wait_until):
    people = {
        "finops-pager": "pager",
        "finops-lead": "lead",
        "finops-executive": "executive",
        "finops-email": "email",
        "finops-info": "info",
    }
    alertmanager = start_alertmanager(
        {
            "smtp": {"smarthost": inboxes.smarthost, "require_tls": False},
            "receivers": {name: inboxes.email(mailbox) for name, mailbox in people.items()},
        }
    )
    # Alertmanager goes by the time at which an alert began: these are 29, 31 and 61 minutes old.
    for minutes in (29, 31, 61):
        alertmanager.send(
            an_alert("AIBudgetExceeded" if minutes < 60 else "LedgerDown", budget=f"m{minutes}", age=timedelta(minutes=minutes))
        )
    wait_until(lambda: len(inboxes.to("pager")) == 3 and len(inboxes.to("lead")) == 2 and inboxes.to("executive"))
    assert sorted(mail.subject for mail in inboxes.to("lead")) == [
        "[FIRING critical, lead after 30m] AIBudgetExceeded of m31",
        "[FIRING critical, lead after 30m] LedgerDown of m61",
    ]
    assert [mail.subject for mail in inboxes.to("executive")] == ["[FIRING critical, executive after 1h] LedgerDown of m61"]
