"""report and attest: the inquirer's report, the supervisor's verdict, and the views of each stage.

report
├── not the inquirer's account: NotAccount
├── stage None, Open, Reported, Valid, Void, Refused, Expired: WrongStage
└── else: Reported, commitment and hash kept, product in an event, lane and due time back
attest valid
├── not the service account of the supervisor that the call names, nor one named since or taken: NotAccount
├── another commitment than that of the report, or zero: CommitmentDiffers
├── stage None, Open, Complete, Valid, Void, Refused, Expired: WrongStage
├── culprits named: CulpritsNamed
└── else: Valid
attest invalid
├── not the service account of the supervisor: NotAccount
├── another commitment than that of the report, any but zero before a report: CommitmentDiffers
├── stage None, Valid, Void, Refused, Expired: WrongStage
├── a culprit outside the cohort: CulpritsOutsideCohort
├── without culprits: Void, nobody suspended, no link of the roster
└── from Open, Complete or Reported: Void, the culprits suspended, the product in an event unless it was before
views
├── unknown: status and cohort zero, aggregate WrongStage
└── ended: aggregate AggregateGone
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import DAY, SUPERVISOR, ZERO, ZERO_32, bitmap
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


def test_report__by_another_account_than_that_of_the_inquirer__reverts_with_not_account(
    credit, complete_inquiry, outsider
):
    arguments = ("report", complete_inquiry.id, keccak(b"report"), b"", bytes(32))
    service = credit.bank(0).account

    for sender in (outsider, credit.bank(0).owner, credit.bank(1).account, credit.council.supervisor_account):
        assert credit.refusal(sender, *arguments) == ("NotAccount", sender, service)
    assert credit.refusal(service, *arguments) is None


def test_report__by_the_account_named_since__closes_the_aggregate(credit, complete_inquiry):
    # With another tenure too: the aggregate is fixed, and without the report the inquirer could open nothing more.
    bank, later = credit.bank(0), credit.council.spare[0]
    credit.chain.travel(DAY)
    credit.council.name_account(bank, later, 2, bank.tenure(2))

    complete_inquiry.report(later)

    assert complete_inquiry.stage == Stage.REPORTED


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.COMPLETE)])
def test_report__in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, stage):
    open_inquiry.brought_to(stage)
    account = credit.bank(0).account

    refused = credit.refusal(account, "report", open_inquiry.id, keccak(b"report"), b"", bytes(32))

    assert refused == ("WrongStage", stage)


def test_report__of_an_unknown_inquiry__reverts_with_wrong_stage(credit):
    refused = credit.refusal(credit.bank(0).account, "report", bytes(32), bytes(32), b"", bytes(32))

    assert refused == ("WrongStage", Stage.NONE)


# ---------------------------------------------------------------- attest


REPORT = keccak(b"report")
"""The commitment with which `Inquiry.report` reports."""


@pytest.fixture
def service(credit):
    """The supervisor's service account, which attests."""
    return credit.council.supervisor_account


def test_attest__valid_after_the_report__ends_the_inquiry(credit, reported_inquiry, regulator, service):
    receipt = credit.send(service, *reported_inquiry.verdict(True, commitment=REPORT))

    assert credit.events(receipt) == [
        ("Attested", reported_inquiry.id, regulator, service, True, 0, REPORT, ANCHOR),
    ]
    assert reported_inquiry.stage == Stage.VALID
    assert reported_inquiry.status["reportCommitment"] == REPORT
    assert credit.read("lanes") == (1, 1)


def test_attest__valid_with_culprits__reverts_with_culprits_named(credit, reported_inquiry, service):
    assert credit.refusal(service, *reported_inquiry.verdict(True, bitmap(1))) == ("CulpritsNamed",)
    assert credit.refusal(service, *reported_inquiry.verdict(True)) is None


@pytest.mark.parametrize("stage", [s for s in STAGES if s not in (Stage.NONE, Stage.REPORTED)])
def test_attest__valid_in_another_stage__reverts_with_wrong_stage(credit, open_inquiry, service, stage):
    open_inquiry.brought_to(stage)

    assert credit.refusal(service, *open_inquiry.verdict(True)) == ("WrongStage", stage)


