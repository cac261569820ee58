"""OpenAI's administration API on loopback: costs and usage of an organisation, answered from the request.

Shapes, limits and groupings are those of https://platform.openai.com/docs/api-reference/usage (`costs`, `completions`, `embeddings`, …);
a test reads it with OpenAI's own library.
"""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from stand_in import Answer, Request

KEY = "sk-admin-0123456789abcdef"

_JSON = msgspec.json.Encoder(decimal_format="number")

NOT_ALLOWED = {
    "error": {
        "message": "You have insufficient permissions for this operation. Missing scopes: api.usage.read. Check your role.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
}

GROUPS = {
    "completions": {"project_id", "user_id", "api_key_id", "model", "batch", "service_tier"},
    "embeddings": {"project_id", "user_id", "api_key_id", "model"},
    "moderations": {"project_id", "user_id", "api_key_id", "model"},
    "images": {"project_id", "user_id", "api_key_id", "model", "size", "source"},
    "audio_speeches": {"project_id", "user_id", "api_key_id", "model"},
    "audio_transcriptions": {"project_id", "user_id", "api_key_id", "model"},
    "costs": {"project_id", "line_item", "api_key_id"},
}


class OpenaiAdmin:
    """An organisation. `costs` and `usage` may be changed between requests."""

    def __init__(self) -> None:
        self.costs: dict[date, list[dict[str, Any]]] = defaultdict(list)
        self.usage: dict[str, dict[date, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
        self.left_out: set[date] = set()
        """Days that no answer has."""
        self.denied: tuple[str, ...] = ()
        """What the key may not read: `costs`, `usage/images`, …"""
        self.key = KEY

    def cost(self, day: date, amount: Any, line_item: str = "gpt-4o-2024-08-06, input", project: str = "proj_a", **names: Any) -> None:
        """A line of the bill; `amount` is what stands in the JSON."""
        line = {"currency": "usd", "api_key_id": "key_1", **names}
        self.costs[day].append({"value": amount, "line_item": line_item, "project_id": project, **line})

    def total(self) -> Decimal:
        return sum((Decimal(line["value"]) for lines in self.costs.values() for line in lines), Decimal(0))

    def answer(self, request: Request) -> Answer:
        what = request.path.removeprefix("/v1/organization/")
        if request.headers.get("authorization") != f"Bearer {self.key}":
            masked = f"Incorrect API key provided: {request.headers.get('authorization', '').removeprefix('Bearer ')}."
            return Answer({"error": {"message": masked, "type": "invalid_request_error", "code": "invalid_api_key"}}, 401)
        if what.startswith(self.denied) if self.denied else False:
            return Answer(NOT_ALLOWED, 403)
        kind = what.removeprefix("usage/")
        if kind not in GROUPS or request.method != "GET":
            return Answer({"error": {"message": f"Unknown request URL: {request.path}"}}, 404)
        groups = request.query.get("group_by[]", [])
        limit = int(request.first("limit", "7"))
        if not set(groups) <= GROUPS[kind] or not 1 <= limit <= (180 if kind == "costs" else 31) or request.first("bucket_width") != "1d":
            return Answer({"error": {"message": f"Invalid parameter of {kind}"}}, 400)
        return self._page(request, kind, groups, limit)

    def _page(self, request: Request, kind: str, groups: list[str], limit: int) -> Answer:
        first, end = (datetime.fromtimestamp(int(request.first(name)), UTC).date() for name in ("start_time", "end_time"))
        days = [first + timedelta(days=number) for number in range((end - first).days)]
        at = int(request.first("page", "page_0").removeprefix("page_"))
        data = [self._bucket(day, kind, groups) for day in days[at : at + limit] if day not in self.left_out]
        more = at + limit < len(days)
        body = {"object": "page", "data": data, "has_more": more, "next_page": f"page_{at + limit}" if more else None}
        return Answer(_JSON.encode(body))

    def _bucket(self, day: date, kind: str, groups: list[str]) -> dict[str, Any]:
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
        lines = self.costs[day] if kind == "costs" else self.usage[kind][day]
        results = [_cost(line, groups) for line in lines] if kind == "costs" else [_usage(line, kind, groups) for line in lines]
        return {"object": "bucket", "start_time": start, "end_time": start + 86_400, "results": results}


def _cost(line: dict[str, Any], groups: list[str]) -> dict[str, Any]:
    names = {name: line[name] if name in groups else None for name in ("line_item", "project_id", "api_key_id")}
    amount = {"value": line["value"], "currency": line["currency"]}
    return {"object": "organization.costs.result", "amount": amount, **names, **line.get("extra", {})}


def _usage(line: dict[str, Any], kind: str, groups: list[str]) -> dict[str, Any]:
    names = {name: line.get(name) if name in groups else None for name in ("project_id", "user_id", "api_key_id", "model", "batch")}
    if "service_tier" in GROUPS[kind]:
        names["service_tier"] = line.get("service_tier") if "service_tier" in groups else None
    counts = {name: value for name, value in line.items() if name not in names and name != "service_tier"}
    return {"object": f"organization.usage.{kind}.result", **counts, **names}
