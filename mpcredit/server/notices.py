"""Notices to the bank's customers: who asked about them, each time; told to the bank's notice system, which writes to them.

An event when this bank has asked about a customer, and one when it has answered another bank about a customer of its own.
It says who asked, when and why, and whom it is about by the bank's own reference: never a figure, never whether the other
bank got one. The worker notes every inquiry and tag in the same way, whoever it is about, so that its time does not depend
on who is a customer (I14); a thread of its own looks afterwards whose tag it is. A noted inquiry is never noted again, so
a notice is queued once, also after a crash or a reorganisation. Delivery is `webhook`'s.

A tag cannot be turned back into a customer. So the bank gives a list, once and whenever it changes, of its customers'
identities and its own references for them; what is kept are tags and references (`import_customers`). The thread brings the
list to the newest tag key, under which all tags are compared; the worker tells it the newest tagger.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import BigInteger, Column, LargeBinary, String, Table, delete, func, insert, select, update

from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidFile, InvalidSubject, MpcreditError
from mpcredit.identity import Subject
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.server.audit import AuditLog
from mpcredit.server.casefile import applications_table
from mpcredit.server.database import Database, metadata
from mpcredit.server.logs import get_logger
from mpcredit.server.node import own_member
from mpcredit.server.tagtables import raise_tags
from mpcredit.server.webhook import Webhook
from mpcredit.state import Inquiry
from mpcredit.tags import Tagger

__all__ = ["CUSTOMER_COLUMNS", "Notices", "import_customers", "notice_customer_table", "notice_table"]

CUSTOMER_COLUMNS: Final = ("kind", "country", "number", "reference")
REFERENCE_LENGTH: Final = 200
BATCH: Final = 5_000
KEPT_SECONDS: Final = 90 * 86_400
"""How long it is kept which inquiries were noted; older ones are not noted any more."""
_LISTED: Final = 20

notice_table = Table(
    "notice",
    metadata,
    Column("inquiry", String(66), primary_key=True),
    Column("tag", String(66), primary_key=True),
    Column("tag_key_version", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("asked_by", String(200), nullable=False),
    Column("asked_at", BigInteger, nullable=False, index=True),
    Column("purpose", String(40), nullable=False),
    Column("consent", String(66), nullable=False),
    Column("state", String(16), nullable=False, index=True),
)
"""The tag is the one that the inquiry names. State: new, queued, or nobody (no customer of this bank)."""
notice_customer_table = Table(
    "notice_customer",
    metadata,
    Column("tag", LargeBinary, primary_key=True),
    Column("reference", String(REFERENCE_LENGTH), nullable=False),
    Column("tag_key_version", BigInteger, nullable=False, index=True),
    Column("given", BigInteger, nullable=False, index=True),
)

log = get_logger("mpcredit.server.notices")


class Notices:
    """Notes inquiries and queues what is to be told.

    Args:
        database: the server's.
        webhook: of the family "notice"; its thread also looks whose tags were noted.
        clock: unix seconds.
    """

    def __init__(self, database: Database, webhook: Webhook, *, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.webhook = webhook
        webhook.before = self.resolve
        self._clock = clock
        self._noted: set[bytes] | None = None
        self._since = 0
        self._looked: tuple[int, int, int] | None = None
        self._pruned = 0.0
        self._tagger: Tagger | None = None

    # ----------------------------------------------------------------- the worker's part

    def follow(self, party: Institution | SupervisorNode) -> list[str]:
        """Note what was asked and answered since; with the party locked, after each round (`Node.each_round`)."""
        if not isinstance(party, Institution) or own_member(party) is None:
            return []  # not a member yet, which the round itself has said
        self._tagger = party.tagger
        follower = party.follower
        looked = (follower.replays, len(follower.events), follower.final_block)
        if looked == self._looked:
            return []
        noted = self._start(party)
        for inquiry in list(party.desk.state.inquiries.values()):
            if inquiry.id in noted or inquiry.opened.at.timestamp <= self._since:
                continue
            rows = self._rows(party, inquiry)
            if not rows:
                continue
            with self.database.transaction() as connection:
                connection.execute(insert(notice_table), rows)
            noted.add(inquiry.id)
        self._looked = looked
        return []

    def _start(self, party: Institution) -> set[bytes]:
        """What was noted before. What was asked before notices were switched on is not told now."""
        store = party.desk.store
        if self._noted is None:
            known = store.get("notices", "since")
            if known is None:
                known = {"at": party.follower.now}
                store.put("notices", "since", known)
            self._since = int(known["at"])
            with self.database.read() as connection:
                found = connection.scalars(select(notice_table.c.inquiry).distinct())
                self._noted = {hex_bytes(inquiry, 32) for inquiry in found}
        if self._clock() - self._pruned > 86_400:
            self._pruned = self._clock()
            end = party.follower.now - KEPT_SECONDS
            if end > self._since:
                with self.database.transaction() as connection:
                    store.put("notices", "since", {"at": end})
                    connection.execute(delete(notice_table).where(notice_table.c.asked_at <= end))
                self._since = end
        return self._noted

    def _rows(self, party: Institution, inquiry: Inquiry) -> list[dict[str, Any]]:
        """One for each subject, customer or not; none while it is not final, and where this bank has not answered."""
        final = party.follower.final_block
        own = inquiry.inquirer == party.index
        answer = inquiry.contributions.get(party.index)
        if inquiry.opened.at.block > final or answer is None or answer.at.block > final:
            return []
        if own:
            request = next((r for r in party.inquirer.requests() if r.inquiry == inquiry.id), None)
            if request is None:
                return []
            purpose, consents = str(request.value["purpose"]), request.consents
        else:
            try:
                subjects = party.desk.subjects(inquiry)
            except MpcreditError as error:  # answered, so it opened: a key that is not at hand now
                log.debug("a subject cannot be read", inquiry=to_hex(inquiry.id), trouble=str(error))
                return []
            purpose, consents = subjects.purpose.value, [entry.consent for entry in subjects.entries]
        return [
            {
                "inquiry": to_hex(inquiry.id),
                "tag": to_hex(consent.tag),
                "tag_key_version": consent.tag_key_version,
                "kind": "asked" if own else "answered",
                "asked_by": inquiry.names[inquiry.inquirer],
                "asked_at": inquiry.opened.at.timestamp,
                "purpose": purpose,
                "consent": to_hex(consent.hash),
                "state": "new",
            }
            for consent in consents
        ]

    # ----------------------------------------------------------------- the thread's part

    def resolve(self) -> int:
        """Look whose tags were noted, and queue a notice for each customer of this bank, once.

        Returns:
            How many notices were queued.
        """
        tagger = self._tagger
        if tagger is None or self._ahead(tagger):
            return 0
        raise_tags(self.database, notice_customer_table, tagger)
        queued = 0
        while True:
            with self.database.transaction() as connection:
                c = notice_table.c
                wanted = (c.state == "new") & (c.tag_key_version <= tagger.version)
                query = select(notice_table).where(wanted).order_by(c.asked_at, c.inquiry, c.tag).limit(200)
                rows = connection.execute(query).all()
                for row in rows:
                    customer = self._customer(row, tagger)
                    if customer is not None:
                        self._queue(row, customer)
                        queued += 1
                    connection.execute(
                        update(notice_table)
                        .where(c.inquiry == row.inquiry, c.tag == row.tag)
                        .values(state="nobody" if customer is None else "queued")
                    )
            if len(rows) < 200:
                return queued

    def _ahead(self, tagger: Tagger) -> bool:
        """Whether a command that has read the ledger further gave a list under a later tag key: the worker follows soon."""
        c = notice_customer_table.c
        with self.database.read() as connection:
            newest = connection.scalar(select(func.max(c.tag_key_version)))
        return newest is not None and int(newest) > tagger.version

    def _customer(self, row: Any, tagger: Tagger) -> dict[str, Any] | None:
        """The bank's own reference of the customer, and the application if this bank asked."""
        tag = tagger.raised(hex_bytes(row.tag, 32), int(row.tag_key_version))
        with self.database.read() as connection:
            c = notice_customer_table.c
            reference = connection.scalar(select(c.reference).where(c.tag == tag))
            if row.kind == "answered":
                return None if reference is None else {"customer": str(reference), "application": None}
            a = applications_table.c
            application = connection.scalar(select(a.id).where(a.consent == row.consent))
        return {"customer": None if reference is None else str(reference), "application": application}

    def _queue(self, row: Any, customer: dict[str, Any]) -> None:
        self.webhook.queue_notice(
            f"notice.{row.kind}",
            {
                **customer,
                "inquiry": row.inquiry,
                "asked_by": row.asked_by,
                "asked_at": int(row.asked_at),
                "purpose": row.purpose,
            },
        )


