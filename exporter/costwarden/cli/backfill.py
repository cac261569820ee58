"""`costwarden backfill`: the history of the ledger for a Prometheus that has not scraped it yet."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path

import click

from costwarden.cli.options import config_option, load, now, open_ledger
from costwarden.config import Config
from costwarden.ledger import Connection
from costwarden.ledger.history import first_day
from costwarden.metrics.exposition import OPENMETRICS_END
from costwarden.metrics.history import HistoryError, Steps, cloud_history, family_lines, parse_step, usage_history
from costwarden.model import MICROS_PER_SECOND, from_micros

# What Prometheus has in memory must not be written beside it: https://prometheus.io/docs/prometheus/latest/storage/#overview
HEAD_SECONDS = 3 * 3600

_LABEL = re.compile(r"^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$")

Count = Callable[[int, int], None]


class _Written:
    """Series and samples so far."""

    def __init__(self) -> None:
        self.series = 0
        self.samples = 0

    def count(self, series: int, samples: int) -> None:
        self.series += series
        self.samples += samples


def _labels(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = {"job": "costwarden"}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not _LABEL.match(name):
            raise click.BadParameter(f"{text!r} is no label, as instance=127.0.0.1:3010")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def _step(_: click.Context, __: click.Parameter, text: str) -> int:
    try:
        return parse_step(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@config_option
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.option("--first", type=click.DateTime(["%Y-%m-%d"]), help="First day (UTC).  [default: the first that the ledger knows]")
@click.option("--last", type=click.DateTime(["%Y-%m-%d"]), help="Last day (UTC): the one before the first scrape.  [default: yesterday]")
@click.option("--step", default="1h", show_default=True, callback=_step, help="From one sample to the next; it divides a day.")
@click.option(
    "--label", "target", multiple=True, callback=_labels, help="NAME=VALUE that the scrape adds; repeatable.  [default: job=costwarden]"
)
@click.option("--force", is_flag=True, help="Replace the file, where it is there.")
def backfill(
    config_path: Path, output: Path, first: datetime | None, last: datetime | None, step: int, target: dict[str, str], force: bool
) -> None:
    """Write what the metrics page would have shown in the past, for `promtool tsdb create-blocks-from openmetrics`."""
    config = load(config_path)
    if output.exists() and not force:
        raise click.ClickException(f"{output}: is there already; --force replaces it")
    at = now()
    today = from_micros(at).date()
    last_day = last.date() if last else today - timedelta(days=1)
    if last_day >= today:
        raise click.BadParameter("must be before today (UTC): of today Prometheus has its own samples", param_hint="'--last'")
    with open_ledger(config) as ledger, ledger.read() as connection:
        known = first_day(connection)
        first_of_all = first.date() if first else known
        if known is None or first_of_all is None or known > last_day:
            raise click.ClickException(f"the ledger has neither bills nor AI usage up to {last_day}: there is no history to write")
        if first_of_all > last_day:
            raise click.BadParameter(f"is after the last day, {last_day}", param_hint="'--first'")
        end = min(_midnight(last_day + timedelta(days=1)), at // MICROS_PER_SECOND - HEAD_SECONDS)
        # The midnight that ends the last day is not written: the live samples may begin with it.
        steps = Steps(_midnight(first_of_all), end - 1, step)
        written = _Written()
        try:
            _write(connection, config, steps, target, output, written)
        except HistoryError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            raise click.ClickException(f"{output}: {error.strerror or error}") from None
    if not written.samples:
        output.unlink()
        raise click.ClickException(f"there is nothing to show from {first_of_all} to {last_day}: nothing was written")
    size = output.stat().st_size / 1e6
    click.echo(
        f"{output}: {written.samples:,} samples of {written.series:,} series, {first_of_all} to {last_day}, {size:,.1f} MB\n"
        f"next: promtool tsdb create-blocks-from --max-block-duration=744h openmetrics {output} DIR"
    )


def _write(connection: Connection, config: Config, steps: Steps, target: dict[str, str], output: Path, written: _Written) -> None:
    """Beside the file first, so that what is under its name is whole."""
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            for piece in _pieces(connection, config, steps, target, written):
                file.write(piece)
            file.write(OPENMETRICS_END)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)


def _pieces(connection: Connection, config: Config, steps: Steps, target: dict[str, str], written: _Written) -> Iterator[bytes]:
    metrics = config.metrics
    families = chain(cloud_history(connection, metrics, steps), usage_history(connection, metrics.usage_labels, config.zone, steps))
    with _progress(written) as (begin, count):
        for family, series in families:
            begin(family.name)
            limit = metrics.series_limits.get(family.name, metrics.series_limit)
            yield from family_lines(family, series, steps, target, limit, count)


@contextmanager
def _progress(written: _Written) -> Iterator[tuple[Callable[[str], None], Count]]:
    """What is to be told of each family and of each piece; shown on a terminal, and nowhere else."""
    if not sys.stderr.isatty():
        yield lambda _: None, written.count
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[done]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None, done="")

        def count(series: int, samples: int) -> None:
            written.count(series, samples)
            progress.update(task, done=f"{written.series:,} series, {written.samples:,} samples")

        yield lambda name: progress.update(task, description=name), count


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
