"""The certificate of a new member's rehearsal: its form, its signature, and what it proves.

A certificate is canonical JSON, signed (EIP-191) by the candidate's own ledger account, the operator on which the members
will vote. Running the rehearsal is `server.certify`'s work.

    {"body": {"format": "mpcredit/certificate", "version": 1, …}, "signature": "0x…"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils.address import is_checksum_address

from mpcredit.encoding import canonical_json, hex_bytes, parse_canonical_json, to_hex
from mpcredit.errors import InvalidEncoding, InvalidFile, InvalidMessage, InvalidProof

__all__ = ["CHECKS", "PROVES", "PROVES_NOT", "Certificate", "read_certificate", "statement"]

FORMAT: Final = "mpcredit/certificate"
VERSION: Final = 1
LARGEST: Final = 1 << 20
"""Bytes of a certificate that is read; one has about 6,000."""

CHECKS: Final[Mapping[str, str]] = {
    "start": "it starts, and reads its loan book",
    "book_age": "its loan book is not older than the terms permit",
    "identities": "spellings of one identity give one tag, invalid numbers are refused",
    "customers": "no known customer is missing, and who is none has no figures",
    "unit": "amounts are in the right unit",
    "figures": "every figure of every known customer is right",
    "time_one": "one subject is answered in time",
    "time_pack": "a pack of subjects is answered in time",
    "restart_look": "killed while it looks into its book, it answers once, with the same figures",
    "restart_send": "killed when its answer is stored and not sent, it answers once, with the same figures",
    "inquirer": "its own inquiry opens, is decrypted, reported and attested, with the right totals",
    "refuses_expired_consent": "an expired consent: refused with code 6, book unread",
    "refuses_revoked_consent": "a revoked consent: refused with code 6, book unread",
    "refuses_foreign_consent": "another institution's consent: refused with code 6, book unread",
    "refuses_cooldown": "the same inquirer again within the cool-down: refused with code 8, book unread",
    "refuses_window": "another cohort within the window: refused with code 7, book unread",
    "refuses_small_cohort": "a cohort below its own minimum: refused with code 2, book unread",
    "old_book": "its book past the permitted age: it switches itself off, book unread",
}
"""Every check of a rehearsal, in its order. A certificate has them all, passed."""

PROVES: Final = (
    "whoever holds this ledger account states that its installation passed all these checks, with these versions, "
    "contracts, schema and book adapter, at this time",
    "nothing of the statement was changed since it was signed",
)
PROVES_NOT: Final = (
    "that the run took place: it is on the candidate's own machine, and the account's holder could write any statement",
    "that the figures of its real book are true, or that the rest of its customers are in it",
    "that what runs in production is what was tried: ask for a new one after each change",
    "who the account's holder is: compare the account by another channel, as for the pins",
)

_MEMBERS: Final = {
    "account",
    "book",
    "chain",
    "checks",
    "contracts",
    "finished_at",
    "format",
    "package",
    "schema",
    "specification",
    "started_at",
    "terms",
    "times",
    "version",
}


@dataclass(frozen=True)
class Certificate:
    """A statement and its signature, verified."""

    body: Mapping[str, Any]
    """As signed."""
    signature: bytes
    """65 bytes."""

    @property
    def account(self) -> str:
        """Checksum address of the ledger account that signed."""
        return str(self.body["account"])

    @classmethod
    def sign(cls, body: Mapping[str, Any], signing: Callable[[bytes], bytes]) -> Certificate:
        """Sign a statement.

        Args:
            signing: makes the EIP-191 signature of bytes by the account that the body names.

        Raises:
            InvalidMessage: the body is not one of a rehearsal that was passed.
            InvalidProof: the signature is another account's.
        """
        _check_body(body)
        made = cls(dict(body), signing(statement(body)))
        made.verify()
        return made

    def verify(self) -> None:
        """Check the signature.

        Raises:
            InvalidProof: it is not that of the account.
        """
        try:
            signer = Account.recover_message(
                encode_defunct(primitive=statement(self.body)), signature=to_hex(self.signature)
            )
        except Exception as error:  # eth_keys and eth_utils raise several kinds
            raise InvalidProof("the certificate's signature is malformed", remedy="ask for a new one") from error
        if signer != self.account:
            raise InvalidProof(
                f"the certificate was signed by {signer}, not by {self.account}, or was changed since",
                remedy="do not rely on it; ask the candidate for the original",
            )

    def to_bytes(self) -> bytes:
        """The file."""
        return canonical_json({"body": dict(self.body), "signature": to_hex(self.signature)}) + b"\n"


def statement(body: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: the canonical JSON of the body, which begins with its account and names its format."""
    return canonical_json(dict(body))


def read_certificate(path: Path) -> Certificate:
    """Read a certificate and check form and signature.

    Raises:
        InvalidFile: it cannot be read, or is no certificate of this version.
        InvalidProof: the signature does not verify.
    """
    remedy = "ask the candidate for the file that `mpcredit certify --out` wrote"
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise InvalidFile(str(path), f"cannot be read: {error.strerror}", "name an existing file") from error
    try:
        value = parse_canonical_json(data[:LARGEST].removesuffix(b"\n"))
        if not isinstance(value, dict) or set(value) != {"body", "signature"} or not isinstance(value["body"], dict):
            raise InvalidEncoding("it has missing or unknown members")
        _check_body(value["body"])
        signature = hex_bytes(value["signature"], 65)
    except InvalidMessage as error:
        raise InvalidFile(str(path), f"is no certificate: {error.message}", remedy) from error
    found = Certificate(value["body"], signature)
    found.verify()
    return found


def _check_body(body: Mapping[str, Any]) -> None:
    if body.get("format") != FORMAT:
        raise InvalidEncoding(f"its format is not {FORMAT}")
    if type(body.get("version")) is not int or body["version"] != VERSION:
        raise InvalidEncoding(f"its version is not {VERSION}: install the release of mpcredit that knows it")
    if set(body) != _MEMBERS:
        raise InvalidEncoding("the statement has missing or unknown members")
    if not is_checksum_address(body["account"]):
        raise InvalidEncoding("the account is no checksum address")
    checks = body["checks"]
    if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
        raise InvalidEncoding("the checks are no list")
    if [check.get("name") for check in checks] != list(CHECKS):
        raise InvalidEncoding("it lacks checks of a whole rehearsal, or has others")
    if any(check.get("outcome") != "passed" for check in checks):
        raise InvalidEncoding("a check was not passed, and a rehearsal that failed gives no certificate")
