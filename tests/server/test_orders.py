"""What two people order about a proposal, through the pages of either party; the owner key sends what was confirmed.

Branches: asked, confirmed, sent, seen on the ledger; one's own, another hash, twice, refused, cancelled; a step that nobody
ordered; a proposal that is over or withdrawn; an approval before the votes; a process that died; another person's role.
What the console does with an order is in tests/cli/test_votes.py and test_approvals.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from clock import Clock
from web_world import Site, World, call, owner, propose, vote, world

from mpcredit.chain import ChainSigner
from mpcredit.encoding import hex_bytes, keccak, to_hex
from mpcredit.events import Call
from mpcredit.server.audit import AuditLog
from mpcredit.server.node import Node
from mpcredit.server.orders import APPROVAL, VOTE, Kind, OrderRefused, Orders
from mpcredit.server.people import People


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bank and a supervisor; at each a person who may ask and confirm, beside one of each."""
    with world(tmp_path_factory.mktemp("orders")) as found:
        found.bank.people.create("two", "Both at once", ["administrator", "reviewer"], by=None, why="test")
        found.supervisor.people.create("two", "Both at once", ["supervisor", "reviewer"], by=None, why="test")
        yield found


class Side:
    """One party's people and owner key."""

    def __init__(self, world: World, kind: Kind) -> None:
        self.world = world
        self.kind = kind
        self.site: Site = world.bank if kind is VOTE else world.supervisor
        self.asker = kind.asks.value

    @property
    def orders(self) -> Orders:
        found = self.site.app.state.orders
        assert isinstance(found, Orders)
        return found

    def fresh(self, *calls: bytes) -> tuple[int, str]:
        """A proposal that this server knows and that waits for this party."""
        number, calls_hash = propose(self.world, *(calls or (call("removeMember", 3),)), reason="licence <b>gone</b>")
        if self.kind is APPROVAL:
            vote(self.world, number, calls_hash, "Bank A", "Bank B", "Bank C")
        self.site.node.round()
        return number, calls_hash

    def ask(self, number: int, calls_hash: str, who: str = "", kind: str = "give", reason: str = "read it all") -> Any:
        data = {"calls_hash": calls_hash, "kind": kind, "reason": reason}
        return self.site.sign_in(who or self.asker).post(f"/proposals/{number}/order", data=data)

    def decide(self, number: int, calls_hash: str, agree: str = "yes", who: str = "reviewer") -> Any:
        data = {"agree": agree, "calls_hash": calls_hash, "reason": "seen"}
        return self.site.sign_in(who).post(f"/proposals/orders/{self.newest(number).id}", data=data)

    def newest(self, number: int) -> Any:
        return self.orders.of(number)[0]

    def send(self, number: int, calls_hash: str | None) -> None:
        """What the owner key does, somewhere else."""
        consortium = self.world.consortium
        if self.kind is VOTE:
            signer, names = owner(consortium, "Bank A"), ("vote", "withdrawVote")
        else:
            account = consortium.supervisor_owner
            signer = ChainSigner(consortium.chain.web3, account, consortium.deployed.consortium)
            names = ("approve", "withdrawApproval")
        arguments = (number,) if calls_hash is None else (number, hex_bytes(calls_hash, 32))
        signer.transact(Call("consortium", names[calls_hash is None], arguments))
        self.site.node.round()

    def text(self, number: int, who: str = "") -> str:
        answer = self.site.sign_in(who or self.asker).get(f"/proposals/{number}")
        assert answer.status_code == 200
        return str(answer.text)

    def entries(self, number: int) -> list[tuple[str, str]]:
        return [(e.actor, e.action) for e in reversed(self.site.audit.search(about=f"proposal/{number}"))]


@pytest.fixture(params=[VOTE, APPROVAL], ids=["vote", "approval"])
def side(request: pytest.FixtureRequest, there: World) -> Side:
    """An institution that votes, and a supervisor that approves."""
    return Side(there, request.param)


