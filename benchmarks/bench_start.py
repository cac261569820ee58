"""How soon the program answers, and what an idle server holds: `--help`, `serve` until it is ready, resident memory."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

PROGRAM = str(Path(sys.executable).parent / "costwarden")
ROUNDS = 5
TARGETS = {"--help": 0.5, "serve answers": 2.0, "idle MiB": 150.0}


def help_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([PROGRAM, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def bare_seconds() -> float:
    """The floor: the interpreter with the site packages, and nothing to do."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import click"], check=True)
    return time.perf_counter() - started


def serve_seconds(directory: Path) -> tuple[float, float]:
    """Seconds until `/readyz` answers on a new ledger, and the resident memory in MiB once the server is at rest."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "costwarden.yaml"
    config.write_text(f"server: {{port: {port}}}\nlogs: {{level: error}}\n")
    started = time.perf_counter()
    process = subprocess.Popen([PROGRAM, "serve", "--config", str(config)])
    try:
        while True:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                break
            if process.poll() is not None or time.perf_counter() - started > 30:
                raise SystemExit("serve did not start")
            time.sleep(0.01)
        elapsed = time.perf_counter() - started
        resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    finally:
        process.terminate()
        process.wait()
    return elapsed, resident


def main() -> None:
    helps = statistics.median(help_seconds() for _ in range(ROUNDS))
    bare = statistics.median(bare_seconds() for _ in range(ROUNDS))
    starts = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as name:
            starts.append(serve_seconds(Path(name)))
    figures = {
        "--help": helps,
        "serve answers": statistics.median(elapsed for elapsed, _ in starts),
        "idle MiB": statistics.median(resident for _, resident in starts),
    }
    print(f"floor: `import click` alone takes {bare:.3f} s; --help is {helps / bare:.1f} times that")
    for name, figure in figures.items():
        print(f"{name:>14}  {figure:8.3f}  target below {TARGETS[name]:g}, ratio {figure / TARGETS[name]:.2f}")


if __name__ == "__main__":
    main()
