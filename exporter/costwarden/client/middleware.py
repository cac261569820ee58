"""An ASGI middleware: requests of tenants without money are turned away at the door, and calls made inside are attributed."""

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import msgspec

from costwarden.client.budget import Budget
from costwarden.client.calls import Call
from costwarden.client.denial import BudgetExceeded, BudgetUnavailable
from costwarden.client.dimensions import attribution

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBLEM = b"application/problem+json"
WARNING = (b"x-ai-budget-warning", b"true")


class BudgetMiddleware:
    """Asks, before a request is handled, whether its tenant could pay for a call of this size; answers 429 where not, with the budget
    service's problem details and `Retry-After`, and 503 where nobody can be asked.

    - `tenant(scope)` tells the tenant of a request; an empty answer lets the request pass unchecked and without attribution.
    - `attribute(scope)` may tell more: `{"feature": "search", "user_id": "u1"}`.
    - `paths`: regular expressions, of which one must match the whole path for a request to be checked. Attribution holds for all.
    - `model` (or `operation`) and the sizes: the call that is asked about; without sizes, what calls like it have been so far.

    The question sets nothing aside beyond the moment: the calls that the application makes ask for themselves. The answer to the request
    carries `X-AI-Budget-Warning: true` where a budget has committed its soft limit.
    """

    def __init__(
        self,
        app: App,
        budget: Budget,
        *,
        tenant: Callable[[Scope], str],
        attribute: Callable[[Scope], Mapping[str, str]] | None = None,
        paths: Sequence[str] = (".*",),
        model: str = "",
        operation: str = "",
        provider: str = "",
        estimated_input_tokens: int | None = None,
        estimated_output_tokens: int | None = None,
        images: int = 0,
    ) -> None:
        if not model and not operation:
            raise ValueError("name the `model`, the `operation`, or both: one of them tells the price of the call that is asked about")
        self._app = app
        self._budget = budget
        self._tenant = tenant
        self._attribute = attribute
        self._paths = [re.compile(path) for path in paths]
        self._size: dict[str, Any] = {
            "model": model,
            "operation": operation,
            "provider": provider,
            "estimated_input_tokens": estimated_input_tokens,
            "estimated_output_tokens": estimated_output_tokens,
            "images": images,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tenant_id = self._tenant(scope) if scope["type"] == "http" else ""
        if not tenant_id:
            await self._app(scope, receive, send)
            return
        names = {**(self._attribute(scope) if self._attribute else {}), "tenant_id": tenant_id}
        with attribution(**names):
            if not any(path.fullmatch(scope["path"]) for path in self._paths):
                await self._app(scope, receive, send)
                return
            try:
                admission = await self._budget.admit_async(msgspec.convert({**self._budget.attribute(names), **self._size}, Call))
            except BudgetExceeded as refusal:
                retry = refusal.headers.get("retry-after")
                headers = [(b"retry-after", retry.encode())] if retry else []
                await _answer(send, refusal.status, refusal.problem, headers)
                return
            except BudgetUnavailable as error:
                await _answer(send, 503, error.problem, [(b"retry-after", b"1")])
                return
            admission.cancel()
            await self._app(scope, receive, _warning(send) if admission.warning else send)


def _warning(send: Send) -> Send:
    async def send_with_warning(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), WARNING]}
        await send(message)

    return send_with_warning


async def _answer(send: Send, status: int, problem: Mapping[str, Any], headers: list[tuple[bytes, bytes]]) -> None:
    body = msgspec.json.encode(problem)
    headers = [(b"content-type", PROBLEM), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
