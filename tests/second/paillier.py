"""Masks (R18), randomness and encryption (R19), the aggregate (R22) and its opening (R29). |n| is `width`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd

from .encodings import number, shake256, unsigned


def width(modulus: int) -> int:
    """|n|, the bytes of n."""
    return (modulus.bit_length() + 7) // 8


def mask(pair_mask_key: bytes, context: bytes, block: int, modulus: int) -> int:
    """mask_ij(b) (R18)."""
    stream = shake256(width(modulus) + 16, b"mpcredit/mask/2", pair_mask_key, context, unsigned(block, 32))
    return number(stream) % modulus


def masked(
    packed: int, member: int, pair_mask_keys: Mapping[int, bytes], context: bytes, block: int, modulus: int
) -> int:
    """m_i(b): the packed figures, plus the masks with the later members, less those with the earlier ones (R18)."""
    total = packed
    for other, key in pair_mask_keys.items():
        if other > member:
            total += mask(key, context, block, modulus)
        else:
            total -= mask(key, context, block, modulus)
    return total % modulus


def candidate(seed: bytes, context: bytes, member: int, block: int, attempt: int, modulus: int) -> int:
    """r(t) (R19)."""
    stream = shake256(
        width(modulus) + 16,
        b"mpcredit/random/2",
        seed,
        context,
        unsigned(member, 8),
        unsigned(block, 32),
        unsigned(attempt, 8),
    )
    return number(stream) % modulus


def randomness(seed: bytes, context: bytes, member: int, block: int, modulus: int) -> int | None:
    """The first r(t) that is coprime to n, or None if no t from 0 to 255 fits (R19)."""
    for attempt in range(256):
        r = candidate(seed, context, member, block, attempt, modulus)
        if gcd(r, modulus) == 1:
            return r
    return None


def encrypt(modulus: int, m: int, r: int) -> int:
    """c = (1 + m n) r^n mod n^2 (R19)."""
    square = modulus * modulus
    return (1 + m * modulus) * pow(r, modulus, square) % square


def ciphertext_bytes(modulus: int, c: int) -> bytes:
    """A ciphertext with 2|n| bytes (R21)."""
    return c.to_bytes(2 * width(modulus), "big")


def payload(modulus: int, disclosure: bytes, ciphertexts: Sequence[int]) -> bytes:
    """A contribution: the disclosure, then the ciphertexts of all blocks (R21)."""
    return disclosure + b"".join(ciphertext_bytes(modulus, c) for c in ciphertexts)


def aggregate(modulus: int, contributions: Sequence[Sequence[int]]) -> list[int]:
    """The product of all contributions mod n^2, block by block (R22)."""
    products = [1] * len(contributions[0])
    for ciphertexts in contributions:
        products = [a * c % (modulus * modulus) for a, c in zip(products, ciphertexts, strict=True)]
    return products


def open_block(p: int, other: int, c: int) -> tuple[int, int]:
    """(m, r) of one block of the aggregate: r is its n-th root mod n (R29)."""
    n = p * other
    r = pow(c % n, pow(n, -1, (p - 1) * (other - 1)), n)
    m = (c * pow(r, -n, n * n) % (n * n) - 1) // n
    if encrypt(n, m, r) != c:
        raise ValueError("the opening is not one of this aggregate")
    return m, r
