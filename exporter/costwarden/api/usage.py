"""`/api/usage`: events of usage, recorded and read one by one."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import unquote

from msgspec import Meta

from costwarden.api.ai_budget import REFUSED
from costwarden.api.callers import Caller
from costwarden.api.pages import DimensionQuery, Number, Paging, Range, decode_cursor, page_answer, time_answer
from costwarden.api.problems import Problem
from costwarden.budgets.requests import TrackRequest
from costwarden.budgets.service import BudgetService
from costwarden.ledger import Ledger
from costwarden.ledger.queries import usage_event, usage_page
from costwarden.model import DIMENSIONS, TOKEN_CLASSES, from_nanos

MOST_EVENTS = 1000


class UsageEvent(TrackRequest, kw_only=True, forbid_unknown_fields=True):
    """A call that was metered elsewhere. Its `event_id`, unique for the tenant, is what makes it count once."""

    event_id: Annotated[str, Meta(min_length=1, max_length=256)]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reservation_id:
            raise ValueError("a call that was checked is settled by POST /api/ai-budget/track")


UsageEvents = UsageEvent | Annotated[list[UsageEvent], Meta(min_length=1, max_length=MOST_EVENTS)]


class UsageQuery(Paging, Range, DimensionQuery):
    """Filters of `GET /api/usage`."""

    success: bool | None = None
    """Only calls that succeeded, or only those that failed."""


class UsageApi:
    """The endpoints of usage."""

    def __init__(self, ledger: Ledger, service: BudgetService) -> None:
        self._ledger = ledger
        self._service = service

    async def record(self, caller: Caller, given: UsageEvent | list[UsageEvent]) -> dict[str, Any]:
        """`POST /api/usage`: records what is not recorded yet."""
        requests = given if isinstance(given, list) else [given]
        for request in requests:
            caller.require_tenant(request.tenant_id)
        try:
            answers = await self._service.record(requests)
        except ValueError as error:
            raise Problem(422, "invalid_request", str(error)) from None
        for answer in answers:
            if answer.refused:
                raise Problem(422, "invalid_request", f"the event `{answer.event_id}` is not recorded: {REFUSED[answer.refused]}")
        return {
            "recorded": sum(not answer.repeated for answer in answers),
            "repeated": sum(answer.repeated for answer in answers),
            "events": [
                {"event_id": answer.event_id, "cost_usd": from_nanos(answer.cost), "repeated": answer.repeated} for answer in answers
            ],
        }

    def page(self, caller: Caller, query: UsageQuery) -> dict[str, Any]:
        """`GET /api/usage`: events, the newest first."""
        where = query.dimensions
        tenant_id = caller.tenant_of(query.tenant_id)
        if tenant_id is not None:
            where["tenant_id"] = tenant_id
        after = decode_cursor(query.cursor, tuple[Number, Number])
        with self._ledger.read() as connection:
            rows = usage_page(
                connection, where, start=query.start, end=query.end, success=query.success, after=after, limit=query.limit + 1
            )
        return page_answer("usage", rows, query.limit, lambda row: (row["timestamp"], row["usage_id"]), event_answer)

    def event(self, caller: Caller, source: str, event_id: str) -> dict[str, Any]:
        """`GET /api/usage/{source}/{event_id}`: one event. Raises `Problem` 404."""
        with self._ledger.read() as connection:
            row = usage_event(connection, source, event_id)
        if row is None or not caller.sees(row["tenant_id"]):
            raise Problem(404, "unknown_event", f"no event `{event_id}` of `{source}` is recorded")
        return event_answer(row)


def segments(raw_path: bytes, prefix: Sequence[str]) -> list[str]:
    """The parts of a path after `prefix`, each decoded by itself: a `%2F` inside one does not divide it."""
    parts = raw_path.split(b"?")[0].decode("latin-1").split("/")
    return [unquote(part) for part in parts[len(prefix) + 1 :]]


def event_answer(row: dict[str, Any]) -> dict[str, Any]:
    """An event as the API prints it; a dimension that it does not name is left out."""
    return {
        "source": row["source"],
        "event_id": row["event_id"],
        "timestamp": time_answer(row["timestamp"]),
        **{name: row[name] for name in DIMENSIONS if row[name]},
        **{name: row[name] for name in TOKEN_CLASSES},
        "images": row["images"],
        "audio_seconds": row["audio_milliseconds"] / 1000,
        "requests": row["requests"],
        "service_tier": row["service_tier"] or None,
        "success": bool(row["success"]),
        "cost_usd": from_nanos(row["cost"]),
        "priced_by": row["priced_by"],
        "reservation_id": row["reservation_id"] or None,
    }
