"""The sealed subject (R16) and the sealed mask keys (R11), as section 11 writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .commitments import subject_commitment
from .encodings import Realm, unsigned
from .hpke import hkdf_expand, seal
from .pairs import MemberKey

VERSION = 2
NONCE = bytes(12)


@dataclass(frozen=True)
class MaskKey:
    """One pair mask key, as one end has it."""

    other: int
    other_version: int
    key: bytes


def mask_keys_body(entries: Sequence[MaskKey]) -> bytes:
    """What a member seals for the mask audit, ascending by the other member (R11)."""
    body = unsigned(VERSION, 8) + unsigned(len(entries), 8)
    for entry in sorted(entries, key=lambda entry: entry.other):
        body += unsigned(entry.other, 8) + unsigned(entry.other_version, 32) + entry.key
    return body


def mask_keys_info(realm: Realm, sender: MemberKey, period_version: int) -> bytes:
    """The HPKE info of sealed mask keys (R11)."""
    return b"mpcredit/mask-keys/2" + realm.digest() + sender.encoded() + unsigned(period_version, 32)


def _wrap(pair_wrap_key: bytes, q0: bytes, inquirer: int, member: int, commitment: bytes, content_key: bytes) -> bytes:
    info = b"mpcredit/wrap/2" + q0 + unsigned(inquirer, 8) + unsigned(member, 8) + commitment
    key = hkdf_expand(pair_wrap_key, info, 32)
    return ChaCha20Poly1305(key).encrypt(NONCE, content_key, commitment)


def supervisors_wrap_info(q0: bytes, commitment: bytes) -> bytes:
    """The HPKE info of the wrap for the supervisor (R16)."""
    return b"mpcredit/wrap-supervisor/2" + q0 + commitment


def sealed_subject(
    q0: bytes,
    inquirer: int,
    pair_wrap_keys: Mapping[int, bytes],
    supervisor: bytes,
    content_key: bytes,
    padded: bytes,
    ephemeral: bytes,
) -> bytes:
    """The sealed subject of an inquiry, with a wrap for each member of the cohort except the inquirer (R16)."""
    commitment = subject_commitment(content_key, padded)
    sealed = unsigned(VERSION, 8) + unsigned(len(pair_wrap_keys), 8)
    for member in sorted(pair_wrap_keys):
        wrap = _wrap(pair_wrap_keys[member], q0, inquirer, member, commitment, content_key)
        sealed += unsigned(member, 8) + wrap
    sealed += seal(supervisor, supervisors_wrap_info(q0, commitment), content_key, ephemeral)
    return sealed + ChaCha20Poly1305(content_key).encrypt(NONCE, padded, q0)
