"""Every request has an id: the caller's own, where that is fit for a log, or one of ours. It comes back, and stands in the log."""

import itertools
import os
import re

REQUEST_ID = b"x-request-id"

_FIT = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_PROCESS = os.urandom(6).hex()
_numbers = itertools.count(1)


def request_id(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The id of a request with these headers."""
    for name, value in headers:
        if name == REQUEST_ID and _FIT.fullmatch(value):
            return value
    return b"%s-%x" % (_PROCESS.encode(), next(_numbers))
