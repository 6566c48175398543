"""Keys that two members share (R10), and the cohort that a refusal WINDOW carries (R27.4)."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .encodings import Realm, unsigned
from .hpke import agree, hkdf, hkdf_expand

USES = ("mask", "wrap", "audit", "range")


@dataclass(frozen=True)
class MemberKey:
    """The public institution key of a member in one version."""

    member: int
    version: int
    key: bytes

    def encoded(self) -> bytes:
        """u8 member, u32 version, key."""
        return unsigned(self.member, 8) + unsigned(self.version, 32) + self.key


@dataclass(frozen=True)
class PeriodKey:
    """The public period key of a supervisor."""

    version: int
    key: bytes


def pair_key(use: str, realm: Realm, private: bytes, own: MemberKey, other: MemberKey, period: PeriodKey) -> bytes:
    """The 32 bytes that both members of a pair make for one use (R10)."""
    lower, higher = sorted((own, other), key=lambda end: end.member)
    info = (
        f"mpcredit/pair/2/{use}".encode("ascii")
        + lower.encoded()
        + higher.encoded()
        + unsigned(period.version, 32)
        + period.key
    )
    return hkdf(agree(private, other.key), realm.digest(), info, 32)


def sealed_cohort(wrap_key: bytes, inquiry: bytes, furnisher: int, cohort: int) -> bytes:
    """The cohort to repeat, sealed to the inquirer: 48 bytes (R27.4)."""
    key = hkdf_expand(wrap_key, b"mpcredit/repeat/2" + inquiry + unsigned(furnisher, 8), 32)
    return ChaCha20Poly1305(key).encrypt(bytes(12), unsigned(cohort, 256), None)
