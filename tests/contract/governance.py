"""A council: the Consortium contract on an in-process chain, and the people who act on it.

`council.send(account, "vote", 1, digest)` mines a transaction; `council.refusal(account, "vote", 1, digest)` says with
which typed error the contract refuses it, as a tuple (name, *arguments), or None if it does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_abi.abi import decode, encode
from eth_tester.exceptions import TransactionFailed
from eth_utils import keccak, to_checksum_address
from eth_utils.abi import get_abi_input_types
from onchain import GAS, PERIOD, Chain, Deployed, artifact, revert_data, shown, stand_in_code

HOUR = 3600
DAY = 24 * HOUR
SUPERVISOR = 255
ZERO = "0x" + 40 * "0"
ZERO_32 = bytes(32)

PARAMETERS: dict[str, int] = {
    "minimumCohort": 4,
    "minimumModulusBits": 2048,
    "answerSeconds": 600,
    "reportSeconds": 3600,
    "silenceSeconds": 60,
    "windowSeconds": 30 * DAY,
    "cooldownSeconds": DAY,
    "repeatSeconds": 600,
    "delaySeconds": 2 * HOUR,
    "subjectsPerDay": 1000,
    "bookAgeSeconds": 7 * DAY,
}
CHANGE_TYPES = {
    "Founded": "uint64 uint8",
    "MemberInvited": "uint8 address string",
    "MemberConfirmed": "uint8",
    "MemberRemoved": "uint8",
    "OwnerReplaced": "uint8 address",
    "AccountNamed": "uint8 address address uint16 bytes32 bytes",
    "AccountTaken": "uint8 address",
    "KeySet": "uint8 uint32 bytes32 bool bytes",
    "MemberAudited": "uint8 uint32 uint32",
    "MemberSuspended": "uint8",
    "MemberReinstated": "uint8",
    "GroupSet": "uint8 uint256",
    "SupervisorAdded": "address",
    "SupervisorRemoved": "address",
    "PeriodKeyAnnounced": "uint32 bytes32 address bytes",
    "PeriodKeyInForce": "uint32",
    "PeriodKeyEnded": "uint32",
    "TagKeySet": "uint32 bytes32",
    "TermsChanged": "uint8 uint16 uint32 uint32 uint32 uint32 uint32 uint32 uint32 uint32 uint32",
    "SchemaSet": "uint16 bytes32",
    "JointCreditApproved": "bytes32",
    "JointCreditSet": "address",
}
CHANGES = list(CHANGE_TYPES)
SCHEMA_1 = b'{"id":1}'


@dataclass(frozen=True)
class Bank:
    """An institution's accounts, its X25519 keys by version and its tenures by number."""

    index: int
    name: str
    owner: str
    account: str
    """The service account."""

    def key(self, version: int = 1) -> bytes:
        """The public institution key of a version."""
        return x25519_public(f"{self.name}/{version}")

    def tenure(self, number: int = 1) -> bytes:
        """The tenure of the store that the bank has for the number-th time."""
        return keccak(text=f"{self.name}/tenure/{number}")


def period_key(version: int) -> bytes:
    """The public key of a supervisor for a period."""
    return x25519_public(f"period/{version}")


def x25519_public(seed: str) -> bytes:
    """A public key whose private key is the hash of a name: for tests only."""
    return X25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest()).public_key().public_bytes_raw()


