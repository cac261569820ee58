"""`costwarden breakdown`."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from costwarden.cli.options import config_option, format_option, load, now, open_ledger, print_json, print_table, printable
from costwarden.ledger import Connection
from costwarden.ledger.charges import breakdown as break_down
from costwarden.ledger.figures import newest_days
from costwarden.model import ALLOCATED, dollars, exact_sum, from_micros

BY = {
    "provider": "provider_name",
    "service": "service_name",
    "service_category": "service_category",
    "region": "region_id",
    "billing_account": "billing_account_id",
    "account": "sub_account_id",
    "charge_category": "charge_category",
    "currency": "billing_currency",
    "team": "team",
    "feature": "feature",
    "tenant": "tenant_id",
    "environment": "environment",
    "source": "source",
    "file": "part",
    "day": "charge_date",
}
"""What cost can be broken down by -> its column."""

BASES = ("billed_cost", "effective_cost", "list_cost", "contracted_cost")


@click.command()
@config_option
@format_option
@click.option("--by", multiple=True, type=click.Choice(list(BY)), default=("service",), show_default=True, help="May be repeated.")
@click.option("--days", type=click.IntRange(1, 36_500), help="The last so many days, today included.  [default: this month]")
@click.option("--month", help="A calendar month, as 2026-03.")
@click.option("--provider", help="Only this provider, as `aws`.")
@click.option("--basis", type=click.Choice(BASES), help="Which cost.  [default: metrics.cost_basis]")
@click.option("--top", type=click.IntRange(1), help="Only so many rows; the rest becomes one row `other`.")
def breakdown(
    config_path: Path,
    output: str,
    by: tuple[str, ...],
    days: int | None,
    month: str | None,
    provider: str | None,
    basis: str | None,
    top: int | None,
) -> None:
    """Break the cost of bills down, in dollars, the dearest first."""
    config = load(config_path)
    first, last = _range(days, month)
    basis = basis or config.metrics.cost_basis
    where = {"provider_name": provider} if provider else {}
    # Of one provider alone nothing counts twice.
    allocated = provider is not None
    with open_ledger(config) as ledger, ledger.read() as connection:
        rows = break_down(connection, basis, [BY[name] for name in by], first=first, last=last, where=where, allocated=allocated)
        left_out = [] if allocated else _allocated(connection, basis, first, last)
        newest = max(newest_days(connection, date.max).values(), default=None)
    total = exact_sum([row[-1] for row in rows])
    if top is not None and len(rows) > top:
        rest = exact_sum([row[-1] for row in rows[top:]])
        rows = [*rows[:top], (*["other"] * len(by), rest)]
    if output == "json":
        items = [{**dict(zip(by, row[:-1], strict=True)), "cost_usd": row[-1]} for row in rows]
        answer = {"first_day": first, "last_day": last, "basis": basis, "total_usd": total, "rows": items}
        print_json({**answer, "left_out_allocated_usd": dict(left_out)})
        return
    if not rows and not left_out:
        there_is = "no bill has been read yet" if newest is None else f"the newest day in the bills is {newest}"
        click.echo(f"no cost from {first} to {last}; {there_is}")
        return
    if rows:
        _print(f"{basis}, {first} to {last}", by, rows, total)
    for name, cost in left_out:
        sentence = f"left out: {dollars(cost)} of {name}, which stand in another provider's bill too; `--provider {name}` shows them"
        click.echo(printable(sentence))


def _allocated(connection: Connection, basis: str, first: date, last: date) -> list[tuple[str, Decimal]]:
    """(provider, dollars) of what another provider bills."""
    where = {"charge_category": ALLOCATED}
    found = break_down(connection, basis, ["provider_name"], first=first, last=last, where=where, allocated=True)
    return [(name, cost) for name, cost in found]


def _print(title: str, by: Sequence[str], rows: Sequence[tuple[Any, ...]], total: Decimal) -> None:
    table = [(*(str(cell) or "(none)" for cell in row[:-1]), dollars(row[-1]), _share(row[-1], total)) for row in rows]
    table.append((*["total"], *[""] * (len(by) - 1), dollars(total), ""))
    print_table(title, (*by, ">cost", ">share"), table)


def _range(days: int | None, month: str | None) -> tuple[date, date]:
    today = from_micros(now()).date()
    if days is not None and month is not None:
        raise click.UsageError("give --days or --month, not both")
    if days is not None:
        return today - timedelta(days=days - 1), today
    return (today.replace(day=1), today) if month is None else month_days(month)


def month_days(month: str) -> tuple[date, date]:
    """First and last day of `month`, as 2026-03; ends the program where it is none."""
    try:
        first = date.fromisoformat(f"{month}-01")
        return first, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    # OverflowError: no month follows the last one that there is.
    except (ValueError, OverflowError):
        raise click.UsageError(f"--month {month!r} is not a month as 2026-03") from None


def _share(cost: Decimal, total: Decimal) -> str:
    return f"{cost * 100 / total:.1f} %" if total else ""
