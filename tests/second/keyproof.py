"""The proof that gcd(n, phi(n)) = 1 (R7)."""

from __future__ import annotations

from .encodings import number, shake256, unsigned
from .paillier import width

ROOTS = 8


def challenge(modulus: int, place: int) -> int:
    """rho_i."""
    stream = shake256(
        width(modulus) + 16, b"mpcredit/keyproof/2", modulus.to_bytes(width(modulus), "big"), unsigned(place, 32)
    )
    return number(stream) % modulus


def prove(p: int, other: int) -> bytes:
    """sigma_0 || ... || sigma_7, from the two prime factors."""
    n = p * other
    inverse = pow(n, -1, (p - 1) * (other - 1))
    roots = [pow(challenge(n, place), inverse, n) for place in range(ROOTS)]
    return b"".join(root.to_bytes(width(n), "big") for root in roots)


def accepts(modulus: int, proof: bytes) -> bool:
    """Whether a reader accepts the proof. The form of n (R6) is another check."""
    size = width(modulus)
    if len(proof) != ROOTS * size:
        return False
    roots = [number(proof[place * size : (place + 1) * size]) for place in range(ROOTS)]
    return all(
        0 < root < modulus and pow(root, modulus, modulus) == challenge(modulus, place)
        for place, root in enumerate(roots)
    )
