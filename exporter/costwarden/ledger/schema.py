"""The tables of the ledger.

Money of metering is INTEGER nano-dollars; money of bills is exact decimal TEXT, summed by `decimal_sum`. Times are INTEGER
microseconds since 1970 UTC, days are ISO text. `migrations/` makes these tables; a test compares the two. Text is sorted by its bytes on
both databases, whatever the collation of a PostgreSQL database is.
"""

from sqlalchemy import BigInteger, Column, Index, Table, Text, UniqueConstraint

from costwarden.ledger.columns import METADATA, NUMBER, integer, number, text
from costwarden.ledger.schema_bills import (
    CHARGE_KEY,
    COST_BASES,
    REPORTED_KEY,
    charges,
    provider_budgets,
    provider_figures,
    provider_usage,
    rejected_counts,
    rejected_rows,
    sink_state,
    source_answers,
    source_parts,
    source_requests,
    source_state,
    staged_charges,
)
from costwarden.ledger.schema_notifications import notification_attempts, notification_totals, notifications
from costwarden.model import DIMENSIONS, TOKEN_CLASSES

__all__ = [
    "CHARGE_KEY",
    "COST_BASES",
    "METADATA",
    "NUMBER",
    "REPORTED_KEY",
    "audit",
    "book_changes",
    "budget_periods",
    "budgets",
    "charges",
    "guardrail_breaches",
    "journal",
    "notification_attempts",
    "notification_totals",
    "notifications",
    "provider_budgets",
    "provider_figures",
    "provider_usage",
    "rejected_counts",
    "rejected_rows",
    "remediation_queue",
    "remediation_runs",
    "reservations",
    "sink_state",
    "source_answers",
    "source_parts",
    "source_requests",
    "source_state",
    "staged_charges",
    "suspended_tenants",
    "thresholds_crossed",
    "usage",
    "usage_hourly",
    "usage_totals",
]

# --- metering and budgets ------------------------------------------------------------------------------------------------------

usage = Table(
    "usage",
    METADATA,
    number("usage_id"),
    text("source"),
    text("event_id"),
    integer("timestamp"),
    *(text(name) for name in DIMENSIONS),
    *(integer(name) for name in TOKEN_CLASSES),
    integer("images"),
    integer("success"),
    integer("cost"),
    text("priced_by"),
    text("reservation_id"),
    integer("audio_milliseconds"),
    Column("requests", BigInteger, nullable=False, server_default="1"),
    text("service_tier"),
    UniqueConstraint("source", "event_id", name="usage_identity"),
    Index("usage_timestamp", "timestamp"),
)

# Written in the transaction of the usage rows, so that neither start-up nor a status query ever sums history.
usage_hourly = Table(
    "usage_hourly",
    METADATA,
    integer("hour", key=True),
    *(text(name, key=True) for name in DIMENSIONS),
    integer("success", key=True),
    integer("priced", key=True),
    *(integer(name) for name in TOKEN_CLASSES),
    integer("images"),
    integer("requests"),
    integer("cost"),
    integer("audio_milliseconds"),
    sqlite_with_rowid=False,
)

# The same since the ledger began: what the cumulative series read.
usage_totals = Table(
    "usage_totals",
    METADATA,
    *(text(name, key=True) for name in DIMENSIONS),
    integer("success", key=True),
    integer("priced", key=True),
    *(integer(name) for name in TOKEN_CLASSES),
    integer("images"),
    integer("requests"),
    integer("cost"),
    integer("audio_milliseconds"),
    sqlite_with_rowid=False,
)

budgets = Table(
    "budgets",
    METADATA,
    text("budget", key=True),
    *(text(name) for name in DIMENSIONS),
    text("period"),
    integer("limit_nanos"),
    text("soft_limit_ratio"),
    text("thresholds"),
    text("action"),
    text("origin"),
    integer("created_at"),
    integer("updated_at"),
    text("tier"),
    sqlite_with_rowid=False,
)

budget_periods = Table(
    "budget_periods",
    METADATA,
    text("budget", key=True),
    integer("period_start", key=True),
    integer("spent"),
    integer("input_tokens"),
    integer("output_tokens"),
    integer("requests"),
    integer("reserved"),
    integer("unsettled"),
    integer("period_end"),
    integer("reset_at"),
    sqlite_with_rowid=False,
)

thresholds_crossed = Table(
    "thresholds_crossed",
    METADATA,
    text("budget", key=True),
    integer("period_start", key=True),
    text("threshold", key=True),
    integer("crossed_at"),
    integer("spent"),
    integer("limit_nanos"),
    sqlite_with_rowid=False,
)

# Open and unsettled reservations only: a settled one becomes its usage row. `estimate` is what is still set aside; of a lease it falls as
# its calls are settled, and `settled` rises.
reservations = Table(
    "reservations",
    METADATA,
    text("reservation_id", key=True),
    text("event_id"),
    integer("created_at"),
    integer("expires_at"),
    text("state"),
    integer("estimate"),
    *(text(name) for name in DIMENSIONS),
    Column("kind", Text, nullable=False, server_default="call"),
    integer("settled"),
    sqlite_with_rowid=False,
)

# What an engine must read anew, because another process has changed it: the name of a budget, the id of a reservation, or a tenant.
book_changes = Table(
    "book_changes",
    METADATA,
    number("change_id"),
    text("kind"),
    text("name"),
)

# The empty tenant id stands for everybody: an emergency stop.
suspended_tenants = Table(
    "suspended_tenants",
    METADATA,
    text("tenant_id", key=True),
    text("reason"),
    text("actor"),
    text("run_id"),
    integer("suspended_at"),
    sqlite_with_rowid=False,
)

guardrail_breaches = Table(
    "guardrail_breaches",
    METADATA,
    text("guardrail", key=True),
    integer("breached_at", key=True),
    integer("spent"),
    integer("threshold_nanos"),
    text("severity"),
    text("actions"),
    sqlite_with_rowid=False,
)

# --- remediation ---------------------------------------------------------------------------------------------------------------

remediation_queue = Table(
    "remediation_queue",
    METADATA,
    number("queue_id"),
    text("fingerprint"),
    text("starts_at"),
    text("action"),
    text("status"),
    text("labels"),
    text("annotations"),
    text("group_key"),
    integer("received_at"),
    integer("last_received_at"),
    integer("resolved_at"),
    integer("deliveries"),
    text("state"),
    text("run_id"),
    UniqueConstraint("fingerprint", "starts_at", "action", name="remediation_queue_incident"),
    Index("remediation_queue_state", "state"),
)

remediation_runs = Table(
    "remediation_runs",
    METADATA,
    text("run_id", key=True),
    integer("queue_id"),
    text("playbook"),
    text("mode"),
    integer("started_at"),
    integer("planned_at"),
    integer("acted_at"),
    integer("finished_at"),
    text("outcome"),
    text("reason"),
    integer("targets_count"),
    text("approved_by"),
    Index("remediation_runs_acted", "playbook", "acted_at"),
    sqlite_with_rowid=False,
)

journal = Table(
    "journal",
    METADATA,
    number("entry_id"),
    text("run_id"),
    integer("at"),
    text("step"),
    text("detail"),
    Index("journal_run", "run_id"),
)

audit = Table(
    "audit",
    METADATA,
    number("entry_id"),
    integer("at"),
    text("actor"),
    text("action"),
    text("subject"),
    text("before"),
    text("after"),
)
