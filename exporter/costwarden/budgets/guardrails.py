"""Guardrails: what AI calls cost in a window is held against a threshold, and a breach is recorded and acted on.

`block_requests` needs nothing here: it is a budget of the same scope and period (`Config.enforced_budgets`), and the engine refuses before
the threshold is passed. What is left to Alertmanager reads the series of `metrics.guardrails`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec
import structlog

from costwarden.budgets.rules import period_bounds, scope_of
from costwarden.budgets.settings import Guardrail
from costwarden.ledger import Connection, Ledger, LedgerUnavailable
from costwarden.ledger.audit import append_audit
from costwarden.ledger.guardrails import Breach, newest_breach, newest_breaches, record_breach
from costwarden.ledger.usage import spend_between
from costwarden.model import MICROS_PER_SECOND, dollars, from_nanos, to_nanos

SECONDS = {"hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
"""How long trailing windows are."""

INTERVAL_SECONDS = 1.0
"""How often guardrails are looked at."""

LARGEST_SHARE = 0.1
"""Of the time that may go into looking: where the figures take long to add up, they are looked at less often."""

STALE_SECONDS = 120
"""From this age on, figures say nothing any more."""

log = structlog.get_logger(__name__)


class Stop(Protocol):
    """`Engine.suspend`, as an emergency stop needs it."""

    def __call__(self, connection: Connection, tenant_id: str, *, reason: str, actor: str, run_id: str) -> bool: ...


class GuardrailFigure(msgspec.Struct, frozen=True, kw_only=True):
    """How a guardrail stands: nano-dollars, and the half-open window in microseconds that they were spent in."""

    guardrail: Guardrail
    spent: int
    start: int
    end: int

    @property
    def threshold(self) -> int:
        """Nano-dollars from which it is breached."""
        return to_nanos(self.guardrail.threshold_usd)

    @property
    def breached(self) -> bool:
        """The threshold is reached."""
        return self.spent >= self.threshold


def window(guardrail: Guardrail, at: int, zone: ZoneInfo) -> tuple[int, int]:
    """The half-open range of microseconds whose cost counts at `at`; of a trailing window `at` itself is the last moment."""
    if guardrail.trailing:
        return at + 1 - SECONDS[guardrail.period] * MICROS_PER_SECOND, at + 1
    return period_bounds(guardrail.period, at, zone)


def guardrail_figures(connection: Connection, guardrails: Sequence[Guardrail], zone: ZoneInfo, now: int) -> list[GuardrailFigure]:
    """How the guardrails stand at `now`, in their order."""
    figures = []
    for guardrail in guardrails:
        start, end = window(guardrail, now, zone)
        spent = spend_between(connection, scope_of(guardrail.scope), start, end).cost
        figures.append(GuardrailFigure(guardrail=guardrail, spent=spent, start=start, end=end))
    return figures


def is_new(figure: GuardrailFigure, last: Breach | None, now: int) -> bool:
    """Whether a breach is to be recorded and acted on, after the `last` one of the same guardrail.

    Never within the cool-down. Past it a calendar window is breached once at the same threshold, so that what an operator has lifted stays
    lifted until the next window; a trailing window, which has no next one, is breached again as long as it is above its threshold.
    """
    if last is None:
        return True
    if now < last.breached_at + figure.guardrail.cool_down_minutes * 60 * MICROS_PER_SECOND:
        return False
    return figure.guardrail.trailing or last.breached_at < figure.start or last.threshold != figure.threshold


class GuardrailWatch:
    """Looks at the guardrails again and again, records each breach once, and stops everything where that was asked for."""

    def __init__(self, ledger: Ledger, stop: Stop, guardrails: Sequence[Guardrail], zone: ZoneInfo, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._stop = stop
        self._guardrails = tuple(guardrails)
        self._zone = zone
        self._now = now
        self._figures: Sequence[GuardrailFigure] = ()
        self._looked_at = now()

    def figures(self) -> Sequence[GuardrailFigure]:
        """How the guardrails stood when they were looked at last. Raises `TimeoutError` where that is too long ago to be told."""
        if self._guardrails and self._now() - self._looked_at > STALE_SECONDS * MICROS_PER_SECOND:
            raise TimeoutError(f"the guardrails were looked at {(self._now() - self._looked_at) // MICROS_PER_SECOND} seconds ago")
        return self._figures

    def configure(self, guardrails: Sequence[Guardrail]) -> None:
        """Use other guardrails from the next look on."""
        self._guardrails = tuple(guardrails)

    def look(self) -> list[Breach]:
        """Add up what was spent, and record and act on what is breached; returns the new breaches. Raises `LedgerUnavailable`."""
        now = self._now()
        guardrails = self._guardrails
        if not guardrails:
            self._figures, self._looked_at = (), now
            return []
        with self._ledger.read() as connection:
            figures = guardrail_figures(connection, guardrails, self._zone, now)
            last = newest_breaches(connection)
        self._figures, self._looked_at = figures, now
        due = [figure for figure in figures if figure.breached and is_new(figure, last.get(figure.guardrail.name), now)]
        found = [self._ledger.write(partial(self._breach, figure=figure, now=now)) for figure in due]
        breaches = [breach for breach in found if breach is not None]
        for breach in breaches:
            spent, threshold = (format(from_nanos(nanos), "f") for nanos in (breach.spent, breach.threshold))
            log.warning(
                "guardrail breached", guardrail=breach.guardrail, spent_usd=spent, threshold_usd=threshold, severity=breach.severity
            )
        return breaches

    def _breach(self, connection: Connection, *, figure: GuardrailFigure, now: int) -> Breach | None:
        """Record and act in one transaction; None where another replica was first."""
        guardrail = figure.guardrail
        last = newest_breach(connection, guardrail.name)
        if not is_new(figure, last, now):
            return None
        breach = Breach(
            guardrail=guardrail.name,
            breached_at=now if last is None else max(now, last.breached_at + 1),
            spent=figure.spent,
            threshold=figure.threshold,
            severity=guardrail.severity,
            actions=guardrail.actions,
        )
        record_breach(connection, breach)
        actor = f"guardrail:{guardrail.name}"
        append_audit(connection, at=now, actor=actor, action="guardrail_breached", subject=guardrail.name, after=breach)
        if "emergency_stop" in guardrail.actions:
            spent, threshold = from_nanos(figure.spent), from_nanos(figure.threshold)
            figures = f"{dollars(spent)} spent, threshold {dollars(threshold)} ({guardrail.metric})"
            reason = f"the guardrail `{guardrail.name}` was breached: {figures}"
            self._stop(connection, "", reason=reason, actor=actor, run_id="")
        return breach

    async def run(self) -> None:
        """Look until cancelled. A ledger that is down is tried again."""
        while True:
            began = time.monotonic()
            try:
                await asyncio.to_thread(self.look)
            except LedgerUnavailable as error:
                log.warning("the guardrails could not be looked at", error=str(error))
            except Exception:
                # Whatever it was: a guard that leaves is worse than one that complains.
                log.exception("the guardrails could not be looked at")
            took = time.monotonic() - began
            await asyncio.sleep(max(INTERVAL_SECONDS - took, took * (1 / LARGEST_SHARE - 1)))
