"""Members that collude in votes: a tag key under a version that it was not made for, and changes without notice.

Each attack runs on a variant of the Consortium without the rule, where it works, and on the one that ships, where it fails.

C1 vote for two tag keys between which the honest members are split: the variant does not look at the version (R4.5)
C2 take the votes back after the approval, and cast them again weeks later: the variant lets the approval stand (R34.1)
C3 the same where no supervisor approves: the variant counts the thirty days from the proposal (R34.1)
"""

from __future__ import annotations

from typing import Any

import pytest
from eth_utils import keccak
from governance import DAY, ZERO, Council
from onchain import Chain, variant

ANY_VERSION = (
    "        require(version == next, KeyVersion(version, next));\n",
    "        require(version != 0, KeyVersion(version, next));\n",
)

STANDING = ("        if (votes <= _twoThirds(members)) ++proposed.round;\n", "")
FROM_THE_PROPOSAL = (
    "uint256(proposed.unapprovedSince) + UNAPPROVED_DELAY",
    "uint256(proposed.proposedAt) + UNAPPROVED_DELAY",
)


def founded(members: int, *changes: tuple[str, str]) -> Council:
    """A consortium of so many members, a day old: the one that ships, or a variant."""
    made = variant("Consortium", *changes) if changes else None
    council = Council(Chain(), invited=members, made=made).deploy().found(members)
    council.chain.travel(DAY)
    return council


# ---------------------------------------------------------------- C1


def tag_keys_in_force(council: Council) -> list[tuple[Any, ...]]:
    """Of nine members three collude; of the others, each half holds another next key. Both proposals are approved."""
    halves = {keccak(b"one half's"): [0, 1, 2], keccak(b"the other half's"): [3, 4, 5]}
    in_force: list[tuple[Any, ...]] = []
    for commitment, honest in halves.items():
        call = council.encoded("setTagKey", 2, commitment)
        proposal = council.settled(call, voters=[*honest, 6, 7, 8])
        attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
        if council.refusal(*attempt) is None:
            in_force += council.changes(council.send(*attempt))
    return in_force


@pytest.mark.parametrize(("changes", "versions"), [([ANY_VERSION], [2, 3]), ([], [2])])
def test_split_over_two_tag_keys__with_and_without_the_version(
    changes: list[tuple[str, str]], versions: list[int]
) -> None:
    in_force = tag_keys_in_force(founded(9, *changes))

    assert [version for _, version, _ in in_force] == versions
    assert in_force[0] == ("TagKeySet", 2, keccak(b"one half's"))


# ---------------------------------------------------------------- C2, C3


def change_after_weeks_without_votes(council: Council, supervisor: str) -> tuple[Any, ...] | None:
    """Two of five members take their votes back, and cast them again fifty days after the proposal: the refusal."""
    call = council.encoded("addSupervisor", council.second_supervisor)
    proposal = council.settled(call)
    colluding = [council.banks[index].owner for index in (2, 3)]
    for owner in colluding:
        council.send(owner, "withdrawVote", proposal)
    council.chain.travel(50 * DAY)
    # What members saw for fifty days: a proposal that lacks votes.
    attempt = (council.outsider, "execute", proposal, [call], supervisor)
    assert council.refusal(*attempt) is not None
    council.agree(proposal, council.read("proposalAt", proposal)["callsHash"], [2, 3])
    return council.refusal(*attempt)


def test_votes_cast_again__the_approval_stands__the_change_is_carried_out_at_once() -> None:
    council = founded(5, STANDING)

    assert change_after_weeks_without_votes(council, council.supervisor) is None


def test_votes_cast_again__on_the_ledger__a_new_approval_is_needed() -> None:
    council = founded(5)

    refusal = change_after_weeks_without_votes(council, council.supervisor)

    assert refusal == ("ApprovalMissing", 1, council.supervisor)


def test_votes_cast_again_without_approval__counted_from_the_proposal__the_change_is_carried_out_at_once() -> None:
    assert change_after_weeks_without_votes(founded(5, FROM_THE_PROPOSAL), ZERO) is None


def test_votes_cast_again_without_approval__on_the_ledger__thirty_days_begin_anew() -> None:
    council = founded(5)

    refusal = change_after_weeks_without_votes(council, ZERO)

    assert refusal == ("TooEarly", council.chain.now() + 30 * DAY)
