"""Cost Management on loopback: answers a query from its scope, period, type, groups and filter, as Azure does, its traps included.

Shapes: https://learn.microsoft.com/en-us/rest/api/cost-management/query/usage,
https://learn.microsoft.com/en-us/rest/api/cost-management/budgets/list,
https://learn.microsoft.com/en-us/rest/api/cost-management/forecast/usage; pages of a query:
https://github.com/Azure/azure-rest-api-specs/issues/23405; columns of a tag: `TagKey` and `TagValue`; the two silent changes of a period
(a daily query of more than a month, and one that lies ahead): the guardrails of Microsoft's own `azure-cost-optimization` skill.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import msgspec
from stand_in import Answer, Request, StandIn

from costwarden.model import exact_sum

PROVIDER = "/providers/Microsoft.CostManagement/"
_EXACT = msgspec.json.Encoder(decimal_format="number")

DIMENSIONS = {
    "ServiceName": "service",
    "ResourceLocation": "region",
    "SubscriptionId": "subscription",
    "ResourceGroup": "resource_group",
    "ChargeType": "charge_type",
    "PricingModel": "pricing_model",
}

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-8888-7777-6666-555555555555"


@dataclass(frozen=True)
class AzureCharge:
    day: date
    actual: Any = "0"
    """Text of a JSON number, or what stands in its place."""
    amortized: Any = None
    """As `actual`; None is the same."""
    service: str = "Virtual Machines"
    region: str = "EU West"
    subscription: str = SUBSCRIPTION
    resource_group: str = "shop"
    charge_type: str = "Usage"
    pricing_model: str = "OnDemand"
    currency: str = "USD"
    tags: Mapping[str, str] = field(default_factory=dict)

    def cost(self, cost_type: str) -> Any:
        return self.actual if cost_type == "ActualCost" or self.amortized is None else self.amortized


@dataclass
class AzureCosts:
    """`charges`, `budgets` and `forecast` may be changed between requests."""

    today: date
    charges: list[AzureCharge] = field(default_factory=list)
    budgets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Scope -> budgets, two a page."""
    forecast: list[tuple[date, str, str, str]] = field(default_factory=list)
    """Day, cost, `Actual` or `Forecast`, currency."""
    members: dict[str, set[str]] = field(default_factory=dict)
    """Management group or billing account -> subscriptions."""
    page: int = 5_000
    refused: dict[str, Answer] = field(default_factory=dict)
    """Beginning of a path -> the answer to all below it."""
    lost: set[str] = field(default_factory=set)
    """Values of a filter that find nothing: what a row that is missing looks like."""

    def served(self, cost_type: str, **where: str) -> Decimal:
        """The exact sum of the charges whose fields are as `where`."""
        return exact_sum([Decimal(one.cost(cost_type)) for one in self.charges if all(getattr(one, k) == v for k, v in where.items())])

    def answer(self, request: Request) -> Answer:
        path = unquote(request.path)
        for beginning, refusal in self.refused.items():
            if path.startswith(beginning):
                return refusal
        scope, _, operation = path.rpartition(PROVIDER)
        if request.first("api-version") != "2025-03-01":
            return error(400, "InvalidApiVersionParameter", "The api-version is invalid.")
        if not request.headers.get("clienttype"):
            # Quota of all who name no client: others have used it up.
            return Answer({}, 429, {"x-ms-ratelimit-microsoft.costmanagement-clienttype-retry-after": "3600"})
        if operation == "budgets" and request.method == "GET":
            return self._budgets(request, scope)
        if operation in {"query", "forecast"} and request.method == "POST":
            return self._query(request, scope) if operation == "query" else self._forecast(request)
        return error(405, "MethodNotAllowed", f"{request.method} {operation}")

    def _budgets(self, request: Request, scope: str) -> Answer:
        skip = int(request.first("$skiptoken", "0"))
        found = self.budgets.get(scope, [])
        more = f"{self.url(request)}&$skiptoken={skip + 2}" if len(found) > skip + 2 else None
        return Answer(_EXACT.encode({"value": found[skip : skip + 2]} | ({"nextLink": more} if more else {})))

    def _forecast(self, request: Request) -> Answer:
        asked = request.json()
        first, last = _period(asked)
        if asked["timeframe"] != "Custom" or last <= self.today or "grouping" in asked["dataset"]:
            return error(400, "BadRequest", "Invalid forecast definition.")
        if not self.forecast:
            return error(424, "FailedDependency", "Forecast is unavailable for the specified time period.")
        rows = [[_number(cost), int(f"{day:%Y%m%d}"), status, currency] for day, cost, status, currency in self.forecast]
        return self._rows(
            ["Cost", "UsageDate", "CostStatus", "Currency"], [row for row in rows if _day(first) <= row[1] <= _day(last)], None
        )

    def _query(self, request: Request, scope: str) -> Answer:
        asked = request.json()
        dataset = asked["dataset"]
        groups = dataset.get("grouping", [])
        if len(groups) > 2:
            return error(400, "BadRequest", "Invalid query definition: Query can have up to 2 group by clauses.")
        found = [one for one in self._in_scope(scope) if _passes(one, dataset.get("filter"), self.lost)]
        if asked["timeframe"] == "MonthToDate":
            first, last = self.today.replace(day=1), self.today
        else:
            first, last = _period(asked)
            if first > self.today:
                first, last = first.replace(year=first.year - 1), last.replace(year=last.year - 1)
            first = max(first, _month_before(last))
        sums: dict[tuple[Any, ...], list[Any]] = {}
        for one in found:
            if first <= one.day <= last:
                key = (int(f"{one.day:%Y%m%d}"), *(value for group in groups for value in _values(one, group)), one.currency)
                sums.setdefault(key, []).append(one.cost(asked["type"]))
        columns = ["Cost", "UsageDate", *(name for group in groups for name in _columns(group)), "Currency"]
        rows = [[_total(costs), *key] for key, costs in sorted(sums.items())]
        if not rows:
            return Answer(b"", 204)
        if "managementGroups" in scope:
            # The order is not the same everywhere.
            columns, rows = columns[::-1], [row[::-1] for row in rows]
        skip = int(request.first("$skiptoken", "0"))
        more = f"{self.url(request)}&$skiptoken={skip + self.page}" if len(rows) > skip + self.page else None
        return self._rows(columns, rows[skip : skip + self.page], more)

    def _in_scope(self, scope: str) -> Iterator[AzureCharge]:
        parts = scope.split("/")
        for one in self.charges:
            if parts[1] == "subscriptions":
                if one.subscription == parts[2] and (len(parts) < 5 or one.resource_group.lower() == parts[4].lower()):
                    yield one
            elif one.subscription in self.members.get(scope, ()):
                yield one

    @staticmethod
    def url(request: Request) -> str:
        return f"http://{request.headers['host']}{request.path}?api-version=2025-03-01"

    @staticmethod
    def _rows(columns: list[str], rows: list[list[Any]], more: str | None) -> Answer:
        named = [{"name": name, "type": "Number" if name in {"Cost", "UsageDate"} else "String"} for name in columns]
        return Answer(_EXACT.encode({"properties": {"nextLink": more, "columns": named, "rows": rows}}))


