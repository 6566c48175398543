"""An institution's votes on proposals: who ordered them, who confirmed, and what the ledger shows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "vote_order",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("proposal", sa.BigInteger(), nullable=False),
        sa.Column("calls_hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind IN ('vote', 'withdraw')", name=op.f("ck_vote_order_kind")),
        sa.CheckConstraint(
            "state IN ('asked', 'confirmed', 'refused', 'cancelled', 'started', 'done')",
            name=op.f("ck_vote_order_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vote_order")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_vote_order_proposal"), "vote_order", ["proposal"], unique=False)
    op.create_index(op.f("ix_vote_order_state"), "vote_order", ["state"], unique=False)


def downgrade() -> None:
    """There is no way back: what would be lost is who ordered a vote, and who confirmed it."""
    raise NotImplementedError("restore a backup instead")
