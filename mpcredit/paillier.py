"""The Paillier cryptosystem (R6, R19, R21, R30): integers in, integers out.

With n = p q and r in [1, n) coprime to n (Paillier 1999, with g = 1 + n):

    encrypt   c = (1 + m n) r^n mod n^2
    open      r = (c / (1 + m n))^(1/n) mod n; everybody with (m, r) can check c = (1 + m n) r^n mod n^2

A key lives for one inquiry. A short exponent needs a base h_s, and making one takes longer than the exponent saves.
Decryption checks its ciphertext first (decrypting a multiple of n gives the key away) and is blinded. Masks, packing,
the proof that a key is well formed and the encoding of keys at rest are other modules' matters.

Private exponents go through `gmpy2.powmod_sec`; the exponent of an encryption is n, which is public. Python integers are
not wiped from memory, and Python does not run in constant time: no claim is made against someone who measures caches on
the same machine.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NoReturn

import gmpy2
from gmpy2 import mpz

from mpcredit.encoding import bytes_to_int, int_to_bytes
from mpcredit.errors import InvalidCiphertext, InvalidEncoding, InvalidKey, InvalidProof, ValueOutOfRange

__all__ = [
    "DEFAULT_MODULUS_BITS",
    "MAXIMUM_MODULUS_BITS",
    "MINIMUM_MODULUS_BITS",
    "Opening",
    "PrivateKey",
    "PublicKey",
    "add",
    "add_plain",
    "check_ciphertext",
    "check_modulus",
    "ciphertext_bytes",
    "decrypt",
    "encrypt",
    "generate",
    "open_ciphertext",
    "open_with_root",
    "parse_ciphertext",
    "random_root",
    "rerandomise",
    "unsafe_generate_toy",
    "verify_opening",
]

DEFAULT_MODULUS_BITS: Final = 3072
"""NIST SP 800-57: 128 bits of security, fit beyond 2030; what is on the ledger stays there."""
MINIMUM_MODULUS_BITS: Final = 2048
MAXIMUM_MODULUS_BITS: Final = 4096
"""MODEXP takes at most 1,024 bytes for each operand (EIP-7823), and n^2 is one."""
_MODULUS_STEP: Final = 256
_SMALL_FACTOR_BOUND: Final = 2**16
"""Below it the check is trial division, from it on the proof of R7 (its alpha)."""
_PRIMALITY_ROUNDS: Final = 40
"""GMP runs Baillie-PSW and this many less 24 Miller-Rabin rounds with random bases."""
_BLINDING_BITS: Final = 64


@dataclass(frozen=True)
class PublicKey:
    """A Paillier modulus and what follows from it.

    Construction checks nothing but that arithmetic makes sense; `check_modulus` and `keyproof.check_key` say whether
    a key may be used.
    """

    n: int
    """The modulus."""

    def __post_init__(self) -> None:
        if not isinstance(self.n, int) or self.n < 15 or self.n % 2 == 0:
            raise InvalidKey("a Paillier modulus is an odd integer")

    def __repr__(self) -> str:
        return f"<PublicKey {self.bits} bits {self.fingerprint}>"

    @classmethod
    def from_bytes(cls, data: bytes) -> PublicKey:
        """Read a modulus, big-endian and of exactly its own width; the size must be a permitted one.

        Raises:
            InvalidKey: a leading zero, an even modulus, or a size that is not 2048 to 4096 in steps of 256 bits.
        """
        key = cls(bytes_to_int(data))
        if len(data) != key.modulus_bytes:
            raise InvalidKey("a Paillier modulus is written without leading zeros")
        _check_size(key.n, MINIMUM_MODULUS_BITS)
        return key

    @cached_property
    def bits(self) -> int:
        """|n|, the length of the modulus in bits."""
        return self.n.bit_length()

    @cached_property
    def n_squared(self) -> int:
        """n^2, the modulus of ciphertexts."""
        return self.n * self.n

    @property
    def modulus_bytes(self) -> int:
        """Bytes of n."""
        return (self.bits + 7) // 8

    @property
    def width(self) -> int:
        """Bytes of a ciphertext."""
        return 2 * self.modulus_bytes

    @cached_property
    def modulus(self) -> bytes:
        """n, big-endian, `modulus_bytes` wide."""
        return int_to_bytes(self.n, self.modulus_bytes)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of SHA-256(n), to tell keys apart in logs."""
        return hashlib.sha256(self.modulus).hexdigest()[:16]


