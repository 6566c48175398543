"""Replacing JointCredit: bound to the hash of its init code, created by the Consortium itself.

createJointCredit
├── init code whose hash no proposal approved, or none is approved any more: InitCodeDiffers
├── init code that fails or leaves no code: CreationFailed, and the approval stands
└── else created by the Consortium, current, and known for ever as one of its own; anyone may call
approveJointCredit
├── without votes, without approval, before the delay: VotesMissing, ApprovalMissing, TooEarly
└── a later approval takes the place of an unused one
the contract that was replaced
├── open: NotCurrentJointCredit
└── an inquiry that runs goes on to its end, with all that it does to the Consortium
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import PARAMETERS, ZERO, ZERO_32, bitmap, founded_council, invited_council, stand_in_code
from inquiries import Credit, Stage, credit_of_five

DELAY = PARAMETERS["delaySeconds"]
NEXT = stand_in_code(b"next")


@pytest.fixture
def council():
    with founded_council() as council:
        yield council


@pytest.fixture
def credit():
    """The real JointCredit of five ready banks."""
    with credit_of_five() as credit:
        yield credit


def replaced(credit: Credit) -> Credit:
    """Decide for a second JointCredit, the same code with another hash, and create it."""
    council = credit.council
    code = council.joint_credit_code + b"second"
    council.decide(council.encoded("approveJointCredit", keccak(code)))
    council.send(council.outsider, "createJointCredit", code)
    return Credit(council)


# ---------------------------------------------------------------- createJointCredit


def test_create__approved_at_the_founding__by_anyone():
    with invited_council() as council:
        receipt = council.send(council.outsider, "createJointCredit", council.joint_credit_code)

        created = council.read("jointCredit")
        assert council.changes(receipt) == [("JointCreditSet", created)]
        assert council.events(receipt)[1:] == [("JointCreditReplaced", ZERO, created)]
        assert council.read("isJointCredit", created)
        assert council.read("approvedInitCodeHash") == ZERO_32


def test_create__second_time_with_the_same_code__reverts(council):
    code = council.joint_credit_code

    assert council.refusal(council.outsider, "createJointCredit", code) == ("InitCodeDiffers", keccak(code), ZERO_32)


def test_create__approved_by_proposal__becomes_current_and_the_old_one_stays_known(council):
    old = council.read("jointCredit")

    approved = council.decide(council.encoded("approveJointCredit", keccak(NEXT)))
    created = council.send(council.outsider, "createJointCredit", NEXT)

    current = council.read("jointCredit")
    assert current != old
    assert council.changes(approved) == [("JointCreditApproved", keccak(NEXT))]
    assert council.changes(created) == [("JointCreditSet", current)]
    assert council.event(created, "JointCreditReplaced") == (old, current)
    assert council.read("isJointCredit", old)
    assert council.read("isJointCredit", current)


def test_create__other_init_code__reverts(council):
    council.decide(council.encoded("approveJointCredit", keccak(NEXT)))

    for code in (b"", NEXT + b"\0", NEXT[:-1], stand_in_code(b"other")):
        refusal = council.refusal(council.outsider, "createJointCredit", code)
        assert refusal == ("InitCodeDiffers", keccak(code), keccak(NEXT))
    assert council.refusal(council.outsider, "createJointCredit", NEXT) is None


@pytest.mark.parametrize("code", [bytes.fromhex("60006000fd"), bytes.fromhex("60006000f3"), b""])
def test_create__code_that_fails_or_leaves_nothing__reverts_and_may_be_replaced(council, code):
    council.decide(council.encoded("approveJointCredit", keccak(code)))
    before = council.read("jointCredit")

    assert council.refusal(council.outsider, "createJointCredit", code) == ("CreationFailed",)
    council.decide(council.encoded("approveJointCredit", keccak(NEXT)))
    council.send(council.outsider, "createJointCredit", NEXT)
    assert council.read("jointCredit") != before


def test_create__anyone_else_who_deploys_the_same_code__is_nobody(council):
    receipt = council.chain.transact(council.outsider, "", NEXT)

    assert not council.read("isJointCredit", receipt["contract_address"])


# ---------------------------------------------------------------- approveJointCredit


def test_approve_joint_credit__without_votes__reverts(council):
    call = council.encoded("approveJointCredit", keccak(NEXT))
    proposal = council.settled(call)
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)

    assert council.refusal(*attempt) is None
    council.send(council.banks[3].owner, "withdrawVote", proposal)
    assert council.refusal(*attempt) == ("ApprovalMissing", proposal, council.supervisor)
    digest = council.read("proposalAt", proposal)["callsHash"]
    assert council.refusal(council.supervisor, "approve", proposal, digest) == ("VotesMissing", 3, 4)


def test_approve_joint_credit__without_approval_or_before_the_delay__reverts(council):
    call = council.encoded("approveJointCredit", keccak(NEXT))
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(5))
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)

    without = council.refusal(*attempt)
    council.send(council.supervisor, "approve", proposal, digest)
    permitted = council.chain.now() + DELAY
    early = council.refusal(*attempt)
    council.chain.travel(DELAY)

    assert without == ("ApprovalMissing", proposal, council.supervisor)
    assert early == ("TooEarly", permitted)
    assert council.refusal(*attempt) is None


def test_approve_joint_credit__code_that_is_approved_already__reverts(council):
    call = council.encoded("approveJointCredit", keccak(NEXT))
    council.decide(call)

    assert council.refusal_to_decide(call) == ("NothingChanges",)
    # Once created, the same code can be approved again: it becomes another contract.
    council.send(council.outsider, "createJointCredit", NEXT)
    assert council.refusal_to_decide(call) is None


def test_approve_joint_credit__by_anyone_alone__reverts(council):
    call = council.encoded("approveJointCredit", keccak(NEXT))

    for account in (council.deployer, council.supervisor, council.banks[0].owner, council.banks[0].account):
        assert council.refusal_of(account, call) == ("OnlyByProposal",)
    # Not even the current JointCredit, through which the stand-in lets anyone speak.
    assert council.refusal_of(council.outsider, call, through=council.read("jointCredit")) == ("OnlyByProposal",)


def test_approve_joint_credit__later_approval__takes_the_place_of_an_unused_one(council):
    other = stand_in_code(b"other")
    council.decide(council.encoded("approveJointCredit", keccak(NEXT)))

    council.decide(council.encoded("approveJointCredit", keccak(other)))

    refusal = council.refusal(council.outsider, "createJointCredit", NEXT)
    assert refusal == ("InitCodeDiffers", keccak(NEXT), keccak(other))
    assert council.refusal(council.outsider, "createJointCredit", other) is None


def test_approve_joint_credit__zero__reverts(council):
    refusal = council.refusal_to_decide(council.encoded("approveJointCredit", ZERO_32))

    assert refusal == ("BadParameter", "jointCreditInitCodeHash")


# ---------------------------------------------------------------- while an inquiry is open


def test_replaced__running_inquiry__ends_on_the_old_contract(credit):
    inquiry = credit.inquiry()
    inquiry.contribute(1)

    successor = replaced(credit)
    inquiry.complete()
    inquiry.report()
    inquiry.attest(True)

    assert successor.address != credit.address
    assert inquiry.stage == Stage.VALID


def test_replaced__old_contract__refuses_open_and_the_new_one_does_not(credit):
    def opening(on: Credit) -> tuple[object, ...] | None:
        data = on.encoded("open", 0, tuple(on.opening().values()))
        return on.council.refusal_of(on.bank(0).account, data, through=on.address)

    before = opening(credit)
    successor = replaced(credit)

    assert before is None
    assert opening(credit) == ("NotCurrentJointCredit", credit.address, successor.address)
    assert opening(successor) is None


def test_replaced__running_inquiries__still_take_readiness_and_suspend(credit):
    first, second, third = credit.inquiry(0), credit.inquiry(1), credit.inquiry(3)
    for bank in (1, 2, 3):
        first.contribute(bank)
    for bank in (1, 2, 4):
        third.contribute(bank)
    second.complete()
    second.report()

    replaced(credit)
    third.lapse()
    first.expire()
    second.attest(False, 2)

    council = credit.council
    council.chain.next_period()
    assert first.stage == Stage.EXPIRED
    assert second.stage == Stage.VOID
    # Banks A and E stayed silent, Bank C was named.
    assert council.read("memberSets") == (bitmap(0, 1, 2, 3, 4), bitmap(0, 1, 3, 4), bitmap(1, 3))


def test_replaced__inquiry_of_the_old_contract__is_none_of_the_new_one(credit):
    inquiry = credit.inquiry()

    successor = replaced(credit)

    refusal = successor.refusal(successor.bank(1).account, "contribute", inquiry.id, 1, inquiry.payload())
    assert refusal == ("WrongStage", Stage.NONE)
    assert inquiry.refusal_to_contribute(1) is None
