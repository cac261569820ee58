"""What keeps a small OTLP body from becoming a large one: bounds that hold before objects are built, and a thread of its own to read on.

Two bytes of protobuf are an empty span, which is two hundred bytes once it is parsed, and compressed they are nothing: the size of a
body says little about the work that it makes.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

from costwarden.api.problems import Problem

MOST_ITEMS = 20_000
"""Spans, or metrics with their data points, in one request, and the resources and scopes that they are in."""

MOST_PARTS = 400_000
"""Messages of any kind in one request, most of them attributes, each of which takes two; in JSON, objects and lists, and the
elements of all lists."""

MOST_WAITING = 16
"""Requests that are read or wait for it. One more is told to come again: it would hold its body in memory meanwhile."""

_ITEMS = frozenset({"ResourceSpans", "ScopeSpans", "Span", "ResourceMetrics", "ScopeMetrics", "Metric"})
_ITEM_LISTS = frozenset(
    {"resourceSpans", "scopeSpans", "spans", "resourceMetrics", "scopeMetrics", "metrics", "dataPoints"}
    # The names of the protocol itself are read as well.
    | {"resource_spans", "scope_spans", "resource_metrics", "scope_metrics", "data_points"}
)

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # https://protobuf.dev/programming-guides/encoding/#structure

P = ParamSpec("P")
T = TypeVar("T")


class Fields(dict[int, "Fields"]):
    """The fields of a message that are messages themselves, by number."""

    is_item = False


@lru_cache(maxsize=4)
def fields_of(descriptor: Any) -> Fields:
    """What `check_protobuf` must know of a message, by its descriptor."""
    made: dict[str, Fields] = {}

    def of(found: Any) -> Fields:
        if found.full_name not in made:
            fields = made[found.full_name] = Fields()
            fields.is_item = found.name in _ITEMS or found.name.endswith("DataPoint")
            for field in found.fields:
                if field.message_type is not None:
                    fields[field.number] = of(field.message_type)
        return made[found.full_name]

    return of(descriptor)


def check_protobuf(body: bytes, descriptor: Any) -> None:
    """Count what `body` would become, without making any of it. Raises `Problem` 413 for too much, 400 for what is no such message."""
    items = parts = 0
    waiting = [(0, len(body), fields_of(descriptor))]
    try:
        while waiting:
            at, end, known = waiting.pop()
            while at < end:
                tag, at = _varint(body, at)
                kind = tag & 7
                if kind == _LENGTH:
                    length, at = _varint(body, at)
                    inner = known.get(tag >> 3)
                    if inner is not None:
                        parts += 1
                        items += inner.is_item
                        if items > MOST_ITEMS or parts > MOST_PARTS:
                            raise _too_many()
                        if length:
                            waiting.append((at, at + length, inner))
                    at += length
                elif kind == _VARINT:
                    _, at = _varint(body, at)
                elif kind == _EIGHT_BYTES:
                    at += 8
                elif kind == _FOUR_BYTES:
                    at += 4
                else:
                    raise IndexError
            if at > end:
                raise IndexError
    except IndexError:
        raise Problem(400, "invalid_protobuf", f"the body is not {descriptor.name}: it is no protobuf, or cut off") from None


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = body[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise IndexError


def check_json_text(body: bytes) -> None:
    """Refuse what has too many objects and lists to be decoded, with 413; braces within texts count too."""
    if body.count(b"{") + body.count(b"[") > MOST_PARTS:
        raise _too_many()


def check_json(document: Any) -> None:
    """Count what a decoded JSON `document` would become. Raises `Problem` 413."""
    items = parts = 0
    waiting = [document]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            items += sum(len(value) for name, value in found.items() if name in _ITEM_LISTS and isinstance(value, list))
            found = found.values()
        else:
            parts += len(found)
        if items > MOST_ITEMS or parts > MOST_PARTS:
            raise _too_many()
        waiting.extend(value for value in found if isinstance(value, dict | list))


def _too_many() -> Problem:
    detail = (
        f"the body has more than {MOST_ITEMS} spans or data points, with their resources and scopes, or more than {MOST_PARTS} attributes"
        " and other parts: send smaller batches (a collector's `send_batch_max_size`)"
    )
    return Problem(413, "too_many_items", detail)


class ReadingThread:
    """One thread, so that a body that takes long to read holds up other exporters and nobody else."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="otlp")
        self._places = threading.Semaphore(MOST_WAITING)

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The result of `function` on the thread. Raises `Problem` 503 where too many wait already."""
        if not self._places.acquire(blocking=False):
            detail = f"{MOST_WAITING} requests are being read already: send it again"
            raise Problem(503, "otlp_busy", detail, headers=((b"retry-after", b"1"),))
        future = self._thread.submit(function, *arguments, **named)
        # When the work ends, not when whoever waits for it does: a client that goes away leaves its work behind.
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)
