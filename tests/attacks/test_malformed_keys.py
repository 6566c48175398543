"""The inquirer publishes a key that is none, or one of many small primes (R6, R7, R19).

Under n = p^2 q a ciphertext opens to many plaintexts, so that a "verified" total can be any of them. Every furnisher
refuses with KEY, and the supervisor names the inquirer. An n of many primes just above 2^16 is permitted and proven; a
random r has a factor in common with it so often that an honest member would be named for it. R19 takes another r.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import gmpy2
import pytest
from attackers import ANSWERED, open_crafted, send, with_disclosure_of_bytes
from fakes import FakeTown, subject

from mpcredit import keyproof, protocol
from mpcredit.disclosure import RefusalCode
from mpcredit.errors import InvalidMessage
from mpcredit.events import Stage
from mpcredit.paillier import PrivateKey
from mpcredit.pairkeys import mask_sum
from mpcredit.state import Inquiry


def prime(bits: int, seed: int) -> int:
    return int(gmpy2.next_prime((3 << (bits - 2)) + seed * 10**6))


def p_squared_q() -> int:
    n = prime(683, 1) ** 2 * prime(683, 2)
    return n if n.bit_length() == 2048 else prime(683, 1) ** 2 * prime(682, 2)


def cut(n: int) -> int:
    """An odd number of exactly 2048 bits, so that nothing but the named flaw is wrong with it."""
    assert n.bit_length() == 2048, n.bit_length()
    return n


KEYS: dict[str, Callable[[PrivateKey], int]] = {
    "p^2 q": lambda key: cut(p_squared_q()),
    "p^2": lambda key: cut(prime(1024, 3) ** 2),
    "prime": lambda key: cut(int(gmpy2.next_prime((1 << 2047) + 12345))),
    "even": lambda key: key.public.n - 1,
    "with a factor below 2^16": lambda key: cut(65521 * prime(2032, 5)),
    "short": lambda key: prime(512, 1) * prime(512, 2),
    "an odd size": lambda key: prime(1028, 1) * prime(1028, 2),
    "well formed, but without its proof": lambda key: cut(prime(1024, 7) * prime(1024, 8)),
}


@pytest.mark.parametrize("make", KEYS.values(), ids=KEYS.keys())
def test_opening__malformed_key__furnishers_refuse_and_the_supervisor_names_the_inquirer(
    town: FakeTown, key: PrivateKey, make: Callable[[PrivateKey], int]
) -> None:
    n = make(key)
    proof = b"\2" * (8 * ((n.bit_length() + 7) // 8))
    _, q = open_crafted(town[0], [(town.tagger.tag(subject(1)), town.consent(1))], n=n, key_proof=proof)

    town.supervised = False
    town.settle()
    town.supervised = True
    town.settle()

    inquiry = town[1].desk.state.inquiries[q]
    assert inquiry.refusal is not None
    assert inquiry.refusal.code == RefusalCode.KEY
    assert set(inquiry.contributions) == {0}
    assert town.supervisor.supervisor.verified[q].culprits == (0,)


def test_opening__malformed_key_and_furnishers_asleep__the_supervisor_voids_it(town: FakeTown) -> None:
    town.asleep = {1, 2, 3, 4}
    _, q = open_crafted(town[0], [(town.tagger.tag(subject(1)), town.consent(1))], n=cut(p_squared_q()), key_proof=b"")
    town.settle()

    inquiry = town[0].desk.state.inquiries[q]
    assert (inquiry.stage, inquiry.culprits) == (Stage.VOID, (0,))
    assert town[0].desk.state.members[0].suspended


def test_opening__proper_key__is_answered(town: FakeTown) -> None:
    _, q = open_crafted(town[0], [(town.tagger.tag(subject(1)), town.consent(1))])
    town.settle()

    assert town[0].desk.state.inquiries[q].stage in ANSWERED


def test_proof__of_another_key_or_altered__is_refused(key: PrivateKey) -> None:
    proof = keyproof.prove(key)
    keyproof.check_key(key.public.n, proof)

    for bad in (proof[:-1], proof + b"\0", bytes(len(proof)), proof[256:] + proof[:256], b"\xff" * len(proof)):
        with pytest.raises(InvalidMessage):
            keyproof.check_key(key.public.n, bad)


def test_p_squared_q__without_the_proof__one_total_opens_to_two(key: PrivateKey) -> None:
    # The variant without R7. p divides n and phi(n): with z = 1 + n/p, z^n = 1 + (n/p) n = 1 + (n/p) n mod n^2, so
    # (m, r) and (m - n/p, r z) open the same ciphertext: the inquirer reports whichever it likes.
    p, q = prime(683, 1), prime(682, 2)
    n = p * p * q
    m, r = 5 + n // p, 1234567
    c = (1 + m * n) * pow(r, n, n * n) % (n * n)
    step = n // p

    forged_r = r * (1 + step) % n
    forged_m = (m - step) % n

    assert (1 + forged_m * n) * pow(forged_r, n, n * n) % (n * n) == c
    assert forged_m != m
    with pytest.raises(InvalidMessage):
        keyproof.check_key(n, b"\1" * (8 * ((n.bit_length() + 7) // 8)))


# --------------------------------------------------------------------- many small primes

BANK = 2
"""The honest member."""


def many_small_primes() -> list[int]:
    """124 primes just above 2^16, and the one that makes their product a number of 2048 bits."""
    primes, product = [2**16 + 1], 2**16 + 1
    while len(primes) < 124:
        primes.append(int(gmpy2.next_prime(primes[-1])))
        product *= primes[-1]
    primes.append(int(gmpy2.next_prime((1 << 2047) // product * 3 // 2)))
    return primes


def proof_by_factors(n: int, primes: list[int]) -> bytes:
    """The roots of R7, computed from the factors."""
    inverse = pow(n, -1, math.prod(p - 1 for p in primes))
    width = (n.bit_length() + 7) // 8
    return b"".join(pow(keyproof.challenge(n, i), inverse, n).to_bytes(width, "big") for i in range(8))


def first_try(inquiry: Inquiry, frame: protocol.Frame, seed: bytes) -> int:
    """r of block 0, as if the first try counted whatever it is."""
    n = frame.public.n
    data = b"mpcredit/random/2" + seed + frame.ctx + bytes([BANK]) + bytes(4) + b"\0"
    return int.from_bytes(hashlib.shake_256(data).digest(256 + 16), "big") % n


def opened_under_many_primes(town: FakeTown) -> tuple[Inquiry, protocol.Frame, bytes]:
    """The inquiry, its frame, and a seed of the honest member whose first try has a factor in common with n."""
    primes = many_small_primes()
    n = cut(math.prod(primes))
    entries = [(town.tagger.tag(subject(1)), town.consent(1))]
    _, q = open_crafted(town[0], entries, n=n, key_proof=proof_by_factors(n, primes))
    town[BANK].sync()
    inquiry = town[BANK].desk.state.inquiries[q]
    frame = protocol.frame_of(inquiry, town.chain.realm)
    seeds = (hashlib.sha256(bytes([i, j])).digest() for i in range(256) for j in range(256))
    return inquiry, frame, next(seed for seed in seeds if math.gcd(first_try(inquiry, frame, seed), n) > 1)


def test_many_small_primes__permitted_and_proven__have_a_factor_in_common_with_one_in_550_numbers() -> None:
    primes = many_small_primes()
    n = cut(math.prod(primes))

    keyproof.check_key(n, proof_by_factors(n, primes))

    assert len(set(primes)) == 125
    share = 1 - math.prod(1 - 1 / p for p in primes)
    assert 0.0018 < share < 0.0019


def test_many_small_primes__first_try_counts__the_honest_member_is_named(town: FakeTown) -> None:
    # The variant of R19 without the tries: the member encrypts with the first r, and discloses its seed.
    inquiry, frame, seed = opened_under_many_primes(town)
    desk, n = town[BANK].desk, frame.public.n
    record = town[BANK].furnisher.book.record(inquiry.schema, town.tagger.tag(subject(1)))
    (plain,) = frame.schema.pack([record], frame.public.bits)
    masked = (plain + mask_sum(BANK, desk.mask_keys(inquiry.keys, inquiry.period_key.ref), frame.ctx, 0, n)) % n
    c = (1 + masked * n) * pow(first_try(inquiry, frame, seed), n, n * n) % (n * n)
    send(town[BANK], inquiry, with_disclosure_of_bytes(inquiry, frame, BANK, c.to_bytes(512, "big"), seed))
    town.settle()

    found = town[0].desk.state.inquiries[inquiry.id]
    assert (found.stage, found.culprits) == (Stage.VOID, (BANK,))


def test_many_small_primes__next_try_counts__the_honest_member_answers_and_nobody_is_named(town: FakeTown) -> None:
    inquiry, _frame, seed = opened_under_many_primes(town)
    town[BANK].furnisher.random_bytes = lambda count: seed[:count]
    town.settle()

    found = town[0].desk.state.inquiries[inquiry.id]
    assert found.stage in ANSWERED
    verified = town.supervisor.supervisor.verified[inquiry.id]
    assert verified.findings == []
    assert set(verified.records) == set(inquiry.cohort)
    book = town[BANK].furnisher.book
    assert verified.records[BANK] == [book.record(inquiry.schema, town.tagger.tag(subject(1)))]
