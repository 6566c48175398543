"""mpcredit consent: write, read and revoke a customer's consent receipts (R17)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mpcredit.cli._access import access, refuse_beside_server
from mpcredit.cli._parties import own_member
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    load,
    moment,
    parse_bytes,
    require_role,
    write_private,
)
from mpcredit.cli._subjects import (
    collect_subjects,
    hash_file,
    read_consent,
    recipient,
)
from mpcredit.cli._subjects import (
    grant as grant_consent,
)
from mpcredit.consent import NO_EVIDENCE, Consent
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage, NotYet

app = typer.Typer(help="Write, read and revoke customers' consent receipts.", no_args_is_help=True)

SubjectOption = Annotated[
    list[str] | None,
    typer.Option("--subject", "-s", metavar="KIND:COUNTRY:NUMBER", help="Whom; may be repeated.", show_default=False),
]
FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", metavar="CSV", help="Many: kind,country,number and, if wanted, label.", show_default=False
    ),
]
EvidenceOption = Annotated[
    Path | None,
    typer.Option(
        "--evidence-file",
        metavar="FILE",
        help="The signed form or recording; its SHA-256 goes into the receipt.",
        show_default=False,
    ),
]


@app.command()
def grant(
    purpose: Annotated[
        str,
        typer.Option("--purpose", metavar="CODE", help="new_credit, credit_line, review, guarantee or restructuring."),
    ],
    days: Annotated[int, typer.Option("--days", metavar="N", help="For how long, from now on.")],
    out_path: Annotated[
        Path, typer.Option("--out", metavar="FILE|DIR", help="The receipt; a directory for several subjects.")
    ],
    subject: SubjectOption = None,
    file: FileOption = None,
    evidence_file: EvidenceOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Write the receipt of a consent that the customer has given to this institution.

    It names the customer by tag, never by identity, and contains a salt: keep it like the signed form.

    Example: mpcredit consent grant -s national_id:TW:A123456789 --purpose new_credit --days 30 --out consent.json
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    subjects, labels = collect_subjects(subject or [], file)
    evidence = hash_file(evidence_file)
    with access(settings) as party:
        to = recipient(party)
        now = min(int(time.time()), party.follower.now)
        receipts = [grant_consent(one, to, purpose=purpose, days=days, evidence=evidence, now=now) for one in subjects]
    if len(receipts) == 1 and not out_path.is_dir():
        paths = [out_path]
    else:
        out_path.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = [out_path / f"consent-{receipt.hash.hex()[:16]}.json" for receipt in receipts]
    for path, receipt in zip(paths, receipts, strict=True):
        write_private(path, receipt.receipt + b"\n")
    for label, path, receipt in zip(labels, paths, receipts, strict=True):
        out.facts(f"Consent of {label}", _rows(receipt, path))
    out.document(
        {"consents": [{"file": str(path), **_document(receipt)} for path, receipt in zip(paths, receipts, strict=True)]}
    )


def _rows(receipt: Consent, path: Path | None) -> list[tuple[str, object]]:
    return [
        *([("file", path)] if path else []),
        ("purpose", receipt.purpose.value),
        ("holds", f"{moment(receipt.valid_from)} to {moment(receipt.valid_until)}"),
        ("given to", f"member {receipt.inquirer} of {receipt.consortium}, chain {receipt.chain_id}"),
        ("document", "none" if receipt.evidence == NO_EVIDENCE else f"SHA-256 {to_hex(receipt.evidence)}"),
        ("hash", to_hex(receipt.hash)),
    ]


def _document(receipt: Consent) -> dict[str, object]:
    return {
        "hash": to_hex(receipt.hash),
        "purpose": receipt.purpose.value,
        "inquirer": receipt.inquirer,
        "valid_from": receipt.valid_from,
        "valid_until": receipt.valid_until,
        "evidence": to_hex(receipt.evidence),
        "tag_key_version": receipt.tag_key_version,
    }


@app.command()
def show(file: Annotated[Path, typer.Argument(metavar="FILE", help="The receipt.")], json: JsonOption = False) -> None:
    """Show what a receipt permits, and its hash, which is all that the ledger gets.

    Example: mpcredit consent show consent.json
    """
    out = Output(json)
    receipt = read_consent(file)
    out.facts(f"Consent receipt {file}", _rows(receipt, None))
    if receipt.valid_until <= time.time():
        out.warn("it does not hold any more")
    out.document(_document(receipt))


@app.command()
def revoke(
    consent: Annotated[str, typer.Argument(metavar="FILE|HASH", help="The receipt, or its hash.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """State on the ledger that the customer has revoked a consent: nobody answers on it any more.

    Example: mpcredit consent revoke consent.json
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    refuse_beside_server(settings, "consent")
    digest = parse_bytes(consent, 32, "the hash") if consent.startswith("0x") else read_consent(Path(consent)).hash
    with access(settings) as party:
        state = party.follower.state
        member = own_member(party)
        if member.index in state.revoked.get(digest, set()):
            raise InvalidMessage(f"the consent {to_hex(digest)} was revoked already", remedy="nothing is left to do")
        if state.joint_credit is None:
            raise NotYet("the consortium has no JointCredit yet", remedy="see `mpcredit doctor`")
        row = party.post("revokeConsent", member.index, digest, contract=state.joint_credit)
    out.say(f"Revoked {to_hex(digest)}, from block {row.block} on")
    out.document({"hash": to_hex(digest), "block": row.block})
