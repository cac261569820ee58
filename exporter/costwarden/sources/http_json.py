"""Providers without a library that answers exactly: JSON over HTTPS, its numbers to the last digit.

Every attempt is told to `Requests` before it leaves. One that is throttled, that meets a fault of the server or that breaks off is made
again, after the time that the server asks for, or else after ever longer ones. `close` ends all waiting, from any thread.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from costwarden.settings import Secret
from costwarden.sources.requests import Requests, SourceError

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 10.0

WORTH_REPEATING = frozenset({408, 429, 500, 502, 503, 504, 529})
"""529 is Anthropic's `overloaded_error`: https://docs.anthropic.com/en/api/errors."""

MOST_BYTES = 64 * 1024 * 1024
"""Of one answer: a page of 180 days is some hundred kilobytes."""

MOST_PAGES = 10_000

LONGEST_MESSAGE = 300

ENDED = "ended while it was being read"


def _number(text: str) -> Decimal | str:
    """The number as it is written; its text where not even `Decimal` has such an exponent, so that its line alone is rejected."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


_EXACT_JSON = msgspec.json.Decoder(dict[str, Any], float_hook=_number)

_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL)
"""An escape of a JSON text; the group is half of a surrogate pair without the other."""

Parameters = Sequence[tuple[str, str]]
"""Of a query, in order; a name may come again."""

Explain = Callable[[int], str]
"""Status of a refusal -> a sentence that says what to do; empty where the provider's own is all there is to say."""


class Retries(NamedTuple):
    """How often a request is made, and what is waited in between where the server does not say."""

    attempts: int = 4
    first_wait_seconds: float = 0.5
    """Then twice that, and so on."""
    longest_wait_seconds: float = 120.0
    """A server that asks for more than this is asked again at the next refresh."""


class Reply(NamedTuple):
    """An answer."""

    body: dict[str, Any]
    """Numbers with a point are `Decimal`."""
    headers: Mapping[str, str]
    """Names in lower case."""


