"""What sources ask and pay for, what providers say of themselves, and what is sent elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

QUANTITIES = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "images",
    "audio_milliseconds",
    "requests",
)


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, TEXT, server_default="", nullable=False)


def _integer(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), server_default="0", autoincrement=False, nullable=False)


def _table(name: str, key: tuple[str, ...], *columns: "sa.Column[str] | sa.Column[int]") -> None:
    keys = [sa.Column(column, TEXT, nullable=False) for column in key]
    op.create_table(name, *keys, *columns, sa.PrimaryKeyConstraint(*key), sqlite_with_rowid=False)


def upgrade() -> None:
    op.add_column("source_state", _text("reader"))
    op.add_column("source_state", _integer("reader_until"))
    _table("source_requests", ("source", "day"), _integer("requests"), _integer("cost"))
    _table("source_answers", ("source", "request"), _integer("answered_at"), _text("body"))
    reported = ("source", "part", "usage_date", "provider", "account_id", "model", "operation", "service_tier")
    _table("provider_usage", reported, *map(_integer, QUANTITIES))
    _table("provider_figures", ("source", "part", "metric", "labels"), _text("value"))
    budget = ("source", "part", "provider_name", "account_id", "budget", "period")
    _table("provider_budgets", budget, _text("limit_usd"), _text("spent_usd"), _text("forecast_usd"))
    sent = (_integer("sent_at"), _integer("sent"), _integer("failed"), _integer("requests"), _integer("request_cost"))
    _table("sink_state", ("sink",), _text("cursor"), *sent, _text("message"))


def downgrade() -> None:
    for table in ("sink_state", "provider_budgets", "provider_figures", "provider_usage", "source_answers", "source_requests"):
        op.drop_table(table)
    op.drop_column("source_state", "reader_until")
    op.drop_column("source_state", "reader")
