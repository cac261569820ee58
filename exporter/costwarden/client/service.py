"""The budget service over HTTP, as a client of it sees it."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from costwarden.client.calls import Granted, granted_decoder
from costwarden.client.connections import IDLE_SECONDS, Connections, Unreachable
from costwarden.client.denial import BudgetExceeded, BudgetUnavailable

REFUSALS = {409, 422, 429}
"""What the service answers when it has understood and will not; anything else but 200 says that it cannot."""

PATH = "/api/ai-budget/"

_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=IDLE_SECONDS)


class BudgetServer:
    """Where the budgets are. Thread-safe; its asynchronous requests may come from any event loop of asyncio."""

    def __init__(self, url: str, token: str, timeout_seconds: float) -> None:
        self._url = url.rstrip("/")
        self._headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
        self._timeout = timeout_seconds
        self.reopen()

    def reopen(self) -> None:
        """Begin with new connections: after a fork, the old ones are the other process's."""
        self._connections = Connections(self._url)
        self._async_clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    def ask(self, path: str, body: dict[str, Any]) -> Granted:
        """`POST path`. Raises `BudgetExceeded` for a refusal, `BudgetUnavailable` where there is no answer in time or none that counts."""
        try:
            answer = self._connections.post(PATH + path, msgspec.json.encode(body), self._headers, self._timeout)
        except Unreachable as error:
            raise BudgetUnavailable(f"the budget service {self._url} cannot be reached: {error}", asked=error.asked) from error
        return self._granted(answer.status, answer.headers, answer.body)

    async def ask_async(self, path: str, body: dict[str, Any]) -> Granted:
        """As `ask`."""
        try:
            response = await self._async_client().post(self._url + PATH + path, content=msgspec.json.encode(body), headers=self._headers)
        except httpx.HTTPError as error:
            late = isinstance(error, httpx.TimeoutException)
            reason = f"no answer within {self._timeout:g} s" if late else str(error) or type(error).__name__
            asked = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            raise BudgetUnavailable(f"the budget service {self._url} cannot be reached: {reason}", asked=asked) from error
        return self._granted(response.status_code, response.headers, response.content)

    def tell(self, path: str, body: bytes, timeout_seconds: float) -> tuple[int, bytes]:
        """`POST path`; status and body of the answer. Raises `Unreachable` where there is none."""
        answer = self._connections.post(PATH + path, body, self._headers, timeout_seconds)
        return answer.status, answer.body

    def close(self) -> None:
        """Close the connections of synchronous requests."""
        self._connections.close()

    async def close_async(self) -> None:
        """Close the connections of the running event loop; they open again where they are needed."""
        if client := self._async_clients.pop(asyncio.get_running_loop(), None):
            await client.aclose()

    def _async_client(self) -> httpx.AsyncClient:
        # A connection belongs to the event loop that opened it.
        loop = asyncio.get_running_loop()
        client = self._async_clients.get(loop)
        if client is None:
            for ended in [other for other in list(self._async_clients) if other.is_closed()]:
                self._async_clients.pop(ended, None)
            # Neither proxies nor certificates out of the environment: the service is ours and near.
            client = self._async_clients[loop] = httpx.AsyncClient(timeout=self._timeout, limits=_LIMITS, trust_env=False)
        return client

    def _granted(self, status: int, headers: Mapping[str, str], body: bytes) -> Granted:
        if status == 200:
            try:
                return granted_decoder.decode(body)
            except msgspec.DecodeError as error:
                raise BudgetUnavailable(f"{self._url} is no budget service: {error}") from None
        problem = _problem(body)
        if status in REFUSALS and str(problem.get("type", "")).startswith("urn:costwarden:"):
            raise BudgetExceeded(status, problem, dict(headers))
        detail = problem.get("detail") or body[:200].decode(errors="replace")
        raise BudgetUnavailable(f"the budget service {self._url} answered {status}: {detail}")


def _problem(content: bytes) -> dict[str, Any]:
    try:
        problem = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return problem if isinstance(problem, dict) else {}


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000
