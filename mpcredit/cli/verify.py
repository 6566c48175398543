"""mpcredit verify: check a file of evidence, without a ledger or against it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from mpcredit.amounts import Money
from mpcredit.cli._access import read_store
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load
from mpcredit.config import Config, ledger_of, pins_of
from mpcredit.encoding import hex_bytes, keccak, to_hex
from mpcredit.errors import InvalidFile, InvalidMessage, MpcreditError, ProtocolViolation
from mpcredit.events import Event
from mpcredit.evidence import Evidence, VerifiedEvidence, verify_evidence
from mpcredit.follower import Follower
from mpcredit.ledger.roster import Pins
from mpcredit.schema import Schema
from mpcredit.state import Inquiry


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that `mpcredit evidence` wrote.")],
    consortium: Annotated[
        str | None,
        typer.Option(
            "--consortium", metavar="ADDRESS", help="The address that you know by another channel.", show_default=False
        ),
    ] = None,
    ledger: Annotated[
        bool,
        typer.Option(
            "--ledger",
            metavar="",
            help="Also ask your node: each transaction is on the ledger and succeeded (needs --config).",
        ),
    ] = False,
    roster: Annotated[
        str | None,
        typer.Option(
            "--roster",
            metavar="HEX",
            help="A roster that you know from the ledger, at the opening or later (`roster` of the Consortium).",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Check who signed what, the product, the opening and the totals; name who lied.

    Anybody can found a consortium of his own, and anybody can write a history of members under your consortium's address.
    Compare with what a forger cannot write: --ledger asks your node; --roster is a value that somebody you trust read from
    his; a configuration (--config, or the one that is found) gives the accounts of the founding file and asks nobody. With
    none of them only the consistency of the file is checked, and the command says so.

    Example: mpcredit verify inquiry.json --ledger
    """
    out = Output(json)
    evidence = Evidence.load(file)
    settings = load(config) if config is not None or ledger else _at_hand(consortium)
    pins = _pins(settings) if settings is not None else None
    address = consortium or (settings.consortium if settings is not None else None)
    known = {hex_bytes(roster, 32)} if roster is not None else None
    follower: Follower | None = None
    if ledger and settings is not None:
        follower = Follower(ledger_of(settings))
        follower.sync()
        rosters = {change.roster for change in follower.state.roster_history}
        if known is not None and not known <= rosters:
            raise InvalidMessage("the ledger has not had the roster that you gave", remedy="ask where it is from")
        known = rosters
    proved = verify_evidence(evidence, consortium=address, roster=known, pins=pins)
    if settings is not None and proved.realm.chain_id != settings.chain_id:
        raise InvalidMessage(
            f"the evidence is of chain {proved.realm.chain_id}, your consortium of chain {settings.chain_id}",
            remedy="ask for evidence of the consortium that you know",
        )
    blocks = _look_up(evidence, follower.state.inquiries.get(proved.inquiry)) if follower is not None else []
    schema = Schema.parse(str(evidence.value["schema"]).encode())
    heads = [part.name.replace("_", " ") for part in schema.fields]
    if proved.authentic:
        out.say("The evidence holds.", "bold green")
    else:
        out.say("ONLY CONSISTENT IN ITSELF: anybody can write such a file.", "bold red")
        out.warn(
            f"nothing shows that this is evidence of your consortium. Compare the address {proved.realm.consortium} with the "
            f"one you know, and the roster {to_hex(proved.roster)} with those that the Consortium has had: --ledger with "
            "your configuration, or --roster with a value that somebody you trust read from the ledger"
        )
    out.facts(
        "",
        [
            ("inquiry", to_hex(proved.inquiry)),
            ("inquirer", proved.inquirer),
            ("over", ", ".join(proved.institutions)),
            ("consortium", f"{proved.realm.consortium} on chain {proved.realm.chain_id}"),
            ("address", "compared" if "consortium" in proved.compared else "NOT COMPARED: as in the file"),
            ("members", _compared(proved, follower is not None)),
            ("roster", to_hex(proved.roster)),
            ("attested", "yes, by a supervisor's signature" if proved.attested else "no verdict in the file"),
            ("on the ledger", f"blocks {min(blocks)} to {max(blocks)}" if blocks else "not looked up (--ledger)"),
        ],
    )
    out.table(
        f"Totals, in {proved.currency}",
        ["subject", *heads],
        [
            (
                number,
                *(
                    str(Money.of_minor(record[part.name], proved.currency)).removesuffix(f" {proved.currency}")
                    if part.kind == "amount"
                    else record[part.name]
                    for part in schema.fields
                ),
            )
            for number, record in enumerate(proved.totals, start=1)
        ],
        right=["subject", *heads],
    )
    out.document(
        {
            "inquiry": to_hex(proved.inquiry),
            "inquirer": proved.inquirer,
            "institutions": list(proved.institutions),
            "chain_id": proved.realm.chain_id,
            "consortium": proved.realm.consortium,
            "roster": to_hex(proved.roster),
            "compared": list(proved.compared),
            "authentic": proved.authentic,
            "currency": proved.currency,
            "totals": proved.totals,
            "attested": proved.attested,
            "blocks": blocks,
        }
    )


def _at_hand(consortium: str | None) -> Config | None:
    """The configuration that other commands would use, if there is one and it is of the consortium that was named."""
    try:
        found = load(None)
    except InvalidFile:
        return None
    same = consortium is None or consortium.lower() == (found.consortium or "").lower()
    return found if same else None


def _pins(settings: Config) -> Pins | None:
    """Accounts of the founding file, and those pinned in the store where it can be read."""
    if settings.founding is None:
        return None
    founded = pins_of(settings)
    try:
        with closing(read_store(settings)) as store:
            return pins_of(settings, store)
    except MpcreditError:
        return founded


def _look_up(evidence: Evidence, inquiry: Inquiry | None) -> list[int]:
    """The blocks in which the transactions of the file are: those of the inquiry's events, which need no index of a node.

    Args:
        inquiry: as the ledger shows it.

    Raises:
        ProtocolViolation: one is not there, or failed.
    """
    transactions = evidence.value["transactions"]
    raws = [transactions["open"], *transactions["contribute"], transactions["report"]]
    raws += [transactions["attest"]] if transactions.get("attest") else []
    found: list[Event | None] = []
    if inquiry is not None:
        found = [inquiry.opened, *inquiry.contributions.values(), inquiry.report, inquiry.verdict]
    there = {event.at.transaction: event.at.block for event in found if event is not None}
    names = [keccak(hex_bytes(raw, None)) for raw in raws]
    for name in names:
        if name not in there:
            raise ProtocolViolation(
                f"transaction {to_hex(name)} of the evidence is not on the ledger, or failed there",
                remedy="ask for the file again; if your node is behind, wait",
            )
    return [there[name] for name in names]


def _compared(proved: VerifiedEvidence, ledger: bool) -> str:
    """With what the history of members was compared."""
    if "roster" in proved.compared:
        return "as on the ledger" if ledger else "as the roster that you gave names them"
    return "signing accounts as in the founding file" if proved.authentic else "NOT COMPARED: as in the file"
