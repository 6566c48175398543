"""Random steps on a pure model of docs/spec.md section 7, on the deployed contracts, and on the fold of their events.

After each step the three are compared: accounts, tenures, readiness of this period and the next, stage, awaited, product,
hash, commitment, lanes, and the name of the error where a step is forbidden. Guards the invariants I1 to I7 and every
forbidden transition. Keys here are random odd numbers: the contract cannot tell, and the products are plain integers. The
chain's clock stands still, so each block is one second after the one before, and no step meets another time than the model.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from mpcredit.chain import ChainSigner
from mpcredit.encoding import keccak
from mpcredit.errors import Refused
from mpcredit.events import Call, Opening, Parameters, Stage, members_of
from mpcredit.follower import Follower
from mpcredit.local import DEFAULT_PARAMETERS, LocalConsortium, local_consortium, sign_account
from mpcredit.protocol import inquiry_id, inquiry_q0

MEMBERS = 5
MINIMUM = 3
ANSWER = 600
REPORT = 900
SILENCE = 60
PERIOD = 20
"""Seconds of a period of readiness: a change waits for the next one during some steps of a walk."""
PAUSE = 86_400
"""Between two namings of one party."""
WIDTH = 512
N = random.Random("model").getrandbits(2048) | 1 << 2047 | 1
SQUARE = N * N
TERMS = Parameters(
    **{
        **vars(DEFAULT_PARAMETERS),
        "answer_seconds": ANSWER,
        "report_seconds": REPORT,
        "silence_seconds": SILENCE,
        "minimum_cohort": MINIMUM,
    }
)
WALKS = 4
MOST_WALKS = 24
"""Accounts and keys are new each time, so the walks go on until they have met everything in `EXPECTED`."""
STEPS = 150


# --------------------------------------------------------------------- the specification


@dataclass
class Inquiry:
    """What the specification says of one inquiry."""

    id: bytes
    inquirer: int
    cohort: int
    awaited: int
    opened: int
    blocks: int
    product: list[int]
    stage: Stage = Stage.OPEN
    commitment: bytes = bytes(32)

    @property
    def deadline(self) -> int:
        return self.opened + ANSWER

    @property
    def holds_lane(self) -> bool:
        """I6."""
        return self.stage in (Stage.OPEN, Stage.COMPLETE)


@dataclass
class Party:
    """What the specification says of one member's service account (R9, R25)."""

    account: str | None
    tenures: list[bytes]
    """That were named, the newest last."""
    named_at: int
    since: int
    """When it was named last with another tenure."""
    namings: int = 1


@dataclass
class Model:
    """What the specification says of the whole."""

    parties: list[Party]
    period: int
    ready: int
    """Bitmap, in the period."""
    next: int
    """From the period after that on."""
    suspended: int = 0
    inquiries: list[Inquiry] = field(default_factory=list)
    lanes_made: int = 0

    def ready_at(self, now: int) -> int:
        """Who is ready in the period of a time (R28)."""
        return self.next if now // PERIOD > self.period else self.ready

    def switch(self, now: int, bitmap: int) -> None:
        """A change that counts from the next full period on (R28)."""
        if now // PERIOD > self.period:
            self.ready, self.period = self.next, now // PERIOD
        self.next = bitmap

    def cohort(self, now: int) -> int:
        """All members that serve and are ready (R14)."""
        return self.ready_at(now) & ~self.suspended

    def refusal_to_open(self, member: int, sender: str, opening: Opening, id_: bytes, now: int, roster: bytes) -> str:
        """The error that `open` must raise; empty: none."""
        ready = self.cohort(now)
        if sender != self.parties[member].account:
            return "NotAccount"
        if ready.bit_count() < MINIMUM:
            return "CohortTooSmall"
        if not ready >> member & 1:
            return "NotServing"
        if opening.roster != roster:
            return "RosterMoved"
        if not opening.repeats and opening.cohort != ready:
            return "CohortMoved"
        if opening.repeats and not self.is_repeatable(opening.cohort, member, ready):
            return "NotRepeatable"
        if any(inquiry.id == id_ for inquiry in self.inquiries):
            return "InquiryExists"  # I5
        if any(i.holds_lane and i.inquirer == member and now >= i.deadline + REPORT for i in self.inquiries):
            return "ReportOverdue"
        return ""

    @staticmethod
    def is_repeatable(cohort: int, inquirer: int, ready: int) -> bool:
        """R14.1."""
        size = cohort.bit_count()
        enough = size >= MINIMUM and 3 * size >= 2 * ready.bit_count()
        return cohort & ~ready == 0 and bool(cohort >> inquirer & 1) and enough

    def refusal_to_answer(self, inquiry: Inquiry, member: int, sender: str) -> str:
        """The error that `contribute` and `refuse` must raise; empty: none."""
        if sender != self.parties[member].account:
            return "NotAccount"
        if inquiry.stage is not Stage.OPEN:
            return "WrongStage"
        if not inquiry.cohort >> member & 1:
            return "NotInCohort"
        return "" if inquiry.awaited >> member & 1 else "NotAwaited"


