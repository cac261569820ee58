"""The budget service: requests of applications to priced wishes, and the engine's decisions to answers."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec

from costwarden.budgets.calls import Decision, Reserve, Settle, Settled
from costwarden.budgets.engine import Engine
from costwarden.budgets.requests import MOST_USD_PER_CALL, CheckRequest, SetRequest, TrackRequest
from costwarden.budgets.rules import Budget, period_bounds
from costwarden.budgets.settings import BudgetsSettings
from costwarden.budgets.status import BudgetStatus, budget_statuses
from costwarden.budgets.store import configured_budgets, new_budget
from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.ledger.budgets import read_suspended
from costwarden.ledger.usage import spend_between
from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, NANOS_PER_USD, Usage, from_nanos, round_to_nanos, to_micros, to_nanos
from costwarden.pricing.price_book import Alternative, PriceBook

# A caller's clock may run ahead by this much; beyond it, a timestamp would spend a period that nobody checks yet.
CLOCK_SKEW_SECONDS = 300

OLDEST_EVENT_SECONDS = 35 * 86_400
"""An event may come late, from a queue say; an older one tells of a wrong clock, and would spend a month that nobody looks at."""


class TenantStatus(msgspec.Struct, kw_only=True):
    """A tenant's budgets as of now. Amounts are nano-dollars."""

    tenant_id: str
    budgets: list[BudgetStatus]
    month_spent: int
    """What the tenant has spent this calendar month, in all its models."""
    suspended: str
    """Why the tenant is suspended; empty where it is not."""
    suspended_by_run_id: str
    """The remediation run that suspended it; empty where a person did."""


