"""What a notification says: each way to write it shows labels and annotations, and obeys none; what is too long is counted, not lost."""

import html
import re

import pytest

from costwarden.notifier.markup import MARKUPS, cut, one_line, segment
from costwarden.notifier.text import Alarm, Format, Member, Text

TEXT = Format("text", 32_768, 250)
HTML = Format("html", 32_768, 250)
MARKDOWN = Format("markdown", 35_000, 250)
SMS = Format("text", 160, 0)


def member(status="firing", severity="critical", name="BudgetExceededCritical", ends_at="", labels=None, **annotations):
    notes = {"summary": "The aws budget is at 104 %", **annotations}
    more = {"alertname": name, "category": "finops", **({"severity": severity} if severity else {}), **(labels or {})}
    return Member(status, more, notes, "2026-03-02T11:59:00.000000Z", ends_at)


def text_of(*members, firing=None, resolved=None, **more):
    fires = sum(one.status == "firing" for one in members)
    return Text(fires if firing is None else firing, len(members) - fires if resolved is None else resolved, members, **more)


FULL = member(
    description="$10,400 of $10,000 are spent.",
    escalation="on-call, then the lead after 30 minutes",
    runbook_url="alerts/README.md#budgetexceededcritical",
    dashboard_url="/d/finops-cloud-cost",
    labels={"team": "finops", "budget": "aws"},
)
OVER = member(
    "resolved",
    "warning",
    "CloudCostSpike",
    "2026-03-02T12:30:00.000000Z",
    summary="aws costs what it did",
    description="It was $100 and is $200.",
    escalation="the team, within a day",
)
LINKS = {"grafana_url": "https://grafana.example.com", "runbook_url": "https://wiki.example.com/finops"}


def test_text_has_firing_and_resolved_apart_with_all_that_is_annotated():
    written = text_of(FULL, OVER, external_url="http://alertmanager:9093").linked(**LINKS).written(TEXT)
    assert written.title == "[FIRING:1, 1 RESOLVED] BudgetExceededCritical (critical): The aws budget is at 104 %"
    assert written.body.splitlines() == [
        "Firing: 1",
        "- CRITICAL BudgetExceededCritical: The aws budget is at 104 %",
        "  $10,400 of $10,000 are spent.",
        "  Since 2026-03-02 11:59 UTC",
        "  Escalation: on-call, then the lead after 30 minutes",
        "  Runbook: https://wiki.example.com/finops/alerts/README.md#budgetexceededcritical",
        "  Dashboard: https://grafana.example.com/d/finops-cloud-cost",
        "  team=finops, budget=aws",
        "Resolved: 1",
        "- WARNING CloudCostSpike: aws costs what it did",
        "  When it fired last: It was $100 and is $200.",
        "  Since 2026-03-02 11:59 UTC, until 2026-03-02 12:30 UTC",
        "  Alertmanager: http://alertmanager:9093",
    ]
    assert (written.markup, written.alarm) == ("text", Alarm.CRITICAL)


@pytest.mark.parametrize(
    ("members", "counts", "alarm", "head"),
    [
        ([member()], {}, Alarm.CRITICAL, "[FIRING] "),
        ([member(severity="warning")], {}, Alarm.FIRING, "[FIRING] "),
        ([member(), member()], {}, Alarm.CRITICAL, "[FIRING:2] "),
        ([OVER], {}, Alarm.RESOLVED, "[RESOLVED] "),
        ([member("resolved")], {}, Alarm.RESOLVED, "[RESOLVED] "),
        ([OVER, OVER], {"resolved": 60}, Alarm.RESOLVED, "[RESOLVED:60] "),
        ([member(severity="warning"), member("resolved")], {}, Alarm.FIRING, "[FIRING:1, 1 RESOLVED] "),
    ],
)
def test_a_group_fires_while_any_of_it_fires_and_is_as_loud_as_its_loudest(members, counts, alarm, head):
    made = text_of(*members, **counts)
    assert made.alarm is alarm
    assert made.subject.startswith(head)


# --- limits --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("markup", ["text", "html", "markdown"])
@pytest.mark.parametrize("limit", [400, 1000, 1024, 4000, 32_768])
def test_no_body_is_longer_than_its_service_takes_and_what_is_left_out_is_counted(markup, limit):
    members = [member(name=f"Alert{number}", description="d" * 700, labels={"team": "t" * 90}) for number in range(50)]
    written = text_of(*members, firing=500).written(Format(markup, limit, 0))
    assert len(written.body) <= limit
    shown = len(set(re.findall(r"CRITICAL Alert\d+", written.body)))
    assert 1 <= shown <= 50
    assert f"… and {500 - shown} more alerts" in written.body


