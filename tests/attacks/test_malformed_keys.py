"""The inquirer publishes a key that is none, or a base with a trapdoor (R6, R7, R8; protocol.md section 4).

Under n = p^2 q a ciphertext opens to many plaintexts, so that a "verified" total can be any of them; with a base of small
order any reader of the ledger opens the total. Every furnisher refuses with KEY, and the supervisor names the inquirer.
The base is computed from n, so there is no field in which a foreign one could be published.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import gmpy2
import pytest
from attackers import open_crafted
from fakes import FakeTown, figures, subject

from mpcredit import keyproof, paillier
from mpcredit.disclosure import RefusalCode
from mpcredit.errors import InvalidMessage
from mpcredit.events import Opening, Stage
from mpcredit.paillier import PrivateKey, PublicKey
from mpcredit.schema import FIGURES_1


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

    assert town[0].desk.state.inquiries[q].stage is Stage.COMPLETE


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


# --------------------------------------------------------------------- the base


def test_foreign_base__of_order_two__any_reader_of_the_ledger_opens_the_total(key: PrivateKey) -> None:
    # The variant in which the inquirer (or who made its key) publishes h_s: here one of order 2.
    n, square = key.public.n, key.public.n_squared
    h_s = square - 1
    m = FIGURES_1.pack([figures(31)], 2048)[0]
    c = (1 + m * n) * pow(h_s, 987654321, square) % square

    read = (pow(c, 2, square) - 1) // n * pow(2, -1, n) % n

    assert read == m


def test_foreign_base__has_no_place_in_an_opening() -> None:
    names = {field.name for field in dataclasses.fields(Opening)}

    assert names == {
        *("nonce", "group", "schema", "blocks", "currency", "roster", "cohort", "n", "key_proof", "consents"),
        *("sealed_subject", "subject_commitment", "payload"),
    }


def test_base__computed_from_n_alone__is_no_element_of_small_order(key: PrivateKey) -> None:
    public = PublicKey(key.public.n)
    c = paillier.encrypt(public, 5, exponent=paillier.random_exponent(public))

    assert public.h_s == key.public.h_s
    # Orders that divide small numbers or p - 1, q - 1 alone would show here.
    for order in (1, 2, 3, 4, 5, 2**16, key.p - 1, key.q - 1):
        assert pow(public.h_s, order, public.n_squared) != 1
    assert (pow(c, 2, public.n_squared) - 1) % public.n != 0
