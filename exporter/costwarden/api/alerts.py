"""`/api/alerts`: what budgets, guardrails and Alertmanager have told; `/api/audit`: who changed what."""

from typing import Any, Literal

import msgspec

from costwarden.api.callers import Caller
from costwarden.api.pages import Filter, Number, Paging, Range, decode_cursor, page_answer, time_answer
from costwarden.ledger import Connection, Ledger
from costwarden.ledger.queries import audit_page, breaches_page, incidents_page, thresholds_page
from costwarden.model import from_nanos

Kind = Literal["threshold", "guardrail", "incident"]

KINDS: tuple[Kind, ...] = ("guardrail", "incident", "threshold")
"""In the order in which a page shows what happened at the same time."""


class AlertsQuery(Paging, Range):
    """Parameters of `GET /api/alerts`."""

    kind: Kind | None = None
    """`threshold`: spend reached a share of a budget; `guardrail`: one was breached; `incident`: Alertmanager told of it."""


class AuditQuery(Paging, Range):
    """Parameters of `GET /api/audit`."""

    actor: Filter = None
    """Only by this actor: the name of a token, `command line`, `config`, `default` …"""
    action: Filter = None
    """Only this kind of change, as `set_budget`."""
    subject: Filter = None
    """Only of this budget, tenant or reservation."""


class _Place(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    at: Number
    kind: Kind
    budget: str = ""
    number: Number = 0
    threshold: str = ""


class AlertsApi:
    """The endpoints of alerts and of the audit log."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def page(self, caller: Caller, query: AlertsQuery) -> dict[str, Any]:
        """`GET /api/alerts`: the newest first. Guardrails and incidents are of all tenants together."""
        kinds = [kind for kind in KINDS if query.kind in (None, kind) and (kind == "threshold" or not caller.tenant_id)]
        place = decode_cursor(query.cursor, _Place)
        with self._ledger.read() as connection:
            found = [(kind, row) for kind in kinds for row in self._rows(connection, caller, query, kind, place)]
        found.sort(key=lambda item: (-_at(*item), KINDS.index(item[0])))  # of one kind, in the order of the ledger
        return page_answer("alerts", found, query.limit, lambda item: _place(*item), lambda item: _ANSWERS[item[0]](item[1]))

    @staticmethod
    def _rows(connection: Connection, caller: Caller, query: AlertsQuery, kind: Kind, place: _Place | None) -> list[dict[str, Any]]:
        end, is_cut = query.end, False
        if place is not None and place.at < end:
            # What comes after the place: the same time is over for the kinds before, in the middle for its own, and to come for the others.
            later = KINDS.index(kind) > KINDS.index(place.kind)
            is_cut = kind == place.kind
            end = place.at + 1 if later or is_cut else place.at
        start, limit = query.start, query.limit + 1
        if kind == "guardrail":
            after = (place.budget,) if is_cut and place else None
            return breaches_page(connection, start=start, end=end, after=after, limit=limit)
        if kind == "incident":
            return incidents_page(connection, start=start, end=end, after=(place.number,) if is_cut and place else None, limit=limit)
        key = (place.budget, place.number, place.threshold) if is_cut and place else None
        return thresholds_page(connection, tenant_id=caller.tenant_id or None, start=start, end=end, after=key, limit=limit)

    def audit(self, query: AuditQuery) -> dict[str, Any]:
        """`GET /api/audit`: the newest first."""
        filters = {"actor": query.actor, "action": query.action, "subject": query.subject}
        where = {name: value for name, value in filters.items() if value is not None}
        before = decode_cursor(query.cursor, Number)
        with self._ledger.read() as connection:
            rows = audit_page(connection, where, start=query.start, end=query.end, before=before, limit=query.limit + 1)
        return page_answer("entries", rows, query.limit, lambda row: row["entry_id"], _entry)


_TIMES = {"threshold": "crossed_at", "guardrail": "breached_at", "incident": "received_at"}


def _at(kind: Kind, row: dict[str, Any]) -> int:
    at: int = row[_TIMES[kind]]
    return at


def _place(kind: Kind, row: dict[str, Any]) -> _Place:
    if kind == "threshold":
        return _Place(row["crossed_at"], kind, row["budget"], row["period_start"], row["threshold"])
    if kind == "guardrail":
        return _Place(row["breached_at"], kind, row["guardrail"])
    return _Place(row["received_at"], kind, "", row["queue_id"])


def _threshold(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "threshold",
        "at": time_answer(row["crossed_at"]),
        "budget": row["budget"],
        "tenant_id": row["tenant_id"] or None,
        "period": row["period"],
        "period_start": time_answer(row["period_start"]),
        "threshold": msgspec.Raw(row["threshold"].encode()),
        "spent_usd": from_nanos(row["spent"]),
        "limit_usd": from_nanos(row["limit_nanos"]),
    }


def _breach(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "guardrail",
        "at": time_answer(row["breached_at"]),
        "guardrail": row["guardrail"],
        "severity": row["severity"],
        "actions": msgspec.Raw(row["actions"].encode() or b"[]"),
        "spent_usd": from_nanos(row["spent"]),
        "threshold_usd": from_nanos(row["threshold_nanos"]),
    }


def _incident(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "incident",
        "at": time_answer(row["received_at"]),
        "status": row["status"],
        "starts_at": row["starts_at"],
        "resolved_at": time_answer(row["resolved_at"]),
        "fingerprint": row["fingerprint"],
        "action": row["action"] or None,
        "state": row["state"],
        "run_id": row["run_id"] or None,
        "labels": msgspec.Raw(row["labels"].encode() or b"{}"),
    }


_ANSWERS = {"threshold": _threshold, "guardrail": _breach, "incident": _incident}


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "entry_id": row["entry_id"],
        "at": time_answer(row["at"]),
        "actor": row["actor"],
        "action": row["action"],
        "subject": row["subject"],
        "before": msgspec.Raw(row["before"].encode() or b"null"),
        "after": msgspec.Raw(row["after"].encode() or b"null"),
    }
