"""Rules, routes, dashboards and scripts: finds what ships beside the package and copies it out.

In the wheel they lie in `costwarden/share/`; in a checkout, which an editable install points at, in the project's own folders.
"""

import tempfile
from pathlib import Path, PurePath

FOLDERS = ("alertmanager", "alerts", "dashboards", "scripts")
"""What ships; pyproject.toml names the same folders to the wheel, and a test compares."""

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
    path = artifacts_root() / name
    if Path(name).parts[:1] not in {(folder,) for folder in FOLDERS} or ".." in Path(name).parts or not path.exists():
        raise ArtifactError(f"costwarden ships no {name}: `costwarden artifacts list` shows what it ships")
    return path


def list_artifacts(root: Path | None = None) -> list[Path]:
    """Every file that ships, relative to `root` (`artifacts_root()` unless given), in order."""
    root = root or artifacts_root()
    files = (path for folder in FOLDERS for path in (root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path.relative_to(root) for path in files)


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
