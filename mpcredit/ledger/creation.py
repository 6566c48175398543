"""Whether a Consortium was created by a release of this package, with the arguments of the founding file (R37.1 to R37.4).

Runtime code and events say nothing about the storage that a constructor wrote. A deployer with a constructor of its own
can found supervisors and operators that no event shows; only the creation transaction tells. Reading the block, the
sender's signature and the address that follows from sender and nonce are left to `chain.creation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpcredit.encoding import abi_decode, abi_encode, keccak, to_hex
from mpcredit.errors import HistoryMissing, MpcreditError, WrongLedger

__all__ = ["BlockTransaction", "InitCodes", "check_creation"]

_STAY_AWAY = (
    "do not take part in this consortium: found another one, or have this one explained by those who deployed it"
)


@dataclass(frozen=True)
class InitCodes:
    """The contracts of one release, as a creation transaction shows them."""

    release: str
    """Version of the package; "unreleased" between two."""
    consortium_bytes: int
    """Length of the Consortium's init code; the constructor's arguments stand behind it."""
    consortium: bytes
    """Keccak-256 of the Consortium's init code without arguments."""
    joint_credit: bytes
    """Keccak-256 of the JointCredit's init code, which a founding file without a hash of its own means."""


@dataclass(frozen=True)
class BlockTransaction:
    """A transaction of a block, as far as it matters here."""

    hash: bytes
    creates: str | None
    """Checksum address of the contract that it creates itself; None if it has a recipient, or no signature that verifies."""
    data: bytes
    """Input."""


def check_creation(
    consortium: str,
    first: bytes,
    block: Sequence[BlockTransaction],
    releases: Sequence[InitCodes],
    argument: Callable[[InitCodes], tuple[Any, ...]],
    fields: Sequence[tuple[str, str]],
) -> InitCodes:
    """Compare the creation of a Consortium with the releases and with the founding file.

    Args:
        consortium: checksum address.
        first: hash of the transaction of the Consortium's first event.
        block: all transactions of the block of that event.
        releases: those that this package knows.
        argument: the constructor's argument by the founding file, for the contracts of a release.
        fields: name and ABI type of each field of that argument.

    Returns:
        The release whose code it is.

    Raises:
        HistoryMissing: the block lacks the transaction of its own event, so the endpoint does not show all of it.
        WrongLedger: the Consortium was founded otherwise.
    """
    # (1) The creation, from a block that is shown with its transactions.
    data = _find(consortium, first, block)
    # (2) Its constructor is that of a release.
    codes = [code for code in releases if keccak(data[: code.consortium_bytes]) == code.consortium]
    if not codes:
        raise WrongLedger(
            f"the Consortium at {consortium} was created by code that no release of mpcredit has: its constructor can have "
            "made supervisors and operators that no event shows",
            remedy=f"install the newest mpcredit, which knows the code of all releases; if it says the same, {_STAY_AWAY}",
        )
    # (3) It was given what the founding file says, and nothing else. Two releases can differ in the JointCredit alone.
    types = [f"({','.join(kind for _, kind in fields)})"]
    difference = ""
    for code in codes:
        expected, given = abi_encode(types, [argument(code)]), data[code.consortium_bytes :]
        if given == expected:
            return code
        difference = difference or _difference(types, fields, expected, given)
    raise WrongLedger(
        f"the Consortium at {consortium} was not founded with this founding file: {difference}",
        remedy=f"compare the SHA-256 of the file with another member's; if it is the same, {_STAY_AWAY}",
    )


def _find(consortium: str, first: bytes, block: Sequence[BlockTransaction]) -> bytes:
    """The input of the transaction that created the Consortium."""
    if all(transaction.hash != first for transaction in block):
        raise HistoryMissing(
            f"the ledger does not show the transaction {to_hex(first)}, in which the Consortium at {consortium} was created",
            remedy="use an endpoint that keeps the transactions of all blocks ([ledger] in the configuration)",
        )
    for transaction in block:
        if transaction.creates == consortium:
            return transaction.data
    raise WrongLedger(
        f"no signed transaction creates the Consortium at {consortium} itself: another contract did (a factory, or CREATE2), "
        "and nothing shows with which constructor; or the node shows another transaction than was signed",
        remedy=f"compare with another node; found a consortium with `mpcredit deploy`. If the nodes agree, {_STAY_AWAY}",
    )


def _difference(types: list[str], fields: Sequence[tuple[str, str]], expected: bytes, given: bytes) -> str:
    """In which fields the arguments differ, in words."""
    try:
        (ours,), (theirs,) = abi_decode(types, expected), abi_decode(types, given)
    except MpcreditError:
        return "the constructor's arguments do not decode"
    names = [name for (name, _), own, other in zip(fields, ours, theirs, strict=True) if own != other]
    return f"these differ: {', '.join(names)}" if names else "the arguments are encoded otherwise"