@pytest.mark.parametrize("valid", [True, False])
def test_attest__on_another_report_than_the_one_that_stands__reverts_with_commitment_differs(
    credit, reported_inquiry, service, valid
):
    # E3: after a reorganisation the verdict on one report would land on another that nobody checked.
    for judged in (keccak(b"another report"), ZERO_32, bytes(31) + b"\1"):
        refused = credit.refusal(service, *reported_inquiry.verdict(valid, commitment=judged))
        assert refused == ("CommitmentDiffers", judged, REPORT)
    assert credit.refusal(service, *reported_inquiry.verdict(valid, commitment=REPORT)) is None


@pytest.mark.parametrize("stage", [Stage.OPEN, Stage.COMPLETE])
def test_attest__on_a_report_that_does_not_stand__reverts_with_commitment_differs(credit, open_inquiry, service, stage):
    open_inquiry.brought_to(stage)

    for valid in (True, False):
        refused = credit.refusal(service, *open_inquiry.verdict(valid, commitment=REPORT))
        assert refused == ("CommitmentDiffers", REPORT, ZERO_32)
    assert credit.refusal(service, *open_inquiry.verdict(False, commitment=ZERO_32)) is None


@pytest.mark.parametrize("stage", [Stage.OPEN, Stage.COMPLETE])
def test_attest__invalid_before_the_report__voids_and_closes(credit, open_inquiry, regulator, service, stage):
    open_inquiry.contribute(1)
    open_inquiry.brought_to(stage)

    receipt = credit.send(service, *open_inquiry.verdict(False, bitmap(0, 3), commitment=ZERO_32))

    assert credit.events(receipt) == [
        ("AggregateClosed", open_inquiry.id, open_inquiry.encoded_product),
        ("Attested", open_inquiry.id, regulator, service, False, bitmap(0, 3), ZERO_32, ANCHOR),
    ]
    assert open_inquiry.stage == Stage.VOID
    assert open_inquiry.status["aggregateHash"] == keccak(open_inquiry.encoded_product)
    assert credit.council.changes(receipt) == [("MemberSuspended", 0), ("MemberSuspended", 3)]
    assert credit.read("lanes") == (1, 1)


def test_attest__invalid_after_the_report__voids_without_closing_again(credit, reported_inquiry, regulator, service):
    other = credit.inquiry()

    receipt = credit.send(service, *reported_inquiry.verdict(False, bitmap(2)))

    assert credit.events(receipt) == [
        ("Attested", reported_inquiry.id, regulator, service, False, bitmap(2), REPORT, ANCHOR)
    ]
    assert reported_inquiry.stage == Stage.VOID
    assert reported_inquiry.status["reportCommitment"] == REPORT
    assert credit.council.read("memberSets")[1] == bitmap(0, 1, 3, 4)
    # The lane that the report gave back is the other inquiry's by now, and stays with it.
    assert credit.read("lanes") == (1, 0)
    other.contribute(1)
    assert credit.read("aggregate", other.id) == other.encoded_product


@pytest.mark.parametrize("stage", [Stage.OPEN, Stage.COMPLETE, Stage.REPORTED])
def test_attest__invalid_without_culprits__voids_and_suspends_nobody(credit, open_inquiry, service, stage):
    open_inquiry.brought_to(stage)
    council = credit.council
    roster, sets = council.read("roster"), council.read("memberSets")

    receipt = credit.send(service, *open_inquiry.verdict(False))

    assert open_inquiry.stage == Stage.VOID
    assert credit.event(receipt, "Attested")[3:5] == (False, 0)
    assert council.events(receipt) == []
    assert (council.read("roster"), council.read("memberSets")) == (roster, sets)
    # It gave back lane and due time like every other end.
    assert credit.read("lanes") == (1, 1)


def test_attest__invalid_of_a_removed_culprit__voids_all_the_same(credit, open_inquiry, service):
    council = credit.council
    council.decide(council.encoded("removeMember", 4))

    receipt = credit.send(service, *open_inquiry.verdict(False, bitmap(4)))

    assert open_inquiry.stage == Stage.VOID
    assert council.changes(receipt) == []


