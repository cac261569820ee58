"""`/api/ai-budget/`: check, track, set, status, suspend and resume."""

import difflib
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.api.auth import Authenticator
from costwarden.api.callers import Caller
from costwarden.api.hot import TENANT, Answer, Headers, Receive, Scope, json_answer, read_body
from costwarden.api.pages import holds_nul
from costwarden.api.problems import Problem, encode
from costwarden.budgets.calls import Decision
from costwarden.budgets.lease_prices import LeasePrices
from costwarden.budgets.requests import CheckRequest, LeaseRequest, ReleaseRequest, SetRequest, SuspendRequest, TrackRequest
from costwarden.budgets.rules import Budget, describe_scope
from costwarden.budgets.service import BudgetService, TenantStatus
from costwarden.budgets.status import BudgetStatus
from costwarden.budgets.status_cache import Computed, NoStatusCache, StatusCache
from costwarden.budgets.store import BudgetIsConfigured
from costwarden.budgets.tiers import UnknownTier
from costwarden.ledger import LedgerUnavailable
from costwarden.metrics.counts import Counts
from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, dollars, from_micros, from_nanos
from costwarden.pricing.price_book import UnknownPrice

WARNING: Headers = ((b"x-ai-budget-warning", b"true"),)

_check_decoder = msgspec.json.Decoder(CheckRequest)
_track_decoder = msgspec.json.Decoder(TrackRequest)
_lease_decoder = msgspec.json.Decoder(LeaseRequest)
_release_decoder = msgspec.json.Decoder(ReleaseRequest)
_set_decoder = msgspec.json.Decoder(SetRequest)
_suspend_decoder = msgspec.json.Decoder(SuspendRequest)


