"""mpcredit approve: a supervisor's approval of a proposal, after its audit."""

from __future__ import annotations

from typing import Annotated

import typer

from mpcredit.chain import joint_credit_init_code_hash
from mpcredit.cli._access import access
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load, require_role
from mpcredit.cli.propose import find_proposal, show_proposal, standing
from mpcredit.cli.vote import agree
from mpcredit.encoding import to_hex
from mpcredit.proposals import approved_codes


def approve(
    proposal: Annotated[int, typer.Argument(help="Number of the proposal.")],
    withdraw: Annotated[bool, typer.Option("--withdraw", metavar="", help="Take the approval back.")] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Approve a proposal (supervisor), after showing every call of it. The delay begins with the approval.

    Example: mpcredit approve 3 --config supervisor/mpcredit.toml
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    with access(settings) as party:
        state = party.follower.state
        record = find_proposal(state, proposal)
        show_proposal(out, standing(proposal, record, state, party.follower.now), state)
        foreign = [code for code in approved_codes(record) if code != joint_credit_init_code_hash()]
        if foreign and not withdraw:
            out.warn(
                f"the JointCredit {to_hex(foreign[0])} is not the one of this package: rebuild it from its sources first "
                "(the server's page /supervision/proposals does), or install that release"
            )
        agree("Take your approval back?" if withdraw else "Approve it?", yes)
        if withdraw:
            row = party.post("withdrawApproval", proposal)
        else:
            row = party.post("approve", proposal, record.proposed.calls_hash)
        state = party.follower.state
        value = standing(proposal, find_proposal(state, proposal), state, party.follower.now)
    out.say(
        f"{'Approval withdrawn' if withdraw else 'Approved'} in block {row.block}. It needs: {value['next'] or 'nothing'}"
    )
    out.document({**value, "block": row.block})
