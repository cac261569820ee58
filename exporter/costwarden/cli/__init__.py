"""The command line: one file a command group, loaded when it is called, so that `--help` starts at once."""

import importlib
import sys
from typing import NoReturn

import click

from costwarden import __version__

COMMANDS = {
    "serve": ("costwarden.cli.serve", "serve", "Run the server: API, metrics, sources, remediation."),
    "check-config": ("costwarden.cli.check_config", "check_config", "Check a configuration file."),
    "status": ("costwarden.cli.status", "status", "Show spend, budgets, sources and remediation at a glance."),
    "sources": ("costwarden.cli.sources", "sources", "List the sources: state, freshness, dollars spent on requests."),
    "source": ("costwarden.cli.source", "source", "Try a source, or read its past."),
    "breakdown": ("costwarden.cli.breakdown", "breakdown", "Break cost down by service, region, team and so on."),
    "attribution": ("costwarden.cli.attribution", "attribution", "Show how much of the cost has an owner, and try other rules."),
    "budget": ("costwarden.cli.budget", "budget", "Set, show, list, apply, export, reset and delete AI budgets."),
    "rerate": ("costwarden.cli.rerate", "rerate", "Price recorded usage anew, and correct its cost."),
    "reconcile": ("costwarden.cli.reconcile", "reconcile", "Compare metered AI spend with bills, and correct the ledger by them."),
    "reservations": ("costwarden.cli.reservations", "reservations", "List what is set aside, and resolve what nobody settled."),
    "emergency-stop": ("costwarden.cli.emergency_stop", "emergency_stop", "Refuse every check of everybody, or end that."),
    "audit": ("costwarden.cli.audit", "audit", "Show who changed what and when."),
    "rejected": ("costwarden.cli.rejected", "rejected", "List the rows of bills that could not be read."),
    "remediate": ("costwarden.cli.remediate", "remediate", "List, show, approve and restore remediation runs."),
    "notifications": ("costwarden.cli.notifications", "notifications", "List, show and retry notifications, and try a receiver."),
    "backfill": ("costwarden.cli.backfill", "backfill", "Write the history of the ledger for Prometheus."),
    "cloudwatch": ("costwarden.cli.cloudwatch", "cloudwatch", "Show what is sent to CloudWatch; dashboard and alarms there."),
    "artifacts": ("costwarden.cli.artifacts", "artifacts", "Find, export and upgrade rules, dashboards, routes and scripts."),
}
"""Command -> module, name in it, help: a module is imported when its command is called."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="costwarden")
def cli() -> None:
    """costwarden keeps AI and cloud spending inside its budget."""


def main() -> NoReturn:
    """The program: exit code 0 done, 1 failed, 2 bad usage."""
    cli(prog_name="costwarden")
    sys.exit(0)
