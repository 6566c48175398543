"""mpcredit.proposals: a proposal in words, and where it stands (R33 to R36)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import TERMS, FakeTown, deterministic, found_town

from mpcredit import events as ev
from mpcredit.chain.artifacts import consortium
from mpcredit.encoding import to_hex
from mpcredit.errors import Refused
from mpcredit.proposals import (
    NOBODY,
    calls_hash_of,
    check_tag_keys,
    executing_supervisor,
    facts_of,
    standing_of,
    tell_call,
    terms_call,
    words_of_call,
)
from mpcredit.state import LedgerState, ProposalRecord

DAY = 86_400
AT = 1_800_000_000
NEW = deterministic("a new account").address


@pytest.fixture(scope="module")
def town() -> FakeTown:
    return found_town(4)


@pytest.fixture
def state(town: FakeTown) -> LedgerState:
    return town.chain.fold()


def call(function: str, *arguments: Any) -> bytes:
    return consortium().call_data(function, list(arguments))


def record(
    state: LedgerState, calls: Sequence[bytes], *, votes: Sequence[int] = (), approved: dict[str, int] | None = None
) -> ProposalRecord:
    position = ev.Position(1, bytes(32), 0, AT, bytes(32), state.realm.consortium)
    proposed = ev.Proposed(position, 1, 2, calls_hash_of(calls), tuple(calls), "because")
    return ProposalRecord(proposed, set(votes), approved or {}, AT, electorate=state.active())


# --------------------------------------------------------------------- words


def test_terms_call__names_its_terms_alone__and_shows_them_against_those_of_now(state: LedgerState) -> None:
    made = terms_call({"minimum_cohort": 3, "book_age_seconds": 7 * DAY})
    before = state.parameters
    assert before is not None

    named = int.from_bytes(made[4:36], "big")
    values = [int.from_bytes(made[start : start + 32], "big") for start in range(36, len(made), 32)]
    assert made[:4] == call("setTerms", 0, (0,) * 11)[:4]
    assert named == 1 << 0 | 1 << 10
    assert values == [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7 * DAY]
    words = f"minimum_cohort {before.minimum_cohort} -> 3; book_age_seconds {before.book_age_seconds} -> {7 * DAY}"
    assert tell_call(made, state) == f"setTerms: {words}"
    assert words_of_call(made, state) == f"change the terms: {words}"


def test_terms_call__overtaken_by_another_one__says_that_a_term_stays(state: LedgerState) -> None:
    made = terms_call({"subjects_per_day": 77})
    state.parameters = replace(TERMS, subjects_per_day=77)

    assert tell_call(made, state) == "setTerms: subjects_per_day stays 77"


def test_invitation__names_the_owner_account_alone(state: LedgerState) -> None:
    made = call("inviteMember", NEW, "Bank E")

    assert tell_call(made, state) == f"inviteMember: owner {NEW}; memberName Bank E"
    assert words_of_call(made, state) == f"invite Bank E: owner account {NEW}"


def test_call_of_version_1__is_shown_as_bytes(state: LedgerState) -> None:
    old = bytes.fromhex("deadbeef") + bytes(32)

    assert words_of_call(old, state) == f"unknown call: data {to_hex(old)}"


def test_tag_key__names_its_version(state: LedgerState) -> None:
    commitment = b"\x07" * 32
    made = call("setTagKey", 2, commitment)

    assert tell_call(made, state) == f"setTagKey: version 2; commitment {to_hex(commitment)}"
    assert words_of_call(made, state) == f"put tag key 2 in force, with the commitment {to_hex(commitment)}"


def test_tag_keys__of_any_version_but_the_next__are_refused_though_they_are_at_hand(state: LedgerState) -> None:
    commitments = {version: bytes([version]) * 32 for version in range(1, 5)}
    calls = {version: call("setTagKey", version, made) for version, made in commitments.items()}

    check_tag_keys([calls[2]], state, commitments, now=AT)
    check_tag_keys([calls[2], calls[3]], state, commitments, now=AT)
    for wrong in ([calls[1]], [calls[3]], [calls[3], calls[2]], [calls[2], calls[4]]):
        with pytest.raises(Refused, match="the next one is"):
            check_tag_keys(wrong, state, commitments, now=AT)
    with pytest.raises(Refused, match="is that of your tag key 3"):
        check_tag_keys([call("setTagKey", 2, commitments[3])], state, commitments, now=AT)


# --------------------------------------------------------------------- standing


def test_standing__of_terms__needs_votes_then_approval_then_delay_then_execution(
    town: FakeTown, state: LedgerState
) -> None:
    calls = [terms_call({"subjects_per_day": 77})]
    supervisor = town.supervisor_owner.address
    assert state.parameters is not None
    due = AT + 60 + state.parameters.delay_seconds

    def awaits(at: int, votes: Sequence[int], **options: Any) -> str:
        found = standing_of(record(state, calls, votes=votes, **options), state, at)
        assert found.needed == 3  # two thirds of 4, rounded up
        assert found.needed_unapproved is None
        return found.awaits

    assert awaits(AT + 60, [0, 1]) == "votes"
    assert awaits(AT + 60, [0, 1, 3]) == "approval"
    assert awaits(AT + 40 * DAY, [0, 1, 2, 3]) == "approval"
    assert awaits(due - 1, [0, 1, 3], approved={supervisor: AT + 60}) == "delay"
    assert awaits(due, [0, 1, 3], approved={supervisor: AT + 60}) == "execution"
    assert awaits(AT + 60 * DAY + 1, [0, 1, 3], approved={supervisor: AT + 60}) == ""


@pytest.mark.parametrize(("members", "needed"), [(3, 2), (4, 3), (5, 4), (6, 5), (7, 6), (12, 10), (13, 11)])
def test_standing__of_supervisors_alone__needs_five_sixths_or_all_but_one_without_an_approval(
    state: LedgerState, members: int, needed: int
) -> None:
    first = state.members[0]
    state.members = {i: replace(first, index=i, name=f"Bank {i}") for i in range(members)}
    made = record(state, [call("addSupervisor", NEW)], votes=range(needed))

    found = standing_of(made, state, AT + 30 * DAY)

    assert found.needed_unapproved == needed
    assert found.unapproved_at == AT + 30 * DAY
    assert found.awaits == "execution"
    assert executing_supervisor(found, AT + 30 * DAY) == NOBODY
    assert standing_of(made, state, AT + 30 * DAY - 1).awaits == "approval"
    fewer = record(state, [call("addSupervisor", NEW)], votes=range(needed - 1))
    assert standing_of(fewer, state, AT + 30 * DAY).awaits != "execution"
    mixed = record(state, [call("addSupervisor", NEW), call("removeMember", 0)], votes=range(needed))
    assert standing_of(mixed, state, AT + 30 * DAY).needed_unapproved is None


def voted(made: ProposalRecord, member: int, at: int, in_favour: bool = True) -> ev.Voted:
    return ev.Voted(replace(made.proposed.at, timestamp=at), 1, member, in_favour)


def test_standing__vote_that_is_needed_taken_back__shows_the_approval_no_more_also_when_it_is_cast_again(
    town: FakeTown, state: LedgerState
) -> None:
    """R34.1: the approval is void, whoever votes afterwards."""
    own = town.supervisor_owner.address
    calls = [terms_call({"subjects_per_day": 77})]
    made = record(state, calls, votes=[0, 1, 2, 3], approved={own: AT + 60})

    made.move_vote(voted(made, 3, AT + DAY, in_favour=False), state.active())
    enough = standing_of(made, state, AT + DAY)
    made.move_vote(voted(made, 2, AT + DAY, in_favour=False), state.active())
    missing = standing_of(made, state, AT + DAY)
    made.move_vote(voted(made, 2, AT + 50 * DAY), state.active())
    again = standing_of(made, state, AT + 50 * DAY)

    assert (enough.awaits, enough.approvals) == ("execution", {own: AT + 60})
    assert (missing.awaits, missing.approvals, missing.permitted_at) == ("votes", {}, None)
    assert (again.awaits, again.approvals, again.permitted_at) == ("approval", {}, None)
    assert facts_of(1, made, state, AT + 50 * DAY)["approvals"] == []


def test_standing__vote_that_makes_up_for_a_member_that_left__ends_the_approval(
    town: FakeTown, state: LedgerState
) -> None:
    own = town.supervisor_owner.address
    members = {i: replace(state.members[0], index=i, name=f"Bank {i}") for i in range(6)}
    state.members = dict(members)
    made = record(state, [terms_call({"subjects_per_day": 77})], votes=[0, 1, 2, 5], approved={own: AT + 60})
    assert standing_of(made, state, AT + DAY).awaits == "execution"
    del state.members[5]  # of five members four are needed, as of six
    assert standing_of(made, state, AT + DAY).awaits == "votes"

    made.move_vote(voted(made, 4, AT + DAY), state.active())

    assert standing_of(made, state, AT + DAY).approvals == {}


def test_standing__without_an_approval__thirty_days_from_the_last_vote_that_it_needs(state: LedgerState) -> None:
    made = record(state, [call("addSupervisor", NEW)], votes=[0, 1])
    before = standing_of(made, state, AT + 10 * DAY)

    made.move_vote(voted(made, 2, AT + 12 * DAY), state.active())
    agreed = standing_of(made, state, AT + 13 * DAY)
    made.move_vote(voted(made, 3, AT + 14 * DAY), state.active())
    more = standing_of(made, state, AT + 15 * DAY)

    assert (before.needed_unapproved, before.unapproved_at) == (3, AT + 40 * DAY)  # if the vote came now
    assert agreed.unapproved_at == more.unapproved_at == AT + 42 * DAY
    assert standing_of(made, state, AT + 42 * DAY - 1).awaits == "approval"
    assert standing_of(made, state, AT + 42 * DAY).awaits == "execution"


def test_standing__last_vote_after_half_of_its_life__needs_an_approval(state: LedgerState) -> None:
    made = record(state, [call("addSupervisor", NEW)], votes=[0, 1])

    assert standing_of(made, state, AT + 30 * DAY).needed_unapproved == 3
    assert standing_of(made, state, AT + 30 * DAY + 1).needed_unapproved is None


def test_standing__approval_by_the_supervisor_that_it_removes__does_not_count(
    town: FakeTown, state: LedgerState
) -> None:
    own = town.supervisor_owner.address
    approved = {own: AT + 60}
    removal = record(state, [call("removeSupervisor", own)], votes=[0, 1, 2], approved=approved)
    addition = record(state, [call("addSupervisor", NEW)], votes=[0, 1, 2], approved=approved)

    assert standing_of(removal, state, AT + DAY).approvals == {}
    assert standing_of(addition, state, AT + DAY).approvals == approved
    assert executing_supervisor(standing_of(addition, state, AT + DAY), AT + DAY) == own
    assert executing_supervisor(standing_of(removal, state, AT + DAY), AT + DAY) == NOBODY


def test_standing__approval_from_before_the_supervisor_was_added_again__does_not_count(
    town: FakeTown, state: LedgerState
) -> None:
    own = town.supervisor_owner.address
    made = record(state, [terms_call({"subjects_per_day": 77})], votes=[0, 1, 2], approved={own: AT + 60})
    assert standing_of(made, state, AT + DAY).awaits == "execution"

    state.supervisors[own].since = AT + 61

    assert standing_of(made, state, AT + DAY).awaits == "approval"


def test_standing__withdrawn__is_over_and_told_with_the_member_that_proposed_it(state: LedgerState) -> None:
    made = record(state, [terms_call({"subjects_per_day": 77})], votes=[0, 1, 2])
    assert standing_of(made, state, AT).state == "open"
    made.withdrawn = True

    found = standing_of(made, state, AT)
    facts = facts_of(1, made, state, AT)

    assert (found.state, found.awaits) == ("withdrawn", "")
    assert facts["proposer"] == state.members[2].name
    assert facts["state"] == "withdrawn"
