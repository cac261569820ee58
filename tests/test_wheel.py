"""What a user gets from `pip install costwarden`: the wheel, built through the sdist and installed where no checkout is in reach."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from costwarden.artifacts import list_artifacts
from costwarden.artifacts.exported import RECORD

BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path) -> str:
    environment = {"PATH": os.defpath, "HOME": str(cwd), "UV_CACHE_DIR": str(cwd / "uv-cache"), "UV_OFFLINE": "1", "UV_LINK_MODE": "copy"}
    answer = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def installed(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site-packages of a new environment: it holds the wheel, and sees the dependencies of this one but not its editable costwarden."""
    folder = tmp_path_factory.mktemp("wheel")
    run(BIN / "uv", "build", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder / "dist", project, cwd=folder)
    assert len(list((folder / "dist").glob("costwarden-*.tar.gz"))) == 1
    (wheel,) = (folder / "dist").glob("costwarden-*.whl")
    run(BIN / "uv", "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    run(BIN / "uv", "pip", "install", "--python", folder / "venv", "--no-deps", wheel, cwd=folder)
    site_packages = folder / "venv" / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    # A folder that a .pth names is searched, but its own .pth files, the editable install among them, are not read.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return site_packages


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_the_wheel_holds_every_file_of_the_package_and_every_artefact(installed: Path, project: Path) -> None:
    expected = files(project / "exporter" / "costwarden") + [f"share/{path}" for path in list_artifacts(project)]
    assert files(installed / "costwarden") == sorted(expected)


def test_the_wheel_brings_nothing_else_into_the_environment(installed: Path) -> None:
    tops = {path.name for path in installed.iterdir() if "costwarden" in path.name or path.name in {"tests", "alerts", "scripts", "share"}}
    assert {name.split("-")[0] for name in tops} == {"costwarden"}


def test_the_installed_command_exports_rules_that_promtool_accepts(installed: Path, tools, tmp_path: Path) -> None:
    run(installed.parents[2] / "bin" / "costwarden", "artifacts", "export", tmp_path / "out", cwd=tmp_path)
    assert files(tmp_path / "out") == [RECORD, *files(installed / "costwarden" / "share")]
    rules = sorted((tmp_path / "out" / "alerts").glob("*.rules.yaml"))
    assert rules
    assert "SUCCESS" in run(tools.promtool, "check", "rules", *rules, cwd=tmp_path)


def test_exported_scripts_can_be_started(installed: Path, tmp_path: Path) -> None:
    run(installed.parents[2] / "bin" / "costwarden", "artifacts", "export", tmp_path / "out", cwd=tmp_path)
    programs = [path for path in (tmp_path / "out" / "scripts").rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")]
    assert programs
    assert [path.name for path in programs if not os.access(path, os.X_OK)] == []
