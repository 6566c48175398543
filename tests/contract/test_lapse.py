"""lapse: anyone has the members switched off that are silent for too long; the inquiry goes on.

lapse
├── before `silenceSeconds` have passed since the opening: TooEarly                              at that second: by anyone
├── stage None, Complete, Reported, Valid, Void, Refused, Expired: WrongStage
├── all silent members are switched off already: NothingChanges
└── else: the silent members are not ready from the next period on; stage, product, lane and roster stay
a member that comes back: answers, and may be ready again
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import PARAMETERS, bitmap
from inquiries import STAGES, Stage, credit_on
from onchain import Chain


def ready(credit):
    """The members that serve and are ready now."""
    return credit.council.read("memberSets")[2]


def refusal(inquiry):
    """The error with which `lapse` by an outsider is refused."""
    return inquiry.credit.refusal(inquiry.credit.council.outsider, "lapse", inquiry.id)


def test_lapse__after_the_silence__switches_off_those_that_have_not_answered(credit, open_inquiry):
    open_inquiry.contribute(1)
    open_inquiry.contribute(3)
    roster = credit.council.read("roster")

    receipt = open_inquiry.lapse()

    assert credit.events(receipt) == []
    assert credit.council.events(receipt) == [("ReadinessLapsed", bitmap(2, 4))]
    # Cohorts of this period are fixed; the next period is without them.
    assert ready(credit) == bitmap(0, 1, 2, 3, 4)
    credit.chain.next_period()
    assert ready(credit) == bitmap(0, 1, 3)
    assert credit.council.read("roster") == roster


def test_lapse__leaves_the_inquiry_open_and_complete_when_the_silent_come_back(credit, open_inquiry):
    before = open_inquiry.status
    open_inquiry.contribute(1)

    open_inquiry.lapse()

    assert open_inquiry.status == {**before, "awaited": bitmap(2, 3, 4)}
    assert credit.read("lanes") == (1, 0)
    open_inquiry.complete()
    assert open_inquiry.stage == Stage.COMPLETE
    assert credit.read("aggregate", open_inquiry.id) == open_inquiry.encoded_product


def test_lapse__before_the_silence_is_over__reverts_with_too_early(credit, open_inquiry):
    silent_from = open_inquiry.status["silentFrom"]
    assert silent_from == open_inquiry.status["opened"] + PARAMETERS["silenceSeconds"]

    # Calls run at the time of the newest block, which is a second before the one that is travelled to.
    credit.chain.tester.time_travel(silent_from)
    assert refusal(open_inquiry) == ("TooEarly", silent_from)
    credit.chain.tester.time_travel(silent_from + 1)
    assert refusal(open_inquiry) is None


@pytest.mark.parametrize("sender", ["outsider", "inquirer", "silent member", "supervisor"])
def test_lapse__after_the_silence__is_anyones_to_call(credit, open_inquiry, sender):
    account = {
        "outsider": credit.council.outsider,
        "inquirer": credit.bank(0).account,
        "silent member": credit.bank(2).owner,
        "supervisor": credit.council.supervisor_account,
    }[sender]
    credit.chain.travel(PARAMETERS["silenceSeconds"])

    credit.send(account, "lapse", open_inquiry.id)
    credit.chain.next_period()

    assert ready(credit) == bitmap(0)


def test_lapse__a_second_time__reverts_with_nothing_changes(credit, open_inquiry):
    open_inquiry.lapse()

    assert refusal(open_inquiry) == ("NothingChanges",)


def test_lapse__of_members_that_came_back_without_an_answer__switches_them_off_again(credit, open_inquiry):
    open_inquiry.lapse()
    credit.chain.next_period()
    credit.council.ready([2])

    receipt = credit.send(credit.council.outsider, "lapse", open_inquiry.id)

    assert credit.council.events(receipt) == [("ReadinessLapsed", bitmap(2))]


def test_lapse__of_a_member_that_switched_off_itself__names_the_others(credit, open_inquiry):
    credit.council.ready([4], False)

    receipt = open_inquiry.lapse()

    assert credit.council.events(receipt) == [("ReadinessLapsed", bitmap(1, 2, 3))]


def test_lapse__of_a_repetition__leaves_alone_the_members_outside_its_cohort(credit):
    inquiry = credit.inquiry(repeats=True, cohort=bitmap(0, 1, 2, 3))

    inquiry.lapse()
    credit.chain.next_period()

    assert ready(credit) == bitmap(0, 4)


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.OPEN)])
def test_lapse__in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, stage):
    open_inquiry.brought_to(stage)
    credit.chain.travel(10 * PARAMETERS["answerSeconds"])

    assert refusal(open_inquiry) == ("WrongStage", stage)


def test_lapse__of_an_unknown_inquiry__reverts_with_wrong_stage(credit, outsider):
    for unknown in (bytes(32), b"\1" * 32):
        assert credit.refusal(outsider, "lapse", unknown) == ("WrongStage", Stage.NONE)


def test_lapse__after_the_deadline_and_before_expire__is_accepted(credit, open_inquiry):
    credit.chain.travel(PARAMETERS["answerSeconds"])

    assert refusal(open_inquiry) is None


def test_lapse__after_the_term_changed__goes_by_the_term_of_the_opening(credit):
    council = credit.council
    field = list(PARAMETERS).index("silenceSeconds")
    values = tuple({**dict.fromkeys(PARAMETERS, 0), "silenceSeconds": 300}.values())
    call = council.encoded("setTerms", 1 << field, values)
    settled = council.settled(call)
    inquiry = credit.inquiry()
    council.send(council.outsider, "execute", settled, [call], council.supervisor)
    later = credit.inquiry()

    credit.chain.travel(PARAMETERS["silenceSeconds"])

    assert refusal(inquiry) is None
    assert refusal(later) == ("TooEarly", later.status["opened"] + 300)


def test_lapse__on_a_replaced_contract__still_switches_off(credit, open_inquiry, outsider):
    council = credit.council
    council.decide(council.encoded("approveJointCredit", keccak(council.joint_credit_code)))
    council.send(outsider, "createJointCredit", council.joint_credit_code)

    open_inquiry.lapse()
    credit.chain.next_period()

    assert ready(credit) == bitmap(0)


def test_lapse__where_silence_is_the_whole_answer_time__is_possible_at_the_deadline():
    chain = Chain()
    credit = credit_on(chain, 5, parameters={"silenceSeconds": PARAMETERS["answerSeconds"]})
    inquiry = credit.inquiry()
    deadline = inquiry.status["deadline"]

    assert inquiry.status["silentFrom"] == deadline
    chain.tester.time_travel(deadline)
    assert refusal(inquiry) == ("TooEarly", deadline)
    chain.tester.time_travel(deadline + 1)
    assert refusal(inquiry) is None
