"""R6, R19, R21, R30: Paillier, with phe and plain `pow` as independent oracles."""

from __future__ import annotations

import hashlib
import math
import random

import phe
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pure_support import PUBLIC_TEST_KEYS

from mpcredit import paillier
from mpcredit.errors import InvalidCiphertext, InvalidEncoding, InvalidKey, InvalidProof, ValueOutOfRange
from mpcredit.paillier import Opening, PrivateKey, PublicKey

TOY = PrivateKey.from_primes(*PUBLIC_TEST_KEYS["toy-256"])
MESSAGES = st.integers(0, TOY.public.n - 1)
ROOTS = st.integers(1, TOY.public.n - 1).filter(lambda r: math.gcd(r, TOY.public.n) == 1)


# ---------------------------------------------------------------- encryption


@given(MESSAGES, ROOTS)
def test_encrypt__any_message__is_the_formula_and_decrypts(m: int, r: int) -> None:
    n = TOY.public.n

    c = paillier.encrypt(TOY.public, m, r=r)

    assert c == (1 + m * n) * pow(r, n, n * n) % (n * n)
    assert paillier.decrypt(TOY, c) == m


@given(st.lists(st.tuples(MESSAGES, ROOTS), min_size=1, max_size=6))
def test_add__of_ciphertexts__encrypts_the_sum(parts: list[tuple[int, int]]) -> None:
    ciphertexts = [paillier.encrypt(TOY.public, m, r=r) for m, r in parts]

    total = paillier.add(TOY.public, *ciphertexts)

    assert paillier.decrypt(TOY, total) == sum(m for m, _ in parts) % TOY.public.n


@given(MESSAGES, MESSAGES, ROOTS.filter(lambda r: r > 1))
def test_add_plain__and_rerandomise__keep_to_their_meaning(m: int, k: int, r: int) -> None:
    c = paillier.encrypt(TOY.public, m, r=77)

    changed = paillier.rerandomise(TOY.public, paillier.add_plain(TOY.public, c, k), r=r)

    assert paillier.decrypt(TOY, changed) == (m + k) % TOY.public.n
    assert changed != paillier.add_plain(TOY.public, c, k)


