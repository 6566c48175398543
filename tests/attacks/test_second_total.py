"""Two totals that differ by one institution give that institution away (R23, R25, R27, R28; protocol.md section 3).

- A silent member's contribution exists somewhere: a mempool, an orphaned block, a reverted call. The naive retry "without
  those who stayed silent" makes a second total; the inquirer adds up the first one by itself and subtracts.
- The same with another inquirer, purpose or schema, after a reorganisation, with a member added.

The variant is this code with the window rule taken out (`no_window_rule`). Here the second inquiry is held back by the
inquirer's own service and, if that cheats (`cheating_inquirer`), refused by every other member.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from attackers import inquiry_key, open_crafted, refusals, stored_payload, total_of
from fakes import DAY, JOINT_CREDIT, TERMS, FakeTown, figures, found_town, two_keys

from mpcredit import disclosure, inquirer, protocol
from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import to_hex
from mpcredit.events import Call, Stage
from mpcredit.inquirer import RequestState
from mpcredit.schema import FIGURES_1
from mpcredit.state import Inquiry

VICTIM = 4


@pytest.fixture
def cheating_inquirer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inquirer's own service does not hold back; the furnishers keep the rule."""
    monkeypatch.setattr(inquirer, "window_conflict", lambda *_: None)


@pytest.fixture
def no_window_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variant: nobody has the rule."""
    monkeypatch.setattr(inquirer, "window_conflict", lambda *_: None)
    monkeypatch.setattr(disclosure, "window_conflict", lambda *_: None)


def everybody_but_the_victims_transaction_arrives(town: FakeTown, request: str) -> Inquiry:
    """The first inquiry: the victim answers, its transaction stays in a mempool, the deadline passes."""
    town.asleep = {VICTIM}
    town.work()
    town.work()
    town.chain.held = True
    town[VICTIM].work()
    town.chain.held = False
    town.chain.mempool.clear()
    town.asleep = {VICTIM}
    town.chain.advance(TERMS.answer_seconds)
    town.settle()
    inquiry = town.inquiry(request)
    assert inquiry.stage is Stage.EXPIRED
    assert inquiry.awaited == (VICTIM,)
    return inquiry


def mempool_copy(town: FakeTown, inquiry: Inquiry) -> bytes:
    """What the attacker kept of the victim's transaction."""
    (payload,) = {
        t.call.arguments[1]
        for t in town.chain.seen
        if t.sender == town.accounts[VICTIM].address and t.call.function == "contribute"
    }
    assert payload == stored_payload(town[VICTIM], inquiry)
    return bytes(payload)


def total_with_the_copy(town: FakeTown, inquiry: Inquiry, *, by: int = 0) -> dict[str, int]:
    """The first total, which the ledger never completed."""
    frame = protocol.frame_of(inquiry, town.chain.realm)
    payloads = [inquiry.payload(i) for i in inquiry.cohort if i != VICTIM] + [mempool_copy(town, inquiry)]
    (record,) = FIGURES_1.unpack(total_of(inquiry_key(town[by], inquiry), frame, payloads), 1, 2048, 5)
    return record


@pytest.mark.usefixtures("no_window_rule")
def test_subset_retry__without_the_rule__gives_the_silent_member_away(town: FakeTown) -> None:
    first = everybody_but_the_victims_transaction_arrives(town, town.ask(1))
    one = total_with_the_copy(town, first)

    second = town.ask(1)
    town.settle()

    (two,) = town[0].inquirer.get(second).totals or []
    assert {name: one[name] - two[name] for name in one} == figures(2**VICTIM)


def test_subset_retry__honest_inquirer__waits_and_says_why(town: FakeTown) -> None:
    everybody_but_the_victims_transaction_arrives(town, town.ask(1))

    second = town.ask(1)
    town.settle()

    request = town[0].inquirer.get(second)
    assert request.state is RequestState.WANTED
    assert "Bank E" in request.note
    assert len(town[0].desk.state.inquiries) == 1


