"""A process ends at any point and starts anew: everything is finished once, nothing is ever answered in two ways (R24).

What a restart finds is store, keystore and ledger. They change by few calls of the ports only; a process that ends
between two of them leaves what it would leave by ending right before the second. So a crash before each changing call,
one after the other until nothing crashes, meets every state that a crash can leave. Storms of crashes at any call of any
port, of all parties, several times in one inquiry, are added to that.
"""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from flow_world import BITS, DAY, HOUR, Customers, ask, rotate_key, sent_by, sums, terms

from mpcredit.chain import ChainSigner
from mpcredit.chain.artifacts import consortium as consortium_artifact
from mpcredit.chain.artifacts import joint_credit
from mpcredit.chain.transactions import parse_signed
from mpcredit.disclosure import RefusalCode
from mpcredit.events import (
    Attested,
    Call,
    Contributed,
    Expired,
    Opened,
    ReadinessLapsed,
    ReadinessSet,
    Refusal,
    Reported,
    Stage,
)
from mpcredit.identity import Subject
from mpcredit.inquirer import RequestState
from mpcredit.institution import InquiryHandle, Institution, SupervisorNode
from mpcredit.local import DEFAULT_PARAMETERS, LocalConsortium, local_consortium
from mpcredit.store import SqliteStore

NAMES = ("Bank A", "Bank B", "Bank C", "Bank D")
CHANGING = {
    *("insert", "put", "delete", "outbox_add", "outbox_update", "commit"),
    *("sign", "broadcast", "keep_inquiry_key", "destroy_inquiry_key"),
}
"""Calls that change store, keystore or ledger; `sign` asks the node for gas, and so shows it the payload."""


SILENCE = DEFAULT_PARAMETERS.silence_seconds


class Crash(BaseException):
    """The process ended here."""


@dataclass
class Fuse:
    """Ends the process at its n-th call of a port."""

    limit: int | None = None
    any_call: bool = False
    """Whether all calls count, or the changing ones only."""
    count: int = 0

    def pass_on(self, name: str) -> None:
        """Called before a call goes through."""
        if self.any_call or name in CHANGING:
            self.count += 1
            if self.limit is not None and self.count >= self.limit:
                raise Crash(f"before {name}, call {self.count}")


class Wired:
    """A port behind a fuse."""

    def __init__(self, port: Any, fuse: Fuse, tell: Callable[[str, tuple[Any, ...]], None] | None = None) -> None:
        self._port, self._fuse, self._tell = port, fuse, tell

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._port, name)
        if not callable(value):
            return value
        if name == "transaction":
            return self._transaction

        def call(*arguments: Any, **named: Any) -> Any:
            self._fuse.pass_on(name)
            if self._tell is not None:
                self._tell(name, arguments)
            return value(*arguments, **named)

        return call

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._port.transaction():
            yield
            self._fuse.pass_on("commit")


