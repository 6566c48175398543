"""Proposals (R33, R34): two thirds of the members, a supervisor's approval, a delay, then anyone may execute.

propose: not an owner of a member: NotMember, UnknownMember
vote, withdrawVote
├── not an owner, not in the electorate, other calls, twice, never voted: NotMember, NotInElectorate, CallsDiffer, ...
├── unknown, executed, withdrawn or expired: UnknownProposal, AlreadyExecuted, ProposalWithdrawn, ProposalExpired
└── else counted, or not any more
withdrawProposal
├── by another member, or by an owner that the proposing member had before: NotProposer, NotMember
├── unknown, executed, withdrawn or expired: as above
└── else nobody votes, approves or executes any more
execute with a supervisor
├── too few votes of those that are members still: VotesMissing
├── no approval of this supervisor, withdrawn, or not a supervisor (any more): ApprovalMissing, NotSupervisor
├── the delay has not passed: TooEarly
├── other calls, executed before, withdrawn, expired: CallsDiffer, AlreadyExecuted, ProposalWithdrawn, ProposalExpired
├── a call fails: CallFailed with its reason, and none of the others has happened
└── else all calls in order, by whoever calls
execute without a supervisor: test_supervisors.py; setTerms and tryOut: test_terms.py
the calls themselves, from any account: OnlyByProposal
"""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_utils import keccak
from governance import DAY, PARAMETERS, ZERO_32, bitmap, founded_council

DELAY = PARAMETERS["delaySeconds"]


@pytest.fixture
def council():
    with founded_council() as council:
        yield council


@pytest.fixture
def call(council):
    return council.encoded("setTagKey", 2, keccak(b"tag key 2"))


# ---------------------------------------------------------------- propose


def test_propose__by_an_owner__is_numbered_and_published(council, call):
    owner = council.banks[0].owner

    receipt = council.send(owner, "propose", [call], "a member left")

    digest = keccak(encode(["bytes[]"], [[call]]))
    assert council.events(receipt) == [("Proposed", 1, 0, digest, (call,), "a member left")]
    assert council.read("proposalAt", 1) == {
        "proposer": 0,
        "executed": False,
        "withdrawn": False,
        "proposedAt": council.chain.now(),
        "round": 0,
        "unapprovedSince": 0,
        "callsHash": digest,
        "electorate": bitmap(0, 1, 2, 3, 4),
        "votes": 0,
    }
    assert council.propose(call)[0] == 2


def test_propose__by_anyone_else__reverts(council, call):
    for account in (council.banks[0].account, council.supervisor, council.outsider, council.deployer):
        assert council.refusal(account, "propose", [call], "") == ("NotMember", account)
    assert council.refusal(council.banks[5].owner, "propose", [call], "") == ("UnknownMember", 5)
    assert council.refusal(council.banks[4].owner, "propose", [call], "") is None


def test_proposal_at__unknown__reverts(council):
    for number in (0, 1):
        assert council.refusal(council.outsider, "proposalAt", number) == ("UnknownProposal", number)


# ---------------------------------------------------------------- vote


def test_vote__by_members__is_counted_once_each(council, call):
    proposal, digest = council.propose(call)

    receipt = council.send(council.banks[3].owner, "vote", proposal, digest)

    assert council.events(receipt) == [("Voted", 1, 3, True)]
    assert council.read("proposalAt", 1)["votes"] == bitmap(3)
    assert council.refusal(council.banks[3].owner, "vote", proposal, digest) == ("AlreadyVoted", 3, 1)


def test_vote__refused_twins(council, call):
    proposal, digest = council.propose(call)
    owner, other = council.banks[0].owner, keccak(b"other calls")

    assert council.refusal(owner, "vote", proposal, digest) is None
    assert council.refusal(owner, "vote", proposal, other) == ("CallsDiffer", other, digest)
    assert council.refusal(owner, "vote", 2, digest) == ("UnknownProposal", 2)
    assert council.refusal(council.banks[5].owner, "vote", proposal, digest) == ("UnknownMember", 5)
    for account in (council.banks[0].account, council.supervisor, council.outsider):
        assert council.refusal(account, "vote", proposal, digest) == ("NotMember", account)


