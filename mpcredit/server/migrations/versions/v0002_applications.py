"""Applications for credit, and the consents that they rest on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.create_table(
        "application_consent",
        sa.Column("hash", sa.String(66), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("evidence_name", sa.String(200), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=True),
        sa.Column("recorded_by", sa.String(200), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_by", sa.String(200), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_application_consent")),
    )
    op.create_table(
        "application",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("officer", sa.String(200), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("idempotency_key", sa.String(300), nullable=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("consent", sa.String(66), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_application")),
        sa.UniqueConstraint("id", name=op.f("uq_application_id")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_application_idempotency_key")),
        sa.UniqueConstraint("consent", name=op.f("uq_application_consent")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_application_step", "application", ["step"], unique=False)
    op.create_index("ix_application_officer", "application", ["officer", "created_at"], unique=False)


def downgrade() -> None:
    """There is no way back: what would be lost is what the institution decided."""
    raise NotImplementedError("restore a backup instead")