def test_a_single_alert_that_is_too_long_is_shown_in_brief():
    written = text_of(member(description="d" * 2000, runbook_url="https://example.com/" + "r" * 900)).written(Format("text", 400, 250))
    assert written.body == "Firing: 1\n- CRITICAL BudgetExceededCritical: The aws budget is at 104 %"


def test_one_alert_that_does_not_fit_is_one_more():
    assert "… and 1 more alert" in text_of(FULL, firing=2).written(TEXT).body.splitlines()[-1]


def test_a_title_is_cut_where_the_service_takes_a_short_one():
    written = text_of(member(summary="s" * 400)).written(Format("text", 7800, 60))
    assert len(written.title) == 60
    assert written.title.endswith("s…")


# --- SMS -----------------------------------------------------------------------------------------------------------------------------


def test_an_sms_is_severity_and_summary_and_the_count_of_the_others():
    assert text_of(FULL).written(SMS).body == "CRITICAL: The aws budget is at 104 %"
    assert text_of(FULL, OVER, firing=3).written(SMS).body == "CRITICAL: The aws budget is at 104 % (+3 more)"
    assert text_of(OVER).written(SMS).body == "RESOLVED: aws costs what it did"
    assert text_of(member(severity="", summary="")).written(SMS).body == "FIRING: BudgetExceededCritical"


def units(text):
    """Characters of a GSM 03.38 message, or UTF-16 units of one that has others."""
    try:
        text.encode("ascii")
    except UnicodeEncodeError:
        return len(text.encode("utf-16-le")) // 2, 70
    return len(text) + sum(char in "^{}\\[~]|" for char in text), 160


@pytest.mark.parametrize("summary", ["a" * 500, "[" * 500, "budget ✓ " * 50, "預算" * 100, "😀" * 200, ""])
@pytest.mark.parametrize("limit", [160, 140, 70])
def test_an_sms_is_one_segment_whatever_its_summary(summary, limit):
    body = text_of(member(summary=summary, name="N"), firing=12).written(Format("text", limit, 0)).body
    taken, most = units(body)
    assert taken <= min(most, limit)
    assert body.startswith("CRITICAL: ")
    assert body.endswith(" (+11 more)")
    body.encode("utf-16-le").decode("utf-16-le")


def test_a_segment_is_filled():
    # 160 = 10 of "CRITICAL: " + 147 + 3 dots; with an extension character, which counts twice, one less.
    assert text_of(member(summary="a" * 500)).written(SMS).body == "CRITICAL: " + "a" * 147 + "..."
    assert len(segment("", "[" + "a" * 500, "", 160)) == 159
    # Letters with accents that the alphabet has cost nothing more.
    assert segment("", "é" * 500, "", 160) == "é" * 157 + "..."
    # 70 UTF-16 units, an emoji takes two.
    assert segment("", "😀" * 60, "", 160) == "😀" * 33 + "..."
    assert segment("", "quote “it” – and … so", "", 160) == 'quote "it" - and ... so'


# --- other people's text -------------------------------------------------------------------------------------------------------------

HOSTILE = (
    "</b><script>alert(1)</script> <!here> <!channel> <@U123> @everyone @here [safe](http://evil.example) <http://evil.example|safe> "
    "`code` **bold** _it_ ~no~ # head > quote | cell {{ .Labels }} ${jndi:ldap://x} %0a \\n &lt; 'q' \"q\""
)
LINES = "first\r\nResolved: 99\n- CRITICAL Fake: all is well\x1b[2J\u202ebackwards\u2028next\x00end"


def hostile(value):
    return member(name=value, severity=value, summary=value, description=value, escalation=value, runbook_url=value, labels={"team": value})


def test_html_shows_markup_and_has_none_of_it():
    body = text_of(hostile(HOSTILE), external_url=HOSTILE).written(HTML).body
    tags = set(re.findall(r"<[^>]*>", body))
    assert tags == {"<p>", "</p>", "<b>", "</b>", "<div>", "</div>"}
    assert "<script>" in html.unescape(body)


def test_markdown_escapes_all_that_has_a_meaning():
    body = text_of(hostile(HOSTILE), external_url=HOSTILE).written(MARKDOWN).body
    ours = body.replace("**", "")
    assert re.findall(r"(?<!\\)[`*_\[\]<>#~|!{}]", ours.replace("\\\\", "")) == []
    assert "@everyone" not in body
    assert "@here" not in body


