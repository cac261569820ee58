"""`costwarden serve`: the one place that puts the running parts together."""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import structlog
import uvicorn
from fastapi import FastAPI

from costwarden import __version__
from costwarden.api.ai_budget import AiBudgetApi
from costwarden.api.auth import Authenticator
from costwarden.api.otlp import OtlpApi
from costwarden.api.problems import Problem
from costwarden.api.routes import create_api
from costwarden.budgets.engine import Engine
from costwarden.budgets.guardrails import GuardrailWatch
from costwarden.budgets.service import BudgetService
from costwarden.budgets.status_cache import status_cache
from costwarden.cli.collectors import collectors
from costwarden.cli.duties import Duties
from costwarden.cli.listen import CannotListen, listen, uvicorn_config
from costwarden.cli.logs import configure_logs
from costwarden.cli.options import config_option, load, now
from costwarden.config import ENVIRONMENT, Config, ConfigError, check_reload, check_secrets, load_config, receiver_mistakes, reveal
from costwarden.ledger import Ledger, LedgerError, LedgerUnavailable
from costwarden.metrics.counts import Counts
from costwarden.metrics.page import Page
from costwarden.notifier.worker import NotificationWorker
from costwarden.pricing import PriceBook, PriceRefresh
from costwarden.remediation.decisions import approve_run
from costwarden.remediation.worker import Worker
from costwarden.sinks.cloudwatch import CloudwatchSink
from costwarden.sync import Scheduler, open_for_ledger

# The thread that has the interpreter gives it up this often: a check must not wait 5 ms (the default) for a page that is rendered.
SWITCH_INTERVAL_SECONDS = 0.0005

# A request makes some hundred objects, none of them in a cycle: the default of 700 looks for garbage at every few requests.
GC_THRESHOLDS = (50_000, 20, 20)

UPKEEP_INTERVAL_SECONDS = 1.0
"""How often expired reservations are looked for, changes by other processes taken over, and sizes of calls learned."""

log = structlog.get_logger(__name__)


