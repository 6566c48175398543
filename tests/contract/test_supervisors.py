"""Supervisors (R35): what one may do at once, what it may not, and how supervisors change.

rotateSupervisorKey: as an institution key, by a supervisor, for member 255
auditOk
├── not a supervisor, not a member, another version: NotSupervisor, UnknownMember, KeyVersion
└── else the member serves; a second time changes nothing
suspend, reinstate: at once, out of new cohorts and back; the vote stays
approve, withdrawApproval
├── not a supervisor, other calls, unknown: NotSupervisor, CallsDiffer, UnknownProposal
├── again: the delay does not start again; after the supervisor was away: it does
└── nobody can withdraw another's
removeSupervisor
├── with the approval of the one that goes: ApprovalMissing
├── the last one: LastSupervisor
├── one that has been removed approves nothing, and its key serves no more
└── the one that stays can
execute without a supervisor, for changes of supervisors only
├── before 30 days: TooEarly; fewer than five sixths: VotesMissing; any other call: OnlySupervisorChanges
└── else a lost supervisor is replaced
"""

from __future__ import annotations

import pytest
from eth_utils import keccak
from governance import (
    DAY,
    PARAMETERS,
    SUPERVISOR,
    ZERO,
    ZERO_32,
    bitmap,
    founded_council,
    invited_council,
    x25519_public,
)

DELAY = PARAMETERS["delaySeconds"]


@pytest.fixture
def council():
    with founded_council() as council:
        yield council


@pytest.fixture
def invited():
    with invited_council() as council:
        yield council


# ---------------------------------------------------------------- rotateSupervisorKey


def test_rotate_supervisor_key__by_a_supervisor__counts_up(council):
    first, second = x25519_public("supervisor/1"), x25519_public("supervisor/2")
    signature = council.signed_key(council.supervisor, SUPERVISOR, 2, second, first)

    receipt = council.send(council.supervisor, "rotateSupervisorKey", second, signature)

    assert council.changes(receipt) == [("SupervisorKeySet", 2, second, council.supervisor, signature)]
    assert council.read("supervisorKey") == (second, 2)


def test_rotate_supervisor_key__refused_twins(council):
    first, second = x25519_public("supervisor/1"), x25519_public("supervisor/2")
    own = council.supervisor

    def refusal(key, *, member=SUPERVISOR, version=2, previous=first, signer=own, account=own):
        signature = council.signed_key(signer, member, version, key, previous)
        return council.refusal(account, "rotateSupervisorKey", key, signature)

    bank = council.banks[0]
    assert refusal(second) is None
    assert refusal(second, account=bank.owner, signer=bank.owner) == ("NotSupervisor", bank.owner)
    assert refusal(second, account=council.deployer) == ("NotSupervisor", council.deployer)
    assert refusal(first) == ("KeyInUse", first)
    assert refusal(bank.key()) == ("KeyInUse", bank.key())
    assert refusal(ZERO_32) == ("BadKey",)
    assert refusal(second, signer=bank.owner) == ("BadKeySignature", bank.owner, own)
    assert refusal(second, member=0)[0] == "BadKeySignature"
    assert refusal(second, version=1)[0] == "BadKeySignature"
    assert refusal(second, previous=ZERO_32)[0] == "BadKeySignature"


# ---------------------------------------------------------------- auditOk


def test_audit_ok__current_version__the_member_serves(invited):
    invited.confirm(invited.banks[1])
    before = invited.read("memberSets")

    receipt = invited.send(invited.supervisor, "auditOk", 1, 1)

    assert before == (bitmap(1), 0, 0)
    assert invited.changes(receipt) == [("MemberAudited", 1, 1)]
    assert invited.read("memberSets") == (bitmap(1), bitmap(1), 0)
    assert invited.read("member", 1)["auditedVersion"] == 1


def test_audit_ok__second_time__changes_nothing(council):
    roster = council.read("roster")

    receipt = council.send(council.supervisor, "auditOk", 1, 1)

    assert council.events(receipt) == []
    assert council.read("roster") == roster


def test_audit_ok__refused_twins(council):
    council.rotate(council.banks[1], 2)

    assert council.refusal(council.supervisor, "auditOk", 1, 2) is None
    assert council.refusal(council.supervisor, "auditOk", 1, 1) == ("KeyVersion", 1, 2)
    assert council.refusal(council.supervisor, "auditOk", 1, 3) == ("KeyVersion", 3, 2)
    assert council.refusal(council.supervisor, "auditOk", 5, 0) == ("UnknownMember", 5)
    assert council.refusal(council.supervisor, "auditOk", 9, 0) == ("UnknownMember", 9)
    for account in (council.banks[1].owner, council.banks[1].operator, council.second_supervisor):
        assert council.refusal(account, "auditOk", 1, 2) == ("NotSupervisor", account)


