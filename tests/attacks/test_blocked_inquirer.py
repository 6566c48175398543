"""One step of an institution's own, or of a thief's with its account, that stops everything it does later (R15, R24, R30).

- An opening that no node takes: all later steps wait behind its nonce, answers to others among them (L2).
- An opening that the node refuses at its estimate: a new key in each round (L3).
- One opening with the highest nonce, by a thief of the account: no later nonce is higher (N1).
- An own inquiry that completed and has no request, after a restore, or whose request had ended, after a reorganisation: its
  report becomes overdue, and the ledger takes no further opening (R1, R2).

Each variant is this code without the rule.
"""

from __future__ import annotations

from typing import Any

import pytest
from fakes import TERMS, FakeChain, FakeTown, subject

from mpcredit import outbox, paillier
from mpcredit.errors import Refused
from mpcredit.events import Opening, Stage
from mpcredit.inquirer import Inquirer, RequestState


def large_request(town: FakeTown) -> str:
    """More subjects than the node takes."""
    bank, numbers = town[0], (10, 11, 12)
    bank.sync()
    tags = [town.tagger.tag(subject(n)) for n in numbers]
    return bank.inquirer.request(["x"] * 3, [town.consent(n) for n in numbers], officer="o").id


def is_large(call: Any) -> bool:
    return bool(call.function == "open" and len(Opening(*call.arguments[-1]).consents) > 2)


# --------------------------------------------------------------------- L2


def blocked_by_an_opening(town: FakeTown) -> tuple[RequestState, RequestState, tuple[int, ...]]:
    """The large and a small request of Bank A, and the members that an inquiry of Bank B waits for."""
    town.chain.too_large = lambda transaction: is_large(transaction.call)
    large = large_request(town)
    town[0].work()
    small, theirs = town.ask(1), town.ask(2, by=1)
    for _ in range(8):
        town.work()
    states = [town[0].inquirer.get(request).state for request in (large, small)]
    return states[0], states[1], town.inquiry(theirs, by=1).awaited


def test_opening_that_no_node_takes__without_fillers__stops_requests_and_answers(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "REPLACEABLE", frozenset())

    large, small, awaited = blocked_by_an_opening(town)

    assert (large, small) == (RequestState.OPENING, RequestState.OPENING)
    assert awaited == (0,)


def test_opening_that_no_node_takes__makes_way_and_everything_else_goes_on(town: FakeTown) -> None:
    large, small, awaited = blocked_by_an_opening(town)

    assert (large, small) == (RequestState.FAILED, RequestState.ATTESTED)
    assert awaited == ()


# --------------------------------------------------------------------- L3


def keys_after_refusals(town: FakeTown) -> int:
    """How many keys Bank A has made for one request that the node refuses to estimate."""
    town.chain.too_dear = is_large
    large_request(town)
    for _ in range(20):
        town[0].work()
        town.chain.advance(1)
    keys: Any = town[0].desk.keys
    return len(keys.inquiry_keys())


def test_opening_refused_at_its_estimate__without_the_rule__makes_a_key_in_each_round(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def another(self: Inquirer, _request: Any) -> Any:
        made.append(paillier.generate(self.bits))  # the two public test keys in turn
        self.desk.keys.keep_inquiry_key(made[-1])
        return made[-1]

    monkeypatch.setattr(Inquirer, "_key", another)
    monkeypatch.setattr(Inquirer, "_put_off", lambda *_: None)

    keys_after_refusals(town)

    assert len(made) == 20


def test_opening_refused_at_its_estimate__has_one_key(town: FakeTown) -> None:
    assert keys_after_refusals(town) == 1


# --------------------------------------------------------------------- N1


def after_the_highest_nonce(town: FakeTown) -> RequestState:
    """A thief of the account opens once, with a key that Bank A does not have to have; then Bank A asks."""
    draw = town[0].inquirer.random_bytes
    town[0].inquirer.random_bytes = lambda count: b"\xff" * count
    town.ask(1)
    town.settle()
    town[0].inquirer.random_bytes = draw
    request = town.ask(2)
    for _ in range(3):
        town.settle()
        town.chain.advance(3_600)
    return town[0].inquirer.get(request).state


def test_highest_nonce__with_a_ledger_that_counts__ends_the_inquirers_inquiries(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = FakeChain._open

    def counting(self: FakeChain, state: Any, sender: str, member: int, arguments: Any) -> Any:
        used = [i.opening.nonce for i in state.inquiries.values() if i.inquirer == member]
        if Opening(*arguments).nonce <= max(used, default=-1):
            raise Refused("the contract refuses: NonceUsed", code="NonceUsed")
        return opens(self, state, sender, member, arguments)

    monkeypatch.setattr(FakeChain, "_open", counting)

    assert after_the_highest_nonce(town) is RequestState.WANTED


def test_highest_nonce__is_a_nonce_like_any_other(town: FakeTown) -> None:
    assert after_the_highest_nonce(town) is RequestState.ATTESTED


# --------------------------------------------------------------------- R1, R2


def after_a_restore(town: FakeTown) -> tuple[Stage, RequestState]:
    """Everybody has answered an inquiry of Bank A, whose store is then one of before it. Days later Bank A asks again."""
    lost = town.ask(1)
    town[0].work()
    town.asleep = {0}
    town.settle()
    town.asleep = set()
    inquiry, store = town.inquiry(lost).id, town[0].desk.store
    store.delete("request", lost)
    store.delete("seen", "0x" + inquiry.hex())
    return inquiry_and_next(town, inquiry)


def after_a_reorganisation(town: FakeTown) -> tuple[Stage, RequestState]:
    """A reorganisation puts the last answer in the place of `expire`. Days later Bank A asks again."""
    request = town.ask(1)
    town.asleep = {4}
    town.settle()
    town[4].sync()
    town.chain.held = True
    town[4].furnisher.step()
    late = [t for t in town.chain.mempool if t.call.function == "contribute"]
    town.chain.mempool.clear()
    town.chain.held = False
    town.chain.advance(TERMS.answer_seconds + 100)
    height = len(town.chain.blocks)
    for _ in range(4):
        town[0].work()
    assert town[0].inquirer.get(request).state is RequestState.EXPIRED
    town.chain.reorganise(height)
    town.chain.mempool.clear()
    town.chain.mine(late)
    town.asleep = set()
    return inquiry_and_next(town, town.inquiry(request).id)


def inquiry_and_next(town: FakeTown, inquiry: bytes) -> tuple[Stage, RequestState]:
    for _ in range(3):
        town.settle()
    town.chain.advance(TERMS.answer_seconds + TERMS.report_seconds)
    later = town.ask(2)
    for _ in range(3):
        town.settle()
        town.chain.advance(60)
    return town[0].desk.state.inquiries[inquiry].stage, town[0].inquirer.get(later).state


@pytest.mark.parametrize("how", [after_a_restore, after_a_reorganisation])
def test_own_inquiry_that_completed__without_the_rule__is_never_reported_and_stops_all_later_ones(
    town: FakeTown, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inquirer, "_goes_on", lambda *_: False)
    monkeypatch.setattr(Inquirer, "_close_others", lambda *_: [])

    assert how(town) == (Stage.COMPLETE, RequestState.WANTED)


@pytest.mark.parametrize("how", [after_a_restore, after_a_reorganisation])
def test_own_inquiry_that_completed__is_reported_and_later_ones_open(town: FakeTown, how: Any) -> None:
    assert how(town) == (Stage.VALID, RequestState.ATTESTED)