def test_vote__member_since_the_proposal__reverts_with_not_in_electorate(council, call):
    proposal, digest = council.propose(call)
    council.confirm(council.banks[5])

    assert council.refusal(council.banks[5].owner, "vote", proposal, digest) == ("NotInElectorate", 5, 1)
    later, digest = council.propose(call)
    assert council.refusal(council.banks[5].owner, "vote", later, digest) is None


def test_withdraw_vote__counts_no_more_and_may_be_cast_again(council, call):
    proposal = council.settled(call)
    owner = council.banks[3].owner
    digest = council.read("proposalAt", proposal)["callsHash"]

    receipt = council.send(owner, "withdrawVote", proposal)

    assert council.events(receipt) == [("Voted", 1, 3, False)]
    assert council.refusal(council.supervisor, "approve", proposal, digest) == ("VotesMissing", 3, 4)
    assert council.refusal(owner, "withdrawVote", proposal) == ("NotVoted", 3, 1)
    council.send(owner, "vote", proposal, digest)
    assert council.read("proposalAt", proposal)["votes"] == bitmap(0, 1, 2, 3)


def test_proposal__after_sixty_days__is_dead_for_all(council, call):
    proposal = council.settled(call)
    unapproved, digest = council.propose(call)
    council.agree(unapproved, digest, range(4))
    # The older one of the two.
    born = council.read("proposalAt", proposal)["proposedAt"]
    attempts = [
        (council.banks[4].owner, "vote", proposal, digest),
        (council.banks[0].owner, "withdrawVote", proposal),
        (council.banks[0].owner, "withdrawProposal", proposal),
        (council.outsider, "execute", proposal, [call], council.supervisor),
    ]

    council.chain.travel(born + 60 * DAY - council.chain.now())
    assert [council.refusal(*attempt) for attempt in attempts] == [None] * 4
    council.chain.travel(1)
    assert [council.refusal(*attempt) for attempt in attempts] == [("ProposalExpired", proposal)] * 4


def test_approve__after_sixty_days__reverts(council, call):
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(4))
    born = council.read("proposalAt", proposal)["proposedAt"]

    council.chain.travel(born + 60 * DAY - council.chain.now())
    assert council.refusal(council.supervisor, "approve", proposal, digest) is None
    council.chain.travel(1)
    assert council.refusal(council.supervisor, "approve", proposal, digest) == ("ProposalExpired", proposal)


# ---------------------------------------------------------------- withdrawProposal


def test_withdraw_proposal__by_its_member__nobody_votes_approves_or_executes_any_more(council, call):
    proposal = council.settled(call)
    digest = council.read("proposalAt", proposal)["callsHash"]
    attempts = [
        (council.banks[4].owner, "vote", proposal, digest),
        (council.banks[0].owner, "withdrawVote", proposal),
        (council.banks[0].owner, "withdrawProposal", proposal),
        (council.outsider, "execute", proposal, [call], council.supervisor),
    ]
    before = [council.refusal(*attempt) for attempt in attempts]

    receipt = council.send(council.banks[0].owner, "withdrawProposal", proposal)

    attempts.append((council.supervisor, "approve", proposal, digest))
    assert before == [None] * 4
    assert council.events(receipt) == [("Withdrawn", 1)]
    assert council.read("proposalAt", proposal)["withdrawn"]
    assert [council.refusal(*attempt) for attempt in attempts] == [("ProposalWithdrawn", 1)] * 5


