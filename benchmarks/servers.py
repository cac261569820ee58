"""What the benches run: server processes until they answer, and a PostgreSQL that writes to the disk as one in production does."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROGRAM = str(Path(sys.executable).parent / "costwarden")
START_SECONDS = 60

DURABLE = ("shared_buffers=256MB", "max_connections=100", "max_wal_size=4GB")
"""PostgreSQL's own defaults but for the sizes: `fsync`, `synchronous_commit` and `full_page_writes` are on."""


PLACE = "/var/tmp"
"""Its files outlive a restart of the machine, so that they are on a disk; `/tmp` may be memory."""


# Stopped from outside, a bench ends what it has started too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """User and system time of a process, from proc_pid_stat(5)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(argv: Sequence[str], port: int, path: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A server process once it answers `path`; ended on the way out. `options` are those of `Popen`."""
    process = subprocess.Popen(argv, **options)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{argv[0]} did not start")
            time.sleep(0.005)
        yield process
    finally:
        process.terminate()
        process.wait()


def serving(directory: Path, config: str, port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """`costwarden serve` with `config`, the text of a configuration in which `{port}` stands for the port."""
    file = directory / f"costwarden-{port}.yaml"
    file.write_text(config.format(port=port))
    return running([PROGRAM, "serve", "--config", str(file)], port, "/readyz")


def postgresql() -> AbstractContextManager[Any]:
    """The server of the tests (`tests/postgresql_server.py`), with a disk under it."""
    spec = importlib.util.spec_from_file_location("postgresql_server", HERE.parent / "tests" / "postgresql_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server: AbstractContextManager[Any] = module.PostgresqlServer(settings=DURABLE, place=PLACE)
    return server
