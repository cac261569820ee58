"""One OpenAPI document: FastAPI does not see the hot requests and knows none of our errors, so bodies and answers are described here."""

from collections.abc import Set as AbstractSet
from functools import cache
from typing import Annotated, Any, Union

import msgspec
from fastapi import FastAPI
from msgspec import Meta

from costwarden.api.auth import Authenticator
from costwarden.api.operations import OPERATIONS, Operation
from costwarden.api.usage import MOST_EVENTS, UsageEvent, UsageEvents
from costwarden.budgets.requests import MOST_USD_PER_CALL

_MEANINGS = {
    "400": "The body is not JSON",
    "401": "No or unknown credentials",
    "403": "The role or the tenant of the caller does not allow it",
    "404": "There is no such thing",
    "405": "The path does not have this method; `Allow` has those that it has",
    "409": "It contradicts what is there",
    "413": "The body is too large",
    "422": "The request breaks a rule",
    "429": "A budget, a suspension or the emergency stop refuses the call",
    "500": "costwarden failed; its log says why",
    "503": "The ledger cannot be reached, the server has only begun, or the identity provider's keys are not there",
}

_PROBLEM = {
    "type": "object",
    "description": "Problem details, RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "example": {
        "type": "urn:costwarden:unknown_budget",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no budget `global/month`; GET /api/budgets names them",
    },
}

_DESCRIPTION = """Budgets that refuse AI calls before they are made, and what has been spent. Every error is problem details
(RFC 9457). `X-Request-Id` is taken from the request or made, comes back, and stands in the log. Lists come in pages: give
`next_cursor` as `cursor` until it is null."""


def describe(api: FastAPI, auth: Authenticator, served: AbstractSet[tuple[str, str]]) -> None:
    """Make `api.openapi()` describe every request that is `served` (path, method), with its errors."""
    unknown = served - OPERATIONS.keys()
    if unknown:
        raise RuntimeError(f"served, and not among the operations: {sorted(unknown)}")
    describe_routes = api.openapi

    def openapi() -> dict[str, Any]:
        document = describe_routes()
        kinds = {
            kind
            for key, operation in OPERATIONS.items()
            if key in served
            for kind in (operation.body, operation.answer)
            if kind is not None
        }
        types = {kind: _documented(kind) for kind in sorted(kinds, key=str)}
        references, components = msgspec.json.schema_components(types.values(), ref_template="#/components/schemas/{name}")
        schemas = dict(zip(types, references, strict=True))
        paths: dict[str, Any] = {}
        for (path, method), operation in OPERATIONS.items():
            if (path, method) not in served:
                continue
            known = document["paths"].get(path, {}).get(method, {})
            paths.setdefault(path, {})[method] = _operation(path, method, operation, known, schemas, is_open=auth.is_open)
        document["info"]["description"] = " ".join(_DESCRIPTION.split())
        document["paths"] = paths
        document["components"] = {
            "schemas": {**_with_numbers(components), "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "A static token or a JSON Web Token"}},
        }
        return document

    api.openapi = openapi  # type: ignore[method-assign]


@cache
def _documented(kind: Any) -> Any:
    """`kind` as msgspec can describe it: JSON that is kept as it came is an object."""
    if kind is UsageEvents:
        event: Any = _documented(UsageEvent)
        return Union[event, Annotated[list[event], Meta(min_length=1, max_length=MOST_EVENTS)]]  # noqa: UP007 (made at run time)
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return kind
    fields = msgspec.structs.fields(kind)
    if all(field.type is not msgspec.Raw for field in fields):
        return kind
    described: list[Any] = []
    for field in fields:
        if field.type is msgspec.Raw:
            described.append((field.name, dict[str, Any] | msgspec.UnsetType, msgspec.UNSET))
        else:
            described.append((field.name, field.type) if field.required else (field.name, field.type, field.default))
    return msgspec.defstruct(kind.__name__, described, kw_only=True, forbid_unknown_fields=True, namespace={"__doc__": kind.__doc__})


def _operation(
    path: str, method: str, operation: Operation, known: dict[str, Any], schemas: dict[Any, Any], *, is_open: bool
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{method}{path}".replace("{", "").replace("}", "").replace("/", "_").replace("-", "_"),
        "summary": operation.summary,
        "tags": [_tag(path)],
        "responses": {
            operation.status: _done(operation, schemas),
            **{status: _refusal(status) for status in (*operation.errors, "405", "500")},
        },
    }
    if parameters := known.get("parameters"):
        described["parameters"] = parameters
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas[operation.body]}
        if operation.example is not None:
            content["example"] = operation.example
        described["requestBody"] = {"required": not operation.body_is_optional, "content": {"application/json": content}}
    if operation.permission:
        # Where no credentials are configured none are asked for, but of Alertmanager.
        described["security"] = [{"bearer": []}, {}] if is_open and operation.permission != "alert" else [{"bearer": []}]
        described["description"] = f"Needs the permission `{operation.permission}`."
    return described


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    return parts[1] if parts[0] == "api" and len(parts) > 1 else "server"


def _done(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": "Done", "headers": {"X-Request-Id": {"schema": {"type": "string"}}}}
    if operation.answer is not None:
        described["content"] = {"application/json": {"schema": schemas[operation.answer]}}
    elif operation.status != "204":
        text = {"schema": {"type": "string"}}
        described["content"] = {"text/plain": text, "application/openmetrics-text": text}
    return described


def _refusal(status: str) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": _MEANINGS[status], "content": problem}


_BOUNDS: dict[str, dict[str, Any]] = {
    "monthly_limit_usd": {"minimum": 0, "maximum": 1_000_000_000},
    "limit_usd": {"minimum": 0, "maximum": 1_000_000_000},
    "cost_usd": {"minimum": 0, "maximum": MOST_USD_PER_CALL},
    "amount_usd": {"exclusiveMinimum": 0, "maximum": MOST_USD_PER_CALL},
    "audio_seconds": {"minimum": 0, "maximum": 1_000_000},
    "soft_limit_ratio": {"exclusiveMinimum": 0, "maximum": 10},
    "thresholds": {"exclusiveMinimum": 0, "maximum": 10},
}
"""Of what requests name; msgspec has no word for bounds of decimal numbers."""


def _with_numbers(schemas: dict[str, Any]) -> dict[str, Any]:
    """msgspec describes an amount of money as text; it reads a number as well, which is what people write, and writes one."""

    def mend(node: Any, bounds: dict[str, Any] | None) -> None:
        if isinstance(node, dict):
            if node.get("format") == "decimal":
                del node["format"]
                node["type"] = "number" if bounds is None else ["number", "string"]
                node |= {} if bounds is None else {"pattern": "^[0-9]{1,10}([.][0-9]{1,9})?$", **bounds}
            for name, value in node.items():
                mend(value, bounds if bounds is None else _BOUNDS.get(name, bounds))
        elif isinstance(node, list):
            for value in node:
                mend(value, bounds)

    for schema in schemas.values():
        is_request = schema.get("additionalProperties") is False
        mend(schema, {} if is_request else None)
    return schemas