# --------------------------------------------------------------------- the list of customers


def import_customers(
    database: Database,
    audit: AuditLog,
    path: Path,
    tagger: Tagger,
    *,
    actor: str = "console",
    clock: Callable[[], float] = time.time,
) -> int:
    """Replace the list of customers by a CSV file with the columns kind, country, number, reference.

    The file is read twice, so that nothing is changed where a row is wrong. Of two rows of one customer the last counts.

    Returns:
        How many customers are on the list.

    Raises:
        InvalidFile: the file or one of its rows is wrong.
    """
    for _ in _customers(path):
        pass
    given = time.time_ns()
    batch: dict[bytes, str] = {}
    for subject, reference in _customers(path):
        batch[tagger.tag(subject)] = reference
        if len(batch) >= BATCH:
            _put(database, batch, tagger.version, given)
            batch = {}
    _put(database, batch, tagger.version, given)
    c = notice_customer_table.c
    with database.transaction() as connection:
        removed = connection.execute(delete(notice_customer_table).where(c.given != given)).rowcount
        count = int(connection.scalar(select(func.count()).select_from(notice_customer_table)) or 0)
        audit.append(
            actor,
            "notices.customers_given",
            "notices",
            path.name,
            customers=count,
            removed=removed,
            tag_key_version=tagger.version,
            at=int(clock()),
        )
    return count


