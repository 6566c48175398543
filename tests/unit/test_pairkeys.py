"""R9, R10, R18: institution keys, pair keys and masks."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from pure_support import PUBLIC_TEST_KEYS, hkdf_sha256, vectors

from mpcredit import pairkeys
from mpcredit.errors import InvalidKey
from mpcredit.pairkeys import InstitutionKey, KeyRef, PairKeys, PeriodRef, Realm

P = 2**255 - 19
N = PUBLIC_TEST_KEYS["toy-256"][0] * PUBLIC_TEST_KEYS["toy-256"][1]
CTX = hashlib.sha256(b"context").digest()
PERIOD = PeriodRef(1, b"p" * 32)


def all_pairs(privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm) -> list[dict[int, PairKeys]]:
    return [
        {other.member: pairkeys.derive(private, own, other, realm, PERIOD) for other in refs if other != own}
        for private, own in zip(privates, refs, strict=True)
    ]


def mask_keys(pairs: dict[int, PairKeys]) -> dict[int, bytes]:
    return {other: pair.mask for other, pair in pairs.items()}


# ---------------------------------------------------------------- the primitives


@pytest.mark.parametrize("case", vectors("x25519_rfc7748.json"), ids=lambda c: c["name"])
def test_exchange__rfc_7748__gives_the_published_secret(case: dict[str, Any]) -> None:
    key = InstitutionKey.from_bytes(bytes.fromhex(case["private"]))

    assert key.exchange(bytes.fromhex(case["public"])).hex() == case["shared"]
    assert key.public.hex() == case.get("own", key.public.hex())


@pytest.mark.parametrize("case", vectors("hkdf_rfc5869.json"), ids=lambda c: c["name"])
def test_hkdf__rfc_5869__gives_the_published_key(case: dict[str, Any]) -> None:
    ikm, salt, info, okm = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info", "okm"))

    assert HKDF(hashes.SHA256(), len(okm), salt, info).derive(ikm) == okm
    assert hkdf_sha256(ikm, salt, info, len(okm)) == okm


def test_from_bytes__of_private_bytes__is_the_key() -> None:
    key = InstitutionKey.generate()

    assert InstitutionKey.from_bytes(key.private_bytes()).public == key.public
    assert InstitutionKey.generate().public != key.public
    with pytest.raises(InvalidKey):
        InstitutionKey.from_bytes(b"x" * 31)


# ---------------------------------------------------------------- public keys

LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
]


@pytest.mark.parametrize("u", LOW_ORDER)
def test_check_public__point_of_low_order__is_refused(u: int, privates: list[InstitutionKey]) -> None:
    key = u.to_bytes(32, "little")

    for attempt in (
        lambda: pairkeys.check_public(key),
        lambda: KeyRef(1, 1, key),
        lambda: privates[0].exchange(key),
    ):
        with pytest.raises(InvalidKey, match="low order"):
            attempt()


@pytest.mark.parametrize("u", [P, P + 1, P + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1])
def test_check_public__spelling_that_is_not_reduced__is_refused(u: int) -> None:
    with pytest.raises(InvalidKey, match="canonical"):
        pairkeys.check_public(u.to_bytes(32, "little"))


@pytest.mark.parametrize("key", [b"", b"\x09" * 31, b"\x09" * 33, "\x09" * 32, None])
def test_check_public__other_length_or_type__is_refused(key: bytes) -> None:
    with pytest.raises(InvalidKey):
        pairkeys.check_public(key)


@pytest.mark.parametrize(("member", "version"), [(-1, 1), (216, 1), (0, -1), (0, 2**32)])
def test_key_ref__out_of_range__is_refused(member: int, version: int, privates: list[InstitutionKey]) -> None:
    with pytest.raises(InvalidKey):
        KeyRef(member, version, privates[0].public)


@pytest.mark.parametrize(
    ("chain_id", "consortium"),
    [
        (0, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
        (2**53, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
        (True, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
        (1, "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"),
        (1, "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
        (1, ""),
        (1, None),
    ],
)
def test_realm__not_well_formed__is_refused(chain_id: int, consortium: str) -> None:
    with pytest.raises(InvalidKey):
        Realm(chain_id, consortium)


def test_realm__salt__is_the_formula(realm: Realm) -> None:
    data = b"mpcredit/realm/2" + (31337).to_bytes(32, "big") + bytes.fromhex(realm.consortium[2:])

    assert realm.salt == hashlib.sha256(data).digest()


# ---------------------------------------------------------------- pair keys


def test_derive__from_both_ends__is_the_same(privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm) -> None:
    pairs = all_pairs(privates, refs, realm)

    secrets = set()
    for own, row in enumerate(pairs):
        for other, pair in row.items():
            assert pair == pairs[other][own]
            secrets |= {pair.mask, pair.wrap, pair.audit, pair.range}
    assert len(secrets) == 4 * 10


def test_derive__by_the_definition__is_hkdf_of_x25519(
    privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm
) -> None:
    shared = privates[3].exchange(privates[1].public)
    ends = b"\x01" + bytes([0, 0, 0, 1]) + privates[1].public + b"\x03" + bytes([0, 0, 0, 1]) + privates[3].public
    ends += bytes([0, 0, 0, 1]) + b"p" * 32

    pair = pairkeys.derive(privates[3], refs[3], refs[1], realm, PERIOD)

    for use in ("mask", "wrap", "audit", "range"):
        assert getattr(pair, use) == hkdf_sha256(shared, realm.salt, b"mpcredit/pair/2/" + use.encode() + ends, 32)


def test_derive__anything_else_in_it__gives_other_keys(
    privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm
) -> None:
    own, other = refs[0], refs[1]
    variants = [
        pairkeys.derive(privates[0], own, other, realm, PERIOD),
        pairkeys.derive(privates[0], own, KeyRef(1, 2, other.public), realm, PERIOD),
        pairkeys.derive(privates[0], own, KeyRef(2, 1, other.public), realm, PERIOD),
        pairkeys.derive(privates[0], KeyRef(0, 2, own.public), other, realm, PERIOD),
        pairkeys.derive(privates[0], KeyRef(3, 1, own.public), other, realm, PERIOD),
        pairkeys.derive(privates[0], own, other, Realm(1, realm.consortium), PERIOD),
        pairkeys.derive(privates[0], own, other, Realm(31337, "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"), PERIOD),
        pairkeys.derive(privates[0], own, other, realm, PERIOD, extra=b"\0" * 32),
        pairkeys.derive(privates[0], own, other, realm, PeriodRef(2, PERIOD.public)),
        pairkeys.derive(privates[0], own, other, realm, PeriodRef(1, b"q" * 32)),
    ]

    assert len({pair.mask for pair in variants}) == len(variants)


def test_derive__foreign_private_key_or_oneself__is_refused(
    privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm
) -> None:
    with pytest.raises(InvalidKey):
        pairkeys.derive(privates[1], refs[0], refs[2], realm, PERIOD)
    with pytest.raises(InvalidKey):
        pairkeys.derive(privates[0], refs[0], refs[0], realm, PERIOD)


# ---------------------------------------------------------------- masks


def test_mask__by_the_definition__is_shake_of_key_ctx_and_block() -> None:
    data = b"mpcredit/mask/2" + b"k" * 32 + CTX + (3).to_bytes(4, "big")

    expected = int.from_bytes(hashlib.shake_256(data).digest(32 + 16), "big") % N

    assert pairkeys.mask(b"k" * 32, CTX, 3, N) == expected


def test_mask__other_key_ctx_or_block__differs() -> None:
    masks = {
        pairkeys.mask(key, ctx, block, N)
        for key in (b"a" * 32, b"b" * 32)
        for ctx in (CTX, bytes(32))
        for block in (0, 1, 256)
    }

    assert len(masks) == 12


@pytest.mark.parametrize(("key", "ctx"), [(b"k" * 31, CTX), (b"k" * 32, CTX[1:]), (b"", b"")])
def test_mask__inputs_of_other_width__are_refused(key: bytes, ctx: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        pairkeys.mask(key, ctx, 0, N)


@given(st.sets(st.integers(0, 215), min_size=2, max_size=9), st.integers(0, 3), st.integers(3, 2**300))
def test_mask_sum__over_any_cohort_and_modulus__is_zero(cohort: set[int], block: int, n: int) -> None:
    def key(i: int, j: int) -> bytes:
        return hashlib.sha256(bytes(sorted((i, j)))).digest()

    total = sum(pairkeys.mask_sum(i, {j: key(i, j) for j in cohort if j != i}, CTX, block, n) for i in cohort)

    assert total % n == 0


def test_mask_sum__over_a_cohort__cancels_and_each_alone_hides(
    privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm
) -> None:
    sums = [
        pairkeys.mask_sum(own, mask_keys(row), CTX, 0, N) for own, row in enumerate(all_pairs(privates, refs, realm))
    ]

    assert sum(sums) % N == 0
    assert len(set(sums)) == len(sums)
    assert all(sum(sums[:k]) % N != 0 for k in range(1, len(sums)))


def test_mask_sum__lower_index__adds_and_higher_subtracts() -> None:
    key = b"k" * 32

    assert pairkeys.mask_sum(1, {4: key}, CTX, 0, N) == pairkeys.mask(key, CTX, 0, N)
    assert pairkeys.mask_sum(4, {1: key}, CTX, 0, N) == -pairkeys.mask(key, CTX, 0, N) % N
    with pytest.raises(ValueError, match="itself"):
        pairkeys.mask_sum(1, {1: key}, CTX, 0, N)


def test_mask_sum__one_member_shown_another_ctx__leaves_garbage(
    privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm
) -> None:
    rows = all_pairs(privates, refs, realm)

    total = sum(
        pairkeys.mask_sum(own, mask_keys(row), bytes(32) if own == 2 else CTX, 0, N) for own, row in enumerate(rows)
    )

    assert (total % N).bit_length() > 200


@pytest.mark.parametrize("copied", [True, False], ids=["copied key", "key shifted by a point of low order"])
def test_foreign_key_registered_anew__cancels_nobodys_masks(
    copied: bool, privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm
) -> None:
    # Member 4 registers member 3's key: as it is, or as 1/u, which is the same point plus the point (0, 0) of order 2.
    u = int.from_bytes(refs[3].public, "little")
    public = refs[3].public if copied else pow(u, -1, P).to_bytes(32, "little")
    parrot = KeyRef(4, 1, public)
    assert privates[0].exchange(public) == privates[0].exchange(refs[3].public)

    rows = [
        {
            other.member: pairkeys.derive(privates[own], refs[own], other, realm, PERIOD)
            for other in [*refs[:4], parrot]
            if other.member != own
        }
        for own in range(4)
    ]

    for own in range(3):
        assert rows[own][4].mask != rows[own][3].mask
    # Whatever the parrot sends, the masks between it and the others stay in the total.
    total = sum(pairkeys.mask_sum(own, mask_keys(row), CTX, 0, N) for own, row in enumerate(rows))
    left = sum(pairkeys.mask(row[4].mask, CTX, 0, N) for row in rows)
    assert total % N == left % N != 0


def test_naive_pair_keys__without_public_keys_in_info__would_cancel(
    privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm
) -> None:
    # The twin of the test above: keys that depend on the shared secret alone are the same for both registrations,
    # so member 0's masks with 3 and with its copy could be told apart by nobody.
    u = int.from_bytes(refs[3].public, "little")
    shifted = pow(u, -1, P).to_bytes(32, "little")

    naive = [hkdf_sha256(privates[0].exchange(key), realm.salt, b"mask", 32) for key in (refs[3].public, shifted)]

    assert naive[0] == naive[1]
