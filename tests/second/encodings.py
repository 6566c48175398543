"""The notation of the specification: fixed-width integers, H over `abi.encode`, and canonical JSON (R1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak


def unsigned(value: int, bits: int) -> bytes:
    """A big-endian unsigned integer of `bits` bits: u8, u16, u32, u64, u256."""
    return value.to_bytes(bits // 8, "big")


def number(content: bytes) -> int:
    """The integer that the bytes write, big-endian."""
    return int.from_bytes(content, "big")


def hexadecimal(content: bytes) -> str:
    """Bytes inside JSON."""
    return "0x" + content.hex()


def keccak256(content: bytes) -> bytes:
    """Return the 32 bytes of keccak-256."""
    return bytes(keccak(content))


def sha256(*parts: bytes) -> bytes:
    """SHA-256 over the joined parts."""
    return hashlib.sha256(b"".join(parts)).digest()


def shake256(length: int, *parts: bytes) -> bytes:
    """SHAKE256 over the joined parts, `length` bytes of output."""
    return hashlib.shake_256(b"".join(parts)).digest(length)


def word_of_label(label: str) -> bytes:
    """A label inside H: ASCII, padded with zeros on the right to 32 bytes."""
    return label.encode("ascii").ljust(32, b"\0")


def word_of_number(value: int) -> bytes:
    """The ABI word of an unsigned integer of any width, a bool or an enum."""
    return value.to_bytes(32, "big")


def word_of_address(address: bytes) -> bytes:
    """The ABI word of an address: zeros on the left."""
    return address.rjust(32, b"\0")


def word_of_fixed_bytes(content: bytes) -> bytes:
    """The ABI word of bytesN: zeros on the right."""
    return content.ljust(32, b"\0")


def abi_bytes(content: bytes) -> bytes:
    """The tail of a `bytes` value: its length, its content, zeros up to a full word."""
    return word_of_number(len(content)) + content + bytes(-len(content) % 32)


def abi_bytes32_array(items: Sequence[bytes]) -> bytes:
    """`abi.encode(bytes32[])`."""
    return word_of_number(32) + word_of_number(len(items)) + b"".join(items)


def abi_bytes_array(items: Sequence[bytes]) -> bytes:
    """`abi.encode(bytes[])`: the offsets of the items count from the word after the length."""
    tails = [abi_bytes(item) for item in items]
    offsets, position = [], 32 * len(items)
    for tail in tails:
        offsets.append(word_of_number(position))
        position += len(tail)
    return word_of_number(32) + word_of_number(len(items)) + b"".join(offsets) + b"".join(tails)


def canonical_json(value: object) -> bytes:
    """RFC 8785 for values without floats: names in the order of their UTF-16 code units, no spaces, UTF-8."""
    return json.dumps(_sorted(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")


def _sorted(value: object) -> object:
    if isinstance(value, float):
        raise ValueError("a float never enters")
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value, key=lambda name: name.encode("utf-16-be"))}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value


@dataclass(frozen=True)
class Realm:
    """One consortium on one ledger."""

    chain_id: int
    consortium: bytes
    """The address of the Consortium, 20 bytes."""

    def digest(self) -> bytes:
        """SHA-256(`mpcredit/realm/2` || u256 chain id || Consortium), the salt of R10."""
        return sha256(b"mpcredit/realm/2", unsigned(self.chain_id, 256), self.consortium)