def test_text_mentions_nobody_and_hides_no_link():
    written = text_of(hostile(HOSTILE), external_url=HOSTILE).written(TEXT)
    for part in (written.title, written.body):
        assert re.search(r"@\w", part) is None
        assert "](" not in part


@pytest.mark.parametrize("takes", [TEXT, HTML, MARKDOWN, SMS], ids=["text", "html", "markdown", "sms"])
def test_no_value_makes_a_line_of_its_own_or_moves_a_terminal(takes):
    written = text_of(hostile(LINES)).written(takes)
    plain = html.unescape(re.sub(r"<[^>]*>", "", written.body)).replace("\\", "")
    assert [line for line in plain.splitlines() if line.lstrip("- ").startswith(("Resolved: 99", "CRITICAL Fake"))] == []
    assert re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\u2028]", written.title + written.body) is None
    assert "\n" not in written.title


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "data:text/html,x", "//evil.example", 'https://x/"onclick="', "https://x y", "/d/u"]
)
def test_what_is_no_web_address_is_no_link(address):
    made = text_of(member(runbook_url=address), external_url=address)
    assert "<a " not in made.written(HTML).body
    assert "](" not in made.written(MARKDOWN).body
    assert "Runbook" in made.written(TEXT).body


@pytest.mark.parametrize("takes", [TEXT, HTML, MARKDOWN], ids=["text", "html", "markdown"])
def test_a_path_with_nothing_to_put_before_it_is_no_line(takes):
    made = text_of(FULL)
    for linked in (made.linked(grafana_url=None, runbook_url=None), made.linked(grafana_url=LINKS["grafana_url"], runbook_url=None)):
        assert "Runbook" not in linked.written(takes).body
        assert "README" not in linked.written(takes).body
    assert "Dashboard" not in made.linked(grafana_url=None, runbook_url=LINKS["runbook_url"]).written(takes).body


@pytest.mark.parametrize(
    ("given", "link"),
    [
        ("/d/x", "https://grafana.example.com/d/x"),
        ("d/x?var-tenant_id=a%26b", "https://grafana.example.com/d/x?var-tenant_id=a%26b"),
        # A whole address is led to as it is.
        ("https://charts.example.org/d/x", "https://charts.example.org/d/x"),
        ("http://charts.example.org/d/x", "http://charts.example.org/d/x"),
        # Neither a user's name nor a part of the host, nor another host.
        ("@evil.example", "https://grafana.example.com/%40evil.example"),
        (".evil.example/", "https://grafana.example.com/.evil.example/"),
        ("//evil.example", "https://grafana.example.com/evil.example"),
        ("javascript:alert", "https://grafana.example.com/javascript:alert"),
    ],
)
def test_a_path_leads_to_no_other_host(given, link):
    body = text_of(member(dashboard_url=given)).linked(**LINKS).written(MARKDOWN).body
    assert re.findall(r"\[Dashboard\]\(<(.*)>\)", body) == [link]


def test_a_time_is_told_in_minutes_of_utc():
    made = text_of(Member("resolved", {"alertname": "A"}, {}, "2026-11-21T20:27:59.999999Z", "2026-11-21T22:00:00+01:00"))
    assert "  Since 2026-11-21 20:27 UTC, until 2026-11-21 21:00 UTC" in made.written(TEXT).body.splitlines()


def test_what_is_over_asks_nobody_to_answer():
    assert "Escalation: the team" not in text_of(OVER).written(TEXT).body
    assert "Escalation: on-call" in text_of(FULL).written(TEXT).body


def test_an_address_cannot_end_its_link():
    address = "https://example.com/a(b)c?d=e&f=*g*#h_i@here"
    made = text_of(member(runbook_url=address))
    assert "[Runbook](<https://example.com/a%28b%29c?d=e&f=*g*#h_i%40here>)" in made.written(MARKDOWN).body
    assert '<a href="https://example.com/a(b)c?d=e&amp;f=*g*#h_i@here">Runbook</a>' in made.written(HTML).body


def test_lines_and_cuts():
    assert one_line(" a\t\n b\u200b\x00c ") == "a b c"
    assert (cut("abc", 3), cut("abcd", 3), cut("abcd", 1), cut("abcd", 0)) == ("abc", "ab…", "…", "")
    assert MARKUPS.keys() == {"text", "html", "markdown"}
