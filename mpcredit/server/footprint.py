"""The customer's footprint: who asked about him, when, why and by which consent; for the customer himself.

Somebody who has identified the customer makes a one-time link: an officer of his bank, or a person of the supervisor. At a
bank it shows the inquiries in whose cohort the bank is, and its own: others' it cannot open, so it says how many those
were. The supervisor opens all, of the whole consortium; to find the customer in them it needs the members' tag keys, which
one of them hands over (R4). A footprint names no institution that answered and holds no figure.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, Text, delete, func, insert, select, update

from mpcredit.consent import Consent
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidSubject, KeyStoreError, MpcreditError
from mpcredit.events import Stage
from mpcredit.identity import Subject
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database, metadata
from mpcredit.server.node import Node, Party
from mpcredit.server.refusals import InvalidForm, NotAllowed
from mpcredit.state import Inquiry, LedgerState
from mpcredit.tags import Tagger, tagger_of

__all__ = ["Footprint", "Footprints", "Link", "footprint_link_table", "tags_of"]

LINK_SECONDS: Final = 86_400
"""How long a link waits for the customer."""
DOCUMENT_SECONDS: Final = 900
"""How long the page's own link to the JSON document holds."""
LINKS_PER_DAY: Final = 50
"""Of one person: whoever makes more looks for something else than customers at his desk."""

