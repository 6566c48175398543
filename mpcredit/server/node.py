"""The worker of a server: it lets the party work round after round, and tells the pages what has changed.

One thread works; whoever else needs the party takes it with `locked` or `run`. Between rounds those who wait go first. A
ledger that is down, or any other trouble that the package knows, is told once and waited for: it never ends the worker.
What changed is published after each round, to any number of listeners of the server's event loop; it holds states and
counts, never a figure or an identity.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar

from mpcredit.encoding import to_hex
from mpcredit.errors import LedgerError, MpcreditError, NotYet
from mpcredit.events import Stage
from mpcredit.institution import Institution, SupervisorNode
from mpcredit.ledger.roster import Member
from mpcredit.outbox import Outbox
from mpcredit.pairkeys import Realm
from mpcredit.ports import Store
from mpcredit.roles.leaving import LONGEST_SECONDS
from mpcredit.state import Inquiry, LedgerState, ProposalRecord

__all__ = ["Change", "Node", "NodeBusy", "NodeStatus", "Party", "Subscription", "own_member", "own_owner"]

log = logging.getLogger("mpcredit")

Party = Institution | SupervisorNode
Upkeep = Callable[[Any], Iterable[str]]
T = TypeVar("T")

PAUSE: Final = 0.5
TROUBLE_PAUSE: Final = 2.0
"""Seconds between rounds while something is wrong."""
YIELD_SECONDS: Final = 2.0
"""For so long the worker lets others go first; then it takes its turn even if they queue."""
LOCK_SECONDS: Final = 30.0
"""A round that answers an inquiry of many subjects takes seconds."""
BACKLOG: Final = 1_000
"""Changes that one listener may be behind."""
LINES: Final = 200
SWITCH_OFF_AFTER: Final = 60.0
"""Seconds of trouble after which the institution switches its readiness off."""
LEAVING_PAUSE: Final = 0.2
"""Seconds between two looks whether an orderly stop is over."""
LOOK_ROUNDS: Final = 10
"""Requests are compared at least every so many rounds, whatever the rounds said they did."""


def own_member(party: Party) -> Member | None:
    """The member that an institution is; None for a supervisor, and while nobody has named its service account."""
    if not isinstance(party, Institution):
        return None
    try:
        return party.desk.member
    except NotYet:
        return None


def own_owner(party: Party) -> str:
    """The owner account of a party; empty while it has not named the service account with which the party signs."""
    if isinstance(party, Institution):
        member = own_member(party)
        return "" if member is None else member.owner
    try:
        return party.supervisor.owner
    except NotYet:
        return ""


class NodeBusy(MpcreditError):
    """The worker did not let go of the party in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the node has been busy for {seconds:.0f} seconds", remedy="try again; it is working on the ledger"
        )


@dataclass(frozen=True)
class Change:
    """Something that changed."""

    number: int
    """Ascending since the process started."""
    kind: str
    """request, inquiry, member, proposal, finding, head, line, health, lagged, or what other modules publish."""
    id: str
    """Of what changed; empty for head, line, health, lagged."""
    facts: Mapping[str, Any]
    """For a page or a log."""
    at: float
    """Unix seconds."""

    def document(self) -> dict[str, Any]:
        """For a JSON document."""
        return {"number": self.number, "kind": self.kind, "id": self.id, "at": self.at, **self.facts}


@dataclass(frozen=True)
class NodeStatus:
    """How the node is, as of its last round."""

    role: str
    name: str
    state: str
    """starting, working, waiting (the ledger is down), held up (other trouble) or stopped."""
    ready: bool
    """Whether it does its service; an institution is also ready on the ledger."""
    why: str
    """Why it is not ready."""
    trouble: str
    since: float
    """Since when it is in this state; unix seconds."""
    chain_id: int
    consortium: str
    consortium_name: str
    block: int | None = None
    block_time: int | None = None
    rounds: int = 0
    last_round: float | None = None
    last_round_seconds: float = 0.0
    pending_steps: int = 0
    stopped: str = ""
    """Why its store answers nothing until a person has acted (R25); empty if it answers."""
    book_as_of: int | None = None
    book_customers: int | None = None
    ready_now: bool = False
    """Whether the ledger has it ready in this period."""
    ready_next: bool = False
    """Whether the ledger has it ready from the next period on."""
    owner: str = ""
    """Owner account of the party; empty while the ledger shows none."""
    account: str = ""
    """Its service account, with which this server signs."""
    endpoints: tuple[dict[str, Any], ...] = ()
    """Name, state, trouble and newest block of each endpoint of the ledger, the preferred one first."""
    alarms: tuple[str, ...] = ()
    """What keeps ledger steps from being mined and a person must look at."""

    def document(self) -> dict[str, Any]:
        """For a JSON document."""
        return asdict(self)


