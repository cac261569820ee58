"""What the demo starts ends with it, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import NotInTime, Processes, StartFailed, free_port, wait_for

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
# It does not listen to a polite word.
STUBBORN = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"]

STARTER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from processes import Processes
processes = Processes(Path(sys.argv[2]))
processes.launch("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
print(processes.pid("sleeper"), flush=True)
time.sleep(600)
"""


def is_alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        # It may end between opening the file and reading it.
        return False


def test_leaving_ends_every_process_also_after_an_exception(tmp_path):
    pids = []

    def start_and_fail():
        with Processes(tmp_path) as processes:
            for name in ("first", "second"):
                processes.launch(name, SLEEPER)
                pids.append(processes.pid(name))
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        start_and_fail()
    assert [is_alive(pid) for pid in pids] == [False, False]


def test_what_does_not_end_when_asked_is_killed(tmp_path):
    with Processes(tmp_path, grace_seconds=0.1) as processes:
        processes.launch("stubborn", STUBBORN)
        processes.await_ready("stubborn", lambda: "up" in processes.log("stubborn").read_text(encoding="utf-8"))
        pid = processes.pid("stubborn")
    assert not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_kill_9_of_the_demo_takes_its_processes_along(tmp_path, project, wait_until):
    starter = subprocess.Popen([sys.executable, "-c", STARTER, project / "deploy" / "demo", tmp_path], stdout=subprocess.PIPE, text=True)
    with starter:
        pid = int(starter.stdout.readline())
        assert is_alive(pid)
        os.kill(starter.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


def test_a_program_that_ends_at_once_is_reported_with_the_end_of_its_log(tmp_path):
    with Processes(tmp_path) as processes:
        processes.launch("broken", [sys.executable, "-c", "print('address already in use'); exit(3)"])
        with pytest.raises(StartFailed, match="broken ended with exit code 3; the end of its log:\naddress already in use"):
            processes.await_ready("broken", lambda: False)


def test_a_program_sees_no_proxy_no_credentials_and_no_home(tmp_path, monkeypatch):
    for name in ("HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY", "HOME"):
        monkeypatch.setenv(name, "x")
    with Processes(tmp_path) as processes:
        processes.launch("shows", [sys.executable, "-c", "import os; print(sorted(os.environ), flush=True)"])
        processes.await_end("shows")
        assert processes.log("shows").read_text(encoding="utf-8") == "['LANG', 'PATH']\n"


def test_ports_of_one_process_differ_before_anything_listens_on_them():
    assert len({free_port() for _ in range(100)}) == 100


def test_a_wait_that_is_too_long_says_for_what_and_what_was_seen_last():
    with pytest.raises(NotInTime, match=r"a miracle: not within 0 s; seen last: \[\]"):
        wait_for("a miracle", list, 0)
