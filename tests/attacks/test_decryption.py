"""A multiple of n is fed to decryption (protocol.md section 6; R21).

The usual two-prime decryption (python-paillier among others) computes L_p(0) = -1 for it, and its answer m satisfies
m (p + q) = 1 mod n: one "decrypted" answer gives the private key away. Ours refuses and computes nothing.
"""

from __future__ import annotations

import math

import pytest

from mpcredit import paillier
from mpcredit.errors import InvalidCiphertext
from mpcredit.paillier import PrivateKey


def decrypt_as_phe_does(p: int, q: int, c: int) -> int:
    """python-paillier's raw_decrypt, written out."""
    n = p * q

    def half(prime: int) -> int:
        square = prime * prime
        h = pow((pow(n + 1, prime - 1, square) - 1) // prime, -1, prime)
        return (pow(c, prime - 1, square) - 1) // prime * h % prime

    m_p, m_q = half(p), half(q)
    return m_p + (m_q - m_p) * pow(p, -1, q) % q * p


def factors_from(n: int, answer: int) -> tuple[int, int]:
    """p and q from m = (p + q)^-1 mod n."""
    total = pow(answer, -1, n)
    root = math.isqrt(total * total - 4 * n)
    return (total - root) // 2, (total + root) // 2


@pytest.mark.parametrize("k", [1, 2, 12345])
def test_decrypt__multiple_of_n_in_the_usual_way__gives_the_factors(key: PrivateKey, k: int) -> None:
    answer = decrypt_as_phe_does(key.p, key.q, k * key.public.n)

    assert factors_from(key.public.n, answer) == (key.p, key.q)


def test_decrypt__multiple_of_n_with_python_paillier_itself__gives_the_factors(key: PrivateKey) -> None:
    phe = pytest.importorskip("phe")
    theirs = phe.PaillierPrivateKey(phe.PaillierPublicKey(key.public.n), key.p, key.q)

    assert factors_from(key.public.n, theirs.raw_decrypt(key.public.n)) == (key.p, key.q)


@pytest.mark.parametrize(
    "make", [lambda k: 0, lambda k: k.public.n, lambda k: 7 * k.public.n, lambda k: 3 * k.p, lambda k: k.q]
)
def test_decrypt__no_ciphertext__is_refused(key: PrivateKey, make: object) -> None:
    c = make(key)  # type: ignore[operator]  # a lambda of the list above

    with pytest.raises(InvalidCiphertext):
        paillier.decrypt(key, c)
    with pytest.raises(InvalidCiphertext):
        paillier.open_ciphertext(key, c)


def test_decrypt__proper_ciphertext__both_ways_agree(key: PrivateKey) -> None:
    c = paillier.encrypt(key.public, 4711, r=99)

    assert paillier.decrypt(key, c) == decrypt_as_phe_does(key.p, key.q, c) == 4711
