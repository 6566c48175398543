"""Tags: keyed pseudonyms of subjects, and the chain that leads from a tag to the one under the next key (R4).

    tag_1 = HMAC-SHA-256(key_1, label || canonical identity)
    tag_v = HMAC-SHA-256(key_v, label || tag_(v-1))

So a member raises every tag that it keeps to the newest key without the identity, and tags of all versions are compared
under the newest one. A member that left has no later key, and cannot follow.

An HMAC tag hides a subject only from those without the key: any member, or a thief of the key, can try all identity
numbers (10^9 in half an hour on one core). `Tagger` is the interface behind which a threshold OPRF can take its place.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from mpcredit.encoding import int_to_bytes, to_hex
from mpcredit.errors import InvalidKey, KeyStoreError
from mpcredit.identity import Subject

__all__ = ["TAG_BYTES", "HmacTagger", "TagKey", "TagKeys", "Tagger", "tagger_of"]

TAG_BYTES: Final = 32
_KEY_LABEL: Final = b"mpcredit/tagkey/2"
_TAG_LABEL: Final = b"mpcredit/tag/2"


class Tagger(Protocol):
    """Turns subjects into tags; all members of a consortium compute the same tag for the same subject."""

    @property
    def version(self) -> int:
        """The version of the newest tag key that it has."""
        ...

    def tag(self, subject: Subject) -> bytes:
        """Return the 32-byte tag of a subject under the newest tag key."""
        ...

    def tags(self, subject: Subject) -> tuple[bytes, ...]:
        """Return the tags of a subject under every version, version 1 first: what inquiries of all times may name."""
        ...

    def later(self, tag: bytes, version: int) -> tuple[bytes, ...]:
        """Return the given tag, which is under `version`, and the tags of its subject under each later version.

        Raises:
            InvalidKey: there is no such version, or it is later than the newest one here.
        """
        ...

    def raised(self, tag: bytes, version: int) -> bytes:
        """Return the tag under the newest tag key of the subject whose tag under `version` is given.

        Raises:
            InvalidKey: there is no such version, or it is later than the newest one here.
        """
        ...


@dataclass(frozen=True)
class TagKey:
    """One version of the consortium's tag key; every member holds all versions, the ledger holds each `commitment`."""

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
    """Tags by the chain of HMACs that the module states (R4).

    Args:
        keys: every version of the consortium's tag key, from 1 to the newest.

    Raises:
        InvalidKey: a version is missing, doubled or out of order: without it no later tag can be computed.
    """

    def __init__(self, *keys: TagKey) -> None:
        if not keys or [key.version for key in keys] != list(range(1, len(keys) + 1)):
            raise InvalidKey("a tag is computed with the tag keys of all versions, from 1 to the newest")
        self._keys = keys

    def __repr__(self) -> str:
        return f"<HmacTagger version {self.version}>"

    @property
    def version(self) -> int:
        """The version of the newest tag key."""
        return len(self._keys)

    def tag(self, subject: Subject) -> bytes:
        """Return the subject's tag under the newest tag key."""
        return self.tags(subject)[-1]

    def tags(self, subject: Subject) -> tuple[bytes, ...]:
        """Return the subject's tags under every version, version 1 first."""
        return self.later(_next(self._keys[0], subject.canonical), 1)

    def later(self, tag: bytes, version: int) -> tuple[bytes, ...]:
        """Return the given tag, which is under `version`, and the tags of its subject under each later version.

        Raises:
            InvalidKey: there is no such version, or it is later than the newest one here.
        """
        if not 1 <= version <= self.version:
            raise InvalidKey(f"a tag under tag key {version} cannot be raised to tag key {self.version}")
        found = [tag]
        for key in self._keys[version:]:
            found.append(_next(key, found[-1]))
        return tuple(found)

    def raised(self, tag: bytes, version: int) -> bytes:
        """Return the newest tag of the subject whose tag under `version` is given.

        Raises:
            InvalidKey: there is no such version, or it is later than the newest one here.
        """
        return self.later(tag, version)[-1]


def _next(key: TagKey, before: bytes) -> bytes:
    """HMAC-SHA-256(key, label || what comes before in the chain): the canonical identity, or the tag under the key before."""
    return hmac.digest(key.key, _TAG_LABEL + before, "sha256")


class TagKeys(Protocol):
    """Where a party keeps the tag keys. Every method may raise `KeyStoreError`."""

    def tag_versions(self) -> tuple[int, ...]:
        """Versions of the tag key at hand, ascending."""
        ...

    def tag_key(self, version: int) -> TagKey:
        """The tag key of a version."""
        ...


def require_versions(versions: Iterable[int], newest: int) -> None:
    """See that all tag keys up to the newest are among the versions at hand.

    Raises:
        KeyStoreError: some are not.
    """
    missing = sorted(set(range(1, newest + 1)) - set(versions))
    if missing:
        raise KeyStoreError(
            f"the consortium's tag key of version {' and '.join(map(str, missing))} is not at hand",
            remedy="get all versions from another member, in one file, and keep them with `mpcredit keys tag --import FILE`",
        )


def tagger_of(keys: TagKeys, in_force: Mapping[int, bytes]) -> HmacTagger:
    """Make the tagger of the newest tag key; it takes the keys of all versions.

    Args:
        keys: of the party.
        in_force: commitments by version, as the ledger shows them (`Follower.tag_keys`).

    Raises:
        KeyStoreError: a version is not at hand, or is another key than the consortium's; with that, every answer would be
            zero.
    """
    versions = set(keys.tag_versions())
    newest = max(in_force) if in_force else max(versions, default=1)
    require_versions(versions, newest)
    found = [keys.tag_key(version) for version in range(1, newest + 1)]
    for key in found:
        if in_force and in_force[key.version] != key.commitment:
            raise KeyStoreError(
                f"the tag key of version {key.version} is not the consortium's: its commitment is "
                f"{to_hex(key.commitment)}, the ledger has {to_hex(in_force[key.version])}",
                remedy=f"destroy it (`mpcredit keys destroy tag {key.version} --yes`) and import what the other members have",
            )
    return HmacTagger(*found)
