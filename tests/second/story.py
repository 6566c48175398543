"""One made-up consortium and one inquiry of it, from fixed seeds, for all vectors. The keys are public."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from . import documents, hpke, ids, keyproof, packing, paillier, pairs
from .encodings import Realm, number, sha256

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
REALM = Realm(11155111, bytes.fromhex("c0450447104d00000000000000000000000000c5"))
JOINT_CREDIT = bytes.fromhex("00c4ed1700000000000000000000000000004a43")
MEMBERS = (2, 5, 7, 200)
INQUIRER = 5
VERSIONS = {2: 1, 5: 3, 7: 1, 200: 65537}
COHORT = sum(1 << member for member in MEMBERS)
MODULUS_NAME = "public-test-2048-a"
SUBJECTS = 8
"""One more than a block holds at 2048 bits."""


def seed(name: str, length: int = 32) -> bytes:
    """Bytes that look random, and are the same each time."""
    return b"".join(sha256(b"vectors of mpcredit 2/", name.encode(), bytes([i])) for i in range(-(-length // 32)))[
        :length
    ]


@cache
def factors(name: str) -> tuple[int, int]:
    """The prime factors of a published test modulus."""
    cases = json.loads((VECTORS / "paillier_test_keys.json").read_text(encoding="utf-8"))["cases"]
    return next((int(case["p"], 16), int(case["q"], 16)) for case in cases if case["name"] == name)


def modulus(name: str) -> int:
    """A published test modulus."""
    p, other = factors(name)
    return p * other


def private_key(member: int) -> bytes:
    """The X25519 private key of a member."""
    return seed(f"institution key {member}")


def member_key(member: int) -> pairs.MemberKey:
    """The public key of a member."""
    return pairs.MemberKey(member, VERSIONS[member], hpke.public_key(private_key(member)))


PERIOD_PRIVATE = seed("period key")
PERIOD = pairs.PeriodKey(4, hpke.public_key(PERIOD_PRIVATE))


def pair(use: str, member: int, other: int) -> bytes:
    """What `member` makes for the pair with `other`."""
    return pairs.pair_key(use, REALM, private_key(member), member_key(member), member_key(other), PERIOD)


def figures(member: int) -> list[list[int]]:
    """The figures of a member for each subject: some records are zero, one is full."""
    records = []
    for place in range(SUBJECTS):
        if (place + member) % 3 == 0:
            records.append([0] * len(packing.FIGURES_1))
        elif (place, member) == (0, 200):
            records.append([2**field.value_bits - 1 for field in packing.FIGURES_1])
        else:
            name = f"figure {member} {place} "
            records.append([number(seed(name + f.name, 8)) % 2**f.value_bits for f in packing.FIGURES_1])
    return records


def receipt(*, signed: bool) -> documents.Receipt:
    """The consent of one customer."""
    plain = documents.Receipt(
        realm=REALM,
        inquirer=INQUIRER,
        tag=seed("tag"),
        tag_key_version=2,
        purpose="new_credit",
        valid_from=1_790_000_000,
        valid_until=1_792_592_000,
        evidence=bytes(32),
        salt=seed("salt"),
    )
    if not signed:
        return plain
    customer = Ed25519PrivateKey.from_private_bytes(seed("customer"))
    with_key = replace(plain, evidence=seed("evidence"), customer_key=customer.public_key().public_bytes_raw())
    return replace(with_key, signature=customer.sign(with_key.signed_bytes()))


@dataclass(frozen=True)
class Answer:
    """One member's contribution, and what it was made from."""

    member: int
    seed: bytes
    masked: list[int]
    randomness: list[int]
    ciphertexts: list[int]


@cache
def answer(member: int, context: bytes) -> Answer:
    """The contribution of a member to the inquiry of that context."""
    n = modulus(MODULUS_NAME)
    keys = {other: pair("mask", member, other) for other in MEMBERS if other != member}
    answer_seed = seed(f"seed of the answer {member}")
    masked, randomness = [], []
    for block, packed in enumerate(packing.pack(packing.FIGURES_1, n, figures(member))):
        masked.append(paillier.masked(packed, member, keys, context, block, n))
        r = paillier.randomness(answer_seed, context, member, block, n)
        assert r is not None
        randomness.append(r)
    ciphertexts = [paillier.encrypt(n, m, r) for m, r in zip(masked, randomness, strict=True)]
    return Answer(member, answer_seed, masked, randomness, ciphertexts)


def opening() -> ids.Opening:
    """What of the inquiry enters its ids."""
    n = modulus(MODULUS_NAME)
    return ids.Opening(
        inquirer=INQUIRER,
        modulus=n.to_bytes(paillier.width(n), "big"),
        roster=seed("roster"),
        nonce=2**63 + 5,
        sealed_subject=seed("sealed subject", 100),
        subject_commitment=seed("subject commitment"),
        cohort=COHORT,
        group=3,
        repeats=True,
        schema=1,
        currency=b"TWD",
        blocks=2,
        consents=[seed(f"consent {place}") for place in range(SUBJECTS)],
    )


DEFINITION = documents.schema_definition(1, "figures", packing.FIGURES_1)
INQUIRY = ids.q(REALM.chain_id, JOINT_CREDIT, opening())
CONTEXT = ids.context(REALM.chain_id, JOINT_CREDIT, opening(), DEFINITION)


@cache
def aggregate() -> list[int]:
    """The aggregate of the inquiry."""
    answers = [answer(member, CONTEXT).ciphertexts for member in MEMBERS]
    return paillier.aggregate(modulus(MODULUS_NAME), answers)


@cache
def openings() -> list[tuple[int, int]]:
    """The openings of the aggregate."""
    return [paillier.open_block(*factors(MODULUS_NAME), c) for c in aggregate()]


@cache
def key_proof() -> bytes:
    """The proof of the inquiry's modulus."""
    return keyproof.prove(*factors(MODULUS_NAME))


def small_modulus() -> int:
    """An odd number with so many small factors that few numbers are coprime to it: for the second and later tries of R19."""
    product = 1
    for factor in range(3, 400, 2):
        if all(factor % smaller for smaller in range(3, factor, 2)):
            product *= factor
    return product
