"""`costwarden artifacts`: rules, dashboards, routes and scripts that ship beside the package."""

from pathlib import Path

import click

from costwarden.artifacts import ArtifactError, artifact_path, artifacts_root, export_artifacts, list_artifacts
from costwarden.cli.options import format_option, print_json


@click.group()
def artifacts() -> None:
    """Find and export rules, dashboards, routes and scripts."""


@artifacts.command("list")
@format_option
def list_(output: str) -> None:
    """List every file that ships."""
    try:
        names = [str(path) for path in list_artifacts()]
    except ArtifactError as error:
        raise click.ClickException(str(error)) from None
    if output == "json":
        print_json(names)
    else:
        click.echo("\n".join(names))


@artifacts.command()
@click.argument("name", required=False)
def path(name: str | None) -> None:
    """Print where a file or folder that ships stands (`alerts`, `scripts/shutdown`); without NAME, where all do."""
    try:
        click.echo(artifact_path(name) if name else artifacts_root())
    except ArtifactError as error:
        raise click.ClickException(str(error)) from None


@artifacts.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--force", is_flag=True, help="Overwrite files that were changed.")
def export(directory: Path, force: bool) -> None:
    """Copy everything that ships into DIRECTORY; a file that was changed there is kept unless --force."""
    try:
        written = export_artifacts(directory, force=force)
    except ArtifactError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{directory}: {len(written)} files written")
