"""What is sealed to whom: disclosures, reports, mask keys and subjects (R11, R12, R16, R20, R30).

    to the supervisor   HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305;
                        sealed = enc (32) || ciphertext; what it is bound to goes into `info`
    to the cohort       the subjects under one content key, the content key wrapped for each member

ChaCha20Poly1305 does not commit to its key: one ciphertext can be made that opens under two keys to two contents. So
the ledger holds SHA-256(label || content key || content), and each reader recomputes it (tests/attacks/
test_two_contents.py runs the attack). What the contents mean, and whether a sender may send them, is checked above.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import gmpy2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from mpcredit import hpke
from mpcredit.amounts import CURRENCIES
from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import bytes_to_int, canonical_json, hex_bytes, int_to_bytes, parse_canonical_json, to_hex
from mpcredit.errors import InvalidEncoding, InvalidKey, InvalidMessage, InvalidProof, InvalidSubject
from mpcredit.paillier import Opening, PrivateKey, PublicKey, open_with_root
from mpcredit.pairkeys import MAXIMUM_MEMBERS, AgreementKey, KeyRef, Realm, check_public, reduced
from mpcredit.versions import THIS_RELEASE

__all__ = [
    "DISCLOSURE_BYTES",
    "SEED_BYTES",
    "MaskKeyEntry",
    "ReportBody",
    "SubjectEntry",
    "SubjectList",
    "derived_roots",
    "entry_length",
    "hpke_open",
    "hpke_seal",
    "open_disclosure",
    "open_mask_keys",
    "open_repeat",
    "open_report",
    "open_subjects_member",
    "open_subjects_supervisor",
    "report_commitment",
    "report_salt",
    "seal_disclosure",
    "seal_mask_keys",
    "seal_repeat",
    "seal_report",
    "seal_subjects",
    "sealed_length",
    "sealed_members",
    "sealed_version",
]

SEED_BYTES: Final = 32
_HPKE_OVERHEAD: Final = 32 + 16
DISCLOSURE_BYTES: Final = SEED_BYTES + _HPKE_OVERHEAD
"""Width of a disclosure, whatever the number of blocks."""
_HASH_BYTES: Final = 32
_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
_WRAP_BYTES: Final = _KEY_BYTES + _TAG_BYTES
_TRIES: Final = 256
"""As many as one byte can number."""
_STRETCH_BYTES: Final = 16
"""Extra bytes before a reduction modulo n: the result is within 2^-128 of uniform."""
_PADDING: Final = 512
_MAXIMUM_SUBJECTS: Final = 4096
_LIST_BYTES: Final = 160
"""The canonical JSON of a subject list without its entries has at most so many bytes."""
_VERSION: Final = 2
_ZERO_NONCE: Final = bytes(12)
"""Every key used with it encrypts one message: content keys are fresh, wrapping keys depend on the commitment."""

_DISCLOSURE_LABEL: Final = b"mpcredit/disclosure/2"
_RANDOM_LABEL: Final = b"mpcredit/random/2"
_REPORT_LABEL: Final = b"mpcredit/report/2"
_REPORT_SALT_LABEL: Final = b"mpcredit/report-salt/2"
_REPORT_SEAL_LABEL: Final = b"mpcredit/report-seal/2"
_MASK_KEYS_LABEL: Final = b"mpcredit/mask-keys/2"
_SUBJECT_LABEL: Final = b"mpcredit/subject/2"
_WRAP_LABEL: Final = b"mpcredit/wrap/2"
_REPEAT_LABEL: Final = b"mpcredit/repeat/2"
_WRAP_SUPERVISOR_LABEL: Final = b"mpcredit/wrap-supervisor/2"
_SUBJECTS_FORMAT: Final = "mpcredit/subjects"

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


# ---------------------------------------------------------------- HPKE (R12)


def hpke_seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal to an X25519 public key, bound to `info`.

    Returns:
        enc (32 bytes) || ciphertext, 48 bytes more than the plaintext.

    Raises:
        InvalidKey: see `pairkeys.check_public`.
    """
    check_public(public)
    return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info)


