"""Consent receipts: what a customer allowed, to whom, for what, from when until when (R17).

A receipt is canonical JSON with a fresh salt; the ledger holds only its hash. It names the subject by tag, never by
identity. Whether a receipt was revoked or used before is looked up by its hash elsewhere.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from eth_utils.address import is_checksum_address

from mpcredit.encoding import canonical_json, hex_bytes, parse_canonical_json, to_hex
from mpcredit.errors import ConsentNotInForce, InvalidConsent, InvalidEncoding
from mpcredit.identity import Subject
from mpcredit.tags import Tagger

__all__ = ["NO_EVIDENCE", "SCOPE_TOTALS", "Consent", "Purpose", "RealmFacts", "Recipient"]

NO_EVIDENCE: Final = bytes(32)
"""The evidence hash of a consent that has no document."""
SCOPE_TOTALS: Final = "totals"
"""The one scope there is: the customer's totals over the consortium."""
_FORMAT: Final = "mpcredit/consent"
_VERSION: Final = 2
_HASH_LABEL: Final = b"mpcredit/consent/2"
_SIGNATURE_LABEL: Final = b"mpcredit/consent-signature/2"
_DAY_SECONDS: Final = 86_400
_MAX_INTEGER: Final = 2**53 - 1
_MEMBERS: Final = frozenset(
    {
        "chain_id",
        "consortium",
        "customer_key",
        "evidence",
        "format",
        "inquirer",
        "purpose",
        "salt",
        "scope",
        "signature",
        "tag",
        "tag_key_version",
        "valid_from",
        "valid_until",
        "version",
    }
)


class Purpose(StrEnum):
    """Why the totals are asked for; the codes that the consortium permits."""

    NEW_CREDIT = "new_credit"
    CREDIT_LINE = "credit_line"
    REVIEW = "review"
    GUARANTEE = "guarantee"
    RESTRUCTURING = "restructuring"


class RealmFacts(Protocol):
    """What a receipt needs to know of `pairkeys.Realm`."""

    @property
    def chain_id(self) -> int:
        """EIP-155 chain id."""
        ...

    @property
    def consortium(self) -> str:
        """Checksum address of the Consortium contract."""
        ...


class Recipient(Protocol):
    """The institution that consent is given to."""

    @property
    def realm(self) -> RealmFacts:
        """Its chain and consortium."""
        ...

    @property
    def index(self) -> int:
        """Its member index."""
        ...

    @property
    def now(self) -> int:
        """The time of its ledger's head, Unix seconds."""
        ...

    @property
    def tagger(self) -> Tagger:
        """What turns a subject into the consortium's tag."""
        ...


