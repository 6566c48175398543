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
from attackers import first_attempt, inquiry_key, open_crafted, refusals, stored_payload, total_of
from fakes import PERIOD, TERMS, FakeSigner, FakeTown, figures, found_town, two_keys

from mpcredit import disclosure, inquirer, protocol
from mpcredit.disclosure import RefusalCode
from mpcredit.events import Call, Stage
from mpcredit.inquirer import RequestState
from mpcredit.schema import FIGURES_1
from mpcredit.state import Inquiry

VICTIM = 4


@pytest.fixture
def cheating_inquirer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inquirer's own service does not hold back; the furnishers keep the rule."""
    monkeypatch.setattr(inquirer.Inquirer, "_cohort", lambda _self, _request, _tags, ready, *_rest: ready)


@pytest.fixture
def no_window_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variant: nobody has the rule."""
    monkeypatch.setattr(inquirer.Inquirer, "_cohort", lambda _self, _request, _tags, ready, *_rest: ready)
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
        t.call.arguments[2]
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

    second = town.ask(1, by=1)
    town.settle()

    (two,) = town[1].inquirer.get(second).totals or []
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
@pytest.mark.parametrize("forged", ["a refusal of the victim", "a verdict that names the victim"])
def test_thief_of_a_hot_account__says_that_the_victim_sent_nothing__excuses_nobody(town: FakeTown, forged: str) -> None:
    """E4: whoever excuses the victim, the other members have answered over the cohort with it."""
    request = town.ask(1)
    town.asleep = {VICTIM}
    town.work()
    town.work()
    town.chain.held = True
    town[VICTIM].work()
    town.chain.held = False
    town.chain.mempool.clear()
    inquiry = town.inquiry(request)
    if forged == "a refusal of the victim":
        call = town.call("refuse", inquiry.id, VICTIM, int(RefusalCode.BOOK), b"")
        town.rogue(VICTIM, call)
    else:
        verdict = (town.supervisor_owner.address, False, 1 << VICTIM, bytes(32), bytes(32))
        FakeSigner(town.chain, town.supervisor_account.address).transact(town.call("attest", inquiry.id, *verdict))
    assert town.inquiry(request).stage.failed
    town.sleep(VICTIM) if "refusal" in forged else town.asleep.add(VICTIM)

    second = town.ask(1)
    town.settle()

    assert total_with_the_copy(town, inquiry)["outstanding"] == figures(31)["outstanding"]
    assert refusals(town, second)[1] == RefusalCode.WINDOW


def test_subset_retry__nobody_had_answered__is_answered_and_gives_nothing_away(town: FakeTown) -> None:
    first = town.ask(1)
    town.asleep = {1, 2, 3, VICTIM}
    town.work()
    town.chain.advance(TERMS.answer_seconds)
    town[0].work()
    town.asleep = {VICTIM}
    town.settle()

    second = town.ask(1)
    town.settle()

    assert town.inquiry(first).stage is Stage.EXPIRED
    assert town[0].inquirer.get(second).state is RequestState.ATTESTED


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


def test_window_conflict__at_the_edge_of_the_window__ends(town: FakeTown) -> None:
    town.ask(1)
    town.settle()
    (seen,) = town[1].desk.remember()
    edge, other = seen.opened_at + TERMS.window_seconds, seen.cohort & ~(1 << VICTIM)

    def conflict(at: int) -> bool:
        return disclosure.window_conflict(seen.tags, other, 0, at, [seen], TERMS.window_seconds) is not None

    assert conflict(edge - 1)
    assert not conflict(edge)


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
    cohort_back = Call("consortium", "setReady", (VICTIM, True))
    town[VICTIM].desk.outbox.post("ready again", cohort_back)
    town.chain.advance(PERIOD)
    town.chain.mine([opening])
    assert town.chain.blocks[-1].outcomes[opening.hash]
    return inquiry, second


@pytest.mark.usefixtures("cheating_inquirer")
def test_reorganisation__puts_the_answered_inquiry_behind_the_other__the_other_is_refused(town: FakeTown) -> None:
    inquiry, second = swap_after_the_answers(town)

    town.settle()

    later = first_attempt(town, second, by=1)
    state = town[1].desk.state
    assert later.opened.at.block < state.inquiries[inquiry.id].opened.at.block
    assert later.refusal is not None
    assert later.refusal.code == RefusalCode.WINDOW


def test_reorganisation__without_the_memory_of_own_answers__both_totals_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    # The variant orders by the ledger alone: what it answered before the reorganisation is "later" now.
    with two_keys(monkeypatch):
        town = found_town(5)
    monkeypatch.setattr(inquirer.Inquirer, "_cohort", lambda _self, _request, _tags, ready, *_rest: ready)
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


def test_inquiry_that_nobody_answered__ties_the_customer_to_nothing(town: FakeTown) -> None:
    """Bank B asks without a consent while Bank E is not ready; all refuse. Then Bank E is back, and Bank A asks."""
    town.sleep(VICTIM)
    forged = replace(town.consent(1, to=1), tag_key_version=9)
    open_crafted(town[1], [(forged.tag, forged)])
    town.supervised = False
    town.settle()
    (inquiry,) = town[0].desk.state.inquiries.values()
    assert inquiry.refusal is not None
    town.wake(VICTIM)

    request = town.ask(1)
    town.settle()

    assert set(town.inquiry(request).contributions) == {0, 1, 2, 3, 4}


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
    town.sleep(VICTIM)
    second = town.ask(1, by=2)
    town.settle()

    refusal = first_attempt(town, second, by=2).refusal
    assert refusal is not None
    assert (refusal.member, refusal.code) == (1, RefusalCode.WINDOW)


# --------------------------------------------------------------------- open: what no rule stops yet


def test_silent_colluder__total_is_completed_off_the_ledger_and_the_consent_unspent__open(town: FakeTown) -> None:
    # A colluding furnisher hands its contribution to the inquirer instead of the ledger: the total opens, the inquiry
    # "failed", so neither cool-down nor consent counts it and no report is owed. The colluder loses its readiness and is on
    # record each time; the supervisor sees every figure. It learns nothing but totals.
    first = everybody_but_the_victims_transaction_arrives(town, town.ask(1))
    total = total_with_the_copy(town, first)

    assert total["outstanding"] == figures(31)["outstanding"]
    assert first.stage is Stage.EXPIRED
    assert not town[0].desk.state.ready_next() >> VICTIM & 1