@pytest.mark.usefixtures("cheating_inquirer")
def test_subset_retry__cheating_inquirer__is_refused_by_the_window_rule(town: FakeTown) -> None:
    everybody_but_the_victims_transaction_arrives(town, town.ask(1))

    second = town.ask(1)
    town.settle()

    assert refusals(town, second)[1] == RefusalCode.WINDOW
    # Nobody but the inquirer has put anything into the second.
    assert set(town.inquiry(second).contributions) == {0}


@pytest.mark.usefixtures("cheating_inquirer")
def test_subset_retry__victim_back_with_its_stored_answer__never_states_that_nothing_was_sent(town: FakeTown) -> None:
    first = everybody_but_the_victims_transaction_arrives(town, town.ask(1))

    town.asleep.clear()
    town.settle()
    town.sleep(VICTIM)
    second = town.ask(1)
    town.settle()

    sent = [t.call.function for t in town.chain.seen if t.sender == town.accounts[VICTIM].address]
    assert "notSent" not in sent
    assert town.inquiry(second).opening.cohort == first.opening.cohort & ~(1 << VICTIM)
    assert refusals(town, second)[1] == RefusalCode.WINDOW


def test_subset_retry__victim_was_down_and_states_it__is_answered_and_gives_nothing_away(town: FakeTown) -> None:
    first = town.ask(1)
    town.asleep = {VICTIM}
    town.work()
    town.chain.advance(TERMS.answer_seconds)
    town.settle()
    town.asleep.clear()
    town.settle()  # it states that it sent nothing
    town.sleep(VICTIM)

    second = town.ask(1)
    town.settle()

    assert town.inquiry(first).not_sent == {VICTIM}
    assert town[0].inquirer.get(second).state is RequestState.ATTESTED
    assert not [
        t for t in town.chain.seen if t.sender == town.accounts[VICTIM].address and t.call.function == "contribute"
    ]


def test_not_sent__stated__the_same_store_never_answers_afterwards(town: FakeTown) -> None:
    # A reorganisation brings the expired inquiry back to life after the statement.
    request = town.ask(1)
    town.asleep = {VICTIM}
    town.work()
    height = len(town.chain.blocks)
    town.chain.advance(TERMS.answer_seconds)
    town.settle()
    town.asleep.clear()
    town[VICTIM].work()
    assert town.inquiry(request).not_sent == {VICTIM}

    town.chain.reorganise(height)
    town.asleep = {0}  # it would expire the inquiry again
    town.settle()

    assert town.inquiry(request).stage is Stage.OPEN
    assert town.inquiry(request).awaited == (VICTIM,)


def restored_victim(town: FakeTown) -> None:
    """The victim's store is lost after it answered; its operator says so."""
    store = town[VICTIM].desk.store
    key = to_hex(next(iter(town[0].desk.state.inquiries)))
    store.delete("answer", key)
    store._outbox.pop(f"answer/{key}/1", None)  # type: ignore[attr-defined]  # the restored store does not have the step
    town[VICTIM].start(restored=True)


@pytest.mark.usefixtures("cheating_inquirer")
def test_restored_member__its_refusal__does_not_excuse_it_from_the_next_cohort(town: FakeTown) -> None:
    # The victim answers, its transaction stays in a mempool; it is restored, and refuses because it does not know (R25).
    # If that refusal counted as "it sent nothing", the cohort without it would be answered: figure = difference.
    first = town.ask(1)
    town.asleep = {VICTIM}
    town.work()
    town.chain.held = True
    town[VICTIM].work()
    town.chain.held = False
    town.chain.mempool.clear()
    copies = [
        t for t in town.chain.seen if t.call.function == "contribute" and t.sender == town.accounts[VICTIM].address
    ]
    assert copies
    restored_victim(town)
    town.asleep.clear()
    town.settle()
    assert refusals(town, first) == (VICTIM, RefusalCode.RESTORED)

    town.sleep(VICTIM)
    second = town.ask(1)
    town.settle()

    assert refusals(town, second)[1] == RefusalCode.WINDOW


