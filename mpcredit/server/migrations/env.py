"""Run by alembic: migrate on the connection, and within the transaction, that `Database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from mpcredit.server.database import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
