"""Read how a Consortium was created, from the full block of its first event, and compare it with the founding file (R37.1).

A transaction counts by its signature: sender and nonce, from which the address follows, need no endpoint's word. Blocks
are read by number, because nodes forget where a transaction stands long before they forget the block. The comparison
itself is `ledger.creation`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcredit.chain.artifacts import abi_type, consortium, init_codes
from mpcredit.chain.client import ChainLedger, NotFound
from mpcredit.chain.transactions import creation_address, parse_signed, serialise
from mpcredit.encoding import keccak
from mpcredit.errors import HistoryMissing, LedgerError, NodeRefused
from mpcredit.events import Position
from mpcredit.founding import Founding
from mpcredit.ledger.creation import BlockTransaction, InitCodes, check_creation

__all__ = ["compare_creation", "read_block"]


def compare_creation(ledger: ChainLedger, founding: Founding, first: Position) -> InitCodes:
    """Compare the transaction that created the Consortium with the releases and with the founding file.

    Args:
        first: where the Consortium's first event stands.

    Returns:
        The release whose code it is.

    Raises:
        WrongLedger: the Consortium was founded otherwise.
        HistoryMissing: the endpoint does not show the block with its transactions.
        LedgerError: the endpoint cannot be asked.
    """
    struct = next(entry for entry in consortium().abi if entry["type"] == "constructor")["inputs"][0]
    return check_creation(
        ledger.realm.consortium,
        first.transaction,
        read_block(ledger, first),
        init_codes(),
        lambda code: founding.constructor_argument(code.joint_credit),
        [(str(field["name"]), abi_type(field)) for field in struct["components"]],
    )


def read_block(ledger: ChainLedger, place: Position) -> tuple[BlockTransaction, ...]:
    """All transactions of a block.

    Raises:
        HistoryMissing: the endpoint does not have the block, or not with its transactions.
        LedgerError: it cannot be asked, or shows another block there.
    """
    number = place.block
    try:
        block: Any = ledger.endpoint.ask(
            f"read block {number} with its transactions",
            lambda: ledger.web3.eth.get_block(number, full_transactions=True),
        )
    except (NotFound, NodeRefused) as error:
        raise _missing(ledger, number) from error
    if bytes(block["hash"]) != place.block_hash:
        raise LedgerError(f"block {number} was replaced while it was read", remedy="try again")
    found = block.get("transactions") or ()
    if not all(isinstance(transaction, Mapping) for transaction in found):
        raise _missing(ledger, number)
    return tuple(_read(ledger, transaction) for transaction in found)


def _missing(ledger: ChainLedger, number: int) -> HistoryMissing:
    return HistoryMissing(
        f"{ledger.endpoint.name} does not show block {number} with its transactions, in which the Consortium was created",
        remedy="use an endpoint that keeps the transactions of all blocks ([ledger] in the configuration)",
    )


def _read(ledger: ChainLedger, transaction: Mapping[str, Any]) -> BlockTransaction:
    try:
        return BlockTransaction(
            hash=bytes(transaction["hash"]),
            creates=None if transaction.get("to") else _created(transaction, ledger.realm.chain_id),
            data=bytes(transaction["input"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(
            f"{ledger.endpoint.name} showed a transaction that makes no sense",
            remedy="check which version the node runs, or use another one",
        ) from error


def _created(transaction: Mapping[str, Any], chain_id: int) -> str | None:
    """The address that follows from the signature; None of a form that no account signs, such as a rollup's deposit."""
    try:
        raw = serialise(transaction)
        said = parse_signed(raw)
    except (KeyError, TypeError, ValueError):
        return None
    same = keccak(raw) == bytes(transaction["hash"]) and said.data == bytes(transaction["input"])
    return creation_address(said.sender, said.nonce) if same and said.chain_id in (None, chain_id) else None
