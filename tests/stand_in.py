"""A provider on loopback: a small HTTP server that answers from the request, and that can be told to throttle, fail, hang or break off."""

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

# Each of two connections has its own.
_OWN_HEADERS = {"accept-encoding", "connection", "content-length", "date", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"null")

    def first(self, name: str, default: str = "") -> str:
        """The first value of a parameter of the query."""
        return self.query.get(name, [default])[0]


@dataclass(frozen=True)
class Answer:
    body: Any = None
    """Bytes as they are; everything else as JSON."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def pass_on(request: Request, url: str) -> Answer:
    """What the server at `url` answers to the request: a stand-in before it fails as it is told, and it needs no faults of its own."""
    headers = {name: value for name, value in request.headers.items() if name not in _OWN_HEADERS}
    query = f"?{urlencode(request.query, doseq=True)}" if request.query else ""
    passed = urllib.request.Request(url + request.path + query, data=request.body or None, headers=headers, method=request.method)
    try:
        answer = urllib.request.urlopen(passed, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN_HEADERS}
        return Answer(answer.read(), answer.status, kept)


class LoopbackServer(ThreadingHTTPServer):
    """On a port of its own choice. It says nothing of a client that goes away in the middle: that would stand in what a command writes."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class StandIn:
    """`with StandIn(answer) as server: …`: `answer(request)` gives what the provider would; `server.url` is where it listens.

    Faults come before the answers of `answer`, in the order in which they were asked for: `throttle`, `fail`, `cut`, `hang`.
    """

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        """All requests, those that met a fault included."""
        self._faults: deque[Callable[[BaseHTTPRequestHandler, Request], bool]] = deque()
        self._ended = threading.Event()
        self._server = LoopbackServer(self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(60)

    def fail(self, status: int, body: Any = None, *, times: int = 1, **headers: str) -> None:
        """Answer the next requests with this status; header names with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.extend([lambda handler, _: _send(handler, Answer(body or {}, status, named))] * times)

    def cut(self, *, after: int = 20, times: int = 1) -> None:
        """Send the first bytes of the right answer, then drop the connection."""
        self._faults.extend([lambda handler, request: _cut(handler, self.answer(request), after)] * times)

    def hang(self) -> None:
        """Never answer the next request, until the server ends."""

        def wait(handler: BaseHTTPRequestHandler, _: Request) -> bool:
            self._ended.wait()
            # Else this end would wait for another request, and the other one for its answer.
            handler.close_connection = True
            return True

        self._faults.append(wait)

    def delay(self, seconds: float) -> None:
        """Answer the next request late."""
        self._faults.append(lambda *_: bool(time.sleep(seconds)))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Headers and body leave together: apart, the second waits 40 ms for the client's word that it has the first.
            wbufsize = -1

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def _serve(self) -> None:
                split = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = parse_qs(split.query, keep_blank_values=True)
                request = Request(self.command, split.path, query, headers, body)
                outer.requests.append(request)
                fault = outer._faults.popleft() if outer._faults else None
                if fault is None or not fault(self, request):
                    _send(self, outer.answer(request))

        for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"):
            setattr(Handler, f"do_{method}", Handler._serve)
        return Handler


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> bool:
    content = answer.content
    try:
        handler.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)
    except OSError:
        handler.close_connection = True
    return True


def _cut(handler: BaseHTTPRequestHandler, answer: Answer, after: int) -> bool:
    content = answer.content
    handler.send_response(answer.status)
    for name, value in {"Content-Type": "application/json", **answer.headers, "Content-Length": str(len(content))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content[:after])
    handler.wfile.flush()
    handler.close_connection = True
    return True
