"""mpcredit propose: changes of the consortium, which members vote on and a supervisor approves (R33 to R36)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from mpcredit.chain import ChainLedger, joint_credit_init_code, joint_credit_init_code_hash
from mpcredit.chain.artifacts import consortium
from mpcredit.chain.faults import ContractRefused
from mpcredit.cli._access import view
from mpcredit.cli._owner import Owner
from mpcredit.cli._parties import owned_member, parse_account
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    OwnerOption,
    agree,
    find_member,
    load,
    moment,
    parse_bytes,
    plural,
)
from mpcredit.cli.keys import tag_keys_at_hand
from mpcredit.encoding import canonical_json, to_hex
from mpcredit.errors import InvalidFile, InvalidMessage, LedgerError, MpcreditError, Refused
from mpcredit.events import Call
from mpcredit.proposals import Standing, calls_hash_of, check_tag_keys, standing_of, tell_call, terms_call
from mpcredit.schema import Schema
from mpcredit.state import LedgerState, ProposalRecord

app = typer.Typer(help="Propose a change of the consortium; list and show proposals.", no_args_is_help=True)

ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; goes onto the ledger, for the other members.")
]

Calls = list[bytes]

WIDEST = {"minimum_cohort": 2**8 - 1, "minimum_modulus_bits": 2**16 - 1}
"""Largest number that fits the contract's field, where that is not 32 bits."""


# --------------------------------------------------------------------- reading


def standing(number: int, record: ProposalRecord, state: LedgerState, now: int) -> dict[str, Any]:
    """Where a proposal stands, for programs; `next` says what it needs."""
    found = standing_of(record, state, now)
    move = {
        "votes": f"{plural(found.needed - len(found.votes), 'more vote')}: mpcredit vote {number}",
        "approval": f"a supervisor's approval: mpcredit approve {number}" + _without_approval(found),
        "delay": f"wait until {moment(found.permitted_at or 0)}",
        "execution": f"execution: mpcredit execute {number}",
        "": "propose it again" if found.state in ("expired", "withdrawn") else "",
    }[found.awaits]
    return {
        "proposal": number,
        "state": found.state,
        "reason": record.proposed.reason,
        "proposer": record.proposed.proposer,
        "proposed_at": record.proposed.at.timestamp,
        "calls_hash": to_hex(record.proposed.calls_hash),
        "calls": [tell_call(call, state) for call in record.proposed.calls],
        "votes": list(found.votes),
        "votes_needed": found.needed,
        "approvals": [{"supervisor": account, "at": at} for account, at in sorted(found.approvals.items())],
        "permitted_at": found.permitted_at,
        "votes_needed_unapproved": found.needed_unapproved,
        "unapproved_at": found.unapproved_at if found.needed_unapproved is not None else None,
        "next": move,
    }


def _without_approval(found: Standing) -> str:
    """The other way of a change of supervisors, in words (R35)."""
    if found.needed_unapproved is None:
        return ""
    return f"; or without one, {plural(found.needed_unapproved, 'vote')} and execution from {moment(found.unapproved_at)} on"


def find_proposal(state: LedgerState, number: int) -> ProposalRecord:
    """A proposal by its number.

    Raises:
        InvalidMessage: there is none.
    """
    record = state.proposals.get(number)
    if record is None:
        known = ", ".join(map(str, state.proposals)) or "none"
        raise InvalidMessage(f"there is no proposal {number}", remedy=f"there are: {known} (`mpcredit propose list`)")
    if calls_hash_of(record.proposed.calls) != record.proposed.calls_hash:
        raise InvalidMessage(
            f"the calls of proposal {number} do not hash to what is voted on", remedy="use another node; this one lies"
        )
    return record


def show_proposal(out: Output, value: dict[str, Any], state: LedgerState) -> None:
    """Print one proposal."""
    names = ", ".join(state.members[i].name for i in value["votes"]) or "none"
    approvals = ", ".join(f"{a['supervisor']} at {moment(a['at'])}" for a in value["approvals"]) or "none"
    out.facts(
        f"Proposal {value['proposal']}: {value['state']}",
        [
            *((f"call {i}", call) for i, call in enumerate(value["calls"], start=1)),
            ("reason", value["reason"] or "not given"),
            ("votes", f"{len(value['votes'])} of {value['votes_needed']} needed: {names}"),
            ("approvals", approvals),
            ("calls hash", value["calls_hash"]),
            ("it needs", value["next"] or "nothing"),
        ],
    )


