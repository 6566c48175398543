"""report and attest: the inquirer's report, the supervisor's verdict, and the views of each stage.

report
├── not a member: NotMember; another member: NotInquirer
├── stage None, Open, Reported, Valid, Void, Refused, Expired: WrongStage
└── else: Reported, commitment and hash kept, product in an event, lane and due time back
attest valid
├── not a supervisor, or one no more: NotSupervisor
├── stage None, Open, Complete, Valid, Void, Refused, Expired: WrongStage
├── culprits named: CulpritsNamed
└── else: Valid
attest invalid
├── not a supervisor: NotSupervisor
├── stage None, Valid, Void, Refused, Expired: WrongStage
├── no culprit: CulpritsMissing; one outside the cohort: CulpritsOutsideCohort
└── from Open, Complete or Reported: Void, the culprits suspended, the product in an event unless it was before
views
├── unknown: status and cohort zero, aggregate WrongStage
└── ended: aggregate AggregateGone
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import bitmap
from inquiries import STAGES, Stage

ANCHOR = keccak(b"anchor")

# ---------------------------------------------------------------- report


def test_report__by_the_inquirer__closes_the_aggregate(credit, complete_inquiry):
    receipt = complete_inquiry.report()

    assert credit.events(receipt) == [
        ("AggregateClosed", complete_inquiry.id, complete_inquiry.encoded_product),
        ("Reported", complete_inquiry.id, keccak(b"report"), b"sealed report", ANCHOR),
    ]
    status = complete_inquiry.status
    assert status["stage"] == Stage.REPORTED
    assert status["aggregateHash"] == keccak(complete_inquiry.encoded_product)
    assert status["reportCommitment"] == keccak(b"report")
    assert credit.read("lanes") == (1, 1)


def test_report__by_someone_else__reverts(credit, complete_inquiry, outsider):
    arguments = ("report", complete_inquiry.id, keccak(b"report"), b"", bytes(32))

    assert credit.refusal(outsider, *arguments) == ("NotMember", outsider)
    assert credit.refusal(credit.bank(0).owner, *arguments) == ("NotMember", credit.bank(0).owner)
    assert credit.refusal(credit.bank(1).operator, *arguments) == ("NotInquirer", 1, 0)
    assert credit.refusal(credit.bank(5).operator, *arguments) == ("NotInquirer", 5, 0)
    assert credit.refusal(credit.bank(0).operator, *arguments) is None


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.COMPLETE)])
def test_report__in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, stage):
    open_inquiry.brought_to(stage)
    account = credit.bank(0).operator

    refused = credit.refusal(account, "report", open_inquiry.id, keccak(b"report"), b"", bytes(32))

    assert refused == ("WrongStage", stage)


def test_report__of_an_unknown_inquiry__reverts_with_wrong_stage(credit):
    refused = credit.refusal(credit.bank(0).operator, "report", bytes(32), bytes(32), b"", bytes(32))

    assert refused == ("WrongStage", Stage.NONE)


# ---------------------------------------------------------------- attest


def attest(inquiry, valid, culprits=0):
    return ("attest", inquiry.id, valid, culprits, ANCHOR)


def test_attest__valid_after_the_report__ends_the_inquiry(credit, reported_inquiry, regulator):
    receipt = credit.send(regulator, *attest(reported_inquiry, True))

    assert credit.events(receipt) == [("Attested", reported_inquiry.id, regulator, True, 0, ANCHOR)]
    assert reported_inquiry.stage == Stage.VALID
    assert credit.read("lanes") == (1, 1)


def test_attest__valid_with_culprits__reverts_with_culprits_named(credit, reported_inquiry, regulator):
    assert credit.refusal(regulator, *attest(reported_inquiry, True, bitmap(1))) == ("CulpritsNamed",)
    assert credit.refusal(regulator, *attest(reported_inquiry, True)) is None


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.REPORTED)])
def test_attest__valid_in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, regulator, stage):
    open_inquiry.brought_to(stage)

    assert credit.refusal(regulator, *attest(open_inquiry, True)) == ("WrongStage", stage)


@pytest.mark.parametrize("stage", [Stage.OPEN, Stage.COMPLETE])
def test_attest__invalid_before_the_report__voids_and_closes(credit, open_inquiry, regulator, stage):
    open_inquiry.contribute(1)
    open_inquiry.brought_to(stage)

    receipt = credit.send(regulator, *attest(open_inquiry, False, bitmap(0, 3)))

    assert credit.events(receipt) == [
        ("AggregateClosed", open_inquiry.id, open_inquiry.encoded_product),
        ("Attested", open_inquiry.id, regulator, False, bitmap(0, 3), ANCHOR),
    ]
    assert open_inquiry.stage == Stage.VOID
    assert open_inquiry.status["aggregateHash"] == keccak(open_inquiry.encoded_product)
    assert credit.council.changes(receipt) == [("MemberSuspended", 0), ("MemberSuspended", 3)]
    assert credit.read("lanes") == (1, 1)


def test_attest__invalid_after_the_report__voids_without_closing_again(credit, reported_inquiry, regulator):
    other = credit.inquiry()

    receipt = credit.send(regulator, *attest(reported_inquiry, False, bitmap(2)))

    assert credit.events(receipt) == [("Attested", reported_inquiry.id, regulator, False, bitmap(2), ANCHOR)]
    assert reported_inquiry.stage == Stage.VOID
    assert reported_inquiry.status["reportCommitment"] == keccak(b"report")
    assert credit.council.read("memberSets")[1] == bitmap(0, 1, 3, 4)
    # The lane that the report gave back is the other inquiry's by now, and stays with it.
    assert credit.read("lanes") == (1, 0)
    other.contribute(1)
    assert credit.read("aggregate", other.id) == other.encoded_product


def test_attest__invalid_of_a_removed_culprit__voids_all_the_same(credit, open_inquiry, regulator):
    council = credit.council
    council.decide(council.encoded("removeMember", 4))

    receipt = credit.send(regulator, *attest(open_inquiry, False, bitmap(4)))

    assert open_inquiry.stage == Stage.VOID
    assert council.changes(receipt) == []


def test_attest__invalid_without_a_culprit_of_the_cohort__reverts(credit, regulator):
    credit.council.ready([4], until=0)
    inquiry = credit.inquiry()

    assert credit.refusal(regulator, *attest(inquiry, False)) == ("CulpritsMissing",)
    for outside in (bitmap(4), bitmap(5), 1 << 216, 1 << 255):
        refused = credit.refusal(regulator, *attest(inquiry, False, outside | bitmap(1)))
        assert refused == ("CulpritsOutsideCohort", outside)
    assert credit.refusal(regulator, *attest(inquiry, False, bitmap(0, 1, 2, 3))) is None


@pytest.mark.parametrize("stage", [Stage.VALID, Stage.VOID, Stage.REFUSED, Stage.EXPIRED])
def test_attest__invalid_after_an_end__reverts_with_wrong_stage(credit, open_inquiry, regulator, stage):
    open_inquiry.brought_to(stage)

    assert credit.refusal(regulator, *attest(open_inquiry, False, bitmap(1))) == ("WrongStage", stage)


def test_attest__of_an_unknown_inquiry__reverts_with_wrong_stage(credit, regulator):
    for valid, culprits in ((True, 0), (False, 1)):
        refused = credit.refusal(regulator, "attest", bytes(32), valid, culprits, ANCHOR)
        assert refused == ("WrongStage", Stage.NONE)


@pytest.mark.parametrize("valid", [True, False])
def test_attest__by_anyone_but_a_supervisor__reverts_with_not_supervisor(credit, reported_inquiry, outsider, valid):
    culprits = 0 if valid else bitmap(1)
    accounts = (outsider, credit.bank(0).operator, credit.bank(0).owner, credit.council.second_supervisor)

    for account in accounts:
        assert credit.refusal(account, *attest(reported_inquiry, valid, culprits)) == ("NotSupervisor", account)


def test_attest__by_a_supervisor_added_and_one_removed__counts_and_does_not(credit, reported_inquiry, regulator):
    council = credit.council
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    assert credit.refusal(council.second_supervisor, *attest(reported_inquiry, True)) is None

    council.decide(council.encoded("removeSupervisor", council.second_supervisor))

    refused = credit.refusal(council.second_supervisor, *attest(reported_inquiry, True))
    assert refused == ("NotSupervisor", council.second_supervisor)
    assert credit.refusal(regulator, *attest(reported_inquiry, True)) is None


# ---------------------------------------------------------------- views


def test_views__of_an_unknown_inquiry__are_zero(credit, outsider):
    for unknown in (bytes(32), b"\1" * 32):
        status = credit.read("status", unknown)
        assert set(status.values()) == {0, bytes(32)}
        assert credit.read("cohort", unknown) == (0, 0)
        assert credit.refusal(outsider, "aggregate", unknown) == ("WrongStage", Stage.NONE)
    assert credit.read("lastNonce", 3) == 0


@pytest.mark.parametrize("stage", [s for s in STAGES if s > Stage.COMPLETE])
def test_views__of_an_ended_inquiry__name_the_hash_of_its_product(credit, open_inquiry, outsider, stage):
    open_inquiry.brought_to(stage)

    digest = keccak(open_inquiry.encoded_product)
    assert open_inquiry.status["aggregateHash"] == digest
    assert open_inquiry.status["cohort"] == bitmap(0, 1, 2, 3, 4)
    assert credit.refusal(outsider, "aggregate", open_inquiry.id) == ("AggregateGone", digest)
    assert credit.read("lanes") == (1, 1)


def test_constructor__takes_its_creator_for_the_consortium(credit):
    assert credit.read("consortium") == credit.council.address
