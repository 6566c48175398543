"""mpcredit member: who belongs to the consortium, this institution's own record, and the supervisor's word on members."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from eth_utils.address import is_address, to_checksum_address

from mpcredit.cli._access import View, access, view
from mpcredit.cli._owner import Owner
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    OwnerOption,
    ask,
    duration,
    find_member,
    fingerprint,
    load,
    moment,
    require_role,
)
from mpcredit.cli.keys import account_address, next_key, own_member
from mpcredit.config import open_keystore
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage
from mpcredit.ledger.roster import SUPERVISOR, Member
from mpcredit.local import sign_key

app = typer.Typer(help="Members of the consortium, and this institution's own record.", no_args_is_help=True)

MemberArgument = Annotated[str, typer.Argument(metavar="MEMBER", help="Index or name of the member.")]
STYLES = {"yes": "green", "no": "red", "PIN IT": "bold red", "suspended": "bold red", "removed": "dim"}


def describe(member: Member, read: View) -> dict[str, Any]:
    """A member for programs."""
    signer = member.signed_by[member.key.version] if member.keys else member.owner
    return {
        "index": member.index,
        "name": member.name,
        "owner": member.owner,
        "operators": sorted(member.operators),
        "confirmed": member.confirmed,
        "removed": member.removed,
        "suspended": member.suspended,
        "audited": bool(member.keys) and member.audited_version == member.key.version,
        "serving": member.serving,
        "ready_until": member.ready_until,
        "ready": member.serving and member.ready_until > read.follower.now,
        "key_version": member.key.version if member.keys else 0,
        "key": to_hex(member.key.public) if member.keys else None,
        "fingerprint": fingerprint(member.key.public) if member.keys else None,
        "pinned": read.follower.pins.accepts_owner(member.index, signer),
    }


@app.command("list")
def list_(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the members: who serves, until when each is ready, and the fingerprints of their keys.

    Compare fingerprints by another channel. A member whose owner account is not pinned is not answered, and its inquiries
    neither.

    Example: mpcredit member list
    """
    settings, out = load(config), Output(json)
    with view(settings) as read:
        state, now = read.follower.state, read.follower.now
        members = [describe(member, read) for member in state.members.values()]
        own = account_address(settings)
        key = state.supervisor_key
        supervisors = [
            {"account": account, "pinned": read.follower.pins.accepts_supervisor(account)}
            for account in sorted(state.supervisors)
        ]
    rows = []
    for m in members:
        standing = "removed" if m["removed"] else "suspended" if m["suspended"] else "yes" if m["serving"] else "no"
        ready = f"{duration(m['ready_until'] - now)} more" if m["ready"] else "no"
        rows.append(
            (
                m["index"],
                m["name"] + ("  (you)" if own in m["operators"] else ""),
                standing,
                "yes" if m["audited"] else "no",
                ready,
                f"v{m['key_version']}  {m['fingerprint']}" if m["fingerprint"] else "not confirmed yet",
                "yes" if m["pinned"] else "PIN IT",
            )
        )
    out.table(
        f"{read.ledger.name}: members at {moment(now)}",
        ["index", "name", "serving", "audited", "ready", "key fingerprint", "pinned"],
        rows,
        right=["index"],
        styles=STYLES,
    )
    for supervisor in supervisors:
        holds = key is not None and key.account == supervisor["account"]
        text = f"supervisor {supervisor['account']}, {'pinned' if supervisor['pinned'] else 'NOT PINNED'}"
        if holds and key is not None:
            text += f", key v{key.version}  {fingerprint(key.public)}"
        out.say(text)
    if key is None:
        out.say("the supervisor has not registered its key yet", "yellow")
    out.document(
        {
            "consortium": read.ledger.name,
            "at": now,
            "members": members,
            "supervisors": supervisors,
            "supervisor_key": None
            if key is None
            else {
                "version": key.version,
                "public": to_hex(key.public),
                "fingerprint": fingerprint(key.public),
                "account": key.account,
            },
        }
    )


