"""R11, R12, R16, R19, R20, R30: what is sealed to whom."""

from __future__ import annotations

import hashlib
import hmac
import math
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from pure_support import hkdf_expand, hkdf_sha256, vectors

from mpcredit import hpke as hpke_receiver
from mpcredit import paillier, pairkeys, sealing
from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import canonical_json, parse_canonical_json
from mpcredit.errors import InvalidEncoding, InvalidKey, InvalidMessage, InvalidProof, InvalidSubject
from mpcredit.identity import Subject
from mpcredit.paillier import Opening, PrivateKey
from mpcredit.pairkeys import InstitutionKey, KeyRef, PeriodRef, Realm
from mpcredit.sealing import MaskKeyEntry, ReportBody, SubjectEntry, SubjectList

CTX = hashlib.sha256(b"context").digest()
Q0 = hashlib.sha256(b"q0").digest()
Q = hashlib.sha256(b"q").digest()
SEED = bytes(range(32))
PERIOD = PeriodRef(1, b"p" * 32)


# ---------------------------------------------------------------- HPKE


def open_by_rfc_9180(private: bytes, sealed: bytes, info: bytes, aad: bytes, aead: str) -> bytes:
    """Base mode of RFC 9180, sequence number 0, written out over X25519 and the AEADs alone."""
    aead_id, nk, cipher = {"AES-128-GCM": (1, 16, AESGCM), "ChaCha20Poly1305": (3, 32, ChaCha20Poly1305)}[aead]
    enc, ct = sealed[:32], sealed[32:]
    key = X25519PrivateKey.from_private_bytes(private)
    dh = key.exchange(openssl.x25519.from_public_bytes(enc))

    def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")

    def expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
        return hkdf_expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)

    kem = b"KEM" + (0x20).to_bytes(2, "big")
    context = enc + key.public_key().public_bytes_raw()
    shared = expand(kem, extract(kem, b"", b"eae_prk", dh), b"shared_secret", context, 32)
    suite = b"HPKE" + (0x20).to_bytes(2, "big") + (1).to_bytes(2, "big") + aead_id.to_bytes(2, "big")
    schedule = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    nonce = expand(suite, secret, b"base_nonce", schedule, 12)
    return cipher(expand(suite, secret, b"key", schedule, nk)).decrypt(nonce, ct, aad)


@pytest.mark.parametrize("case", vectors("hpke_rfc9180.json"), ids=lambda c: c["name"])
def test_hpke__published_ciphertext__opens_with_pyca_and_by_the_rfc(case: dict[str, Any]) -> None:
    private, enc, ct, info, aad, pt = (bytes.fromhex(case[name]) for name in ("skRm", "enc", "ct", "info", "aad", "pt"))
    aead = {"AES-128-GCM": hpke.AEAD.AES_128_GCM, "ChaCha20Poly1305": hpke.AEAD.CHACHA20_POLY1305}[case["aead"]]
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, aead)

    # pyca's public form has no aad, which the published cases have: this is the same code with one.
    opened = openssl.hpke._decrypt_with_aad(suite, enc + ct, X25519PrivateKey.from_private_bytes(private), info, aad)

    assert opened == pt
    assert open_by_rfc_9180(private, enc + ct, info, aad, case["aead"]) == pt
    assert InstitutionKey.from_bytes(private).public.hex() == case["pkRm"]


@pytest.mark.parametrize("case", vectors("hpke_rfc9180.json")[1:], ids=lambda c: c["name"])
def test_hpke__published_ciphertext__opens_from_the_raw_secret_alone(case: dict[str, Any]) -> None:
    public, enc, ct, info, aad = (bytes.fromhex(case[name]) for name in ("pkRm", "enc", "ct", "info", "aad"))
    dh = X25519PrivateKey.from_private_bytes(bytes.fromhex(case["skRm"])).exchange(
        openssl.x25519.from_public_bytes(enc)
    )

    assert case["aead"] == "ChaCha20Poly1305"
    key, nonce = hpke_receiver.key_and_nonce(dh, enc, public, info)
    assert (key.hex(), nonce.hex()) == (case["key"], case["base_nonce"])
    assert hpke_receiver.open_from_secret(dh, enc + ct, public, info, aad).hex() == case["pt"]
    for other in (
        (bytes(32), public, info, aad),
        (dh, enc, info, aad),
        (dh, public, b"", aad),
        (dh, public, info, b""),
    ):
        with pytest.raises(InvalidTag):
            hpke_receiver.open_from_secret(other[0], enc + ct, *other[1:])


