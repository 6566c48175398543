"""Changes of the consortium: what each would do, whether its code is what its sources give, and this party's order.

An institution orders its vote, a supervisor its approval: one person asks, a reviewer confirms. The owner key is not here:
`mpcredit vote` or `mpcredit approve`, where it is, carries out what was confirmed. The rules are those of `server.orders`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Path, Request, UploadFile
from fastapi.responses import Response

from mpcredit.chain.artifacts import compiler
from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import InvalidMessage, MpcreditError
from mpcredit.proposals import facts_of
from mpcredit.server.contractcode import Shelf, compare, read_upload
from mpcredit.server.node import Party, own_member, own_owner
from mpcredit.server.orders import OPEN, VOTE, OrderRefused, Orders
from mpcredit.server.people import Role, User
from mpcredit.server.refusals import NotAllowed, NotFound
from mpcredit.server.security import require
from mpcredit.server.web import go, page, parts

router = APIRouter(include_in_schema=False)

Number = Annotated[int, Path(ge=1, lt=2**63)]
OrderId = Annotated[int, Path(ge=1, lt=2**63)]
CallsHash = Annotated[str, Form(pattern="^0x[0-9a-f]{64}$")]
Reason = Annotated[str, Form(max_length=1000)]
NO_SOURCE_REMEDY = (
    "get the sources from the institution that proposed it and upload them on its page, or install that release; the members "
    "should not vote for code that nobody can rebuild"
)


def shelf_of(request: Request) -> Shelf:
    """The sources whose code is known here."""
    found = request.app.state.shelf
    assert isinstance(found, Shelf)
    return found


def orders_of(request: Request) -> Orders:
    """What this party's people ordered."""
    found = request.app.state.orders
    assert isinstance(found, Orders)
    return found


def _asker(request: Request) -> User:
    """A person who may ask for this party's vote or approval."""
    return require(orders_of(request).kind.asks)(request)


def _actor(request: Request) -> User:
    """A person who may ask, or confirm."""
    return require(orders_of(request).kind.asks, Role.REVIEWER)(request)


def _reader(request: Request) -> User:
    """A person who may ask, or confirm, or looks on."""
    return require(orders_of(request).kind.asks, Role.REVIEWER, Role.AUDITOR)(request)


Reader = Annotated[User, Depends(_reader)]
Actor = Annotated[User, Depends(_actor)]
Asker = Annotated[User, Depends(_asker)]
Reviewer = Annotated[User, Depends(require(Role.REVIEWER))]


@contextmanager
def _locked(request: Request) -> Iterator[Party]:
    with parts(request).node.locked() as party:
        yield party


# --------------------------------------------------------------------- what a page shows


def proposal_facts(orders: Orders, party: Party, number: int) -> dict[str, Any]:
    """One proposal, with what this party has to do with it.

    Raises:
        NotFound: there is none.
    """
    state = party.follower.state
    record = state.proposals.get(number)
    if record is None:
        raise NotFound(f"there is no proposal {number}", remedy="look for it in the list")
    facts = facts_of(number, record, state, party.follower.next_time)
    owner, found = own_owner(party), orders.of(number)
    for approval in facts["approvals"]:
        approval["own"] = approval["account"] == owner
    if orders.kind is VOTE:
        member = own_member(party)
        stands = member is not None and member.index in record.votes
        may = member is not None and member.index in record.electorate
    else:
        stands = any(approval["own"] for approval in facts["approvals"])
        # The contract takes no approval before the votes are there: members have the whole delay to see what comes.
        may = bool(owner) and (stands or len(facts["votes"]) >= facts["needed"])
    order = next((o for o in found if o.state in OPEN), None) if facts["state"] == "open" else None
    awaits = facts["state"] == "open" and not stands and may and order is None
    return {**facts, "stands": stands, "may": may, "orders": found, "order": order, "awaits": awaits}


