"""kill -9 of the process that runs the worker, at the two moments that matter."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from costwarden.ledger import Ledger
from costwarden.ledger.remediation import queue_lengths
from costwarden.remediation.decisions import close_run, restore_run
from costwarden.remediation.intake import accept

SERVER = """
import sys, time
from costwarden.ledger import Ledger
from costwarden.remediation.settings import RemediationSettings
from costwarden.remediation.worker import Worker

url, settings = sys.argv[1:]
ledger = Ledger(url, owner=True)
settings = RemediationSettings.model_validate_json(settings)
Worker(ledger, lambda: settings, environ={}, now=lambda: time.time_ns() // 1000).start()
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def server(scene, tmp_path, project):
    """Starts a worker in a process of its own, which has the ledger to itself, as `serve` has."""
    started = []

    def start():
        settings = scene.settings.model_dump_json(exclude_defaults=True)
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, f"sqlite:///{tmp_path / 'ledger.db'}", settings],
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(project / "exporter")},
        )
        started.append(process)
        assert process.stdout is not None
        while process.stdout.readline() != b"started\n":
            assert process.poll() is None, "the server did not start"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def beside(scene, tmp_path):
    """The ledger, opened beside the server as the command line does; the scene looks through it."""
    scene.ledger.close()
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    scene.ledger = opened
    yield opened
    opened.close()


def real_now():
    return time.time_ns() // 1000


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def has_ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def lengths(ledger):
    with ledger.read() as connection:
        return {state: count for state, count in queue_lengths(connection).items() if count}


def test_killed_between_queue_and_act_the_script_runs_exactly_once(scene, actor, alert, webhook, server, beside, wait_until):
    gate = actor.gate("plan")
    scene.configure(actor.playbook(parameters=gate.parameters))
    accept(beside, webhook(alert()), real_now())
    process = server()
    wait_until(gate.is_reached)
    kill(process)
    assert (lengths(beside), actor.calls("apply")) == ({"queued": 1}, [])
    gate.open()
    # The Alertmanagers repeat it meanwhile.
    accept(beside, webhook(alert()), real_now())
    server()
    wait_until(lambda: lengths(beside) == {"done": 1})
    assert len(actor.calls("apply")) == 1
    assert scene.run().outcome == "succeeded"
    assert scene.steps()[:5] == ["alert_started", "received", "guard_passed", "resumed", "guard_passed"]


def test_killed_while_it_acts_the_run_is_interrupted_and_never_repeated(scene, actor, alert, webhook, server, beside, wait_until):
    gate = actor.gate("apply between targets")
    scene.configure(actor.playbook(parameters=gate.parameters, cooldown_seconds=0))
    accept(beside, webhook(alert()), real_now())
    process = server()
    wait_until(gate.is_reached)
    wait_until(lambda: scene.steps()[-1] == "target")
    kill(process)
    assert lengths(beside) == {"running": 1}
    server()
    assert lengths(beside) == {"interrupted": 1}
    accept(beside, webhook(alert(), alert("bbbb")), real_now())
    gate.open()
    wait_until(lambda: lengths(beside) == {"interrupted": 1, "done": 1})
    # The incident that was interrupted, and the other one: each acted for once.
    assert [call["request"]["run_id"] for call in actor.calls("apply")] == [run.run_id for run in scene.runs()]
    interrupted = scene.runs()[0]
    assert (interrupted.outcome, interrupted.reason) == ("interrupted", "process_died")
    assert scene.steps(interrupted.run_id)[-3:] == ["script_started", "target", "interrupted"]


def test_an_interrupted_run_can_be_restored_and_closed_by_a_person(scene, actor, alert, webhook, server, beside, wait_until):
    gate = actor.gate("apply between targets")
    scene.configure(actor.playbook(parameters=gate.parameters))
    accept(beside, webhook(alert()), real_now())
    process = server()
    wait_until(gate.is_reached)
    kill(process)
    gate.open()
    server()
    run_id = scene.run().run_id
    _, result = restore_run(beside, scene.settings, run_id, apply=True, actor="ada", environ={}, now=real_now)
    # Both, though only the first was reported done: the second may have been under way.
    assert [line.target for line in result.lines] == ["a", "b"]
    close_run(beside, run_id, actor="ada", now=real_now())
    assert lengths(beside) == {"done": 1}
    assert scene.runs()[0].outcome == "interrupted"


def test_a_script_dies_with_its_server(scene, actor, alert, webhook, server, beside, wait_until):
    gate = actor.gate("apply between targets")
    scene.configure(actor.playbook(parameters=gate.parameters | {"targets": ["a", "b", "c"]}))
    accept(beside, webhook(alert()), real_now())
    process = server()
    wait_until(gate.is_reached)
    pid = actor.calls("apply")[0]["pid"]
    kill(process)
    # The gate is still shut: it is not the script that ends itself.
    wait_until(lambda: has_ended(pid))