def test_hpke_open__other_spelling_of_the_senders_point__opens_as_by_the_rfc(supervisor: InstitutionKey) -> None:
    # X25519 ignores the top bit (RFC 7748 section 5); the hash is over what was sent. A token may treat it otherwise,
    # so it is shown the canonical spelling.
    ephemeral = X25519PrivateKey.from_private_bytes(b"e" * 32)
    enc = bytearray(ephemeral.public_key().public_bytes_raw())
    enc[31] ^= 0x80
    dh = supervisor.exchange(ephemeral.public_key().public_bytes_raw())
    key, nonce = hpke_receiver.key_and_nonce(dh, bytes(enc), supervisor.public, b"info")
    sealed = bytes(enc) + ChaCha20Poly1305(key).encrypt(nonce, b"message", b"")

    assert sealing.hpke_open(supervisor, sealed, b"info") == b"message"
    assert open_by_rfc_9180(supervisor.private_bytes(), sealed, b"info", b"", "ChaCha20Poly1305") == b"message"


def test_hpke_seal__anything__opens_by_the_rfc_and_by_us(supervisor: InstitutionKey) -> None:
    sealed = sealing.hpke_seal(supervisor.public, b"message", b"info")

    assert len(sealed) == 48 + 7
    assert sealing.hpke_open(supervisor, sealed, b"info") == b"message"
    assert open_by_rfc_9180(supervisor.private_bytes(), sealed, b"info", b"", "ChaCha20Poly1305") == b"message"
    assert sealing.hpke_seal(supervisor.public, b"message", b"info") != sealed


def test_hpke_open__other_key_info_or_bytes__is_refused(supervisor: InstitutionKey) -> None:
    sealed = sealing.hpke_seal(supervisor.public, b"message", b"info")

    for private, data, info in (
        (InstitutionKey.generate(), sealed, b"info"),
        (supervisor, sealed, b"info2"),
        (supervisor, sealed, b""),
        (supervisor, sealed[:-1], b"info"),
        (supervisor, sealed + b"\0", b"info"),
        (supervisor, sealed[:47], b"info"),
        (supervisor, b"", b"info"),
        (supervisor, bytes(32) + sealed[32:], b"info"),
        (supervisor, bytes([sealed[0] ^ 1]) + sealed[1:], b"info"),
        (supervisor, sealed[:-1] + bytes([sealed[-1] ^ 1]), b"info"),
    ):
        with pytest.raises(InvalidMessage):
            sealing.hpke_open(private, data, info)


def test_hpke_seal__to_a_key_of_low_order__is_refused() -> None:
    with pytest.raises(InvalidKey):
        sealing.hpke_seal(bytes(32), b"message", b"info")


# ---------------------------------------------------------------- disclosures


def test_disclosure__there_and_back__is_the_seed_in_80_bytes(supervisor: InstitutionKey) -> None:
    sealed = sealing.seal_disclosure(SEED, supervisor.public, CTX, 3, b"ciphertexts")

    assert len(sealed) == sealing.DISCLOSURE_BYTES == 80
    assert sealing.open_disclosure(supervisor, sealed, CTX, 3, b"ciphertexts") == SEED


def test_open_disclosure__other_context_member_or_ciphertexts__is_refused(supervisor: InstitutionKey) -> None:
    sealed = sealing.seal_disclosure(SEED, supervisor.public, CTX, 3, b"ciphertexts")

    for data, ctx, member, body in (
        (sealed, bytes(32), 3, b"ciphertexts"),
        (sealed, CTX, 4, b"ciphertexts"),
        (sealed, CTX, 3, b"ciphertextz"),
        (sealed + b"\0", CTX, 3, b"ciphertexts"),
        (sealed[:-1], CTX, 3, b"ciphertexts"),
        (sealing.hpke_seal(supervisor.public, SEED, b""), CTX, 3, b"ciphertexts"),
    ):
        with pytest.raises(InvalidMessage):
            sealing.open_disclosure(supervisor, data, ctx, member, body)


