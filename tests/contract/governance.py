"""A council: the Consortium contract on an in-process chain, and the people who act on it.

`council.send(account, "vote", 1, digest)` mines a transaction; `council.refusal(account, "vote", 1, digest)` says with
which typed error the contract refuses it, as a tuple (name, *arguments), or None if it does not. Errors and events are
decoded from the ABI alone.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed
from eth_utils import event_abi_to_log_topic, function_abi_to_4byte_selector, is_address, keccak, to_checksum_address
from eth_utils.abi import get_abi_input_types

ROOT = Path(__file__).resolve().parents[2]
_specification = importlib.util.spec_from_file_location("compile_tool", ROOT / "tools" / "compile.py")
assert _specification is not None
assert _specification.loader is not None
compile_tool = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(compile_tool)

# The well-known mnemonic of test chains: every key below is public.
PUBLIC_TEST_MNEMONIC = "test test test test test test test test test test test junk"
ACCOUNTS = 40
HOUR = 3600
DAY = 24 * HOUR
SUPERVISOR = 255
ZERO = "0x" + 40 * "0"
ZERO_32 = bytes(32)
GAS = 15_000_000

PARAMETERS: dict[str, int] = {
    "minimumCohort": 4,
    "minimumModulusBits": 2048,
    "answerSeconds": 600,
    "reportSeconds": 3600,
    "windowSeconds": 30 * DAY,
    "cooldownSeconds": DAY,
    "subjectsPerDay": 1000,
    "bookAgeSeconds": 7 * DAY,
    "delaySeconds": 2 * HOUR,
}
CHANGE_TYPES = {
    "MemberInvited": "uint8 address address string",
    "MemberConfirmed": "uint8",
    "MemberRemoved": "uint8",
    "OwnerReplaced": "uint8 address",
    "OperatorSet": "uint8 address bool",
    "KeySet": "uint8 uint32 bytes32 bytes",
    "MemberAudited": "uint8 uint32",
    "MemberSuspended": "uint8",
    "MemberReinstated": "uint8",
    "GroupSet": "uint8 uint256",
    "SupervisorAdded": "address",
    "SupervisorRemoved": "address",
    "SupervisorKeySet": "uint32 bytes32 address bytes",
    "TagKeySet": "uint32 bytes32",
    "TermsSet": "uint8 uint16 uint32 uint32 uint32 uint32 uint32 uint32 uint32",
    "SchemaSet": "uint16 bytes32",
    "JointCreditSet": "address",
}
CHANGES = list(CHANGE_TYPES)
SCHEMA_1 = b'{"id":1}'


@cache
def artifact(name: str) -> dict[str, Any]:
    """A contract that ships, or a harness; compiled here if the sources are newer than what was written."""
    for folder in (compile_tool.SHIPPED, compile_tool.HARNESSES):
        place = folder / f"{name}.json"
        if place.exists():
            found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            if compile_tool.is_fresh(found):
                return found
    made, _ = compile_tool.compile_contracts([name])
    # What ships is written by `make artifacts` alone, so that a check can find it stale.
    compile_tool.write({source: a for source, a in made.items() if source.startswith("test/")})
    return next(a for a in made.values() if a["contractName"] == name)


def stand_in_code(salt: bytes = b"") -> bytes:
    """Init code of a stand-in for JointCredit, which forwards what it is sent; `salt` only changes its hash."""
    return bytes.fromhex(artifact("JointCreditStandIn")["bytecode"][2:]) + salt


@dataclass(frozen=True)
class Bank:
    """An institution's accounts and its X25519 keys by version."""

    index: int
    name: str
    owner: str
    operator: str

    def key(self, version: int = 1) -> bytes:
        """The public institution key of a version."""
        return x25519_public(f"{self.name}/{version}")


def x25519_public(seed: str) -> bytes:
    """A public key whose private key is the hash of a name: for tests only."""
    return X25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest()).public_key().public_bytes_raw()


