"""Kept-alive connections to one server, for short requests: a quarter of the processor time that a general HTTP client takes."""

import http.client
import threading
import time
from collections import deque
from urllib.parse import urlsplit

IDLE_SECONDS = 4.0
"""Ours goes before the server, or what is between, may close it, so that no request meets a closing one."""


class Unreachable(Exception):
    """No answer. `asked` is whether the server may have taken the request all the same."""

    def __init__(self, reason: str, *, asked: bool) -> None:
        super().__init__(reason)
        self.asked = asked


class Answer:
    """Status, headers and the whole body of an answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Connections:
    """As many as there are requests at once; the one that was used last is used first. Thread-safe."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host = parts.hostname or ""
        self._port = parts.port
        self._prefix = parts.path.rstrip("/")
        self._free: deque[tuple[http.client.HTTPConnection, float]] = deque()
        self._lock = threading.Lock()

    def post(self, path: str, body: bytes, headers: dict[str, str], timeout_seconds: float) -> Answer:
        """`POST path`, with `timeout_seconds` for each of connecting, sending and waiting. Raises `Unreachable`."""
        connection = self._take()
        connected = connection.sock is not None
        try:
            connection.timeout = timeout_seconds
            if connection.sock is None:
                connection.connect()
                connected = True
            else:
                connection.sock.settimeout(timeout_seconds)
            connection.request("POST", f"{self._prefix}{path}", body, headers)
            response = connection.getresponse()
            answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        except TimeoutError:
            connection.close()
            raise Unreachable(f"no answer within {timeout_seconds:g} s", asked=connected) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(str(error) or type(error).__name__, asked=connected) from error
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._free.append((connection, time.monotonic()))
        return answer

    def _take(self) -> http.client.HTTPConnection:
        oldest = time.monotonic() - IDLE_SECONDS
        with self._lock:
            while self._free and self._free[0][1] < oldest:
                self._free.popleft()[0].close()
            if self._free:
                return self._free.pop()[0]
        return self._kind(self._host, self._port)

    def close(self) -> None:
        """Close those that are not in use."""
        with self._lock:
            while self._free:
                self._free.pop()[0].close()
