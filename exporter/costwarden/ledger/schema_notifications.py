"""The tables of notifications: what is to be told to whom, each attempt at it, and how many ended how."""

from sqlalchemy import Index, Table

from costwarden.ledger.columns import METADATA, integer, number, text

# `attempts` were begun, `failures` count towards the limit: one that a crash cut off is begun again, and counts for nothing.
notifications = Table(
    "notifications",
    METADATA,
    number("notification_id"),
    text("receiver"),
    text("identity"),
    text("group_key"),
    text("status"),
    integer("alerts"),
    text("subject"),
    # JSON of what the text is made of.
    text("content"),
    integer("received_at"),
    integer("last_received_at"),
    integer("receipts"),
    text("state"),
    integer("attempts"),
    integer("failures"),
    integer("next_attempt_at"),
    integer("finished_at"),
    text("message"),
    Index("notifications_identity", "identity", "received_at"),
    Index("notifications_state", "state", "receiver", "notification_id"),
)

notification_attempts = Table(
    "notification_attempts",
    METADATA,
    number("attempt_id"),
    integer("notification_id"),
    integer("attempt"),
    integer("started_at"),
    integer("finished_at"),
    text("outcome"),
    text("message"),
    Index("notification_attempts_notification", "notification_id"),
)

# What the counters show: the journal is pruned, these are not.
notification_totals = Table(
    "notification_totals",
    METADATA,
    text("receiver", key=True),
    text("outcome", key=True),
    integer("notifications"),
    integer("last_at"),
    sqlite_with_rowid=False,
)