@pytest.mark.usefixtures("cheating_inquirer")
def test_restored_member__inquiry_ended_by_another__states_nothing(town: FakeTown) -> None:
    first = town.ask(1)
    town.asleep = {1, 2, 3, VICTIM}
    town.work()
    restored_victim(town)
    key = to_hex(next(iter(town[0].desk.state.inquiries)))
    # It has judged already, and its refusal does not get through because somebody else's came first.
    town[VICTIM].desk.store.insert("answer", key, {"refused": int(RefusalCode.RESTORED), "text": "restored"})
    town[1].desk.outbox.post("refuse", Call(JOINT_CREDIT, "refuse", (town.inquiry(first).id, RefusalCode.BOOK)))

    town.asleep = {1}
    town.settle()

    assert VICTIM not in town.inquiry(first).not_sent
    assert town.inquiry(first).not_sent == {2, 3}


# --------------------------------------------------------------------- other ways to a second cohort


@pytest.mark.usefixtures("no_window_rule")
def test_another_inquirer__without_the_rule__gives_the_missing_member_away(town: FakeTown) -> None:
    first = town.ask(1, by=0)
    town.settle()
    town.sleep(VICTIM)
    second = town.ask(1, by=1)
    town.settle()

    one, two = town[0].inquirer.get(first).totals, town[1].inquirer.get(second).totals
    assert one
    assert two
    assert one[0]["outstanding"] - two[0]["outstanding"] == figures(2**VICTIM)["outstanding"]


@pytest.mark.usefixtures("cheating_inquirer")
def test_another_inquirer__other_cohort_within_the_window__is_refused(town: FakeTown) -> None:
    town.ask(1, by=0)
    town.settle()
    town.sleep(VICTIM)

    second = town.ask(1, by=1)
    town.settle()

    assert refusals(town, second, by=1)[1] == RefusalCode.WINDOW


def test_another_inquirer__same_cohort_within_the_window__is_answered(town: FakeTown) -> None:
    town.ask(1, by=0)
    town.settle()

    second = town.ask(1, by=1)
    town.settle()

    assert town[1].inquirer.get(second).state is RequestState.ATTESTED


def test_other_cohort__another_subject__is_answered(town: FakeTown) -> None:
    town.ask(1)
    town.settle()
    town.sleep(VICTIM)

    second = town.ask(2)
    town.settle()

    assert town[0].inquirer.get(second).state is RequestState.ATTESTED


def test_other_cohort__after_the_window__is_answered(town: FakeTown) -> None:
    town.ask(1)
    town.settle()
    town.sleep(VICTIM)
    for book in town.books:
        book.as_of += TERMS.window_seconds
    town.chain.advance(TERMS.window_seconds)
    town.settle()  # declares readiness anew

    second = town.ask(1)
    town.settle()

    assert town[0].inquirer.get(second).state is RequestState.ATTESTED


@pytest.mark.usefixtures("cheating_inquirer")
def test_member_added__within_the_window__is_refused(town: FakeTown) -> None:
    town.sleep(VICTIM)
    town.ask(1)
    town.settle()
    town.wake(VICTIM)

    second = town.ask(1)
    town.settle()

    member, code = refusals(town, second)
    assert (code, member != VICTIM) == (RefusalCode.WINDOW, True)  # the newcomer does not know; the others do


@pytest.mark.usefixtures("cheating_inquirer")
def test_first_inquiry_failed__other_cohort__is_refused_all_the_same(town: FakeTown) -> None:
    first = town.ask(1)
    town.asleep = {3}
    town.work()
    town.chain.advance(TERMS.answer_seconds)
    town.settle()
    assert town.inquiry(first).stage is Stage.EXPIRED
    town.asleep = set()
    town.settle()
    town.sleep(VICTIM)  # not the one that stayed silent

    second = town.ask(1)
    town.settle()

    assert refusals(town, second)[1] == RefusalCode.WINDOW


