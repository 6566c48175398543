"""ECDSA on secp256k1 as ledger accounts use it: deterministic signatures (RFC 6979) with the lower s, and the signer's address.

Slow, and not constant in time: for tests only.
"""

from __future__ import annotations

import hmac

from .encodings import keccak256, number

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)

Point = tuple[int, int] | None


def _add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def _times(scalar: int, point: Point) -> Point:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point, scalar = _add(point, point), scalar >> 1
    return total


def _address(point: Point) -> bytes:
    assert point is not None
    return keccak256(point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big"))[12:]


def address_of(private: bytes) -> bytes:
    """The account of a private key."""
    return _address(_times(number(private), G))


def sign(private: bytes, digest: bytes) -> bytes:
    """r || s || v, 65 bytes, v 27 or 28. RFC 6979 gives the nonce; a second try is never met in practice."""
    key, seed = bytes(32), private + (number(digest) % N).to_bytes(32, "big")
    value = b"\1" * 32
    for mark in (b"\0", b"\1"):
        key = hmac.digest(key, value + mark + seed, "sha256")
        value = hmac.digest(key, value, "sha256")
    value = hmac.digest(key, value, "sha256")
    point = _times(number(value), G)
    assert point is not None
    r, parity = point[0] % N, point[1] & 1
    s = pow(number(value), -1, N) * (number(digest) + r * number(private)) % N
    if s > N // 2:
        s, parity = N - s, parity ^ 1
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity])


def signer(digest: bytes, signature: bytes) -> bytes:
    """The account that signed."""
    r, s, parity = number(signature[:32]), number(signature[32:64]), signature[64] - 27
    y = pow(r**3 + 7, (P + 1) // 4, P)
    if y & 1 != parity:
        y = P - y
    inverse = pow(r, -1, N)
    return _address(_add(_times(-number(digest) * inverse % N, G), _times(s * inverse % N, (r, y))))
