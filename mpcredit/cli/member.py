"""mpcredit member: who belongs to the consortium, and which accounts and keys this party accepts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mpcredit.cli import _accounts, _supervision
from mpcredit.cli._access import View, access, view
from mpcredit.cli._founding import require_creation, require_founding
from mpcredit.cli._parties import account_address, parse_account
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    agree,
    find_member,
    fingerprint,
    load,
    moment,
    require_role,
)
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage
from mpcredit.ledger.roster import SUPERVISOR, Member, PeriodKey, Supervisor
from mpcredit.state import LedgerState

app = typer.Typer(help="Members and supervisors of the consortium, their accounts and keys.", no_args_is_help=True)

STYLES = {"yes": "green", "no": "red", "PIN IT": "bold red", "suspended": "bold red", "removed": "dim"}


def describe(member: Member, read: View) -> dict[str, Any]:
    """A member for programs."""
    state = read.follower.state
    key = member.key if member.keys else None
    serving = state.serving_key(member.index)
    return {
        "index": member.index,
        "name": member.name,
        "owner": member.owner,
        "account": member.account,
        "namings": len(member.namings),
        "since": member.since,
        "tenure": to_hex(member.tenure) if member.tenure else None,
        "confirmed": member.confirmed,
        "removed": member.removed,
        "suspended": member.suspended,
        "audited": serving is not None and serving == key,
        "serving": serving is not None,
        "serving_version": serving.version if serving else 0,
        "ready": _is_ready(state.ready(read.follower.next_time), member),
        "ready_next": _is_ready(state.ready_next(), member),
        "key_version": key.version if key else 0,
        "key": to_hex(key.public) if key else None,
        "fingerprint": fingerprint(key.public) if key else None,
        "pinned": read.follower.pins.accepts_owner(
            member.index, member.signed_by[key.version] if key else member.owner
        ),
    }


def _is_ready(bitmap: int, member: Member) -> bool:
    return bool(bitmap >> member.index & 1)


def _supervisor(supervisor: Supervisor, read: View) -> dict[str, Any]:
    return {
        "owner": supervisor.owner,
        "account": supervisor.account,
        "pinned": read.follower.pins.accepts_supervisor(supervisor.owner),
        "voided_unnamed": read.follower.state.voided_unnamed[supervisor.owner],
    }


def describe_period_key(key: PeriodKey, read: View) -> dict[str, Any]:
    """A period key for programs."""
    return {
        "version": key.version,
        "public": to_hex(key.public),
        "fingerprint": fingerprint(key.public),
        "supervisor": key.supervisor,
        "announced_at": key.announced_at,
        "accepted": read.follower.pins.accepts_period_key(key),
    }


def _period_keys(read: View) -> dict[str, dict[str, Any] | None]:
    state = read.follower.state
    places = {"in_force": state.in_force, "announced": state.announced_key}
    return {
        name: None if version is None else describe_period_key(state.period_keys[version], read)
        for name, version in places.items()
    }


@app.command("list")
def list_(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the members: who serves, who is ready, and the fingerprints of their keys; then supervisors and period keys.

    Compare fingerprints by another channel. A member whose owner account is not pinned is not answered, and its inquiries
    neither. Nothing is sealed to a period key that you have not accepted.

    Example: mpcredit member list
    """
    settings, out = load(config), Output(json)
    with view(settings) as read:
        state, now = read.follower.state, read.follower.now
        members = [describe(member, read) for member in state.members.values()]
        supervisors = [_supervisor(one, read) for _, one in sorted(state.supervisors.items())]
        keys = _period_keys(read)
        own = account_address(settings)
    out.table(
        f"{read.ledger.name}: members at {moment(now)}",
        ["index", "name", "serving", "ready", "service account", "key fingerprint", "pinned"],
        [_row(member, own) for member in members],
        right=["index"],
        styles=STYLES,
    )
    for supervisor in supervisors:
        pinned = "pinned" if supervisor["pinned"] else "NOT PINNED"
        account = supervisor["account"] or "none is named"
        out.say(f"supervisor {supervisor['owner']}, {pinned}; service account: {account}")
        if voided := supervisor["voided_unnamed"]:
            out.say(f"  it voided inquiries without naming anybody: {voided}", "yellow")
    _tell_period_keys(out, keys)
    if state.opens_from > now:
        out.say(f"nothing opens before {moment(state.opens_from)}", "yellow")
    out.document(
        {
            "consortium": read.ledger.name,
            "at": now,
            "opens_from": state.opens_from,
            "period_seconds": state.period_seconds,
            "members": members,
            "supervisors": supervisors,
            "period_keys": keys,
        }
    )


