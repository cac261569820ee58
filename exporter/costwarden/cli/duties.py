"""What one process does for all that share a ledger: it reads the sources, runs the playbooks, delivers notifications, sends to CloudWatch,
and makes room for the months to come."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from costwarden.cli.options import now
from costwarden.config import Config
from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.ledger.partitions import make_partitions
from costwarden.model import MICROS_PER_SECOND
from costwarden.notifier.worker import NotificationWorker
from costwarden.remediation.worker import Worker
from costwarden.sinks.cloudwatch import CloudwatchSink
from costwarden.sync import Scheduler

LEAD_INTERVAL_SECONDS = 5.0
"""How often the replica that has the duties makes sure of it, and the others look whether they are free."""

PARTITIONS_INTERVAL_SECONDS = 6 * 3600
"""How often the leader makes the partitions of the months to come: two months ahead, so that a day without a leader does no harm."""

log = structlog.get_logger(__name__)


class Duties:
    """Scheduler, sink, notifier and remediation worker, running while this process leads. Of an SQLite ledger's server that is always."""

    def __init__(
        self, ledger: Ledger, scheduler: Scheduler, sink: CloudwatchSink, notifier: NotificationWorker, new_worker: Callable[[], Worker]
    ) -> None:
        self._ledger = ledger
        self._scheduler = scheduler
        self._sink = sink
        self._notifier = notifier
        self._new_worker = new_worker
        self._worker: Worker | None = None
        self._partitions_due = 0
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take the duties where they are free, and follow from now on who has them. Raises `LedgerUnavailable`."""
        await asyncio.to_thread(self._turn)
        self._following = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """End what runs, and follow no more."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        await asyncio.to_thread(self._lay_down)

    def wake(self) -> None:
        """Something was queued or approved. Where another replica has the duties it looks for itself, every second."""
        if (worker := self._worker) is not None:
            worker.wake()
            self._notifier.wake()

    def configure(self, config: Config) -> None:
        """Read the sources of `config` from now on, at once."""
        self._scheduler.configure(config.sources, config.attribution, config.exchange_rates)
        self._sink.configure(config.cloudwatch)
        if self._worker is not None:
            for source in config.sources:
                self._scheduler.refresh_now(source.name)
        self.wake()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LEAD_INTERVAL_SECONDS)
            with suppress(LedgerUnavailable):
                await asyncio.to_thread(self._turn)

    def _turn(self) -> None:
        leads = self._ledger.lead()
        if leads and self._ledger.shared and now() >= self._partitions_due:
            self._ledger.write(lambda connection: make_partitions(connection, now()))
            self._partitions_due = now() + PARTITIONS_INTERVAL_SECONDS * MICROS_PER_SECOND
        if leads and self._worker is None:
            worker = self._new_worker()
            worker.start()
            self._worker = worker
            self._scheduler.start()
            self._sink.start()
            self._notifier.start()
            if self._ledger.shared:
                log.info("this replica reads the sources and runs the playbooks now")
        elif not leads and self._worker is not None:
            log.warning("this replica has lost its connection: another one may read the sources and run the playbooks now")
            self._lay_down()

    def _lay_down(self) -> None:
        worker, self._worker = self._worker, None
        self._scheduler.stop()
        self._sink.stop()
        self._notifier.stop()
        if worker is not None and not worker.stop():
            log.warning("a shutdown script still acts; its run will show as interrupted")