class BudgetService:
    """Checks, tracks and sets. Raises `LedgerUnavailable` where the ledger cannot write: the caller answers 503."""

    def __init__(
        self, ledger: Ledger, engine: Engine, prices: PriceBook, settings: BudgetsSettings, zone: ZoneInfo, now: Callable[[], int]
    ) -> None:
        self._ledger = ledger
        self._engine = engine
        self._prices = prices
        self._settings = settings
        self._zone = zone
        self._now = now

    @property
    def prices(self) -> PriceBook:
        """The price book in force."""
        return self._prices

    def configure(self, settings: BudgetsSettings, prices: PriceBook) -> None:
        """Use new settings and prices from the next request on, and bring the configured budgets into the ledger.

        Raises `ValueError` where a configured budget's name is taken; then nothing has changed.
        """
        budgets = configured_budgets(settings)
        self._ledger.write(lambda connection: self._engine.put_configured(connection, budgets))
        self._engine.configure(settings)
        self._settings, self._prices = settings, prices

    async def check(self, request: CheckRequest) -> Decision:
        """Reserve what the call may cost.

        Raises `UnknownPrice` where that is not known and the configuration says to refuse, `ValueError` where it cannot be meant.
        """
        at = self._now()
        sizes = self._sizes(request)
        priced = self._prices.estimate(
            provider=request.provider,
            model=request.model,
            operation=request.operation,
            input_tokens=sizes[0],
            output_tokens=sizes[1],
            images=request.images,
            at=at,
        )
        _plausible(priced.cost)
        wish = Reserve(request.dimensions, priced.cost, at, request.event_id)
        return await self._ledger.writer.step(self._engine.reserve, wish)

    def alternative(self, request: CheckRequest, decision: Decision) -> Alternative | None:
        """The cheapest configured model that the refused call could use within what is left."""
        if decision.budget is None:
            return None
        left = max(0, decision.budget.limit - decision.spent - decision.reserved - decision.unsettled)
        # A budget of one model does not hold another one back.
        model_budget = decision.budget.scope[DIMENSIONS.index("model")] != ""
        sizes = self._sizes(request)
        return self._prices.cheaper(
            provider=request.provider,
            model=request.model,
            operation=request.operation,
            input_tokens=sizes[0],
            output_tokens=sizes[1],
            images=request.images,
            at=self._now(),
            available=decision.estimate if model_budget else left,
        )

    def _sizes(self, request: CheckRequest) -> tuple[int, int]:
        given = request.estimated_input_tokens, request.estimated_output_tokens
        assumed = self._settings.assumed_input_tokens, self._settings.assumed_output_tokens
        return given[0] if given[0] is not None else assumed[0], given[1] if given[1] is not None else assumed[1]

    async def track(self, request: TrackRequest) -> Settled:
        """Record what a call used and settle its reservation. Raises `ValueError` for a timestamp or a cost that cannot be meant."""
        at = self._now()
        usage = Usage(
            source=f"api:{request.tenant_id}",
            event_id=request.event_id,
            timestamp=_timestamp(request.timestamp, at),
            tenant_id=request.tenant_id,
            provider=request.provider,
            model=request.model,
            operation=request.operation,
            report_type=request.report_type,
            feature=request.feature,
            team=request.team,
            user_id=request.user_id,
            service=request.service,
            input_tokens=request.input_tokens or request.prompt_tokens,
            output_tokens=request.output_tokens or request.completion_tokens,
            cache_read_tokens=request.cache_read_tokens,
            cache_write_tokens=request.cache_write_tokens,
            cache_write_1h_tokens=request.cache_write_1h_tokens,
            reasoning_tokens=request.reasoning_tokens,
            input_audio_tokens=request.input_audio_tokens,
            output_audio_tokens=request.output_audio_tokens,
            images=request.images,
            success=request.success,
        )
        if request.cost_usd is not None:
            # Rounded first: a caller may send more digits than exact arithmetic holds.
            usage.cost, usage.priced_by = round_to_nanos(round(request.cost_usd, 9)), "caller"
        else:
            priced = self._prices.price(usage if usage.timestamp else msgspec.structs.replace(usage, timestamp=at))
            usage.cost, usage.priced_by = priced.cost, priced.priced_by
            _plausible(usage.cost)
        return await self._ledger.writer.step(self._engine.settle, Settle(usage, request.reservation_id, at))

    async def set(self, request: SetRequest, actor: str) -> Budget:
        """Give a tenant a monthly budget, or change it. Raises `BudgetIsConfigured`."""
        scope = tuple({"tenant_id": request.tenant_id, "model": request.model}.get(name, "") for name in DIMENSIONS)
        budget = new_budget(self._settings, scope, "month", to_nanos(Decimal(request.monthly_limit_usd)))
        await self._ledger.write_async(lambda connection: self._engine.put(connection, budget, actor))
        return budget

    async def suspend(self, tenant_id: str, *, reason: str, run_id: str, actor: str) -> bool:
        """Deny every check of the tenant; False where it was suspended already."""
        return await self._ledger.write_async(
            lambda connection: self._engine.suspend(connection, tenant_id, reason=reason, actor=actor, run_id=run_id)
        )

    async def resume(self, tenant_id: str, *, actor: str) -> bool:
        """Lift the tenant's suspension; False where there was none."""
        return await self._ledger.write_async(lambda connection: self._engine.resume(connection, tenant_id, actor=actor))

    def status(self, tenant_id: str) -> TenantStatus:
        """How the tenant's budgets stand."""
        now = self._now()
        scope = tuple(tenant_id if name == "tenant_id" else "" for name in DIMENSIONS)
        start, end = period_bounds("month", now, self._zone)
        with self._ledger.read() as connection:
            suspended = read_suspended(connection).get(tenant_id)
            return TenantStatus(
                tenant_id=tenant_id,
                budgets=budget_statuses(connection, self._zone, now, tenant_id),
                month_spent=spend_between(connection, scope, start, end).cost,
                suspended=suspended["reason"] if suspended else "",
                suspended_by_run_id=suspended["run_id"] if suspended else "",
            )

    async def expire_reservations(self, interval_seconds: float) -> None:
        """Move reservations to *unsettled* as they expire, until cancelled. A ledger that is down is tried again."""
        while True:
            await asyncio.sleep(interval_seconds)
            self._ledger.check_file()
            with suppress(LedgerUnavailable):
                await self._ledger.writer.step(self._engine.expire, self._now())


def _plausible(cost: int) -> None:
    if cost > MOST_USD_PER_CALL * NANOS_PER_USD:
        raise ValueError(f"these quantities cost ${from_nanos(cost):f}; a call above ${MOST_USD_PER_CALL} is taken for a mistake")


def _timestamp(text: str, now: int) -> int:
    if not text:
        return 0
    try:
        when = to_micros(datetime.fromisoformat(text))
    except ValueError:
        raise ValueError(f"`timestamp` {text!r} is not an RFC 3339 time with a zone") from None
    if when > now + CLOCK_SKEW_SECONDS * MICROS_PER_SECOND:
        raise ValueError(f"`timestamp` {text!r} lies in the future")
    if when < now - OLDEST_EVENT_SECONDS * MICROS_PER_SECOND:
        raise ValueError(f"`timestamp` {text!r} lies more than {OLDEST_EVENT_SECONDS // 86_400} days back")
    return when