def test_seal_disclosure__seed_or_ctx_of_other_width__is_refused(supervisor: InstitutionKey) -> None:
    for seed, ctx in ((SEED[1:], CTX), (SEED + b"x", CTX), (SEED, CTX[1:])):
        with pytest.raises(ValueError, match="32 bytes"):
            sealing.seal_disclosure(seed, supervisor.public, ctx, 3, b"")
        with pytest.raises(ValueError, match="32 bytes"):
            sealing.derived_roots(seed, ctx, 0, 1, paillier.PublicKey(2**2048 - 1))


def root_by_the_definition(n: int, member: int, block: int, attempt: int) -> int:
    """R19, written out with nothing but SHAKE256."""
    data = b"mpcredit/random/2" + SEED + CTX + bytes([member]) + block.to_bytes(4, "big") + bytes([attempt])
    width = (n.bit_length() + 7) // 8 + 16
    return int.from_bytes(hashlib.shake_256(data).digest(width), "big") % n


def test_derived_roots__by_the_definition__are_shake_of_the_seed(key: PrivateKey, big_key: PrivateKey) -> None:
    for private in (key, big_key):
        n = private.public.n

        assert sealing.derived_roots(SEED, CTX, 5, 3, private.public) == [
            root_by_the_definition(n, 5, block, 0) for block in range(3)
        ]


def test_derived_roots__first_tries_not_coprime__are_the_first_that_is() -> None:
    # 8 of 15 numbers are coprime to 15, so that among 40 blocks some need one try and some need several.
    first = [
        next(a for a in range(256) if math.gcd(root_by_the_definition(15, 5, block, a), 15) == 1) for block in range(40)
    ]
    assert set(first) >= {0, 1, 2}

    assert sealing.derived_roots(SEED, CTX, 5, 40, paillier.PublicKey(15)) == [
        root_by_the_definition(15, 5, block, attempt) for block, attempt in enumerate(first)
    ]


def test_derived_roots__no_try_coprime__is_the_fault_of_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Four of ten numbers are coprime to this modulus; with one try the others end in the error.
    toy = paillier.PublicKey(3 * 5 * 7 * 11 * 13)
    monkeypatch.setattr(sealing, "_TRIES", 1)
    failed = 0
    for member in range(32):
        coprime = math.gcd(root_by_the_definition(toy.n, member, 0, 0), toy.n) == 1
        if coprime:
            sealing.derived_roots(SEED, CTX, member, 1, toy)
            continue
        failed += 1
        with pytest.raises(InvalidKey, match="coprime"):
            sealing.derived_roots(SEED, CTX, member, 1, toy)
    assert 0 < failed < 32


def test_derived_roots__other_seed_ctx_or_member__differ(key: PrivateKey) -> None:
    drawn = [
        root
        for seed in (SEED, bytes(32))
        for ctx in (CTX, bytes(32))
        for member in (0, 1)
        for root in sealing.derived_roots(seed, ctx, member, 2, key.public)
    ]

    assert len(set(drawn)) == 16
    assert all(0 < root < key.public.n for root in drawn)


# ---------------------------------------------------------------- reports


@pytest.fixture(scope="module")
def aggregate(key: PrivateKey) -> list[int]:
    return [paillier.encrypt(key.public, 1000 + i, r=12345 + i) for i in range(2)]


@pytest.fixture(scope="module")
def openings(key: PrivateKey, aggregate: list[int]) -> list[Opening]:
    return [paillier.open_ciphertext(key, c) for c in aggregate]


def sealed_report(openings: list[Opening], key: PrivateKey, supervisor: InstitutionKey) -> tuple[bytes, bytes]:
    return sealing.seal_report(
        openings,
        inquiry=Q,
        ctx=CTX,
        modulus_bytes=key.public.modulus_bytes,
        supervisor_public=supervisor.public,
        salt=b"s" * 32,
    )


