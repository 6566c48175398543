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
_TRANSACTION: Final = 21_000
_ZERO_BYTE: Final = 4
_OTHER_BYTE: Final = 16
_FLOOR_OF_ZERO_BYTE: Final = 10
_FLOOR_OF_OTHER_BYTE: Final = 40
"""EIP-7623 (Prague): a transaction pays at least this for its calldata, whatever it runs."""
_FRESH_SLOT: Final = 22_100
_USED_SLOT: Final = 5_000
_CREATION: Final = 32_000
_CODE_BYTE: Final = 200
_DATA_BESIDES_SQUARE: Final = 65
"""Bytes of the data contract besides n^2: a STOP, the terms, the cohort."""
_EVENT_BYTE: Final = 8
_COPIED_BYTE: Final = 1
"""Copies and hashes of the calldata: some 0.5 of gas a byte, rounded up."""
_MEMORY_DIVISOR: Final = 512
"""Memory of w words costs w^2 / 512 besides what grows with w alone."""
_CIPHERTEXT_WORD: Final = 130
"""Range check of a ciphertext and its way into the lane, without the slot."""
_FIXED: Final = 145_000
"""All else: checks, terms of the Consortium, due times, counts, the progress word. 137,000 were measured at most, in a
contract's first inquiry; a group adds some 2,500."""


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


def opening_gas(bits: int, blocks: int, size: int, *, zeros: int = 0, fresh_lane: bool = True) -> int:
    """Gas of `open`, at most, under the rules of London to Osaka: the dearest price of each part.

    Openings as mpcredit makes them cost up to 6 % less under the rules of Osaka, and up to 11 % less under those before
    (`tools/gas.py --check` and tests/contract/test_opening_gas.py compare it with measured openings). Gas that is not used
    is not paid.

    Args:
        bits: of n.
        blocks: ciphertext blocks of a contribution.
        size: bytes of the calldata, or of the whole transaction.
        zeros: how many of them are zero, if that is known.
        fresh_lane: whether the running product may come to stand in storage that was never used. Which lane an opening
            gets is known only when it is mined.
    """
    width = bits // 4
    ciphertext_words = blocks * width // _WORD

    intrinsic = _TRANSACTION + _ZERO_BYTE * zeros + _OTHER_BYTE * (size - zeros)
    floor = _TRANSACTION + _FLOOR_OF_ZERO_BYTE * zeros + _FLOOR_OF_OTHER_BYTE * (size - zeros)
    event = (_EVENT_BYTE + _COPIED_BYTE) * size + (size // _WORD) ** 2 // _MEMORY_DIVISOR
    lane = ciphertext_words * (_CIPHERTEXT_WORD + (_FRESH_SLOT if fresh_lane else _USED_SLOT))
    data_contract = _CREATION + _CODE_BYTE * (width + _DATA_BESIDES_SQUARE)
    # One for n^2, one for each ciphertext.
    squares = (1 + blocks) * _square_gas(width)
    return max(floor, intrinsic + event + lane + data_contract + squares + _FIXED)


def _square_gas(width: int) -> int:
    """What MODEXP takes for a square modulo a number of this many bytes: EIP-7883 (Osaka), the dearest price so far."""
    return 2 * (width // 8) ** 2


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
