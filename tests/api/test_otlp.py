"""OTLP over HTTP as the published protocol has it: real SDKs, JSON, compression, garbage, and every call counted once."""

import asyncio
import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import uvicorn
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode

from costwarden.api.ai_budget import AiBudgetApi
from costwarden.api.auth import Authenticator
from costwarden.api.otlp import OtlpApi
from costwarden.api.otlp_bodies import decode
from costwarden.api.otlp_limits import MOST_WAITING
from costwarden.api.problems import Problem
from costwarden.api.routes import create_api
from costwarden.budgets.engine import Engine
from costwarden.budgets.service import BudgetService
from costwarden.budgets.settings import BudgetsSettings
from costwarden.cli.listen import listen, uvicorn_config
from costwarden.config import AuthSettings
from costwarden.ledger import Ledger
from costwarden.ledger.usage import usage_sums
from costwarden.metering.settings import OtlpSettings
from costwarden.metrics.counts import Counts
from costwarden.metrics.page import Page
from costwarden.metrics.settings import MetricsSettings
from costwarden.model import DIMENSIONS
from costwarden.pricing import PriceBook, PricingSettings

PROTOBUF = "application/x-protobuf"
NANOS_A_USD = 1_000_000_000

# A dollar a million tokens.
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "plain",
    "gen_ai.usage.input_tokens": 800,
    "gen_ai.usage.output_tokens": 200,
}
ACME = {"costwarden.tenant_id": "acme"}


class Receiver:
    """The application as `serve` puts it together, on a real ledger and the real clock."""

    def __init__(self, url: str, prices: PriceBook, tokens: Any = (), **otlp: Any) -> None:
        budgets, zone = BudgetsSettings(default=None, unbudgeted="allow"), ZoneInfo("UTC")
        self.engine = Engine(budgets, zone, self.now)
        self.ledger = Ledger(url, owner=True, participant=self.engine)
        self.counts = Counts()
        auth = Authenticator(AuthSettings(tokens=list(tokens)))
        self.service = BudgetService(self.ledger, self.engine, prices, budgets, zone, self.now)
        self.otlp = OtlpApi(self.ledger, self.engine, self.service, auth, self.counts, self.now, OtlpSettings(**otlp))
        budget_api = AiBudgetApi(self.service, auth, self.counts, self.now, 100_000)

        @asynccontextmanager
        async def lifespan(_: Any) -> Any:
            yield

        async def reload() -> None:
            raise NotImplementedError

        self.app = create_api(
            ledger=self.ledger,
            page=Page([self.counts.collector()], MetricsSettings(), self.now),
            budgets=budget_api,
            service=self.service,
            auth=auth,
            counts=self.counts,
            reload=reload,
            wake_worker=lambda: None,
            approve=lambda *_: None,
            lifespan=lifespan,
            zone=zone,
            now=self.now,
            otlp=self.otlp,
        )

    @staticmethod
    def now() -> int:
        return time.time_ns() // 1000

    def send(self, path: str, content: bytes, content_type: str = PROTOBUF, token: str = "", **headers: str) -> httpx.Response:
        """A request straight to the application, without a socket."""
        sent = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if token:
            sent["authorization"] = f"Bearer {token}"

        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://costwarden") as client:
                return await client.post(path, content=content, headers=sent)

        return asyncio.run(request())

    def post(self, path: str, body: Any) -> Any:
        return self.send(path, json.dumps(body).encode(), "application/json").json()

    def sums(self, *dimensions: str) -> list[dict[str, Any]]:
        with self.ledger.read() as connection:
            return usage_sums(connection, dimensions or DIMENSIONS)

    def spent(self) -> float:
        """Dollars."""
        return sum(row["cost"] for row in self.sums()) / NANOS_A_USD

    def count(self, name: str, *labels: str) -> float:
        return {family.name: dict(samples) for family, samples in self.counts.collector().collect()}[name].get(labels, 0.0)


@pytest.fixture
def receiver_of(sqlite_url: Callable[..., str], prices: PriceBook) -> Iterator[Callable[..., Receiver]]:
    """`receiver_of(tokens=[…], accept="metrics")`: a receiver with these tokens and settings."""
    receivers: list[Receiver] = []

    def make(tokens: Any = (), **otlp: Any) -> Receiver:
        receivers.append(Receiver(sqlite_url(), prices, tokens, **otlp))
        return receivers[-1]

    yield make
    for receiver in receivers:
        receiver.ledger.close()


