"""`costwarden reservations`."""

from pathlib import Path
from typing import Any

import click

from costwarden.api.routes import time_answer
from costwarden.budgets.calls import Resolve
from costwarden.budgets.rules import describe_scope
from costwarden.cli.amount import Amount
from costwarden.cli.options import (
    ACTOR,
    check_reason,
    config_option,
    format_option,
    load,
    now,
    open_engine,
    open_ledger,
    print_json,
    print_table,
    reason_option,
)
from costwarden.ledger.budgets import RESERVATION_COLUMNS, list_reservations
from costwarden.model import DIMENSIONS, dollars, from_nanos


@click.group()
def reservations() -> None:
    """List what is set aside, and resolve what nobody settled."""


@reservations.command("list")
@config_option
@format_option
@click.option("--state", type=click.Choice(["open", "unsettled"]), default=None, help="Only reservations in this state.")
@click.option("--tenant", "tenant_id", default=None, help="Only those of this tenant.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many.")
def list_(config_path: Path, output: str, state: str | None, tenant_id: str | None, limit: int) -> None:
    """List reservations that are not settled, by id."""
    config = load(config_path)
    with open_ledger(config) as ledger, ledger.read() as connection:
        found = list_reservations(connection, state=state or "", tenant_id=tenant_id, limit=limit)
    answers = [_answer(dict(zip(RESERVATION_COLUMNS, row, strict=True))) for row in found]
    if output == "json":
        print_json(answers)
        return
    columns = ("reservation", "kind", "state", "created", "expires", ">set aside", ">settled", "call")
    print_table("", columns, [_row(answer) for answer in answers])
    if len(answers) == limit:
        click.echo(f"at most {limit} are shown; `--limit` shows more")


def _answer(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "reservation_id": found["reservation_id"],
        "kind": found["kind"],
        "state": found["state"],
        "event_id": found["event_id"] or None,
        "created_at": time_answer(found["created_at"]),
        "expires_at": time_answer(found["expires_at"]),
        "set_aside_usd": from_nanos(found["estimate"]),
        "settled_usd": from_nanos(found["settled"]),
        **describe_scope(tuple(found[name] for name in DIMENSIONS)),
    }


def _row(answer: dict[str, Any]) -> tuple[str, ...]:
    call = ", ".join(f"{name}={answer[name]}" for name in DIMENSIONS if name in answer)
    texts = [str(answer[name] or "") for name in ("reservation_id", "kind", "state", "created_at", "expires_at")]
    return (*texts, dollars(answer["set_aside_usd"]), dollars(answer["settled_usd"]), call)


@reservations.command()
@config_option
@click.argument("reservation_id")
@click.option("--cost", type=Amount(), required=True, help="What the call cost in dollars; 0 where it was never made.")
@reason_option
def resolve(config_path: Path, reservation_id: str, cost: int, reason: str) -> None:
    """End the reservation RESERVATION_ID with what its call has cost. A running server takes it over within a second."""
    reason = check_reason(reason)
    config = load(config_path)
    with open_engine(config) as (ledger, engine):
        settled = ledger.writer.step_blocking(engine.resolve, Resolve(reservation_id, cost, reason, ACTOR, now()))
    if settled is None:
        raise click.ClickException(
            f"there is no reservation `{reservation_id}`: it is settled already, or never was; `costwarden reservations list` has them"
        )
    if settled.refused:
        raise click.ClickException("nothing was recorded: the sum would be more than the ledger can hold")
    click.echo(f"{reservation_id}: resolved at {dollars(from_nanos(cost))}")