@app.command()
def confirm(owner_account: OwnerOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Confirm this institution's record from its owner account, with its first institution key.

    Founders do this after the deployment, invited institutions after their proposal was executed.

    Example: mpcredit member confirm --owner-account owner-account.json
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    keys = open_keystore(settings, ask)
    keys.unlock()
    acting = Owner(settings, owner_account)
    with view(settings) as read:
        state = read.follower.state
        member = own_member(acting.account.address, state.members)
        if member.confirmed:
            raise InvalidMessage(f"{member.name} has confirmed its record already", remedy="see `mpcredit member list`")
        registered = {key.public for m in state.members.values() for key in m.keys.values()}
        public = next_key(keys.institution_versions(), registered, 1) or keys.create_institution_key(1).public
        keys.institution_key(public)
        signature = sign_key(acting.account, state.realm, member.index, 1, public)
        block = acting.send(read.ledger, "confirm", member.index, public, signature)
        operator = account_address(settings)
        if operator not in member.operators:
            out.warn(
                f"the ledger account {operator} of this configuration is no operator of {member.name}: allow it with "
                f"`mpcredit member operator {operator} --allow`"
            )
    out.facts(
        f"{member.name} (member {member.index}) is confirmed, in block {block}",
        [("institution key 1", to_hex(public)), ("fingerprint", fingerprint(public))],
    )
    out.say("Next: mpcredit answer (it seals the mask keys; after the supervisor's audit it declares itself ready)")
    out.document(
        {
            "member": member.index,
            "name": member.name,
            "public": to_hex(public),
            "fingerprint": fingerprint(public),
            "block": block,
        }
    )


@app.command()
def operator(
    account: Annotated[str, typer.Argument(metavar="ADDRESS", help="The account.")],
    allow: Annotated[
        bool, typer.Option("--allow/--forbid", metavar="", help="Whether it may act for this institution.")
    ] = True,
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Allow or forbid an operator account, which runs inquiries for this institution.

    Example: mpcredit member operator 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --allow
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    address = _address(account)
    acting = Owner(settings, owner_account)
    with view(settings) as read:
        member = own_member(acting.account.address, read.follower.state.members)
        block = acting.send(read.ledger, "setOperator", member.index, address, allow)
    out.say(f"{address} {'may' if allow else 'may not'} act for {member.name} from block {block} on")
    out.document({"member": member.index, "operator": address, "allowed": allow, "block": block})


def _address(text: str) -> str:
    if not is_address(text):
        raise InvalidMessage(f"{text!r} is no account", remedy="give an address: 0x and 40 hexadecimal digits")
    return str(to_checksum_address(text))


@app.command()
def pin(
    who: Annotated[
        str, typer.Argument(metavar="MEMBER|supervisor", help="Index or name of a member, or the word supervisor.")
    ],
    account: Annotated[str, typer.Argument(metavar="ADDRESS", help="Its owner account, as it told you itself.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Accept an account as a member's owner (or as a supervisor), after comparing it by another channel.

    Those of the founding file are accepted from the start. Keys signed by any other account are not used, whatever the
    ledger's node says.

    Example: mpcredit member pin "Bank E" 0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65
    """
    settings, out = load(config), Output(json)
    address = _address(account)
    with access(settings) as party:
        state = party.follower.state
        if who == "supervisor":
            if address not in state.supervisors:
                raise InvalidMessage(
                    f"{address} is no supervisor on this ledger",
                    remedy=f"they are: {', '.join(sorted(state.supervisors))}",
                )
            key = state.supervisor_key
            item: dict[str, Any] = {"kind": "pin", "role": "supervisor", "member": SUPERVISOR, "account": address}
            name, public = "the supervisor", key.public if key is not None and key.account == address else None
        else:
            member = find_member(state, who)
            if address not in {member.owner, *member.signed_by.values()}:
                raise InvalidMessage(
                    f"the owner of {member.name} on this ledger is {member.owner}, not {address}",
                    remedy="ask the institution itself; if it confirms your account, this node shows you another ledger",
                )
            item = {"kind": "pin", "role": "owner", "member": member.index, "account": address}
            name, public = member.name, member.key.public if member.keys else None
        party.submit(item)
    out.say(f"{address} is accepted for {name}")
    if public is not None:
        out.facts("Compare its key by another channel", [("fingerprint", fingerprint(public))])
    out.document({"pinned": address, "for": name, "fingerprint": fingerprint(public) if public else None})


# --------------------------------------------------------------------- the supervisor's


@app.command("supervisor-key")
def supervisor_key(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Register the supervisor's key for the next period: its first, or the one that follows.

    Inquiries use the key in force when they opened, and members seal their mask keys anew by themselves. The old key is
    kept until `mpcredit keys destroy supervisor VERSION`.

    Example: mpcredit member supervisor-key --config supervisor/mpcredit.toml
    """
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    with access(settings) as party:
        party.keys.unlock()
        state = party.follower.state
        current = state.supervisor_key
        version = current.version + 1 if current else 1
        registered = {key.public for key in state.supervisor_keys.values()}
        public = (
            next_key(party.keys.supervisor_versions(), registered, version)
            or party.keys.create_supervisor_key(version).public
        )
        party.keys.institution_key(public)
        account = party.keys.account()
        signature = sign_key(
            account, state.realm, SUPERVISOR, version, public, current.public if current else bytes(32)
        )
        row = party.post("rotateSupervisorKey", public, signature)
    out.facts(
        f"Registered supervisor key {version} in block {row.block}",
        [("public key", to_hex(public)), ("fingerprint", fingerprint(public))],
    )
    out.document({"version": version, "public": to_hex(public), "fingerprint": fingerprint(public), "block": row.block})


app.command("rotate-supervisor-key", hidden=True)(supervisor_key)


def _supervisor_does(
    member: str, function: str, done: str, config: Any, json: bool, *, versioned: bool = False
) -> None:
    settings, out = load(config), Output(json)
    require_role(settings, "supervisor")
    with access(settings) as party:
        found = find_member(party.follower.state, member)
        arguments = (found.index, found.key.version) if versioned else (found.index,)
        row = party.post(function, *arguments)
    out.say(f"{found.name} is {done}, from block {row.block} on")
    out.document({"member": found.index, "name": found.name, "done": function, "block": row.block})


@app.command()
def audit(member: MemberArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Let a member serve under its current key (supervisor). `mpcredit watch` does it by itself when the mask keys agree.

    Example: mpcredit member audit "Bank A"
    """
    _supervisor_does(member, "auditOk", "audited", config, json, versioned=True)


@app.command()
def suspend(member: MemberArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Keep a member out of new cohorts, at once (supervisor).

    Example: mpcredit member suspend "Bank C"
    """
    _supervisor_does(member, "suspend", "suspended", config, json)


@app.command()
def reinstate(member: MemberArgument, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Let a suspended member serve again (supervisor).

    Example: mpcredit member reinstate "Bank C"
    """
    _supervisor_does(member, "reinstate", "reinstated", config, json)
