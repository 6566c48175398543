"""Corrections: a furnisher replaces a wrong figure, and an inquirer learns that one behind its totals was replaced.

    entered -> confirmed -> applied                 an officer enters what was wrong, since when, and why; a reviewer confirms
        `-> refused  `-> stale                      (nobody his own); then the loan book is corrected

A loan book in the database is corrected by the worker: a snapshot with that one row changed. A book in a file is the
bank's own: the correction waits until the file shows the right figure. An import that shows the wrong one again is told,
and holds: the figures are the bank's to give. What was applied goes into the daily notice to the supervisor (R41), without
the figures.

At the inquirer, what the supervisor told (R42) is marked on the application, and asking again is a new application with a new
consent. Asking, waiting for the window and deciding are left to `applications` and the party.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Column, String, Table, Text, func, insert, select, update

from mpcredit.amounts import Money
from mpcredit.books import completed, written_fields
from mpcredit.consent import Consent
from mpcredit.correcting import LOOK_BACK_SECONDS, Listener, Sender, named_tags
from mpcredit.desk import Desk
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidSubject, Refused, StoreError, ValueOutOfRange
from mpcredit.identity import Subject
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.notices import Corrected
from mpcredit.schema import Field, Schema
from mpcredit.server.applications import Application, Applications
from mpcredit.server.audit import AuditLog
from mpcredit.server.bookimport import SnapshotBook, correct_row, current_snapshots
from mpcredit.server.casefile import applications_table
from mpcredit.server.database import Database, metadata
from mpcredit.server.drafts import Draft
from mpcredit.server.footprint import tags_of
from mpcredit.server.logs import get_logger
from mpcredit.server.node import Node, own_member
from mpcredit.server.refusals import InvalidForm, NotAllowed, NotFound

__all__ = ["Correction", "Corrections", "correction_table"]

SCHEMA: Final = 1
"""Figures that officers know are those of schema 1."""
WATCH_SECONDS: Final = 400 * 86_400
"""For so long an import that shows the wrong figure again is told."""
PER_DAY: Final = 50
"""Of one officer: a daily notice holds 16."""
TRIES_PER_DAY: Final = 10
"""Of one officer: entries whose figure was not the book's. Who knows it mistypes; who tries until one fits is looking."""

