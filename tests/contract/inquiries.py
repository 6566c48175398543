"""Inquiries on the JointCredit contract: the contract itself, keys, openings, and one inquiry as tests drive it.

What the contract should say is computed here a second time, with plain Python integers: the id, the running product, the
shape of payloads. Ciphertexts are random numbers below n^2: the contract knows nothing of what they encrypt.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import Any

from eth_abi.abi import encode
from eth_utils import keccak
from governance import PARAMETERS, Bank, Council, bitmap
from onchain import Chain, Deployed, artifact

DISCLOSURE = 80
"""Bytes of the sealed seed that leads each payload."""
ZERO_32 = bytes(32)


class Stage(IntEnum):
    """`IJointCredit.Stage`."""

    NONE = 0
    OPEN = 1
    COMPLETE = 2
    REPORTED = 3
    VALID = 4
    VOID = 5
    REFUSED = 6
    EXPIRED = 7


STAGES = tuple(Stage)


@dataclass(frozen=True)
class Key:
    """A modulus of some width. Odd, with its top bit set; whether it is a product of primes, the contract cannot see."""

    n: int
    bits: int

    @property
    def square(self) -> int:
        """n^2."""
        return self.n * self.n

    @property
    def width(self) -> int:
        """Bytes of one ciphertext."""
        return self.bits // 4

    @property
    def n_bytes(self) -> bytes:
        """As in `Opening.n`."""
        return self.n.to_bytes(self.bits // 8, "big")

    def ciphertext(self, source: random.Random) -> int:
        """A random number that has the form of a ciphertext."""
        return source.randrange(1, self.square)

    def encoded(self, ciphertexts: Sequence[int]) -> bytes:
        """One after the other, each in its one form."""
        return b"".join(c.to_bytes(self.width, "big") for c in ciphertexts)


@cache
def key(bits: int = 2048, seed: int = 1) -> Key:
    """A key that is the same in every run."""
    return Key(random.Random(f"key/{bits}/{seed}").getrandbits(bits) | 1 << (bits - 1) | 1, bits)


def payload(source: random.Random, under: Key, ciphertexts: Sequence[int]) -> bytes:
    """A contribution: a disclosure (here of random bytes), then the ciphertexts."""
    return source.randbytes(DISCLOSURE) + under.encoded(ciphertexts)


class Credit(Deployed):
    """The current JointCredit of a council."""

    def __init__(self, council: Council) -> None:
        # The Consortium's errors come through: who is a member, and on which terms one may open.
        errors = [e for e in artifact("Consortium")["abi"] if e["type"] == "error"]
        super().__init__(council.chain, [*errors, *artifact("JointCredit")["abi"]], council.read("jointCredit"))
        self.council = council
        self.source = random.Random("credit")

    def opening(self, bank: int = 0, under: Key | None = None, blocks: int = 1, **changes: Any) -> dict[str, Any]:
        """An opening that the contract accepts, but for the changes."""
        under = under or key()
        own = [under.ciphertext(self.source) for _ in range(blocks)]
        return {
            "nonce": self.source.getrandbits(64),
            "group": 0,
            "repeats": False,
            "schema": 1,
            "blocks": blocks,
            "currency": b"CNY",
            "roster": self.council.read("roster"),
            "cohort": self.council.read("cohortOf", 0),
            "n": under.n_bytes,
            "keyProof": self.source.randbytes(2048),
            "consents": [self.source.randbytes(32)],
            "sealedSubject": self.source.randbytes(600),
            "subjectCommitment": self.source.randbytes(32),
            "payload": payload(self.source, under, own),
            **changes,
        }

    def ids(self, bank: int, opening: dict[str, Any]) -> tuple[bytes, bytes]:
        """q0 and q, as the NatSpec of `open` has them."""
        q0 = keccak(
            encode(
                ["bytes32", "uint256", "address", "uint8", "bytes32", "bytes32", "uint64"],
                [
                    b"mpcredit/q0/2".ljust(32, b"\0"),
                    self.chain.backend.chain.chain_id,
                    self.address,
                    bank,
                    keccak(opening["n"]),
                    opening["roster"],
                    opening["nonce"],
                ],
            )
        )
        q = keccak(
            encode(
                ["bytes32", "bytes32", "bytes32", "uint256", "uint8", "bool", "uint16", "bytes3", "uint8", "bytes32"],
                [
                    q0,
                    keccak(opening["sealedSubject"]),
                    opening["subjectCommitment"],
                    opening["cohort"],
                    opening["group"],
                    opening["repeats"],
                    opening["schema"],
                    opening["currency"],
                    opening["blocks"],
                    keccak(encode(["bytes32[]"], [opening["consents"]])),
                ],
            )
        )
        return q0, q

    def bank(self, index: int) -> Bank:
        """A member of the consortium."""
        return self.council.banks[index]

    def refusal_to_open(self, bank: int = 0, **changes: Any) -> tuple[Any, ...] | None:
        """The error with which an opening is refused."""
        opening = self.opening(bank, **changes)
        return self.refusal(self.bank(bank).account, "open", bank, tuple(opening.values()))

    def inquiry(self, bank: int = 0, under: Key | None = None, blocks: int = 1, **changes: Any) -> Inquiry:
        """Open an inquiry."""
        under = under or key()
        opening = self.opening(bank, under, blocks, **changes)
        receipt = self.send(self.bank(bank).account, "open", bank, tuple(opening.values()))
        return self.opened(bank, under, opening, receipt)

    def opened(self, bank: int, under: Key, opening: dict[str, Any], receipt: dict[str, Any]) -> Inquiry:
        """The inquiry that a mined opening began."""
        _, q = self.ids(bank, opening)
        body = opening["payload"][DISCLOSURE:]
        own = [int.from_bytes(body[i : i + under.width], "big") for i in range(0, len(body), under.width)]
        return Inquiry(self, q, bank, under, opening, own, receipt)


@dataclass
class Inquiry:
    """One inquiry, and what its product should be."""

    credit: Credit
    id: bytes
    inquirer: int
    key: Key
    opening: dict[str, Any]
    product: list[int]
    """By block."""
    receipt: dict[str, Any]
    """Of `open`."""
    contributions: dict[int, bytes] = field(default_factory=dict)

    @property
    def status(self) -> dict[str, Any]:
        """What the contract says."""
        return self.credit.read("status", self.id)

    @property
    def stage(self) -> Stage:
        """What the contract says."""
        return Stage(self.status["stage"])

    @property
    def furnishers(self) -> list[int]:
        """The cohort without the inquirer."""
        return [i for i in range(216) if self.opening["cohort"] >> i & 1 and i != self.inquirer]

    @property
    def encoded_product(self) -> bytes:
        """As `aggregate` and `AggregateClosed` have it."""
        return self.key.encoded(self.product)

    def payload(self, *ciphertexts: int) -> bytes:
        """A contribution, of random ciphertexts if none are given."""
        source = self.credit.source
        return payload(source, self.key, ciphertexts or [self.key.ciphertext(source) for _ in self.product])

    def contribute(self, bank: int, body: bytes | None = None) -> dict[str, Any]:
        """A member contributes."""
        body = body or self.payload()
        receipt = self.credit.send(self.credit.bank(bank).account, "contribute", self.id, bank, body)
        self.contributions[bank] = body
        width = self.key.width
        for i, running in enumerate(self.product):
            c = int.from_bytes(body[DISCLOSURE + i * width : DISCLOSURE + (i + 1) * width], "big")
            self.product[i] = running * c % self.key.square
        return receipt

    def refusal_to_contribute(self, bank: int, body: bytes | None = None) -> tuple[Any, ...] | None:
        """The error with which a member's contribution is refused."""
        body = self.payload() if body is None else body
        return self.credit.refusal(self.credit.bank(bank).account, "contribute", self.id, bank, body)

    def complete(self) -> Inquiry:
        """Everyone who is awaited contributes."""
        for bank in self.furnishers:
            if bank not in self.contributions:
                self.contribute(bank)
        return self

    def report(self, account: str | None = None, body: bytes = b"sealed report") -> dict[str, Any]:
        """The inquirer reports."""
        account = account or self.credit.bank(self.inquirer).account
        return self.credit.send(account, "report", self.id, keccak(b"report"), body, keccak(b"anchor"))

    def refuse(self, bank: int, code: int = 3, sealed_cohort: bytes = b"") -> dict[str, Any]:
        """A member refuses."""
        return self.credit.send(self.credit.bank(bank).account, "refuse", self.id, bank, code, sealed_cohort)

    def lapse(self) -> dict[str, Any]:
        """Someone has the members switched off that are silent for too long."""
        self.credit.chain.travel(PARAMETERS["silenceSeconds"])
        return self.credit.send(self.credit.council.outsider, "lapse", self.id)

    def expire(self) -> dict[str, Any]:
        """The deadline passes, and someone says so."""
        self.credit.chain.travel(PARAMETERS["answerSeconds"])
        return self.credit.send(self.credit.council.outsider, "expire", self.id)

    def verdict(self, valid: bool, culprits: int = 0, **changes: Any) -> tuple[Any, ...]:
        """Name and arguments of an `attest` on the report as it stands, but for the changes."""
        given = {
            "supervisor": self.credit.council.supervisor,
            "valid": valid,
            "culprits": culprits,
            "commitment": self.status["reportCommitment"],
            "anchor": keccak(b"anchor"),
            **changes,
        }
        return ("attest", self.id, *given.values())

    def attest(self, valid: bool, *culprits: int) -> dict[str, Any]:
        """The supervisor's verdict."""
        return self.credit.send(self.credit.council.supervisor_account, *self.verdict(valid, bitmap(*culprits)))

    def brought_to(self, stage: Stage) -> Inquiry:
        """Go on until a stage. Void comes from Reported, and names no culprit."""
        if stage in (Stage.COMPLETE, Stage.REPORTED, Stage.VALID, Stage.VOID):
            self.complete()
        if stage in (Stage.REPORTED, Stage.VALID, Stage.VOID):
            self.report()
        if stage in (Stage.VALID, Stage.VOID):
            self.attest(stage == Stage.VALID)
        if stage == Stage.REFUSED:
            self.refuse(self.furnishers[-1])
        if stage == Stage.EXPIRED:
            self.expire()
        return self


def credit_on(chain: Chain, members: int, **changes: Any) -> Credit:
    """A new consortium on a chain: so many banks serve and are ready; one more is invited only."""
    code = bytes.fromhex(artifact("JointCredit")["bytecode"][2:])
    council = Council(chain, invited=members + 1, joint_credit=code, **changes).deploy().found(members)
    council.ready(range(members))
    return Credit(council)


@cache
def _credit(members: int) -> Credit:
    return credit_on(Chain(), members)


@contextmanager
def credit_of(members: int) -> Iterator[Credit]:
    """So many banks serve and are ready; one more is invited only."""
    credit = _credit(members)
    with credit.chain.undone():
        credit.source = random.Random("credit")
        yield credit


def credit_of_five() -> AbstractContextManager[Credit]:
    """Banks A to E serve and are ready; F is invited only."""
    return credit_of(5)