def hpke_open(private: AgreementKey, sealed: bytes, info: bytes) -> bytes:
    """Open what `hpke_seal` sealed.

    Raises:
        InvalidMessage: too short, another key, other `info`, or altered.
        KeyStoreError: the private key is not to be had, which is not the sender's fault.
    """
    if len(sealed) < _HPKE_OVERHEAD:
        raise InvalidMessage("too short to be sealed")
    try:
        # X25519 takes every spelling of a point; a registered key has one. What is hashed below is what was sent.
        dh = private.exchange(reduced(sealed[:_KEY_BYTES]))
        return hpke.open_from_secret(dh, sealed, private.public, info)
    except (InvalidTag, InvalidKey) as error:
        raise InvalidMessage(
            "it does not open: sealed to another key or for another purpose, or altered",
            remedy="its sender must seal it anew",
        ) from error


# ---------------------------------------------------------------- disclosures (R19, R20)


def seal_disclosure(seed: bytes, supervisor_public: bytes, ctx: bytes, member: int, ciphertexts: bytes) -> bytes:
    """Seal the seed of a contribution's randomness to the supervisor: 80 bytes.

    Args:
        seed: 32 bytes, fresh for each contribution.
        supervisor_public: the supervisor's key of the inquiry.
        ctx: hash of what the cohort agrees on.
        member: index of the contributor.
        ciphertexts: the contribution, as on the ledger.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError("a seed has 32 bytes")
    return hpke_seal(supervisor_public, seed, _disclosure_info(ctx, member, ciphertexts))


def open_disclosure(private: AgreementKey, sealed: bytes, ctx: bytes, member: int, ciphertexts: bytes) -> bytes:
    """Open a disclosure and return the seed.

    Raises:
        InvalidMessage: another width, or it does not belong to this context, member and contribution.
    """
    if len(sealed) != DISCLOSURE_BYTES:
        raise InvalidMessage(f"a disclosure has {DISCLOSURE_BYTES} bytes, not {len(sealed)}")
    return hpke_open(private, sealed, _disclosure_info(ctx, member, ciphertexts))


def derived_roots(seed: bytes, ctx: bytes, member: int, blocks: int, public: PublicKey) -> list[int]:
    """Derive r of all blocks of a contribution from its seed: of each block the first try that is coprime to n (R19).

    Raises:
        InvalidKey: none of 256 tries is coprime to n.
    """
    if len(seed) != SEED_BYTES or len(ctx) != _HASH_BYTES:
        raise ValueError("a seed and a ctx have 32 bytes each")
    prefix = _RANDOM_LABEL + seed + ctx + int_to_bytes(member, 1)
    return [_first_coprime(prefix + int_to_bytes(block, 4), public) for block in range(blocks)]


def _first_coprime(prefix: bytes, public: PublicKey) -> int:
    # A modulus of R6 and R7 has at most 255 prime factors, since each is above 2^16 and n is below 2^4096. So a try fails
    # with a probability below 255 / 2^16 < 2^-8, and all 256 fail with one below 2^-2048: only another n comes to the end.
    for attempt in range(_TRIES):
        data = hashlib.shake_256(prefix + int_to_bytes(attempt, 1)).digest(public.modulus_bytes + _STRETCH_BYTES)
        r = bytes_to_int(data) % public.n
        # Without this line an honest member would be named: an n of many small primes has a factor in common with some r.
        if gmpy2.gcd(r, public.n) == 1:
            return r
    raise InvalidKey("no random number is coprime to the modulus", remedy="the inquirer must publish a modulus of R6")


def _disclosure_info(ctx: bytes, member: int, ciphertexts: bytes) -> bytes:
    if len(ctx) != _HASH_BYTES:
        raise ValueError("a ctx has 32 bytes")
    return _DISCLOSURE_LABEL + ctx + int_to_bytes(member, 1) + hashlib.sha256(ciphertexts).digest()


# ---------------------------------------------------------------- reports (R30)


@dataclass(frozen=True)
class ReportBody:
    """What a report seals: the roots of all blocks; the totals follow from them and the aggregate.

    version u8 || blocks u8 || salt (32) || r of each block (|n| bytes)
    """

    salt: bytes = field(repr=False)
    """See `report_salt`, 32 bytes."""
    roots: tuple[int, ...] = field(repr=False)
    """r of each block."""

    def encode(self, modulus_bytes: int) -> bytes:
        """Write the body."""
        if len(self.salt) != _HASH_BYTES:
            raise ValueError("a salt has 32 bytes")
        head = int_to_bytes(_VERSION, 1) + int_to_bytes(len(self.roots), 1) + self.salt
        return head + b"".join(int_to_bytes(root, modulus_bytes) for root in self.roots)

    @classmethod
    def parse(cls, data: bytes, modulus_bytes: int) -> ReportBody:
        """Read a body.

        Raises:
            InvalidEncoding: another version, no block, or another length.
        """
        if len(data) < 2 + _HASH_BYTES or data[0] != _VERSION or data[1] == 0:
            raise InvalidEncoding("not a report of version 2")
        roots = data[2 + _HASH_BYTES :]
        if len(roots) != data[1] * modulus_bytes:
            raise InvalidEncoding("a report whose length does not fit its number of blocks")
        return cls(
            data[2 : 2 + _HASH_BYTES],
            tuple(bytes_to_int(roots[i : i + modulus_bytes]) for i in range(0, len(roots), modulus_bytes)),
        )


def report_salt(private: PrivateKey, inquiry: bytes, aggregate: bytes) -> bytes:
    """SHA-256(label || smaller prime factor of n, |n|/2 bytes || q || aggregate): 32 bytes (R30).

    It follows from the inquiry's private key, so that nobody else can try likely totals against the commitment on the
    ledger; and from the aggregate, so that every report of one aggregate has one commitment, also after a restore.

    Args:
        private: the inquiry's key.
        inquiry: q.
        aggregate: all blocks as the ledger writes them, 2|n| bytes each.
    """
    if len(inquiry) != _HASH_BYTES or not aggregate or len(aggregate) % private.public.width:
        raise ValueError("an inquiry id has 32 bytes, an aggregate 2|n| bytes for each block")
    factor = int_to_bytes(private.p, (private.public.modulus_bytes + 1) // 2)
    return hashlib.sha256(_REPORT_SALT_LABEL + factor + inquiry + aggregate).digest()


def report_commitment(inquiry: bytes, salt: bytes, openings: Sequence[Opening], modulus_bytes: int) -> bytes:
    """SHA-256(label || q || salt || m and r of each block, |n| bytes each): what the ledger holds of a report.

    The number of blocks and |n| are fixed by q, so no two lists of openings have the same bytes.
    """
    if len(inquiry) != _HASH_BYTES or len(salt) != _HASH_BYTES:
        raise ValueError("an inquiry id and a salt have 32 bytes each")
    parts = b"".join(int_to_bytes(o.m, modulus_bytes) + int_to_bytes(o.r, modulus_bytes) for o in openings)
    return hashlib.sha256(_REPORT_LABEL + inquiry + salt + parts).digest()


def seal_report(
    openings: Sequence[Opening],
    *,
    inquiry: bytes,
    ctx: bytes,
    modulus_bytes: int,
    supervisor_public: bytes,
    salt: bytes,
) -> tuple[bytes, bytes]:
    """Seal the openings of the aggregate to the supervisor.

    Args:
        openings: one for each block.
        inquiry: q.
        ctx: hash of what the cohort agrees on.
        modulus_bytes: width of n.
        supervisor_public: the supervisor's key of the inquiry.
        salt: see `report_salt`.

    Returns:
        The sealed report and its commitment.
    """
    body = ReportBody(salt, tuple(opening.r for opening in openings)).encode(modulus_bytes)
    sealed = hpke_seal(supervisor_public, body, _report_info(inquiry, ctx))
    return sealed, report_commitment(inquiry, salt, openings, modulus_bytes)


def open_report(
    sealed: bytes,
    commitment: bytes,
    *,
    inquiry: bytes,
    ctx: bytes,
    public: PublicKey,
    aggregate: Sequence[int],
    supervisor: AgreementKey,
) -> tuple[Opening, ...]:
    """Open a report and verify it against the aggregate and its commitment.

    Returns:
        The openings; each is proven, `verify_opening` need not be called again.

    Raises:
        InvalidMessage: it does not open, or is not a report of this many blocks.
        InvalidProof: a root that is not one of the aggregate, or another commitment.
    """
    body = ReportBody.parse(hpke_open(supervisor, sealed, _report_info(inquiry, ctx)), public.modulus_bytes)
    if len(body.roots) != len(aggregate):
        raise InvalidEncoding("a report with another number of blocks than the aggregate")
    openings = tuple(open_with_root(public, c, r) for c, r in zip(aggregate, body.roots, strict=True))
    if report_commitment(inquiry, body.salt, openings, public.modulus_bytes) != commitment:
        raise InvalidProof("the report does not fit its commitment on the ledger")
    return openings


def _report_info(inquiry: bytes, ctx: bytes) -> bytes:
    if len(inquiry) != _HASH_BYTES or len(ctx) != _HASH_BYTES:
        raise ValueError("an inquiry id and a ctx have 32 bytes each")
    return _REPORT_SEAL_LABEL + inquiry + ctx


# ---------------------------------------------------------------- mask keys for the audit (R11)


@dataclass(frozen=True)
class MaskKeyEntry:
    """One pair mask key, as one end sees it."""

    other: int
    """Index of the member at the other end."""
    other_version: int
    """Version of that member's key."""
    key: bytes = field(repr=False)
    """The pair's mask key, 32 bytes."""