def test_report__there_and_back__is_the_openings(
    key: PrivateKey, supervisor: InstitutionKey, aggregate: list[int], openings: list[Opening]
) -> None:
    sealed, commitment = sealed_report(openings, key, supervisor)

    opened = sealing.open_report(
        sealed, commitment, inquiry=Q, ctx=CTX, public=key.public, aggregate=aggregate, supervisor=supervisor
    )

    assert list(opened) == openings
    assert [opening.m for opening in opened] == [1000, 1001]
    parts = b"".join(o.m.to_bytes(256, "big") + o.r.to_bytes(256, "big") for o in openings)
    assert commitment == hashlib.sha256(b"mpcredit/report/2" + Q + b"s" * 32 + parts).digest()
    assert len(sealed) == 48 + 2 + 32 + 2 * 256


def test_open_report__anything_else__is_refused(
    key: PrivateKey, supervisor: InstitutionKey, aggregate: list[int], openings: list[Opening]
) -> None:
    sealed, commitment = sealed_report(openings, key, supervisor)
    swapped, swapped_commitment = sealed_report(openings[::-1], key, supervisor)
    short, short_commitment = sealed_report(openings[:1], key, supervisor)
    good: dict[str, Any] = {
        "sealed": sealed,
        "commitment": commitment,
        "inquiry": Q,
        "ctx": CTX,
        "public": key.public,
        "aggregate": aggregate,
        "supervisor": supervisor,
    }

    for change in (
        {"commitment": bytes(32)},
        {"inquiry": bytes(32)},
        {"ctx": bytes(32)},
        {"aggregate": aggregate[::-1]},
        {"aggregate": [paillier.add_plain(key.public, aggregate[0], 1), aggregate[1]]},
        {"aggregate": aggregate[:1]},
        {"sealed": sealed[:-1]},
        {"sealed": swapped, "commitment": swapped_commitment},
        {"sealed": short, "commitment": short_commitment},
        {"supervisor": InstitutionKey.generate()},
    ):
        # An aggregate with one more encrypts one more under the same root: then the commitment does not fit.
        with pytest.raises((InvalidMessage, InvalidProof)):
            sealing.open_report(**(good | change))


