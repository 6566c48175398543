"""Fixed-width integers, canonical JSON, hexadecimal text, Keccak and the Solidity ABI (R1).

Every value has exactly one encoding; every parser here refuses all others. What the bytes mean is left to the callers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

import rfc8785
from eth_abi.abi import encode as _eth_abi_encode
from eth_abi.codec import ABIDecoder
from eth_abi.decoding import StringDecoder
from eth_abi.encoding import TextStringEncoder
from eth_abi.exceptions import DecodingError, EncodingError
from eth_abi.registry import BaseEquals
from eth_abi.registry import registry as _default_registry
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak as _eth_keccak

from mpcredit.errors import InvalidEncoding

__all__ = [
    "abi_decode",
    "abi_encode",
    "bytes_to_int",
    "canonical_json",
    "check_depth",
    "hex_bytes",
    "int_to_bytes",
    "keccak",
    "parse_canonical_json",
    "to_hex",
]

MAXIMUM_DEPTH = 32
"""Of JSON; ours needs four."""
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[{\]}]")
_HEX = re.compile(r"0x(?:[0-9a-f]{2})*")


def int_to_bytes(value: int, width: int) -> bytes:
    """Encode a non-negative integer as exactly `width` bytes, big-endian.

    Raises:
        InvalidEncoding: `value` is negative or does not fit. The value is not named: it may be a secret.
    """
    if value < 0:
        raise InvalidEncoding("a negative integer has no encoding")
    if value.bit_length() > 8 * width:
        raise InvalidEncoding(f"an integer of {value.bit_length()} bits does not fit into {width} bytes")
    return value.to_bytes(width, "big")


def bytes_to_int(data: bytes) -> int:
    """Decode big-endian bytes; the caller checks width and range."""
    return int.from_bytes(data, "big")


def to_hex(data: bytes) -> str:
    """Write bytes as lower-case hexadecimal with the prefix 0x."""
    return "0x" + data.hex()


def hex_bytes(text: str, length: int | None = None) -> bytes:
    """Read lower-case hexadecimal with the prefix 0x.

    Args:
        text: what `to_hex` writes, and nothing else.
        length: the number of bytes that must be there, or None for any.

    Raises:
        InvalidEncoding: another prefix, upper case, an odd digit, or another length.
    """
    if not isinstance(text, str) or _HEX.fullmatch(text) is None:
        raise InvalidEncoding("not lower-case hexadecimal with the prefix 0x")
    data = bytes.fromhex(text[2:])
    if length is not None and len(data) != length:
        raise InvalidEncoding(f"hexadecimal of {len(data)} bytes where {length} are expected")
    return data


def canonical_json(value: Any) -> bytes:
    """Encode as canonical JSON (RFC 8785): sorted keys, no spaces, integers only.

    Raises:
        InvalidEncoding: a float, an integer beyond 2^53 - 1, a key that is not text, or a type JSON lacks.
    """
    try:
        _refuse_foreign(value)
        return bytes(rfc8785.dumps(value))
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise InvalidEncoding("this value has no canonical JSON form") from error


def check_depth(data: bytes) -> None:
    """Refuse JSON that is nested too deeply to be parsed safely; before any parser sees it.

    Some libraries raise Python's recursion limit so far that a deep document overflows the C stack and ends the process; a
    stranger's document must not be able to.

    Raises:
        InvalidEncoding: nested too deeply.
    """
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAXIMUM_DEPTH:
            raise InvalidEncoding(f"JSON that is nested more than {MAXIMUM_DEPTH} deep")


def parse_canonical_json(data: bytes) -> Any:
    """Decode canonical JSON, and refuse any other spelling of the same value.

    Raises:
        InvalidEncoding: not JSON, a float, a repeated key, nested too deeply, or bytes that are not the canonical ones.
    """
    check_depth(data)
    try:
        value = json.loads(
            bytes(data).decode("utf-8"),
            object_pairs_hook=_unique_pairs,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except InvalidEncoding:
        raise
    except (ValueError, RecursionError):
        # Not chained: the decoder's own message quotes the document, which may be confidential.
        raise InvalidEncoding("not JSON") from None
    if canonical_json(value) != bytes(data):
        raise InvalidEncoding("JSON, but not in its canonical form (RFC 8785)")
    return value


def keccak(data: bytes) -> bytes:
    """Hash with Keccak-256 as Ethereum does (not the padding of SHA3-256)."""
    return bytes(_eth_keccak(data))


def abi_encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Encode as Solidity's `abi.encode` does.

    Raises:
        InvalidEncoding: a value does not fit its type.
    """
    try:
        return bytes(_eth_abi_encode(list(types), list(values)))
    except (EncodingError, OverflowError, ValueError, TypeError) as error:
        raise InvalidEncoding("a value does not fit its Solidity type") from error


class _LenientStringDecoder(StringDecoder):  # eth_abi is partly untyped
    def __init__(self) -> None:
        super().__init__(handle_string_errors="replace")  # type: ignore[no-untyped-call]  # as above


def _decoder() -> ABIDecoder:
    registry = _default_registry.copy()  # type: ignore[no-untyped-call]  # as above
    registry.unregister("string")
    string = BaseEquals("string")  # type: ignore[no-untyped-call]  # as above
    registry.register(string, TextStringEncoder, _LenientStringDecoder, label="string")
    return ABIDecoder(registry)


_DECODER = _decoder()


def abi_decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Decode as Solidity's `abi.decode` does; addresses get their checksum.

    Text that is not UTF-8 gets replacement characters: whatever a member can put on the ledger must come out as a value,
    since one that raised would stop every reader.

    Raises:
        InvalidEncoding: the data does not have these types.
    """
    try:
        decoded = _DECODER.decode(list(types), data)
    except (DecodingError, OverflowError, ValueError, TypeError) as error:
        raise InvalidEncoding("the data does not have its Solidity types") from error
    return tuple(
        to_checksum_address(value) if kind == "address" else value for kind, value in zip(types, decoded, strict=True)
    )


def _refuse_foreign(value: Any) -> None:
    if value is None or isinstance(value, (bool, int, str)):
        return
    if isinstance(value, (list, tuple)):
        for item in value:
            _refuse_foreign(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidEncoding("a key of a JSON object must be text")
            _refuse_foreign(item)
    else:
        raise InvalidEncoding(
            f"a {type(value).__name__} has no canonical JSON form; amounts are integers, bytes are hex"
        )


def _refuse_number(_text: str) -> NoReturn:
    raise InvalidEncoding("JSON with a number that is not an integer")


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidEncoding("JSON with a repeated key")
    return result
