"""`costwarden rerate`."""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click
import msgspec

from costwarden.budgets.engine import Engine
from costwarden.cli.options import ACTOR, config_option, format_option, load, now, open_engine, print_json, print_table
from costwarden.ledger import Connection, Ledger
from costwarden.ledger.audit import append_audit
from costwarden.ledger.corrections import recorded_corrections, recorded_usage
from costwarden.model import dollars, from_micros, from_nanos, to_micros
from costwarden.pricing import PriceBook, PriceRefresh, RefreshError
from costwarden.pricing.rerating import Rerated, Rerating

BATCH = 500
"""Corrections in a transaction: a running server waits for none of them long."""


class Span(NamedTuple):
    """The usage that is meant: [start, end) microseconds, with dimensions as `where` says."""

    start: int
    end: int
    where: dict[str, str]


class Line(msgspec.Struct):
    """Usage of one model whose price changes in one way. Costs in nano-dollars."""

    events: int = 0
    before: int = 0
    after: int = 0


class Plan(msgspec.Struct):
    """What a re-rating would do, in sums: a ledger may have more changes than fit in memory."""

    examined: int = 0
    lines: dict[tuple[str, str, str, str], Line] = {}
    """By provider, model, by which price it counts so far, by which it would."""
    unpriced: dict[tuple[str, str], int] = {}
    """Requests that have no price even now, by provider and model."""

    @property
    def corrections(self) -> int:
        """How many corrections would be recorded."""
        return sum(line.events for line in self.lines.values())

    @property
    def difference(self) -> int:
        """Nano-dollars that all corrections add together."""
        return sum(line.after - line.before for line in self.lines.values())


def changes(connection: Connection, book: PriceBook, span: Span, plan: Plan | None = None) -> Iterator[Rerated]:
    """The usage of `span` that costs otherwise today, the oldest first; everything that was looked at is added to `plan`."""
    rerating = Rerating(book.price, recorded_corrections(connection, *span))
    plan = plan or Plan()
    for page in recorded_usage(connection, *span):
        for usage in page:
            plan.examined += 1
            if change := rerating.rerate(usage):
                line = plan.lines.setdefault((usage.provider, usage.model, change.priced_by, change.now.priced_by), Line())
                line.events += 1
                line.before += change.cost
                line.after += change.now.cost
                yield change
            elif rerating.is_unpriced(usage):
                key = usage.provider, usage.model
                plan.unpriced[key] = plan.unpriced.get(key, 0) + usage.requests


def record(ledger: Ledger, engine: Engine, found: Iterable[Rerated]) -> int:
    """Record the corrections of `found`, some at a time; returns how many were new."""
    recorded = 0
    rest = iter(found)
    while events := [change.correction() for change in islice(rest, BATCH)]:
        recorded += ledger.writer.step_blocking(engine.ingest, events)
    return recorded


@click.command()
@config_option
@format_option
@click.option("--since", required=True, help="First moment of the usage, as 2026-03-01 or 2026-03-01T12:00:00+01:00.")
@click.option("--until", help="First moment that is not meant any more.  [default: now]")
@click.option("--model", help="Only this model.")
@click.option("--provider", help="Only this provider.")
@click.option("--tenant", "tenant_id", help="Only this tenant.")
@click.option("--apply", is_flag=True, help="Record the corrections; without it they are only shown.")
def rerate(config_path: Path, output: str, since: str, until: str | None, apply: bool, **where: str | None) -> None:
    """Price recorded usage anew, by the prices known today for its own time, and record the differences as corrections.

    Nothing is overwritten, and doing it twice changes nothing. Windows, budgets and their current periods follow.
    """
    config = load(config_path)
    start = _moment(since, config.zone, "--since")
    end = _moment(until, config.zone, "--until") if until else now()
    if start >= end:
        raise click.BadParameter("must be before `--until`", param_hint="'--since'")
    span = Span(start, end, {name: value for name, value in where.items() if value})
    book = PriceBook(config.pricing)
    if config.pricing.refresh.enabled:
        try:
            PriceRefresh(config.pricing.refresh, book, now).load()
        except RefreshError as error:
            raise click.ClickException(str(error)) from None
    plan = Plan()
    recorded = 0
    with open_engine(config) as (ledger, engine):
        with ledger.read() as connection:
            deque(changes(connection, book, span, plan), maxlen=0)
        if apply and plan.lines:
            # Before the corrections, so that none is without it.
            ledger.write(lambda connection: _audit(connection, span, plan))
            with ledger.read() as connection:
                recorded = record(ledger, engine, changes(connection, book, span))
    _print(plan, output, applied=apply, recorded=recorded)


def _audit(connection: Connection, span: Span, plan: Plan) -> None:
    content = {
        "since": from_micros(span.start).isoformat(),
        "until": from_micros(span.end).isoformat(),
        **span.where,
        "corrections": plan.corrections,
        "difference_usd": str(from_nanos(plan.difference)),
    }
    append_audit(connection, at=now(), actor=ACTOR, action="rerate", subject="usage", after=content)


def _moment(text: str, zone: ZoneInfo, option: str) -> int:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no date, as 2026-03-01 or 2026-03-01T12:00:00+01:00", param_hint=f"'{option}'") from None
    return to_micros(when if when.tzinfo else when.replace(tzinfo=zone))


def _print(plan: Plan, output: str, *, applied: bool, recorded: int) -> None:
    if output == "json":
        print_json(
            {
                "applied": applied,
                "recorded": recorded,
                "examined": plan.examined,
                "difference_usd": from_nanos(plan.difference),
                "changes": [
                    {
                        "provider": provider,
                        "model": model,
                        "priced_by": before,
                        "priced_by_now": after,
                        "events": line.events,
                        "cost_usd": from_nanos(line.before),
                        "cost_usd_now": from_nanos(line.after),
                    }
                    for (provider, model, before, after), line in sorted(plan.lines.items())
                ],
                "unpriced": [{"provider": name[0], "model": name[1], "requests": count} for name, count in sorted(plan.unpriced.items())],
            }
        )
        return
    rows = [
        (
            provider,
            model,
            before,
            after,
            str(line.events),
            dollars(from_nanos(line.before)),
            dollars(from_nanos(line.after)),
            dollars(from_nanos(line.after - line.before)),
        )
        for (provider, model, before, after), line in sorted(plan.lines.items())
    ]
    columns = ("provider", "model", "priced by", "now by", ">events", ">cost", ">now", ">difference")
    print_table(f"Changes, of {plan.examined} events:", columns, rows)
    if plan.unpriced:
        still = [(provider, model, str(count)) for (provider, model), count in sorted(plan.unpriced.items())]
        print_table("Still without a price:", ("provider", "model", ">requests"), still)
    if applied:
        click.echo(f"{recorded} corrections recorded, {dollars(from_nanos(plan.difference))} together.")
    elif plan.lines:
        click.echo(f"Nothing is changed yet: `--apply` records {plan.corrections} corrections.")
