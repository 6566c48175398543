"""R1: one canonical encoding of everything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcredit.encoding import (
    abi_encode,
    bytes_to_int,
    canonical_json,
    hex_bytes,
    int_to_bytes,
    keccak,
    parse_canonical_json,
    to_hex,
)
from mpcredit.errors import InvalidEncoding

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=64))
def test_int_to_bytes__of_bytes_to_int__is_the_identity(data: bytes) -> None:
    assert int_to_bytes(bytes_to_int(data), len(data)) == data


@pytest.mark.parametrize(("value", "width"), [(-1, 4), (256, 1), (1, 0), (2**4096, 512)])
def test_int_to_bytes__value_that_does_not_fit__is_refused(value: int, width: int) -> None:
    with pytest.raises(InvalidEncoding):
        int_to_bytes(value, width)


@given(st.binary(max_size=64))
def test_hex_bytes__of_to_hex__is_the_identity(data: bytes) -> None:
    assert hex_bytes(to_hex(data), len(data)) == data


@pytest.mark.parametrize(
    "text", ["", "0x0", "00", "0X00", "0xAA", "0x0g", " 0x00", "0x00\n", "0x0 0", None, 5, b"0x00"]
)
def test_hex_bytes__other_spelling__is_refused(text: str) -> None:
    with pytest.raises(InvalidEncoding):
        hex_bytes(text)


def test_hex_bytes__other_length__is_refused() -> None:
    with pytest.raises(InvalidEncoding):
        hex_bytes("0x0000", 3)


@given(JSON)
def test_canonical_json__any_value__is_read_back_by_us_and_by_json(value: object) -> None:
    try:
        data = canonical_json(value)
    except InvalidEncoding:
        # Lone surrogates have no UTF-8 form.
        with pytest.raises(UnicodeEncodeError):
            json.dumps(value, ensure_ascii=False).encode()
        return
    assert parse_canonical_json(data) == value
    assert json.loads(data) == value


def test_canonical_json__rfc_8785_sorting__is_by_utf16_units() -> None:
    # RFC 8785 section 3.2.3: the example's keys in their order.
    keys = ["\r", "1", "\x80", "\xf6", "\u20ac", "\U0001f600", "\ufb33"]

    data = canonical_json({key: index for index, key in enumerate(sorted(keys))})

    assert list(json.loads(data)) == keys


@pytest.mark.parametrize("value", [1.0, {"a": [0.5]}, {1: 2}, {"a": b""}, 2**53, {"a": {2}}, object(), float("nan")])
def test_canonical_json__foreign_value__is_refused(value: object) -> None:
    with pytest.raises(InvalidEncoding):
        canonical_json(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" {}",
        b"{}\n",
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b"NaN",
        b"-0",
        b"01",
        b'"\\u0041"',
        b'"\\/"',
        b"9007199254740992",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'"\\ud800"',
        b"[" * 100_000,
        b"1" * 10_000,
    ],
)
def test_parse_canonical_json__any_other_spelling__is_refused(data: bytes) -> None:
    with pytest.raises(InvalidEncoding):
        parse_canonical_json(data)


def test_keccak__of_nothing__is_ethereums_empty_hash() -> None:
    assert to_hex(keccak(b"")) == "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_abi_encode__example_of_the_solidity_documentation__fits() -> None:
    # docs.soliditylang.org, "Contract ABI Specification", example baz(uint32,bool) with 69 and true.
    assert abi_encode(["uint32", "bool"], [69, True]).hex() == f"{69:064x}{1:064x}"


@pytest.mark.parametrize(("kind", "value"), [("uint8", 256), ("uint8", -1), ("bytes32", b"x" * 33), ("bool", 2)])
def test_abi_encode__value_that_does_not_fit__is_refused(kind: str, value: object) -> None:
    with pytest.raises(InvalidEncoding):
        abi_encode([kind], [value])
