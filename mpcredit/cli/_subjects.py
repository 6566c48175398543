"""Subjects and consents as people give them: kind:country:number, CSV files, receipt files."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpcredit.cli._access import Access
from mpcredit.cli._parties import own_member
from mpcredit.cli._shared import moment
from mpcredit.consent import NO_EVIDENCE, Consent, Purpose
from mpcredit.errors import InvalidConsent, InvalidEncoding, InvalidFile, InvalidMessage, InvalidSubject
from mpcredit.identity import Subject
from mpcredit.pairkeys import Realm
from mpcredit.tags import HmacTagger, tagger_of

MAXIMUM_DAYS = 3_660


@dataclass(frozen=True)
class Recipient:
    """The institution that consents are given to."""

    realm: Realm
    index: int
    tagger: HmacTagger
    now: int


def recipient(party: Access) -> Recipient:
    """This institution, for consents.

    Raises:
        NotYet: it is no member. KeyStoreError: its tag key is missing or another one.
    """
    member = own_member(party)
    state = party.follower.state
    return Recipient(state.realm, member.index, tagger_of(party.keys, party.follower.tag_keys), party.follower.now)


def parse_subject(text: str) -> Subject:
    """Read kind:country:number.

    Raises:
        InvalidSubject: it is not that, or no valid identity; the message repeats no number.
    """
    parts = text.split(":", 2)
    if len(parts) != 3:
        raise InvalidSubject(
            "a subject is not of the form kind:country:number", remedy="write national_id:TW:A123456789"
        )
    return Subject(parts[0].strip(), parts[2], country=parts[1].strip())


def label_of(subject: Subject) -> str:
    """What to call a subject where the identity number must not stand."""
    return f"{subject.kind} {subject.country} …{subject.number[-3:]}"


def read_subjects(path: Path) -> tuple[list[Subject], list[str]]:
    """Read a CSV file with the columns kind, country, number and, if wanted, label.

    Returns:
        The subjects, and what to call them.

    Raises:
        InvalidFile: a row is wrong; the message names it.
    """
    subjects: list[Subject] = []
    labels: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            names = [name.strip() for name in reader.fieldnames or []]
            if names not in (["kind", "country", "number"], ["kind", "country", "number", "label"]):
                raise InvalidFile(
                    f"{path}, row 1, header",
                    "is not that of a file of subjects",
                    "write kind,country,number or kind,country,number,label",
                )
            reader.fieldnames = names
            for row in reader:
                place = f"{path}, row {reader.line_num}"
                if None in row or any(value is None for value in row.values()):
                    raise InvalidFile(place, f"does not have {len(names)} cells", "separate them by commas")
                try:
                    subject = Subject(row["kind"].strip(), row["number"], country=row["country"].strip())
                except InvalidSubject as error:
                    raise InvalidFile(place, error.message, error.remedy or "correct the row") from error
                subjects.append(subject)
                labels.append((row.get("label") or "").strip() or label_of(subject))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(str(path), f"cannot be read: {error}", "name a CSV file in UTF-8") from error
    if not subjects:
        raise InvalidFile(str(path), "has no rows", "write one row for each subject")
    return subjects, labels


def collect_subjects(given: Sequence[str], file: Path | None) -> tuple[list[Subject], list[str]]:
    """Subjects of the arguments, or of a file.

    Raises:
        InvalidMessage: none, or both ways.
    """
    if bool(given) == (file is not None):
        raise InvalidMessage(
            "no subject is given", remedy="give --subject kind:country:number (repeatable), or --file CSV"
        )
    if file is not None:
        return read_subjects(file)
    subjects = [parse_subject(text) for text in given]
    return subjects, [label_of(subject) for subject in subjects]


def parse_purpose(text: str) -> Purpose:
    """A purpose code.

    Raises:
        InvalidConsent: there is none of that name.
    """
    try:
        return Purpose(text)
    except ValueError as error:
        raise InvalidConsent(
            f"{text!r} is no purpose code", remedy=f"use one of {', '.join(purpose.value for purpose in Purpose)}"
        ) from error


def hash_file(path: Path | None) -> bytes:
    """SHA-256 of the document of a consent; zeros when there is none.

    Raises:
        InvalidFile: it cannot be read.
    """
    if path is None:
        return NO_EVIDENCE
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise InvalidFile(
            str(path), f"cannot be read: {error.strerror}", "name the signed form or recording"
        ) from error


def read_consent(path: Path) -> Consent:
    """Read a receipt file.

    Raises:
        InvalidFile: it cannot be read, or is no receipt.
    """
    try:
        return Consent.parse(path.read_bytes().removesuffix(b"\n"))
    except OSError as error:
        raise InvalidFile(
            str(path), f"cannot be read: {error.strerror}", "name a file that `mpcredit consent grant` wrote"
        ) from error
    except (InvalidConsent, InvalidEncoding) as error:
        raise InvalidFile(
            str(path), error.message, "name a file that `mpcredit consent grant` wrote, unchanged"
        ) from error


def read_consents(paths: Sequence[Path]) -> list[Consent]:
    """Read receipt files; a directory stands for all *.json in it.

    Raises:
        InvalidFile: one of them is no receipt.
    """
    found = []
    for path in paths:
        found += (
            [read_consent(place) for place in sorted(path.glob("*.json"))] if path.is_dir() else [read_consent(path)]
        )
    return found


def match_consents(
    subjects: Sequence[Subject], labels: Sequence[str], consents: Sequence[Consent], to: Recipient, now: int
) -> list[Consent]:
    """One receipt for each subject, in the order of the subjects; they are told apart by their tags.

    Raises:
        InvalidConsent: a subject has none, or it is not valid now; the message names the subject by its label.
    """
    matched = []
    for subject, label in zip(subjects, labels, strict=True):
        tags = to.tagger.tags(subject)  # a receipt may name an earlier version
        fitting = [consent for consent in consents if (consent.tag_key_version, consent.tag) in enumerate(tags, 1)]
        if not fitting:
            raise InvalidConsent(
                f"there is no consent of {label}",
                remedy="give its receipt with --consent FILE, or write one with --grant-days N --purpose CODE",
            )
        valid = [consent for consent in fitting if consent.valid_from <= now < consent.valid_until]
        if not valid:
            raise InvalidConsent(
                f"the consent of {label} holds from {moment(fitting[-1].valid_from)} to {moment(fitting[-1].valid_until)}, and "
                f"the ledger's clock says {moment(now)}",
                remedy="ask the customer for a new one",
            )
        matched.append(valid[-1])
    return matched


def grant(subject: Subject, to: Recipient, *, purpose: str, days: int, evidence: bytes, now: int) -> Consent:
    """Write a receipt.

    Raises:
        InvalidConsent: an unknown purpose, or a time that is too long.
    """
    if not 1 <= days <= MAXIMUM_DAYS:
        raise InvalidConsent(f"a consent for {days} days", remedy=f"give 1 to {MAXIMUM_DAYS} days")
    return Consent.grant(subject, to=to, purpose=parse_purpose(purpose), days=days, evidence=evidence, now=now)
