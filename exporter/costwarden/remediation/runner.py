"""Runs a script by the contract of `docs/remediation.md`: a JSON request on stdin, JSON lines on stdout, no shell, a clean environment."""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from costwarden.remediation.settings import Playbook

# A target's line is a few hundred bytes; these hold tens of thousands of targets and stop a program that floods us.
LONGEST_LINE_BYTES = 64 * 1024
MOST_OUTPUT_BYTES = 8 * 1024 * 1024
KEPT_STDERR_BYTES = 16 * 1024

POLL_SECONDS = 0.2
EXIT_POLL_SECONDS = 0.01
GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL."""

EXIT_REFUSED = 3

# From linux/prctl.h; prctl(2). PyDLL, because in a forked child the interpreter's lock must stay held.
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.PyDLL(None) if sys.platform == "linux" else None

Result = Literal["planned", "done", "failed", "skipped"]


class TargetLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a script says of one target."""

    target: str
    action: str
    result: Result
    """`planned` in a plan; `done` or `failed` in an apply; `skipped` in both, with the cause in `message`."""
    state_before: dict[str, Any] = {}
    undo: dict[str, Any] | None = None
    """What `--restore` needs to take the action back."""
    message: str = ""


class ScriptRequest(msgspec.Struct, frozen=True):
    """What a script is asked: `targets` null lets it select by its parameters, else it acts on these at most."""

    run_id: str
    targets: tuple[str, ...] | None
    parameters: dict[str, Any]
    undo: tuple[dict[str, Any], ...] = ()


class ScriptResult(msgspec.Struct, frozen=True):
    """How a script ended. `problem` is a sentence for a person, empty where it ended by itself and its output was well formed."""

    ended: Literal["exited", "timed_out", "stopped", "bad_output", "not_started"]
    exit_code: int | None
    """Negative is the signal that killed it; None where it never started."""
    lines: tuple[TargetLine, ...]
    population: int | None
    """How many targets there are in all, where the script told."""
    stderr: str
    """Its last 16 KiB."""
    problem: str = ""


