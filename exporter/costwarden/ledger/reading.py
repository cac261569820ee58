"""Who reads a source now, what its requests have cost, and the answers that were paid for."""

from typing import Any

from sqlalchemy import Connection, delete, select, update

from costwarden.ledger.bulk import total_of, upsert
from costwarden.ledger.schema import source_answers, source_requests, source_state


def claim_source(connection: Connection, source: str, reader: str, now: int, until: int, *, takes_over: str = "") -> bool:
    """Have `reader` be the one that reads `source` until `until` microseconds; False where another one does.

    A claim of a reader whose name begins with `takes_over`, where that is not empty, is taken over: it is known to have ended.
    """
    mine = source_state.c.source == source
    query = select(source_state.c.reader, source_state.c.reader_until).where(mine).with_for_update()
    found = connection.execute(query).first()
    if found is None:
        connection.execute(upsert(connection, source_state).values(source=source).on_conflict_do_nothing())
        found = connection.execute(query).one()
    other, other_until = found
    ended = bool(takes_over) and other.startswith(takes_over)
    if other not in ("", reader) and other_until > now and not ended:
        return False
    connection.execute(update(source_state).where(mine).values(reader=reader, reader_until=until))
    return True


def renew_source(connection: Connection, source: str, reader: str, until: int) -> bool:
    """Go on until `until` microseconds; False where `reader` does not read `source` any more: another one took it, or it was let go."""
    mine = (source_state.c.source == source, source_state.c.reader == reader)
    return connection.execute(update(source_state).where(*mine).values(reader_until=until)).rowcount > 0


def holds_source(connection: Connection, source: str, reader: str) -> bool:
    """Whether `reader` is still the one that reads `source`; holds the row until the transaction ends."""
    query = select(source_state.c.reader).where(source_state.c.source == source).with_for_update()
    return connection.execute(query).scalar() == reader


def release_source(connection: Connection, source: str, reader: str) -> None:
    """Let others read `source`, where `reader` has it."""
    mine = (source_state.c.source == source, source_state.c.reader == reader)
    connection.execute(update(source_state).where(*mine).values(reader="", reader_until=0))


def pay_request(connection: Connection, source: str, day: str, cost: int, limit: int) -> int | None:
    """Note a request of `cost` nano-dollars on `day`, and add it to what the source has cost.

    Gives None where it was noted, else, where it would go past `limit`, what was paid that day already.
    """
    mine = (source_requests.c.source == source, source_requests.c.day == day)
    connection.execute(upsert(connection, source_requests).values(source=source, day=day).on_conflict_do_nothing())
    paid: int = connection.execute(select(source_requests.c.cost).where(*mine).with_for_update()).scalar_one()
    if paid + cost > limit:
        return paid
    more = {"requests": source_requests.c.requests + 1, "cost": source_requests.c.cost + cost}
    connection.execute(update(source_requests).where(*mine).values(**more))
    connection.execute(upsert(connection, source_state).values(source=source).on_conflict_do_nothing())
    totals = {"requests": source_state.c.requests + 1, "request_cost": source_state.c.request_cost + cost}
    connection.execute(update(source_state).where(source_state.c.source == source).values(**totals))
    return None


def paid_on(connection: Connection, day: str) -> dict[str, int]:
    """Source -> nano-dollars that its requests of `day` have cost."""
    query = select(source_requests.c.source, total_of(source_requests.c.cost)).where(source_requests.c.day == day)
    return {row[0]: row[1] for row in connection.execute(query.group_by(source_requests.c.source))}


def find_answer(connection: Connection, source: str, request: str, since: int) -> str | None:
    """The answer to `request` (its digest) that was kept at `since` microseconds or later."""
    mine = (source_answers.c.source == source, source_answers.c.request == request, source_answers.c.answered_at >= since)
    found: str | None = connection.execute(select(source_answers.c.body).where(*mine)).scalar()
    return found


def keep_answer(connection: Connection, source: str, request: str, body: str, now: int, since: int) -> None:
    """Keep an answer, and drop those of the same source that were kept before `since`."""
    connection.execute(delete(source_answers).where(source_answers.c.source == source, source_answers.c.answered_at < since))
    values: dict[str, Any] = {"answered_at": now, "body": body}
    statement = upsert(connection, source_answers).values(source=source, request=request, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["source", "request"], set_=values))
