"""Which path does what: puts the endpoints of all nouns together."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from fastapi import FastAPI, Request
from starlette.responses import Response

from costwarden.api.ai_budget import AiBudgetApi, unavailable
from costwarden.api.app import Asgi, Lifespan, create_app, json_response
from costwarden.api.auth import Authenticator, headers_of
from costwarden.api.hot import Answer, Handler, Receive, Scope, json_answer, read_body
from costwarden.api.openapi import describe
from costwarden.api.problems import Problem
from costwarden.ledger import Ledger, LedgerUnavailable
from costwarden.ledger.journal import JournalEntry, read_journal
from costwarden.ledger.remediation import QueueItem, Run, list_runs, read_run
from costwarden.metrics.counts import Counts
from costwarden.metrics.page import Page
from costwarden.model import from_micros
from costwarden.remediation.decisions import DecisionRefused
from costwarden.remediation.intake import InvalidWebhook, accept_async

log = structlog.get_logger(__name__)

# A group of a thousand alerts with full annotations is about 2 MB.
WEBHOOK_MAX_BYTES = 16 * 1024 * 1024

Reload = Callable[[], Awaitable[None]]


def create_api(
    *,
    ledger: Ledger,
    page: Page,
    budgets: AiBudgetApi,
    auth: Authenticator,
    counts: Counts,
    reload: Reload,
    wake_worker: Callable[[], None],
    approve: Callable[[str, str], None],
    lifespan: Lifespan,
    now: Callable[[], int],
) -> Asgi:
    """The ASGI application. `reload` raises `Problem`; `approve(run_id, actor)` raises `LookupError` or `DecisionRefused`."""

    async def metrics(scope: Scope, _: Receive) -> Answer:
        auth.authorize("read", scope["headers"])
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
        ("POST", "/api/ai-budget/set"): budgets.set,
        ("POST", "/api/alerts/webhook"): webhook,
        ("GET", "/metrics"): metrics,
        ("POST", "/-/reload"): reload_config,
    }
    api, app = create_app(counts, hot, lifespan)
    _add_budget_routes(api, budgets, auth)
    _add_remediation_routes(api, ledger, auth, approve)
    _add_health_routes(api, ledger, page)
    describe(api)
    return app


def _caller(auth: Authenticator, permission: str, request: Request) -> str:
    return auth.authorize(permission, headers_of(request.headers))


def _add_budget_routes(api: FastAPI, budgets: AiBudgetApi, auth: Authenticator) -> None:
    # `:path`: a tenant may be named `org/team`.
    @api.get("/api/ai-budget/tenant/{tenant_id:path}", summary="A tenant's budgets and what they have spent")
    def tenant(tenant_id: str, request: Request) -> Response:
        _caller(auth, "read", request)
        return json_response(budgets.tenant(tenant_id))

    @api.post("/api/ai-budget/tenant/{tenant_id:path}/suspend", summary="Deny every check of a tenant")
    async def suspend(tenant_id: str, request: Request) -> Response:
        actor = _caller(auth, "operate", request)
        return json_response(await budgets.suspend(tenant_id, request.scope, request.receive, actor))

    @api.post("/api/ai-budget/tenant/{tenant_id:path}/resume", summary="Lift a tenant's suspension")
    async def resume(tenant_id: str, request: Request) -> Response:
        return json_response(await budgets.resume(tenant_id, _caller(auth, "operate", request)))


def _add_remediation_routes(api: FastAPI, ledger: Ledger, auth: Authenticator, approve: Callable[[str, str], None]) -> None:
    @api.get("/api/remediation/runs", summary="The newest runs of playbooks")
    def runs(request: Request, state: str = "", limit: int = 50) -> Response:
        _caller(auth, "read", request)
        with ledger.read() as connection:
            found = list_runs(connection, limit=max(1, min(limit, 1000)), state=state)
        return json_response({"runs": [run_answer(run, item) for run, item in found]})

    @api.get("/api/remediation/runs/{run_id}", summary="A run with its journal")
    def run(run_id: str, request: Request) -> Response:
        _caller(auth, "read", request)
        with ledger.read() as connection:
            try:
                found = read_run(connection, run_id)
            except LookupError as error:
                raise Problem(404, "unknown_run", str(error)) from None
            journal = read_journal(connection, run_id)
        return json_response({**run_answer(found, None), "journal": [journal_answer(entry) for entry in journal]})

    @api.post("/api/remediation/runs/{run_id}/approve", summary="Let a planned run act")
    def approve_run(run_id: str, request: Request) -> Response:
        actor = _caller(auth, "operate", request)
        try:
            approve(run_id, actor)
        except LookupError as error:
            raise Problem(404, "unknown_run", str(error)) from None
        except DecisionRefused as error:
            raise Problem(409, "not_waiting", str(error)) from None
        except LedgerUnavailable as error:
            raise unavailable(error) from None
        return json_response({"run_id": run_id, "approved_by": actor})


def _add_health_routes(api: FastAPI, ledger: Ledger, page: Page) -> None:
    @api.get("/healthz", summary="The process answers")
    async def health() -> Response:
        return json_response({"status": "ok"})

    @api.get("/readyz", summary="The ledger writes and the metrics page is there")
    async def ready() -> Response:
        if not ledger.writer.healthy:
            raise Problem(503, "ledger_unavailable", "the last write to the ledger failed")
        if page.answer() is None:
            raise Problem(503, "starting", "the first metrics page is not rendered yet")
        return json_response({"status": "ready"})


def run_answer(run: Run, item: QueueItem | None) -> dict[str, Any]:
    """A run, with the incident that it is for where that is known, as the API and the command line print it."""
    answer: dict[str, Any] = {
        "run_id": run.run_id,
        "playbook": run.playbook,
        "mode": run.mode,
        "outcome": run.outcome or None,
        "reason": run.reason or None,
        "targets_count": run.targets_count,
        "started_at": time_answer(run.started_at),
        "acted_at": time_answer(run.acted_at),
        "finished_at": time_answer(run.finished_at),
        "approved_by": run.approved_by or None,
    }
    if item is not None:
        answer["alert"] = {
            "state": item.state,
            "fingerprint": item.fingerprint,
            "starts_at": item.starts_at,
            "action": item.action,
            "labels": item.labels,
        }
    return answer


def journal_answer(entry: JournalEntry) -> dict[str, Any]:
    """A step of a run as the API and the command line print it."""
    return {"at": time_answer(entry.at), "step": entry.step, "detail": entry.detail}


def time_answer(micros: int) -> str | None:
    """RFC 3339 in UTC; None for 0, which is never."""
    return from_micros(micros).isoformat().replace("+00:00", "Z") if micros else None
