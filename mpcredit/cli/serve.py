"""mpcredit serve: the server of one party, with its pages and its worker."""

from __future__ import annotations

from typing import Annotated

import typer

from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load, server_missing
from mpcredit.cli.answer import stamped


def serve(
    no_attest: Annotated[
        bool,
        typer.Option("--no-attest", metavar="", help="A supervisor only watches: no verdict goes onto the ledger."),
    ] = False,
    new_tenure: Annotated[
        str,
        typer.Option(
            "--new-tenure",
            metavar="REASON",
            help="Begin a new tenure of the database: it was replaced, or set back to a copy. The owner then names it "
            "(mpcredit member appoint).",
        ),
    ] = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Run the server of one institution, or of the supervisor, until it is stopped.

    It serves the pages and the API, answers others' inquiries, finishes its own, switches readiness on, and off when
    it stops. The table [server] of the configuration says where it listens and which database it has. The passphrase of
    the keys: MPCREDIT_PASSPHRASE_FILE, or asked. Killed at any point, it goes on when it is started again.

    Example: mpcredit serve --config /etc/mpcredit/bank.toml
    """
    try:
        from mpcredit.server.serve import serve_party  # the web framework, which no other command needs
    except ModuleNotFoundError as error:
        raise server_missing(error) from error

    settings, out = load(config), Output(json)
    serve_party(
        settings.path,
        attest=not no_attest,
        new_tenure=new_tenure,
        say=lambda line: out.say(stamped(line)),
    )
    out.document({"stopped": True})