def azure(costs: AzureCosts) -> StandIn:
    """The server of `costs`."""
    return StandIn(costs.answer)


def budget(
    name: str,
    amount: str,
    spent: str | None,
    forecast: str | None = None,
    *,
    grain: str = "Monthly",
    unit: str = "USD",
    category: str = "Cost",
    first: str = "2026-01-01",
    last: str = "2036-01-01",
) -> dict[str, Any]:
    """A budget as Azure lists it."""
    period = {"startDate": f"{first}T00:00:00Z", "endDate": f"{last}T00:00:00Z"}
    properties: dict[str, Any] = {"category": category, "amount": Decimal(amount), "timeGrain": grain, "timePeriod": period}
    properties |= {} if spent is None else {"currentSpend": {"amount": Decimal(spent), "unit": unit}}
    properties |= {} if forecast is None else {"forecastSpend": {"amount": Decimal(forecast), "unit": unit}}
    return {"id": f"subscriptions/{SUBSCRIPTION}{PROVIDER}budgets/{name}", "name": name, "properties": properties}


def error(status: int, code: str, message: str) -> Answer:
    return Answer({"error": {"code": code, "message": message}}, status)


def _period(asked: Mapping[str, Any]) -> tuple[date, date]:
    period = asked["timePeriod"]
    return date.fromisoformat(period["from"][:10]), date.fromisoformat(period["to"][:10])


def _month_before(last: date) -> date:
    """The first day that a daily query until `last` is answered for: `to - 1 month + 1 day`."""
    end = last.replace(day=1) - timedelta(days=1)
    return end.replace(day=min(last.day, end.day)) + timedelta(days=1)


def _day(day: date) -> int:
    return int(f"{day:%Y%m%d}")


def _columns(group: Mapping[str, str]) -> list[str]:
    return ["TagKey", "TagValue"] if group["type"] == "TagKey" else [group["name"]]


def _values(one: AzureCharge, group: Mapping[str, str]) -> list[str]:
    if group["type"] == "TagKey":
        return [group["name"].lower() if group["name"] in one.tags else "", one.tags.get(group["name"], "")]
    return [getattr(one, DIMENSIONS[group["name"]])]


def _passes(one: AzureCharge, condition: Mapping[str, Any] | None, lost: set[str]) -> bool:
    if not condition:
        return True
    if "and" in condition:
        return all(_passes(one, part, lost) for part in condition["and"])
    asked = condition["dimensions"]
    value = getattr(one, DIMENSIONS[asked["name"]])
    return asked["operator"] == "In" and value not in lost and value.lower() in {wanted.lower() for wanted in asked["values"]}


def _number(text: Any) -> Any:
    return Decimal(text) if isinstance(text, str) else text


def _total(costs: list[Any]) -> Any:
    return exact_sum([Decimal(cost) for cost in costs]) if all(isinstance(cost, str) for cost in costs) else costs[0]
