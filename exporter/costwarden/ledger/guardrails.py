"""Breaches of guardrails: one row each, never altered."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select

from costwarden.ledger.locks import lock_budgets
from costwarden.ledger.schema import guardrail_breaches


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """A guardrail's threshold was reached: amounts in nano-dollars, time in microseconds."""

    guardrail: str
    breached_at: int
    spent: int
    threshold: int
    severity: str
    actions: tuple[str, ...]


def newest_breaches(connection: Connection) -> dict[str, Breach]:
    """The newest breach of every guardrail, by its name."""
    breaches = guardrail_breaches
    newest = select(breaches.c.guardrail, func.max(breaches.c.breached_at).label("breached_at")).group_by(breaches.c.guardrail).subquery()
    query = select(breaches).join(newest, (breaches.c.guardrail == newest.c.guardrail) & (breaches.c.breached_at == newest.c.breached_at))
    return {row["guardrail"]: _breach(row) for row in connection.execute(query).mappings()}


def newest_breach(connection: Connection, guardrail: str) -> Breach | None:
    """The newest breach of one guardrail; no other process records one before the end of the transaction."""
    lock_budgets(connection)
    breaches = guardrail_breaches
    query = select(breaches).where(breaches.c.guardrail == guardrail).order_by(breaches.c.breached_at.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _breach(row)


def list_breaches(connection: Connection, limit: int = 100) -> list[Breach]:
    """The newest `limit` breaches, newest first."""
    query = select(guardrail_breaches).order_by(guardrail_breaches.c.breached_at.desc()).limit(limit)
    return [_breach(row) for row in connection.execute(query).mappings()]


def record_breach(connection: Connection, breach: Breach) -> None:
    """Append a breach."""
    connection.execute(insert(guardrail_breaches).values(_row(breach)))


def _row(breach: Breach) -> dict[str, Any]:
    return {
        "guardrail": breach.guardrail,
        "breached_at": breach.breached_at,
        "spent": breach.spent,
        "threshold_nanos": breach.threshold,
        "severity": breach.severity,
        "actions": msgspec.json.encode(breach.actions).decode(),
    }


def _breach(row: Any) -> Breach:
    actions: Sequence[str] = msgspec.json.decode(row["actions"])
    return Breach(
        guardrail=row["guardrail"],
        breached_at=row["breached_at"],
        spent=row["spent"],
        threshold=row["threshold_nanos"],
        severity=row["severity"],
        actions=tuple(actions),
    )
