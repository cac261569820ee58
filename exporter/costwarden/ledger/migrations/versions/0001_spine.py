"""The tables of the spine."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# PostgreSQL sorts text by its bytes, as SQLite does, whatever the collation of the database.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("entry_id", NUMBER, sa.Identity(), nullable=False),
        sa.Column("at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("actor", TEXT, server_default="", nullable=False),
        sa.Column("action", TEXT, server_default="", nullable=False),
        sa.Column("subject", TEXT, server_default="", nullable=False),
        sa.Column("before", TEXT, server_default="", nullable=False),
        sa.Column("after", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    op.create_table(
        "budget_periods",
        sa.Column("budget", TEXT, nullable=False),
        sa.Column("period_start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("spent", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("budget", "period_start"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "budgets",
        sa.Column("budget", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, server_default="", nullable=False),
        sa.Column("provider", TEXT, server_default="", nullable=False),
        sa.Column("model", TEXT, server_default="", nullable=False),
        sa.Column("operation", TEXT, server_default="", nullable=False),
        sa.Column("report_type", TEXT, server_default="", nullable=False),
        sa.Column("feature", TEXT, server_default="", nullable=False),
        sa.Column("team", TEXT, server_default="", nullable=False),
        sa.Column("user_id", TEXT, server_default="", nullable=False),
        sa.Column("service", TEXT, server_default="", nullable=False),
        sa.Column("period", TEXT, server_default="", nullable=False),
        sa.Column("limit_nanos", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("soft_limit_ratio", TEXT, server_default="", nullable=False),
        sa.Column("thresholds", TEXT, server_default="", nullable=False),
        sa.Column("action", TEXT, server_default="", nullable=False),
        sa.Column("origin", TEXT, server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("updated_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("budget"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "charges",
        sa.Column("source", TEXT, nullable=False),
        sa.Column("part", TEXT, nullable=False),
        sa.Column("charge_date", TEXT, nullable=False),
        sa.Column("provider_name", TEXT, nullable=False),
        sa.Column("billing_account_id", TEXT, nullable=False),
        sa.Column("sub_account_id", TEXT, nullable=False),
        sa.Column("service_name", TEXT, nullable=False),
        sa.Column("service_category", TEXT, nullable=False),
        sa.Column("region_id", TEXT, nullable=False),
        sa.Column("charge_category", TEXT, nullable=False),
        sa.Column("billing_currency", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("feature", TEXT, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("environment", TEXT, nullable=False),
        sa.Column("billed_cost", TEXT, server_default="", nullable=False),
        sa.Column("effective_cost", TEXT, server_default="", nullable=False),
        sa.Column("list_cost", TEXT, server_default="", nullable=False),
        sa.Column("contracted_cost", TEXT, server_default="", nullable=False),
        sa.Column("usd_rate", TEXT, server_default="", nullable=False),
        sa.Column("billed_cost_usd", TEXT, server_default="", nullable=False),
        sa.Column("effective_cost_usd", TEXT, server_default="", nullable=False),
        sa.Column("list_cost_usd", TEXT, server_default="", nullable=False),
        sa.Column("contracted_cost_usd", TEXT, server_default="", nullable=False),
        sa.Column("row_count", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint(
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
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "journal",
        sa.Column("entry_id", NUMBER, sa.Identity(), nullable=False),
        sa.Column("run_id", TEXT, server_default="", nullable=False),
        sa.Column("at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("step", TEXT, server_default="", nullable=False),
        sa.Column("detail", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    op.create_index("journal_run", "journal", ["run_id"], unique=False)
    op.create_table(
        "rejected_counts",
        sa.Column("source", TEXT, nullable=False),
        sa.Column("part", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("source", "part", "reason"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rejected_rows",
        sa.Column("rejected_row_id", NUMBER, sa.Identity(), nullable=False),
        sa.Column("source", TEXT, server_default="", nullable=False),
        sa.Column("part", TEXT, server_default="", nullable=False),
        sa.Column("line", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("reason", TEXT, server_default="", nullable=False),
        sa.Column("detail", TEXT, server_default="", nullable=False),
        sa.Column("content", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("rejected_row_id"),
    )
    op.create_index("rejected_rows_part", "rejected_rows", ["source", "part"], unique=False)
    op.create_table(
        "remediation_queue",
        sa.Column("queue_id", NUMBER, sa.Identity(), nullable=False),
        sa.Column("fingerprint", TEXT, server_default="", nullable=False),
        sa.Column("starts_at", TEXT, server_default="", nullable=False),
        sa.Column("action", TEXT, server_default="", nullable=False),
        sa.Column("status", TEXT, server_default="", nullable=False),
        sa.Column("labels", TEXT, server_default="", nullable=False),
        sa.Column("annotations", TEXT, server_default="", nullable=False),
        sa.Column("group_key", TEXT, server_default="", nullable=False),
        sa.Column("received_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("last_received_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("resolved_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("deliveries", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("state", TEXT, server_default="", nullable=False),
        sa.Column("run_id", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("queue_id"),
        sa.UniqueConstraint("fingerprint", "starts_at", "action", name="remediation_queue_incident"),
    )
    op.create_index("remediation_queue_state", "remediation_queue", ["state"], unique=False)
    op.create_table(
        "remediation_runs",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("queue_id", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("playbook", TEXT, server_default="", nullable=False),
        sa.Column("mode", TEXT, server_default="", nullable=False),
        sa.Column("started_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("planned_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("acted_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("finished_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("outcome", TEXT, server_default="", nullable=False),
        sa.Column("reason", TEXT, server_default="", nullable=False),
        sa.Column("targets_count", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("approved_by", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("remediation_runs_acted", "remediation_runs", ["playbook", "acted_at"], unique=False)
    op.create_table(
        "reservations",
        sa.Column("reservation_id", TEXT, nullable=False),
        sa.Column("event_id", TEXT, server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("state", TEXT, server_default="", nullable=False),
        sa.Column("estimate", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("tenant_id", TEXT, server_default="", nullable=False),
        sa.Column("provider", TEXT, server_default="", nullable=False),
        sa.Column("model", TEXT, server_default="", nullable=False),
        sa.Column("operation", TEXT, server_default="", nullable=False),
        sa.Column("report_type", TEXT, server_default="", nullable=False),
        sa.Column("feature", TEXT, server_default="", nullable=False),
        sa.Column("team", TEXT, server_default="", nullable=False),
        sa.Column("user_id", TEXT, server_default="", nullable=False),
        sa.Column("service", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("reservation_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "source_parts",
        sa.Column("source", TEXT, nullable=False),
        sa.Column("part", TEXT, nullable=False),
        sa.Column("fingerprint", TEXT, server_default="", nullable=False),
        sa.Column("figures", TEXT, server_default="", nullable=False),
        sa.Column("state", TEXT, server_default="", nullable=False),
        sa.Column("message", TEXT, server_default="", nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("rejected", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("rounded", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("read_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("first_day", TEXT, server_default="", nullable=False),
        sa.Column("last_day", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("source", "part"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "source_state",
        sa.Column("source", TEXT, nullable=False),
        sa.Column("up", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("last_attempt_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("last_success_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("duration_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("data_newest_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("refreshes_ok", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("refreshes_failed", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("request_cost", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("message", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("source"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "staged_charges",
        sa.Column("staged_charge_id", NUMBER, sa.Identity(), nullable=False),
        sa.Column("source", TEXT, server_default="", nullable=False),
        sa.Column("part", TEXT, server_default="", nullable=False),
        sa.Column("charge_date", TEXT, server_default="", nullable=False),
        sa.Column("provider_name", TEXT, server_default="", nullable=False),
        sa.Column("billing_account_id", TEXT, server_default="", nullable=False),
        sa.Column("sub_account_id", TEXT, server_default="", nullable=False),
        sa.Column("service_name", TEXT, server_default="", nullable=False),
        sa.Column("service_category", TEXT, server_default="", nullable=False),
        sa.Column("region_id", TEXT, server_default="", nullable=False),
        sa.Column("charge_category", TEXT, server_default="", nullable=False),
        sa.Column("billing_currency", TEXT, server_default="", nullable=False),
        sa.Column("team", TEXT, server_default="", nullable=False),
        sa.Column("feature", TEXT, server_default="", nullable=False),
        sa.Column("tenant_id", TEXT, server_default="", nullable=False),
        sa.Column("environment", TEXT, server_default="", nullable=False),
        sa.Column("billed_cost", TEXT, server_default="", nullable=False),
        sa.Column("effective_cost", TEXT, server_default="", nullable=False),
        sa.Column("list_cost", TEXT, server_default="", nullable=False),
        sa.Column("contracted_cost", TEXT, server_default="", nullable=False),
        sa.Column("usd_rate", TEXT, server_default="", nullable=False),
        sa.Column("billed_cost_usd", TEXT, server_default="", nullable=False),
        sa.Column("effective_cost_usd", TEXT, server_default="", nullable=False),
        sa.Column("list_cost_usd", TEXT, server_default="", nullable=False),
        sa.Column("contracted_cost_usd", TEXT, server_default="", nullable=False),
        sa.Column("row_count", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("staged_charge_id"),
    )
    op.create_table(
        "suspended_tenants",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("reason", TEXT, server_default="", nullable=False),
        sa.Column("actor", TEXT, server_default="", nullable=False),
        sa.Column("run_id", TEXT, server_default="", nullable=False),
        sa.Column("suspended_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "thresholds_crossed",
        sa.Column("budget", TEXT, nullable=False),
        sa.Column("period_start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("threshold", TEXT, nullable=False),
        sa.Column("crossed_at", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("spent", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("limit_nanos", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("budget", "period_start", "threshold"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage",
        sa.Column("usage_id", NUMBER, sa.Identity(), nullable=False),
        sa.Column("source", TEXT, server_default="", nullable=False),
        sa.Column("event_id", TEXT, server_default="", nullable=False),
        sa.Column("timestamp", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("tenant_id", TEXT, server_default="", nullable=False),
        sa.Column("provider", TEXT, server_default="", nullable=False),
        sa.Column("model", TEXT, server_default="", nullable=False),
        sa.Column("operation", TEXT, server_default="", nullable=False),
        sa.Column("report_type", TEXT, server_default="", nullable=False),
        sa.Column("feature", TEXT, server_default="", nullable=False),
        sa.Column("team", TEXT, server_default="", nullable=False),
        sa.Column("user_id", TEXT, server_default="", nullable=False),
        sa.Column("service", TEXT, server_default="", nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("input_audio_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("output_audio_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("images", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("success", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cost", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("priced_by", TEXT, server_default="", nullable=False),
        sa.Column("reservation_id", TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("usage_id"),
        sa.UniqueConstraint("source", "event_id", name="usage_identity"),
    )
    op.create_index("usage_timestamp", "usage", ["timestamp"], unique=False)
    op.create_table(
        "usage_hourly",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("report_type", TEXT, nullable=False),
        sa.Column("feature", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("service", TEXT, nullable=False),
        sa.Column("success", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("priced", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("input_audio_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("output_audio_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("images", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cost", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint(
            "hour",
            "tenant_id",
            "provider",
            "model",
            "operation",
            "report_type",
            "feature",
            "team",
            "user_id",
            "service",
            "success",
            "priced",
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_totals",
        sa.Column("tenant_id", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("operation", TEXT, nullable=False),
        sa.Column("report_type", TEXT, nullable=False),
        sa.Column("feature", TEXT, nullable=False),
        sa.Column("team", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("service", TEXT, nullable=False),
        sa.Column("success", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("priced", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("input_audio_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("output_audio_tokens", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("images", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.Column("cost", sa.BigInteger(), server_default="0", autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "provider", "model", "operation", "report_type", "feature", "team", "user_id", "service", "success", "priced"
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("usage_totals")
    op.drop_table("usage_hourly")
    op.drop_index("usage_timestamp", table_name="usage")
    op.drop_table("usage")
    op.drop_table("thresholds_crossed")
    op.drop_table("suspended_tenants")
    op.drop_table("staged_charges")
    op.drop_table("source_state")
    op.drop_table("source_parts")
    op.drop_table("reservations")
    op.drop_index("remediation_runs_acted", table_name="remediation_runs")
    op.drop_table("remediation_runs")
    op.drop_index("remediation_queue_state", table_name="remediation_queue")
    op.drop_table("remediation_queue")
    op.drop_index("rejected_rows_part", table_name="rejected_rows")
    op.drop_table("rejected_rows")
    op.drop_table("rejected_counts")
    op.drop_index("journal_run", table_name="journal")
    op.drop_table("journal")
    op.drop_table("charges")
    op.drop_table("budgets")
    op.drop_table("budget_periods")
    op.drop_table("audit")
