"""Each kind of service, told by the real Apprise over a real socket, its host put on loopback."""

import email
import logging
import ssl
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from urllib.parse import parse_qs

import apprise
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from inboxes import SmtpServer
from stand_in import Answer, StandIn

from costwarden.notifier.channels import ChannelError, open_channel
from costwarden.notifier.text import Member, Text

NOTES = {
    "summary": "The aws budget is at 104 % <!here> & <b>",
    "description": "$10,400 of $10,000 are spent.",
    "runbook_url": "https://wiki.example.com/runbook#budget",
}
LABELS = {"alertname": "BudgetExceededCritical", "severity": "critical", "team": "finops"}
TEXT = Text(1, 0, (Member("firing", LABELS, NOTES, "2026-03-02T11:59:00.000000Z", ""),))

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#finops"
TWILIO = f"twilio://AC{'a' * 32}:{'b' * 32}@+15551234567/+15557654321"
SENDGRID = "sendgrid://abcdefghijklmnop:costwarden@example.com/lead@example.com"


@pytest.fixture
def plugins(monkeypatch):
    """`plugins("slack", webhook_url=…)`: has the service of a scheme at another address, for this test."""

    def point(scheme, **attributes):
        for name, value in attributes.items():
            monkeypatch.setattr(apprise.NotificationManager()[scheme], name, value)

    return point


def test_slack_gets_its_own_markup_with_nothing_of_it_from_labels(plugins, service):
    plugins("slack", webhook_url=f"{service.url}/services")
    channel = open_channel(SLACK)
    assert (channel.service, channel.takes.markup) == ("Slack", "markdown")
    assert channel.send(TEXT, seconds=60) == ""
    (request,) = service.requests
    assert request.path == "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    body = request.json()
    assert (body["channel"], body["mrkdwn"]) == ("#finops", True)
    summary = "The aws budget is at 104 % &lt;!here&gt; &amp; &lt;b&gt;"
    assert body["attachments"][0]["text"].split("\n\n") == [
        f"*[FIRING] BudgetExceededCritical (critical): {summary}*",
        "*Firing: 1*",
        f"*CRITICAL BudgetExceededCritical*: {summary}",
        "$10,400 of $10,000 are spent.",
        "Since 2026-03-02 11:59 UTC",
        "<https://wiki.example.com/runbook#budget|Runbook>",
        "team=finops",
    ]


def test_twilio_gets_one_segment(plugins, service):
    plugins("twilio", notify_sms_url=f"{service.url}/2010-04-01/Accounts/{{sid}}/Messages.json")
    channel = open_channel(TWILIO)
    assert (channel.service, channel.takes.body_limit) == ("Twilio", 160)
    assert channel.send(TEXT, seconds=60) == ""
    (request,) = service.requests
    assert request.path == f"/2010-04-01/Accounts/AC{'a' * 32}/Messages.json"
    assert parse_qs(request.body.decode()) == {
        "Body": ["CRITICAL: The aws budget is at 104 % <!here> & <b>"],
        "From": ["+15551234567"],
        "To": ["+15557654321"],
    }


