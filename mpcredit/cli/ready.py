"""mpcredit ready: switch this institution's readiness on or off (R28)."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from mpcredit.cli._access import Access, access, refuse_beside_server
from mpcredit.cli._parties import own_member
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load, moment, require_role
from mpcredit.errors import InvalidMessage


def switch(party: Access, member: int, *, on: bool) -> int | None:
    """Switch readiness from the next full period on, and keep the service from switching it on where it is off.

    Returns:
        The number of the block; None if nothing was to be changed.

    Raises:
        Refused, StoreError, LedgerError: it could not be done.
    """
    step = f"ready/{on}/cli/{secrets.token_hex(6)}"
    answer = party.submit({"kind": "ready", "on": on, "member": member, "step": step})
    return None if answer["step"] is None else party.settle(answer["step"]).block


def ready(
    on: Annotated[
        bool, typer.Option("--on", metavar="", help="Be in cohorts, and let the service switch from now on.")
    ] = False,
    off: Annotated[
        bool,
        typer.Option("--off", metavar="", help="Be in no new cohort until you give --on; for maintenance."),
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Switch readiness on or off, from the next full period of the consortium on (a minute by default).

    The service does so by itself ([inquiry] ready); this is for maintenance, and for institutions that do it by hand.

    Example: mpcredit ready --off; mpcredit ready --on
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    refuse_beside_server(settings, "ready")
    if on == off:
        raise InvalidMessage("say whether readiness is to be on or off", remedy="give one of --on, --off")
    with access(settings) as party:
        block = switch(party, own_member(party).index, on=on)
        seconds = party.follower.state.period_seconds
        start = None if block is None else _next_period(party, block, seconds)
    word = "on" if on else "off"
    if start is None:
        out.say(f"Readiness is {word} already" + (", and stays so until you give --on" if off else ""))
    else:
        out.say(f"Readiness is {word} from {moment(start)} on (block {block}, periods of {seconds} s)")
    out.document({"ready": on, "from": start, "block": block})


def _next_period(party: Access, block: int, seconds: int) -> int:
    """When the next full period begins after a block, unix seconds."""
    found = party.ledger.block(block)
    at = found.timestamp if found is not None else party.follower.now
    return (at // seconds + 1) * seconds