# --------------------------------------------------------------------- listening


class Subscription:
    """Changes as they happen, for one listener in an event loop.

    `async with node.subscribe() as changes:` then `async for change in changes:`. It ends when the node stops. A listener
    that is too far behind misses changes, and is told so by one of kind "lagged".
    """

    def __init__(self, node: Node, kinds: Collection[str] | None) -> None:
        self._node = node
        self._kinds = None if kinds is None else frozenset(kinds) | {"lagged"}
        self._queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Subscription:
        self._loop = asyncio.get_running_loop()
        self._node._add(self)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._node._remove(self)

    def __aiter__(self) -> AsyncIterator[Change]:
        return self

    async def __anext__(self) -> Change:
        change = await self._queue.get()
        if change is None:
            raise StopAsyncIteration
        return change

    def _offer(self, change: Change | None) -> bool:
        """Hand over a change from any thread; returns whether the listener's loop still runs."""
        if change is not None and self._kinds is not None and change.kind not in self._kinds:
            return True
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._take, change)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _take(self, change: Change | None) -> None:
        if change is not None and self._queue.qsize() >= BACKLOG:
            while not self._queue.empty():
                self._queue.get_nowait()
            change = Change(change.number, "lagged", "", {}, change.at)
        self._queue.put_nowait(change)


# --------------------------------------------------------------------- what a round changed


@dataclass
class _Seen:
    """What was published last, so that only differences are."""

    events: int = 0
    replays: int = 0
    requests: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    inquiries: dict[bytes, tuple[Any, ...]] = field(default_factory=dict)
    members: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    proposals: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    findings: int = 0


def _inquiry_facts(inquiry: Inquiry) -> dict[str, Any]:
    return {
        "stage": inquiry.stage.name.lower(),
        "inquirer": inquiry.inquirer,
        "answered": len(inquiry.contributions),
        "cohort": len(inquiry.cohort),
        "refused_by": inquiry.refusal.member if inquiry.refusal else None,
        "report": inquiry.report is not None,
        "attested": inquiry.stage is Stage.VALID,
        "verdict": None if inquiry.verdict is None else "valid" if inquiry.verdict.valid else "void",
        "culprits": list(inquiry.culprits),
    }


def _member_facts(member: Member, state: LedgerState) -> dict[str, Any]:
    return {
        "name": member.name,
        "ready": bool(state.ready_next() >> member.index & 1),
        "serving": state.is_serving(member.index),
        "suspended": member.suspended,
        "removed": member.removed,
    }


def _proposal_facts(record: ProposalRecord) -> dict[str, Any]:
    return {
        "votes": sorted(record.votes),
        "approvals": sorted(record.approvals),
        "executed": record.executed,
        "withdrawn": record.withdrawn,
    }


def _mark(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in facts.values())


# --------------------------------------------------------------------- the node


