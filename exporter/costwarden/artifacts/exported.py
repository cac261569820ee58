"""An exported copy, and what was written into it: so that your edits can be told from what a newer version changes."""

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from pathlib import Path, PurePath
from typing import Literal

import msgspec

from costwarden import __version__
from costwarden.artifacts.files import VALUES, ArtifactError, list_artifacts, write_artifact
from costwarden.artifacts.merging import merge

RECORD = ".costwarden-export.zip"
"""In the folder of an export: the files as they were written, with the version and the values that they are of."""

_ABOUT = "export.json"
_FILES = "files/"

# The record of the same export is the same file: it may be kept under version control. The earliest date that a zip file knows.
_DATE = (1980, 1, 1, 0, 0, 0)

Kind = Literal["changed", "merged", "conflict", "open", "added", "removed", "edited", "deleted"]
"""`changed`: the upgrade changes a file that you left alone. `merged`: both changed it, at different places. `conflict`: at the same one.
`open`: the conflict of an earlier upgrade, whose `FILE.new` is still there.
`added`, `removed`: by the upgrade. `edited`, `deleted`: by you alone; that stays."""


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What was exported: the version, the text of the values (empty: none), and each file as it was written."""

    version: str
    values: str
    files: dict[PurePath, bytes]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What an upgrade does with one file; `content` is what it would then hold, None where nothing is written."""

    path: PurePath
    kind: Kind
    was: bytes = b""
    """As it was exported."""
    becomes: bytes = b""
    """As this version ships it."""
    content: bytes | None = None


def shipped_files(root: Path, rendered: Mapping[PurePath, str]) -> dict[PurePath, bytes]:
    """Every artefact below `root` by its path, those of `rendered` in their own text."""
    files: dict[PurePath, bytes] = {PurePath(path): (root / path).read_bytes() for path in list_artifacts(root)}
    return files | {path: text.encode() for path, text in rendered.items()}