def _put(database: Database, batch: dict[bytes, str], version: int, given: int) -> None:
    if not batch:
        return
    with database.transaction() as connection:
        connection.execute(delete(notice_customer_table).where(notice_customer_table.c.tag.in_(list(batch))))
        connection.execute(
            insert(notice_customer_table),
            [
                {"tag": tag, "reference": reference, "tag_key_version": version, "given": given}
                for tag, reference in batch.items()
            ],
        )


def _customers(path: Path) -> Iterator[tuple[Subject, str]]:
    """Rows as they are read; every wrong one is told at the end."""
    problems: list[InvalidFile] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            if tuple(header) != CUSTOMER_COLUMNS:
                raise InvalidFile(
                    f"{path.name}, row 1",
                    f"has not the columns {','.join(CUSTOMER_COLUMNS)}",
                    "write them in this order",
                )
            for cells in reader:
                if not cells:
                    continue
                try:
                    yield _customer(cells, f"{path.name}, row {reader.line_num}")
                except InvalidFile as error:
                    problems.append(error)
                    if len(problems) == _LISTED:
                        break
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(str(path), f"cannot be read: {error}", "give a readable CSV file in UTF-8") from error
    if len(problems) == 1:
        raise problems[0]
    if problems:
        listing = "".join(f"\n  {problem}" for problem in problems)
        raise InvalidFile(path.name, f"has wrong rows:{listing}\n", "mend these rows, give the list again")


def _customer(cells: list[str], where: str) -> tuple[Subject, str]:
    if len(cells) != len(CUSTOMER_COLUMNS):
        raise InvalidFile(where, f"has {len(cells)} cells", f"write {len(CUSTOMER_COLUMNS)}")
    kind, country, number, reference = (cell.strip() for cell in cells)
    if not 1 <= len(reference) <= REFERENCE_LENGTH or not reference.isprintable():
        raise InvalidFile(
            f"{where}, reference", "is not a reference", f"write 1 to {REFERENCE_LENGTH} printable characters"
        )
    try:
        return Subject(kind, number, country=country), reference
    except InvalidSubject as error:
        raise InvalidFile(f"{where}, number", error.message, error.remedy or "correct it") from error
