"""Whether the server works: for orchestrators in a word, for people part by part."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from costwarden import __version__
from costwarden.api.answers import Time
from costwarden.api.pages import time_answer
from costwarden.api.problems import Problem
from costwarden.budgets.service import BudgetService
from costwarden.ledger import SCHEMA_REVISION, Ledger, LedgerUnavailable
from costwarden.ledger.figures import source_states
from costwarden.metrics.page import Page
from costwarden.model import MICROS_PER_SECOND


class Health(msgspec.Struct, kw_only=True):
    """`ok`, or `ready`."""

    status: str


class LedgerHealth(msgspec.Struct, kw_only=True):
    """Where everything is kept."""

    ok: bool
    schema: str
    problem: str | None


class PageHealth(msgspec.Struct, kw_only=True):
    """The metrics page."""

    rendered_at: Time | None
    age_seconds: float | None


class SourceHealth(msgspec.Struct, kw_only=True):
    """A source of bills."""

    source: str
    up: bool
    last_success_at: Time | None
    data_newest_at: Time | None
    message: str | None


class PricesHealth(msgspec.Struct, kw_only=True):
    """The published prices."""

    data_at: Time | None
    age_seconds: float | None


class HealthReport(msgspec.Struct, kw_only=True):
    """How each part is: `ok`, or `degraded` where one of them is not."""

    status: Literal["ok", "degraded"]
    version: str
    ledger: LedgerHealth
    page: PageHealth
    prices: PricesHealth
    sources: list[SourceHealth]


class HealthApi:
    """The endpoints of health."""

    def __init__(self, ledger: Ledger, page: Page, service: BudgetService, now: Callable[[], int]) -> None:
        self._ledger = ledger
        self._page = page
        self._service = service
        self._now = now

    def ready(self) -> dict[str, Any]:
        """`GET /readyz`. Raises `Problem` 503."""
        if not self._ledger.writer.healthy:
            raise Problem(503, "ledger_unavailable", "the last write to the ledger failed")
        if self._page.answer() is None:
            raise Problem(503, "starting", "the first metrics page is not rendered yet")
        return {"status": "ready"}

    def report(self) -> dict[str, Any]:
        """`GET /api/health`: how each part is."""
        problem, states = "", []
        try:
            with self._ledger.read() as connection:
                states = source_states(connection)
        except LedgerUnavailable as error:
            problem = str(error)
        writer = self._ledger.writer
        if not writer.healthy:
            problem = writer.condemned or problem or "the last write to the ledger failed"
        priced_at = self._service.prices.published_at
        fine = not problem and bool(self._page.rendered_at) and all(state["up"] for state in states)
        return {
            "status": "ok" if fine else "degraded",
            "version": __version__,
            "ledger": {"ok": not problem, "schema": SCHEMA_REVISION, "problem": problem or None},
            "page": {"rendered_at": time_answer(self._page.rendered_at), "age_seconds": self._age(self._page.rendered_at)},
            "prices": {"data_at": time_answer(priced_at), "age_seconds": self._age(priced_at)},
            "sources": [
                {
                    "source": state["source"],
                    "up": bool(state["up"]),
                    "last_success_at": time_answer(state["last_success_at"]),
                    "data_newest_at": time_answer(state["data_newest_at"]),
                    "message": state["message"] or None,
                }
                for state in states
            ],
        }

    def _age(self, at: int) -> float | None:
        return (self._now() - at) / MICROS_PER_SECOND if at else None
