"""How costwarden listens."""

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

KEEP_ALIVE_SECONDS = 620
"""An idle connection is kept for longer than clients (httpx: 5 s) and load balancers (AWS: 60 s, Google: 600 s) keep it. Closed first by
the server, it would take a request with it that is on its way, and all that came while the server stood still: uvloop looks at its timers
before it reads."""


class CannotListen(Exception):
    """The address is taken or not this machine's; the message says what to set."""


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address, before anything else is started. Raises `CannotListen`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            # Bound alone, the port would still be free for another to take.
            listening.listen(2048)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise CannotListen(f"{host}:{port}: {error.strerror}; set `server.host` and `server.port`") from None
    return listening


class WholeAnswers(HttpToolsProtocol):
    """HTTP of which each answer leaves in one piece.

    uvicorn writes headers and body apart: two system calls for an answer of 300 bytes, and a client that wakes up twice for it.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Of a client."""
        super().connection_made(JoinedWrites(transport, self.loop))


class JoinedWrites(asyncio.Transport):
    """A transport that sends two writes of one turn of the loop together, without copying them; the methods that uvicorn calls."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: Any = b""

    def write(self, data: Any) -> None:
        """Send it with what comes next, or with nothing when this turn of the loop is over."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        else:
            self._held = data
            self._loop.call_soon(self._send)

    def close(self) -> None:
        """After what is held."""
        self._send()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def _send(self) -> None:
        held, self._held = self._held, b""
        # Of a client that has gone meanwhile the transport may be closed for good, and uvloop raises where asyncio is silent.
        if held and not self._transport.is_closing():
            self._transport.write(held)


def uvicorn_config(app: Any) -> uvicorn.Config:
    """How costwarden runs under uvicorn: uvloop, httptools, no access log, no headers beyond its own."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=WholeAnswers,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws="none",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        log_config=None,
        log_level="warning",
        access_log=False,
    )
