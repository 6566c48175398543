"""Events of the ledger in words, for the watcher."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mpcredit import events as ev
from mpcredit.cli._shared import duration, moment
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage
from mpcredit.events import Change, Event, members_of
from mpcredit.ledger.roster import CHANGE_TYPES
from mpcredit.proposals import tell_call
from mpcredit.state import LedgerState
from mpcredit.versions import is_announcement, read_announcement


def _names(bitmap: int, state: LedgerState) -> str:
    return ", ".join(_name(index, state) for index in members_of(bitmap)) or "nobody"


def _party(account: str, state: LedgerState) -> str:
    member = state.by_operator(account)
    return member.name if member is not None else f"supervisor {account}"


def _name(index: int, state: LedgerState) -> str:
    return state.members[index].name if index in state.members else f"member {index}"


def _reads(event: ev.MaskKeysSealed) -> str:
    try:
        release = read_announcement(event.sealed_keys)
    except InvalidMessage:
        return "malformed, so it counts as said nothing"
    return f"version {release.reads} (mpcredit {release.package})"


def inquiry_of(event: Event) -> bytes | None:
    """The inquiry that an event belongs to."""
    found = getattr(event, "inquiry", None)
    return found if isinstance(found, bytes) else None


def tell(event: Event, state: LedgerState) -> str:
    """One event in words."""
    match event:
        case ev.RosterChanged():
            return _change(event, state)
        case ev.ParametersSet():
            return "terms: " + ", ".join(f"{f.name} {getattr(event.parameters, f.name)}" for f in fields(ev.Parameters))
        case ev.SchemaRegistered():
            return f"schema {event.schema} registered"
        case ev.ReadinessDeclared():
            if not event.until:
                return f"{_name(event.member, state)} is not ready any more"
            return f"{_name(event.member, state)} is ready until {moment(event.until)}"
        case ev.ReadinessLapsed():
            return f"not ready any more, having been silent: {_names(event.members, state)}"
        case ev.MaskKeysSealed() if is_announcement(event.sealed_keys):
            return f"{_name(event.member, state)} said which messages its release reads: {_reads(event)}"
        case ev.MaskKeysSealed():
            return f"{_name(event.member, state)} sealed the mask keys of its key {event.key_version}"
        case ev.JointCreditApproved():
            return f"the next JointCredit is approved: code {to_hex(event.init_code_hash)[:14]}…"
        case ev.JointCreditReplaced():
            return f"JointCredit in force: {event.current}"
        case ev.Proposed():
            calls = "; ".join(tell_call(call, state) for call in event.calls)
            return f"proposal {event.proposal}: {calls}" + (f" ({event.reason})" if event.reason else "")
        case ev.Voted():
            word = "voted for" if event.in_favour else "took back its vote for"
            return f"{_name(event.member, state)} {word} proposal {event.proposal}"
        case ev.Approved():
            word = "approved" if event.given else "no longer approves"
            return f"supervisor {event.supervisor} {word} proposal {event.proposal}"
        case ev.Executed():
            return f"proposal {event.proposal} was executed"
        case ev.Opened():
            opening = event.opening
            return (
                f"{_name(event.inquirer, state)} opened it over {opening.cohort.bit_count()} institutions, "
                f"{len(opening.consents)} subject{'' if len(opening.consents) == 1 else 's'}, {len(opening.n) * 8} bits, "
                f"answers until {moment(event.deadline)}"
            )
        case ev.Contributed():
            return f"{_name(event.member, state)} answered"
        case ev.Refusal():
            return f"{_name(event.member, state)} refused, code {event.code}"
        case ev.Expired():
            return f"ended at its deadline; silent: {_names(event.silent, state)}"
        case ev.AggregateClosed():
            return "the final product is published"
        case ev.NotSent():
            return f"{_name(event.member, state)} states that it sent nothing"
        case ev.Reported():
            return "the inquirer opened the totals and reported them"
        case ev.Attested():
            return "found valid" if event.valid else f"found void; named: {_names(event.culprits, state)}"
        case ev.Anchored():
            return f"{_party(event.by, state)} anchored its audit log: {to_hex(event.head)[:14]}…"
        case ev.Noticed():
            return f"{_party(event.by, state)} sent a sealed notice of {len(event.message)} bytes"
        case ev.ConsentRevoked():
            return f"{_name(event.member, state)}: consent {to_hex(event.consent)[:14]}… was revoked"
        case _:
            return type(event).__name__


def _change(event: ev.RosterChanged, state: LedgerState) -> str:
    from mpcredit.encoding import abi_decode

    values = abi_decode(CHANGE_TYPES[event.kind], event.data)
    who = _name(values[0], state) if isinstance(values[0], int) else str(values[0])
    match event.kind:
        case Change.MEMBER_INVITED:
            return f"{values[3]} was invited as member {values[0]}"
        case Change.MEMBER_CONFIRMED:
            return f"{who} confirmed its record"
        case Change.MEMBER_REMOVED:
            return f"{who} was removed"
        case Change.OWNER_REPLACED:
            return f"{who} has another owner: {values[1]}"
        case Change.OPERATOR_SET:
            return f"{who}: operator {values[1]} {'allowed' if values[2] else 'forbidden'}"
        case Change.KEY_SET:
            return f"{who} registered institution key {values[1]}"
        case Change.MEMBER_AUDITED:
            return f"{who} may serve under key {values[1]}"
        case Change.MEMBER_SUSPENDED:
            return f"{who} was suspended"
        case Change.MEMBER_REINSTATED:
            return f"{who} was reinstated"
        case Change.GROUP_SET:
            return f"group {values[0]}: {_names(values[1], state)}"
        case Change.SUPERVISOR_ADDED:
            return f"supervisor {values[0]} was added"
        case Change.SUPERVISOR_REMOVED:
            return f"supervisor {values[0]} was removed"
        case Change.SUPERVISOR_KEY_SET:
            return f"supervisor {values[2]} registered key {values[0]}"
        case Change.TAG_KEY_SET:
            return f"tag key {values[0]} is in force"
        case Change.TERMS_SET:
            return "the terms changed"
        case Change.SCHEMA_SET:
            return f"schema {values[0]}: definition {to_hex(values[1])[:14]}…"
        case Change.JOINT_CREDIT_SET:
            return f"inquiries open on {values[0]}"


def event_id(event: Event) -> str:
    """Names an event for ever: it is another one after a reorganisation."""
    return f"{to_hex(event.at.block_hash)}/{event.at.log_index}"


def event_document(event: Event, state: LedgerState, note: str) -> dict[str, Any]:
    """One event as a line of an export."""
    inquiry = inquiry_of(event)
    return {
        "kind": "event",
        "id": event_id(event),
        "block": event.at.block,
        "timestamp": event.at.timestamp,
        "transaction": to_hex(event.at.transaction),
        "contract": event.at.contract,
        "event": type(event).__name__,
        "inquiry": to_hex(inquiry) if inquiry is not None else None,
        "text": tell(event, state),
        "check": note,
    }


def ago(seconds: int) -> str:
    """How long ago, in words."""
    return f"{duration(seconds)} ago"