@pytest.fixture(scope="module")
def consortium() -> Iterator[LocalConsortium]:
    """Five institutions, ready, on the embedded chain, whose clock stands still from now on."""
    with local_consortium(institutions=MEMBERS, bits=2048, parameters=TERMS, period_seconds=PERIOD) as made:
        tester: Any = made.ledger.web3.provider.ethereum_tester  # type: ignore[attr-defined]
        tester.backend.clock = lambda: 0
        tester.backend.offset = 0
        yield made


# --------------------------------------------------------------------- walks


class Walk:
    """One random walk; `seen` counts what was tried and how it ended."""

    def __init__(self, consortium: LocalConsortium, seed: int, seen: Counter[tuple[str, str]]) -> None:
        self.consortium = consortium
        self.credit = consortium.deployed.joint_credit
        self.tester: Any = consortium.ledger.web3.provider.ethereum_tester  # type: ignore[attr-defined]
        self.source = random.Random(f"walk {seed}")
        self.seen = seen
        self.owners = [self.signer(account) for account in consortium.owners.values()]
        spare: list[LocalAccount] = [Account.create() for _ in range(2)]
        for account in spare:
            consortium.chain.fund(account.address)
        self.services = {a.address: self.signer(a) for a in (*consortium.accounts.values(), *spare)}
        self.supervisor = self.signer(consortium.supervisor_account)
        self.supervisor_owner = self.signer(consortium.supervisor_owner)
        self.follower = Follower(consortium.ledger)
        self.follower.sync()
        self.model = self.founded()
        self.rosters = [self.follower.state.roster]
        self.openings: list[tuple[int, Opening]] = []

    def founded(self) -> Model:
        """The model of where the walk begins: everybody has confirmed, and is ready."""
        parties = []
        for member in self.follower.state.members.values():
            [naming] = member.namings
            at = naming.at.timestamp
            parties.append(Party(naming.account, [naming.tenure], at, at))
        everybody = (1 << MEMBERS) - 1
        return Model(parties, self.now() // PERIOD, everybody, everybody)

    def go(self, steps: int) -> None:
        """Take random steps, comparing after each."""
        weighted = {
            self.open: 6,
            self.contribute: 6,
            self.complete: 4,
            self.refuse: 3,
            self.lapse: 4,
            self.expire: 4,
            self.report: 6,
            self.attest: 6,
            self.set_ready: 6,
            self.name_account: 3,
            self.take_account: 1,
            self.wait: 3,
            self.reinstate: 3,
        }
        for number, step in enumerate(self.source.choices(list(weighted), list(weighted.values()), k=steps), 1):
            step()
            if number % 3 == 0:
                self.agree()

    # ------------------------------------------------------------- helpers

    def signer(self, account: LocalAccount) -> ChainSigner:
        return ChainSigner(self.consortium.ledger.web3, account, self.consortium.deployed.consortium)

    def now(self) -> int:
        """The time of the block that comes next."""
        return int(self.tester.get_block_by_number("pending")["timestamp"])

    def attempt(
        self, signer: ChainSigner, function: str, arguments: tuple[Any, ...], error: str, *, on: str = ""
    ) -> bool:
        self.seen[function, error] += 1
        call = Call(on or self.credit, function, arguments)
        if not error:
            assert signer.transact(call).succeeded
            return True
        with pytest.raises(Refused) as refused:
            signer.transact(call)
        assert refused.value.code == error
        return False

    def member(self) -> int:
        return self.source.randrange(MEMBERS)

    def sender(self, member: int) -> str:
        """The member's service account, rarely another one, and some account if it has none."""
        account = self.model.parties[member].account
        if account is None or self.source.random() < 0.05:
            return self.source.choice(list(self.services))
        return account

    def pick(self) -> Inquiry | None:
        """A random inquiry, rather one of the newest."""
        known = self.model.inquiries[-4:] if self.source.random() < 0.7 else self.model.inquiries
        return self.source.choice(known) if known else None

    def ciphertexts(self, blocks: int) -> list[int]:
        return [self.source.randrange(1, SQUARE) for _ in range(blocks)]

    def payload(self, ciphertexts: list[int]) -> bytes:
        return self.source.randbytes(80) + b"".join(c.to_bytes(WIDTH, "big") for c in ciphertexts)

    # ------------------------------------------------------------- inquiries

    def opening(self, blocks: int, own: list[int]) -> tuple[int, Opening]:
        """Who opens what: the cohort of now, a part of it, a stale roster or cohort, or the same once more."""
        if self.openings and self.source.random() < 0.1:
            member, earlier = self.source.choice(self.openings[-3:])
            return member, replace(earlier, payload=self.payload(self.ciphertexts(earlier.blocks)))
        ready = self.model.cohort(self.now())
        repeats = self.source.random() < 0.3
        cohort = ready
        if repeats or self.source.random() < 0.08:
            cohort &= ~(1 << self.member())
        return self.member(), Opening(
            nonce=self.source.choice([0, 1, 2**64 - 1, self.source.randrange(2**64)]),
            group=0,
            repeats=repeats,
            schema=1,
            blocks=blocks,
            currency="TWD",
            roster=self.source.choice(self.rosters) if self.source.random() < 0.1 else self.rosters[-1],
            cohort=cohort,
            n=N.to_bytes(256, "big"),
            key_proof=b"unchecked here",
            consents=(self.source.randbytes(32),),
            sealed_subject=self.source.randbytes(64),
            subject_commitment=self.source.randbytes(32),
            payload=self.payload(own),
        )

    def open(self) -> None:
        blocks = self.source.randint(1, 2)
        member, opening = self.opening(blocks, self.ciphertexts(blocks))
        sender, now = self.sender(member), self.now()
        realm = self.consortium.ledger.realm
        q0 = inquiry_q0(realm, self.credit, member, opening.n, opening.roster, opening.nonce)
        id_ = inquiry_id(q0, opening)
        error = self.model.refusal_to_open(member, sender, opening, id_, now, self.rosters[-1])
        if self.attempt(self.services[sender], "open", (member, opening.arguments()), error):
            body = opening.payload[80:]
            parts = [body[i : i + WIDTH] for i in range(0, len(body), WIDTH)]
            self.openings.append((member, opening))
            self.model.inquiries.append(
                Inquiry(
                    id=id_,
                    inquirer=member,
                    cohort=opening.cohort,
                    awaited=opening.cohort & ~(1 << member),
                    opened=now,
                    blocks=opening.blocks,
                    product=[int.from_bytes(part, "big") for part in parts],
                )
            )
            held = sum(i.holds_lane for i in self.model.inquiries)
            self.model.lanes_made = max(self.model.lanes_made, held)

    def contribute(self) -> None:
        inquiry = self.pick()
        if inquiry is not None:
            member = self.member()
            self.answer(inquiry, member, self.sender(member))

    def answer(self, inquiry: Inquiry, member: int, sender: str) -> None:
        given = self.ciphertexts(inquiry.blocks)
        error = self.model.refusal_to_answer(inquiry, member, sender)
        if not error and inquiry.opened <= self.model.parties[member].since:
            error = "OpenedBeforeTenure"
        if self.attempt(self.services[sender], "contribute", (inquiry.id, member, self.payload(given)), error):
            inquiry.product = [a * b % SQUARE for a, b in zip(inquiry.product, given, strict=True)]
            inquiry.awaited &= ~(1 << member)
            if inquiry.awaited == 0:
                inquiry.stage = Stage.COMPLETE

    def complete(self) -> None:
        """All that are awaited answer: random single steps would hardly ever get there."""
        inquiry = self.pick()
        if inquiry is not None and inquiry.stage is Stage.OPEN:
            for member in members_of(inquiry.awaited):
                self.answer(inquiry, member, self.sender(member))

    def refuse(self) -> None:
        member, code = self.member(), self.source.choice([0, 1, 7, 255])
        sender, sealed = self.sender(member), self.source.randbytes(self.source.choice([0, 0, 48, 64, 65]))
        inquiry = self.pick()
        if inquiry is None:
            return
        error = self.model.refusal_to_answer(inquiry, member, sender)
        error = error or ("" if code else "RefusalCode") or ("SealedLength" if len(sealed) > 64 else "")
        if self.attempt(self.services[sender], "refuse", (inquiry.id, member, code, sealed), error):
            inquiry.stage = Stage.REFUSED

    def lapse(self) -> None:
        inquiry, by, now = self.pick(), self.member(), self.now()
        if inquiry is None:
            return
        error = ""
        if inquiry.stage is not Stage.OPEN:
            error = "WrongStage"
        elif now < inquiry.opened + SILENCE:
            error = "TooEarly"
        elif not inquiry.awaited & self.model.next:
            error = "NothingChanges"
        if self.attempt(self.owners[by], "lapse", (inquiry.id,), error):
            self.model.switch(now, self.model.next & ~inquiry.awaited)

    def expire(self) -> None:
        inquiry, by, now = self.pick(), self.member(), self.now()
        if inquiry is None:
            return
        error = ""
        if inquiry.stage is not Stage.OPEN:
            error = "WrongStage"
        elif now < inquiry.deadline:
            error = "TooEarly"
        if self.attempt(self.owners[by], "expire", (inquiry.id,), error):
            inquiry.stage = Stage.EXPIRED
            if inquiry.awaited & self.model.next:
                self.model.switch(now, self.model.next & ~inquiry.awaited)

    def report(self) -> None:
        inquiry = self.pick()
        if inquiry is None:
            return
        sender, commitment = self.sender(inquiry.inquirer), self.source.randbytes(32)
        error = ""
        if inquiry.stage is not Stage.COMPLETE:
            error = "WrongStage"
        elif sender != self.model.parties[inquiry.inquirer].account:
            error = "NotAccount"
        arguments = (inquiry.id, commitment, self.source.randbytes(300), bytes(32))
        if self.attempt(self.services[sender], "report", arguments, error):
            inquiry.stage = Stage.REPORTED
            inquiry.commitment = commitment

    def attest(self) -> None:
        valid, by = self.source.random() < 0.6, self.source.randrange(10)
        culprits = self.source.choice([0, 0, 1 << self.member(), 1 << self.member(), 1 << MEMBERS])
        inquiry = self.pick()
        if inquiry is None:
            return
        # The owner account gives no verdict either.
        signer = self.supervisor if by > 1 else self.supervisor_owner if by else self.owners[0]
        culprits = 0 if valid and by % 4 else culprits
        judged = inquiry.commitment if self.source.random() < 0.9 else self.source.randbytes(32)
        permitted = (Stage.REPORTED,) if valid else (Stage.OPEN, Stage.COMPLETE, Stage.REPORTED)
        error = ""
        if by <= 1:
            error = "NotAccount"
        elif judged != inquiry.commitment:
            error = "CommitmentDiffers"
        elif inquiry.stage not in permitted:
            error = "WrongStage"
        elif valid and culprits:
            error = "CulpritsNamed"
        elif culprits & ~inquiry.cohort:
            error = "CulpritsOutsideCohort"
        supervisor = self.consortium.supervisor_owner.address
        arguments = (inquiry.id, supervisor, valid, culprits, judged, bytes(32))
        if self.attempt(signer, "attest", arguments, error):
            inquiry.stage = Stage.VALID if valid else Stage.VOID
            self.model.suspended |= culprits
            self.moved()

    # ------------------------------------------------------------- members

    def moved(self) -> None:
        """The roster may have a new link."""
        self.follower.sync()
        if self.follower.state.roster != self.rosters[-1]:
            self.rosters.append(self.follower.state.roster)

    def set_ready(self) -> None:
        member, on, now = self.member(), self.source.random() < 0.7, self.now()
        sender = self.sender(member)
        error = ""
        if sender != self.model.parties[member].account:
            error = "NotAccount"
        elif bool(self.model.next >> member & 1) == on:
            error = "NothingChanges"
        if self.attempt(self.services[sender], "setReady", (member, on), error, on="consortium"):
            self.model.switch(now, self.model.next & ~(1 << member) | on << member)

    def name_account(self) -> None:
        """An owner names an account: with the tenure of now, a new one, an earlier one, or none."""
        member = self.member()
        party = self.model.parties[member]
        if self.source.random() < 0.8:
            self.consortium.advance(PAUSE)
        tenure = self.source.choice(
            [party.tenures[-1], self.source.randbytes(32), self.source.choice(party.tenures), bytes(32)]
        )
        account, now = self.source.choice(list(self.services)), self.now()
        owner = list(self.consortium.owners.values())[member]
        signature = sign_account(owner, self.consortium.ledger.realm, member, account, party.namings + 1, tenure)
        error = ""
        if tenure == bytes(32):
            error = "ZeroTenure"
        elif tenure == party.tenures[-1] and account == party.account:
            error = "NothingChanges"
        elif now < party.named_at + PAUSE:
            error = "TooEarly"
        elif tenure in party.tenures[:-1]:
            error = "TenureUsed"
        arguments = (member, account, tenure, signature)
        if self.attempt(self.owners[member], "nameAccount", arguments, error, on="consortium"):
            party.account, party.named_at, party.namings = account, now, party.namings + 1
            if tenure != party.tenures[-1]:
                party.tenures.append(tenure)
                party.since = now
            self.moved()

    def take_account(self) -> None:
        member = self.member()
        party = self.model.parties[member]
        error = "" if party.account else "NothingChanges"
        if self.attempt(self.owners[member], "takeAccount", (member,), error, on="consortium"):
            party.account = None
            self.model.ready &= ~(1 << member)
            self.model.next &= ~(1 << member)
            self.moved()

    def reinstate(self) -> None:
        """The supervisor's owner lets the suspended serve again."""
        for member in members_of(self.model.suspended):
            assert self.supervisor_owner.transact(Call("consortium", "reinstate", (member,))).succeeded
        self.model.suspended = 0
        self.moved()

    def wait(self) -> None:
        seconds = self.source.choice([1, PERIOD // 2, PERIOD, SILENCE, ANSWER // 2, ANSWER, ANSWER + REPORT])
        self.consortium.advance(seconds)

    # ------------------------------------------------------------- comparison

    def agree(self) -> None:
        self.follower.sync()
        held = sum(self.agree_on(inquiry) for inquiry in self.model.inquiries)
        made, free = self.consortium.ledger.call(Call(self.credit, "lanes", ()))
        assert (made, made - free) == (self.model.lanes_made, held)
        now, state = self.now(), self.follower.state
        _members, _serving, ready = self.consortium.ledger.call(Call("consortium", "memberSets", ()))
        head = self.follower.now  # a call is judged at the newest block
        assert ready == state.cohort(0, head) == self.model.cohort(head)
        assert state.cohort(0, now + PERIOD) == self.model.next & ~self.model.suspended
        assert self.consortium.ledger.call(Call("consortium", "roster")) == state.roster == self.rosters[-1]
        for index, party in enumerate(self.model.parties):
            account, since = self.consortium.ledger.call(Call("consortium", "accountOf", (index,)))
            folded = state.members[index]
            assert int(account, 16) == int(folded.account or "0x0", 16) == int(party.account or "0x0", 16)
            assert since == folded.since == party.since
            assert (len(folded.namings), folded.tenure) == (party.namings, party.tenures[-1])

    def agree_on(self, inquiry: Inquiry) -> bool:
        """Compare one inquiry; returns whether it holds a lane."""
        status = self.consortium.ledger.call(Call(self.credit, "status", (inquiry.id,)))
        folded = self.follower.state.inquiries[inquiry.id]
        stage, inquirer, blocks, opened, deadline, silent_from, *rest = status
        cohort, awaited, width, digest, commitment = rest
        assert (Stage(stage), inquirer, blocks) == (inquiry.stage, inquiry.inquirer, inquiry.blocks)
        assert (opened, deadline) == (inquiry.opened, inquiry.deadline)
        assert silent_from == inquiry.opened + SILENCE
        assert (cohort, awaited, width) == (inquiry.cohort, inquiry.awaited, WIDTH)
        assert commitment == inquiry.commitment == (folded.report.commitment if folded.report else bytes(32))
        assert folded.stage is inquiry.stage
        assert folded.opening.cohort == inquiry.cohort
        assert sum(1 << member for member in folded.awaited) == inquiry.awaited
        product = b"".join(c.to_bytes(WIDTH, "big") for c in inquiry.product)
        if inquiry.holds_lane:
            assert self.consortium.ledger.call(Call(self.credit, "aggregate", (inquiry.id,))) == product
            assert digest == bytes(32)
        else:
            assert digest == keccak(product)
            assert folded.aggregate == product
        return inquiry.holds_lane


EXPECTED = {
    "open": (
        "",
        "NotAccount",
        "CohortTooSmall",
        "NotServing",
        "RosterMoved",
        "CohortMoved",
        "ReportOverdue",
    ),
    "contribute": ("", "NotAccount", "WrongStage", "NotAwaited"),
    "refuse": ("", "NotAccount", "WrongStage", "NotAwaited", "RefusalCode", "SealedLength"),
    "lapse": ("", "WrongStage", "TooEarly", "NothingChanges"),
    "expire": ("", "WrongStage", "TooEarly"),
    "report": ("", "WrongStage"),
    "attest": ("", "NotAccount", "CommitmentDiffers", "WrongStage"),
    "setReady": ("", "NotAccount", "NothingChanges"),
    "nameAccount": ("", "ZeroTenure", "TooEarly", "NothingChanges"),
    "takeAccount": ("", "NothingChanges"),
}
"""What the walks must have met, so that the test cannot become one that tries nothing; tests/contract has the rest."""


def test_random_steps__agree_with_the_specification(consortium: LocalConsortium) -> None:
    tester: Any = consortium.ledger.web3.provider.ethereum_tester  # type: ignore[attr-defined]
    seen: Counter[tuple[str, str]] = Counter()
    repeated = 0

    for seed in range(MOST_WALKS):
        snapshot, offset = tester.take_snapshot(), tester.backend.offset
        walk = Walk(consortium, seed, seen)
        walk.go(STEPS)
        repeated += sum(opening.repeats for _member, opening in walk.openings)
        tester.revert_to_snapshot(snapshot)
        tester.backend.offset = offset
        missing = [(step, end) for step, ends in EXPECTED.items() for end in ends if not seen[step, end]]
        if seed >= WALKS - 1 and not missing and repeated:
            return
    raise AssertionError(f"the walks never met {missing}, or no repetition of {repeated}; met {seen}")
