"""Bodies of OTLP over HTTP: protobuf or JSON, compressed or not, in and out.

https://github.com/open-telemetry/opentelemetry-proto/blob/main/docs/specification.md#otlphttp
"""

import base64
import binascii
import zlib
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from costwarden.api.hot import Answer, Headers
from costwarden.api.otlp_limits import check_json, check_json_text, check_protobuf
from costwarden.api.problems import Problem

PROTOBUF = b"application/x-protobuf"
JSON = b"application/json"

MOST_MEMBERS = 100
"""Gzip streams that one body may consist of; writers make one. Each is looked for in what the last one left, which costs a copy."""

M = TypeVar("M")

# google.rpc.Code by HTTP status, https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto; 2 is UNKNOWN.
_CODES = {400: 3, 401: 16, 403: 7, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """The value of a header in lower case, without its parameters; empty where there is none."""
    value = next((value for found, value in headers if found == name), b"")
    return value.partition(b";")[0].strip().lower()


def encoding_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """`PROTOBUF` or `JSON`. Raises `Problem` 415."""
    found = header(headers, b"content-type")
    if found not in (PROTOBUF, JSON):
        said = found.decode("latin-1") or "nothing"
        raise Problem(415, "unsupported_media_type", f"the content type is {said}: send application/x-protobuf or application/json")
    return found


def decompress(body: bytes, encoding: bytes, limit: int) -> bytes:
    """`body` without its content encoding. Raises `Problem` 413 past `limit` bytes, 400 for a broken one, 415 for an unknown one."""
    if encoding in (b"", b"identity"):
        return body
    if encoding != b"gzip":
        raise Problem(415, "unsupported_encoding", f"the content encoding is {encoding.decode('latin-1')}: send gzip, or none")
    parts: list[bytes] = []
    left = limit
    try:
        while body:
            if len(parts) == MOST_MEMBERS:
                raise Problem(400, "invalid_gzip", f"the body has more than {MOST_MEMBERS} gzip streams")
            member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            # One byte more than may be: so that a bomb is found out without being unpacked.
            parts.append(member.decompress(body, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise Problem(413, "body_too_large", f"the body is larger than {limit} bytes when decompressed")
            if not member.eof:
                raise Problem(400, "invalid_gzip", "the body ends before its gzip stream does")
            body = member.unused_data
    except zlib.error as error:
        raise Problem(400, "invalid_gzip", f"the body is not gzip: {error}") from None
    return b"".join(parts)


def decode(body: bytes, encoding: bytes, message: M) -> M:
    """`body` read into `message`, an empty protobuf message. Raises `Problem` 400, and 413 for one of too many parts."""
    from google.protobuf.message import DecodeError

    into: Any = message
    if encoding == PROTOBUF:
        check_protobuf(body, into.DESCRIPTOR)
        try:
            into.ParseFromString(body)
        except DecodeError as error:
            raise Problem(400, "invalid_protobuf", f"the body is not {into.DESCRIPTOR.name}: {error}") from None
        return message
    from google.protobuf.json_format import ParseDict, ParseError

    check_json_text(body)
    try:
        document = msgspec.json.decode(body or b"{}")
        if not isinstance(document, dict):
            raise Problem(400, "invalid_json", "the body is not a JSON object")
        check_json(document)
        _ids_to_base64(document)
        ParseDict(document, into, ignore_unknown_fields=True)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}") from None
    except (ParseError, TypeError, ValueError, AttributeError) as error:
        raise Problem(400, "invalid_json", f"the body is not {into.DESCRIPTOR.name}: {error}"[:1000]) from None
    return message


def _ids_to_base64(document: Any) -> None:
    """OTLP writes ids as hexadecimal digits where protobuf's JSON expects base64."""
    waiting = [document]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, dict):
            for name, value in found.items():
                if name in ("traceId", "spanId", "parentSpanId") and isinstance(value, str):
                    try:
                        found[name] = base64.b64encode(bytes.fromhex(value)).decode()
                    except (ValueError, binascii.Error):
                        raise Problem(400, "invalid_json", f"`{name}` {value!r:.100} is not hexadecimal") from None
                elif isinstance(value, dict | list):
                    waiting.append(value)


def message_answer(message: Any, encoding: bytes) -> Answer:
    """200 with a protobuf message."""
    if encoding == PROTOBUF:
        return _answer(200, message.SerializeToString(), encoding, ())
    from google.protobuf.json_format import MessageToJson

    return _answer(200, MessageToJson(message, indent=None).encode(), encoding, ())


def status_answer(problem: Problem, encoding: bytes) -> Answer:
    """An error as `google.rpc.Status`, which every OTLP answer but 200 is."""
    code, text = _CODES.get(problem.status, 2), str(problem)
    if encoding == PROTOBUF:
        # By hand, because the class comes with googleapis-common-protos, which nothing else here needs: fields 1 (code) and 2 (message).
        raw = text.encode("utf-8", "replace")
        return _answer(problem.status, bytes([0x08, code, 0x12]) + _varint(len(raw)) + raw, encoding, problem.headers)
    return _answer(problem.status, msgspec.json.encode({"code": code, "message": text}), encoding, problem.headers)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _answer(status: int, body: bytes, encoding: bytes, headers: Headers) -> Answer:
    return status, body, ((b"content-type", encoding), (b"content-length", b"%d" % len(body)), *headers)