def decode(decoder: Any, body: bytes) -> Any:
    """`body` as the decoder's type. Raises `Problem` 400 (not JSON) or 422 (not the request)."""
    try:
        request = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid_request", f"{error}{_meant(str(error), decoder.type)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Problem(400, "invalid_json", "the body is nested too deeply") from None
    # JSON has no other way to write it, and most bodies none at all.
    if b"\\u0000" in body and holds_nul(request):
        raise Problem(422, "invalid_request", "a text cannot hold the character U+0000: the ledger could not keep it")
    return request


def _meant(sentence: str, request: Any) -> str:
    """Which field of `request` a misspelt one is near to, for the end of the sentence that refuses it."""
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", sentence, re.DOTALL)
    # Several kinds of request are no struct, and have no fields of their own.
    near = difflib.get_close_matches(unknown[1], getattr(request, "__struct_fields__", ()), n=1) if unknown else []
    return f", did you mean `{near[0]}`?" if near else ""


def unavailable(error: LedgerUnavailable) -> Problem:
    """503: costwarden would rather refuse than guess."""
    return Problem(503, "ledger_unavailable", f"{error}; nothing was recorded, try again", headers=((b"retry-after", b"1"),))


REFUSED = {
    "overflow": "the sum of what was tracked would pass four and a half billion dollars",
    "event_id_needed": "the reservation is a lease, from which many calls are settled: give each of them an `event_id`",
}


class AiBudgetApi:
    """The endpoints of the budget service."""

    def __init__(
        self,
        service: BudgetService,
        auth: Authenticator,
        counts: Counts,
        now: Callable[[], int],
        max_body_bytes: int,
        cache: StatusCache | None = None,
    ) -> None:
        self._service = service
        self._cache = cache or NoStatusCache()
        self._auth = auth
        self._counts = counts
        self._now = now
        self.max_body_bytes = max_body_bytes

    async def _admit(self, permission: str, decoder: Any, scope: Scope, receive: Receive) -> tuple[Caller, Any]:
        """The caller and the request, which is for a tenant of the caller's. Raises `Problem`."""
        caller = self._auth.authorize(permission, scope["headers"])
        request = decode(decoder, await read_body(scope, receive, self.max_body_bytes))
        caller.require_tenant(request.tenant_id)
        scope[TENANT] = request.tenant_id
        return caller, request

    async def check(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /api/ai-budget/check`: 200 with a reservation, 429 with the budget that denied, or a problem."""
        request: CheckRequest
        caller, request = await self._admit("spend", _check_decoder, scope, receive)
        try:
            decision = await self._service.check(request)
        except UnknownPrice as error:
            self._counts.add("ai_budget_checks_total", "denied", "unknown_price")
            raise Problem(422, "unknown_price", str(error), allowed=False) from None
        except ValueError as error:
            raise Problem(422, "invalid_request", str(error), allowed=False) from None
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        if not decision.allowed:
            raise self._denied(caller, request, decision)
        self._counts.add("ai_budget_checks_total", "allowed", "")
        return json_answer(_admission("estimated_cost_usd", decision), WARNING if decision.warning else ())

    async def lease(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /api/ai-budget/lease`: sets a slice of budget aside, to be spent without asking for each call."""
        request: LeaseRequest
        caller, request = await self._admit("spend", _lease_decoder, scope, receive)
        try:
            decision = await self._service.lease(request)
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        if not decision.allowed:
            raise self._denied(caller, request, decision)
        self._counts.add("ai_budget_checks_total", "allowed", "")
        prices = self._service.lease_prices(request)
        assumed = self._service.lease_sizes(request)
        answer = {
            **_admission("granted_usd", decision),
            "prices": None if prices is None else _texts(prices),
            "assumed_input_tokens": assumed[0],
            "assumed_output_tokens": assumed[1],
        }
        return json_answer(answer, WARNING if decision.warning else ())

    async def release(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /api/ai-budget/release`: gives back what is set aside for a call that was not made, or is left of a lease."""
        request: ReleaseRequest
        _, request = await self._admit("spend", _release_decoder, scope, receive)
        try:
            released = await self._service.release(request)
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        answer = {"reservation_id": released.reservation_id, "released_usd": from_nanos(released.released), "found": released.found}
        return json_answer(answer)

    def _denied(self, caller: Caller, request: CheckRequest | LeaseRequest, decision: Decision) -> Problem:
        self._counts.add("ai_budget_checks_total", "denied", decision.reason)
        if decision.budget is not None:
            self._counts.add("ai_budget_denied_checks_total", decision.budget.budget, decision.budget.period)
        return self._denial(caller, request, decision)

    def _denial(self, caller: Caller, request: CheckRequest | LeaseRequest, decision: Decision) -> Problem:
        if decision.reason == "event_id_conflict":
            detail = (
                f"the event_id {request.event_id!r} of `{request.tenant_id}` is recorded already, or was checked for another or a smaller"
                " call: give each call its own"
            )
            return Problem(409, decision.reason, detail, allowed=False)
        fallback: dict[str, Any] = {"use": "cached_template"}
        if decision.budget is None:
            details = {
                "no_budget": f"no budget covers this call of tenant `{request.tenant_id}`: set one with POST /api/ai-budget/set",
                "tenant_suspended": f"tenant `{request.tenant_id}` is suspended",
                "emergency_stop": "all AI calls are stopped: an operator lifts it with `costwarden emergency-stop --lift`",
            }
            return Problem(
                429,
                decision.reason,
                details[decision.reason],
                allowed=False,
                error="AI Budget Exceeded",
                reason=decision.reason,
                fallback=fallback,
            )
        budget = decision.budget
        cheaper = self._service.alternative(request, decision) if isinstance(request, CheckRequest) else None
        if cheaper is not None:
            fallback["model"] = {"provider": cheaper.provider, "model": cheaper.model, "estimated_cost_usd": from_nanos(cheaper.cost)}
        committed = decision.spent + decision.reserved + decision.unsettled
        wait = max(1, -(-(decision.resets_at - self._now()) // MICROS_PER_SECOND))
        headers: Headers = WARNING
        more: dict[str, Any] = {}
        if budget.period != "total":
            headers = (*WARNING, (b"retry-after", b"%d" % wait))
            more = {"reset_date": _time(decision.resets_at), "retry_after_seconds": wait}
        detail = (
            f"this call may cost {dollars(from_nanos(decision.estimate))}; budget `{budget.budget}` has {dollars(from_nanos(committed))} of"
            f" {dollars(from_nanos(budget.limit))} committed"
        )
        denied_by: dict[str, Any] = {
            "budget": budget.budget,
            "scope": describe_scope(budget.scope),
            "period": budget.period,
            "limit_usd": from_nanos(budget.limit),
            "spent_usd": from_nanos(decision.spent),
            "reserved_usd": from_nanos(decision.reserved),
            "unsettled_usd": from_nanos(decision.unsettled),
        }
        if not caller.sees(budget.scope[DIMENSIONS.index("tenant_id")]):
            # What others have spent is not for this caller.
            denied_by = {"scope": "shared"}
            detail = f"this call may cost {dollars(from_nanos(decision.estimate))}, more than a budget has left that is shared with others"
        return Problem(
            429,
            "budget_exceeded",
            detail,
            headers=headers,
            allowed=False,
            error="AI Budget Exceeded",
            reason=decision.reason,
            denied_by=denied_by,
            estimated_cost_usd=from_nanos(decision.estimate),
            fallback=fallback,
            **more,
        )

    async def track(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /api/ai-budget/track`: records what a call used, once."""
        request: TrackRequest
        _, request = await self._admit("spend", _track_decoder, scope, receive)
        try:
            settled = await self._service.track(request)
        except ValueError as error:
            raise Problem(422, "invalid_request", str(error)) from None
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        if settled.refused:
            raise Problem(422, "invalid_request", REFUSED[settled.refused])
        answer = {
            "event_id": settled.event_id,
            "cost_usd": from_nanos(settled.cost),
            "repeated": settled.repeated,
            "reservation_id": settled.reservation_id or None,
        }
        return json_answer(answer)

    async def set(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /api/ai-budget/set`: gives a tenant a monthly budget, or changes it."""
        request: SetRequest
        caller, request = await self._admit("budget", _set_decoder, scope, receive)
        try:
            budget = await self._service.set(request, caller.name)
        except BudgetIsConfigured as error:
            raise Problem(409, "budget_is_configured", str(error)) from None
        except UnknownTier as error:
            raise Problem(422, "unknown_tier", str(error)) from None
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        return json_answer({"tenant_id": request.tenant_id, **_budget(budget)})

    async def suspend(self, tenant_id: str, scope: Scope, receive: Receive, actor: str) -> dict[str, Any]:
        """`POST /api/ai-budget/tenant/{id}/suspend`: denies the tenant's checks."""
        request: SuspendRequest = decode(_suspend_decoder, await read_body(scope, receive, self.max_body_bytes) or b"{}")
        try:
            changed = await self._service.suspend(tenant_id, reason=request.reason, run_id=request.run_id, actor=actor)
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        return {"tenant_id": tenant_id, "suspended": True, "changed": changed}

    async def resume(self, tenant_id: str, actor: str) -> dict[str, Any]:
        """`POST /api/ai-budget/tenant/{id}/resume`: lifts a suspension."""
        try:
            changed = await self._service.resume(tenant_id, actor=actor)
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        return {"tenant_id": tenant_id, "suspended": False, "changed": changed}

    async def tenant(self, tenant_id: str) -> bytes:
        """`GET /api/ai-budget/tenant/{id}`: the tenant's budgets and what they have spent, as JSON. Raises `Problem` 404."""
        if not tenant_id:
            raise Problem(404, "unknown_tenant", "the path names no tenant")
        return await self._cache.answer(tenant_id, lambda: self._tenant_answer(tenant_id))

    def _tenant_answer(self, tenant_id: str) -> Computed:
        status = self._service.status(tenant_id)
        if not status.budgets and not status.month_spent and not status.suspended:
            detail = f"nothing is known of tenant `{tenant_id}`; a new tenant gets its default budget at its first check"
            raise Problem(404, "unknown_tenant", detail)
        return Computed(encode(tenant_answer(status)) + b"\n", status.valid_until)


def tenant_answer(status: TenantStatus) -> dict[str, Any]:
    """A tenant's status as the API and the command line print it."""
    whole = [found for found in status.budgets if len(describe_scope(found.budget.scope)) == 1 and found.budget.period == "month"]
    counted = whole or [found for found in status.budgets if found.budget.period == "month"]
    return {
        "tenant_id": status.tenant_id,
        "budgets": [budget_answer(found) for found in status.budgets],
        "total_usage_usd": from_nanos(status.month_spent),
        "total_limit_usd": from_nanos(sum(found.budget.limit for found in counted)),
        "suspended": status.suspended or None,
        "suspended_by_run_id": status.suspended_by_run_id if status.suspended else None,
    }


def budget_answer(status: BudgetStatus) -> dict[str, Any]:
    """One budget's status as the API and the command line print it."""
    limit = status.budget.limit
    used = Decimal(100) if not limit else round(Decimal(status.spent) * 100 / Decimal(limit), 2)
    return {
        **_budget(status.budget),
        "current_usage_usd": from_nanos(status.spent),
        "reserved_usd": from_nanos(status.reserved),
        "unsettled_usd": from_nanos(status.unsettled),
        "percentage_used": used,
        "token_count_input": status.input_tokens,
        "token_count_output": status.output_tokens,
        "requests": status.requests,
        "reset_date": None if status.budget.period == "total" else _time(status.resets_at),
        "status": status.status,
        "soft_limit_notified": status.soft_limit_reached,
        "hard_limit_reached": status.hard_limit_reached,
    }


def _admission(amount: str, decision: Decision) -> dict[str, Any]:
    return {
        "allowed": True,
        "reservation_id": decision.reservation_id,
        amount: from_nanos(decision.estimate),
        "remaining_usd": None if decision.remaining is None else from_nanos(decision.remaining),
        "warning": decision.warning,
        "expires_at": _time(decision.expires_at),
    }


def _texts(prices: LeasePrices) -> dict[str, str | None]:
    return {name: None if price is None else format(price, "f") for name, price in msgspec.structs.asdict(prices).items()}


def _budget(budget: Budget) -> dict[str, Any]:
    limit = "monthly_limit_usd" if budget.period == "month" else "limit_usd"
    return {
        "budget": budget.budget,
        "model": budget.scope[DIMENSIONS.index("model")] or None,
        "scope": describe_scope(budget.scope),
        "period": budget.period,
        limit: from_nanos(budget.limit),
        "tier": budget.tier or None,
        "soft_limit_ratio": budget.soft_limit_ratio,
    }


def _time(micros: int) -> str:
    return from_micros(micros).isoformat().replace("+00:00", "Z")
