"""Joint credit inquiries: institutions compute a customer's total exposure together, and none gives a figure away.

with mpcredit.local_consortium(institutions=8) as consortium:
    bank = consortium["Bank A"]
    subject = Subject("national_id", "A123456789", country="TW")
    consent = Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=30)
    result = bank.inquire([subject], consents=[consent], officer="li.wei").wait(timeout=60)
    exposure = result[subject]
    decision = bank.policy.decide(exposure, requested=Money("200000", "TWD"))
    result.evidence().save("inquiry.json")
    mpcredit.verify("inquiry.json")
"""

from __future__ import annotations

from pathlib import Path

from mpcredit.amounts import Money
from mpcredit.config import Institution, supervisor_from_config
from mpcredit.consent import Consent, Purpose
from mpcredit.errors import MpcreditError
from mpcredit.evidence import Evidence, VerifiedEvidence, verify_evidence
from mpcredit.identity import Subject
from mpcredit.institution import InquiryResult
from mpcredit.ledger.roster import Pins
from mpcredit.local import LocalConsortium, local_consortium
from mpcredit.policy import CreditPolicy, Decision, Exposure

__all__ = [
    "Consent",
    "CreditPolicy",
    "Decision",
    "Evidence",
    "Exposure",
    "InquiryResult",
    "Institution",
    "LocalConsortium",
    "Money",
    "MpcreditError",
    "Pins",
    "Purpose",
    "Subject",
    "VerifiedEvidence",
    "local_consortium",
    "supervisor_from_config",
    "verify",
]

__version__ = "0.1.0"


def verify(
    path: str | Path,
    *,
    consortium: str | None = None,
    roster: bytes | None = None,
    schema_hash: bytes | None = None,
    pins: Pins | None = None,
) -> VerifiedEvidence:
    """Check a file of evidence without a ledger.

    With neither `roster` nor `pins` only its consistency is checked, and anybody can write such a file: look at
    `authentic` of the result, and compare its consortium and roster with the ledger.

    Args:
        path: written by `InquiryResult.evidence().save` or `mpcredit evidence`.
        consortium: address that you know by another channel; None skips that comparison.
        roster: a value of `Consortium.roster()`, at the opening or later, as your node has it.
        schema_hash: `Consortium.schemaHash` of the inquiry's schema; the roster fixes it too.
        pins: accounts of the founding file: `mpcredit.config.pins_of(mpcredit.config.read_config("mpcredit.toml"))`.

    Raises:
        ProtocolViolation: somebody lied; the message and `culprits` name whom.
        InvalidMessage, InvalidFile: the file is malformed, incomplete or not of your consortium.
    """
    return verify_evidence(
        Evidence.load(path), consortium=consortium, roster=roster, schema_hash=schema_hash, pins=pins
    )