@dataclass(frozen=True)
class Consent:
    """One receipt. Construction checks its form; `check` checks that it permits an inquiry."""

    chain_id: int
    """EIP-155 chain id of the consortium."""
    consortium: str
    """Checksum address of the Consortium contract."""
    inquirer: int
    """Index of the one member that may ask."""
    tag: bytes = field(repr=False)
    """Tag of the subject, 32 bytes, under the version that follows: a reader raises it to the newest (`Desk.newest_tag`)."""
    tag_key_version: int
    """Version of the tag key under which `tag` was made; a later key does not end the consent."""
    purpose: Purpose
    """The one purpose that is allowed."""
    scope: str
    """What may be learned: "totals"."""
    valid_from: int
    """First second in which it holds (Unix time)."""
    valid_until: int
    """First second in which it no longer holds."""
    evidence: bytes = field(repr=False)
    """SHA-256 of the document or recording of the consent, or zeros."""
    salt: bytes = field(repr=False)
    """32 random bytes, so that the hash on the ledger cannot be guessed."""
    customer_key: bytes | None = field(default=None, repr=False)
    """The customer's Ed25519 public key, if the customer signs."""
    signature: bytes | None = field(default=None, repr=False)
    """The customer's signature of `signed_bytes`."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("chain_id", 1, _MAX_INTEGER),
            ("inquirer", 0, 215),
            ("tag_key_version", 1, 2**32 - 1),
            ("valid_from", 0, _MAX_INTEGER),
            ("valid_until", 0, _MAX_INTEGER),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidConsent(f"the consent's {name} is not an integer from {low} to {high}")
        for name, length in (("tag", 32), ("evidence", 32), ("salt", 32)):
            _check_bytes(name, getattr(self, name), length)
        for name, length in (("customer_key", 32), ("signature", 64)):
            if getattr(self, name) is not None:
                _check_bytes(name, getattr(self, name), length)
        if not isinstance(self.consortium, str) or not is_checksum_address(self.consortium):
            raise InvalidConsent("the consent's consortium is not a checksum address")
        if not isinstance(self.purpose, Purpose):
            raise InvalidConsent("the consent's purpose is not one of the codes")
        if self.scope != SCOPE_TOTALS:
            raise InvalidConsent("the consent's scope is not 'totals'")
        if self.valid_from >= self.valid_until:
            raise InvalidConsent("the consent ends before it begins")
        if self.signature is not None and self.customer_key is None:
            raise InvalidConsent("the consent has a signature but no customer_key")

    @classmethod
    def grant(
        cls,
        subject: Subject,
        *,
        to: Recipient,
        purpose: Purpose,
        days: int,
        evidence: bytes = NO_EVIDENCE,
        now: int | None = None,
    ) -> Consent:
        """Write the receipt of a consent that was just given.

        Args:
            subject: who consents.
            to: the institution that may ask.
            purpose: what for.
            days: for how long, counted from `now`.
            evidence: SHA-256 of the signed form or recording.
            now: Unix time; when None this machine's, or the ledger's if that is behind: R17.1.
        """
        start = min(int(time.time()), to.now) if now is None else now
        return cls(
            chain_id=to.realm.chain_id,
            consortium=to.realm.consortium,
            inquirer=to.index,
            tag=to.tagger.tag(subject),
            tag_key_version=to.tagger.version,
            purpose=Purpose(purpose),
            scope=SCOPE_TOTALS,
            valid_from=start,
            valid_until=start + days * _DAY_SECONDS,
            evidence=evidence,
            salt=secrets.token_bytes(32),
        )

    def to_json_object(self) -> dict[str, Any]:
        """Return the receipt as JSON members; bytes in hexadecimal, absent ones null."""
        return {
            "chain_id": self.chain_id,
            "consortium": self.consortium,
            "customer_key": None if self.customer_key is None else to_hex(self.customer_key),
            "evidence": to_hex(self.evidence),
            "format": _FORMAT,
            "inquirer": self.inquirer,
            "purpose": self.purpose.value,
            "salt": to_hex(self.salt),
            "scope": self.scope,
            "signature": None if self.signature is None else to_hex(self.signature),
            "tag": to_hex(self.tag),
            "tag_key_version": self.tag_key_version,
            "valid_from": self.valid_from,
            "valid_until": self.valid_until,
            "version": _VERSION,
        }

    @classmethod
    def from_json_object(cls, value: Any) -> Consent:
        """Read what `to_json_object` writes.

        Raises:
            InvalidConsent: missing or unknown members, another version, a value that is not well formed.
        """
        if not isinstance(value, dict) or set(value) != _MEMBERS:
            raise InvalidConsent("a consent receipt with missing or unknown members")
        if value["format"] != _FORMAT or type(value["version"]) is not int or value["version"] != _VERSION:
            raise InvalidConsent("not a consent receipt of version 2")
        try:
            return cls(
                chain_id=value["chain_id"],
                consortium=value["consortium"],
                inquirer=value["inquirer"],
                tag=hex_bytes(value["tag"], 32),
                tag_key_version=value["tag_key_version"],
                purpose=Purpose(value["purpose"]),
                scope=value["scope"],
                valid_from=value["valid_from"],
                valid_until=value["valid_until"],
                evidence=hex_bytes(value["evidence"], 32),
                salt=hex_bytes(value["salt"], 32),
                customer_key=None if value["customer_key"] is None else hex_bytes(value["customer_key"], 32),
                signature=None if value["signature"] is None else hex_bytes(value["signature"], 64),
            )
        except InvalidEncoding as error:
            raise InvalidConsent("a consent receipt with a field that is not hexadecimal of its length") from error
        except ValueError:
            raise InvalidConsent("the consent's purpose is not one of the codes") from None

    @classmethod
    def parse(cls, receipt: bytes) -> Consent:
        """Read the canonical receipt.

        Raises:
            InvalidEncoding: not canonical JSON.
            InvalidConsent: not a receipt.
        """
        return cls.from_json_object(parse_canonical_json(receipt))

    @cached_property
    def receipt(self) -> bytes:
        """The canonical JSON of the whole receipt."""
        return canonical_json(self.to_json_object())

    @cached_property
    def hash(self) -> bytes:
        """SHA-256(label || receipt): what the ledger holds."""
        return hashlib.sha256(_HASH_LABEL + self.receipt).digest()

    @property
    def signed_bytes(self) -> bytes:
        """What the customer signs: label || canonical receipt without the member "signature"."""
        value = self.to_json_object()
        del value["signature"]
        return _SIGNATURE_LABEL + canonical_json(value)

    def sign(self, key: Ed25519PrivateKey) -> Consent:
        """Return the receipt with the customer's key and signature."""
        unsigned = replace(self, customer_key=key.public_key().public_bytes_raw(), signature=None)
        return replace(unsigned, signature=key.sign(unsigned.signed_bytes))

    def check(
        self, *, realm: RealmFacts, inquirer: int, tag: bytes, tag_key_version: int, purpose: Purpose, at: int
    ) -> None:
        """Check that this receipt permits one inquiry.

        Args:
            realm: chain and consortium of the inquiry.
            inquirer: index of the member that asks.
            tag: tag of the subject asked for, under the version that this receipt names.
            tag_key_version: newest version of the tag key; the receipt may name an earlier one.
            purpose: purpose of the inquiry.
            at: Unix time of the block that opened it.

        Raises:
            ConsentNotInForce: it does not hold at that time.
            InvalidConsent: names the field that does not fit and who must do what.
        """
        for name, stated, needed, remedy in (
            ("chain_id", self.chain_id, realm.chain_id, "the inquirer must obtain consent for this chain"),
            ("consortium", self.consortium, realm.consortium, "the inquirer must obtain consent for this consortium"),
            (
                "inquirer",
                self.inquirer,
                inquirer,
                "the institution that asks must obtain the customer's consent itself",
            ),
            ("tag", self.tag, tag, "the inquirer must attach the receipt of this subject"),
            ("purpose", self.purpose, purpose, "the inquirer must obtain consent for this purpose"),
        ):
            if stated != needed:
                raise InvalidConsent(f"the consent's {name} is not that of the inquiry", remedy=remedy)
        if self.tag_key_version > tag_key_version:
            raise InvalidConsent(
                "the consent's tag_key_version is not yet in force",
                remedy="the inquirer must write receipts under the newest tag key of the ledger, or an earlier one",
            )
        if at < self.valid_from:
            raise ConsentNotInForce(
                "the consent's valid_from lies after the inquiry", remedy="the inquirer must wait until it holds"
            )
        if at >= self.valid_until:
            raise ConsentNotInForce(
                "the consent's valid_until has passed", remedy="the inquirer must ask the customer for a new consent"
            )
        if self.customer_key is not None:
            self._check_signature(self.customer_key)

    def _check_signature(self, customer_key: bytes) -> None:
        if self.signature is None:
            raise InvalidConsent("the consent's signature is missing", remedy="the customer must sign it")
        try:
            Ed25519PublicKey.from_public_bytes(customer_key).verify(self.signature, self.signed_bytes)
        except (InvalidSignature, ValueError):
            raise InvalidConsent(
                "the consent's signature does not verify", remedy="the customer must sign this very receipt"
            ) from None


def _check_bytes(name: str, value: object, length: int) -> None:
    if not isinstance(value, bytes) or len(value) != length:
        raise InvalidConsent(f"the consent's {name} does not have {length} bytes")
