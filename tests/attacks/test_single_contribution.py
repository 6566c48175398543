"""The inquirer opens one furnisher's upload, or the sum of some, with its private key (R18, protocol.md section 2).

Naive scheme: everybody encrypts under the inquirer's key and the ledger shows each ciphertext. Decrypting one gives that
bank's figures. Here each plaintext carries a mask for every pair, so it is uniform in Z_n for any n, and any sum but the
whole one still carries the masks of those left out.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from fractions import Fraction

import pytest
from attackers import inquiry_key, naive_contribution, plaintexts, reads_as_figures, total_of
from fakes import FakeTown, figures
from hypothesis import given
from hypothesis import strategies as st

from mpcredit import bookmaker, paillier, pairkeys, protocol
from mpcredit.consent import Consent, Purpose
from mpcredit.local import LocalConsortium
from mpcredit.paillier import PrivateKey, PublicKey
from mpcredit.schema import FIGURES_1


def test_single_contribution__without_masks__the_figures_appear(town: FakeTown) -> None:
    request = town.ask(1)
    town.settle()
    inquiry = town.inquiry(request)
    frame = protocol.frame_of(inquiry, town.chain.realm)
    private = inquiry_key(town[0], inquiry)

    upload = naive_contribution(frame, [figures(4)])

    assert FIGURES_1.unpack([paillier.decrypt(private, c) for c in upload], 1, 2048, 1) == [figures(4)]


def test_single_contribution__on_the_ledger__no_subset_opens_but_the_whole(evm: LocalConsortium) -> None:
    bank = evm["Bank A"]
    subject = bookmaker.pick_subjects(list(evm.books.values()), 1)[0].subject
    consent = Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=30)
    result = bank.inquire([subject], consents=[consent], officer="eve").wait(timeout=60)
    inquiry = result.inquiry
    frame = protocol.frame_of(inquiry, evm.ledger.realm)
    private = inquiry_key(bank, inquiry)
    truth = {i: dict(book.lookup(subject)) for i, book in enumerate(evm.books.values())}

    # The payloads are those of the transactions that everybody sees.
    payloads = {i: inquiry.payload(i) for i in inquiry.cohort}
    for size in range(1, 6):
        for chosen in itertools.combinations(inquiry.cohort, size):
            opened = total_of(private, frame, [payloads[i] for i in chosen])
            expected = [{name: sum(truth[i][name] for i in chosen) for name in truth[0]}]
            if size == 5:
                assert FIGURES_1.unpack(opened, 1, 2048, 5) == expected
            else:
                assert reads_as_figures(frame, opened, size) is None, chosen
                # Not even the top of Z_n is empty: figures would leave 1,760 of 2,048 bits zero.
                assert opened[0].bit_length() > 2048 - 64, chosen
    own_taken_off = [
        (m - FIGURES_1.pack([truth[0]], 2048)[0]) % frame.public.n for m in plaintexts(private, frame, payloads[1])
    ]
    assert reads_as_figures(frame, own_taken_off) is None


def chi_square(values: list[int], bins: int, bin_of: Callable[[int], int]) -> float:
    counts = [0] * bins
    for value in values:
        counts[bin_of(value)] += 1
    expected = Fraction(len(values), bins)
    return float(sum((count - expected) ** 2 / expected for count in counts))


def unstretched(mask_key: bytes, ctx: bytes, block: int, n: int) -> int:
    """The variant without the 128 extra bits of R18."""
    width = (n.bit_length() + 7) // 8
    data = b"mpcredit/mask/2" + mask_key + ctx + block.to_bytes(4, "big")
    return int.from_bytes(hashlib.shake_256(data).digest(width), "big") % n


def masks(n: int, count: int, of: Callable[[bytes, bytes, int, int], int]) -> list[int]:
    return [of(b"k" * 32, hashlib.sha256(b"%d" % i).digest(), 0, n) for i in range(count)]


MALFORMED = {
    "two thirds of the range": (2 << 2048) // 3 | 1,
    "a multiple of 3^10 * 5^4": (1 << 2047) // (3**10 * 5**4) * (3**10 * 5**4) | 1 << 2047,
    "even": (1 << 2047) + 2**40,
    "a power of two": 1 << 2047,
}


@pytest.mark.parametrize("n", MALFORMED.values(), ids=MALFORMED.keys())
def test_mask__any_n__is_uniform_in_z_n(n: int) -> None:
    values = masks(n, 3000, pairkeys.mask)

    # 15 degrees of freedom: 45 is exceeded once in 10,000 times; the sample is fixed.
    assert chi_square(values, 16, lambda v: v * 16 // n) < 45
    assert chi_square(values, 16, lambda v: v % 16) < 45
    assert chi_square(values, 3, lambda v: v % 3) < 20
    assert chi_square(values, 5, lambda v: v % 5) < 25


def test_mask__without_the_extra_bits__a_chosen_n_shows_a_bias() -> None:
    n = MALFORMED["two thirds of the range"]

    assert chi_square(masks(n, 3000, unstretched), 16, lambda v: v * 16 // n) > 200


@given(
    factor=st.integers(0, 10**6),
    other=st.integers(0, 10**6),
    block=st.integers(0, 15),
    secret=st.binary(min_size=32, max_size=32),
)
def test_single_contribution__any_figures__plaintext_is_figures_plus_what_the_inquirer_lacks(
    factor: int, other: int, block: int, secret: bytes
) -> None:
    # For each plaintext that the inquirer sees and each figure there is exactly one mask: the figure may be any.
    n = (1 << 2047) + 9
    record, rival = ({**figures(1), "outstanding": f} for f in (factor, other))
    seen = (FIGURES_1.pack([record], 2048)[0] + pairkeys.mask(secret, b"c" * 32, block, n)) % n

    needed = (seen - FIGURES_1.pack([rival], 2048)[0]) % n

    assert 0 <= needed < n
    assert (FIGURES_1.pack([rival], 2048)[0] + needed) % n == seen


def test_single_contribution__under_a_malformed_key_whose_owner_opens_all__is_still_masked(key: PrivateKey) -> None:
    # n = p^2 q with known factors: its owner reads m mod p from any ciphertext. What it reads is masked all the same.
    p, q = key.p, key.q
    n = p * p * q
    public = PublicKey(n)
    h = pow(2, n, n * n)
    m = FIGURES_1.pack([figures(4)], 2048)[0]
    masked = (m + pairkeys.mask(b"k" * 32, b"c" * 32, 0, n)) % n

    def read(c: int) -> int:
        # c^(p(p-1)(q-1)) = 1 + m n p(p-1)(q-1) mod n^2 for m in Z_n: phi kills the n-th power, whose order divides it.
        order = p * (p - 1) * (q - 1)
        return (pow(c, order, n * n) - 1) // n * pow(order // p % (n // p), -1, n // p) // p % (n // p)

    unmasked_upload = (1 + m * n) * pow(h, 12345, n * n) % (n * n)
    masked_upload = (1 + masked * n) * pow(h, 12345, n * n) % (n * n)

    assert read(unmasked_upload) == m
    assert read(masked_upload) != m
    assert read(masked_upload) == masked % (n // p)
    assert public.n == n