def seal_mask_keys(
    entries: Sequence[MaskKeyEntry],
    *,
    realm: Realm,
    sender: KeyRef,
    supervisor_public: bytes,
    supervisor_key_version: int,
) -> bytes:
    """Seal pair mask keys to the supervisor, bound to realm, sender, its key and the supervisor's key version.

    Body: version u8 || count u8 || for each, ascending by member: member u8, key version u32, key (32).
    """
    body = int_to_bytes(_VERSION, 1) + int_to_bytes(len(entries), 1)
    for entry in sorted(entries, key=lambda entry: entry.other):
        if len(entry.key) != _KEY_BYTES:
            raise ValueError("a mask key has 32 bytes")
        body += int_to_bytes(entry.other, 1) + int_to_bytes(entry.other_version, 4) + entry.key
    _parse_mask_keys(body, sender)
    return hpke_seal(supervisor_public, body, _mask_keys_info(realm, sender, supervisor_key_version))


def open_mask_keys(
    sealed: bytes, *, realm: Realm, sender: KeyRef, supervisor: AgreementKey, supervisor_key_version: int
) -> tuple[MaskKeyEntry, ...]:
    """Open what a member sealed for the mask audit.

    Raises:
        InvalidMessage: it does not open, or its body is not the one canonical form.
    """
    body = hpke_open(supervisor, sealed, _mask_keys_info(realm, sender, supervisor_key_version))
    return _parse_mask_keys(body, sender)