class Council(Deployed):
    """A consortium and its people.

    Of the chain's accounts, 0 deploys and plays no other part; 1 to 3 own supervisors, whose service accounts are 28 to
    30; from 4 on each bank has its owner and its service account; 31 to 38 are free, and 39 is nobody's.
    """

    def __init__(
        self,
        chain: Chain,
        invited: int = 6,
        joint_credit: bytes | None = None,
        made: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        """`made`: a variant of the contract, in place of the one that ships; `changes`: of the founding."""
        self.deployer = chain.accounts[0]
        self.supervisor, self.second_supervisor, self.third_supervisor = chain.accounts[1:4]
        self.supervisor_account = chain.accounts[28]
        self.service = dict(zip(chain.accounts[1:4], chain.accounts[28:31], strict=True))
        self.spare = chain.accounts[31:39]
        self.outsider = chain.accounts[39]
        self.banks = [
            Bank(i, f"Bank {chr(65 + i)}", chain.accounts[4 + 2 * i], chain.accounts[5 + 2 * i]) for i in range(12)
        ]
        self.joint_credit_code = stand_in_code() if joint_credit is None else joint_credit
        self.founding = {
            "name": "River valley",
            "founders": [(b.owner, b.name) for b in self.banks[:invited]],
            "supervisors": [self.supervisor],
            "schemas": [(1, SCHEMA_1)],
            "parameters": tuple({**PARAMETERS, **changes.pop("parameters", {})}.values()),
            "opensFrom": 0,
            "periodSeconds": PERIOD,
            "jointCreditInitCodeHash": keccak(self.joint_credit_code),
            "tagKeyCommitment": keccak(b"tag key 1"),
            **changes,
        }
        made = made or artifact("Consortium")
        constructor = next(e for e in made["abi"] if e["type"] == "constructor")
        self.creation = bytes.fromhex(made["bytecode"][2:]) + encode(
            get_abi_input_types(constructor), [tuple(self.founding.values())]
        )
        super().__init__(chain, made["abi"], ZERO)

    def deploy(self) -> Council:
        """Create the contract."""
        self.receipt = self.chain.transact(self.deployer, "", self.creation)
        self.address = to_checksum_address(self.receipt["contract_address"])
        return self

    def refusal_to_found(self) -> tuple[Any, ...] | None:
        """The error with which the constructor refuses the founding."""
        request = {"from": self.deployer, "data": "0x" + self.creation.hex(), "gas": GAS, "gas_price": 10**9, "to": ""}
        try:
            self.chain.tester.call(request)
        except TransactionFailed as failure:
            return self.error(revert_data(failure))
        return None

    # ------------------------------------------------------------ statements

    def statement(self, member: int, version: int, key: bytes, previous: bytes) -> bytes:
        """R9, written a second time: what an owner signs for a key."""
        return self._labelled(
            b"mpcredit/key/2", ["uint8", "uint32", "bytes32", "bytes32"], [member, version, key, previous]
        )

    def signed_key(self, account: str, member: int, version: int, key: bytes, previous: bytes = ZERO_32) -> bytes:
        """An account's signature for a key."""
        return self.chain.sign(account, self.statement(member, version, key, previous))

    def account_statement(self, party: int, owner: str, account: str, number: int, tenure: bytes) -> bytes:
        """What an owner signs for the naming of its service account, written a second time."""
        return self._labelled(
            b"mpcredit/account/2",
            ["uint8", "address", "address", "uint16", "bytes32"],
            [party, owner, account, number, tenure],
        )

    def signed_account(self, owner: str, party: int, account: str, number: int = 1, tenure: bytes = ZERO_32) -> bytes:
        """An owner's signature for the naming of its service account."""
        return self.chain.sign(owner, self.account_statement(party, owner, account, number, tenure))

    def _labelled(self, label: bytes, types: list[str], values: list[Any]) -> bytes:
        where = [label.ljust(32, b"\0"), self.chain.backend.chain.chain_id, self.address]
        return keccak(encode(["bytes32", "uint256", "address", *types], [*where, *values]))

    # ------------------------------------------------------------ a member's own

    def confirmation(self, bank: Bank) -> tuple[Any, ...]:
        """The arguments of `confirm`: the first key and the naming of the service account, both signed."""
        key, tenure = bank.key(), bank.tenure()
        signed = self.signed_account(bank.owner, bank.index, bank.account, 1, tenure)
        return bank.index, key, self.signed_key(bank.owner, bank.index, 1, key), bank.account, tenure, signed

    def confirm(self, bank: Bank) -> dict[str, Any]:
        """A bank confirms its record with its first key and its service account."""
        return self.send(bank.owner, "confirm", *self.confirmation(bank))

    def rotate(self, bank: Bank, version: int, compromised: bool = False) -> dict[str, Any]:
        """A bank replaces its key."""
        signature = self.signed_key(bank.owner, bank.index, version, bank.key(version), bank.key(version - 1))
        return self.send(bank.owner, "rotateKey", bank.index, bank.key(version), compromised, signature)

    def naming(self, bank: Bank, account: str, number: int, tenure: bytes) -> tuple[Any, ...]:
        """The arguments of `nameAccount` for a bank."""
        signature = self.signed_account(bank.owner, bank.index, account, number, tenure)
        return bank.index, account, tenure, signature

    def name_account(self, bank: Bank, account: str, number: int, tenure: bytes) -> dict[str, Any]:
        """A bank names its service account for the number-th time."""
        return self.send(bank.owner, "nameAccount", *self.naming(bank, account, number, tenure))

    def ready(self, members: Sequence[int], ready: bool = True) -> None:
        """These banks switch readiness on (or off), and the period comes from which on that counts."""
        for index in members:
            self.send(self.banks[index].account, "setReady", index, ready)
        self.chain.next_period(self.founding["periodSeconds"])

    # ------------------------------------------------------------ a supervisor's own

    def name_supervisor_account(self, owner: str, account: str, number: int = 1) -> dict[str, Any]:
        """A supervisor names its service account for the number-th time."""
        signature = self.signed_account(owner, SUPERVISOR, account, number)
        return self.send(owner, "nameAccount", SUPERVISOR, account, ZERO_32, signature)

    def announce(self, version: int, owner: str | None = None) -> dict[str, Any]:
        """A supervisor announces the period key of this version."""
        owner = owner or self.supervisor
        key, previous = period_key(version), period_key(version - 1) if version > 1 else ZERO_32
        return self.send(owner, "announcePeriodKey", key, self.signed_key(owner, SUPERVISOR, version, key, previous))

    def audit(self, members: Sequence[int], version: int = 1, period: int = 1, owner: str | None = None) -> None:
        """The supervisor finds that these banks' keys of a version agree with all others under a period key."""
        owner = owner or self.supervisor
        for index in members:
            self.send(self.service[owner], "auditOk", owner, index, version, period)

    def put_in_force(self, version: int, owner: str | None = None) -> dict[str, Any]:
        """The supervisor puts its announced key in force."""
        owner = owner or self.supervisor
        return self.send(self.service[owner], "putPeriodKeyInForce", owner, version)

    def found(self, members: int = 5) -> Council:
        """The first banks confirm, are audited under period key 1, which comes into force, and create the JointCredit."""
        for bank in self.banks[:members]:
            self.confirm(bank)
        self.name_supervisor_account(self.supervisor, self.supervisor_account)
        self.announce(1)
        self.audit(range(members))
        self.put_in_force(1)
        self.send(self.outsider, "createJointCredit", self.joint_credit_code)
        return self

    # ------------------------------------------------------------ the roster

    def changes(self, receipt: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The changes of the roster in a receipt: (kind, *values)."""
        links = [values for name, *values in self.events(receipt) if name == "RosterChanged"]
        return [(CHANGES[kind], *shown(decode(CHANGE_TYPES[CHANGES[kind]].split(), data))) for _, kind, data in links]

    # ------------------------------------------------------------ proposals

    def propose(self, *calls: bytes, by: int = 0) -> tuple[int, bytes]:
        """A bank proposes; returns the proposal's number and the hash of its calls."""
        receipt = self.send(self.banks[by].owner, "propose", list(calls), "because")
        number, _, digest, _, _ = self.event(receipt, "Proposed")
        return number, digest

    def agree(self, proposal: int, digest: bytes, voters: Sequence[int]) -> None:
        """These banks vote for a proposal."""
        for index in voters:
            self.send(self.banks[index].owner, "vote", proposal, digest)

    def settled(self, *calls: bytes, voters: Sequence[int] = range(4), supervisor: str | None = None) -> int:
        """Propose, vote, approve and let the delay pass; only the execution is left."""
        proposal, digest = self.propose(*calls)
        self.agree(proposal, digest, voters)
        self.send(supervisor or self.supervisor, "approve", proposal, digest)
        self.chain.travel(PARAMETERS["delaySeconds"])
        return proposal

    def decide(self, *calls: bytes, voters: Sequence[int] = range(4)) -> dict[str, Any]:
        """A proposal from the beginning to its execution."""
        proposal = self.settled(*calls, voters=voters)
        return self.send(self.outsider, "execute", proposal, list(calls), self.supervisor)

    def refusal_to_decide(self, *calls: bytes, voters: Sequence[int] = range(4)) -> tuple[Any, ...] | None:
        """The error with which the execution of these calls is refused; that of a failed call itself, if one failed."""
        proposal = self.settled(*calls, voters=voters)
        refused = self.refusal(self.outsider, "execute", proposal, list(calls), self.supervisor)
        return self.error(refused[2]) if refused and refused[0] == "CallFailed" else refused

    # ------------------------------------------------------------ JointCredit

    def from_joint_credit(self, function: str, *arguments: Any) -> dict[str, Any]:
        """Let the current stand-in for JointCredit send something."""
        return self.chain.transact(self.outsider, self.read("jointCredit"), self.encoded(function, *arguments))

    def terms(self, bank: int = 0, group: int = 0, schema: int = 1, joint_credit: str | None = None) -> Any:
        """What `openingTerms` answers the (stand-in for) JointCredit: the struct, or the error."""
        data = self.encoded("openingTerms", bank, self.banks[bank].account, group, schema)
        try:
            answer = self.chain.call(self.outsider, joint_credit or self.read("jointCredit"), data)
        except TransactionFailed as failure:
            return self.error(revert_data(failure))
        return self._decoded(self.functions["openingTerms"]["outputs"], answer)


def bitmap(*members: int) -> int:
    """The set of these members."""
    return sum(1 << member for member in members)


@cache
def _council(members: int) -> Council:
    council = Council(Chain()).deploy()
    return council.found(members) if members else council


@contextmanager
def founded_council() -> Iterator[Council]:
    """Six founders; Banks A to E have confirmed and are audited for the key in force, F has not; a stand-in is the
    JointCredit; nobody is ready."""
    council = _council(5)
    with council.chain.undone():
        yield council


@contextmanager
def invited_council() -> Iterator[Council]:
    """Six founders, none of which has confirmed yet; no JointCredit, no period key, no service account."""
    council = _council(0)
    with council.chain.undone():
        yield council
