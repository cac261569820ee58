"""Which path does what: puts the endpoints of all nouns together. `operations.py` says whom each is for."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import msgspec
import structlog
from fastapi import Depends, FastAPI, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from costwarden.api.ai_budget import AiBudgetApi, decode, unavailable
from costwarden.api.alerts import AlertsApi, AlertsQuery, AuditQuery
from costwarden.api.app import Asgi, Lifespan, create_app, json_response
from costwarden.api.auth import Authenticator, headers_of
from costwarden.api.budgets import BudgetChange, BudgetLimits, BudgetsApi, BudgetsQuery, NewBudget
from costwarden.api.callers import Caller
from costwarden.api.costs import COLUMNS, CloudCostsQuery, CostsApi, CostsFilter, CostsQuery, Dimension, SummaryQuery
from costwarden.api.health import HealthApi
from costwarden.api.hot import Answer, Handler, Receive, Scope, json_answer, read_body
from costwarden.api.notifications import NotificationsApi, NotificationsQuery
from costwarden.api.openapi import describe
from costwarden.api.operations import OPERATIONS
from costwarden.api.otlp import OtlpApi
from costwarden.api.pages import time_answer
from costwarden.api.problems import Problem
from costwarden.api.remediation import RemediationApi, RunsQuery, journal_answer, run_answer
from costwarden.api.reservations import ReservationsApi, ReservationsQuery
from costwarden.api.usage import UsageApi, UsageEvents, UsageQuery, segments
from costwarden.budgets.requests import ReasonRequest, ResolveRequest
from costwarden.budgets.service import BudgetService
from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.metrics.counts import Counts
from costwarden.metrics.page import Page
from costwarden.notifier.settings import NotifierSettings
from costwarden.remediation.intake import InvalidWebhook, accept_async

__all__ = ["create_api", "journal_answer", "run_answer", "time_answer"]

log = structlog.get_logger(__name__)

# A group of a thousand alerts with full annotations is about 2 MB.
WEBHOOK_MAX_BYTES = 16 * 1024 * 1024

Reload = Callable[[], Awaitable[None]]

_events_decoder = msgspec.json.Decoder(UsageEvents)
_new_budget_decoder = msgspec.json.Decoder(NewBudget)
_limits_decoder = msgspec.json.Decoder(BudgetLimits)
_change_decoder = msgspec.json.Decoder(BudgetChange)
_reason_decoder = msgspec.json.Decoder(ReasonRequest)
_resolve_decoder = msgspec.json.Decoder(ResolveRequest)


def create_api(
    *,
    ledger: Ledger,
    page: Page,
    budgets: AiBudgetApi,
    service: BudgetService,
    auth: Authenticator,
    counts: Counts,
    reload: Reload,
    wake_worker: Callable[[], None],
    approve: Callable[[str, str], None],
    lifespan: Lifespan,
    zone: ZoneInfo,
    now: Callable[[], int],
    otlp: OtlpApi | None = None,
    notifier: Callable[[], NotifierSettings] = NotifierSettings,
    access_log: bool = False,
) -> Asgi:
    """The ASGI application. `reload` raises `Problem`; `approve(run_id, actor)` raises `LookupError` or `DecisionRefused`."""

    async def metrics(scope: Scope, _: Receive) -> Answer:
        auth.authorize("inspect", scope["headers"])
        headers = dict(scope["headers"])
        accept, encoding = headers.get(b"accept", b""), headers.get(b"accept-encoding", b"")
        found = page.answer(accept.decode("latin-1"), encoding.decode("latin-1"))
        if found is None:
            raise Problem(503, "starting", "the first metrics page is not rendered yet", headers=((b"retry-after", b"1"),))
        return 200, found.body, found.headers

    async def webhook(scope: Scope, receive: Receive) -> Answer:
        try:
            auth.authorize("alert", scope["headers"])
        except Problem as problem:
            log.warning("alerts refused: Alertmanager's credentials do not fit", detail=str(problem))
            raise
        body = await read_body(scope, receive, WEBHOOK_MAX_BYTES)
        try:
            result = await accept_async(ledger, body, now())
        except InvalidWebhook as error:
            raise Problem(error.status, "invalid_webhook", str(error)) from None
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        outcomes = {name: getattr(result, name) for name in ("queued", "repeated", "resolved", "ignored", "refused")}
        for outcome, count in outcomes.items():
            counts.add("costwarden_webhook_alerts_total", outcome, by=count)
        wake_worker()
        if result.problems:
            raise Problem(422, "invalid_alerts", "; ".join(result.problems), **outcomes)
        return json_answer(outcomes)

    async def reload_config(scope: Scope, _: Receive) -> Answer:
        auth.authorize("administer", scope["headers"])
        await reload()
        return json_answer({"reloaded": True})

    hot: dict[tuple[str, str], Handler] = {
        ("POST", "/api/ai-budget/check"): budgets.check,
        ("POST", "/api/ai-budget/track"): budgets.track,
        ("POST", "/api/ai-budget/lease"): budgets.lease,
        ("POST", "/api/ai-budget/release"): budgets.release,
        ("POST", "/api/ai-budget/set"): budgets.set,
        ("POST", "/api/alerts/webhook"): webhook,
        ("GET", "/metrics"): metrics,
        ("POST", "/-/reload"): reload_config,
    }
    if otlp is not None:
        hot |= {("POST", "/v1/traces"): otlp.traces, ("POST", "/v1/metrics"): otlp.metrics}
    api, app = create_app(counts, hot, lifespan, auth, access_log=access_log)
    api.state.auth, api.state.max_body_bytes = auth, budgets.max_body_bytes
    _reservation_routes(api, ReservationsApi(ledger, service))
    _tenant_routes(api, budgets)
    _usage_routes(api, UsageApi(ledger, service))
    _cost_routes(api, CostsApi(ledger, zone, now))
    _budget_routes(api, BudgetsApi(ledger, service, zone, now))
    _alert_routes(api, AlertsApi(ledger))
    _remediation_routes(api, RemediationApi(ledger, approve))
    _notification_routes(api, NotificationsApi(ledger, notifier, wake_worker, now))
    _health_routes(api, HealthApi(ledger, page, service, now))
    # OTLP has a specification of its own, errors included.
    served = {(path, method.lower()) for method, path in hot if not path.startswith("/v1/")}
    served |= {(route.path_format, method.lower()) for route in api.routes if isinstance(route, APIRoute) for method in route.methods or ()}
    describe(api, auth, served)
    return app


async def _caller(request: Request) -> Caller:
    """The caller, who may do what the route is for. Raises `Problem` 401, 403 or 503."""
    operation = OPERATIONS[request.scope["route"].path_format, request.method.lower()]
    auth: Authenticator = request.app.state.auth
    return auth.authorize(operation.permission, headers_of(request.headers))


Admitted = Annotated[Caller, Depends(_caller)]
"""Found before anything else of the request is looked at: nobody else is told what is wrong with theirs."""


async def _body(request: Request, decoder: Any) -> Any:
    """The body as the decoder's type. Raises `Problem` 400, 413 or 422."""
    return decode(decoder, await read_body(request.scope, request.receive, request.app.state.max_body_bytes))


