"""HTTP as `serve` speaks it, byte by byte."""

import asyncio
import socket
import struct
import sys
import threading

import pytest
import uvicorn
import uvloop

from costwarden.cli.listen import JoinedWrites, listen, uvicorn_config

LARGE = bytes(range(256)) * 40_000  # 10 MB: more than any buffer of a socket


async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/upload":
        while (await receive()).get("more_body"):
            pass
    body = {"/large": LARGE, "/nothing": b""}.get(scope["path"], b"an answer")
    status = 204 if scope["path"] == "/nothing" else 200
    if scope["path"] == "/parts":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one ", b"two ", b"three"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
        return
    length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": length})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def address():
    listening = listen("127.0.0.1", 0)
    config = uvicorn_config(app)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture
def connection(address):
    with socket.create_connection(address, timeout=60) as opened:
        yield opened


def request(path, method="GET", headers=""):
    return f"{method} {path} HTTP/1.1\r\nhost: here\r\n{headers}\r\n".encode()


def read(connection, size):
    """`size` bytes, or all until the server closes the connection."""
    found = bytearray()
    while len(found) < size and (part := connection.recv(1 << 20)):
        found += part
    return bytes(found)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the segments of a connection")
def test_headers_and_body_of_an_answer_leave_in_one_piece(connection):
    for _ in range(10):
        connection.sendall(request("/"))
        assert read(connection, 47) == b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nan answer"
    # tcpi_data_segs_in of struct tcp_info in linux/tcp.h: 8 bytes, 24 u32, 4 u64 and 4 u32 before it.
    (segments,) = struct.unpack_from("I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), 8 + 24 * 4 + 4 * 8 + 4 * 4)
    # Ten answers; headers and body apart, there would be twenty. A busy machine may send one again.
    assert 10 <= segments < 20


def test_requests_of_one_connection_are_answered_in_their_order(connection):
    connection.sendall(request("/") + request("/nothing") + request("/"))
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nan answer"
    expected = answer + b"HTTP/1.1 204 No Content\r\n\r\n" + answer
    assert read(connection, len(expected)) == expected


def test_a_large_answer_arrives_whole(connection):
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(LARGE)
    connection.sendall(request("/large"))
    found = read(connection, len(head) + len(LARGE))
    assert found[: len(head)] == head
    assert found[len(head) :] == LARGE


def test_an_answer_in_parts_arrives_whole(connection):
    expected = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"
    connection.sendall(request("/parts"))
    assert read(connection, len(expected)) == expected


def test_headers_without_a_body_wait_for_nothing(connection):
    connection.sendall(request("/", "HEAD"))
    assert read(connection, 38) == b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"


def test_a_client_that_asks_first_is_told_to_go_on(connection):
    connection.sendall(request("/upload", "POST", "content-length: 4\r\nexpect: 100-continue\r\n"))
    assert read(connection, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(b"body")
    assert read(connection, 47) == b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nan answer"


@pytest.mark.parametrize("path", ["/", "/large"])
def test_the_last_answer_of_a_connection_arrives_before_it_is_closed(connection, path):
    connection.sendall(request(path, headers="connection: close\r\n"))
    body = LARGE if path == "/large" else b"an answer"
    assert read(connection, 1 << 30).endswith(body)


def test_a_connection_that_idles_outlives_the_default_of_5_seconds(connection):
    connection.sendall(request("/nothing"))
    assert read(connection, 27) == b"HTTP/1.1 204 No Content\r\n\r\n"
    connection.settimeout(6)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.sendall(request("/nothing"))
    assert read(connection, 27) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_what_is_no_request_is_told_so(connection):
    connection.sendall(b"nonsense\r\n\r\n")
    assert read(connection, 1 << 30).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_an_answer_to_a_client_that_has_gone_is_dropped_without_a_word():
    class Late(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, _):
            self.transport.close()  # as uvloop does where the client has gone; it forgets the connection before it sends what is held
            JoinedWrites(self.transport, asyncio.get_running_loop()).write(b"an answer")

    async def ask():
        errors = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with await asyncio.get_running_loop().create_server(Late, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"a question")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        return errors

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()) == []
