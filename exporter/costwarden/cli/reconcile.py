"""`costwarden reconcile`."""

from collections.abc import Sequence
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from costwarden.budgets.engine import Engine
from costwarden.cli.options import ACTOR, config_option, load, now, open_ledger, print_csv, print_json, print_table, printable
from costwarden.model import dollars, exact_sum, from_micros, from_nanos
from costwarden.reconciliation.apply import Applied, Reconciler, Wish
from costwarden.reconciliation.lines import Day, capture_ratio, finding, split_residual, tokens
from costwarden.reconciliation.reading import LeftOut, Reconciliation, read_reconciliation
from costwarden.reconciliation.settings import ReconciledProvider, ReconciliationSettings

COLUMNS = (
    "provider",
    "day",
    "billed_usd",
    "metered_usd",
    "corrected_usd",
    "residual_usd",
    "capture_ratio",
    "unsettled_usd",
    "unsettled_reservations",
    "not_compared_usd",
)

LINES_SHOWN = 30
"""Lines that the text shows; `--format json` has them all."""


@click.command()
@config_option
@click.option("--format", "output", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True, help="What to print.")
@click.option("--provider", "names", multiple=True, help="Only this provider, as `openai`; may be repeated.")
@click.option("--month", help="A calendar month, as 2026-03.")
@click.option(
    "--days", type=click.IntRange(1, 1000), help="The last so many days that are old enough.  [default: reconciliation.window_days]"
)
@click.option("--apply", "apply_", is_flag=True, help="Resolve unsettled reservations by the bill, and record the rest as corrections.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reconcile(config_path: Path, output: str, names: tuple[str, ...], month: str | None, days: int | None, apply_: bool, yes: bool) -> None:
    """Compare metered AI spend with what the providers have billed, by day (UTC) and by line of the bill.

    Only days that the bill has whole are compared. `--apply` makes the ledger agree with it: nothing is overwritten, and doing it twice
    changes nothing. Exit code 1 where a day could not be reconciled.
    """
    config = load(config_path)
    settings: ReconciliationSettings = config.reconciliation
    chosen = _chosen(settings, names)
    today = from_micros(now()).date()
    first, last = _range(settings, today, month, days)
    if yes and not apply_:
        raise click.UsageError("`--yes` goes with `--apply`")
    engine = Engine(config.enforced_budgets, config.zone, now)
    reconciler = Reconciler(engine, settings, now)
    with open_ledger(config, reconciler) as ledger:
        with ledger.read() as connection:
            found = read_reconciliation(connection, settings, chosen, first, last, today)
        planned = [day for day in found.days if day.to_record or day.unsettled]
        asks = bool(apply_ and planned and not yes)
        if asks and output != "text":
            raise click.UsageError(f"with `--format {output}` nobody can be asked: add `--yes`, or leave out `--apply`")
        if output == "text":
            _print(found, settings, first, last)
            _print_plan(planned, apply=apply_)
        if asks:
            click.confirm("apply this?", abort=True, err=True)
        applied: list[Applied] = []
        if apply_:
            wishes = [Wish(day.provider, day.day, ACTOR, now()) for day in sorted(planned, key=lambda day: (day.day, day.provider))]
            applied += [ledger.writer.step_blocking(reconciler.reconcile, wish) for wish in wishes]
            with ledger.read() as connection:
                found = read_reconciliation(connection, settings, chosen, first, last, today)
    if output == "json":
        print_json(_answer(found, settings, first, last, applied))
    elif output == "csv":
        rows = [(*map(_plain, _cells(day)), "") for day in found.days]
        rows += [(left.provider, str(left.day), *[""] * (len(COLUMNS) - 2), left.reason) for left in found.left_out]
        print_csv((*COLUMNS, "left_out"), rows)
    elif apply_ and planned:
        _print_applied(applied)
    refused = [result for result in applied if result.refused]
    for result in refused:
        click.echo(printable(f"{result.provider} {result.day}: not reconciled: {result.refused}"), err=True)
    if refused:
        raise click.exceptions.Exit(1)


def _chosen(settings: ReconciliationSettings, names: Sequence[str]) -> list[ReconciledProvider]:
    known = {entry.provider: entry for entry in settings.providers}
    for name in names:
        if name not in known:
            have = ", ".join(f"`{entry}`" for entry in known) or "none"
            raise click.BadParameter(f"there is no `{name}` under `reconciliation.providers`, which has {have}", param_hint="'--provider'")
    return [entry for name, entry in known.items() if not names or name in names]


def _range(settings: ReconciliationSettings, today: date, month: str | None, days: int | None) -> tuple[date, date]:
    if days is not None and month is not None:
        raise click.UsageError("give --days or --month, not both")
    newest = today - timedelta(days=settings.lag_days)
    if month is None:
        return newest - timedelta(days=(days or settings.window_days) - 1), newest
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise click.UsageError(f"--month {month!r} is not a month as 2026-03") from None
    if first > today:
        raise click.UsageError(f"--month {month} has not begun")
    # Of a month that runs, the days that have begun; those that are too young are named as left out.
    return first, min(today, (first + timedelta(days=31)).replace(day=1) - timedelta(days=1))


# --- answers -------------------------------------------------------------------------------------------------------------------


def _cells(day: Day) -> tuple[Any, ...]:
    """In the order of `COLUMNS`."""
    unsettled = from_nanos(sum(estimate for _, estimate in day.unsettled))
    money = (day.billed, from_nanos(day.metered), from_nanos(day.corrected), day.residual)
    return (day.provider, day.day, *money, day.capture_ratio, unsettled, len(day.unsettled), day.not_compared)


def _plain(value: Any) -> str:
    return "" if value is None else format(value, "f") if hasattr(value, "as_tuple") else str(value)


def _totals(days: Sequence[Day]) -> dict[str, Any]:
    billed, metered = exact_sum([day.billed for day in days]), from_nanos(sum(day.metered for day in days))
    return {
        "days": len(days),
        "billed_usd": billed,
        "metered_usd": metered,
        "corrected_usd": from_nanos(sum(day.corrected for day in days)),
        "residual_usd": exact_sum([day.residual for day in days]),
        "capture_ratio": capture_ratio(metered, billed),
        "unsettled_usd": from_nanos(sum(estimate for day in days for _, estimate in day.unsettled)),
        "not_compared_usd": exact_sum([day.not_compared for day in days]),
    }


def _lines(found: Reconciliation) -> list[dict[str, Any]]:
    return [
        {
            "provider": line.provider,
            "line": line.name,
            "billed_usd": line.billed,
            "metered_usd": from_nanos(line.metered),
            "residual_usd": line.residual,
            "requests": line.requests,
            "reported_tokens": line.reported_tokens,
            "metered_tokens": line.metered_tokens,
            "finding": finding(line, bill_tells_models=line.provider in found.billed_by_model),
        }
        for line in found.lines
    ]


def _answer(found: Reconciliation, settings: ReconciliationSettings, first: date, last: date, applied: Sequence[Applied]) -> dict[str, Any]:
    return {
        "first_day": first,
        "last_day": last,
        "basis": settings.cost_basis,
        "totals": {name: _totals(list(days)) for name, days in groupby(found.days, key=lambda day: day.provider)},
        "days": [dict(zip(COLUMNS, _cells(day), strict=True)) for day in found.days],
        "lines": _lines(found),
        "left_out": [{"provider": left.provider, "day": left.day, "reason": left.reason} for left in found.left_out],
        "unassigned": [
            {"model": stray.model, "usd": from_nanos(stray.nanos), "unsettled_reservations": stray.reservations}
            for stray in found.unassigned
        ],
        "applied": [
            {
                "provider": result.provider,
                "day": result.day,
                "billed_usd": result.billed,
                "recorded_before_usd": from_nanos(result.recorded_before),
                "settled": {name: from_nanos(cost) for name, cost in result.settled.items()},
                "correction_usd": from_nanos(result.correction),
                "refused": result.refused,
            }
            for result in applied
        ],
    }


# --- text ----------------------------------------------------------------------------------------------------------------------


def _print(found: Reconciliation, settings: ReconciliationSettings, first: date, last: date) -> None:
    rows = []
    for name, days in groupby(found.days, key=lambda day: day.provider):
        of_one = list(days)
        rows += [_row(day) for day in of_one]
        total = _totals(of_one)
        amounts = (dollars(total[f"{what}_usd"]) for what in ("billed", "metered", "corrected", "residual"))
        rows.append((name, f"{total['days']} days", *amounts, _percent(total["capture_ratio"]), dollars(total["unsettled_usd"])))
    columns = ("provider", "day", ">billed", ">metered", ">corrected", ">residual", ">captured", ">unsettled")
    print_table(f"{settings.cost_basis} against metered AI spend, {first} to {last} (UTC)", columns, rows)
    if found.lines:
        lines = _lines(found)
        click.echo()
        title = "by line" if len(lines) <= LINES_SHOWN else f"by line, the first {LINES_SHOWN} of {len(lines)}"
        names = ("provider", "line", ">billed", ">metered", ">residual", ">tokens reported", ">metered", "finding")
        print_table(title, names, [_line_row(line) for line in lines[:LINES_SHOWN]])
    for day in found.days:
        if day.not_compared:
            click.echo(f"{day.provider} {day.day}: {dollars(day.not_compared)} of credits, taxes and the like is not compared")
    for text in _left_out(found.left_out):
        click.echo(printable(text))
    for stray in found.unassigned:
        model = printable(f"the model `{stray.model}`") if stray.model else "no model"
        if stray.reservations:
            which = printable(", ".join(stray.reservations))
            click.echo(f"{dollars(from_nanos(stray.nanos))} unsettled of {model} names no provider and is left alone: {which}")
        else:
            click.echo(f"{dollars(from_nanos(stray.nanos))} of usage of {model} names no provider: it is compared with no bill")


def _row(day: Day) -> tuple[str, ...]:
    provider, when, *money, ratio, unsettled, _, _ = _cells(day)
    return (provider, str(when), *map(dollars, money), _percent(ratio), dollars(unsettled) if day.unsettled else "")


def _line_row(line: dict[str, Any]) -> tuple[str, ...]:
    money = (line["billed_usd"], line["metered_usd"], line["residual_usd"])
    reported = "" if line["reported_tokens"] is None else f"{tokens(line['reported_tokens']):,}"
    counted = tokens(line["metered_tokens"])
    cells = ["" if amount is None else dollars(amount) for amount in money]
    return (line["provider"], line["line"], *cells, reported, f"{counted:,}" if counted else "", line["finding"])


def _percent(ratio: Any) -> str:
    return "" if ratio is None else f"{ratio * 100:.2f} %"


def _left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """One line for days in a row that are left out for the same reason."""
    runs: list[list[LeftOut]] = []
    for left in left_out:
        last = runs[-1][-1] if runs else None
        follows = last is not None and left.day - last.day == timedelta(days=1)
        if last is not None and follows and (left.provider, left.reason) == (last.provider, last.reason):
            runs[-1].append(left)
        else:
            runs.append([left])
    return [f"left out: {run[0].provider} {run[0].day}{f' to {run[-1].day}' if len(run) > 1 else ''}: {run[0].reason}" for run in runs]


def _print_plan(planned: Sequence[Day], *, apply: bool) -> None:
    if not planned:
        if apply:
            click.echo("nothing to reconcile")
        return
    splits = [split_residual(day.to_record, day.unsettled) for day in planned]
    costs = [cost for split in splits for cost in split.settled.values()]
    correction = from_nanos(sum(split.correction for split in splits))
    corrections = sum(1 for split in splits if split.correction)
    settled = sum(1 for cost in costs if cost)
    click.echo(
        f"{'' if apply else 'Nothing is changed yet: '}`--apply` records {corrections} corrections, "
        f"{dollars(correction)} together, settles {settled} reservations at {dollars(from_nanos(sum(costs)))} and releases "
        f"{len(costs) - settled}."
    )


def _print_applied(applied: Sequence[Applied]) -> None:
    costs = [cost for result in applied for cost in result.settled.values()]
    settled = sum(1 for cost in costs if cost)
    click.echo(
        f"{sum(1 for result in applied if result.correction)} corrections recorded, "
        f"{dollars(from_nanos(sum(result.correction for result in applied)))} together; {settled} reservations settled at "
        f"{dollars(from_nanos(sum(costs)))}, {len(costs) - settled} released."
    )
