"""How costwarden listens."""

import socket
from typing import Any

import uvicorn


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


def uvicorn_config(app: Any) -> uvicorn.Config:
    """How costwarden runs under uvicorn: uvloop, httptools, no access log, no headers beyond its own."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        proxy_headers=False,
        server_header=False,
        date_header=False,
        log_config=None,
        log_level="warning",
        access_log=False,
    )