@pytest.mark.parametrize(
    "change",
    [{"inquirer": 3}, {"opened_at": 1}, {"consents": (bytes(32),)}],
    ids=["another inquirer", "another time in the window", "another consent and so purpose"],
)
def test_window_conflict__whatever_else_differs__only_tag_and_cohort_count(
    town: FakeTown, change: dict[str, object]
) -> None:
    # Schema and currency are not even remembered: a tag is a tag.
    town.ask(1)
    town.settle()
    bank = town[1]
    (seen,) = bank.desk.remember()
    later = (10**6, 0)
    other = seen.cohort & ~(1 << VICTIM)
    changed = replace(seen, **change)  # type: ignore[arg-type]  # one of several fields

    at = changed.opened_at + 5
    conflict = disclosure.window_conflict(seen.tags, other, at, later, [changed], bank.desk.state)
    same = disclosure.window_conflict(seen.tags, seen.cohort, at, later, [changed], bank.desk.state)

    assert conflict is not None
    assert conflict[1] == (VICTIM,)
    assert same is None


def test_window_conflict__at_the_edge_of_the_window__ends(town: FakeTown) -> None:
    town.ask(1)
    town.settle()
    bank = town[1]
    (seen,) = bank.desk.remember()
    edge = seen.opened_at + TERMS.window_seconds
    other = seen.cohort & ~(1 << VICTIM)

    assert disclosure.window_conflict(seen.tags, other, edge - 1, (10**6, 0), [seen], bank.desk.state)
    assert not disclosure.window_conflict(seen.tags, other, edge, (10**6, 0), [seen], bank.desk.state)


# --------------------------------------------------------------------- reorganisations


@pytest.mark.usefixtures("cheating_inquirer")
def test_reorganisation__took_the_first_inquiry_away__its_cohort_counts_all_the_same(town: FakeTown) -> None:
    height = len(town.chain.blocks)
    first = town.ask(1)
    town.settle()
    inquiry = town.inquiry(first)

    town.chain.reorganise(height)
    town.sleep(VICTIM)
    town.asleep.add(0)  # it would open the first again
    second = town.ask(1, by=1)
    town.settle()

    assert inquiry.id not in town[1].desk.state.inquiries
    assert refusals(town, second, by=1)[1] == RefusalCode.WINDOW


def swap_after_the_answers(town: FakeTown) -> tuple[Inquiry, str]:
    """All answer the first inquiry; then a reorganisation puts a second one, over another cohort, before it."""
    height = len(town.chain.blocks)
    first = town.ask(1, by=0)
    town.settle()
    inquiry = town.inquiry(first)
    gone = town.chain.reorganise(height)
    town.sleep(VICTIM)
    second = town.ask(1, by=1)
    town.asleep |= {0, 2, 3}
    town.work()  # opens the second
    town.asleep = {VICTIM}
    # The first comes back behind it, and its roster and cohort have not moved on that side of the fork either.
    opening = next(t for t in gone if t.call.function == "open")
    cohort_back = Call("consortium", "declareReady", (town.chain.time + DAY,))
    town[VICTIM].desk.outbox.post("ready again", cohort_back)
    town.chain.mine([opening])
    assert town.chain.blocks[-1].outcomes[opening.hash]
    return inquiry, second


@pytest.mark.usefixtures("cheating_inquirer")
def test_reorganisation__puts_the_answered_inquiry_behind_the_other__the_other_is_refused(town: FakeTown) -> None:
    inquiry, second = swap_after_the_answers(town)

    town.settle()

    later = town.inquiry(second, by=1)
    state = town[1].desk.state
    assert later.opened.at.block < state.inquiries[inquiry.id].opened.at.block
    assert later.refusal is not None
    assert later.refusal.code == RefusalCode.WINDOW


