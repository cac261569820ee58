"""`costwarden audit`."""

from pathlib import Path
from typing import Any

import click
import msgspec

from costwarden.api.routes import time_answer
from costwarden.cli.options import config_option, load, open_ledger, print_csv, print_json, print_table
from costwarden.ledger.audit import list_audit
from costwarden.model import dollars, from_nanos

_NANOS = ("limit", "spent", "cost", "estimate", "settled")
"""What the audit log keeps in nano-dollars."""

COLUMNS = ("at", "actor", "action", "subject", "before", "after")


@click.command()
@config_option
@click.option("--format", "output", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True, help="What to print.")
@click.option("--subject", default="", help="Only what was done to this budget, tenant or reservation.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many, the newest.")
def audit(config_path: Path, output: str, subject: str, limit: int) -> None:
    """Show who changed what and when, the newest first: budgets, suspensions, resets, resolved reservations, emergency stops."""
    config = load(config_path)
    with open_ledger(config) as ledger, ledger.read() as connection:
        entries = list_audit(connection, limit, subject=subject)
    if output == "json":
        print_json([_answer(entry) for entry in entries])
        return
    if output == "csv":
        print_csv(COLUMNS, [(time_answer(entry["at"]) or "", *(str(entry[name]) for name in COLUMNS[1:])) for entry in entries])
        return
    rows = [(time_answer(entry["at"]) or "", entry["actor"], entry["action"], entry["subject"], _what_changed(entry)) for entry in entries]
    print_table("", ("at", "actor", "action", "subject", "what changed"), rows)


def _what_changed(entry: dict[str, Any]) -> str:
    before, after = (msgspec.json.decode(entry[name]) if entry[name] else {} for name in ("before", "after"))
    changes = []
    for key, value in after.items():
        if key not in before:
            changes += [f"{key}: {_text(key, value)}"] if value not in ("", None) else []
        elif value != before[key]:
            changes.append(f"{key}: {_text(key, before[key])} -> {_text(key, value)}")
    return ", ".join(changes)


def _text(key: str, value: Any) -> str:
    if key in _NANOS and isinstance(value, int):
        return dollars(from_nanos(value))
    if isinstance(value, list):
        return " ".join(str(item) for item in value if item != "")
    return "none" if value in (None, "") else str(value)


def _answer(entry: dict[str, Any]) -> dict[str, Any]:
    kept = {name: msgspec.json.decode(entry[name]) if entry[name] else None for name in ("before", "after")}
    return {**entry, "at": time_answer(entry["at"]), **kept}
