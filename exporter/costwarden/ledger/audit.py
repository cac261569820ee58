"""Who changed what, and when: one row a change, never altered."""

from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from costwarden.ledger.schema import audit


def append_audit(connection: Connection, *, at: int, actor: str, action: str, subject: str, before: Any = None, after: Any = None) -> None:
    """Append an entry; `before` and `after` are kept as JSON, absent ones as the empty string."""
    connection.execute(insert(audit).values(at=at, actor=actor, action=action, subject=subject, before=_json(before), after=_json(after)))


def list_audit(connection: Connection, limit: int = 100, *, subject: str = "") -> list[dict[str, Any]]:
    """The newest `limit` entries, newest first; with `subject` only those about it."""
    query = select(audit).order_by(audit.c.entry_id.desc()).limit(limit)
    if subject:
        query = query.where(audit.c.subject == subject)
    rows = connection.execute(query).mappings()
    return [dict(row) for row in rows]


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
