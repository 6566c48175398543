"""A small consortium on a real chain: the embedded one, and Anvil. Each test that asks for `world` runs on both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from web3 import Web3

from mpcredit.chain import ChainLedger, ChainSigner, Deployed, deploy, joint_credit_init_code_hash, tester
from mpcredit.chain.anvil import Anvil
from mpcredit.errors import Refused
from mpcredit.events import Call, Opened, Opening, Proposed
from mpcredit.ports import Outcome

MEMBERS = 4
N = (2**2047 + 12345).to_bytes(256, "big")
"""Odd and of full length: all that the contract asks of a modulus."""
WIDTH = 512
DISCLOSURE = bytes(80)


def account(index: int) -> LocalAccount:
    return tester.deterministic_account(index)


DEPLOYER, OUTSIDER = account(900), account(902)
SUPERVISOR, WATCHER = account(901), account(903)
"""Owner and service account of the supervisor."""
PERIOD = 1
"""Seconds of a period of readiness."""
TENURE = b"\x0a" * 32


def parameters(**changed: int) -> tuple[int, ...]:
    terms = {
        "minimum_cohort": 3,
        "minimum_modulus_bits": 2048,
        "answer_seconds": 600,
        "report_seconds": 86_400,
        "silence_seconds": 60,
        "window_seconds": 7 * 86_400,
        "cooldown_seconds": 3600,
        "repeat_seconds": 600,
        "delay_seconds": 3600,
        "subjects_per_day": 100,
        "book_age_seconds": 86_400,
    }
    return tuple({**terms, **changed}.values())


def founding(**changed: Any) -> tuple[Any, ...]:
    parts = {
        "name": "Taiwan test consortium",
        "founders": [(account(2 * i).address, f"Bank {i}") for i in range(MEMBERS)],
        "supervisors": [SUPERVISOR.address],
        "schemas": [(1, b'{"format":"mpcredit/schema"}')],
        "parameters": parameters(),
        "opens_from": 0,
        "period_seconds": PERIOD,
        "init_code_hash": joint_credit_init_code_hash(),
        "tag_key": b"\x07" * 32,
    }
    return tuple({**parts, **changed}.values())


def step(member: int, number: int = 1) -> Call:
    """A call of a member's service account that the contract takes at any time."""
    return Call("consortium", "anchor", (account(2 * member).address, number.to_bytes(32, "big")))


def payload(seed: int = 1, blocks: int = 1) -> bytes:
    return DISCLOSURE + b"".join((seed + i + 1).to_bytes(WIDTH, "big") for i in range(blocks))


