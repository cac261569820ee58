"""`costwarden budget apply` and `costwarden budget export`: budgets in a file that can be kept under version control."""

from pathlib import Path
from typing import Any

import click
import yaml

from costwarden.budgets.apply import (
    ORIGIN,
    Change,
    ChangedMeanwhile,
    apply_changes,
    budget_entry,
    file_entry,
    plan_changes,
    read_budget_file,
)
from costwarden.budgets.store import BudgetIsConfigured, budget_of
from costwarden.cli.options import config_option, load, now, open_ledger, print_csv, print_json
from costwarden.ledger.budgets import read_budgets
from costwarden.strict_yaml import YamlError

KINDS = ("new", "changed", "unchanged", "removed")


@click.command("apply")
@config_option
@click.option(
    "-f", "--file", "file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="YAML file with a list of budgets."
)
@click.option(
    "--manifest",
    default="",
    help="Name of the file's set of budgets: `--prune` removes only those that were applied under the same one.",
)
@click.option("--prune", is_flag=True, help="Remove what was applied before and is no longer in the file.")
@click.option("--dry-run", is_flag=True, help="Print the differences and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--format", "output", type=click.Choice(["text", "csv", "json"]), default="text", show_default=True, help="How to print differences."
)
def apply_file(config_path: Path, file: Path, manifest: str, prune: bool, dry_run: bool, yes: bool, output: str) -> None:
    """Make the ledger have the budgets of a file: prints what differs, asks, and does all of it or nothing.

    Budgets that no file made stay, unless the file names them: then they are the file's from now on. A second time changes nothing.
    """
    config = load(config_path)
    origin = f"{ORIGIN}:{manifest}" if manifest else ORIGIN
    try:
        wanted = read_budget_file(file, config.budgets, {playbook.name for playbook in config.remediation.playbooks}, origin)
    except YamlError as error:
        raise click.ClickException(str(error)) from None
    with open_ledger(config) as ledger:
        with ledger.read() as connection:
            try:
                planned = plan_changes(read_budgets(connection), wanted, origin=origin, prune=prune)
            except BudgetIsConfigured as error:
                raise click.ClickException(f"{file}: {error}") from None
        _print(planned, output)
        if dry_run or all(change.kind == "unchanged" for change in planned):
            return
        if not yes:
            if output != "text":
                raise click.UsageError(f"with `--format {output}` nobody can be asked: add `--yes` or `--dry-run`")
            click.confirm("apply this?", abort=True, err=True)
        try:
            ledger.write(
                lambda connection: apply_changes(connection, planned, wanted, origin=origin, prune=prune, zone=config.zone, now=now())
            )
        except ChangedMeanwhile as error:
            raise click.ClickException(str(error)) from None
    if output == "text":
        click.echo("applied")


def _print(planned: list[Change], output: str) -> None:
    if output == "json":
        print_json([_answer(change) for change in planned])
        return
    if output == "csv":
        rows = [(change.kind, change.budget, *cells) for change in planned for cells in list(change.differences()) or [("", "", "")]]
        print_csv(("change", "budget", "key", "before", "after"), rows)
        return
    signs = {"new": "+", "changed": "~", "removed": "-"}
    for change in planned:
        if change.kind == "unchanged":
            continue
        click.echo(f"{signs[change.kind]} {change.budget}")
        for key, before, after in change.differences() if change.kind != "removed" else ():
            if change.kind == "changed":
                click.echo(f"    {key}: {before or 'none'} -> {after or 'none'}")
            elif after and key != "name":
                click.echo(f"    {key}: {after}")
    click.echo(", ".join(f"{sum(change.kind == kind for change in planned)} {kind}" for kind in KINDS))


def _answer(change: Change) -> dict[str, Any]:
    return {
        "change": change.kind,
        "budget": change.budget,
        "before": budget_entry(change.before) or None,
        "after": budget_entry(change.after) or None,
    }


@click.command()
@config_option
@click.option("--tenant", "tenant_id", default=None, help="Only the budgets of this tenant.")
@click.option("--origin", default=None, help="Only the budgets of this origin: `api`, `default`, `apply` or `apply:MANIFEST`.")
def export(config_path: Path, tenant_id: str | None, origin: str | None) -> None:
    """Print budgets as `costwarden budget apply` takes them; those of the configuration file, which stand there, are left out."""
    config = load(config_path)
    with open_ledger(config) as ledger, ledger.read() as connection:
        rows = read_budgets(connection, tenant_id)
    found = [budget_of(row) for row in rows if row.origin != "config" and origin in (None, row.origin)]
    entries = [file_entry(budget, config.budgets) for budget in found]
    click.echo(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=140), nl=False)
