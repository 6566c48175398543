"""mpcredit verify: check a file of evidence, without a ledger or against it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpcredit.amounts import Money
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load
from mpcredit.config import ledger_of
from mpcredit.encoding import hex_bytes, keccak, to_hex
from mpcredit.errors import ProtocolViolation
from mpcredit.evidence import Evidence, verify_evidence
from mpcredit.schema import Schema


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
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Check who signed what, the product, the opening and the totals; name who lied.

    Without --consortium or --ledger it proves the totals to whoever trusts the address in the file: anybody can found a
    consortium of his own.

    Example: mpcredit verify inquiry.json --consortium 0x5FbDB2315678afecb367f032d93F642f64180aa3
    """
    out = Output(json)
    evidence = Evidence.load(file)
    blocks: list[int] = []
    known = consortium
    if ledger:
        settings = load(config)
        node = ledger_of(settings)
        known = known or node.realm.consortium
    proved = verify_evidence(evidence, consortium=known)
    if ledger:
        transactions = evidence.value["transactions"]
        raws = [transactions["open"], *transactions["contribute"], transactions["report"]]
        raws += [transactions["attest"]] if transactions.get("attest") else []
        for raw in raws:
            name = keccak(hex_bytes(raw, None))
            outcome = node.outcome(name)
            if outcome is None:
                raise ProtocolViolation(
                    f"transaction {to_hex(name)} of the evidence is not on the ledger",
                    remedy="ask for the file again; if your node is behind, wait",
                )
            if not outcome.succeeded:
                raise ProtocolViolation(
                    f"transaction {to_hex(name)} of the evidence failed on the ledger", remedy="it proves nothing"
                )
            blocks.append(outcome.block)
    schema = Schema.parse(str(evidence.value["schema"]).encode())
    heads = [part.name.replace("_", " ") for part in schema.fields]
    out.say("The evidence holds.", "bold green")
    out.facts(
        "",
        [
            ("inquiry", to_hex(proved.inquiry)),
            ("inquirer", proved.inquirer),
            ("over", ", ".join(proved.institutions)),
            ("consortium", f"{proved.realm.consortium} on chain {proved.realm.chain_id}"),
            (
                "address",
                "as you gave it"
                if consortium
                else "of your configuration"
                if ledger
                else "NOT COMPARED: as in the file",
            ),
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
            "consortium_compared": known is not None,
            "currency": proved.currency,
            "totals": proved.totals,
            "attested": proved.attested,
            "blocks": blocks,
        }
    )
