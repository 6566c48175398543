"""The JSON documents of section 11: announcement (R1), schema (R5), receipt (R17), subject list (R16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .encodings import Realm, canonical_json, hexadecimal, keccak256, sha256, unsigned
from .packing import Field

VERSION = 2
PADDING = 512


def _document(name: str, members: Mapping[str, object]) -> dict[str, object]:
    return {"format": f"mpcredit/{name}", "version": VERSION, **members}


def checksummed(address: bytes) -> str:
    """An address with its EIP-55 checksum: a letter is upper case where the hash of the address has 8 or more."""
    digits = address.hex()
    marks = keccak256(digits.encode("ascii")).hex()
    return "0x" + "".join(
        digit.upper() if int(mark, 16) >= 8 else digit for digit, mark in zip(digits, marks, strict=False)
    )


def announcement(package: str, lowest: int, highest: int) -> bytes:
    """What a member says through `sealMaskKeys` about the versions that it reads (R1)."""
    document = _document("announcement", {"package": package, "lowest": lowest, "highest": highest})
    return b"mpcredit/versions/2" + canonical_json(document)


def schema_definition(number: int, name: str, fields: Sequence[Field]) -> bytes:
    """The definition of a schema, as the ledger has it; its keccak is in ctx."""
    listed = [
        {
            "name": field.name,
            "kind": field.kind,
            "value_bits": field.value_bits,
            "slot_bits": field.slot_bits,
            "meaning": field.meaning,
        }
        for field in fields
    ]
    return canonical_json(_document("schema", {"id": number, "name": name, "fields": listed}))


@dataclass(frozen=True)
class Receipt:
    """The consent of a customer (R17)."""

    realm: Realm
    inquirer: int
    tag: bytes
    tag_key_version: int
    purpose: str
    valid_from: int
    valid_until: int
    evidence: bytes
    salt: bytes
    customer_key: bytes | None = None
    signature: bytes | None = None

    def document(self) -> dict[str, object]:
        """The receipt as JSON members."""
        return _document(
            "consent",
            {
                "chain_id": self.realm.chain_id,
                "consortium": checksummed(self.realm.consortium),
                "inquirer": self.inquirer,
                "tag": hexadecimal(self.tag),
                "tag_key_version": self.tag_key_version,
                "purpose": self.purpose,
                "scope": "totals",
                "valid_from": self.valid_from,
                "valid_until": self.valid_until,
                "evidence": hexadecimal(self.evidence),
                "salt": hexadecimal(self.salt),
                "customer_key": None if self.customer_key is None else hexadecimal(self.customer_key),
                "signature": None if self.signature is None else hexadecimal(self.signature),
            },
        )

    def signed_bytes(self) -> bytes:
        """What the customer signs: the receipt without the member `signature`."""
        document = self.document()
        del document["signature"]
        return b"mpcredit/consent-signature/2" + canonical_json(document)

    def hash(self) -> bytes:
        """What the ledger holds of the consent."""
        return sha256(b"mpcredit/consent/2", canonical_json(self.document()))


def padded_list(schema: int, currency: str, purpose: str, receipts: Sequence[Receipt]) -> bytes:
    """u32 length || subject list || zeros up to the next multiple of 512 bytes (R16)."""
    entries = [{"tag": hexadecimal(receipt.tag), "consent": receipt.document()} for receipt in receipts]
    members = {"schema": schema, "currency": currency, "purpose": purpose, "entries": entries}
    text = canonical_json(_document("subjects", members))
    content = unsigned(len(text), 32) + text
    return content + bytes(-len(content) % PADDING)
