"""What a supervisor does under `mpcredit member`: its period keys (R12), and its word on members (R11, R32)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mpcredit.cli._access import access, view
from mpcredit.cli._owner import Owner
from mpcredit.cli._parties import own_supervisor, owned_supervisor
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    OwnerOption,
    ask,
    find_member,
    fingerprint,
    load,
    require_role,
)
from mpcredit.cli.keys import next_key
from mpcredit.config import Config, open_keystore
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage
from mpcredit.ledger.roster import SUPERVISOR
from mpcredit.local import sign_key
from mpcredit.state import LedgerState

MemberArgument = Annotated[str, typer.Argument(metavar="MEMBER", help="Index or name of the member.")]
EitherOption = Annotated[
    Path | None,
    typer.Option(
        "--owner-account",
        metavar="FILE",
        help="Send it from this owner account, an Ethereum JSON keystore; by default the service account sends it.",
        show_default=False,
    ),
]


def period_key(owner_account: OwnerOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Announce the supervisor's key for the next period from its owner account: its first, or the one that follows.

    At most once in 24 hours. People at each member compare its fingerprint and accept it; version 1 of a supervisor of the
    founding file needs nobody. The service puts it in force when every member that is not suspended is audited for it, or
    after 7 days. The old key is kept until `mpcredit keys destroy supervisor VERSION`.

    Example: mpcredit member period-key --config supervisor/mpcredit.toml
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    keys = open_keystore(settings, ask)
    keys.unlock()
    acting = Owner(settings, owner_account)
    with view(settings) as read:
        state = read.follower.state
        owned_supervisor(state, acting.address)
        newest = max(state.period_keys, default=0)
        previous = state.period_keys[newest].public if newest else bytes(32)
        version = newest + 1
        registered = {key.public for key in state.period_keys.values()}
        public = next_key(keys.supervisor_versions(), registered, version) or keys.create_supervisor_key(version).public
        keys.institution_key(public)
        signature = sign_key(acting.account, state.realm, SUPERVISOR, version, public, previous)
        block = acting.send(read.ledger, "announcePeriodKey", public, signature)
    out.facts(
        f"Announced period key {version} in block {block}",
        [("public key", to_hex(public)), ("fingerprint", fingerprint(public))],
    )
    if version > 1:
        out.say(
            f"Read the fingerprint to each member by another channel; there: mpcredit member accept-period-key {version}"
        )
    out.document({"version": version, "public": to_hex(public), "fingerprint": fingerprint(public), "block": block})


def end_period_key(
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Of the period key, whichever supervisor's.")],
    owner_account: EitherOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """End an announced period key, or the one in force, at once (supervisor).

    Nothing opens until another key is in force, and nobody answers under the ended one any more. Its private half may have
    been read: announce the next one (`mpcredit member period-key`).

    Example: mpcredit member end-period-key 2
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    block = _either(settings, owner_account, "endPeriodKey", lambda _state: version)
    out.say(f"Period key {version} is ended, from block {block} on")
    out.document({"version": version, "ended": True, "block": block})


def _either(settings: Config, owner_account: Path | None, function: str, argument: Any) -> int:
    """Send a call that a supervisor's service account may send, and its owner account too.

    Args:
        argument: turns the state into what the call is about.

    Returns:
        The number of the block.
    """
    if owner_account is not None:
        acting = Owner(settings, owner_account)
        with view(settings) as read:
            supervisor = owned_supervisor(read.follower.state, acting.address)
            return acting.send(read.ledger, function, supervisor.owner, argument(read.follower.state))
    with access(settings) as party:
        supervisor = own_supervisor(party)
        return party.post(function, supervisor.owner, argument(party.follower.state)).block or 0


def audit(member: MemberArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Let a member serve with its newest key (supervisor). `mpcredit watch` does it by itself when the mask keys agree.

    It is audited for each period key of this supervisor, in force or announced, for which it is not yet. By hand it decides
    for a member that the mask audit has left out (R11.6).

    Example: mpcredit member audit "Bank A"
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    with access(settings) as party:
        state = party.follower.state
        supervisor, found = own_supervisor(party), find_member(state, member)
        periods = _own_periods(state, supervisor.owner)
        due = [period for period in periods if found.audited.get(period) != found.key.version]
        if not due:
            raise InvalidMessage(
                f"{found.name} is audited already" if periods else "you have no period key in force or announced",
                remedy="nothing is left to do" if periods else "announce one: `mpcredit member period-key`",
            )
        rows = [party.post("auditOk", supervisor.owner, found.index, found.key.version, period) for period in due]
    told = ", ".join(map(str, due))
    out.say(
        f"{found.name} is audited with key {found.key.version} under period key {told}, from block {rows[-1].block} on"
    )
    out.document({"member": found.index, "name": found.name, "periods": due, "block": rows[-1].block})


def _own_periods(state: LedgerState, owner: str) -> list[int]:
    versions = [version for version in (state.in_force, state.announced_key) if version is not None]
    return [version for version in versions if state.period_keys[version].supervisor == owner]


def suspend(
    member: MemberArgument,
    owner_account: EitherOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Keep a member out of new cohorts, at once (supervisor).

    Example: mpcredit member suspend "Bank C"
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    found = None

    def index(state: LedgerState) -> int:
        nonlocal found
        found = find_member(state, member)
        return found.index

    block = _either(settings, owner_account, "suspend", index)
    assert found is not None
    out.say(f"{found.name} is suspended, from block {block} on")
    out.document({"member": found.index, "name": found.name, "suspended": True, "block": block})


def reinstate(
    member: MemberArgument,
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Let a suspended member serve again, from the supervisor's owner account.

    Example: mpcredit member reinstate "Bank C"
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    acting = Owner(settings, owner_account)
    with view(settings) as read:
        owned_supervisor(read.follower.state, acting.address)
        found = find_member(read.follower.state, member)
        block = acting.send(read.ledger, "reinstate", found.index)
    out.say(f"{found.name} is reinstated, from block {block} on")
    out.document({"member": found.index, "name": found.name, "suspended": False, "block": block})
