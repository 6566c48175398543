"""What `mpcredit doctor` looks at of this party on the ledger: accounts, keys, pins, floors and releases."""

from __future__ import annotations

from collections.abc import Mapping

from mpcredit.cli._access import AnyStore
from mpcredit.cli._examination import LOOK, OK, SKIPPED, WRONG, Examination
from mpcredit.cli._parties import account_address, member_of_account
from mpcredit.cli._shared import fingerprint, moment
from mpcredit.cli.keys import tag_commitments
from mpcredit.config import Config
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage, KeyStoreError
from mpcredit.follower import Follower
from mpcredit.keystore import KeyStore
from mpcredit.ledger.roster import Member
from mpcredit.state import LedgerState
from mpcredit.tags import tagger_of
from mpcredit.tenure import member_index
from mpcredit.versions import THIS_RELEASE, agreed_version


def membership(
    ex: Examination, config: Config, keys: KeyStore, follower: Follower, store: AnyStore | None
) -> Member | None:
    """Whether the owner has named the ledger account, and the member serves and is ready."""
    address = account_address(config)
    index = member_index(store) if store is not None else None
    member = member_of_account(follower.state, address, keys.institution_versions().values(), index)
    if member is None:
        ex.add(
            "membership",
            WRONG,
            f"the ledger account {address} is no member's service account",
            "the owner names it (`mpcredit member confirm`, later `mpcredit member appoint`); a new institution is invited by "
            "the members first",
        )
        return None
    who = f"{member.name}, member {member.index}; service account {address} is named"
    state = follower.state
    if member.suspended:
        ex.add("membership", WRONG, f"{who}; suspended by the supervisor", "ask the supervisor; its owner reinstates")
    elif not state.is_serving(member.index):
        ex.add(
            "membership",
            WRONG,
            f"{who}; the mask keys of key {member.key.version} are not audited yet",
            "keep the service running; every serving member's and the supervisor's must have run as well",
        )
    elif not state.ready_next() >> member.index & 1:
        ex.add(
            "membership",
            LOOK,
            f"{who}; serving, but readiness is off",
            "start the service (`mpcredit answer` or `serve`), or run `mpcredit ready --on`",
        )
    elif not state.ready(follower.next_time) >> member.index & 1:
        ex.add("membership", OK, f"{who}; serving, ready from the next period of {state.period_seconds} s on")
    else:
        ex.add("membership", OK, f"{who}; serving, readiness is on")
    return member


def tenure(ex: Examination, member: Member | None, store: AnyStore) -> None:
    """Whether the owner has named this store: another one of the same member may answer otherwise (R25)."""
    known = store.get("meta", "tenure")
    if member is None or not member.namings:
        return
    if known is None or known["tenure"] != to_hex(member.namings[-1].tenure):
        ex.add(
            "tenure",
            WRONG,
            f"the store has {known['tenure'][:14] + '…' if known else 'no tenure'}, the owner named "
            f"{to_hex(member.namings[-1].tenure)[:14]}…: another store of this institution is to answer",
            "use the store that was named; if it is lost, the owner names this one (`mpcredit member appoint`)",
        )
    else:
        naming = member.namings[-1]
        ex.add("tenure", OK, f"that of this store is named, since {moment(member.since)} (naming {naming.number})")


def period_key(ex: Examination, follower: Follower) -> None:
    """Whether a period key is in force, and accepted here (R12)."""
    state, pins = follower.state, follower.pins
    for version in (state.in_force, state.announced_key):
        if version is None or pins.accepts_period_key(state.period_keys[version]):
            continue
        key = state.period_keys[version]
        now = version == state.in_force
        remedy = (
            f"compare {fingerprint(key.public)} with the supervisor, then `mpcredit member accept-period-key {version}`"
        )
        if not pins.accepts_supervisor(key.supervisor):
            remedy = f"compare the supervisor's owner account first: `mpcredit member pin supervisor {key.supervisor}`"
        ex.add(
            "period key",
            WRONG if now else LOOK,
            f"key {version} of supervisor {key.supervisor} is {'in force' if now else 'announced'} and not accepted here",
            remedy,
        )
        return
    if state.period_key is None:
        ex.add(
            "period key", LOOK, "none is in force: nothing opens", "the supervisor announces one and its service audits"
        )
    else:
        more = "" if state.announced_key is None else f"; key {state.announced_key} is announced, and accepted"
        ex.add("period key", OK, f"key {state.period_key.version} is in force, and accepted here{more}")


def registered(ex: Examination, config: Config, keys: KeyStore, member: Member | None, state: LedgerState) -> None:
    """Whether the institution key of the ledger is here, and those that open inquiries need."""
    if member is None or not member.keys:
        return
    if member.key.public not in keys.institution_versions().values():
        ex.add(
            "registered key",
            WRONG,
            f"the private key of institution key {member.key.version} ({fingerprint(member.key.public)}) is not here",
            "restore it from a backup; if it is lost, or was never yours, run `mpcredit keys rotate` and tell the supervisor",
        )
        return
    open_ = {
        inquiry.keys[member.index].version: inquiry.keys[member.index].public
        for inquiry in state.inquiries.values()
        if member.index in inquiry.keys and not inquiry.stage.ended
    }
    lost = [version for version, public in open_.items() if public not in keys.institution_versions().values()]
    if lost:
        ex.add(
            "registered key",
            WRONG,
            f"open inquiries need institution key {lost[0]}, which is not here",
            "restore it from a backup",
        )
        return
    ex.add(
        "registered key",
        OK,
        f"institution key {member.key.version} is the one on the ledger: {fingerprint(member.key.public)}",
    )


