"""JointCredit is replaced by proposal while an inquiry runs (R36): through Python, from the vote to the fold."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flow_world import BITS, DAY, Customers, approve, ask, carry, encoded, execute, owner, propose, restart, sums, terms

from mpcredit.chain import joint_credit_init_code, joint_credit_init_code_hash
from mpcredit.encoding import keccak
from mpcredit.errors import Refused
from mpcredit.events import Call, JointCreditReplaced, Stage
from mpcredit.follower import Follower
from mpcredit.inquirer import RequestState
from mpcredit.local import LocalConsortium, local_consortium

CODE = joint_credit_init_code()


@pytest.fixture(scope="module")
def consortium() -> Iterator[LocalConsortium]:
    """Five institutions, ready; there is time for a proposal while an inquiry runs."""
    with local_consortium(institutions=5, bits=BITS, parameters=terms(answer_seconds=DAY, repeat_seconds=DAY)) as made:
        yield made


@pytest.fixture(scope="module")
def customers(consortium: LocalConsortium) -> Customers:
    """Each is asked about once."""
    return Customers(consortium)


def create(consortium: LocalConsortium, code: bytes = CODE) -> None:
    """Anyone may hand the code to the Consortium."""
    owner(consortium, "Bank E").transact(Call("consortium", "createJointCredit", (code,)))


def refusal_of_creation(consortium: LocalConsortium, code: bytes) -> str | int:
    """The error with which the Consortium refuses a code."""
    with pytest.raises(Refused) as refused:
        create(consortium, code)
    return refused.value.code


def test_code_that_nobody_approved__is_refused(consortium: LocalConsortium) -> None:
    assert refusal_of_creation(consortium, CODE) == "InitCodeDiffers"


def test_proposal_without_votes_or_approval__changes_nothing(consortium: LocalConsortium) -> None:
    call = encoded("approveJointCredit", joint_credit_init_code_hash())
    number, calls_hash = propose(consortium, call)
    consortium.advance(3_600)

    with pytest.raises(Refused) as unapproved:
        execute(consortium, number, call)
    for name in ("Bank A", "Bank B", "Bank C"):  # two thirds of five are four
        owner(consortium, name).transact(Call("consortium", "vote", (number, calls_hash)))
    with pytest.raises(Refused) as outvoted:
        approve(consortium, number, calls_hash)
    owner(consortium, "Bank D").transact(Call("consortium", "vote", (number, calls_hash)))
    approve(consortium, number, calls_hash)
    with pytest.raises(Refused) as early:
        execute(consortium, number, call)

    assert [str(found.value.code) for found in (unapproved, outvoted, early)] == [
        "ApprovalMissing",
        "VotesMissing",
        "TooEarly",
    ]
    assert refusal_of_creation(consortium, CODE) == "InitCodeDiffers"


def test_other_code_than_the_approved__is_refused(consortium: LocalConsortium) -> None:
    other = CODE + b"\0"
    carry(consortium, encoded("approveJointCredit", keccak(other)))

    assert refusal_of_creation(consortium, CODE) == "InitCodeDiffers"
    assert consortium["Bank A"].desk.state.joint_credit == consortium.deployed.joint_credit


def test_replaced_while_an_inquiry_is_open__it_ends_on_the_old_one_and_new_ones_open_on_the_new(
    consortium: LocalConsortium, customers: Customers
) -> None:
    old = consortium.deployed.joint_credit
    subjects, more = customers.take(2), customers.take(2)
    consortium.asleep.add("Bank D")
    running = ask(consortium["Bank A"], subjects)
    consortium.settle()
    assert running.request.state is RequestState.OPEN

    carry(consortium, encoded("approveJointCredit", joint_credit_init_code_hash()), reason="the next version")
    create(consortium)
    consortium.settle()
    new = consortium["Bank A"].desk.state.joint_credit
    assert new not in (old, None)

    # (1) the running one waits on the old contract, and ends there.
    following = ask(consortium["Bank B"], more)
    consortium.settle()
    consortium.asleep.clear()
    restart(consortium, "Bank D")  # one that was not there reads it all from the events
    consortium.settle()
    finished = running.wait(1)
    assert finished.inquiry.joint_credit == old
    assert finished.totals == sums(consortium.books.values(), subjects)
    assert finished.attested

    # (2) the new one is on the new contract.
    result = following.wait(1)
    assert result.inquiry.joint_credit == new
    assert result.coverage == "4 of 5 institutions; not ready: Bank D"  # it was silent for longer than silence_seconds
    others = [book for name, book in consortium.books.items() if name != "Bank D"]
    assert result.totals == sums(others, more)
    assert result.attested

    # (3) a fold from the first block follows both.
    reader = Follower(consortium.ledger, consortium.pins)
    reader.sync()
    assert {i.joint_credit for i in reader.state.inquiries.values()} == {old, new}
    assert all(i.stage is Stage.VALID for i in reader.state.inquiries.values())
    replaced = [event.current for event in reader.events if isinstance(event, JointCreditReplaced)]
    assert replaced == [old, new]


def test_old_contract__refuses_only_open(consortium: LocalConsortium, customers: Customers) -> None:
    bank = consortium["Bank A"]
    bank.sync()
    last = max(bank.desk.state.inquiries.values(), key=lambda inquiry: inquiry.opened.at.block)
    call = Call(consortium.deployed.joint_credit, "open", (bank.index, last.opening.arguments()))

    with pytest.raises(Refused) as refused:
        bank.desk.outbox.signer.sign(call, 0)

    assert refused.value.code == "NotCurrentJointCredit"
