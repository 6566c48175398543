"""One-time links that show customers who asked about them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "footprint_link",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("issued_by", sa.String(200), nullable=False),
        sa.Column("identified", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_footprint_link")),
    )
    op.create_index("ix_footprint_link_id", "footprint_link", ["id"], unique=False)


def downgrade() -> None:
    """There is no way back: what would be lost is who looked."""
    raise NotImplementedError("restore a backup instead")
