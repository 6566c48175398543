"""All tables of version 2. The databases of version 1 stay with it: its consortium ended, and nothing of them is carried over.

Triggers refuse to change or delete entries of the audit log; the database's owner can drop them (`mpcredit audit verify`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "2001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    _create_store()
    _create_audit()
    _create_people()
    _create_access()
    _create_governance()
    _create_book()
    _create_applications()
    _create_messages()
    _let_audit_only_grow()


def _create_store() -> None:
    """Memory of the party (mpcredit.ports.Store)."""
    op.create_table(
        "meta",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
    )
    op.create_table(
        "item",
        sa.Column("seq", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_item")),
        sa.UniqueConstraint("kind", "key", name=op.f("uq_item_kind")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "outbox",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("call", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.Column("gas_used", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('prepared', 'sent', 'mined', 'failed')", name=op.f("ck_outbox_state")),
        sa.CheckConstraint("nonce >= 0", name=op.f("ck_outbox_nonce")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("key", name=op.f("uq_outbox_key")),
        sa.UniqueConstraint("nonce", name=op.f("uq_outbox_nonce")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_outbox_open",
        "outbox",
        ["nonce"],
        sqlite_where=sa.text("state IN ('prepared', 'sent')"),
        postgresql_where=sa.text("state IN ('prepared', 'sent')"),
    )
    op.create_table(
        "outbox_version",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('step', 'filler')", name=op.f("ck_outbox_version_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_version")),
        sa.UniqueConstraint("key", "tx_hash", name=op.f("uq_outbox_version_key")),
        sqlite_autoincrement=True,
    )


def _create_audit() -> None:
    """The audit log, with its head before the first entry."""
    op.create_table(
        "audit",
        sa.Column("seq", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    for column in ("about", "action", "actor", "at"):
        op.create_index(op.f(f"ix_audit_{column}"), "audit", [column])
    op.create_table(
        "audit_head",
        sa.Column("one", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("one = 1", name=op.f("ck_audit_head_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_audit_head")),
    )
    head = sa.table("audit_head", sa.column("one"), sa.column("seq"), sa.column("hash", sa.LargeBinary))
    op.bulk_insert(head, [{"one": 1, "seq": 0, "hash": bytes(32)}])


def _create_people() -> None:
    """Accounts, roles and API tokens."""
    op.create_table(
        "person",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("display", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
        sa.UniqueConstraint("name", name=op.f("uq_person_name")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "person_role",
        sa.Column("person", _NUMBER, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["person.id"], name=op.f("fk_person_role_person")),
        sa.PrimaryKeyConstraint("person", "role", name=op.f("pk_person_role")),
    )
    op.create_table(
        "person_identity",
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("person", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["person"], ["person.id"], name=op.f("fk_person_identity_person")),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_person_identity")),
    )
    op.create_table(
        "api_token",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'active', 'revoked')", name=op.f("ck_api_token_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_token_hash")),
        sqlite_autoincrement=True,
    )


def _create_access() -> None:
    """Sessions, sign-in links, changes that wait for a second person, suspensions."""
    op.create_table(
        "session",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("person", _NUMBER, nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["person.id"], name=op.f("fk_session_person")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_person"), "session", ["person"])
    op.create_table(
        "sign_in_link",
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("person", _NUMBER, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["person.id"], name=op.f("fk_sign_in_link_person")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sign_in_link")),
    )
    op.create_index(op.f("ix_sign_in_link_person"), "sign_in_link", ["person"])
    op.create_table(
        "pending_change",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("person", _NUMBER, nullable=True),
        sa.Column("roles", sa.Text(), nullable=True),
        sa.Column("token", _NUMBER, nullable=True),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind IN ('roles', 'token')", name=op.f("ck_pending_change_kind")),
        sa.CheckConstraint("state IN ('pending', 'confirmed', 'refused')", name=op.f("ck_pending_change_state")),
        sa.ForeignKeyConstraint(["person"], ["person.id"], name=op.f("fk_pending_change_person")),
        sa.ForeignKeyConstraint(["token"], ["api_token.id"], name=op.f("fk_pending_change_token")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_change")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_pending_change_state"), "pending_change", ["state"])
    op.create_table(
        "suspension",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("ended_by", sa.String(200), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('suspended', 'held_back')", name=op.f("ck_suspension_kind")),
        sa.CheckConstraint("state IN ('open', 'lifted', 'over')", name=op.f("ck_suspension_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suspension")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_suspension_actor"), "suspension", ["actor"])
    op.create_index(
        "ix_suspension_open",
        "suspension",
        ["actor", "kind"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )


def _create_governance() -> None:
    """Ordered votes and approvals, looks at figures, sources of contracts."""
    op.create_table(
        "proposal_order",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
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
        sa.CheckConstraint("kind IN ('give', 'withdraw')", name=op.f("ck_proposal_order_kind")),
        sa.CheckConstraint(
            "state IN ('asked', 'confirmed', 'refused', 'cancelled', 'started', 'done')",
            name=op.f("ck_proposal_order_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposal_order")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_proposal_order_proposal"), "proposal_order", ["proposal"])
    op.create_index(op.f("ix_proposal_order_state"), "proposal_order", ["state"])
    op.create_table(
        "look",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
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
    op.create_index(op.f("ix_look_inquiry"), "look", ["inquiry"])
    op.create_index(op.f("ix_look_state"), "look", ["state"])
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


def _create_book() -> None:
    """The loan book and its corrections."""
    op.create_table(
        "book_snapshot",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("schema", sa.BigInteger(), nullable=False),
        sa.Column("definition", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("institution", sa.Text(), nullable=False),
        sa.Column("tag_key_version", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("customers", sa.BigInteger(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("changed", sa.BigInteger(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('loading', 'current', 'previous')", name=op.f("ck_book_snapshot_state")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_book_snapshot")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_book_snapshot_current",
        "book_snapshot",
        ["schema"],
        unique=True,
        sqlite_where=sa.text("state = 'current'"),
        postgresql_where=sa.text("state = 'current'"),
    )
    op.create_table(
        "book_row",
        sa.Column("schema", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tag", sa.LargeBinary(), nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("figures", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("schema", "tag", "first", name=op.f("pk_book_row")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_book_row_until",
        "book_row",
        ["schema", "until"],
        sqlite_where=sa.text("until IS NOT NULL"),
        postgresql_where=sa.text("until IS NOT NULL"),
    )
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
    op.create_index(op.f("ix_correction_state"), "correction", ["state"])


def _create_applications() -> None:
    """Applications and the consents that they rest on."""
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
        sa.Column("tag", sa.String(66), nullable=True),
        sa.Column("tag_key_version", sa.BigInteger(), nullable=True),
        sa.Column("ready_at", sa.BigInteger(), nullable=True),
        sa.Column("settled", sa.String(16), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_application")),
        sa.UniqueConstraint("consent", name=op.f("uq_application_consent")),
        sa.UniqueConstraint("id", name=op.f("uq_application_id")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_application_idempotency_key")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_application_created_at", "application", ["created_at", "tag"])
    op.create_index("ix_application_officer", "application", ["officer", "created_at"])
    op.create_index(
        "ix_application_settled",
        "application",
        ["created_at"],
        sqlite_where=sa.text("settled IS NOT NULL"),
        postgresql_where=sa.text("settled IS NOT NULL"),
    )
    op.create_index("ix_application_step", "application", ["step"])
    op.create_index(op.f("ix_application_tag"), "application", ["tag"])
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


def _create_messages() -> None:
    """Answers to the bank's systems, notices to customers, customers' links."""
    op.create_table(
        "webhook",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("delivery", sa.String(32), nullable=False),
        sa.Column("application", sa.String(32), nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'given_up')", name=op.f("ck_webhook_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
        sa.UniqueConstraint("delivery", name=op.f("uq_webhook_delivery")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_webhook_application"), "webhook", ["application"])
    op.create_index(op.f("ix_webhook_state"), "webhook", ["state"])
    op.create_table(
        "notice",
        sa.Column("inquiry", sa.String(66), nullable=False),
        sa.Column("tag", sa.String(66), nullable=False),
        sa.Column("tag_key_version", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("asked_by", sa.String(200), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(40), nullable=False),
        sa.Column("consent", sa.String(66), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("inquiry", "tag", name=op.f("pk_notice")),
    )
    op.create_index(op.f("ix_notice_asked_at"), "notice", ["asked_at"])
    op.create_index(op.f("ix_notice_state"), "notice", ["state"])
    op.create_table(
        "notice_customer",
        sa.Column("tag", sa.LargeBinary(), nullable=False),
        sa.Column("reference", sa.String(200), nullable=False),
        sa.Column("tag_key_version", sa.BigInteger(), nullable=False),
        sa.Column("given", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tag", name=op.f("pk_notice_customer")),
    )
    op.create_index(op.f("ix_notice_customer_given"), "notice_customer", ["given"])
    op.create_index(op.f("ix_notice_customer_tag_key_version"), "notice_customer", ["tag_key_version"])
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
    op.create_index(op.f("ix_footprint_link_id"), "footprint_link", ["id"])


def _let_audit_only_grow() -> None:
    """Refuse changes of what the audit log holds."""
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{change.lower()} BEFORE {change} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log can only grow'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit log can only grow' USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()"
        )
