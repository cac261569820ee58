"""`costwarden status`."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from costwarden.analytics.forecast import days_of_month
from costwarden.api.ai_budget import budget_answer
from costwarden.api.routes import time_answer
from costwarden.budgets.rules import period_bounds
from costwarden.budgets.status import budget_statuses
from costwarden.cli.budget import BUDGET_COLUMNS, budget_row
from costwarden.cli.options import config_option, format_option, load, now, open_ledger, print_json, print_table, printable
from costwarden.cli.sources import is_trouble, source_answers
from costwarden.ledger.budgets import read_suspended
from costwarden.ledger.charges import breakdown
from costwarden.ledger.remediation import queue_lengths
from costwarden.ledger.usage import spend_between
from costwarden.metrics.cloud import cloud_budgets_spent
from costwarden.metrics.settings import CloudBudget
from costwarden.model import DIMENSIONS, dollars, exact_sum, from_micros, from_nanos

TIGHTEST = 10
"""Budgets that the text shows; `costwarden budget list` has them all."""


@click.command()
@config_option
@format_option
def status(config_path: Path, output: str) -> None:
    """Show spend, budgets, sources and remediation at a glance. Exit code 1 where a source or a file of it fails, or is stale."""
    config = load(config_path)
    at = now()
    today = from_micros(at).date()
    # All of it, as budgets and the metrics have it: a fee may be dated ahead.
    first, end = days_of_month(today)
    with open_ledger(config) as ledger, ledger.read() as connection:
        cloud = breakdown(connection, config.metrics.cost_basis, ["provider_name"], first=first, last=end - timedelta(days=1))
        month = spend_between(connection, ("",) * len(DIMENSIONS), *period_bounds("month", at, config.zone))
        budgets = budget_statuses(connection, config.zone, at)
        suspended = read_suspended(connection)
        sources = source_answers(connection, config, at)
        spent = cloud_budgets_spent(connection, config.metrics.cost_basis, config.cloud_budgets, today)
        queue = queue_lengths(connection)
    budgets.sort(key=lambda found: budget_answer(found)["percentage_used"], reverse=True)
    answer: dict[str, Any] = {
        "cloud": {"month": f"{today:%Y-%m}", "total_usd": exact_sum([cost for _, cost in cloud]), "providers": dict(cloud)},
        "ai": {"month_usd": from_nanos(month.cost), "requests": month.requests},
        "cloud_budgets": [
            {
                "budget": budget.name,
                "monthly_limit_usd": budget.monthly_limit_usd,
                "spent_usd": cost,
                "percentage_used": _used(cost, budget),
            }
            for budget, cost in spent
        ],
        "budgets": [budget_answer(found) for found in budgets],
        "emergency_stop": suspended.pop("", None),
        "suspended_tenants": list(suspended.values()),
        "sources": sources,
        "remediation": {"mode": config.remediation.mode, "queue": queue},
    }
    if output == "json":
        print_json(answer)
    else:
        _print(answer, [budget_row(found) for found in budgets])
    if any(is_trouble(source) for source in sources):
        raise click.exceptions.Exit(1)


def _used(cost: Decimal, budget: CloudBudget) -> Decimal:
    return round(cost * 100 / budget.monthly_limit_usd, 2)


def _print(answer: dict[str, Any], budgets: list[tuple[str, ...]]) -> None:
    cloud, ai = answer["cloud"], answer["ai"]
    if stop := answer["emergency_stop"]:
        click.echo(printable(f"EMERGENCY STOP by {stop['actor']} since {time_answer(stop['suspended_at'])}: {stop['reason']}") + "\n")
    rows = [(f"cloud: {provider}", dollars(cost)) for provider, cost in cloud["providers"].items()]
    requests = "1 request" if ai["requests"] == 1 else f"{ai['requests']:,} requests"
    rows += [("cloud: total", dollars(cloud["total_usd"])), (f"AI: {requests}", dollars(ai["month_usd"]))]
    print_table(f"cost of {cloud['month']}", ("", ">"), rows)
    click.echo()
    print_table(
        "cloud budgets",
        ("budget", ">limit", ">spent", ">used"),
        [
            (found["budget"], dollars(found["monthly_limit_usd"]), dollars(found["spent_usd"]), f"{found['percentage_used']} %")
            for found in answer["cloud_budgets"]
        ],
    )
    click.echo()
    title = "AI budgets" if len(budgets) <= TIGHTEST else f"AI budgets, the {TIGHTEST} tightest of {len(budgets)}"
    print_table(title, BUDGET_COLUMNS, budgets[:TIGHTEST])
    for tenant in answer["suspended_tenants"]:
        click.echo(printable(f"suspended: {tenant['tenant_id']} ({tenant['reason']})"))
    click.echo()
    columns = ("source", "state", "last_success_at", "newest_day", "rows", "rejected_rows", "failed_files", "message")
    cells = [tuple("" if source[name] is None else str(source[name]) for name in columns) for source in answer["sources"]]
    print_table("sources", ("source", "state", "last success", "newest day", ">rows", ">rejected", ">files failed", "message"), cells)
    click.echo()
    waiting = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in answer["remediation"]["queue"].items() if count)
    click.echo(f"remediation: mode `{answer['remediation']['mode']}`; {waiting or 'nothing has come in'}")
