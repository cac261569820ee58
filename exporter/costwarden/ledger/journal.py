"""The journal of remediation runs: every step with its time, appended and never altered."""

from typing import Any

import msgspec
from sqlalchemy import Connection, insert, select

from costwarden.ledger.schema import journal


class JournalEntry(msgspec.Struct, frozen=True):
    """One step of a run: `at` in micros UTC, `detail` as the step has it."""

    run_id: str
    at: int
    step: str
    detail: dict[str, Any]


def append_journal(connection: Connection, run_id: str, step: str, detail: Any, at: int) -> None:
    """Append a step; `detail` is anything msgspec encodes as a JSON object."""
    connection.execute(insert(journal).values(run_id=run_id, at=at, step=step, detail=msgspec.json.encode(detail).decode()))


def latest_detail(connection: Connection, run_id: str, step: str) -> dict[str, Any] | None:
    """Detail of the newest journal entry of a step."""
    query = select(journal.c.detail).where(journal.c.run_id == run_id, journal.c.step == step).order_by(journal.c.entry_id.desc()).limit(1)
    detail = connection.execute(query).scalar()
    return None if detail is None else msgspec.json.decode(detail, type=dict[str, Any])


def read_journal(connection: Connection, run_id: str) -> list[JournalEntry]:
    """The timeline of a run, in the order in which it was written."""
    rows = connection.execute(select(journal).where(journal.c.run_id == run_id).order_by(journal.c.entry_id))
    return [JournalEntry(row.run_id, row.at, row.step, msgspec.json.decode(row.detail, type=dict[str, Any])) for row in rows]
