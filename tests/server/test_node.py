"""The worker: what it publishes, who gets the party when, and that no trouble ends it.

Branches: a round - publishes what changed; trouble - the ledger, the package's, a mistake; taking the party - in turn,
nested, in time; listening - from an event loop, by kind, too slowly; readiness - withdrawn at the end and in lasting trouble.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakes import DAY, PERIOD, FakeSigner, FakeTown, found_town, two_keys

from mpcredit.chain import EndpointState
from mpcredit.encoding import to_hex
from mpcredit.errors import EndpointsDisagree, KeyStoreError, LedgerError
from mpcredit.events import Call
from mpcredit.roles.leaving import LONGEST_SECONDS
from mpcredit.server import node as node_module
from mpcredit.server.node import Change, Node, NodeBusy


class Clock:
    """Unix seconds that the test turns."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTown]:
    """Five institutions, ready."""
    with two_keys(monkeypatch):
        yield found_town(5)


@pytest.fixture
def clock() -> Clock:
    """Of the node."""
    return Clock()


class Ear:
    """Takes what a node publishes, without an event loop."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: list[Change] = []
        publish = node.publish

        def record(kind: str, id: str = "", **facts: Any) -> None:
            publish(kind, id, **facts)
            self.heard.append(Change(len(self.heard), kind, id, facts, 0.0))

        monkeypatch.setattr(node, "publish", record)

    def take(self, kind: str) -> list[Change]:
        """What was published of a kind since this was asked last."""
        found = [change for change in self.heard if change.kind == kind]
        self.heard = [change for change in self.heard if change.kind != kind]
        return found


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


# --------------------------------------------------------------------- rounds


def test_round__institution_at_rest__is_working_and_ready(town: FakeTown) -> None:
    node = Node(town[0])

    node.round()

    status = node.status()
    assert (status.state, status.ready, status.why, status.trouble) == ("working", True, "", "")
    assert (status.role, status.name, node.name) == ("institution", "Bank A", "Bank A")
    assert status.block == town.chain.head().number
    assert status.consortium == node.realm.consortium
    assert (status.ready_now, status.ready_next) == (True, True)
    assert (status.owner, status.account) == (town.owners[0].address, town.accounts[0].address)
    assert status.document()["rounds"] == 1


def test_round__supervisor__is_ready_without_being_declared(town: FakeTown) -> None:
    node = Node(town.supervisor)

    node.round()

    assert (node.role, node.name, node.status().ready) == ("supervisor", "Supervisor", True)


def test_rounds__whole_inquiry__publishes_every_state_once(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(town[0])
    node.round()
    ear = Ear(node, monkeypatch)
    request = town.ask(1)
    node.wake()

    for _ in range(30):
        node.round()
        for bank in town.banks[1:]:
            bank.work()
        town.supervisor.work()

    states = [change.facts["state"] for change in ear.take("request")]
    assert states[0] in ("opening", "open")
    assert states[-1] == "attested"
    assert len(states) == len(set(states))
    inquiries = ear.take("inquiry")
    assert {change.id for change in inquiries} == {to_hex(town.inquiry(request).id)}
    assert inquiries[-1].facts == {
        "stage": "valid",
        "inquirer": 0,
        "answered": 5,
        "cohort": 5,
        "refused_by": None,
        "report": True,
        "attested": True,
        "verdict": "valid",
        "culprits": [],
    }
    assert ear.take("head")
    assert any("attested" in change.facts["text"] for change in ear.take("line"))
    assert any("attested" in text for _at, text in node.lines())


def test_published__facts__hold_no_figure_and_no_tag(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(town[0])
    ear = Ear(node, monkeypatch)
    request = town.ask(1)
    for _ in range(30):
        node.round()
        town.work()

    totals = town[0].inquirer.get(request).totals
    assert totals is not None
    text = repr([change.facts for change in ear.heard])
    assert all(str(amount) not in text for record in totals for amount in record.values() if amount > 99)
    assert to_hex(town[0].inquirer.get(request).consents[0].tag) not in text


def test_idle_rounds__publish_nothing(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(town[0])
    node.round()
    ear = Ear(node, monkeypatch)

    for _ in range(25):
        assert not node.round()

    assert ear.heard == []


def test_finding__of_the_supervisor__is_published_once(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpcredit.supervisor import Finding

    node = Node(town.supervisor)
    ear = Ear(node, monkeypatch)
    town.supervisor.supervisor.findings.append(Finding(b"\x01" * 32, (2,), "Bank C sent nonsense"))

    node.round()
    node.round()

    (finding,) = ear.take("finding")
    assert (finding.id, finding.facts["culprits"]) == ("0x" + "01" * 32, [2])


def test_reorganisation__states_are_published_anew(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(town[0])
    town.ask(1)
    node.round()
    ear = Ear(node, monkeypatch)
    head = town.chain.head().number

    town.chain.reorganise(head - 1)
    node.round()

    assert ear.take("head")
    assert node.status().state == "working"


# --------------------------------------------------------------------- trouble


def test_ledger_down__is_told_once_and_over_by_itself(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(town[0])
    node.round()
    ear = Ear(node, monkeypatch)

    town.chain.down = True
    for _ in range(3):
        assert not node.round()

    assert node.status().state == "waiting"
    assert not node.status().ready
    assert "the node is down" in node.status().why
    town.chain.down = False
    node.round()
    assert node.status().ready
    assert [change.facts["state"] for change in ear.take("health")] == ["waiting", "working"]
    assert len(ear.take("line")) == 2


def test_trouble_of_the_package__holds_up_and_names_the_remedy(town: FakeTown) -> None:
    def upkeep(_party: object) -> list[str]:
        raise KeyStoreError("the tag key is not at hand", remedy="import it")

    node = Node(town[0], upkeep=[upkeep])

    node.round()

    assert (node.status().state, node.status().ready) == ("held up", False)
    assert node.status().trouble == "the tag key is not at hand (import it)"


def test_programming_mistake__is_logged_and_the_worker_lives(
    town: FakeTown, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "TROUBLE_PAUSE", 0.01)
    mistakes = iter([ZeroDivisionError("secret figure 42")])

    def upkeep(_party: object) -> list[str]:
        for mistake in mistakes:
            raise mistake
        return []

    node = Node(town[0], upkeep=[upkeep], pause=0.01)
    node.round()
    assert node.status().trouble == "internal error: ZeroDivisionError; see the log"
    assert "a round failed" in caplog.text

    node.start()
    until(lambda: node.status().state == "working")
    node.stop()


def test_each_round__failing_task__holds_up_nothing_else(town: FakeTown, caplog: pytest.LogCaptureFixture) -> None:
    node, called = Node(town[0]), []

    def failing(_party: object) -> list[str]:
        raise LedgerError("cannot reach the webhook")

    def mistaken(_party: object) -> list[str]:
        raise KeyError("x")

    def last(party: object) -> list[str]:
        called.append(party)
        return ["sent a notice"]

    for task in (failing, mistaken, last):
        node.each_round(task)

    assert node.round()

    assert called == [town[0]]
    assert node.status().state == "working"
    assert [text for _at, text in node.lines()] == ["sent a notice"]
    assert "cannot reach the webhook" in caplog.text
    assert "mistaken" in caplog.text


# --------------------------------------------------------------------- the party


def test_locked__waiting_people_go_before_the_next_round(town: FakeTown) -> None:
    node = Node(town[0], pause=0.0, upkeep=[lambda _party: ["always something to do"]])
    node.start()
    try:
        for _ in range(20):
            with node.locked(timeout=5.0) as party, node.locked(timeout=0.1):
                assert party is town[0]
    finally:
        node.stop()

    assert node.status().state == "stopped"
    assert node.status().rounds > 0


def test_locked__party_taken__is_busy_after_the_time(town: FakeTown) -> None:
    node = Node(town[0])
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with node.locked():
            taken.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(10)

    with pytest.raises(NodeBusy, match="busy"), node.locked(timeout=0.05):
        pass

    assert node.status().state == "starting"  # asking for the status never waits
    done.set()
    holder.join()


def test_run__from_async_code__uses_a_thread(town: FakeTown) -> None:
    node = Node(town[0])

    found = asyncio.run(node.run(lambda party: (party.name, threading.current_thread() is threading.main_thread())))

    assert found == ("Bank A", False)


def test_wake__starts_a_round_at_once(town: FakeTown) -> None:
    node = Node(town[0], pause=60.0)
    node.start()
    until(lambda: node.status().rounds > 0)
    rounds = node.status().rounds

    node.wake()

    until(lambda: node.status().rounds > rounds)
    node.stop()


def test_start__twice__is_a_mistake(town: FakeTown) -> None:
    node = Node(town[0])
    node.start()

    with pytest.raises(RuntimeError):
        node.start()

    node.stop()
    node.stop()  # harmless


# --------------------------------------------------------------------- listening


def test_subscription__gets_changes_of_its_kinds_and_ends_with_the_node(town: FakeTown) -> None:
    node = Node(town[0], pause=0.01)

    async def listen() -> list[Change]:
        found = []
        async with node.subscribe({"application", "health"}) as changes:
            node.start()
            node.publish("other", "1")
            node.publish("application", "17", state="open")
            stopping = asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(0.3), node.stop()))
            async for change in changes:
                found.append(change)
            await stopping
        return found

    found = asyncio.run(asyncio.wait_for(listen(), 20))

    assert [change.kind for change in found if change.kind != "health"] == ["application"]
    application = next(change for change in found if change.kind == "application")
    assert application.document()["state"] == "open"
    assert [change.facts["state"] for change in found if change.kind == "health"] == ["working", "stopped"]
    assert [change.number for change in found] == sorted(change.number for change in found)


def test_subscription__too_slow__is_told_that_it_missed_changes(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_module, "BACKLOG", 5)
    node = Node(town[0])

    async def listen() -> list[Change]:
        async with node.subscribe({"line"}) as changes:
            for number in range(9):
                node.publish("line", text=str(number))
            await asyncio.sleep(0.05)
            node.end_subscriptions()
            return [change async for change in changes]

    found = asyncio.run(listen())

    assert [change.kind for change in found] == ["lagged", "line", "line", "line"]
    assert found[-1].facts["text"] == "8"


def test_subscription__loop_is_gone__is_dropped(town: FakeTown) -> None:
    node = Node(town[0])

    async def leave() -> None:
        await node.subscribe().__aenter__()

    asyncio.run(leave())

    node.publish("line", text="to nobody")
    node.publish("line", text="still to nobody")


def test_subscription__after_the_end__ends_at_once(town: FakeTown) -> None:
    node = Node(town[0])
    node.stop()

    async def listen() -> list[Change]:
        async with node.subscribe() as changes:
            return [change async for change in changes]

    assert asyncio.run(asyncio.wait_for(listen(), 5)) == []


# --------------------------------------------------------------------- readiness


def is_on(town: FakeTown, index: int) -> bool:
    """Whether the ledger has an institution ready from the next period on."""
    return bool(town.chain.fold().ready_next() >> index & 1)


def stopped_in_order(node: Node, town: FakeTown, hurry: threading.Event | None = None) -> threading.Thread:
    """Begin an orderly stop in a thread, in the first second of a period; it goes on when the test lets time pass."""
    with node.locked():
        while town.chain.time % PERIOD != PERIOD - 1:
            town.chain.mine([])
    thread = threading.Thread(target=node.leave, args=(hurry or threading.Event(),), daemon=True)
    thread.start()
    return thread


def test_leave__switches_off_for_the_next_period_and_a_start_switches_on_again(town: FakeTown) -> None:
    node = Node(town[0], pause=0.01)
    node.start()
    until(lambda: node.status().ready)

    thread = stopped_in_order(node, town)
    until(lambda: not is_on(town, 0))
    until(lambda: not node.status().ready)
    status = node.status()
    assert (status.ready_now, status.ready_next, status.state) == (True, False, "working")  # until the period is over
    assert status.why == "it is being stopped"
    with node.locked():
        town.chain.advance(PERIOD)
    thread.join(10)

    assert (thread.is_alive(), node.status().state) == (False, "stopped")
    town[0].membership.leaving = False  # of the process that ended
    again = Node(town[0])
    again.round()
    assert again.status().why == "it is ready from the next period on"
    town.chain.advance(PERIOD)
    again.round()
    assert (is_on(town, 0), again.status().ready) == (True, True)


def test_leave__inquiry_that_is_open__is_answered_first(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    request = town.ask(1, by=1)
    town[1].work()
    inquiry = town.inquiry(request, by=1)
    bank, answer = town[0], town[0].furnisher.step
    monkeypatch.setattr(bank.furnisher, "step", lambda: answer() if bank.membership.leaving else [])
    node = Node(bank, pause=0.01)
    node.start()
    until(lambda: node.status().ready)
    assert 0 not in bank.desk.state.inquiries[inquiry.id].contributions

    thread = stopped_in_order(node, town)
    until(lambda: not is_on(town, 0))
    with node.locked():
        town.chain.advance(PERIOD)
    thread.join(10)

    assert not thread.is_alive()
    assert 0 in town.chain.fold().inquiries[inquiry.id].contributions
    assert not any("still waits" in text for _at, text in node.lines())


def test_leave__inquiry_that_cannot_be_answered_in_time__is_named(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = town.ask(1, by=1)
    town[1].work()
    inquiry = town.inquiry(request, by=1)
    node, now = Node(town[0], pause=0.01), [0.0]
    monkeypatch.setattr(town[0].furnisher, "step", lambda: [])
    leave = town[0].leave
    monkeypatch.setattr(town[0], "leave", lambda: leave(lambda: now[0]))
    node.start()

    thread = stopped_in_order(node, town)
    until(lambda: not is_on(town, 0))
    with node.locked():
        town.chain.advance(PERIOD)
    time.sleep(3 * node_module.LEAVING_PAUSE)
    assert thread.is_alive()  # it is still awaited
    now[0] += LONGEST_SECONDS
    thread.join(10)

    assert not thread.is_alive()
    told = [text for _at, text in node.lines() if "still waits for this institution" in text]
    assert len(told) == 1
    assert to_hex(inquiry.id)[:12] in told[0]


def test_leave__told_to_hurry__ends_at_once(town: FakeTown) -> None:
    node, hurry = Node(town[0], pause=0.01), threading.Event()
    node.start()
    until(lambda: node.status().ready)
    thread = stopped_in_order(node, town, hurry)
    until(lambda: not is_on(town, 0))

    hurry.set()
    thread.join(10)

    assert (thread.is_alive(), node.status().state) == (False, "stopped")


def test_leave__hurried_from_the_start__leaves_readiness_alone(town: FakeTown) -> None:
    node, hurry = Node(town[0], pause=0.01), threading.Event()
    hurry.set()
    node.start()
    until(lambda: node.status().ready)

    node.leave(hurry)

    assert (node.status().state, is_on(town, 0)) == ("stopped", True)


def test_leave__ledger_down__ends_when_it_is_told_to_hurry(town: FakeTown) -> None:
    node, hurry = Node(town[0], pause=0.01), threading.Event()
    node.start()
    until(lambda: node.status().ready)
    town.chain.down = True
    thread = threading.Thread(target=node.leave, args=(hurry,), daemon=True)
    thread.start()
    until(lambda: node.status().state == "waiting")

    hurry.set()
    thread.join(10)

    assert (thread.is_alive(), node.status().state) == (False, "stopped")


def test_stop__without_leaving__leaves_readiness_alone(town: FakeTown) -> None:
    node = Node(town[0])
    node.round()

    node.stop()

    assert is_on(town, 0)


def test_lasting_trouble__switches_off_once(town: FakeTown, clock: Clock) -> None:
    trouble = [True]

    def upkeep(_party: object) -> list[str]:
        if trouble[0]:
            raise KeyStoreError("the book cannot be read", remedy="mend it")
        return []

    node = Node(town[0], upkeep=[upkeep], clock=clock)
    node.round()
    node.round()
    assert is_on(town, 0)  # a hiccup is no reason

    clock.now += node_module.SWITCH_OFF_AFTER + 1
    node.round()
    sent = len(town.chain.seen)
    node.round()

    assert not is_on(town, 0)
    assert len(town.chain.seen) == sent
    trouble[0] = False
    node.round()
    node.round()
    assert is_on(town, 0)


def test_book_too_old__switches_off_and_a_newer_one_on_again(town: FakeTown) -> None:
    node = Node(town[0])
    town.chain.advance(town[0].desk.state.parameters.book_age_seconds + DAY)  # type: ignore[union-attr]

    node.round()

    assert not is_on(town, 0)
    assert "older than the terms permit" in node.status().why
    town.books[0].as_of = town.chain.time
    node.round()
    assert is_on(town, 0)


def test_round__account_that_nobody_named__says_so(town: FakeTown) -> None:
    of_no_member = "is not the service account of the member whose store this is"
    for party, why in ((town[0], of_no_member), (town.supervisor, "no supervisor's service account")):
        node = Node(party)
        signer: Any = party.desk.outbox.signer if party is town[0] else town.supervisor.outbox.signer
        signer.address = "0x" + "12" * 20

        node.round()

        status = node.status()
        assert (status.ready, status.owner, why in (status.trouble + status.why)) == (False, "", True)


def test_round__no_period_key_in_force__says_so(town: FakeTown) -> None:
    node = Node(town[0])
    ended = Call("consortium", "endPeriodKey", (town.supervisor_owner.address, 1))
    FakeSigner(town.chain, town.supervisor_owner.address).transact(ended)

    node.round()

    assert (node.status().ready, node.status().why) == (False, "no period key is in force")


# --------------------------------------------------------------------- what a person must look at


def test_step_that_cannot_be_mined__is_in_status_and_told_once_while_work_goes_on(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(town[0])
    node.round()
    ear = Ear(node, monkeypatch)
    town.chain.floor = 5
    signer: Any = town[0].desk.outbox.signer
    signer.ceiling = 2
    town[0].membership.switch(False)

    for _ in range(3):
        node.round()

    status = node.status()
    assert (status.state, status.pending_steps) == ("working", 1)
    assert [text for text in status.alarms if "ceiling" in text] == list(status.alarms) != []
    assert len([change for change in ear.take("line") if "ceiling" in change.facts["text"]]) == 1

    town.chain.floor = 0
    node.round()
    assert node.status().alarms == ()


def test_endpoints__are_in_status(town: FakeTown, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [
        EndpointState("http://one", "unfit", "does not answer in time", None),
        EndpointState("http://two", "in use", "", 7),
    ]
    monkeypatch.setattr(town.chain, "endpoints", lambda: states, raising=False)
    node = Node(town[0])

    node.round()

    assert [(one["name"], one["state"]) for one in node.status().document()["endpoints"]] == [
        ("http://one", "unfit"),
        ("http://two", "in use"),
    ]


def test_endpoints_disagree__nothing_is_answered_until_they_agree(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = town.ask(1, by=1)
    town[1].work()
    inquiry = town.inquiry(request, by=1)
    node = Node(town[0])

    def differ(_head: Any, _roster: bytes) -> None:
        raise EndpointsDisagree("the endpoints one and two show different ledgers", remedy="look")

    with monkeypatch.context() as differing:
        differing.setattr(town.chain, "witness", differ)
        for _ in range(3):
            node.round()
        status = node.status()
        assert (status.state, status.ready) == ("waiting", False)
        assert "different ledgers" in status.trouble
        assert town[0].desk.store.get("answer", to_hex(inquiry.id)) is None

    node.round()
    node.round()
    assert "payload" in (town[0].desk.store.get("answer", to_hex(inquiry.id)) or {})


# --------------------------------------------------------------------- a store that answers nothing (R25)


def test_stopped_store__is_held_up_and_a_new_tenure_is_named_until_the_owner_has_named_it(town: FakeTown) -> None:
    bank = town[1]
    node = Node(bank)
    town.signer(1).transact(Call("consortium", "anchor", (town.owners[1].address, bytes(32))))
    bank.desk.outbox.compare()
    node.round()
    stopped = node.status()

    bank.start(new_tenure="somebody else had the account")
    node.round()
    unnamed = node.status()

    town.appoint(1, bank.desk.tenure.value)
    node.round()

    assert (stopped.state, stopped.ready) == ("held up", False)
    assert "which this store lacks" in stopped.stopped
    assert (unnamed.state, unnamed.ready) == ("working", False)
    assert "has not named the tenure" in unnamed.stopped
    assert node.status().stopped == ""
