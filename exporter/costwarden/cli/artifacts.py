"""`costwarden artifacts`: rules, dashboards, routes, scripts and documents that ship beside the package."""

import tempfile
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

import click

from costwarden import __version__
from costwarden.artifacts import ArtifactError, artifact_path, artifacts_root, export_artifacts, list_artifacts, shipped_files
from costwarden.artifacts.exported import RECORD, Change, Export, apply_changes, difference, read_record, upgrade_changes, values_in
from costwarden.artifacts.files import VALUES
from costwarden.cli.options import format_option, print_json, printable

MEANS = {
    "changed": "changed by the upgrade; you have left it alone",
    "merged": "changed by the upgrade and by you, at different places",
    "conflict": "changed by the upgrade and by you, at the same place",
    "open": "the conflict of an earlier upgrade is open: settle it, then remove {new}",
    "added": "new",
    "removed": "not shipped any more; you have left it alone",
    "edited": "edited by you; the upgrade does not touch it",
    "deleted": "deleted by you; it stays away",
}
"""What becomes of a file, in words; {new} is where this version's text lies."""

values_option = click.option(
    "--values",
    "values_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your receivers and addresses (alertmanager/values.yaml explains them); routes and rules are rendered for them.",
)
directory_argument = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def artifacts() -> None:
    """Find, export and upgrade rules, dashboards, routes, scripts and their documents."""


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
@directory_argument
@values_option
@click.option("--force", is_flag=True, help="Overwrite files that were changed.")
def export(directory: Path, values_path: Path | None, force: bool) -> None:
    """Copy everything that ships into DIRECTORY; a file that was changed there is kept unless --force.

    Values that were given to an earlier export into it, or edited there, hold until others are given.
    """
    try:
        record = read_record(directory) if (directory / RECORD).exists() else None
        text, files, source = _values(directory, record, values_path)
        written = export_artifacts(directory, files, values=text, force=force)
    except ArtifactError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{directory}: {len(written)} files written{f', for {source}' if source else ''}")


@artifacts.command()
@directory_argument
@values_option
@format_option
def diff(directory: Path, values_path: Path | None, output: str) -> None:
    """Show what an upgrade would change in an exported and edited copy.

    Exit code 1 where it would change anything or a conflict is open, 2 on trouble.

    Values are those in DIRECTORY/alertmanager/values.yaml, with your edits, unless given anew.
    """
    record, found, _, _ = _upgrade(directory, values_path)
    changes = [change for change in found if change.kind not in ("edited", "deleted")]
    if output == "json":
        print_json({"from": record.version, "to": __version__, "files": [_as_json(change) for change in found]})
    else:
        this = "" if record.version == __version__ else f", this is {__version__}"
        click.echo(f"{directory}: exported by costwarden {record.version}{this}")
        for change in found:
            click.echo(_told(change))
        for change in changes:
            click.echo(f"\n{difference(change)}", nl=False)
    raise SystemExit(1 if changes else 0)


@artifacts.command()
@directory_argument
@values_option
def upgrade(directory: Path, values_path: Path | None) -> None:
    """Bring an exported copy to this version and keep your edits; exit code 1 where they meet those of the upgrade.

    Of a file in which they do, your text stays and this version's is put beside it as FILE.new; the conflict is open until you remove that.

    Values are those in DIRECTORY/alertmanager/values.yaml, with your edits, unless given anew.
    """
    record, found, files, text = _upgrade(directory, values_path)
    try:
        apply_changes(directory, found, files, text)
    except ArtifactError as error:
        raise click.ClickException(str(error)) from None
    counts: Counter[str] = Counter(change.kind for change in found)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in MEANS if counts[kind]) or "nothing to do"
    # The values may be what has changed.
    versions = f"of {__version__}" if record.version == __version__ else f"from {record.version} to {__version__}"
    click.echo(f"{directory}: {versions}: {told}")
    conflicts = [change for change in found if change.kind in ("conflict", "open")]
    for change in conflicts:
        click.echo(_told(change) + (f": see {_new(change)}" if change.kind == "conflict" else ""), err=True)
    raise SystemExit(1 if conflicts else 0)


class Trouble(click.ClickException):
    """As of `diff`: 1 is a difference, 2 that there is no telling."""

    exit_code = 2


def _upgrade(directory: Path, values_path: Path | None) -> tuple[Export, list[Change], dict[PurePath, bytes], str]:
    """What was exported, what an upgrade does, this version's files, and the text of the values that they are rendered for."""
    try:
        record = read_record(directory)
        text, files, _ = _values(directory, record, values_path)
        return record, list(upgrade_changes(directory, record, files)), files, text
    except ArtifactError as error:
        raise Trouble(str(error)) from None
    except click.ClickException as error:
        raise Trouble(error.message) from None


def _values(directory: Path, record: Export | None, given: Path | None) -> tuple[str, dict[PurePath, bytes], str]:
    """The text of the values that hold in `directory`, this version's files for them, and whose they are where the command does not say."""
    if given:
        return _text(given), _files(given), ""
    own = values_in(directory, record, (artifacts_root() / VALUES).read_bytes())
    if own:
        return _text(own), _files(own), f"the values of {own}"
    text = record.values if record else ""
    return text, _files_of(text), "the values of the last export" if text else ""


def _text(values_path: Path) -> str:
    try:
        return values_path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{values_path}: cannot be read: {error}") from None


def _files_of(text: str) -> dict[PurePath, bytes]:
    """This version's files for the values that an export was made with."""
    if not text:
        return _files(None)
    with tempfile.TemporaryDirectory() as folder:
        values_path = Path(folder) / "values.yaml"
        values_path.write_bytes(text.encode())
        return _files(values_path)


def _files(values_path: Path | None) -> dict[PurePath, bytes]:
    from costwarden.artifacts.rendering import rendered_from
    from costwarden.artifacts.values import ValuesError

    try:
        root = artifacts_root()
        return shipped_files(root, rendered_from(values_path, root) if values_path else {})
    except (ArtifactError, ValuesError) as error:
        raise click.ClickException(str(error)) from None


def _told(change: Change) -> str:
    return f"{printable(change.path.as_posix())}: {MEANS[change.kind].format(new=_new(change))}"


def _new(change: Change) -> str:
    return printable(f"{change.path.name}.new")


def _as_json(change: Change) -> dict[str, Any]:
    return {"path": change.path.as_posix(), "kind": change.kind, "diff": difference(change)}
