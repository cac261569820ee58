"""What is set aside and not settled, and the emergency stop."""

from typing import Any, Literal

from costwarden.api.callers import Caller
from costwarden.api.pages import Filter, Paging, decode_cursor, page_answer, time_answer
from costwarden.api.problems import Problem
from costwarden.budgets.requests import ReasonRequest, ResolveRequest
from costwarden.budgets.service import BudgetService
from costwarden.ledger import Ledger
from costwarden.ledger.budgets import RESERVATION_COLUMNS, list_reservations
from costwarden.ledger.queries import reservation_tenant
from costwarden.model import DIMENSIONS, from_nanos


class ReservationsQuery(Paging):
    """Parameters of `GET /api/ai-budget/reservations`."""

    state: Literal["open", "unsettled"] | None = None
    """`unsettled`: expired without anybody telling what the call has cost."""
    tenant_id: Filter = None
    """Only this tenant's."""


class ReservationsApi:
    """The endpoints of reservations."""

    def __init__(self, ledger: Ledger, service: BudgetService) -> None:
        self._ledger = ledger
        self._service = service

    def page(self, caller: Caller, query: ReservationsQuery) -> dict[str, Any]:
        """`GET /api/ai-budget/reservations`: by id, which rises with time for calls that named no event."""
        tenant_id = caller.tenant_of(query.tenant_id)
        after = decode_cursor(query.cursor, str) or ""
        with self._ledger.read() as connection:
            rows = list_reservations(connection, state=query.state or "", tenant_id=tenant_id, after=after, limit=query.limit + 1)
        return page_answer("reservations", rows, query.limit, lambda row: row[0], _reservation)

    async def resolve(self, caller: Caller, reservation_id: str, given: ResolveRequest) -> dict[str, Any]:
        """`POST /api/ai-budget/reservations/{id}/resolve`: an operator's word for what the call has cost. Raises `Problem` 404."""
        if caller.tenant_id:
            self._require(caller, reservation_id)
        settled = await self._service.resolve(reservation_id, given, caller.name)
        if settled is None:
            raise _unknown(reservation_id)
        return {"reservation_id": reservation_id, "event_id": settled.event_id, "cost_usd": from_nanos(settled.cost)}

    def _require(self, caller: Caller, reservation_id: str) -> None:
        with self._ledger.read() as connection:
            found = reservation_tenant(connection, reservation_id)
        if found is None or not caller.sees(found):
            raise _unknown(reservation_id)

    async def stop(self, caller: Caller, given: ReasonRequest) -> dict[str, Any]:
        """`POST /api/ai-budget/emergency-stop`: denies every check of everybody, until it is lifted."""
        changed = await self._service.emergency_stop(given.reason, caller.name)
        return {"stopped": True, "changed": changed}

    async def lift(self, caller: Caller) -> dict[str, Any]:
        """`DELETE /api/ai-budget/emergency-stop`."""
        changed = await self._service.lift("", caller.name)
        return {"stopped": False, "changed": changed}


def _unknown(reservation_id: str) -> Problem:
    return Problem(404, "unknown_reservation", f"there is no reservation `{reservation_id}` that is not settled")


def _reservation(row: tuple[Any, ...]) -> dict[str, Any]:
    found = dict(zip(RESERVATION_COLUMNS, row, strict=True))
    return {
        "reservation_id": found["reservation_id"],
        "event_id": found["event_id"] or None,
        "kind": found["kind"],
        "state": found["state"],
        "created_at": time_answer(found["created_at"]),
        "expires_at": time_answer(found["expires_at"]),
        "reserved_usd": from_nanos(found["estimate"]),
        "settled_usd": from_nanos(found["settled"]),
        **{name: found[name] for name in DIMENSIONS if found[name]},
    }