def script_environment(playbook: Playbook, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a playbook's script. PATH leads with our own interpreter, so that `env python3` finds our libraries."""
    passed = {name: environ[name] for name in playbook.pass_environment if name in environ}
    return {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LANG": "C.UTF-8"} | passed | playbook.environment


def run_script(
    argv: list[str],
    request: ScriptRequest,
    *,
    environment: Mapping[str, str],
    timeout_seconds: float,
    should_stop: Callable[[], str],
    on_start: Callable[[], None] = lambda: None,
    on_line: Callable[[TargetLine], None] = lambda _: None,
) -> ScriptResult:
    """Run `argv` to its end, its time limit, or until `should_stop` gives a reason; then kill all that is left of its process group.

    On Linux it is killed too when the thread that called this ends, be it by kill -9 of the whole process.
    `on_start` is called once it runs, `on_line` with each target's line as it arrives. Raises nothing of the script's making.
    """
    output = _Output(on_line)
    # A file and not a pipe: a script that never reads its input cannot block us.
    with tempfile.TemporaryFile() as stdin:
        stdin.write(msgspec.json.encode(request))
        stdin.seek(0)
        try:
            parent = os.getpid()
            process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                cwd="/",
                start_new_session=True,
                # Safe beside threads as long as it imports nothing and takes no lock.
                preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509
            )
        except (OSError, ValueError) as error:
            return ScriptResult("not_started", None, (), None, "", f"{argv[0]} did not start: {error}")
    with process:
        cut_short = ""
        try:
            on_start()
            cut_short = _pump(process, output, time.monotonic() + timeout_seconds, should_stop)
        finally:
            _end_group(process, gently=bool(cut_short))
        output.drain(process)
    if cut_short == "timed_out":
        return output.result("timed_out", process.returncode, f"killed after its time limit of {timeout_seconds:g} s")
    if output.flooded:
        return output.result("bad_output", process.returncode, output.problem)
    if cut_short:
        return output.result("stopped", process.returncode, f"killed: {cut_short}")
    output.end_of_input()
    return output.result("bad_output" if output.problem else "exited", process.returncode, output.problem)


def _die_with(parent: int) -> None:
    if _LIBC is None:
        return
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL.value, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be told
        os._exit(1)


class _Output:
    """What a script has written so far."""

    def __init__(self, on_line: Callable[[TargetLine], None]) -> None:
        self._on_line = on_line
        self._lines: list[TargetLine] = []
        self._population: int | None = None
        self._partial = b""
        self._bytes = 0
        self._stderr = b""
        self.problem = ""
        self.flooded = False

    def stdout(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        if self._bytes > MOST_OUTPUT_BYTES or len(self._partial) > LONGEST_LINE_BYTES:
            self.flooded = True
            self.problem = f"wrote more than {MOST_OUTPUT_BYTES} bytes, or {LONGEST_LINE_BYTES} in a line"
            return
        for line in whole:
            self._take(line)

    def stderr(self, chunk: bytes) -> None:
        self._stderr = (self._stderr + chunk)[-KEPT_STDERR_BYTES:]

    def end_of_input(self) -> None:
        self._take(self._partial)
        self._partial = b""

    def drain(self, process: subprocess.Popen[bytes]) -> None:
        """Take what was left in the pipes, without waiting for a grandchild that holds them open."""
        for pipe, feed in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            try:
                while not self.flooded and (chunk := os.read(pipe.fileno(), LONGEST_LINE_BYTES)):
                    feed(chunk)
            except BlockingIOError:
                pass

    def result(self, ended: Any, exit_code: int, problem: str) -> ScriptResult:
        return ScriptResult(ended, exit_code, tuple(self._lines), self._population, self._stderr.decode(errors="replace"), problem)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            parsed = parse_line(line)
        except ValueError as error:
            # The script may be in the midst of acting: keep listening, and call the run failed in the end.
            self.problem = self.problem or f"line {line[:200].decode(errors='replace')!r}: {error}"
            return
        if isinstance(parsed, int):
            self._population = parsed
        else:
            self._lines.append(parsed)
            self._on_line(parsed)


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    target: str | None = None
    action: str = ""
    result: str = ""
    state_before: dict[str, Any] = {}
    undo: dict[str, Any] | None = None
    message: str = ""
    population: int | None = None


_LINE = msgspec.json.Decoder(_Line)


def parse_line(line: bytes) -> TargetLine | int:
    """A line of a script's output: of a target, or its population. Raises `ValueError` for anything else."""
    parsed = _LINE.decode(line)
    if (parsed.target is None) == (parsed.population is None):
        raise ValueError("a line has either `target` or `population`")
    if parsed.population is not None:
        return parsed.population
    target = msgspec.convert({name: getattr(parsed, name) for name in TargetLine.__struct_fields__}, TargetLine)
    if not target.target:
        raise ValueError("`target` is empty")
    return target


def _pump(process: subprocess.Popen[bytes], output: _Output, deadline: float, should_stop: Callable[[], str]) -> str:
    """Feed the output until the script ends ('' is returned) or has to: why."""
    with selectors.DefaultSelector() as selector:
        assert process.stdout is not None
        assert process.stderr is not None
        selector.register(process.stdout, selectors.EVENT_READ, output.stdout)
        selector.register(process.stderr, selectors.EVENT_READ, output.stderr)
        while True:
            if time.monotonic() >= deadline:
                return "timed_out"
            if reason := should_stop():
                return reason
            ready = selector.select(POLL_SECONDS if selector.get_map() else EXIT_POLL_SECONDS)
            for key, _ in ready:
                if chunk := os.read(key.fd, LONGEST_LINE_BYTES):
                    key.data(chunk)
                else:
                    selector.unregister(key.fileobj)
            if output.flooded:
                return "flooded"
            # A grandchild may hold the pipes open after the script has ended.
            if not ready and _has_exited(process):
                return ""


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    # WNOWAIT leaves the process a zombie, so that its group id cannot pass to a stranger before `_end_group` has used it.
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_group(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    if gently:
        _signal_group(process, signal.SIGTERM)
        patience = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < patience and not _has_exited(process):
            time.sleep(EXIT_POLL_SECONDS)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # some kernels say so of a group that is only a zombie
        os.killpg(process.pid, number)
