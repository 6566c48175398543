"""docs/spec.md section 9: how large an inquiry may be, so that every node takes the transaction that opens it."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcredit import limits
from mpcredit.consent import Consent, Purpose
from mpcredit.pairkeys import InstitutionKey
from mpcredit.schema import FIGURES_1, Field, Schema
from mpcredit.sealing import SubjectEntry, SubjectList, entry_length, seal_subjects, sealed_length


def consent(**changes: object) -> Consent:
    made = Consent(
        chain_id=31337,
        consortium="0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        inquirer=0,
        tag=secrets.token_bytes(32),
        tag_key_version=1,
        purpose=Purpose.NEW_CREDIT,
        scope="totals",
        valid_from=1_790_000_000,
        valid_until=1_792_000_000,
        evidence=secrets.token_bytes(32),
        salt=secrets.token_bytes(32),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def entry(made: Consent) -> SubjectEntry:
    return SubjectEntry(made.tag, made)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("subjects", "wraps"), [(1, 2), (7, 4), (40, 49), (160, 215)])
def test_sealed_length__is_never_short_and_at_most_one_padding_long(subjects: int, wraps: int, signed: bool) -> None:
    receipts = [consent() for _ in range(subjects)]
    if signed:
        receipts = [receipt.sign(Ed25519PrivateKey.generate()) for receipt in receipts]
    entries = [entry(receipt) for receipt in receipts]
    listed = SubjectList(1, "TWD", Purpose.NEW_CREDIT, tuple(entries))
    sealed, _ = seal_subjects(
        listed,
        q0=bytes(32),
        inquirer=215,
        wraps={i: bytes([1] * 32) for i in range(wraps)},
        supervisor_public=InstitutionKey.generate().public,
    )

    bound = sealed_length(sum(entry_length(one) for one in entries), wraps)

    assert len(sealed) <= bound <= len(sealed) + 512


def test_unsigned_entry__the_longest_that_there_is_fits() -> None:
    longest = consent(
        chain_id=2**53 - 1, inquirer=215, tag_key_version=2**32 - 1, purpose=Purpose.RESTRUCTURING, valid_until=10**10
    )

    assert entry_length(entry(longest)) <= limits.UNSIGNED_ENTRY_BYTES
    signed = longest.sign(Ed25519PrivateKey.generate())
    assert entry_length(entry(signed)) > limits.UNSIGNED_ENTRY_BYTES


@pytest.mark.parametrize(
    ("bits", "entry_bytes", "members", "most"),
    [
        (2048, 594, 50, 112),  # 16 blocks of 7 subjects
        (3072, 594, 50, 160),  # 16 blocks of 10 subjects
        (3072, 795, 4, 130),  # signed: the request of the report, 160, comes to 149,437 bytes
        (4096, 594, 216, 151),
    ],
)
def test_capacity__is_what_the_narrowest_bound_permits(bits: int, entry_bytes: int, members: int, most: int) -> None:
    assert limits.capacity(FIGURES_1, bits, [entry_bytes] * 300, members) == most
    assert limits.capacity(FIGURES_1, bits, [entry_bytes] * (most - 1), members) == most - 1
    assert limits.capacity(FIGURES_1, bits, [], members) == 0


def test_capacity__one_subject_more__is_above_the_bytes_that_a_request_may_have() -> None:
    def size(subjects: int) -> int:
        sealed = sealed_length(795 * subjects, 3)
        return limits.opening_bytes(3072, FIGURES_1.blocks(subjects, 3072), subjects, sealed)

    assert size(130) <= limits.OPENING_BYTES < size(131)


def test_room__a_cohort_that_grows_to_all_members_still_fits_a_transaction() -> None:
    for members in (49, 100, 215):  # 8,192 bytes are room for 167 more
        most = limits.capacity(FIGURES_1, 3072, [795] * 300, members)
        grown = sealed_length(795 * most, 215)

        size = limits.opening_bytes(3072, FIGURES_1.blocks(most, 3072), most, grown)
        assert size <= limits.TRANSACTION_BYTES


def test_gas__a_schema_of_one_subject_a_block_stays_below_the_cap() -> None:
    wide = Schema(2, "wide", tuple(Field(f"amount_{i}", "amount", 48, 256, "an amount") for i in range(15)))
    assert wide.records_per_block(4096) == 1

    most = limits.capacity(wide, 4096, [600] * 40, 50)

    size = limits.opening_bytes(4096, most, most, sealed_length(600 * most, 49))
    assert most == 16
    assert limits.opening_gas(4096, most, size) * 11 // 10 + 5_000 < limits.TRANSACTION_GAS


def test_gas__is_a_bound_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [594] * 100
    assert limits.capacity(FIGURES_1, 3072, entries, 50) == 100

    monkeypatch.setattr(limits, "OPENING_GAS", 4_600_000)

    assert limits.capacity(FIGURES_1, 3072, entries, 50) == 50
