"""How far what is sent elsewhere has been sent, and what there is to send."""

from typing import Any

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Connection, cast, func, literal_column, select, text, update

from costwarden.ledger.bulk import on_postgresql, total_of, upsert
from costwarden.ledger.schema import sink_state, source_requests, usage, usage_totals
from costwarden.ledger.usage import Cursor, recorded_since

_MICROS_PER_MINUTE = 60_000_000


class SinkState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a sink; money in nano-dollars, times in microseconds."""

    cursor: str = ""
    """The sink's own; empty before its first step."""
    sent_at: int = 0
    """The last success."""
    sent: int = 0
    failed: int = 0
    """What will never be sent."""
    requests: int = 0
    request_cost: int = 0
    message: str = ""
    """Why nothing is sent now; empty where all is well."""


def read_sink(connection: Connection, sink: str) -> SinkState:
    """The state of `sink`; that of one which has done nothing yet where there is none."""
    query = select(*(sink_state.c[name] for name in SinkState.__struct_fields__)).where(sink_state.c.sink == sink)
    row = connection.execute(query).mappings().one_or_none()
    return SinkState(**row) if row else SinkState()


def move_sink(connection: Connection, sink: str, before: str, after: str, *, sent: int = 0, failed: int = 0, at: int = 0) -> bool:
    """Let the cursor go from `before` to `after`, and count what that sent; False where it is not at `before` any more.

    `at` is the time of a success, 0 for none. A failure's message goes with a success.
    """
    connection.execute(upsert(connection, sink_state).values(sink=sink).on_conflict_do_nothing())
    values: dict[str, Any] = {"cursor": after, "sent": sink_state.c.sent + sent, "failed": sink_state.c.failed + failed}
    if at:
        values |= {"sent_at": at, "message": ""}
    moved = connection.execute(update(sink_state).where(sink_state.c.sink == sink, sink_state.c.cursor == before).values(**values))
    return moved.rowcount == 1


def note_sink(connection: Connection, sink: str, message: str) -> None:
    """Say why nothing is sent."""
    statement = upsert(connection, sink_state).values(sink=sink, message=message)
    connection.execute(statement.on_conflict_do_update(index_elements=["sink"], set_={"message": message}))


def pay_sink(connection: Connection, sink: str, day: str, cost: int, limit: int) -> int | None:
    """Note a request of `cost` nano-dollars on `day`; gives None, or what was paid that day where it would go past `limit`."""
    # Names of sources have no colon: the days of both are kept in one table.
    mine = (source_requests.c.source == f"sink:{sink}", source_requests.c.day == day)
    connection.execute(upsert(connection, source_requests).values(source=f"sink:{sink}", day=day).on_conflict_do_nothing())
    paid: int = connection.execute(select(source_requests.c.cost).where(*mine).with_for_update()).scalar_one()
    if paid + cost > limit:
        return paid
    more = {"requests": source_requests.c.requests + 1, "cost": source_requests.c.cost + cost}
    connection.execute(update(source_requests).where(*mine).values(**more))
    connection.execute(upsert(connection, sink_state).values(sink=sink).on_conflict_do_nothing())
    totals = {"requests": sink_state.c.requests + 1, "request_cost": sink_state.c.request_cost + cost}
    connection.execute(update(sink_state).where(sink_state.c.sink == sink).values(**totals))
    return None


class MinuteCost(msgspec.Struct, frozen=True):
    """What the calls of one kind cost in one minute; nano-dollars."""

    minute: int
    """Since 1970 UTC."""
    provider: str
    operation: str
    success: int
    records: int
    cost: int
    least: int
    most: int


def minute_costs(connection: Connection, since: Cursor, until: Cursor) -> list[MinuteCost]:
    """The usage that was recorded after `since` and up to `until`, by minute and kind: the same for the same two, whenever it is asked."""
    # Written out, because PostgreSQL must see that what is selected is what is grouped by.
    minute = usage.c.timestamp - usage.c.timestamp % literal_column(str(_MICROS_PER_MINUTE))
    keys = (minute, usage.c.provider, usage.c.operation, usage.c.success)
    measures = (func.count(), total_of(usage.c.cost), func.min(usage.c.cost), func.max(usage.c.cost))
    query = select(*keys, *(cast(measure, BigInteger) for measure in measures))
    query = query.where(recorded_since(connection, since), _recorded_by(connection, until)).group_by(*keys).order_by(*keys)
    return [MinuteCost(row[0] // _MICROS_PER_MINUTE, *row[1:]) for row in connection.execute(query)]


def _recorded_by(connection: Connection, cursor: Cursor) -> ColumnElement[bool]:
    if not on_postgresql(connection):
        return usage.c.usage_id <= cursor
    visible: ColumnElement[bool] = text("pg_visible_in_snapshot(usage.recorded_xid, CAST(:until AS pg_snapshot))").bindparams(until=cursor)  # type: ignore[assignment]
    return visible


def busiest_operations(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """The `limit` pairs of provider and operation with the most requests since the ledger began."""
    keys = (usage_totals.c.provider, usage_totals.c.operation)
    query = select(*keys).group_by(*keys).order_by(total_of(usage_totals.c.requests).desc(), *keys).limit(limit)
    return [(row[0], row[1]) for row in connection.execute(query)]
