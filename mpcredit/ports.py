"""What the use cases need from the outside, as small Protocols; `chain`, `store`, `keystore` and `books` implement them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from mpcredit.events import Call, Event
from mpcredit.paillier import PrivateKey
from mpcredit.pairkeys import AgreementKey, Realm
from mpcredit.schema import Schema
from mpcredit.tags import TagKeys

__all__ = [
    "AgreementKeys",
    "Block",
    "Book",
    "Keys",
    "Ledger",
    "OutboxRow",
    "Outcome",
    "Signed",
    "Signer",
    "Store",
    "Taken",
    "Version",
]


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


@dataclass(frozen=True)
class Taken:
    """The mined transaction of an account that has a certain nonce."""

    hash: bytes
    block: int


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

    def signed_by(self, transaction: bytes, call: Call) -> str | None:
        """The account whose signature is on a transaction, if that is this call on this chain; None if it is another one, or
        is not to be had. A signature needs no endpoint's word; that it was mined is not looked at.
        """

    def witness(self, head: Block, roster: bytes, *, at_once: bool = False) -> None:
        """Have another endpoint, where there is one, bear out what was read of this one up to a head; now and then.

        Args:
            at_once: whether or not it is time.

        Raises:
            EndpointsDisagree: they show different ledgers; nothing that is read may be acted on.
        """

    def doubt(self, why: str) -> None:
        """The endpoint contradicts itself: read from another one, where there is one."""


class Signer(Protocol):
    """Write to the ledger from one account."""

    @property
    def address(self) -> str:
        """Checksum address of the account."""

    def nonce(self) -> int:
        """Number of transactions the account has sent, mined or known to the node to be under way (R25)."""

    def mined(self) -> int:
        """Number of transactions of the account that are on the ledger."""

    def sign(self, call: Call, nonce: int) -> Signed:
        """Make a transaction. Estimates gas, so it raises the mapped contract error if the call would revert now.

        Raises:
            Refused: the contract would refuse it; `code` is the name of its error.
        """

    def filler(self, nonce: int) -> Signed:
        """Make a transaction that does nothing but use a nonce."""

    def raised(self, signed: bytes) -> Signed | None:
        """The same transaction - nonce, call, gas - with fees raised so far that nodes take it in place of the first.

        Returns:
            None where raising helps nothing: on a ledger without fees.

        Raises:
            FeeTooLow: the operator's ceiling does not permit it.
        """

    def broadcast(self, signed: bytes) -> None:
        """Hand a signed transaction to the node. Sending one that the node knows already is no error.

        Raises:
            FeeTooLow: the node asks for a higher fee.
        """

    def taker(self, nonce: int) -> Taken | None:
        """The mined transaction of the account with this nonce, proven by its signature; None if it cannot be found."""


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
    """As signed last; once one is on the ledger, as that one was signed."""
    tx_hash: bytes
    state: str
    """prepared, sent, mined or failed."""
    block: int | None
    gas_used: int | None


class Version(NamedTuple):
    """One signed version of a step, under the step's nonce."""

    raw: bytes
    tx_hash: bytes
    kind: str = "step"
    """"step": the step's call, with its own fees. "filler": a transaction that does nothing; mined, it fails the step."""


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

    def outbox_update(
        self,
        key: str,
        *,
        state: str,
        block: int | None = None,
        gas_used: int | None = None,
        tx_hash: bytes | None = None,
    ) -> None:
        """Note what became of a step, and of which of its signed versions."""

    def outbox_replace(self, key: str, raw: bytes, tx_hash: bytes, *, kind: str = "step") -> OutboxRow:
        """Keep another signed version of a step, before it is sent; earlier ones are kept too."""

    def outbox_versions(self, key: str) -> list[Version]:
        """All signed versions of a step, oldest first: any of them may be mined."""


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


class Keys(TagKeys, Protocol):
    """The party's own private keys. Every method may raise `KeyStoreError`."""

    def institution_key(self, public: bytes) -> AgreementKey:
        """The X25519 key with this public key: an institution's, or the supervisor's."""

    def keep_inquiry_key(self, key: PrivateKey) -> None:
        """Keep a Paillier key, to be found by the fingerprint of its public key."""

    def inquiry_key(self, fingerprint: str) -> PrivateKey:
        """A kept Paillier key."""

    def destroy_inquiry_key(self, fingerprint: str) -> None:
        """Destroy a kept Paillier key after its retention."""