def test_withdraw_proposal__refused_twins(council, call):
    proposal, _ = council.propose(call, by=1)

    assert council.refusal(council.banks[1].owner, "withdrawProposal", proposal) is None
    assert council.refusal(council.banks[1].owner, "withdrawProposal", 2) == ("UnknownProposal", 2)
    assert council.refusal(council.banks[0].owner, "withdrawProposal", proposal) == ("NotProposer", 0, 1)
    for account in (council.banks[1].account, council.supervisor, council.outsider):
        assert council.refusal(account, "withdrawProposal", proposal) == ("NotMember", account)


def test_withdraw_proposal__owner_replaced_since__only_the_present_one_can(council, call):
    proposal, _ = council.propose(call, by=1)
    council.decide(council.encoded("replaceOwner", 1, council.outsider))

    former = council.banks[1].owner
    assert council.refusal(former, "withdrawProposal", proposal) == ("NotMember", former)
    assert council.refusal(council.outsider, "withdrawProposal", proposal) is None


def test_withdraw_proposal__executed__reverts(council, call):
    council.decide(call)

    assert council.refusal(council.banks[0].owner, "withdrawProposal", 1) == ("AlreadyExecuted", 1)


# ---------------------------------------------------------------- execute


def test_execute__votes_approval_and_delay__by_anyone(council, call):
    proposal = council.settled(call)

    receipt = council.send(council.outsider, "execute", proposal, [call], council.supervisor)

    assert council.events(receipt)[-1] == ("Executed", 1)
    assert council.changes(receipt) == [("TagKeySet", 2, keccak(b"tag key 2"))]
    assert council.read("proposalAt", 1)["executed"]


def test_execute__second_time__reverts(council, call):
    council.decide(call)
    digest = council.read("proposalAt", 1)["callsHash"]

    assert council.refusal(council.outsider, "execute", 1, [call], council.supervisor) == ("AlreadyExecuted", 1)
    assert council.refusal(council.banks[4].owner, "vote", 1, digest) == ("AlreadyExecuted", 1)
    assert council.refusal(council.supervisor, "approve", 1, digest) == ("AlreadyExecuted", 1)


@pytest.mark.parametrize(("members", "needed"), [(4, 3), (5, 4), (6, 4)])
def test_execute__two_thirds_of_the_members__and_one_less(council, call, members, needed):
    if members == 4:
        council.decide(council.encoded("removeMember", 4))
    if members == 6:
        council.confirm(council.banks[5])
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(needed - 1))
    early = council.refusal(council.supervisor, "approve", proposal, digest)
    council.agree(proposal, digest, [needed - 1])
    council.send(council.supervisor, "approve", proposal, digest)
    council.chain.travel(DELAY)

    assert early == ("VotesMissing", needed - 1, needed)
    assert council.refusal(council.outsider, "execute", proposal, [call], council.supervisor) is None


def test_execute__voter_removed_since__its_vote_does_not_count(council, call):
    council.confirm(council.banks[5])
    proposal = council.settled(call, voters=[0, 1, 2, 5])
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
    before = council.refusal(*attempt)

    council.decide(council.encoded("removeMember", 5))

    assert before is None
    assert council.refusal(*attempt) == ("VotesMissing", 3, 4)
    # The vote that takes its place is one of those that are needed: the delay begins after it (R34.1).
    digest = council.read("proposalAt", proposal)["callsHash"]
    council.agree(proposal, digest, [4])
    assert council.refusal(*attempt) == ("ApprovalMissing", proposal, council.supervisor)
    council.send(council.supervisor, "approve", proposal, digest)
    council.chain.travel(DELAY)
    assert council.refusal(*attempt) is None


def test_execute__voter_removed_since_and_enough_are_left__the_approval_stands(council, call):
    council.confirm(council.banks[5])
    proposal = council.settled(call, voters=[0, 1, 2, 3, 5])
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)

    council.decide(council.encoded("removeMember", 5))

    assert council.refusal(*attempt) is None