def _row(m: dict[str, Any], own: str | None) -> tuple[object, ...]:
    standing = "removed" if m["removed"] else "suspended" if m["suspended"] else "yes" if m["serving"] else "no"
    ready = {
        (True, True): "yes",
        (True, False): "until the next period",
        (False, True): "from the next period",
        (False, False): "no",
    }[m["ready"], m["ready_next"]]
    key = f"v{m['key_version']}  {m['fingerprint']}" if m["fingerprint"] else "not confirmed yet"
    if m["serving_version"] and not m["audited"]:
        key += f"  (cohorts use v{m['serving_version']} until its audit)"
    return (
        m["index"],
        m["name"] + ("  (you)" if own is not None and own == m["account"] else ""),
        standing,
        ready,
        f"{m['account'][:6]}…{m['account'][-4:]}" if m["account"] else "none",
        key,
        "yes" if m["pinned"] else "PIN IT",
    )


def _tell_period_keys(out: Output, keys: dict[str, dict[str, Any] | None]) -> None:
    for place, key in keys.items():
        if key is None:
            if place == "in_force":
                out.say("no period key is in force: nothing opens", "yellow")
            continue
        accepted = "accepted" if key["accepted"] else "NOT ACCEPTED"
        word = "in force" if place == "in_force" else f"announced at {moment(key['announced_at'])}"
        out.say(f"period key v{key['version']}, {word}, {accepted}: {key['fingerprint']}")


# --------------------------------------------------------------------- what this party accepts


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
    ledger's node says. The transaction that created the Consortium is compared with the founding file before.

    Example: mpcredit member pin "Bank E" 0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65
    """
    settings, out = load(config), Output(json)
    founding = require_founding(settings, "member pin")
    address = parse_account(account)
    with access(settings) as party:
        require_creation(founding, party)
        item, name, public = _pin(party.follower.state, who, address)
        party.submit(item)
    out.say(f"{address} is accepted for {name}")
    if public is not None:
        out.facts("Compare its key by another channel", [("fingerprint", fingerprint(public))])
    out.document({"pinned": address, "for": name, "fingerprint": fingerprint(public) if public else None})


def _pin(state: LedgerState, who: str, address: str) -> tuple[dict[str, Any], str, bytes | None]:
    """What to store, for whom, and the key to compare."""
    item = {"kind": "pin", "pinned": address}
    if who == "supervisor":
        if address not in state.supervisors:
            raise InvalidMessage(
                f"{address} is no supervisor on this ledger", remedy=f"they are: {', '.join(sorted(state.supervisors))}"
            )
        key = state.period_key
        public = key.public if key is not None and key.supervisor == address else None
        return {**item, "role": "supervisor", "member": SUPERVISOR}, "the supervisor", public
    member = find_member(state, who)
    if address not in {member.owner, *member.signed_by.values()}:
        raise InvalidMessage(
            f"the owner of {member.name} on this ledger is {member.owner}, not {address}",
            remedy="ask the institution itself; if it confirms your account, this node shows you another ledger",
        )
    public = member.key.public if member.keys else None
    return {**item, "role": "owner", "member": member.index}, member.name, public


@app.command("accept-period-key")
def accept_period_key(
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Of the period key.")],
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Accept a supervisor's period key, after comparing its fingerprint by another channel.

    Key 1 of a supervisor of the founding file needs nobody. Without your acceptance nothing is sealed to any other key, and
    this institution neither opens nor answers under it.

    Example: mpcredit member accept-period-key 2
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    founding = require_founding(settings, "member accept-period-key")
    with access(settings) as party:
        require_creation(founding, party)
        state, pins = party.follower.state, party.follower.pins
        key = _acceptable(state, version)
        if not pins.accepts_supervisor(key.supervisor):
            raise InvalidMessage(
                f"the supervisor {key.supervisor}, which announced period key {version}, is not accepted here",
                remedy=f"compare the account with the supervisor, then `mpcredit member pin supervisor {key.supervisor}`",
            )
        if pins.accepts_period_key(key):
            raise InvalidMessage(f"period key {version} is accepted already", remedy="nothing is left to do")
        out.facts(
            f"Period key {version} of the supervisor {key.supervisor}",
            [
                ("announced at", moment(key.announced_at)),
                ("public key", to_hex(key.public)),
                ("fingerprint", fingerprint(key.public)),
            ],
        )
        agree("Did the supervisor read you this fingerprint by another channel?", yes)
        party.submit({"kind": "pin", "pinned": to_hex(key.public), "role": "period key", "member": SUPERVISOR})
    out.say(f"Period key {version} is accepted. The service seals the mask keys to it by itself.")
    out.document({"accepted": version, "public": to_hex(key.public), "fingerprint": fingerprint(key.public)})


def _acceptable(state: LedgerState, version: int) -> PeriodKey:
    if version not in state.period_keys:
        known = ", ".join(map(str, state.period_keys)) or "none"
        raise InvalidMessage(f"there is no period key {version}", remedy=f"there are: {known}")
    if version not in (state.in_force, state.announced_key):
        raise InvalidMessage(
            f"period key {version} is neither in force nor announced", remedy="see `mpcredit member list`"
        )
    return state.period_keys[version]


app.command("confirm")(_accounts.confirm)
app.command("appoint")(_accounts.appoint)
app.command("period-key")(_supervision.period_key)
app.command("end-period-key")(_supervision.end_period_key)
app.command("audit")(_supervision.audit)
app.command("suspend")(_supervision.suspend)
app.command("reinstate")(_supervision.reinstate)
