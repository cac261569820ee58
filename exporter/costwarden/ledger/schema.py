"""The tables of the ledger.

Money of metering is INTEGER nano-dollars; money of bills is exact decimal TEXT, summed by `decimal_sum`. Times are INTEGER
microseconds since 1970 UTC, days are ISO text. `migrations/` makes these tables; a test compares the two. Text is sorted by its bytes on
both databases, whatever the collation of a PostgreSQL database is.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Float, Identity, Index, Integer, MetaData, Table, Text, UniqueConstraint

from costwarden.model import DIMENSIONS, TOKEN_CLASSES

METADATA = MetaData()

# PostgreSQL's identity columns are 64 bits wide, as SQLite's row ids are.
NUMBER = BigInteger().with_variant(Integer(), "sqlite")


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=False, primary_key=key, server_default=None if key else "")


def _integer(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=False, primary_key=key, autoincrement=False, server_default=None if key else "0")


def _number(name: str) -> Column[int]:
    return Column(name, NUMBER, Identity(), primary_key=True)


# --- bills ---------------------------------------------------------------------------------------------------------------------

CHARGE_KEY = (
    "source",
    "part",
    "charge_date",
    "provider_name",
    "billing_account_id",
    "sub_account_id",
    "service_name",
    "service_category",
    "region_id",
    "charge_category",
    "billing_currency",
    "team",
    "feature",
    "tenant_id",
    "environment",
)
COST_BASES = ("billed_cost", "effective_cost", "list_cost", "contracted_cost")


def _charge_values() -> list[Column[Any]]:
    usd = [_text(f"{name}_usd") for name in COST_BASES]
    return [*(_text(name) for name in COST_BASES), _text("usd_rate"), *usd, _integer("row_count")]


charges = Table("charges", METADATA, *(_text(name, key=True) for name in CHARGE_KEY), *_charge_values(), sqlite_with_rowid=False)

# Filled a few rows a transaction while a bill is read, so that no budget check waits for a bill; moved into `charges` in one.
staged_charges = Table(
    "staged_charges",
    METADATA,
    _number("staged_charge_id"),
    *(_text(name) for name in CHARGE_KEY),
    *_charge_values(),
)

source_parts = Table(
    "source_parts",
    METADATA,
    _text("source", key=True),
    _text("part", key=True),
    _text("fingerprint"),
    _text("figures"),
    _text("state"),
    _text("message"),
    _integer("rows"),
    _integer("rejected"),
    _integer("rounded"),
    _integer("read_at"),
    _text("first_day"),
    _text("last_day"),
    sqlite_with_rowid=False,
)

# All of them; `rejected_rows` keeps the text of the first ones.
rejected_counts = Table(
    "rejected_counts",
    METADATA,
    _text("source", key=True),
    _text("part", key=True),
    _text("reason", key=True),
    _integer("rows"),
    sqlite_with_rowid=False,
)

rejected_rows = Table(
    "rejected_rows",
    METADATA,
    _number("rejected_row_id"),
    _text("source"),
    _text("part"),
    _integer("line"),
    _text("reason"),
    _text("detail"),
    _text("content"),
    Index("rejected_rows_part", "source", "part"),
)

source_state = Table(
    "source_state",
    METADATA,
    _text("source", key=True),
    _integer("up"),
    _integer("last_attempt_at"),
    _integer("last_success_at"),
    Column("duration_seconds", Float, nullable=False, server_default="0"),
    _integer("data_newest_at"),
    _integer("rows"),
    _integer("refreshes_ok"),
    _integer("refreshes_failed"),
    _integer("requests"),
    _integer("request_cost"),
    _text("message"),
    sqlite_with_rowid=False,
)

# --- metering and budgets ------------------------------------------------------------------------------------------------------

usage = Table(
    "usage",
    METADATA,
    _number("usage_id"),
    _text("source"),
    _text("event_id"),
    _integer("timestamp"),
    *(_text(name) for name in DIMENSIONS),
    *(_integer(name) for name in TOKEN_CLASSES),
    _integer("images"),
    _integer("success"),
    _integer("cost"),
    _text("priced_by"),
    _text("reservation_id"),
    _integer("audio_milliseconds"),
    Column("requests", BigInteger, nullable=False, server_default="1"),
    _text("service_tier"),
    UniqueConstraint("source", "event_id", name="usage_identity"),
    Index("usage_timestamp", "timestamp"),
)

# Written in the transaction of the usage rows, so that neither start-up nor a status query ever sums history.
usage_hourly = Table(
    "usage_hourly",
    METADATA,
    _integer("hour", key=True),
    *(_text(name, key=True) for name in DIMENSIONS),
    _integer("success", key=True),
    _integer("priced", key=True),
    *(_integer(name) for name in TOKEN_CLASSES),
    _integer("images"),
    _integer("requests"),
    _integer("cost"),
    _integer("audio_milliseconds"),
    sqlite_with_rowid=False,
)

# The same since the ledger began: what the cumulative series read.
usage_totals = Table(
    "usage_totals",
    METADATA,
    *(_text(name, key=True) for name in DIMENSIONS),
    _integer("success", key=True),
    _integer("priced", key=True),
    *(_integer(name) for name in TOKEN_CLASSES),
    _integer("images"),
    _integer("requests"),
    _integer("cost"),
    _integer("audio_milliseconds"),
    sqlite_with_rowid=False,
)

budgets = Table(
    "budgets",
    METADATA,
    _text("budget", key=True),
    *(_text(name) for name in DIMENSIONS),
    _text("period"),
    _integer("limit_nanos"),
    _text("soft_limit_ratio"),
    _text("thresholds"),
    _text("action"),
    _text("origin"),
    _integer("created_at"),
    _integer("updated_at"),
    _text("tier"),
    sqlite_with_rowid=False,
)

budget_periods = Table(
    "budget_periods",
    METADATA,
    _text("budget", key=True),
    _integer("period_start", key=True),
    _integer("spent"),
    _integer("input_tokens"),
    _integer("output_tokens"),
    _integer("requests"),
    _integer("reserved"),
    _integer("unsettled"),
    _integer("period_end"),
    _integer("reset_at"),
    sqlite_with_rowid=False,
)

thresholds_crossed = Table(
    "thresholds_crossed",
    METADATA,
    _text("budget", key=True),
    _integer("period_start", key=True),
    _text("threshold", key=True),
    _integer("crossed_at"),
    _integer("spent"),
    _integer("limit_nanos"),
    sqlite_with_rowid=False,
)

# Open and unsettled reservations only: a settled one becomes its usage row. `estimate` is what is still set aside; of a lease it falls as
# its calls are settled, and `settled` rises.
reservations = Table(
    "reservations",
    METADATA,
    _text("reservation_id", key=True),
    _text("event_id"),
    _integer("created_at"),
    _integer("expires_at"),
    _text("state"),
    _integer("estimate"),
    *(_text(name) for name in DIMENSIONS),
    Column("kind", Text, nullable=False, server_default="call"),
    _integer("settled"),
    sqlite_with_rowid=False,
)

# What an engine must read anew, because another process has changed it: the name of a budget, the id of a reservation, or a tenant.
book_changes = Table(
    "book_changes",
    METADATA,
    _number("change_id"),
    _text("kind"),
    _text("name"),
)

# The empty tenant id stands for everybody: an emergency stop.
suspended_tenants = Table(
    "suspended_tenants",
    METADATA,
    _text("tenant_id", key=True),
    _text("reason"),
    _text("actor"),
    _text("run_id"),
    _integer("suspended_at"),
    sqlite_with_rowid=False,
)

guardrail_breaches = Table(
    "guardrail_breaches",
    METADATA,
    _text("guardrail", key=True),
    _integer("breached_at", key=True),
    _integer("spent"),
    _integer("threshold_nanos"),
    _text("severity"),
    _text("actions"),
    sqlite_with_rowid=False,
)

# --- remediation ---------------------------------------------------------------------------------------------------------------

remediation_queue = Table(
    "remediation_queue",
    METADATA,
    _number("queue_id"),
    _text("fingerprint"),
    _text("starts_at"),
    _text("action"),
    _text("status"),
    _text("labels"),
    _text("annotations"),
    _text("group_key"),
    _integer("received_at"),
    _integer("last_received_at"),
    _integer("resolved_at"),
    _integer("deliveries"),
    _text("state"),
    _text("run_id"),
    UniqueConstraint("fingerprint", "starts_at", "action", name="remediation_queue_incident"),
    Index("remediation_queue_state", "state"),
)

remediation_runs = Table(
    "remediation_runs",
    METADATA,
    _text("run_id", key=True),
    _integer("queue_id"),
    _text("playbook"),
    _text("mode"),
    _integer("started_at"),
    _integer("planned_at"),
    _integer("acted_at"),
    _integer("finished_at"),
    _text("outcome"),
    _text("reason"),
    _integer("targets_count"),
    _text("approved_by"),
    Index("remediation_runs_acted", "playbook", "acted_at"),
    sqlite_with_rowid=False,
)

journal = Table(
    "journal",
    METADATA,
    _number("entry_id"),
    _text("run_id"),
    _integer("at"),
    _text("step"),
    _text("detail"),
    Index("journal_run", "run_id"),
)

audit = Table(
    "audit",
    METADATA,
    _number("entry_id"),
    _integer("at"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _text("before"),
    _text("after"),
)
