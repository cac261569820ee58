"""The ASGI application: hot requests first, everything else through FastAPI, one shape for every error."""

import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from costwarden import __version__
from costwarden.api.auth import Authenticator
from costwarden.api.hot import TENANT, Answer, Disconnected, Handler, Receive, Scope, Send, problem_answer, send_answer
from costwarden.api.pages import once
from costwarden.api.problems import CONTENT_TYPE, TITLES, Problem, encode
from costwarden.api.request_ids import REQUEST_ID, request_id
from costwarden.ledger import LedgerUnavailable
from costwarden.metrics.counts import Counts

log = structlog.get_logger(__name__)

Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

# Refusals that are the budget's work, not a mistake of the caller.
_EXPECTED = (429,)

CHECKS = ("/api/ai-budget/check", "/api/ai-budget/lease")
"""Where an answer of 5xx leaves an application without a yes or a no."""


def create_app(
    counts: Counts,
    hot: Mapping[tuple[str, str], Handler],
    lifespan: Lifespan,
    auth: Authenticator | None = None,
    *,
    access_log: bool = False,
) -> tuple[FastAPI, Asgi]:
    """The FastAPI application, for routes to be added, and the ASGI application that serves both it and `hot` (method, path).

    `auth` is given what it needs before a request is dispatched. With `access_log` each request is logged, after its answer.
    """
    api = FastAPI(
        title="costwarden",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(once)],
    )

    refused = _answer_errors(api, counts)
    hot_paths = {path for _, path in hot}

    async def answer_hot(scope: Scope, receive: Receive) -> Answer | None:
        handler = hot.get((scope["method"], scope["path"]))
        try:
            if handler is None:
                allowed = ", ".join(method for method, path in hot if path == scope["path"])
                detail = f"{scope['method']} is not a method of {quote(scope['path'])}; it has {allowed}"
                raise Problem(405, "method_not_allowed", detail, headers=((b"allow", allowed.encode()),))
            return await handler(scope, receive)
        except Disconnected:
            return None
        except Exception as error:  # noqa: BLE001 (logged; the caller gets a problem, not a broken connection)
            problem = error if isinstance(error, Problem) else _failure(error)
            refused(problem)
            if problem.status >= 500 and scope["path"] in CHECKS:
                counts.add("ai_budget_checks_total", "failed", problem.kind)
            return problem_answer(problem)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await api(scope, receive, send)
            return
        headers = scope["headers"]
        given = request_id(headers)
        # The server gives each request a context of its own.
        structlog.contextvars.bind_contextvars(request_id=given.decode())
        started = time.perf_counter() if access_log else 0.0
        if auth is not None and auth.prepares:
            await auth.prepare(headers)
        if scope["path"] in hot_paths:
            answer = await answer_hot(scope, receive)
            if answer is None:
                return
            await send_answer(send, answer, (REQUEST_ID, given))
            status = answer[0]
        else:
            status = 0

            async def send_with_id(message: MutableMapping[str, Any]) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    message["headers"] = [*message["headers"], (REQUEST_ID, given)]
                await send(message)

            await api(scope, receive, send_with_id)
        if tenant_id := scope.get(TENANT):
            counts.add_request(tenant_id, status)
        if access_log:
            seconds = round(time.perf_counter() - started, 6)
            log.info("request", method=scope["method"], path=quote(scope["path"]), status=status, seconds=seconds)

    return api, app


def _answer_errors(api: FastAPI, counts: Counts) -> Callable[[Problem], None]:
    """Have `api` answer every error as a problem; gives what counts a refusal."""

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
        if error.status_code == 405:
            # Starlette names the methods of the first route alone.
            headers = ((b"allow", ", ".join(_methods(api, request.scope)).encode()),)
        detail = f"{request.method} {request.url.path}: {error.detail}"
        return respond(Problem(error.status_code, kind, detail, title=title, headers=headers))

    @api.exception_handler(LedgerUnavailable)
    async def on_unavailable(_: Request, error: LedgerUnavailable) -> Response:
        return respond(Problem(503, "ledger_unavailable", str(error), headers=((b"retry-after", b"1"),)))

    @api.exception_handler(Exception)
    async def on_failure(_: Request, error: Exception) -> Response:
        return respond(_failure(error))

    return refused


def _methods(api: FastAPI, scope: Scope) -> list[str]:
    """The methods that the path of a request has. Of several routes the one that says most of the path is meant."""
    found: dict[int, set[str]] = {}
    for route in api.routes:
        if isinstance(route, APIRoute) and route.matches(scope)[0] is not Match.NONE:
            found.setdefault(len(route.path_format), set()).update(route.methods or ())
    return sorted(found[max(found)]) if found else []


def _failure(error: Exception) -> Problem:
    log.error("request failed", exc_info=error)
    return Problem(500, "internal_error", "costwarden failed to answer; its log says why")


def json_response(content: Any, status: int = 200) -> Response:
    """A JSON response in which money keeps all its digits."""
    return Response(encode(content) + b"\n", status, media_type="application/json")