class PrivateKey:
    """The factors of a modulus. Prints as its fingerprint; cannot be pickled or copied by accident."""

    __slots__ = ("_alpha", "_beta", "_p", "_q", "_q_inverse", "_root_p", "_root_q", "public")

    public: PublicKey
    """The public half."""
    _p: mpz
    _q: mpz
    _alpha: mpz
    _beta: mpz
    _q_inverse: mpz
    _root_p: mpz
    _root_q: mpz

    def __init__(self, p: int, q: int) -> None:
        """See `from_primes`."""
        if p > q:
            p, q = q, p
        if p == q or not (gmpy2.is_prime(p, _PRIMALITY_ROUNDS) and gmpy2.is_prime(q, _PRIMALITY_ROUNDS)):
            raise InvalidKey("a Paillier private key is two different primes")
        if gmpy2.gcd(mpz(p) * q, (mpz(p) - 1) * (q - 1)) != 1:
            raise InvalidKey("n and phi(n) have a common factor")
        set_ = super().__setattr__
        set_("public", PublicKey(int(p) * int(q)))
        set_("_p", mpz(p))
        set_("_q", mpz(q))
        n = mpz(self.public.n)
        # L_p((1+n)^(p-1) mod p^2) = (p-1) n / p = -q mod p; its inverse turns L_p(c^(p-1)) into m mod p.
        set_("_alpha", gmpy2.invert(-self._q, self._p))
        set_("_beta", gmpy2.invert(-self._p, self._q))
        set_("_q_inverse", gmpy2.invert(self._q, self._p))
        # n-th roots modulo p and q.
        set_("_root_p", gmpy2.invert(n, self._p - 1))
        set_("_root_q", gmpy2.invert(n, self._q - 1))

    @classmethod
    def from_primes(cls, p: int, q: int) -> PrivateKey:
        """Make a key from its factors, in either order.

        Raises:
            InvalidKey: equal or composite factors, or gcd(n, phi(n)) > 1. Sizes are `check_modulus`'s matter.
        """
        return cls(p, q)

    @property
    def p(self) -> int:
        """The smaller factor."""
        return int(self._p)

    @property
    def q(self) -> int:
        """The larger factor."""
        return int(self._q)

    def __repr__(self) -> str:
        return f"<PrivateKey {self.public.fingerprint}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateKey) and self.public == other.public

    def __hash__(self) -> int:
        return hash(self.public)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a private key cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled: use the keystore")

    def combine(self, residue_p: mpz, residue_q: mpz) -> mpz:
        """Chinese remainders: the integer below n with these residues."""
        return residue_q + self._q * ((residue_p - residue_q) * self._q_inverse % self._p)

    def root(self, value: int) -> int:
        """Take the n-th root modulo n of a value coprime to n."""
        return int(
            self.combine(
                gmpy2.powmod_sec(value % self._p, self._root_p, self._p),
                gmpy2.powmod_sec(value % self._q, self._root_q, self._q),
            )
        )

    def _residue(self, c: mpz, prime: mpz, inverse: mpz) -> mpz:
        # m mod prime, with the private exponent multiplied by a fresh random number of 64 bits.
        square = prime * prime
        blind = mpz(secrets.randbits(_BLINDING_BITS) | 1)
        while prime.bit_length() <= _BLINDING_BITS and blind % prime == 0:
            blind = mpz(secrets.randbits(_BLINDING_BITS) | 1)  # a toy prime can divide it
        power = gmpy2.powmod_sec(c % square, (prime - 1) * blind, square)
        return (power - 1) // prime * inverse * gmpy2.invert(blind, prime) % prime

    def _message(self, c: int) -> int:
        # The ciphertext is blinded too: b is added to the plaintext and taken off again.
        n = mpz(self.public.n)
        b = mpz(secrets.randbelow(self.public.n))
        blinded = c * (1 + b * n) % self.public.n_squared
        m_p = self._residue(blinded, self._p, self._alpha)
        m_q = self._residue(blinded, self._q, self._beta)
        return int((self.combine(m_p, m_q) - b) % n)


@dataclass(frozen=True)
class Opening:
    """What proves the plaintext of a ciphertext to anyone: c = (1 + m n) r^n mod n^2."""

    m: int = field(repr=False)
    """The plaintext."""
    r: int = field(repr=False)
    """The n-th root of the ciphertext without its plaintext; it gives m away to a reader of the ledger."""


