"""The one shape of an error over HTTP: problem details (RFC 9457)."""

from typing import Any

import msgspec

CONTENT_TYPE = b"application/problem+json"

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "AI Budget Exceeded",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Problem(Exception):
    """An answer that is an error; raised anywhere under an endpoint.

    `kind` is the last part of the problem's `type` (`urn:costwarden:KIND`) and the label of the counter of refused requests; `more`
    are members beside those of RFC 9457.
    """

    def __init__(
        self, status: int, kind: str, detail: str, *, title: str = "", headers: tuple[tuple[bytes, bytes], ...] = (), **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.headers = headers
        self.content = {"type": f"urn:costwarden:{kind}", "title": title or TITLES[status], "status": status, "detail": detail, **more}


_encoder = msgspec.json.Encoder(decimal_format="number")


def encode(content: Any) -> bytes:
    """JSON; `Decimal` becomes a number with all its digits."""
    return _encoder.encode(content)
