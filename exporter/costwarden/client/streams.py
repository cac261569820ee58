"""The body of an answer on its way to the application, with a meter beside it."""

import re
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

import msgspec

from costwarden.client.meter import Meter


class _Metered:
    """What both kinds of stream share: the inner stream, and a meter that is finished exactly once."""

    def __init__(self, inner: Any, meter: Meter, usage: "UsageChunks | None") -> None:
        self._inner = inner
        self._meter = meter
        self._usage = usage

    def _pass(self, chunk: bytes) -> bytes:
        self._meter.feed(chunk)
        return chunk if self._usage is None else self._usage.without(chunk)

    def __del__(self) -> None:
        # An answer that nobody read and nobody closed. After a normal end this does nothing.
        self._meter.finish("stopped")


class _SyncMetered(_Metered):
    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                if passed := self._pass(chunk):
                    yield passed
            if self._usage is not None and (rest := self._usage.rest()):
                yield rest
        except GeneratorExit:
            self._meter.finish("stopped")
            raise
        except BaseException:
            self._meter.finish("broken")
            raise
        self._meter.finish("complete")

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._meter.finish("stopped")


class _AsyncMetered(_Metered):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                if passed := self._pass(chunk):
                    yield passed
            if self._usage is not None and (rest := self._usage.rest()):
                yield rest
        except GeneratorExit:
            self._meter.finish("stopped")
            raise
        except BaseException:
            self._meter.finish("broken")
            raise
        self._meter.finish("complete")

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._meter.finish("stopped")


@cache
def stream_class(library: Any, *, asynchronous: bool) -> Any:
    """The metered stream as a stream of `library`, httpx or httpx2: its client takes no other."""
    if asynchronous:
        return type("MeteredAsyncStream", (_AsyncMetered, library.AsyncByteStream), {})
    return type("MeteredStream", (_SyncMetered, library.SyncByteStream), {})


class UsageChunks:
    """Takes the chunk out of a chat stream that only tells the usage: the application did not ask for it, and may not expect a chunk
    without choices."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def without(self, chunk: bytes) -> bytes:
        """What of the stream so far can be handed on: whole events, but for that one."""
        # From the old end, where a mark may have begun: a large event in small chunks must not cost the square of its length.
        start = max(len(self._buffer) - 3, 0)
        self._buffer += chunk
        begin = 0
        passed: list[bytes] = []
        while found := _END.search(self._buffer, start):
            start = found.end()
            event = bytes(self._buffer[begin:start])
            begin = start
            if not _only_usage(event):
                passed.append(event)
        del self._buffer[:begin]
        return b"".join(passed)

    def rest(self) -> bytes:
        """What came after the last whole event."""
        return bytes(self._buffer)


_END = re.compile(rb"\n\n|\r\n\r\n")


def _only_usage(event: bytes) -> bool:
    if b'"usage"' not in event or not event.startswith(b"data:"):
        return False
    try:
        chunk = msgspec.json.decode(event.removeprefix(b"data:").strip())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(chunk, dict) and not chunk.get("choices") and bool(chunk.get("usage"))