def proposal_list(orders: Orders, party: Party) -> list[dict[str, Any]]:
    """All proposals, the newest first."""
    return [proposal_facts(orders, party, number) for number in sorted(party.follower.state.proposals, reverse=True)]


def _code_facts(shelf: Shelf, code_hash: bytes, in_force: bytes | None) -> dict[str, Any]:
    """What is known of a code that is proposed, beside the code in force."""
    kept = shelf.get(code_hash)
    old = shelf.get(in_force) if in_force is not None else None
    diff = compare(old.bundle.sources, kept.bundle.sources) if kept is not None and old is not None else None
    return {
        "hash": to_hex(code_hash),
        "packaged": code_hash == shelf.packaged_hash,
        "kept": kept,
        "rebuilt": kept is not None and kept.state == "rebuilt",
        "known": kept is not None or code_hash == shelf.packaged_hash,
        "same": code_hash == in_force,
        "old": old,
        "diff": diff,
        "settings_differ": kept is not None and old is not None and kept.bundle.settings != old.bundle.settings,
    }


def _show(
    request: Request, user: User, number: int, *, problem: str = "", remedy: str = "", reason: str = ""
) -> Response:
    shelf, orders = shelf_of(request), orders_of(request)
    with _locked(request) as party:
        facts = proposal_facts(orders, party, number)
        in_force = party.follower.state.joint_credit_code
        now = party.follower.next_time
    return page(
        request,
        "proposal.html",
        status_code=422 if problem else 200,
        facts=facts,
        kind=orders.kind.name,
        asks=orders.kind.asks in user.roles,
        confirms=Role.REVIEWER in user.roles,
        codes=[_code_facts(shelf, code_hash, in_force) for code_hash in facts["codes"]],
        in_force=to_hex(in_force) if in_force is not None else "",
        packaged=to_hex(shelf.packaged_hash),
        version=compiler("JointCredit")[0],
        has_compiler=shelf.solc is not None,
        ledger_now=now,
        problem=problem,
        remedy=remedy,
        reason=reason,
    )


@router.get("/proposals")
def proposals(request: Request, user: Reader) -> Response:
    """Changes of the consortium, open and past, and this party's votes or approvals."""
    orders = orders_of(request)
    with _locked(request) as party:
        rows = proposal_list(orders, party)
    return page(request, "proposals.html", proposals=rows, kind=orders.kind.name)


@router.get("/proposals/{number}")
def proposal(request: Request, user: Reader, number: Number) -> Response:
    """One proposal: its calls in words, votes, approvals, delay, the proposed code, and this party's order."""
    return _show(request, user, number)


# --------------------------------------------------------------------- orders


def _check_read(request: Request, facts: dict[str, Any], calls_hash: str, *, given: bool) -> None:
    """What was read is what is on the ledger now, waits for this party, and its code is known here.

    Raises:
        NotAllowed: one of these does not hold.
    """
    number, shelf = facts["number"], shelf_of(request)
    if facts["calls_hash"] != calls_hash or not facts["honest"]:
        raise NotAllowed(
            f"proposal {number} is not the one that was shown", remedy="open its page again and read its calls"
        )
    if facts["state"] != "open":
        raise NotAllowed(f"proposal {number} is over", remedy="it has to be proposed again")
    if not facts["may"] and orders_of(request).kind is VOTE:
        raise NotAllowed(
            f"this institution may not vote on proposal {number}", remedy="only members at the time it was made may"
        )
    if not facts["may"]:
        raise NotAllowed(
            f"proposal {number} cannot be approved before {facts['needed']} members agree",
            remedy="wait for their votes; the ledger takes no approval before",
        )
    unknown = [to_hex(code) for code in facts["codes"] if code != shelf.packaged_hash and shelf.get(code) is None]
    if given and unknown:
        raise NotAllowed(
            f"no source at hand compiles to the code {unknown[0]} that this proposal approves", remedy=NO_SOURCE_REMEDY
        )


