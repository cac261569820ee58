"""The hot requests in the same OpenAPI document as the rest: FastAPI does not see them, so their schemas come from msgspec."""

from typing import Any

import msgspec
from fastapi import FastAPI

from costwarden.budgets.requests import CheckRequest, SetRequest, TrackRequest

_REQUESTS = {
    "/api/ai-budget/check": (CheckRequest, "May this call be made? Reserves its estimate.", ("200", "422", "429", "503")),
    "/api/ai-budget/track": (TrackRequest, "Record what a call used, and settle its reservation.", ("200", "422", "503")),
    "/api/ai-budget/set": (SetRequest, "Give a tenant a monthly budget, or change it.", ("200", "409", "422", "503")),
}
_MEANINGS = {
    "200": "Done",
    "400": "The body is not JSON",
    "401": "No or unknown credentials",
    "403": "The role does not allow it",
    "409": "It contradicts what is there",
    "413": "The body is too large",
    "422": "The request breaks a rule",
    "429": "A budget refuses the call",
    "503": "The ledger cannot write",
}


def describe_hot(api: FastAPI) -> None:
    """Make `api.openapi()` describe the hot requests as well."""
    describe_rest = api.openapi

    def openapi() -> dict[str, Any]:
        document = describe_rest()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        types = [request for request, _, _ in _REQUESTS.values()]
        references, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
        schemas.update(components)
        schemas["Problem"] = _PROBLEM
        for (path, (_, summary, statuses)), reference in zip(_REQUESTS.items(), references, strict=True):
            document["paths"][path] = {
                "post": {
                    "summary": summary,
                    "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}},
                    "responses": {status: _response(status) for status in ("400", "401", "403", "413", *statuses)},
                }
            }
        document["paths"]["/metrics"] = {"get": {"summary": "Prometheus metrics", "responses": {"200": {"description": "The page"}}}}
        document["paths"]["/api/alerts/webhook"] = {
            "post": {
                "summary": "Alertmanager's webhook, version 4",
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
                "responses": {status: _response(status) for status in ("200", "400", "401", "403", "413", "422", "503")},
            }
        }
        document["paths"]["/-/reload"] = {
            "post": {
                "summary": "Read the configuration again",
                "responses": {status: _response(status) for status in ("200", "401", "403", "422")},
            }
        }
        return document

    api.openapi = openapi  # type: ignore[method-assign]


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


def _response(status: str) -> dict[str, Any]:
    if status == "200":
        return {"description": _MEANINGS[status], "content": {"application/json": {"schema": {"type": "object"}}}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": _MEANINGS[status], "content": problem}
