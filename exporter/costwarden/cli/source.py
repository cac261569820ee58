"""`costwarden source`: try one source, or read its past."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import click

from costwarden.cli.options import config_option, has_ledger, load, now, open_ledger, printable
from costwarden.config import Config, ConfigError, reveal
from costwarden.ledger import Ledger
from costwarden.ledger.charges import read_parts
from costwarden.model import dollars, from_nanos
from costwarden.sources import Requests, SourceError, Surroundings, open_source
from costwarden.sources.settings import DailySchedule, SourceSettings
from costwarden.sync import BeingRead, Reading, backfill, open_for_ledger
from costwarden.sync.backfill import Month

KEPT_MONTHS = 13
"""This month and the twelve before it: what Cost Explorer keeps by day, and a year to compare with."""


@click.group()
def source() -> None:
    """Try a source, or read its past."""


@source.command()
@config_option
@click.argument("name")
def test(config_path: Path, name: str) -> None:
    """Make one cheap request with the settings of source NAME, and say in plain words what is there or missing.

    Nothing that it reads is kept, but what it costs counts.
    """
    config = load(config_path)
    settings = _named(config, name)
    with ExitStack() as opened:
        # Before the first start there is no ledger, and that is when a source is tried.
        ledger = opened.enter_context(open_ledger(config)) if has_ledger(config) else None
        try:
            reading = _open(config, ledger, settings) if ledger else _open_alone(config, settings)
            opened.enter_context(closing(reading.source))
            for sentence in reading.source.probe():
                click.echo(printable(f"{name}: {sentence}"))
        except (SourceError, ConfigError) as error:
            raise click.ClickException(printable(f"{name}: {error}")) from None
    made = f"{reading.requests.made} request{'' if reading.requests.made == 1 else 's'}"
    click.echo(f"{name}: ok ({made}, {dollars(from_nanos(reading.requests.cost))})")


@source.command("backfill")
@config_option
@click.argument("name")
@click.option("--months", type=click.IntRange(1, 36), default=KEPT_MONTHS, show_default=True, help="Months to go back, this one included.")
@click.option("--again", is_flag=True, help="Ask for days that are known already, too.")
def backfill_command(config_path: Path, name: str, months: int, again: bool) -> None:
    """Read the days of source NAME that are not known yet, a month at a time, the newest first.

    May be ended and begun again at any time: what is known is not asked for twice. A server may run meanwhile.
    """
    config = load(config_path)
    settings = _named(config, name)
    if not isinstance(settings, DailySchedule):
        raise click.ClickException(f"{name}: is read by files, all of them at once; there is nothing to go back to")
    with open_ledger(config) as ledger:
        try:
            failed = _backfill(ledger, settings, lambda: _open(config, ledger, settings), months, again)
        except (SourceError, ConfigError, BeingRead) as error:
            raise click.ClickException(printable(f"{name}: {error}")) from None
        with ledger.read() as connection:
            parts = [part for _, part in read_parts(connection, name) if part.state == "failed"]
    for part in parts:
        click.echo(printable(f"warning: {name}: {part.message or part.part}"), err=True)
    if failed is not None:
        raise click.ClickException(printable(f"{name}: {failed.first:%Y-%m}: {failed.refresh.failure}"))


def _backfill(ledger: Ledger, settings: SourceSettings, open_it: Callable[[], Reading], months: int, again: bool) -> Month | None:
    """The month that could not be read, if any."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(settings.name, total=months)
        for month in backfill(ledger, settings.name, open_it, now, months=months, again=again):
            if month.refresh.failure:
                return month
            progress.update(task, advance=1, description=f"{settings.name} {month.first:%Y-%m}")
            if progress.disable:
                click.echo(f"{settings.name}: {month.first:%Y-%m} is read")
    return None


def _named(config: Config, name: str) -> SourceSettings:
    for settings in config.sources:
        if settings.name == name:
            return settings
    known = ", ".join(f"`{settings.name}`" for settings in config.sources) or "none"
    raise click.UsageError(f"there is no source `{name}`; configured: {known}")


def _open(config: Config, ledger: Ledger, settings: SourceSettings) -> Reading:
    return open_for_ledger(ledger, settings, config.attribution, config.exchange_rates, reveal=reveal, now=now)


def _open_alone(config: Config, settings: SourceSettings) -> Reading:
    requests = Requests()
    return Reading(open_source(settings, config.attribution, config.exchange_rates, Surroundings(reveal, requests)), requests, [])
