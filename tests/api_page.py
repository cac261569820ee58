"""Writes the operations of docs/api.md: whom each is for, what it takes, what it answers, an example."""

import json
from typing import Any
from urllib.parse import quote

from costwarden.api.callers import ALLOWED, OF_THE_WHOLE_SERVER
from costwarden.api.operations import OPERATIONS, Operation

NOUNS = {
    "ai-budget": "Checks, reservations, suspensions",
    "budgets": "Budgets",
    "usage": "Usage",
    "costs": "Costs",
    "cloud-costs": "Bills",
    "alerts": "Alerts",
    "audit": "Audit log",
    "remediation": "Remediation",
    "notifications": "Notifications",
    "health": "Health",
    "server": "The server itself",
}

EXAMPLE_PARTS = {
    "tenant_id": "acme",
    "reservation_id": "event:4:acme:call-4712",
    "source": "api:acme",
    "event_id": "call-4711",
    "dimension": "model",
    "name": "tenant_id=acme,model=gpt-4o/month",
    "run_id": "20251115T120000-4f1c",
    "receiver": "lead-sms",
    "notification_id": "1",
}

EXAMPLE_QUERIES = {
    "/api/usage": "tenant_id=acme&since=2025-11-01T00:00:00Z&limit=50",
    "/api/costs": "group_by=day&group_by=model&since=2025-11-01T00:00:00Z",
    "/api/cloud-costs": "group_by=service&group_by=region",
    "/api/budgets": "scope=tenant&status=warning",
    "/api/alerts": "kind=threshold&limit=20",
    "/api/audit": "action=set_budget",
    "/api/notifications": "state=failed",
    "/api/ai-budget/reservations": "state=unsettled",
}


def example_path(path: str, method: str) -> str:
    """A path with values for its parts, and a query where it takes one."""
    filled = path.format(**{name: quote(value, safe="=,:/" if name == "name" else "=,:") for name, value in EXAMPLE_PARTS.items()})
    query = EXAMPLE_QUERIES.get(path) if method == "get" else None
    return f"{filled}?{query}" if query else filled


def operations(document: dict[str, Any]) -> str:
    """All operations by noun, in Markdown, from the OpenAPI document."""
    lines = []
    for tag, title in NOUNS.items():
        lines += [f"## {title}", ""]
        for (path, method), operation in OPERATIONS.items():
            described = document["paths"][path][method]
            if described["tags"] == [tag]:
                lines += _operation(path, method, operation, described, document)
    return "\n".join(lines)


def _operation(path: str, method: str, operation: Operation, described: dict[str, Any], document: dict[str, Any]) -> list[str]:
    lines = [f"### `{method.upper()} {path}`", "", f"{operation.summary.rstrip('.')}. {_access(operation)}", ""]
    rows = [
        (parameter["name"], parameter.get("description", ""), _kind(parameter["schema"])) for parameter in described.get("parameters", ())
    ]
    rows += _fields(described, document)
    if rows:
        lines += [
            "| name | kind | meaning |",
            "|---|---|---|",
            *(f"| `{name}` | {kind} | {' '.join(text.split())} |" for name, text, kind in rows),
            "",
        ]
    command = f"curl{'' if method == 'get' else f' -X {method.upper()}'} 'localhost:3010{example_path(path, method)}'"
    if operation.permission:
        command += ' -H "Authorization: Bearer $TOKEN"'
    if operation.example is not None:
        command += f" \\\n    -d '{json.dumps(operation.example)}'"
    statuses = ", ".join((operation.status, *operation.errors))
    return [*lines, "```console", f"$ {command}", "```", "", f"Answers {statuses}.", ""]


def _access(operation: Operation) -> str:
    if not operation.permission:
        return "For everybody."
    roles = ", ".join(f"`{role}`" for role in sorted(ALLOWED[operation.permission]))
    bound = " Not for a caller that is bound to a tenant." if operation.permission in OF_THE_WHOLE_SERVER else ""
    return f"For {roles}.{bound}"


def _fields(described: dict[str, Any], document: dict[str, Any]) -> list[tuple[str, str, str]]:
    if "requestBody" not in described:
        return []
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    schema = next((kind for kind in schema.get("anyOf", ()) if "$ref" in kind), schema)
    schema = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
    needed = schema.get("required", ())
    return [(name, "required" if name in needed else "", _kind(field)) for name, field in schema.get("properties", {}).items()]


def _kind(schema: dict[str, Any]) -> str:
    kinds = [kind for kind in schema.get("anyOf", (schema,)) if kind.get("type") != "null"]
    names = []
    for kind in kinds:
        if "$ref" in kind:
            names.append(kind["$ref"].rpartition("/")[2])
        elif "enum" in kind:
            names.append(", ".join(f"`{value}`" for value in kind["enum"] if value != ""))
        else:
            found = kind.get("type", "any")
            names.append(kind.get("format") or (" or ".join(found) if isinstance(found, list) else found))
    default = schema.get("default")
    return " or ".join(dict.fromkeys(names)) + (
        f", default {default}" if isinstance(default, int) and not isinstance(default, bool) else ""
    )
