"""One OpenAPI document: FastAPI does not see the hot requests, so they are described here, and no route knows our errors."""

from typing import Any

import msgspec
from fastapi import FastAPI

from costwarden.budgets.requests import CheckRequest, SetRequest, SuspendRequest, TrackRequest

_AUTHORIZED = ("401", "403")
_READ = ("400", "413", "422")
"""What a request with a body may be refused with."""

_HOT = {
    ("/api/ai-budget/check", "post"): "May this call be made? Reserves its estimate.",
    ("/api/ai-budget/track", "post"): "Record what a call used, and settle its reservation.",
    ("/api/ai-budget/set", "post"): "Give a tenant a monthly budget, or change it.",
    ("/api/alerts/webhook", "post"): "Alertmanager's webhook, version 4",
    ("/metrics", "get"): "Prometheus metrics",
    ("/-/reload", "post"): "Read the configuration again",
}

_REFUSALS = {
    ("/api/ai-budget/check", "post"): (*_AUTHORIZED, *_READ, "409", "429", "503"),
    ("/api/ai-budget/track", "post"): (*_AUTHORIZED, *_READ, "503"),
    ("/api/ai-budget/set", "post"): (*_AUTHORIZED, *_READ, "409", "503"),
    ("/api/ai-budget/tenant/{tenant_id}", "get"): (*_AUTHORIZED, "404"),
    ("/api/ai-budget/tenant/{tenant_id}/suspend", "post"): (*_AUTHORIZED, *_READ, "503"),
    ("/api/ai-budget/tenant/{tenant_id}/resume", "post"): (*_AUTHORIZED, "503"),
    ("/api/alerts/webhook", "post"): (*_AUTHORIZED, *_READ, "503"),
    ("/api/remediation/runs", "get"): (*_AUTHORIZED, "422"),
    ("/api/remediation/runs/{run_id}", "get"): (*_AUTHORIZED, "404"),
    ("/api/remediation/runs/{run_id}/approve", "post"): (*_AUTHORIZED, "404", "409", "503"),
    ("/metrics", "get"): (*_AUTHORIZED, "503"),
    ("/-/reload", "post"): (*_AUTHORIZED, "422", "503"),
    ("/healthz", "get"): (),
    ("/readyz", "get"): ("503",),
}
"""The errors of every operation, beside 405 and 500 that all of them share; a test compares it with the routes."""

_BODIES = {
    "/api/ai-budget/check": CheckRequest,
    "/api/ai-budget/track": TrackRequest,
    "/api/ai-budget/set": SetRequest,
    "/api/ai-budget/tenant/{tenant_id}/suspend": SuspendRequest,
}

_MEANINGS = {
    "400": "The body is not JSON",
    "401": "No or unknown credentials",
    "403": "The role does not allow it",
    "404": "There is no such thing",
    "409": "It contradicts what is there",
    "413": "The body is too large",
    "422": "The request breaks a rule",
    "429": "A budget refuses the call",
    "503": "The ledger cannot write, or the server has only begun",
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
}


def describe(api: FastAPI) -> None:
    """Make `api.openapi()` describe every request of the server, with its errors."""
    describe_routes = api.openapi

    def openapi() -> dict[str, Any]:
        document = describe_routes()
        references, components = msgspec.json.schema_components(_BODIES.values(), ref_template="#/components/schemas/{name}")
        bodies = dict(zip(_BODIES, references, strict=True))
        bodies["/api/alerts/webhook"] = {"type": "object"}
        for (path, method), summary in _HOT.items():
            document["paths"][path] = {method: {"summary": summary, "responses": {"200": _done(path)}}}
        for path, reference in bodies.items():
            document["paths"][path]["post"]["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
        for (path, method), refusals in _REFUSALS.items():
            operation = document["paths"][path][method]
            operation["responses"] = {"200": operation["responses"]["200"], **{status: _refusal(status) for status in refusals}}
            if "401" in refusals:
                # Without tokens in the configuration no credentials are asked for.
                operation["security"] = [{"bearer": []}, {}]
        document["components"] = {
            "schemas": {**_with_numbers(components), "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        }
        return document

    api.openapi = openapi  # type: ignore[method-assign]


def _done(path: str) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}} if path == "/metrics" else {"application/json": {"schema": {"type": "object"}}}
    return {"description": "Done", "content": content}


def _refusal(status: str) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": _MEANINGS[status], "content": problem}


def _with_numbers(schemas: dict[str, Any]) -> dict[str, Any]:
    """msgspec describes an amount of money as text; it reads a number as well, which is what people write."""
    for schema in schemas.values():
        for field in schema["properties"].values():
            for kind in (field, *field.get("anyOf", ())):
                if kind.get("format") == "decimal":
                    kind["type"] = ["number", "string"]
    return schemas
