"""mpcredit ready: declare until when this institution answers, or withdraw that."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated

import typer

from mpcredit.cli._access import access, refuse_beside_server
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, duration, load, moment, require_role
from mpcredit.errors import InvalidMessage

LONGEST = 7 * 86_400


def ready(
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="ISO 8601, UTC unless it has an offset.", show_default=False),
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", min=1, max=7, help="From now on.", show_default=False)
    ] = None,
    withdraw: Annotated[
        bool,
        typer.Option(
            "--withdraw", metavar="", help="Not ready from now on, until you declare it again; for maintenance."
        ),
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Declare until when this institution answers inquiries, at most 7 days ahead, or withdraw it.

    The service renews readiness by itself ([inquiry] ready_seconds); this is for maintenance, and for institutions that
    declare it by hand.

    Example: mpcredit ready --days 2; mpcredit ready --withdraw
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    refuse_beside_server(settings, "ready")
    if sum((until is not None, days is not None, withdraw)) != 1:
        raise InvalidMessage("say until when", remedy="give one of --days N, --until TIME, --withdraw")
    with access(settings) as party:
        now = party.follower.now
        end = 0 if withdraw else _until(until) if until is not None else now + (days or 0) * 86_400
        if not withdraw and not now < end <= now + LONGEST:
            raise InvalidMessage(
                f"{moment(end)} is not within the next 7 days of the ledger's clock ({moment(now)})",
                remedy="give an earlier or a later time",
            )
        answer = party.submit({"kind": "ready", "until": end, "step": f"ready/{end}/cli/{secrets.token_hex(6)}"})
        row = party.settle(answer["step"])
    out.say(
        f"Not ready from block {row.block} on: no new cohort has this institution until it is declared ready again"
        if withdraw
        else f"Ready until {moment(end)} ({duration(end - now)}), from block {row.block} on"
    )
    out.document({"ready_until": end, "block": row.block})


def _until(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        raise InvalidMessage(f"{text!r} is no time", remedy="write 2026-11-20T18:00, UTC, or with an offset") from error