@app.command("list")
def list_(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List all proposals, newest last, and what each still needs.

    Example: mpcredit propose list
    """
    settings, out = load(config), Output(json)
    with view(settings) as read:
        state, now = read.follower.state, read.follower.now
        found = [standing(number, record, state, now) for number, record in sorted(state.proposals.items())]
    out.table(
        "Proposals",
        ["no.", "state", "what", "votes", "approved", "it needs"],
        [
            (
                value["proposal"],
                value["state"],
                "\n".join(value["calls"]),
                f"{len(value['votes'])}/{value['votes_needed']}",
                "yes" if value["approvals"] else "no",
                value["next"],
            )
            for value in found
        ],
        right=["no."],
        styles={"executed": "green", "expired": "dim", "withdrawn": "dim"},
    )
    out.document({"proposals": found})


@app.command()
def show(
    proposal: Annotated[int, typer.Argument(help="Number of the proposal.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show one proposal: every call in full, votes, approvals, and what it still needs.

    Example: mpcredit propose show 3
    """
    settings, out = load(config), Output(json)
    with view(settings) as read:
        state = read.follower.state
        value = standing(proposal, find_proposal(state, proposal), state, read.follower.now)
        show_proposal(out, value, state)
    out.document(value)


# --------------------------------------------------------------------- proposing


def _call(function: str, *arguments: Any) -> bytes:
    return consortium().call_data(function, list(arguments))


def _try_out(ledger: ChainLedger, calls: Calls) -> None:
    """Refuse calls that could not be carried out now, or would leave the consortium in a form that is not permitted.

    Raises:
        Refused: which call fails, and why.
    """
    try:
        ledger.call(Call("consortium", "tryOut", (calls,)))
    except ContractRefused as refusal:
        if refusal.code == "WouldPass":
            return
        raise Refused(f"{refusal.message}; nothing was proposed", code=refusal.code, remedy=refusal.remedy) from refusal
    raise LedgerError("the node did not try the calls out", remedy="use another node")


def _propose(make: Any, reason: str, owner: Path | None, config: Path | None, json: bool) -> None:
    """Send a proposal; `make` turns the state of the ledger into its calls."""
    settings, out = load(config), Output(json)
    with view(settings) as read:
        calls: Calls = make(read.follower.state)
        check_tag_keys(calls, read.follower.state, tag_keys_at_hand(settings), now=read.follower.now)
        _try_out(read.ledger, calls)
        acting = Owner(settings, owner)
        member = owned_member(read.follower.state, acting.address)
        block = acting.send(read.ledger, "propose", calls, reason)
        read.follower.sync()
        state = read.follower.state
        calls_hash = calls_hash_of(calls)
        number = max(
            n
            for n, record in state.proposals.items()
            if (record.proposed.calls_hash, record.proposed.proposer) == (calls_hash, member.index)
        )
        value = standing(number, state.proposals[number], state, read.follower.now)
        show_proposal(out, value, state)
        out.say(f"Proposed in block {block}. Your own vote counts only once you cast it: mpcredit vote {number}")
    out.document({**value, "block": block})


@app.command()
def withdraw(
    proposal: Annotated[int, typer.Argument(help="Number of the proposal.")],
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Withdraw a proposal of this institution: nobody can vote on it, approve it or execute it any more.

    Example: mpcredit propose withdraw 3
    """
    settings, out = load(config), Output(json)
    with view(settings) as read:
        state = read.follower.state
        show_proposal(out, standing(proposal, find_proposal(state, proposal), state, read.follower.now), state)
        agree("Withdraw it?", yes)
        block = Owner(settings, owner_account).send(read.ledger, "withdrawProposal", proposal)
        read.follower.sync()
        state = read.follower.state
        value = standing(proposal, find_proposal(state, proposal), state, read.follower.now)
    out.say(f"Proposal {proposal} is withdrawn, in block {block}")
    out.document({**value, "block": block})


@app.command()
def invite(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="As the others will read it.")],
    owner: Annotated[str, typer.Option("--owner", metavar="ADDRESS", help="Its owner account.")],
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Invite an institution. It then confirms its record itself (`mpcredit member confirm`).

    Example: mpcredit propose invite --name "Bank E" --owner 0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65
    """
    account = parse_account(owner, "--owner")
    _propose(lambda state: [_call("inviteMember", account, name)], reason, owner_account, config, json)


@app.command()
def remove(
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Index or name.")],
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Remove a member. Put the next tag key in force afterwards: it knows the present ones.

    Example: mpcredit propose remove "Bank C" --reason "licence withdrawn"
    """
    _propose(
        lambda state: [_call("removeMember", find_member(state, member).index)], reason, owner_account, config, json
    )


@app.command("replace-owner")
def replace_owner(
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Index or name.")],
    owner: Annotated[str, typer.Argument(metavar="ADDRESS", help="The new owner account.")],
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Give a member another owner account, when the old one is lost. The others must then pin it.

    Example: mpcredit propose replace-owner "Bank C" 0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65
    """
    address = parse_account(owner, "the owner")
    _propose(
        lambda state: [_call("replaceOwner", find_member(state, member).index, address)],
        reason,
        owner_account,
        config,
        json,
    )


def _term(help_: str, unit: str = "SECONDS") -> Any:
    return typer.Option(metavar=unit, help=help_, show_default=False)


@app.command()
def terms(
    minimum_cohort: Annotated[int | None, _term("Institutions in an inquiry, at least 3.", "N")] = None,
    minimum_modulus_bits: Annotated[int | None, _term("Least size of Paillier keys.", "BITS")] = None,
    answer_seconds: Annotated[int | None, _term("From the opening until an inquiry may be expired.")] = None,
    report_seconds: Annotated[int | None, _term("After that, until a report is overdue.")] = None,
    silence_seconds: Annotated[
        int | None, _term("From the opening until silent members can be switched off; at most the answer time.")
    ] = None,
    window_seconds: Annotated[int | None, _term("The window of rule R27.")] = None,
    cooldown_seconds: Annotated[
        int | None, _term("Between inquiries of one inquirer on one subject; at least the life of a consent.")
    ] = None,
    repeat_seconds: Annotated[
        int | None, _term("Life of a consent from its first opening; at least the answer time.")
    ] = None,
    delay_seconds: Annotated[int | None, _term("Between approval and execution, at least 3600.")] = None,
    subjects_per_day: Annotated[int | None, _term("Of one inquirer.", "N")] = None,
    book_age_seconds: Annotated[int | None, _term("Oldest loan book to answer from.")] = None,
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Change terms of the consortium; a term that is not named stays. They hold from the next inquiry on.

    Example: mpcredit propose terms --minimum-cohort 5 --window-seconds 5184000
    """
    given = {
        "minimum_cohort": minimum_cohort,
        "minimum_modulus_bits": minimum_modulus_bits,
        "answer_seconds": answer_seconds,
        "report_seconds": report_seconds,
        "silence_seconds": silence_seconds,
        "window_seconds": window_seconds,
        "cooldown_seconds": cooldown_seconds,
        "repeat_seconds": repeat_seconds,
        "delay_seconds": delay_seconds,
        "subjects_per_day": subjects_per_day,
        "book_age_seconds": book_age_seconds,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    if not changed:
        raise InvalidMessage("no term is named", remedy="name what changes, for example --minimum-cohort 5")
    for name, value in changed.items():
        most = WIDEST.get(name, 2**32 - 1)
        if not 0 <= value <= most:
            raise InvalidMessage(f"{name} is out of range", remedy=f"give an integer from 0 to {most}")
    _propose(lambda state: [terms_call(changed)], reason, owner_account, config, json)


@app.command()
def schema(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The definition, as JSON (docs/spec.md, R5).")],
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Register a schema of figures; once registered it never changes.

    Example: mpcredit propose schema guarantees.json
    """
    import json as text

    try:
        definition = canonical_json(text.loads(file.read_text(encoding="utf-8")))
        parsed = Schema.parse(definition)
    except (OSError, ValueError) as error:
        raise InvalidFile(str(file), f"cannot be read: {error}", "name a JSON file") from error
    except MpcreditError as error:
        raise InvalidFile(str(file), error.message, "correct the definition; docs/spec.md, R5, describes it") from error

    def make(state: LedgerState) -> Calls:
        parsed.check_capacity(max(len(state.active()), 1))
        return [_call("registerSchema", parsed.id, definition)]

    _propose(make, reason, owner_account, config, json)


@app.command()
def group(
    number: Annotated[int, typer.Argument(help="1 to 16.")],
    members: Annotated[list[str], typer.Argument(metavar="MEMBER...", help="Indices or names of all its members.")],
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Set a group of members over which inquiries may be asked (R38).

    Example: mpcredit propose group 1 "Bank A" "Bank B" 4 5 6
    """
    _propose(
        lambda state: [_call("setGroup", number, sum({1 << find_member(state, text).index for text in members}))],
        reason,
        owner_account,
        config,
        json,
    )


@app.command("tag-key")
def tag_key(
    commitment: Annotated[str, typer.Argument(help="Commitment of the next tag key, from `mpcredit keys tag --new`.")],
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Put the next tag key in force, after every member has imported it. Do so at once when a member has left.

    Every service raises what it keeps to the new key by itself; one that has not the key is not ready until it has. A
    commitment that is not that of your next key is refused, here and by `mpcredit vote`: no later tag could be computed.

    Example: mpcredit propose tag-key 0x5d1c…
    """
    value = parse_bytes(commitment, 32, "the commitment")
    _propose(
        lambda state: [_call("setTagKey", max(state.tag_keys, default=0) + 1, value)],
        reason,
        owner_account,
        config,
        json,
    )


@app.command("joint-credit")
def joint_credit(
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Approve the JointCredit that ships with this version as the next one (R36).

    After the execution: mpcredit propose create-joint-credit. Running inquiries end on the old contract.

    Example: mpcredit propose joint-credit --reason "version 0.2"
    """
    _propose(
        lambda state: [_call("approveJointCredit", joint_credit_init_code_hash())], reason, owner_account, config, json
    )


@app.command("create-joint-credit")
def create_joint_credit(
    owner_account: OwnerOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Hand the approved code to the Consortium, which creates the next JointCredit; anyone may.

    Example: mpcredit propose create-joint-credit
    """
    settings, out = load(config), Output(json)
    with view(settings) as read:
        block = Owner(settings, owner_account).send(read.ledger, "createJointCredit", joint_credit_init_code())
        read.follower.sync()
        created = read.follower.state.joint_credit
    out.say(f"The JointCredit in force is {created}, from block {block} on")
    out.document({"joint_credit": created, "block": block})


@app.command()
def supervisor(
    change: Annotated[str, typer.Argument(metavar="add|remove", help="What to do.")],
    account: Annotated[str, typer.Argument(metavar="ADDRESS", help="The supervisor's account.")],
    reason: ReasonOption = "",
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Add or remove a supervisor (R35).

    Example: mpcredit propose supervisor add 0x976EA74026E726554dB657fA54763abd0C3a0aa9
    """
    if change not in ("add", "remove"):
        raise InvalidMessage(f"a supervisor is not to be {change!r}", remedy="write add or remove")
    address = parse_account(account, "the supervisor")
    _propose(lambda state: [_call(f"{change}Supervisor", address)], reason, owner_account, config, json)


@app.command()
def calls(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML with one [[call]] for each call.")],
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Propose several calls that are carried out all or none, from a TOML file.

    The file has reason = "…" and, for each call, [[call]] with function = "…" and arguments = [ … ] in the order of
    the contract (docs/spec.md, R33); bytes are hexadecimal text.

    Example: mpcredit propose calls change.toml
    """
    try:
        value = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidFile(str(file), f"cannot be read: {error}", "name a TOML file") from error
    entries = value.get("call")
    if not isinstance(entries, list) or not entries or not isinstance(value.get("reason", ""), str):
        raise InvalidFile(str(file), "has no [[call]]", 'write reason = "…" and [[call]] with function and arguments')
    known = consortium().entries("function")
    made: Calls = []
    for number, entry in enumerate(entries, start=1):
        place = f"{file}, [[call]] {number}"
        if not isinstance(entry, dict) or set(entry) != {"function", "arguments"} or entry["function"] not in known:
            raise InvalidFile(
                place, "names no function of the Consortium", "write function and arguments, nothing else"
            )
        try:
            made.append(_call(entry["function"], *(_argument(argument) for argument in entry["arguments"])))
        except (MpcreditError, TypeError, ValueError) as error:
            raise InvalidFile(
                place, f"the arguments do not fit {entry['function']}", "see docs/spec.md, R33"
            ) from error
    _propose(lambda state: made, str(value.get("reason", "")), owner_account, config, json)


def _argument(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_argument(item) for item in value)
    if isinstance(value, str) and value.startswith("0x") and len(value) != 42:
        return bytes.fromhex(value[2:])
    return value