def _parse_mask_keys(body: bytes, sender: KeyRef) -> tuple[MaskKeyEntry, ...]:
    width = 1 + 4 + _KEY_BYTES
    if len(body) < 2 or body[0] != _VERSION or body[1] == 0 or len(body) != 2 + body[1] * width:
        raise InvalidEncoding("not a list of mask keys of version 2")
    entries = tuple(
        MaskKeyEntry(body[start], bytes_to_int(body[start + 1 : start + 5]), body[start + 5 : start + width])
        for start in range(2, len(body), width)
    )
    others = [entry.other for entry in entries]
    if others != sorted(set(others)) or others[-1] >= MAXIMUM_MEMBERS or sender.member in others:
        raise InvalidEncoding("mask keys that are not in ascending order of other members, each once")
    return entries


def _mask_keys_info(realm: Realm, sender: KeyRef, supervisor_key_version: int) -> bytes:
    return _MASK_KEYS_LABEL + realm.salt + sender.encoded + int_to_bytes(supervisor_key_version, 4)


# ---------------------------------------------------------------- subjects (R16)


@dataclass(frozen=True)
class SubjectEntry:
    """One subject of an inquiry."""

    tag: bytes = field(repr=False)
    """Its tag."""
    consent: Consent = field(repr=False)
    """The receipt of its consent; whether it is for this tag is `Consent.check`'s matter."""


def _entry_json(entry: SubjectEntry) -> dict[str, object]:
    return {"consent": entry.consent.to_json_object(), "tag": to_hex(entry.tag)}


def entry_length(entry: SubjectEntry) -> int:
    """Bytes that a subject takes in the sealed list, with the comma after it."""
    return len(canonical_json(_entry_json(entry))) + 1