def _tenant_routes(api: FastAPI, budgets: AiBudgetApi) -> None:
    # `:name`: a tenant may be named `org/team`.
    @api.get("/api/ai-budget/tenant/{tenant_id:name}")
    async def tenant(tenant_id: str, caller: Admitted) -> Response:
        caller.require_tenant(tenant_id)
        return Response(await budgets.tenant(tenant_id), media_type="application/json")

    @api.post("/api/ai-budget/tenant/{tenant_id:name}/suspend")
    async def suspend(tenant_id: str, request: Request, caller: Admitted) -> Response:
        _require(tenant_id, caller)
        return json_response(await budgets.suspend(tenant_id, request.scope, request.receive, caller.name))

    @api.post("/api/ai-budget/tenant/{tenant_id:name}/resume")
    async def resume(tenant_id: str, caller: Admitted) -> Response:
        _require(tenant_id, caller)
        return json_response(await budgets.resume(tenant_id, caller.name))


def _require(tenant_id: str, caller: Caller) -> None:
    caller.require_tenant(tenant_id)
    if not tenant_id or len(tenant_id) > 256 or "\0" in tenant_id:  # the empty id is everybody's: that is an emergency stop
        raise Problem(404, "unknown_tenant", "the path names no tenant")


def _reservation_routes(api: FastAPI, reservations: ReservationsApi) -> None:
    @api.get("/api/ai-budget/reservations")
    def page(caller: Admitted, query: Annotated[ReservationsQuery, Query()]) -> Response:
        return json_response(reservations.page(caller, query))

    @api.post("/api/ai-budget/reservations/{reservation_id:name}/resolve")
    async def resolve(reservation_id: str, request: Request, caller: Admitted) -> Response:
        return json_response(await reservations.resolve(caller, reservation_id, await _body(request, _resolve_decoder)))

    @api.post("/api/ai-budget/emergency-stop")
    async def stop(request: Request, caller: Admitted) -> Response:
        return json_response(await reservations.stop(caller, await _body(request, _reason_decoder)))

    @api.delete("/api/ai-budget/emergency-stop")
    async def lift(caller: Admitted) -> Response:
        return json_response(await reservations.lift(caller))


def _usage_routes(api: FastAPI, usage: UsageApi) -> None:
    @api.post("/api/usage")
    async def record(request: Request, caller: Admitted) -> Response:
        return json_response(await usage.record(caller, await _body(request, _events_decoder)))

    @api.get("/api/usage")
    def page(caller: Admitted, query: Annotated[UsageQuery, Query()]) -> Response:
        return json_response(usage.page(caller, query))

    @api.get("/api/usage/{source:name}/{event_id:name}")
    def event(source: str, event_id: str, request: Request, caller: Admitted) -> Response:
        # As it was sent: decoded, a slash of a name looks like one between names.
        parts = segments(request.scope.get("raw_path") or request.url.path.encode(), ("api", "usage"))
        if len(parts) != 2:
            raise Problem(404, "unknown_event", f"`{source}/{event_id}` is not a source and an event id; write a slash inside one as %2F")
        return json_response(usage.event(caller, *parts))


