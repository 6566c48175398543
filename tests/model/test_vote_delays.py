"""R34.1 on the contract and in the fold: the same random votes, withdrawals, approvals and members, compared after each.

A second model knows no rounds: it writes down at each step whether the votes were there, and says that nothing may be
executed unless they were there through the whole delay.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from governance import DAY, PARAMETERS, Council
from onchain import Chain

from mpcredit import events as ev
from mpcredit.state import ProposalRecord, votes_needed

DELAY = PARAMETERS["delaySeconds"]
STEPS = 120
CONFIRMED, INVITED = 6, 9


class Walk:
    """A proposal that adds a supervisor, on a ledger of its own and in the fold."""

    def __init__(self, seed: int, removes: bool) -> None:
        self.rng = random.Random(seed)
        self.council = Council(Chain(), invited=INVITED, parameters={"minimumCohort": 3}).deploy().found(CONFIRMED)
        self.council.decide(self.council.encoded("addSupervisor", self.council.second_supervisor))
        self.supervisors = (self.council.supervisor, self.council.second_supervisor)
        self.members = list(range(CONFIRMED))
        self.known = set(self.members)
        """Those that are members or were."""
        self.calls = [self.council.encoded("addSupervisor", self.council.outsider)]
        self.proposal, self.digest = self.council.propose(*self.calls)
        self.record = ProposalRecord(ev.Proposed(self.at(), self.proposal, 0, self.digest, tuple(self.calls), ""))
        self.seen: list[tuple[int, bool]] = []
        """Unix seconds, and whether two thirds agreed from then on."""
        self.removes = removes
        self.permitted = 0

    def at(self) -> ev.Position:
        return ev.Position(1, bytes(32), 0, self.council.chain.now(), bytes(32), self.council.address)

    def fold(self, receipt: dict[str, Any]) -> None:
        for name, *values in self.council.events(receipt):
            if name == "Voted":
                self.record.move_vote(ev.Voted(self.at(), *values), self.members)
            elif name == "Approved" and values[2]:
                self.record.approvals[values[1]] = self.council.chain.now()
            elif name == "Approved":
                self.record.approvals.pop(values[1], None)

    def step(self) -> None:
        """One thing that somebody may do, if the contract takes it."""
        council, draw = self.council, self.rng.random()
        if draw < 0.6:
            owner = council.banks[self.rng.choice(self.members)].owner
            self.try_(
                owner,
                *self.rng.choice((("vote", self.proposal, self.digest),) * 4 + (("withdrawVote", self.proposal),)),
            )
        elif draw < 0.85:
            kind = self.rng.choice(
                (("approve", self.proposal, self.digest),) * 3 + (("withdrawApproval", self.proposal),)
            )
            self.try_(self.rng.choice(self.supervisors), *kind)
        elif draw < 0.95:
            council.chain.travel(self.rng.choice((1, DELAY // 2, DELAY, 10 * DAY)))
        elif draw < 0.98 and (waiting := [i for i in range(INVITED) if i not in self.known]):
            council.confirm(council.banks[waiting[0]])
            self.members.append(waiting[0])
            self.known.add(waiting[0])
        elif self.removes and len(self.members) > 4:
            gone = self.rng.choice(self.members[1:])
            voters = self.members[: votes_needed(len(self.members))]
            council.decide(council.encoded("removeMember", gone), voters=voters)
            self.members.remove(gone)

    def try_(self, sender: str, *call: Any) -> None:
        if self.council.refusal(sender, *call) is None:
            self.fold(self.council.send(sender, *call))

    def check(self) -> None:
        """The contract and the fold agree, and what may be executed was agreed to through its whole delay."""
        council, now = self.council, self.council.chain.now()
        shown = council.read("proposalAt", self.proposal)
        for supervisor in self.supervisors:
            assert council.read("approvedAt", self.proposal, supervisor) == self.record.approvals.get(supervisor, 0)
        assert shown["unapprovedSince"] == self.record.unapproved_since
        votes = self.record.votes & set(self.members)
        self.seen.append((now, len(votes) >= votes_needed(len(self.members))))
        # A removal lowers what is needed, and can bring a majority back without a vote: no notice is owed for that one.
        for supervisor in () if self.removes else self.supervisors:
            attempt = (council.outsider, "execute", self.proposal, self.calls, supervisor)
            if council.refusal(*attempt) is None:
                self.permitted += 1
                begun = max(i for i, (then, _) in enumerate(self.seen) if i == 0 or then <= now - DELAY)
                assert all(there for _, there in self.seen[begun:])


def walked(seed: int, *, removes: bool) -> Walk:
    walk = Walk(seed, removes)
    for _ in range(STEPS):
        walk.step()
        walk.check()
    return walk


@pytest.mark.parametrize("seed", [2, 8, 10])
def test_random_votes__no_delay_passes_without_the_votes(seed: int) -> None:
    """The seeds are some with which the proposal may be executed at times; with others it hardly comes to that."""
    assert walked(seed, removes=False).permitted > 0


@pytest.mark.parametrize("seed", [1, 3])
def test_random_votes__members_come_and_go__contract_and_fold_agree(seed: int) -> None:
    walk = walked(seed, removes=True)

    assert len(walk.known) > len(walk.members)