# ---------------------------------------------------------------- suspend, reinstate


def test_suspend__member__is_out_of_new_cohorts_until_reinstated(council):
    council.ready(range(5))

    suspended = council.send(council.supervisor, "suspend", 2)
    without = council.read("memberSets")
    reinstated = council.send(council.supervisor, "reinstate", 2)

    everybody = bitmap(0, 1, 2, 3, 4)
    assert without == (everybody, bitmap(0, 1, 3, 4), bitmap(0, 1, 3, 4))
    assert council.read("memberSets") == (everybody,) * 3
    assert council.changes(suspended) == [("MemberSuspended", 2)]
    assert council.changes(reinstated) == [("MemberReinstated", 2)]


def test_suspend__twice__changes_nothing(council):
    council.send(council.supervisor, "suspend", 2)

    assert council.events(council.send(council.supervisor, "suspend", 2)) == []
    assert council.events(council.send(council.supervisor, "reinstate", 0)) == []


def test_suspend__rotated_and_audited__stays_suspended(council):
    council.send(council.supervisor, "suspend", 2)

    council.rotate(council.banks[2], 2)
    council.send(council.supervisor, "auditOk", 2, 2)

    assert council.read("memberSets")[1] == bitmap(0, 1, 3, 4)


def test_suspend__refused_twins(council):
    for function in ("suspend", "reinstate"):
        assert council.refusal(council.supervisor, function, 0) is None
        assert council.refusal(council.supervisor, function, 5) == ("UnknownMember", 5)
        for account in (council.banks[1].owner, council.second_supervisor, council.deployer):
            assert council.refusal(account, function, 0) == ("NotSupervisor", account)


# ---------------------------------------------------------------- approve


def test_approve__again__does_not_start_the_delay_again(council):
    call = council.encoded("setTagKey", keccak(b"2"))
    proposal = council.settled(call)
    digest = council.read("proposalAt", proposal)["callsHash"]
    first = council.read("approvedAt", proposal, council.supervisor)

    receipt = council.send(council.supervisor, "approve", proposal, digest)

    assert council.events(receipt) == []
    assert council.read("approvedAt", proposal, council.supervisor) == first
    assert council.refusal(council.outsider, "execute", proposal, [call], council.supervisor) is None


def test_approve__refused_twins(council):
    proposal, digest = council.propose(council.encoded("setTagKey", keccak(b"2")))
    other = keccak(b"other calls")

    assert council.refusal(council.supervisor, "approve", proposal, digest) is None
    assert council.refusal(council.supervisor, "approve", proposal, other) == ("CallsDiffer", other, digest)
    assert council.refusal(council.supervisor, "approve", 2, digest) == ("UnknownProposal", 2)
    for account in (council.banks[0].owner, council.second_supervisor, council.outsider):
        assert council.refusal(account, "approve", proposal, digest) == ("NotSupervisor", account)


