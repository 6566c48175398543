"""Supervisors (R35): what one may do at once, what it may not, and how supervisors change.

suspend, by the service account or the owner account; reinstate, by the owner account alone
├── another account, not a member, already so: NotSupervisor, NotAccount, UnknownMember, NothingChanges
└── else at once, out of new cohorts and back; the vote stays
approve, withdrawApproval: by the owner account alone
├── the votes do not suffice yet: VotesMissing
├── not a supervisor, other calls, unknown: NotSupervisor, CallsDiffer, UnknownProposal
├── again: NothingChanges, the delay does not start again; after the supervisor was away: it does
└── nobody can withdraw another's
removeSupervisor
├── with the approval of the one that goes: ApprovalMissing
├── the last one: LastSupervisor
├── one that has been removed approves nothing and does nothing
└── the one that stays can
execute without a supervisor, for changes of supervisors only
├── before 30 days: TooEarly; any other call: OnlySupervisorChanges
├── fewer than five sixths of the members, or than all but one where that is fewer: VotesMissing
└── else a lost supervisor is replaced
The period keys of supervisors: test_period_keys.py. Their service accounts: test_accounts.py.
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import DAY, PARAMETERS, ZERO, Council, bitmap, founded_council
from onchain import Chain

DELAY = PARAMETERS["delaySeconds"]
EVERYBODY = bitmap(0, 1, 2, 3, 4)


@pytest.fixture
def council():
    with founded_council() as council:
        yield council


# ---------------------------------------------------------------- suspend, reinstate


def test_suspend__member__is_out_of_new_cohorts_at_once_until_reinstated(council):
    council.ready(range(5))

    suspended = council.send(council.supervisor_account, "suspend", council.supervisor, 2)
    without = council.read("memberSets")
    reinstated = council.send(council.supervisor, "reinstate", 2)

    assert without == (EVERYBODY, bitmap(0, 1, 3, 4), bitmap(0, 1, 3, 4))
    assert council.read("memberSets") == (EVERYBODY,) * 3
    assert council.changes(suspended) == [("MemberSuspended", 2)]
    assert council.changes(reinstated) == [("MemberReinstated", 2)]


def test_suspend__twice__reverts(council):
    council.send(council.supervisor, "suspend", council.supervisor, 2)

    for account in (council.supervisor, council.supervisor_account):
        assert council.refusal(account, "suspend", council.supervisor, 2) == ("NothingChanges",)
    assert council.refusal(council.supervisor, "reinstate", 0) == ("NothingChanges",)
    assert council.refusal(council.supervisor, "reinstate", 2) is None


def test_suspend__rotated_and_audited__stays_suspended(council):
    council.send(council.supervisor, "suspend", council.supervisor, 2)

    council.rotate(council.banks[2], 2)
    council.audit([2], version=2)

    assert council.read("memberSets")[1] == bitmap(0, 1, 3, 4)


def test_suspend__refused_twins(council):
    own, account = council.supervisor, council.supervisor_account

    for sender in (own, account):
        assert council.refusal(sender, "suspend", own, 0) is None
        assert council.refusal(sender, "suspend", own, 5) == ("UnknownMember", 5)
    for sender in (council.banks[1].owner, council.banks[1].account, council.second_supervisor, council.deployer):
        assert council.refusal(sender, "suspend", own, 0) == ("NotAccount", sender, account)
        assert council.refusal(sender, "suspend", sender, 0) == ("NotSupervisor", sender)


def test_reinstate__refused_twins(council):
    council.send(council.supervisor, "suspend", council.supervisor, 0)

    assert council.refusal(council.supervisor, "reinstate", 0) is None
    assert council.refusal(council.supervisor, "reinstate", 5) == ("UnknownMember", 5)
    # Not even the service account that suspended it.
    for sender in (council.supervisor_account, council.banks[0].owner, council.second_supervisor, council.deployer):
        assert council.refusal(sender, "reinstate", 0) == ("NotSupervisor", sender)


# ---------------------------------------------------------------- approve


def test_approve__again__reverts_and_the_delay_does_not_start_again(council):
    call = council.encoded("setTagKey", 2, keccak(b"2"))
    proposal = council.settled(call)
    digest = council.read("proposalAt", proposal)["callsHash"]

    assert council.refusal(council.supervisor, "approve", proposal, digest) == ("NothingChanges",)
    assert council.refusal(council.outsider, "execute", proposal, [call], council.supervisor) is None


def test_approve__before_the_votes_suffice__reverts(council):
    proposal, digest = council.propose(council.encoded("setTagKey", 2, keccak(b"2")))
    council.agree(proposal, digest, range(3))

    assert council.refusal(council.supervisor, "approve", proposal, digest) == ("VotesMissing", 3, 4)
    council.agree(proposal, digest, [3])
    assert council.refusal(council.supervisor, "approve", proposal, digest) is None


def test_approve__refused_twins(council):
    proposal, digest = council.propose(council.encoded("setTagKey", 2, keccak(b"2")))
    council.agree(proposal, digest, range(4))
    other = keccak(b"other calls")

    assert council.refusal(council.supervisor, "approve", proposal, digest) is None
    assert council.refusal(council.supervisor, "approve", proposal, other) == ("CallsDiffer", other, digest)
    for unknown in (0, 2):
        assert council.refusal(council.supervisor, "approve", unknown, digest) == ("UnknownProposal", unknown)
    accounts = (council.supervisor_account, council.banks[0].owner, council.second_supervisor, council.outsider)
    for account in accounts:
        assert council.refusal(account, "approve", proposal, digest) == ("NotSupervisor", account)
    council.send(council.supervisor, "approve", proposal, digest)
    assert council.refusal(council.supervisor, "withdrawApproval", proposal) is None
    for account in accounts:
        assert council.refusal(account, "withdrawApproval", proposal) == ("ApprovalMissing", proposal, account)


def test_approve__withdrawn_and_given_again__the_delay_starts_again(council):
    call = council.encoded("setTagKey", 2, keccak(b"2"))
    proposal = council.settled(call)
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
    before = council.refusal(*attempt)

    council.send(council.supervisor, "withdrawApproval", proposal)
    council.send(council.supervisor, "approve", proposal, council.read("proposalAt", proposal)["callsHash"])

    assert before is None
    assert council.refusal(*attempt) == ("TooEarly", council.chain.now() + DELAY)


def test_withdraw_approval__of_another_supervisor__is_impossible(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    call = council.encoded("setTagKey", 2, keccak(b"2"))
    proposal = council.settled(call)

    refusal = council.refusal(council.second_supervisor, "withdrawApproval", proposal)

    assert refusal == ("ApprovalMissing", proposal, council.second_supervisor)
    assert council.refusal(council.supervisor, "withdrawApproval", proposal) is None


# ---------------------------------------------------------------- supervisors come and go


def test_add_supervisor__by_proposal__may_do_what_the_first_may(council):
    receipt = council.decide(council.encoded("addSupervisor", council.second_supervisor))

    second = council.second_supervisor
    assert council.changes(receipt) == [("SupervisorAdded", second)]
    assert council.read("isSupervisor", second)
    assert council.read("supervisorAccount", second) == ZERO
    assert council.refusal(second, "suspend", second, 0) is None


def test_add_supervisor__owner_of_another_part__reverts(council):
    for account in (council.supervisor, council.banks[0].owner, council.banks[5].owner):
        assert council.refusal_to_decide(council.encoded("addSupervisor", account)) == ("AccountInUse", account)
    assert council.refusal_to_decide(council.encoded("addSupervisor", ZERO)) == ("ZeroAccount",)
    for account in (council.supervisor_account, council.banks[0].account):
        assert council.refusal_to_decide(council.encoded("addSupervisor", account)) is None


def test_remove_supervisor__with_its_own_approval__reverts(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    removal = council.encoded("removeSupervisor", council.supervisor)

    proposal = council.settled(removal)

    attempt = (council.outsider, "execute", proposal, [removal])
    assert council.refusal(*attempt, council.supervisor) == ("ApprovalMissing", proposal, council.supervisor)
    digest = council.read("proposalAt", proposal)["callsHash"]
    council.send(council.second_supervisor, "approve", proposal, digest)
    council.chain.travel(DELAY)
    assert council.refusal(*attempt, council.second_supervisor) is None


def test_remove_supervisor__removed_and_added_again_in_one__its_approval_does_not_count(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    calls = [council.encoded(f"{verb}Supervisor", council.supervisor) for verb in ("remove", "add")]

    assert council.refusal_to_decide(*calls)[0] == "ApprovalMissing"


def test_remove_supervisor__cannot_cancel_its_own_removal(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    removal = council.encoded("removeSupervisor", council.supervisor)
    proposal = council.settled(removal, supervisor=council.second_supervisor)

    # Everything that the one to be removed can still do to a proposal:
    assert council.refusal(council.supervisor, "withdrawApproval", proposal)[0] == "ApprovalMissing"
    assert council.refusal(council.supervisor, "withdrawVote", proposal) == ("NotMember", council.supervisor)
    for index in range(5):
        council.send(council.supervisor, "suspend", council.supervisor, index)

    receipt = council.send(council.outsider, "execute", proposal, [removal], council.second_supervisor)
    assert council.changes(receipt) == [("PeriodKeyEnded", 1), ("SupervisorRemoved", council.supervisor)]
    assert not council.read("isSupervisor", council.supervisor)


def test_remove_supervisor__the_last_one__reverts(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    calls = [council.encoded("removeSupervisor", a) for a in (council.second_supervisor, council.supervisor)]
    proposal, digest = council.propose(*calls)
    council.agree(proposal, digest, range(5))
    council.chain.travel(30 * DAY)

    assert council.refusal(council.outsider, "execute", proposal, calls, ZERO) == ("LastSupervisor",)
    assert council.refusal_to_decide(calls[0]) is None


def test_remove_supervisor__not_one__reverts(council):
    removal = council.encoded("removeSupervisor", council.outsider)

    assert council.refusal_to_decide(removal) == ("NotSupervisor", council.outsider)


def test_removed_supervisor__its_approvals_count_no_more_and_it_can_do_nothing(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    call = council.encoded("setTagKey", 2, keccak(b"2"))
    pending = council.settled(call)
    attempt = (council.outsider, "execute", pending, [call], council.supervisor)
    before = council.refusal(*attempt)
    removal = council.encoded("removeSupervisor", council.supervisor)
    proposal = council.settled(removal, supervisor=council.second_supervisor)

    council.send(council.outsider, "execute", proposal, [removal], council.second_supervisor)

    own, account = council.supervisor, council.supervisor_account
    assert before is None
    assert council.refusal(*attempt) == ("NotSupervisor", own)
    assert council.refusal(own, "approve", pending, keccak(b"")) == ("NotSupervisor", own)
    assert council.refusal(own, "announcePeriodKey", keccak(b""), b"") == ("NotSupervisor", own)
    for sender in (own, account):
        assert council.refusal(sender, "suspend", own, 0) == ("NotSupervisor", own)
        assert council.refusal(sender, "endPeriodKey", own, 1) == ("NotSupervisor", own)
        assert council.refusal(sender, "notify", own, b"x") == ("NotAccount", sender, ZERO)
    assert council.refusal(own, "withdrawApproval", pending) is None


def test_removed_supervisor__added_again_later__must_approve_again(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    call = council.encoded("setTagKey", 2, keccak(b"2"))
    pending = council.settled(call)
    for verb in ("remove", "add"):
        change = council.encoded(f"{verb}Supervisor", council.supervisor)
        proposal = council.settled(change, supervisor=council.second_supervisor)
        council.send(council.outsider, "execute", proposal, [change], council.second_supervisor)

    attempt = (council.outsider, "execute", pending, [call], council.supervisor)
    stale = council.refusal(*attempt)
    # Its approval of before is no reason to refuse a new one.
    council.send(council.supervisor, "approve", pending, council.read("proposalAt", pending)["callsHash"])
    council.chain.travel(DELAY)

    assert stale == ("ApprovalMissing", pending, council.supervisor)
    assert council.refusal(*attempt) is None


# ---------------------------------------------------------------- without a supervisor


def test_execute__without_supervisor__after_thirty_days(council):
    calls = [
        council.encoded("addSupervisor", council.second_supervisor),
        council.encoded("removeSupervisor", council.supervisor),
    ]
    proposal, digest = council.propose(*calls)
    council.chain.travel(DAY)
    council.agree(proposal, digest, range(4))
    agreed = council.chain.now()
    council.chain.travel(DAY)
    council.agree(proposal, digest, [4])  # one more than needed: nothing begins anew
    attempt = (council.outsider, "execute", proposal, calls, ZERO)

    council.chain.travel(agreed + 30 * DAY - council.chain.now() - 1)
    early = council.refusal(*attempt)
    council.chain.travel(1)

    assert early == ("TooEarly", agreed + 30 * DAY)
    council.send(*attempt)
    assert council.read("isSupervisor", council.second_supervisor)
    assert not council.read("isSupervisor", council.supervisor)


@pytest.mark.parametrize(("members", "needed"), [(3, 2), (4, 3), (5, 4), (6, 5), (7, 6), (11, 10), (12, 10)])
def test_execute__without_supervisor__the_votes_of_r35_and_one_less(members, needed):
    """G4: with five sixths alone, 4 or 5 members needed every vote, and one lost owner key ended the consortium."""
    council = Council(Chain(), invited=members, parameters={"minimumCohort": 3}).deploy().found(members)
    call = council.encoded("addSupervisor", council.second_supervisor)
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(needed - 1))
    attempt = (council.outsider, "execute", proposal, [call], ZERO)

    assert council.refusal(*attempt) == ("VotesMissing", needed - 1, needed)
    council.agree(proposal, digest, [needed - 1])
    council.chain.travel(30 * DAY)
    assert council.refusal(*attempt) is None


def test_execute__without_supervisor__a_needed_vote_comes_late_or_again__thirty_days_begin_anew(council):
    """R34.1: what nobody agreed to for thirty days must not happen at once when the votes come."""
    call = council.encoded("addSupervisor", council.second_supervisor)
    proposal, digest = council.propose(call)
    attempt = (council.outsider, "execute", proposal, [call], ZERO)
    council.agree(proposal, digest, range(3))
    council.chain.travel(10 * DAY)

    council.agree(proposal, digest, [3])
    late = council.refusal(*attempt), council.chain.now()
    council.chain.travel(15 * DAY)
    council.send(council.banks[3].owner, "withdrawVote", proposal)
    council.agree(proposal, digest, [3])
    again = council.refusal(*attempt), council.chain.now()
    council.chain.travel(30 * DAY)

    for refusal, now in (late, again):
        assert refusal == ("TooEarly", now + 30 * DAY)
    assert council.refusal(*attempt) is None


def test_execute__without_supervisor__one_member_that_votes_and_withdraws__cannot_put_it_off(council):
    call = council.encoded("addSupervisor", council.second_supervisor)
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(5))
    council.chain.travel(29 * DAY)

    for _ in range(2):
        council.send(council.banks[4].owner, "withdrawVote", proposal)
        council.agree(proposal, digest, [4])
    council.send(council.banks[4].owner, "withdrawVote", proposal)
    council.chain.travel(DAY)

    assert council.refusal(council.outsider, "execute", proposal, [call], ZERO) is None


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("setTagKey", (2, keccak(b"2"))),
        ("removeMember", (4,)),
        ("approveJointCredit", (keccak(b"new"),)),
        ("replaceOwner", (0, ZERO)),
        ("setTerms", (1, (5, *[0] * 10))),
        ("execute", (1, [], ZERO)),
    ],
)
def test_execute__without_supervisor__any_other_call__reverts(council, function, arguments):
    change = council.encoded("addSupervisor", council.second_supervisor)
    for calls in ([council.encoded(function, *arguments)], [change, council.encoded(function, *arguments)], [b"\1"]):
        proposal, digest = council.propose(*calls)
        council.agree(proposal, digest, range(5))
        council.chain.travel(31 * DAY)

        assert council.refusal(council.outsider, "execute", proposal, calls, ZERO) == ("OnlySupervisorChanges",)