class Chain:
    """An in-process chain with accounts whose keys are public."""

    def __init__(self) -> None:
        self.backend = PyEVMBackend.from_mnemonic(PUBLIC_TEST_MNEMONIC, num_accounts=ACCOUNTS)
        self.tester = EthereumTester(self.backend)
        self.accounts = [to_checksum_address(a) for a in self.tester.get_accounts()]
        self.keys = {key.public_key.to_checksum_address(): key for key in self.backend.account_keys}

    def now(self) -> int:
        """Time of the newest block."""
        return int(self.tester.get_block_by_number("latest")["timestamp"])

    def travel(self, seconds: int) -> None:
        """Mine a block that much later. A call is answered as of it, a transaction comes one second after it."""
        # eth-tester mines a block one second before the time it is given.
        self.tester.time_travel(self.now() + seconds + 1)

    def transact(self, account: str, to: str, data: bytes) -> dict[str, Any]:
        """Mine a transaction and return its receipt; raises if it failed."""
        request = {"from": account, "data": "0x" + data.hex(), "gas": GAS, "gas_price": 10**9}
        if to:
            request["to"] = to
        receipt = self.tester.get_transaction_receipt(self.tester.send_transaction(request))
        if receipt["status"] != 1:
            raise AssertionError("the transaction failed; ask refusal() why")
        return receipt

    def call(self, account: str, to: str, data: bytes) -> bytes:
        """Call without a transaction; raises TransactionFailed with the revert data."""
        request = {"from": account, "to": to, "data": "0x" + data.hex(), "gas": GAS, "gas_price": 10**9}
        return bytes.fromhex(self.tester.call(request)[2:])

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Whatever happens inside has not happened afterwards."""
        snapshot = self.tester.take_snapshot()
        # The pending block has the clock's time of when the one before it was mined, which may be minutes ago: two empty
        # blocks bring the chain to now, so that no time passes inside that a test does not ask for.
        self.tester.mine_blocks(2)
        try:
            yield
        finally:
            self.tester.revert_to_snapshot(snapshot)

    def sign(self, account: str, statement: bytes) -> bytes:
        """EIP-191 signature of 32 bytes."""
        return bytes(Account.sign_message(encode_defunct(primitive=statement), self.keys[account].to_bytes()).signature)


class Deployed:
    """A contract at an address, spoken to by the names in its ABI."""

    def __init__(self, chain: Chain, abi: Sequence[dict[str, Any]], address: str) -> None:
        self.chain = chain
        self.address = address
        self.functions = {e["name"]: e for e in abi if e["type"] == "function"}
        self._errors = {function_abi_to_4byte_selector(e): e for e in abi if e["type"] == "error"}
        self._events = {event_abi_to_log_topic(e): e for e in abi if e["type"] == "event"}

    def encoded(self, function: str, *arguments: Any) -> bytes:
        """Calldata."""
        abi = self.functions[function]
        return function_abi_to_4byte_selector(abi) + encode(get_abi_input_types(abi), arguments)

    def send(self, account: str, function: str, *arguments: Any) -> dict[str, Any]:
        """Mine a transaction."""
        return self.chain.transact(account, self.address, self.encoded(function, *arguments))

    def read(self, function: str, *arguments: Any, account: str | None = None) -> Any:
        """What a view (or the transaction, without sending it) returns: one value, a tuple, or a dict for a struct."""
        abi = self.functions[function]
        data = self.chain.call(account or self.chain.accounts[0], self.address, self.encoded(function, *arguments))
        return self._decoded(abi["outputs"], data)

    def refusal(self, account: str, function: str, *arguments: Any) -> tuple[Any, ...] | None:
        """The error by which the contract refuses this, with its arguments; None if it does not."""
        return self.refusal_of(account, self.encoded(function, *arguments))

    def refusal_of(self, account: str, data: bytes, *, through: str | None = None) -> tuple[Any, ...] | None:
        """The same for calldata, sent to another contract that passes this one's errors on, if `through` names one."""
        try:
            self.chain.call(account, through or self.address, data)
        except TransactionFailed as failure:
            return self.error(_revert_data(failure))
        return None

    def error(self, data: bytes) -> tuple[Any, ...]:
        """An error by its revert data."""
        if data[:4] not in self._errors:
            return ("", data)
        abi = self._errors[data[:4]]
        return (abi["name"], *_shown(decode(get_abi_input_types(abi), data[4:])))

    def events(self, receipt: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The events of this contract in a receipt: (name, *values in the order of the ABI)."""
        found = []
        for log in receipt["logs"]:
            topics = [bytes.fromhex(t[2:]) for t in log["topics"]]
            if to_checksum_address(log["address"]) != self.address or topics[0] not in self._events:
                continue
            abi = self._events[topics[0]]
            types = get_abi_input_types(abi)
            inputs = list(zip(types, abi["inputs"], strict=True))
            indexed = iter(topics[1:])
            plain = iter(decode([t for t, i in inputs if not i["indexed"]], bytes.fromhex(log["data"][2:])))
            values = [decode([t], next(indexed))[0] if i["indexed"] else next(plain) for t, i in inputs]
            found.append((abi["name"], *_shown(values)))
        return found

    def event(self, receipt: dict[str, Any], name: str) -> tuple[Any, ...]:
        """The one event of this name in a receipt, without its name."""
        [values] = [values for found, *values in self.events(receipt) if found == name]
        return tuple(values)

    def _decoded(self, outputs: list[dict[str, Any]], data: bytes) -> Any:
        values = decode(get_abi_input_types({"type": "function", "name": "", "inputs": outputs}), data)
        shown = [
            dict(zip([c["name"] for c in output["components"]], _shown(value), strict=True))
            if "components" in output
            else value
            for output, value in zip(outputs, _shown(values), strict=True)
        ]
        return shown[0] if len(shown) == 1 else tuple(shown)


def _shown(values: Sequence[Any]) -> tuple[Any, ...]:
    """The values, with addresses in checksum form."""
    return tuple(to_checksum_address(v) if isinstance(v, str) and is_address(v) else v for v in values)


def _revert_data(failure: TransactionFailed) -> bytes:
    """eth-tester shows revert data as the repr of bytes, in the message."""
    message = str(failure)
    return ast.literal_eval(message) if message.startswith(("b'", 'b"')) else message.encode()


class Council(Deployed):
    """A consortium and its people. Account 0 deploys and plays no other part; 1 to 3 may supervise; 39 is nobody."""

    def __init__(self, chain: Chain, invited: int = 6, joint_credit: bytes | None = None, **changes: Any) -> None:
        self.deployer = chain.accounts[0]
        self.supervisor, self.second_supervisor, self.third_supervisor = chain.accounts[1:4]
        self.outsider = chain.accounts[39]
        self.banks = [
            Bank(i, f"Bank {chr(65 + i)}", chain.accounts[4 + 2 * i], chain.accounts[5 + 2 * i]) for i in range(12)
        ]
        self.joint_credit_code = stand_in_code() if joint_credit is None else joint_credit
        self.founding = {
            "name": "River valley",
            "founders": [(b.owner, b.operator, b.name) for b in self.banks[:invited]],
            "supervisors": [self.supervisor],
            "schemas": [(1, SCHEMA_1)],
            "parameters": tuple({**PARAMETERS, **changes.pop("parameters", {})}.values()),
            "jointCreditInitCodeHash": keccak(self.joint_credit_code),
            "tagKeyCommitment": keccak(b"tag key 1"),
            **changes,
        }
        shipped = artifact("Consortium")
        constructor = next(e for e in shipped["abi"] if e["type"] == "constructor")
        self.creation = bytes.fromhex(shipped["bytecode"][2:]) + encode(
            get_abi_input_types(constructor), [tuple(self.founding.values())]
        )
        super().__init__(chain, shipped["abi"], ZERO)

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
            return self.error(_revert_data(failure))
        return None

    # ------------------------------------------------------------ a member's own

    def statement(self, member: int, version: int, key: bytes, previous: bytes) -> bytes:
        """R9, written a second time: what an owner signs for a key."""
        return keccak(
            encode(
                ["bytes32", "uint256", "address", "uint8", "uint32", "bytes32", "bytes32"],
                [
                    b"mpcredit/key/2".ljust(32, b"\0"),
                    self.chain.backend.chain.chain_id,
                    self.address,
                    member,
                    version,
                    key,
                    previous,
                ],
            )
        )

    def signed_key(self, account: str, member: int, version: int, key: bytes, previous: bytes = ZERO_32) -> bytes:
        """An account's signature for a key."""
        return self.chain.sign(account, self.statement(member, version, key, previous))

    def confirm(self, bank: Bank) -> dict[str, Any]:
        """A bank confirms its record with its first key."""
        return self.send(
            bank.owner, "confirm", bank.index, bank.key(), self.signed_key(bank.owner, bank.index, 1, bank.key())
        )

    def rotate(self, bank: Bank, version: int) -> dict[str, Any]:
        """A bank replaces its key."""
        signature = self.signed_key(bank.owner, bank.index, version, bank.key(version), bank.key(version - 1))
        return self.send(bank.owner, "rotateKey", bank.index, bank.key(version), signature)

    def set_supervisor_key(self, account: str, version: int, previous: bytes = ZERO_32) -> bytes:
        """A supervisor registers a key; returns it."""
        key = x25519_public(f"supervisor/{version}")
        self.send(account, "rotateSupervisorKey", key, self.signed_key(account, SUPERVISOR, version, key, previous))
        return key

    def found(self, members: int = 5) -> Council:
        """The first banks confirm and create the JointCredit; the supervisor registers its key and audits them."""
        for bank in self.banks[:members]:
            self.confirm(bank)
        self.set_supervisor_key(self.supervisor, 1)
        for bank in self.banks[:members]:
            self.send(self.supervisor, "auditOk", bank.index, 1)
        self.send(self.outsider, "createJointCredit", self.joint_credit_code)
        return self

    def ready(self, members: Sequence[int], until: int | None = None) -> None:
        """These banks declare themselves ready, for a day by default."""
        for index in members:
            self.send(self.banks[index].operator, "declareReady", self.chain.now() + DAY if until is None else until)

    def changes(self, receipt: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The changes of the roster in a receipt: (kind, *values)."""
        links = [values for name, *values in self.events(receipt) if name == "RosterChanged"]
        return [(CHANGES[kind], *_shown(decode(CHANGE_TYPES[CHANGES[kind]].split(), data))) for _, kind, data in links]

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
        data = self.encoded("openingTerms", self.banks[bank].operator, group, schema)
        try:
            answer = self.chain.call(self.outsider, joint_credit or self.read("jointCredit"), data)
        except TransactionFailed as failure:
            return self.error(_revert_data(failure))
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
    """Six founders; Banks A to E have confirmed and were audited, F has not; a stand-in is the JointCredit."""
    council = _council(5)
    with council.chain.undone():
        yield council


@contextmanager
def invited_council() -> Iterator[Council]:
    """Six founders, none of which has confirmed yet; no JointCredit, no supervisor key."""
    council = _council(0)
    with council.chain.undone():
        yield council
