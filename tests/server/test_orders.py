"""An institution's votes by two people, through the pages of its server; the owner key sends what was confirmed.

Branches: asked, confirmed, sent, seen on the ledger; one's own, another hash, twice, refused, cancelled; a vote that nobody
ordered; code that nobody can rebuild. What the console does with an order is in tests/cli/test_votes.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from clock import Clock
from test_supervision import call, owner, propose
from web_world import World, world

from mpcredit.encoding import hex_bytes, keccak, to_hex
from mpcredit.events import Call
from mpcredit.server.audit import AuditLog
from mpcredit.server.people import People


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bank with a person who is administrator and reviewer, beside one of each."""
    with world(tmp_path_factory.mktemp("votes")) as found:
        found.bank.people.create("two", "Both at once", ["administrator", "reviewer"], by=None, why="test")
        yield found


def fresh(there: World, *calls: bytes) -> tuple[int, str]:
    """A proposal that the bank's server knows."""
    number, calls_hash = propose(there, *(calls or (call("removeMember", 3),)), reason="licence <b>withdrawn</b>")
    there.bank.node.round()
    return number, calls_hash


def ask(there: World, number: int, calls_hash: str, who: str = "administrator", kind: str = "vote") -> Any:
    data = {"calls_hash": calls_hash, "kind": kind, "reason": "read every call"}
    return there.bank.sign_in(who).post(f"/proposals/{number}/order", data=data)


def decide(there: World, number: int, calls_hash: str, agree: str = "yes", who: str = "reviewer") -> Any:
    data = {"agree": agree, "calls_hash": calls_hash, "reason": "seen"}
    return there.bank.sign_in(who).post(f"/proposals/orders/{newest(there, number).id}", data=data)


def newest(there: World, number: int) -> Any:
    return there.bank.app.state.votes.of(number)[0]


def send(there: World, number: int, calls_hash: str | None) -> None:
    """What the owner key does, somewhere else."""
    what = ("withdrawVote", (number,)) if calls_hash is None else ("vote", (number, hex_bytes(calls_hash, 32)))
    owner(there.consortium, "Bank A").transact(Call("consortium", *what))
    there.bank.node.round()


def text(there: World, number: int, who: str = "administrator") -> str:
    answer = there.bank.sign_in(who).get(f"/proposals/{number}")
    assert answer.status_code == 200
    return str(answer.text)


def entries(there: World, number: int) -> list[tuple[str, str]]:
    return [(e.actor, e.action) for e in reversed(there.bank.audit.search(about=f"proposal/{number}"))]


def test_vote__asked_confirmed_sent_and_taken_back__each_by_two_and_logged(there: World) -> None:
    number, calls_hash = fresh(there)
    page = text(there, number, "auditor")
    assert "Remove Bank D from the consortium" in page
    assert "licence &lt;b&gt;withdrawn" in page
    assert "Ask for a vote" not in page
    assert f"/proposals/{number}" in there.bank.sign_in("auditor").get("/proposals").text

    assert ask(there, number, calls_hash).status_code == 303
    assert "The order waits for a reviewer" in text(there, number)
    reviews = there.bank.sign_in("reviewer").get("/reviews").text
    assert re.search(rf'href="/proposals/{number}"', reviews)
    assert "1 matter waits" in reviews

    assert decide(there, number, calls_hash).status_code == 303
    assert f"<code>mpcredit vote {number}</code>" in text(there, number)
    send(there, number, calls_hash)
    assert "This institution has voted for it" in text(there, number)

    assert ask(there, number, calls_hash, kind="withdraw").status_code == 303
    assert decide(there, number, calls_hash).status_code == 303
    assert f"mpcredit vote {number} --withdraw</code>" in text(there, number)
    send(there, number, None)
    assert "This institution has not voted" in text(there, number)

    assert entries(there, number) == [
        ("user:administrator", "vote.asked"),
        ("user:reviewer", "vote.confirmed"),
        ("node", "vote.done"),
        ("user:administrator", "vote_back.asked"),
        ("user:reviewer", "vote_back.confirmed"),
        ("node", "vote_back.done"),
    ]
    assert there.bank.audit.verify() > 6


def test_order__confirmed_by_who_asked__is_refused(there: World) -> None:
    number, calls_hash = fresh(there)
    assert ask(there, number, calls_hash, "two").status_code == 303

    for agree in ("yes", "no"):
        own = decide(there, number, calls_hash, agree, "two")
        assert (own.status_code, "obody confirms his own order" in own.text) == (409, True)
    assert newest(there, number).state == "asked"
    assert decide(there, number, calls_hash, "no").status_code == 303

    assert (newest(there, number).state, newest(there, number).why) == ("refused", "seen")
    assert decide(there, number, calls_hash).status_code == 409  # it waits no more


