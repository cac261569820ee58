"""What the demo shows on the terminal: headings, tables, and claims that have been checked."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text


class ClaimFailed(Exception):
    """Something that the demo says did not hold."""


class Screen:
    """The terminal. What it states has been checked: a claim that does not hold ends the demo."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        # On a narrower terminal a line breaks where that ends; nothing is cut off.
        self.console.width = max(80, self.console.width)

    def step(self, number: int, title: str) -> None:
        """A heading."""
        self.console.print(f"\n[bold]{number}  {title}[/]")

    def say(self, line: str, style: str = "") -> None:
        """A line as it is; a long one is left to the terminal, so that a command can be copied whole."""
        self.console.print(Text(f"  {line}", style), soft_wrap=True)

    def claim(self, holds: bool, sentence: str) -> None:
        """State a fact. Raises `ClaimFailed` where it is none."""
        if not holds:
            raise ClaimFailed(f"this did not hold: {sentence}")
        self.console.print(Text.assemble("  ", ("✓", "green"), f" {sentence}"), soft_wrap=True)

    def rows(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table; columns that begin with `>` are set to the right."""
        table = Table(box=None, pad_edge=False, padding=(0, 0, 0, 2), header_style="dim")
        for column in columns:
            table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table, soft_wrap=True)


def dollars(amount: Decimal | float, places: int = 2) -> str:
    """$1,234.50"""
    return f"${amount:,.{places}f}"
