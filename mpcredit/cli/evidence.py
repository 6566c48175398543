"""mpcredit evidence: one file that proves an inquiry to somebody without a ledger node (R40)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpcredit.cli._access import view
from mpcredit.cli._results import find_request, inquiry_of
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load, require_role
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidFile, NotYet, Refused
from mpcredit.evidence import collect


def evidence(
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="Start of its id or of its inquiry's, or last.")],
    out_path: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="By default evidence-<inquiry>.json here.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Write the evidence of a reported inquiry: signed transactions, the roster's history, openings and salt.

    It contains the totals: hand it only to who may know them. `mpcredit verify` checks it.

    Example: mpcredit evidence last --out inquiry.json
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    with view(settings) as read:
        found = find_request(read, request)
        inquiry = inquiry_of(read, found)
        report = read.store.get("report", to_hex(inquiry.id))
        if report is None or inquiry.report is None:
            raise NotYet("the inquiry has not been reported yet", remedy=f"wait: mpcredit inquire --resume {found.id}")
        if "openings" not in report:
            raise Refused(
                "the openings of this inquiry were destroyed after their retention",
                remedy="use the evidence that was made before, or ask the supervisor",
            )
        made = collect(
            read.follower.state,
            read.follower.events,
            inquiry,
            read.ledger.transaction,
            openings=[(int(m, 16), int(r, 16)) for m, r in report["openings"]],
            salt=hex_bytes(report["salt"], 32),
        )
    path = out_path or Path(f"evidence-{inquiry.id.hex()[:12]}.json")
    if path.exists():
        raise InvalidFile(str(path), "is there already", "give another name with --out, or move it away first")
    try:
        made.save(path)
    except OSError as error:
        raise InvalidFile(str(path), f"cannot be written: {error.strerror}", "see to path and permissions") from error
    attested = inquiry.verdict is not None and inquiry.verdict.valid
    if not attested:
        out.warn("the supervisor has not attested this inquiry: the file proves the report, not the verdict")
    out.facts(
        f"Wrote {path}",
        [
            ("inquiry", to_hex(inquiry.id)),
            ("consortium", f"{read.ledger.realm.consortium} on chain {read.ledger.realm.chain_id}"),
            ("attested", "yes" if attested else "no"),
        ],
    )
    out.say(f"Check it: mpcredit verify {path} --consortium {read.ledger.realm.consortium}")
    out.document({"file": str(path), "inquiry": to_hex(inquiry.id), "attested": attested})
