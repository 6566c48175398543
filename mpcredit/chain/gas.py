"""How much gas a call needs that depends on the time of its block, for ledgers whose node cannot estimate it.

A node estimates on the newest block. Where no block is made without a transaction, that block can be of an earlier period
of readiness, and an opening that the next block would accept fails in the estimate. The bound below needs no node. It
holds under the rules of London to Osaka, and takes the dearest price of each part (`tools/gas.py --check` and
tests/contract/test_opening_gas.py compare it with measured openings).
"""

from __future__ import annotations

from typing import Final

from mpcredit.events import Call, Opening

__all__ = ["gas_bound", "opening_gas"]

_WORD: Final = 32
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
_LAPSE: Final = 100_000
"""46,490 were measured, without a fresh slot."""
_EXPIRE: Final = 2_000_000
"""1,505,169 were measured with 16 ciphertexts of 4096-bit keys, the most there are."""


def gas_bound(call: Call, data: bytes) -> int | None:
    """Gas that suffices for a call which the ledger takes only from some time on; None for all others.

    Args:
        data: the calldata.
    """
    match call.function:
        case "open":
            opening = Opening(*call.arguments[1])
            return opening_gas(data, blocks=opening.blocks, modulus_bytes=len(opening.n))
        case "lapse":
            return _LAPSE
        case "expire":
            return _EXPIRE
        case _:
            return None


def opening_gas(data: bytes, *, blocks: int, modulus_bytes: int, fresh_lane: bool = True) -> int:
    """An upper bound of the gas that a transaction with `JointCredit.open` uses.

    Openings as mpcredit makes them cost up to 6 % less under the rules of Osaka, and up to 11 % less under those before.
    Gas that is not used is not paid.

    Args:
        data: the calldata.
        blocks: ciphertexts in the opening's payload.
        modulus_bytes: width of n.
        fresh_lane: whether the running product may come to stand in storage that was never used. Which lane an opening
            gets is known only when it is mined.
    """
    zeros = data.count(0)
    others = len(data) - zeros
    width = 2 * modulus_bytes
    ciphertext_words = blocks * width // _WORD

    intrinsic = _TRANSACTION + _ZERO_BYTE * zeros + _OTHER_BYTE * others
    floor = _TRANSACTION + _FLOOR_OF_ZERO_BYTE * zeros + _FLOOR_OF_OTHER_BYTE * others
    memory = (len(data) // _WORD) ** 2 // _MEMORY_DIVISOR
    event = (_EVENT_BYTE + _COPIED_BYTE) * len(data) + memory
    lane = ciphertext_words * (_CIPHERTEXT_WORD + (_FRESH_SLOT if fresh_lane else _USED_SLOT))
    data_contract = _CREATION + _CODE_BYTE * (width + _DATA_BESIDES_SQUARE)
    # One for n^2, one for each ciphertext.
    squares = (1 + blocks) * _square_gas(width)
    return max(floor, intrinsic + event + lane + data_contract + squares + _FIXED)


def _square_gas(width: int) -> int:
    """What MODEXP takes for a square modulo a number of this many bytes: EIP-7883 (Osaka), the dearest price so far."""
    return 2 * (width // 8) ** 2
