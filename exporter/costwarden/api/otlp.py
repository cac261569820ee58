"""`/v1/traces` and `/v1/metrics`: usage from what OpenTelemetry SDKs and collectors export (OTLP over HTTP)."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import msgspec

from costwarden.api.auth import Authenticator
from costwarden.api.hot import Answer, Receive, Scope, read_body
from costwarden.api.otlp_bodies import JSON, decode, decompress, encoding_of, header, message_answer, status_answer
from costwarden.api.otlp_limits import ReadingThread
from costwarden.api.problems import Problem
from costwarden.budgets.calls import Settle
from costwarden.budgets.engine import Engine
from costwarden.budgets.requests import MOST_USD_PER_CALL
from costwarden.budgets.service import CLOCK_SKEW_SECONDS, EVENTS_A_STEP, OLDEST_EVENT_SECONDS, BudgetService
from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.metering.otlp import Metered, Reading, chunks, read_spans, why
from costwarden.metering.otlp_attributes import INPUT, Refusal
from costwarden.metering.otlp_metrics import read_points, tells_of_tokens
from costwarden.metering.settings import OtlpSettings
from costwarden.metrics.counts import Counts
from costwarden.model import MICROS_PER_SECOND, NANOS_PER_USD, Usage
from costwarden.pricing.price_book import FALLBACK, UNPRICED, PriceBook

READ_IN_PLACE_BYTES = 8_192
"""A larger body is read on another thread: JSON takes a fifth of a millisecond a span, and checks go on meanwhile."""

_RESERVATION_ID = re.compile(r"[0-9a-f]{32}|event:.+", re.DOTALL)


class OtlpApi:
    """The two endpoints. Everything that they record is recorded once, so that whoever is told to try again may send all of it again."""

    def __init__(
        self,
        ledger: Ledger,
        engine: Engine,
        service: BudgetService,
        auth: Authenticator,
        counts: Counts,
        now: Callable[[], int],
        settings: OtlpSettings,
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._service = service
        self._auth = auth
        self._counts = counts
        self._now = now
        self._settings = settings
        self._reading = ReadingThread()

    def configure(self, settings: OtlpSettings) -> None:
        """Use `settings` from the next request on."""
        self._settings = settings

    async def traces(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /v1/traces`: `ExportTraceServiceRequest`."""
        return await self._export("traces", scope, receive)

    async def metrics(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /v1/metrics`: `ExportMetricsServiceRequest`."""
        return await self._export("metrics", scope, receive)

    async def _export(self, signal: str, scope: Scope, receive: Receive) -> Answer:
        encoding = JSON
        try:
            encoding = encoding_of(scope["headers"])
            caller = self._auth.authorize("spend", scope["headers"])
            limit = self._settings.max_body_bytes
            body = await read_body(scope, receive, limit)
            compression = header(scope["headers"], b"content-encoding")
            if len(body) <= READ_IN_PLACE_BYTES and not compression:
                reading = self._read(signal, body, compression, encoding, caller.tenant_id)
            else:
                reading = await self._reading.run(self._read, signal, body, compression, encoding, caller.tenant_id)
            await self._record(signal, reading)
            return message_answer(self._response(signal, reading), encoding)
        except LedgerUnavailable as error:
            # Part of a large request may be recorded; all of it may come again, because nothing counts twice.
            problem = Problem(503, "ledger_unavailable", f"{error}; send it again", headers=((b"retry-after", b"1"),))
        except Problem as error:
            problem = error
        self._counts.add("costwarden_http_rejected_requests_total", problem.kind)
        return status_answer(problem, encoding)

    def _read(self, signal: str, body: bytes, compression: bytes, encoding: bytes, own_tenant_id: str) -> Reading:
        """What the body holds, with prices."""
        settings = self._settings
        body = decompress(body, compression, settings.max_body_bytes)
        message = decode(body, encoding, _request(signal))
        if signal != settings.accept:
            # Decoded all the same: a broken exporter should hear of it before the setting is changed.
            note = f"nothing was counted: `otlp.accept` takes usage from {settings.accept}, which tell of the same calls as {signal}"
            return Reading([], [], _length(signal, message), note if _tells_of_tokens(signal, message) else "")
        reading = read_spans(message, settings, own_tenant_id) if signal == "traces" else read_points(message, settings, own_tenant_id)
        kept = []
        now, prices = self._now(), self._service.prices
        for metered in reading.metered:
            try:
                _check_time(metered.usage, now)
                _price(metered, prices)
                if metered.reservation_id and not _RESERVATION_ID.fullmatch(metered.reservation_id):
                    raise Refusal("bad_reservation_id", "`costwarden.reservation_id` is not one that a check has given")
            except Refusal as refusal:
                reading.refused.append((refusal, metered.items))
            else:
                kept.append(metered)
        reading.metered = kept
        return reading

    async def _record(self, signal: str, reading: Reading) -> None:
        recorded, calls = 0, 0
        plain = [metered for metered in reading.metered if not metered.settles]
        for some in chunks(plain, EVENTS_A_STEP):
            recorded += await self._ledger.writer.step(self._engine.ingest, [metered.usage for metered in some])
            calls += len(some)
        now = self._now()
        for some in chunks([metered for metered in reading.metered if metered.settles], EVENTS_A_STEP):
            steps = [self._ledger.writer.step(self._engine.settle, Settle(m.usage, m.reservation_id, now)) for m in some]
            for metered, settled in zip(some, await asyncio.gather(*steps), strict=True):
                if settled.refused:
                    reading.refused.append((Refusal("too_much", "the sum would pass four and a half billion dollars"), metered.items))
                    continue
                calls += 1
                recorded += not settled.repeated
        for outcome, number in (("recorded", recorded), ("repeated", calls - recorded), ("passed_over", reading.passed_over)):
            self._counts.add("costwarden_otlp_received_total", signal, outcome, by=number)
        for refusal, items in reading.refused:
            self._counts.add("costwarden_otlp_rejected_total", signal, refusal.reason, by=items)

    @staticmethod
    def _response(signal: str, reading: Reading) -> Any:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        response: Any = ExportTraceServiceResponse() if signal == "traces" else ExportMetricsServiceResponse()
        rejected = sum(items for _, items in reading.refused)
        # "The server MUST leave the `partial_success` field unset in case of a successful response"; with 0 rejected it is a warning.
        if rejected and signal == "traces":
            response.partial_success.rejected_spans = rejected
            response.partial_success.error_message = why(reading.refused, "spans")
        elif rejected:
            response.partial_success.rejected_data_points = rejected
            response.partial_success.error_message = why(reading.refused, "data points")
        elif reading.note:
            response.partial_success.error_message = reading.note
        return response


def _request(signal: str) -> Any:
    try:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError:
        detail = "this server lacks opentelemetry-proto: pip install 'costwarden[otlp]'"
        raise Problem(501, "otlp_not_installed", detail, title="Not Implemented") from None
    return ExportTraceServiceRequest() if signal == "traces" else ExportMetricsServiceRequest()


def _length(signal: str, message: Any) -> int:
    """Spans, or metrics, in a request."""
    if signal == "traces":
        return sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)
    return sum(len(scope.metrics) for resource in message.resource_metrics for scope in resource.scope_metrics)


def _tells_of_tokens(signal: str, message: Any) -> bool:
    if signal == "metrics":
        scopes = (scope for resource in message.resource_metrics for scope in resource.scope_metrics)
        return any(tells_of_tokens(metric.name) for scope in scopes for metric in scope.metrics)
    spans = (span for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans)
    return any(pair.key in INPUT for span in spans for pair in span.attributes)


def _check_time(usage: Usage, now: int) -> None:
    if not usage.timestamp:
        usage.timestamp = now
    if usage.timestamp > now + CLOCK_SKEW_SECONDS * MICROS_PER_SECOND:
        raise Refusal("in_the_future", "it begins in the future: the clock of the application is wrong")
    if usage.timestamp < now - OLDEST_EVENT_SECONDS * MICROS_PER_SECOND:
        raise Refusal("too_old", f"it began more than {OLDEST_EVENT_SECONDS // 86_400} days ago")


def _price(metered: Metered, prices: PriceBook) -> None:
    usage = metered.usage
    priced = prices.price(usage)
    if priced.priced_by in (UNPRICED, FALLBACK) and metered.response_model not in ("", usage.model):
        # A deployment of Azure has a name of its own; the model that answered is the one with a price.
        priced = prices.price(msgspec.structs.replace(usage, model=metered.response_model))
    if usage.success and not metered.says_tokens and not priced.cost:
        raise Refusal("no_usage", "it says neither `gen_ai.usage.input_tokens` nor `output_tokens`: what it cost cannot be told")
    if priced.cost > MOST_USD_PER_CALL * NANOS_PER_USD:
        raise Refusal("implausible", f"it would cost more than ${MOST_USD_PER_CALL}: that is taken for a mistake")
    usage.cost, usage.priced_by = priced.cost, priced.priced_by