def test_reorganisation__without_the_memory_of_own_answers__both_totals_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    # The variant orders by the ledger alone: what it answered before the reorganisation is "later" now.
    with two_keys(monkeypatch):
        town = found_town(5)
    monkeypatch.setattr(inquirer, "window_conflict", lambda *_: None)
    monkeypatch.setattr(
        disclosure,
        "_before",
        lambda order, memory, state: (s for s in memory if s.order < order or s.inquiry not in state.inquiries),
    )
    with two_keys(monkeypatch):
        inquiry, second = swap_after_the_answers(town)

    town.settle()

    later = town.inquiry(second, by=1)
    assert not later.awaited  # every answer to the second exists, and every answer to the first existed before
    (two,) = town[1].inquirer.get(second).totals or []
    frame = protocol.frame_of(inquiry, town.chain.realm)
    payloads = [inquiry.payload(i) for i in inquiry.cohort]
    (one,) = FIGURES_1.unpack(total_of(inquiry_key(town[0], inquiry), frame, payloads), 1, 2048, 5)
    assert {name: one[name] - two[name] for name in one} == figures(2**VICTIM)


# --------------------------------------------------------------------- the rule turned against a customer


def refused_by_all_then_newcomer(town: FakeTown) -> str:
    """Bank B asks without a consent while Bank E is not ready; all refuse. Then Bank E is back, and Bank A asks."""
    town.sleep(VICTIM)
    forged = replace(town.consent(1, to=1), tag_key_version=9)
    open_crafted(town[1], [(forged.tag, forged)])
    town.supervised = False
    town.settle()
    (inquiry,) = town[0].desk.state.inquiries.values()
    assert inquiry.refusal is not None
    assert inquiry.not_sent | {inquiry.refusal.member} == {0, 2, 3}
    town.wake(VICTIM)
    request = town.ask(1)
    town.settle()
    return request


def test_inquiry_that_all_refused__counted_all_the_same__ties_the_customer_to_its_cohort(
    town: FakeTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The variant: any member that can compute a customer's tag stops others from asking about him for the window.
    monkeypatch.setattr(disclosure, "_gives_nothing", lambda inquiry: False)

    request = refused_by_all_then_newcomer(town)

    assert town[0].inquirer.get(request).state is RequestState.WANTED
    assert "Bank E" in town[0].inquirer.get(request).note


def test_inquiry_that_all_refused__gives_nothing_and_ties_nobody(town: FakeTown) -> None:
    request = refused_by_all_then_newcomer(town)

    inquiry = town.inquiry(request)
    assert inquiry.refusal is None
    assert set(inquiry.contributions) == {0, 1, 2, 3, 4}


@pytest.mark.usefixtures("cheating_inquirer")
def test_inquiry_that_one_answered__counts(town: FakeTown) -> None:
    # The same, but one member had answered before another refused.
    first = town.ask(1)
    town.asleep = {2, 3, VICTIM}
    town.work()
    town.work()
    assert 1 in town.inquiry(first).contributions
    town.books[2].as_of = 0
    town.asleep = set()
    town.settle()
    town.books[2].as_of = town.chain.time
    town.sleep(1)
    second = town.ask(1)
    town.settle()

    assert refusals(town, second)[1] == RefusalCode.WINDOW


# --------------------------------------------------------------------- open: what no rule stops yet


def test_silent_colluder__total_is_completed_off_the_ledger_and_the_consent_unspent__open(town: FakeTown) -> None:
    # A colluding furnisher hands its contribution to the inquirer instead of the ledger: the total opens, the inquiry
    # "failed", so neither cool-down nor consent counts it and no report is owed. The colluder loses its readiness and is on
    # record each time; the supervisor sees every figure. It learns nothing but totals.
    first = everybody_but_the_victims_transaction_arrives(town, town.ask(1))
    total = total_with_the_copy(town, first)

    assert total["outstanding"] == figures(31)["outstanding"]
    assert first.stage is Stage.EXPIRED
    assert not town[0].desk.state.members[VICTIM].ready_until
