"""Limits against misuse: suspensions, and what they are judged by in a column of its own."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this version."""
    op.add_column("person", sa.Column("suspended_at", sa.BigInteger(), nullable=True))
    op.add_column("application", sa.Column("tag", sa.String(66), nullable=True))
    op.add_column("application", sa.Column("ready_at", sa.BigInteger(), nullable=True))
    op.add_column("application", sa.Column("settled", sa.String(16), nullable=True))
    op.create_index("ix_application_tag", "application", ["tag"], unique=False)
    op.create_index("ix_application_created_at", "application", ["created_at", "tag"], unique=False)
    op.create_index(
        "ix_application_settled",
        "application",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("settled IS NOT NULL"),
        postgresql_where=sa.text("settled IS NOT NULL"),
    )
    _fill()
    op.create_table(
        "suspension",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("ended_by", sa.String(200), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suspension")),
        sa.CheckConstraint("kind IN ('suspended', 'held_back')", name=op.f("ck_suspension_kind")),
        sa.CheckConstraint("state IN ('open', 'lifted', 'over')", name=op.f("ck_suspension_state")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_suspension_actor", "suspension", ["actor"], unique=False)
    op.create_index(
        "ix_suspension_open",
        "suspension",
        ["actor", "kind"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )


def _fill() -> None:
    """Older applications keep their tag in the value; since when their totals are attested is not known any more."""
    table = sa.table("application", *map(sa.column, ("number", "created_at", "step", "value", "tag", "ready_at")))
    connection = op.get_bind()
    last = 0
    while True:
        query = sa.select(table).where(table.c.number > last).order_by(table.c.number).limit(1_000)
        rows = connection.execute(query).all()
        for row in rows:
            ready = row.created_at if row.step == "ready" else None
            connection.execute(
                table.update()
                .where(table.c.number == row.number)
                .values(tag=json.loads(row.value).get("tag"), ready_at=ready)
            )
        if not rows:
            return
        last = rows[-1].number


def downgrade() -> None:
    """There is no way back: what would be lost is who was suspended, and why."""
    raise NotImplementedError("restore a backup instead")