def test_order__asked_confirmed_sent_and_taken_back__each_by_two_and_logged(side: Side) -> None:
    number, calls_hash = side.fresh()
    page = side.text(number, "auditor")
    assert "Remove Bank D from the consortium" in page
    assert "licence &lt;b&gt;gone" in page
    assert 'name="calls_hash"' not in page
    assert f"/proposals/{number}" in side.site.sign_in("auditor").get("/proposals").text

    assert side.ask(number, calls_hash).status_code == 303
    assert "The order waits for a reviewer" in side.text(number)
    reviews = side.site.sign_in("reviewer").get("/reviews").text
    assert re.search(rf'href="/proposals/{number}"', reviews)
    assert "1 matter waits" in reviews

    assert side.decide(number, calls_hash).status_code == 303
    command = "vote" if side.kind is VOTE else "approve"
    assert f"<code>mpcredit {command} {number}</code>" in side.text(number)
    side.send(number, calls_hash)
    done = "This institution has voted for it" if side.kind is VOTE else "This supervisor has approved it"
    assert done in side.text(number)

    assert side.ask(number, calls_hash, kind="withdraw").status_code == 303
    assert side.decide(number, calls_hash).status_code == 303
    assert f"mpcredit {command} {number} --withdraw</code>" in side.text(number)
    side.send(number, None)
    assert done not in side.text(number)

    name = side.kind.name
    assert side.entries(number) == [
        (f"user:{side.asker}", f"{name}.asked"),
        ("user:reviewer", f"{name}.confirmed"),
        ("node", f"{name}.done"),
        (f"user:{side.asker}", f"{name}_back.asked"),
        ("user:reviewer", f"{name}_back.confirmed"),
        ("node", f"{name}_back.done"),
    ]
    assert side.site.audit.verify() > 6


def test_order__confirmed_by_the_person_who_asked__is_refused(side: Side) -> None:
    number, calls_hash = side.fresh()
    assert side.ask(number, calls_hash, "two").status_code == 303

    for agree in ("yes", "no"):
        own = side.decide(number, calls_hash, agree, "two")
        assert (own.status_code, "cannot confirm or refuse your own order" in own.text) == (409, True)
    assert side.newest(number).state == "asked"
    assert side.decide(number, calls_hash, "no").status_code == 303

    assert (side.newest(number).state, side.newest(number).why) == ("refused", "seen")
    assert side.decide(number, calls_hash).status_code == 409  # it waits no more


def test_order__by_people_of_other_roles__is_refused(side: Side) -> None:
    number, calls_hash = side.fresh()
    wrong = ("reviewer", "auditor") if side.kind is VOTE else ("reviewer", "auditor", "administrator")

    assert [side.ask(number, calls_hash, who).status_code for who in wrong] == [403] * len(wrong)
    assert side.ask(number, calls_hash).status_code == 303
    for who in (side.asker, "auditor"):
        assert side.decide(number, calls_hash, "yes", who).status_code == 403
    path = f"/proposals/orders/{side.newest(number).id}/cancel"
    assert side.site.sign_in("auditor").post(path).status_code == 403
    assert side.site.sign_in("auditor").post(f"/proposals/{number}/build").status_code == 403

    assert side.newest(number).state == "asked"


def test_order__other_calls_twice_or_without_reason__is_refused(side: Side) -> None:
    number, calls_hash = side.fresh()
    other = to_hex(keccak(b"other calls"))

    changed = side.ask(number, other)
    nothing = side.ask(number, calls_hash, kind="withdraw")
    silent = side.ask(number, calls_hash, reason=" no ")
    assert (changed.status_code, nothing.status_code, silent.status_code) == (409, 422, 422)
    assert "is not the one that was shown" in changed.text
    assert ("has no vote on it" if side.kind is VOTE else "has not approved it") in nothing.text
    assert "Write what you have checked" in silent.text
    assert side.entries(number) == []

    assert side.ask(number, calls_hash).status_code == 303
    again = side.ask(number, calls_hash, "two")
    assert (again.status_code, f"n order to {side.kind.give} is open" in again.text) == (422, True)
    assert side.decide(number, other).status_code == 409
    assert side.decide(number, calls_hash).status_code == 303
    client = side.site.sign_in(side.asker)
    path = f"/proposals/orders/{side.newest(number).id}/cancel"
    assert client.post(path, data={"reason": "changed our mind"}).status_code == 303
    assert client.post(path).status_code == 409
    assert client.get("/proposals/999").status_code == 404
    absent = side.site.sign_in("reviewer").post("/proposals/orders/999", data={"agree": "no", "calls_hash": other})
    assert absent.status_code == 409