@dataclass
class World:
    """A founded consortium, ready for inquiries, and the ways to act in it."""

    web3: Web3
    deployed: Deployed
    ledger: ChainLedger
    advance: Callable[[int], None]
    anvil: Anvil | None = None
    signers: dict[str, ChainSigner] = field(default_factory=dict)
    nonce: int = 0

    def signer(self, who: LocalAccount) -> ChainSigner:
        if who.address not in self.signers:
            self.signers[who.address] = ChainSigner(self.web3, who, self.deployed.consortium)
        return self.signers[who.address]

    def owner(self, member: int) -> ChainSigner:
        return self.signer(account(2 * member))

    def service(self, member: int) -> ChainSigner:
        return self.signer(account(2 * member + 1))

    @property
    def supervisor(self) -> ChainSigner:
        """The supervisor's owner account."""
        return self.signer(SUPERVISOR)

    @property
    def watcher(self) -> ChainSigner:
        """The supervisor's service account."""
        return self.signer(WATCHER)

    def do(self, signer: ChainSigner, function: str, *arguments: Any, on: str = "consortium") -> Outcome:
        return signer.transact(Call(on, function, arguments))

    def view(self, function: str, *arguments: Any, on: str = "consortium") -> Any:
        return self.ledger.call(Call(on, function, arguments))

    def signed(self, who: LocalAccount, view: str, *arguments: Any) -> bytes:
        """An owner's signature of a statement, as the contract computes it."""
        return bytes(who.sign_message(encode_defunct(primitive=self.view(view, *arguments))).signature)

    def key(self, member: int, version: int = 1) -> bytes:
        return bytes([9, member, version]) + bytes(28) + b"\x01"

    def found(self) -> None:
        """The supervisor's account and period key, the founders' confirmations, audits; then all are ready."""
        naming = (255, SUPERVISOR.address, WATCHER.address, 1, bytes(32))
        signature = self.signed(SUPERVISOR, "accountStatement", *naming)
        self.do(self.supervisor, "nameAccount", 255, WATCHER.address, bytes(32), signature)
        key = bytes([8]) + bytes(30) + b"\x01"
        signature = self.signed(SUPERVISOR, "keyStatement", 255, 1, key, bytes(32))
        self.do(self.supervisor, "announcePeriodKey", key, signature)
        for member in range(MEMBERS):
            self.confirm(member)
            self.do(self.watcher, "auditOk", SUPERVISOR.address, member, 1, 1)
        self.do(self.watcher, "putPeriodKeyInForce", SUPERVISOR.address, 1)
        self.ready(*range(MEMBERS))

    def confirm(self, member: int) -> None:
        owner, service = account(2 * member), account(2 * member + 1).address
        signature = self.signed(owner, "keyStatement", member, 1, self.key(member), bytes(32))
        naming = self.signed(owner, "accountStatement", member, owner.address, service, 1, TENURE)
        self.do(self.owner(member), "confirm", member, self.key(member), signature, service, TENURE, naming)

    def ready(self, *members: int) -> None:
        """Switch on those that are off, and go to the period in which that counts."""
        for member in members:
            try:
                self.do(self.service(member), "setReady", member, True)
            except Refused as error:
                if error.code != "NothingChanges":
                    raise
        self.advance(PERIOD)

    def opening(self, **changed: Any) -> Opening:
        self.nonce += 1
        parts: dict[str, Any] = {
            "nonce": self.nonce,
            "group": 0,
            "repeats": False,
            "schema": 1,
            "blocks": 1,
            "currency": "TWD",
            "roster": self.view("roster"),
            "cohort": self.view("cohortOf", 0),
            "n": N,
            "key_proof": b"proof",
            "consents": (b"\x01" * 32,),
            "sealed_subject": b"sealed subject",
            "subject_commitment": b"\x02" * 32,
            "payload": payload(),
        }
        return Opening(**{**parts, **changed})

    def open(self, inquirer: int = 0, on: str | None = None, **changed: Any) -> Opened:
        """Open an inquiry and return its event."""
        target = on or self.deployed.joint_credit
        opening = self.opening(**changed)
        outcome = self.do(self.service(inquirer), "open", inquirer, opening.arguments(), on=target)
        (event,) = self.ledger.events(outcome.block, outcome.block)
        assert isinstance(event, Opened)
        assert event.opening == opening
        return event

    def contribute(self, inquiry: bytes, member: int, on: str | None = None) -> Outcome:
        target = on or self.deployed.joint_credit
        return self.do(self.service(member), "contribute", inquiry, member, payload(member + 1), on=target)

    def carry(self, *calls: bytes) -> None:
        """Bring a proposal through: propose, vote, approve, wait, execute."""
        listed = list(calls)
        self.do(self.owner(0), "propose", listed, "for a test")
        made = next(event for event in reversed(self.all_events()) if isinstance(event, Proposed))
        proposal, calls_hash = made.proposal, made.calls_hash
        for member in range(3):
            self.do(self.owner(member), "vote", proposal, calls_hash)
        self.do(self.supervisor, "approve", proposal, calls_hash)
        self.advance(3601)
        self.do(self.owner(1), "execute", proposal, listed, SUPERVISOR.address)

    def all_events(self) -> tuple[Any, ...]:
        return tuple(self.ledger.events(self.deployed.first_block, self.ledger.head().number))


def everybody() -> list[str]:
    accounts = [account(i) for i in range(2 * MEMBERS + 4)]
    return [a.address for a in (*accounts, DEPLOYER, SUPERVISOR, WATCHER, OUTSIDER)]


def make_world(web3: Web3, advance: Callable[[int], None], anvil: Anvil | None = None) -> World:
    deployed = deploy(web3, DEPLOYER, founding())
    ledger = ChainLedger(web3, deployed.consortium)
    made = World(web3, deployed, ledger, advance, anvil)
    made.found()
    return made
