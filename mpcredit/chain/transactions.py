"""Signed transactions as bytes: put one together again from a node's answer, and read one that a signer made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rlp  # type: ignore[import-untyped]  # it has no type information
from eth_account import Account
from eth_utils.address import to_checksum_address

from mpcredit.encoding import keccak

__all__ = ["SignedTransaction", "creation_address", "parse_signed", "serialise"]

LEGACY, ACCESS_LIST, DYNAMIC_FEE = 0, 1, 2


@dataclass(frozen=True)
class SignedTransaction:
    """What a signed transaction says."""

    kind: int
    """EIP-2718 type; 0 is a legacy transaction."""
    chain_id: int | None
    nonce: int
    to: str | None
    """Checksum address, None for a creation."""
    value: int
    data: bytes
    sender: str
    """Checksum address recovered from the signature."""
    gas: int
    max_fee: int
    """Most that is paid for a unit of gas, in wei; of a legacy transaction its gas price."""
    tip: int
    """Most that goes to the block's maker, in wei; of a legacy transaction its gas price."""


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return bytes.fromhex(value.removeprefix("0x"))
    return bytes(value)


def _int(value: Any) -> int:
    if isinstance(value, str):
        return int(value, 16)
    return value if isinstance(value, int) else int.from_bytes(value, "big")


def _address(value: Any) -> bytes:
    return _bytes(value) if value else b""


def serialise(fields: Mapping[str, Any]) -> bytes:
    """The bytes of a signed transaction from the answer to `eth_getTransactionByHash`; type 0, 1 or 2.

    Raises:
        KeyError, ValueError: the answer lacks a field, or the type is another.
    """
    kind = _int(fields.get("type", 0))
    nonce, gas, value = _int(fields["nonce"]), _int(fields["gas"]), _int(fields["value"])
    target, data = _address(fields["to"]), _bytes(fields["input"])
    r, s = _int(fields["r"]), _int(fields["s"])
    if kind == LEGACY:
        return bytes(rlp.encode([nonce, _int(fields["gasPrice"]), gas, target, value, data, _int(fields["v"]), r, s]))
    access = [
        [_bytes(entry["address"]), [_bytes(key) for key in entry["storageKeys"]]]
        for entry in fields.get("accessList") or ()
    ]
    parity = _int(fields.get("yParity", fields.get("v")))
    if kind == ACCESS_LIST:
        fees = [_int(fields["gasPrice"])]
    elif kind == DYNAMIC_FEE:
        fees = [_int(fields["maxPriorityFeePerGas"]), _int(fields["maxFeePerGas"])]
    else:
        raise ValueError(f"a transaction of type {kind}")
    items = [_int(fields["chainId"]), nonce, *fees, gas, target, value, data, access, parity, r, s]
    return bytes([kind]) + bytes(rlp.encode(items))


def parse_signed(raw: bytes) -> SignedTransaction:
    """Read a signed transaction of type 0, 1 or 2.

    Raises:
        ValueError: the bytes are not one.
    """
    try:
        sender = to_checksum_address(Account.recover_transaction(raw))
        if raw[0] >= 0xC0:
            nonce, price, gas, to, value, data, v, _r, _s = rlp.decode(raw)
            fees = (price, price)
            kind, number = LEGACY, int.from_bytes(v, "big")
            chain_id = (number - 35) // 2 if number >= 35 else None
        elif raw[0] in (ACCESS_LIST, DYNAMIC_FEE):
            kind = raw[0]
            chain, nonce, *rest = rlp.decode(raw[1:])
            chain_id = int.from_bytes(chain, "big")
            gas, to, value, data = rest[kind : kind + 4]  # one fee field, or two, stand before: the tip first
            fees = (rest[0], rest[kind - 1])
        else:
            raise ValueError(f"a transaction of type {raw[0]}")
    except ValueError:
        raise
    except Exception as error:
        # rlp, eth_account and eth_keys each have exceptions of their own for bytes that do not fit.
        raise ValueError("not a signed transaction") from error
    return SignedTransaction(
        kind=kind,
        chain_id=chain_id,
        nonce=int.from_bytes(nonce, "big"),
        to=to_checksum_address(to) if to else None,
        value=int.from_bytes(value, "big"),
        data=bytes(data),
        sender=sender,
        gas=int.from_bytes(gas, "big"),
        max_fee=int.from_bytes(fees[1], "big"),
        tip=int.from_bytes(fees[0], "big"),
    )


def creation_address(sender: str, nonce: int) -> str:
    """Checksum address of the contract that this transaction of the sender creates."""
    return to_checksum_address(keccak(rlp.encode([_bytes(sender), nonce]))[12:])
