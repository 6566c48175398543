"""What the use cases need from the outside, as small Protocols; `chain`, `store`, `keystore` and `books` implement them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from mpcredit.events import Call, Event
from mpcredit.paillier import PrivateKey
from mpcredit.pairkeys import AgreementKey, Realm
from mpcredit.schema import Schema

__all__ = ["AgreementKeys", "Block", "Book", "Keys", "Ledger", "OutboxRow", "Outcome", "Signed", "Signer", "Store"]


@dataclass(frozen=True)
class Block:
    """A block of the ledger."""

    number: int
    hash: bytes
    timestamp: int
    """Unix seconds."""


@dataclass(frozen=True)
class Signed:
    """A signed transaction, ready to be sent any number of times."""

    raw: bytes
    hash: bytes
    nonce: int


@dataclass(frozen=True)
class Outcome:
    """What became of a transaction."""

    succeeded: bool
    block: int
    gas_used: int


class Ledger(Protocol):
    """Read the ledger. Every method may raise `LedgerError`."""

    @property
    def realm(self) -> Realm:
        """Chain id and Consortium address."""

    def head(self) -> Block:
        """The newest block."""

    def block(self, number: int) -> Block | None:
        """The block at a height, None above the head. Compare its hash to notice a reorganisation."""

    def first_block(self) -> int:
        """The block in which the Consortium was created, or an earlier one."""

    def events(self, first: int, last: int) -> Sequence[Event]:
        """All events of the Consortium and of every JointCredit it has created, in ledger order, both ends included.

        Logs of other contracts and of JointCredits the Consortium has not created are left out.
        """

    def outcome(self, transaction: bytes) -> Outcome | None:
        """What became of a transaction, None while it is not mined."""

    def transaction(self, transaction: bytes) -> bytes:
        """The signed transaction, RLP as sent, whose keccak is its hash (for evidence)."""


class Signer(Protocol):
    """Write to the ledger from one account."""

    @property
    def address(self) -> str:
        """Checksum address of the account."""

    def nonce(self) -> int:
        """Number of transactions the account has sent, mined or known to the node to be under way (R25)."""

    def sign(self, call: Call, nonce: int) -> Signed:
        """Make a transaction. Estimates gas, so it raises the mapped contract error if the call would revert now.

        Raises:
            Refused: the contract would refuse it; `code` is the name of its error.
        """

    def broadcast(self, signed: bytes) -> None:
        """Hand a signed transaction to the node. Sending one that the node knows already is no error."""


class Book(Protocol):
    """An institution's own figures by subject tag."""

    @property
    def as_of(self) -> int:
        """Unix seconds as of which the figures hold."""

    @property
    def currency(self) -> str:
        """ISO 4217 code of all amounts."""

    def record(self, schema: Schema, tag: bytes) -> Mapping[str, int]:
        """The figures of a subject in minor units, all zero for who is not a customer; equal work for both."""


@dataclass(frozen=True)
class OutboxRow:
    """One ledger step of this institution."""

    key: str
    """Names the step, once for ever: for example "answer/0x…"."""
    nonce: int
    call: Mapping[str, Any]
    """For people; what is sent is `raw`."""
    raw: bytes
    tx_hash: bytes
    state: str
    """prepared, sent, mined or failed."""
    block: int | None
    gas_used: int | None


class Store(Protocol):
    """The institution's own store. Every method may raise `StoreError`; values are JSON objects."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing; nested ones join."""

    def insert(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store once.

        Raises:
            AlreadyStored: there is a value under (kind, key).
        """

    def put(self, kind: str, key: str, value: Mapping[str, Any]) -> None:
        """Store or replace."""

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """Read one value."""

    def items(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """All values of a kind, in the order of their first insertion."""

    def delete(self, kind: str, key: str) -> None:
        """Forget one value."""

    def next_nonce(self) -> int:
        """One above the highest nonce in the outbox, 0 if it is empty."""

    def outbox_add(self, key: str, nonce: int, call: Mapping[str, Any], raw: bytes, tx_hash: bytes) -> OutboxRow:
        """Add a step in state prepared."""

    def outbox_by_key(self, key: str) -> OutboxRow | None:
        """Read one step."""

    def outbox_pending(self) -> list[OutboxRow]:
        """Steps that are neither mined nor failed, by nonce."""

    def outbox_below(self, nonce: int) -> OutboxRow | None:
        """The step with the highest nonce below one, None if there is none."""

    def outbox_update(self, key: str, *, state: str, block: int | None = None, gas_used: int | None = None) -> None:
        """Note what became of a step."""


class AgreementKeys(Protocol):
    """Where a party's institution and supervisor keys are: key files, or a token. Every method may raise `KeyStoreError`.

    A key has a kind ("institution" or "supervisor") and a version, which is this place's label; others know it by its
    public half. The place makes its keys itself.
    """

    def unlock(self) -> None:
        """Ask for passphrase or PIN now, so that later calls need no one.

        Raises:
            WrongPassphrase: it is another one.
        """

    def create(self, kind: str, version: int) -> AgreementKey:
        """Make the key of a version; refuses when there is one."""

    def versions(self, kind: str) -> dict[int, bytes]:
        """Public keys by version, ascending; read without passphrase or PIN where the place permits it."""

    def find(self, public: bytes) -> AgreementKey | None:
        """The key with this public half, proven to have it; None if it is not here."""

    def destroy(self, public: bytes) -> bool:
        """Destroy the key with this public half; False if it is not here."""


class Keys(Protocol):
    """The party's own private keys. Every method may raise `KeyStoreError`."""

    def institution_key(self, public: bytes) -> AgreementKey:
        """The X25519 key with this public key: an institution's, or the supervisor's."""

    def keep_inquiry_key(self, key: PrivateKey) -> None:
        """Keep a Paillier key, to be found by the fingerprint of its public key."""

    def inquiry_key(self, fingerprint: str) -> PrivateKey:
        """A kept Paillier key."""

    def destroy_inquiry_key(self, fingerprint: str) -> None:
        """Destroy a kept Paillier key after its retention."""