def generate(bits: int = DEFAULT_MODULUS_BITS, *, randbits: Callable[[int], int] = secrets.randbits) -> PrivateKey:
    """Generate a key whose modulus has exactly `bits` bits.

    p and q are at least sqrt(2) 2^(bits/2-1) and differ in their upper 100 bits (FIPS 186-5 A.1.3).

    Raises:
        InvalidKey: `bits` is not 2048 to 4096 in steps of 256.
    """
    if bits % _MODULUS_STEP or not MINIMUM_MODULUS_BITS <= bits <= MAXIMUM_MODULUS_BITS:
        raise InvalidKey(f"a modulus has 2048 to 4096 bits in steps of {_MODULUS_STEP}")
    return _generate(bits, randbits)


def unsafe_generate_toy(bits: int, *, randbits: Callable[[int], int] = secrets.randbits) -> PrivateKey:
    """Generate a key too small for anything but tests (16 to 1024 bits, even)."""
    if bits % 2 or not 16 <= bits <= 1024:
        raise InvalidKey("a toy key has 16 to 1024 bits, an even number")
    return _generate(bits, randbits)


def check_modulus(n: int, minimum_bits: int = MINIMUM_MODULUS_BITS) -> None:
    """Check a foreign modulus as far as that goes without a proof (R6): the rest is `keyproof.verify`.

    Raises:
        InvalidKey: even, prime, too short or too long, a size that is not a multiple of 256 bits, or a factor
            below 2^16.
    """
    _check_size(n, minimum_bits)
    if n % 2 == 0:
        raise InvalidKey("the modulus is even")
    if gmpy2.gcd(_PRIMORIAL, n) != 1:
        raise InvalidKey("the modulus has a factor below 2^16")
    if gmpy2.is_prime(n, _PRIMALITY_ROUNDS):
        raise InvalidKey("the modulus is prime")


def random_root(public: PublicKey) -> int:
    """Draw a fresh r for `encrypt`: in [1, n) and coprime to n."""
    while True:
        r = secrets.randbelow(public.n)
        if gmpy2.gcd(r, public.n) == 1:
            return r


def encrypt(public: PublicKey, m: int, *, r: int) -> int:
    """Encrypt: (1 + m n) r^n mod n^2 (R19).

    Raises:
        ValueOutOfRange: m is not in [0, n), or r is not in [1, n) and coprime to n.
    """
    _check_plaintext(public, m)
    if not 0 < r < public.n or gmpy2.gcd(r, public.n) != 1:
        raise ValueOutOfRange("r must be in [1, n) and coprime to n")
    return int((1 + mpz(m) * public.n) * gmpy2.powmod(r, public.n, public.n_squared) % public.n_squared)


def add(public: PublicKey, *ciphertexts: int) -> int:
    """Multiply ciphertexts modulo n^2: the product encrypts the sum modulo n.

    Raises:
        InvalidCiphertext: one is not in (0, n^2). `check_ciphertext` says more of foreign ones.
    """
    modulus = mpz(public.n_squared)
    total = mpz(1)
    for c in ciphertexts:
        if not 0 < c < public.n_squared:
            raise InvalidCiphertext("a ciphertext must be above 0 and below n^2")
        total = total * c % modulus
    return int(total)


def add_plain(public: PublicKey, c: int, m: int) -> int:
    """Add a known value to the plaintext of a ciphertext; the randomness stays as it is.

    Raises:
        ValueOutOfRange: m is not in [0, n).
    """
    _check_plaintext(public, m)
    return add(public, c, int(1 + mpz(m) * public.n))


def rerandomise(public: PublicKey, c: int, *, r: int) -> int:
    """Multiply by an encryption of 0: another ciphertext of the same plaintext."""
    return add(public, c, encrypt(public, 0, r=r))


def check_ciphertext(public: PublicKey, c: int) -> None:
    """Check that c is a ciphertext of this key (R21): 0 < c < n^2 and coprime to n.

    Raises:
        InvalidCiphertext: it is not.
    """
    if not 0 < c < public.n_squared:
        raise InvalidCiphertext("a ciphertext must be above 0 and below n^2")
    if gmpy2.gcd(c, public.n) != 1:
        raise InvalidCiphertext("the ciphertext has a common factor with n")


def decrypt(private: PrivateKey, c: int) -> int:
    """Decrypt, after the check and blinded.

    Raises:
        InvalidCiphertext: c is not a ciphertext of this key; what its decryption would give is never computed.
    """
    check_ciphertext(private.public, c)
    return private._message(c)


