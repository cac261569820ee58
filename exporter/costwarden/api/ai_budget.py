"""`/api/ai-budget/`: check, track, set, status, suspend and resume."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from costwarden.api.auth import Authenticator
from costwarden.api.hot import Answer, Headers, Receive, Scope, json_answer, read_body
from costwarden.api.problems import Problem
from costwarden.budgets.calls import Decision
from costwarden.budgets.requests import CheckRequest, SetRequest, SuspendRequest, TrackRequest
from costwarden.budgets.rules import Budget, describe_scope
from costwarden.budgets.service import BudgetService, TenantStatus
from costwarden.budgets.status import BudgetStatus
from costwarden.budgets.store import BudgetIsConfigured
from costwarden.ledger import LedgerUnavailable
from costwarden.metrics.counts import Counts
from costwarden.model import DIMENSIONS, MICROS_PER_SECOND, from_micros, from_nanos
from costwarden.pricing.price_book import UnknownPrice

WARNING: Headers = ((b"x-ai-budget-warning", b"true"),)

_check_decoder = msgspec.json.Decoder(CheckRequest)
_track_decoder = msgspec.json.Decoder(TrackRequest)
_set_decoder = msgspec.json.Decoder(SetRequest)
_suspend_decoder = msgspec.json.Decoder(SuspendRequest)


def decode(decoder: Any, body: bytes) -> Any:
    """`body` as the decoder's type. Raises `Problem` 400 (not JSON) or 422 (not the request)."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid_request", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid_json", f"the body is not JSON: {error}") from None


def unavailable(error: LedgerUnavailable) -> Problem:
    """503: costwarden would rather refuse than guess."""
    return Problem(503, "ledger_unavailable", f"{error}; nothing was recorded, try again", headers=((b"retry-after", b"1"),))


class AiBudgetApi:
    """The endpoints of the budget service."""

    def __init__(self, service: BudgetService, auth: Authenticator, counts: Counts, now: Callable[[], int], max_body_bytes: int) -> None:
        self._service = service
        self._auth = auth
        self._counts = counts
        self._now = now
        self._limit = max_body_bytes

    async def check(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /api/ai-budget/check`: 200 with a reservation, 429 with the budget that denied, or a problem."""
        self._auth.authorize("spend", scope["headers"])
        request: CheckRequest = decode(_check_decoder, await read_body(scope, receive, self._limit))
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
            self._counts.add("ai_budget_checks_total", "denied", decision.reason)
            if decision.budget is not None:
                self._counts.add("ai_budget_denied_checks_total", decision.budget.budget, decision.budget.period)
            raise self._denial(request, decision)
        self._counts.add("ai_budget_checks_total", "allowed", "")
        answer = {
            "allowed": True,
            "reservation_id": decision.reservation_id,
            "estimated_cost_usd": from_nanos(decision.estimate),
            "remaining_usd": None if decision.remaining is None else from_nanos(decision.remaining),
            "warning": decision.warning,
            "expires_at": _time(decision.expires_at),
        }
        return json_answer(answer, WARNING if decision.warning else ())

    def _denial(self, request: CheckRequest, decision: Decision) -> Problem:
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
        cheaper = self._service.alternative(request, decision)
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
            f"this call may cost ${from_nanos(decision.estimate):f}; budget `{budget.budget}` has ${from_nanos(committed):f} of"
            f" ${from_nanos(budget.limit):f} committed"
        )
        return Problem(
            429,
            "budget_exceeded",
            detail,
            headers=headers,
            allowed=False,
            error="AI Budget Exceeded",
            reason=decision.reason,
            denied_by={
                "budget": budget.budget,
                "scope": describe_scope(budget.scope),
                "period": budget.period,
                "limit_usd": from_nanos(budget.limit),
                "spent_usd": from_nanos(decision.spent),
                "reserved_usd": from_nanos(decision.reserved),
                "unsettled_usd": from_nanos(decision.unsettled),
            },
            estimated_cost_usd=from_nanos(decision.estimate),
            fallback=fallback,
            **more,
        )

    async def track(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /api/ai-budget/track`: records what a call used, once."""
        self._auth.authorize("spend", scope["headers"])
        request: TrackRequest = decode(_track_decoder, await read_body(scope, receive, self._limit))
        try:
            settled = await self._service.track(request)
        except ValueError as error:
            raise Problem(422, "invalid_request", str(error)) from None
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        if settled.refused:
            raise Problem(422, "invalid_request", "the sum of what was tracked would pass four and a half billion dollars")
        answer = {
            "event_id": settled.event_id,
            "cost_usd": from_nanos(settled.cost),
            "repeated": settled.repeated,
            "reservation_id": settled.reservation_id or None,
        }
        return json_answer(answer)

    async def set(self, scope: Scope, receive: Receive) -> Answer:
        """`POST /api/ai-budget/set`: gives a tenant a monthly budget, or changes it."""
        actor = self._auth.authorize("administer", scope["headers"])
        request: SetRequest = decode(_set_decoder, await read_body(scope, receive, self._limit))
        try:
            budget = await self._service.set(request, actor)
        except BudgetIsConfigured as error:
            raise Problem(409, "budget_is_configured", str(error)) from None
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        return json_answer({"tenant_id": request.tenant_id, **_budget(budget)})

    async def suspend(self, tenant_id: str, scope: Scope, receive: Receive, actor: str) -> dict[str, Any]:
        """`POST /api/ai-budget/tenant/{id}/suspend`: denies the tenant's checks."""
        request: SuspendRequest = decode(_suspend_decoder, await read_body(scope, receive, self._limit) or b"{}")
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

    def tenant(self, tenant_id: str) -> dict[str, Any]:
        """`GET /api/ai-budget/tenant/{id}`: the tenant's budgets and what they have spent. Raises `Problem` 404."""
        if not tenant_id:
            raise Problem(404, "unknown_tenant", "the path names no tenant")
        status = self._service.status(tenant_id)
        if not status.budgets and not status.month_spent and not status.suspended:
            detail = f"nothing is known of tenant `{tenant_id}`; a new tenant gets its default budget at its first check"
            raise Problem(404, "unknown_tenant", detail)
        return tenant_answer(status)


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


def _budget(budget: Budget) -> dict[str, Any]:
    limit = "monthly_limit_usd" if budget.period == "month" else "limit_usd"
    return {
        "budget": budget.budget,
        "model": budget.scope[DIMENSIONS.index("model")] or None,
        "scope": describe_scope(budget.scope),
        "period": budget.period,
        limit: from_nanos(budget.limit),
        "soft_limit_ratio": budget.soft_limit_ratio,
    }


def _time(micros: int) -> str:
    return from_micros(micros).isoformat().replace("+00:00", "Z")