def test_step__nobody_ordered__is_written_down_once(side: Side) -> None:
    number, calls_hash = side.fresh()
    assert side.ask(number, calls_hash).status_code == 303

    side.send(number, calls_hash)
    side.site.node.round()

    name = side.kind.name
    assert side.entries(number) == [
        (f"user:{side.asker}", f"{name}.asked"),
        ("ledger", f"{name}.unordered"),
        ("node", f"{name}.cancelled"),
    ]
    assert "without a second person" in side.text(number)


def test_order__of_a_proposal_that_is_over__waits_for_nobody(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    number, calls_hash = side.fresh()
    assert side.ask(number, calls_hash).status_code == 303

    with monkeypatch.context() as patch:
        patch.setattr("mpcredit.proposals.PROPOSAL_LIFE", -1)
        side.site.node.round()
        late = side.ask(number, calls_hash)

    assert (side.newest(number).state, side.newest(number).why) == ("cancelled", "the proposal is over")
    assert (late.status_code, "is over" in late.text) == (409, True)
    assert side.entries(number)[-1] == ("node", f"{side.kind.name}.cancelled")


def test_order__of_a_proposal_that_is_withdrawn__waits_for_nobody(side: Side) -> None:
    number, calls_hash = side.fresh()
    assert side.ask(number, calls_hash).status_code == 303

    owner(side.world.consortium, "Bank A").transact(Call("consortium", "withdrawProposal", (number,)))
    side.site.node.round()

    assert side.newest(number).state == "cancelled"
    assert "Withdrawn by the institution that proposed it" in side.text(number)
    assert side.ask(number, calls_hash).status_code == 409


def test_code__that_no_source_gives__is_not_ordered(side: Side) -> None:
    number, calls_hash = side.fresh(call("approveJointCredit", keccak(b"nobody knows the source")))

    refused = side.ask(number, calls_hash)

    assert (refused.status_code, "o source at hand compiles" in refused.text) == (409, True)
    assert "no source at hand gives it" in side.text(number)
    assert "Get the sources from Bank A and upload them above" in side.text(number)
    compiled = side.site.sign_in("reviewer").post(f"/proposals/{number}/build")
    assert (compiled.status_code, "no Solidity compiler" in compiled.text) == (422, True)


def test_approval__before_the_votes_are_there__is_not_ordered(there: World) -> None:
    side = Side(there, APPROVAL)
    number, calls_hash = propose(there, call("removeMember", 3))
    vote(there, number, calls_hash, "Bank A", "Bank B")
    side.site.node.round()

    early = side.ask(number, calls_hash)
    page = side.text(number)

    assert (early.status_code, "cannot be approved before 3 members agree" in early.text) == (409, True)
    assert "2 of 3 votes" in page
    assert "<dd>Bank A, Bank B</dd>" in page
    assert "<dd>Bank C, Bank D</dd>" in page
    assert "Awaits votes; then you can approve it" in page
    vote(there, number, calls_hash, "Bank C")
    side.site.node.round()
    assert "Approved now, it could be executed from:" in side.text(number)
    assert side.ask(number, calls_hash).status_code == 303


def test_approval__void_since_a_needed_vote_was_taken_back__is_shown_no_more_and_can_be_ordered_again(
    there: World,
) -> None:
    """R34.1."""
    side = Side(there, APPROVAL)
    number, calls_hash = side.fresh()
    for ordered in (side.ask(number, calls_hash), side.decide(number, calls_hash)):
        assert ordered.status_code == 303
    side.send(number, calls_hash)
    given = side.text(number)

    owner(there.consortium, "Bank C").transact(Call("consortium", "withdrawVote", (number,)))
    side.site.node.round()
    void = side.text(number)
    vote(there, number, calls_hash, "Bank C")
    side.site.node.round()
    again = side.text(number)

    assert "Earliest execution:" in given
    assert "None yet." not in given
    for page in (void, again):
        assert "Earliest execution:" not in page
        assert "None yet." in page
    assert side.ask(number, calls_hash).status_code == 303
    assert side.decide(number, calls_hash).status_code == 303
    side.send(number, calls_hash)
    assert "This supervisor has approved it" in side.text(number)


def test_approval__that_waits__stands_on_the_first_page_until_it_is_ordered(there: World) -> None:
    side = Side(there, APPROVAL)
    live = side.site.sign_in("supervisor")
    before = re.search(r"(\d+) proposals? awaits? your approval", live.get("/supervision").text)
    number, calls_hash = side.fresh(call("addSupervisor", "0x" + "15" * 20))
    page = side.text(number)

    waiting = re.search(r"(\d+) proposals? awaits? your approval", live.get("/supervision").text)
    assert waiting is not None
    assert int(waiting[1]) == (int(before[1]) if before else 0) + 1
    assert "Awaits your approval" in page
    assert "Without an approval: 3 votes, and not before" in page  # R35: all but one of four
    assert side.ask(number, calls_hash).status_code == 303
    after = re.search(r"(\d+) proposals? awaits? your approval", live.get("/supervision").text)
    assert (int(after[1]) if after else 0) == (int(before[1]) if before else 0)


def test_order__confirmed_and_the_process_dies__is_found_as_done_by_the_next_one(side: Side) -> None:
    number, calls_hash = side.fresh()
    assert side.ask(number, calls_hash).status_code == 303
    assert side.decide(number, calls_hash).status_code == 303
    rounds = side.site.node.round
    side.site.node.round = lambda: False  # type: ignore[method-assign] - it is away while the owner key sends
    try:
        side.send(number, calls_hash)
    finally:
        side.site.node.round = rounds  # type: ignore[method-assign]

    again = Orders(side.site.audit, side.kind)
    node = Node(side.site.node.party)
    node.each_round(again.follow)
    node.round()
    node.round()

    assert [one.state for one in again.of(number)] == ["done"]
    assert side.entries(number)[-1] == ("node", f"{side.kind.name}.done")


@pytest.mark.parametrize("kind", [VOTE, APPROVAL], ids=["vote", "approval"])
def test_orders__in_both_databases__once_in_any_order(
    people: People, audit: AuditLog, clock: Clock, kind: Kind
) -> None:
    one = people.create("a", "A", [kind.asks.value], by=None, why="test")
    two = people.create("b", "B", ["reviewer"], by=None, why="test")
    orders, hash_ = Orders(audit, kind, clock=clock), keccak(b"calls")
    order = orders.ask(7, hash_, True, "read it", stands=False, by=one)
    with pytest.raises(OrderRefused, match="nobody has confirmed"):
        orders.permitted(7, hash_, True)
    with pytest.raises(OrderRefused, match="has changed"):
        orders.confirm(order.id, keccak(b"others"), by=two)
    orders.confirm(order.id, hash_, by=two)
    with pytest.raises(OrderRefused, match="are not those"):
        orders.permitted(7, keccak(b"others"), True)

    orders.start(orders.permitted(7, hash_, True))
    with pytest.raises(OrderRefused, match="being carried out"):
        orders.cancel(order.id, "late", by=one)
    orders.not_sent(order, "AlreadyVoted")
    assert orders.get(order.id).state == "confirmed"
    orders.start(order)
    # Seen by the server and by the console, one of which reads further; then a reorganisation takes it away for a while.
    seen = [orders.catch_up(7, hash_, steps, by="node") for steps in ([], [(True, 5)], [(True, 6)], [], [(True, 6)])]

    assert [[o.id for o in noted] for noted in seen] == [[], [order.id], [], [], []]
    with pytest.raises(OrderRefused, match=f"nobody has ordered to {kind.give}"):
        orders.permitted(7, hash_, True)
    assert audit.verify() > 5
