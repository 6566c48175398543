"""What owner accounts send when a consortium is founded on this machine: `mpcredit up` and `mpcredit certify` do it for all.

In a real consortium each party does its own part: `mpcredit member confirm`, `appoint` and `period-key`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from mpcredit.chain import ChainLedger, ChainSigner
from mpcredit.config import read_config
from mpcredit.events import Call
from mpcredit.ledger.roster import SUPERVISOR
from mpcredit.local import sign_account, sign_key
from mpcredit.server.database import open_database
from mpcredit.server.settings import ServerSettings
from mpcredit.server.store import SqlStore
from mpcredit.storage.mark import FileMark
from mpcredit.tenure import tenure_of

__all__ = ["begin_supervision", "begin_tenure", "confirm_member"]


def begin_supervision(ledger: ChainLedger, owner: LocalAccount, account: str, public: bytes) -> None:
    """Name a supervisor's service account, and announce its first period key (R9, R12).

    Args:
        public: of the period key.
    """
    naming = sign_account(owner, ledger.realm, SUPERVISOR, account)
    _transact(ledger, owner, "nameAccount", SUPERVISOR, account, bytes(32), naming)
    signature = sign_key(owner, ledger.realm, SUPERVISOR, 1, public)
    _transact(ledger, owner, "announcePeriodKey", public, signature)


def confirm_member(
    ledger: ChainLedger, owner: LocalAccount, index: int, public: bytes, account: str, tenure: bytes
) -> None:
    """Confirm a founder's record, with its institution key, its service account and the tenure of its store (R9).

    Args:
        public: of the institution key.
    """
    key = sign_key(owner, ledger.realm, index, 1, public)
    naming = sign_account(owner, ledger.realm, index, account, 1, tenure)
    _transact(ledger, owner, "confirm", index, public, key, account, tenure, naming)


def begin_tenure(config: Path) -> bytes:
    """Make the database that a configuration names; its empty store begins its tenure."""
    database = open_database(ServerSettings.load(config))
    try:
        with SqlStore(database) as store:
            return tenure_of(store, FileMark(read_config(config).mark))
    finally:
        database.close()


def _transact(ledger: ChainLedger, owner: LocalAccount, function: str, *arguments: Any) -> None:
    """Send a call of the Consortium from an owner account, and wait until it is mined."""
    realm = ledger.realm
    signer = ChainSigner(ledger.web3, owner, realm.consortium, chain_id=realm.chain_id)
    signer.transact(Call("consortium", function, arguments))