def test_withdraw_approval__of_another_supervisor__is_impossible(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    call = council.encoded("setTagKey", keccak(b"2"))
    proposal = council.settled(call)

    refusal = council.refusal(council.second_supervisor, "withdrawApproval", proposal)

    assert refusal == ("ApprovalMissing", proposal, council.second_supervisor)
    assert council.refusal(council.supervisor, "withdrawApproval", proposal) is None


# ---------------------------------------------------------------- supervisors come and go


def test_add_supervisor__by_proposal__may_do_what_the_first_may(council):
    receipt = council.decide(council.encoded("addSupervisor", council.second_supervisor))

    assert council.changes(receipt) == [("SupervisorAdded", council.second_supervisor)]
    assert council.read("isSupervisor", council.second_supervisor)
    assert council.refusal(council.second_supervisor, "suspend", 0) is None


def test_add_supervisor__account_in_another_part__reverts(council):
    for account in (council.supervisor, council.banks[0].owner, council.banks[0].operator):
        assert council.refusal_to_decide(council.encoded("addSupervisor", account)) == ("AccountInUse", account)
    assert council.refusal_to_decide(council.encoded("addSupervisor", ZERO)) == ("ZeroAccount",)


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
        council.send(council.supervisor, "suspend", index)

    receipt = council.send(council.outsider, "execute", proposal, [removal], council.second_supervisor)
    assert council.changes(receipt) == [("SupervisorRemoved", council.supervisor)]
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


def test_removed_supervisor__its_approvals_and_its_key_count_no_more(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    call = council.encoded("setTagKey", keccak(b"2"))
    pending = council.settled(call)
    council.ready(range(5))
    removal = council.encoded("removeSupervisor", council.supervisor)
    proposal = council.settled(removal, supervisor=council.second_supervisor)
    council.ready(range(5))
    before = council.terms()["cohort"]

    council.send(council.outsider, "execute", proposal, [removal], council.second_supervisor)

    attempt = (council.outsider, "execute", pending, [call], council.supervisor)
    assert before == bitmap(0, 1, 2, 3, 4)
    assert council.refusal(*attempt) == ("NotSupervisor", council.supervisor)
    assert council.read("supervisorKey") == (ZERO_32, 1)
    assert council.terms() == ("NoSupervisorKey",)
    assert council.refusal(council.banks[0].operator, "sealMaskKeys", b"") == ("NoSupervisorKey",)
    # The next key names the last one as the key before it, as every reader of the events does.
    key = council.set_supervisor_key(council.second_supervisor, 2, x25519_public("supervisor/1"))
    assert council.read("supervisorKey") == (key, 2)
    assert council.terms()["cohort"] == bitmap(0, 1, 2, 3, 4)


def test_removed_supervisor__added_again_later__must_approve_again(council):
    council.decide(council.encoded("addSupervisor", council.second_supervisor))
    call = council.encoded("setTagKey", keccak(b"2"))
    pending = council.settled(call)
    for verb in ("remove", "add"):
        change = council.encoded(f"{verb}Supervisor", council.supervisor)
        proposal = council.settled(change, supervisor=council.second_supervisor)
        council.send(council.outsider, "execute", proposal, [change], council.second_supervisor)

    attempt = (council.outsider, "execute", pending, [call], council.supervisor)
    stale = council.refusal(*attempt)
    council.send(council.supervisor, "approve", pending, council.read("proposalAt", pending)["callsHash"])
    council.chain.travel(DELAY)

    assert stale == ("ApprovalMissing", pending, council.supervisor)
    assert council.refusal(*attempt) is None


# ---------------------------------------------------------------- without a supervisor


def test_execute__without_supervisor__five_sixths_after_thirty_days(council):
    calls = [
        council.encoded("addSupervisor", council.second_supervisor),
        council.encoded("removeSupervisor", council.supervisor),
    ]
    proposal, digest = council.propose(*calls)
    born = council.chain.now()
    council.agree(proposal, digest, range(5))
    attempt = (council.outsider, "execute", proposal, calls, ZERO)

    council.chain.travel(born + 30 * DAY - council.chain.now() - 1)
    early = council.refusal(*attempt)
    council.chain.travel(1)

    assert early == ("TooEarly", born + 30 * DAY)
    council.send(*attempt)
    assert council.read("isSupervisor", council.second_supervisor)
    assert not council.read("isSupervisor", council.supervisor)


@pytest.mark.parametrize(("members", "needed"), [(4, 4), (5, 5), (6, 5)])
def test_execute__without_supervisor__five_sixths_of_the_members_and_one_less(council, members, needed):
    if members == 4:
        council.decide(council.encoded("removeMember", 4))
    if members == 6:
        council.confirm(council.banks[5])
    call = council.encoded("addSupervisor", council.second_supervisor)
    proposal, digest = council.propose(call)
    council.agree(proposal, digest, range(needed - 1))
    council.chain.travel(30 * DAY)
    attempt = (council.outsider, "execute", proposal, [call], ZERO)

    assert council.refusal(*attempt) == ("VotesMissing", needed - 1, needed)
    council.agree(proposal, digest, [needed - 1])
    assert council.refusal(*attempt) is None


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("setTagKey", (keccak(b"2"),)),
        ("removeMember", (4,)),
        ("approveJointCredit", (keccak(b"new"),)),
        ("setParameters", (tuple(PARAMETERS.values()),)),
    ],
)
def test_execute__without_supervisor__any_other_call__reverts(council, function, arguments):
    change = council.encoded("addSupervisor", council.second_supervisor)
    for calls in ([council.encoded(function, *arguments)], [change, council.encoded(function, *arguments)], [b"\1"]):
        proposal, digest = council.propose(*calls)
        council.agree(proposal, digest, range(5))
        council.chain.travel(31 * DAY)

        assert council.refusal(council.outsider, "execute", proposal, calls, ZERO) == ("OnlySupervisorChanges",)
