"""mpcredit execute: carry out a proposal that has its votes, its approval and its delay."""

from __future__ import annotations

from typing import Annotated

import typer

from mpcredit.cli._access import view
from mpcredit.cli._owner import Owner
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, OwnerOption, load, require_role
from mpcredit.cli.propose import find_proposal, show_proposal, standing

NOBODY = "0x" + 40 * "0"


def execute(
    proposal: Annotated[int, typer.Argument(help="Number of the proposal.")],
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Carry out a proposal: all of its calls, or none. Anyone may; this sends it from the owner account.

    A change of supervisors that no supervisor approves can be executed after 30 days with five sixths of the votes (R35).

    Example: mpcredit execute 3
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    with view(settings) as read:
        state = read.follower.state
        record = find_proposal(state, proposal)
        approvals = {account: at for account, at in record.approvals.items() if account in state.supervisors}
        # The earliest approval has waited longest; without one, only the way of R35 is left.
        supervisor = min(approvals, key=lambda account: approvals[account]) if approvals else NOBODY
        block = Owner(settings, owner_account).send(
            read.ledger, "execute", proposal, list(record.proposed.calls), supervisor
        )
        read.follower.sync()
        state = read.follower.state
        value = standing(proposal, find_proposal(state, proposal), state, read.follower.now)
        show_proposal(out, value, state)
    out.say(f"Executed in block {block}")
    out.document({**value, "block": block})
