"""mpcredit decide: apply the credit policy to the totals of a request."""

from __future__ import annotations

import secrets
import time
from typing import Annotated

import typer

from mpcredit.cli._access import access, refuse_beside_server
from mpcredit.cli._results import decide_all, find_request, show_decision
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load, require_role


def decide(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="Start of its id or of its inquiry's, or last.")],
    amount: Annotated[
        str, typer.Option("--amount", metavar="AMOUNT", help="What the customer asks for; 0 in a review.")
    ],
    currency: Annotated[
        str | None,
        typer.Option("--currency", metavar="CODE", help="By default that of the totals.", show_default=False),
    ] = None,
    income: Annotated[
        str | None, typer.Option("--income", metavar="AMOUNT", help="Monthly net income.", show_default=False)
    ] = None,
    months: Annotated[
        int | None, typer.Option("--months", metavar="N", help="Term of the loan.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Decide on what a customer asks for: approve, refer or decline, with reasons fit for a letter.

    The decision stays in this institution's store. Before the supervisor has attested, a decision is provisional and
    declines nobody.

    Example: mpcredit decide last --amount 200000 --income 60000 --months 36
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    refuse_beside_server(settings, "decide")
    with access(settings) as party:
        found = find_request(party, request)
        decided = decide_all(
            party, found, settings.policy, amount=amount, currency=currency, income=income, months=months
        )
        for exposure, decision, value in decided:
            party.submit(
                {"kind": "decision", "key": f"{found.id}/{time.time_ns()}-{secrets.token_hex(2)}", "value": value}
            )
            show_decision(out, exposure, decision)
    out.document({"request": found.id, "decisions": [value for _, _, value in decided]})