@pytest.fixture
def receiver(receiver_of: Callable[..., Receiver]) -> Receiver:
    return receiver_of()


@pytest.fixture
def listening_at(wait_until: Callable[..., object]) -> Iterator[Callable[[Receiver], str]]:
    """`listening_at(receiver)`: its base URL, on a real socket."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(receiver: Receiver) -> str:
        listening = listen("127.0.0.1", 0)
        host, port = listening.getsockname()
        server = uvicorn.Server(uvicorn_config(receiver.app))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        running.append((server, thread))
        wait_until(lambda: server.started)
        return f"http://{host}:{port}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()


def body_of(*spans: dict[str, Any], first: int = 1, at: int | None = None) -> dict[str, Any]:
    """Spans with these attributes as OTLP/JSON, numbered from `first`, begun now or at `at` nanoseconds."""
    begin = time.time_ns() if at is None else at
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    written = [
        {
            # Upper case: "case-insensitive hex-encoded strings".
            "traceId": f"{0xABCDEF0000 + number:032X}",
            "spanId": f"{number:016x}",
            "name": "chat",
            "kind": 3,
            "startTimeUnixNano": str(begin),
            "endTimeUnixNano": str(begin + 1_000_000_000),
            "attributes": [
                {"key": key, "value": {kinds[type(value)]: str(value) if isinstance(value, int) and not isinstance(value, bool) else value}}
                for key, value in attributes.items()
            ],
            "aFieldOfTheFuture": {"x": [1]},
        }
        for number, attributes in enumerate(spans, first)
    ]
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "test"}, "spans": written}]}]}


def json_of(*spans: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(body_of(*spans, **more)).encode()


# --- real SDKs -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_spans_of_the_opentelemetry_sdk_are_priced_and_recorded(receiver, listening_at, compression):
    exporter = OTLPSpanExporter(f"{listening_at(receiver)}/v1/traces", compression=compression)
    provider = TracerProvider(resource=Resource.create({"service.name": "reports", "tenant.id": "acme"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("my-application")
    with tracer.start_as_current_span("invoke_agent writer") as agent:
        for _ in range(3):
            with tracer.start_as_current_span("chat plain", attributes=CALL):
                pass
        with tracer.start_as_current_span("GET /", attributes={"http.request.method": "GET"}):
            pass
        with tracer.start_as_current_span("chat plain", attributes={**CALL, "gen_ai.usage.output_tokens": 0}) as failed:
            failed.set_status(StatusCode.ERROR)
        totals = {"gen_ai.usage.input_tokens": 3200, "gen_ai.usage.output_tokens": 600}
        agent.set_attributes({"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "plain", **totals})
    assert provider.force_flush()
    provider.shutdown()
    # 3 × (800 + 200) + 1 × 800 tokens; the agent's own 3,800 are the same ones.
    assert receiver.spent() == pytest.approx(0.0038)
    rows = {row["success"]: row for row in receiver.sums("tenant_id", "provider", "model", "operation", "service")}
    assert {rows[1][name] for name in ("tenant_id", "provider", "model", "operation", "service")} == {
        "acme",
        "openai",
        "plain",
        "chat",
        "reports",
    }
    assert (rows[1]["requests"], rows[1]["input_tokens"], rows[1]["output_tokens"]) == (3, 2400, 600)
    assert (rows[0]["requests"], rows[0]["input_tokens"]) == (1, 800)
    assert receiver.count("costwarden_otlp_received_total", "traces", "recorded") == 4
    assert receiver.count("costwarden_otlp_received_total", "traces", "passed_over") == 2


def metering(url: str, temporality: AggregationTemporality) -> Any:
    exporter = OTLPMetricExporter(f"{url}/v1/metrics", preferred_temporality={Histogram: temporality, Counter: temporality})
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    return MeterProvider([reader], resource=Resource.create({"tenant.id": "acme"}))


def test_the_token_histogram_of_the_opentelemetry_sdk_is_counted_delta_by_delta(receiver_of, listening_at):
    receiver = receiver_of(accept="metrics")
    provider = metering(listening_at(receiver), AggregationTemporality.DELTA)
    histogram = provider.get_meter("my-application").create_histogram("gen_ai.client.token.usage", unit="{token}")
    duration = provider.get_meter("my-application").create_histogram("gen_ai.client.operation.duration", unit="s")
    described = {name: CALL[name] for name in ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")}
    for exports in (1, 2):
        for _ in range(5):
            histogram.record(800, {**described, "gen_ai.token.type": "input"})
            histogram.record(200, {**described, "gen_ai.token.type": "output"})
            duration.record(0.5, described)
        assert provider.force_flush()
        # 5 calls of 1,000 tokens an export.
        assert receiver.spent() == pytest.approx(0.005 * exports)
    provider.shutdown()
    [row] = receiver.sums("tenant_id", "model")
    assert (row["tenant_id"], row["requests"], row["input_tokens"], row["output_tokens"]) == ("acme", 10, 8000, 2000)


def test_the_token_counters_of_the_newest_conventions_come_with_their_calls(receiver_of, listening_at):
    receiver = receiver_of(accept="metrics")
    provider = metering(listening_at(receiver), AggregationTemporality.DELTA)
    meter = provider.get_meter("my-application")
    usage = "gen_ai.client.inference.usage"
    counters = {name: meter.create_counter(f"{usage}.{name}") for name in ("input_tokens", "output_tokens", "cache_read.input_tokens")}
    sizes = meter.create_histogram("gen_ai.client.inference.operation.input_tokens")
    older = meter.create_histogram("gen_ai.client.token.usage")
    described = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    for _ in range(4):
        for name, tokens in (("input_tokens", 1000), ("output_tokens", 200), ("cache_read.input_tokens", 600)):
            counters[name].add(tokens, {**described, "gen_ai.token.modality": "text"})
        sizes.record(1000, described)
        older.record(1000, {**described, "gen_ai.token.type": "input"})
        older.record(200, {**described, "gen_ai.token.type": "output"})
    assert provider.force_flush()
    provider.shutdown()
    # gpt-4o: $2.50 in, $1.25 cached, $10 out a million.
    assert receiver.spent() * 1_000_000 == pytest.approx(4 * (400 * 2.5 + 600 * 1.25 + 200 * 10))
    [row] = receiver.sums("model")
    assert (row["requests"], row["input_tokens"], row["cache_read_tokens"]) == (4, 4000, 2400)


def test_a_cumulative_histogram_is_refused_aloud(receiver_of, listening_at):
    receiver = receiver_of(accept="metrics")
    provider = metering(listening_at(receiver), AggregationTemporality.CUMULATIVE)
    histogram = provider.get_meter("my-application").create_histogram("gen_ai.client.token.usage")
    histogram.record(800, {**CALL, "gen_ai.token.type": "input"})
    provider.force_flush()
    provider.shutdown()
    assert receiver.sums() == []
    assert receiver.count("costwarden_otlp_rejected_total", "metrics", "cumulative") >= 1


# --- the protocol ------------------------------------------------------------------------------------------------------------------------


def test_json_is_read_and_answered_as_json(receiver):
    response = receiver.send("/v1/traces", json_of({**ACME, **CALL}), "application/json; charset=utf-8")
    assert (response.status_code, response.headers["content-type"], response.json()) == (200, "application/json", {})
    assert receiver.spent() == pytest.approx(0.001)


def test_nothing_is_a_request_of_nothing(receiver):
    for content_type, content in ((PROTOBUF, b""), ("application/json", b"{}"), ("application/json", b"")):
        for path in ("/v1/traces", "/v1/metrics"):
            response = receiver.send(path, content, content_type)
            assert response.status_code == 200
            assert response.headers["content-type"] == content_type
            assert response.content == (b"" if content_type == PROTOBUF else b"{}")


@pytest.mark.parametrize("content_type", [PROTOBUF, "application/json"])
def test_part_of_a_request_may_be_refused_and_the_answer_says_how_much_and_why(receiver, content_type):
    document = body_of({**ACME, **CALL}, CALL, CALL, {**ACME, **CALL, "gen_ai.usage.input_tokens": -5})
    content = json.dumps(document).encode() if content_type != PROTOBUF else binary(document)
    response = receiver.send("/v1/traces", content, content_type)
    assert (response.status_code, response.headers["content-type"]) == (200, content_type)
    if content_type == PROTOBUF:
        partial = ExportTraceServiceResponse.FromString(response.content).partial_success
        rejected, message = partial.rejected_spans, partial.error_message
    else:
        answer = response.json()["partialSuccess"]
        rejected, message = int(answer["rejectedSpans"]), answer["errorMessage"]
    assert rejected == 3
    assert message == (
        "spans refused as no_tenant: 2, the first: no tenant: set the attribute `costwarden.tenant_id`, `tenant.id`, or"
        " `otlp.default_tenant_id` in the configuration; spans refused as bad_count: 1, the first: `gen_ai.usage.input_tokens` is -5: a"
        " count is a whole number from 0 to 10000000000"
    )
    assert receiver.spent() == pytest.approx(0.001)
    assert receiver.count("costwarden_otlp_rejected_total", "traces", "no_tenant") == 2


def binary(document: dict[str, Any]) -> bytes:
    """The same request as protobuf."""
    import base64

    from google.protobuf.json_format import ParseDict

    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId"):
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return ParseDict(document, ExportTraceServiceRequest(), ignore_unknown_fields=True).SerializeToString()


def test_the_signal_that_is_not_accepted_is_passed_over_with_a_word(receiver_of):
    receiver = receiver_of(accept="metrics")
    response = receiver.send("/v1/traces", json_of({**ACME, **CALL}), "application/json")
    assert response.status_code == 200
    assert response.json() == {
        "partialSuccess": {
            "errorMessage": "nothing was counted: `otlp.accept` takes usage from metrics, which tell of the same calls as traces"
        }
    }
    assert receiver.send("/v1/traces", json_of({"http.request.method": "GET"}), "application/json").json() == {}
    assert receiver.sums() == []


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"\xff\xff\xff", {}, 400, "the body is not ExportTraceServiceRequest"),
        (b"\x1f\x8b", {"content_encoding": "gzip"}, 400, "ends before its gzip stream"),
        (b"no gzip", {"content_encoding": "gzip"}, 400, "is not gzip"),
        (b"", {"content_encoding": "br"}, 415, "send gzip"),
        (b"x" * 5000, {}, 413, "larger than 4096 bytes"),
    ],
)
def test_an_error_is_a_status_message_in_the_encoding_of_the_request(receiver_of, content, headers, status, words):
    response = receiver_of(max_body_bytes=4096).send("/v1/traces", content, **headers)
    assert (response.status_code, response.headers["content-type"]) == (status, PROTOBUF)
    assert words in Status.FromString(response.content).message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"resourceSpans": 5}', "is not ExportTraceServiceRequest"),
        (b'{"resourceSpans": [5]}', "is not ExportTraceServiceRequest"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}', "`traceId` 'xyz' is not hexadecimal"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": "18446744073709551616"}]}]}]}', "is not Export"),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}', "is not"),
    ],
)
def test_garbage_in_json_is_answered_in_json(receiver, content, words):
    response = receiver.send("/v1/traces", content, "application/json")
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json")
    assert response.json()["code"] == 3
    assert words in response.json()["message"]


def test_the_description_of_the_api_leaves_otlp_to_its_own(receiver):
    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(receiver.app), base_url="http://costwarden") as client:
            return await client.get("/openapi.json")

    assert not [path for path in asyncio.run(get()).json()["paths"] if path.startswith("/v1/")]


def test_another_content_type_is_refused(receiver):
    response = receiver.send("/v1/traces", b"", "text/plain")
    assert response.status_code == 415
    assert response.json()["message"] == "the content type is text/plain: send application/x-protobuf or application/json"


def test_a_gzip_bomb_is_refused_without_being_unpacked(receiver_of):
    receiver = receiver_of(max_body_bytes=1_000_000)
    bomb = _bomb()
    assert len(bomb) < 1_000_000
    response = receiver.send("/v1/traces", bomb, content_encoding="gzip")
    assert response.status_code == 413
    assert "when decompressed" in Status.FromString(response.content).message


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    length, prefix = len(content), bytearray()
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2]) + bytes(prefix) + bytes([length]) + content


EMPTY = b"\x12\x00"
_MANY = 3_000_000


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        pytest.param("/v1/traces", PROTOBUF, b"\x0a\x00" * _MANY, id="resources"),
        pytest.param("/v1/traces", PROTOBUF, _field(1, EMPTY * _MANY), id="scopes"),
        pytest.param("/v1/traces", PROTOBUF, _field(1, _field(2, EMPTY * _MANY)), id="spans"),
        pytest.param("/v1/traces", PROTOBUF, _field(1, _field(2, _field(2, b"\x4a\x00" * _MANY))), id="attributes"),
        pytest.param("/v1/metrics", PROTOBUF, _field(1, _field(2, EMPTY * _MANY)), id="metrics"),
        pytest.param("/v1/metrics", PROTOBUF, _field(1, _field(2, _field(2, _field(9, b"\x0a\x00" * _MANY)))), id="points"),
        pytest.param("/v1/traces", "application/json", b'{"resourceSpans":[' + b"{}," * 2_000_000 + b"{}]}", id="json"),
        pytest.param("/v1/traces", "application/json", b'{"resource_spans":[' + b"{}," * 50_000 + b"{}]}", id="names of the protocol"),
        pytest.param("/v1/metrics", "application/json", b'{"resourceMetrics":[' + b"0," * 2_000_000 + b"0]}", id="numbers"),
    ],
)
def test_a_body_of_many_empty_messages_is_refused_before_any_of_them_is_made(receiver, path, content_type, body, monkeypatch):
    def nothing(*_: Any) -> None:
        raise AssertionError("built")

    monkeypatch.setattr("google.protobuf.json_format.ParseDict", nothing)
    response = receiver.send(path, gzip.compress(body), content_type, content_encoding="gzip")
    assert response.status_code == 413
    said = response.json()["message"] if content_type != PROTOBUF else Status.FromString(response.content).message
    assert "more than 20000 spans or data points" in said


def test_as_many_spans_as_a_collector_sends_are_taken(receiver):
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in range(8192):
        span = spans.add(name="GET /", trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"))
        for name in ("http.request.method", "url.path", "server.address", "http.response.status_code"):
            span.attributes.add(key=name).value.string_value = "x" * 20
    response = receiver.send("/v1/traces", request.SerializeToString())
    assert (response.status_code, response.content) == (200, b"")
    assert receiver.count("costwarden_otlp_received_total", "traces", "passed_over") == 8192


def test_what_is_counted_before_it_is_parsed_is_what_protobuf_parses():
    request = ExportTraceServiceRequest.FromString(b"")
    for content in (b"\x0b\x0c", b"\x0a\x05\x00", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x09\x00"):
        with pytest.raises(Problem, match="is not ExportTraceServiceRequest"):
            decode(content, PROTOBUF.encode(), request)
    # Field 1 by a number of three bytes, an unknown field of each kind, an empty message.
    decode(b"\x8a\x80\x00\x00\x78\x01\x79" + bytes(8) + b"\x7d" + bytes(4) + b"\x7a\x01x\x0a\x00", PROTOBUF.encode(), request)
    assert len(request.resource_spans) == 2


def test_who_comes_while_many_bodies_are_being_read_is_told_to_come_again(receiver, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*_: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return ExportTraceServiceRequest()

    monkeypatch.setattr("costwarden.api.otlp.decode", slowly)

    async def scenario() -> tuple[list[httpx.Response], httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(receiver.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://costwarden") as client:

            def send() -> Any:
                return client.post("/v1/traces", content=gzip.compress(b""), headers={"content-type": PROTOBUF, "content-encoding": "gzip"})

            waiting = [asyncio.ensure_future(send()) for _ in range(MOST_WAITING)]
            assert await asyncio.to_thread(begun.wait, 60)
            refused = await send()
            # Nobody but exporters waits for them.
            status = await client.get("/api/ai-budget/tenant/acme")
            go_on.set()
            return await asyncio.gather(*waiting), refused, status

    taken, refused, status = asyncio.run(scenario())
    assert {response.status_code for response in taken} == {200}
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert status.status_code in (200, 404)
    assert receiver.send("/v1/traces", gzip.compress(b""), content_encoding="gzip").status_code == 200


def _bomb() -> bytes:
    """Half a gigabyte of zeros, in members of 16 MB that compress a thousand times."""
    return gzip.compress(bytes(16_000_000), 9) * 32


def test_a_body_of_a_hundred_thousand_empty_gzip_streams_is_refused(receiver):
    response = receiver.send("/v1/traces", gzip.compress(b"") * 100_000, content_encoding="gzip")
    assert response.status_code == 400
    assert Status.FromString(response.content).message == "the body has more than 100 gzip streams"


WITHOUT_PROTO = """
import sys
sys.modules["opentelemetry.proto"] = None
from costwarden.api.otlp import _request
from costwarden.api.problems import Problem
try:
    _request("traces")
