"""Which party of the consortium this is: by its service account, or by its owner account."""

from __future__ import annotations

import json
from collections.abc import Collection

from eth_utils.address import is_address, to_checksum_address

from mpcredit.cli._access import Access
from mpcredit.config import Config
from mpcredit.encoding import hex_bytes
from mpcredit.errors import InvalidMessage, KeyStoreError, NotYet
from mpcredit.ledger.roster import Member, Roster, Supervisor
from mpcredit.tenure import member_index

ACCOUNT_FILE = "ledger-account.json"


def account_address(config: Config) -> str | None:
    """The ledger account's address, read without a passphrase; None if there is no account."""
    if config.account is not None:
        return config.account
    try:
        value = json.loads((config.keys / ACCOUNT_FILE).read_text(encoding="utf-8"))
        return str(to_checksum_address(value["address"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyStoreError(
            f"{config.keys / ACCOUNT_FILE}: cannot be read", remedy="restore it from a backup"
        ) from error


def service_account(config: Config, owner: str) -> str:
    """The ledger account of this configuration, to be named as service account.

    Args:
        owner: the party's owner account, which must be another one.

    Raises:
        KeyStoreError: there is no ledger account yet. InvalidMessage: it is the owner account.
    """
    found = account_address(config)
    if found is None:
        raise KeyStoreError(f"{config.keys}: the ledger account is missing", remedy="make it with `mpcredit keys new`")
    return apart(found, owner)


def apart(account: str, owner: str) -> str:
    """A service account, which works all day, is another one than the owner account, which is kept offline.

    Raises:
        InvalidMessage: they are one.
    """
    if account == owner:
        raise InvalidMessage(
            f"{account} is the owner account", remedy="name another account; keep the owner account offline"
        )
    return account


def parse_account(text: str, what: str = "") -> str:
    """The checksum address of an account that a person gave.

    Raises:
        InvalidMessage: it is none.
    """
    if not is_address(text):
        raise InvalidMessage(
            f"{what} {text!r} is no account".strip(), remedy="give an address: 0x and 40 hexadecimal digits"
        )
    return str(to_checksum_address(text))


def tenure_at(party: Access) -> bytes:
    """The tenure of this party's store, 32 bytes; an empty store begins one.

    Raises:
        StoreError: a server has the store, and it has no tenure yet.
    """
    known = party.store.get("meta", "tenure") or party.submit({"kind": "tenure"})
    return hex_bytes(known["tenure"], 32)


# --------------------------------------------------------------------- by service account


def member_of_account(
    state: Roster, account: str | None, publics: Collection[bytes] = (), index: int | None = None
) -> Member | None:
    """The member whose service account this is.

    Args:
        publics: institution keys at hand.
        index: of the member that the party's store has worked for (`mpcredit.tenure.member_index`).
    """
    if account is None:
        return None
    return state.member_of(account, lambda member: member.key.public in publics, index)


def own_member(party: Access) -> Member:
    """This institution in the roster, by its service account.

    Raises:
        NotYet: no member has named the ledger account.
    """
    account = account_address(party.config)
    publics, index = party.keys.institution_versions().values(), member_index(party.store)
    found = member_of_account(party.follower.state, account, publics, index)
    if found is None:
        raise NotYet(
            f"the ledger account {account} is no member's service account",
            remedy="the owner names it: `mpcredit member confirm`, later `mpcredit member appoint`",
        )
    return found


def own_supervisor(party: Access) -> Supervisor:
    """This supervisor in the roster, by its service account.

    Raises:
        NotYet: no supervisor has named the ledger account.
    """
    account = account_address(party.config)
    supervisors = party.follower.state.supervisors.values()
    found = next((one for one in supervisors if account is not None and one.account == account), None)
    if found is None:
        raise NotYet(
            f"the ledger account {account} is no supervisor's service account",
            remedy="the supervisor's owner names it: `mpcredit member appoint`",
        )
    return found


# --------------------------------------------------------------------- by owner account


def owned_member(state: Roster, owner: str) -> Member:
    """The member that an account owns.

    Raises:
        InvalidMessage: it owns none.
    """
    found = state.by_owner(owner)
    if found is None:
        raise InvalidMessage(
            f"the account {owner} owns no member of the consortium",
            remedy="check the file of the owner account, and [ledger] consortium in the configuration",
        )
    return found


def owned_supervisor(state: Roster, owner: str) -> Supervisor:
    """The supervisor that an account owns.

    Raises:
        InvalidMessage: it owns none.
    """
    found = state.supervisors.get(owner)
    if found is None:
        raise InvalidMessage(
            f"the account {owner} is not the owner account of a supervisor",
            remedy="check the file of the owner account; the members add a supervisor with `mpcredit propose supervisor`",
        )
    return found
