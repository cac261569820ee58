"""The whole API on a real ledger, put together as `serve` does it, with a clock that tests turn by hand."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import uvicorn

from costwarden.api.ai_budget import AiBudgetApi
from costwarden.api.auth import Authenticator
from costwarden.api.routes import create_api
from costwarden.budgets.engine import Engine
from costwarden.budgets.service import BudgetService
from costwarden.budgets.settings import BudgetsSettings
from costwarden.cli.listen import listen, uvicorn_config
from costwarden.config import AuthSettings
from costwarden.ledger import Ledger
from costwarden.metrics.budgets import budget_collector
from costwarden.metrics.counts import Counts
from costwarden.metrics.page import Page
from costwarden.metrics.settings import MetricsSettings
from costwarden.pricing import PriceBook, PricingSettings
from costwarden.remediation.decisions import approve_run

NOON = 1_763_208_000_000_000
"""2025-11-15 12:00 UTC in microseconds."""

MAX_BODY_BYTES = 100_000

# A dollar a million tokens, in and out, so that a test shows its sums; `mini` costs a tenth.
PRICING = {
    "overrides": [
        {"valid_from": "2020-01-01", "model": "plain", "input_usd_mtok": 1, "output_usd_mtok": 1},
        {"valid_from": "2020-01-01", "model": "mini", "input_usd_mtok": "0.1", "output_usd_mtok": "0.1"},
        {"valid_from": "2020-01-01", "model": "painter", "usd_per_image": 1},
    ],
    "cheaper_models": [{"model": "mini"}],
}


@pytest.fixture(scope="session")
def prices() -> PriceBook:
    """Loads genai-prices, which takes half a second: once."""
    return PriceBook(PricingSettings(**PRICING))


class Server:
    """The parts, and a client of them. `reloading` may be set to what a reload does."""

    def __init__(
        self,
        url: str,
        prices: PriceBook,
        tokens: list[dict[str, Any]],
        jwt: Any = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        time_zone: str = "UTC",
        access_log: bool = False,
        **budgets: Any,
    ) -> None:
        self.now = NOON
        settings = BudgetsSettings(**{"default": None, **budgets})
        zone = ZoneInfo(time_zone)

        def clock() -> int:
            return self.now

        engine = Engine(settings, zone, clock)
        self.ledger = Ledger(url, owner=True, participant=engine)
        self.counts = Counts()
        self.auth = Authenticator(AuthSettings(tokens=tokens, jwt=jwt))
        self.service = BudgetService(self.ledger, engine, prices, settings, zone, clock)
        self.service.configure(settings, prices)
        self.page = Page([self.counts.collector(), budget_collector(self.ledger.read, zone, clock)], MetricsSettings(), clock)
        self.reloading: Callable[[], None] = lambda: None
        self.woken = 0

        async def reload() -> None:
            self.reloading()

        def wake() -> None:
            self.woken += 1

        @asynccontextmanager
        async def lifespan(_: Any) -> Any:
            yield

        self.app = create_api(
            ledger=self.ledger,
            page=self.page,
            budgets=AiBudgetApi(self.service, self.auth, self.counts, clock, max_body_bytes),
            service=self.service,
            zone=zone,
            access_log=access_log,
            auth=self.auth,
            counts=self.counts,
            reload=reload,
            wake_worker=wake,
            approve=lambda run_id, actor: approve_run(self.ledger, run_id, actor=actor, now=self.now),
            lifespan=lifespan,
            now=clock,
        )

    def request(self, method: str, path: str, *, token: str = "", **options: Any) -> httpx.Response:
        """A request straight to the application, without a socket."""
        if token:
            options["headers"] = {"authorization": f"Bearer {token}", **options.get("headers", {})}

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://costwarden") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, json=body, **options)

    def put(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.request("PUT", path, json=body, **options)

    def set(self, limit_usd: Any, tenant_id: str = "acme", *, token: str = "", **more: Any) -> httpx.Response:
        return self.post("/api/ai-budget/set", {"tenant_id": tenant_id, "monthly_limit_usd": limit_usd, **more}, token=token)

    def check(self, tokens: int, tenant_id: str = "acme", *, token: str = "", **more: Any) -> httpx.Response:
        """Of a call of so many tokens at a dollar a million."""
        body = {"tenant_id": tenant_id, "model": "plain", "estimated_input_tokens": tokens, "estimated_output_tokens": 0, **more}
        return self.post("/api/ai-budget/check", body, token=token)

    def track(self, tokens: int, tenant_id: str = "acme", *, token: str = "", **more: Any) -> httpx.Response:
        body = {"tenant_id": tenant_id, "model": "plain", "input_tokens": tokens, **more}
        return self.post("/api/ai-budget/track", body, token=token)

    def series(self) -> dict[str, float]:
        """What the metrics page shows, rendered now."""
        self.page.render()
        lines = self.page.answer().body.decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def money(response: httpx.Response) -> Any:
    """The body, its numbers with all the digits that were sent."""
    return json.loads(response.content, parse_float=Decimal)


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """`secret("hunter2")`: names a file that holds it."""

    def write(text: str) -> dict[str, str]:
        path = tmp_path / f"{text}.secret"
        path.write_text(f"{text}\n")
        return {"file": str(path)}

    return write


@pytest.fixture
def server_of(sqlite_url: Callable[..., str], prices: PriceBook) -> Iterator[Callable[..., Server]]:
    """`server_of(tokens=[…], unbudgeted="allow")`: a server with these tokens and budget settings."""
    servers: list[Server] = []

    def make(tokens: Any = (), prices: PriceBook = prices, url: str = "", **options: Any) -> Server:
        servers.append(Server(url or sqlite_url(), prices, list(tokens), **options))
        return servers[-1]

    yield make
    for server in servers:
        server.ledger.close()


@pytest.fixture
def server(server_of: Callable[..., Server]) -> Server:
    """A server without tokens or default budget."""
    return server_of()


@pytest.fixture
def either_server(server_of: Callable[..., Server], database_url: Callable[[], str]) -> Server:
    """As `server`, on each of both databases."""
    return server_of(url=database_url())


@pytest.fixture
def lasting_server(sqlite_url: Callable[..., str], prices: PriceBook) -> Iterator[Server]:
    """A server that lets anybody spend."""
    server = Server(sqlite_url(), prices, [], default={}, unbudgeted="allow")
    yield server
    server.ledger.close()


@pytest.fixture
def problem_of() -> Callable[..., dict[str, Any]]:
    """`problem_of(response, 404, "unknown_tenant")`: the problem, after a look at its one shape."""

    def check(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem = money(response)
        assert (problem["type"], problem["status"]) == (f"urn:costwarden:{kind}", status)
        assert problem["title"]
        assert problem["detail"]
        return problem

    return check


@pytest.fixture
def exact() -> Callable[[httpx.Response], Any]:
    """The body of a response, its numbers with all the digits that were sent."""
    return money


@pytest.fixture
def serve(wait_until: Callable[..., object]) -> Iterator[Callable[[Server], str]]:
    """`serve(server)`: has it on a real socket, under uvicorn as it is shipped; gives its base URL."""
    stops: list[Callable[[], None]] = []

    def begin(server: Server) -> str:
        listening = listen("127.0.0.1", 0)
        host, port = listening.getsockname()
        running = uvicorn.Server(uvicorn_config(server.app))
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()

        def stop() -> None:
            running.should_exit = True
            thread.join()

        stops.append(stop)
        wait_until(lambda: running.started)
        return f"http://{host}:{port}"

    yield begin
    for stop in stops:
        stop()


@pytest.fixture
def listening(server: Server, serve: Callable[[Server], str]) -> str:
    """The server on a real socket; gives its base URL."""
    return serve(server)
