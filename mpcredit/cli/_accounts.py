"""mpcredit member confirm and appoint: the owner names the one service account of its party, and takes it away (R9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from mpcredit.cli._access import Access, access, view
from mpcredit.cli._founding import require_creation, require_founding
from mpcredit.cli._owner import Owner
from mpcredit.cli._parties import (
    account_address,
    apart,
    owned_member,
    owned_supervisor,
    parse_account,
    service_account,
    tenure_at,
)
from mpcredit.cli._shared import (
    ConfigOption,
    JsonOption,
    Output,
    OwnerOption,
    agree,
    fingerprint,
    load,
    moment,
    plural,
    require_role,
)
from mpcredit.cli.keys import next_key
from mpcredit.cli.ready import switch
from mpcredit.config import Config
from mpcredit.encoding import to_hex
from mpcredit.errors import InvalidMessage, MpcreditError
from mpcredit.events import Stage
from mpcredit.ledger.roster import SUPERVISOR, Member, Naming, Roster
from mpcredit.local import sign_account, sign_key
from mpcredit.state import LedgerState


def confirm(
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Confirm this institution's record from its owner account: register its first key, and name its service account.

    Founders do this after the deployment, invited institutions after their proposal was executed. The service account is the
    ledger account of the configuration, with the tenure of its store. It shows before when nothing opens, and asks. Before
    anything is sent, the transaction that created the Consortium is compared with the founding file.

    Example: mpcredit member confirm --owner-account owner-account.json
    """
    settings, out = load(config), Output(json)
    require_role(settings, "institution")
    founding = require_founding(settings, "member confirm")
    acting = Owner(settings, owner_account)
    account = service_account(settings, acting.address)
    with access(settings) as party:
        require_creation(founding, party)
        party.keys.unlock()
        state = party.follower.state
        member = owned_member(state, acting.address)
        if member.confirmed:
            raise InvalidMessage(f"{member.name} has confirmed its record already", remedy="see `mpcredit member list`")
        _show_record(out, party, member, account)
        agree("Is that right?", yes)
        tenure = tenure_at(party)
        registered = {key.public for m in state.members.values() for key in m.keys.values()}
        public = (
            next_key(party.keys.institution_versions(), registered, 1) or party.keys.create_institution_key(1).public
        )
        party.keys.institution_key(public)
        if not state.pins.accepts_owner(member.index, acting.address):  # it was invited after the founding
            party.submit({"kind": "pin", "pinned": acting.address, "role": "owner", "member": member.index})
        block = acting.send(
            party.ledger,
            "confirm",
            member.index,
            public,
            sign_key(acting.account, state.realm, member.index, 1, public),
            account,
            tenure,
            sign_account(acting.account, state.realm, member.index, account, 1, tenure),
        )
    out.facts(
        f"{member.name} (member {member.index}) is confirmed, in block {block}",
        [("institution key 1", to_hex(public)), ("fingerprint", fingerprint(public)), ("service account", account)],
    )
    out.say("Next: mpcredit answer (it seals the mask keys; after the supervisor's audit it switches itself on)")
    out.document(
        {
            "member": member.index,
            "name": member.name,
            "public": to_hex(public),
            "fingerprint": fingerprint(public),
            "account": account,
            "tenure": to_hex(tenure),
            "opens_from": state.opens_from,
            "block": block,
        }
    )


def _show_record(out: Output, party: Access, member: Member, account: str) -> None:
    """What the owner confirms. Nobody else can know whether an earlier consortium's window is over."""
    opens_from = party.follower.state.opens_from
    out.facts(
        f"{member.name}, member {member.index} of {party.ledger.name}",
        [
            ("owner account", member.owner),
            ("service account", account),
            ("nothing opens before", moment(opens_from) if opens_from else "no date: there was no earlier consortium"),
        ],
    )
    out.say(
        "If some of these institutions were in a consortium before, its window W must be over by that date: two totals of the "
        "two consortia would give away the figures of one institution."
    )


# --------------------------------------------------------------------- later namings


@dataclass(frozen=True)
class _Party:
    """The party whose owner acts."""

    index: int
    """Member index, or SUPERVISOR."""
    name: str
    account: str | None
    namings: list[Naming]
    member: Member | None
    """None for a supervisor."""


def _owned(config: Config, state: Roster, owner: str) -> _Party:
    if config.role == "supervisor":
        supervisor = owned_supervisor(state, owner)
        return _Party(SUPERVISOR, f"supervisor {owner}", supervisor.account, supervisor.namings, None)
    member = owned_member(state, owner)
    if not member.confirmed:
        raise InvalidMessage(f"{member.name} has not confirmed its record", remedy="run `mpcredit member confirm`")
    return _Party(member.index, member.name, member.account, member.namings, member)


