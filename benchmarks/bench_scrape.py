"""A scrape as Prometheus makes it (OpenMetrics, gzip), against the same bytes served as a file, and against prometheus_client.

The floor is the same ASGI application under the same uvicorn, with a handler that reads the ready bytes from a file; Starlette's
`FileResponse` is shown beside it. The peer is `prometheus_client.generate_latest` on the same samples, in process: neither its gzip
nor its HTTP is counted. Aims: within 1.5 times the file, and 20 times faster than the peer. Rendering anew is shown as well: it runs
beside the requests, never in a scrape.
"""

import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from scrape_samples import FAMILY, page_of, samples_of

ROUNDS = 40
PEER_ROUNDS = 3
TARGET_FILE = 1.5
TARGET_PEER = 20.0
# What Prometheus 2.53 sends.
ACCEPT = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PATHS = ("/metrics", "/file", "/static")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect(process: subprocess.Popen[bytes], port: int) -> socket.socket:
    """A connection to the server, once it listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the server did not start") from None
            time.sleep(0.05)


@contextmanager
def server(series: int) -> Iterator[socket.socket]:
    """A connection to a server that has `series` series, and its end."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(__file__).with_name("scrape_server.py")
        process = subprocess.Popen([sys.executable, str(program), str(port), str(series), folder])
        try:
            with connect(process, port) as connection:
                yield connection
        finally:
            process.terminate()
            process.wait()


def fetch(connection: socket.socket, path: str, buffer: bytearray) -> int:
    """One request on a kept connection; the length of the body once its last byte is here."""
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: {ACCEPT}\r\naccept-encoding: gzip\r\n\r\n".encode())
    received = connection.recv_into(buffer)
    while (end := buffer.find(b"\r\n\r\n", 0, received)) < 0:
        received += connection.recv_into(memoryview(buffer)[received:])
    head = bytes(buffer[:end]).lower()
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(head.decode())
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    while received < end + 4 + length:
        received += connection.recv_into(memoryview(buffer)[received:])
    return length


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def scrapes(series: int) -> tuple[dict[str, float], int]:
    """Median seconds of a request by path, in alternating rounds; and the bytes that each is."""
    times: dict[str, list[float]] = {path: [] for path in PATHS}
    buffer = bytearray(64 * 1024 * 1024)
    with server(series) as connection:
        lengths = {fetch(connection, path, buffer) for path in PATHS}
        if len(lengths) != 1:
            raise SystemExit(f"the paths answer different bodies: {lengths}")
        for _ in range(ROUNDS):
            for path in PATHS:
                times[path].append(timed(lambda path=path: fetch(connection, path, buffer)))  # type: ignore[misc]
    return {path: statistics.median(values) for path, values in times.items()}, lengths.pop()


class _Ready:
    """A collector whose metric is made already, so that only the rendering of the peer is measured."""

    def __init__(self, series: int) -> None:
        self._metric = GaugeMetricFamily(FAMILY.name, FAMILY.help, labels=FAMILY.labels)
        for labels, value in samples_of(series):
            self._metric.add_metric(labels, value)

    def collect(self) -> Iterable[Metric]:
        return [self._metric]


def peer(series: int) -> float:
    """Median seconds of `generate_latest`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ready(series))
    return statistics.median(timed(lambda: generate_latest(registry)) for _ in range(PEER_ROUNDS))


def rendering(series: int) -> tuple[float, float]:
    """Seconds of the first rendering, and median of those that follow."""
    page = page_of(series)
    return timed(page.render), statistics.median(timed(page.render) for _ in range(PEER_ROUNDS))


def main() -> None:
    """Print all figures; say whether the aims are reached."""
    met = True
    for series in (20_000, 100_000):
        times, length = scrapes(series)
        theirs = peer(series)
        first, again = rendering(series)
        ours, floor = times["/metrics"], times["/file"]
        met = met and ours / floor <= TARGET_FILE and theirs / ours >= TARGET_PEER
        print(f"{series:,} series, {length / 1e6:.2f} MB compressed")
        print(f"  scrape                 {ours * 1e3:>9.2f} ms")
        print(f"  same bytes from a file {floor * 1e3:>9.2f} ms   ratio {ours / floor:.2f}  (aim: at most {TARGET_FILE})")
        print(f"  Starlette FileResponse {times['/static'] * 1e3:>9.2f} ms   ratio {ours / times['/static']:.2f}")
        print(f"  generate_latest        {theirs * 1e3:>9.2f} ms   ratio {theirs / ours:.0f} x  (aim: {TARGET_PEER:.0f} x)")
        print(f"  rendering, first time  {first * 1e3:>9.2f} ms   both formats, each also compressed; beside the requests")
        print(f"  rendering again        {again * 1e3:>9.2f} ms   {theirs / again:.1f} x faster than generate_latest makes one")
    print("aims reached" if met else "an aim was missed")


if __name__ == "__main__":
    main()
