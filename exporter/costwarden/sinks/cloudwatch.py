"""Usage sent to CloudWatch, at least once.

CloudWatch adds up what it is sent and has no key by which it would know a repetition, so a crash in the wrong moment either loses cost
or counts it twice. An alarm that fires for nothing is the smaller harm, and a request that is repeated after a broken connection cannot be
told from it either: so what was not surely sent is sent again. That is one request at the most: a pass notes in the ledger what it is going
to send before it begins, and then each request that was taken; what is sent follows from that note alone, so that a pass that was broken
off goes on where it was.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog

from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.ledger.sinks import busiest_operations, minute_costs, move_sink, note_sink, pay_sink, read_sink
from costwarden.ledger.usage import usage_cursor
from costwarden.model import dollars, from_micros, from_nanos, to_nanos
from costwarden.sinks.metric_data import metric_data, requests_of
from costwarden.sinks.settings import REQUEST_USD, CloudwatchSettings
from costwarden.sources.aws_session import AwsSession, in_words
from costwarden.sources.requests import RequestLimitReached, Requests, SourceError

SINK = "cloudwatch"

REQUEST_NANOS = to_nanos(REQUEST_USD)

LONGEST_WAIT_SECONDS = 900.0
"""Between two attempts after failures."""

STOP_SECONDS = 5.0
"""How long `stop` waits for a request that is under way; it ends by itself, and what it sent is noted or sent again."""

# What another attempt cannot mend; the codes of both of botocore's protocols.
_REFUSALS = ("InvalidParameter", "InvalidFormat", "MissingParameter", "MissingRequiredParameter", "Validation")

log = structlog.get_logger(__name__)


class Refused(Exception):
    """CloudWatch does not take a request, however often it is sent."""


class Overtaken(Exception):
    """Another process has sent meanwhile; it goes on from there."""


class Pass(msgspec.Struct, frozen=True):
    """Where the sink stands. `until` is None between two passes; during one, `done` of its requests were taken."""

    since: int | str
    until: int | str | None = None
    at: int = 0
    """When the pass began, in microseconds."""
    kept: tuple[tuple[str, str], ...] = ()
    done: int = 0


class CloudwatchSink:
    """Sends in a thread of its own, from `start` to `stop`. One process at a time does it for a ledger: the one that has the duties."""

    def __init__(self, ledger: Ledger, settings: CloudwatchSettings | None, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._settings = settings
        self._now = now
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._client: tuple[CloudwatchSettings, Any] | None = None

    def configure(self, settings: CloudwatchSettings | None) -> None:
        """Send by other settings from now on; None sends nothing."""
        self._settings = settings
        self._wake.set()

    def start(self) -> None:
        """Begin to send."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="cloudwatch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin no further request."""
        self._stopping.set()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(STOP_SECONDS)

    def _run(self, stopping: threading.Event) -> None:
        failures = 0
        while not stopping.is_set():
            self._wake.clear()
            settings = self._settings
            wait = settings.interval_seconds if settings else LONGEST_WAIT_SECONDS
            if settings and settings.enabled:
                failures = 0 if self._try() else failures + 1
                wait = min(wait * 2 ** min(failures, 10), max(wait, LONGEST_WAIT_SECONDS))
            self._wake.wait(wait)

    def _try(self) -> bool:
        try:
            self.send()
        except (SourceError, Overtaken) as error:
            message = str(error)
            log.warning("nothing was sent to CloudWatch", error=message)
        except LedgerUnavailable as error:
            log.warning("nothing was sent to CloudWatch", error=str(error))
            return False
        except Exception as error:
            # Whatever it was: a sink that leaves is worse than one that complains.
            log.exception("nothing was sent to CloudWatch")
            message = f"{type(error).__name__}: {error}"
        else:
            return True
        try:
            self._ledger.write(partial(note_sink, sink=SINK, message=message))
        except LedgerUnavailable as error:
            log.warning("the failure of the CloudWatch sink could not be noted", error=str(error))
        return False

    def send(self) -> None:
        """Send what was recorded since the last time; at the very first time nothing, and from then on everything.

        What CloudWatch refuses is counted and never sent, and stays noted in the ledger until a pass in which nothing was refused.
        Raises `SourceError` (its kind `RequestLimitReached` where the day's dollars are spent), `Overtaken` and `LedgerUnavailable`: then
        the rest is sent the next time.
        """
        if (settings := self._settings) is None:
            return
        with self._ledger.read() as connection:
            state = read_sink(connection, SINK)
            cursor = state.cursor
            if not cursor:
                began = Pass(since=usage_cursor(connection))
            else:
                began = msgspec.json.decode(cursor, type=Pass)
                if began.until is None:
                    kept = tuple(busiest_operations(connection, settings.operations_limit))
                    began = Pass(since=began.since, until=usage_cursor(connection), at=self._now(), kept=kept)
            costs = [] if began.until is None else minute_costs(connection, began.since, began.until)
        if not cursor or costs:
            cursor = self._move(cursor, began)
        message = self._send(settings, cursor, began, *metric_data(costs, frozenset(began.kept), began.at)) if costs else ""
        if message or (state.message and not self._stopping.is_set()):
            self._ledger.write(partial(note_sink, sink=SINK, message=message))

    def _send(self, settings: CloudwatchSettings, cursor: str, current: Pass, data: list[dict[str, Any]], lost: int) -> str:
        """What CloudWatch has refused, in words; empty where it has refused nothing."""
        refused, why = 0, ""
        if lost:
            log.warning("CloudWatch takes no data of this age", data=lost)
        for number, piece in enumerate(requests_of(data), start=1):
            if number <= current.done:
                continue
            if self._stopping.is_set():
                break
            current = msgspec.structs.replace(current, done=number)
            try:
                self._put(settings, piece)
            except Refused as refusal:
                log.error("CloudWatch has refused data", data=len(piece), error=str(refusal))
                refused, why = refused + len(piece), str(refusal)
                cursor = self._move(cursor, current, failed=len(piece))
            else:
                cursor = self._move(cursor, current, sent=len(piece), at=self._now())
        else:
            assert current.until is not None
            self._move(cursor, Pass(since=current.until), failed=lost)
        return f"CloudWatch has refused {refused} data, which are lost: {why}" if refused else ""

    def _move(self, before: str, after: Pass, *, sent: int = 0, failed: int = 0, at: int = 0) -> str:
        cursor = msgspec.json.encode(after).decode()
        move = partial(move_sink, sink=SINK, before=before, after=cursor, sent=sent, failed=failed, at=at)
        if cursor != before and not self._ledger.write(move):
            raise Overtaken("another process sends to CloudWatch too, and was faster; what is left is sent the next time")
        return cursor

    def _put(self, settings: CloudwatchSettings, data: Sequence[dict[str, Any]]) -> None:
        from botocore.exceptions import ClientError

        if self._client is None or self._client[0] != settings:
            session = AwsSession(settings.access, Requests(partial(self._pay, settings)))
            self._client = settings, in_words(lambda: session.client("cloudwatch", cost=REQUEST_NANOS))
        client = self._client[1]

        def put() -> None:
            try:
                client.put_metric_data(Namespace=settings.namespace, MetricData=list(data))
            except ClientError as error:
                answer = error.response.get("Error", {})
                if str(answer.get("Code", "")).startswith(_REFUSALS):
                    raise Refused(f"{answer.get('Code')}: {answer.get('Message')}") from None
                raise

        in_words(put)

    def _pay(self, settings: CloudwatchSettings, cost: int) -> None:
        day = from_micros(self._now()).date().isoformat()
        limit = to_nanos(settings.daily_request_limit_usd)
        already = self._ledger.write(partial(pay_sink, sink=SINK, day=day, cost=cost, limit=limit))
        if already is not None:
            raise RequestLimitReached(
                f"the requests of {day} have cost {dollars(from_nanos(already))} of at most {dollars(from_nanos(limit))} "
                "(`cloudwatch.daily_request_limit_usd`); the rest is sent tomorrow (UTC)"
            )