class Server:
    """Everything that runs, from one configuration. `start` and `stop` are called once each, inside the event loop."""

    def __init__(self, config_path: Path, config: Config) -> None:
        self.config = config
        self._path = config_path
        self._loaded = (True, now())
        self._reloading = threading.Lock()
        self._counts = Counts()
        self._auth = Authenticator(config.auth)
        self._engine = Engine(config.enforced_budgets, config.zone, now)
        self._ledger = Ledger(config.ledger_url(), owner=True, participant=self._engine)
        try:
            prices = PriceBook(config.pricing)
            self._price_refresh = PriceRefresh(config.pricing.refresh, prices, now)
            self._service = BudgetService(self._ledger, self._engine, prices, config.enforced_budgets, config.zone, now)
            self._cache = status_cache(config.budgets.status_cache, shared=self._ledger.shared, now=now, count=self._count_status)
            self._engine.on_touched = self._cache.touched
            self._otlp = OtlpApi(self._ledger, self._engine, self._service, self._auth, self._counts, now, config.otlp)
            self._guardrails = GuardrailWatch(self._ledger, self._engine.suspend, config.guardrails, config.zone, now)
            self._page = Page(self._collectors(config), config.metrics, now)
            self._ledger.writer.on_change = self._page.changed
            open_it = partial(open_for_ledger, self._ledger, reveal=reveal, now=now)
            scheduler = Scheduler(self._ledger, config.sources, config.attribution, config.exchange_rates, now=now, open_source=open_it)
            sink = CloudwatchSink(self._ledger, config.cloudwatch, now)
            notifier = NotificationWorker(self._ledger, lambda: self.config.notifier, reveal=reveal, now=now)
            self._duties = Duties(self._ledger, scheduler, sink, notifier, self._new_worker)
        except BaseException:
            self._ledger.close()
            raise
        self._beside: list[asyncio.Task[None]] = []
        self.app = create_api(
            ledger=self._ledger,
            page=self._page,
            budgets=AiBudgetApi(self._service, self._auth, self._counts, now, config.server.max_body_bytes, self._cache),
            otlp=self._otlp,
            service=self._service,
            zone=config.zone,
            access_log=config.logs.access,
            auth=self._auth,
            counts=self._counts,
            reload=self.reload,
            wake_worker=self._duties.wake,
            approve=self._approve,
            notifier=lambda: self.config.notifier,
            lifespan=self._lifespan,
            now=now,
        )

    def _collectors(self, config: Config) -> list[Any]:
        published_at = lambda: self._service.prices.published_at  # noqa: E731
        state, guardrails, sizes = (lambda: self._loaded), self._guardrails.figures, self._service.sizes
        return collectors(config, self._ledger, self._counts, state, published_at, guardrails, sizes, now)

    def _count_status(self, outcome: str) -> None:
        if outcome == "error":
            self._counts.add("costwarden_status_cache_errors_total")
        else:
            self._counts.add("costwarden_status_cache_requests_total", outcome)

    def _approve(self, run_id: str, actor: str) -> None:
        approve_run(self._ledger, run_id, actor=actor, now=now())
        self._duties.wake()

    def _new_worker(self) -> Worker:
        return Worker(self._ledger, lambda: self.config.remediation, environ=ENVIRONMENT, now=now)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._service.configure, self.config.enforced_budgets, self._service.prices)
        await asyncio.to_thread(self._service.learn)
        beside = (self._service.keep_up(UPKEEP_INTERVAL_SECONDS), self._cache.run(), self._guardrails.run())
        self._beside = [loop.create_task(coroutine) for coroutine in beside]
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(self._reload_on_signal()))
        await asyncio.to_thread(self._price_refresh.start)
        self._page.start()
        await self._duties.start()
        server = self.config.server
        log.info("costwarden serves", version=__version__, url=f"http://{server.host}:{server.port}", ledger=self._ledger.name)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            for task in self._beside:
                task.cancel()
            await asyncio.gather(*self._beside, return_exceptions=True)
            await self._duties.stop()
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._price_refresh.stop()
        self._page.stop()
        self._ledger.close()
        log.info("costwarden stopped")

    async def reload(self) -> None:
        """Read the configuration again; keeps the one in force and raises `Problem` 422 where the new one is not usable."""
        try:
            await asyncio.to_thread(self._reload)
        except ConfigError as error:
            self._loaded = (False, self._loaded[1])
            self._page.changed()
            log.error("configuration not reloaded; the last good one stays in force", error=str(error))
            raise Problem(422, "invalid_config", str(error)) from None
        except LedgerUnavailable as error:
            self._loaded = (False, self._loaded[1])
            self._page.changed()
            raise Problem(503, "ledger_unavailable", str(error)) from None

    def _reload(self) -> None:
        with self._reloading:
            self._load_anew()

    def _load_anew(self) -> None:
        config = load_config(self._path)
        check_reload(self.config, config)
        check_secrets(config)
        if mistakes := receiver_mistakes(config):
            raise ConfigError("\n".join(mistakes))
        prices = PriceBook(config.pricing) if config.pricing != self.config.pricing else self._service.prices
        try:
            self._service.configure(config.enforced_budgets, prices)
        except ValueError as error:
            raise ConfigError(f"{self._path}: {error}") from None
        # Nothing below can fail: what was loaded is in force as a whole.
        self._auth.configure(config.auth)
        self.config = config
        self._loaded = (True, now())
        self._guardrails.configure(config.guardrails)
        self._otlp.configure(config.otlp)
        self._duties.configure(config)
        self._price_refresh.configure(config.pricing.refresh, prices)
        self._page.reconfigure(self._collectors(config), config.metrics)
        log.info("configuration reloaded", path=str(self._path))

    async def _reload_on_signal(self) -> None:
        try:
            await self.reload()
        except Problem:
            return  # logged, and a metric says so


def _warn_of_receivers(config: Config) -> None:
    for mistake in receiver_mistakes(config):
        log.warning("a receiver of the notifier cannot be told", reason=mistake)


@click.command()
@config_option
def serve(config_path: Path) -> None:
    """Run the server: API, metrics, sources, remediation. SIGHUP or POST /-/reload reads the configuration again."""
    config = load(config_path)
    configure_logs(config.logs)
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    try:
        check_secrets(config)
        listening = listen(config.server.host, config.server.port)
        server = Server(config_path, config)
        _warn_of_receivers(config)
    except (ConfigError, LedgerError, LedgerUnavailable, CannotListen) as error:
        raise click.ClickException(str(error)) from None
    # What is loaded by now lives as long as the process; looking through it at every collection would cost each check its share.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    running = uvicorn.Server(uvicorn_config(server.app))
    running.run(sockets=[listening])
    if not running.started:
        raise click.ClickException("the server did not start; the log says why")
