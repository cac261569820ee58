"""Those who are told: a mail server, and an HTTP server that plays Slack, PagerDuty and whoever takes a webhook, on loopback."""

import json
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP


@dataclass(frozen=True)
class Message:
    """What somebody was told: mail has `mail`, everything else `body`."""

    to: str
    """The mailbox, or the path of the request."""
    at: float
    """When it came, in seconds since 1970."""
    body: Any = None
    headers: Any = None
    mail: EmailMessage | None = None

    @property
    def subject(self) -> str:
        return str(self.mail["Subject"]) if self.mail else ""

    def part(self, kind: str) -> str:
        """The `plain` or the `html` part of a mail."""
        assert self.mail is not None
        part = self.mail.get_body((kind,))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")


class WebServer(ThreadingHTTPServer):
    """Takes a storm of connections: beyond the five that usually wait in line, the others would try again a second later."""

    request_queue_size = 1024


class SmtpServer(Controller):
    """Hangs up on whoever is still connected when it ends: a connection that is left to the collector fails a test that comes later."""

    def __init__(self, handler: object, port: int) -> None:
        super().__init__(handler, hostname="127.0.0.1", port=port, ready_timeout=60)
        self._sessions: list[SMTP] = []

    def factory(self) -> SMTP:
        self._sessions.append(super().factory())
        return self._sessions[-1]

    def stop(self, no_assert: bool = False) -> None:
        self.loop.call_soon_threadsafe(self._hang_up)
        super().stop(no_assert)

    def _hang_up(self) -> None:
        for session in self._sessions:
            if session.transport is not None:
                session.transport.abort()


class Inboxes:
    """Both servers, between `with` and its end, and all that came in."""

    def __init__(self, folder: Path, smtp_port: int, http_port: int) -> None:
        self.smarthost = f"127.0.0.1:{smtp_port}"
        self.url = f"http://127.0.0.1:{http_port}"
        self.messages: list[Message] = []
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ports = smtp_port, http_port
        self._ends = ExitStack()

    def to(self, name: str) -> list[Message]:
        """What came for the mailbox `name@example.com`, or for the path `/name`, oldest first."""
        return [message for message in self.messages if message.to in {f"{name}@example.com", f"/{name}"}]

    def told(self) -> set[str]:
        """Who was told anything."""
        return {message.to.removesuffix("@example.com").removeprefix("/") for message in self.messages}

    def secret(self, name: str, text: str) -> str:
        """The absolute path of a file that holds `text`."""
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    # --- receivers of values.yaml -----------------------------------------------------------------------------------------------

    def email(self, name: str) -> dict[str, Any]:
        return {"email": [{"to": [f"{name}@example.com"]}]}

    def slack(self, name: str) -> dict[str, Any]:
        return {"slack": [{"api_url_file": self.secret(name, f"{self.url}/{name}"), "channel": "#finops"}]}

    def pagerduty(self, name: str) -> dict[str, Any]:
        return {"pagerduty": [{"routing_key_file": self.secret(name, "key-of-the-pager"), "url": f"{self.url}/{name}"}]}

    def webhook(self, name: str) -> dict[str, Any]:
        return {"webhook": [{"url": f"{self.url}/{name}", "token_file": self.secret(name, "token-of-the-hook")}]}

    # --- servers ----------------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        smtp_port, http_port = self._ports
        with ExitStack() as ends:
            http = ends.enter_context(WebServer(("127.0.0.1", http_port), self._handler()))
            # It makes its event loop at once, and only what has started can be stopped.
            smtp = SmtpServer(self, smtp_port)
            smtp.start()
            ends.callback(smtp.stop)
            thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            ends.callback(thread.join)
            ends.callback(http.shutdown)
            # Where one of them cannot begin, the other one ends.
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        for recipient in envelope.rcpt_tos:
            self.messages.append(Message(recipient, time.time(), mail=mail))  # type: ignore[arg-type]
        return "250 OK"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                messages.append(Message(self.path, time.time(), body, dict(self.headers)))
                # As PagerDuty answers, and as Slack does; a webhook's answer is not read.
                answer = b'{"status": "success"}' if "routing_key" in body else b"ok"
                self.send_response(202 if "routing_key" in body else 200)
                self.send_header("Content-Type", "application/json" if "routing_key" in body else "text/plain")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