def test_execute__members_joined_since__are_counted_among_those_who_must_agree(council, call):
    council.decide(*[council.encoded("inviteMember", b.owner, b.name) for b in council.banks[6:9]])
    proposal = council.settled(call)
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
    before = council.refusal(*attempt)

    for bank in council.banks[5:7]:
        council.confirm(bank)

    assert before is None
    assert council.refusal(*attempt) == ("VotesMissing", 4, 5)


# ---------------------------------------------------------------- void approvals (R34.1)


def test_withdraw_vote__one_that_is_needed__voids_the_approval_and_the_delay_begins_anew(council, call):
    """Fifty days after the approval its votes come back: it must be approved again, and the whole delay passes."""
    proposal = council.settled(call)
    owner, digest = council.banks[3].owner, council.read("proposalAt", proposal)["callsHash"]
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
    before = council.refusal(*attempt)

    council.send(owner, "withdrawVote", proposal)
    withdrawn = council.read("approvedAt", proposal, council.supervisor)
    again = council.refusal(council.supervisor, "withdrawApproval", proposal)
    council.chain.travel(50 * DAY)
    council.send(owner, "vote", proposal, digest)
    cast_again = council.refusal(*attempt)
    council.send(council.supervisor, "approve", proposal, digest)
    permitted = council.chain.now() + DELAY
    approved = council.refusal(*attempt)
    council.chain.travel(DELAY)

    assert before is None
    assert withdrawn == 0
    assert again == cast_again == ("ApprovalMissing", proposal, council.supervisor)
    assert approved == ("TooEarly", permitted)
    assert council.refusal(*attempt) is None


def test_withdraw_vote__one_more_than_needed__the_approval_stands(council, call):
    proposal = council.settled(call, voters=range(5))
    owner, digest = council.banks[4].owner, council.read("proposalAt", proposal)["callsHash"]
    approved = council.read("approvedAt", proposal, council.supervisor)

    for step in (("withdrawVote", proposal), ("vote", proposal, digest)):
        council.send(owner, *step)
        assert council.read("approvedAt", proposal, council.supervisor) == approved
        assert council.refusal(council.outsider, "execute", proposal, [call], council.supervisor) is None
    council.send(owner, "withdrawVote", proposal)
    council.send(council.banks[3].owner, "withdrawVote", proposal)
    assert council.read("approvedAt", proposal, council.supervisor) == 0


def test_withdraw_vote__voids_the_approvals_of_all_supervisors(council, call):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    proposal = council.settled(call)
    digest = council.read("proposalAt", proposal)["callsHash"]
    council.send(council.second_supervisor, "approve", proposal, digest)

    council.send(council.banks[0].owner, "withdrawVote", proposal)
    council.send(council.banks[0].owner, "vote", proposal, digest)

    for supervisor in (council.supervisor, council.second_supervisor):
        assert council.read("approvedAt", proposal, supervisor) == 0
        assert council.refusal(supervisor, "approve", proposal, digest) is None


def test_vote__missing_since_members_joined__voids_the_approval(council, call):
    council.confirm(council.banks[5])
    council.decide(*[council.encoded("inviteMember", b.owner, b.name) for b in council.banks[6:7]])
    proposal = council.settled(call)
    digest = council.read("proposalAt", proposal)["callsHash"]
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
    council.confirm(council.banks[6])
    joined = council.refusal(*attempt)

    council.agree(proposal, digest, [4])

    assert joined == ("VotesMissing", 4, 5)
    assert council.refusal(*attempt) == ("ApprovalMissing", proposal, council.supervisor)


def test_execute__suspended_members__keep_their_vote(council, call):
    proposal = council.settled(call)

    for index in range(3):
        council.send(council.supervisor, "suspend", council.supervisor, index)

    assert council.refusal(council.outsider, "execute", proposal, [call], council.supervisor) is None


