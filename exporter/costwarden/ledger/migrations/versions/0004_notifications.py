"""What is to be told to whom, each attempt at it, and how many ended how."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str) -> "sa.Column[str]":
    return sa.Column(name, TEXT, server_default="", nullable=False)


def _integer(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), server_default="0", autoincrement=False, nullable=False)


def _number(name: str) -> "sa.Column[int]":
    return sa.Column(name, NUMBER, sa.Identity(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "notifications",
        _number("notification_id"),
        _text("receiver"),
        _text("identity"),
        _text("group_key"),
        _text("status"),
        _integer("alerts"),
        _text("subject"),
        _text("content"),
        _integer("received_at"),
        _integer("last_received_at"),
        _integer("receipts"),
        _text("state"),
        _integer("attempts"),
        _integer("failures"),
        _integer("next_attempt_at"),
        _integer("finished_at"),
        _text("message"),
        sa.PrimaryKeyConstraint("notification_id"),
    )
    op.create_index("notifications_identity", "notifications", ["identity", "received_at"])
    op.create_index("notifications_state", "notifications", ["state", "receiver", "notification_id"])
    op.create_table(
        "notification_attempts",
        _number("attempt_id"),
        _integer("notification_id"),
        _integer("attempt"),
        _integer("started_at"),
        _integer("finished_at"),
        _text("outcome"),
        _text("message"),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    op.create_index("notification_attempts_notification", "notification_attempts", ["notification_id"])
    op.create_table(
        "notification_totals",
        sa.Column("receiver", TEXT, nullable=False),
        sa.Column("outcome", TEXT, nullable=False),
        _integer("notifications"),
        _integer("last_at"),
        sa.PrimaryKeyConstraint("receiver", "outcome"),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in ("notification_totals", "notification_attempts", "notifications"):
        op.drop_table(table)
