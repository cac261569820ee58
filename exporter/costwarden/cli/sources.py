"""`costwarden sources`: where cost comes from, how fresh it is, and what asking for it has cost."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from costwarden.api.routes import time_answer
from costwarden.cli.options import config_option, format_option, load, now, open_ledger, print_json, print_table, printable
from costwarden.config import Config
from costwarden.ledger import Connection
from costwarden.ledger.charges import count_rejected, read_parts
from costwarden.ledger.figures import source_states
from costwarden.ledger.reading import paid_on
from costwarden.model import MICROS_PER_SECOND, dollars, from_micros, from_nanos
from costwarden.sources.settings import PredictedRequests, SourceSettings

_COLUMNS = (
    "source",
    "type",
    "state",
    "last success",
    "newest day",
    ">rows",
    ">rejected",
    ">failed",
    ">requests",
    ">today",
    ">all",
    "message",
)


@click.command()
@config_option
@format_option
def sources(config_path: Path, output: str) -> None:
    """List the sources: state, freshness, and dollars spent on requests. Exit code 1 where one fails, in part too, or is stale."""
    config = load(config_path)
    with open_ledger(config) as ledger, ledger.read() as connection:
        found = source_answers(connection, config, now())
    if output == "json":
        print_json({"sources": found})
    else:
        print_table("sources", _COLUMNS, [_cells(source) for source in found])
        for source in found:
            if source["message"]:
                click.echo("\n" + printable(f"{source['source']}: {source['message']}"))
    if any(is_trouble(source) for source in found):
        raise click.exceptions.Exit(1)


def source_answers(connection: Connection, config: Config, at: int) -> list[dict[str, Any]]:
    """What is known of each configured source, as JSON has it; `at` is the time in microseconds."""
    states = {state["source"]: state for state in source_states(connection)}
    rejected = count_rejected(connection)
    failed: dict[str, list[str]] = defaultdict(list)
    for name, part in read_parts(connection):
        if part.state == "failed":
            failed[name].append(part.message or part.part)
    paid = paid_on(connection, from_micros(at).date().isoformat())
    answers = []
    for settings in config.sources:
        state = states.get(settings.name)
        attempted = state is not None and state["last_attempt_at"] > 0
        last_success_at = state["last_success_at"] if state else 0
        stale = at - last_success_at > settings.stale_after_seconds * MICROS_PER_SECOND
        well = "partly" if failed[settings.name] else "ok"
        answers.append(
            {
                "source": settings.name,
                "type": settings.type,
                "state": "never read" if not attempted or not state else "failing" if not state["up"] else "stale" if stale else well,
                "last_success_at": time_answer(last_success_at),
                "newest_day": _day(state["data_newest_at"]) if state and state["data_newest_at"] else None,
                "rows": state["rows"] if state else 0,
                "rejected_rows": sum(rows for source, _, rows in rejected if source == settings.name),
                "failed_files": len(failed[settings.name]),
                "requests": state["requests"] if state else 0,
                "request_cost_today_usd": from_nanos(paid.get(settings.name, 0)),
                "request_cost_usd": from_nanos(state["request_cost"] if state else 0),
                "daily_request_limit_usd": settings.daily_request_limit_usd,
                "message": (state["message"] if state else "") or _first(failed[settings.name]),
            }
        )
    return answers


def is_trouble(source: dict[str, Any]) -> bool:
    """Whether somebody should look at a source (an element of `source_answers`)."""
    return source["state"] in ("failing", "stale") or bool(source["failed_files"])


def predictions(settings: Sequence[SourceSettings]) -> list[tuple[str, PredictedRequests]]:
    """(name of the source, what it is going to ask for), of the sources whose requests cost money."""
    return [(found.name, predicted) for found in settings for predicted in found.predicted_requests]


def _day(micros: int) -> date:
    # The ledger notes the end of the newest day.
    return from_micros(micros - 1).date()


def _cells(source: dict[str, Any]) -> tuple[str, ...]:
    names = ("source", "type", "state", "last_success_at", "newest_day", "rows", "rejected_rows", "failed_files", "requests")
    cells = ["" if source[name] is None else str(source[name]) for name in names]
    return (*cells, dollars(source["request_cost_today_usd"]), dollars(source["request_cost_usd"]))


def _first(messages: Sequence[str]) -> str:
    more = f" (and {len(messages) - 1} more: `costwarden rejected`)" if len(messages) > 1 else ""
    return f"{messages[0]}{more}" if messages else ""
