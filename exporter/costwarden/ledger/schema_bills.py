"""The tables of bills: charges, what sources say of themselves, and what providers state beside their bills."""

from typing import Any

from sqlalchemy import Column, Float, Index, Table

from costwarden.ledger.columns import METADATA, integer, number, text
from costwarden.model import QUANTITIES

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
REPORTED_KEY = ("source", "part", "usage_date", "provider", "account_id", "model", "operation", "service_tier")
COST_BASES = ("billed_cost", "effective_cost", "list_cost", "contracted_cost")


def _charge_values() -> list[Column[Any]]:
    usd = [text(f"{name}_usd") for name in COST_BASES]
    return [*(text(name) for name in COST_BASES), text("usd_rate"), *usd, integer("row_count")]


charges = Table("charges", METADATA, *(text(name, key=True) for name in CHARGE_KEY), *_charge_values(), sqlite_with_rowid=False)

# Filled a few rows a transaction while a bill is read, so that no budget check waits for a bill; moved into `charges` in one.
staged_charges = Table(
    "staged_charges",
    METADATA,
    number("staged_charge_id"),
    *(text(name) for name in CHARGE_KEY),
    *_charge_values(),
)

source_parts = Table(
    "source_parts",
    METADATA,
    text("source", key=True),
    text("part", key=True),
    text("fingerprint"),
    text("figures"),
    text("state"),
    text("message"),
    integer("rows"),
    integer("rejected"),
    integer("rounded"),
    integer("read_at"),
    text("first_day"),
    text("last_day"),
    sqlite_with_rowid=False,
)

# All of them; `rejected_rows` keeps the text of the first ones.
rejected_counts = Table(
    "rejected_counts",
    METADATA,
    text("source", key=True),
    text("part", key=True),
    text("reason", key=True),
    integer("rows"),
    sqlite_with_rowid=False,
)

rejected_rows = Table(
    "rejected_rows",
    METADATA,
    number("rejected_row_id"),
    text("source"),
    text("part"),
    integer("line"),
    text("reason"),
    text("detail"),
    text("content"),
    Index("rejected_rows_part", "source", "part"),
)

source_state = Table(
    "source_state",
    METADATA,
    text("source", key=True),
    integer("up"),
    integer("last_attempt_at"),
    integer("last_success_at"),
    Column("duration_seconds", Float, nullable=False, server_default="0"),
    integer("data_newest_at"),
    integer("rows"),
    integer("refreshes_ok"),
    integer("refreshes_failed"),
    integer("requests"),
    integer("request_cost"),
    text("message"),
    # Who reads the source now, and until when at most: two at once would stage each other's rows.
    text("reader"),
    integer("reader_until"),
    sqlite_with_rowid=False,
)

# What a day's requests have cost: paid before they are made, so that a crash cannot forget them.
source_requests = Table(
    "source_requests",
    METADATA,
    text("source", key=True),
    text("day", key=True),
    integer("requests"),
    integer("cost"),
    sqlite_with_rowid=False,
)

# Answers that were paid for, so that a restart does not pay again.
source_answers = Table(
    "source_answers",
    METADATA,
    text("source", key=True),
    text("request", key=True),
    integer("answered_at"),
    text("body"),
    sqlite_with_rowid=False,
)

provider_usage = Table(
    "provider_usage",
    METADATA,
    *(text(name, key=True) for name in REPORTED_KEY),
    *(integer(name) for name in QUANTITIES),
    sqlite_with_rowid=False,
)

provider_figures = Table(
    "provider_figures",
    METADATA,
    text("source", key=True),
    text("part", key=True),
    text("metric", key=True),
    # A JSON array of the values, in the order of the family's labels.
    text("labels", key=True),
    text("value"),
    sqlite_with_rowid=False,
)

provider_budgets = Table(
    "provider_budgets",
    METADATA,
    *(text(name, key=True) for name in ("source", "part", "provider_name", "account_id", "budget", "period")),
    # Exact decimals; empty where it is not known.
    text("limit_usd"),
    text("spent_usd"),
    text("forecast_usd"),
    sqlite_with_rowid=False,
)

# How far what is sent elsewhere has been sent.
sink_state = Table(
    "sink_state",
    METADATA,
    text("sink", key=True),
    text("cursor"),
    integer("sent_at"),
    integer("sent"),
    integer("failed"),
    integer("requests"),
    integer("request_cost"),
    text("message"),
    sqlite_with_rowid=False,
)
