"""The framings of a streamed answer, taken apart in any chunking."""

import re
import struct
import zlib
from typing import Any, final

import msgspec

_decode = msgspec.json.Decoder().decode

DONE = "[DONE]"
"""The name of the event that ends OpenAI's streams; it has no fields."""

Event = tuple[str, dict[str, Any]]
"""The name of an event and its JSON object. What is no JSON object is passed over."""


def _object(payload: bytes) -> dict[str, Any] | None:
    try:
        decoded = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return decoded if isinstance(decoded, dict) else None


@final
class ServerSentEvents:
    """Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html. The name is empty: payloads name themselves.

    An event is given when its data are a whole JSON object or its blank line has come, whichever is first, so that a stream which breaks
    off before the blank line loses nothing.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._after_return = False
        self.failed = False
        """An event was named `error`."""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes."""
        if self._after_return and chunk[0] == 0x0A:
            chunk = chunk[1:]
        self._after_return = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            # Kept in pieces and joined once, so that a long line in short chunks does not cost the square of its length.
            self._line.append(chunk)
            return []
        first, *lines, rest = chunk.split(b"\n")
        self._line.append(first)
        lines.insert(0, b"".join(self._line))
        self._line = [rest]
        events: list[Event] = []
        for line in lines:
            self._end_of_line(line, events)
        return events

    def rest(self) -> list[Event]:
        """The event of a last line that nobody ended, if it is whole."""
        data = _data(b"".join(self._line))
        # The bracket first, because it costs nothing: most lines that are asked for here are not whole.
        if data is None or self._data or not data.endswith(b"}") or (event := _object(data)) is None:
            return []
        self._line = []
        return [("", event)]

    def _end_of_line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            event = _object(b"\n".join(self._data)) if self._data else None
            self._data = []
            if event is not None:
                events.append(("", event))
        elif line.startswith(b"event:"):
            self.failed = self.failed or line[6:].strip() == b"error"
        elif data := _data(line):
            if self._data:
                self._data.append(data)
            elif data == b"[DONE]":
                events.append((DONE, {}))
            elif (event := _object(data)) is not None:
                events.append(("", event))
            else:
                self._data.append(data)


def _data(line: bytes) -> bytes | None:
    if line.startswith(b"\xef\xbb\xbf"):
        line = line[3:]
    return line[5:].strip() if line.startswith(b"data:") else None


@final
class JsonArray:
    """A JSON array of objects that comes bit by bit, as Gemini streams without `alt=sse`. The name is empty."""

    def __init__(self) -> None:
        self._object: list[bytes] = []
        self._depth = 0
        self._in_text = False
        self._escaped = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The objects that `chunk` completes."""
        events: list[Event] = []
        start = 0
        after = 1 if self._escaped else 0
        self._escaped = False
        for found in _STRUCTURE.finditer(chunk, after):
            match found.group():
                case b'"':
                    self._in_text = not self._in_text
                case b"{" if not self._in_text:
                    if self._depth == 0:
                        start = found.start()
                    self._depth += 1
                case b"}" if not self._in_text and self._depth:
                    self._depth -= 1
                    if self._depth == 0:
                        self._object.append(chunk[start : found.end()])
                        if (event := _object(b"".join(self._object))) is not None:
                            events.append(("", event))
                        self._object = []
                case b"\\":
                    self._escaped = True  # the character that it escapes is in the next chunk
        if self._depth:
            self._object.append(chunk[start:])
        return events

    def rest(self) -> list[Event]:
        """Nothing: an object that is not whole has no end."""
        return []


# An escaped character, the beginning of one that the chunk cuts in two, or what gives an object its shape.
_STRUCTURE = re.compile(rb'\\.|\\|["{}]', re.DOTALL)


# Bytes of a header's value by its type; 6 and 7 (bytes, text) say their own length.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_PRELUDE = struct.Struct(">III")
_OVERHEAD = 16
_LONGEST = 24 * 1024 * 1024


@final
class EventStreamFrames:
    """AWS's event stream: https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html. The name is `:event-type`.

    A message whose checksum is wrong ends the reading: where the next one begins is then unknown.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._wanted = _PRELUDE.size
        self._broken = False

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes."""
        if self._broken:
            return []
        self._bytes += chunk
        events: list[Event] = []
        while len(self._bytes) >= self._wanted and not self._broken:
            total, headers, checksum = _PRELUDE.unpack_from(self._bytes)
            if zlib.crc32(self._bytes[:8]) != checksum or not _OVERHEAD + headers <= total <= _LONGEST:
                self._broken = True
                break
            self._wanted = total
            if len(self._bytes) < total:
                break
            message = bytes(self._bytes[:total])
            del self._bytes[:total]
            self._wanted = _PRELUDE.size
            if zlib.crc32(message[:-4]) != int.from_bytes(message[-4:]):
                self._broken = True
                break
            name, event = _event_type(message[12 : 12 + headers]), _object(message[12 + headers : -4])
            if name and event is not None:
                events.append((name, event))
        return events

    def rest(self) -> list[Event]:
        """Nothing: a message that is not whole has no checksum."""
        return []


def _event_type(headers: bytes) -> str:
    at = 0
    while at < len(headers):
        name_end = at + 1 + headers[at]
        name = headers[at + 1 : name_end]
        if name_end >= len(headers):
            return ""
        kind = headers[name_end]
        at = name_end + 1
        if kind in _FIXED:
            at += _FIXED[kind]
            continue
        length = int.from_bytes(headers[at : at + 2])
        value = headers[at + 2 : at + 2 + length]
        at += 2 + length
        if name == b":event-type" and kind == 7:
            return value.decode("utf-8", "replace")
    return ""
