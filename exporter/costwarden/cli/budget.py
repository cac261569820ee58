"""`costwarden budget`."""

from pathlib import Path
from typing import Any

import click

from costwarden.api.ai_budget import budget_answer
from costwarden.budgets.calls import Reset
from costwarden.budgets.rules import scope_of
from costwarden.budgets.settings import Scope
from costwarden.budgets.status import BudgetStatus, budget_statuses
from costwarden.budgets.store import BudgetIsConfigured, drop_budget, store_budget
from costwarden.budgets.tiers import limited_budget
from costwarden.cli.amount import Amount
from costwarden.cli.budget_files import apply_file, export
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
from costwarden.model import DIMENSIONS, dollars, from_nanos


@click.group()
def budget() -> None:
    """Set, show, list, apply, export, reset and delete AI budgets."""


budget.add_command(apply_file)
budget.add_command(export)


@budget.command("set")
@config_option
@format_option
@click.option("--tenant", "tenant_id", default="", help="Tenant that it is for.")
@click.option("--provider", default="", help="Provider that it is for.")
@click.option("--model", default="", help="Model that it is for.")
@click.option("--operation", default="", help="Operation that it is for.")
@click.option("--report-type", default="", help="Report type that it is for.")
@click.option("--feature", default="", help="Feature that it is for.")
@click.option("--team", default="", help="Team that it is for.")
@click.option("--user", "user_id", default="", help="User that it is for.")
@click.option("--service", default="", help="Service that it is for.")
@click.option(
    "--period",
    type=click.Choice(["hour", "day", "week", "month", "total"]),
    default="month",
    show_default=True,
    help="What it is a limit on.",
)
@click.option("--limit", "limit", type=Amount(), help="Hard limit in dollars a period.")
@click.option("--tier", default="", help="Tier of the configuration whose limit it follows, instead of `--limit`.")
def set_(config_path: Path, output: str, period: str, limit: int | None, tier: str, **scope: str) -> None:
    """Give a budget to what the options name together, or change it; what none names is everything.

    A running server takes it over within a second.
    """
    config = load(config_path)
    try:
        made = limited_budget(
            config.budgets, scope_of(Scope(**{name: value for name, value in scope.items() if value})), period, limit, tier
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with open_ledger(config) as ledger:
        try:
            before = ledger.write(lambda connection: store_budget(connection, made, config.zone, now(), ACTOR))
        except BudgetIsConfigured as error:
            raise click.ClickException(str(error)) from None
        with ledger.read() as connection:
            status = next(found for found in budget_statuses(connection, config.zone, now()) if found.budget.budget == made.budget)
    if output == "json":
        print_json(budget_answer(status))
    else:
        was = "new" if before is None else f"was {dollars(from_nanos(before.limit))}"
        follows = f"tier `{made.tier}`, " if made.tier else ""
        limit_text = f"{dollars(from_nanos(made.limit))} a {period}"
        click.echo(f"{made.budget}: {limit_text} ({follows}{was}); spent so far {dollars(from_nanos(status.spent))}")


@budget.command()
@config_option
@format_option
@click.argument("name")
def show(config_path: Path, output: str, name: str) -> None:
    """Show the budget NAME."""
    config = load(config_path)
    with open_ledger(config) as ledger, ledger.read() as connection:
        found = [status for status in budget_statuses(connection, config.zone, now()) if status.budget.budget == name]
    if not found:
        raise click.ClickException(f"there is no budget `{name}`; `costwarden budget list` names them")
    if output == "json":
        print_json(budget_answer(found[0]))
    else:
        print_table(name, ("", ""), [(key, _text(value)) for key, value in budget_answer(found[0]).items() if key != "budget"])


@budget.command("list")
@config_option
@format_option
@click.option("--tenant", "tenant_id", default=None, help="Only the budgets of this tenant.")
def list_(config_path: Path, output: str, tenant_id: str | None) -> None:
    """List all budgets with what they have spent."""
    config = load(config_path)
    with open_ledger(config) as ledger, ledger.read() as connection:
        statuses = budget_statuses(connection, config.zone, now(), tenant_id)
    if output == "json":
        print_json([budget_answer(status) for status in statuses])
    else:
        print_table(
            "", ("budget", ">limit", ">spent", ">reserved", ">unsettled", ">used", "status"), [budget_row(status) for status in statuses]
        )


@budget.command()
@config_option
@click.argument("name")
def delete(config_path: Path, name: str) -> None:
    """Remove the budget NAME; what has been spent stays recorded. A running server takes it over within a second."""
    config = load(config_path)
    with open_ledger(config) as ledger:
        try:
            ledger.write(lambda connection: drop_budget(connection, name, now(), ACTOR))
        except BudgetIsConfigured as error:
            raise click.ClickException(str(error)) from None
        except LookupError as error:
            raise click.ClickException(f"{error}; `costwarden budget list` names them") from None
    click.echo(f"{name}: removed")


@budget.command()
@config_option
@click.argument("name")
@reason_option
def reset(config_path: Path, name: str, reason: str) -> None:
    """Begin the current period of the budget NAME anew, at nothing spent.

    The calls stay recorded, and what is set aside stays set aside. A running server takes it over within a second.
    """
    reason = check_reason(reason)
    config = load(config_path)
    with open_engine(config) as (ledger, engine):
        with ledger.read() as connection:
            before = next((found for found in budget_statuses(connection, config.zone, now()) if found.budget.budget == name), None)
        if before is None or not ledger.writer.step_blocking(engine.reset, Reset(name, reason, ACTOR, now())):
            raise click.ClickException(f"there is no budget `{name}`; `costwarden budget list` names them")
    click.echo(f"{name}: spent begins at $0.00 again (was {dollars(from_nanos(before.spent))})")


BUDGET_COLUMNS = ("budget", ">limit", ">spent", ">reserved", ">unsettled", ">used", "status")


def budget_row(status: BudgetStatus) -> tuple[str, ...]:
    """A line of a table with `BUDGET_COLUMNS`."""
    amounts = (status.budget.limit, status.spent, status.reserved, status.unsettled)
    return (
        status.budget.budget,
        *(dollars(from_nanos(amount)) for amount in amounts),
        f"{budget_answer(status)['percentage_used']} %",
        status.status,
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={value[name]}" for name in DIMENSIONS if name in value) or "everything"
    return "" if value is None else str(value)
