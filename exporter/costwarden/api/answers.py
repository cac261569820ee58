"""What answers look like, for the description of the API; a test holds every answer against it."""

from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Usd = Annotated[Decimal, Meta(description="Dollars, exact")]
Time = Annotated[str, Meta(description="RFC 3339 in UTC", extra_json_schema={"format": "date-time"})]
Cursor = Annotated[str, Meta(description="Give it as `cursor` for the next page; null: this is the last")]


class Admission(msgspec.Struct, kw_only=True):
    """The call may be made: its estimate is set aside."""

    allowed: bool
    reservation_id: str
    estimated_cost_usd: Usd
    remaining_usd: Usd | None
    """What the tightest budget has left."""
    warning: bool
    """A matching budget has committed its soft limit."""
    expires_at: Time


class LeasePrices(msgspec.Struct, kw_only=True):
    """What the holder of a lease takes a call for."""

    input_usd_mtok: str
    output_usd_mtok: str | None
    usd_per_call: str
    usd_per_image: str | None


class Lease(msgspec.Struct, kw_only=True):
    """A slice of budget."""

    allowed: bool
    reservation_id: str
    granted_usd: Usd
    remaining_usd: Usd | None
    warning: bool
    expires_at: Time
    prices: LeasePrices | None
    assumed_input_tokens: int
    """What a call is taken for that does not say how large it is."""
    assumed_output_tokens: int


class Release(msgspec.Struct, kw_only=True):
    """What came back."""

    reservation_id: str
    released_usd: Usd
    found: bool


class Track(msgspec.Struct, kw_only=True):
    """What was recorded."""

    event_id: str
    cost_usd: Usd
    repeated: bool
    """The event was recorded before, at this cost."""
    reservation_id: str | None
    """The reservation that this settled."""


class BudgetAnswer(msgspec.Struct, kw_only=True):
    """A budget and how it stands. The limit is `monthly_limit_usd` where the period is a month, else `limit_usd`."""

    budget: str
    model: str | None
    scope: dict[str, str]
    period: Literal["hour", "day", "week", "month", "total"]
    limit_usd: Usd | msgspec.UnsetType = msgspec.UNSET
    monthly_limit_usd: Usd | msgspec.UnsetType = msgspec.UNSET
    tier: str | None
    """The tier that the limit follows."""
    soft_limit_ratio: Decimal
    current_usage_usd: Usd
    reserved_usd: Usd
    unsettled_usd: Usd
    percentage_used: Decimal
    token_count_input: int
    token_count_output: int
    requests: int
    reset_date: Time | None
    status: Literal["ok", "warning", "exceeded"]
    soft_limit_notified: bool
    hard_limit_reached: bool


class CrossedThreshold(msgspec.Struct, kw_only=True):
    """A share of the limit that spend has reached."""

    threshold: Decimal
    crossed_at: Time


class BudgetStatusAnswer(BudgetAnswer, kw_only=True):
    """A budget, and what its current period has crossed."""

    period_start: Time
    thresholds: list[Decimal]
    thresholds_crossed: list[CrossedThreshold]


class BudgetSet(msgspec.Struct, kw_only=True):
    """The budget as it is now."""

    tenant_id: str
    budget: str
    model: str | None
    scope: dict[str, str]
    period: str
    monthly_limit_usd: Usd
    tier: str | None
    soft_limit_ratio: Decimal


class Budgets(msgspec.Struct, kw_only=True):
    """A page of budgets, by name."""

    budgets: list[BudgetAnswer]
    next_cursor: Cursor | None


class Tenant(msgspec.Struct, kw_only=True):
    """A tenant's budgets."""

    tenant_id: str
    budgets: list[BudgetAnswer]
    total_usage_usd: Usd
    total_limit_usd: Usd
    suspended: str | None
    """Why, where it is."""
    suspended_by_run_id: str | None


class Suspension(msgspec.Struct, kw_only=True):
    """Whether the tenant is suspended now, and whether that is new."""

    tenant_id: str
    suspended: bool
    changed: bool


class Reservation(msgspec.Struct, kw_only=True):
    """What is set aside. Dimensions that it does not name are left out."""

    reservation_id: str
    event_id: str | None
    kind: Literal["call", "lease"]
    state: Literal["open", "unsettled"]
    created_at: Time
    expires_at: Time
    reserved_usd: Usd
    settled_usd: Usd
    tenant_id: str


class Reservations(msgspec.Struct, kw_only=True):
    """A page of reservations, by id."""

    reservations: list[Reservation]
    next_cursor: Cursor | None