@router.post("/proposals/{number}/order")
def ask(
    request: Request,
    user: Asker,
    number: Number,
    calls_hash: CallsHash,
    kind: Annotated[str, Form(pattern="^(give|withdraw)$")],
    reason: Reason = "",
) -> Response:
    """Ask that this party votes for what was read, or approves it, or takes that back."""
    given, orders = kind == "give", orders_of(request)
    with _locked(request) as party:
        orders.follow(party)
        facts = proposal_facts(orders, party, number)
        _check_read(request, facts, calls_hash, given=given)
        try:
            orders.ask(number, hex_bytes(calls_hash, 32), given, reason, stands=facts["stands"], by=user)
        except OrderRefused as error:
            problem = error
        else:
            parts(request).node.publish("order", str(number))
            return go(f"/proposals/{number}", "asked")
    return _show(request, user, number, problem=problem.message, remedy=problem.remedy or "", reason=reason.strip())


@router.post("/proposals/orders/{order}")
def decide(
    request: Request,
    user: Reviewer,
    order: OrderId,
    agree: Annotated[str, Form(pattern="^(yes|no)$")],
    calls_hash: CallsHash,
    reason: Reason = "",
) -> Response:
    """Confirm or refuse what another person asked for."""
    orders = orders_of(request)
    found = orders.get(order)
    if agree == "no":
        orders.refuse(order, reason, by=user)
    else:
        with _locked(request) as party:
            orders.follow(party)
            facts = proposal_facts(orders, party, found.proposal)
            _check_read(request, facts, calls_hash, given=found.given)
            orders.confirm(order, hex_bytes(calls_hash, 32), by=user)
    parts(request).node.publish("order", str(found.proposal))
    return go(f"/proposals/{found.proposal}", "order_confirmed" if agree == "yes" else "order_refused")


@router.post("/proposals/orders/{order}/cancel")
def cancel(request: Request, user: Actor, order: OrderId, reason: Reason = "") -> Response:
    """Take back an order that was not carried out."""
    orders = orders_of(request)
    done = orders.cancel(order, reason, by=user)
    parts(request).node.publish("order", str(done.proposal))
    return go(f"/proposals/{done.proposal}", "order_cancelled")


# --------------------------------------------------------------------- proposed code


@router.post("/proposals/{number}/build")
def build(
    request: Request, user: Actor, number: Number, sources: Annotated[UploadFile | None, File()] = None
) -> Response:
    """Rebuild the proposed code from uploaded sources, or from those of the installed package, and compare."""
    orders = orders_of(request)
    with _locked(request) as party:
        facts = proposal_facts(orders, party, number)
        in_force = party.follower.state.joint_credit_code
    shelf_of(request).keep_own()
    wanted = [*facts["codes"], *([in_force] if in_force is not None else [])]
    try:
        _rebuild(request, user, wanted, sources)
    except MpcreditError as error:
        return _show(request, user, number, problem=error.message, remedy=error.remedy or "")
    return go(f"/proposals/{number}", "rebuilt")


def _rebuild(request: Request, user: User, wanted: list[bytes], sources: UploadFile | None) -> None:
    """Rebuild one of the wanted codes, and keep its sources.

    Raises:
        InvalidFile, CompilerMissing, NotCompiled, InvalidMessage: the sources are no such, or give another code.
    """
    shelf = shelf_of(request)
    content = sources.file.read() if sources is not None else b""
    bundle = read_upload(sources.filename or "", content) if sources is not None and content else shelf.packaged()
    made = shelf.rebuild(bundle, wanted, by=user.actor)
    if made.code_hash not in wanted:
        raise InvalidMessage(
            f"these sources compile to {to_hex(made.code_hash)}, which is not the proposed code",
            remedy=f"ask the institution that proposed it for the right sources and compiler; this one is {made.compiler}",
        )
