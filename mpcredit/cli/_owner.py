"""The owner account, which governs for an institution or a supervisor: opened for one command, from a file of its own.

Its transactions do not go through the store, which belongs to the service account.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from mpcredit.chain import ChainLedger, ChainSigner
from mpcredit.cli._shared import kdf_account_n, write_private
from mpcredit.config import Config, passphrase
from mpcredit.errors import InvalidFile, KeyStoreError, WrongPassphrase
from mpcredit.events import Call

DEFAULT_NAME = "owner-account.json"


def owner_path(config: Config, given: Path | None) -> Path:
    """Where the owner account is kept."""
    return given or config.path.parent / DEFAULT_NAME


def create_account_file(path: Path, *, variable: str = "MPCREDIT_OWNER_PASSPHRASE") -> str:
    """Make an account and write it as an Ethereum JSON keystore.

    Returns:
        Its checksum address.

    Raises:
        KeyStoreError: no passphrase. InvalidFile: the file is there already.
    """
    if path.exists():
        raise InvalidFile(str(path), "is there already", "keys are never overwritten; give another name")
    secret = passphrase(f"choose a passphrase for the account {path}", variable=variable)
    if not secret:
        raise KeyStoreError(f"{path}: the passphrase is empty", remedy="choose one")
    made: LocalAccount = Account.create()
    encrypted = Account.encrypt(made.key, secret, kdf="scrypt", iterations=kdf_account_n())
    write_private(path, json.dumps(encrypted, indent=2).encode() + b"\n")
    return str(made.address)


def open_account_file(path: Path, *, variable: str = "MPCREDIT_OWNER_PASSPHRASE") -> LocalAccount:
    """Open an Ethereum JSON keystore.

    Raises:
        KeyStoreError: it cannot be read, or is none. WrongPassphrase: the passphrase is another one.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KeyStoreError(
            f"{path}: cannot be read as an Ethereum JSON keystore", remedy="name the file of the account"
        ) from error
    if not isinstance(value, dict) or value.get("version") != 3:
        raise KeyStoreError(
            f"{path}: is not an Ethereum JSON keystore of version 3", remedy="export the account in that form"
        )
    secret = passphrase(f"open the account {path}", variable=variable)
    try:
        key = Account.decrypt(value, secret)
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise WrongPassphrase(
                f"{path}: the passphrase does not open it", remedy=f"correct it (environment: {variable}_FILE)"
            ) from error
        raise KeyStoreError(f"{path}: is damaged", remedy="restore it from a backup") from error
    except (KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise KeyStoreError(f"{path}: is damaged", remedy="restore it from a backup") from error
    account: LocalAccount = Account.from_key(key)
    return account


class Owner:
    """The owner account of this party, able to sign and send.

    Args:
        config: the party's configuration.
        given: the file of the account, if not the default one.

    Raises:
        KeyStoreError: there is no such account, or it does not open.
    """

    def __init__(self, config: Config, given: Path | None) -> None:
        path = owner_path(config, given)
        if not path.exists():
            raise KeyStoreError(f"{path}: there is no owner account", remedy="name its file with --owner-account FILE")
        self.account = open_account_file(path)

    @property
    def address(self) -> str:
        """Checksum address."""
        return str(self.account.address)

    def check(self, ledger: ChainLedger, function: str, *arguments: Any) -> None:
        """Ask the node whether the Consortium would take a call now; sends nothing.

        Raises:
            Refused: it would not.
        """
        ledger.call(Call("consortium", function, arguments), sender=self.address)

    def send(self, ledger: ChainLedger, function: str, *arguments: Any) -> int:
        """Call the Consortium and wait until that is mined.

        Returns:
            The number of the block.

        Raises:
            Refused: a rule of the contract said no. LedgerError: it was not mined in time.
        """
        signer = ChainSigner(ledger.web3, self.account, ledger.realm.consortium, chain_id=ledger.realm.chain_id)
        return signer.transact(Call("consortium", function, arguments)).block