correction_table = Table(
    "correction",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("label", String(200), nullable=False),
    Column("tags", Text, nullable=False),
    Column("tag_key_version", BigInteger, nullable=False),
    Column("schema", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("field", String(64), nullable=False),
    Column("was", BigInteger, nullable=False),
    Column("should_be", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("entered_by", String(200), nullable=False),
    Column("entered_at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("decided_by", String(200), nullable=True),
    Column("decided_at", BigInteger, nullable=True),
    Column("remark", Text, nullable=False),
    Column("applied_at", BigInteger, nullable=True),
    Column("told_day", BigInteger, nullable=True),
    Column("watch", String(16), nullable=False),
)
"""`watch` of an applied one: right, wrong (again), or moved (another figure since)."""

log = get_logger("mpcredit.server.corrections")


@dataclass(frozen=True)
class Correction:
    """A correction as stored."""

    id: str
    label: str
    """The customer, masked."""
    currency: str
    field: str
    was: int
    """Minor units, or a count."""
    should_be: int
    since: int
    """Unix seconds: from when on the wrong figure was given."""
    reason: str
    entered_by: str
    entered_at: int
    state: str
    """entered, refused, confirmed, applied or stale."""
    decided_by: str | None
    decided_at: int | None
    remark: str
    applied_at: int | None
    told_day: int | None
    watch: str

    def shown(self, value: int) -> str:
        """A figure for people."""
        amount = self.field in ("outstanding", "credit_limit", "overdue")
        return str(Money.of_minor(value, self.currency)).replace(" ", "\N{NO-BREAK SPACE}") if amount else str(value)

    @property
    def since_day(self) -> str:
        """The day from which the figure was wrong."""
        return datetime.fromtimestamp(self.since, tz=UTC).strftime("%Y-%m-%d")


class Corrections:
    """Enters, confirms, applies and watches corrections; marks applications that one concerns.

    Args:
        node, audit: the server's.
        applications: the desk; its database is used.
        sends: whether the daily notice is sent.
        clock: unix seconds.
    """

    def __init__(
        self,
        node: Node,
        audit: AuditLog,
        applications: Applications,
        *,
        sends: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.node = node
        self.audit = audit
        self.applications = applications
        self.sends = sends
        self._clock = clock
        self._sender: Sender | None = None
        self._listener: Listener | None = None
        self._book: object = None
        self._marked: set[str] = set()

    @property
    def database(self) -> Database:
        """The server's."""
        return self.applications.database

    # ----------------------------------------------------------------- entering and confirming

    def enter(
        self,
        *,
        kind: str,
        country: str,
        number: str,
        field: str,
        was: str,
        should_be: str,
        since: str,
        reason: str,
        officer: str,
    ) -> Correction:
        """Enter a correction, to be confirmed by somebody else.

        Args:
            kind, country, number: of the customer; the number is not kept.
            field: of schema 1; a derived one follows by itself.
            was, should_be: amounts in major units, or counts.
            since: a day, as 2026-11-01, from which the wrong figure was given.

        Raises:
            InvalidForm: with every field that is wrong.
            NotAllowed: too many by this officer today, entered or tried.
        """
        problems: dict[str, str] = {}
        subject: Subject | None = None
        try:
            subject = Subject(kind, number, country=country)
        except InvalidSubject as error:
            problems["country" if "country" in error.message else "number"] = str(error)
        now = int(self._clock())
        day = _day(since, now, problems)
        if len(reason.strip()) < 5:
            problems["reason"] = "write what was wrong and how you know"
        with self.node.locked() as party:
            schema = _schema(party)
            part = next((part for part in written_fields(schema) if part.name == field), None)
            if part is None:
                problems["field"] = "choose one of the figures"
                raise InvalidForm(problems)
            currency = party.furnisher.book.currency
            values = [_figure(name, text, part, currency, problems) for name, text in _pairs(was, should_be)]
            if problems or subject is None:
                raise InvalidForm(problems)
            before, after = values
            if before == after:
                raise InvalidForm({"should_be": "is the figure that it was"})
            self._check_tries(officer, now)
            tags = tags_of(party, subject)
            record = party.furnisher.book.record(schema, party.tagger.tag(subject))
            if record[field] != before:
                # Whoever tries figures until one fits is seen: every look at a subject is in the audit log.
                self.audit.append(
                    officer,
                    "correction.did_not_fit",
                    "corrections",
                    reason.strip(),
                    customer=_label(subject),
                    field=field,
                )
                raise InvalidForm({"was": "is not what the loan book in use says: look at it again"})
            version = party.tagger.version
        identifier, label = secrets.token_hex(8), _label(subject)
        with self.database.transaction() as connection:
            c = correction_table.c
            count = connection.scalar(select(func.count()).where(c.entered_by == officer, c.entered_at > now - 86_400))
            if int(count or 0) >= PER_DAY:
                raise NotAllowed(
                    f"you have entered {count} corrections in 24 hours; at most {PER_DAY} are allowed",
                    remedy="import a corrected loan book: that is no work for single corrections",
                )
            connection.execute(
                insert(correction_table).values(
                    id=identifier,
                    label=label,
                    tags=json.dumps(tags),
                    tag_key_version=version,
                    schema=schema.id,
                    currency=currency,
                    field=field,
                    was=before,
                    should_be=after,
                    since=day,
                    reason=reason.strip(),
                    entered_by=officer,
                    entered_at=now,
                    state="entered",
                    remark="",
                    watch="",
                )
            )
            self.audit.append(
                officer, "correction.entered", f"correction/{identifier}", reason.strip(), customer=label, field=field
            )
        self.node.publish("correction", identifier, state="entered")
        return self.get(identifier)

    def _check_tries(self, officer: str, now: int) -> None:
        found = self.audit.search(actor=officer, action="correction.did_not_fit", limit=TRIES_PER_DAY)
        if len(found) == TRIES_PER_DAY and found[-1].at > now - 86_400:
            raise NotAllowed(
                f"{TRIES_PER_DAY} figures that you wrote in 24 hours were not the loan book's",
                remedy="look the figure up in the bank's own system; a reviewer sees each try in the audit log",
            )

    def decide(self, correction_id: str, *, reviewer: str, agree: bool, remark: str) -> Correction:
        """Confirm or refuse what another person entered.

        Raises:
            InvalidForm: refused without a reason.
            NotAllowed: nothing to confirm, or his own.
        """
        with self.database.transaction() as connection:
            correction = self.get(correction_id)
            if correction.state != "entered":
                raise NotAllowed("there is nothing to confirm here")
            if reviewer == correction.entered_by:
                raise NotAllowed("nobody confirms his own correction", remedy="another reviewer must do it")
            if not agree and len(remark.strip()) < 5:
                raise InvalidForm({"remark": "write why, for who entered it"})
            state = "confirmed" if agree else "refused"
            connection.execute(
                update(correction_table)
                .where(correction_table.c.id == correction_id, correction_table.c.state == "entered")
                .values(state=state, decided_by=reviewer, decided_at=int(self._clock()), remark=remark.strip())
            )
            self.audit.append(
                reviewer,
                f"correction.{state}",
                f"correction/{correction_id}",
                remark.strip(),
                customer=correction.label,
                entered_by=correction.entered_by,
            )
        self.node.publish("correction", correction_id, state=state)
        self.node.wake()
        return self.get(correction_id)

    # ----------------------------------------------------------------- reading

    def get(self, correction_id: str) -> Correction:
        """Read one.

        Raises:
            NotFound: there is none of that id.
        """
        with self.database.read() as connection:
            row = connection.execute(
                select(correction_table).where(correction_table.c.id == correction_id)
            ).one_or_none()
        if row is None:
            raise NotFound("there is no such correction", remedy="look for it in the list")
        return _correction(row)

    def newest(self, *, states: Sequence[str] | None = None, limit: int = 500) -> list[Correction]:
        """The newest first."""
        c = correction_table.c
        query = select(correction_table).order_by(c.entered_at.desc(), c.id).limit(limit)
        if states is not None:
            query = query.where(c.state.in_(list(states)))
        with self.database.read() as connection:
            return [_correction(row) for row in connection.execute(query)]

    def todo(self) -> list[Correction]:
        """What waits for a reviewer, and what an import has undone."""
        found = self.newest(states=("entered", "applied"))
        return [one for one in found if one.state == "entered" or one.watch == "wrong"]

    def in_database(self) -> bool:
        """Whether the loan book in use is the database's, so that the worker corrects it."""
        with self.node.locked() as party:
            return isinstance(party, Institution) and isinstance(party.furnisher.book, SnapshotBook)

    # ----------------------------------------------------------------- the worker's part

    def follow(self, party: Institution | SupervisorNode) -> list[str]:
        """Do what is due; with the party locked, after each round (`Node.each_round`)."""
        if not isinstance(party, Institution) or own_member(party) is None:
            return []  # not a member yet, which the round itself has said
        if self._sender is None or self._listener is None or self._listener.desk is not party.desk:
            desk = party.desk
            self._sender = Sender(desk, pending=lambda: self._unsaid(desk), said=self._said)
            self._listener = Listener(party.desk)
        told = self._listener.step()
        lines = told + self._mark(party)
        try:
            lines += self._apply(party)
        except StoreError as error:  # an import runs: tried again
            log.info("a correction waits", trouble=str(error))
        lines += self._look(party)
        if self.sends:
            lines += self._sender.step()
        return lines

    def _apply(self, party: Institution) -> list[str]:
        """Bring confirmed corrections into the book, or see that they are in it."""
        lines = []
        for row in self._rows("confirmed"):
            schema, book, tag = _schema(party), party.furnisher.book, _newest_tag(row, party.desk)
            figure = _record(book, schema, tag).get(row.field)
            if figure == row.should_be:
                lines += self._end(row, "applied", "", party)
            elif figure != row.was:
                lines += self._end(row, "stale", "the loan book shows a third figure by now", party)
            elif isinstance(book, SnapshotBook):
                newest = SnapshotBook(self.database, current_snapshots(self.database))
                record = dict(newest.record(schema, tag))
                same_tags = newest.tag_key_version == party.tagger.version  # else the party uses the raised one soon
                if same_tags and record[row.field] == row.was:  # else it is written, and in use from the next round on
                    record[row.field] = int(row.should_be)
                    correct_row(self.database, self.audit, schema, tag, completed(schema, record), clock=self._clock)
                    self.node.wake()
        return lines

    def _end(self, row: Any, state: str, why: str, party: Institution) -> list[str]:
        now = party.follower.next_time
        values: dict[str, Any] = {"state": state}
        if state == "applied":
            values |= {"applied_at": max(now, int(row.since) + 1), "watch": "right"}
        else:
            values |= {"remark": why}
        with self.database.transaction() as connection:
            connection.execute(update(correction_table).where(correction_table.c.id == row.id).values(**values))
            self.audit.append("node", f"correction.{state}", f"correction/{row.id}", why, customer=row.label)
        self.node.publish("correction", row.id, state=state)
        if state == "applied":
            return [f"a correction is in the loan book: {row.label}, {row.field}"]
        return [f"a correction is not in the loan book: {row.label}, {row.field}: {why}"]

    def _look(self, party: Institution) -> list[str]:
        """Compare every newer book with what was corrected."""
        if party.furnisher.book is self._book:
            return []
        self._book, lines = party.furnisher.book, []
        schema = _schema(party)
        for row in self._rows("applied"):
            if row.watch == "moved":
                continue
            if row.applied_at < party.follower.next_time - WATCH_SECONDS:
                continue
            figure = _record(party.furnisher.book, schema, _newest_tag(row, party.desk)).get(row.field)
            watch = {row.should_be: "right", row.was: "wrong"}.get(figure, "moved")
            if watch == row.watch:
                continue
            with self.database.transaction() as connection:
                connection.execute(update(correction_table).where(correction_table.c.id == row.id).values(watch=watch))
                if watch == "wrong":
                    self.audit.append(
                        "node", "correction.undone", f"correction/{row.id}", "a newer loan book", customer=row.label
                    )
            if watch == "wrong":
                lines.append(f"the newer loan book has the wrong figure again: {row.label}, {row.field}")
        return lines

    def _rows(self, state: str) -> list[Any]:
        c = correction_table.c
        with self.database.read() as connection:
            query = select(correction_table).where(c.state == state).order_by(c.entered_at, c.id)
            return list(connection.execute(query).all())

    def _unsaid(self, desk: Desk) -> list[tuple[str, list[Corrected]]]:
        c = correction_table.c
        with self.database.read() as connection:
            rows = connection.execute(
                select(correction_table)
                .where(
                    c.state == "applied", c.told_day.is_(None), c.applied_at > int(self._clock()) - LOOK_BACK_SECONDS
                )
                .order_by(c.applied_at, c.id)
            ).all()
        return [
            (
                row.id,
                [
                    Corrected(tag, int(row.since), int(row.applied_at))
                    for tag in named_tags(desk, _newest_tag(row, desk))
                ],
            )
            for row in rows
        ]

    def _said(self, names: list[str], day: int) -> None:
        with self.database.transaction() as connection:
            connection.execute(update(correction_table).where(correction_table.c.id.in_(names)).values(told_day=day))
            for name in names:
                self.audit.append("node", "correction.said", f"correction/{name}", "to the supervisor", day=day)

    # ----------------------------------------------------------------- at the inquirer

    def _mark(self, party: Institution) -> list[str]:
        """Mark the applications of inquiries that the supervisor has told of."""
        lines = []
        for key, value in list(party.desk.store.items("corrected")):
            mark = f"{key}/{value['day']}"
            if mark in self._marked:
                continue
            self._marked.add(mark)
            inquiry, _, place = key.partition("/")
            application = self._application(party, inquiry, int(place))
            if application is None or application.value.get("corrected", {}).get("day", -1) >= value["day"]:
                continue
            with self.database.transaction():
                self._note(application.id, corrected={"day": value["day"], "at": value["at"]})
                self.audit.append(
                    "node", "application.figure_corrected", f"application/{application.id}", inquiry=inquiry
                )
                webhook = self.applications.webhook
                if webhook is not None and application.officer.startswith("token:"):
                    answer = self.applications.get(application.id).to_json_object()
                    webhook.queue("application.corrected", answer)
            self.node.publish("application", application.id, step=application.step.value)
            lines.append(f"application {application.number}: a figure behind its totals was corrected since")
        return lines

    def _application(self, party: Institution, inquiry: str, place: int) -> Application | None:
        request = next((r for r in party.inquirer.requests() if r.inquiry and to_hex(r.inquiry) == inquiry), None)
        if request is None:
            return None
        a = applications_table.c
        with self.database.read() as connection:
            ids = connection.scalars(select(a.id).where(a.value.contains(f'"request": "{request.id}"'))).all()
        found = [self.applications.get(one) for one in ids]
        return next((one for one in found if one.request_id == request.id and one.value.get("place") == place), None)

    def _note(self, application_id: str, **changes: Any) -> None:
        a = applications_table.c
        with self.database.transaction() as connection:
            value = json.loads(connection.scalars(select(a.value).where(a.id == application_id)).one())
            connection.execute(
                update(applications_table).where(a.id == application_id).values(value=json.dumps({**value, **changes}))
            )

    def again(
        self, application_id: str, fields: Mapping[str, str], *, officer: str, attach: Callable[[Draft], Draft]
    ) -> Application:
        """Ask again about an application of whose totals a figure was corrected: a new application, with a new consent.

        Args:
            fields: kind, country, number, evidence; the rest is the first application's.
            attach: adds an uploaded document.

        Raises:
            InvalidForm: another customer, or no new consent.
            NotAllowed: nothing was corrected, it was asked again, it is another officer's, or the cool-down is not over.
        """
        desk = self.applications
        with self.node.locked() as party, self.database.transaction():
            application = desk.get(application_id)
            self.may_ask_again(application, officer)
            first = {
                "amount": str(application.requested).rsplit(" ", 1)[0],
                "months": "" if application.months is None else str(application.months),
                "income": "" if application.income is None else str(application.income).rsplit(" ", 1)[0],
                "purpose": application.purpose,
                "reference": application.reference,
            }
            draft = attach(Draft.parse({**first, **fields}, currency=application.currency))
            consent = Consent.parse(desk.consents.receipt(application.consent).encode())
            if party.desk.newest_tag(consent) != party.tagger.tag(draft.subject):
                raise InvalidForm({"number": "is another customer's: this page asks again about the same one"})
            opened, terms = application.seen.get("opened_at"), party.desk.state.parameters
            if opened and terms and party.follower.next_time < opened + terms.cooldown_seconds:
                raise NotAllowed(
                    f"the others answer about this customer again from {opened + terms.cooldown_seconds} on",
                    remedy="wait for the end of the cool-down",
                )
            made = desk.create(draft, officer=officer)
            corrected = {**application.value["corrected"], "again": made.id, "again_number": made.number}
            self._note(application.id, corrected=corrected)
            self._note(made.id, again_of={"id": application.id, "number": application.number})
            self.audit.append(
                officer,
                "application.asked_after_correction",
                f"application/{application.id}",
                application.purpose,
                again=made.id,
            )
        self.node.publish("application", application.id, step=application.step.value)
        return desk.get(made.id)

    def may_ask_again(self, application: Application, officer: str) -> None:
        """See `again`.

        Raises:
            NotAllowed: why not.
        """
        corrected = application.value.get("corrected")
        if not corrected:
            raise NotAllowed("no figure behind these totals has been corrected, as far as is known here")
        if corrected.get("again"):
            raise NotAllowed("this was asked again already", remedy="look at the newer application")
        if not self.applications.may_decide(application, officer):
            raise NotAllowed("only its own officer asks again")


def _label(subject: Subject) -> str:
    return f"{subject.country} …{subject.number[-3:]}"


def _newest_tag(row: Any, desk: Desk) -> bytes:
    """Of the customer of a correction, which keeps the tags of all versions up to that of its entry."""
    return desk.tagger.raised(hex_bytes(json.loads(row.tags)[-1], 32), int(row.tag_key_version))


def _schema(party: Institution) -> Schema:
    schema = party.desk.state.schemas.get(SCHEMA)
    if schema is None:
        raise NotAllowed("the consortium has no schema 1", remedy="correct the loan book itself")
    return schema


def _record(book: Any, schema: Schema, tag: bytes) -> Mapping[str, int]:
    try:
        found: Mapping[str, int] = book.record(schema, tag)
        return found
    except Refused:  # no figures of this schema now
        return {}


def _pairs(was: str, should_be: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("was", was), ("should_be", should_be)


def _figure(name: str, text: str, part: Field, currency: str, problems: dict[str, str]) -> int:
    plain = text.strip()
    try:
        if part.kind == "amount":
            value = Money.typed(plain, currency).minor
        elif plain.isascii() and plain.isdecimal():
            value = int(plain[:20])
        else:
            raise ValueOutOfRange("write a whole number")
        if not 0 <= value < 2**part.value_bits:
            raise ValueOutOfRange("is too large, or below 0")
    except ValueOutOfRange as error:
        problems[name] = str(error)
        return -1
    return value


def _day(text: str, now: int, problems: dict[str, str]) -> int:
    try:
        moment = int(datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except (ValueError, OverflowError):
        problems["since"] = "write a day, as 2026-11-01"
        return 0
    if not 0 <= moment <= now:
        problems["since"] = "is not a day of the past"
    return moment


def _correction(row: Any) -> Correction:
    names = Correction.__dataclass_fields__
    return Correction(**{name: getattr(row, name) for name in names})
