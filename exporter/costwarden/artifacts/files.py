"""Rules, routes, dashboards and scripts: finds what ships beside the package and copies it out.

In the wheel they lie in `costwarden/share/`; in a checkout, which an editable install points at, in the project's own folders.
"""

import shutil
from pathlib import Path

FOLDERS = ("alertmanager", "alerts", "dashboards", "scripts")
"""What ships; pyproject.toml names the same folders to the wheel, and a test compares."""

PACKAGE = Path(__file__).resolve().parent


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


def export_artifacts(directory: Path, *, force: bool = False, root: Path | None = None) -> list[Path]:
    """Copies every artefact into `directory`, made where absent, and returns the paths written, relative to it.

    A file that is there with the same content is left alone. Raises `ArtifactError`, before anything is written, where one is there
    with another content (unless `force`), or where `directory` cannot hold them.
    """
    root = root or artifacts_root()
    wanted = [path for path in list_artifacts(root) if not _is_same(root / path, directory / path)]
    changed = [path for path in wanted if (directory / path).exists()]
    if changed and not force:
        names = ", ".join(str(directory / path) for path in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ArtifactError(f"would overwrite {names}{more}: export into an empty folder, or force it")
    try:
        for path in wanted:
            _copy(root / path, directory / path)
    except OSError as error:
        raise ArtifactError(f"cannot export into {directory}: {error}") from error
    return wanted


def _is_same(shipped: Path, there: Path) -> bool:
    return there.is_file() and there.read_bytes() == shipped.read_bytes()


def _copy(shipped: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shipped, target)
    # Installers need not keep the executable bit of a data file; the first line says what is a program.
    with shipped.open("rb") as content:
        target.chmod(0o755 if content.read(2) == b"#!" else 0o644)
