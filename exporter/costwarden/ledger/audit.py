"""Who changed what, and when: one row a change, never altered."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from costwarden.ledger.bulk import insert_rows
from costwarden.ledger.schema import audit

_COLUMNS = ("at", "actor", "action", "subject", "before", "after")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to `subject`; `before` and `after` are kept as JSON, absent ones as the empty string."""

    action: str
    subject: str
    before: Any = None
    after: Any = None


def append_audit(connection: Connection, *, at: int, actor: str, action: str, subject: str, before: Any = None, after: Any = None) -> None:
    """Append an entry; `before` and `after` are kept as JSON, absent ones as the empty string."""
    append_audits(connection, [AuditEntry(action=action, subject=subject, before=before, after=after)], at=at, actor=actor)


def append_audits(connection: Connection, entries: Sequence[AuditEntry], *, at: int, actor: str) -> None:
    """Append entries of one moment and one actor, in their order."""
    rows = [(at, actor, entry.action, entry.subject, _json(entry.before), _json(entry.after)) for entry in entries]
    insert_rows(connection, audit, _COLUMNS, rows)


def list_audit(connection: Connection, limit: int = 100, *, subject: str = "") -> list[dict[str, Any]]:
    """The newest `limit` entries, newest first; with `subject` only those about it."""
    query = select(audit).order_by(audit.c.entry_id.desc()).limit(limit)
    if subject:
        query = query.where(audit.c.subject == subject)
    rows = connection.execute(query).mappings()
    return [dict(row) for row in rows]


def _json(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()
