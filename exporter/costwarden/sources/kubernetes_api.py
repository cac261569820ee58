"""The allocation API of OpenCost and Kubecost: one day of one address at a time.

Paths and parameters: https://opencost.io/docs/integrations/api and https://docs.kubecost.com/apis/monitoring-apis/api-allocation
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import httpx

from costwarden.sources.requests import Requests, SourceError
from costwarden.sources.settings import KubernetesSettings
from costwarden.sources.windows import ONE_DAY

PATHS = {"opencost": "/allocation", "kubecost": "/model/allocation"}

# Idle cost stays a row of its own: what is spread over workloads cannot be told from their own cost afterwards. OpenCost keeps labels of
# an aggregate only where it is asked to.
PARAMETERS = {
    "opencost": {"includeIdle": "true", "shareIdle": "false", "includeAggregatedMetadata": "true"},
    "kubecost": {"idle": "true", "shareIdle": "false", "external": "false", "includeAggregatedMetadata": "true"},
}

ATTEMPTS = 3
FIRST_PAUSE_SECONDS = 0.5
"""Before the second attempt; twice that before the third. `Retry-After` holds where it is sent."""

LONGEST_PAUSE_SECONDS = 60.0

CONNECT_SECONDS = 10.0

SHORTEST_SECRET = 8
"""What is shorter stands in many a word."""

LONGEST_INT = 18

MOST_BYTES = 64 * 1024 * 1024
"""Of one answer. A workload takes some three kilobytes, so that this is a day of twenty thousand of them; in memory it is several times as
large."""

PASSING = frozenset({429, 500, 502, 503, 504})
"""Answers that another attempt may better: OpenCost says 500 where its Prometheus did not answer."""

Allocations = Mapping[str, Mapping[str, Any]]
"""Name -> allocation, as the API has it; numbers with a point are `Decimal`."""


class DayUnreadable(SourceError):
    """A day was not answered for; another one may be."""


class AllocationApi:
    """Asks for allocations. `close` ends a request that is under way in another thread."""

    def __init__(self, settings: KubernetesSettings, token: str, requests: Requests) -> None:
        self._settings, self._requests = settings, requests
        self._where = settings.url + PATHS[settings.product]
        self._token = token
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._asking = False
        self._socket: socket.socket | None = None
        verify: ssl.SSLContext | bool = True
        if settings.ca_file is not None:
            try:
                verify = ssl.create_default_context(cafile=str(settings.ca_file))
            except (OSError, ssl.SSLError) as error:
                raise SourceError(f"`ca_file` {settings.ca_file}: {error}") from None
        self._client = httpx.Client(
            verify=verify,
            headers={"User-Agent": "costwarden", "Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
            timeout=httpx.Timeout(settings.request_timeout_seconds, connect=min(CONNECT_SECONDS, settings.request_timeout_seconds)),
            # The API is beside its cluster, and a token goes nowhere else.
            trust_env=False,
            follow_redirects=False,
        )

    def day(self, day: date, aggregate: Sequence[str]) -> list[Allocations]:
        """The sets of allocations of a day (UTC), added up by `aggregate`.

        Raises `DayUnreadable`, or `SourceError` where no other day would be answered for either.
        """
        sets = self._ask({"window": f"{day}T00:00:00Z,{day + ONE_DAY}T00:00:00Z", "aggregate": ",".join(aggregate), "accumulate": "false"})
        for found in sets:
            for allocation in found.values():
                self._check_window(allocation.get("window"), day)
        return sets

    def today(self) -> list[Allocations]:
        """The allocations of today so far by cluster: one cheap request."""
        return self._ask({"window": "today", "aggregate": "cluster", "accumulate": "false"})

    def close(self) -> None:
        """End the request that is under way; there is no other one after it."""
        self._closed.set()
        self._cut()
        with self._lock:
            # The thread that asks gives the connections back itself: they are not to be taken away from under it.
            if not self._asking:
                self._client.close()

    def _ask(self, parameters: Mapping[str, str]) -> list[Allocations]:
        with self._lock:
            self._check_open()
            self._asking = True
        try:
            answer, content = self._answer({**parameters, **PARAMETERS[self._settings.product]})
        finally:
            with self._lock:
                self._asking = False
                if self._closed.is_set():
                    self._client.close()
        try:
            # The text of a number is what was answered; a float would be near it.
            body = json.loads(content, parse_float=_number, parse_int=_number, parse_constant=_refuse)
        except (ValueError, RecursionError):
            body = None
        if answer.status_code != httpx.codes.OK:
            self._raise(answer.status_code, body)
        if body is None:
            kind = answer.headers.get("content-type", "an unknown type").partition(";")[0]
            raise SourceError(f"{self._where}: answers {kind}, not JSON; OpenCost's API has port 9003, its pages have 9090")
        data = body.get("data") if isinstance(body, dict) else None
        if not isinstance(data, list):
            raise DayUnreadable(f"{self._where}: the answer has no list `data`")
        sets = [found for found in data if found is not None]
        if not all(isinstance(found, dict) and all(isinstance(one, dict) for one in found.values()) for found in sets):
            raise DayUnreadable(f"{self._where}: `data` holds something else than sets of allocations")
        return sets

    def _answer(self, parameters: Mapping[str, str]) -> tuple[httpx.Response, bytes]:
        for attempt in range(ATTEMPTS):
            self._check_open()
            self._requests.about_to_ask()
            pause = FIRST_PAUSE_SECONDS * 2**attempt
            try:
                with self._client.stream("GET", self._where, params=parameters, extensions={"trace": self._note}) as answer:
                    content = self._whole(answer)
            except httpx.TimeoutException:
                self._check_open()
                seconds = self._settings.request_timeout_seconds
                raise DayUnreadable(f"{self._where}: no answer within {seconds:g} s (`request_timeout_seconds`)") from None
            except httpx.ConnectError as error:
                self._check_open()
                self._unreachable(error)
            except httpx.HTTPError as error:
                self._check_open()
                if attempt + 1 == ATTEMPTS:
                    raise DayUnreadable(f"{self._where}: the connection broke off: {error}") from None
            else:
                if answer.status_code not in PASSING or attempt + 1 == ATTEMPTS:
                    return answer, content
                pause = _retry_after(answer, pause)
            self._closed.wait(min(pause, LONGEST_PAUSE_SECONDS))
        raise AssertionError("the last attempt returns or raises")

    def _whole(self, answer: httpx.Response) -> bytes:
        deadline = time.monotonic() + self._settings.request_timeout_seconds
        content = bytearray()
        for piece in answer.iter_bytes():
            content += piece
            if len(content) > MOST_BYTES:
                size = MOST_BYTES >> 20
                raise DayUnreadable(f"{self._where}: a day is more than {size} MiB; let fewer tags of `attribution` be asked for by it")
            # httpx bounds the wait for each piece; an answer that trickles would never end.
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer trickles")
        return bytes(content)

    def _raise(self, status: int, body: Any) -> NoReturn:
        said = str(body.get("message") or body.get("error") or "") if isinstance(body, dict) else ""
        # Something in between may say what it was sent.
        said = said.replace(self._token, "…") if len(self._token) >= SHORTEST_SECRET else said
        sentence = f"{self._where}: answers {status}" + (f": {said[:300]}" if said else "")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            what = "the token has no right to read allocations" if self._settings.token else "set `token`"
            raise SourceError(f"{sentence}; {what}")
        if status in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED) or 300 <= status < 400:
            other = "kubecost" if self._settings.product == "opencost" else "opencost"
            raise SourceError(f"{sentence}; is `url` right, or is it `product: {other}`?")
        raise DayUnreadable(sentence)

    def _unreachable(self, error: httpx.ConnectError) -> NoReturn:
        if "CERTIFICATE" in str(error).upper():
            raise SourceError(f"{self._where}: its certificate is not trusted ({error}); name its authority in `ca_file`") from None
        raise SourceError(f"{self._where}: cannot be reached ({error}); is `url` right, and does it run?") from None

    def _check_window(self, window: Any, day: date) -> None:
        try:
            start, end = (datetime.fromisoformat(window[name]).astimezone(UTC) for name in ("start", "end"))
        except (TypeError, KeyError, ValueError):
            return
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if start < begin or end > begin + ONE_DAY:
            raise SourceError(
                f"{self._where}: asked for {day}, answered for {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}: its days are not those of "
                "UTC, so some would count twice; set its UTC offset to 0"
            )

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        # A blocked read does not notice that its client is closed; it does notice that its socket is shut down.
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._closed.is_set():
                self._cut()

    def _cut(self) -> None:
        if (connection := self._socket) is not None:
            with suppress(OSError):
                # Of the base class: that of a TLS socket would take its state away from under the thread that reads.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise SourceError(f"{self._where}: closed while it was being read") from None


def _retry_after(answer: httpx.Response, otherwise: float) -> float:
    try:
        return max(0.0, float(answer.headers["retry-after"]))
    except (KeyError, ValueError):
        return otherwise


def _number(text: str) -> int | Decimal | str:
    """The number as it is written; its text where it is none that can be reckoned with, so that its row alone is rejected."""
    try:
        return int(text) if len(text) <= LONGEST_INT and text.lstrip("-").isdecimal() else Decimal(text)
    except InvalidOperation:
        return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
