"""mpcredit execute: carry out a proposal that has its votes, its approval and its delay."""

from __future__ import annotations

from typing import Annotated

import typer

from mpcredit.cli._access import view
from mpcredit.cli._owner import Owner
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, OwnerOption, load, require_role
from mpcredit.cli.propose import find_proposal, show_proposal, standing
from mpcredit.proposals import executing_supervisor, standing_of


def execute(
    proposal: Annotated[int, typer.Argument(help="Number of the proposal.")],
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Carry out a proposal: all of its calls, or none. Anyone may; this sends it from the owner account.

    A change of supervisors that no supervisor approves needs the votes of five sixths of the members, or of all but one where
    that is fewer, and can be executed 30 days after the last of them (R35).

    Example: mpcredit execute 3
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    with view(settings) as read:
        state = read.follower.state
        record = find_proposal(state, proposal)
        now = read.follower.next_time
        supervisor = executing_supervisor(standing_of(record, state, now), now)
        block = Owner(settings, owner_account).send(
            read.ledger, "execute", proposal, list(record.proposed.calls), supervisor
        )
        read.follower.sync()
        state = read.follower.state
        value = standing(proposal, find_proposal(state, proposal), state, read.follower.now)
        show_proposal(out, value, state)
    out.say(f"Executed in block {block}")
    out.document({**value, "block": block})
