"""Found a consortium from a founding file, through ape's accounts and networks.

    ape run deploy --network ethereum:local:test --account TEST::0 --founding scripts/founding.example.toml
    ape run deploy --network ethereum:consortium:node --account founder --founding founding.toml

Sends two transactions: the creation of the Consortium, and the call that lets it create its JointCredit, both with the
code that ships in mpcredit/artifacts. The account that pays has no right afterwards. `mpcredit deploy` does the same
without ape.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import click
from ape.cli import ConnectedProviderCommand, account_option
from ape.contracts import ContractContainer
from ethpm_types import ContractType
from rich.console import Console
from rich.table import Table

from mpcredit.errors import MpcreditError
from mpcredit.founding import Founding, read_founding


def shipped(name: str) -> ContractContainer:
    """A contract as the package ships it."""
    artifact = json.loads((resources.files("mpcredit") / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))
    return ContractContainer(
        ContractType.model_validate(
            {
                "contractName": name,
                "abi": artifact["abi"],
                "deploymentBytecode": {"bytecode": artifact["bytecode"]},
                "runtimeBytecode": {"bytecode": artifact["deployedBytecode"]},
            }
        )
    )


def deploy(account: Any, founding: Founding) -> Any:
    """Create the Consortium and its JointCredit; return the Consortium."""
    consortium = account.deploy(shipped("Consortium"), founding.constructor_argument())
    init_code = bytes(shipped("JointCredit").contract_type.deployment_bytecode.to_bytes())
    consortium.createJointCredit(init_code, sender=account)
    return consortium


def show(founding: Founding, consortium: Any, chain_id: int) -> None:
    """Print where everything stands and what each party does next."""
    console = Console(width=120)
    places = Table(title=founding.name, title_justify="left", show_header=False)
    places.add_row("chain id", str(chain_id))
    places.add_row("Consortium", consortium.address)
    places.add_row("JointCredit", consortium.jointCredit())
    places.add_row("created in block", str(consortium.creation_metadata.block))
    places.add_row("opens from", utc(founding.opens_from) if founding.opens_from else "at once")
    places.add_row("period of readiness", f"{founding.period_seconds} s")
    console.print(places)

    parties = Table(title="Parties, to be compared with the founding file", title_justify="left")
    for heading in ("index", "party", "owner account"):
        parties.add_column(heading, overflow="fold")
    for index, founder in enumerate(founding.founders):
        parties.add_row(str(index), founder.name, founder.owner)
    for account in founding.supervisors:
        parties.add_row("", "supervisor", account)
    console.print(parties)

    console.print("Next, from owner accounts:")
    console.print("  1. one supervisor: nameAccount for its service account; make a period key, announcePeriodKey")
    console.print("  2. each founder: make an institution key and a tenure, confirm with its first service account")
    console.print("Then from service accounts:")
    console.print("  3. each founder, once all have confirmed: sealMaskKeys")
    console.print("  4. the supervisor: auditOk for each founder whose mask keys agree with the others'")
    console.print("  5. the supervisor, once all are audited: putPeriodKeyInForce")
    console.print("  6. each founder: setReady")
    console.print(f"Inquiries open once {founding.parameters.minimum_cohort} members are confirmed, audited and ready.")


def utc(seconds: int) -> str:
    """Unix seconds as a date and time that people read."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@click.command(cls=ConnectedProviderCommand)
@account_option()
@click.option(
    "--founding",
    "file",
    type=click.Path(path_type=Path),
    required=True,
    help="The founding file; scripts/founding.example.toml shows each line.",
)
def cli(account: Any, file: Path, provider: Any) -> None:
    """Found a consortium from a founding file."""
    try:
        founding = read_founding(file)
    except MpcreditError as error:
        raise click.ClickException(str(error)) from error
    consortium = deploy(account, founding)
    show(founding, consortium, provider.chain_id)
