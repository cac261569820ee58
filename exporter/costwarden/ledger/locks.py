"""Who waits for whom, on a PostgreSQL that many replicas write to. SQLite has one writer, and needs none of it.

Groups of checks and settlements share one advisory lock; whoever changes budgets or suspensions takes it alone. So no group decides on
budgets that change under it, and what a new budget counts as spent already misses nothing that is still on its way.
"""

from sqlalchemy import Connection

from costwarden.ledger.bulk import on_postgresql

# Any numbers do, as long as nobody else in the database uses them: "costward", "costlead", "costmigr", "costpart", "costnoti" in ASCII.
BUDGETS_LOCK = 0x636F737477617264
LEADER_LOCK = 0x636F73746C656164
MIGRATION_LOCK = 0x636F73746D696772
PARTITIONS_LOCK = 0x636F737470617274
NOTIFICATIONS_LOCK = 0x636F73746E6F7469


def lock_budgets(connection: Connection) -> None:
    """Wait until no group is under way, and let none begin before the end of the transaction."""
    if on_postgresql(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({BUDGETS_LOCK})")


def lock_notifications(connection: Connection) -> None:
    """Wait until no other replica takes a notification in, and let none begin before the end of the transaction."""
    if on_postgresql(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({NOTIFICATIONS_LOCK})")
