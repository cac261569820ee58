"""Cloud Billing on loopback: its accounts and its budgets, a page at a time.

Shapes: https://cloud.google.com/billing/docs/reference/rest/v1/billingAccounts/list and
https://cloud.google.com/billing/docs/reference/budget/rest/v1/billingAccounts.budgets/list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stand_in import Answer, Request


@dataclass
class CloudBilling:
    """`answer(request)` is the service."""

    accounts: Sequence[Mapping[str, Any]] = ()
    budgets: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    """Billing account -> its budgets."""
    page_size: int = 2
    """Most entries of a page, whatever is asked for."""
    refused: str = ""
    """The message with which budgets are refused."""

    def answer(self, request: Request) -> Answer:
        """What Cloud Billing would."""
        if request.method == "GET" and request.path == "/v1/billingAccounts":
            return self._page("billingAccounts", self.accounts, request)
        parts = request.path.split("/")
        if request.method == "GET" and parts[1:3] == ["v1", "billingAccounts"] and parts[4:] == ["budgets"]:
            if self.refused:
                return failure(403, "PERMISSION_DENIED", self.refused)
            if parts[3] not in self.budgets:
                return failure(404, "NOT_FOUND", "Requested entity was not found.")
            return self._page("budgets", self.budgets[parts[3]], request)
        return failure(404, "NOT_FOUND", f"Not found: {request.path}")

    def _page(self, name: str, entries: Sequence[Mapping[str, Any]], request: Request) -> Answer:
        begin = int(request.first("pageToken") or 0)
        size = min(int(request.first("pageSize") or self.page_size), self.page_size)
        body: dict[str, Any] = {name: list(entries[begin : begin + size])}
        if begin + size < len(entries):
            body["nextPageToken"] = str(begin + size)
        return Answer(body)


def failure(status: int, name: str, message: str) -> Answer:
    """An error of a Google API: https://cloud.google.com/apis/design/errors#http_mapping."""
    return Answer({"error": {"code": status, "message": message, "status": name}}, status)


def budget(name: str, *, account: str, limit: str | None = "100", currency: str = "USD", number: str = "", **chosen: Any) -> dict[str, Any]:
    """A budget as the API has it; without a limit it is what the period before has cost. `chosen` is its filter."""
    units, _, part = (limit or "0").partition(".")
    money = {"currencyCode": currency, "units": units, "nanos": int(part.ljust(9, "0"))}
    return {
        "name": f"billingAccounts/{account}/budgets/{number or name}",
        "displayName": name,
        "budgetFilter": {"creditTypesTreatment": "INCLUDE_ALL_CREDITS", "calendarPeriod": "MONTH", **chosen},
        "amount": {"lastPeriodAmount": {}} if limit is None else {"specifiedAmount": money},
    }
