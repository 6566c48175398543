"""mpcredit certify: rehearse a new member among reference institutions, or check a certificate of that."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpcredit.certificate import PROVES, PROVES_NOT, read_certificate
from mpcredit.chain.artifacts import consortium, joint_credit
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, ask, duration, load, moment, write_private
from mpcredit.encoding import keccak, to_hex
from mpcredit.errors import InvalidFile, InvalidMessage, InvalidProof
from mpcredit.protocol import SPEC_VERSION

if TYPE_CHECKING:
    from mpcredit.server.certify import Check

MARKS = {"passed": "passed", "failed": "FAILED", "not run": "not run"}
STYLES = {"passed": "green", "FAILED": "bold red", "not run": "yellow"}


def certify(
    known: Annotated[
        Path | None,
        typer.Option(
            "--known",
            metavar="FILE",
            help="Subjects whose figures you know, in the form of docs/loan-book.md, some with zeros who are no customers: "
            "your own loan book is then asked. By default a book that ships is read in place of yours.",
            show_default=False,
        ),
    ] = None,
    within: Annotated[
        float,
        typer.Option(
            "--within", metavar="SECONDS", min=0.1, help="How long an answer may take: a block of your ledger."
        ),
    ] = 12.0,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", metavar="", help="Stop at the first check that fails.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="CHECK",
            help="Run this check alone, and those named with further --only, while something is being mended.",
            show_default=False,
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Where the certificate goes; must not be there.", show_default=False
        ),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(
            "--verify", metavar="FILE", help="Check a certificate instead, and say what it proves.", show_default=False
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            "--account",
            metavar="ADDRESS",
            help="With --verify: the ledger account that it must be of.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Rehearse your installation before you join: known answers, identities, times, restarts, refusals, an own inquiry.

    Starts a ledger and four reference institutions on this machine, and yours as a process with your configuration, code
    and loan book. Your store, your database and your ledger are not touched; your ledger account signs the certificate, and
    nothing else. Exit status 1 if a check fails; there is no certificate then.

    Example: mpcredit certify --config bank.toml --known known.csv --out certificate.json
    """
    out = Output(json)
    if verify is not None:
        _verify(out, verify, account)
        return
    if account is not None:
        raise InvalidMessage("--account is for --verify", remedy="leave it away, or name a certificate with --verify")
    try:
        from mpcredit.server.certify import certify as rehearse  # the server's libraries, which few commands need
    except ModuleNotFoundError as error:
        from mpcredit.cli._shared import server_missing

        raise server_missing(error) from error

    settings = load(config)
    if out_file is not None and out_file.exists():
        raise InvalidFile(str(out_file), "is there already", "give another name, or move it away first")
    begun = time.monotonic()
    with out.progress() as progress:

        def told(check: Check) -> None:
            progress.line(f"{MARKS[check.outcome]:7}  {check.title}")

        outcome = rehearse(
            settings.path,
            known=known,
            block_seconds=within,
            fail_fast=fail_fast,
            only=only or (),
            ask=ask,
            say=progress.tell,
            tell=told,
        )
    out.table(
        f"Rehearsal of {settings.path}, {time.monotonic() - begun:.0f} s",
        ("check", "outcome", "what was seen"),
        [(check.title, MARKS[check.outcome], check.detail) for check in outcome.checks],
        styles=STYLES,
    )
    certificate = outcome.certificate
    if certificate is not None and out_file is not None:
        write_private(out_file, certificate.to_bytes())
    out.document(
        {
            "passed": outcome.passed,
            "checks": [vars(check) for check in outcome.checks],
            "times": outcome.times,
            "certificate": None
            if certificate is None
            else {"body": dict(certificate.body), "signature": to_hex(certificate.signature)},
        }
    )
    if certificate is None:
        out.steps(
            "Not certified. To be mended:" if outcome.failed else "Not certified: not every check was run.",
            [f"{check.title}: {check.detail}. Remedy: {check.remedy or 'see above'}" for check in outcome.failed],
        )
        raise typer.Exit(1)
    out.say(f"Certified: signed by {certificate.account}" + (f", in {out_file}" if out_file else ""), "bold green")
    if out_file is None and not json:
        out.say(certificate.to_bytes().decode().strip())


def _verify(out: Output, path: Path, account: str | None) -> None:
    """Say what a certificate proves.

    Raises:
        InvalidFile, InvalidProof: it is none, does not verify, or is another account's.
    """
    found = read_certificate(path)
    if account is not None and account.lower() != found.account.lower():
        raise InvalidProof(
            f"it is the certificate of {found.account}, not of {account}", remedy="ask that candidate for its own"
        )
    body = found.body
    remarks = _remarks(body)
    out.facts(
        f"A valid certificate of ledger account {found.account}",
        [
            ("rehearsed", f"{moment(body['finished_at'])}, {duration(int(time.time()) - body['finished_at'])} ago"),
            (
                "package",
                f"{body['package']['name']} {body['package']['version']}, specification {body['specification']}",
            ),
            ("loan book", f"{body['book']['adapter']}, in {body['book']['currency']}"),
            ("known answers", f"{body['book']['known_subjects']} subjects, {body['book']['known']}"),
            ("one subject", _times(body, "one")),
            ("a pack", _times(body, "pack")),
            ("checks", f"{len(body['checks'])}, all passed"),
        ],
    )
    for remark in remarks:
        out.warn(remark)
    out.steps("It proves:", PROVES)
    out.steps("It does not prove:", PROVES_NOT)
    out.document(
        {
            "account": found.account,
            "body": dict(body),
            "remarks": remarks,
            "proves": list(PROVES),
            "proves_not": list(PROVES_NOT),
        }
    )


def _times(body: Any, what: str) -> str:
    found = body["times"][what]
    return (
        f"median {found['median'] / 1000:.1f} s, worst {found['worst'] / 1000:.1f} s of {found['runs']}, "
        f"limit {body['times']['limit'] / 1000:.0f} s"
    )


def _remarks(body: Any) -> list[str]:
    """What is not as with this installation; a certificate of another release is not wrong."""
    found = []
    if body["specification"] != SPEC_VERSION:
        found.append(f"it rehearsed specification {body['specification']}, this package follows {SPEC_VERSION}")
    here = {"Consortium": consortium().bytecode, "JointCredit": joint_credit().bytecode}
    for name, code in here.items():
        if body["contracts"].get(name) != to_hex(keccak(code)):
            found.append(f"its {name} is not the one that ships with this package")
    if body["book"]["known"] == "shipped":
        found.append("the known answers were those that ship: its own loan book was not asked")
    return found
