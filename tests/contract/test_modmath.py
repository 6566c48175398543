"""The modular product, through the harness, against Python's integers; and what happens when MODEXP fails.

products
├── random pairs at 2048, 3072 and 4096 bits of n: a * b mod n^2
├── edge operands (0, 1, m - 1, equal, equal top words, carry ripples, next to each other): the same
├── moduli just above 2^(bits - 1), just above 2^(bits - 1/2), just below 2^bits: the same
├── moduli next to 2^(8w), products next to a multiple of m: the same
├── moduli with tiny top words, where the estimate by top words does not decide: the same
└── every width of n that is accepted: the same
square: n^2, up to the greatest n
halve: by 2^times for every number of times
takeCiphertext
├── 0 < c < n^2, not a multiple of n: accepted
├── 0, n^2, n^2 + 1, all bits set: CiphertextRange
└── n, kn, n^2 - n: CiphertextMultipleOfModulus
a chain whose MODEXP is missing, fails, answers too short or too long, or has too little gas: reverts, never a wrong answer
the same products on Anvil under the rules of London and Osaka
"""

from __future__ import annotations

import math
import random

import pytest
from eth.exceptions import VMError
from eth.vm.forks.prague.computation import PragueComputation
from eth_tester.exceptions import TransactionFailed
from inquiries import Key, key
from nodes import AnvilChain
from onchain import Deployed

BITS = (2048, 3072, 4096)
PAIRS_PER_CALL = 40
MODEXP = (5).to_bytes(20, "big")


@pytest.fixture(scope="module")
def harness(evm):
    return evm.deploy("ModMathHarness")


def products(harness: Deployed, modulus: int, width: int, pairs: list[tuple[int, int]]) -> list[int]:
    """a * b mod modulus for each pair, by the contract."""
    found = []
    for start in range(0, len(pairs), PAIRS_PER_CALL):
        part = pairs[start : start + PAIRS_PER_CALL]
        encoded = b"".join(a.to_bytes(width, "big") + b.to_bytes(width, "big") for a, b in part)
        answer = harness.read("products", modulus.to_bytes(width, "big"), encoded)
        found += [int.from_bytes(answer[i : i + width], "big") for i in range(0, len(answer), width)]
    return found


def expected(modulus: int, pairs: list[tuple[int, int]]) -> list[int]:
    return [a * b % modulus for a, b in pairs]


def random_pairs(source: random.Random, modulus: int, count: int) -> list[tuple[int, int]]:
    return [(source.randrange(modulus), source.randrange(modulus)) for _ in range(count)]


