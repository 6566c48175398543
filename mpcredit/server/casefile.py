"""An application as it is stored: its table, where it can stand, and what can be read from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, text

from mpcredit.amounts import Money
from mpcredit.server.database import metadata

__all__ = ["Application", "Step", "application_of", "applications_table"]

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
    # What the limits against misuse are judged by (mpcredit.server.misuse).
    Column("tag", String(66), nullable=True, index=True),
    Column("tag_key_version", BigInteger, nullable=True),
    Column("ready_at", BigInteger, nullable=True),
    Column("settled", String(16), nullable=True),
    Index("ix_application_created_at", "created_at", "tag"),
    Index("ix_application_step", "step"),
    Index("ix_application_officer", "officer", "created_at"),
    sqlite_autoincrement=True,
)
Index(
    "ix_application_settled",
    applications_table.c.created_at,
    sqlite_where=text("settled IS NOT NULL"),
    postgresql_where=text("settled IS NOT NULL"),
)


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


def application_of(row: Any) -> Application:
    """The application that a row of the table holds."""
    return Application(
        number=int(row.number),
        id=str(row.id),
        officer=str(row.officer),
        created_at=int(row.created_at),
        step=Step(row.step),
        consent=str(row.consent),
        value=json.loads(row.value),
    )