def export_artifacts(directory: Path, files: Mapping[PurePath, bytes], *, values: str = "", force: bool = False) -> list[PurePath]:
    """Writes `files` into `directory`, made where absent, with a record of them; returns the paths written, relative to it.

    A file that is there with the same content is left alone. Raises `ArtifactError`, before anything is written, where one is there
    with another content (unless `force`), or where `directory` cannot hold them.
    """
    copies = {path: _read(directory / path) for path in files}
    wanted = [path for path, content in files.items() if copies[path] != content]
    changed = [path for path in wanted if copies[path] is not None]
    if changed and not force:
        names = ", ".join(str(directory / path) for path in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        how = "`costwarden artifacts upgrade` keeps your edits" if (directory / RECORD).exists() else "export into an empty folder"
        raise ArtifactError(f"would overwrite {names}{more}: {how}; --force overwrites them")
    for path in wanted:
        write_artifact(directory / path, files[path])
    write_record(directory, files, values)
    return wanted


def write_record(directory: Path, files: Mapping[PurePath, bytes], values: str) -> None:
    """Note in `directory` what was exported into it. Raises `ArtifactError`."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as record:
        about = {"version": __version__, "values": values}
        contents = [(_ABOUT, msgspec.json.encode(about)), *((f"{_FILES}{path.as_posix()}", files[path]) for path in sorted(files))]
        for name, content in contents:
            record.writestr(zipfile.ZipInfo(name, _DATE), content, zipfile.ZIP_DEFLATED)
    write_artifact(directory / RECORD, written.getvalue())


def read_record(directory: Path) -> Export:
    """What was exported into `directory`. Raises `ArtifactError` where nothing was, or the record cannot be read."""
    source = directory / RECORD
    content = _read(source)
    if content is None:
        raise ArtifactError(f"{directory} has no {RECORD}: it was not exported by this version or a newer one; export into an empty folder")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as record:
            about = msgspec.json.decode(record.read(_ABOUT), type=dict[str, str])
            names = [name for name in record.namelist() if name.startswith(_FILES)]
            files = {_inside(name.removeprefix(_FILES)): record.read(name) for name in names}
        return Export(version=about["version"], values=about["values"], files=files)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError) as error:
        raise ArtifactError(f"cannot read {source}: {error}") from error


def values_in(directory: Path, export: Export | None, example: bytes) -> Path | None:
    """The values in `directory` that are somebody's own: given to its export, or edited since; None where they are the example's.

    `example` is what ships, for a folder without a record. Raises `ArtifactError` where the file cannot be read.
    """
    content = _read(directory / VALUES)
    was = export.files.get(VALUES) if export else example
    if content is None or (content == was and not (export and export.values)):
        return None
    return directory / VALUES


def _inside(name: str) -> PurePath:
    path = PurePath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} is outside of the export")
    return path


def upgrade_changes(directory: Path, export: Export, files: Mapping[PurePath, bytes]) -> Iterator[Change]:
    """What becomes of each file of `directory` when this version's `files` come in; what stays as it is is left out.

    Raises `ArtifactError` where a file cannot be read.
    """
    for path in sorted({*export.files, *files}):
        was, becomes, copy = export.files.get(path), files.get(path), _read(directory / path)
        if was is not None and becomes is not None and _new(directory / path).exists():
            # Merging goes on once you have settled it: until then the text that your edits are made to is neither one nor the other.
            yield Change(path=path, kind="open" if becomes == was else "conflict", was=was, becomes=becomes)
        elif change := _change(path, was, becomes, copy):
            yield change


def _change(path: PurePath, was: bytes | None, becomes: bytes | None, copy: bytes | None) -> Change | None:
    if copy == becomes:
        return None
    if was is None:
        # New in this version. A file of yours that has its name is yours.
        assert becomes is not None
        if copy is None:
            return Change(path=path, kind="added", becomes=becomes, content=becomes)
        return Change(path=path, kind="conflict", becomes=becomes)
    if copy is None:
        return Change(path=path, kind="deleted", was=was, becomes=becomes or b"")
    if becomes is None:
        return Change(path=path, kind="removed" if copy == was else "edited", was=was)
    if becomes == was:
        return Change(path=path, kind="edited", was=was, becomes=becomes)
    if copy == was:
        return Change(path=path, kind="changed", was=was, becomes=becomes, content=becomes)
    both = merge(_lines(was), _lines(copy), _lines(becomes))
    if both is None:
        return Change(path=path, kind="conflict", was=was, becomes=becomes)
    return Change(path=path, kind="merged", was=was, becomes=becomes, content="".join(both).encode("utf-8", "surrogateescape"))


def difference(change: Change) -> str:
    """What the upgrade changes in a file: a unified diff between its exported text and this version's; empty where that is nothing."""
    if change.kind in ("edited", "deleted"):
        return ""
    name = change.path.as_posix()
    before = f"a/{name}" if change.was else "/dev/null"
    after = f"b/{name}" if change.becomes else "/dev/null"
    return "".join(unified_diff(_lines(change.was), _lines(change.becomes), before, after))


def apply_changes(directory: Path, changes: list[Change], files: Mapping[PurePath, bytes], values: str) -> None:
    """Write what changes without a conflict, and note the new state. A removed file goes; of a conflict this version's text is put beside
    yours, as `FILE.new`. Raises `ArtifactError`."""
    for change in changes:
        target = directory / change.path
        if change.content is not None:
            write_artifact(target, change.content)
        elif change.kind == "conflict":
            write_artifact(_new(target), change.becomes)
        elif change.kind == "removed":
            _remove(target)
    write_record(directory, files, values)


def _new(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot remove {path}: {error.strerror}") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error


def _lines(content: bytes) -> list[str]:
    # What is not UTF-8 any more comes back as it was.
    return content.decode("utf-8", "surrogateescape").splitlines(keepends=True)
