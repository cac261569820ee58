"""Reading a provider's answer as it passes, and settling the call once, however the answer ends."""

from decimal import Decimal
from typing import Literal

from costwarden.client.budget import Admission
from costwarden.client.endpoints import Wanted
from costwarden.metering.consumed import Consumed
from costwarden.metering.responses import StreamReader, UnknownResponse, read_response

CHARACTERS_PER_TOKEN = 3
"""For text that was delivered without figures: English prose has about four characters a token, source code three."""

MADE_ALL_THE_SAME = {408, 499, 504, 524}
"""Somebody on the way gave up waiting: the model may have answered, and the provider may bill it."""

NOT_SENT = {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "LocalProtocolError"}
"""Exceptions of httpx and httpx2 by which no request has left."""

End = Literal["complete", "stopped", "broken"]
"""How an answer ended: read to its end, closed by its reader before that, or cut off by the connection."""


class Meter:
    """One answer to one admitted call. `feed` it the decompressed body, then `finish` it once; the second time does nothing."""

    def __init__(self, admission: Admission, wanted: Wanted, status: int, content_type: str) -> None:
        self._admission = admission
        self._wanted = wanted
        self._status = status
        self._reader = StreamReader(wanted.answers) if content_type.startswith("text/event-stream") and status < 300 else None
        self._body: list[bytes] = []
        self._finished = False

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body."""
        if self._reader is None:
            self._body.append(chunk)
            return
        self._reader.feed(chunk)

    def finish(self, end: End) -> None:
        """Settle the call."""
        if self._finished:
            return
        self._finished = True
        if self._status >= 300:
            self._finish_error()
        elif self._reader is not None:
            self._finish_stream(self._reader, end)
        elif end == "complete":
            try:
                body = b"".join(self._body)
                self._admission.settle(self._served(read_response(body), named=b'"service_tier"' in body))
            except UnknownResponse:
                # Sound, plain text, an answer that is still being made: it tells no usage.
                self._admission.settle_estimate()
        else:
            self._admission.leave()

    def _finish_error(self) -> None:
        if self._status in MADE_ALL_THE_SAME:
            self._admission.leave()
            return
        try:
            self._admission.settle(read_response(b"".join(self._body)), success=False)
        except UnknownResponse:
            self._admission.settle(None, success=False, cost_usd=Decimal(0))

    def _served(self, used: Consumed, *, named: bool) -> Consumed:
        """By the tier that the request asks for, where the answer names none."""
        if not named and not used.service_tier:
            used.service_tier = self._wanted.service_tier
        return used

    def _finish_stream(self, reader: StreamReader, end: End) -> None:
        known = reader.consumed()
        success = end != "broken" and not reader.failed
        if known is not None and reader.complete:
            self._admission.settle(self._served(known, named=reader.names_tier), success=success)
            return
        delivered = -(-reader.delivered_characters // CHARACTERS_PER_TOKEN)
        reported = known.input_tokens if known is not None else 0
        if (not delivered and not reported) or self._wanted.works_unseen:
            self._admission.leave()
            return
        used = known or Consumed()
        used.input_tokens = reported or self._wanted.input_tokens or 0
        used.output_tokens = max(used.output_tokens, delivered)
        self._admission.settle(self._served(used, named=reader.names_tier), success=success)


def failed_request(admission: Admission, error: BaseException) -> None:
    """Settle a call whose request raised: nothing was used where nothing was sent; else nobody knows."""
    if type(error).__name__ in NOT_SENT:
        admission.settle(None, success=False, cost_usd=Decimal(0))
    else:
        admission.leave()