def _cost_routes(api: FastAPI, costs: CostsApi) -> None:
    @api.get("/api/costs")
    def by_any(caller: Admitted, query: Annotated[CostsQuery, Query()]) -> Response:
        return json_response(costs.costs(caller, query, query.group_by))

    @api.get("/api/costs/summary")
    def summary(caller: Admitted, query: Annotated[SummaryQuery, Query()]) -> Response:
        return json_response(costs.summary(caller, query))

    @api.get("/api/costs/by-{dimension}")
    def by_one(dimension: Dimension, caller: Admitted, query: Annotated[CostsFilter, Query()]) -> Response:
        return json_response(costs.costs(caller, query, [COLUMNS.get(dimension, dimension)]))

    @api.get("/api/cloud-costs")
    def cloud(caller: Admitted, query: Annotated[CloudCostsQuery, Query()]) -> Response:
        return json_response(costs.cloud_costs(caller, query))


def _budget_routes(api: FastAPI, budgets: BudgetsApi) -> None:
    @api.get("/api/budgets")
    def page(caller: Admitted, query: Annotated[BudgetsQuery, Query()]) -> Response:
        return json_response(budgets.page(caller, query))

    @api.post("/api/budgets")
    async def create(request: Request, caller: Admitted) -> Response:
        made = await budgets.create(caller, await _body(request, _new_budget_decoder))
        return json_response(made, 201)

    @api.get("/api/budgets/{name:name}/status")
    def status(name: str, caller: Admitted) -> Response:
        return json_response(budgets.status(caller, name))

    @api.post("/api/budgets/{name:name}/reset")
    async def reset(name: str, request: Request, caller: Admitted) -> Response:
        return json_response(await budgets.reset(caller, name, await _body(request, _reason_decoder)))

    @api.get("/api/budgets/{name:budget}")
    def budget(name: str, caller: Admitted) -> Response:
        return json_response(budgets.budget(caller, name))

    @api.put("/api/budgets/{name:budget}")
    async def replace(name: str, request: Request, caller: Admitted) -> Response:
        return json_response(await budgets.replace(caller, name, await _body(request, _limits_decoder)))

    @api.patch("/api/budgets/{name:budget}")
    async def change(name: str, request: Request, caller: Admitted) -> Response:
        return json_response(await budgets.change(caller, name, await _body(request, _change_decoder)))

    @api.delete("/api/budgets/{name:budget}")
    async def delete(name: str, caller: Admitted) -> Response:
        await budgets.delete(caller, name)
        return Response(status_code=204)


def _alert_routes(api: FastAPI, alerts: AlertsApi) -> None:
    @api.get("/api/alerts")
    def page(caller: Admitted, query: Annotated[AlertsQuery, Query()]) -> Response:
        return json_response(alerts.page(caller, query))

    @api.get("/api/audit")
    def audit(_: Admitted, query: Annotated[AuditQuery, Query()]) -> Response:
        return json_response(alerts.audit(query))


def _remediation_routes(api: FastAPI, remediation: RemediationApi) -> None:
    @api.get("/api/remediation/runs")
    def runs(_: Admitted, query: Annotated[RunsQuery, Query()]) -> Response:
        return json_response(remediation.runs(query))

    @api.get("/api/remediation/runs/{run_id}")
    def run(run_id: str, _: Admitted) -> Response:
        return json_response(remediation.run(run_id))

    @api.post("/api/remediation/runs/{run_id}/approve")
    def approve(run_id: str, caller: Admitted) -> Response:
        return json_response(remediation.approve(caller, run_id))


def _notification_routes(api: FastAPI, notifications: NotificationsApi) -> None:
    @api.get("/api/notifications")
    def page(_: Admitted, query: Annotated[NotificationsQuery, Query()]) -> Response:
        return json_response(notifications.page(query))

    @api.post("/api/notifications/{receiver}")
    async def accept(receiver: str, request: Request, _: Admitted) -> Response:
        body = await read_body(request.scope, request.receive, WEBHOOK_MAX_BYTES)
        return json_response(await notifications.accept(receiver, body), 202)

    @api.get("/api/notifications/{notification_id}/attempts")
    def attempts(notification_id: str, _: Admitted) -> Response:
        return json_response(notifications.notification(notification_id))

    @api.post("/api/notifications/{notification_id}/retry")
    def retry(notification_id: str, caller: Admitted) -> Response:
        return json_response(notifications.retry(caller, notification_id))


def _health_routes(api: FastAPI, health: HealthApi) -> None:
    @api.get("/healthz")
    async def alive() -> Response:
        return json_response({"status": "ok"})

    @api.get("/readyz")
    async def ready() -> Response:
        return json_response(health.ready())

    @api.get("/api/health")
    def report(_: Admitted) -> Response:
        return json_response(health.report())
