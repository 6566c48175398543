"""Blocks are replaced under a running consortium (Anvil): views are folded anew, what was sent is sent again unchanged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flow_world import BITS, Customers, ask, restart, return_all, rows_of, sums, switch_off, terms

from mpcredit.disclosure import RefusalCode
from mpcredit.encoding import to_hex
from mpcredit.events import Stage
from mpcredit.identity import Subject
from mpcredit.inquirer import RequestState
from mpcredit.institution import InquiryHandle, Institution
from mpcredit.local import LocalConsortium, local_consortium

pytestmark = pytest.mark.anvil

NAMES = ("Bank A", "Bank B", "Bank C", "Bank D", "Bank E")


@pytest.fixture(scope="module")
def founded() -> Iterator[LocalConsortium]:
    """Five institutions on Anvil."""
    with local_consortium(institutions=5, bits=BITS, chain="anvil", parameters=terms(minimum_cohort=3)) as made:
        yield made


@pytest.fixture(scope="module")
def customers(founded: LocalConsortium) -> Customers:
    """Each is asked about once."""
    return Customers(founded)


@pytest.fixture
def consortium(founded: LocalConsortium) -> Iterator[LocalConsortium]:
    """Asleep but for Bank A; all awake, ready and at rest again after the test."""
    founded.asleep.update(NAMES[1:])
    founded.advance(2)  # a replaced block can be some seconds older, and everybody is ready there too
    yield founded
    for bank in founded.institutions.values():
        bank.follower.confirmations = 0
    return_all(founded)


def reorganise(consortium: LocalConsortium, depth: int) -> None:
    """Replace the newest blocks by empty ones; their transactions are gone from the node."""
    assert consortium.chain.anvil is not None
    consortium.chain.anvil.reorganise(depth)


def opened(consortium: LocalConsortium, subjects: list[Subject]) -> tuple[InquiryHandle, bytes]:
    """Bank A opens an inquiry that nobody has answered yet."""
    handle = ask(consortium["Bank A"], subjects)
    until(consortium["Bank A"], lambda: handle.request.state is RequestState.OPEN)
    assert handle.request.inquiry is not None
    return handle, handle.request.inquiry


def until(bank: Institution, condition: Callable[[], bool]) -> None:
    """Let one institution work; Anvil mines a moment after it has taken a transaction."""
    for _ in range(50):
        bank.work()
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it does not come to that")


def answer(consortium: LocalConsortium, name: str, inquiry: bytes) -> dict[str, Any]:
    """An institution answers, and its answer is mined."""
    until(
        consortium[name], lambda: consortium[name].index not in consortium[name].desk.state.inquiries[inquiry].awaited
    )
    return answer_of(consortium, name, inquiry)


def answer_of(consortium: LocalConsortium, name: str, inquiry: bytes) -> dict[str, Any]:
    """The stored answer."""
    found = consortium.stores[name].get("answer", to_hex(inquiry))
    assert found is not None
    return found


def test_opening_replaced__is_sent_again_and_keeps_its_id(consortium: LocalConsortium, customers: Customers) -> None:
    handle, inquiry = opened(consortium, customers.take())
    bank = consortium["Bank A"]
    replays = bank.follower.replays
    [row] = rows_of(consortium.stores["Bank A"], handle.request.value["step"])

    reorganise(consortium, 1)
    bank.sync()
    assert inquiry not in bank.desk.state.inquiries
    consortium.asleep.clear()
    result = handle.wait(60)

    assert bank.follower.replays == replays + 1
    assert result.inquiry.id == inquiry
    assert result.inquiry.opened.at.transaction == row.tx_hash
    assert result.attested


def test_confirmations__no_answer_before_they_are_there(consortium: LocalConsortium, customers: Customers) -> None:
    handle, inquiry = opened(consortium, customers.take())
    furnisher, node = consortium["Bank B"], consortium.chain.anvil
    assert node is not None
    furnisher.follower.confirmations = 3

    furnisher.work()
    node.mine(2)
    furnisher.work()

    assert inquiry in furnisher.desk.state.inquiries
    assert consortium.stores["Bank B"].get("answer", to_hex(inquiry)) is None

    reorganise(consortium, 3)
    furnisher.work()
    assert inquiry not in furnisher.desk.state.inquiries
    consortium["Bank A"].work()
    node.mine(2)
    furnisher.work()
    assert consortium.stores["Bank B"].get("answer", to_hex(inquiry)) is None

    node.mine(1)
    furnisher.work()
    assert "payload" in answer_of(consortium, "Bank B", inquiry)
    consortium.asleep.clear()
    assert handle.wait(60).attested


def test_verdict_not_final__the_request_is_not_attested_yet(consortium: LocalConsortium, customers: Customers) -> None:
    bank, node = consortium["Bank A"], consortium.chain.anvil
    assert node is not None
    handle, _inquiry = opened(consortium, customers.take())
    consortium.asleep.clear()
    handle.wait(60, attested=False)
    bank.follower.confirmations = 2

    while consortium.work():
        pass
    assert handle.request.state is RequestState.REPORTED
    node.mine(2)
    bank.work()

    assert handle.request.state is RequestState.ATTESTED


@pytest.mark.parametrize("how", ["while it runs", "while it is down"])
def test_contribution_replaced__the_stored_one_is_sent_again_unchanged(
    consortium: LocalConsortium, customers: Customers, how: str
) -> None:
    subjects = customers.take()
    handle, inquiry = opened(consortium, subjects)
    stored = answer(consortium, "Bank B", inquiry)
    [row] = rows_of(consortium.stores["Bank B"], f"answer/{to_hex(inquiry)}")

    reorganise(consortium, 1)
    bank = restart(consortium, "Bank B") if how == "while it is down" else consortium["Bank B"]
    answer(consortium, "Bank B", inquiry)

    contribution = bank.desk.state.inquiries[inquiry].contributions[1]
    assert contribution.at.transaction == row.tx_hash
    assert answer_of(consortium, "Bank B", inquiry) == stored
    consortium.asleep.clear()
    assert handle.wait(60).totals == sums(consortium.books.values(), subjects)


def test_opening_and_contribution_replaced__furnisher_comes_first__the_same_payload_is_sent_after_the_opening(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    handle, inquiry = opened(consortium, subjects)
    furnisher = consortium["Bank B"]
    stored = answer(consortium, "Bank B", inquiry)

    reorganise(consortium, 2)
    key = f"answer/{to_hex(inquiry)}"
    until(furnisher, lambda: rows_of(consortium.stores["Bank B"], key)[0].state == "failed")  # before the opening
    consortium["Bank A"].work()
    answer(consortium, "Bank B", inquiry)

    folded = furnisher.desk.state.inquiries[inquiry]
    assert to_hex(folded.payload(1)) == stored["payload"]
    assert [row.state for row in rows_of(consortium.stores["Bank B"], key)] == ["failed", "mined"]
    consortium.asleep.clear()
    assert handle.wait(60).totals == sums(consortium.books.values(), subjects)


def test_inquiry_taken_away__its_tags_still_count_for_the_window_rule(
    consortium: LocalConsortium, customers: Customers
) -> None:
    subjects = customers.take()
    _lost, gone = opened(consortium, subjects)
    answer(consortium, "Bank B", gone)
    reorganise(consortium, 2)
    consortium.asleep.add("Bank A")  # the inquirer does not send it again

    # Bank C never saw it, and asks over a cohort without Bank D.
    switch_off(consortium, "Bank D")
    second = ask(consortium["Bank C"], subjects)
    until(consortium["Bank C"], lambda: second.request.state is RequestState.OPEN)
    asked = second.request.inquiry
    assert asked is not None
    consortium["Bank B"].work()
    until(consortium["Bank C"], lambda: consortium["Bank C"].desk.state.inquiries[asked].refusal is not None)

    assert gone not in consortium["Bank B"].desk.state.inquiries
    refusal = consortium["Bank C"].desk.state.inquiries[asked].refusal
    assert refusal is not None
    assert (refusal.member, refusal.code) == (1, RefusalCode.WINDOW)
    assert "Bank D" in answer_of(consortium, "Bank B", asked)["text"]


def test_opening_taken_away_and_cohort_moved__the_request_ends_with_advice(
    consortium: LocalConsortium, customers: Customers
) -> None:
    handle, _inquiry = opened(consortium, customers.take())

    reorganise(consortium, 1)
    switch_off(consortium, "Bank D")
    until(consortium["Bank A"], lambda: handle.request.state is RequestState.FAILED)

    assert "ask the customer for a new consent" in handle.request.note


def test_report_and_attestation_replaced__supervisor_comes_first__it_attests_after_the_report(
    consortium: LocalConsortium, customers: Customers
) -> None:
    consortium.asleep.clear()
    handle = ask(consortium["Bank A"], customers.take())
    handle.wait(60)
    consortium.settle()
    assert handle.request.inquiry is not None
    key = f"attest/{to_hex(handle.request.inquiry)}"
    outbox = consortium.supervisor.outbox

    reorganise(consortium, 2)
    for _ in range(50):
        consortium.supervisor.work()
        row = outbox.store.outbox_by_key(key)
        if row is not None and row.state == "failed":  # there was no report yet
            break
        time.sleep(0.02)
    consortium.settle()

    assert [row.state for row in rows_of(outbox.store, key)] == ["failed", "mined"]
    until(consortium["Bank A"], lambda: handle.wait(0).attested)


def test_attestation_replaced__is_given_again(consortium: LocalConsortium, customers: Customers) -> None:
    consortium.asleep.clear()
    handle = ask(consortium["Bank A"], customers.take())
    handle.wait(60)
    inquiry = handle.request.inquiry
    assert inquiry is not None

    reorganise(consortium, 1)
    consortium["Bank A"].sync()
    assert consortium["Bank A"].desk.state.inquiries[inquiry].stage is Stage.REPORTED
    consortium.settle()

    until(consortium["Bank A"], lambda: consortium["Bank A"].desk.state.inquiries[inquiry].stage is Stage.VALID)
