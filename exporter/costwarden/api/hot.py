"""The requests that must be fast: answered straight from ASGI, before any framework, with msgspec."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from costwarden.api.problems import CONTENT_TYPE, Problem, encode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
Answer = tuple[int, bytes, Headers]
"""Status, body and all headers."""
Handler = Callable[[Scope, Receive], Awaitable[Answer]]


TENANT = "costwarden.tenant_id"
"""Key of a scope: whom a request is for, once that is known to be the caller's right."""


class Disconnected(Exception):
    """The client left before its request was complete."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises `Problem` 413 past `limit` bytes, without reading the rest."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    length = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return b"".join(parts)


def _too_large(limit: int) -> Problem:
    # The connection stays open, and uvicorn drops the rest of the body as it comes: closed at once, most clients would hear of a
    # broken pipe and not of the limit.
    return Problem(413, "body_too_large", f"the body is larger than {limit} bytes")


def json_answer(content: Any, headers: Headers = (), status: int = 200, content_type: bytes = b"application/json") -> Answer:
    """`content` as JSON."""
    body = encode(content) + b"\n"
    return status, body, ((b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers)


def problem_answer(problem: Problem) -> Answer:
    """An error as problem details."""
    return json_answer(problem.content, problem.headers, problem.status, CONTENT_TYPE)


async def send_answer(send: Send, answer: Answer, *more: tuple[bytes, bytes]) -> None:
    """One complete response, with `more` headers."""
    status, body, headers = answer
    await send({"type": "http.response.start", "status": status, "headers": (*headers, *more)})
    await send({"type": "http.response.body", "body": body})
