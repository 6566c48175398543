"""Rows that are looked for by tag name the version that the tag is under."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.add_column("application", sa.Column("tag_key_version", sa.BigInteger(), nullable=True))
    op.create_index("ix_notice_customer_tag_key_version", "notice_customer", ["tag_key_version"], unique=False)
    with op.batch_alter_table("notice") as notice:
        notice.add_column(sa.Column("tag_key_version", sa.BigInteger(), nullable=False, server_default="1"))
    with op.batch_alter_table("notice") as notice:
        notice.alter_column("tag_key_version", server_default=None)


def downgrade() -> None:
    """There is no way back: a tag without its version cannot be raised."""
    raise NotImplementedError("restore a backup instead")