def test_execute__no_approval_or_withdrawn__reverts(council, call):
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(5))
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
    council.chain.travel(31 * DAY)

    without = council.refusal(*attempt)
    given = council.send(council.supervisor, "approve", proposal, digest)
    council.chain.travel(DELAY)
    approved = council.refusal(*attempt)
    withdrawn = council.send(council.supervisor, "withdrawApproval", proposal)

    assert without == ("ApprovalMissing", 1, council.supervisor)
    assert approved is None
    assert council.refusal(*attempt) == ("ApprovalMissing", 1, council.supervisor)
    assert council.events(given) == [("Approved", 1, council.supervisor, True)]
    assert council.events(withdrawn) == [("Approved", 1, council.supervisor, False)]


def test_execute__approver_is_no_supervisor__reverts(council, call):
    proposal = council.settled(call)

    for account in (council.outsider, council.banks[0].owner, council.second_supervisor):
        attempt = (council.outsider, "execute", proposal, [call], account)
        assert council.refusal(*attempt) == ("NotSupervisor", account)


def test_execute__before_the_delay__reverts_with_the_time(council, call):
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(4))
    council.send(council.supervisor, "approve", proposal, digest)
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
    approved = council.read("approvedAt", proposal, council.supervisor)

    council.chain.travel(approved + DELAY - council.chain.now() - 1)
    assert council.refusal(*attempt) == ("TooEarly", approved + DELAY)
    council.chain.travel(1)
    assert council.refusal(*attempt) is None


def test_execute__other_calls__reverts_with_calls_differ(council, call):
    proposal = council.settled(call)
    other = council.encoded("setTagKey", 2, keccak(b"another"))
    digest = council.read("proposalAt", proposal)["callsHash"]

    for calls in ([other], [], [call, call], [call, other]):
        given = keccak(encode(["bytes[]"], [calls]))
        refusal = council.refusal(council.outsider, "execute", proposal, calls, council.supervisor)
        assert refusal == ("CallsDiffer", given, digest)


def test_execute__one_call_fails__none_has_happened(council, call):
    calls = [call, council.encoded("removeMember", 9)]
    proposal = council.settled(*calls)
    roster = council.read("roster")

    refused = council.refusal(council.outsider, "execute", proposal, calls, council.supervisor)

    assert refused[:2] == ("CallFailed", 1)
    assert council.error(refused[2]) == ("UnknownMember", 9)
    with pytest.raises(AssertionError, match="failed"):
        council.send(council.outsider, "execute", proposal, calls, council.supervisor)
    assert council.read("roster") == roster
    assert not council.read("proposalAt", proposal)["executed"]


def test_execute__calls_that_belong_to_people__fail(council):
    own, bank, account = council.address, council.banks[0], council.supervisor_account
    council.chain.travel(DAY)
    council.announce(2)
    council.audit(range(5), period=2)
    for function, arguments, error in [
        ("vote", (1, ZERO_32), ("NotMember", own)),
        ("propose", ([], ""), ("NotMember", own)),
        ("withdrawProposal", (1,), ("NotMember", own)),
        ("rotateKey", (0, bank.key(2), True, b""), ("NotOwner", own, 0)),
        ("nameAccount", council.naming(bank, own, 2, bank.tenure(2)), ("NotOwner", own, 0)),
        ("takeAccount", (0,), ("NotOwner", own, 0)),
        ("setReady", (0, True), ("NotAccount", own, bank.account)),
        ("anchor", (bank.owner, ZERO_32), ("NotAccount", own, bank.account)),
        ("announcePeriodKey", (ZERO_32, b""), ("NotSupervisor", own)),
        ("reinstate", (0,), ("NotSupervisor", own)),
        ("approve", (1, ZERO_32), ("NotSupervisor", own)),
        ("suspend", (council.supervisor, 0), ("NotAccount", own, account)),
        ("auditOk", (council.supervisor, 0, 1, 1), ("NotAccount", own, account)),
        ("putPeriodKeyInForce", (council.supervisor, 2), ("NotAccount", own, account)),
        ("endPeriodKey", (council.supervisor, 1), ("NotAccount", own, account)),
        ("lapse", (1,), ("NotJointCredit", own)),
        ("suspendCulprits", (1,), ("NotJointCredit", own)),
    ]:
        assert council.refusal_to_decide(council.encoded(function, *arguments)) == error
    # The contract can be given no part in itself, so this stays so.
    assert council.refusal_to_decide(council.encoded("addSupervisor", own)) == ("AccountInUse", own)


