"""What a re-rating reads: usage as it was recorded, and the corrections that were added to it since."""

from collections.abc import Iterator, Mapping

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from costwarden.ledger.schema import usage
from costwarden.ledger.usage import USAGE_COLUMNS
from costwarden.model import CORRECTION, Usage

PAGE_ROWS = 5_000

_COLUMNS = [usage.c[name] for name in USAGE_COLUMNS]
_SUCCESS = USAGE_COLUMNS.index("success")


def recorded_usage(
    connection: Connection, start: int, end: int, where: Mapping[str, str], *, page_rows: int = PAGE_ROWS
) -> Iterator[list[Usage]]:
    """Usage with a timestamp in [start, end) microseconds whose dimensions are as `where` says, page by page, the oldest first.

    Corrections are left out.
    """
    matches = [*_within(start, end, where), usage.c.source != CORRECTION]
    query = select(usage.c.usage_id, *_COLUMNS).where(*matches).order_by(usage.c.timestamp, usage.c.usage_id).limit(page_rows)
    after: ColumnElement[bool] | None = None
    while rows := connection.execute(query if after is None else query.where(after)).all():
        yield [_usage(row[1:]) for row in rows]
        if len(rows) < page_rows:
            return
        last_id, last_timestamp = rows[-1][0], rows[-1][1 + USAGE_COLUMNS.index("timestamp")]
        after = or_(
            usage.c.timestamp > last_timestamp,
            and_(usage.c.timestamp == last_timestamp, usage.c.usage_id > last_id),
        )


def recorded_corrections(connection: Connection, start: int, end: int, where: Mapping[str, str]) -> list[Usage]:
    """The corrections of what `recorded_usage` gives for the same arguments; they have the time and dimensions of what they correct."""
    query = select(*_COLUMNS).where(*_within(start, end, where), usage.c.source == CORRECTION).order_by(usage.c.usage_id)
    return [_usage(row) for row in connection.execute(query)]


def _within(start: int, end: int, where: Mapping[str, str]) -> list[ColumnElement[bool]]:
    return [usage.c.timestamp >= start, usage.c.timestamp < end, *(usage.c[name] == value for name, value in where.items())]


def _usage(row: object) -> Usage:
    values = list(row)  # type: ignore[call-overload]
    values[_SUCCESS] = bool(values[_SUCCESS])
    return Usage(**dict(zip(USAGE_COLUMNS, values, strict=True)))
