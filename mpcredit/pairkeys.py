"""Institution keys, the keys that each pair of institutions shares, and the masks made from them (R9, R10, R18).

    shared  = X25519(own private, other public) || extra         extra leaves room for a post-quantum secret
    pair    = HKDF-SHA256(shared, salt = realm, info = label || use || lower || higher || period)
    mask    = SHAKE256(label || pair mask key || ctx || block), stretched to |n| + 128 bits, mod n

`lower` and `higher` are member id, key version and public key of both ends, in the order of the ids; `period` is version and
public key of the supervisor's period key, so that one period's sealed keys open one period. All of it is in
`info`, so a copied key, or one shifted by a point of low order (which X25519 cannot tell apart), gives a pair other
keys at both ends: its masks cancel nobody's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NoReturn, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_utils.address import is_checksum_address

from mpcredit.encoding import bytes_to_int, int_to_bytes
from mpcredit.errors import InvalidKey

__all__ = [
    "BASE_POINT",
    "MAXIMUM_MEMBERS",
    "AgreementKey",
    "InstitutionKey",
    "KeyRef",
    "PairKeys",
    "PeriodRef",
    "Realm",
    "check_public",
    "derive",
    "mask",
    "mask_sum",
    "reduced",
]

MAXIMUM_MEMBERS: Final = 216
"""Member indices are 0 to 215: as many bits as the ledger's cohort words have."""
BASE_POINT: Final = (9).to_bytes(32, "little")
"""X25519 of a private key with it is the public key (RFC 7748 section 4.1)."""
_KEY_BYTES: Final = 32
_FIELD_PRIME: Final = 2**255 - 19
# The u-coordinates of order 1, 2, 4 and 8 on Curve25519 and its twist, reduced (RFC 7748 section 6.1 and the list
# in https://cr.yp.to/ecdh.html#validate); unreduced spellings are refused as such.
_LOW_ORDER: Final = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD_PRIME - 1,
    }
)
_REALM_LABEL: Final = b"mpcredit/realm/2"
_PAIR_LABEL: Final = b"mpcredit/pair/2/"
_MASK_LABEL: Final = b"mpcredit/mask/2"
_STRETCH_BITS: Final = 128


class AgreementKey(Protocol):
    """An X25519 private key of an institution or the supervisor, wherever it is kept: all that the protocol needs of one.

    It tells its public half and agrees with other public keys. What it is made of it need not be able to show: in a token
    the private bytes never leave it.
    """

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""

    def exchange(self, public: bytes) -> bytes:
        """Compute X25519 with a checked public key, 32 bytes.

        Raises:
            InvalidKey: see `check_public`.
            KeyStoreError: the key is not to be had; `KeyUnavailable` where that may pass by itself. Neither says
                anything about the other public key, nor about whoever sent it.
        """


