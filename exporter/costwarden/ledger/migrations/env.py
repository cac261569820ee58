"""Alembic's entry: runs the migrations on the connection that the ledger hands over."""

from alembic import context

from costwarden.ledger.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, transaction_per_migration=False, transactional_ddl=False
)
context.run_migrations()
