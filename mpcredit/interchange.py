"""Keys and ciphertexts of phe (python-paillier), in both directions; needs the extra `mpcredit[phe]`.

phe is an oracle for tests and a way in and out for data; nothing else here uses it. Only exponent 0 is accepted (its
floats show their magnitude), and phe reads plaintexts above n/2 as negative: n - x here is -x there.
"""

from __future__ import annotations

from typing import Any

from mpcredit.errors import InvalidEncoding, MpcreditError
from mpcredit.paillier import PrivateKey, PublicKey, check_ciphertext

__all__ = [
    "from_phe_ciphertext",
    "from_phe_private",
    "from_phe_public",
    "to_phe_ciphertext",
    "to_phe_private",
    "to_phe_public",
]


def to_phe_public(public: PublicKey) -> Any:
    """Return a `phe.PaillierPublicKey`."""
    return _phe().PaillierPublicKey(public.n)


def from_phe_public(public: Any) -> PublicKey:
    """Read a `phe.PaillierPublicKey`; `check_modulus` says whether it may be used (phe accepts n = 15).

    Raises:
        InvalidEncoding: its g is not n + 1.
        InvalidKey: an even modulus.
    """
    if public.g != public.n + 1:
        raise InvalidEncoding("a phe key whose g is not n + 1")
    return PublicKey(int(public.n))


def to_phe_private(private: PrivateKey) -> Any:
    """Return a `phe.PaillierPrivateKey`. It decrypts unchecked: give it only ciphertexts that passed a check."""
    return _phe().PaillierPrivateKey(to_phe_public(private.public), private.p, private.q)


def from_phe_private(private: Any) -> PrivateKey:
    """Read a `phe.PaillierPrivateKey`.

    Raises:
        InvalidKey: factors that are not two different primes.
    """
    return PrivateKey.from_primes(int(private.p), int(private.q))


def to_phe_ciphertext(public: PublicKey, c: int) -> Any:
    """Return a `phe.EncryptedNumber` of exponent 0.

    Raises:
        InvalidCiphertext: c is not a ciphertext of this key.
    """
    check_ciphertext(public, c)
    return _phe().EncryptedNumber(to_phe_public(public), c, 0)


def from_phe_ciphertext(number: Any) -> int:
    """Read a `phe.EncryptedNumber`; phe rerandomises it first if a sum left it bare.

    Raises:
        InvalidEncoding: its exponent is not 0.
        InvalidCiphertext: not a ciphertext of its key.
    """
    if number.exponent != 0:
        raise InvalidEncoding("a phe number with an exponent: encrypt integers only")
    c = int(number.ciphertext())
    check_ciphertext(from_phe_public(number.public_key), c)
    return c


def _phe() -> Any:
    try:
        import phe
    except ImportError:
        raise MpcreditError("phe is not installed", remedy="pip install 'mpcredit[phe]'") from None
    return phe
