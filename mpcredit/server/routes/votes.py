"""An institution's page of proposals: read them, order a vote as administrator, confirm it as reviewer.

The owner key is not here: `mpcredit vote`, where it is, carries out what was confirmed. The rules are those of `server.votes`,
the comparison of proposed code that of `routes.proposals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Path, Request, UploadFile
from fastapi.responses import Response

from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.errors import MpcreditError
from mpcredit.institution import Institution
from mpcredit.proposals import facts_of
from mpcredit.server.people import Role, User
from mpcredit.server.refusals import NotAllowed, NotFound
from mpcredit.server.routes.proposals import (
    NO_SOURCE_REMEDY,
    CallsHash,
    Number,
    Reason,
    proposal_page,
    rebuilt,
    shelf_of,
)
from mpcredit.server.security import require
from mpcredit.server.votes import OPEN, VoteOrders, VoteRefused
from mpcredit.server.web import go, page, parts

router = APIRouter(include_in_schema=False)

Reader = Annotated[User, Depends(require(Role.REVIEWER, Role.ADMINISTRATOR, Role.AUDITOR))]
Actor = Annotated[User, Depends(require(Role.REVIEWER, Role.ADMINISTRATOR))]
Administrator = Annotated[User, Depends(require(Role.ADMINISTRATOR))]
Reviewer = Annotated[User, Depends(require(Role.REVIEWER))]
OrderId = Annotated[int, Path(ge=1, lt=2**63)]


def _orders(request: Request) -> VoteOrders:
    found = request.app.state.votes
    assert isinstance(found, VoteOrders)
    return found


@contextmanager
def _locked(request: Request) -> Iterator[Institution]:
    with parts(request).node.locked() as party:
        if not isinstance(party, Institution):
            raise NotFound("this is not an institution's server")
        yield party


def _facts(request: Request, party: Institution, number: int) -> dict[str, Any]:
    """One proposal, with what this institution has to do with it."""
    state = party.desk.state
    record = state.proposals.get(number)
    if record is None:
        raise NotFound(f"there is no proposal {number}", remedy="look for it in the list")
    orders = _orders(request).of(number)
    facts = facts_of(number, record, state, party.follower.next_time)
    own = state.by_operator(party.desk.outbox.signer.address)
    return {
        **facts,
        "voted": own is not None and own.index in record.votes,
        "may_vote": own is not None and own.index in record.electorate,
        "own_orders": orders,
        "order": next((o for o in orders if o.state in OPEN), None) if facts["state"] == "open" else None,
    }


def _show(request: Request, number: int, *, problem: str = "", remedy: str = "", reason: str = "") -> Response:
    with _locked(request) as party:
        facts = _facts(request, party, number)
        in_force = party.desk.state.joint_credit_code
        now = party.follower.next_time
    return proposal_page(
        request, "vote.html", facts, in_force, ledger_now=now, problem=problem, remedy=remedy, reason=reason
    )


def _as_read(request: Request, facts: dict[str, Any], calls_hash: str, *, in_favour: bool) -> None:
    """What was read is what is on the ledger now, can still be voted on, and its code is known here.

    Raises:
        NotAllowed: one of these does not hold.
    """
    number = facts["number"]
    if facts["calls_hash"] != calls_hash or not facts["honest"]:
        raise NotAllowed(
            f"proposal {number} is not the one that was shown", remedy="open its page again and read its calls"
        )
    if facts["state"] != "open":
        raise NotAllowed(f"proposal {number} is over", remedy="it has to be proposed again")
    if not facts["may_vote"]:
        raise NotAllowed(
            f"this institution may not vote on proposal {number}", remedy="only members at the time it was made may"
        )
    shelf = shelf_of(request)
    unknown = [to_hex(code) for code in facts["codes"] if code != shelf.packaged_hash and shelf.get(code) is None]
    if in_favour and unknown:
        raise NotAllowed(
            f"no source at hand compiles to the code {unknown[0]} that this proposal approves", remedy=NO_SOURCE_REMEDY
        )


@router.get("/proposals")
def proposals(request: Request, user: Reader) -> Response:
    """Changes of the consortium, open and past, and this institution's votes on them."""
    with _locked(request) as party:
        rows = [_facts(request, party, number) for number in sorted(party.desk.state.proposals, reverse=True)]
    return page(request, "votes.html", proposals=rows)


@router.get("/proposals/{number}")
def proposal(request: Request, user: Reader, number: Number) -> Response:
    """One proposal: its calls in words, votes, delay, the proposed code, and the order to vote."""
    return _show(request, number)


@router.post("/proposals/{number}/order")
def ask(
    request: Request,
    user: Administrator,
    number: Number,
    calls_hash: CallsHash,
    kind: Annotated[str, Form(pattern="^(vote|withdraw)$")],
    reason: Reason = "",
) -> Response:
    """Ask that this institution votes for what was read, or takes its vote back."""
    in_favour = kind == "vote"
    with _locked(request) as party:
        _orders(request).follow(party)
        facts = _facts(request, party, number)
        _as_read(request, facts, calls_hash, in_favour=in_favour)
        try:
            _orders(request).ask(number, hex_bytes(calls_hash, 32), in_favour, reason, voted=facts["voted"], by=user)
        except VoteRefused as error:
            problem = error
        else:
            parts(request).node.publish("vote", str(number))
            return go(f"/proposals/{number}", "asked")
    return _show(request, number, problem=problem.message, remedy=problem.remedy or "", reason=reason.strip())


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
    orders = _orders(request)
    found = orders.get(order)
    if agree == "no":
        orders.refuse(order, reason, by=user)
    else:
        with _locked(request) as party:
            orders.follow(party)
            _as_read(request, _facts(request, party, found.proposal), calls_hash, in_favour=found.in_favour)
            orders.confirm(order, hex_bytes(calls_hash, 32), by=user)
    parts(request).node.publish("vote", str(found.proposal))
    return go(f"/proposals/{found.proposal}", "vote_confirmed" if agree == "yes" else "vote_refused")


@router.post("/proposals/orders/{order}/cancel")
def cancel(request: Request, user: Actor, order: OrderId, reason: Reason = "") -> Response:
    """Take back an order that was not carried out."""
    done = _orders(request).cancel(order, reason, by=user)
    parts(request).node.publish("vote", str(done.proposal))
    return go(f"/proposals/{done.proposal}", "vote_cancelled")


@router.post("/proposals/{number}/build")
def build(
    request: Request, user: Actor, number: Number, sources: Annotated[UploadFile | None, File()] = None
) -> Response:
    """Rebuild the proposed code from uploaded sources, or from those of the installed package, and compare."""
    with _locked(request) as party:
        facts = _facts(request, party, number)
        in_force = party.desk.state.joint_credit_code
    shelf_of(request).keep_own()
    try:
        rebuilt(request, user, [*facts["codes"], *([in_force] if in_force is not None else [])], sources)
    except MpcreditError as error:
        return _show(request, number, problem=error.message, remedy=error.remedy or "")
    return go(f"/proposals/{number}", "rebuilt")