class JsonApi:
    """One provider's API. Not for several threads at once, `close` apart.

    `headers` is called before every attempt and gives those that prove who asks; no value of theirs ever gets into a message.
    """

    def __init__(
        self,
        who: str,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        requests: Requests,
        *,
        timeout_seconds: float,
        explain: Explain = lambda _status: "",
        retries: Retries = Retries(),  # noqa: B008  a tuple of numbers
    ) -> None:
        self._who, self._url, self._headers, self._requests = who, url.rstrip("/"), headers, requests
        self._timeout_seconds, self._explain, self._retries = timeout_seconds, explain, retries
        self._closing = threading.Event()
        self._socket: socket.socket | None = None
        self._made: httpx.Client | None = None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closing.is_set()

    def get(self, path: str, parameters: Parameters = ()) -> Reply:
        """The answer to a request for `path` below the URL.

        Raises `SourceError`: what failed and what to do.
        """
        attempts, pause, longest = self._retries
        while True:
            answer = self._attempt(path, parameters)
            if isinstance(answer, Reply):
                return answer
            attempts -= 1
            if not attempts:
                raise SourceError(f"{self._who}: {answer.sentence} ({self._retries.attempts} attempts)")
            wait = pause if answer.wait_seconds is None else answer.wait_seconds
            if wait > longest:
                raise SourceError(f"{self._who}: {answer.sentence}; it asks to wait {wait:.0f} s, so the next refresh tries again")
            if self._closing.wait(wait):
                raise SourceError(ENDED)
            pause *= 2

    def close(self) -> None:
        """End the request under way and all waiting; there is no other request after it."""
        self._closing.set()
        # `shutdown` wakes the thread that reads, which closing does not. Of the base class, because that of a TLS socket would take its
        # state away from under that thread.
        if (connection := self._socket) is not None:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the connections back, when no request is under way."""
        if self._made is not None:
            self._made.close()
            self._made = None

    def _attempt(self, path: str, parameters: Parameters) -> Reply | _Failure:
        """One attempt: its answer, or a failure that is worth another attempt. Raises `SourceError` for one that is not."""
        import httpx

        headers = self._headers()
        if self._closing.is_set():
            raise SourceError(ENDED)
        self._requests.about_to_ask()
        try:
            with self._client().stream(
                "GET", f"{self._url}{path}", params=list(parameters), headers=dict(headers), extensions={"trace": self._note_socket}
            ) as answer:
                content = self._whole(answer)
        except _TooLarge:
            raise SourceError(
                f"{self._who}: GET {path}: the answer is larger than {MOST_BYTES >> 20} MiB, which no page of its is"
            ) from None
        except httpx.HTTPError as error:
            self._check_open()
            if isinstance(error, httpx.TimeoutException):
                return _Failure(f"GET {path}: no answer within {self._timeout_seconds:g} s (`request_timeout_seconds`)")
            return _Failure(f"GET {path}: no whole answer: {_redacted(str(error) or type(error).__name__, headers)}")
        except httpx.InvalidURL as error:
            raise SourceError(f"{self._who}: {self._url}{path}: {error} (`endpoint_url`)") from None
        if answer.status_code == 200:
            return Reply(self._object(path, content), answer.headers)
        message = _redacted(_message(content), headers)
        sentence = f"GET {path}: HTTP {answer.status_code}" + (f": {message}" if message else "")
        if answer.status_code in WORTH_REPEATING:
            return _Failure(sentence, _retry_after(answer.headers.get("retry-after", "")))
        advice = self._explain(answer.status_code)
        raise SourceError(f"{self._who}: {sentence}" + (f"; {advice}" if advice else ""))

    def _whole(self, answer: httpx.Response) -> bytes:
        import httpx

        deadline = time.monotonic() + self._timeout_seconds
        content = bytearray()
        for chunk in answer.iter_bytes():
            self._check_open()
            content += chunk
            if len(content) > MOST_BYTES:
                raise _TooLarge
            # httpx bounds the wait for each piece; an answer that trickles would never end.
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer trickles")
        return bytes(content)

    def _object(self, path: str, content: bytes) -> dict[str, Any]:
        try:
            return _decoded(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            sentence = f"GET {path}: the answer is no JSON object; is there something in between (`endpoint_url`, a proxy)?"
            raise SourceError(f"{self._who}: {sentence}") from None

    def _client(self) -> httpx.Client:
        if self._made is None:
            import httpx

            timeout = httpx.Timeout(self._timeout_seconds, connect=min(CONNECT_SECONDS, self._timeout_seconds))
            # Redirects are not followed: the key would go along.
            self._made = httpx.Client(timeout=timeout, headers={"User-Agent": "costwarden", "Accept": "application/json"})
        return self._made

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        # https://www.encode.io/httpcore/extensions/#trace
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._closing.is_set():
                self.close()

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise SourceError(ENDED) from None


class _Failure(NamedTuple):
    sentence: str
    wait_seconds: float | None = None


class _TooLarge(Exception):
    """An answer of more than `MOST_BYTES`."""


def pages(who: str, ask: Callable[[str], dict[str, Any]], following: Callable[[dict[str, Any]], str]) -> Iterator[dict[str, Any]]:
    """The pages of a list. `ask` takes the token of a page, empty for the first; `following` finds that of the next, empty for none.

    Raises `SourceError` where a token comes again, or there is no end.
    """
    token, seen = "", {""}
    for _ in range(MOST_PAGES):
        page = ask(token)
        yield page
        token = following(page)
        if not token:
            return
        if token in seen:
            raise SourceError(f"{who}: the page {token[:80]!r} comes after itself")
        seen.add(token)
    raise SourceError(f"{who}: more than {MOST_PAGES} pages")


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        return _EXACT_JSON.decode(content)
    except msgspec.DecodeError:
        # One broken letter in a name is no reason to read nothing; msgspec takes no half of a surrogate pair.
        mended = _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], content)
        if mended == content:
            raise
        return _EXACT_JSON.decode(mended)


def _message(content: bytes) -> str:
    """The sentence in `{"error": {"message": …}}`, as OpenAI, Anthropic and Google answer, on one line."""
    try:
        body = _decoded(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    error = body.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(message.split())[:LONGEST_MESSAGE].rstrip(".") if isinstance(message, str) else ""


def _redacted(message: str, headers: Mapping[str, str]) -> str:
    for value in headers.values():
        secret = value.removeprefix("Bearer ")
        if len(secret) >= 8:
            message = message.replace(secret, "…")
    return message


def _retry_after(value: str) -> float | None:
    """Seconds, from a number or a date: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after. None where it says neither."""
    try:
        # Not `float`, which knows `nan` and `1e999`.
        return float(Decimal(value)) if value.replace(".", "", 1).isdecimal() else max(0.0, _seconds_until(value))
    except (ValueError, TypeError, OverflowError):
        return None


def _seconds_until(value: str) -> float:
    when = parsedate_to_datetime(value)
    return (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def revealed(reveal: Callable[[Secret], str], secret: Secret, key: str) -> str:
    """The secret that the setting `key` names. Raises `SourceError` where it is missing, or cannot stand in a header."""
    try:
        found = reveal(secret)
    except Exception as error:  # noqa: BLE001  what it raises is not for this part of the program to know
        raise SourceError(f"{error} (`{key}`)") from None
    if not found.isascii() or not found.isprintable() or " " in found:
        raise SourceError(f"what `{key}` names holds spaces, line breaks or letters that no key has")
    return found
