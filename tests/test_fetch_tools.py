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
    assert first == "Missing in a usable version: promtool, alertmanager, amtool. Nothing can be fetched: this machine has no apt-get."
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


def put_all(folder: Path) -> None:
    for name in TOOLS:
        put(folder, name, "3.5.0")


@pytest.mark.parametrize(("name", "says"), [("google-chrome", "Google Chrome 149.0.7"), ("chromium", "Chromium 120.0.1 built on Debian")])
def test_a_browser_on_path_is_linked_whatever_it_is_called(project: Path, path: Path, tmp_path: Path, name: str, says: str) -> None:
    put_all(path)
    program = put(path, name, "")
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    answer = fetch_tools(project, path, tmp_path / "tools")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (tmp_path / "tools" / "bin" / "chromium-headless-shell").resolve() == program


@pytest.mark.parametrize("says", ["Chromium 119.9.9", "unknown"])
def test_without_a_usable_browser_everything_else_is_there_and_a_sentence_says_so(
    project: Path, path: Path, tmp_path: Path, says: str
) -> None:
    put_all(path)
    put(path, "chromium", "").write_text(f"#!/bin/sh\necho '{says}'\n")
    answer = fetch_tools(project, path, tmp_path / "tools")
    assert answer.returncode == 0
    first, second, *_ = answer.stderr.splitlines()
    assert first == "Missing in a usable version: chromium-headless-shell. Nothing can be fetched: this machine has no apt-get."
    assert second.startswith("Only the pictures of the dashboards and their test need it. Install Chromium or Chrome 120 or newer")
    assert sorted(link.name for link in (tmp_path / "tools" / "bin").iterdir()) == sorted(TOOLS)


def test_the_browser_of_an_earlier_run_stays_where_nothing_can_be_fetched(project: Path, path: Path, tmp_path: Path) -> None:
    put_all(path)
    program = tmp_path / "tools" / "chromium" / "chromium-headless-shell"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho 'Chromium 149.0.7 built on Debian'\n")
    program.chmod(0o755)
    answer = fetch_tools(project, path, tmp_path / "tools")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (tmp_path / "tools" / "bin" / "chromium-headless-shell").resolve() == program


@pytest.mark.parametrize(
    ("apt_get", "reason"),
    [
        ("echo 'E: Temporary failure resolving the mirror' >&2; exit 100", "apt-get failed: E: Temporary failure resolving the mirror"),
        ("exit 1", "apt-get failed: exit 1"),
        ("exit 0", "Nothing can be fetched: the apt sources of this machine name no archive of its own release."),
    ],
)
def test_an_apt_that_fails_costs_only_the_browser(project: Path, path: Path, tmp_path: Path, apt_get: str, reason: str) -> None:
    put_all(path)
    for name in ("apt-get", "dpkg-deb"):
        put(path, name, "")
        (path / name).write_text(f"#!/bin/sh\n{apt_get}\n")
    answer = fetch_tools(project, path, tmp_path / "tools")
    assert answer.returncode == 0
    assert reason in answer.stderr
    assert "Traceback" not in answer.stderr
    assert sorted(link.name for link in (tmp_path / "tools" / "bin").iterdir()) == sorted(TOOLS)


def test_a_program_that_cannot_be_run_costs_only_the_browser(project: Path, path: Path, tmp_path: Path) -> None:
    put_all(path)
    # An apt whose answer is right, and that cannot be run a second time.
    put(path, "dpkg-deb", "")
    apt = put(path, "apt-get", "")
    suite = "stable"
    apt.write_text(f"#!/bin/sh\n/bin/rm -f {apt}\necho \"'http://127.0.0.1:9/debian/dists/{suite}/InRelease' x 0\"\n")
    answer = fetch_tools(project, path, tmp_path / "tools")
    assert answer.returncode == 0
    assert "Missing in a usable version: chromium-headless-shell." in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_tools_of_this_checkout_run(tools) -> None:
    for program in (tools.prometheus, tools.promtool, tools.alertmanager, tools.amtool):
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        assert " version " in answer.stdout + answer.stderr
