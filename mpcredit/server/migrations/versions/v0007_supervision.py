"""Looks at figures that a second person confirms, and the sources of contracts that supervisors compared."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "look",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("inquiry", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.CheckConstraint("state IN ('asked', 'confirmed', 'refused')", name=op.f("ck_look_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_look")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_look_inquiry"), "look", ["inquiry"], unique=False)
    op.create_index(op.f("ix_look_state"), "look", ["state"], unique=False)
    op.create_table(
        "contract_source",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("compiler", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('shipped', 'rebuilt')", name=op.f("ck_contract_source_state")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_contract_source")),
    )


def downgrade() -> None:
    """There is no way back: what would be lost is who asked to look, and who let him."""
    raise NotImplementedError("restore a backup instead")
