"""`costwarden remediate`: what playbooks have done, and what waits for a person."""

from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from costwarden.api.routes import journal_answer, run_answer
from costwarden.cli.options import config_option, format_option, load, now, open_ledger, print_json, print_table
from costwarden.config import ENVIRONMENT
from costwarden.ledger.journal import read_journal
from costwarden.ledger.remediation import list_runs, read_item, read_run
from costwarden.remediation.decisions import DecisionRefused, approve_run, close_run, reject_run, restore_run

ACTOR = "command line"


@click.group()
def remediate() -> None:
    """List, show, approve, reject and restore remediation runs."""


@remediate.command("list")
@config_option
@format_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many, newest first.")
@click.option("--state", default="", help="Only runs whose alert is in this state, as `awaiting_approval`.")
def list_(config_path: Path, output: str, limit: int, state: str) -> None:
    """List the newest runs."""
    with open_ledger(load(config_path)) as ledger, ledger.read() as connection:
        runs = [run_answer(run, item) for run, item in list_runs(connection, limit=limit, state=state)]
    if output == "json":
        print_json(runs)
        return
    columns = ("run", "playbook", "mode", "state", "outcome", "reason", ">targets", "started")
    rows = []
    for run in runs:
        cells = (run["run_id"], run["playbook"], run["mode"], run["alert"]["state"], run["outcome"], run["reason"], run["targets_count"])
        rows.append(tuple("" if cell is None else str(cell) for cell in (*cells, run["started_at"])))
    print_table("", columns, rows)


@remediate.command()
@config_option
@format_option
@click.argument("run_id")
def show(config_path: Path, output: str, run_id: str) -> None:
    """Show a run with its journal: each step, its time, and how to undo it."""
    with open_ledger(load(config_path)) as ledger, ledger.read() as connection:
        try:
            run = read_run(connection, run_id)
        except LookupError as error:
            raise click.ClickException(str(error)) from None
        answer = run_answer(run, read_item(connection, run.queue_id))
        journal = [journal_answer(entry) for entry in read_journal(connection, run_id)]
    if output == "json":
        print_json({**answer, "journal": journal})
        return
    print_table("", ("", ""), [(key, str(value)) for key, value in answer.items() if key != "alert" and value is not None])
    click.echo()
    print_table("", ("at", "step", "detail"), [(entry["at"] or "", entry["step"], str(entry["detail"])) for entry in journal])


def _decide(config_path: Path, run_id: str, decide: Callable[..., None], done: str) -> None:
    with open_ledger(load(config_path)) as ledger:
        try:
            decide(ledger, run_id, actor=ACTOR, now=now())
        except (LookupError, DecisionRefused) as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"{run_id}: {done}")


@remediate.command()
@config_option
@click.argument("run_id")
def approve(config_path: Path, run_id: str) -> None:
    """Let a run that waits act on the targets of its plan, and no others."""
    _decide(config_path, run_id, approve_run, "approved; the server acts within a second")


@remediate.command()
@config_option
@click.argument("run_id")
def reject(config_path: Path, run_id: str) -> None:
    """End a run that waits, without acting."""
    _decide(config_path, run_id, reject_run, "rejected")


@remediate.command()
@config_option
@click.argument("run_id")
def close(config_path: Path, run_id: str) -> None:
    """Say that you have looked after a run that a crash interrupted."""
    _decide(config_path, run_id, close_run, "closed")


@remediate.command()
@config_option
@format_option
@click.option("--apply", is_flag=True, help="Do it; without this the plan is shown.")
@click.argument("run_id")
def restore(config_path: Path, output: str, apply: bool, run_id: str) -> None:
    """Take back what a run did, by the undo record that was written before it acted."""
    config = load(config_path)
    with open_ledger(config) as ledger:
        try:
            restoring, result = restore_run(ledger, config.remediation, run_id, apply=apply, actor=ACTOR, environ=ENVIRONMENT, now=now)
        except (LookupError, DecisionRefused) as error:
            raise click.ClickException(str(error)) from None
    lines = [msgspec.to_builtins(line) for line in result.lines]
    if output == "json":
        print_json({"run_id": restoring, "exit_code": result.exit_code, "targets": lines})
    else:
        print_table("", ("target", "action", "result"), [(line["target"], line["action"], line["result"]) for line in lines])
        click.echo(f"{restoring}: restored" if apply else "this was the plan; --apply does it")
        if result.problem or result.stderr:
            click.echo(f"{result.problem}\n{result.stderr}".strip(), err=True)
    if result.exit_code != 0:
        raise click.exceptions.Exit(1)
