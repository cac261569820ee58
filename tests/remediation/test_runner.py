"""Real programs: what they get, what is read of them, and how they are ended."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from costwarden.remediation.runner import KEPT_STDERR_BYTES, ScriptRequest, parse_line, run_script, script_environment
from costwarden.remediation.settings import Playbook

REQUEST = ScriptRequest("run-1", ("i-1",), {"region": "eu-central-1"})


@pytest.fixture
def run(tmp_path, write_script):
    """Runs a Python body as a script; `program` runs another file."""

    def run(body="", *, program=None, arguments=(), request=REQUEST, timeout_seconds=60.0, should_stop=lambda: "", **callbacks):
        script = program or write_script(tmp_path / "script", body)
        return run_script(
            [str(script), *arguments],
            request,
            environment={"PATH": "/usr/bin:/bin"},
            timeout_seconds=timeout_seconds,
            should_stop=should_stop,
            **callbacks,
        )

    return run


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_request_comes_as_json_on_stdin(run):
    result = run("import json, sys; print(json.dumps({'target': 'seen', 'action': '', 'result': 'done', 'undo': json.load(sys.stdin)}))")
    assert result.lines[0].undo == {"run_id": "run-1", "targets": ["i-1"], "parameters": {"region": "eu-central-1"}, "undo": []}
    assert (result.ended, result.exit_code, result.problem) == ("exited", 0, "")


def test_a_script_that_never_reads_a_large_request_is_not_waited_for(run):
    request = ScriptRequest("run-1", tuple(f"i-{number:06d}" for number in range(20_000)), {})
    assert len(json.dumps(request.targets)) > 65_536
    assert run("pass", request=request).ended == "exited"


def test_lines_are_handed_on_as_they_come_with_the_population_apart(run):
    seen = []
    body = """
import json
print(json.dumps({"target": "a", "action": "stop", "result": "planned", "state_before": {"state": "running"}, "message": "m"}))
print()
print(json.dumps({"population": 12}))
print(json.dumps({"target": "b", "action": "stop", "result": "skipped"}), end="")
"""
    result = run(body, on_line=lambda line: seen.append(line.target))
    assert seen == ["a", "b"]
    assert [(line.target, line.result, line.message) for line in result.lines] == [("a", "planned", "m"), ("b", "skipped", "")]
    assert result.population == 12


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"stopping i-1 ...", "JSON is malformed"),
        (b"[]", "Expected `object`"),
        (b"{}", "a line has either `target` or `population`"),
        (b'{"target": "a", "action": "stop", "result": "done", "population": 1}', "a line has either `target` or `population`"),
        (b'{"target": "", "action": "stop", "result": "done"}', "`target` is empty"),
        (b'{"target": "a", "action": "stop", "result": "perhaps"}', "Invalid enum value 'perhaps'"),
        (b'{"target": "a", "action": "stop", "result": "done", "colour": "red"}', "unknown field `colour`"),
        (b'{"target": "a", "action": "stop", "result": "done", "undo": "restart it"}', "Expected `object | null`"),
        (b'{"population": "many"}', "Expected `int | null`"),
    ],
)
def test_a_line_that_breaks_the_contract_is_an_error(line, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        parse_line(line)


def test_a_broken_line_fails_the_run_but_the_good_ones_are_kept(run):
    result = run(
        """print('{"target": "a", "action": "", "result": "done"}\\nnonsense\\n{"target": "b", "action": "", "result": "done"}')"""
    )
    assert result.ended == "bad_output"
    assert result.problem.startswith("line 'nonsense': JSON is malformed")
    assert [line.target for line in result.lines] == ["a", "b"]


def test_the_exit_code_and_the_end_of_stderr_are_kept(run):
    result = run(f"import sys; sys.stderr.write('x' * {KEPT_STDERR_BYTES} + 'the end'); sys.exit(3)")
    assert result.exit_code == 3
    assert len(result.stderr) == KEPT_STDERR_BYTES
    assert result.stderr.endswith("the end")


def test_past_its_time_limit_the_script_and_what_it_started_are_killed(run, hour_passes, tmp_path, wait_until):
    pids, told = tmp_path / "pids", []
    hour_passes(lambda: told)
    body = f"""
import os, subprocess, time
child = subprocess.Popen(["sleep", "600"])
open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
print('{{"target": "a", "action": "", "result": "done"}}', flush=True)
time.sleep(600)
"""
    started = time.monotonic()
    result = run(body, timeout_seconds=3600, on_line=told.append)
    assert time.monotonic() - started < 60
    assert (result.ended, result.problem) == ("timed_out", "killed after its time limit of 3600 s")
    assert [line.target for line in result.lines] == ["a"]
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: not is_alive(int(pid)))


def test_a_script_that_ignores_sigterm_is_killed_all_the_same(run, hour_passes, tmp_path):
    ignores = tmp_path / "ignores"
    hour_passes(ignores.exists)
    body = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ignores)!r}, 'w').close(); time.sleep(600)"
    result = run(body, timeout_seconds=3600)
    assert (result.ended, result.exit_code) == ("timed_out", -9)


def test_a_grandchild_that_holds_the_pipes_neither_delays_the_end_nor_outlives_it(run, tmp_path, wait_until):
    pid = tmp_path / "pid"
    body = f"import subprocess; open({str(pid)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid))"
    started = time.monotonic()
    assert run(body).ended == "exited"
    assert time.monotonic() - started < 60
    wait_until(lambda: not is_alive(int(pid.read_text())))


def test_a_script_is_stopped_when_asked_to(run, tmp_path):
    flag = tmp_path / "flag"
    body = f"import time; open({str(flag)!r}, 'w').close(); time.sleep(600)"
    result = run(body, should_stop=lambda: "enough" if flag.exists() else "")
    assert (result.ended, result.problem) == ("stopped", "killed: enough")


@pytest.mark.parametrize("body", ["while True: print('x' * 1000)", "while True: print('x' * 1000, end='')"])
def test_a_script_that_floods_us_is_killed(run, body):
    result = run(body)
    assert result.ended == "bad_output"
    assert result.problem.startswith(("wrote more than", "line 'xxx"))


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_program_that_cannot_start_is_a_sentence(run, tmp_path, mode):
    program = tmp_path / "broken"
    program.write_text("\x00not a program")
    program.chmod(mode)
    result = run(program=program)
    assert (result.ended, result.exit_code) == ("not_started", None)
    assert result.problem.startswith(f"{program} did not start: ")


def test_the_environment_is_path_and_lang_and_what_the_playbook_names():
    playbook = Playbook(
        name="p",
        script=("/bin/true",),
        pass_environment=("AWS_PROFILE", "ABSENT"),
        environment={"COSTWARDEN_URL": "http://127.0.0.1:3010"},
    )
    environ = {"AWS_PROFILE": "staging", "AWS_SECRET_ACCESS_KEY": "secret", "LD_PRELOAD": "evil.so", "PATH": "/evil"}
    assert script_environment(playbook, environ) == {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "AWS_PROFILE": "staging",
        "COSTWARDEN_URL": "http://127.0.0.1:3010",
    }


def test_a_script_gets_that_environment_and_a_session_of_its_own(run, monkeypatch):
    monkeypatch.setenv("COSTWARDEN_SECRET", "do not pass on")
    body = """
import json, os
print(json.dumps({"target": "t", "action": "", "result": "done", "undo": {**os.environ, "sid": os.getsid(0)}}))
"""
    undo = run(body).lines[0].undo
    assert undo is not None
    assert undo.pop("sid") != os.getsid(0)
    assert {name for name in undo if not name.startswith(("LC_", "__"))} == {"PATH"}
