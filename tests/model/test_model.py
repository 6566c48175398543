"""Random steps on a pure model of docs/spec.md section 7, on the deployed contracts, and on the fold of their events.

After each step the three are compared: stage, awaited, product, hash, lanes, readiness, and the name of the error where
a step is forbidden. Guards the invariants I1 to I7 and every forbidden transition. Keys here are random odd numbers:
the contract cannot tell, and the products are plain integers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from mpcredit.chain import ChainSigner
from mpcredit.encoding import keccak
from mpcredit.errors import Refused
from mpcredit.events import Call, Opening, Parameters, Stage, members_of
from mpcredit.follower import Follower
from mpcredit.local import DEFAULT_PARAMETERS, LocalConsortium, local_consortium
from mpcredit.protocol import inquiry_id, inquiry_q0

MEMBERS = 5
ANSWER = 600
REPORT = 900
WIDTH = 512
N = random.Random("model").getrandbits(2048) | 1 << 2047 | 1
SQUARE = N * N
TERMS = Parameters(
    **{**vars(DEFAULT_PARAMETERS), "answer_seconds": ANSWER, "report_seconds": REPORT, "minimum_cohort": 3}
)
WALKS = 6
STEPS = 110


@dataclass
class Inquiry:
    """What the specification says of one inquiry."""

    id: bytes
    inquirer: int
    cohort: int
    awaited: int
    deadline: int
    due: int
    blocks: int
    product: list[int]
    stage: Stage = Stage.OPEN
    stated: set[int] = field(default_factory=set)

    @property
    def holds_lane(self) -> bool:
        """I6."""
        return self.stage in (Stage.OPEN, Stage.COMPLETE)


@dataclass
class Model:
    """What the specification says of the whole."""

    ready: int
    suspended: int = 0
    nonces: dict[int, int] = field(default_factory=dict)
    inquiries: list[Inquiry] = field(default_factory=list)
    lanes_made: int = 0

    @property
    def cohort(self) -> int:
        """Who `open` would freeze now (R14)."""
        return self.ready & ~self.suspended

    def refusal_to_open(self, member: int, nonce: int, now: int) -> str | None:
        """The error that `open` must raise, or None."""
        cohort = self.cohort
        if cohort.bit_count() < 3:
            return "CohortTooSmall"
        if not cohort >> member & 1:
            return "NotServing"
        if nonce <= self.nonces.get(member, 0):
            return "NonceUsed"
        if any(i.holds_lane and i.inquirer == member and now >= i.due for i in self.inquiries):
            return "ReportOverdue"
        return None

    def refusal_to_answer(self, inquiry: Inquiry, member: int) -> str | None:
        """The error that `contribute` and `refuse` must raise, or None."""
        if inquiry.stage is not Stage.OPEN:
            return "WrongStage"
        if not inquiry.cohort >> member & 1:
            return "NotInCohort"
        return None if inquiry.awaited >> member & 1 else "NotAwaited"


@pytest.fixture(scope="module")
def consortium() -> Iterator[LocalConsortium]:
    """Five institutions, ready, on the embedded chain."""
    with local_consortium(institutions=MEMBERS, bits=2048, parameters=TERMS) as made:
        yield made


class Walk:
    """One random walk; `seen` counts what was tried and how it ended."""

    def __init__(self, consortium: LocalConsortium, seed: int, seen: Counter[tuple[str, str | None]]) -> None:
        self.consortium = consortium
        self.credit = consortium.deployed.joint_credit
        self.tester: Any = consortium.ledger.web3.provider.ethereum_tester  # type: ignore[attr-defined]
        web3, address = consortium.ledger.web3, consortium.deployed.consortium
        self.signers = [ChainSigner(web3, account, address) for account in consortium.operators.values()]
        self.supervisor = ChainSigner(web3, consortium.supervisor_account, address)
        self.model = Model(ready=(1 << MEMBERS) - 1)
        self.follower = Follower(consortium.ledger)
        self.source = random.Random(f"walk {seed}")
        self.seen = seen

    def go(self, steps: int) -> None:
        """Take random steps, comparing after each."""
        weighted = {
            self.open: 5,
            self.contribute: 6,
            self.complete: 4,
            self.refuse: 3,
            self.expire: 4,
            self.not_sent: 8,
            self.report: 6,
            self.attest: 6,
            self.declare: 4,
            self.wait: 2,
            self.reinstate: 3,
        }
        self.follower.sync()
        for step in self.source.choices(list(weighted), list(weighted.values()), k=steps):
            step()
            self.agree()

    # ------------------------------------------------------------- helpers

    def now(self) -> int:
        return int(self.tester.get_block_by_number("pending")["timestamp"])

    def attempt(self, signer: ChainSigner, function: str, arguments: tuple[Any, ...], error: str | None) -> bool:
        self.seen[function, error] += 1
        call = Call("consortium" if function == "declareReady" else self.credit, function, arguments)
        if error is None:
            assert signer.transact(call).succeeded
            return True
        with pytest.raises(Refused) as refused:
            signer.transact(call)
        assert refused.value.code == error
        return False

    def member(self) -> int:
        return self.source.randrange(MEMBERS)

    def pick(self) -> Inquiry | None:
        """A random inquiry, rather one of the newest."""
        known = self.model.inquiries[-4:] if self.source.random() < 0.7 else self.model.inquiries
        return self.source.choice(known) if known else None

    def end(self, inquiry: Inquiry, stage: Stage) -> None:
        inquiry.stage = stage

    def ciphertexts(self, blocks: int) -> list[int]:
        return [self.source.randrange(1, SQUARE) for _ in range(blocks)]

    def payload(self, ciphertexts: list[int]) -> bytes:
        return self.source.randbytes(80) + b"".join(c.to_bytes(WIDTH, "big") for c in ciphertexts)

    # ------------------------------------------------------------- steps

    def open(self) -> None:
        member, blocks, stale = self.member(), self.source.randint(1, 2), self.source.random() < 0.15
        last = self.model.nonces.get(member, 0)
        nonce = last if stale else last + self.source.randrange(1, 5)
        own = self.ciphertexts(blocks)
        opening = Opening(
            nonce=nonce,
            group=0,
            schema=1,
            blocks=blocks,
            currency="TWD",
            roster=self.follower.state.roster,
            cohort=self.model.cohort,
            n=N.to_bytes(256, "big"),
            key_proof=b"unchecked here",
            consents=(self.source.randbytes(32),),
            sealed_subject=self.source.randbytes(64),
            subject_commitment=self.source.randbytes(32),
            payload=self.payload(own),
        )
        error = self.model.refusal_to_open(member, nonce, self.now())
        if self.attempt(self.signers[member], "open", (opening.arguments(),), error):
            q0 = inquiry_q0(self.consortium.ledger.realm, self.credit, member, opening.n, opening.roster, nonce)
            at = self.consortium.ledger.head().timestamp
            self.model.nonces[member] = nonce
            self.model.inquiries.append(
                Inquiry(
                    id=inquiry_id(q0, opening),
                    inquirer=member,
                    cohort=opening.cohort,
                    awaited=opening.cohort & ~(1 << member),
                    deadline=at + ANSWER,
                    due=at + ANSWER + REPORT,
                    blocks=blocks,
                    product=own,
                )
            )
            held = sum(i.holds_lane for i in self.model.inquiries)
            self.model.lanes_made = max(self.model.lanes_made, held)

    def contribute(self) -> None:
        inquiry = self.pick()
        if inquiry is not None:
            self.answer(inquiry, self.member())

    def answer(self, inquiry: Inquiry, member: int) -> None:
        given = self.ciphertexts(inquiry.blocks)
        error = self.model.refusal_to_answer(inquiry, member)
        if self.attempt(self.signers[member], "contribute", (inquiry.id, self.payload(given)), error):
            inquiry.product = [a * b % SQUARE for a, b in zip(inquiry.product, given, strict=True)]
            inquiry.awaited &= ~(1 << member)
            if inquiry.awaited == 0:
                inquiry.stage = Stage.COMPLETE

    def complete(self) -> None:
        """All that are awaited answer: random single steps would hardly ever get there."""
        inquiry = self.pick()
        if inquiry is not None and inquiry.stage is Stage.OPEN:
            for member in members_of(inquiry.awaited):
                self.answer(inquiry, member)

    def refuse(self) -> None:
        member, code = self.member(), self.source.choice([0, 1, 7, 255])
        inquiry = self.pick()
        if inquiry is None:
            return
        error = self.model.refusal_to_answer(inquiry, member) or (None if code else "RefusalCode")
        if self.attempt(self.signers[member], "refuse", (inquiry.id, code), error):
            self.end(inquiry, Stage.REFUSED)

    def expire(self) -> None:
        member = self.member()
        inquiry = self.pick()
        if inquiry is None:
            return
        error = None
        if inquiry.stage is not Stage.OPEN:
            error = "WrongStage"
        elif self.now() < inquiry.deadline:
            error = "TooEarly"
        if self.attempt(self.signers[member], "expire", (inquiry.id,), error):
            self.end(inquiry, Stage.EXPIRED)
            self.model.ready &= ~inquiry.awaited

    def not_sent(self) -> None:
        member = self.member()
        inquiry = self.pick()
        if inquiry is None:
            return
        error = None
        if not inquiry.stage.failed:
            error = "WrongStage"
        elif not inquiry.cohort >> member & 1:
            error = "NotInCohort"
        elif not inquiry.awaited >> member & 1:
            error = "NotAwaited"
        elif member in inquiry.stated:
            error = "AlreadyStated"
        if self.attempt(self.signers[member], "notSent", (inquiry.id,), error):
            inquiry.stated.add(member)

    def report(self) -> None:
        member, right = self.member(), self.source.random() < 0.7
        inquiry = self.pick()
        if inquiry is None:
            return
        sender = inquiry.inquirer if right else member
        error = None
        if inquiry.stage is not Stage.COMPLETE:
            error = "WrongStage"
        elif sender != inquiry.inquirer:
            error = "NotInquirer"
        arguments = (inquiry.id, self.source.randbytes(32), self.source.randbytes(300), bytes(32))
        if self.attempt(self.signers[sender], "report", arguments, error):
            self.end(inquiry, Stage.REPORTED)

    def attest(self) -> None:
        valid, by = self.source.random() < 0.6, self.source.randrange(10)
        culprits = self.source.choice([0, 1 << self.member(), 1 << self.member(), 1 << MEMBERS])
        inquiry = self.pick()
        if inquiry is None:
            return
        signer = self.supervisor if by else self.signers[0]
        culprits = 0 if valid and by % 4 else culprits
        error = None
        permitted = (Stage.REPORTED,) if valid else (Stage.OPEN, Stage.COMPLETE, Stage.REPORTED)
        if not by:
            error = "NotSupervisor"
        elif inquiry.stage not in permitted:
            error = "WrongStage"
        elif valid and culprits:
            error = "CulpritsNamed"
        elif not valid and not culprits:
            error = "CulpritsMissing"
        elif culprits & ~inquiry.cohort:
            error = "CulpritsOutsideCohort"
        if self.attempt(signer, "attest", (inquiry.id, valid, culprits, bytes(32)), error):
            self.end(inquiry, Stage.VALID if valid else Stage.VOID)
            self.model.suspended |= culprits

    def declare(self) -> None:
        member, on = self.member(), self.source.random() < 0.7
        until = self.now() + 6 * 86_400 if on else 0
        if self.attempt(self.signers[member], "declareReady", (until,), None):
            self.model.ready = self.model.ready & ~(1 << member) | on << member

    def reinstate(self) -> None:
        """The supervisor lets the suspended serve again."""
        for member in members_of(self.model.suspended):
            assert self.supervisor.transact(Call("consortium", "reinstate", (member,))).succeeded
        self.model.suspended = 0
        self.follower.sync()

    def wait(self) -> None:
        seconds = self.source.choice([1, 1, ANSWER // 2, ANSWER, ANSWER + REPORT])
        self.consortium.advance(seconds)

    # ------------------------------------------------------------- comparison

    def agree(self) -> None:
        self.follower.sync()
        state = self.follower.state
        held = 0
        for inquiry in self.model.inquiries:
            status = self.consortium.ledger.call(Call(self.credit, "status", (inquiry.id,)))
            folded = state.inquiries[inquiry.id]
            stage, inquirer, blocks, deadline, cohort, awaited, width, digest, _ = status
            assert (Stage(stage), inquirer, blocks, deadline) == (
                inquiry.stage,
                inquiry.inquirer,
                inquiry.blocks,
                inquiry.deadline,
            )
            assert (cohort, awaited, width) == (inquiry.cohort, inquiry.awaited, WIDTH)
            assert folded.stage is inquiry.stage
            assert folded.opening.cohort == inquiry.cohort == folded.cohort_as_folded
            assert sum(1 << member for member in folded.awaited) == inquiry.awaited
            assert folded.not_sent == inquiry.stated
            product = b"".join(c.to_bytes(WIDTH, "big") for c in inquiry.product)
            if inquiry.holds_lane:
                held += 1
                assert self.consortium.ledger.call(Call(self.credit, "aggregate", (inquiry.id,))) == product
                assert digest == bytes(32)
            else:
                assert digest == keccak(product)
                assert folded.aggregate == product
        made, free = self.consortium.ledger.call(Call(self.credit, "lanes", ()))
        assert (made, made - free) == (self.model.lanes_made, held)
        _members, _serving, ready = self.consortium.ledger.call(Call("consortium", "memberSets", ()))
        assert ready == self.model.cohort


EXPECTED = {
    **dict.fromkeys(("open", "contribute", "refuse", "expire", "notSent", "report", "attest"), (None, "WrongStage")),
    "open": (None, "NonceUsed", "CohortTooSmall", "NotServing", "ReportOverdue"),
    "contribute": (None, "WrongStage", "NotAwaited", "NotInCohort"),
    "refuse": (None, "WrongStage", "NotAwaited"),
    "expire": (None, "WrongStage", "TooEarly"),
    "notSent": (None, "WrongStage", "NotAwaited", "AlreadyStated"),
    "report": (None, "WrongStage", "NotInquirer"),
    "attest": (None, "WrongStage", "NotSupervisor", "CulpritsNamed", "CulpritsMissing", "CulpritsOutsideCohort"),
}
"""What the walks must have met, so that the test cannot become one that tries nothing."""


def test_random_steps__agree_with_the_specification(consortium: LocalConsortium) -> None:
    tester: Any = consortium.ledger.web3.provider.ethereum_tester  # type: ignore[attr-defined]
    seen: Counter[tuple[str, str | None]] = Counter()

    for seed in range(WALKS):
        snapshot = tester.take_snapshot()
        Walk(consortium, seed, seen).go(STEPS)
        tester.revert_to_snapshot(snapshot)

    missing = [(step, end) for step, ends in EXPECTED.items() for end in ends if not seen[step, end]]
    assert not missing, f"the walks never met {missing}; met {seen}"
