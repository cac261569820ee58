"""Finding and exporting what ships beside the package, from trees made for the purpose; test_wheel.py does it from a real wheel."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from costwarden.artifacts import FOLDERS, ArtifactError, artifact_path, artifacts_root, export_artifacts, list_artifacts, shipped_files
from costwarden.artifacts.files import LEFT_OUT
from costwarden.cli import cli


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one file in each folder that ships."""
    for folder in FOLDERS:
        (tmp_path / "project" / folder).mkdir(parents=True)
        (tmp_path / "project" / folder / "README.md").write_text(f"{folder}\n")
    return tmp_path / "project"


def test_the_wheel_ships_the_folders_that_the_package_looks_for(project: Path) -> None:
    wheel = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] | wheel["sources"] == {"exporter": ""} | {folder: f"costwarden/share/{folder}" for folder in FOLDERS}
    assert wheel["exclude"] == [f"/{LEFT_OUT}"]


def test_a_checkout_is_its_own_root(project: Path) -> None:
    assert artifacts_root() == project


def test_an_installed_package_has_its_root_in_share(root: Path, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "costwarden"
    package.mkdir(parents=True)
    root.rename(package / "share")
    assert artifacts_root(package) == package / "share"


def test_an_installation_without_its_folders_says_so(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "site-packages" / "costwarden"
    package.mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"^no alertmanager, alerts, dashboards, docs, scripts in .*/lib: .* install it again$"):
        artifacts_root(package)


def test_the_list_is_relative_sorted_and_without_caches(root: Path) -> None:
    (root / "scripts" / "__pycache__").mkdir()
    (root / "scripts" / "__pycache__" / "stop.pyc").write_bytes(b"")
    (root / "unrelated.txt").write_text("")
    (root / LEFT_OUT).mkdir()
    (root / LEFT_OUT / "overview.png").write_bytes(b"")
    assert list_artifacts(root) == [Path(folder, "README.md") for folder in sorted(FOLDERS)]


def test_a_path_is_given_for_a_shipped_file_or_folder(project: Path) -> None:
    assert artifact_path("scripts") == project / "scripts"


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "scripts/absent", "scripts/../pyproject.toml", "", "/etc/passwd", "docs/pictures", "docs/./pictures/past.py"]
)
def test_no_path_is_given_for_what_does_not_ship(name: str) -> None:
    with pytest.raises(ArtifactError, match=r"`costwarden artifacts list` shows what it ships"):
        artifact_path(name)


def test_an_export_makes_the_folder_and_names_what_it_wrote(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    assert export_artifacts(target, shipped_files(root, {})) == list_artifacts(root)
    assert (target / "alerts" / "README.md").read_text() == "alerts\n"


def test_an_exported_program_is_executable_though_the_shipped_one_is_not(root: Path, tmp_path: Path) -> None:
    (root / "scripts" / "stop").write_text("#!/usr/bin/env python3\n")
    (root / "scripts" / "stop").chmod(0o644)
    export_artifacts(tmp_path / "out", shipped_files(root, {}))
    assert os.access(tmp_path / "out" / "scripts" / "stop", os.X_OK)
    assert not os.access(tmp_path / "out" / "scripts" / "README.md", os.X_OK)


def test_a_second_export_finds_nothing_to_write(root: Path, tmp_path: Path) -> None:
    export_artifacts(tmp_path / "out", shipped_files(root, {}))
    assert export_artifacts(tmp_path / "out", shipped_files(root, {})) == []


def test_a_file_that_differs_is_kept_and_nothing_else_is_written(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "scripts" / "README.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine\n")
    with pytest.raises(ArtifactError, match=r"would overwrite .*/out/scripts/README\.md: export into an empty folder; --force"):
        export_artifacts(tmp_path / "out", shipped_files(root, {}))
    assert mine.read_text() == "mine\n"
    assert not (tmp_path / "out" / "alerts").exists()


def test_force_overwrites_what_differs_and_only_that(root: Path, tmp_path: Path) -> None:
    export_artifacts(tmp_path / "out", shipped_files(root, {}))
    (tmp_path / "out" / "scripts" / "README.md").write_text("mine\n")
    assert export_artifacts(tmp_path / "out", shipped_files(root, {}), force=True) == [Path("scripts/README.md")]
    assert (tmp_path / "out" / "scripts" / "README.md").read_text() == "scripts\n"


def test_many_differing_files_are_counted(root: Path, tmp_path: Path) -> None:
    export_artifacts(tmp_path / "out", shipped_files(root, {}))
    for folder in FOLDERS:
        (tmp_path / "out" / folder / "README.md").write_text("mine\n")
    with pytest.raises(ArtifactError, match=r"and 2 more: "):  # 5 differ, 3 are named
        export_artifacts(tmp_path / "out", shipped_files(root, {}))


def test_a_file_in_the_way_of_a_folder_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ArtifactError, match=r"^cannot (read|write) .*/out"):
        export_artifacts(tmp_path / "out", shipped_files(root, {}))


def test_nothing_that_is_rendered_for_another_job_names_the_one_that_ships(tmp_path: Path, tools: Any) -> None:
    (tmp_path / "values.yaml").write_text("prometheus: {job: finops-cw}\n")
    done = CliRunner().invoke(cli, ["artifacts", "export", "--values", str(tmp_path / "values.yaml"), str(tmp_path / "ops")])
    assert done.exit_code == 0, done.output
    texts = {path: path.read_text() for path in (tmp_path / "ops").rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert len(texts) == len(list_artifacts())
    # Documents say which name is the one that ships, and how to give another.
    texts = {path: text for path, text in texts.items() if not path.is_relative_to(tmp_path / "ops" / "docs")}
    assert [
        path for path, text in texts.items() if re.search(r"""job(_name)?\W+costwarden\b(?!["']?:)|job must be named `costwarden`""", text)
    ] == []
    pipeline = json.loads(texts[tmp_path / "ops/dashboards/json/finops-pipeline.json"])
    queries = [target["expr"] for panel in pipeline["panels"] for target in panel.get("targets", []) if "job=" in target["expr"]]
    assert len(queries) == 4  # up, memory, CPU, open files
    assert [query for query in queries if 'job="finops-cw"' not in query] == []
    runbook = texts[tmp_path / "ops/alerts/README.md"]
    assert "  - job_name: finops-cw " in runbook
    assert "every target of the job `finops-cw` fails" in runbook
    assert "the job must be named `finops-cw`" in runbook
    rules = sorted((tmp_path / "ops" / "alerts").glob("*.rules.yaml"))
    checked = subprocess.run([tools.promtool, "check", "rules", *rules], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
