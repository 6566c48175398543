"""Proof that gcd(n, phi(n)) = 1, so that n is square-free and opens every ciphertext to one plaintext (R7).

Goldberg, Reyzin, Sagga and Baldimtsi 2018 ("Efficient noninteractive certification of RSA moduli and beyond"): x^n is a
permutation modulo n exactly if gcd(n, phi(n)) = 1. The prover shows the n-th roots of values that nobody chose. If the
gcd has a prime factor a, at most one value in a has a root; with no factor of n below alpha = 2^16 (`check_modulus`,
trial division) eight roots leave a cheater 2^-128 for each hash it tries.

Rejected by design: a number n that is well formed but whose factors the prover does not know; it has no roots to show.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import gmpy2

from mpcredit.encoding import bytes_to_int, int_to_bytes
from mpcredit.errors import InvalidProof
from mpcredit.paillier import MINIMUM_MODULUS_BITS, PrivateKey, check_modulus

__all__ = ["ROOTS", "challenge", "check_key", "prove", "verify"]

ROOTS: Final = 8
"""ceil(128 / log2(alpha)) with alpha = 2^16."""
_LABEL: Final = b"mpcredit/keyproof/2"
_STRETCH_BYTES: Final = 16


def challenge(n: int, index: int) -> int:
    """rho_i = SHAKE256(label || n || i), stretched by 128 bits and reduced modulo n."""
    width = _width(n)
    data = _LABEL + int_to_bytes(n, width) + int_to_bytes(index, 4)
    return bytes_to_int(hashlib.shake_256(data).digest(width + _STRETCH_BYTES)) % n


def prove(private: PrivateKey) -> bytes:
    """Show eight n-th roots, each as wide as n."""
    n = private.public.n
    return b"".join(int_to_bytes(private.root(challenge(n, index)), _width(n)) for index in range(ROOTS))


def verify(n: int, proof: bytes) -> None:
    """Check the roots. Sound only together with `check_modulus`: use `check_key`.

    Raises:
        InvalidProof: another length, a root out of range, or one that is not the root of its challenge.
    """
    width = _width(n)
    if len(proof) != ROOTS * width:
        raise InvalidProof(f"a proof of this key has {ROOTS * width} bytes, not {len(proof)}")
    for index in range(ROOTS):
        sigma = bytes_to_int(proof[index * width : (index + 1) * width])
        if not 0 < sigma < n or gmpy2.powmod(sigma, n, n) != challenge(n, index):
            raise InvalidProof(f"root {index} of the key proof is wrong")


def check_key(n: int, proof: bytes, minimum_bits: int = MINIMUM_MODULUS_BITS) -> None:
    """Check a foreign key completely (R6, R7); a positive answer is remembered.

    Raises:
        InvalidKey: the modulus is not permitted.
        InvalidProof: the proof does not verify.
    """
    _check_key(n, bytes(proof), minimum_bits)


@lru_cache(maxsize=256)
def _check_key(n: int, proof: bytes, minimum_bits: int) -> None:
    # An exception is not remembered, so a negative answer is computed anew.
    check_modulus(n, minimum_bits)
    verify(n, proof)


def _width(n: int) -> int:
    return (n.bit_length() + 7) // 8
