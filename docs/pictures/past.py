"""The past of a costwarden: its own parts live through it with a clock that is set, and its metrics pages become samples."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TextIO

import msgspec
import structlog
from company import BILLED_DAYS, calls_of, write_bills

from costwarden.budgets.engine import Engine
from costwarden.budgets.guardrails import GuardrailWatch
from costwarden.budgets.requests import CheckRequest, TrackRequest
from costwarden.budgets.service import BudgetService
from costwarden.cli.collectors import collectors
from costwarden.config import load_config, reveal
from costwarden.ledger import Ledger
from costwarden.metrics.counts import Counts
from costwarden.metrics.page import Page
from costwarden.model import DIMENSIONS, to_micros
from costwarden.pricing import PriceBook
from costwarden.sync import open_for_ledger, refresh

PAST_DAYS = 31
STEP_HOURS = 1
BILL_HOUR = 6
"""When, UTC, the bill of the day before is there and the sources are read."""


class Clock:
    """Says the time that it was set to, in microseconds since 1970."""

    def __init__(self) -> None:
        self.at = datetime(2000, 1, 1, tzinfo=UTC)

    def __call__(self) -> int:
        return to_micros(self.at)


def live_through(config_path: Path, bills: Path, until: datetime, output: TextIO, target: dict[str, str]) -> None:
    """Read bills and record calls up to `until`, and write each hour's page as OpenMetrics with the labels of `target`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    config = load_config(config_path)
    today, clock = until.date(), Clock()
    engine = Engine(config.enforced_budgets, config.zone, clock)
    ledger = Ledger(config.ledger_url(), owner=True, participant=engine)
    try:
        prices = PriceBook(config.pricing)
        service = BudgetService(ledger, engine, prices, config.enforced_budgets, config.zone, clock)
        watch = GuardrailWatch(ledger, engine.suspend, config.guardrails, config.zone, clock)
        made = collectors(
            config, ledger, Counts(), lambda: (True, clock()), lambda: prices.published_at, watch.figures, service.sizes, clock
        )
        page = Page([collector for collector in made if collector.name != "process"], config.metrics, clock)
        service.configure(config.enforced_budgets, prices)
        write_bills(bills, [today - timedelta(days=back) for back in range(BILLED_DAYS, PAST_DAYS + 1, -1)], today)
        hour = datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=PAST_DAYS)
        while hour <= until:
            clock.at = hour
            if hour.hour == BILL_HOUR:
                write_bills(bills, [hour.date() - timedelta(days=1)], today)
            for source in config.sources if hour.hour == BILL_HOUR else ():
                reading = open_for_ledger(ledger, source, config.attribution, config.exchange_rates, reveal=reveal, now=clock)
                refresh(ledger, source.name, reading, clock)
            for back in range(STEP_HOURS, 0, -1):
                calls = sorted(calls_of(hour - timedelta(hours=back), today), key=lambda call: call.timestamp)
                for timestamp, together in groupby(calls, key=lambda call: call.timestamp):
                    clock.at = datetime.fromisoformat(timestamp)
                    asyncio.run(make_calls(service, list(together)))
            clock.at = hour
            watch.look()
            page.render()
            answer = page.answer("application/openmetrics-text; version=1.0.0")
            assert answer is not None
            output.writelines(_samples(answer.body.decode(), hour.timestamp(), target))
            hour += timedelta(hours=STEP_HOURS)
    finally:
        ledger.close()
    output.write("# EOF\n")


async def make_calls(service: BudgetService, calls: list[TrackRequest]) -> None:
    """Ask for each call, as applications do, and make those that are allowed: no budget is overdrawn."""
    asked = []
    for call in calls:
        names = {name: getattr(call, name) for name in (*DIMENSIONS, "event_id")}
        sizes = {"estimated_input_tokens": call.input_tokens, "estimated_output_tokens": call.output_tokens}
        asked.append(msgspec.convert(names | sizes, CheckRequest))
    # Together, so that one commit serves them all.
    decisions = await asyncio.gather(*map(service.check, asked))
    pairs = zip(calls, decisions, strict=True)
    made = [msgspec.structs.replace(call, reservation_id=decision.reservation_id) for call, decision in pairs if decision.allowed]
    await service.record(made)


def _samples(text: str, at: float, target: dict[str, str]) -> Iterator[str]:
    """Each sample of a page with the time of it and the labels that a scrape adds."""
    added = ",".join(f'{name}="{value}"' for name, value in target.items())
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        series, _, value = line.rpartition(" ")
        name, brace, labels = series.partition("{")
        yield f"{name}{{{added}{',' + labels if brace else '}'} {value} {at:.0f}\n"