def sealed_length(entries: int, wraps: int) -> int:
    """Length of a sealed subject, at most.

    Args:
        entries: bytes of all subjects in the list.
        wraps: members of the cohort beside the inquirer.
    """
    plaintext = 4 + _LIST_BYTES + entries
    return 2 + wraps * (1 + _WRAP_BYTES) + DISCLOSURE_BYTES + plaintext + -plaintext % _PADDING + _TAG_BYTES


@dataclass(frozen=True)
class SubjectList:
    """What an inquiry is about; only cohort and supervisor can read it."""

    schema: int
    """Id of the schema."""
    currency: str
    """ISO 4217 code of all amounts."""
    purpose: Purpose
    """Why the inquirer asks."""
    entries: tuple[SubjectEntry, ...]
    """The subjects, in the order of their records; all tags differ."""

    def __post_init__(self) -> None:
        if isinstance(self.schema, bool) or not isinstance(self.schema, int) or not 0 < self.schema < 2**16:
            raise InvalidSubject("the subject list names no schema")
        if self.currency not in CURRENCIES:
            raise InvalidSubject("the subject list names no known currency")
        if not isinstance(self.purpose, Purpose):
            raise InvalidSubject("the subject list names no purpose")
        if not 1 <= len(self.entries) <= _MAXIMUM_SUBJECTS:
            raise InvalidSubject(f"a subject list has 1 to {_MAXIMUM_SUBJECTS} subjects")
        if any(len(entry.tag) != _HASH_BYTES for entry in self.entries):
            raise InvalidSubject("a tag has 32 bytes")
        if len({entry.tag for entry in self.entries}) != len(self.entries):
            raise InvalidSubject("a subject is on the list twice")

    @cached_property
    def plaintext(self) -> bytes:
        """u32 length || canonical JSON || zeros up to a multiple of 512 bytes, so that little shows in the length."""
        document = canonical_json(
            {
                "currency": self.currency,
                "entries": [_entry_json(entry) for entry in self.entries],
                "format": _SUBJECTS_FORMAT,
                "purpose": self.purpose.value,
                "schema": self.schema,
                "version": _VERSION,
            }
        )
        data = int_to_bytes(len(document), 4) + document
        return data + bytes(-len(data) % _PADDING)

    @classmethod
    def parse(cls, plaintext: bytes) -> SubjectList:
        """Read a padded list.

        Raises:
            InvalidSubject: anything but what `plaintext` writes.
        """
        length = bytes_to_int(plaintext[:4])
        end = 4 + length
        if len(plaintext) % _PADDING or len(plaintext) != end + -end % _PADDING or any(plaintext[end:]):
            raise InvalidSubject("the subject list is not padded as it must be")
        try:
            value = parse_canonical_json(plaintext[4:end])
            names = {"currency", "entries", "format", "purpose", "schema", "version"}
            if not isinstance(value, dict) or set(value) != names or not isinstance(value["entries"], list):
                raise InvalidSubject("the subject list has missing or unknown members")
            if value["format"] != _SUBJECTS_FORMAT or type(value["version"]) is not int or value["version"] != _VERSION:
                raise InvalidSubject("not a subject list of version 2")
            if not isinstance(value["currency"], str) or value["purpose"] not in list(Purpose):
                raise InvalidSubject("the subject list names no currency or purpose")
            entries = []
            for item in value["entries"]:
                if not isinstance(item, dict) or set(item) != {"consent", "tag"}:
                    raise InvalidSubject("a subject with missing or unknown members")
                entries.append(SubjectEntry(hex_bytes(item["tag"], 32), Consent.from_json_object(item["consent"])))
            return cls(value["schema"], value["currency"], Purpose(value["purpose"]), tuple(entries))
        except InvalidSubject:
            raise
        except InvalidMessage as error:
            raise InvalidSubject(f"the subject list is malformed: {error.message}") from error


