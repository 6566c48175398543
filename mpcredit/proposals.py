"""Proposals to change the consortium, read from the fold: each call in words, who has voted, what is missing, from when on.

Members and supervisors read it at the command line and on their pages before they vote or approve (R33 to R36). Whether
the code that a proposal approves is what its sources give is `server.contractcode`'s work; nothing here votes, approves or
executes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from mpcredit.chain import joint_credit_init_code_hash
from mpcredit.chain.artifacts import abi_type, consortium
from mpcredit.encoding import abi_decode, abi_encode, keccak, to_hex
from mpcredit.errors import MpcreditError, Refused
from mpcredit.events import Parameters, members_of
from mpcredit.schema import Schema
from mpcredit.state import LedgerState, ProposalRecord, votes_needed, votes_needed_unapproved

__all__ = [
    "NOBODY",
    "PROPOSAL_LIFE",
    "UNAPPROVED_DELAY",
    "Standing",
    "approved_codes",
    "calls_hash_of",
    "changes_supervisors_only",
    "check_tag_keys",
    "decode_call",
    "executing_supervisor",
    "facts_of",
    "standing_of",
    "tell_call",
    "terms_call",
    "words_of_call",
]

PROPOSAL_LIFE: Final = 60 * 86_400
"""Seconds after which a proposal can be neither voted on nor executed (R33)."""
UNAPPROVED_DELAY: Final = 30 * 86_400
"""Seconds that a change of supervisors waits that no supervisor approves, from the last vote that it needs (R35)."""
NOBODY: Final = "0x" + 40 * "0"
"""Stands for a supervisor where an execution rests on no approval."""


def decode_call(data: bytes) -> tuple[str, list[tuple[str, Any]]]:
    """Function and named arguments of a proposed call; what this version does not know is shown as bytes."""
    for name, entry in consortium().entries("function").items():
        types = [abi_type(given) for given in entry["inputs"]]
        if keccak(f"{name}({','.join(types)})".encode())[:4] != data[:4]:
            continue
        try:
            values = abi_decode(types, data[4:])
        except Exception:  # eth_abi raises many kinds for malformed bytes
            break
        names = [given["name"] for given in entry["inputs"]]
        return name, [(_, value) for _, value in zip(names, values, strict=True)]
    return "unknown call", [("data", data)]


def tell_call(data: bytes, state: LedgerState) -> str:
    """A proposed call with the contract's own names, to be compared with the specification."""
    name, arguments = decode_call(data)
    told = []
    for argument, value in arguments:
        if argument == "index" and value in state.members:
            told.append(f"{argument} {value} ({state.members[value].name})")
        elif argument == "members":
            told.append(f"members {_names(value, state)}")
        elif argument == "named":
            told.extend(_changes(value, dict(arguments)["values"], state))
        elif argument == "definition":
            told.append(f"definition {value.decode('utf-8', 'replace')}")
        elif argument == "initCodeHash" and value == joint_credit_init_code_hash():
            told.append(f"{to_hex(value)} (the JointCredit of this version of mpcredit)")
        elif argument != "values":
            told.append(f"{argument} {to_hex(value) if isinstance(value, bytes) else value}")
    return f"{name}: {'; '.join(told)}"


def words_of_call(data: bytes, state: LedgerState) -> str:
    """What a proposed call would do, as a sentence; the contract's own names where this version knows none."""
    name, arguments = decode_call(data)
    value = dict(arguments)
    match name:
        case "inviteMember":
            return f"invite {value['memberName']}: owner account {value['owner']}"
        case "removeMember":
            return f"remove {_member(value['index'], state)} from the consortium"
        case "replaceOwner":
            return f"give {_member(value['index'], state)} the owner account {value['owner']}"
        case "addSupervisor":
            return f"add the supervisor {value['supervisor']}"
        case "removeSupervisor":
            return f"remove the supervisor {value['supervisor']}"
        case "setTerms":
            return f"change the terms: {'; '.join(_changes(value['named'], value['values'], state))}"
        case "registerSchema":
            try:
                schema = Schema.parse(value["definition"])
            except MpcreditError:
                return f"register schema {value['schema']}, in a form that this version of mpcredit cannot read"
            return f"register schema {value['schema']} ({schema.name}): {', '.join(f.name for f in schema.fields)}"
        case "setGroup":
            return f"set group {value['group']} to {_names(value['members'], state)}"
        case "setTagKey":
            return f"put tag key {value['version']} in force, with the commitment {to_hex(value['commitment'])}"
        case "approveJointCredit":
            return f"approve the next JointCredit, whose init code hashes to {to_hex(value['initCodeHash'])}"
    return tell_call(data, state)


def _member(index: int, state: LedgerState) -> str:
    return state.members[index].name if index in state.members else f"member {index}"


