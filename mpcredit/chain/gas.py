"""How much gas a call needs that depends on the time of its block, for ledgers whose node cannot estimate it.

A node estimates on the newest block. Where no block is made without a transaction, that block can be of an earlier period
of readiness, and an opening that the next block would accept fails in the estimate. The bounds below need no node.
"""

from __future__ import annotations

from typing import Final

from mpcredit import limits
from mpcredit.events import Call, Opening

__all__ = ["gas_bound", "opening_gas"]

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
    """An upper bound of the gas that a transaction with `JointCredit.open` uses: `limits.opening_gas` of its calldata.

    Args:
        data: the calldata.
        blocks: ciphertexts in the opening's payload.
        modulus_bytes: width of n.
        fresh_lane: see there.
    """
    return limits.opening_gas(8 * modulus_bytes, blocks, len(data), zeros=data.count(0), fresh_lane=fresh_lane)