def test_report_salt__by_the_definition__is_the_hash_of_smaller_factor_inquiry_and_aggregate(
    key: PrivateKey, big_key: PrivateKey
) -> None:
    for private, width in ((key, 256), (big_key, 384)):
        aggregate = bytes(range(256)) * (2 * 2 * width // 256)
        smaller = min(private.p, private.q).to_bytes(width // 2, "big")

        salt = sealing.report_salt(private, Q, aggregate)

        assert salt == hashlib.sha256(b"mpcredit/report-salt/2" + smaller + Q + aggregate).digest()


def test_report_salt__other_key_inquiry_or_aggregate__differs(key: PrivateKey, other_key: PrivateKey) -> None:
    aggregate = b"a" * 512

    salts = {
        sealing.report_salt(private, inquiry, data)
        for private in (key, other_key)
        for inquiry in (Q, bytes(32))
        for data in (aggregate, aggregate[1:] + b"b", aggregate * 2)
    }

    assert len(salts) == 12


@pytest.mark.parametrize(("inquiry", "aggregate"), [(Q[1:], b"a" * 512), (Q, b"a" * 511), (Q, b"")])
def test_report_salt__of_other_widths__is_refused(key: PrivateKey, inquiry: bytes, aggregate: bytes) -> None:
    with pytest.raises(ValueError, match="bytes"):
        sealing.report_salt(key, inquiry, aggregate)


def test_report_body__there_and_back__and_any_other_form() -> None:
    data = ReportBody(b"s" * 32, (1, 2)).encode(256)

    assert ReportBody.parse(data, 256) == ReportBody(b"s" * 32, (1, 2))
    for wrong in (
        b"",
        data[:-1],
        data + b"\0",
        b"\x01" + data[1:],
        data[:1] + b"\x01" + data[2:],
        b"\x02\x00" + bytes(32),
    ):
        with pytest.raises(InvalidEncoding):
            ReportBody.parse(wrong, 256)


# ---------------------------------------------------------------- mask keys


def mask_entries() -> list[MaskKeyEntry]:
    return [MaskKeyEntry(4, 1, b"4" * 32), MaskKeyEntry(1, 2, b"1" * 32)]


def sealed_mask_keys(
    entries: list[MaskKeyEntry], realm: Realm, refs: list[KeyRef], supervisor: InstitutionKey
) -> bytes:
    return sealing.seal_mask_keys(
        entries, realm=realm, sender=refs[0], supervisor_public=supervisor.public, supervisor_key_version=3
    )


def test_mask_keys__there_and_back__are_in_order(realm: Realm, refs: list[KeyRef], supervisor: InstitutionKey) -> None:
    sealed = sealed_mask_keys(mask_entries(), realm, refs, supervisor)

    opened = sealing.open_mask_keys(
        sealed, realm=realm, sender=refs[0], supervisor=supervisor, supervisor_key_version=3
    )

    assert opened == (MaskKeyEntry(1, 2, b"1" * 32), MaskKeyEntry(4, 1, b"4" * 32))
    assert len(sealed) == 48 + 2 + 2 * 37


def test_open_mask_keys__other_realm_sender_key_or_version__is_refused(
    realm: Realm, refs: list[KeyRef], supervisor: InstitutionKey
) -> None:
    sealed = sealed_mask_keys(mask_entries(), realm, refs, supervisor)
    good: dict[str, Any] = {
        "sealed": sealed,
        "realm": realm,
        "sender": refs[0],
        "supervisor": supervisor,
        "supervisor_key_version": 3,
    }

    for change in (
        {"realm": Realm(1, realm.consortium)},
        {"sender": refs[2]},
        {"sender": KeyRef(0, 2, refs[0].public)},
        {"sender": KeyRef(0, 1, refs[1].public)},
        {"supervisor": InstitutionKey.generate()},
        {"supervisor_key_version": 4},
        {"sealed": sealed + b"\0"},
    ):
        with pytest.raises(InvalidMessage):
            sealing.open_mask_keys(**(good | change))


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [MaskKeyEntry(1, 1, bytes(32)), MaskKeyEntry(1, 2, bytes(32))],
        [MaskKeyEntry(0, 1, bytes(32))],
        [MaskKeyEntry(216, 1, bytes(32))],
    ],
    ids=["none", "twice", "oneself", "216"],
)
def test_seal_mask_keys__list_that_is_not_well_formed__is_refused(
    entries: list[MaskKeyEntry], realm: Realm, refs: list[KeyRef], supervisor: InstitutionKey
) -> None:
    with pytest.raises(InvalidEncoding):
        sealed_mask_keys(entries, realm, refs, supervisor)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x02",
        b"\x02\x00",
        b"\x01\x01" + b"\x01" + bytes(36),
        b"\x02\x01" + b"\x01" + bytes(35),
        b"\x02\x01" + b"\x01" + bytes(37),
        b"\x02\x02" + b"\x02" + bytes(36) + b"\x01" + bytes(36),
        b"\x02\x02" + b"\x01" + bytes(36) + b"\x01" + bytes(36),
        b"\x02\x01" + b"\x00" + bytes(36),
        b"\x02\x01" + b"\xd8" + bytes(36),
    ],
)
def test_open_mask_keys__body_that_is_not_canonical__is_refused(
    body: bytes, realm: Realm, refs: list[KeyRef], supervisor: InstitutionKey
) -> None:
    info = b"mpcredit/mask-keys/2" + realm.salt + refs[0].encoded + bytes([0, 0, 0, 3])
    sealed = sealing.hpke_seal(supervisor.public, body, info)

    with pytest.raises(InvalidEncoding):
        sealing.open_mask_keys(sealed, realm=realm, sender=refs[0], supervisor=supervisor, supervisor_key_version=3)


# ---------------------------------------------------------------- subjects


@pytest.fixture
def subjects(bank: SimpleNamespace) -> SubjectList:
    people = [Subject("passport", f"P000000{i}", "TW") for i in range(3)]
    consents = [Consent.grant(p, to=bank, purpose=Purpose.NEW_CREDIT, days=9, now=1_800_000_000) for p in people]
    return SubjectList(1, "TWD", Purpose.NEW_CREDIT, tuple(SubjectEntry(c.tag, c) for c in consents))


@pytest.fixture
def wraps(privates: list[InstitutionKey], refs: list[KeyRef], realm: Realm) -> dict[int, bytes]:
    return {ref.member: pairkeys.derive(privates[0], refs[0], ref, realm, PERIOD).wrap for ref in refs[1:]}