def test_execute__the_contract_named_as_a_service_account__acts_for_nobody(council):
    bank = council.banks[0]
    council.chain.travel(DAY)
    council.name_account(bank, council.address, 2, bank.tenure(2))

    refusal = council.refusal_to_decide(council.encoded("setReady", 0, True))

    assert refusal == ("NotPlainAccount", council.address)


def test_execute__proposal_inside_itself__cannot_run_twice(council):
    # The hash of a call that contains its own hash cannot be made, so the inner execution names other calls and fails.
    inner = council.encoded("execute", 1, [], council.supervisor)

    assert council.refusal_to_decide(inner) == ("AlreadyExecuted", 1)


def test_calls__from_any_account__revert_with_only_by_proposal(council):
    calls = {
        "inviteMember": (council.outsider, "Bank Z"),
        "removeMember": (0,),
        "replaceOwner": (0, council.outsider),
        "addSupervisor": (council.outsider,),
        "removeSupervisor": (council.supervisor,),
        "setTerms": (1, tuple(PARAMETERS.values())),
        "registerSchema": (2, b"{}"),
        "setGroup": (1, bitmap(0, 1, 2, 3)),
        "setTagKey": (2, keccak(b"")),
        "approveJointCredit": (keccak(b""),),
    }
    people = [council.banks[0].owner, council.banks[0].account, council.supervisor, council.outsider]

    for function, arguments in calls.items():
        for account in people:
            assert council.refusal(account, function, *arguments) == ("OnlyByProposal",)


# ---------------------------------------------------------------- the simple calls


def test_register_schema__by_proposal__is_kept_for_ever(council):
    receipt = council.decide(council.encoded("registerSchema", 2, b'{"id":2}'))

    assert council.changes(receipt) == [("SchemaSet", 2, keccak(b'{"id":2}'))]
    assert council.event(receipt, "SchemaRegistered") == (2, b'{"id":2}')
    assert council.read("schemaHash", 2) == keccak(b'{"id":2}')
    assert council.refusal_to_decide(council.encoded("registerSchema", 2, b"{}")) == ("SchemaExists", 2)
    assert council.refusal_to_decide(council.encoded("registerSchema", 3, b"")) == ("BadParameter", "definition")


def test_set_tag_key__zero__reverts(council):
    assert council.refusal_to_decide(council.encoded("setTagKey", 2, ZERO_32)) == ("BadParameter", "tagKeyCommitment")


@pytest.mark.parametrize("version", [0, 1, 3])
def test_set_tag_key__any_version_but_the_next__reverts(council, version):
    refused = council.refusal_to_decide(council.encoded("setTagKey", version, keccak(b"2")))

    assert refused == ("KeyVersion", version, 2)


def test_set_tag_key__two_approved_proposals_for_one_version__only_the_first_is_executed(council):
    """Each half of the honest members holds the key of another proposal; colluders vote for both, and both are approved."""
    halves = [council.encoded("setTagKey", 2, keccak(half)) for half in (b"of one half", b"of the other")]
    first, second = (council.settled(half) for half in halves)

    receipt = council.send(council.outsider, "execute", first, [halves[0]], council.supervisor)
    refused = council.refusal(council.outsider, "execute", second, [halves[1]], council.supervisor)

    assert council.changes(receipt) == [("TagKeySet", 2, keccak(b"of one half"))]
    assert refused[:2] == ("CallFailed", 0)
    assert council.error(refused[2]) == ("KeyVersion", 2, 2 + 1)
    third = council.encoded("setTagKey", 3, keccak(b"3"))
    assert council.changes(council.decide(third)) == [("TagKeySet", 3, keccak(b"3"))]