def open_ciphertext(private: PrivateKey, c: int) -> Opening:
    """Decrypt and take the n-th root that proves the plaintext; the opening is verified before it is returned.

    Raises:
        InvalidCiphertext: c is not a ciphertext of this key.
        InvalidProof: the computation went wrong (a fault); nothing is shown.
    """
    m = decrypt(private, c)
    # (1 + m n) is 1 modulo n, so the root modulo n does not need it taken off.
    opening = Opening(m, private.root(c % private.public.n))
    verify_opening(private.public, c, opening)
    return opening


def verify_opening(public: PublicKey, c: int, opening: Opening) -> None:
    """Check (1 + m n) r^n = c mod n^2; m is unique for every square-free n.

    Raises:
        InvalidCiphertext: c is not a ciphertext of this key.
        InvalidProof: the opening is not one of c.
    """
    check_ciphertext(public, c)
    if not 0 <= opening.m < public.n or not 0 < opening.r < public.n:
        raise InvalidProof("an opening has m in [0, n) and r in [1, n)")
    power = gmpy2.powmod(opening.r, public.n, public.n_squared)
    if (1 + mpz(opening.m) * public.n) * power % public.n_squared != c:
        raise InvalidProof("the opening does not fit the ciphertext")


def open_with_root(public: PublicKey, c: int, r: int) -> Opening:
    """Find m from c and its root r: c r^-n = 1 + m n mod n^2 (R20, R30).

    Raises:
        InvalidCiphertext: c is not a ciphertext of this key.
        InvalidProof: r is not the root of c.
    """
    check_ciphertext(public, c)
    if not 0 < r < public.n or gmpy2.gcd(r, public.n) != 1:
        raise InvalidProof("a root is in [1, n) and coprime to n")
    power = gmpy2.powmod(r, public.n, public.n_squared)
    m, one = divmod(gmpy2.invert(power, public.n_squared) * c % public.n_squared, public.n)
    if one != 1:
        raise InvalidProof("the root is not that of the ciphertext")
    return Opening(int(m), r)


def ciphertext_bytes(public: PublicKey, c: int) -> bytes:
    """Write a ciphertext: big-endian, exactly `width` bytes."""
    check_ciphertext(public, c)
    return int_to_bytes(c, public.width)


def parse_ciphertext(public: PublicKey, data: bytes) -> int:
    """Read a ciphertext and check it.

    Raises:
        InvalidEncoding: another width.
        InvalidCiphertext: not a ciphertext of this key.
    """
    if len(data) != public.width:
        raise InvalidEncoding(f"a ciphertext of this key has {public.width} bytes, not {len(data)}")
    c = bytes_to_int(data)
    check_ciphertext(public, c)
    return c


def _check_plaintext(public: PublicKey, m: int) -> None:
    if not 0 <= m < public.n:
        raise ValueOutOfRange("a plaintext must be in [0, n)")


def _check_size(n: int, minimum_bits: int) -> None:
    bits = n.bit_length()
    minimum_bits = max(minimum_bits, MINIMUM_MODULUS_BITS)
    if n <= 0 or bits % _MODULUS_STEP or not minimum_bits <= bits <= MAXIMUM_MODULUS_BITS:
        raise InvalidKey(
            f"a modulus of {bits} bits",
            remedy=f"permitted are {minimum_bits} to {MAXIMUM_MODULUS_BITS} bits in steps of {_MODULUS_STEP}",
        )


def _generate(bits: int, randbits: Callable[[int], int]) -> PrivateKey:
    half = bits // 2
    # FIPS 186-5 wants |p - q| > 2^(half - 100); toy keys are too small to keep 100 bits apart.
    distance = 1 << max(half - 100, 1)
    while True:
        p, q = _prime(half, randbits), _prime(half, randbits)
        # gcd(n, phi(n)) = 1 follows from the equal lengths; `PrivateKey` checks it once more.
        if abs(p - q) > distance and gmpy2.gcd(p * q, (p - 1) * (q - 1)) == 1:
            return PrivateKey(int(p), int(q))


def _prime(bits: int, randbits: Callable[[int], int]) -> mpz:
    floor = gmpy2.isqrt(mpz(1) << (2 * bits - 1))
    # Below the bound of trial division a toy prime would be taken for a composite.
    sieve = _PRIMORIAL if bits > 16 else mpz(1)
    while True:
        candidate = mpz(randbits(bits)) | (mpz(1) << (bits - 1)) | 1
        if candidate > floor and gmpy2.gcd(sieve, candidate) == 1 and gmpy2.is_prime(candidate, _PRIMALITY_ROUNDS):
            return candidate


_PRIMORIAL: Final = gmpy2.primorial(_SMALL_FACTOR_BOUND)