def test_decrypt__real_sizes__returns_the_message(key: PrivateKey, big_key: PrivateKey) -> None:
    for private in (key, big_key):
        public = private.public
        for m in (0, 1, public.n - 1, public.n // 2):
            c = paillier.encrypt(public, m, r=paillier.random_root(public))
            assert paillier.decrypt(private, c) == m


def test_phe__encrypts__we_decrypt(key: PrivateKey) -> None:
    oracle = phe.PaillierPublicKey(key.public.n)

    for m in (0, 1, 2**47, key.public.n - 1):
        assert paillier.decrypt(key, oracle.raw_encrypt(m)) == m


def test_phe__decrypts__what_we_encrypt(key: PrivateKey) -> None:
    public = key.public
    oracle = phe.PaillierPrivateKey(phe.PaillierPublicKey(public.n), key.p, key.q)
    five = paillier.encrypt(public, 5, r=54321)

    for m in (0, 1, 2**47, public.n - 1):
        c = paillier.encrypt(public, m, r=12345)
        assert oracle.raw_decrypt(c) == m
        assert oracle.raw_decrypt(paillier.add(public, c, five)) == (m + 5) % public.n


@pytest.mark.parametrize("m", [-1, TOY.public.n, TOY.public.n + 5])
def test_encrypt__plaintext_out_of_range__is_refused(m: int) -> None:
    c = paillier.encrypt(TOY.public, 1, r=5)
    for attempt in (
        lambda: paillier.encrypt(TOY.public, m, r=5),
        lambda: paillier.add_plain(TOY.public, c, m),
    ):
        with pytest.raises(ValueOutOfRange):
            attempt()


@pytest.mark.parametrize("r", [0, -1, TOY.public.n, TOY.p, 2 * TOY.q])
def test_encrypt__root_that_is_no_unit__is_refused(r: int) -> None:
    with pytest.raises(ValueOutOfRange):
        paillier.encrypt(TOY.public, 1, r=r)


def test_random_root__many__are_in_range_and_long(key: PrivateKey) -> None:
    drawn = [paillier.random_root(key.public) for _ in range(200)]

    assert all(0 < r < key.public.n for r in drawn)
    assert max(drawn) > 2**2044
    assert len(set(drawn)) == 200


def test_random_root__of_a_modulus_of_small_primes__is_coprime_to_it() -> None:
    public = PublicKey(3 * 5 * 7 * 11)

    drawn = {paillier.random_root(public) for _ in range(500)}

    assert all(math.gcd(r, 1155) == 1 for r in drawn)
    assert len(drawn) > 200  # of 480


# ---------------------------------------------------------------- ciphertexts


@pytest.mark.parametrize(
    "c",
    [
        0,
        -1,
        TOY.public.n_squared,
        TOY.public.n_squared + 1,
        TOY.public.n,
        5 * TOY.public.n,
        TOY.p,
        7 * TOY.q,
        TOY.p**2,
    ],
)
def test_ciphertext__that_is_none__is_refused_everywhere(c: int) -> None:
    for attempt in (
        lambda: paillier.check_ciphertext(TOY.public, c),
        lambda: paillier.decrypt(TOY, c),
        lambda: paillier.open_ciphertext(TOY, c),
        lambda: paillier.verify_opening(TOY.public, c, Opening(1, 1)),
        lambda: paillier.open_with_root(TOY.public, c, 1),
        lambda: paillier.ciphertext_bytes(TOY.public, c),
    ):
        with pytest.raises(InvalidCiphertext):
            attempt()


@pytest.mark.parametrize("c", [0, -1, TOY.public.n_squared])
def test_add__ciphertext_out_of_range__is_refused(c: int) -> None:
    with pytest.raises(InvalidCiphertext):
        paillier.add(TOY.public, 1, c)


def test_decrypt__multiple_of_n__gives_away_phes_key_but_not_ours(key: PrivateKey) -> None:
    n = key.public.n
    theirs = phe.PaillierPrivateKey(phe.PaillierPublicKey(n), key.p, key.q)

    for c in (0, n, 12345 * n):
        # Modulo p the answer is 1/q, modulo q it is 1/p: its inverse modulo n is p + q.
        total = pow(theirs.raw_decrypt(c), -1, n)
        root = math.isqrt(total * total - 4 * n)
        assert (total - root) // 2 == key.p

        with pytest.raises(InvalidCiphertext):
            paillier.decrypt(key, c)


@given(MESSAGES, ROOTS)
def test_parse_ciphertext__of_its_bytes__is_the_ciphertext(m: int, r: int) -> None:
    c = paillier.encrypt(TOY.public, m, r=r)
    data = paillier.ciphertext_bytes(TOY.public, c)

    assert len(data) == TOY.public.width == 64
    assert paillier.parse_ciphertext(TOY.public, data) == c


@pytest.mark.parametrize("change", [lambda b: b[1:], lambda b: b + b"\0", lambda b: b"\0" + b, lambda b: b""])
def test_parse_ciphertext__other_width__is_refused(change: object) -> None:
    data = paillier.ciphertext_bytes(TOY.public, paillier.encrypt(TOY.public, 1, r=1))

    with pytest.raises(InvalidEncoding):
        paillier.parse_ciphertext(TOY.public, change(data))  # type: ignore[operator]


def test_parse_ciphertext__c_plus_n_squared__is_refused() -> None:
    c = 5
    assert c + TOY.public.n_squared < 2**512

    with pytest.raises(InvalidCiphertext):
        paillier.parse_ciphertext(TOY.public, (c + TOY.public.n_squared).to_bytes(64, "big"))


# ---------------------------------------------------------------- openings


@given(MESSAGES, ROOTS)
def test_open_ciphertext__any__is_what_was_encrypted(m: int, r: int) -> None:
    public = TOY.public
    c = paillier.encrypt(public, m, r=r)

    opening = paillier.open_ciphertext(TOY, c)

    assert (opening.m, opening.r) == (m, r)
    paillier.verify_opening(public, c, opening)
    assert paillier.open_with_root(public, c, r) == opening


@given(MESSAGES, ROOTS, st.integers(1, TOY.public.n - 1))
def test_verify_opening__any_change__is_refused(m: int, r: int, change: int) -> None:
    public = TOY.public
    c = paillier.encrypt(public, m, r=r)
    opening = paillier.open_ciphertext(TOY, c)

    for wrong in (
        Opening((opening.m + change) % public.n, opening.r),
        Opening(opening.m, (opening.r + change) % public.n),
        Opening(opening.m + public.n, opening.r),
        Opening(opening.m - public.n, opening.r),
        Opening(opening.m, opening.r + public.n),
        Opening(opening.m, 0),
        Opening(opening.m, -opening.r),
    ):
        with pytest.raises(InvalidProof):
            paillier.verify_opening(public, c, wrong)
    with pytest.raises(InvalidProof):
        paillier.verify_opening(public, paillier.add_plain(public, c, change), opening)


@given(MESSAGES, ROOTS, ROOTS)
def test_open_with_root__any_other_root__is_refused(m: int, r: int, wrong: int) -> None:
    c = paillier.encrypt(TOY.public, m, r=r)
    if wrong == r:
        return

    with pytest.raises(InvalidProof):
        paillier.open_with_root(TOY.public, c, wrong)


@pytest.mark.parametrize("change", [1, -1])
def test_open_with_root__wrong_root_at_real_size__is_refused(change: int, key: PrivateKey) -> None:
    r = paillier.random_root(key.public)
    c = paillier.encrypt(key.public, 3, r=r)
    assert paillier.open_with_root(key.public, c, r).m == 3

    for wrong in (r + change, 0, key.public.n, r + key.public.n, key.p):
        with pytest.raises(InvalidProof):
            paillier.open_with_root(key.public, c, wrong)


def test_verify_opening__modulus_with_a_square__has_two_openings() -> None:
    # Why a key needs the proof of R7: for n = p^2 q, (1 + pq)^n = 1 + pq n mod n^2.
    p, q = TOY.p, TOY.q
    public = PublicKey(p * p * q)
    c = paillier.encrypt(public, 1000, r=7)

    other = Opening((1000 - p * q) % public.n, 7 * (1 + p * q) % public.n)

    paillier.verify_opening(public, c, Opening(1000, 7))
    paillier.verify_opening(public, c, other)


# ---------------------------------------------------------------- keys


def test_generate__default_form__is_what_the_specification_says() -> None:
    private = paillier.generate(2048)

    n, p, q = private.public.n, private.p, private.q
    assert n == p * q
    assert n.bit_length() == 2048
    assert math.gcd(n, (p - 1) * (q - 1)) == 1
    assert abs(p - q) > 2**924
    assert min(p, q) > math.isqrt(2**2047)
    # 2 and 3 as bases of Fermat tests, independent of gmpy2.
    assert all(pow(base, prime - 1, prime) == 1 for base in (2, 3) for prime in (p, q))
    paillier.check_modulus(n)


def test_generate__recorded_randomness__gives_the_same_key() -> None:
    def seeded() -> PrivateKey:
        return paillier.generate(2048, randbits=random.Random(7).getrandbits)

    assert seeded().p == seeded().p


@pytest.mark.parametrize("bits", [0, 1024, 2047, 2049, 2048 + 128, 4096 + 256])
def test_generate__size_that_is_not_permitted__is_refused(bits: int) -> None:
    with pytest.raises(InvalidKey):
        paillier.generate(bits)


@pytest.mark.parametrize("bits", [14, 17, 1026, 2048])
def test_generate_toy__size_that_is_no_toy__is_refused(bits: int) -> None:
    with pytest.raises(InvalidKey):
        paillier.unsafe_generate_toy(bits)


@pytest.mark.parametrize("bits", [16, 18, 32, 64, 128])
def test_generate_toy__any_size__works_as_a_key(bits: int) -> None:
    private = paillier.unsafe_generate_toy(bits)

    assert private.public.bits == bits
    c = paillier.encrypt(private.public, 5, r=2)
    assert paillier.decrypt(private, c) == 5
    paillier.verify_opening(private.public, c, paillier.open_ciphertext(private, c))


def test_check_modulus__good_keys__pass(key: PrivateKey, big_key: PrivateKey) -> None:
    paillier.check_modulus(key.public.n)
    paillier.check_modulus(big_key.public.n, 3072)


def test_check_modulus__bad_moduli__are_refused(key: PrivateKey, big_key: PrivateKey, toy: PrivateKey) -> None:
    # The Mersenne prime 2^2203 - 1 times one of 69 bits: 2272 bits is no multiple of 256.
    prime_2048 = 2**2048 - 1942289  # the largest prime below 2^2048
    assert pow(3, prime_2048 - 1, prime_2048) == 1
    small = 65521 * ((key.public.n // 65521) | 1)
    assert small.bit_length() == 2048
    for n, match in (
        (key.public.n + 1, "even"),
        (prime_2048, "prime"),
        (toy.public.n, "256 bits"),
        (key.public.n << 2049 | 1, "4097 bits"),
        (key.public.n >> 1 | 1, "2047 bits"),
        (key.public.n << 128 | 1, "2176 bits"),
        (small, "factor below"),
        (0, "0 bits"),
        (-key.public.n, "bits"),
        (15, "4 bits"),
    ):
        with pytest.raises(InvalidKey, match=match):
            paillier.check_modulus(n)
    with pytest.raises(InvalidKey, match="2048 bits"):
        paillier.check_modulus(key.public.n, 3072)
    with pytest.raises(InvalidKey):
        paillier.check_modulus(toy.public.n, 256)


def test_public_key__from_bytes__is_canonical(key: PrivateKey, toy: PrivateKey) -> None:
    data = key.public.modulus

    assert PublicKey.from_bytes(data) == key.public
    assert (key.public.modulus_bytes, key.public.width, key.public.bits) == (256, 512, 2048)
    assert key.public.fingerprint == hashlib.sha256(data).hexdigest()[:16]
    for wrong in (b"\0" + data, data[1:], data + b"\0", toy.public.modulus, b"", data[:-1] + b"\x02"):
        with pytest.raises(InvalidKey):
            PublicKey.from_bytes(wrong)


def test_from_primes__either_order__is_one_key(key: PrivateKey) -> None:
    assert PrivateKey.from_primes(key.q, key.p) == key
    assert hash(PrivateKey.from_primes(key.q, key.p)) == hash(key)
    assert key.p < key.q


@pytest.mark.parametrize(
    ("p", "q"),
    [(TOY.p, TOY.p), (TOY.p, TOY.q + 2), (TOY.p * 3, TOY.q), (3, 7), (11, 23), (1, 7), (0, 7), (-3, 7), (2, 7)],
)
def test_from_primes__factors_that_make_no_key__are_refused(p: int, q: int) -> None:
    # 3 divides 7 - 1 and 11 divides 23 - 1: gcd(n, phi(n)) > 1.
    with pytest.raises(InvalidKey):
        PrivateKey.from_primes(p, q)


def test_root__of_any_unit__is_its_nth_root() -> None:
    for value in (1, 2, TOY.public.n - 1, 2**200):
        assert pow(TOY.root(value), TOY.public.n, TOY.public.n) == value % TOY.public.n
