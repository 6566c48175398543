"""An outsider with every block, log and storage slot tells two loan books, or two subjects, apart (protocol.md section 2).

Two inquiries on the real contracts, about a customer of every institution and about a stranger to all: everything public is
compared but for fields that are uniformly random: number, order, functions, lengths and shape of the gas of transactions, logs,
storage, plain fields of events; and the bytes of the random ones are looked at statistically. Variants without a rule are
told apart: encryption with fixed seeds and no masks, and a subject list without padding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from attackers import naive_contribution
from fakes import figures, public_key_pair
from hexbytes import HexBytes

from mpcredit import bookmaker, protocol
from mpcredit.consent import Consent, Purpose
from mpcredit.identity import Subject
from mpcredit.local import LocalConsortium, local_consortium
from mpcredit.schema import FIGURES_1
from mpcredit.sealing import SubjectEntry, SubjectList
from mpcredit.state import Inquiry

NAMES = ["Bank A", "Bank B", "Bank C", "Bank D", "Bank E"]


@dataclass(frozen=True)
class Public:
    """What a reader of the ledger has of one inquiry, random fields replaced by their lengths."""

    transactions: tuple[Any, ...]
    gas: tuple[int, ...]
    logs: tuple[Any, ...]
    opening: tuple[Any, ...]
    storage: tuple[int, ...]
    random: bytes
    """Ciphertexts, disclosures and sealed parts, one after the other."""


def execution_gas(transaction: Any, receipt: Any) -> int:
    """Gas without what calldata costs: bytes of random data are zero now and then."""
    data = bytes(transaction["input"])
    return int(receipt["gasUsed"]) - 21_000 - sum(4 if byte == 0 else 16 for byte in data)


def storage_of(consortium: LocalConsortium, contract: str) -> int:
    """How many slots of a contract are not zero."""
    tester: Any = consortium.chain.web3.provider.ethereum_tester  # type: ignore[attr-defined]  # the embedded chain
    chain = tester.backend.chain
    account = bytes.fromhex(contract[2:])
    state = chain.get_vm().state
    # The low slots hold counters and single values; mappings lie behind hashes and are counted through the logs.
    return sum(state.get_storage(account, slot) != 0 for slot in range(64))


def observe(consortium: LocalConsortium, subject: Subject, label: str) -> Public:
    web3 = consortium.chain.web3
    bank = consortium["Bank A"]
    first = web3.eth.block_number + 1
    consent = Consent.grant(subject, to=bank, purpose=Purpose.NEW_CREDIT, days=30)
    result = bank.inquire([subject], consents=[consent], officer="o", labels=[label]).wait(timeout=60)
    inquiry: Inquiry = result.inquiry
    who = {account.address: name for name, account in consortium.accounts.items()}
    who[consortium.supervisor_account.address] = "supervisor"
    transactions, logs, gas = [], [], []
    for number in range(first, web3.eth.block_number + 1):
        for digest in web3.eth.get_block(number)["transactions"]:
            transaction = web3.eth.get_transaction(digest)
            receipt = web3.eth.get_transaction_receipt(digest)
            data = bytes(transaction["input"])
            sender = who[transaction["from"]]
            transactions.append((sender, data[:4], len(data)))
            gas.append(execution_gas(transaction, receipt))
            logs += [
                (
                    bytes(log["topics"][0]),
                    len(log["topics"]),
                    len(HexBytes(log["data"])),
                    zero_words(bytes(log["data"])),
                )
                for log in receipt["logs"]
            ]
    o = inquiry.opening
    plain = (
        *(o.group, o.schema, o.blocks, o.currency, o.cohort, len(o.consents)),
        *(len(o.n), len(o.key_proof), len(o.sealed_subject), len(o.payload)),
        inquiry.opened.deadline - inquiry.opened.at.timestamp,
    )
    parts = [*(inquiry.payload(i) for i in inquiry.cohort), o.sealed_subject[2:], inquiry.aggregate or b""]
    return Public(
        tuple(transactions),
        tuple(gas),
        tuple(logs),
        plain,
        (storage_of(consortium, inquiry.joint_credit), storage_of(consortium, consortium.deployed.consortium)),
        b"".join(parts),
    )


def zero_words(data: bytes) -> tuple[int, ...]:
    """Where 32-byte words are zero."""
    return tuple(i for i in range(0, len(data), 32) if not any(data[i : i + 32]))


@pytest.fixture(scope="module")
def two() -> tuple[Public, Public]:
    with local_consortium(institutions=5, bits=2048) as consortium:
        books = list(consortium.books.values())
        everywhere, *_ = bookmaker.pick_subjects(books, 1)
        assert everywhere.lenders == 5
        observe(consortium, Subject("passport", "WARMUP01", country="TW"), "x")  # the first one makes the lane
        known = observe(consortium, everywhere.subject, "x")
        unknown = observe(consortium, Subject("passport", "NOBODY01", country="TW"), "x")
    return known, unknown


def test_public_view__customer_everywhere_or_nowhere__is_the_same_but_for_random_bytes(
    two: tuple[Public, Public],
) -> None:
    known, unknown = two

    assert len(known.transactions) == 1 + 4 + 1 + 1
    assert known.transactions == unknown.transactions
    # Carries in the product of two random numbers cost some gas more or less; a slot written afresh would cost 17,100.
    assert all(abs(one - other) < 4_000 for one, other in zip(known.gas, unknown.gas, strict=True))
    assert known.logs == unknown.logs
    assert known.opening == unknown.opening
    assert known.storage == unknown.storage
    assert len(known.random) == len(unknown.random)


def chi_square(counts: Sequence[int]) -> float:
    mean = sum(counts) / len(counts)
    return sum((count - mean) ** 2 / mean for count in counts)


def test_random_parts__customer_everywhere_or_nowhere__look_like_random_bytes(two: tuple[Public, Public]) -> None:
    for view in two:
        counts = Counter(view.random)
        # 255 degrees of freedom: above 400 once in 10^8 times.
        assert chi_square([counts[byte] for byte in range(256)]) < 400
        blocks = [view.random[i : i + 16] for i in range(0, len(view.random), 16)]
        assert len(set(blocks)) == len(blocks)
    pieces = [{view.random[i : i + 16] for i in range(0, len(view.random) - 16)} for view in two]
    assert not pieces[0] & pieces[1]


def test_variant__fixed_seeds_and_no_masks__strangers_are_seen_at_once() -> None:
    key = public_key_pair()
    frame = protocol.Frame(b"q" * 32, b"c" * 32, key.public, FIGURES_1, 1, 1, (0, 1, 2))
    record = figures(3)

    known = [naive_contribution(frame, [r], lambda: 77) for r in (record, FIGURES_1.zero, figures(5))]
    unknown = [naive_contribution(frame, [FIGURES_1.zero], lambda: 77) for _ in range(3)]

    assert len(set(known)) == 3
    assert len(set(unknown)) == 1


@pytest.mark.parametrize("subjects", [1, 2])
def test_subject_list__short_or_long_contents__has_one_length(subjects: int) -> None:
    def listed(purpose: Purpose, numbers: range, signed: bool) -> SubjectList:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        entries = []
        for number in numbers:
            consent = Consent(
                chain_id=1 if number % 2 else 2**53 - 1,
                consortium="0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
                inquirer=number % 200,
                tag=bytes([number % 256]) * 32,
                tag_key_version=1,
                purpose=purpose,
                scope="totals",
                valid_from=1,
                valid_until=2 if number % 2 else 2**50,
                evidence=bytes(32),
                salt=bytes(32),
            )
            key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
            entries.append(SubjectEntry(consent.tag, consent.sign(key) if signed else consent))
        return SubjectList(1, "TWD", purpose, tuple(entries))

    short = listed(Purpose.REVIEW, range(1, 1 + subjects), signed=False).plaintext
    long = listed(Purpose.RESTRUCTURING, range(100, 100 + subjects), signed=False).plaintext

    # The variant without padding: the purpose and the inquirer's number show in the length.
    assert len(short.rstrip(b"\0")) != len(long.rstrip(b"\0"))
    assert len(short) == len(long)