class Resolution(msgspec.Struct, kw_only=True):
    """What the reservation ended as."""

    reservation_id: str
    event_id: str
    cost_usd: Usd


class Stop(msgspec.Struct, kw_only=True):
    """Whether all AI calls are stopped now, and whether that is new."""

    stopped: bool
    changed: bool


class RecordedEvent(msgspec.Struct, kw_only=True):
    """An event as it is recorded."""

    event_id: str
    cost_usd: Usd
    repeated: bool


class Recorded(msgspec.Struct, kw_only=True):
    """What was new."""

    recorded: int
    repeated: int
    events: list[RecordedEvent]


class UsageAnswer(msgspec.Struct, kw_only=True):
    """An event. Dimensions that it does not name are left out."""

    source: str
    event_id: str
    timestamp: Time | None
    tenant_id: str | msgspec.UnsetType = msgspec.UNSET
    provider: str | msgspec.UnsetType = msgspec.UNSET
    model: str | msgspec.UnsetType = msgspec.UNSET
    operation: str | msgspec.UnsetType = msgspec.UNSET
    report_type: str | msgspec.UnsetType = msgspec.UNSET
    feature: str | msgspec.UnsetType = msgspec.UNSET
    team: str | msgspec.UnsetType = msgspec.UNSET
    user_id: str | msgspec.UnsetType = msgspec.UNSET
    service: str | msgspec.UnsetType = msgspec.UNSET
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    input_audio_tokens: int
    output_audio_tokens: int
    images: int
    audio_seconds: float
    requests: int
    service_tier: str | None
    success: bool
    cost_usd: Usd
    priced_by: str
    reservation_id: str | None


class UsagePage(msgspec.Struct, kw_only=True):
    """A page of events, the newest first."""

    usage: list[UsageAnswer]
    next_cursor: Cursor | None


class Costs(msgspec.Struct, kw_only=True):
    """What usage has cost. A row has `period`, the dimensions that were asked for, `cost_usd` and quantities."""

    since: Time | None
    until: Time | None
    group_by: list[str]
    total_usd: Usd
    rows: list[dict[str, Any]]
    rows_omitted: int
    omitted_usd: Usd


class CostsSummary(msgspec.Struct, kw_only=True):
    """The total, that of as long a time before, and the five dearest of each dimension."""

    since: Time | None
    until: Time | None
    total_usd: Usd
    previous_usd: Usd
    requests: int
    input_tokens: int
    output_tokens: int
    top: dict[str, list[dict[str, Any]]]


class CloudCosts(msgspec.Struct, kw_only=True):
    """What bills say, in dollars."""

    first_day: str
    last_day: str
    basis: str
    total_usd: Usd
    rows: list[dict[str, Any]]


class Alert(msgspec.Struct, kw_only=True):
    """Something that happened. What else it has depends on its kind."""

    kind: Literal["threshold", "guardrail", "incident"]
    at: Time | None


class Alerts(msgspec.Struct, kw_only=True):
    """A page of what happened, the newest first."""

    alerts: list[Alert]
    next_cursor: Cursor | None


class AuditEntry(msgspec.Struct, kw_only=True):
    """A change."""

    entry_id: int
    at: Time | None
    actor: str
    action: str
    subject: str
    before: Any
    after: Any


class Audit(msgspec.Struct, kw_only=True):
    """A page of changes, the newest first."""

    entries: list[AuditEntry]
    next_cursor: Cursor | None


class WebhookOutcomes(msgspec.Struct, kw_only=True):
    """How many alerts became what."""

    queued: int
    repeated: int
    resolved: int
    ignored: int
    refused: int


class RunAnswer(msgspec.Struct, kw_only=True):
    """A run of a playbook."""

    run_id: str
    playbook: str
    mode: str
    outcome: str | None
    reason: str | None
    targets_count: int
    started_at: Time | None
    acted_at: Time | None
    finished_at: Time | None
    approved_by: str | None


class Runs(msgspec.Struct, kw_only=True):
    """The newest runs."""

    runs: list[RunAnswer]


class JournalLine(msgspec.Struct, kw_only=True):
    """A step of a run."""

    at: Time | None
    step: str
    detail: str


class RunWithJournal(RunAnswer, kw_only=True):
    """A run, step by step."""

    journal: list[JournalLine]


class Approval(msgspec.Struct, kw_only=True):
    """Who let the run act."""

    run_id: str
    approved_by: str


class Reloaded(msgspec.Struct, kw_only=True):
    """The configuration is in force."""

    reloaded: bool