@pytest.fixture
def sealed(subjects: SubjectList, wraps: dict[int, bytes], supervisor: InstitutionKey) -> tuple[bytes, bytes]:
    return sealing.seal_subjects(subjects, q0=Q0, inquirer=0, wraps=wraps, supervisor_public=supervisor.public)


def test_subjects__sealed__open_for_every_member_and_the_supervisor(
    subjects: SubjectList,
    sealed: tuple[bytes, bytes],
    privates: list[InstitutionKey],
    refs: list[KeyRef],
    realm: Realm,
    supervisor: InstitutionKey,
) -> None:
    data, commitment = sealed

    for member in range(1, 5):
        key = pairkeys.derive(privates[member], refs[member], refs[0], realm, PERIOD).wrap
        assert sealing.open_subjects_member(data, commitment, Q0, 0, member, key) == subjects
    assert sealing.open_subjects_supervisor(data, commitment, Q0, supervisor) == subjects
    assert sealing.sealed_members(data) == (1, 2, 3, 4)


def test_seal_subjects__by_the_definition__has_the_form_of_the_specification(
    subjects: SubjectList, wraps: dict[int, bytes], supervisor: InstitutionKey
) -> None:
    content_key = b"c" * 32

    data, commitment = sealing.seal_subjects(
        subjects, q0=Q0, inquirer=0, wraps=wraps, supervisor_public=supervisor.public, content_key=content_key
    )

    assert commitment == hashlib.sha256(b"mpcredit/subject/2" + content_key + subjects.plaintext).digest()
    assert data[:2] == b"\x02\x04"
    for place, member in enumerate(range(1, 5)):
        start = 2 + 49 * place
        assert data[start] == member
        info = b"mpcredit/wrap/2" + Q0 + b"\x00" + bytes([member]) + commitment
        wrapping = hkdf_expand(wraps[member], info, 32)
        opened = ChaCha20Poly1305(wrapping).decrypt(bytes(12), data[start + 1 : start + 49], commitment)
        assert opened == content_key
    start = 2 + 49 * 4
    info = b"mpcredit/wrap-supervisor/2" + Q0 + commitment
    assert sealing.hpke_open(supervisor, data[start : start + 80], info) == content_key
    assert ChaCha20Poly1305(content_key).decrypt(bytes(12), data[start + 80 :], Q0) == subjects.plaintext


def test_seal_subjects__twice_for_one_q0__never_uses_a_wrapping_key_twice(
    subjects: SubjectList, wraps: dict[int, bytes], supervisor: InstitutionKey
) -> None:
    a, b = b"a" * 32, b"b" * 32
    one, two = (
        sealing.seal_subjects(
            subjects, q0=Q0, inquirer=0, wraps=wraps, supervisor_public=supervisor.public, content_key=key
        )[0]
        for key in (a, b)
    )

    # With one key stream the difference of the wraps would be that of the content keys.
    difference = bytes(x ^ y for x, y in zip(one[3:35], two[3:35], strict=True))
    assert difference != bytes(x ^ y for x, y in zip(a, b, strict=True))


def test_open_subjects__anything_else__is_refused(
    sealed: tuple[bytes, bytes], wraps: dict[int, bytes], supervisor: InstitutionKey
) -> None:
    data, commitment = sealed
    good: dict[str, Any] = {
        "sealed": data,
        "commitment": commitment,
        "q0": Q0,
        "inquirer": 0,
        "member": 2,
        "wrap_key": wraps[2],
    }
    sealing.open_subjects_member(**good)

    for change in (
        {"commitment": bytes(32)},
        {"q0": bytes(32)},
        {"inquirer": 1},
        {"member": 3},
        {"member": 9},
        {"wrap_key": wraps[3]},
        {"sealed": data[:-1]},
        {"sealed": data + b"\0"},
        {"sealed": data[:-512]},
        {"sealed": b"\x01" + data[1:]},
        {"sealed": b"\x02\x03" + data[2:]},
        {"sealed": data[:2] + data[51:100] + data[2:51] + data[100:]},
        {"sealed": data[:2] + data[2:51] + data[2:51] + data[100:]},
        {"sealed": b""},
        {"sealed": b"\x02"},
        {"sealed": data[:-600] + bytes([data[-600] ^ 1]) + data[-599:]},
        {"sealed": data[:60] + bytes([data[60] ^ 1]) + data[61:]},
    ):
        with pytest.raises(InvalidSubject):
            sealing.open_subjects_member(**(good | change))

    place = 2 + 4 * 49
    for wrong, private, stated, q0 in (
        (data, InstitutionKey.generate(), commitment, Q0),
        (data, supervisor, bytes(32), Q0),
        (data, supervisor, commitment, bytes(32)),
        (data[:place] + bytes(80) + data[place + 80 :], supervisor, commitment, Q0),
    ):
        with pytest.raises(InvalidSubject):
            sealing.open_subjects_supervisor(wrong, stated, q0, private)