def test_sendgrid_gets_html(plugins, service):
    plugins("sendgrid", notify_url=f"{service.url}/v3/mail/send")
    assert open_channel(SENDGRID).send(TEXT, seconds=60) == ""
    (request,) = service.requests
    assert (request.path, request.headers["authorization"]) == ("/v3/mail/send", "Bearer abcdefghijklmnop")
    body = request.json()
    assert body["personalizations"] == [{"to": [{"email": "lead@example.com"}]}]
    assert body["subject"] == "[FIRING] BudgetExceededCritical (critical): The aws budget is at 104 % <!here> & <b>"
    (content,) = body["content"]
    assert content["type"] == "text/html"
    assert "The aws budget is at 104 % &lt;!here&gt; &amp; &lt;b&gt;" in content["value"]
    assert '<a href="https://wiki.example.com/runbook#budget">Runbook</a>' in content["value"]


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that signs itself, and its key: (certificate, key)."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "workflows")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), today - timedelta(days=1), today + timedelta(days=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@pytest.fixture
def secure_service(certificate):
    """As `service`, over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = StandIn(lambda _: Answer(b"", status=202))
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    with server:
        yield server


def test_teams_gets_an_adaptive_card_through_its_workflow(secure_service, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    address = secure_service.url.removeprefix("http://")
    channel = open_channel(f"workflows://{address}/{'a' * 32}/{'b' * 43}")
    assert channel.takes.body_limit == 1000
    assert channel.send(TEXT, seconds=60) == ""
    (request,) = secure_service.requests
    assert request.path == f"/workflows/{'a' * 32}/triggers/manual/paths/invoke"
    card = request.json()["attachments"][0]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    texts = [block["text"] for block in card["content"]["body"] if block["type"] == "TextBlock"]
    assert r"**CRITICAL BudgetExceededCritical**: The aws budget is at 104 % \<\!here\> & \<b\>" in "\n".join(texts)
    assert "[Runbook](<https://wiki.example.com/runbook#budget>)" in "\n".join(texts)


def test_a_certificate_that_nobody_vouches_for_is_refused(secure_service):
    address = secure_service.url.removeprefix("http://")
    why = open_channel(f"workflows://{address}/{'a' * 32}/{'b' * 43}").send(TEXT, seconds=60)
    assert why == "A Connection error occurred sending Workflows notification. certificate verify failed"
    assert secure_service.requests == []


class Mailbox:
    """Keeps what it is sent."""

    def __init__(self):
        self.mails: list[EmailMessage] = []
        self.refusal = ""

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 (aiosmtpd's name)
        if self.refusal:
            return self.refusal
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@pytest.fixture
def mailbox(free_port):
    kept = Mailbox()
    server = SmtpServer(kept, free_port())
    server.start()
    kept.url = f"mailto://127.0.0.1:{server.port}?to=lead@example.com&from=costwarden@example.com"
    yield kept
    server.stop()


def test_a_mail_is_html_with_a_plain_subject(mailbox):
    assert open_channel(mailbox.url).send(TEXT, seconds=60) == ""
    (mail,) = mailbox.mails
    assert mail["Subject"] == "[FIRING] BudgetExceededCritical (critical): The aws budget is at 104 % <!here> & <b>"
    assert mail["To"] == "lead@example.com"
    body = mail.get_body(("html",)).get_content()
    assert "<b>CRITICAL BudgetExceededCritical</b>: The aws budget is at 104 % &lt;!here&gt; &amp; &lt;b&gt;" in body


def test_a_subject_adds_no_header_to_a_mail(mailbox):
    notes = {"summary": "all is well\r\nBcc: everybody@example.com\r\n\r\nBody"}
    hostile = Text(1, 0, (Member("firing", {"alertname": "A\nB"}, notes, "2026-03-02T11:59:00Z", ""),))
    assert open_channel(mailbox.url).send(hostile, seconds=60) == ""
    (mail,) = mailbox.mails
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[FIRING] A B: all is well Bcc: everybody@example.com Body"


def test_a_mail_that_is_refused_is_not_delivered(mailbox):
    mailbox.refusal = "550 no such mailbox"
    assert open_channel(mailbox.url).send(TEXT, seconds=60) == 'Sending email to "***" failed.'


def test_a_webhook_gets_json_in_the_format_that_its_url_asks_for(service, json_to):
    for format_ in ("text", "html", "markdown"):
        assert open_channel(f"{json_to(service)}?format={format_}").send(TEXT, seconds=60) == ""
    bodies = [request.json()["message"] for request in service.requests]
    assert "- CRITICAL BudgetExceededCritical: The aws budget is at 104 % <!here> & <b>" in bodies[0]
    assert "<b>CRITICAL BudgetExceededCritical</b>: The aws budget" in bodies[1]
    assert r"**CRITICAL BudgetExceededCritical**: The aws budget is at 104 % \<\!here\> & \<b\>" in bodies[2]
    assert [request.json()["type"] for request in service.requests] == ["failure"] * 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
def test_every_refusal_is_one_and_is_told_with_its_status(service, json_to, status):
    service.fail(status)
    why = open_channel(json_to(service)).send(TEXT, seconds=60)
    assert why.startswith("Failed to send JSON POST notification: ")
    assert why.endswith(f"error={status}.")


def test_a_connection_that_breaks_or_is_refused_or_hangs_is_told(service, json_to):
    service.cut()
    # Cut off in the answer's body after its head has said 200: it was taken.
    assert open_channel(json_to(service)).send(TEXT, seconds=60) in ("", "A Connection error occurred sending JSON notification to ***.")
    refused = open_channel("json://127.0.0.1:1/").send(TEXT, seconds=60)
    assert refused == "A Connection error occurred sending JSON notification to ***. [Errno 111] Connection refused"
    service.hang()
    hung = open_channel(json_to(service)).send(TEXT, seconds=0.3)
    assert hung == "A Connection error occurred sending JSON notification to ***. Read timed out"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "hunter2://hunter2",
        "slack://hunter2",
        "mailto://",
        "https://hunter2.example.com/",
        "json://a json://b",
        "json://[::1",
    ],
)
def test_what_apprise_does_not_understand_is_told_without_it(url, caplog, capfd):
    caplog.set_level("DEBUG")
    with pytest.raises(ChannelError) as refusal:
        open_channel(url)
    assert "hunter2" not in str(refusal.value) + caplog.text + "".join(capfd.readouterr())


def test_a_plugin_that_raises_is_a_failure_without_any_secret(monkeypatch):
    channel = open_channel("json://hunter2@127.0.0.1:1/t0ken")

    def stumble(**_):
        raise RuntimeError("no route to hunter2 at http://127.0.0.1/t0ken")

    monkeypatch.setattr(channel._plugin, "notify", stumble)
    assert channel.send(TEXT, seconds=1) == "RuntimeError: no route to *** at http://***/***"


@pytest.mark.parametrize("name", ["urllib3.connectionpool", "oauthlib.oauth1.rfc5849", "requests_oauthlib.oauth1_auth"])
def test_what_a_library_says_of_an_address_or_a_signature_while_we_send_is_in_no_log(name, monkeypatch, caplog):
    caplog.set_level("DEBUG", name)
    channel = open_channel("json://hunter2@127.0.0.1:1/t0ken")
    monkeypatch.setattr(channel._plugin, "notify", lambda **_: logging.getLogger(name).debug("signing with hunter2") or True)
    assert channel.send(TEXT, seconds=1) == ""
    assert caplog.text == ""