def supervisor(ex: Examination, config: Config, keys: KeyStore, state: LedgerState) -> None:
    """Whether the owner has named the ledger account of a supervisor, and its period keys are here."""
    address = account_address(config)
    own = next((one for one in state.supervisors.values() if one.account == address), None)
    if own is None:
        ex.add(
            "supervisor",
            WRONG,
            f"the ledger account {address} is no supervisor's service account",
            "the owner names it (`mpcredit member appoint`); a new supervisor is added by proposal before",
        )
        return
    ex.add("supervisor", OK, f"owner account {own.owner}; service account {address} is named")
    periods = [version for version in (state.in_force, state.announced_key) if version is not None]
    for version in periods:
        key = state.period_keys[version]
        if key.supervisor == own.owner and key.public not in keys.supervisor_versions().values():
            ex.add(
                "registered key",
                WRONG,
                f"the private half of period key {version} is not here",
                "restore it from a backup, or announce the next one (`mpcredit member period-key`)",
            )
            return
    if not periods:
        ex.add("registered key", WRONG, "no period key is announced", "run `mpcredit member period-key`")
    elif state.period_key is None:
        ex.add(
            "registered key",
            LOOK,
            f"period key {periods[0]} is announced, and none is in force: nothing opens",
            "keep the service running; it puts the key in force when the members are audited for it",
        )
    else:
        key = state.period_key
        ex.add("registered key", OK, f"period key {key.version} is in force: {fingerprint(key.public)}")


def tag_keys(ex: Examination, config: Config, keys: KeyStore, in_force: Mapping[int, bytes], opened: bool) -> None:
    """Whether the consortium's tag keys of all versions are here."""
    if opened:
        newest = tagger_of(keys, in_force).version
        ex.add("tag keys", OK, f"all versions, 1 to {newest}, with the consortium's commitments")
        return
    commitments = tag_commitments(config, keys)
    for version, commitment in sorted(in_force.items()):
        if commitments.get(version) != to_hex(commitment):
            raise KeyStoreError(
                f"tag key {version} is not here, or is not the consortium's; without it this institution is not ready",
                remedy="import all versions: `mpcredit keys tag --import FILE`",
            )
    ex.add("tag keys", SKIPPED, f"all versions, 1 to {max(in_force)}, by their headers; not opened")


def pins(ex: Examination, follower: Follower) -> None:
    """Whether every owner account is accepted here."""
    state, pins = follower.state, follower.pins
    strangers = [
        f"{member.name} ({member.signed_by[member.key.version]})"
        for index in state.active()
        if (member := state.members[index]).keys and not pins.accepts_owner(index, member.signed_by[member.key.version])
    ]
    strangers += [f"the supervisor ({owner})" for owner in state.supervisors if not pins.accepts_supervisor(owner)]
    if strangers:
        ex.add(
            "pins",
            WRONG,
            f"not accepted by you: {', '.join(strangers)}; inquiries with them are refused",
            "compare the account with the institution by another channel, then `mpcredit member pin MEMBER ADDRESS`",
        )
    else:
        ex.add("pins", OK, f"the owners of all {len(state.active())} members and of the supervisors are accepted")


def floors(ex: Examination, config: Config, state: LedgerState) -> None:
    """Nobody signs the terms: an institution's own floors bound what a false endpoint can make of them."""
    terms = state.parameters
    if terms is None or config.role != "institution":
        return
    days = terms.window_seconds // 86_400
    low = [
        f"{name} is {own}, the consortium's {theirs}"
        for name, own, theirs in (
            ("minimum_cohort", config.minimum_cohort, terms.minimum_cohort),
            ("minimum_window_days", config.minimum_window_days, days),
        )
        if own < theirs
    ]
    if low:
        remedy = (
            f"in [inquiry] write minimum_cohort = {terms.minimum_cohort} and minimum_window_days = {days}, as agreed"
        )
        ex.add("own floors", LOOK, "; ".join(low), remedy)
    else:
        ex.add("own floors", OK, "cohort and window are at least the consortium's, whatever an endpoint shows")


def releases(ex: Examination, member: Member | None, state: LedgerState) -> None:
    """What the others' releases read, and whether inquiries with them can be (docs/adr/0019)."""
    others = {state.members[i].name: state.release_of(i) for i in state.active() if member is None or i != member.index}
    told = "; ".join(
        f"{name}: {f'mpcredit {release.package}' if release.package else 'a first release'}, messages {release.reads}"
        for name, release in others.items()
    )
    text = f"this one reads messages of version {THIS_RELEASE.reads}. {told or 'There are no others'}"
    try:
        agreed_version(THIS_RELEASE, others)
    except InvalidMessage as error:
        ex.add("releases", WRONG, f"{text}. {error.message}", error.remedy)
    else:
        ex.add("releases", OK, text)
