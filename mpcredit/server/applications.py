"""Applications for credit: entered by an officer or the bank's own system, asked about, decided, confirmed.

An application, its consent, the inquirer's request and the audit entry are one transaction, so nothing is asked twice and
nothing without a trace. `follow` copies what the party knows into the application after each round of work, so that a page
needs no lock on the party. The customer's number is not kept: only its last characters and its tag.

    waiting -> asking -> checking -> ready -> [review ->] decided          waiting: also while the window rule holds it back
                  `---------------> stopped -> waiting (asked again)

Who may do what: an officer enters and decides; a decision against the policy needs a reason and another person, a
reviewer, who confirms it or sends it back. Nobody confirms his own.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, LargeBinary, String, Table, Text, func, select

from mpcredit.amounts import Money
from mpcredit.consent import NO_EVIDENCE, Consent, Purpose
from mpcredit.encoding import hex_bytes, parse_canonical_json, to_hex
from mpcredit.errors import InvalidEncoding, InvalidSubject, MpcreditError, ValueOutOfRange
from mpcredit.events import Call
from mpcredit.identity import KINDS, Subject
from mpcredit.inquirer import Request, RequestState
from mpcredit.institution import Institution, SupervisorNode, coverage_of, exposure_of
from mpcredit.policy import CreditPolicy, Decision, Outcome
from mpcredit.protocol import MAXIMUM_BLOCKS
from mpcredit.server.audit import AuditLog
from mpcredit.server.database import Database, metadata
from mpcredit.server.node import Node
from mpcredit.server.webhook import Webhook
from mpcredit.state import Inquiry

__all__ = [
    "BATCH_COLUMNS",
    "Application",
    "Applications",
    "Draft",
    "InvalidForm",
    "NotAllowed",
    "NotFound",
    "Step",
    "read_batch",
]

applications_table = Table(
    "application",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("officer", String(200), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("step", String(16), nullable=False),
    Column("idempotency_key", String(300), nullable=True, unique=True),
    Column("fingerprint", String(64), nullable=False),
    Column("consent", String(66), nullable=False, unique=True),
    Column("value", Text, nullable=False),
    Index("ix_application_step", "step"),
    Index("ix_application_officer", "officer", "created_at"),
    sqlite_autoincrement=True,
)
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

DAY: Final = 86_400
CONSENT_DAYS: Final = 30
"""How long a consent that an application brings holds; the inquiry may wait for the window rule."""
EVIDENCE_BYTES: Final = 5_000_000
"""Largest consent document that is kept; of larger ones give the hash."""
BATCH_ROWS: Final = 1_000
OVERDUE_DECISION: Final = 3 * DAY
"""Attested totals without a decision for so long are an alarm: somebody may have asked out of curiosity."""
BATCH_COLUMNS: Final = (
    "kind",
    "country",
    "number",
    "amount",
    "currency",
    "months",
    "income",
    "purpose",
    "evidence",
    "reference",
)


class InvalidForm(MpcreditError):
    """Fields that a person or a system must correct.

    Args:
        problems: by field, one sentence each.
    """

    exit_code = 2

    def __init__(self, problems: Mapping[str, str], *, place: str = "") -> None:
        text = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        super().__init__(f"{place}: {text}" if place else text, remedy="correct it and send it again")
        self.problems = dict(problems)
        self.place = place


class NotAllowed(MpcreditError):
    """The rules of the house do not let this person do this now."""

    exit_code = 5


class NotFound(MpcreditError):
    """There is nothing of that name here."""


class Step(StrEnum):
    """Where an application stands."""

    WAITING = "waiting"
    """The inquiry has not opened yet."""
    ASKING = "asking"
    """The other institutions are answering."""
    CHECKING = "checking"
    """Totals are there, the supervisor has not attested them."""
    READY = "ready"
    """Totals are attested: the officer decides."""
    STOPPED = "stopped"
    """The inquiry ended without totals."""
    REVIEW = "review"
    """Decided against the policy: another person must confirm."""
    DECIDED = "decided"

    @property
    def open(self) -> bool:
        """Whether the inquiry may still move."""
        return self in (Step.WAITING, Step.ASKING, Step.CHECKING, Step.STOPPED)


_STEPS: Final[Mapping[RequestState, Step]] = {
    RequestState.WANTED: Step.WAITING,
    RequestState.OPENING: Step.WAITING,
    RequestState.OPEN: Step.ASKING,
    RequestState.COMPLETE: Step.CHECKING,
    RequestState.REPORTED: Step.CHECKING,
    RequestState.ATTESTED: Step.READY,
}
_TOLD: Final[Mapping[Step, str]] = {
    Step.WAITING: "waits",
    Step.ASKING: "is being answered",
    Step.CHECKING: "has provisional totals",
    Step.READY: "has attested totals",
    Step.STOPPED: "ended without totals",
}


# --------------------------------------------------------------------- what is entered


@dataclass(frozen=True)
class Draft:
    """An application as entered, checked."""

    subject: Subject
    requested: Money
    months: int | None
    income: Money | None
    purpose: Purpose
    evidence: bytes
    """SHA-256 of the consent document, zeros if there is none."""
    reference: str = ""
    """How the bank calls the case; never a number of an identity document."""
    evidence_name: str = ""
    document: bytes | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, str], *, currency: str, place: str = "") -> Draft:
        """Read the fields of a form, a JSON object or a row of a file.

        Args:
            fields: kind, country, number, amount, currency, months, income, purpose, evidence (64 hexadecimal digits) and
                reference, as text; a `document` is attached afterwards.
            currency: the one in which this institution keeps its figures.

        Raises:
            InvalidForm: with every field that is wrong.
        """
        text = {name: (fields.get(name) or "").strip() for name in BATCH_COLUMNS}
        problems: dict[str, str] = {}
        subject = _subject(text, problems)
        if text["currency"] and text["currency"] != currency:
            problems["currency"] = f"figures are kept in {currency}: convert the amount"
        requested = _money("amount", text["amount"], currency, problems)
        if requested is None and "amount" not in problems:
            problems["amount"] = "write the amount that the customer asks for, 0 for a review"
        income = _money("income", text["income"], currency, problems)
        months = _months(text["months"], problems)
        try:
            purpose = Purpose(text["purpose"])
        except ValueError:
            problems["purpose"] = f"choose one of {', '.join(Purpose)}"
            purpose = Purpose.NEW_CREDIT
        evidence = _evidence(text["evidence"], problems)
        if len(text["reference"]) > 100:
            problems["reference"] = "write at most 100 characters"
        if problems or subject is None or requested is None:
            raise InvalidForm(problems, place=place)
        return cls(subject, requested, months, income, purpose, evidence, text["reference"])

    @property
    def label(self) -> str:
        """The masked identity."""
        return f"{self.subject.country} …{self.subject.number[-3:]}"

    @property
    def fingerprint(self) -> str:
        """Hash of what was asked, to compare a repeated idempotency key; of the identity only its hash enters."""
        parts = [
            hashlib.sha256(self.subject.canonical).hexdigest(),
            str(self.requested),
            str(self.months),
            str(self.income),
            self.purpose.value,
            self.evidence.hex(),
            self.reference,
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _subject(text: Mapping[str, str], problems: dict[str, str]) -> Subject | None:
    if text["kind"] not in KINDS:
        problems["kind"] = f"choose one of {', '.join(KINDS)}"
        return None
    try:
        return Subject(text["kind"], text["number"], country=text["country"])
    except InvalidSubject as error:
        problems["country" if "country" in error.message else "number"] = str(error)
        return None


def _money(name: str, text: str, currency: str, problems: dict[str, str]) -> Money | None:
    if not text:
        return None
    try:
        money = Money(text.replace(",", "").replace(" ", "").replace("_", ""), currency)
        if money.minor < 0:
            raise ValueOutOfRange("an amount is not negative")
        if money.minor >= 2**48:
            raise ValueOutOfRange("the amount is too large")
        return money
    except ValueOutOfRange as error:
        problems[name] = str(error)
        return None


def _months(text: str, problems: dict[str, str]) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= 600:
        problems["months"] = "write a number of months from 1 to 600"
        return None
    return int(text)


def _evidence(text: str, problems: dict[str, str]) -> bytes:
    if not text:
        return NO_EVIDENCE
    try:
        return hex_bytes("0x" + text.lower().removeprefix("0x"), 32)
    except InvalidEncoding:
        problems["evidence"] = "write the SHA-256 of the document: 64 hexadecimal digits"
        return NO_EVIDENCE


def read_batch(data: bytes, *, currency: str) -> list[Draft]:
    """Read a CSV file of applications.

    Raises:
        InvalidForm: the file or some of its rows are wrong; `problems` is keyed by "row 7, amount".
    """
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidForm({"file": f"is not CSV in UTF-8: {error}"}) from error
    if not rows:
        raise InvalidForm({"file": "has no row"})
    missing = [name for name in (*BATCH_COLUMNS[:4], "purpose") if name not in rows[0]]
    if missing:
        raise InvalidForm({"file": f"lacks the column {', '.join(missing)}"})
    if len(rows) > BATCH_ROWS:
        raise InvalidForm({"file": f"has {len(rows)} rows; send at most {BATCH_ROWS} at once"})
    drafts: list[Draft] = []
    problems: dict[str, str] = {}
    seen: dict[bytes, int] = {}
    for place, row in enumerate(rows, start=2):
        try:
            draft = Draft.parse({k: v for k, v in row.items() if isinstance(k, str)}, currency=currency)
        except InvalidForm as error:
            problems.update({f"row {place}, {name}": text for name, text in error.problems.items()})
            continue
        if draft.subject.canonical in seen:
            problems[f"row {place}, number"] = f"is the customer of row {seen[draft.subject.canonical]}"
        seen.setdefault(draft.subject.canonical, place)
        drafts.append(draft)
    if problems:
        raise InvalidForm(problems)
    return drafts


# --------------------------------------------------------------------- what is stored


@dataclass(frozen=True)
class Application:
    """An application as stored."""

    number: int
    """Counts up; for people."""
    id: str
    officer: str
    created_at: int
    """Unix seconds."""
    step: Step
    consent: str
    """Hash of the receipt."""
    value: dict[str, Any]

    @property
    def label(self) -> str:
        """The customer, masked."""
        return str(self.value["label"])

    @property
    def reference(self) -> str:
        """The bank's own name of the case."""
        return str(self.value["reference"])

    @property
    def currency(self) -> str:
        """ISO 4217."""
        return str(self.value["currency"])

    @property
    def requested(self) -> Money:
        """What the customer asks for."""
        return Money.of_minor(int(self.value["requested"]), self.currency)

    @property
    def income(self) -> Money | None:
        """Monthly net income."""
        return None if self.value["income"] is None else Money.of_minor(int(self.value["income"]), self.currency)

    @property
    def months(self) -> int | None:
        """Term."""
        return None if self.value["months"] is None else int(self.value["months"])

    @property
    def purpose(self) -> str:
        """Code of `Purpose`."""
        return str(self.value["purpose"])

    @property
    def request_id(self) -> str | None:
        """Of the inquirer's request."""
        found = self.value.get("request")
        return None if found is None else str(found)

    @property
    def seen(self) -> dict[str, Any]:
        """What `observe` last copied: state, note, inquiry, coverage, answered, awaited, attested, totals."""
        found: dict[str, Any] = self.value.get("seen") or {}
        return found

    @property
    def note(self) -> str:
        """Why it stands there and what would help."""
        return str(self.seen.get("note", ""))

    @property
    def totals(self) -> dict[str, int] | None:
        """Sums over the cohort, in minor units."""
        found = self.seen.get("totals")
        return None if found is None else {name: int(amount) for name, amount in found.items()}

    def money(self, name: str) -> Money:
        """One of the totals that are amounts."""
        totals = self.totals or {}
        return Money.of_minor(totals[name], self.currency)

    @property
    def with_requested(self) -> Money:
        """Outstanding at all institutions, with the requested amount."""
        return self.money("outstanding") + self.requested

    @property
    def attested(self) -> bool:
        """Whether the supervisor found the inquiry valid."""
        return bool(self.seen.get("attested"))

    @property
    def answer(self) -> dict[str, Any] | None:
        """The policy's answer (`policy.Decision` as JSON), None before there are totals."""
        found: dict[str, Any] | None = self.value.get("answer")
        return found

    @property
    def decision(self) -> dict[str, Any] | None:
        """outcome, reason, by, at, against (the policy), and confirmed_by, confirmed_at when confirmed."""
        found: dict[str, Any] | None = self.value.get("decision")
        return found

    @property
    def returned(self) -> dict[str, Any] | None:
        """by, at, reason, outcome of the last decision that a reviewer sent back."""
        found: dict[str, Any] | None = self.value.get("returned")
        return found

    def to_json_object(self) -> dict[str, Any]:
        """What the API answers."""
        totals = self.totals
        return {
            "id": self.id,
            "number": self.number,
            "step": self.step.value,
            "officer": self.officer,
            "created_at": self.created_at,
            "customer": self.label,
            "reference": self.reference,
            "purpose": self.purpose,
            "currency": self.currency,
            "requested": str(self.requested.minor),
            "income": None if self.income is None else str(self.income.minor),
            "months": self.months,
            "consent": self.consent,
            "inquiry": self.seen.get("inquiry"),
            "note": self.note,
            "coverage": self.seen.get("coverage"),
            "attested": self.attested,
            "totals": None if totals is None else {name: str(amount) for name, amount in totals.items()},
            "with_requested": None if totals is None else str(self.with_requested.minor),
            "policy": self.answer,
            "decision": self.decision,
            "corrected": self.value.get("corrected"),
        }