@dataclass(frozen=True)
class _Sealed:
    """version u8 || count u8 || (member u8 || wrap 48)* ascending || wrap for the supervisor 80 || body."""

    wraps: dict[int, bytes]
    supervisor: bytes
    body: bytes

    @classmethod
    def parse(cls, data: bytes, versions: Collection[int] = THIS_RELEASE.versions) -> _Sealed:
        width = 1 + _WRAP_BYTES
        if len(data) < 2 or data[0] not in versions:
            raise InvalidSubject(f"not a sealed subject of version {' or '.join(map(str, versions))}")
        start = 2 + data[1] * width
        body = data[start + DISCLOSURE_BYTES :]
        if len(body) <= _TAG_BYTES or (len(body) - _TAG_BYTES) % _PADDING:
            raise InvalidSubject("a sealed subject of a length that none has")
        members = [data[i] for i in range(2, start, width)]
        if members != sorted(set(members)) or (members and members[-1] >= MAXIMUM_MEMBERS):
            raise InvalidSubject("the wraps of a sealed subject are not in ascending order, one for each member")
        wraps = {data[i]: data[i + 1 : i + width] for i in range(2, start, width)}
        return cls(wraps, data[start : start + DISCLOSURE_BYTES], body)


def seal_subjects(
    subjects: SubjectList,
    *,
    q0: bytes,
    inquirer: int,
    wraps: Mapping[int, bytes],
    supervisor_public: bytes,
    content_key: bytes | None = None,
    version: int = _VERSION,
) -> tuple[bytes, bytes]:
    """Seal the subjects of an inquiry to its cohort and the supervisor.

    Args:
        subjects: what the inquiry is about.
        q0: the id that keys the wraps, 32 bytes.
        inquirer: index of the member that asks.
        wraps: pair wrap key of every other member of the cohort.
        supervisor_public: the supervisor's key of the inquiry.
        content_key: 32 random bytes, never used before; drawn when None.
        version: that the whole cohort reads (`versions.agreed_version`). So far all versions have one content.

    Returns:
        The sealed subject and its commitment.
    """
    # 1. A fresh content key, committed to together with the content.
    key = secrets.token_bytes(_KEY_BYTES) if content_key is None else content_key
    commitment = _subject_commitment(key, subjects.plaintext)
    # 2. The content key, wrapped for each member under what it shares with the inquirer, and for the supervisor.
    if inquirer in wraps:
        raise ValueError("the inquirer needs no wrap")
    sealed = int_to_bytes(version, 1) + int_to_bytes(len(wraps), 1)
    for member in sorted(wraps):
        cipher = ChaCha20Poly1305(_wrap_key(wraps[member], q0, inquirer, member, commitment))
        sealed += int_to_bytes(member, 1) + cipher.encrypt(_ZERO_NONCE, key, commitment)
    sealed += hpke_seal(supervisor_public, key, _WRAP_SUPERVISOR_LABEL + q0 + commitment)
    # 3. The content, bound to q0.
    sealed += ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, subjects.plaintext, q0)
    return sealed, commitment


def seal_repeat(wrap_key: bytes, inquiry: bytes, furnisher: int, cohort: int) -> bytes:
    """Seal the cohort that an inquirer can repeat, for a refusal WINDOW (R27): 48 bytes, whatever the cohort is.

    Args:
        wrap_key: what furnisher and inquirer share for wrapping.
        inquiry: q of the inquiry that is refused.
        cohort: bitmap.
    """
    return ChaCha20Poly1305(_repeat_key(wrap_key, inquiry, furnisher)).encrypt(
        _ZERO_NONCE, int_to_bytes(cohort, _HASH_BYTES), None
    )


def open_repeat(wrap_key: bytes, inquiry: bytes, furnisher: int, sealed: bytes) -> int:
    """Open what `seal_repeat` sealed.

    Raises:
        InvalidMessage: it does not open.
    """
    try:
        plain = ChaCha20Poly1305(_repeat_key(wrap_key, inquiry, furnisher)).decrypt(_ZERO_NONCE, sealed, None)
    except (InvalidTag, ValueError) as error:
        raise InvalidMessage("the cohort to repeat does not open") from error
    return bytes_to_int(plain)


def _repeat_key(wrap_key: bytes, inquiry: bytes, furnisher: int) -> bytes:
    # One key seals one message: a furnisher refuses an inquiry once.
    if len(wrap_key) != _KEY_BYTES or len(inquiry) != _HASH_BYTES:
        raise ValueError("a wrap key and an inquiry id have 32 bytes each")
    info = _REPEAT_LABEL + inquiry + int_to_bytes(furnisher, 1)
    return HKDFExpand(hashes.SHA256(), _KEY_BYTES, info).derive(wrap_key)


