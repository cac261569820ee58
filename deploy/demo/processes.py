"""Programs that run beside us and never outlive us: a log for each, readiness polled, all ended together."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02
START_SECONDS = 60.0
"""A program that does not answer by then has failed; on two busy cores they take 1 to 5."""
GRACE_SECONDS = 10.0
"""Between SIGTERM and SIGKILL."""

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
"""All that a program sees of ours: neither proxy settings nor cloud credentials, and no home directory."""

# https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class NotInTime(Exception):
    """Something did not happen by its deadline; the message says what, and what was seen last."""


class StartFailed(Exception):
    """A program ended, or did not answer; the message has the end of its log."""


def wait_for(what: str, probe: Callable[[], T], seconds: float) -> T:
    """The first true answer of `probe`, which is asked again and again. Raises `NotInTime` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise NotInTime(f"{what}: not within {seconds:g} s; seen last: {answer!r}")
        time.sleep(POLL_SECONDS)
    return answer


# Below the range out of which Linux takes the ports of outgoing connections: one of those could take a port before its server does.
# Every process has ports of its own, because nothing listens yet on those that another one has just been given.
_PORTS = cycle(range(10_000 + os.getpid() % 97, 32_000, 97))


def free_port() -> int:
    """A loopback port that nothing listens on, another one at each call (of the next 200)."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a cycle does not end")


class Processes:
    """The programs, by name. Use it in `with`: leaving ends them all, whatever happened.

    Start programs from the main thread: the kernel takes the end of the thread that started one for the end of its parent.
    """

    def __init__(self, logs: Path, grace_seconds: float = GRACE_SECONDS) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._grace_seconds = grace_seconds
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(*self._running)

    def launch(self, name: str, argv: Sequence[str | Path], more: Mapping[str, str] | None = None) -> None:
        """Start `argv` with `ENVIRONMENT` and `more`, and do not wait for it."""
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**ENVIRONMENT, **(more or {})},
                # A Ctrl-C at the terminal is for us alone; we end them in order.
                start_new_session=True,
                preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509 (one call into the C library, which is loaded already)
            )

    def await_ready(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Return once `is_ready`. Raises `StartFailed` where the program ends first, or takes longer than `START_SECONDS`."""
        process = self._running[name]
        try:
            wait_for(name, lambda: process.poll() is not None or is_ready(), START_SECONDS)
        except NotInTime as error:
            raise StartFailed(f"{error}; the end of its log:\n{self._last_words(name)}") from None
        if process.poll() is not None:
            raise StartFailed(f"{name} ended with exit code {process.returncode}; the end of its log:\n{self._last_words(name)}")

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self._logs / f"{name}.log"

    def pid(self, name: str) -> int:
        """The process id of a running program."""
        return self._running[name].pid

    def kill(self, name: str) -> None:
        """SIGKILL, as a crash does it: nothing is flushed, nothing said goodbye to."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def freeze(self, name: str) -> None:
        """SIGSTOP: it does nothing and answers nobody, though its sockets take connections."""
        self._running[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let a frozen program go on."""
        self._running[name].send_signal(signal.SIGCONT)

    def await_end(self, name: str) -> int:
        """Wait for a program that ends by itself; its exit code."""
        return self._running[name].wait(START_SECONDS)

    def stop(self, *names: str) -> None:
        """Ask the programs to end, all at once; kill the process group of what does not in time."""
        processes = [self._running.pop(name) for name in names]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self._grace_seconds
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _last_words(self, name: str) -> str:
        return "\n".join(self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def _end_with(parent: int) -> Callable[[], None] | None:
    """What the child does between fork and exec, so that it dies with us even where we are killed. Elsewhere than on Linux nothing."""
    if _LIBC is None:
        return None

    def ask_kernel() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel
