"""The budget service: requests of applications to priced wishes, and the engine's decisions to answers."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import structlog

from costwarden.budgets.calls import Decision, Release, Released, Reserve, Reset, Resolve, Settle, Settled, named_id
from costwarden.budgets.engine import Engine
from costwarden.budgets.estimates import LearnedSizes
from costwarden.budgets.index import EVERYBODY
from costwarden.budgets.lease_prices import LeasePrices, lease_prices
from costwarden.budgets.requests import (
    MOST_USD_PER_CALL,
    CheckRequest,
    LeaseRequest,
    ReleaseRequest,
    ResolveRequest,
    SetRequest,
    TrackRequest,
    audio_milliseconds,
    checked_count,
    checked_name,
)
from costwarden.budgets.rules import Budget, period_bounds
from costwarden.budgets.settings import BudgetsSettings
from costwarden.budgets.status import BudgetStatus, budget_statuses
from costwarden.budgets.store import configured_budgets
from costwarden.budgets.tiers import limited_budget, lost_tiers, tier_changes
from costwarden.ledger import Connection, Ledger, LedgerUnavailable
from costwarden.ledger.budgets import read_suspended, read_tiered
from costwarden.ledger.usage import spend_between
from costwarden.metering.responses import read_response
from costwarden.model import (
    DIMENSIONS,
    MICROS_PER_SECOND,
    NANOS_PER_USD,
    TOKEN_CLASSES,
    Usage,
    dollars,
    from_nanos,
    round_to_nanos,
    to_micros,
    to_nanos,
)
from costwarden.pricing.price_book import Alternative, PriceBook

# A caller's clock may run ahead by this much; beyond it, a timestamp would spend a period that nobody checks yet.
CLOCK_SKEW_SECONDS = 300

JOB_SECONDS = 86_400
"""A batch of calls is answered within a day: the window of OpenAI's and Anthropic's batch APIs."""


_NAMES_OF_A_RESPONSE = ("provider", "model", "operation", "service_tier")
_QUANTITIES_OF_A_RESPONSE = (*TOKEN_CLASSES, "images", "audio_milliseconds")

EVENTS_A_STEP = 200
"""Recorded at once: a step of so many takes some milliseconds, and every check waits for it."""

OLDEST_EVENT_SECONDS = 35 * 86_400
"""An event may come late, from a queue say; an older one tells of a wrong clock, and would spend a month that nobody looks at."""


log = structlog.get_logger(__name__)


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
    valid_until: int
    """The microsecond at which a period ends, and figures begin anew though nothing is written."""


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
        self.sizes = LearnedSizes(settings)

    @property
    def settings(self) -> BudgetsSettings:
        """The section `budgets` in force."""
        return self._settings

    @property
    def prices(self) -> PriceBook:
        """The price book in force."""
        return self._prices

    def configure(self, settings: BudgetsSettings, prices: PriceBook) -> None:
        """Use new settings and prices from the next request on, and bring the configured budgets into the ledger.

        Raises `ValueError` where a configured budget's name is taken; then nothing has changed.
        """
        self._ledger.write(lambda connection: self._bring_in(connection, settings))
        self._engine.configure(settings)
        self.sizes.configure(settings)
        self._settings, self._prices = settings, prices

    def _bring_in(self, connection: Connection, settings: BudgetsSettings) -> None:
        self._engine.put_configured(connection, configured_budgets(settings))
        known = read_tiered(connection)
        for budget in tier_changes(known, settings):
            self._engine.put(connection, budget, "config")
        if lost := lost_tiers(known, settings):
            log.warning("budgets follow tiers that are not configured; they keep their limits", tiers=lost)

    async def check(self, request: CheckRequest) -> Decision:
        """Reserve what the call may cost.

        Raises `UnknownPrice` where that is not known and the configuration says to refuse, `ValueError` where it cannot be meant.
        """
        at = self._now()
        input_tokens, output_tokens = self.sizes.sizes(request)
        priced = self._prices.estimate(
            provider=request.provider,
            model=request.model,
            operation=request.operation,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            images=request.images,
            audio_milliseconds=audio_milliseconds(request.audio_seconds),
            service_tier=request.service_tier,
            at=at,
            cache_write_tokens=request.estimated_cache_write_tokens,
            output_audio_tokens=request.estimated_output_audio_tokens,
        )
        estimate = priced.cost * request.requests
        _plausible(estimate)
        is_job = request.requests > 1
        wish = Reserve(request.dimensions, estimate, at, request.event_id, "lease" if is_job else "call", JOB_SECONDS if is_job else 0)
        return await self._ledger.writer.step(self._engine.reserve, wish)

    async def lease(self, request: LeaseRequest) -> Decision:
        """Set a slice aside from which calls are settled one by one, or what is left of it; what is not used comes back by `release`."""
        at, amount = self._now(), to_nanos(request.amount_usd)
        wish = Reserve(request.dimensions, amount, at, request.event_id, "lease", request.seconds, at_least=1)
        return await self._ledger.writer.step(self._engine.reserve, wish)

    def lease_prices(self, request: LeaseRequest) -> LeasePrices | None:
        """What the lease's holder prices calls by; None where nobody knows what they cost."""
        return lease_prices(self._prices, request, self._now())

    def lease_sizes(self, request: LeaseRequest) -> tuple[int, int]:
        """Input and output tokens that the lease's holder takes a call for that does not say how large it is."""
        return self.sizes.sizes(CheckRequest(**{name: getattr(request, name) for name in DIMENSIONS}))

    async def release(self, request: ReleaseRequest) -> Released:
        """Give back what a call that was not made, or a lease that is no longer needed, has set aside."""
        reservation_id = request.reservation_id or named_id(request.tenant_id, request.event_id)
        return await self._ledger.writer.step(self._engine.release, Release(request.tenant_id, reservation_id))

    async def resolve(self, reservation_id: str, request: ResolveRequest, actor: str) -> Settled | None:
        """End a reservation by an operator's word for its cost; None where there is no such reservation."""
        word = Resolve(reservation_id, to_nanos(request.cost_usd), request.reason, actor, self._now())
        return await self._ledger.writer.step(self._engine.resolve, word)

    async def reset(self, budget: str, reason: str, actor: str) -> bool:
        """Begin a budget's current period anew; False where there is no such budget."""
        return await self._ledger.writer.step(self._engine.reset, Reset(budget, reason, actor, self._now()))

    def alternative(self, request: CheckRequest, decision: Decision) -> Alternative | None:
        """The cheapest configured model that the refused call could use within what is left."""
        if decision.budget is None:
            return None
        left = max(0, decision.budget.limit - decision.spent - decision.reserved - decision.unsettled)
        # A budget of one model does not hold another one back.
        model_budget = decision.budget.scope[DIMENSIONS.index("model")] != ""
        input_tokens, output_tokens = self.sizes.sizes(request)
        return self._prices.cheaper(
            provider=request.provider,
            model=request.model,
            operation=request.operation,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            images=request.images,
            at=self._now(),
            available=decision.estimate if model_budget else left,
        )

    async def track(self, request: TrackRequest) -> Settled:
        """Record what a call used and settle its reservation. Raises `ValueError` for a timestamp or a cost that cannot be meant."""
        at = self._now()
        return await self._ledger.writer.step(self._engine.settle, Settle(self._usage_of(request, at), request.reservation_id, at))

    async def record(self, requests: Sequence[TrackRequest]) -> list[Settled]:
        """As `track`, of many calls, each once; none where one of them cannot be meant (`ValueError`)."""
        at = self._now()
        calls, answers = [], []
        for number, request in enumerate(requests, 1):
            calls.append(Settle(self._usage_of(request, at), request.reservation_id, at))
            if number % EVENTS_A_STEP == 0:
                await asyncio.sleep(0)
        for begin in range(0, len(calls), EVENTS_A_STEP):
            answers += await self._ledger.writer.step(self._settle_all, calls[begin : begin + EVENTS_A_STEP])
        return answers

    def _settle_all(self, calls: Sequence[Settle]) -> list[Settled]:
        return [self._engine.settle(call) for call in calls]

    def _usage_of(self, request: TrackRequest, at: int) -> Usage:
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
            audio_milliseconds=audio_milliseconds(request.audio_seconds),
            service_tier=request.service_tier,
            success=request.success,
        )
        if body := bytes(request.response):
            _fill_in(usage, body)
        if request.cost_usd is not None:
            # Rounded first: a caller may send more digits than exact arithmetic holds.
            usage.cost, usage.priced_by = round_to_nanos(round(request.cost_usd, 9)), "caller"
        else:
            priced = self._prices.price(usage if usage.timestamp else msgspec.structs.replace(usage, timestamp=at))
            usage.cost, usage.priced_by = priced.cost, priced.priced_by
            _plausible(usage.cost)
        return usage

    async def set(self, request: SetRequest, actor: str) -> Budget:
        """Give a tenant a monthly budget, or change it. Raises `BudgetIsConfigured`, or `UnknownTier`."""
        scope = tuple({"tenant_id": request.tenant_id, "model": request.model}.get(name, "") for name in DIMENSIONS)
        limit = None if request.monthly_limit_usd is None else to_nanos(request.monthly_limit_usd)
        budget = limited_budget(self._settings, scope, "month", limit, request.tier)
        await self._ledger.write_async(lambda connection: self._engine.put(connection, budget, actor))
        return budget

    async def put(self, make: Callable[[Connection], Budget], actor: str) -> Budget | None:
        """Write the budget that `make` gives in the same transaction; returns what it was before. Raises `BudgetIsConfigured`."""
        return await self._ledger.write_async(lambda connection: self._engine.put(connection, make(connection), actor))

    async def delete(self, budget: str, actor: str) -> None:
        """Remove a budget. Raises `BudgetIsConfigured`, or `LookupError` where there is no such budget."""
        await self._ledger.write_async(lambda connection: self._engine.drop(connection, budget, actor))

    async def emergency_stop(self, reason: str, actor: str) -> bool:
        """Deny every check of everybody, until it is lifted, also after a restart; False where that was so already."""
        return await self.suspend(EVERYBODY, reason=reason, run_id="", actor=actor)

    async def lift(self, reason: str, actor: str) -> bool:
        """End the emergency stop; False where there was none."""
        return await self._ledger.write_async(lambda connection: self._engine.resume(connection, EVERYBODY, actor=actor, reason=reason))

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
            budgets = budget_statuses(connection, self._zone, now, tenant_id)
            return TenantStatus(
                tenant_id=tenant_id,
                budgets=budgets,
                month_spent=spend_between(connection, scope, start, end).cost,
                suspended=suspended["reason"] if suspended else "",
                suspended_by_run_id=suspended["run_id"] if suspended else "",
                valid_until=min(end, *(found.resets_at for found in budgets)) if budgets else end,
            )

    async def keep_up(self, interval_seconds: float) -> None:
        """Move reservations to *unsettled* as they expire, and learn from what is recorded, until cancelled.

        A ledger that is down is tried again.
        """
        while True:
            await asyncio.sleep(interval_seconds)
            self._ledger.check_file()
            with suppress(LedgerUnavailable):
                await self._ledger.writer.step(self._engine.expire, self._now())
                await asyncio.to_thread(self.learn)

    def learn(self) -> None:
        """Take over how large the newest recorded calls were. Raises `LedgerUnavailable`."""
        with self._ledger.read() as connection:
            self.sizes.refresh(connection)


def _fill_in(usage: Usage, response: bytes) -> None:
    try:
        consumed = read_response(response)
    except RecursionError:
        raise ValueError("`response` is nested too deeply") from None
    for name in _NAMES_OF_A_RESPONSE:
        if not getattr(usage, name):
            setattr(usage, name, checked_name(f"response: {name}", getattr(consumed, name)))
    for name in _QUANTITIES_OF_A_RESPONSE:
        if not getattr(usage, name):
            setattr(usage, name, checked_count(f"response: {name}", getattr(consumed, name)))
    if not usage.model and not usage.operation:
        raise ValueError("`response` names neither a model nor an operation: name one of them, it tells the price")


def _plausible(cost: int) -> None:
    if cost > MOST_USD_PER_CALL * NANOS_PER_USD:
        raise ValueError(f"these quantities cost {dollars(from_nanos(cost))}; a call above ${MOST_USD_PER_CALL:,} is taken for a mistake")


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