class Applications:
    """Keeps applications and consents.

    Args:
        database: the server's; the party's store is in it too.
        node: gives the party.
        audit: who did what, and why.
        subjects_per_officer: how many customers one officer may ask about in 24 hours; past that he is held back and the
            reviewer is told.
        clock: unix seconds.
        webhook: takes answers to applications that a system posted; None: it must ask.
    """

    def __init__(
        self,
        database: Database,
        node: Node,
        audit: AuditLog,
        *,
        subjects_per_officer: int = 200,
        clock: Callable[[], float] = time.time,
        webhook: Webhook | None = None,
    ) -> None:
        self.database = database
        self.node = node
        self.audit = audit
        self.subjects_per_officer = subjects_per_officer
        self.clock = clock
        self.webhook = webhook
        self._terms: tuple[str, CreditPolicy] | None = None

    def terms(self) -> tuple[str, CreditPolicy]:
        """The currency of this institution's figures and its credit policy, as of the last round."""
        if self._terms is None:
            with self.node.locked() as party:
                institution = _institution(party)
                self._terms = (institution.furnisher.book.currency, institution.policy)
        return self._terms

    # ----------------------------------------------------------------- entering

    def create(self, draft: Draft, *, officer: str, idempotency_key: str | None = None) -> Application:
        """Store an application with its consent, and ask.

        Args:
            idempotency_key: the caller's name of this application; the same key with the same content gives the first one.

        Raises:
            InvalidForm: the key was used with another content, or a consent document is missing.
            NotAllowed: the officer has asked about too many customers today.
        """
        return self.create_many([draft], officer=officer, idempotency_key=idempotency_key)[0]

    def create_many(
        self, drafts: Sequence[Draft], *, officer: str, idempotency_key: str | None = None
    ) -> list[Application]:
        """Store applications, and ask about all of one purpose in as few inquiries as they fit in."""
        with self.node.locked() as party, self.database.transaction() as connection:
            institution = _institution(party)
            if idempotency_key is not None:
                known = self._by_key(idempotency_key, drafts)
                if known is not None:
                    return known
            self._check_limit(officer, len(drafts))
            stored: list[tuple[Application, Consent]] = []
            for place, draft in enumerate(drafts):
                key = None if idempotency_key is None else f"{idempotency_key}#{place}"
                consent = self._grant(institution, draft)
                application = self._insert(connection, draft, consent, officer, key)
                stored.append((application, consent))
                self.audit.append(
                    officer,
                    "application.created",
                    f"application/{application.id}",
                    application.purpose,
                    customer=application.label,
                    consent=application.consent,
                    requested=str(application.requested),
                )
            for purpose in dict.fromkeys(application.purpose for application, _ in stored):
                members = [pair for pair in stored if pair[0].purpose == purpose]
                for pack in _packs(members, self._pack_size(institution)):
                    self._request(institution, officer, pack)
            identifiers = [application.id for application, _ in stored]
        self.node.wake()
        return [self.get(identifier) for identifier in identifiers]

    def _by_key(self, key: str, drafts: Sequence[Draft]) -> list[Application] | None:
        found = []
        with self.database.read() as connection:
            for place, draft in enumerate(drafts):
                row = connection.execute(
                    select(applications_table).where(applications_table.c.idempotency_key == f"{key}#{place}")
                ).one_or_none()
                if row is None:
                    break
                if row.fingerprint != draft.fingerprint:
                    raise InvalidForm({"idempotency_key": "was used for another application"})
                found.append(_application(row))
        if not found:
            return None
        if len(found) != len(drafts):
            raise InvalidForm({"idempotency_key": "was used for another application"})
        return found

    def _check_limit(self, officer: str, more: int) -> None:
        since = int(self.clock()) - DAY
        with self.database.read() as connection:
            count = connection.execute(
                select(func.count())
                .select_from(applications_table)
                .where(applications_table.c.officer == officer, applications_table.c.created_at > since)
            ).scalar_one()
        if count + more > self.subjects_per_officer:
            raise NotAllowed(
                f"you have asked about {count} customers in 24 hours; at most {self.subjects_per_officer} are allowed",
                remedy="wait, or ask a reviewer, who sees an alarm",
            )

    def _grant(self, party: Institution, draft: Draft) -> Consent:
        if party.furnisher.book.currency != draft.requested.currency:
            raise InvalidForm({"currency": f"figures are kept in {party.furnisher.book.currency}: convert the amount"})
        if draft.evidence == NO_EVIDENCE:
            raise InvalidForm({"evidence": "attach the customer's consent, or write the SHA-256 of the document"})
        # Judged by the ledger's clock, which may be behind this machine's.
        now = min(int(self.clock()), party.follower.now) if party.follower.now else int(self.clock())
        return Consent.grant(
            draft.subject, to=party, purpose=draft.purpose, days=CONSENT_DAYS, evidence=draft.evidence, now=now
        )

    def _insert(
        self, connection: Connection, draft: Draft, consent: Consent, officer: str, key: str | None
    ) -> Application:
        now = int(self.clock())
        value = {
            "label": draft.label,
            "kind": draft.subject.kind,
            "reference": draft.reference,
            "currency": draft.requested.currency,
            "requested": str(draft.requested.minor),
            "income": None if draft.income is None else str(draft.income.minor),
            "months": draft.months,
            "purpose": draft.purpose.value,
            "tag": to_hex(consent.tag),
        }
        identifier = secrets.token_hex(8)
        connection.execute(
            consents_table.insert().values(
                hash=to_hex(consent.hash),
                receipt=consent.receipt.decode(),
                label=draft.label,
                evidence_name=draft.evidence_name or draft.evidence.hex(),
                evidence=draft.document,
                recorded_by=officer,
                recorded_at=now,
            )
        )
        connection.execute(
            applications_table.insert().values(
                id=identifier,
                officer=officer,
                created_at=now,
                step=Step.WAITING.value,
                idempotency_key=key,
                fingerprint=draft.fingerprint,
                consent=to_hex(consent.hash),
                value=json.dumps(value),
            )
        )
        return self._get(connection, identifier)

    # ----------------------------------------------------------------- following the party

    def follow(self, party: Institution | SupervisorNode) -> list[str]:
        """Copy what the party knows; called with the party locked, after each round (`Node.each_round`).

        Returns:
            One line for each application that changed its step.
        """
        lines = []
        institution = _institution(party)
        self._terms = (institution.furnisher.book.currency, institution.policy)
        for application in self.newest(steps=(Step.WAITING, Step.ASKING, Step.CHECKING), limit=100_000):
            if application.request_id is None:
                continue
            request = institution.inquirer.get(application.request_id)
            inquiry = institution.desk.state.inquiries.get(request.inquiry) if request.inquiry else None
            step = _STEPS.get(request.state, Step.STOPPED)
            seen = _seen(request, inquiry, int(application.value["place"]))
            answer = self._policy_answer(institution.policy, application, seen, inquiry, request)
            if step is application.step and seen == application.seen and answer == application.answer:
                continue
            with self.database.transaction():
                self._save(application, step, seen=seen, answer=answer)
                if step is not application.step and step in (Step.READY, Step.STOPPED):
                    self.audit.append(
                        "node",
                        f"application.{'totals_received' if step is Step.READY else 'stopped'}",
                        f"application/{application.id}",
                        application.purpose,
                        inquiry=seen["inquiry"],
                        note=seen["note"],
                    )
                    self._tell_system(application.id)
            self.node.publish("application", application.id, step=step.value)
            if step is not application.step:
                lines.append(f"application {application.number} {_TOLD[step]}")
        return lines

    @staticmethod
    def _pack_size(institution: Institution) -> int:
        schema = institution.desk.state.schemas.get(1)
        return schema.records_per_block(institution.inquirer.bits) * MAXIMUM_BLOCKS if schema else 1

    def _request(self, institution: Institution, officer: str, pack: Sequence[tuple[Application, Consent]]) -> None:
        request = institution.inquirer.request(
            [consent.tag for _, consent in pack],
            [application.label for application, _ in pack],
            [consent for _, consent in pack],
            officer=officer,
        )
        for place, (application, _) in enumerate(pack):
            self._save(application, application.step, request=request.id, place=place)

    def _policy_answer(
        self,
        policy: CreditPolicy,
        application: Application,
        seen: Mapping[str, Any],
        inquiry: Inquiry | None,
        request: Request,
    ) -> dict[str, Any] | None:
        if seen.get("totals") is None or inquiry is None or request.state is RequestState.VOID:
            return None
        record = {name: int(amount) for name, amount in seen["totals"].items()}
        exposure = exposure_of(record, application.label, application.currency, inquiry)
        decision: Decision = policy.decide(
            exposure, requested=application.requested, income=application.income, months=application.months
        )
        return decision.to_json_object()

    def ask_again(self, application_id: str, *, officer: str) -> Application:
        """Ask anew about an application whose inquiry ended without totals; the consent was not used up by it.

        Raises:
            NotAllowed: it has not ended so, or is another officer's.
            InvalidConsent: the consent no longer holds.
        """
        with self.node.locked() as party, self.database.transaction():
            application = self.get(application_id)
            if application.step is not Step.STOPPED or not self.may_decide(application, officer):
                raise NotAllowed("only its own officer asks again, after the inquiry ended without totals")
            consent = Consent.from_json_object(parse_canonical_json(self.receipt(application.consent).encode()))
            institution = _institution(party)
            request = institution.inquirer.request([consent.tag], [application.label], [consent], officer=officer)
            self._save(application, Step.WAITING, request=request.id, place=0, seen={}, answer=None)
            self.audit.append(officer, "application.asked_again", f"application/{application.id}", application.purpose)
        self.node.wake()
        self.node.publish("application", application_id, step=Step.WAITING.value)
        return self.get(application_id)

    def _tell_system(self, application_id: str) -> None:
        """Queue the answer for the system that posted the application, in the transaction of the change."""
        if self.webhook is None:
            return
        application = self.get(application_id)
        if application.officer.startswith("token:") and application.step in (Step.READY, Step.STOPPED, Step.DECIDED):
            self.webhook.queue(f"application.{application.step.value}", application.to_json_object())

    def may_decide(self, application: Application, officer: str) -> bool:
        """Whether this officer may decide: who entered it, and any officer what a system entered."""
        return application.officer == officer or application.officer.startswith("token:")

    # ----------------------------------------------------------------- deciding

    def departs(self, application: Application, outcome: Outcome) -> bool:
        """Whether a decision needs a second person: against the policy's answer, or without attested totals."""
        if not application.attested or application.answer is None:
            return True
        advised = application.answer["outcome"]
        return bool(advised != Outcome.REFER and advised != outcome)

    def decide(self, application_id: str, *, officer: str, outcome: Outcome, reason: str) -> Application:
        """Take the decision.

        Args:
            outcome: approve or decline.
            reason: required unless the decision follows the policy's approve or decline.

        Raises:
            InvalidForm: a reason is missing.
            NotAllowed: decided already, not by its officer, or the inquiry is still under way.
        """
        with self.database.transaction():
            application = self._decide(self.get(application_id), officer, outcome, reason.strip())
        self.node.publish("application", application_id, step=application.step.value)
        return application

    def _decide(self, application: Application, officer: str, outcome: Outcome, reason: str) -> Application:
        if not self.may_decide(application, officer):
            raise NotAllowed("only the officer who entered an application decides it")
        if application.step not in (Step.READY, Step.STOPPED):
            raise NotAllowed("this application cannot be decided now", remedy="see where it stands")
        if outcome is Outcome.REFER:
            raise InvalidForm({"outcome": "choose approve or decline"})
        against = self.departs(application, outcome)
        follows = application.answer is not None and application.answer["outcome"] == outcome
        if not reason and not follows:
            raise InvalidForm({"reason": "write why, for whoever reads this later"})
        decision = {
            "outcome": outcome.value,
            "reason": reason,
            "by": officer,
            "at": int(self.clock()),
            "against": against,
        }
        self._save(application, Step.REVIEW if against else Step.DECIDED, decision=decision)
        policy = application.answer["policy"] if application.answer else ""
        self.audit.append(
            officer,
            "application.decided",
            f"application/{application.id}",
            reason,
            outcome=outcome.value,
            against=against,
            policy=policy,
        )
        self._tell_system(application.id)
        return self.get(application.id)

    def review(self, application_id: str, *, reviewer: str, agree: bool, reason: str) -> Application:
        """Confirm a decision against the policy, or send it back to its officer.

        Raises:
            InvalidForm: sent back without a reason.
            NotAllowed: nothing to confirm, or his own.
        """
        with self.database.transaction():
            application = self._review(self.get(application_id), reviewer, agree, reason.strip())
        self.node.publish("application", application_id, step=application.step.value)
        return application

    def _review(self, application: Application, reviewer: str, agree: bool, reason: str) -> Application:
        decision = application.decision
        if application.step is not Step.REVIEW or decision is None:
            raise NotAllowed("there is nothing to confirm here")
        if reviewer in (decision["by"], application.officer):
            raise NotAllowed("nobody confirms his own decision", remedy="another reviewer must do it")
        if not agree and not reason:
            raise InvalidForm({"reason": "write what the officer should look at again"})
        now = int(self.clock())
        if agree:
            confirmed = {**decision, "confirmed_by": reviewer, "confirmed_at": now, "remark": reason}
            self._save(application, Step.DECIDED, decision=confirmed)
        else:
            back = {"by": reviewer, "at": now, "reason": reason, "outcome": decision["outcome"]}
            step = Step.READY if application.attested else Step.STOPPED
            self._save(application, step, decision=None, returned=back)
        action = "application.confirmed" if agree else "application.sent_back"
        self.audit.append(
            reviewer,
            action,
            f"application/{application.id}",
            reason,
            outcome=decision["outcome"],
            officer=decision["by"],
        )
        self._tell_system(application.id)
        return self.get(application.id)

    # ----------------------------------------------------------------- reading

    def get(self, application_id: str) -> Application:
        """Read one.

        Raises:
            NotFound: there is none of that id.
        """
        with self.database.read() as connection:
            return self._get(connection, application_id)

    def newest(
        self, *, steps: Iterable[Step] | None = None, officer: str | None = None, limit: int = 1_000
    ) -> list[Application]:
        """The newest first."""
        query = select(applications_table).order_by(applications_table.c.number.desc()).limit(limit)
        if steps is not None:
            query = query.where(applications_table.c.step.in_([step.value for step in steps]))
        if officer is not None:
            query = query.where(applications_table.c.officer == officer)
        with self.database.read() as connection:
            return [_application(row) for row in connection.execute(query)]

    def counts(self) -> dict[str, int]:
        """How many applications stand at each step."""
        with self.database.read() as connection:
            query = select(applications_table.c.step, func.count()).group_by(applications_table.c.step)
            found = {step: int(count) for step, count in connection.execute(query)}
        return {step.value: found.get(step.value, 0) for step in Step}

    @staticmethod
    def _get(connection: Connection, application_id: str) -> Application:
        row = connection.execute(
            select(applications_table).where(applications_table.c.id == application_id)
        ).one_or_none()
        if row is None:
            raise NotFound(f"there is no application {application_id}", remedy="look for it in the list")
        return _application(row)

    def _save(self, application: Application, step: Step, **changes: Any) -> None:
        with self.database.transaction() as connection:
            stored = self._get(connection, application.id)
            connection.execute(
                applications_table.update()
                .where(applications_table.c.id == application.id, applications_table.c.step == application.step.value)
                .values(step=step.value, value=json.dumps({**stored.value, **changes}))
            )

    def erase(self, application: Application) -> None:
        """Forget a decided application with its consent and document; the audit log still has who decided what."""
        with self.database.transaction() as connection:
            connection.execute(
                applications_table.delete().where(
                    applications_table.c.id == application.id, applications_table.c.step == Step.DECIDED.value
                )
            )
            connection.execute(consents_table.delete().where(consents_table.c.hash == application.consent))

    # ----------------------------------------------------------------- consents

    def receipt(self, consent: str) -> str:
        """The canonical receipt behind a hash."""
        with self.database.read() as connection:
            found = connection.execute(select(consents_table.c.receipt).where(consents_table.c.hash == consent))
            text = found.scalar_one_or_none()
        if text is None:
            raise NotFound("there is no such consent here", remedy="look for it in the list")
        return str(text)

    def consents(self, *, limit: int = 1_000) -> list[dict[str, Any]]:
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
            institution = _institution(party)
            institution.sync()
            digest, state = hex_bytes(consent, 32), institution.desk.state
            if state.joint_credit is None:
                raise NotAllowed("the consortium is not founded yet")
            if institution.index not in state.revoked.get(digest, set()):
                institution.desk.post(f"revoke/{consent}", Call(state.joint_credit, "revokeConsent", (digest,)))
        with self.database.transaction() as connection:
            connection.execute(
                consents_table.update()
                .where(consents_table.c.hash == consent, consents_table.c.revoked_at.is_(None))
                .values(revoked_by=by, revoked_at=int(self.clock()), revoked_why=why.strip())
            )
            self.audit.append(by, "consent.revoked", f"consent/{consent}", why.strip())

    # ----------------------------------------------------------------- misuse

    def alarms(self) -> list[dict[str, Any]]:
        """What a reviewer should look into: kind, text, officer, application (id or None), at."""
        now = int(self.clock())
        found: list[dict[str, Any]] = []
        recent = self.newest(limit=5_000)
        for application in recent:
            if application.step is Step.READY and application.created_at + OVERDUE_DECISION < now:
                found.append(_alarm("undecided", application.officer, application, application.created_at))
        day = [a for a in recent if a.created_at > now - DAY]
        by_officer: dict[str, list[Application]] = {}
        for application in day:
            by_officer.setdefault(application.officer, []).append(application)
        for officer, theirs in by_officer.items():
            if len(theirs) >= max(1, self.subjects_per_officer * 3 // 4):
                found.append({**_alarm("many", officer, None, theirs[0].created_at), "count": len(theirs)})
            night = [a for a in theirs if not 6 <= time.localtime(a.created_at).tm_hour < 22]
            if len(night) >= 3:
                found.append({**_alarm("out_of_hours", officer, None, night[0].created_at), "count": len(night)})
        tags: dict[str, list[Application]] = {}
        for application in recent:
            if application.created_at > now - 30 * DAY:
                tags.setdefault(str(application.value["tag"]), []).append(application)
        for theirs in tags.values():
            if len(theirs) >= 3:
                found.append(
                    {**_alarm("repeated", theirs[0].officer, theirs[0], theirs[0].created_at), "count": len(theirs)}
                )
        return found


def _institution(party: Institution | SupervisorNode) -> Institution:
    if not isinstance(party, Institution):
        raise NotAllowed("the supervisor takes no applications")
    return party


def _alarm(kind: str, officer: str, application: Application | None, at: int) -> dict[str, Any]:
    return {
        "kind": kind,
        "officer": officer,
        "application": None if application is None else application.id,
        "number": None if application is None else application.number,
        "at": at,
        "count": 1,
    }


def _packs(members: Sequence[tuple[Application, Consent]], size: int) -> Iterator[list[tuple[Application, Consent]]]:
    """Split into packs of at most `size` in which no customer comes twice."""
    pack: list[tuple[Application, Consent]] = []
    tags: set[bytes] = set()
    for member in sorted(members, key=lambda m: m[0].number):
        if len(pack) == size or member[1].tag in tags:
            yield pack
            pack, tags = [], set()
        pack.append(member)
        tags.add(member[1].tag)
    if pack:
        yield pack


def _seen(request: Request, inquiry: Inquiry | None, place: int) -> dict[str, Any]:
    totals = request.totals
    seen: dict[str, Any] = {
        "state": request.state.value,
        "note": request.note,
        "inquiry": to_hex(request.inquiry) if request.inquiry else None,
        "totals": None if totals is None else {name: str(amount) for name, amount in totals[place].items()},
        "attested": request.state is RequestState.ATTESTED,
        "subjects": len(request.value["subjects"]),
    }
    if inquiry is not None:
        seen |= {
            "coverage": coverage_of(inquiry),
            "institutions": len(inquiry.cohort),
            "active": len(inquiry.cohort) + len(inquiry.absent),
            "missing": [inquiry.names[i] for i in inquiry.absent],
            "cohort": [inquiry.names[i] for i in inquiry.cohort],
            "answered": [inquiry.names[i] for i in inquiry.cohort if i in inquiry.contributions],
            "opened_at": inquiry.opened.at.timestamp,
            "deadline": inquiry.opened.deadline,
        }
    return seen


def _application(row: Any) -> Application:
    return Application(
        number=int(row.number),
        id=str(row.id),
        officer=str(row.officer),
        created_at=int(row.created_at),
        step=Step(row.step),
        consent=str(row.consent),
        value=json.loads(row.value),
    )
