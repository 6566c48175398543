"""An application as it is entered: the fields of a form, of a posted JSON object or of a row of a file, checked.

Every wrong field is told at once, by its name. Nothing is stored here, and nobody is asked.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mpcredit.amounts import Money
from mpcredit.consent import NO_EVIDENCE, Purpose
from mpcredit.encoding import hex_bytes
from mpcredit.errors import InvalidEncoding, InvalidSubject, ValueOutOfRange
from mpcredit.identity import KINDS, Subject
from mpcredit.server.refusals import InvalidForm

__all__ = ["BATCH_COLUMNS", "BATCH_ROWS", "EVIDENCE_BYTES", "Draft", "read_batch"]

EVIDENCE_BYTES: Final = 5_000_000
"""Largest consent document that is kept; of larger ones give the hash."""
BATCH_ROWS: Final = 1_000
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
        money = Money.typed(text, currency)
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
        raise InvalidForm({"file": f"has {len(rows)} rows; split the file: at most {BATCH_ROWS} at once"})
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
