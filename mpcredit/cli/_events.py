"""Events of the ledger in words, for the watcher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from mpcredit import events as ev
from mpcredit.cli._shared import duration, moment
from mpcredit.encoding import abi_decode, to_hex
from mpcredit.errors import InvalidMessage
from mpcredit.events import Change, Event, members_of
from mpcredit.ledger.roster import CHANGE_TYPES, SUPERVISOR
from mpcredit.proposals import tell_call
from mpcredit.state import LedgerState
from mpcredit.versions import is_announcement, read_announcement


def _names(bitmap: int, state: LedgerState) -> str:
    return ", ".join(_name(index, state) for index in members_of(bitmap)) or "nobody"


def _party(owner: str, state: LedgerState) -> str:
    member = state.by_owner(owner)
    return member.name if member is not None else f"supervisor {owner}"


def _number(index: int, owner: str, state: LedgerState) -> str:
    """A party by its number in namings."""
    return f"supervisor {owner}" if index == SUPERVISOR else _name(index, state)


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
        case ev.TermsSet():
            return "terms: " + ", ".join(f"{f.name} {getattr(event.parameters, f.name)}" for f in fields(ev.Parameters))
        case ev.SchemaRegistered():
            return f"schema {event.schema} registered"
        case ev.ReadinessSet():
            word = "on" if event.ready else "off"
            return f"{_name(event.member, state)} switched its readiness {word}, from the next full period on"
        case ev.ReadinessLapsed():
            return f"switched off after their silence: {_names(event.members, state)}"
        case ev.MaskKeysSealed() if is_announcement(event.sealed_keys):
            return f"{_name(event.member, state)} said which messages its release reads: {_reads(event)}"
        case ev.MaskKeysSealed():
            what = f"the mask keys of its key {event.key_version} to period key {event.period}"
            return f"{_name(event.member, state)} sealed {what}"
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
        case ev.Withdrawn():
            return f"proposal {event.proposal} was withdrawn"
        case ev.Executed():
            return f"proposal {event.proposal} was executed"
        case ev.Opened():
            opening = event.opening
            again = ", which repeats an earlier cohort" if opening.repeats else ""
            return (
                f"{_name(event.inquirer, state)} opened it over {opening.cohort.bit_count()} institutions{again}, "
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
        case ev.Reported():
            return "the inquirer opened the totals and reported them"
        case ev.Attested():
            return "found valid" if event.valid else f"found invalid; named: {_names(event.culprits, state)}"
        case ev.Anchored():
            return f"{_party(event.owner, state)} anchored its audit log: {to_hex(event.head)[:14]}…"
        case ev.Noticed():
            return f"{_party(event.owner, state)} sent a sealed notice of {len(event.message)} bytes"
        case ev.ConsentRevoked():
            return f"{_name(event.member, state)}: consent {to_hex(event.consent)[:14]}… was revoked"
        case _:
            return type(event).__name__


def _change(event: ev.RosterChanged, state: LedgerState) -> str:
    values = abi_decode(CHANGE_TYPES[event.kind], event.data)
    if event.kind in (Change.ACCOUNT_NAMED, Change.ACCOUNT_TAKEN):
        return _account_change(event.kind, values, state)
    if event.kind in _CONSORTIUM_CHANGES:
        return _consortium_change(event.kind, values, state)
    who = _name(values[0], state)
    match event.kind:
        case Change.MEMBER_INVITED:
            return f"{values[2]} was invited as member {values[0]}, owner account {values[1]}"
        case Change.MEMBER_CONFIRMED:
            return f"{who} confirmed its record"
        case Change.MEMBER_REMOVED:
            return f"{who} was removed"
        case Change.OWNER_REPLACED:
            return f"{who} has another owner account: {values[1]}"
        case Change.KEY_SET:
            told = f"{who} registered institution key {values[1]}"
            return f"{told} and called the one before compromised" if values[3] else told
        case Change.MEMBER_AUDITED:
            return f"{who} may serve with key {values[1]} under period key {values[2]}"
        case Change.MEMBER_SUSPENDED:
            return f"{who} was suspended"
        case Change.MEMBER_REINSTATED:
            return f"{who} was reinstated"
    return event.kind.name.lower()


def _account_change(kind: Change, values: Sequence[Any], state: LedgerState) -> str:
    who = _number(values[0], values[1], state)
    if kind is Change.ACCOUNT_TAKEN:
        return f"the owner took the service account of {who} away"
    tenure = "" if values[0] == SUPERVISOR else f", tenure {to_hex(values[4])[:14]}…"
    return f"the owner named the service account of {who}: {values[2]}, naming {values[3]}{tenure}"


_CONSORTIUM_CHANGES = frozenset(
    {
        *(Change.FOUNDED, Change.GROUP_SET, Change.SUPERVISOR_ADDED, Change.SUPERVISOR_REMOVED),
        *(Change.PERIOD_KEY_ANNOUNCED, Change.PERIOD_KEY_IN_FORCE, Change.PERIOD_KEY_ENDED),
        *(Change.TAG_KEY_SET, Change.TERMS_CHANGED, Change.SCHEMA_SET),
        *(Change.JOINT_CREDIT_APPROVED, Change.JOINT_CREDIT_SET),
    }
)


def _consortium_change(kind: Change, values: Sequence[Any], state: LedgerState) -> str:
    match kind:
        case Change.FOUNDED:
            date = f"; nothing opens before {moment(values[0])}" if values[0] else ""
            return f"founded, with periods of readiness of {values[1]} s{date}"
        case Change.GROUP_SET:
            return f"group {values[0]}: {_names(values[1], state)}"
        case Change.SUPERVISOR_ADDED:
            return f"supervisor {values[0]} was added"
        case Change.SUPERVISOR_REMOVED:
            return f"supervisor {values[0]} was removed"
        case Change.PERIOD_KEY_ANNOUNCED:
            return f"supervisor {values[2]} announced period key {values[0]}"
        case Change.PERIOD_KEY_IN_FORCE:
            return f"period key {values[0]} is in force"
        case Change.PERIOD_KEY_ENDED:
            return f"period key {values[0]} was ended: nothing is answered under it any more"
        case Change.TAG_KEY_SET:
            return f"tag key {values[0]} is in force"
        case Change.TERMS_CHANGED:
            return "the terms changed"
        case Change.SCHEMA_SET:
            return f"schema {values[0]}: definition {to_hex(values[1])[:14]}…"
        case Change.JOINT_CREDIT_APPROVED:
            return f"the next JointCredit is approved: code {to_hex(values[0])[:14]}…"
        case Change.JOINT_CREDIT_SET:
            return f"inquiries open on {values[0]}"
    return kind.name.lower()


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
