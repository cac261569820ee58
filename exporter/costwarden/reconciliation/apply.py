"""Bringing the ledger to what the bill says: unsettled reservations resolved, and the rest as a correction.

A provider's day is one transaction of the engine: it reads the bill, the meter and the reservations inside it, so that a settlement that
comes in meanwhile, or a second reconciliation, is either seen or waited for.
"""

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.budgets.calls import Resolve
from costwarden.budgets.engine import Engine
from costwarden.budgets.holdings import MOST_NANOS
from costwarden.ledger import Connection
from costwarden.ledger.audit import append_audit
from costwarden.ledger.locks import lock_budgets
from costwarden.model import CORRECTION, MICROS_PER_SECOND, Usage, from_micros, from_nanos
from costwarden.reconciliation.lines import RECONCILIATION, Day, correction_id, split_residual
from costwarden.reconciliation.reading import day_bounds, read_reconciliation
from costwarden.reconciliation.settings import ReconciliationSettings

NOON = 12 * 3600 * MICROS_PER_SECOND
"""Time of a correction in its day (UTC): nearly every time zone of a budget has the same date then."""


class Wish(msgspec.Struct, frozen=True):
    """Make the ledger agree with the bill of this provider and day."""

    provider: str
    day: date
    actor: str
    at: int


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What was done. Amounts are nano-dollars."""

    provider: str
    day: date
    billed: Decimal = Decimal(0)
    recorded_before: int = 0
    settled: dict[str, int] = {}
    """By reservation that was resolved: what it has cost, 0 where it was released."""
    correction: int = 0
    refused: str = ""
    """Why the day is not, or not wholly, reconciled; empty where it is."""

    @property
    def changed(self) -> bool:
        """Whether anything was recorded or released."""
        return bool(self.settled or self.correction)


class Reconciler:
    """A participant of the ledger's group commit: an engine, and beside its steps one that reconciles a day (`reconcile`)."""

    def __init__(self, engine: Engine, settings: ReconciliationSettings, now: Callable[[], int]) -> None:
        self._engine = engine
        self._settings = settings
        self._now = now
        self._connection: Connection | None = None

    # --- participant -------------------------------------------------------------------------------------------------------

    def begin(self, connection: Connection, *, foreign_change: bool, arguments: Sequence[Any], alone: bool) -> bool:
        """As the engine's: where replicas write too, it locks what the steps will change, in the order in which everyone locks."""
        # Alone: two reconciliations of a day without any budget have no row in common that one could wait for.
        lock_budgets(connection)
        self._connection = connection
        needed = [part for argument in arguments for part in (self._needs(argument) if isinstance(argument, Wish) else [argument])]
        return self._engine.begin(connection, foreign_change=foreign_change, arguments=needed, alone=alone)

    def _needs(self, wish: Wish) -> list[Any]:
        found = self._read(wish)
        if isinstance(found, str):
            return []
        return [*(self._word(wish, name, 0) for name, _ in found.unsettled), [self._correction(wish, found, 0)]]

    def flush(self, connection: Connection) -> None:
        """As the engine's."""
        self._engine.flush(connection)

    def committed(self) -> None:
        """As the engine's."""
        self._engine.committed()

    def rolled_back(self) -> None:
        """As the engine's."""
        self._engine.rolled_back()

    # --- step --------------------------------------------------------------------------------------------------------------

    def reconcile(self, wish: Wish) -> Applied:
        """Resolve what nobody settled and record the correction of one day; nothing where the ledger agrees with the bill already."""
        connection = self._open
        # What the steps before this one have gathered counts too.
        self._engine.flush(connection)
        before = self._read(wish)
        if isinstance(before, str):
            return Applied(provider=wish.provider, day=wish.day, refused=before)
        if abs(before.to_record) > MOST_NANOS:
            return Applied(provider=wish.provider, day=wish.day, refused="the difference is more than the ledger can hold")
        split = split_residual(before.to_record, before.unsettled)
        settled: dict[str, int] = {}
        refused = ""
        for name, cost in split.settled.items():
            answer = self._engine.resolve(self._word(wish, name, cost))
            if answer is not None and not answer.refused:
                settled[name] = cost
            elif answer is not None:
                refused = "a sum would be more than the ledger can hold"
        # Read again: another replica may have settled one of them between the first look and the lock.
        self._engine.flush(connection)
        after = self._read(wish)
        assert isinstance(after, Day)
        correction = after.to_record
        if correction and not self._engine.ingest([self._correction(wish, after, correction)]):
            correction, refused = 0, "a sum would be more than the ledger can hold"
        if settled or correction:
            self._audit(connection, wish, before, settled, correction)
        return Applied(
            provider=wish.provider,
            day=wish.day,
            billed=before.billed,
            recorded_before=before.recorded,
            settled=settled,
            correction=correction,
            refused=refused,
        )

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("a reconciliation runs inside a group commit")
        return self._connection

    def _read(self, wish: Wish) -> Day | str:
        entries = [entry for entry in self._settings.providers if entry.provider == wish.provider]
        today = from_micros(self._now()).date()
        found = read_reconciliation(self._open, self._settings, entries, wish.day, wish.day, today)
        return found.days[0] if found.days else found.left_out[0].reason

    @staticmethod
    def _word(wish: Wish, reservation_id: str, cost: int) -> Resolve:
        reason = f"reconciled with the bill of {wish.provider} for {wish.day.isoformat()}"
        return Resolve(reservation_id, cost, reason, wish.actor, wish.at)

    def _correction(self, wish: Wish, found: Day, cost: int) -> Usage:
        """No call and no tokens, of no tenant, no model, no team: budgets that name any of those do not pay for it."""
        entry = next(entry for entry in self._settings.providers if entry.provider == wish.provider)
        return Usage(
            source=CORRECTION,
            event_id=correction_id(found.corrections + 1, wish.provider, wish.day),
            timestamp=day_bounds(wish.day)[0] + NOON,
            provider=entry.usage_providers[0],
            operation=RECONCILIATION,
            cost=cost,
            priced_by="bill",
            requests=0,
        )

    @staticmethod
    def _audit(connection: Connection, wish: Wish, before: Day, settled: dict[str, int], correction: int) -> None:
        spent = sum(settled.values())
        append_audit(
            connection,
            at=wish.at,
            actor=wish.actor,
            action="reconcile",
            subject=f"{wish.provider}/{wish.day.isoformat()}",
            before={
                "recorded_usd": str(from_nanos(before.recorded)),
                "unsettled_usd": str(from_nanos(sum(estimate for _, estimate in before.unsettled))),
            },
            after={
                "recorded_usd": str(from_nanos(before.recorded + spent + correction)),
                "unsettled_usd": "0",
                "billed_usd": format(before.billed, "f"),
                "correction_usd": str(from_nanos(correction)),
                "correction": before.corrections + 1 if correction else 0,
                "settled_usd": str(from_nanos(spent)),
                "settled_reservations": sum(1 for cost in settled.values() if cost),
                "released_reservations": sum(1 for cost in settled.values() if not cost),
            },
        )
