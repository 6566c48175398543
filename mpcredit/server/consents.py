"""Consents: the receipt that the customer's word makes, the document that proves it, and its revocation on the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, LargeBinary, String, Table, Text, select

from mpcredit.consent import Consent
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.events import Call
from mpcredit.institution import Institution
from mpcredit.server.audit import AuditLog
from mpcredit.server.casefile import applications_table
from mpcredit.server.database import Database, metadata
from mpcredit.server.drafts import Draft
from mpcredit.server.node import Node
from mpcredit.server.refusals import InvalidForm, NotAllowed, NotFound

__all__ = ["Consents", "consents_table"]

consents_table = Table(
    "application_consent",
    metadata,
    Column("hash", String(66), primary_key=True),
    Column("receipt", Text, nullable=False),
    Column("label", String(200), nullable=False),
    Column("evidence_name", String(200), nullable=False),
    Column("evidence", LargeBinary, nullable=True),
    Column("recorded_by", String(200), nullable=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("revoked_by", String(200), nullable=True),
    Column("revoked_at", BigInteger, nullable=True),
    Column("revoked_why", Text, nullable=True),
)


class Consents:
    """The consents that applications brought.

    Args:
        database, node, audit: the server's.
        clock: unix seconds.
    """

    def __init__(
        self, database: Database, node: Node, audit: AuditLog, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.database = database
        self.node = node
        self.audit = audit
        self.clock = clock

    def record(self, connection: Connection, consent: Consent, draft: Draft, *, by: str) -> None:
        """Keep a consent with its document, in the transaction of the application that brought it."""
        connection.execute(
            consents_table.insert().values(
                hash=to_hex(consent.hash),
                receipt=consent.receipt.decode(),
                label=draft.label,
                evidence_name=draft.evidence_name or draft.evidence.hex(),
                evidence=draft.document,
                recorded_by=by,
                recorded_at=int(self.clock()),
            )
        )

    @staticmethod
    def erase(connection: Connection, consent: str) -> None:
        """Forget a consent and its document, in the transaction that erases its application."""
        connection.execute(consents_table.delete().where(consents_table.c.hash == consent))

    def receipt(self, consent: str) -> str:
        """The canonical receipt behind a hash."""
        with self.database.read() as connection:
            found = connection.execute(select(consents_table.c.receipt).where(consents_table.c.hash == consent))
            text = found.scalar_one_or_none()
        if text is None:
            raise NotFound("there is no such consent here", remedy="look for it in the list")
        return str(text)

    def all(self, *, limit: int = 1_000) -> list[dict[str, Any]]:
        """All consents, the newest first, without their documents."""
        c = consents_table.c
        query = (
            select(
                c.hash,
                c.receipt,
                c.label,
                c.evidence_name,
                c.evidence.is_not(None).label("kept"),
                c.recorded_by,
                c.recorded_at,
                c.revoked_by,
                c.revoked_at,
                c.revoked_why,
                applications_table.c.id.label("application"),
                applications_table.c.number.label("number"),
            )
            .join_from(consents_table, applications_table, applications_table.c.consent == c.hash, isouter=True)
            .order_by(c.recorded_at.desc(), applications_table.c.number.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            rows = [dict(row._mapping) for row in connection.execute(query)]
        for row in rows:
            receipt = json.loads(row.pop("receipt"))
            row.update({name: receipt[name] for name in ("purpose", "valid_from", "valid_until", "evidence")})
        return rows

    def document(self, consent: str) -> tuple[str, bytes]:
        """The consent document that was attached, and its name.

        Raises:
            NotFound: only its hash was recorded.
        """
        with self.database.read() as connection:
            query = select(consents_table.c.evidence_name, consents_table.c.evidence).where(
                consents_table.c.hash == consent
            )
            row = connection.execute(query).one_or_none()
        if row is None or row.evidence is None:
            raise NotFound("no document is kept for this consent", remedy="look it up by its hash in your archive")
        return str(row.evidence_name), bytes(row.evidence)

    def revoke(self, consent: str, *, by: str, why: str) -> None:
        """State on the ledger that the customer revoked a consent; from then on nobody answers inquiries that rest on it.

        Raises:
            InvalidForm: no reason given.
            LedgerError: the ledger is not to be had; nothing was changed.
        """
        if not why.strip():
            raise InvalidForm({"reason": "write how the customer revoked it"})
        self.receipt(consent)
        with self.node.locked() as party:
            if not isinstance(party, Institution):
                raise NotAllowed("the supervisor keeps no consents")
            institution = party
            institution.sync()
            digest, state = hex_bytes(consent, 32), institution.desk.state
            if state.joint_credit is None:
                raise NotAllowed("the consortium is not founded yet")
            if institution.index not in state.revoked.get(digest, set()):
                institution.desk.post(
                    f"revoke/{consent}", Call(state.joint_credit, "revokeConsent", (institution.index, digest))
                )
        with self.database.transaction() as connection:
            connection.execute(
                consents_table.update()
                .where(consents_table.c.hash == consent, consents_table.c.revoked_at.is_(None))
                .values(revoked_by=by, revoked_at=int(self.clock()), revoked_why=why.strip())
            )
            self.audit.append(by, "consent.revoked", f"consent/{consent}", why.strip())
