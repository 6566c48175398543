"""mpcredit vote: this institution's vote on a proposal."""

from __future__ import annotations

from typing import Annotated

import typer

from mpcredit.cli._access import View, view
from mpcredit.cli._owner import Owner
from mpcredit.cli._review import review
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, OwnerOption, agree, load, require_role
from mpcredit.cli.keys import tag_keys_at_hand
from mpcredit.cli.propose import find_proposal, show_proposal, standing
from mpcredit.config import Config
from mpcredit.proposals import check_tag_keys


def _check_tag_keys(settings: Config, read: View, proposal: int, owner: str) -> None:
    state = read.follower.state
    own = next((member.index for member in state.members.values() if member.owner == owner), None)
    calls = state.proposals[proposal].proposed.calls
    check_tag_keys(calls, state, tag_keys_at_hand(settings), now=read.follower.now, member=own, proposal=proposal)


def vote(
    proposal: Annotated[int, typer.Argument(help="Number of the proposal.")],
    withdraw: Annotated[bool, typer.Option("--withdraw", metavar="", help="Take the vote back.")] = False,
    without_review: Annotated[
        str | None,
        typer.Option(
            "--without-review",
            metavar="REASON",
            help="Beside a server: vote without the order that two people gave on its page /proposals. The audit log tells it.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Vote for a proposal from the owner account, after showing every call of it.

    Where the configuration has a table [server], this carries out what an administrator asked for and a reviewer confirmed on
    the server's page /proposals, and refuses without.

    Example: mpcredit vote 3
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    with view(settings) as read:
        state = read.follower.state
        record = find_proposal(state, proposal)
        show_proposal(out, standing(proposal, record, state, read.follower.now), state)
        with review(settings, read, proposal, not withdraw, without_review) as ordered:
            if ordered.by():
                out.say(f"Ordered: {ordered.by()}")
            agree("Take your vote back?" if withdraw else "Vote for it?", yes)
            acting = Owner(settings, owner_account)
            owner = acting.address
            if not withdraw:
                _check_tag_keys(settings, read, proposal, owner)
            block = ordered.done(owner)  # sent before, and not noted: not sent again
            if block is None:
                arguments = (proposal,) if withdraw else (proposal, record.proposed.calls_hash)
                with ordered.sending():
                    block = acting.send(read.ledger, "withdrawVote" if withdraw else "vote", *arguments)
                read.follower.sync()
                ordered.done(owner)
        state = read.follower.state
        value = standing(proposal, find_proposal(state, proposal), state, read.follower.now)
    out.say(
        f"{'Vote withdrawn' if withdraw else 'Voted'} in block {block}: {len(value['votes'])} of {value['votes_needed']} "
        f"needed. It needs: {value['next'] or 'nothing'}"
    )
    out.document({**value, "block": block})
