"""Every operation of the API: whom it is for, what it takes, what it answers. The routes, the description and the docs are held to it."""

from typing import Any

import msgspec

from costwarden.api import answers
from costwarden.api.budgets import BudgetChange, BudgetLimits, NewBudget
from costwarden.api.health import Health, HealthReport
from costwarden.api.notifications import AcceptedAnswer, NotificationPage, NotificationWithAttempts, RetryAnswer
from costwarden.api.usage import UsageEvents
from costwarden.budgets.requests import (
    CheckRequest,
    LeaseRequest,
    ReasonRequest,
    ReleaseRequest,
    ResolveRequest,
    SetRequest,
    SuspendRequest,
    TrackRequest,
)

READ_BODY = ("400", "413", "422")
"""What a request with a body may be refused with."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One request that the server answers."""

    summary: str
    permission: str = ""
    """What the caller must be allowed to do (`callers.ALLOWED`); empty is for everybody."""
    answer: Any = None
    """Type of the answer's body; None is text, or none with status 204."""
    status: str = "200"
    refusals: tuple[str, ...] = ()
    """Statuses of errors, beside those that `errors` adds."""
    body: Any = None
    body_is_optional: bool = False
    example: Any = None

    @property
    def errors(self) -> tuple[str, ...]:
        """The statuses of all errors but 405 and 500, which every operation has."""
        found = {*self.refusals}
        if self.permission:
            # 503: the ledger, or the keys of the identity provider.
            found |= {"401", "403", "503"}
        if self.body is not None:
            found |= {*READ_BODY}
        return tuple(sorted(found))


