"""mpcredit approve: a supervisor's approval of a proposal, from its owner account, after its audit."""

from __future__ import annotations

from typing import Annotated

import typer

from mpcredit.chain import joint_credit_init_code_hash
from mpcredit.cli._access import view
from mpcredit.cli._owner import Owner
from mpcredit.cli._parties import owned_supervisor
from mpcredit.cli._review import review
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, OwnerOption, agree, load, require_role
from mpcredit.cli.propose import find_proposal, show_proposal, standing
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage
from mpcredit.proposals import approved_codes, standing_of


def approve(
    proposal: Annotated[int, typer.Argument(help="Number of the proposal.")],
    withdraw: Annotated[bool, typer.Option("--withdraw", metavar="", help="Take the approval back.")] = False,
    without_review: Annotated[
        str | None,
        typer.Option(
            "--without-review",
            metavar="REASON",
            help="Beside a server: approve without the order that two people gave on its page /proposals. The audit log "
            "tells it.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Approve a proposal from the supervisor's owner account, after showing every call of it. The delay begins with it.

    It needs the votes of two thirds of the members before. Where the configuration has a table [server], this carries out what
    a supervisor asked for and a reviewer confirmed on the server's page /proposals, and refuses without.

    Example: mpcredit approve 3 --config supervisor/mpcredit.toml
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    with view(settings) as read:
        state = read.follower.state
        record = find_proposal(state, proposal)
        show_proposal(out, standing(proposal, record, state, read.follower.now), state)
        foreign = [code for code in approved_codes(record) if code != joint_credit_init_code_hash()]
        if foreign and not withdraw:
            out.warn(
                f"the JointCredit {to_hex(foreign[0])} is not the one of this package: rebuild it from its sources first "
                "(the server's page /proposals does), or install that release"
            )
        with review(settings, read, proposal, not withdraw, without_review) as ordered:
            if ordered.by():
                out.say(f"Ordered: {ordered.by()}")
            agree("Take your approval back?" if withdraw else "Approve it?", yes)
            acting = Owner(settings, owner_account)
            owner = owned_supervisor(state, acting.address).owner
            block = ordered.done(owner)  # sent before, and not noted: not sent again
            if block is None:
                if not withdraw and owner in standing_of(record, state, read.follower.now).approvals:
                    raise InvalidMessage(
                        f"you have approved proposal {proposal} already", remedy="nothing is left to do"
                    )
                arguments = (proposal,) if withdraw else (proposal, record.proposed.calls_hash)
                with ordered.sending():
                    block = acting.send(read.ledger, "withdrawApproval" if withdraw else "approve", *arguments)
                read.follower.sync()
                ordered.done(owner)
        state = read.follower.state
        value = standing(proposal, find_proposal(state, proposal), state, read.follower.now)
    out.say(
        f"{'Approval withdrawn' if withdraw else 'Approved'} in block {block}. It needs: {value['next'] or 'nothing'}"
    )
    out.document({**value, "block": block})
