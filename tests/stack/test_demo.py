"""`make demo`, as a stranger meets it: on an empty environment, and with a finger on Ctrl-C."""

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack


@contextmanager
def running(project, tmp_path, *arguments):
    """The demo in an environment that has nothing but a place for temporary files; killed if the test forgets it."""
    command = [sys.executable, project / "deploy" / "demo" / "demo.py", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={"TMPDIR": str(tmp_path)}) as process:
        try:
            yield process
        finally:
            process.kill()


def processes_that_name(folder):
    """Commands that still run with `folder` in their arguments."""
    commands = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(file.read_bytes())
        except OSError:
            continue
    return [command for command in commands if str(folder).encode() in command]


def test_it_shows_all_seven_steps_and_leaves_nothing_behind(project, tmp_path, tools):
    with running(project, tmp_path) as process:
        shown, _ = process.communicate(timeout=240)
    assert process.returncode == 0, shown
    assert [line[0] for line in shown.splitlines() if line[:1].isdigit()] == ["1", "2", "3", "4", "5", "6", "7"]
    assert "All of it held" in shown
    # What is about to be removed is no place to look further.
    assert str(tmp_path) not in shown.partition("\n7  ")[2]
    assert (processes_that_name(tmp_path), list(tmp_path.iterdir())) == ([], [])


def test_ctrl_c_ends_every_part_and_removes_the_data(project, tmp_path, tools):
    with running(project, tmp_path) as process:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("1 "):
            assert line, "the demo ended before its first step"
        assert len(processes_that_name(tmp_path)) >= 3
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    assert (processes_that_name(tmp_path), list(tmp_path.iterdir())) == ([], [])
