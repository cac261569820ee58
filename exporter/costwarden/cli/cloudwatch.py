"""`costwarden cloudwatch`: the dashboard and the alarms there, and what is sent."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from costwarden.api.routes import time_answer
from costwarden.cli.options import config_option, format_option, load, now, open_ledger, print_json
from costwarden.config import Config
from costwarden.ledger.sinks import busiest_operations, read_sink
from costwarden.model import dollars, from_nanos
from costwarden.sinks.cloudwatch import SINK
from costwarden.sinks.cloudwatch_artifacts import Change, apply_change, find_changes, left_over
from costwarden.sinks.settings import METRIC_MONTH_USD, CloudwatchSettings
from costwarden.sources.aws_session import AwsSession
from costwarden.sources.requests import Requests, SourceError

ALARM_MONTH_USD = Decimal("0.10")
"""A standard alarm on one metric (https://aws.amazon.com/cloudwatch/pricing/)."""


@click.group(invoke_without_command=True)
@click.pass_context
def cloudwatch(context: click.Context) -> None:
    """Show what is sent to CloudWatch, and the dashboard and alarms there; without a command, what `plan` shows."""
    if context.invoked_subcommand is None:
        context.invoke(plan)


@cloudwatch.command()
@config_option
@format_option
def plan(config_path: Path, output: str) -> None:
    """Show what `apply` would make or change. Nothing is written."""
    settings = _settings(load(config_path))
    _in_words(lambda: _show(_client(settings), settings, output))


@cloudwatch.command()
@config_option
@format_option
@click.option("--yes", is_flag=True, help="Really write; without it this is `plan`.")
def apply(config_path: Path, output: str, yes: bool) -> None:
    """Make the dashboard and the alarms as they are configured. Nothing is deleted."""
    settings = _settings(load(config_path))

    def run() -> None:
        client = _client(settings)
        changes = _show(client, settings, output)
        if not yes:
            if changes and output == "text":
                click.echo("Nothing is written yet: `costwarden cloudwatch apply --yes` does it.")
            return
        for change in changes:
            for warning in apply_change(client, settings, change):
                click.echo(f"warning: {change.kind} {change.name}: {warning}", err=True)
            if output == "text":
                click.echo(f"{change.kind} {change.name}: {'made' if change.is_new else 'changed'}")

    _in_words(run)


@cloudwatch.command()
@config_option
@format_option
def status(config_path: Path, output: str) -> None:
    """Show what was sent, what that has cost, and what the metrics there cost."""
    config = load(config_path)
    settings = _settings(config)
    with open_ledger(config) as ledger, ledger.read() as connection:
        state = read_sink(connection, SINK)
        pairs = busiest_operations(connection, settings.operations_limit)
    # Each pair has a metric for successes and one for failures, each provider has one, and there is one in all.
    metrics = 2 * len(pairs) + len({provider for provider, _ in pairs}) + 1
    content = {
        "enabled": settings.enabled,
        "namespace": settings.namespace,
        "last_success_at": time_answer(state.sent_at),
        "sent": state.sent,
        "not_sent": state.failed,
        "requests": state.requests,
        "request_cost_usd": from_nanos(state.request_cost),
        "metrics_at_most": metrics,
        "metrics_usd_a_month_at_most": metrics * METRIC_MONTH_USD,
        "message": state.message,
    }
    if output == "json":
        print_json(content)
        return
    at = now()
    click.echo(f"{settings.namespace}: {'sending' if settings.enabled else 'off'}" + (f"; {state.message}" if state.message else ""))
    click.echo(f"  {state.sent} data sent, {state.failed} never; last success {_ago(state.sent_at, at)}")
    click.echo(f"  {state.requests} requests, {dollars(from_nanos(state.request_cost))}")
    click.echo(f"  {metrics} metrics at most, {dollars(metrics * METRIC_MONTH_USD)} a month at most")


def _settings(config: Config) -> CloudwatchSettings:
    settings: CloudwatchSettings | None = config.cloudwatch
    if settings is None:
        raise click.ClickException("CloudWatch is not configured: the section `cloudwatch` is missing (docs/cloudwatch.md)")
    return settings


def _client(settings: CloudwatchSettings) -> Any:
    return AwsSession(settings.access, Requests()).client("cloudwatch")


def _in_words(run: Callable[[], object]) -> None:
    try:
        run()
    except SourceError as error:
        raise click.ClickException(str(error)) from None


def _show(client: Any, settings: CloudwatchSettings, output: str) -> list[Change]:
    changes = find_changes(client, settings)
    orphans = left_over(client, settings)
    if output == "json":
        print_json({"changes": changes, "not_configured": orphans})
        return changes
    for change in changes:
        click.echo(f"{'+' if change.is_new else '~'} {change.kind} {change.name}")
        for name, (before, after) in change.fields.items():
            if change.is_new:
                click.echo(f"    {name}: {_text(after)}")
            else:
                click.echo(f"    {name}: {_text(before)} -> {_text(after)}")
    for name in orphans:
        click.echo(f"  alarm {name} is there and not configured any more; costwarden deletes nothing")
    if not changes:
        click.echo("dashboard and alarms are as they are configured")
    return changes


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _ago(at: int, current: int) -> str:
    return "never" if not at else f"{(current - at) // 1_000_000} s ago"
