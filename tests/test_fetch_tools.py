"""`.ci/fetch-tools` without a network: what it does with what PATH offers, and what it says where nothing can be fetched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = ("prometheus", "promtool", "alertmanager", "amtool")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The only folder on PATH; it has no apt-get."""
    folder = tmp_path / "path"
    folder.mkdir()
    return folder


def put(folder: Path, name: str, version: str) -> Path:
    """A program that says its version as the Prometheus programs do."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{name}, version {version} (branch: HEAD, revision: 0)'\n")
    program.chmod(0o755)
    return program


def fetch_tools(project: Path, path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, project / ".ci" / "fetch-tools", folder]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, check=False)


def test_tools_on_path_are_linked_and_their_versions_printed(project: Path, path: Path, tmp_path: Path) -> None:
    programs = [put(path, name, "2.42.0" if name.startswith("prom") else "0.25.0") for name in TOOLS]
    answer = fetch_tools(project, path, tmp_path / "tools")
    assert answer.returncode == 0, answer.stderr
    assert [line.split() for line in answer.stdout.splitlines()] == [
        ["prometheus", "2.42.0", str(programs[0])],
        ["promtool", "2.42.0", str(programs[1])],
        ["alertmanager", "0.25.0", str(programs[2])],
        ["amtool", "0.25.0", str(programs[3])],
    ]
    assert [(tmp_path / "tools" / "bin" / name).resolve() for name in TOOLS] == programs


def test_an_alertmanager_that_goes_by_debians_name_is_found(project: Path, path: Path, tmp_path: Path) -> None:
    for name in ("prometheus", "promtool"):
        put(path, name, "3.5.0")
    put(path, "amtool", "0.28.1")
    program = put(path, "prometheus-alertmanager", "0.28.1")
    assert fetch_tools(project, path, tmp_path / "tools").returncode == 0
    assert (tmp_path / "tools" / "bin" / "alertmanager").resolve() == program


def test_a_machine_without_apt_is_told_what_to_install(project: Path, path: Path, tmp_path: Path) -> None:
    put(path, "prometheus", "3.5.0")
    put(path, "promtool", "2.41.9")  # one below the oldest that is tested, 2.42
    answer = fetch_tools(project, path, tmp_path / "tools")
    assert answer.returncode == 1
    first, second, *_ = answer.stderr.splitlines()
    assert first == "Missing in a usable version: promtool, alertmanager, amtool. They cannot be fetched: this machine has no apt-get."
    assert second.startswith("Install Prometheus 2.42 and Alertmanager 0.25 or newer")


def test_the_links_of_an_earlier_run_do_not_count_as_found(project: Path, path: Path, tmp_path: Path) -> None:
    links = tmp_path / "tools" / "bin"
    links.mkdir(parents=True)
    for name in TOOLS:
        put(links, name, "9.9.9")
    searched = Path(f"{links}{os.pathsep}{path}")
    assert fetch_tools(project, searched, tmp_path / "tools").returncode == 1


def test_a_program_that_says_no_version_does_not_count_as_found(project: Path, path: Path, tmp_path: Path) -> None:
    for name in TOOLS:
        put(path, name, "unknown")
    assert fetch_tools(project, path, tmp_path / "tools").returncode == 1


def test_the_tools_of_this_checkout_run(tools) -> None:
    for program in (tools.prometheus, tools.promtool, tools.alertmanager, tools.amtool):
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        assert " version " in answer.stdout + answer.stderr
