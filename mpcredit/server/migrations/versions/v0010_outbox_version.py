"""Signed versions of a ledger step that was signed more than once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "outbox_version",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('step', 'filler')", name=op.f("ck_outbox_version_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_version")),
        sa.UniqueConstraint("key", "tx_hash", name=op.f("uq_outbox_version_key")),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """There is no way back: a version that is forgotten may be mined."""
    raise NotImplementedError("restore a backup instead")
