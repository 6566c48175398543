"""Fakes that implement the ports, and a small town of institutions over them: pure, no EVM, milliseconds.

`FakeChain` keeps to the rules of the two contracts as docs/spec.md section 7 states them (tests/model compares the real
contracts with the same fold), has a mempool that can be held back, and can be reorganised in any order. `FakeTown` founds a
consortium on it with real signatures and keys; only the Paillier keys are the public ones of tests/vectors.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from mpcredit import events as ev
from mpcredit import protocol
from mpcredit.consent import Consent, Purpose
from mpcredit.encoding import abi_encode, keccak
from mpcredit.errors import FeeTooLow, LedgerError, Refused, TooLarge
from mpcredit.events import Call, Change, Event, Opening, Parameters, Position, Stage
from mpcredit.identity import Subject
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.keystore import MemoryKeyStore
from mpcredit.ledger.roster import CHANGE_TYPES, SUPERVISOR, Pins, account_statement, key_statement, roster_link
from mpcredit.paillier import PrivateKey
from mpcredit.pairkeys import Realm
from mpcredit.policy import CreditPolicy
from mpcredit.ports import Block, Outcome, Signed, Taken
from mpcredit.schema import FIGURES_1, Schema
from mpcredit.state import Inquiry, LedgerState
from mpcredit.store import MemoryStore, SqliteStore
from mpcredit.tags import HmacTagger, TagKey
from mpcredit.tenure import tenure_of

JOINT_CREDIT = "0x000000000000000000000000000000000000bEEF"
REALM = Realm(31337, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
START = 1_700_000_000
DAY = 86_400
PERIOD = 2
"""Seconds of a period of readiness."""
TERMS = Parameters(
    minimum_cohort=4,
    minimum_modulus_bits=2048,
    answer_seconds=3_600,
    report_seconds=DAY,
    silence_seconds=60,
    window_seconds=30 * DAY,
    cooldown_seconds=DAY,
    repeat_seconds=4 * 3_600,
    delay_seconds=3_600,
    subjects_per_day=1_000,
    book_age_seconds=40 * DAY,
)
VECTORS = Path(__file__).parent / "vectors" / "paillier_test_keys.json"


@cache
def public_key_pair(name: str = "public-test-2048-a") -> PrivateKey:
    """A PUBLIC Paillier key."""
    case = next(c for c in json.loads(VECTORS.read_text())["cases"] if c["name"] == name)
    return PrivateKey.from_primes(int(case["p"], 16), int(case["q"], 16))


# --------------------------------------------------------------------- the ledger


@dataclass(frozen=True)
class Transaction:
    """What a signed transaction of the fake holds."""

    sender: str
    call: Call
    nonce: int
    fee: int = 0

    @property
    def raw(self) -> bytes:
        return pickle.dumps(self)

    @property
    def hash(self) -> bytes:
        return keccak(self.raw)


@dataclass
class FakeBlock:
    """A block and what it did."""

    block: Block
    events: list[Event] = field(default_factory=list)
    outcomes: dict[bytes, bool] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)


class FakeChain:
    """A ledger in memory that keeps to the contracts' rules. Implements `ports.Ledger`.

    `held` keeps broadcast transactions in the mempool until `mine`.
    """

    def __init__(self, realm: Realm = REALM) -> None:
        self._realm = realm
        self.blocks: list[FakeBlock] = []
        self.mempool: list[Transaction] = []
        self.seen: list[Transaction] = []
        """Every transaction that was ever broadcast, and every call whose gas was estimated: what a node could keep."""
        self.held = False
        self.time = START
        self.now = START
        """At which time the call under execution is judged."""
        self.fork = 0
        self.down = False
        self.fee = 0
        """What a transaction must offer to be mined; less is taken, and waits."""
        self.floor = 0
        """What it must offer to be taken at all."""
        self.too_large: Callable[[Transaction], bool] = lambda _transaction: False
        """Which transactions the node never takes for their bytes."""
        self.too_dear: Callable[[Call], bool] = lambda _call: False
        """Which calls need more gas than a block has: the node refuses the estimate."""
        self.mine([])

    # -- the port

    @property
    def realm(self) -> Realm:
        return self._realm

    def head(self) -> Block:
        self._ask()
        return self.blocks[-1].block

    def block(self, number: int) -> Block | None:
        self._ask()
        return self.blocks[number].block if 0 <= number < len(self.blocks) else None

    def first_block(self) -> int:
        return 0

    def events(self, first: int, last: int) -> Sequence[Event]:
        self._ask()
        return [event for block in self.blocks[first : last + 1] for event in block.events]

    def outcome(self, transaction: bytes) -> Outcome | None:
        self._ask()
        for block in self.blocks:
            if transaction in block.outcomes:
                return Outcome(block.outcomes[transaction], block.block.number, 100_000)
        return None

    def signed_by(self, transaction: bytes, call: Call) -> str | None:
        self._ask()
        return next((t.sender for t in self.seen if t.hash == transaction and t.call == call), None)

    def witness(self, head: Block, roster: bytes, *, at_once: bool = False) -> None:
        self._ask()

    def doubt(self, why: str) -> None:
        pass

    def transaction(self, transaction: bytes) -> bytes:
        return next(t.raw for t in self.seen if t.hash == transaction)

    def _ask(self) -> None:
        if self.down:
            raise LedgerError("the node is down")

    # -- time and order

    def advance(self, seconds: int) -> None:
        self.time += seconds
        self.mine([])

    def nonce(self, address: str) -> int:
        return sum(t.sender == address for block in self.blocks for t in block.transactions)

    def broadcast(self, transaction: Transaction) -> None:
        self._ask()
        if self.too_large(transaction):
            raise TooLarge("the node refused (send a transaction): oversized data")
        if transaction.fee < self.floor:
            raise FeeTooLow(f"the node asks for {self.floor}")
        self.seen.append(transaction)
        if self.outcome(transaction.hash) is None and transaction not in self.mempool:
            for other in list(self.mempool):  # one for each nonce, and a replacement must pay
                if (other.sender, other.nonce) == (transaction.sender, transaction.nonce):
                    if transaction.fee <= other.fee:
                        raise FeeTooLow("replacement transaction underpriced")
                    self.mempool.remove(other)
            self.mempool.append(transaction)
        if not self.held:
            self.mine()

    def mine(self, transactions: Iterable[Transaction] | None = None) -> None:
        """Mine these transactions, each in a block of its own; by default the mempool, what is not valid left there."""
        if transactions is None:
            pending, self.mempool = self.mempool, []
            for transaction in pending:
                if transaction.nonce == self.nonce(transaction.sender) and transaction.fee >= self.fee:
                    self._add([transaction])
                else:
                    self.mempool.append(transaction)
            return
        chosen = list(transactions)
        if not chosen:
            self._add([])
        for transaction in chosen:
            self._add([transaction])

    def _add(self, transactions: list[Transaction]) -> None:
        self.time += 1
        number = len(self.blocks)
        digest = hashlib.sha256(f"{number}/{self.fork}/{[t.hash.hex() for t in transactions]}".encode()).digest()
        made = FakeBlock(Block(number, digest, self.time))
        self.blocks.append(made)
        for transaction in transactions:
            made.transactions.append(transaction)
            try:
                effects = self.execute(transaction.sender, transaction.call)
                made.outcomes[transaction.hash] = True
            except Refused:
                made.outcomes[transaction.hash] = False
                continue
            self.emit(made, effects, transaction)

    def emit(
        self, made: FakeBlock, effects: Iterable[tuple[str, type[Event], dict[str, Any]]], by: Transaction
    ) -> None:
        for contract, kind, values in effects:
            at = Position(made.block.number, made.block.hash, len(made.events), made.block.timestamp, by.hash, contract)
            made.events.append(kind(at=at, **values))

    def reorganise(self, height: int) -> list[Transaction]:
        """Take away the blocks from a height on; the clock stays.

        Returns:
            The transactions that were in them.
        """
        gone = [t for block in self.blocks[height:] for t in block.transactions]
        self.blocks = self.blocks[:height]
        self.fork += 1
        self._add([])
        return gone

    # -- the contracts

    def fold(self) -> LedgerState:
        state = LedgerState(self.realm)
        for block in self.blocks:
            for event in block.events:
                state.apply(event)
        return state

    def execute(self, sender: str, call: Call, at: int = 0) -> list[tuple[str, type[Event], dict[str, Any]]]:
        """What a call would emit in the newest block, or in the next one if that is judged at a later time.

        Raises:
            Refused: with the name of the contract's error.
        """
        state = self.fold()
        self.now = max(self.blocks[-1].block.timestamp, at)
        rule = getattr(self, f"_{call.function}")
        effects: list[tuple[str, type[Event], dict[str, Any]]] = rule(state, sender, *call.arguments)
        return effects

    def change(self, state: LedgerState, kind: Change, *values: Any) -> tuple[str, type[Event], dict[str, Any]]:
        data = abi_encode(CHANGE_TYPES[kind], list(values))
        state.roster = roster_link(state.roster, kind, data)
        return (self.realm.consortium, ev.RosterChanged, {"roster": state.roster, "kind": kind, "data": data})

    def _member(self, state: LedgerState, sender: str, member: int) -> int:
        """The party that a call names, if its service account sends the call."""
        found = state.members.get(member)
        if found is None or found.account != sender:
            raise _no("NotAccount")
        return member

    def _awaited(self, state: LedgerState, sender: str, inquiry: bytes, member: int) -> Inquiry:
        self._member(state, sender, member)
        found = state.inquiries.get(inquiry)
        if found is None or found.stage is not Stage.OPEN:
            raise _no("WrongStage")
        if member not in found.awaited:
            raise _no("NotAwaited" if member in found.cohort else "NotInCohort")
        return found

    def _nothing(self, state: LedgerState, sender: str) -> list[Any]:
        return []

    def _setReady(self, state: LedgerState, sender: str, member: int, ready: bool) -> list[Any]:  # noqa: N802 - ABI
        self._member(state, sender, member)
        if bool(state.ready_next() >> member & 1) == ready:
            raise _no("NothingChanges")
        return [(self.realm.consortium, ev.ReadinessSet, {"member": member, "ready": ready})]

    def _sealMaskKeys(  # noqa: N802 - the ABI's name
        self, state: LedgerState, sender: str, member: int, version: int, period: int, sealed: bytes
    ) -> list[Any]:
        self._member(state, sender, member)
        values = {"member": member, "key_version": version, "period": period, "sealed_keys": sealed}
        return [(self.realm.consortium, ev.MaskKeysSealed, values)]

    def _anchor(self, state: LedgerState, sender: str, owner: str, head: bytes) -> list[Any]:
        self._party(state, sender, owner)
        return [(self.realm.consortium, ev.Anchored, {"owner": owner, "head": head})]

    def _notify(self, state: LedgerState, sender: str, owner: str, message: bytes) -> list[Any]:
        self._party(state, sender, owner)
        if not 1 <= len(message) <= 4_096:
            raise _no("NoticeLength")
        return [(self.realm.consortium, ev.Noticed, {"owner": owner, "message": message})]

    def _party(self, state: LedgerState, sender: str, owner: str) -> None:
        party = state.by_owner(owner) or state.supervisors.get(owner)
        if party is None or party.account != sender:
            raise _no("NotAccount")

    def _supervisor(self, state: LedgerState, sender: str, owner: str) -> None:
        if owner not in state.supervisors or state.supervisors[owner].account != sender:
            raise _no("NotAccount")

    def _auditOk(  # noqa: N802 - the ABI's name
        self, state: LedgerState, sender: str, owner: str, member: int, version: int, period: int
    ) -> list[Any]:
        if period not in (state.in_force, state.announced_key) or state.period_keys[period].supervisor != owner:
            raise _no("UnknownPeriodKey")
        self._supervisor(state, sender, owner)
        if state.members[member].key.version != version:
            raise _no("KeyVersion")
        if state.members[member].audited.get(period) == version:
            raise _no("NothingChanges")
        return [self.change(state, Change.MEMBER_AUDITED, member, version, period)]

    def _putPeriodKeyInForce(self, state: LedgerState, sender: str, owner: str, version: int) -> list[Any]:  # noqa: N802
        if state.announced_key != version or state.period_keys[version].supervisor != owner:
            raise _no("UnknownPeriodKey")
        self._supervisor(state, sender, owner)
        assert state.parameters is not None
        wanted = [i for i in state.active() if not state.members[i].suspended]
        audited = [i for i in wanted if version in state.members[i].audited]
        waited = self.now >= state.period_keys[version].announced_at + 7 * DAY
        if len(audited) < state.parameters.minimum_cohort or (audited != wanted and not waited):
            raise _no("PeriodKeyNotAccepted")
        return [self.change(state, Change.PERIOD_KEY_IN_FORCE, version)]

    def _endPeriodKey(self, state: LedgerState, sender: str, owner: str, version: int) -> list[Any]:  # noqa: N802
        if sender != owner:
            self._supervisor(state, sender, owner)
        if version not in (state.in_force, state.announced_key):
            raise _no("UnknownPeriodKey")
        return [self.change(state, Change.PERIOD_KEY_ENDED, version)]

    def _suspend(self, state: LedgerState, sender: str, owner: str, member: int) -> list[Any]:
        if sender != owner:
            self._supervisor(state, sender, owner)
        if state.members[member].suspended:
            raise _no("NothingChanges")
        return [self.change(state, Change.MEMBER_SUSPENDED, member)]

    def _open(self, state: LedgerState, sender: str, member: int, arguments: tuple[Any, ...]) -> list[Any]:
        self._member(state, sender, member)
        opening = Opening(*arguments)
        opening = replace(
            opening, currency=bytes(arguments[5]).decode("ascii", "replace"), consents=tuple(arguments[10])
        )
        now = self.now
        assert state.parameters is not None
        if now < state.opens_from:
            raise _no("TooEarly")
        if opening.roster != state.roster:
            raise _no("RosterMoved")
        self._check_cohort(state, member, opening, state.cohort(opening.group, now))
        for own in state.inquiries.values():
            due = own.opened.deadline + own.parameters.report_seconds
            if own.inquirer == member and own.stage in (Stage.OPEN, Stage.COMPLETE) and due <= now:
                raise _no("ReportOverdue")
        q0 = protocol.inquiry_q0(self.realm, JOINT_CREDIT, member, opening.n, opening.roster, opening.nonce)
        inquiry = protocol.inquiry_id(q0, opening)
        if inquiry in state.inquiries:
            raise _no("InquiryExists")
        values = {
            "inquiry": inquiry,
            "inquirer": member,
            "q0": q0,
            "account": sender,
            "deadline": now + state.parameters.answer_seconds,
            "opening": opening,
        }
        return [(JOINT_CREDIT, ev.Opened, values)]

    def _check_cohort(self, state: LedgerState, member: int, opening: Opening, ready: int) -> None:
        assert state.parameters is not None
        least, size = state.parameters.minimum_cohort, opening.cohort.bit_count()
        if ready.bit_count() < least:
            raise _no("CohortTooSmall")
        if not ready >> member & 1:
            raise _no("NotServing")
        if not opening.repeats:
            if opening.cohort != ready:
                raise _no("CohortMoved")
        elif (
            opening.cohort & ~ready
            or not opening.cohort >> member & 1
            or size < least
            or 3 * size < 2 * ready.bit_count()
        ):
            raise _no("NotRepeatable")

    def _contribute(self, state: LedgerState, sender: str, inquiry: bytes, member: int, payload: bytes) -> list[Any]:
        found = self._awaited(state, sender, inquiry, member)
        if found.opened.at.timestamp <= state.members[member].since:
            raise _no("OpenedBeforeTenure")
        if len(payload) != len(found.opening.payload):
            raise _no("PayloadLength")
        return [(JOINT_CREDIT, ev.Contributed, {"inquiry": inquiry, "member": member, "payload": payload})]

    def _refuse(
        self, state: LedgerState, sender: str, inquiry: bytes, member: int, code: int, sealed: bytes
    ) -> list[Any]:
        self._awaited(state, sender, inquiry, member)
        if len(sealed) > 64:
            raise _no("SealedLength")
        values = {"inquiry": inquiry, "member": member, "code": code, "sealed_cohort": sealed}
        return [(JOINT_CREDIT, ev.Refusal, values)]

    def _lapse(self, state: LedgerState, sender: str, inquiry: bytes) -> list[Any]:
        found = state.inquiries.get(inquiry)
        if found is None or found.stage is not Stage.OPEN:
            raise _no("WrongStage")
        if self.now < found.opened.at.timestamp + found.parameters.silence_seconds:
            raise _no("TooEarly")
        off = self._off(state, found)
        if not off:
            raise _no("NothingChanges")
        return [(self.realm.consortium, ev.ReadinessLapsed, {"members": off})]

    @staticmethod
    def _off(state: LedgerState, inquiry: Inquiry) -> int:
        return sum(1 << member for member in inquiry.awaited) & state.ready_next()

    def _expire(self, state: LedgerState, sender: str, inquiry: bytes) -> list[Any]:
        found = state.inquiries.get(inquiry)
        if found is None or found.stage is not Stage.OPEN:
            raise _no("WrongStage")
        if self.now < found.opened.deadline:
            raise _no("TooEarly")
        silent = sum(1 << member for member in found.awaited)
        effects: list[Any] = [(JOINT_CREDIT, ev.Expired, {"inquiry": inquiry, "silent": silent})]
        off = self._off(state, found)
        return [*effects, *([(self.realm.consortium, ev.ReadinessLapsed, {"members": off})] if off else [])]

    def _revokeConsent(self, state: LedgerState, sender: str, member: int, consent: bytes) -> list[Any]:  # noqa: N802
        self._member(state, sender, member)
        return [(JOINT_CREDIT, ev.ConsentRevoked, {"consent": consent, "member": member})]

    def _report(
        self, state: LedgerState, sender: str, inquiry: bytes, commitment: bytes, sealed: bytes, anchor: bytes
    ) -> list[Any]:
        found = state.inquiries.get(inquiry)
        if found is None or found.stage is not Stage.COMPLETE:
            raise _no("WrongStage")
        self._member(state, sender, found.inquirer)
        values = {"inquiry": inquiry, "commitment": commitment, "sealed_report": sealed, "anchor": anchor}
        return [(JOINT_CREDIT, ev.Reported, values)]

    def _attest(
        self,
        state: LedgerState,
        sender: str,
        inquiry: bytes,
        owner: str,
        valid: bool,
        culprits: int,
        commitment: bytes,
        anchor: bytes,
    ) -> list[Any]:
        found = state.inquiries.get(inquiry)
        self._supervisor(state, sender, owner)
        stages = (Stage.REPORTED,) if valid else (Stage.OPEN, Stage.COMPLETE, Stage.REPORTED)
        if found is None or found.stage not in stages:
            raise _no("WrongStage")
        if commitment != (found.report.commitment if found.report else bytes(32)):
            raise _no("CommitmentDiffers")
        values = {
            "inquiry": inquiry,
            "supervisor": owner,
            "account": sender,
            "valid": valid,
            "culprits": culprits,
            "commitment": commitment,
            "anchor": anchor,
        }
        named = [i for i in ev.members_of(culprits) if not state.members[i].suspended]
        return [(JOINT_CREDIT, ev.Attested, values), *(self.change(state, Change.MEMBER_SUSPENDED, i) for i in named)]


def _no(code: str) -> Refused:
    return Refused(f"the contract refuses: {code}", code=code)


class FakeSigner:
    """Implements `ports.Signer` on a FakeChain; like a real one it shows the call to the node for a gas estimate."""

    def __init__(self, chain: FakeChain, address: str) -> None:
        self.chain = chain
        self.address = address
        self.fee = 0
        self.ceiling = 10**9

    def nonce(self) -> int:
        count = self.mined()
        waiting = {t.nonce for t in self.chain.mempool if t.sender == self.address}
        while count in waiting:
            count += 1
        return count

    def mined(self) -> int:
        self.chain._ask()
        return self.chain.nonce(self.address)

    def sign(self, call: Call, nonce: int) -> Signed:
        self.chain._ask()
        transaction = Transaction(self.address, call, nonce, self.fee)
        self.chain.seen.append(transaction)
        if self.chain.too_dear(call):
            raise TooLarge("the node refused (estimate gas): gas required exceeds allowance (8000000)")
        self.chain.execute(self.address, call, call.judged_at)
        return Signed(transaction.raw, transaction.hash, nonce)

    def filler(self, nonce: int) -> Signed:
        return self.sign(Call("consortium", "nothing"), nonce)

    def raised(self, signed: bytes) -> Signed | None:
        self.chain._ask()
        before = pickle.loads(signed)
        fee = before.fee + 1 if before.fee or self.chain.fee or self.chain.floor else 0
        if fee > self.ceiling:
            raise FeeTooLow("the ceiling is reached")
        transaction = replace(before, fee=fee)
        return Signed(transaction.raw, transaction.hash, before.nonce) if fee else None

    def taker(self, nonce: int) -> Taken | None:
        self.chain._ask()
        for block in self.chain.blocks:
            for transaction in block.transactions:
                if (transaction.sender, transaction.nonce) == (self.address, nonce):
                    return Taken(transaction.hash, block.block.number)
        return None

    def broadcast(self, signed: bytes) -> None:
        self.chain.broadcast(pickle.loads(signed))

    def transact(self, call: Call) -> None:
        """Sign, send and mine now."""
        signed = self.sign(call, self.nonce())
        self.chain.mine([pickle.loads(signed.raw)])
        if not self.chain.blocks[-1].outcomes[signed.hash]:
            raise _no("reverted")


class FakeBook:
    """Implements `ports.Book` from a dictionary by tag; `reads` counts look-ups."""

    def __init__(self, figures: Mapping[bytes, Mapping[str, int]] | None = None, currency: str = "TWD") -> None:
        self.figures = dict(figures or {})
        self.as_of = START
        self.currency = currency
        self.reads: list[bytes] = []

    def record(self, schema: Schema, tag: bytes) -> Mapping[str, int]:
        self.reads.append(tag)
        return dict(self.figures.get(tag, schema.zero))


# --------------------------------------------------------------------- the town

FIGURES = {"outstanding": 1_000, "credit_limit": 5_000, "overdue": 10, "loans": 1, "pending": 0, "lenders": 1}


def figures(factor: int) -> dict[str, int]:
    """Figures of which no two subsets of members have the same sum."""
    return {**{name: value * factor for name, value in FIGURES.items()}, "lenders": 1}


def subject(number: int) -> Subject:
    """A made-up person."""
    return Subject("passport", f"T{number:08d}", country="TW")


@dataclass
class FakeTown:
    """A founded consortium over a FakeChain. `town[0]` is the institution with index 0."""

    chain: FakeChain
    banks: list[Institution]
    supervisor: SupervisorNode
    tagger: HmacTagger
    owners: list[LocalAccount]
    accounts: list[LocalAccount]
    """Service accounts."""
    supervisor_owner: LocalAccount
    supervisor_account: LocalAccount
    keys: list[MemoryKeyStore]
    supervisor_keys: MemoryKeyStore
    books: list[FakeBook]
    pins: Pins
    asleep: set[int] = field(default_factory=set)
    supervised: bool = True

    def __getitem__(self, index: int) -> Institution:
        return self.banks[index]

    def work(self) -> list[str]:
        """One round of everybody who is awake."""
        done = [line for i, bank in enumerate(self.banks) if i not in self.asleep for line in bank.work()]
        return done + (self.supervisor.work() if self.supervised else [])

    def settle(self, rounds: int = 30) -> list[str]:
        """Work until nobody has anything left to do."""
        lines: list[str] = []
        for _ in range(rounds):
            done = self.work()
            lines += done
            if not done and self._settled():
                return lines
            if not done:
                self.chain.advance(PERIOD)
        raise AssertionError(f"the town does not come to rest: {lines[-5:]}")

    def _settled(self) -> bool:
        """Whether no change of readiness waits for the next period."""
        state = self.chain.fold()
        return state.ready(self.chain.time + 1) == state.ready_next()

    def sleep(self, *indices: int) -> None:
        """Switch services off and stop them, so that the next cohort is without them."""
        for index in indices:
            self.banks[index].sync()
            self.banks[index].desk.outbox.drive(self.banks[index].follower.replays)
            self.banks[index].desk.outbox.post(
                f"unready/{index}/{self.chain.time}", Call("consortium", "setReady", (index, False))
            )
            self.asleep.add(index)
        self.chain.advance(PERIOD)

    def wake(self, *indices: int) -> None:
        """Start services again; they switch themselves on."""
        self.asleep -= set(indices)
        for index in indices:
            self.banks[index].work()
        self.chain.advance(PERIOD)

    def signer(self, index: int) -> FakeSigner:
        """An institution's service account, for an attacker who holds it."""
        return FakeSigner(self.chain, self.accounts[index].address)

    def rogue(self, index: int, call: Call) -> None:
        """A second program of an institution, or a thief, sends a call from its service account; a person has gone on above."""
        signer = self.signer(index)
        signer.broadcast(signer.sign(call, signer.nonce()).raw)
        self.banks[index].desk.outbox.adopt()

    def appoint(self, index: int, tenure: bytes) -> None:
        """An institution's owner names its service account again, with the tenure of a store."""
        owner, account = self.owners[index], self.accounts[index].address
        number = len(self.chain.fold().members[index].namings) + 1
        values = (index, owner.address, account, number, tenure, sign_naming(owner, index, account, number, tenure))
        self.chain.mine([])
        effect = self.chain.change(self.chain.fold(), Change.ACCOUNT_NAMED, *values)
        self.chain.emit(self.chain.blocks[-1], [effect], Transaction("owner", Call("consortium", "nameAccount"), 0))

    def consent(self, number: int, *, to: int = 0, days: int = 30, **changes: Any) -> Consent:
        """A receipt for `subject(number)`."""
        bank = self.banks[to]
        made = Consent.grant(subject(number), to=bank, purpose=Purpose.NEW_CREDIT, days=days, now=self.chain.time - 10)
        return replace(made, **changes) if changes else made

    def ask(self, number: int = 1, *, by: int = 0, **options: Any) -> str:
        """Store a request of a bank about `subject(number)`; nothing is sent yet."""
        bank = self.banks[by]
        bank.sync()
        request = bank.inquirer.request(["x"], [self.consent(number, to=by)], officer="officer", **options)
        return request.id

    def inquiry(self, request: str, *, by: int = 0) -> Inquiry:
        """The inquiry of a request, on the ledger."""
        found = self.banks[by].inquirer.get(request).inquiry
        assert found is not None
        self.banks[by].sync()
        return self.banks[by].desk.state.inquiries[found]

    def succeed_tag_key(self, *without: int) -> TagKey:
        """Put the next tag key in force; every bank uses it, but those that do not have it.

        The books follow by the chain alone: nobody looks at an identity.
        """
        key = TagKey(self.tagger.version + 1, bytes([self.tagger.version]) * 32)
        effect = self.chain.change(self.chain.fold(), Change.TAG_KEY_SET, key.version, key.commitment)
        self.chain.advance(1)
        self.chain.emit(self.chain.blocks[-1], [effect], Transaction("owner", Call("consortium", "change"), 0))
        before, self.tagger = self.tagger, HmacTagger(*self.tagger._keys, key)
        for index, book in enumerate(self.books):
            if index not in without:
                raised = {self.tagger.raised(tag, before.version): found for tag, found in book.figures.items()}
                book.figures = raised
                self.keys[index].save_tag_key(key)
                self.banks[index].use_tagger(self.tagger, book)
        return key

    def call(self, function: str, *arguments: Any) -> Call:
        """A call of JointCredit."""
        return Call(JOINT_CREDIT, function, arguments)