def edge_pairs(source: random.Random, modulus: int, width: int) -> list[tuple[int, int]]:
    """Pairs of operands on which variants of the product broke."""
    word = 1 << 256
    a = source.randrange(modulus)
    special = [
        0,
        1,
        2,
        modulus - 1,
        modulus - 2,
        modulus // 2,
        modulus // 2 + 1,
        math.isqrt(modulus),
        math.isqrt(modulus) + 1,
        word - 1,
        word,
        word + 1,
        (1 << (8 * width - 300)) - 1,
        1 << (8 * width - 300),
    ]
    pairs = [(x % modulus, y % modulus) for x in special for y in special]
    pairs += [(x % modulus, a) for x in special] + [(a, x % modulus) for x in special]
    pairs += [(a, a), (a, (a + 1) % modulus), (a, a - 1), (a, modulus - a)]
    top = a >> 256 * (width // 32 - 2) << 256 * (width // 32 - 2)
    for _ in range(20):
        # the same highest words, so that comparison and subtraction go deep
        low = [source.randrange(1 << 256 * (width // 32 - 2)) for _ in range(2)]
        pairs.append(((top + low[0]) % modulus, (top + low[1]) % modulus))
    for i in range(0, width // 32):
        # borrows and carries that ripple through all words above the i-th
        pairs.append(((1 << 256 * i) % modulus, ((1 << 256 * i) - 1) % modulus))
        pairs.append((top, (top - (1 << 256 * i)) % modulus))
        pairs.append(((modulus - (1 << 256 * i)) % modulus, 1 + (1 << 256 * i)))
    return [(x % modulus, y % modulus) for x, y in pairs]


@pytest.mark.parametrize("bits", BITS)
def test_products__random_pairs__are_those_of_integers(harness, bits):
    source = random.Random(f"random/{bits}")
    for seed in range(6):
        under = key(bits, seed)
        pairs = random_pairs(source, under.square, 100)

        assert products(harness, under.square, under.width, pairs) == expected(under.square, pairs)


@pytest.mark.parametrize("bits", BITS)
def test_products__edge_operands__are_those_of_integers(harness, bits):
    under = key(bits)
    pairs = edge_pairs(random.Random(f"edge/{bits}"), under.square, under.width)

    assert products(harness, under.square, under.width, pairs) == expected(under.square, pairs)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(
    "place", ["just above 2^(bits-1)", "just above 2^(bits-1/2)", "just below it", "just below 2^bits"]
)
def test_products__moduli_at_the_edges__are_those_of_integers(harness, bits, place):
    n = {
        "just above 2^(bits-1)": (1 << (bits - 1)) + 1,
        "just above 2^(bits-1/2)": math.isqrt(1 << (2 * bits - 1)) | 1,
        "just below it": (math.isqrt(1 << (2 * bits - 1)) - 1) | 1,
        "just below 2^bits": (1 << bits) - 1,
    }[place]
    under = Key(n, bits)
    source = random.Random(f"{place}/{bits}")
    near = [
        (under.square - source.randrange(1, 1 << 300), under.square - source.randrange(1, 1 << 300)) for _ in "1234"
    ]
    pairs = random_pairs(source, under.square, 36) + near

    assert products(harness, under.square, under.width, pairs) == expected(under.square, pairs)


@pytest.mark.parametrize("top", [1, 2, 3, 4, 5, 7, 8, 15, 16])
def test_products__top_words_that_do_not_decide__are_those_of_integers(harness, top):
    # m is not a square here and has nearly a word of zeros in front: the sum's correction by m is then found late.
    width = 512
    source = random.Random(f"top/{top}")
    modulus = (top << (8 * width - 256)) + source.getrandbits(8 * width - 257) | 1
    pairs = [*random_pairs(source, modulus, 40), (modulus - 1, modulus - 1), (modulus - 1, 1), (0, 0), (1, 1)]

    assert products(harness, modulus, width, pairs) == expected(modulus, pairs)


@pytest.mark.parametrize(
    "distance", [1, 3, 2**200 + 1, 2**255 - 1, 2**4094 - 1], ids=lambda d: f"{d.bit_length()} bits"
)
def test_products__sums_next_to_a_multiple_of_m__are_those_of_integers(harness, distance):
    # 2ab is next to 0, and the sum of the three squares next to -m, 0, m or 2m, on either side of it and of 2^(8w).
    width = 512
    modulus = 2 ** (8 * width) - distance
    source = random.Random(distance)
    pairs = []
    while len(pairs) < 120:
        a = source.randrange(modulus)
        if math.gcd(a, modulus) != 1:
            continue
        for rest in (1, 2, source.getrandbits(100), source.getrandbits(250), source.getrandbits(256) % modulus):
            double = source.choice([rest, -rest, distance + rest, -distance - rest, distance, distance - 1])
            pairs.append((a, double * pow(2 * a, -1, modulus) % modulus))

    assert products(harness, modulus, width, pairs) == expected(modulus, pairs)


def test_products__modulus_of_few_words_in_a_wide_place__are_those_of_integers(harness):
    width = 512
    source = random.Random("few")
    for words in (1, 2, 8, 15):
        modulus = source.getrandbits(256 * words) | 1
        pairs = [*random_pairs(source, modulus, 20), (modulus - 1, modulus - 1), (0, modulus - 1)]

        assert products(harness, modulus, width, pairs) == expected(modulus, pairs)


@pytest.mark.parametrize("length", range(256, 513, 32))
def test_products__each_accepted_width__are_those_of_integers(harness, length):
    under = key(8 * length)
    pairs = random_pairs(random.Random(length), under.square, 10)

    assert products(harness, under.square, under.width, pairs) == expected(under.square, pairs)


@pytest.mark.parametrize("bits", BITS)
def test_square__of_n__is_its_square(harness, bits):
    for n in (key(bits).n, (1 << bits) - 1, (1 << (bits - 1)) + 1):
        assert harness.read("square", n.to_bytes(bits // 8, "big")) == (n * n).to_bytes(bits // 4, "big")


def test_halve__any_number_of_times__divides_by_the_power_of_two(harness):
    under = key()
    source = random.Random("halve")
    for times in [*range(20), 100, 214, 215, 254, 255]:
        x = source.choice([0, 1, under.square - 1, under.ciphertext(source)])

        answer = harness.read("halve", under.square.to_bytes(512, "big"), x.to_bytes(512, "big"), times)

        assert int.from_bytes(answer, "big") == x * pow(2, -times, under.square) % under.square


@pytest.mark.parametrize("bits", BITS)
def test_take_ciphertext__of_the_one_form__accepts(harness, bits):
    under = key(bits)
    for c in (1, 2, under.n - 1, under.n + 1, under.square - 1, under.ciphertext(random.Random(bits))):
        assert refusal(harness, under, c) is None


@pytest.mark.parametrize("bits", BITS)
def test_take_ciphertext__out_of_range__reverts_with_ciphertext_range(harness, bits):
    under = key(bits)
    for c in (0, under.square, under.square + 1, under.square + under.n, (1 << (8 * under.width)) - 1):
        assert refusal(harness, under, c) == ("CiphertextRange", 7)


@pytest.mark.parametrize("bits", BITS)
def test_take_ciphertext__multiple_of_n__reverts_with_ciphertext_multiple_of_modulus(harness, bits):
    under = key(bits)
    for k in (1, 2, 3, under.n - 1, random.Random(bits).randrange(under.n)):
        assert refusal(harness, under, k * under.n) == ("CiphertextMultipleOfModulus", 7)


def refusal(harness: Deployed, under: Key, c: int) -> tuple | None:
    """The error with which these bytes are turned away."""
    account = harness.chain.accounts[0]
    return harness.refusal(account, "takeCiphertext", under.n_bytes, c.to_bytes(under.width, "big"))


# ---------------------------------------------------------------- a precompile that does not do its work


def failing(computation):
    raise VMError("this precompile fails")


def answering(length):
    def precompile(computation):
        computation.output = bytes(length)
        return computation

    return precompile


@pytest.mark.parametrize(
    "fault",
    [None, failing, answering(0), answering(511), answering(513)],
    ids=["missing", "failing", "0", "511", "513"],
)
def test_products__modexp_that_fails_or_is_missing__reverts_with_precompile_failed(harness, monkeypatch, fault):
    under = key()
    pairs = under.encoded([2, 3])
    arguments = ("products", under.square.to_bytes(512, "big"), pairs)
    account = harness.chain.accounts[0]
    assert harness.refusal(account, *arguments) is None

    precompiles = dict(PragueComputation._precompiles)
    if fault is None:
        del precompiles[MODEXP]
    else:
        precompiles[MODEXP] = fault
    monkeypatch.setattr(PragueComputation, "_precompiles", precompiles)

    assert harness.refusal(account, *arguments) == ("PrecompileFailed",)
    assert harness.refusal(account, "square", under.n_bytes) == ("PrecompileFailed",)
    assert refusal(harness, under, 2) == ("PrecompileFailed",)


def test_products__any_amount_of_gas__answers_right_or_reverts(harness):
    under = key()
    pairs = random_pairs(random.Random("gas"), under.square, 1)
    encoded = under.encoded(pairs[0])
    data = harness.encoded("products", under.square.to_bytes(512, "big"), encoded)
    request = {"from": harness.chain.accounts[0], "to": harness.address, "data": "0x" + data.hex(), "gas_price": 10**9}
    outcomes = []

    for gas in range(60_000, 700_000, 4_000):
        try:
            answer = harness.chain.tester.call({**request, "gas": gas})
        except TransactionFailed:
            outcomes.append(None)
        else:
            outcomes.append(int.from_bytes(bytes.fromhex(answer[2:])[64:576], "big"))

    assert set(outcomes) == {None, *expected(under.square, pairs)}


# ---------------------------------------------------------------- other rules


@pytest.mark.anvil
@pytest.mark.parametrize("fork", ["london", "osaka"])
def test_products__other_forks__are_those_of_integers(fork):
    with AnvilChain(fork) as chain:
        harness = chain.deploy("ModMathHarness")
        for bits in BITS:
            for seed in range(3):
                under = key(bits, seed)
                source = random.Random(f"{fork}/{bits}/{seed}")
                pairs = random_pairs(source, under.square, 200) + edge_pairs(source, under.square, under.width)

                assert products(harness, under.square, under.width, pairs) == expected(under.square, pairs)
