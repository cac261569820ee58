"""What the commands share: where the configuration and the ledger are, and how answers are printed."""

import csv
import io
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from costwarden.api.problems import encode
from costwarden.budgets.engine import Engine
from costwarden.budgets.redis_status_cache import drop_everything
from costwarden.config import SQLITE, Config, ConfigError, load_config, reveal
from costwarden.ledger import Ledger, LedgerError, LedgerUnavailable
from costwarden.ledger.operations import Participant

ACTOR = "command line"
"""Who acts, in the audit log."""

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("costwarden.yaml"),
    show_default=True,
    envvar="COSTWARDEN_CONFIG",
    show_envvar=True,
    help="Configuration file.",
)

format_option = click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What to print."
)


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def load(config_path: Path) -> Config:
    """The configuration; ends the program with its mistakes."""
    try:
        return load_config(config_path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def has_ledger(config: Config) -> bool:
    """Whether there may be a ledger: its file is there, or it is on PostgreSQL."""
    return not config.database_url.startswith(SQLITE) or Path(config.database_url.removeprefix(SQLITE)).exists()


@contextmanager
def open_ledger(config: Config, participant: Participant | None = None) -> Iterator[Ledger]:
    """The ledger of a configuration, beside a server that may be running; ends the program where it is not usable."""
    if not has_ledger(config):
        raise click.ClickException(f"{config.database_url.removeprefix(SQLITE)}: there is no ledger yet; `costwarden serve` makes it")
    try:
        ledger = Ledger(config.ledger_url(), participant=participant)
    except (ConfigError, LedgerError) as error:
        raise click.ClickException(str(error)) from None
    try:
        yield ledger
    except LedgerUnavailable as error:
        raise click.ClickException(str(error)) from None
    finally:
        ledger.close()
        if ledger.writer.commits:
            _tell_status_cache(config)


def _tell_status_cache(config: Config) -> None:
    """On PostgreSQL no replica hears of what another program writes."""
    settings = config.budgets.status_cache
    if settings.redis_url is None or settings.seconds == 0:
        return
    try:
        drop_everything(settings, reveal(settings.redis_password) if settings.redis_password is not None else None)
    except (OSError, ConfigError) as error:
        click.echo(f"warning: the status cache was not told ({error}); servers may show old figures for {settings.seconds} s", err=True)


@contextmanager
def open_engine(config: Config) -> Iterator[tuple[Ledger, Engine]]:
    """The ledger with an engine of this program's own, for what changes figures; a running server takes it over within a second."""
    engine = Engine(config.enforced_budgets, config.zone, now)
    with open_ledger(config, engine) as ledger:
        yield ledger, engine


reason_option = click.option("--reason", required=True, help="Why: kept in the audit log.")


def check_reason(reason: str) -> str:
    """The reason as it is kept; ends the program where it says nothing."""
    if not reason.strip() or len(reason) > 1000:
        raise click.BadParameter("must have 1 to 1000 characters", param_hint="'--reason'")
    return reason.strip()


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it: C0, DEL and C1, and what turns the direction of writing
(https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters)."""


def printable(text: str) -> str:
    """`text` from elsewhere (a bill, a provider's answer) as one line that a terminal only shows; U+FFFD in place of what it would obey."""
    return _CONTROLS.sub("\ufffd", text)


def print_json(content: Any) -> None:
    """JSON with money to the last digit: `Decimal` becomes a number."""
    # JSON itself escapes C0 alone. The line ends between its values are not those of anybody's text.
    text = msgspec.json.format(encode(content), indent=2).decode()
    click.echo(_CONTROLS.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text))


def print_csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Comma-separated values (RFC 4180, with plain line ends), the names of the columns first."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    click.echo(text.getvalue(), nl=False)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people, whatever its cells say; columns that begin with `>` are set to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:
        click.echo(printable(title))
    if not rows:
        click.echo("  none")
        return
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        # A pipe has no width: nothing may be cut or folded on its way to grep.
        console = Console(width=max(200, 40 * len(columns)))
    console.print(table)