except Problem as problem:
    print(problem.status, problem)
"""


def test_without_the_library_the_answer_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_PROTO], capture_output=True, text=True, check=True)
    assert done.stdout == "501 this server lacks opentelemetry-proto: pip install 'costwarden[otlp]'\n"


def test_gzip_of_many_members_is_one_body(receiver):
    whole = json_of({**ACME, **CALL})
    content = gzip.compress(whole[:50]) + gzip.compress(whole[50:])
    assert receiver.send("/v1/traces", content, "application/json", content_encoding="gzip").status_code == 200
    assert receiver.spent() == pytest.approx(0.001)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60)
@given(
    content=st.binary(max_size=200), compressed=st.booleans(), as_json=st.booleans(), path=st.sampled_from(["/v1/traces", "/v1/metrics"])
)
def test_no_body_breaks_the_server(receiver, content, compressed, as_json, path):
    headers = {"content_encoding": "gzip"} if compressed else {}
    sent = gzip.compress(content) if compressed else content
    response = receiver.send(path, sent, "application/json" if as_json else PROTOBUF, **headers)
    assert response.status_code in (200, 400)


# --- once, and at the right price ------------------------------------------------------------------------------------------------------


def test_a_request_that_is_sent_again_counts_once(receiver):
    content = json_of(*[{**ACME, **CALL}] * 3)
    for _ in range(3):
        assert receiver.send("/v1/traces", content, "application/json").json() == {}
    assert receiver.spent() == pytest.approx(0.003)
    assert receiver.count("costwarden_otlp_received_total", "traces", "recorded") == 3
    assert receiver.count("costwarden_otlp_received_total", "traces", "repeated") == 6


def test_a_restart_forgets_no_span(receiver, prices):
    content = json_of({**ACME, **CALL})
    receiver.send("/v1/traces", content, "application/json")
    receiver.ledger.close()
    again = Receiver(f"sqlite:///{receiver.ledger.path}", prices)
    again.send("/v1/traces", content, "application/json")
    assert again.spent() == pytest.approx(0.001)
    again.ledger.close()


def test_what_one_replica_has_recorded_another_one_knows(postgresql_url, prices):
    url = postgresql_url()
    replicas = [Receiver(url, prices), Receiver(url, prices)]
    content = json_of(*[{**ACME, **CALL}] * 40)
    # At once, as a balancer may do that gives up on the first one.
    senders = [threading.Thread(target=replica.send, args=("/v1/traces", content, "application/json")) for replica in replicas * 2]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert [replica.spent() for replica in replicas] == [pytest.approx(0.04)] * 2
    assert sum(replica.count("costwarden_otlp_received_total", "traces", "recorded") for replica in replicas) == 40
    for replica in replicas:
        replica.ledger.close()


def test_the_same_span_of_two_tenants_is_two_calls_so_that_nobody_takes_anothers_ids(receiver):
    for tenant_id in ("acme", "zenith"):
        receiver.send("/v1/traces", json_of({**CALL, "tenant.id": tenant_id}), "application/json")
    assert receiver.spent() == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("attributes", "micro_dollars"),
    [
        # claude-3-5-sonnet: $3 in, $0.30 cache read, $3.75 cache write, $15 out a million.
        pytest.param(
            {
                "gen_ai.provider.name": "anthropic",
                "gen_ai.request.model": "claude-3-5-sonnet-20241022",
                "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.cache_read.input_tokens": 600,
                "gen_ai.usage.cache_creation.input_tokens": 100,
                "gen_ai.usage.output_tokens": 200,
            },
            300 * 3 + 600 * 0.3 + 100 * 3.75 + 200 * 15,
            id="Anthropic by the conventions: 1,000 tokens include 700 cached ones",
        ),
        pytest.param(
            {
                "gen_ai.system": "anthropic",
                "gen_ai.request.model": "claude-3-5-sonnet-20241022",
                "gen_ai.usage.input_tokens": 300,
                "gen_ai.usage.cache_read_input_tokens": 600,
                "gen_ai.usage.cache_creation_input_tokens": 100,
                "gen_ai.usage.output_tokens": 200,
            },
            300 * 3 + 600 * 0.3 + 100 * 3.75 + 200 * 15,
            id="the same call as Anthropic itself counts, under old names",
        ),
        # gpt-4o: $2.50 in, $1.25 cached, $10 out a million.
        pytest.param(
            {
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.prompt_tokens": 1000,
                "gen_ai.usage.cache_read_input_tokens": 600,
                "gen_ai.usage.completion_tokens": 200,
            },
            400 * 2.5 + 600 * 1.25 + 200 * 10,
            id="OpenAI under old names, whose 1,000 include 600 cached ones",
        ),
        pytest.param(
            {
                "gen_ai.provider.name": "azure.ai.openai",
                "gen_ai.request.model": "our-deployment",
                "gen_ai.response.model": "gpt-4o-2024-11-20",
                "gen_ai.usage.input_tokens": 1000,
                "gen_ai.usage.output_tokens": 200,
            },
            1000 * 2.5 + 200 * 10,
            id="a deployment that has a name of its own",
        ),
    ],
)
def test_cached_tokens_are_priced_once(receiver, attributes, micro_dollars):
    receiver.send("/v1/traces", json_of({**ACME, "gen_ai.operation.name": "chat", **attributes}), "application/json")
    assert receiver.spent() * 1_000_000 == pytest.approx(micro_dollars)
    [row] = receiver.sums("model")
    assert row["model"] == attributes["gen_ai.request.model"]


def test_a_deployment_is_priced_by_the_model_that_answered_where_unknown_prices_fall_back_too(receiver):
    receiver.service.configure(receiver.service.settings, PriceBook(PricingSettings(unknown_price="fallback")))
    deployment = {"gen_ai.provider.name": "azure.ai.openai", "gen_ai.request.model": "our-deployment"}
    receiver.post("/v1/traces", body_of({**ACME, **CALL, **deployment, "gen_ai.response.model": "gpt-4o-2024-11-20"}))
    assert receiver.spent() * 1_000_000 == pytest.approx(800 * 2.5 + 200 * 10)
    [row] = receiver.sums("model")
    assert (row["model"], row["priced"]) == ("our-deployment", 1)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("azure.ai.openai", "gpt-4o"),
        ("azure.ai.inference", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
        ("gcp.gen_ai", "gemini-2.5-flash"),
        ("gcp.gemini", "gemini-2.5-flash"),
        ("gcp.vertex_ai", "gemini-2.5-flash"),
        ("x_ai", "grok-3"),
        ("mistral_ai", "mistral-large-latest"),
        ("cohere", "command-r-plus"),
        ("deepseek", "deepseek-chat"),
        ("groq", "llama-3.3-70b-versatile"),
        ("moonshot_ai", "kimi-k2-0711-preview"),
        ("perplexity", "sonar"),
    ],
)
def test_a_well_known_provider_of_the_conventions_has_a_price(receiver, provider, model):
    receiver.send(
        "/v1/traces", json_of({**ACME, **CALL, "gen_ai.provider.name": provider, "gen_ai.request.model": model}), "application/json"
    )
    [row] = receiver.sums("provider")
    assert (row["provider"], row["priced"]) == (provider, 1)
    assert row["cost"] > 0


def test_an_unknown_price_is_recorded_as_unpriced_and_an_unknown_size_is_refused(receiver):
    unknown = {**ACME, **CALL, "gen_ai.request.model": "nobody-knows-me", "gen_ai.provider.name": "nobody"}
    assert receiver.send("/v1/traces", json_of(unknown), "application/json").json() == {}
    [row] = receiver.sums("model")
    assert (row["priced"], row["input_tokens"], row["cost"]) == (0, 800, 0)
    silent = {**ACME, "gen_ai.operation.name": "chat", "gen_ai.request.model": "plain"}
    receiver.send("/v1/traces", json_of(silent, first=2), "application/json")
    assert receiver.count("costwarden_otlp_rejected_total", "traces", "no_usage") == 1


@pytest.mark.parametrize(
    ("days", "reason"), [(-36, "too_old"), (0.01, "in_the_future")], ids=["more than 35 days ago", "in a quarter of an hour"]
)
def test_a_clock_that_is_wrong_spends_no_period_that_nobody_looks_at(receiver, days, reason):
    at = time.time_ns() + int(days * 86_400 * 1_000_000_000)
    receiver.send("/v1/traces", json_of({**ACME, **CALL}, at=at), "application/json")
    assert receiver.sums() == []
    assert receiver.count("costwarden_otlp_rejected_total", "traces", reason) == 1


# --- together with check and track -----------------------------------------------------------------------------------------------------


def test_a_span_settles_the_reservation_that_it_names(receiver):
    sizes = {"estimated_input_tokens": 5000, "estimated_output_tokens": 5000}
    checked = receiver.post("/api/ai-budget/check", {"tenant_id": "acme", "model": "plain", **sizes})
    span = json_of({**ACME, **CALL, "costwarden.reservation_id": checked["reservation_id"]})
    receiver.send("/v1/traces", span, "application/json")
    assert receiver.spent() == pytest.approx(0.001)
    tracked = {
        "tenant_id": "acme",
        "model": "plain",
        "input_tokens": 800,
        "output_tokens": 200,
        "reservation_id": checked["reservation_id"],
    }
    assert receiver.post("/api/ai-budget/track", tracked)["repeated"] is True
    assert receiver.spent() == pytest.approx(0.001)


@pytest.mark.parametrize("span_first", [True, False])
def test_a_call_that_is_tracked_and_traced_counts_once_in_whatever_order(receiver, span_first):
    named = {"tenant_id": "acme", "model": "plain", "event_id": "call-1"}
    receiver.post("/api/ai-budget/check", {**named, "estimated_input_tokens": 5000, "estimated_output_tokens": 5000})
    steps = [
        lambda: receiver.send("/v1/traces", json_of({**ACME, **CALL, "costwarden.event_id": "call-1"}), "application/json"),
        lambda: receiver.post("/api/ai-budget/track", {**named, "input_tokens": 800, "output_tokens": 200}),
    ]
    for step in steps if span_first else reversed(steps):
        step()
    assert receiver.spent() == pytest.approx(0.001)
    assert receiver.count("costwarden_otlp_received_total", "traces", "recorded") == span_first


def test_a_made_up_reservation_is_refused(receiver):
    receiver.send("/v1/traces", json_of({**ACME, **CALL, "costwarden.reservation_id": "made up"}), "application/json")
    assert receiver.sums() == []
    assert receiver.count("costwarden_otlp_rejected_total", "traces", "bad_reservation_id") == 1


# --- credentials, and a ledger that is down --------------------------------------------------------------------------------------------


def test_a_credential_is_asked_for_and_a_tenants_own_counts_for_that_tenant_alone(receiver_of, secret):
    receiver = receiver_of(
        tokens=[
            {"name": "prometheus", "role": "viewer", "secret": secret("viewing")},
            {"name": "acme", "role": "service", "tenant_id": "acme", "secret": secret("spending")},
        ]
    )
    content = json_of(CALL, {**CALL, "tenant.id": "zenith"})
    refused = receiver.send("/v1/traces", content, "application/json")
    assert (refused.status_code, refused.json()["code"]) == (401, 16)
    assert refused.headers["www-authenticate"] == "Bearer"
    forbidden = receiver.send("/v1/traces", content, "application/json", token="viewing")
    assert (forbidden.status_code, forbidden.json()["code"]) == (403, 7)
    accepted = receiver.send("/v1/traces", content, "application/json", token="spending")
    assert accepted.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert [(row["tenant_id"], row["requests"]) for row in receiver.sums("tenant_id")] == [("acme", 1)]


def test_a_ledger_that_is_down_has_the_exporter_try_again(receiver):
    receiver.ledger.writer.condemn("the disk is gone")
    for content_type, content in (("application/json", json_of({**ACME, **CALL})), (PROTOBUF, binary(body_of({**ACME, **CALL})))):
        response = receiver.send("/v1/traces", content, content_type)
        assert (response.status_code, response.headers["retry-after"], response.headers["content-type"]) == (503, "1", content_type)
        assert b"the disk is gone; send it again" in response.content
    assert receiver.send("/v1/traces", b"", PROTOBUF).status_code == 200


def test_a_large_request_is_recorded_whole(receiver):
    spans = [{**ACME, **CALL, "costwarden.feature": f"feature {number % 7}"} for number in range(2500)]
    assert receiver.send("/v1/traces", json_of(*spans), "application/json").json() == {}
    assert receiver.spent() == pytest.approx(2.5)
    assert ExportMetricsServiceResponse.FromString(receiver.send("/v1/metrics", b"").content) == ExportMetricsServiceResponse()