def sealed_members(sealed: bytes) -> tuple[int, ...]:
    """Return the members that a sealed subject has wraps for, in ascending order.

    Raises:
        InvalidSubject: not a sealed subject.
    """
    return tuple(_Sealed.parse(sealed).wraps)


def sealed_version(sealed: bytes) -> int:
    """The version of a sealed subject, which stands before it in the clear; 0 where there is nothing."""
    return sealed[0] if sealed else 0


def open_subjects_member(
    sealed: bytes,
    commitment: bytes,
    q0: bytes,
    inquirer: int,
    member: int,
    wrap_key: bytes,
    *,
    versions: Collection[int] = THIS_RELEASE.versions,
) -> SubjectList:
    """Open the subjects as a member of the cohort.

    Args:
        sealed: as on the ledger.
        commitment: as on the ledger.
        q0: the id that keys the wraps.
        inquirer: index of the member that asks.
        member: index of the reader.
        wrap_key: what the two share for wrapping.
        versions: that the reader's release reads.

    Raises:
        InvalidSubject: no wrap, a wrap or content that does not open, another commitment, or a malformed list.
    """
    parts = _Sealed.parse(sealed, versions)
    if member not in parts.wraps:
        raise InvalidSubject("the sealed subject has no wrap for this member")
    cipher = ChaCha20Poly1305(_wrap_key(wrap_key, q0, inquirer, member, commitment))
    try:
        key = cipher.decrypt(_ZERO_NONCE, parts.wraps[member], commitment)
    except InvalidTag as error:
        raise InvalidSubject("the wrap for this member does not open") from error
    return _open_content(parts, key, commitment, q0)


def open_subjects_supervisor(
    sealed: bytes,
    commitment: bytes,
    q0: bytes,
    private: AgreementKey,
    *,
    versions: Collection[int] = THIS_RELEASE.versions,
) -> SubjectList:
    """Open the subjects as the supervisor.

    Raises:
        InvalidSubject: as `open_subjects_member`.
    """
    _check_hashes(q0, commitment)
    parts = _Sealed.parse(sealed, versions)
    try:
        key = hpke_open(private, parts.supervisor, _WRAP_SUPERVISOR_LABEL + q0 + commitment)
    except InvalidMessage as error:
        raise InvalidSubject("the wrap for the supervisor does not open") from error
    return _open_content(parts, key, commitment, q0)


def _open_content(parts: _Sealed, key: bytes, commitment: bytes, q0: bytes) -> SubjectList:
    try:
        plaintext = ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, parts.body, q0)
    except (InvalidTag, ValueError) as error:
        raise InvalidSubject("the content of the sealed subject does not open") from error
    # Without this line a sender could show two members two different contents in one sealed body.
    if _subject_commitment(key, plaintext) != commitment:
        raise InvalidSubject("the sealed subject does not fit its commitment; others may see another subject")
    return SubjectList.parse(plaintext)


def _subject_commitment(key: bytes, plaintext: bytes) -> bytes:
    if len(key) != _KEY_BYTES:
        raise ValueError("a content key has 32 bytes")
    return hashlib.sha256(_SUBJECT_LABEL + key + plaintext).digest()


def _wrap_key(wrap_key: bytes, q0: bytes, inquirer: int, member: int, commitment: bytes) -> bytes:
    # The commitment is part of it: an inquirer that prepares one q0 twice, with two content keys, still never uses
    # one key for two messages.
    _check_hashes(q0, commitment)
    if len(wrap_key) != _KEY_BYTES:
        raise ValueError("a wrap key has 32 bytes")
    info = _WRAP_LABEL + q0 + int_to_bytes(inquirer, 1) + int_to_bytes(member, 1) + commitment
    return HKDFExpand(hashes.SHA256(), _KEY_BYTES, info).derive(wrap_key)


def _check_hashes(q0: bytes, commitment: bytes) -> None:
    if len(q0) != _HASH_BYTES or len(commitment) != _HASH_BYTES:
        raise ValueError("q0 and a commitment have 32 bytes each")