@dataclass
class Record:
    """All that ever left the process of one member: what was estimated, and what was sent."""

    signed: set[bytes] = field(default_factory=set)
    """Calldata whose gas was estimated."""
    sent: set[bytes] = field(default_factory=set)
    """Calldata in transactions handed to the node."""
    steps: dict[tuple[str, bytes], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Calldata by step and inquiry; `contribute` and `refuse` are one step, of which there is one."""
    openings: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Calldata of `open` by nonce."""

    def tell(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Note a call of the signer."""
        if name == "sign":
            call: Call = arguments[0]
            artifact = consortium_artifact() if call.contract == "consortium" else joint_credit()
            data = artifact.call_data(call.function, call.arguments)
            self.signed.add(data)
            if call.function in ("contribute", "refuse"):
                self.steps["answer", call.arguments[0]].add(data)
            if call.function in ("report", "lapse", "expire", "attest"):
                self.steps[call.function, call.arguments[0]].add(data)
            if call.function == "open":
                self.openings[call.arguments[1][0]].add(data)
        elif name == "broadcast":
            self.sent.add(parse_signed(arguments[0]).data)

    def check(self) -> None:
        """No two payloads for one inquiry, no inquiry id with two contents."""
        assert all(len(found) == 1 for found in self.steps.values())
        assert all(len(found) == 1 for found in self.openings.values())
        assert self.sent <= self.signed


class World:
    """A consortium that can be put back to where it was, and whose processes end when their fuse blows."""

    def __init__(self, consortium: LocalConsortium, directory: Path) -> None:
        self.consortium = consortium
        self.saved = directory
        self.customers = Customers(consortium)
        self.fuses: dict[str, Fuse] = defaultdict(Fuse)
        self.records: dict[str, Record] = defaultdict(Record)
        self.crashes: list[str] = []

    @property
    def _stores(self) -> dict[str, Any]:
        stores: Any = {**self.consortium.stores, "supervisor": self.consortium.supervisor.outbox.store}
        return {name: getattr(store, "_port", store) for name, store in stores.items()}

    def save(self) -> None:
        """Remember chain and stores."""
        tester: Any = self.consortium.ledger.web3.provider.ethereum_tester  # type: ignore[attr-defined]
        self.snapshot = tester.take_snapshot()
        self.time_offset = tester.backend.offset
        for name, store in self._stores.items():
            store.close()
            shutil.copy(store.path, self.saved / name)
            self.start(name)

    def put_back(self) -> None:
        """Be there again, in new processes with new fuses."""
        tester: Any = self.consortium.ledger.web3.provider.ethereum_tester  # type: ignore[attr-defined]
        tester.revert_to_snapshot(self.snapshot)
        self.snapshot = tester.take_snapshot()
        tester.backend.offset = self.time_offset
        self.fuses.clear()
        self.records.clear()
        self.crashes.clear()
        self.consortium.asleep.clear()
        for name, store in self._stores.items():
            store.close()
            for rest in store.path.parent.glob(f"{store.path.name}-*"):
                rest.unlink()
            shutil.copy(self.saved / name, store.path)
            store.path.chmod(0o600)
            self.start(name)
        self.before = self.consortium.ledger.head().number

    def start(self, name: str) -> None:
        """Start a process from what is on its disk and on the ledger."""
        store = self._stores[name]
        store.close()
        store.__init__(store.path, create=False)
        if name == "supervisor":
            self._start_supervisor(store)
        else:
            self._start_institution(name, store)

    def _start_institution(self, name: str, store: SqliteStore) -> None:
        made, old = self.consortium, self.consortium.institutions[name]
        signer = ChainSigner(made.ledger.web3, made.accounts[name], made.deployed.consortium)
        made.institutions[name] = Institution(
            ledger=self.wired(name, made.ledger),
            signer=self.wired(name, signer, self.records[name].tell),
            store=self.wired(name, store),
            keys=self.wired(name, made.keys[name]),
            tagger=made.tagger,
            book=old.furnisher.book,
            policy=old.policy,
            pins=made.pins,
            bits=old.inquirer.bits,
            ready=old.membership.ready,
        )

    def _start_supervisor(self, store: SqliteStore) -> None:
        made = self.consortium
        signer = ChainSigner(made.ledger.web3, made.supervisor_account, made.deployed.consortium)
        made.supervisor = SupervisorNode(
            ledger=self.wired("supervisor", made.ledger),
            signer=self.wired("supervisor", signer, self.records["supervisor"].tell),
            store=self.wired("supervisor", store),
            keys=self.wired("supervisor", made.supervisor_keys),
            pins=made.pins,
        )

    def wired(self, name: str, port: Any, tell: Callable[[str, tuple[Any, ...]], None] | None = None) -> Any:
        """A port behind the fuse of a party."""
        return Wired(port, self.fuses[name], tell)

    def light(self, name: str, limit: int, *, any_call: bool = False) -> None:
        """Let a party's next process end at its n-th call."""
        self.fuses[name] = Fuse(limit, any_call)
        self.start(name)

    def settle(self, then: Callable[[str], None] = lambda name: None) -> None:
        """Let all work until nothing is left to do; a process that ended is started anew.

        Args:
            then: told who crashed, before it is started anew.
        """
        made = self.consortium
        for _ in range(400):
            before, progress = made.ledger.head(), False
            for name in [*made.institutions, "supervisor"]:
                if name in made.asleep:
                    continue
                party: Any = made.supervisor if name == "supervisor" else made.institutions[name]
                try:
                    progress |= bool(party.work())
                except Crash as crash:
                    self.crashes.append(f"{name}: {crash}")
                    self.fuses[name] = Fuse()
                    then(name)
                    self.start(name)
                    progress = True
            if not progress and made.ledger.head() == before:
                for fuse in self.fuses.values():
                    fuse.limit = None  # what is looked at afterwards is no part of the run
                return
        raise AssertionError("it does not come to rest")

    def sweep(self, name: str, run: Callable[[], None]) -> int:
        """Run with a crash of one party before its 1st, 2nd, … changing call, until it does not crash any more.

        Returns:
            The number of crashes.
        """
        for limit in range(1, 200):
            self.put_back()
            self.light(name, limit)
            run()
            self.records[name].check()
            if not self.crashes:
                return limit - 1
        raise AssertionError("it crashes for ever")

    def events(self, kind: type) -> list[Any]:
        """Events of a kind since the state that was saved."""
        reader = self.consortium.institutions["Bank D"]
        reader.sync()
        return [e for e in reader.follower.events if isinstance(e, kind) and e.at.block > self.before]


@pytest.fixture(scope="module")
def consortium() -> Iterator[LocalConsortium]:
    """Four institutions, ready."""
    with local_consortium(institutions=4, bits=BITS, parameters=terms(minimum_cohort=3)) as made:
        yield made


@pytest.fixture(scope="module")
def subjects(consortium: LocalConsortium) -> list[Subject]:
    """The same in every run: each run is put back to before it."""
    return Customers(consortium).take(2)


@pytest.fixture
def world(consortium: LocalConsortium, tmp_path: Path) -> Iterator[World]:
    """A world that begins where the consortium was founded, and ends there."""
    (tmp_path / "founded").mkdir()
    beginning = World(consortium, tmp_path / "founded")
    beginning.save()
    (tmp_path / "run").mkdir()
    made = World(consortium, tmp_path / "run")
    made.save()
    made.put_back()
    yield made
    beginning.put_back()


@pytest.mark.slow
def test_inquirer_crashes_at_any_point__every_inquiry_ends_once(world: World, subjects: list[Subject]) -> None:
    def run() -> None:
        request = requested(world, subjects)
        world.settle()
        finished_once(world, request, subjects)

    crashes = world.sweep("Bank A", run)

    assert crashes >= 15


def test_furnisher_crashes_at_any_point__answers_once(world: World, subjects: list[Subject]) -> None:
    request = opened(world, subjects, silent=("Bank B",))

    def run() -> None:
        world.settle()
        finished_once(world, request, subjects)
        assert len(sent_by(world.consortium, world.before)["Bank B"]) == 1

    crashes = world.sweep("Bank B", run)

    assert crashes >= 4


def test_furnisher_that_refuses_crashes_at_any_point__refuses_once_and_gives_no_figures(
    world: World, subjects: list[Subject]
) -> None:
    request = opened(world, subjects, silent=("Bank B",))
    bank = world.consortium["Bank B"]
    book = bank.furnisher.book
    old = replace(world.consortium.books["Bank B"], as_of=bank.follower.now - 400 * DAY)

    def import_book(_name: str) -> None:
        """A newer book arrives with the restart: the stored refusal stands all the same."""
        if has_answer(world, "Bank B"):
            renewed.append(True)
            world.consortium["Bank B"].use_book(book)

    def run() -> None:
        world.consortium["Bank B"].use_book(old.index(world.consortium.tagger))
        world.settle(import_book)
        [refusal] = world.events(Refusal)
        assert (refusal.member, refusal.code) == (1, RefusalCode.BOOK)
        assert world.events(Contributed) == []
        assert world.consortium["Bank A"].inquirer.get(request).state is RequestState.REFUSED

    renewed: list[bool] = []
    crashes = world.sweep("Bank B", run)
    world.consortium["Bank B"].use_book(book)

    assert crashes >= 4
    assert renewed


def test_silent_furnisher_crashes_at_any_point_of_its_return__answers_once_and_is_switched_on(
    world: World, subjects: list[Subject]
) -> None:
    request = opened(world, subjects, silent=("Bank B",), until=lambda: world.consortium.advance(SILENCE))
    assert not world.consortium["Bank A"].desk.state.ready_next() >> 1 & 1

    def run() -> None:
        world.settle()
        finished_once(world, request, subjects)
        [switched] = world.events(ReadinessSet)
        assert (switched.member, switched.ready) == (1, True)
        [answered] = [event for event in world.events(Contributed) if event.member == 1]
        assert answered.at.block < switched.at.block

    crashes = world.sweep("Bank B", run)

    assert crashes >= 6


def test_inquirer_crashes_while_a_member_is_silent__switches_it_off_once(world: World, subjects: list[Subject]) -> None:
    request = opened(world, subjects, silent=("Bank B",))

    def run() -> None:
        world.consortium.asleep.add("Bank B")
        world.consortium.advance(SILENCE)
        world.settle()
        [lapsed] = world.events(ReadinessLapsed)
        assert lapsed.members == 0b0010
        assert world.consortium["Bank A"].inquirer.get(request).state is RequestState.OPEN

    crashes = world.sweep("Bank A", run)

    assert crashes >= 4


def test_inquirer_crashes_around_the_deadline__expires_once(world: World, subjects: list[Subject]) -> None:
    request = opened(world, subjects, silent=("Bank B",))

    def run() -> None:
        world.consortium.asleep.add("Bank B")
        world.consortium.advance(HOUR)
        world.settle()
        assert len(world.events(Expired)) == 1
        assert world.consortium["Bank A"].inquirer.get(request).state is RequestState.EXPIRED

    crashes = world.sweep("Bank A", run)

    assert crashes >= 4


def test_supervisor_crashes_at_any_point__attests_once(world: World, subjects: list[Subject]) -> None:
    request = opened(world, subjects, silent=("supervisor",))

    def run() -> None:
        world.settle()
        finished_once(world, request, subjects)

    crashes = world.sweep("supervisor", run)

    assert crashes >= 3


def test_member_crashes_while_it_seals_after_a_rotation__serves_again(world: World) -> None:
    rotate_key(world.consortium, "Bank B")
    world.save()

    def run() -> None:
        world.settle()
        member = world.consortium["Bank A"].desk.state.members[1]
        assert member.key.version == 2
        assert world.consortium["Bank A"].desk.state.serving_key(1) == member.key

    crashes = world.sweep("Bank B", run)

    assert crashes >= 4


@pytest.mark.parametrize("seed", range(5))
def test_storm_of_crashes__the_inquiry_ends_once(world: World, subjects: list[Subject], seed: int) -> None:
    source = random.Random(f"storm {seed}")
    parties = [*NAMES, "supervisor"]

    def again(name: str) -> None:
        if len(world.crashes) < 40:
            world.fuses[name] = Fuse(source.randrange(1, 70), any_call=True)

    request = requested(world, subjects)
    for name in parties:
        world.light(name, source.randrange(1, 40), any_call=True)
    world.settle(again)

    assert len(world.crashes) > 10
    for name in parties:
        world.records[name].check()
    finished_once(world, request, subjects)


# --------------------------------------------------------------------- steps


def requested(world: World, subjects: list[Subject]) -> str:
    """An officer asks; the request is in the store of Bank A."""
    fuse = world.fuses["Bank A"]
    limit, fuse.limit = fuse.limit, None
    handle: InquiryHandle = ask(world.consortium["Bank A"], subjects)
    fuse.limit, fuse.count = limit, 0
    return handle.id


def opened(
    world: World, subjects: list[Subject], *, silent: tuple[str, ...], until: Callable[[], None] = lambda: None
) -> str:
    """An inquiry that all but the silent ones have done their part of; the world is saved there."""
    request = requested(world, subjects)
    world.consortium.asleep.update(silent)
    world.settle()
    until()
    world.settle()
    world.consortium.asleep.clear()
    world.save()
    return request


def has_answer(world: World, name: str) -> bool:
    """Whether an answer is in the store."""
    return any(True for _ in world._stores[name].items("answer"))


def finished_once(world: World, request_id: str, subjects: list[Subject]) -> None:
    """One opening, one contribution of each, one report, one verdict; the right totals."""
    bank = world.consortium["Bank A"]
    bank.sync()
    request = bank.inquirer.get(request_id)
    assert request.state is RequestState.ATTESTED
    assert request.inquiry is not None
    inquiry = bank.desk.state.inquiries[request.inquiry]
    assert inquiry.stage is Stage.VALID
    assert request.totals == sums(world.consortium.books.values(), subjects)
    followed = [e for e in bank.follower.events if getattr(e, "inquiry", None) == request.inquiry]
    counted = {kind: sum(isinstance(e, kind) for e in followed) for kind in (Opened, Contributed, Reported, Attested)}
    assert counted == {Opened: 1, Contributed: 3, Reported: 1, Attested: 1}
    assert [i for i, found in bank.desk.state.inquiries.items() if found.inquirer == 0] == [request.inquiry]
    assert all(store.get("meta", "foreign") is None for store in world._stores.values())
