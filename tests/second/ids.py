"""Ids of inquiries (R15), the statements that owners sign (R9, R12), the roster (R39), the hash of a proposal's calls (R33)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .encodings import (
    Realm,
    abi_bytes,
    abi_bytes32_array,
    abi_bytes_array,
    keccak256,
    word_of_address,
    word_of_fixed_bytes,
    word_of_label,
    word_of_number,
)

SUPERVISOR = 255


@dataclass(frozen=True)
class Opening:
    """What of an opening enters the ids of R15."""

    inquirer: int
    modulus: bytes
    """n, big-endian, |n| bytes."""
    roster: bytes
    nonce: int
    sealed_subject: bytes
    subject_commitment: bytes
    cohort: int
    group: int
    repeats: bool
    schema: int
    currency: bytes
    blocks: int
    consents: Sequence[bytes]


def q0(chain_id: int, joint_credit: bytes, opening: Opening) -> bytes:
    """The id of an opening before its content is sealed (R15)."""
    return keccak256(
        word_of_label("mpcredit/q0/2")
        + word_of_number(chain_id)
        + word_of_address(joint_credit)
        + word_of_number(opening.inquirer)
        + keccak256(opening.modulus)
        + opening.roster
        + word_of_number(opening.nonce)
    )


def q(chain_id: int, joint_credit: bytes, opening: Opening) -> bytes:
    """The id of an inquiry (R15). It has no label of its own: q0 is its first word."""
    return keccak256(
        q0(chain_id, joint_credit, opening)
        + keccak256(opening.sealed_subject)
        + opening.subject_commitment
        + word_of_number(opening.cohort)
        + word_of_number(opening.group)
        + word_of_number(int(opening.repeats))
        + word_of_number(opening.schema)
        + word_of_fixed_bytes(opening.currency)
        + word_of_number(opening.blocks)
        + keccak256(abi_bytes32_array(opening.consents))
    )


def context(chain_id: int, joint_credit: bytes, opening: Opening, definition: bytes) -> bytes:
    """ctx: what all contributors of an inquiry agree on (R15)."""
    return keccak256(
        word_of_label("mpcredit/ctx/2")
        + word_of_number(chain_id)
        + word_of_address(joint_credit)
        + q(chain_id, joint_credit, opening)
        + word_of_number(opening.cohort)
        + opening.roster
        + keccak256(opening.modulus)
        + keccak256(definition)
        + word_of_number(opening.blocks)
        + opening.subject_commitment
    )


def key_statement(realm: Realm, member: int, version: int, key: bytes, previous: bytes) -> bytes:
    """What an owner signs for an institution key (R9), or with member 255 for a period key (R12)."""
    return keccak256(
        word_of_label("mpcredit/key/2")
        + word_of_number(realm.chain_id)
        + word_of_address(realm.consortium)
        + word_of_number(member)
        + word_of_number(version)
        + key
        + previous
    )


def account_statement(realm: Realm, party: int, owner: bytes, account: bytes, naming: int, tenure: bytes) -> bytes:
    """What an owner signs to name its service account (R9.5)."""
    return keccak256(
        word_of_label("mpcredit/account/2")
        + word_of_number(realm.chain_id)
        + word_of_address(realm.consortium)
        + word_of_number(party)
        + word_of_address(owner)
        + word_of_address(account)
        + word_of_number(naming)
        + tenure
    )


def eip191_digest(statement: bytes) -> bytes:
    """The digest that ECDSA signs for a statement of 32 bytes (EIP-191, version 0x45)."""
    return keccak256(b"\x19Ethereum Signed Message:\n32" + statement)


def first_roster(realm: Realm) -> bytes:
    """The roster before its first link (R39)."""
    return keccak256(
        word_of_label("mpcredit/roster/2") + word_of_number(realm.chain_id) + word_of_address(realm.consortium)
    )


def next_roster(roster: bytes, kind: int, data: bytes) -> bytes:
    """The roster after one more change (R39): `data` is a dynamic value, so its place stands where it would."""
    return keccak256(roster + word_of_number(kind) + word_of_number(96) + abi_bytes(data))


def calls_hash(calls: Sequence[bytes]) -> bytes:
    """What names the calls of a proposal (R33)."""
    return keccak256(abi_bytes_array(calls))
