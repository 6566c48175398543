"""Notices to customers, and corrections of figures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "notice",
        sa.Column("inquiry", sa.String(66), nullable=False),
        sa.Column("tag", sa.String(66), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("asked_by", sa.String(200), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(40), nullable=False),
        sa.Column("consent", sa.String(66), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("inquiry", "tag", name=op.f("pk_notice")),
    )
    op.create_index("ix_notice_asked_at", "notice", ["asked_at"], unique=False)
    op.create_index("ix_notice_state", "notice", ["state"], unique=False)
    op.create_table(
        "notice_customer",
        sa.Column("tag", sa.LargeBinary(), nullable=False),
        sa.Column("reference", sa.String(200), nullable=False),
        sa.Column("tag_key_version", sa.BigInteger(), nullable=False),
        sa.Column("given", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tag", name=op.f("pk_notice_customer")),
    )
    op.create_index("ix_notice_customer_given", "notice_customer", ["given"], unique=False)
    op.create_table(
        "correction",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("tag_key_version", sa.BigInteger(), nullable=False),
        sa.Column("schema", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("field", sa.String(64), nullable=False),
        sa.Column("was", sa.BigInteger(), nullable=False),
        sa.Column("should_be", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("entered_by", sa.String(200), nullable=False),
        sa.Column("entered_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided_by", sa.String(200), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.Column("applied_at", sa.BigInteger(), nullable=True),
        sa.Column("told_day", sa.BigInteger(), nullable=True),
        sa.Column("watch", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_correction")),
    )
    op.create_index("ix_correction_state", "correction", ["state"], unique=False)


def downgrade() -> None:
    """There is no way back: what would be lost is what was corrected."""
    raise NotImplementedError("restore a backup instead")
