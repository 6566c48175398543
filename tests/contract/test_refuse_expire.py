"""refuse, expire, revokeConsent: ends without a total, and a statement. `lapse` is in test_lapse.py.

refuse
├── not the member's account: NotAccount; not in the cohort: NotInCohort; the inquirer, or one that contributed: NotAwaited
├── stage None, Complete, Reported, Valid, Void, Refused, Expired: WrongStage
├── code 0: RefusalCode
├── sealed cohort of 65 bytes or more: SealedLength                                     none to 64 bytes: accepted
├── after another tenure was named: accepted, because a refusal is no answer
└── else: Refused, product of those that came in an event, lane and due time back
expire
├── before the deadline: TooEarly                                                        at the deadline: by anyone
├── stage None, Complete, Reported, Valid, Void, Refused, Expired: WrongStage
└── else: Expired, the silent ones are switched off, product in an event, lane and due time back
revokeConsent
├── not the member's account: NotAccount
└── else: event
views after an end: AggregateGone with the hash
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import DAY, PARAMETERS, bitmap
from inquiries import STAGES, Stage, key

# ---------------------------------------------------------------- refuse


def test_refuse__by_an_awaited_member__ends_the_inquiry(credit, open_inquiry):
    open_inquiry.contribute(1)

    receipt = open_inquiry.refuse(3, code=9)

    assert credit.events(receipt) == [
        ("AggregateClosed", open_inquiry.id, open_inquiry.encoded_product),
        ("Refused", open_inquiry.id, 3, 9, b""),
    ]
    status = open_inquiry.status
    assert status["stage"] == Stage.REFUSED
    assert status["awaited"] == bitmap(2, 3, 4)
    assert status["aggregateHash"] == keccak(open_inquiry.encoded_product)
    assert credit.read("lanes") == (1, 1)
    assert credit.refusal(credit.bank(1).account, "aggregate", open_inquiry.id) == (
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
    account = credit.bank(1).account

    assert credit.refusal(account, "refuse", open_inquiry.id, 1, 0, b"") == ("RefusalCode",)
    assert credit.refusal(account, "refuse", open_inquiry.id, 1, 255, b"") is None


@pytest.mark.parametrize("length", [0, 1, 63, 64])
def test_refuse__with_a_sealed_cohort__has_it_in_its_event(credit, open_inquiry, length):
    sealed = credit.source.randbytes(length)

    receipt = open_inquiry.refuse(2, code=4, sealed_cohort=sealed)

    assert credit.event(receipt, "Refused") == (open_inquiry.id, 2, 4, sealed)


@pytest.mark.parametrize("length", [65, 96, 4096])
def test_refuse__with_a_sealed_cohort_that_is_too_long__reverts_with_sealed_length(credit, open_inquiry, length):
    refused = credit.refusal(credit.bank(2).account, "refuse", open_inquiry.id, 2, 4, bytes(length))

    assert refused == ("SealedLength", length)


def test_refuse__by_another_account_than_that_of_the_member__reverts_with_not_account(credit, open_inquiry, outsider):
    service = credit.bank(2).account

    for sender in (outsider, credit.bank(2).owner, credit.bank(1).account):
        assert credit.refusal(sender, "refuse", open_inquiry.id, 2, 1, b"") == ("NotAccount", sender, service)
    assert credit.refusal(service, "refuse", open_inquiry.id, 2, 1, b"") is None


def test_refuse__by_a_member_that_is_not_awaited__reverts(credit):
    credit.council.ready([4], False)
    inquiry = credit.inquiry()
    inquiry.contribute(1)

    assert refusal_to_refuse(inquiry, 0) == ("NotAwaited", 0)
    assert refusal_to_refuse(inquiry, 1) == ("NotAwaited", 1)
    assert refusal_to_refuse(inquiry, 4) == ("NotInCohort", 4)
    assert refusal_to_refuse(inquiry, 2) is None


def test_refuse__after_another_tenure_was_named__is_accepted(credit, open_inquiry):
    bank = credit.bank(1)
    credit.chain.travel(DAY)
    credit.council.name_account(bank, bank.account, 2, bank.tenure(2))

    assert open_inquiry.refusal_to_contribute(1)[0] == "OpenedBeforeTenure"
    assert refusal_to_refuse(open_inquiry, 1) is None


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.OPEN)])
def test_refuse__in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, stage):
    open_inquiry.brought_to(stage)

    for bank in (0, 1, 4):
        assert refusal_to_refuse(open_inquiry, bank) == ("WrongStage", stage)


def test_refuse__of_an_unknown_inquiry__reverts_with_wrong_stage(credit):
    refused = credit.refusal(credit.bank(1).account, "refuse", b"\1" * 32, 1, 1, b"")

    assert refused == ("WrongStage", Stage.NONE)


def refusal_to_refuse(inquiry, bank):
    """The error with which a member's refusal is refused."""
    return inquiry.credit.refusal(inquiry.credit.bank(bank).account, "refuse", inquiry.id, bank, 1, b"")


# ---------------------------------------------------------------- expire


def test_expire__after_the_deadline__ends_and_switches_the_silent_off_from_the_next_period_on(credit, open_inquiry):
    open_inquiry.contribute(1)
    open_inquiry.contribute(3)

    receipt = open_inquiry.expire()

    assert credit.events(receipt) == [
        ("AggregateClosed", open_inquiry.id, open_inquiry.encoded_product),
        ("Expired", open_inquiry.id, bitmap(2, 4)),
    ]
    assert credit.council.event(receipt, "ReadinessLapsed") == (bitmap(2, 4),)
    assert credit.council.read("memberSets")[2] == bitmap(0, 1, 2, 3, 4)
    credit.chain.next_period()
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
    assert credit.refusal(credit.bank(0).account, "expire", open_inquiry.id) is None


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

    open_inquiry.expire()
    credit.chain.next_period()

    assert council.read("memberSets")[2] == bitmap(0)


def test_expire__when_the_silent_are_switched_off_already__ends_all_the_same(credit, open_inquiry):
    open_inquiry.lapse()

    receipt = open_inquiry.expire()

    assert open_inquiry.stage == Stage.EXPIRED
    assert credit.event(receipt, "Expired") == (open_inquiry.id, bitmap(1, 2, 3, 4))
    assert credit.council.events(receipt) == []


# ---------------------------------------------------------------- revokeConsent


def test_revoke_consent__by_a_member__is_on_the_ledger(credit, outsider):
    consent, service = keccak(b"receipt"), credit.bank(2).account

    receipt = credit.send(service, "revokeConsent", 2, consent)

    assert credit.events(receipt) == [("ConsentRevoked", consent, 2)]
    for sender in (outsider, credit.bank(2).owner, credit.bank(1).account):
        assert credit.refusal(sender, "revokeConsent", 2, consent) == ("NotAccount", sender, service)
