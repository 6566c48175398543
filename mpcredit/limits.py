"""How large an inquiry may be, so that every node takes the transaction that opens it (docs/spec.md section 9).

An institution's steps are mined in the order of their nonces. An opening that no node takes would hold up everything that
the institution does later, so a request is bounded when it is made: in bytes, in gas and in ciphertext blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mpcredit.protocol import DISCLOSURE_BYTES, MAXIMUM_BLOCKS
from mpcredit.schema import Schema
from mpcredit.sealing import sealed_length

__all__ = [
    "OPENING_BYTES",
    "OPENING_GAS",
    "TRANSACTION_BYTES",
    "TRANSACTION_GAS",
    "UNSIGNED_ENTRY_BYTES",
    "capacity",
    "opening_bytes",
    "opening_gas",
]

TRANSACTION_BYTES: Final = 131_072
"""Nodes take no larger transaction: go-ethereum's txMaxSize, which the others follow."""
OPENING_BYTES: Final = 122_880
"""Most that a new request may come to. The 8,192 bytes above it are room for 167 members that are ready only later."""
TRANSACTION_GAS: Final = 16_777_216
"""Most gas of one transaction since Osaka (EIP-7825)."""
OPENING_GAS: Final = 15_000_000
"""Most that a new request may come to: the signer offers a tenth more gas than is estimated."""
UNSIGNED_ENTRY_BYTES: Final = 620
"""A subject takes at most so many bytes of the sealed list if its consent has no signature."""

_ENVELOPE_BYTES: Final = 200
"""A signed transaction of type 2 without its data: nonce, fees, gas, addresses, signature, lengths."""
_WORD: Final = 32
_FIXED_WORDS: Final = 2 + 14 + 5
"""The member and the offset of the opening, the 14 members of `Opening`, the lengths of the 5 that vary."""
_KEY_PROOF_ROOTS: Final = 8
_BYTE_GAS: Final = 26
"""For a byte of the call: 16 as data of the transaction, 8 as data of the event, the rest for memory and hashing."""
_SLOT_GAS: Final = 22_100
"""For a word of a lane that no inquiry used before."""
_BLOCK_GAS: Final = 30_000
"""For the checks of one ciphertext, under the dearest rules of MODEXP."""
_BASE_GAS: Final = 600_000
"""For everything else: the inquiry's own slots, and the contract that keeps n and n^2."""


def opening_bytes(bits: int, blocks: int, subjects: int, sealed: int) -> int:
    """Length of the signed transaction that opens an inquiry, at most.

    Args:
        bits: of n.
        blocks: ciphertext blocks of a contribution.
        subjects: as many hashes of consents it has.
        sealed: length of the sealed subject.
    """
    n = bits // 8
    parts = (n, _KEY_PROOF_ROOTS * n, subjects * _WORD, sealed, DISCLOSURE_BYTES + blocks * 2 * n)
    return _ENVELOPE_BYTES + 4 + _FIXED_WORDS * _WORD + sum(-(-part // _WORD) * _WORD for part in parts)


def opening_gas(bits: int, blocks: int, size: int) -> int:
    """Gas of `open` on a lane that no inquiry used before, at most.

    Args:
        bits: of n.
        blocks: ciphertext blocks of a contribution.
        size: bytes of the transaction.
    """
    slots = bits // 4 // _WORD
    return _BASE_GAS + size * _BYTE_GAS + blocks * (slots * _SLOT_GAS + _BLOCK_GAS)


def capacity(schema: Schema, bits: int, entries: Sequence[int], members: int, *, most: int = OPENING_BYTES) -> int:
    """How many of these subjects, from the first on, fit into one inquiry.

    Args:
        schema: of the figures.
        bits: of n.
        entries: bytes of each subject in the sealed list (`sealing.entry_length`).
        members: of the largest cohort, the inquirer among them.
        most: bytes that the transaction may have.
    """
    count = total = 0
    for entry in entries:
        blocks = schema.blocks(count + 1, bits)
        size = opening_bytes(bits, blocks, count + 1, sealed_length(total + entry, members - 1))
        if blocks > MAXIMUM_BLOCKS or size > most or opening_gas(bits, blocks, size) > OPENING_GAS:
            break
        count, total = count + 1, total + entry
    return count