_BUDGET = {"limit_usd": 250, "soft_limit_ratio": 0.8, "thresholds": [0.5, 0.8, 1]}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("/api/ai-budget/check", "post"): Operation(
        summary="May this call be made? Reserves its estimate.",
        permission="spend",
        body=CheckRequest,
        answer=answers.Admission,
        refusals=("409", "429"),
        example={"tenant_id": "acme", "model": "gpt-4o", "estimated_input_tokens": 2000, "max_tokens": 500},
    ),
    ("/api/ai-budget/track", "post"): Operation(
        summary="Record what a call used, and settle its reservation.",
        permission="spend",
        body=TrackRequest,
        answer=answers.Track,
        example={"tenant_id": "acme", "model": "gpt-4o", "input_tokens": 1830, "output_tokens": 412},
    ),
    ("/api/ai-budget/lease", "post"): Operation(
        summary="Set a slice of budget aside, to be spent without asking for each call.",
        permission="spend",
        body=LeaseRequest,
        answer=answers.Lease,
        refusals=("409", "429"),
        example={"tenant_id": "acme", "model": "gpt-4o", "amount_usd": 2, "seconds": 60},
    ),
    ("/api/ai-budget/release", "post"): Operation(
        summary="Give back what was set aside for a call that was not made, or what is left of a lease.",
        permission="spend",
        body=ReleaseRequest,
        answer=answers.Release,
        example={"tenant_id": "acme", "event_id": "call-4711"},
    ),
    ("/api/ai-budget/set", "post"): Operation(
        summary="Give a tenant a monthly budget, or change it.",
        permission="budget",
        body=SetRequest,
        answer=answers.BudgetSet,
        refusals=("409",),
        example={"tenant_id": "acme", "model": "gpt-4o", "monthly_limit_usd": 5000},
    ),
    ("/api/ai-budget/tenant/{tenant_id}", "get"): Operation(
        summary="A tenant's budgets and what they have spent", permission="read", answer=answers.Tenant, refusals=("404",)
    ),
    ("/api/ai-budget/tenant/{tenant_id}/suspend", "post"): Operation(
        summary="Deny every check of a tenant",
        permission="suspend",
        body=SuspendRequest,
        body_is_optional=True,
        answer=answers.Suspension,
        refusals=("404",),
        example={"reason": "runaway script"},
    ),
    ("/api/ai-budget/tenant/{tenant_id}/resume", "post"): Operation(
        summary="Lift a tenant's suspension", permission="operate", answer=answers.Suspension, refusals=("404",)
    ),
    ("/api/ai-budget/reservations", "get"): Operation(
        summary="What is set aside and not settled", permission="read", answer=answers.Reservations, refusals=("404", "422")
    ),
    ("/api/ai-budget/reservations/{reservation_id}/resolve", "post"): Operation(
        summary="End a reservation by an operator's word for its cost",
        permission="operate",
        body=ResolveRequest,
        answer=answers.Resolution,
        refusals=("404",),
        example={"cost_usd": 0, "reason": "the provider has no such call"},
    ),
    ("/api/ai-budget/emergency-stop", "post"): Operation(
        summary="Deny every check of everybody, until it is lifted",
        permission="oversee",
        body=ReasonRequest,
        answer=answers.Stop,
        example={"reason": "keys have leaked"},
    ),
    ("/api/ai-budget/emergency-stop", "delete"): Operation(summary="Lift the emergency stop", permission="oversee", answer=answers.Stop),
    ("/api/usage", "post"): Operation(
        summary="Record calls that were metered elsewhere, each once",
        permission="spend",
        body=UsageEvents,
        answer=answers.Recorded,
        example=[{"tenant_id": "acme", "event_id": "call-4711", "model": "gpt-4o", "input_tokens": 1830, "output_tokens": 412}],
    ),
    ("/api/usage", "get"): Operation(
        summary="Events, the newest first", permission="read", answer=answers.UsagePage, refusals=("404", "422")
    ),
    ("/api/usage/{source}/{event_id}", "get"): Operation(
        summary="One event", permission="read", answer=answers.UsageAnswer, refusals=("404",)
    ),
    ("/api/costs", "get"): Operation(
        summary="What usage has cost, by any dimensions and by time", permission="read", answer=answers.Costs, refusals=("422",)
    ),
    ("/api/costs/summary", "get"): Operation(
        summary="The total, that of as long a time before, and the dearest of each dimension",
        permission="read",
        answer=answers.CostsSummary,
        refusals=("422",),
    ),
    ("/api/costs/by-{dimension}", "get"): Operation(
        summary="What usage has cost, by one dimension", permission="read", answer=answers.Costs, refusals=("404", "422")
    ),
    ("/api/cloud-costs", "get"): Operation(
        summary="What bills say, in dollars", permission="read", answer=answers.CloudCosts, refusals=("422",)
    ),
    ("/api/budgets", "get"): Operation(
        summary="Budgets and how they stand, by name", permission="read", answer=answers.Budgets, refusals=("404", "422")
    ),
    ("/api/budgets", "post"): Operation(
        summary="Make a budget of any scope and period",
        permission="budget",
        body=NewBudget,
        answer=answers.BudgetAnswer,
        status="201",
        refusals=("409",),
        example={"scope": {"team": "search"}, "period": "day", **_BUDGET},
    ),
    ("/api/budgets/{name}", "get"): Operation(
        summary="One budget and how it stands", permission="read", answer=answers.BudgetAnswer, refusals=("404",)
    ),
    ("/api/budgets/{name}", "put"): Operation(
        summary="Make a budget as given, new or changed",
        permission="budget",
        body=BudgetLimits,
        answer=answers.BudgetAnswer,
        refusals=("404", "409"),
        example=_BUDGET,
    ),
    ("/api/budgets/{name}", "patch"): Operation(
        summary="Change some of a budget",
        permission="budget",
        body=BudgetChange,
        answer=answers.BudgetAnswer,
        refusals=("404", "409"),
        example={"limit_usd": 300},
    ),
    ("/api/budgets/{name}", "delete"): Operation(
        summary="Remove a budget; what has been spent stays recorded", permission="budget", status="204", refusals=("404", "409")
    ),
    ("/api/budgets/{name}/status", "get"): Operation(
        summary="One budget, and what its current period has crossed",
        permission="read",
        answer=answers.BudgetStatusAnswer,
        refusals=("404",),
    ),
    ("/api/budgets/{name}/reset", "post"): Operation(
        summary="Begin the current period of a budget anew at nothing spent",
        permission="operate",
        body=ReasonRequest,
        answer=answers.BudgetAnswer,
        refusals=("404",),
        example={"reason": "billed twice by the provider"},
    ),
    ("/api/alerts", "get"): Operation(
        summary="Thresholds crossed, guardrails breached and incidents, the newest first",
        permission="read",
        answer=answers.Alerts,
        refusals=("404", "422"),
    ),
    ("/api/alerts/webhook", "post"): Operation(
        summary="Alertmanager's webhook, version 4",
        permission="alert",
        body=dict[str, Any],
        answer=answers.WebhookOutcomes,
        example={"version": "4", "groupKey": "g", "alerts": []},
    ),
    ("/api/audit", "get"): Operation(
        summary="Who changed what, the newest first", permission="administer", answer=answers.Audit, refusals=("404", "422")
    ),
    ("/api/remediation/runs", "get"): Operation(
        summary="The newest runs of playbooks", permission="inspect", answer=answers.Runs, refusals=("422",)
    ),
    ("/api/remediation/runs/{run_id}", "get"): Operation(
        summary="A run with its journal", permission="inspect", answer=answers.RunWithJournal, refusals=("404",)
    ),
    ("/api/remediation/runs/{run_id}/approve", "post"): Operation(
        summary="Let a planned run act", permission="oversee", answer=answers.Approval, refusals=("404", "409")
    ),
    ("/api/notifications", "get"): Operation(
        summary="What receivers were told, and what they are still to be told, the newest first",
        permission="inspect",
        answer=NotificationPage,
        refusals=("404", "422"),
    ),
    ("/api/notifications/{receiver}", "post"): Operation(
        summary="Alertmanager's webhook, version 4, for one receiver of the notifier: kept now, delivered afterwards",
        permission="alert",
        body=dict[str, Any],
        answer=AcceptedAnswer,
        status="202",
        refusals=("404",),
        example={
            "version": "4",
            "groupKey": "g",
            "alerts": [
                {
                    "status": "firing",
                    "labels": {"alertname": "CloudCostSpike", "severity": "warning"},
                    "annotations": {"summary": "aws costs twice as much as a week ago"},
                    "startsAt": "2025-11-15T11:59:00Z",
                    "fingerprint": "0123456789abcdef",
                }
            ],
        },
    ),
    ("/api/notifications/{notification_id}/attempts", "get"): Operation(
        summary="A notification with each attempt at it", permission="inspect", answer=NotificationWithAttempts, refusals=("404",)
    ),
    ("/api/notifications/{notification_id}/retry", "post"): Operation(
        summary="Try a notification again that was given up", permission="oversee", answer=RetryAnswer, refusals=("404", "409")
    ),
    ("/api/health", "get"): Operation(summary="How each part is", permission="inspect", answer=HealthReport),
    ("/healthz", "get"): Operation(summary="The process answers", answer=Health),
    ("/readyz", "get"): Operation(summary="The ledger writes and the metrics page is there", answer=Health, refusals=("503",)),
    ("/metrics", "get"): Operation(summary="Prometheus metrics", permission="inspect"),
    ("/-/reload", "post"): Operation(
        summary="Read the configuration again", permission="administer", answer=answers.Reloaded, refusals=("422",)
    ),
}
"""(path, method) -> the operation."""
