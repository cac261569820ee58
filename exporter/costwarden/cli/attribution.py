"""`costwarden attribution`: how much of the cost has an owner, and what other rules would make of it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from costwarden.cli.attribution_try import try_rules
from costwarden.cli.breakdown import month_days
from costwarden.cli.options import config_option, format_option, load, now, open_ledger, print_json, print_table
from costwarden.ledger.attribution import attributed_costs
from costwarden.metrics.attribution import TARGETS, Coverage, month_bounds
from costwarden.metrics.attribution import coverage as coverage_of
from costwarden.model import dollars, exact_sum, from_micros

SPENDERS = ("provider", "account", "service")
"""What unattributed spend is listed by; their columns follow."""

_COLUMNS = ("provider_name", "sub_account_id", "service_name")


@click.group()
def attribution() -> None:
    """Show how much of the cost has an owner, and try other rules."""


attribution.add_command(try_rules)


@attribution.command()
@config_option
@format_option
@click.option("--month", help="A calendar month, as 2026-03.  [default: this month]")
@click.option("--target", "targets", multiple=True, type=click.Choice(TARGETS), help="May be repeated.  [default: all]")
@click.option("--provider", help="Only this provider, as `aws`; `kubernetes` also where another one bills the cluster.")
@click.option(
    "--top", type=click.IntRange(1), default=10, show_default=True, help="So many of the largest unattributed; the rest is one row."
)
def coverage(config_path: Path, output: str, month: str | None, targets: tuple[str, ...], provider: str | None, top: int) -> None:
    """Show which share of usage and purchases is attributed, and the largest spend that is not.

    Taxes, credits and adjustments are left out: they carry no tags that anybody could set.
    """
    config = load(config_path)
    basis = config.metrics.cost_basis
    first, last = month_days(month) if month else month_bounds(from_micros(now()).date())
    with open_ledger(config) as ledger, ledger.read() as connection:
        rows = attributed_costs(connection, basis, [*_COLUMNS, *TARGETS], first=first, last=last, provider=provider or "")
    covered = coverage_of(row[len(_COLUMNS) :] for row in rows)
    found = {target: _largest(rows, TARGETS.index(target), top) for target in targets or TARGETS}
    if output == "json":
        total = exact_sum([row[-1] for row in rows])
        answers = [_answer(target, covered[target], largest) for target, largest in found.items()]
        print_json({"first_day": first, "last_day": last, "basis": basis, "total_usd": total, "targets": answers})
    elif not rows:
        click.echo(f"no usage or purchases from {first} to {last}")
    else:
        _print(basis, (first, last), covered, found)


def _largest(rows: Sequence[tuple[Any, ...]], target: int, top: int) -> list[tuple[tuple[str, ...], Decimal]]:
    """The dearest without the target; what is beyond `top` is the last row, of `other`."""
    sums: dict[tuple[str, ...], list[Decimal]] = defaultdict(list)
    for row in rows:
        if not row[len(_COLUMNS) + target]:
            sums[row[: len(_COLUMNS)]].append(row[-1])
    found = sorted(((key, exact_sum(costs)) for key, costs in sums.items()), key=lambda one: (-one[1], one[0]))
    if len(found) <= top:
        return found
    return [*found[:top], (("other",) * len(_COLUMNS), exact_sum([cost for _, cost in found[top:]]))]


def _answer(target: str, covered: Coverage, largest: Sequence[tuple[tuple[str, ...], Decimal]]) -> dict[str, Any]:
    return {
        "target": target,
        "ratio": None if covered.ratio is None else round(covered.ratio, 6),
        "attributed_usd": covered.total - covered.unattributed,
        "unattributed_usd": covered.unattributed,
        "largest_unattributed": [{**dict(zip(SPENDERS, key, strict=True)), "cost_usd": cost} for key, cost in largest],
    }


def _print(
    basis: str,
    days: tuple[date, date],
    covered: dict[str, Coverage],
    found: dict[str, list[tuple[tuple[str, ...], Decimal]]],
) -> None:
    rows = [
        (target, percent(one.ratio), dollars(one.total - one.unattributed), dollars(one.unattributed))
        for target in found
        for one in (covered[target],)
    ]
    print_table(
        f"usage and purchases ({basis}), {days[0]} to {days[1]}: {dollars(next(iter(covered.values())).total)}",
        ("target", ">attributed", ">dollars", ">unattributed"),
        rows,
    )
    for target, largest in found.items():
        if not largest:
            continue
        click.echo()
        unattributed = covered[target].unattributed
        table = [
            (*(cell or "(none)" for cell in key), dollars(cost), percent(cost / unattributed if unattributed else None))
            for key, cost in largest
        ]
        print_table(f"without a {target}", (*SPENDERS, ">cost", ">share"), table)


def percent(ratio: Decimal | None) -> str:
    """`12.3 %`; empty for none."""
    return "" if ratio is None else f"{ratio * 100:.1f} %"