footprint_link_table = Table(
    "footprint_link",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("id", String(16), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("label", String(200), nullable=False),
    Column("tags", Text, nullable=False),
    Column("issued_by", String(200), nullable=False),
    Column("identified", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=True),
)


@dataclass(frozen=True)
class Link:
    """A link as stored; the token itself is not."""

    id: str
    label: str
    """The customer, masked."""
    issued_by: str
    identified: str
    """How the customer was identified."""
    created_at: int
    expires_at: int
    used_at: int | None


@dataclass(frozen=True)
class Footprint:
    """What one link shows."""

    id: str
    label: str
    document: dict[str, Any]
    """The JSON document."""


def _digest(token: str) -> bytes:
    return hashlib.sha256(b"mpcredit/footprint/2" + token.encode("utf-8", "replace")).digest()


class Footprints:
    """Makes links and reads what they show.

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
        self._clock = clock

    # ----------------------------------------------------------------- links

    def issue(self, *, kind: str, country: str, number: str, identified: str, officer: str) -> str:
        """Make a one-time link for a customer whom somebody here has identified.

        Args:
            kind, country, number: of the document that the customer showed; the number is not kept.
            identified: how, in words.
            officer: who did, for the audit log.

        Returns:
            The link's token.

        Raises:
            InvalidForm: the document is not right, or it is not said how the customer was identified.
            NotAllowed: the officer has made too many today; or the supervisor lacks a tag key, or has another than the members.
        """
        problems = {}
        if len(identified.strip()) < 5:
            problems["identified"] = "write how you identified the customer"
        try:
            subject = Subject(kind, number, country=country)
        except InvalidSubject as error:
            problems["country" if "country" in error.message else "number"] = str(error)
        if problems:
            raise InvalidForm(problems)
        label = f"{subject.country} …{subject.number[-3:]}"
        with self.node.locked() as party:
            tags = tags_of(party, subject)
        now = int(self._clock())
        with self.database.transaction() as connection:
            c = footprint_link_table.c
            made = connection.scalar(
                select(func.count()).where(c.issued_by == officer, c.kind == "page", c.created_at > now - 86_400)
            )
            if int(made or 0) >= LINKS_PER_DAY:
                raise NotAllowed(
                    f"you have made {made} links in 24 hours; at most {LINKS_PER_DAY} are allowed",
                    remedy="let somebody else do it, or wait",
                )
            identifier = secrets.token_hex(8)
            token = self._store("page", identifier, label, tags, officer, identified.strip(), LINK_SECONDS)
            self.audit.append(
                officer, "footprint.link_issued", f"footprint/{identifier}", identified.strip(), customer=label
            )
        return token

    def _store(
        self, kind: str, identifier: str, label: str, tags: Iterable[str], officer: str, identified: str, seconds: int
    ) -> str:
        token, now = secrets.token_urlsafe(32), int(self._clock())
        with self.database.transaction() as connection:
            connection.execute(
                insert(footprint_link_table).values(
                    hash=_digest(token),
                    id=identifier,
                    kind=kind,
                    label=label,
                    tags=json.dumps(list(tags)),
                    issued_by=officer,
                    identified=identified,
                    created_at=now,
                    expires_at=now + seconds,
                )
            )
        return token

    def links(self, limit: int = 200) -> list[Link]:
        """Those that officers made, the newest first."""
        c = footprint_link_table.c
        query = select(footprint_link_table).where(c.kind == "page").order_by(c.created_at.desc(), c.id).limit(limit)
        with self.database.read() as connection:
            return [
                Link(r.id, r.label, r.issued_by, r.identified, r.created_at, r.expires_at, r.used_at)
                for r in connection.execute(query)
            ]

    def prune(self, before: int) -> int:
        """Forget links that ended before a time; the audit log still has who made them for whom."""
        with self.database.transaction() as connection:
            c = footprint_link_table.c
            return connection.execute(delete(footprint_link_table).where(c.expires_at < before)).rowcount

    # ----------------------------------------------------------------- for the customer

    def holds(self, token: str, kind: str = "page") -> bool:
        """Whether a link would show something; uses nothing up."""
        c = footprint_link_table.c
        query = select(c.id).where(
            c.hash == _digest(token), c.kind == kind, c.used_at.is_(None), c.expires_at > int(self._clock())
        )
        with self.database.read() as connection:
            return connection.scalar(query) is not None

    def redeem(self, token: str, *, kind: str = "page") -> tuple[Footprint, str] | None:
        """Use a link up.

        Args:
            kind: "page", or "document" for the token that came with a page.

        Returns:
            What it shows, and the token for the document; None if the link does not hold or was used.
        """
        if not self.holds(token, kind):
            return None  # strangers do not get as far as the lock
        now = int(self._clock())
        with self.node.locked() as party, self.database.transaction() as connection:
            c = footprint_link_table.c
            used = (
                update(footprint_link_table)
                .where(c.hash == _digest(token), c.kind == kind, c.used_at.is_(None), c.expires_at > now)
                .values(used_at=now)
                .returning(footprint_link_table)
            )
            row = connection.execute(used).one_or_none()
            if row is None:
                return None
            tags = [hex_bytes(tag, 32) for tag in json.loads(row.tags)]
            document = _document(party, self.node.name, row.label, tags, now)
            following = ""
            if kind == "page":
                following = self._store(
                    "document", row.id, row.label, json.loads(row.tags), row.issued_by, row.identified, DOCUMENT_SECONDS
                )
            self.audit.append(
                "customer",
                "footprint.shown",
                f"footprint/{row.id}",
                row.identified,
                customer=row.label,
                form=kind,
                inquiries=len(document["inquiries"]),
            )
        return Footprint(row.id, row.label, document), following


# --------------------------------------------------------------------- what it says


def tags_of(party: Party, subject: Subject) -> list[str]:
    """The tags of a subject under every version of the tag key, version 1 first: older inquiries name older ones."""
    tagger = party.tagger if isinstance(party, Institution) else _supervisors_tagger(party)
    return [to_hex(tag) for tag in tagger.tags(subject)]


def _supervisors_tagger(party: SupervisorNode) -> Tagger:
    """Of the tag keys that a member has handed over, each compared with its commitment on the ledger (R4).

    Raises:
        NotAllowed: one is missing, or is another one: with that, a customer would seem never to have been asked about.
    """
    keys = party.supervisor.keys
    in_force = party.follower.tag_keys
    missing = sorted(set(in_force) - set(keys.tag_versions()))
    if missing:
        raise NotAllowed(
            f"the supervisor has no tag key of version {missing[0]}, so it cannot find a customer here",
            remedy="let a member export the tag keys (`mpcredit keys tag --export FILE`), and import them at the supervisor "
            "(`mpcredit keys tag --import FILE`)",
        )
    try:
        return tagger_of(keys, in_force)
    except KeyStoreError as error:
        raise NotAllowed(error.message, remedy=error.remedy) from error


def _until_now(party: Party, tags: list[bytes]) -> set[bytes]:
    """What a link's customer is looked for by.

    Args:
        tags: under versions 1 to that of the time when the link was made.
    """
    version = len(tags)
    if isinstance(party, Institution):
        return {party.tagger.raised(tags[-1], version)} if version <= party.tagger.version else set()
    if max(party.follower.tag_keys, default=1) <= version:
        return set(tags)
    return {*tags, *_supervisors_tagger(party).later(tags[-1], version)}


def _document(party: Party, name: str, label: str, tags: list[bytes], now: int) -> dict[str, Any]:
    wanted = _until_now(party, tags)
    if isinstance(party, SupervisorNode):
        entries, unread = _seen_by_supervisor(party, wanted)
    else:
        entries, unread = _seen_by_bank(party, name, wanted)
    realm = party.follower.ledger.realm
    return {
        "format": "mpcredit/footprint",
        "version": 1,
        "served_by": name,
        "chain_id": realm.chain_id,
        "consortium": realm.consortium,
        "as_of": now,
        "ledger_time": party.follower.now,
        "customer": label,
        "inquiries": sorted(entries, key=lambda entry: (entry["asked_at"] or 0, entry["inquiry"]), reverse=True),
        "not_readable_here": unread,
    }


def _seen_by_supervisor(party: SupervisorNode, wanted: set[bytes]) -> tuple[list[dict[str, Any]], int]:
    """Every inquiry of the consortium on one of the tags, and how many are sealed under keys that are gone."""
    state, found, unread = party.supervisor.state, [], 0
    for inquiry in state.inquiries.values():
        try:
            if wanted.isdisjoint(party.supervisor.tags(inquiry)):
                continue
            subjects = party.supervisor.subjects(inquiry)
        except MpcreditError:  # a period key that was destroyed since, or a seal that never opened
            unread += 1
            continue
        for entry in subjects.entries:
            if entry.tag in wanted:
                who = inquiry.names[inquiry.inquirer]
                found.append(_entry(state, inquiry.id, inquiry, who, entry.consent))
    return found, unread


def _seen_by_bank(party: Institution, name: str, wanted: set[bytes]) -> tuple[list[dict[str, Any]], int]:
    """What this institution could read, and how many inquiries went past it."""
    desk = party.desk
    entries: dict[bytes, dict[str, Any]] = {}
    # (1) own requests, each attempt that went onto the ledger.
    for request in party.inquirer.requests():
        if request.inquiry is None:
            continue
        for consent in request.consents:
            if desk.newest_tag(consent) in wanted:
                inquiry = desk.state.inquiries.get(request.inquiry)
                entries[request.inquiry] = _entry(desk.state, request.inquiry, inquiry, name, consent)
    # (2) others' inquiries that this institution could read.
    for seen in desk.remember():
        if seen.inquiry in entries or wanted.isdisjoint(seen.tags):
            continue
        if seen.inquirer == party.index and seen.inquiry not in desk.state.inquiries:
            continue  # an attempt of its own that nobody could answer
        inquiry = desk.state.inquiries.get(seen.inquiry)
        who = inquiry.names[inquiry.inquirer] if inquiry is not None else _name(party, seen.inquirer)
        try:
            own = seen.inquirer == party.index  # its request was erased after its retention
            subjects = None if own or inquiry is None else desk.subjects(inquiry)
        except MpcreditError:  # a key that was destroyed since
            subjects = None
        consents = [entry.consent for entry in subjects.entries] if subjects is not None else []
        found = [consent for consent in consents if desk.newest_tag(consent) in wanted]
        entries[seen.inquiry] = _entry(desk.state, seen.inquiry, inquiry, who, found[0] if found else None)
        entries[seen.inquiry]["asked_at"] = seen.opened_at
    unread = [
        inquiry
        for inquiry in desk.state.inquiries.values()
        if inquiry.inquirer != party.index and party.index not in inquiry.cohort
    ]
    return list(entries.values()), len(unread)


def _name(party: Institution, index: int) -> str:
    member = party.desk.state.members.get(index)
    return member.name if member is not None else str(index)


_OUTCOMES: Final = {
    Stage.OPEN: "being answered",
    Stage.COMPLETE: "answered",
    Stage.REPORTED: "answered",
    Stage.VALID: "answered",
    Stage.VOID: "void",
    Stage.REFUSED: "not answered",
    Stage.EXPIRED: "not answered",
}


def _entry(
    state: LedgerState, identifier: bytes, inquiry: Inquiry | None, who: str, consent: Consent | None
) -> dict[str, Any]:
    revoked = consent is not None and consent.inquirer in state.revoked.get(consent.hash, set())
    return {
        "inquiry": to_hex(identifier),
        "asked_by": who,
        "asked_at": inquiry.opened.at.timestamp if inquiry is not None else None,
        "outcome": _OUTCOMES.get(inquiry.stage, "not answered") if inquiry is not None else "taken off the ledger",
        "purpose": consent.purpose.value if consent is not None else None,
        "consent": None
        if consent is None
        else {
            "hash": to_hex(consent.hash),
            "valid_from": consent.valid_from,
            "valid_until": consent.valid_until,
            "evidence": to_hex(consent.evidence),
            "revoked": revoked,
        },
    }
