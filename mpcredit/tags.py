"""Tags: keyed pseudonyms of subjects (R4).

An HMAC tag hides a subject only from those without the key: any member, or a thief of the key, can try all identity
numbers (10^9 in half an hour on one core). `Tagger` is the interface behind which a threshold OPRF can take its place.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final, Protocol

from mpcredit.encoding import int_to_bytes
from mpcredit.errors import InvalidKey
from mpcredit.identity import Subject

__all__ = ["TAG_BYTES", "HmacTagger", "TagKey", "Tagger"]

TAG_BYTES: Final = 32
_KEY_LABEL: Final = b"mpcredit/tagkey/2"
_TAG_LABEL: Final = b"mpcredit/tag/2"


class Tagger(Protocol):
    """Turns subjects into tags; all members of a consortium compute the same tag for the same subject."""

    @property
    def version(self) -> int:
        """The version of the consortium's tag key."""
        ...

    def tag(self, subject: Subject) -> bytes:
        """Return the 32-byte tag of a subject."""
        ...


@dataclass(frozen=True)
class TagKey:
    """The consortium's tag key; every member holds it, the ledger holds `commitment`."""

    version: int
    """Raised at each rotation, from 1."""
    key: bytes = field(repr=False)
    """32 secret bytes."""

    def __post_init__(self) -> None:
        if not 0 < self.version < 2**32:
            raise InvalidKey("the version of a tag key is an integer from 1 to 2^32 - 1")
        if not isinstance(self.key, bytes) or len(self.key) != 32:
            raise InvalidKey("a tag key has 32 bytes")

    @classmethod
    def generate(cls, version: int = 1) -> TagKey:
        """Draw a fresh key."""
        return cls(version, secrets.token_bytes(32))

    @property
    def commitment(self) -> bytes:
        """SHA-256(label || version || key): shows that two members hold the same key without showing it."""
        return hashlib.sha256(_KEY_LABEL + int_to_bytes(self.version, 4) + self.key).digest()


class HmacTagger:
    """Tags by HMAC-SHA-256 over the canonical identity (R4)."""

    def __init__(self, key: TagKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"<HmacTagger version {self.version}>"

    @property
    def version(self) -> int:
        """The version of the tag key."""
        return self._key.version

    def tag(self, subject: Subject) -> bytes:
        """Return HMAC-SHA-256(key, label || canonical identity)."""
        return hmac.digest(self._key.key, _TAG_LABEL + subject.canonical, "sha256")
