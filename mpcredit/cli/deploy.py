"""mpcredit deploy: put a consortium on a ledger from its founding file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from eth_account import Account
from eth_account.signers.local import LocalAccount

from mpcredit.chain import Wallet, connect
from mpcredit.chain import deploy as deploy_contracts
from mpcredit.chain.transactions import creation_address
from mpcredit.cli._owner import open_account_file
from mpcredit.cli._shared import ConfigOption, JsonOption, Output, load
from mpcredit.errors import InvalidMessage, KeyStoreError, LedgerError
from mpcredit.founding import Founding, read_founding


def deploy(
    founding: Annotated[
        Path, typer.Argument(metavar="FOUNDING", help="The founding file (scripts/founding.example.toml).")
    ],
    account: Annotated[
        Path | None,
        typer.Option(
            "--account",
            metavar="FILE",
            help="Ethereum JSON keystore of an account with funds. Its passphrase: MPCREDIT_ACCOUNT_PASSPHRASE, a file in "
            "MPCREDIT_ACCOUNT_PASSPHRASE_FILE, or asked.",
            show_default=False,
        ),
    ] = None,
    account_key_env: Annotated[
        str | None,
        typer.Option(
            "--account-key-env",
            metavar="NAME",
            help="Environment variable with the account's private key; for chains of tests.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="The ledger's node; by default of the configuration.", show_default=False
        ),
    ] = None,
    chain_id: Annotated[
        int | None,
        typer.Option(
            "--chain-id", metavar="N", help="The chain it must be; by default of the configuration.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Create the consortium's contracts from the founding file.

    Two transactions: the Consortium, then its JointCredit, both with the code that ships with this version. The account
    that pays has no right afterwards. Needs no compiler.

    Example: mpcredit deploy founding.toml --account funded.json --url http://127.0.0.1:8545 --chain-id 31337
    """
    out = Output(json)
    terms = read_founding(founding)
    tls = None
    if url is None or chain_id is None:
        settings = load(config)
        url, chain_id, tls = url or settings.url, chain_id or settings.chain_id, settings.tls
    payer = _payer(account, account_key_env)
    web3 = connect(url, tls=tls)
    wallet = Wallet(web3, payer, chain_id=chain_id)
    if wallet.balance() == 0 and web3.eth.gas_price != 0:
        raise LedgerError(
            f"the account {wallet.address} has no funds on chain {chain_id}", remedy="fund it; nothing was sent"
        )
    expected = creation_address(wallet.address, wallet.nonce(pending=True))
    out.note(f"deploying {terms.name!r} from {wallet.address}; the Consortium will be at {expected}")
    made = deploy_contracts(web3, payer, terms.constructor_argument(), chain_id=chain_id)
    out.facts(
        f"{terms.name} is on chain {made.chain_id}",
        [
            ("Consortium", made.consortium),
            ("JointCredit", made.joint_credit),
            ("created in block", made.first_block),
            ("gas used", f"{made.gas_used:,}"),
        ],
    )
    out.say()
    out.say("Everybody writes into the configuration:", "bold")
    out.say(
        f'  [ledger]\n  chain_id = {made.chain_id}\n  consortium = "{made.consortium}"\n  first_block = {made.first_block}'
    )
    out.say()
    _parties(out, terms)
    out.say()
    out.steps("Next, each from its own machine", next_steps(terms))
    out.document(
        {
            "name": terms.name,
            "chain_id": made.chain_id,
            "consortium": made.consortium,
            "joint_credit": made.joint_credit,
            "first_block": made.first_block,
            "gas_used": made.gas_used,
            "next": next_steps(terms),
        }
    )


def _payer(account: Path | None, variable: str | None) -> LocalAccount:
    if (account is None) == (variable is None):
        raise InvalidMessage("no account to pay with", remedy="give one of --account FILE, --account-key-env NAME")
    if account is not None:
        return open_account_file(account, variable="MPCREDIT_ACCOUNT_PASSPHRASE")
    assert variable is not None
    try:
        found: LocalAccount = Account.from_key(os.environ[variable])
    except KeyError as error:
        raise KeyStoreError(
            f"the environment has no {variable}", remedy="set it to the account's private key"
        ) from error
    except Exception:  # eth_account raises several kinds; their messages may repeat the key
        raise KeyStoreError(
            f"{variable} holds no private key", remedy="set it to 0x and 64 hexadecimal digits"
        ) from None
    return found


def _parties(out: Output, terms: Founding) -> None:
    rows = [(index, founder.name, founder.owner) for index, founder in enumerate(terms.founders)]
    out.table(
        "Parties, to be compared with the founding file",
        ["index", "party", "owner account"],
        [*rows, *(("", "supervisor", account) for account in terms.supervisors)],
        right=["index"],
    )


def next_steps(terms: Founding) -> list[str]:
    """What the parties do after a deployment."""
    return [
        "supervisor: mpcredit member appoint and mpcredit member period-key (owner account), then mpcredit watch",
        "each founder: mpcredit member confirm (owner account), then mpcredit answer, which seals its mask keys",
        "each founder compares the others' key fingerprints with them: mpcredit member list",
        f"when {terms.parameters.minimum_cohort} members are audited and ready: mpcredit inquire",
    ]
