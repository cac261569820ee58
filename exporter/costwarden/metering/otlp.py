"""OpenTelemetry spans to usage: which spans are calls of models, of whom, and how large.

Pure: decoded OTLP messages in, usage without a price out. What cannot be counted is refused with a reason; what is no call of a model is
passed over.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from costwarden.metering import otlp_attributes as names
from costwarden.metering.otlp_attributes import Attributes, Refusal, attributes_of, provider_of, service_tier_of, text, tokens_of
from costwarden.metering.settings import OtlpSettings
from costwarden.model import Usage

if TYPE_CHECKING:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

RESERVATION_ID = "costwarden.reservation_id"
"""The reservation that the call was made on; the span settles it where nobody has."""

EVENT_ID = "costwarden.event_id"
"""The event under which the call is checked or tracked by the application too; it counts once."""

NO_CALLS = frozenset(
    {
        "create_agent",
        "invoke_agent",
        "invoke_workflow",
        "plan",
        "execute_tool",
        "fetch_response",
        "retrieval",
        "create_memory",
        "create_memory_store",
        "delete_memory",
        "delete_memory_store",
        "search_memory",
        "update_memory",
        "upsert_memory",
    }
)
"""Well-known operations that are no call of a model. `invoke_agent` carries the sum of the calls within it, under the same names:
https://github.com/open-telemetry/semantic-conventions-genai/issues/19; `fetch_response` is of a call that was made before."""

_OPENINFERENCE = {"LLM": "chat", "EMBEDDING": "embeddings"}
"""https://arize-ai.github.io/openinference/spec/semantic_conventions.html: the other kinds enclose these."""

_OPENLLMETRY = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}
"""Values of `llm.request.type`."""

_ERROR = 2  # opentelemetry.proto.trace.v1.Status.STATUS_CODE_ERROR


class Metered(msgspec.Struct, kw_only=True):
    """A call that a span or data point tells of. `usage` lacks its price."""

    usage: Usage
    response_model: str = ""
    """The model that answered, where that is another name than the one asked for: its price holds where the other has none."""
    reservation_id: str = ""
    settles: bool = False
    """The application has told costwarden's own API of this call too, or will: it is settled by its event or reservation."""
    says_tokens: bool = True
    items: int = 1
    """Spans or data points that it was made of."""


class Reading(msgspec.Struct):
    """What a request held."""

    metered: list[Metered] = []
    refused: list[tuple[Refusal, int]] = []
    """With the number of spans or data points that each is about."""
    passed_over: int = 0
    """Spans or data points that are no call of a model."""
    note: str = ""
    """What the sender should hear although nothing was refused."""