def sign_statement(
    account: LocalAccount, member: int, version: int, public: bytes, previous: bytes = bytes(32)
) -> bytes:
    """An owner's signature of an institution key, or a supervisor's of its period key (R9, R12)."""
    statement = key_statement(REALM, member, version, public, previous)
    return bytes(account.sign_message(encode_defunct(primitive=statement)).signature)


def sign_naming(owner: LocalAccount, party: int, account: str, number: int = 1, tenure: bytes = bytes(32)) -> bytes:
    """An owner's signature of a naming of its service account (R9)."""
    statement = account_statement(REALM, party, owner.address, account, number, tenure)
    return bytes(owner.sign_message(encode_defunct(primitive=statement)).signature)


def deterministic(label: str) -> LocalAccount:
    """An account that is the same in every run."""
    made: LocalAccount = Account.from_key(keccak(f"mpcredit fake {label}".encode()))
    return made


def found_town(
    members: int = 5,
    *,
    terms: Parameters = TERMS,
    confirmations: int = 0,
    stores: Callable[[int], Any] = lambda index: MemoryStore(),
    settle: bool = True,
) -> FakeTown:
    """Found a consortium and bring it to where every institution is ready."""
    chain = FakeChain()
    owners = [deterministic(f"owner {i}") for i in range(members)]
    accounts = [deterministic(f"account {i}") for i in range(members)]
    supervisor_owner, supervisor_account = deterministic("supervisor owner"), deterministic("supervisor")
    made = [stores(i) for i in range(members)]
    keys = [MemoryKeyStore() for _ in range(members)]
    supervisor_keys = MemoryKeyStore()
    tag_key = TagKey(1, b"t" * 32)
    tagger = HmacTagger(tag_key)

    # (1) founding: the events of the constructor, the confirmations and the supervisor's key.
    state = LedgerState(chain.realm)
    effects: list[Any] = [
        chain.change(state, Change.FOUNDED, 0, PERIOD),
        chain.change(state, Change.TERMS_CHANGED, *astuple(terms)),
        (REALM.consortium, ev.TermsSet, {"parameters": terms}),
        chain.change(state, Change.SUPERVISOR_ADDED, supervisor_owner.address),
    ]
    for i in range(members):
        name = f"Bank {chr(65 + i)}".encode()
        effects.append(chain.change(state, Change.MEMBER_INVITED, i, owners[i].address, name.decode()))
    effects.append(chain.change(state, Change.SCHEMA_SET, 1, FIGURES_1.hash))
    effects.append((REALM.consortium, ev.SchemaRegistered, {"schema": 1, "definition": FIGURES_1.definition}))
    effects.append(chain.change(state, Change.TAG_KEY_SET, 1, tag_key.commitment))
    effects.append(chain.change(state, Change.JOINT_CREDIT_SET, JOINT_CREDIT))
    replaced = {"previous": "0x" + "00" * 20, "current": JOINT_CREDIT}
    effects.append((REALM.consortium, ev.JointCreditReplaced, replaced))
    owner, named = supervisor_owner.address, supervisor_account.address
    signature = sign_naming(supervisor_owner, SUPERVISOR, named)
    effects.append(chain.change(state, Change.ACCOUNT_NAMED, SUPERVISOR, owner, named, 1, bytes(32), signature))
    public = supervisor_keys.create_supervisor_key(1).public
    signature = sign_statement(supervisor_owner, SUPERVISOR, 1, public)
    effects.append(chain.change(state, Change.PERIOD_KEY_ANNOUNCED, 1, public, owner, signature))
    for i in range(members):
        keys[i].save_tag_key(tag_key)
        public = keys[i].create_institution_key(1).public
        effects.append(chain.change(state, Change.MEMBER_CONFIRMED, i))
        signature = sign_statement(owners[i], i, 1, public)
        effects.append(chain.change(state, Change.KEY_SET, i, 1, public, False, signature))
        owner, named, tenure = owners[i].address, accounts[i].address, tenure_of(made[i])
        signature = sign_naming(owners[i], i, named, 1, tenure)
        effects.append(chain.change(state, Change.ACCOUNT_NAMED, i, owner, named, 1, tenure, signature))
    chain.emit(chain.blocks[-1], effects, Transaction("founder", Call("consortium", "found"), 0))

    # (2) the parties.
    pins = Pins(
        owners={i: frozenset({owner.address}) for i, owner in enumerate(owners)},
        supervisors=frozenset({supervisor_owner.address}),
        founding_supervisors=frozenset({supervisor_owner.address}),
        period_keys=frozenset(),
    )
    books = [FakeBook({tagger.tag(subject(n)): figures(2**i) for n in range(1, 6)}) for i in range(members)]
    banks = [
        Institution(
            ledger=chain,
            signer=FakeSigner(chain, accounts[i].address),
            store=made[i],
            keys=keys[i],
            tagger=tagger,
            book=books[i],
            policy=CreditPolicy.from_toml(),
            pins=pins,
            confirmations=confirmations,
            clock=lambda: 0,
            bits=2048,
        )
        for i in range(members)
    ]
    supervisor = SupervisorNode(
        ledger=chain,
        signer=FakeSigner(chain, supervisor_account.address),
        store=MemoryStore(),
        keys=supervisor_keys,
        pins=pins,
        confirmations=confirmations,
    )
    town = FakeTown(
        chain=chain,
        banks=banks,
        supervisor=supervisor,
        tagger=tagger,
        owners=owners,
        accounts=accounts,
        supervisor_owner=supervisor_owner,
        supervisor_account=supervisor_account,
        keys=keys,
        supervisor_keys=supervisor_keys,
        books=books,
        pins=pins,
    )
    if settle:
        town.settle()
        chain.advance(PERIOD)
    return town


@contextmanager
def two_keys(monkeypatch: Any) -> Iterator[None]:
    """Let `paillier.generate` give the two public test keys of 2048 bits in turn instead of searching primes."""
    from mpcredit import paillier

    turn = iter(range(10**6))
    names = ("public-test-2048-a", "public-test-2048-b")
    with monkeypatch.context() as patch:
        patch.setattr(paillier, "generate", lambda bits=2048: public_key_pair(names[next(turn) % 2]))
        yield


__all__ = [
    "DAY",
    "JOINT_CREDIT",
    "PERIOD",
    "REALM",
    "START",
    "TERMS",
    "FakeBook",
    "FakeChain",
    "FakeSigner",
    "FakeTown",
    "SqliteStore",
    "Transaction",
    "deterministic",
    "figures",
    "found_town",
    "public_key_pair",
    "sign_naming",
    "sign_statement",
    "subject",
    "two_keys",
]