def test_attest__invalid_of_a_culprit_outside_the_cohort__reverts(credit, service):
    credit.council.ready([4], False)
    inquiry = credit.inquiry()

    for outside in (bitmap(4), bitmap(5), 1 << 216, 1 << 255):
        refused = credit.refusal(service, *inquiry.verdict(False, outside | bitmap(1)))
        assert refused == ("CulpritsOutsideCohort", outside)
    assert credit.refusal(service, *inquiry.verdict(False, bitmap(0, 1, 2, 3))) is None


@pytest.mark.parametrize("stage", [Stage.VALID, Stage.VOID, Stage.REFUSED, Stage.EXPIRED])
def test_attest__invalid_after_an_end__reverts_with_wrong_stage(credit, open_inquiry, service, stage):
    open_inquiry.brought_to(stage)

    for culprits in (0, bitmap(1)):
        assert credit.refusal(service, *open_inquiry.verdict(False, culprits)) == ("WrongStage", stage)


def test_attest__of_an_unknown_inquiry__reverts_with_wrong_stage(credit, regulator, service):
    for valid, culprits in ((True, 0), (False, 0), (False, 1)):
        refused = credit.refusal(service, "attest", bytes(32), regulator, valid, culprits, ZERO_32, ANCHOR)
        assert refused == ("WrongStage", Stage.NONE)


@pytest.mark.parametrize("valid", [True, False])
def test_attest__by_anyone_but_the_service_account__reverts_with_not_account(
    credit, reported_inquiry, regulator, service, outsider, valid
):
    for sender in (outsider, credit.bank(0).account, credit.bank(0).owner, regulator):
        assert credit.refusal(sender, *reported_inquiry.verdict(valid)) == ("NotAccount", sender, service)
    assert credit.refusal(service, *reported_inquiry.verdict(valid)) is None


def test_attest__for_another_than_the_own_supervisor__reverts_with_not_account(
    credit, reported_inquiry, service, outsider
):
    council = credit.council
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    second = council.service[council.second_supervisor]
    council.name_supervisor_account(council.second_supervisor, second)

    def refusal(sender, supervisor):
        return credit.refusal(sender, *reported_inquiry.verdict(True, supervisor=supervisor))

    assert refusal(service, council.second_supervisor) == ("NotAccount", service, second)
    assert refusal(second, council.supervisor) == ("NotAccount", second, service)
    # Accounts that are no supervisors have no service account, a member's owner included.
    for nobody in (outsider, credit.bank(0).owner, service, ZERO):
        assert refusal(service, nobody) == ("NotAccount", service, ZERO)
    assert refusal(second, council.second_supervisor) is None


def test_attest__by_a_supervisor_that_was_removed__reverts_with_not_account(credit, reported_inquiry, service):
    council = credit.council
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    second = council.service[council.second_supervisor]
    council.name_supervisor_account(council.second_supervisor, second)
    verdict = reported_inquiry.verdict(True, supervisor=council.second_supervisor)
    assert credit.refusal(second, *verdict) is None

    council.decide(council.encoded("removeSupervisor", council.second_supervisor))

    assert credit.refusal(second, *verdict) == ("NotAccount", second, ZERO)
    assert credit.refusal(service, *reported_inquiry.verdict(True)) is None


def test_attest__by_an_account_that_was_taken__reverts_with_not_account(credit, reported_inquiry, regulator, service):
    credit.council.send(regulator, "takeAccount", SUPERVISOR)

    assert credit.refusal(service, *reported_inquiry.verdict(True)) == ("NotAccount", service, ZERO)


# ---------------------------------------------------------------- views


def test_views__of_an_unknown_inquiry__are_zero(credit, outsider):
    for unknown in (bytes(32), b"\1" * 32):
        status = credit.read("status", unknown)
        assert set(status.values()) == {0, bytes(32)}
        assert credit.read("cohort", unknown) == (0, 0)
        assert credit.refusal(outsider, "aggregate", unknown) == ("WrongStage", Stage.NONE)


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