def test_order__other_calls_twice_or_without_reason__is_refused(there: World) -> None:
    number, calls_hash = fresh(there)
    other = to_hex(keccak(b"other calls"))

    changed = ask(there, number, other)
    nothing = ask(there, number, calls_hash, kind="withdraw")
    silent = there.bank.sign_in("administrator").post(
        f"/proposals/{number}/order", data={"calls_hash": calls_hash, "kind": "vote", "reason": " "}
    )
    assert (changed.status_code, nothing.status_code, silent.status_code) == (409, 422, 422)
    assert "is not the one that was shown" in changed.text
    assert "has no vote on it" in nothing.text
    assert entries(there, number) == []

    assert ask(there, number, calls_hash).status_code == 303
    again = ask(there, number, calls_hash, "two")
    assert (again.status_code, "n order to vote for it is open" in again.text) == (422, True)
    assert decide(there, number, other).status_code == 409
    assert decide(there, number, calls_hash).status_code == 303
    client = there.bank.sign_in("administrator")
    path = f"/proposals/orders/{newest(there, number).id}/cancel"
    assert client.post(path, data={"reason": "changed our mind"}).status_code == 303
    assert client.post(path).status_code == 409
    assert client.get("/proposals/999").status_code == 404
    assert (
        there.bank.sign_in("reviewer")
        .post("/proposals/orders/999", data={"agree": "no", "calls_hash": other})
        .status_code
        == 409
    )


def test_vote__nobody_ordered__is_written_down_once(there: World) -> None:
    number, calls_hash = fresh(there)
    assert ask(there, number, calls_hash).status_code == 303

    send(there, number, calls_hash)
    there.bank.node.round()

    assert entries(there, number) == [
        ("user:administrator", "vote.asked"),
        ("ledger", "vote.unordered"),
        ("node", "vote.cancelled"),
    ]
    assert "without a second person" in text(there, number)


def test_order__of_a_proposal_that_is_over__waits_for_nobody(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number, calls_hash = fresh(there)
    assert ask(there, number, calls_hash).status_code == 303

    with monkeypatch.context() as patch:
        patch.setattr("mpcredit.proposals.PROPOSAL_LIFE", -1)
        there.bank.node.round()
        late = ask(there, number, calls_hash)

    assert (newest(there, number).state, newest(there, number).why) == ("cancelled", "the proposal is over")
    assert (late.status_code, "is over" in late.text) == (409, True)
    assert entries(there, number)[-1] == ("node", "vote.cancelled")


def test_code__that_no_source_gives__is_not_voted_for(there: World) -> None:
    number, calls_hash = fresh(there, call("approveJointCredit", keccak(b"nobody knows the source")))

    refused = ask(there, number, calls_hash)

    assert (refused.status_code, "o source at hand compiles" in refused.text) == (409, True)
    assert "no source at hand gives it" in text(there, number)
    compiled = there.bank.sign_in("reviewer").post(f"/proposals/{number}/build")
    assert (compiled.status_code, "no Solidity compiler" in compiled.text) == (422, True)


def test_orders__in_both_databases__once_in_any_order(people: People, audit: AuditLog, clock: Clock) -> None:
    one = people.create("a", "A", ["administrator"], by=None, why="test")
    two = people.create("b", "B", ["reviewer"], by=None, why="test")
    orders, hash_ = VoteOrders(audit, clock=clock), keccak(b"calls")
    order = orders.ask(7, hash_, True, "read it", voted=False, by=one)
    with pytest.raises(VoteRefused, match="nobody has confirmed"):
        orders.permitted(7, hash_, True)
    with pytest.raises(VoteRefused, match="has changed"):
        orders.confirm(order.id, keccak(b"others"), by=two)
    orders.confirm(order.id, hash_, by=two)
    with pytest.raises(VoteRefused, match="are not those"):
        orders.permitted(7, keccak(b"others"), True)

    orders.start(orders.permitted(7, hash_, True))
    with pytest.raises(VoteRefused, match="being carried out"):
        orders.cancel(order.id, "late", by=one)
    orders.not_sent(order, "AlreadyVoted")
    assert orders.get(order.id).state == "confirmed"
    orders.start(order)
    # Seen by the server and by the console, one of which reads further; then a reorganisation takes it away for a while.
    seen = [orders.catch_up(7, hash_, votes, by="node") for votes in ([], [(True, 5)], [(True, 6)], [], [(True, 6)])]

    assert [[o.id for o in noted] for noted in seen] == [[], [order.id], [], [], []]
    with pytest.raises(VoteRefused, match="nobody has ordered"):
        orders.permitted(7, hash_, True)
    assert audit.verify() > 5