def test_seal_subjects__wrap_for_oneself__is_refused(
    subjects: SubjectList, wraps: dict[int, bytes], supervisor: InstitutionKey
) -> None:
    with pytest.raises(ValueError, match="inquirer"):
        sealing.seal_subjects(subjects, q0=Q0, inquirer=2, wraps=wraps, supervisor_public=supervisor.public)


def test_subject_list__plaintext__is_padded_and_read_back(subjects: SubjectList) -> None:
    data = subjects.plaintext

    assert len(data) % 512 == 0
    assert SubjectList.parse(data) == subjects
    one = SubjectList(1, "TWD", Purpose.NEW_CREDIT, subjects.entries[:1])
    assert SubjectList.parse(one.plaintext) == one


def _packed(document: bytes) -> bytes:
    data = len(document).to_bytes(4, "big") + document
    return data + bytes(-len(data) % 512)


def test_subject_list__padding_that_is_not_zero_or_not_the_least__is_refused(subjects: SubjectList) -> None:
    data = subjects.plaintext

    for wrong in (
        b"",
        data + bytes(512),
        data[:-512],
        data[:-1],
        data[:-1] + b"\x01",
        b"\xff\xff\xff\xff" + data[4:],
        bytes(4) + data[4:],
        bytes(512),
        _packed(b""),
    ):
        with pytest.raises(InvalidSubject):
            SubjectList.parse(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": 3},
        {"version": True},
        {"format": "x"},
        {"schema": 0},
        {"schema": "1"},
        {"schema": True},
        {"currency": "XXX"},
        {"currency": 5},
        {"currency": ["TWD"]},
        {"purpose": "x"},
        {"purpose": None},
        {"entries": []},
        {"entries": {}},
        {"entries": [{}]},
        {"entries": [5]},
        {"entries": None},
        {"extra": 1},
    ],
    ids=str,
)
def test_subject_list__document_that_is_not_well_formed__is_refused(
    change: dict[str, Any], subjects: SubjectList
) -> None:
    length = int.from_bytes(subjects.plaintext[:4], "big")
    value = parse_canonical_json(subjects.plaintext[4 : 4 + length])

    with pytest.raises(InvalidSubject):
        SubjectList.parse(_packed(canonical_json(value | change)))


def test_subject_list__entry_that_is_not_well_formed__is_refused(subjects: SubjectList) -> None:
    length = int.from_bytes(subjects.plaintext[:4], "big")
    value = parse_canonical_json(subjects.plaintext[4 : 4 + length])
    entry = value["entries"][0]

    for wrong in (
        [entry, entry],
        [entry | {"tag": "0x00"}],
        [entry | {"extra": 1}],
        [entry | {"consent": entry["consent"] | {"version": 1}}],
        [entry | {"consent": None}],
    ):
        with pytest.raises(InvalidSubject):
            SubjectList.parse(_packed(canonical_json(value | {"entries": wrong})))


def test_subject_list__not_canonical_json__is_refused(subjects: SubjectList) -> None:
    length = int.from_bytes(subjects.plaintext[:4], "big")

    with pytest.raises(InvalidSubject):
        SubjectList.parse(_packed(subjects.plaintext[4 : 4 + length].replace(b",", b", ", 1)))


def test_hkdf_oracle__of_this_file__is_the_published_one() -> None:
    [case, _] = vectors("hkdf_rfc5869.json")
    args = [bytes.fromhex(case[name]) for name in ("ikm", "salt", "info")]

    assert hkdf_sha256(*args, 42).hex() == case["okm"]
