"""Anthropic's usage and cost reports on loopback, answered from the request.

Shapes, limits and groupings are those of https://docs.anthropic.com/en/api/admin-api/usage-cost/get-cost-report and
https://docs.anthropic.com/en/api/admin-api/usage-cost/get-messages-usage-report: a cost's `amount` is a text, in **cents**.
"""

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from stand_in import Answer, Request

KEY = "sk-ant-admin01-0123456789abcdef"

ORGANIZATION = "0f5c3a52-1c6b-4b2a-9a57-0a2d8ad0c0de"

DESCRIBED = ("description", "cost_type", "token_type", "model", "service_tier", "context_window")
"""What grouping by `description` tells, and null without it."""

COUNTS = ("uncached_input_tokens", "cache_read_input_tokens", "output_tokens")


class AnthropicAdmin:
    """An organisation. `costs` and `usage` may be changed between requests."""

    def __init__(self) -> None:
        self.costs: dict[date, list[dict[str, Any]]] = defaultdict(list)
        self.usage: dict[date, list[dict[str, Any]]] = defaultdict(list)
        self.left_out: set[date] = set()
        self.denied: tuple[str, ...] = ()
        self.key = KEY

    def cost(self, day: date, cents: Any, description: str = "Claude Sonnet 4 Usage - Input Tokens", **names: Any) -> None:
        """A line of the bill; `cents` is what stands in the JSON."""
        line = {"currency": "USD", "workspace_id": "wrkspc_1", "cost_type": "tokens", "model": "claude-sonnet-4-20250514", **names}
        self.costs[day].append({"amount": cents, "description": description, **line})

    def dollars(self) -> Decimal:
        """Of all lines: a hundredth of their cents."""
        return sum((Decimal(line["amount"]) for lines in self.costs.values() for line in lines), Decimal(0)) / 100

    def answer(self, request: Request) -> Answer:
        if request.headers.get("x-api-key") != self.key:
            return _error(401, "authentication_error", "invalid x-api-key")
        if request.headers.get("anthropic-version") != "2023-06-01":
            return _error(400, "invalid_request_error", "anthropic-version: header is required")
        what = request.path.removeprefix("/v1/organizations/")
        allowed = {"cost_report": {"workspace_id", "description"}, "usage_report/messages": {"workspace_id", "model", "service_tier"}}
        if what not in allowed:
            return _error(404, "not_found_error", f"Not found: {request.path}")
        if what in self.denied:
            return _error(403, "permission_error", "Your API key does not have permission to use the specified resource.")
        groups, limit = request.query.get("group_by[]", []), int(request.first("limit", "7"))
        if not set(groups) <= allowed[what] or not 1 <= limit <= 31 or request.first("bucket_width", "1d") != "1d":
            return _error(400, "invalid_request_error", "limit, group_by or bucket_width is not valid")
        return self._page(request, what, groups, limit)

    def _page(self, request: Request, what: str, groups: list[str], limit: int) -> Answer:
        first, end = (date.fromisoformat(request.first(name)[:10]) for name in ("starting_at", "ending_at"))
        days = [first + timedelta(days=number) for number in range((end - first).days)]
        at = int(request.first("page", "page_0").removeprefix("page_"))
        data = [self._bucket(day, what, groups) for day in days[at : at + limit] if day not in self.left_out]
        more = at + limit < len(days)
        body = {"data": data, "has_more": more, "next_page": f"page_{at + limit}" if more else None}
        return Answer(body, headers={"anthropic-organization-id": ORGANIZATION})

    def _bucket(self, day: date, what: str, groups: list[str]) -> dict[str, Any]:
        lines = self.costs[day] if what == "cost_report" else self.usage[day]
        results = [(_cost if what == "cost_report" else _usage)(line, groups) for line in lines]
        return {"starting_at": f"{day}T00:00:00Z", "ending_at": f"{day + timedelta(days=1)}T00:00:00Z", "results": results}


def _cost(line: dict[str, Any], groups: list[str]) -> dict[str, Any]:
    described = {name: line.get(name) if "description" in groups else None for name in DESCRIBED}
    workspace = line["workspace_id"] if "workspace_id" in groups else None
    return {"amount": line["amount"], "currency": line["currency"], "workspace_id": workspace, **described}


def _usage(line: dict[str, Any], groups: list[str]) -> dict[str, Any]:
    names = {name: line.get(name) if name in groups else None for name in ("workspace_id", "model", "service_tier")}
    counts = {name: line.get(name, 0) for name in COUNTS}
    created = {f"ephemeral_{kept}_input_tokens": line.get(kept, 0) for kept in ("5m", "1h")}
    return {"api_key_id": None, "context_window": None, **names, **counts, "cache_creation": created, "server_tool_use": {}}


def _error(status: int, kind: str, message: str) -> Answer:
    # https://docs.anthropic.com/en/api/errors
    return Answer({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}, status)
