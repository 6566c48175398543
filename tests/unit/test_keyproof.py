"""R7: the proof that gcd(n, phi(n)) = 1, and provers that have no right to it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator

import gmpy2
import pytest

from mpcredit import keyproof, paillier
from mpcredit.errors import InvalidKey, InvalidProof
from mpcredit.paillier import PrivateKey


def _prime(bits: int, start: int = 0) -> int:
    return int(gmpy2.next_prime((3 << (bits - 2)) + start))


@pytest.fixture(scope="module")
def with_square() -> tuple[int, int, int]:
    """p, q and n = p^2 q of 2048 bits: passes every check but the proof."""
    p, q = _prime(683, 7**200), _prime(683, 11**150)
    n = p * p * q
    assert n.bit_length() == 2048
    paillier.check_modulus(n)
    return p, q, n


@pytest.fixture(scope="module")
def with_divisor() -> tuple[int, int, int]:
    """p, q and n = p q of 2048 bits with p dividing q - 1: square-free, yet gcd(n, phi(n)) = p."""
    p = _prime(1000, 13**100)
    # The first even k from the middle of those that give 2048 bits for which k p + 1 is prime.
    k = 2 * (2**2047 * 3 // 4 // p**2)
    while not gmpy2.is_prime(k * p + 1):
        k += 2
    q = k * p + 1
    assert (p * q).bit_length() == 2048
    paillier.check_modulus(p * q)
    return p, q, p * q


def naive_proof(n: int, order: int) -> bytes:
    """What a prover would send who takes `order` for the order of the group."""
    common = math.gcd(n, order)
    exponent = pow(n // common if common > 1 else n, -1, order // common)
    width = (n.bit_length() + 7) // 8
    return b"".join(pow(keyproof.challenge(n, i), exponent, n).to_bytes(width, "big") for i in range(keyproof.ROOTS))


def test_verify__of_prove__passes(key: PrivateKey, big_key: PrivateKey) -> None:
    for private in (key, big_key):
        proof = keyproof.prove(private)
        assert len(proof) == 8 * private.public.modulus_bytes
        keyproof.check_key(private.public.n, proof)
        keyproof.check_key(private.public.n, proof)


def test_prove__by_the_definition__is_pow_of_the_hash(key: PrivateKey) -> None:
    n, phi = key.public.n, (key.p - 1) * (key.q - 1)
    expected = b""
    for index in range(8):
        data = b"mpcredit/keyproof/2" + n.to_bytes(256, "big") + index.to_bytes(4, "big")
        rho = int.from_bytes(hashlib.shake_256(data).digest(272), "big") % n
        expected += pow(rho, pow(n, -1, phi), n).to_bytes(256, "big")

    assert keyproof.prove(key) == expected


def test_verify__any_root_changed__is_refused(key: PrivateKey) -> None:
    proof = keyproof.prove(key)
    n = key.public.n

    for index in range(8):
        start = index * 256
        sigma = int.from_bytes(proof[start : start + 256], "big")
        for wrong in (sigma ^ 1, 0, n, n - sigma):
            changed = proof[:start] + wrong.to_bytes(256, "big") + proof[start + 256 :]
            with pytest.raises(InvalidProof, match=f"root {index}"):
                keyproof.verify(n, changed)


def test_verify__root_plus_n__is_refused() -> None:
    # A toy n far below 2^|n|, so that sigma + n still fits its width.
    while True:
        private = paillier.unsafe_generate_toy(64)
        proof = keyproof.prove(private)
        sigma = int.from_bytes(proof[:8], "big") + private.public.n
        if sigma < 2**64:
            break

    with pytest.raises(InvalidProof):
        keyproof.verify(private.public.n, sigma.to_bytes(8, "big") + proof[8:])


def by_search(challenge: Callable[[int], int]) -> tuple[int, bytes]:
    """A tiny n with gcd(n, phi(n)) = 1 one of whose challenges has this value, and the proof, its roots by search."""
    for n in range(15, 5_000, 2):
        powers = {pow(x, n, n): x for x in range(n)}
        rhos = [keyproof.challenge(n, index) for index in range(keyproof.ROOTS)]
        if len(powers) == n and challenge(n) in rhos and (0 not in rhos or challenge(n) == 0):
            width = (n.bit_length() + 7) // 8
            return n, b"".join(powers[rho].to_bytes(width, "big") for rho in rhos)
    raise AssertionError("there is none")


def test_verify__root_0_of_the_challenge_0__is_refused_and_so_is_n() -> None:
    n, proof = by_search(lambda n: 0)
    width = (n.bit_length() + 7) // 8
    roots = [int.from_bytes(proof[start : start + width], "big") for start in range(0, len(proof), width)]
    place = roots.index(0)
    assert pow(0, n, n) == pow(n, n, n) == keyproof.challenge(n, place) == 0

    for root in (0, n):
        with pytest.raises(InvalidProof, match=f"root {place}"):
            keyproof.verify(n, proof[: place * width] + root.to_bytes(width, "big") + proof[(place + 1) * width :])


@pytest.mark.parametrize("challenge", [lambda n: 1, lambda n: n - 1], ids=["smallest", "largest"])
def test_verify__smallest_and_largest_root__are_accepted(challenge: Callable[[int], int]) -> None:
    # 1 is the root of 1, and n - 1 that of n - 1, since n is odd.
    n, proof = by_search(challenge)

    keyproof.verify(n, proof)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b"", lambda b: b[256:]])
def test_verify__other_length__is_refused(change: object, key: PrivateKey) -> None:
    with pytest.raises(InvalidProof, match="bytes"):
        keyproof.verify(key.public.n, change(keyproof.prove(key)))  # type: ignore[operator]


def test_verify__proof_of_another_key__is_refused(key: PrivateKey, other_key: PrivateKey) -> None:
    with pytest.raises(InvalidProof):
        keyproof.verify(key.public.n, keyproof.prove(other_key))


def test_verify__roots_in_another_order__is_refused(key: PrivateKey) -> None:
    proof = keyproof.prove(key)

    with pytest.raises(InvalidProof):
        keyproof.verify(key.public.n, proof[256:512] + proof[:256] + proof[512:])


def test_modulus_with_a_square__no_prover__has_the_roots(with_square: tuple[int, int, int]) -> None:
    p, q, n = with_square

    # The naive provers: with the order of the square-free part, and with the order of the group without its factor p.
    for order in ((p - 1) * (q - 1), p * (p - 1) * (q - 1)):
        with pytest.raises(InvalidProof):
            keyproof.verify(n, naive_proof(n, order))

    # And no prover can: an n-th power is a p-th power modulo p^2, and only those give 1 here.
    assert all(pow(keyproof.challenge(n, i), p - 1, p * p) != 1 for i in range(keyproof.ROOTS))
    with pytest.raises(InvalidKey):
        PrivateKey.from_primes(p * p, q)


def test_factor_that_divides_the_other_less_one__no_prover__has_the_roots(with_divisor: tuple[int, int, int]) -> None:
    p, q, n = with_divisor

    with pytest.raises(InvalidProof):
        keyproof.verify(n, naive_proof(n, (p - 1) * (q - 1)))
    assert all(pow(keyproof.challenge(n, i), (q - 1) // p, q) != 1 for i in range(keyproof.ROOTS))
    with pytest.raises(InvalidKey):
        PrivateKey.from_primes(p, q)


def test_roots__toy_modulus_with_a_square__exist_for_one_value_in_p() -> None:
    p, q = 101, 103
    n = p * p * q
    powers = {pow(x, n, n) for x in range(n) if math.gcd(x, n) == 1}

    assert len(powers) * p == p * (p - 1) * (q - 1)


def test_check_key__bad_modulus__is_refused_before_the_proof(key: PrivateKey, toy: PrivateKey) -> None:
    proof = keyproof.prove(toy)
    keyproof.verify(toy.public.n, proof)

    with pytest.raises(InvalidKey):
        keyproof.check_key(toy.public.n, proof)
    with pytest.raises(InvalidKey):
        keyproof.check_key(key.public.n, keyproof.prove(key), 3072)


def test_check_key__wrong_proof__is_refused_each_time(other_key: PrivateKey) -> None:
    proof = keyproof.prove(other_key)
    wrong = proof[:-1] + bytes([proof[-1] ^ 1])

    for _ in range(2):
        with pytest.raises(InvalidProof):
            keyproof.check_key(other_key.public.n, wrong)
    keyproof.check_key(other_key.public.n, proof)
    with pytest.raises(InvalidProof):
        keyproof.check_key(other_key.public.n, wrong)


def test_check_key__a_larger_minimum_after_a_smaller__is_checked_again(key: PrivateKey) -> None:
    proof = keyproof.prove(key)
    keyproof.check_key(key.public.n, proof, 2048)

    with pytest.raises(InvalidKey, match="2048 bits"):
        keyproof.check_key(key.public.n, proof, 3072)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The moduli whose proof was computed anew, in their order; every proof passes."""
    computed: list[int] = []
    monkeypatch.setattr(keyproof, "check_modulus", lambda n, minimum_bits: None)
    monkeypatch.setattr(keyproof, "verify", lambda n, proof: computed.append(n))
    keyproof._check_key.cache_clear()
    yield computed
    keyproof._check_key.cache_clear()


def test_check_key__of_256_keys__is_computed_once_each(counted: list[int]) -> None:
    # A supervisor and each furnisher check a key at every look at its inquiry: 20 ms each time without the memory.
    for _ in range(3):
        for n in range(256):
            keyproof.check_key(n, b"")

    assert counted == list(range(256))


def test_check_key__of_more_keys__forgets_the_oldest(counted: list[int]) -> None:
    # Members choose the keys, so that a memory without an end would be filled by one of them.
    for n in range(257):
        keyproof.check_key(n, b"")

    keyproof.check_key(0, b"")

    assert counted == [*range(257), 0]
