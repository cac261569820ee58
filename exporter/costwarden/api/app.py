"""The ASGI application: hot requests first, everything else through FastAPI, one shape for every error."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from costwarden import __version__
from costwarden.api.hot import Disconnected, Handler, Receive, Scope, Send, problem_answer, send_answer
from costwarden.api.problems import CONTENT_TYPE, TITLES, Problem, encode
from costwarden.ledger import LedgerUnavailable
from costwarden.metrics.counts import Counts

log = structlog.get_logger(__name__)

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

# Refusals that are the budget's work, not a mistake of the caller.
_EXPECTED = (429,)


def create_app(counts: Counts, hot: Mapping[tuple[str, str], Handler], lifespan: Lifespan) -> tuple[FastAPI, Asgi]:
    """The FastAPI application, for routes to be added, and the ASGI application that serves both it and `hot` (method, path)."""
    api = FastAPI(title="costwarden", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)

    def refused(problem: Problem) -> None:
        if problem.status not in _EXPECTED:
            counts.add("costwarden_http_rejected_requests_total", problem.kind)

    def respond(problem: Problem) -> Response:
        refused(problem)
        headers = {name.decode(): value.decode() for name, value in problem.headers}
        return Response(encode(problem.content) + b"\n", problem.status, headers, CONTENT_TYPE.decode())

    @api.exception_handler(Problem)
    async def on_problem(_: Request, problem: Problem) -> Response:
        return respond(problem)

    @api.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return respond(Problem(422, "invalid_request", f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"))

    @api.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        kind = TITLES.get(error.status_code, "error").lower().replace(" ", "_")
        title = TITLES.get(error.status_code, "Error")
        headers = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
        detail = f"{request.method} {request.url.path}: {error.detail}"
        return respond(Problem(error.status_code, kind, detail, title=title, headers=headers))

    @api.exception_handler(LedgerUnavailable)
    async def on_unavailable(_: Request, error: LedgerUnavailable) -> Response:
        return respond(Problem(503, "ledger_unavailable", str(error), headers=((b"retry-after", b"1"),)))

    @api.exception_handler(Exception)
    async def on_failure(_: Request, error: Exception) -> Response:
        return respond(_failure(error))

    hot_paths = {path for _, path in hot}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in hot_paths:
            await api(scope, receive, send)
            return
        handler = hot.get((scope["method"], scope["path"]))
        try:
            if handler is None:
                allowed = ", ".join(method for method, path in hot if path == scope["path"])
                detail = f"{scope['method']} is not a method of {quote(scope['path'])}; it has {allowed}"
                raise Problem(405, "method_not_allowed", detail, headers=((b"allow", allowed.encode()),))
            answer = await handler(scope, receive)
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001 (logged; the caller gets a problem, not a broken connection)
            problem = error if isinstance(error, Problem) else _failure(error)
            refused(problem)
            answer = problem_answer(problem)
        await send_answer(send, answer)

    return api, app


def _failure(error: Exception) -> Problem:
    log.error("request failed", exc_info=error)
    return Problem(500, "internal_error", "costwarden failed to answer; its log says why")


def json_response(content: Any, status: int = 200) -> Response:
    """A JSON response in which money keeps all its digits."""
    return Response(encode(content) + b"\n", status, media_type="application/json")