class Node:
    """One party at work.

    Args:
        party: an institution or a supervisor; nobody else uses it, or its store, from now on.
        name: for people; by default as registered.
        pause: seconds between rounds that found nothing to do.
        upkeep: called before each round with the party, for example to exchange the loan book; each returns lines.
        say: takes one line for each thing done.
        clock: unix seconds.
    """

    def __init__(
        self,
        party: Party,
        *,
        name: str = "",
        pause: float = PAUSE,
        upkeep: Sequence[Upkeep] = (),
        say: Callable[[str], None] = lambda line: log.info("%s", line),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.party = party
        self.role = "institution" if isinstance(party, Institution) else "supervisor"
        self._name = name
        self._pause = pause
        self._upkeep = list(upkeep)
        self._after: list[Upkeep] = []
        self._say = say
        self._clock = clock
        self._lock = threading.RLock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._worker: threading.Thread | None = None
        self._listeners: set[Subscription] = set()
        self._listening = threading.Lock()
        self._number = 0
        self._lines: deque[tuple[float, str]] = deque(maxlen=LINES)
        self._seen = _Seen()
        self._woken = False
        self._switched_off = False
        ledger = party.follower.ledger
        self._status = NodeStatus(
            role=self.role,
            name=name or self._registered_name(),
            state="starting",
            ready=False,
            why="it has just been started",
            trouble="",
            since=clock(),
            chain_id=ledger.realm.chain_id,
            consortium=ledger.realm.consortium,
            consortium_name=str(getattr(ledger, "name", "")),
        )

    # ----------------------------------------------------------------- what it is

    @property
    def name(self) -> str:
        """For people: "Bank A", "Supervisor"."""
        return self._status.name

    @property
    def realm(self) -> Realm:
        """Chain id and Consortium."""
        return self.party.follower.ledger.realm

    @property
    def _state(self) -> LedgerState:
        return self.party.follower.state

    @property
    def _outbox(self) -> Outbox:
        return self.party.desk.outbox if isinstance(self.party, Institution) else self.party.outbox

    @property
    def _store(self) -> Store:
        return self._outbox.store

    def _member(self) -> Member | None:
        return own_member(self.party)

    def _registered_name(self) -> str:
        member = self._member()
        return member.name if member is not None else "Institution" if self.role == "institution" else "Supervisor"

    def status(self) -> NodeStatus:
        """How it is, as of the last round; never waits."""
        return self._status

    def lines(self) -> list[tuple[float, str]]:
        """What was done lately: unix seconds and a line each, oldest first."""
        return list(self._lines)

    # ----------------------------------------------------------------- taking the party

    @contextmanager
    def locked(self, timeout: float = LOCK_SECONDS) -> Iterator[Any]:
        """Have the party to oneself. In one thread it may be nested.

        Raises:
            NodeBusy: it was not to be had in time.
        """
        with self._counting:
            self._waiting += 1
        try:
            taken = self._lock.acquire(timeout=timeout)
        finally:
            with self._counting:
                self._waiting -= 1
        if not taken:
            raise NodeBusy(timeout)
        try:
            yield self.party
        finally:
            self._lock.release()

    async def run(self, function: Callable[[Any], T], *, timeout: float = LOCK_SECONDS) -> T:
        """Call a function with the party, in a thread, from async code.

        Raises:
            NodeBusy: the party was not to be had in time.
        """

        def call() -> T:
            with self.locked(timeout) as party:
                return function(party)

        return await asyncio.to_thread(call)

    def wake(self) -> None:
        """Start a round now, for example after a request was made."""
        self._woken = True
        self._awake.set()

    def each_round(self, function: Upkeep) -> None:
        """Have a function called in the worker after each round, idle ones too, with the party; it returns lines.

        What it raises of the `MpcreditError` tree is logged and holds up nothing else.
        """
        self._after.append(function)

    # ----------------------------------------------------------------- telling

    def publish(self, kind: str, id: str = "", **facts: Any) -> None:
        """Tell all listeners about a change; any thread may."""
        with self._listening:
            self._number += 1
            change = Change(self._number, kind, id, facts, self._clock())
            gone = [listener for listener in self._listeners if not listener._offer(change)]
            self._listeners.difference_update(gone)

    def subscribe(self, kinds: Collection[str] | None = None) -> Subscription:
        """Listen to changes, of some kinds or of all."""
        return Subscription(self, kinds)

    def end_subscriptions(self) -> None:
        """Let every listener end, so that a server can close its connections."""
        with self._listening:
            for listener in self._listeners:
                listener._offer(None)
            self._listeners.clear()

    def _add(self, listener: Subscription) -> None:
        with self._listening:
            self._listeners.add(listener)
        if self._stopping.is_set():
            listener._offer(None)

    def _remove(self, listener: Subscription) -> None:
        with self._listening:
            self._listeners.discard(listener)

    def _tell_line(self, line: str) -> None:
        self._lines.append((self._clock(), line))
        self._say(line)
        self.publish("line", text=line)

    # ----------------------------------------------------------------- working

    def start(self) -> None:
        """Start to work, in a thread of its own."""
        if self._worker is not None:
            raise RuntimeError("the node works already")
        self._worker = threading.Thread(target=self._run, name="mpcredit-node", daemon=True)
        self._worker.start()

    def leave(self, hurry: threading.Event, *, timeout: float = 60.0) -> None:
        """Stop in order: an institution switches off, and answers what still opens over it, before it stops (R28).

        Args:
            hurry: ends it at once when it is set.
            timeout: seconds to wait for a round.

        Raises:
            NodeBusy: a round did not end in time.
        """
        try:
            if isinstance(self.party, Institution) and self._worker is not None and not hurry.is_set():
                self._leave(hurry)
        except NodeBusy as error:
            log.warning("the stop is not in order: %s", error)
        self.stop(timeout=timeout)

    def _leave(self, hurry: threading.Event) -> None:
        with self.locked() as party:
            leaving = party.leave()
        self._tell_line(f"stopping: switched off first, answering for at most {LONGEST_SECONDS} s more")
        self.wake()
        while not hurry.wait(LEAVING_PAUSE):
            with self.locked():
                if leaving.over:
                    break
        with self.locked():
            left = leaving.last_words()
        for line in left:
            self._tell_line(line)

    def stop(self, *, timeout: float = 60.0) -> None:
        """Finish the round and stop. The store stays open.

        Args:
            timeout: seconds to wait for the round.

        Raises:
            NodeBusy: the round did not end in time.
        """
        self._stopping.set()
        self._awake.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.join(timeout)
            if worker.is_alive():
                raise NodeBusy(timeout)
        self._note(state="stopped", ready=False, why="it is stopped")
        self.end_subscriptions()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._awake.clear()
            self._let_others()
            with self._lock:
                progress = self.round()
            if self._stopping.is_set():
                return
            if not progress:
                self._awake.wait(self._pause if self._status.state == "working" else TROUBLE_PAUSE)

    def _let_others(self) -> None:
        """An RLock is not fair: without this the worker would take it again before anybody who waits."""
        end = time.monotonic() + YIELD_SECONDS
        while self._waiting and time.monotonic() < end and not self._stopping.is_set():
            time.sleep(0.005)

    def round(self) -> bool:
        """One round; the caller has the party. Returns whether anything was done."""
        begun = time.monotonic()
        lines: list[str] = []
        state, trouble = "working", ""
        try:
            for task in self._upkeep:
                lines.extend(task(self.party))
            lines.extend(self.party.work())
        except LedgerError as error:
            state, trouble = "waiting", str(error)
        except MpcreditError as error:
            state, trouble = "held up", str(error)
        except Exception as error:  # a programming mistake must be seen, and must not leave pages without a worker
            log.exception("a round failed")
            state, trouble = "held up", f"internal error: {type(error).__name__}; see the log"
        for task in self._after:
            try:
                lines.extend(task(self.party))
            except MpcreditError as error:
                log.warning("%s: %s", getattr(task, "__qualname__", "a task"), error)
            except Exception:
                log.exception("%s failed", getattr(task, "__qualname__", "a task"))
        for line in lines:
            self._tell_line(line)
        self._guard_readiness(state)
        self._publish_changes(bool(lines))
        self._note_round(state, trouble, time.monotonic() - begun)
        return bool(lines) and state == "working"

    # ----------------------------------------------------------------- readiness

    def _guard_readiness(self, state: str) -> None:
        """Switch off when trouble lasts: nobody should wait for an institution that cannot answer (R28)."""
        if state == "working":
            self._switched_off = False
            return
        lasting = state == self._status.state == "held up" and self._clock() - self._status.since >= SWITCH_OFF_AFTER
        if lasting and not self._switched_off:
            self._switch_off(self._status.trouble)

    def _switch_off(self, why: str) -> None:
        """Switch this institution off; it switches itself on again when it works again."""
        party = self.party
        if not isinstance(party, Institution) or self._status.stopped:
            return  # a stopped store takes no new nonce: R25
        try:
            party.follower.sync()
            member = self._member()
            if member is None or not member.confirmed or not party.membership.is_ready:
                return
            party.membership.switch(False)
            self._switched_off = True
            self._tell_line(f"switched readiness off: {why}")
        except MpcreditError as error:
            log.warning("readiness could not be switched off: %s", error)

    # ----------------------------------------------------------------- status

    def _note(self, **changes: Any) -> None:
        before = self._status
        values = {**vars(before), **changes}
        if (values["state"], values["trouble"]) != (before.state, before.trouble):
            values["since"] = self._clock()
        self._status = NodeStatus(**values)
        compared = ("state", "trouble", "ready", "alarms")
        if any(getattr(before, name) != values[name] for name in compared):
            self.publish(
                "health", state=values["state"], trouble=values["trouble"], ready=values["ready"], why=values["why"]
            )

    def _note_round(self, state: str, trouble: str, seconds: float) -> None:
        before = self._status
        if trouble and trouble != before.trouble:
            self._tell_line(f"{'waiting for the ledger' if state == 'waiting' else 'held up'}: {trouble}")
        elif before.trouble and not trouble:
            self._tell_line("that is over: it works again")
        head, member = self.party.follower.head, self._member()
        why = trouble or self._why_not_ready(member)
        facts: dict[str, Any] = {
            "state": state,
            "trouble": trouble,
            "ready": not why,
            "why": why,
            "name": self._name or self._registered_name(),
            "block": head.number if head else None,
            "block_time": head.timestamp if head else None,
            "rounds": before.rounds + 1,
            "last_round": self._clock(),
            "last_round_seconds": round(seconds, 3),
            "owner": own_owner(self.party),
            "account": self._outbox.signer.address,
            **self._readiness(member),
        }
        endpoints = getattr(self.party.follower.ledger, "endpoints", None)
        facts["endpoints"] = tuple(asdict(one) for one in endpoints()) if endpoints is not None else ()
        facts["alarms"] = self._outbox.alarms
        for alarm in facts["alarms"]:
            if alarm not in before.alarms:
                self._tell_line(alarm)
        try:
            facts["pending_steps"] = len(self._store.outbox_pending())
            if isinstance(self.party, Institution):
                facts["stopped"] = self.party.desk.displaced if member is not None else self.party.desk.stopped
        except MpcreditError as error:  # the round has told it already
            log.debug("the store cannot be read: %s", error)
        if isinstance(self.party, Institution):
            book = self.party.furnisher.book
            facts["book_as_of"] = book.as_of
            facts["book_customers"] = getattr(book, "customers", None)
        self._note(**facts)

    def _readiness(self, member: Member | None) -> dict[str, bool]:
        if member is None:
            return {"ready_now": False, "ready_next": False}
        now, state = self._state.ready(self.party.follower.next_time), self._state
        return {"ready_now": bool(now >> member.index & 1), "ready_next": bool(state.ready_next() >> member.index & 1)}

    def _why_not_ready(self, member: Member | None) -> str:
        state = self._state
        if not isinstance(self.party, Institution):
            return "" if own_owner(self.party) else "its ledger account is no supervisor's service account"
        if member is None:
            return "its ledger account is no member's service account"
        if member.suspended:
            return "it is suspended by the supervisor"
        if state.in_force is None:
            return "no period key is in force"
        if not state.is_serving(member.index):
            return "the supervisor has not audited its mask keys yet"
        if why := self.party.membership.why_not:
            return why
        if self.party.membership.leaving:
            return "it is being stopped"
        if not self._readiness(member)["ready_now"]:
            on = self._readiness(member)["ready_next"]
            return "it is ready from the next period on" if on else "it is not ready on the ledger"
        return ""

    # ----------------------------------------------------------------- changes

    def _publish_changes(self, did_something: bool) -> None:
        follower, seen = self.party.follower, self._seen
        replayed = seen.replays != follower.replays
        if replayed:
            seen.replays, seen.events = follower.replays, 0
        new = follower.events[seen.events :]
        seen.events = len(follower.events)
        if new or replayed:
            if follower.head is not None:
                self.publish("head", block=follower.head.number, timestamp=follower.head.timestamp)
            self._publish_ledger(None if replayed else {getattr(event, "inquiry", None) for event in new})
        if isinstance(self.party, SupervisorNode):
            findings = self.party.supervisor.findings
            for finding in findings[seen.findings :]:
                inquiry = to_hex(finding.inquiry) if finding.inquiry is not None else ""
                self.publish("finding", inquiry, culprits=list(finding.culprits), text=finding.text)
            seen.findings = len(findings)
        elif new or replayed or did_something or self._woken or self._status.rounds % LOOK_ROUNDS == 0:
            self._woken = False
            self._publish_requests(self.party)

    def _publish_ledger(self, touched: set[bytes | None] | None) -> None:
        """Tell which inquiries, members and proposals are different.

        Args:
            touched: inquiries to look at; None: all.
        """
        state, seen = self._state, self._seen
        looked = state.inquiries if touched is None else [q for q in touched if q in state.inquiries]
        for inquiry_id in looked:
            assert inquiry_id is not None
            facts = _inquiry_facts(state.inquiries[inquiry_id])
            if seen.inquiries.get(inquiry_id) != _mark(facts):
                seen.inquiries[inquiry_id] = _mark(facts)
                self.publish("inquiry", to_hex(inquiry_id), **facts)
        for index, member in state.members.items():
            facts = _member_facts(member, state)
            if seen.members.get(index) != _mark(facts):
                seen.members[index] = _mark(facts)
                self.publish("member", str(index), **facts)
        for number, record in state.proposals.items():
            facts = _proposal_facts(record)
            if seen.proposals.get(number) != _mark(facts):
                seen.proposals[number] = _mark(facts)
                self.publish("proposal", str(number), **facts)

    def _publish_requests(self, party: Institution) -> None:
        try:
            requests = party.inquirer.requests()
        except MpcreditError as error:
            log.debug("the store cannot be read: %s", error)
            return
        for request in requests:
            facts = {
                "state": str(request.state),
                "note": request.note,
                "inquiry": to_hex(request.inquiry) if request.inquiry is not None else None,
                "officer": str(request.value.get("officer", "")),
                "ready_totals": request.totals is not None,
            }
            if self._seen.requests.get(request.id) != _mark(facts):
                self._seen.requests[request.id] = _mark(facts)
                self.publish("request", request.id, **facts)
