"""Rules, routes, dashboards, scripts and the documents they lead to: finds what ships beside the package and copies it out.

In the wheel they lie in `costwarden/share/`; in a checkout, which an editable install points at, in the project's own folders.
"""

import tempfile
from pathlib import Path, PurePath

FOLDERS = ("alertmanager", "alerts", "dashboards", "docs", "scripts")
"""What ships; pyproject.toml names the same folders to the wheel, and a test compares."""

LEFT_OUT = PurePath("docs/pictures")
"""The one folder in them that stays: the pictures of README.md, and what makes them."""

VALUES = PurePath("alertmanager/values.yaml")
"""Whom the export is for: the example, or the values that it was rendered from."""

PACKAGE = Path(__file__).resolve().parent.parent


class ArtifactError(Exception):
    """The artefacts are not there, or may not be written where they were asked for."""


def artifacts_root(package: Path = PACKAGE) -> Path:
    """The folder that holds `FOLDERS`, for the package installed at `package`.

    Raises `ArtifactError` where a folder is missing: the installation is broken.
    """
    shipped = package / "share"
    root = shipped if shipped.is_dir() else package.parent.parent
    missing = [folder for folder in FOLDERS if not (root / folder).is_dir()]
    if missing:
        raise ArtifactError(f"no {', '.join(missing)} in {root}: the installation of costwarden is incomplete, install it again")
    return root


def artifact_path(name: str) -> Path:
    """The shipped file or folder `name`, relative to the root: `scripts`, `alerts/README.md`.

    Raises `ArtifactError` where there is none.
    """
    path, parts = artifacts_root() / name, PurePath(name).parts
    ships = parts[:1] in {(folder,) for folder in FOLDERS} and ".." not in parts and not PurePath(name).is_relative_to(LEFT_OUT)
    if not ships or not path.exists():
        raise ArtifactError(f"costwarden ships no {name}: `costwarden artifacts list` shows what it ships")
    return path


def list_artifacts(root: Path | None = None) -> list[Path]:
    """Every file that ships, relative to `root` (`artifacts_root()` unless given), in order."""
    root = root or artifacts_root()
    files = (path.relative_to(root) for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    return sorted(path for path in files if "__pycache__" not in path.parts and not path.is_relative_to(LEFT_OUT))


def write_artifact(target: Path, content: bytes) -> None:
    """Write one file as a whole or not at all, its folders made where absent. Raises `ArtifactError`.

    Half a file would look like an edit of yours, and the next upgrade would keep it so. Where `target` is a symbolic link, the file that
    it points at is the one that is written.
    """
    partial = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target = target.resolve()
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            partial = Path(file.name)
            file.write(content)
        # Installers need not keep the executable bit of a data file; the first line says what is a program.
        partial.chmod(0o755 if content.startswith(b"#!") else 0o644)
        partial.replace(target)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        raise ArtifactError(f"cannot write {target}: {error.strerror}") from error
    except RuntimeError as error:  # Links that go round, before Python 3.13.
        raise ArtifactError(f"cannot write {target}: {error}") from error