def read_spans(request: "ExportTraceServiceRequest", settings: OtlpSettings, own_tenant_id: str = "") -> Reading:
    """The calls of models among the spans of `request`. `own_tenant_id` is the tenant of a caller that may act for no other."""
    reading = Reading([], [])
    for resource_spans in request.resource_spans:
        resource = attributes_of(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                try:
                    metered = _read_span(span, resource, scope_spans.scope.name, settings, own_tenant_id)
                except Refusal as refusal:
                    reading.refused.append((refusal, 1))
                    continue
                if metered is None:
                    reading.passed_over += 1
                else:
                    reading.metered.append(metered)
    return reading


def _read_span(span: Any, resource: Attributes, scope: str, settings: OtlpSettings, own_tenant_id: str) -> Metered | None:
    attributes = attributes_of(span.attributes)
    operation = operation_of(attributes, settings)
    if operation is None:
        return None
    if len(span.trace_id) != 16 or len(span.span_id) != 8 or not any(span.trace_id) or not any(span.span_id):
        raise Refusal("bad_span_id", "a span has no valid trace id of 16 and span id of 8 bytes: without them it cannot be counted once")
    usage = described(attributes, resource, operation, settings, own_tenant_id)
    # Two instrumentations, of a framework and of the client that it uses, make two spans of one call; within a trace the id of the
    # response tells. Alone it would not: there are servers that number their answers from 1.
    usage.event_id = f"{span.trace_id.hex()}/{text(attributes, ('gen_ai.response.id',)) or span.span_id.hex()}"
    # A call belongs to the period in which it was begun, as one that is checked does.
    usage.timestamp = (span.start_time_unix_nano or span.end_time_unix_nano) // 1000
    usage.success = span.status.code != _ERROR and not text(attributes, ("error.type",))
    counted = tokens_of(attributes, usage.provider, scope, settings.cached_tokens)
    names.apply_tokens(usage, counted)
    usage.service_tier = service_tier_of(attributes)
    if usage.success and (operation == "image_generation" or attributes.get("gen_ai.output.type") == "image"):
        usage.images = names.count(attributes, ("gen_ai.request.choice.count",)) or 0
    metered = Metered(usage=usage, says_tokens=counted.says_something, response_model=text(attributes, names.RESPONSE_MODEL))
    metered.reservation_id = text(attributes, (RESERVATION_ID,))
    if event_id := text(attributes, (EVENT_ID,)):
        usage.event_id = event_id
    elif metered.reservation_id:
        usage.event_id = ""  # the engine's own, by the reservation
    if event_id or metered.reservation_id:
        usage.source, metered.settles = f"api:{usage.tenant_id}", True
    return metered


def described(attributes: Attributes, resource: Attributes, operation: str, settings: OtlpSettings, own_tenant_id: str) -> Usage:
    """A usage with all dimensions and the source, and no quantities. Raises `Refusal` where the tenant is missing or another's."""

    def mapped(dimension: str) -> str:
        wanted = getattr(settings.attributes, dimension)
        return text(attributes, wanted) or text(resource, wanted)

    tenant_id = mapped("tenant_id") or own_tenant_id or settings.default_tenant_id
    if not tenant_id:
        wanted = "`, `".join(settings.attributes.tenant_id)
        raise Refusal("no_tenant", f"no tenant: set the attribute `{wanted}`, or `otlp.default_tenant_id` in the configuration")
    if own_tenant_id and tenant_id != own_tenant_id:
        raise Refusal("other_tenant", f"it is of tenant `{tenant_id}`, and the credential is for `{own_tenant_id}` alone")
    model = text(attributes, names.REQUEST_MODEL) or text(attributes, names.RESPONSE_MODEL)
    if not model and not operation:
        raise Refusal("no_model", "neither `gen_ai.request.model` nor `gen_ai.operation.name`: one of them tells the price")
    return Usage(
        # By tenant, so that nobody can take the ids of another's spans.
        source=f"otlp:{tenant_id}",
        event_id="",
        timestamp=0,
        tenant_id=tenant_id,
        provider=provider_of(attributes),
        model=model,
        operation=operation,
        report_type=mapped("report_type"),
        feature=mapped("feature"),
        team=mapped("team"),
        user_id=mapped("user_id"),
        service=mapped("service"),
    )


def operation_of(attributes: Attributes, settings: OtlpSettings) -> str | None:
    """The operation of a call of a model; None for everything else. Empty where old conventions name none.

    Raises `Refusal` for an operation that uses tokens and that nobody knows: it may be a call, or enclose some.
    """
    operation = text(attributes, ("gen_ai.operation.name",))
    if operation:
        if operation in settings.operations:
            return operation
        if operation in NO_CALLS or not _uses_tokens(attributes):
            return None
        detail = f"the operation `{operation}` is not known: add it to `otlp.operations` if it is one call of a model"
        raise Refusal("unknown_operation", detail)
    if kind := attributes.get("openinference.span.kind"):
        return _OPENINFERENCE.get(str(kind).upper())
    if kind := attributes.get("llm.request.type"):
        return _OPENLLMETRY.get(str(kind), "" if _uses_tokens(attributes) else None)
    if attributes.get("traceloop.span.kind") or attributes.get("gen_ai.agent.name"):
        return None
    # Until version 1.27 of the conventions an operation was not named, and only calls of models had spans.
    is_call = text(attributes, (*names.REQUEST_MODEL, *names.RESPONSE_MODEL)) and _uses_tokens(attributes)
    return "" if is_call else None


def _uses_tokens(attributes: Attributes) -> bool:
    return any(name in attributes for name in (*names.INPUT, *names.OUTPUT))


def chunks(metered: list[Metered], size: int) -> Iterator[list[Metered]]:
    """`metered` in lists of at most `size`."""
    return (metered[start : start + size] for start in range(0, len(metered), size))


def why(refused: Iterable[tuple[Refusal, int]], noun: str) -> str:
    """A sentence for each reason: how many, and the first of them."""
    counts: dict[str, int] = {}
    first: dict[str, str] = {}
    for refusal, items in refused:
        counts[refusal.reason] = counts.get(refusal.reason, 0) + items
        first.setdefault(refusal.reason, str(refusal))
    return "; ".join(f"{noun} refused as {reason}: {number}, the first: {first[reason]}" for reason, number in counts.items())