def _names(bitmap: int, state: LedgerState) -> str:
    return ", ".join(state.members[i].name if i in state.members else str(i) for i in members_of(bitmap))


def _changes(named: int, values: Sequence[int], state: LedgerState) -> list[str]:
    """The terms that a call names, as they are now and as they would be."""
    before, told = state.parameters, []
    for place, (field, new) in enumerate(zip(fields(Parameters), values, strict=True)):
        if named >> place & 1:
            old = getattr(before, field.name) if before else None
            told.append(f"{field.name} stays {new}" if new == old else f"{field.name} {old} -> {new}")
    return told or ["none of them"]


def terms_call(changed: Mapping[str, int]) -> bytes:
    """The call that changes terms; what is not named stays as it is when the call is carried out.

    Args:
        changed: new values, by the names of `events.Parameters`.
    """
    names = [field.name for field in fields(Parameters)]
    named = sum(1 << place for place, name in enumerate(names) if name in changed)
    return consortium().call_data("setTerms", [named, tuple(changed.get(name, 0) for name in names)])


def calls_hash_of(calls: Sequence[bytes]) -> bytes:
    """The hash by which the ledger names the calls of a proposal, and by which they are voted on and approved."""
    return keccak(abi_encode(["bytes[]"], [list(calls)]))


def check_tag_keys(
    calls: Sequence[bytes],
    state: LedgerState,
    at_hand: Mapping[int, bytes],
    *,
    now: int,
    member: int | None = None,
    proposal: int | None = None,
) -> None:
    """Check that calls put only the next tag keys in force, and only those that this member has (R4.4).

    A commitment that no key fits would end the chain: no later tag could be computed, by anybody.

    Args:
        at_hand: commitments of this member's tag keys by version.
        now: the ledger's clock, unix seconds.
        member: whose vote it would be; None: it is only proposed.
        proposal: the number of the proposal that is voted on.

    Raises:
        Refused: another version or key is named, or this member has voted for another open proposal of a tag key.
    """
    named = _tag_keys(calls)
    for next_version, (version, commitment) in enumerate(named, max(state.tag_keys, default=0) + 1):
        if version != next_version:
            raise Refused(
                f"the call puts tag key {version} in force, and the next one is {next_version}: the contract would refuse it",
                code="tag_key",
                remedy="propose the next tag key (`mpcredit propose tag-key`), and withdraw a proposal that is too late",
            )
        if at_hand.get(version) != commitment:
            other = next((known for known, made in at_hand.items() if made == commitment), None)
            what = f"is that of your tag key {other}" if other is not None else "is of no tag key that is here"
            raise Refused(
                f"the proposed commitment would be in force as version {version}, and {what}",
                code="tag_key",
                remedy="import the next tag key first (`mpcredit keys tag --import FILE`); never vote for one that you lack",
            )
    rivals = [
        number
        for number, record in state.proposals.items()
        if number != proposal and member in record.votes and _tag_keys(record.proposed.calls)
        if standing_of(record, state, now).state == "open"
    ]
    if named and rivals:
        raise Refused(
            f"this institution has voted for another tag key: proposal {rivals[0]} is open",
            code="tag_key",
            remedy=f"let it be carried out, or take that vote back (`mpcredit vote {rivals[0]} --withdraw`): of two "
            "for one version only the first can be, and members that hold the other key would have to wait for it",
        )