def appoint(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="[ADDRESS]",
            help="The service account; by default the ledger account of the configuration.",
            show_default=False,
        ),
    ] = None,
    take: Annotated[
        bool, typer.Option("--take", metavar="", help="Take the service account away, at once, and name none.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    owner_account: OwnerOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Name the one service account of this party from its owner account, or take it away; a supervisor's too.

    A member's naming carries the tenure of this configuration's store: inquiries opened before another tenure was named are
    not answered any more. Readiness is switched off first, and you are told how many open inquiries would fail. The first
    naming is free, each later one comes at least 24 hours after the last.

    Example: mpcredit member appoint; mpcredit member appoint --take
    """
    settings, out = load(config), Output(json)
    if take and address is not None:
        raise InvalidMessage("--take names no account", remedy="leave out the address, or --take")
    acting = Owner(settings, owner_account)
    if take:
        _take(settings, out, acting, yes)
        return
    chosen = (
        service_account(settings, acting.address) if address is None else apart(parse_account(address), acting.address)
    )
    if settings.role == "supervisor":
        _name_supervisors(settings, out, acting, chosen, yes)
    else:
        _name_members(settings, out, acting, chosen, yes)


def _take(settings: Config, out: Output, acting: Owner, yes: bool) -> None:
    """A thief may have the account: nothing but the owner account and a node is needed, and no service is asked first."""
    with view(settings) as read:
        state = read.follower.state
        party = _owned(settings, state, acting.address)
        if party.account is None:
            raise InvalidMessage(f"no service account of {party.name} is named", remedy="nothing is left to do")
        failing = _awaiting(state, party)
        out.say(f"{party.account} is the service account of {party.name}. {_told(failing)}")
        agree("Take it away?", yes)
        block = acting.send(read.ledger, "takeAccount", party.index)
    out.say(f"{party.name} has no service account from block {block} on. Name one: mpcredit member appoint")
    out.document({"party": party.index, "account": None, "taken": party.account, "failing": failing, "block": block})


def _name_supervisors(settings: Config, out: Output, acting: Owner, account: str, yes: bool) -> None:
    with view(settings) as read:
        state = read.follower.state
        party = _owned(settings, state, acting.address)
        if party.account == account:
            raise InvalidMessage(f"{account} is the service account already", remedy="nothing is left to do")
        number = len(party.namings) + 1
        signature = sign_account(acting.account, state.realm, SUPERVISOR, account, number)
        arguments = (SUPERVISOR, account, bytes(32), signature)
        acting.check(read.ledger, "nameAccount", *arguments)
        out.say(f"{account} is to be the service account of {party.name}; before: {party.account or 'none'}.")
        agree("Name it?", yes)
        block = acting.send(read.ledger, "nameAccount", *arguments)
    _named(out, party, account, number, None, 0, block)


def _name_members(settings: Config, out: Output, acting: Owner, account: str, yes: bool) -> None:
    with access(settings) as at:
        state = at.follower.state
        party = _owned(settings, state, acting.address)
        assert party.member is not None
        tenure, before = tenure_at(at), party.member.tenure
        if (party.account, before) == (account, tenure):
            raise InvalidMessage(
                f"{account} is named already, with the tenure of this store", remedy="nothing is left to do"
            )
        number = len(party.namings) + 1
        signature = sign_account(acting.account, state.realm, party.index, account, number, tenure)
        arguments = (party.index, account, tenure, signature)
        # (1) what the contract would refuse, before anything is switched off.
        acting.check(at.ledger, "nameAccount", *arguments)
        # (2) no new inquiry waits for a service that is being exchanged.
        _switch_off(at, out, party)
        # (3) those that wait for it now fail if its successor may not answer them.
        failing = _awaiting(at.follower.state, party) if tenure != before else 0
        out.say(f"{account} is to be the service account of {party.name}; before: {party.account or 'none'}.")
        out.say(
            f"It begins another tenure. {_told(failing)}"
            if tenure != before
            else "The tenure stays: it goes on with the inquiries that are open."
        )
        agree("Name it?", yes)
        block = acting.send(at.ledger, "nameAccount", *arguments)
        present = account_address(settings)
    _named(out, party, account, number, to_hex(tenure), failing, block)
    if account != present:
        out.say(f"The service needs that account now: [ledger] account, or its key files; here it has {present}.")


def _switch_off(at: Access, out: Output, party: _Party) -> None:
    """Readiness off, if the present service account is at hand: what cannot be done here must not hold up the owner."""
    if not at.follower.state.ready_next() >> party.index & 1:
        return
    if party.account != account_address(at.config):
        out.note(f"readiness stays on: this configuration has not the present service account {party.account}")
        return
    try:
        switch(at, party.index, on=False)
    except MpcreditError as error:
        out.note(f"readiness stays on: {error.message}")
    else:
        again = "by itself" if at.config.served else "with `mpcredit ready --on`"
        out.note(f"readiness is off from the next full period on; the service switches it on again {again}")


def _awaiting(state: LedgerState, party: _Party) -> int:
    """Open inquiries that wait for an answer of this party."""
    return sum(inquiry.stage is Stage.OPEN and party.index in inquiry.awaited for inquiry in state.inquiries.values())


def _told(failing: int) -> str:
    if not failing:
        return "No open inquiry waits for its answer."
    return f"{plural(failing, 'open inquiry', 'open inquiries')} would fail: no answer of it may come any more."


def _named(out: Output, party: _Party, account: str, number: int, tenure: str | None, failing: int, block: int) -> None:
    out.say(f"{account} is the service account of {party.name} from block {block} on (naming {number})")
    out.document(
        {
            "party": party.index,
            "account": account,
            "number": number,
            "tenure": tenure,
            "failing": failing,
            "block": block,
        }
    )
