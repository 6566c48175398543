"""One member alone holds up the others: invitations, openings, and the way out when the supervisor is lost.

Each attack runs on a variant of the Consortium without the rule, where it works, and on the one that ships, where it fails.

G1 reserve an address: the variant gives a service account to one party alone, as version 1 did with operators (R9.5)
G2 move the roster in each block: the variant has no pause between namings (R9.6, R39.2)
G4 withhold the one vote without which nothing goes: the variant asks for five sixths of four members (R35)
"""

from __future__ import annotations

from typing import Any

import pytest
from governance import DAY, ZERO, Council
from inquiries import Credit
from onchain import Chain, artifact, variant

RESERVING = (
    "        named.account = account;\n",
    "        named.account = account;\n        if (party != SUPERVISOR) _memberOfOwner[account] = party + 1;\n",
)
HASTY = (
    "        require(block.timestamp >= last + PAUSE, TooEarly(last + PAUSE));\n",
    "        require(last <= block.timestamp, TooEarly(last));\n",
)
FIVE_SIXTHS = ("sixths < members ? sixths : members - 1", "sixths")


def founded(members: int, *changes: tuple[str, str], **founding: Any) -> Council:
    """A consortium of so many members, a day old: the one that ships, or a variant."""
    made = variant("Consortium", *changes) if changes else None
    council = Council(Chain(), invited=members, made=made, **founding).deploy().found(members)
    council.chain.travel(DAY)
    return council


# ---------------------------------------------------------------- G1


def after_a_claim(council: Council, of: str) -> tuple[Any, ...] | None:
    """Bank E names the account of a newcomer, or of a new supervisor, as its own, when all others agreed: the refusal."""
    newcomer, hostile = council.banks[6], council.banks[4]
    claimed = newcomer.owner if of == "a newcomer" else council.second_supervisor
    call = (
        council.encoded("inviteMember", newcomer.owner, newcomer.name)
        if of == "a newcomer"
        else council.encoded("addSupervisor", claimed)
    )
    proposal = council.settled(call)
    attempt = (council.outsider, "execute", proposal, [call], council.supervisor)
    assert council.refusal(*attempt) is None

    council.name_account(hostile, claimed, 2, hostile.tenure(2))

    refusal = council.refusal(*attempt)
    return (*council.error(refusal[2]), claimed) if refusal else None


PARTIES = ["a newcomer", "a new supervisor"]


@pytest.mark.parametrize("of", PARTIES)
def test_reserve_an_address__accounts_are_of_one_party__the_proposal_is_vetoed(of: str) -> None:
    error, account, claimed = after_a_claim(founded(5, RESERVING), of) or (None, None, "")

    assert (error, account) == ("AccountInUse", claimed)


@pytest.mark.parametrize("of", PARTIES)
def test_reserve_an_address__on_the_ledger__the_proposal_passes(of: str) -> None:
    assert after_a_claim(founded(5), of) is None


# ---------------------------------------------------------------- G2


def spoilt_openings(council: Council, turns: int) -> int:
    """How many of Bank A's openings, one after the other, Bank E spoils by a naming in front of each."""
    council.ready(range(5))
    credit, hostile, number, spoilt = Credit(council), council.banks[4], 1, 0
    for _ in range(turns):
        opening = tuple(credit.opening().values())
        naming = council.naming(hostile, hostile.account, number + 1, hostile.tenure(number + 1))
        if council.refusal(hostile.owner, "nameAccount", *naming) is None:
            council.send(hostile.owner, "nameAccount", *naming)
            number += 1
        refusal = credit.refusal(credit.bank(0).account, "open", 0, opening)
        spoilt += refusal is not None and refusal[0] == "RosterMoved"
    return spoilt


@pytest.mark.parametrize(("changes", "spoilt"), [([HASTY], 6), ([], 1)])
def test_move_the_roster__with_and_without_the_pause(changes: list[tuple[str, str]], spoilt: int) -> None:
    joint_credit = bytes.fromhex(artifact("JointCredit")["bytecode"][2:])
    council = founded(5, *changes, joint_credit=joint_credit)

    assert spoilt_openings(council, 6) == spoilt


# ---------------------------------------------------------------- G4


def replacement_without_one_vote(council: Council) -> tuple[Any, ...] | None:
    """The supervisor is lost, and of four members one stays away: the refusal of the supervisor's replacement."""
    calls = [
        council.encoded("addSupervisor", council.second_supervisor),
        council.encoded("removeSupervisor", council.supervisor),
    ]
    proposal, digest = council.propose(*calls)
    council.agree(proposal, digest, range(3))
    council.chain.travel(30 * DAY)
    return council.refusal(council.outsider, "execute", proposal, calls, ZERO)


def test_withhold_a_vote__five_sixths_of_four__the_consortium_is_at_its_end() -> None:
    assert replacement_without_one_vote(founded(4, FIVE_SIXTHS)) == ("VotesMissing", 3, 4)


def test_withhold_a_vote__on_the_ledger__the_supervisor_is_replaced() -> None:
    assert replacement_without_one_vote(founded(4)) is None