class InstitutionKey:
    """An X25519 private key in the memory of this process, as key files hold them. Prints as the start of its public key."""

    __slots__ = ("_private", "public")

    public: bytes
    """The public key, 32 bytes."""
    _private: X25519PrivateKey

    def __init__(self, private: X25519PrivateKey) -> None:
        super().__setattr__("_private", private)
        super().__setattr__("public", private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> InstitutionKey:
        """Draw a fresh key."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, data: bytes) -> InstitutionKey:
        """Read 32 private bytes.

        Raises:
            InvalidKey: another length.
        """
        if len(data) != _KEY_BYTES:
            raise InvalidKey("an X25519 private key has 32 bytes")
        return cls(X25519PrivateKey.from_private_bytes(data))

    def private_bytes(self) -> bytes:
        """Return the 32 private bytes, for the keystore alone."""
        return self._private.private_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """Compute X25519 with a checked public key.

        Raises:
            InvalidKey: see `check_public`.
        """
        check_public(public)
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise InvalidKey("an X25519 public key of low order") from error

    def __repr__(self) -> str:
        return f"<InstitutionKey {self.public.hex()[:16]}>"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a private key cannot be changed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled: use the keystore")


def reduced(key: bytes) -> bytes:
    """The canonical spelling of a public key: the top bit dropped, then modulo 2^255 - 19, as X25519 itself reads it."""
    return (int.from_bytes(key, "little") % 2**255 % _FIELD_PRIME).to_bytes(_KEY_BYTES, "little")


@dataclass(frozen=True)
class KeyRef:
    """A public key as registered on the ledger."""

    member: int
    """Index of the member, 0 to 215."""
    version: int
    """Version of the key, from 1."""
    public: bytes
    """The X25519 public key."""

    def __post_init__(self) -> None:
        if not 0 <= self.member < MAXIMUM_MEMBERS:
            raise InvalidKey("a member index is 0 to 215")
        if not 0 <= self.version < 2**32:
            raise InvalidKey("a key version has 32 bits")
        check_public(self.public)

    @property
    def encoded(self) -> bytes:
        """member u8 || version u32 || public key."""
        return int_to_bytes(self.member, 1) + int_to_bytes(self.version, 4) + self.public


@dataclass(frozen=True)
class Realm:
    """The one consortium on one chain that keys and receipts are good for."""

    chain_id: int
    """EIP-155 chain id."""
    consortium: str
    """Address of the Consortium contract, with EIP-55 checksum."""

    def __post_init__(self) -> None:
        if isinstance(self.chain_id, bool) or not isinstance(self.chain_id, int) or not 0 < self.chain_id < 2**53:
            raise InvalidKey("a chain id is an integer from 1 to 2^53 - 1")
        if not isinstance(self.consortium, str) or not is_checksum_address(self.consortium):
            raise InvalidKey("the consortium is an Ethereum address with EIP-55 checksum")

    @cached_property
    def salt(self) -> bytes:
        """SHA-256(label || u256 chain id || 20 address bytes)."""
        address = bytes.fromhex(self.consortium[2:])
        return hashlib.sha256(_REALM_LABEL + int_to_bytes(self.chain_id, 32) + address).digest()


@dataclass(frozen=True)
class PeriodRef:
    """A period key of the supervisor as registered on the ledger."""

    version: int
    public: bytes
    """The X25519 public key."""

    @property
    def encoded(self) -> bytes:
        """version u32 || public key."""
        return int_to_bytes(self.version, 4) + self.public


@dataclass(frozen=True)
class PairKeys:
    """The secrets that two institutions share, one for each use."""

    mask: bytes = field(repr=False)
    """Key of the masks; also sealed to the supervisor (R11)."""
    wrap: bytes = field(repr=False)
    """Key under which one wraps content keys for the other (R16)."""
    audit: bytes = field(repr=False)
    """Key for exchanges about an audit."""
    range: bytes = field(repr=False)
    """Key for range proofs between the two."""


def check_public(key: bytes) -> None:
    """Check an X25519 public key.

    Raises:
        InvalidKey: not 32 bytes, not reduced modulo 2^255 - 19 (one point, two spellings), or of low order.
    """
    if not isinstance(key, bytes) or len(key) != _KEY_BYTES:
        raise InvalidKey("an X25519 public key has 32 bytes")
    u = int.from_bytes(key, "little")
    if u >= _FIELD_PRIME:
        raise InvalidKey("an X25519 public key that is not in its canonical form")
    if u in _LOW_ORDER:
        raise InvalidKey("an X25519 public key of low order", remedy="its owner must register a proper key")


def derive(
    private: AgreementKey, own: KeyRef, other: KeyRef, realm: Realm, period: PeriodRef, extra: bytes = b""
) -> PairKeys:
    """Derive what `own` and `other` share in a period; both ends get the same.

    Args:
        private: the private half of `own`.
        own: this institution.
        other: the other one.
        realm: chain and consortium.
        period: the supervisor's key of the period: the keys of one period open nothing of another.
        extra: a further shared secret (post-quantum), of a length that the protocol fixes; empty for none.

    Raises:
        InvalidKey: `own` is not the key of `private`, both are one member, or a key that `check_public` refuses.
        KeyStoreError: the private key is not to be had.
    """
    if own.public != private.public:
        raise InvalidKey("the registered key of this institution is not that of its private key")
    if own.member == other.member:
        raise InvalidKey("an institution shares no pair keys with itself")
    shared = private.exchange(other.public) + extra
    lower, higher = (own, other) if own.member < other.member else (other, own)
    ends = lower.encoded + higher.encoded + period.encoded

    def expand(use: bytes) -> bytes:
        return HKDF(hashes.SHA256(), _KEY_BYTES, realm.salt, _PAIR_LABEL + use + ends).derive(shared)

    return PairKeys(mask=expand(b"mask"), wrap=expand(b"wrap"), audit=expand(b"audit"), range=expand(b"range"))


def mask(mask_key: bytes, ctx: bytes, block: int, n: int) -> int:
    """Compute the mask of one pair for one block: within 2^-128 of uniform modulo n, whatever n is.

    Args:
        mask_key: the pair's mask key, 32 bytes.
        ctx: hash of all that the cohort must agree on, 32 bytes.
        block: index of the ciphertext block.
        n: the inquiry's modulus.
    """
    if len(mask_key) != _KEY_BYTES or len(ctx) != 32:
        raise ValueError("a mask key and a ctx have 32 bytes each")
    width = (n.bit_length() + _STRETCH_BITS + 7) // 8
    data = _MASK_LABEL + mask_key + ctx + int_to_bytes(block, 4)
    return bytes_to_int(hashlib.shake_256(data).digest(width)) % n


def mask_sum(own: int, mask_keys: Mapping[int, bytes], ctx: bytes, block: int, n: int) -> int:
    """Sum the masks of one member: added where it has the lower index, subtracted where the higher.

    Over a cohort the sums of all members add up to 0 modulo n.

    Args:
        own: index of the member.
        mask_keys: mask key by index of the other member, for every other member of the cohort.
        ctx: see `mask`.
        block: see `mask`.
        n: see `mask`.
    """
    if own in mask_keys:
        raise ValueError("a member has no mask with itself")
    total = 0
    for other, key in mask_keys.items():
        value = mask(key, ctx, block, n)
        total += value if own < other else -value
    return total % n
