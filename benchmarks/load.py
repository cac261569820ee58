"""The load client of the benches: keep-alive connections over HTTP/1.1 on uvloop, as little work a request as Python allows."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence

import msgspec
import uvloop


class Result(msgspec.Struct):
    """What a round measured: pairs of requests a second, latencies of single requests in milliseconds."""

    pairs_per_second: float
    p50_ms: float
    p99_ms: float


class _Connection(asyncio.Protocol):
    """One request at a time; the answer's body is handed to the waiting future."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def request(self, data: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        self._waiting = asyncio.get_running_loop().create_future()
        assert self._transport is not None
        self._transport.write(data)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(rest) < length or self._waiting is None:
            return
        self._buffer = rest[length:]
        self._waiting.set_result((int(head[9:12]), rest[:length]))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionError("the server closed the connection"))


def post(path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    return b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        path.encode(),
        len(body),
        body,
    )


def get(path: str) -> bytes:
    """A request as it goes over the wire."""
    return b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode()


def run_pairs(
    port: int | Sequence[int], connections: int, pairs: int, first: Callable[[int], bytes], second: Callable[[bytes, int], bytes]
) -> Result:
    """`pairs` times a request `first(connection)` and then `second(answer, connection)`, spread over `connections`.

    Of several ports each gets its share of the connections. Every answer must be 200.
    """
    ports = [port] if isinstance(port, int) else port

    async def measure() -> Result:
        loop = asyncio.get_running_loop()
        latencies: list[float] = []

        async def worker(number: int) -> None:
            transport, connection = await loop.create_connection(_Connection, "127.0.0.1", ports[number % len(ports)])
            for _ in range(pairs // connections):
                started = time.perf_counter()
                status, body = await connection.request(first(number))
                middle = time.perf_counter()
                if status != 200:
                    raise SystemExit(f"status {status}: {body.decode()}")
                status, body = await connection.request(second(body, number))
                if status != 200:
                    raise SystemExit(f"status {status}: {body.decode()}")
                latencies.append(middle - started)
                latencies.append(time.perf_counter() - middle)
            transport.close()

        started = time.perf_counter()
        await asyncio.gather(*(worker(number) for number in range(connections)))
        elapsed = time.perf_counter() - started
        latencies.sort()
        return Result(len(latencies) / 2 / elapsed, statistics.median(latencies) * 1e3, latencies[int(len(latencies) * 0.99)] * 1e3)

    return uvloop.run(measure())