def _tag_keys(calls: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Versions and commitments that a proposal puts in force, in the order of its calls."""
    decoded = [dict(arguments) for name, arguments in map(decode_call, calls) if name == "setTagKey"]
    return [(int(value["version"]), bytes(value["commitment"])) for value in decoded]


def approved_codes(record: ProposalRecord) -> list[bytes]:
    """Hashes of the init codes that a proposal approves for the next JointCredit (R36), in the order of its calls."""
    found = []
    for call in record.proposed.calls:
        name, arguments = decode_call(call)
        if name == "approveJointCredit":
            found.append(dict(arguments)["initCodeHash"])
    return found


def changes_supervisors_only(calls: Sequence[bytes]) -> bool:
    """Whether a proposal can be executed without the approval of a supervisor (R35)."""
    return all(decode_call(call)[0] in ("addSupervisor", "removeSupervisor") for call in calls)


def _removed_supervisors(calls: Sequence[bytes]) -> set[str]:
    """Supervisors that a proposal removes: their approval of it does not count (R35)."""
    decoded = [decode_call(call) for call in calls]
    return {dict(arguments)["supervisor"] for name, arguments in decoded if name == "removeSupervisor"}


@dataclass(frozen=True)
class Standing:
    """Where a proposal stands at one moment."""

    state: str
    """open, executed, withdrawn or expired."""
    awaits: str
    """votes, approval, delay, execution; empty if nothing can follow."""
    votes: tuple[int, ...]
    """Members that agree and still are members."""
    missing: tuple[int, ...]
    """Members that may vote and have not."""
    needed: int
    """Votes that it takes with a supervisor's approval: two thirds of the members (R33)."""
    approvals: dict[str, int]
    """Supervisors whose approval counts, to unix seconds: it is not void, they still are supervisors, and it does not remove
    them."""
    delay_seconds: int
    """Between an approval and the execution."""
    permitted_at: int | None
    """Unix seconds from which it can be executed; None without an approval."""
    expires_at: int
    honest: bool
    """Whether its calls hash to what is voted on; if not, the node lies."""
    needed_unapproved: int | None
    """Votes that it takes without an approval: five sixths of the members, or all but one (R35). None: it needs one, since it
    changes more than supervisors, or expires before the delay would end."""
    unapproved_at: int
    """Unix seconds from which it can be executed without an approval, if it can be at all; with votes missing, if they came
    now."""


def standing_of(record: ProposalRecord, state: LedgerState, now: int) -> Standing:
    """Where a proposal stands.

    Args:
        now: unix seconds by the ledger's clock.
    """
    active = state.active()
    votes = tuple(sorted(record.votes & set(active)))
    missing = tuple(i for i in record.electorate if i in active and i not in record.votes)
    needed = votes_needed(len(active))
    counted = {owner: supervisor.since for owner, supervisor in state.supervisors.items()}
    for owner in _removed_supervisors(record.proposed.calls):
        counted.pop(owner, None)
    approvals = {owner: at for owner, at in record.approvals.items() if owner in counted and at >= counted[owner]}
    delay = state.parameters.delay_seconds if state.parameters else 0
    permitted = min(approvals.values()) + delay if approvals else None
    expires = record.proposed.at.timestamp + PROPOSAL_LIFE
    needed_unapproved = votes_needed_unapproved(len(active))
    # Where votes are missing, the delay begins with the last of them, now at the earliest.
    unapproved = (record.unapproved_since if len(votes) >= needed_unapproved else now) + UNAPPROVED_DELAY
    without_approval = changes_supervisors_only(record.proposed.calls) and unapproved <= expires
    if record.executed or record.withdrawn:
        stands, awaits = "executed" if record.executed else "withdrawn", ""
    elif now > expires:
        stands, awaits = "expired", ""
    elif without_approval and len(votes) >= needed_unapproved and now >= unapproved:
        stands, awaits = "open", "execution"
    elif len(votes) < needed:
        stands, awaits = "open", "votes"
    elif permitted is None:
        stands, awaits = "open", "approval"
    else:
        stands, awaits = "open", "delay" if now < permitted else "execution"
    return Standing(
        state=stands,
        awaits=awaits,
        votes=votes,
        missing=missing,
        needed=needed,
        approvals=approvals,
        delay_seconds=delay,
        permitted_at=permitted,
        expires_at=expires,
        honest=calls_hash_of(record.proposed.calls) == record.proposed.calls_hash,
        needed_unapproved=needed_unapproved if without_approval else None,
        unapproved_at=unapproved,
    )


def executing_supervisor(standing: Standing, now: int) -> str:
    """On whose approval an execution rests: the earliest; the zero address where it rests on none (R35)."""
    approvals = standing.approvals
    if standing.permitted_at is None or (standing.awaits == "execution" and now < standing.permitted_at):
        return NOBODY
    return min(approvals, key=lambda account: approvals[account])


def facts_of(number: int, record: ProposalRecord, state: LedgerState, now: int) -> dict[str, Any]:
    """A proposal for a page: its calls in words, who agrees and who has not said so, from when on it can be executed.

    Args:
        now: unix seconds by the ledger's clock.
    """
    standing = standing_of(record, state, now)
    return {
        "number": number,
        "reason": record.proposed.reason,
        "proposer": state.members[record.proposed.proposer].name,
        "proposed_at": record.proposed.at.timestamp,
        "calls": [words_of_call(call, state) for call in record.proposed.calls],
        "raw_calls": [tell_call(call, state) for call in record.proposed.calls],
        "calls_hash": to_hex(record.proposed.calls_hash),
        "honest": standing.honest,
        "votes": [state.members[i].name for i in standing.votes],
        "missing": [state.members[i].name for i in standing.missing],
        "needed": standing.needed,
        "needed_unapproved": standing.needed_unapproved,
        "unapproved_at": standing.unapproved_at,
        "approvals": [{"account": account, "at": at, "own": False} for account, at in standing.approvals.items()],
        "state": standing.state,
        "turn": standing.awaits,
        "delay": standing.delay_seconds,
        "permitted_at": standing.permitted_at,
        "expires_at": standing.expires_at,
        "codes": approved_codes(record),
    }
