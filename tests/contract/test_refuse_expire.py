"""refuse, expire, notSent, revokeConsent: ends without a total, and statements.

refuse
├── not a member: NotMember; not in the cohort: NotInCohort; the inquirer, or one that contributed: NotAwaited
├── stage None, Complete, Reported, Valid, Void, Refused, Expired: WrongStage
├── code 0: RefusalCode
└── else: Refused, product of those that came in an event, lane and due time back
expire
├── before the deadline: TooEarly                                                        at the deadline: by anyone
├── stage None, Complete, Reported, Valid, Void, Refused, Expired: WrongStage
└── else: Expired, the silent ones lose their readiness, product in an event, lane and due time back
notSent
├── stage None, Open, Complete, Reported, Valid: WrongStage
├── not a member: NotMember; not in the cohort: NotInCohort; one that contributed, the inquirer: NotAwaited
├── a second time: AlreadyStated
└── else: event
revokeConsent
├── not a member: NotMember
└── else: event
views after an end: AggregateGone with the hash
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import PARAMETERS, bitmap
from inquiries import ENDED_UNANSWERED, STAGES, Stage, key

# ---------------------------------------------------------------- refuse


def test_refuse__by_an_awaited_member__ends_the_inquiry(credit, open_inquiry):
    open_inquiry.contribute(1)

    receipt = open_inquiry.refuse(3, code=9)

    assert credit.events(receipt) == [
        ("AggregateClosed", open_inquiry.id, open_inquiry.encoded_product),
        ("Refused", open_inquiry.id, 3, 9),
    ]
    status = open_inquiry.status
    assert status["stage"] == Stage.REFUSED
    assert status["awaited"] == bitmap(2, 3, 4)
    assert status["aggregateHash"] == keccak(open_inquiry.encoded_product)
    assert credit.read("lanes") == (1, 1)
    assert credit.refusal(credit.bank(1).operator, "aggregate", open_inquiry.id) == (
        "AggregateGone",
        keccak(open_inquiry.encoded_product),
    )


def test_refuse__of_wide_and_many_blocks__closes_all_of_them(credit):
    inquiry = credit.inquiry(under=key(4096), blocks=3)
    inquiry.contribute(2)
    inquiry.contribute(4)

    receipt = inquiry.refuse(1)

    assert credit.event(receipt, "AggregateClosed") == (inquiry.id, inquiry.encoded_product)


def test_refuse__with_code_zero__reverts_with_refusal_code(credit, open_inquiry):
    account = credit.bank(1).operator

    assert credit.refusal(account, "refuse", open_inquiry.id, 0) == ("RefusalCode",)
    assert credit.refusal(account, "refuse", open_inquiry.id, 255) is None


def test_refuse__by_someone_who_is_not_awaited__reverts(credit, outsider):
    credit.council.ready([4], until=0)
    inquiry = credit.inquiry()
    inquiry.contribute(1)

    assert credit.refusal(outsider, "refuse", inquiry.id, 1) == ("NotMember", outsider)
    assert credit.refusal(credit.bank(0).operator, "refuse", inquiry.id, 1) == ("NotAwaited", 0)
    assert credit.refusal(credit.bank(1).operator, "refuse", inquiry.id, 1) == ("NotAwaited", 1)
    assert credit.refusal(credit.bank(4).operator, "refuse", inquiry.id, 1) == ("NotInCohort", 4)
    assert credit.refusal(credit.bank(2).operator, "refuse", inquiry.id, 1) is None


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.OPEN)])
def test_refuse__in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, stage):
    open_inquiry.brought_to(stage)

    for bank in (0, 1, 4):
        refused = credit.refusal(credit.bank(bank).operator, "refuse", open_inquiry.id, 1)
        assert refused == ("WrongStage", stage)


def test_refuse__of_an_unknown_inquiry__reverts_with_wrong_stage(credit):
    assert credit.refusal(credit.bank(1).operator, "refuse", b"\1" * 32, 1) == ("WrongStage", Stage.NONE)


# ---------------------------------------------------------------- expire


def test_expire__after_the_deadline__ends_and_takes_readiness_from_the_silent(credit, open_inquiry, outsider):
    open_inquiry.contribute(1)
    open_inquiry.contribute(3)

    receipt = open_inquiry.expire()

    assert credit.events(receipt) == [
        ("AggregateClosed", open_inquiry.id, open_inquiry.encoded_product),
        ("Expired", open_inquiry.id, bitmap(2, 4)),
    ]
    assert credit.council.event(receipt, "ReadinessLapsed") == (bitmap(2, 4),)
    assert credit.council.read("memberSets")[2] == bitmap(0, 1, 3)
    assert open_inquiry.stage == Stage.EXPIRED
    assert open_inquiry.status["aggregateHash"] == keccak(open_inquiry.encoded_product)
    assert credit.read("lanes") == (1, 1)


def test_expire__before_the_deadline__reverts_with_too_early(credit, open_inquiry, outsider):
    deadline = open_inquiry.status["deadline"]

    assert credit.refusal(outsider, "expire", open_inquiry.id) == ("TooEarly", deadline)
    # Calls run at the time of the newest block, which is a second before the one that is travelled to.
    credit.chain.tester.time_travel(deadline)
    assert credit.refusal(outsider, "expire", open_inquiry.id) == ("TooEarly", deadline)
    credit.chain.tester.time_travel(deadline + 1)
    assert credit.refusal(outsider, "expire", open_inquiry.id) is None
    assert credit.refusal(credit.bank(0).operator, "expire", open_inquiry.id) is None


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.OPEN)])
def test_expire__in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, outsider, stage):
    open_inquiry.brought_to(stage)
    credit.chain.travel(10 * PARAMETERS["answerSeconds"])

    assert credit.refusal(outsider, "expire", open_inquiry.id) == ("WrongStage", stage)


def test_expire__of_an_unknown_inquiry__reverts_with_wrong_stage(credit, outsider):
    assert credit.refusal(outsider, "expire", bytes(32)) == ("WrongStage", Stage.NONE)


def test_expire__on_a_replaced_contract__still_takes_readiness(credit, open_inquiry, outsider):
    council = credit.council
    council.decide(council.encoded("approveJointCredit", keccak(council.joint_credit_code)))
    council.send(outsider, "createJointCredit", council.joint_credit_code)
    council.ready(range(5))

    open_inquiry.expire()

    assert council.read("memberSets")[2] == bitmap(0)


# ---------------------------------------------------------------- notSent


@pytest.mark.parametrize("stage", ENDED_UNANSWERED)
def test_not_sent__after_an_end_without_its_answer__is_on_the_ledger_once(credit, open_inquiry, regulator, stage):
    open_inquiry.contribute(1)
    if stage == Stage.VOID:
        open_inquiry.attest(2)
    else:
        open_inquiry.brought_to(stage)
    account = credit.bank(4).operator

    receipt = credit.send(account, "notSent", open_inquiry.id)

    assert credit.events(receipt) == [("NotSent", open_inquiry.id, 4)]
    assert credit.refusal(account, "notSent", open_inquiry.id) == ("AlreadyStated", 4)
    assert credit.refusal(credit.bank(3).operator, "notSent", open_inquiry.id) is None
    assert credit.read("cohort", open_inquiry.id)[1] == bitmap(2, 3, 4)


def test_not_sent__by_one_that_refused__is_accepted(credit, open_inquiry):
    open_inquiry.refuse(2)

    assert credit.refusal(credit.bank(2).operator, "notSent", open_inquiry.id) is None


def test_not_sent__by_someone_who_owed_no_answer__reverts(credit, outsider):
    credit.council.ready([4], until=0)
    inquiry = credit.inquiry()
    inquiry.contribute(1)
    inquiry.refuse(2)

    assert credit.refusal(outsider, "notSent", inquiry.id) == ("NotMember", outsider)
    assert credit.refusal(credit.bank(0).operator, "notSent", inquiry.id) == ("NotAwaited", 0)
    assert credit.refusal(credit.bank(1).operator, "notSent", inquiry.id) == ("NotAwaited", 1)
    assert credit.refusal(credit.bank(4).operator, "notSent", inquiry.id) == ("NotInCohort", 4)


def test_not_sent__after_void_from_complete__reverts_with_not_awaited(credit, complete_inquiry):
    complete_inquiry.attest(2)

    assert credit.refusal(credit.bank(3).operator, "notSent", complete_inquiry.id) == ("NotAwaited", 3)


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, *ENDED_UNANSWERED)])
def test_not_sent__in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, stage):
    open_inquiry.brought_to(stage)

    assert credit.refusal(credit.bank(3).operator, "notSent", open_inquiry.id) == ("WrongStage", stage)


def test_not_sent__for_an_unknown_inquiry__reverts_with_wrong_stage(credit):
    assert credit.refusal(credit.bank(3).operator, "notSent", bytes(32)) == ("WrongStage", Stage.NONE)


# ---------------------------------------------------------------- revokeConsent


def test_revoke_consent__by_a_member__is_on_the_ledger(credit, outsider):
    consent = keccak(b"receipt")

    receipt = credit.send(credit.bank(2).operator, "revokeConsent", consent)

    assert credit.events(receipt) == [("ConsentRevoked", consent, 2)]
    assert credit.refusal(outsider, "revokeConsent", consent) == ("NotMember", outsider)
