"""The supervisor's pages: live inquiries, one inquiry with its checks, figures behind a reason, institutions, alarms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.responses import Response

from mpcredit.encoding import hex_bytes
from mpcredit.events import Call
from mpcredit.institution import SupervisorNode
from mpcredit.server import oversight
from mpcredit.server.exports import csv_response as _csv
from mpcredit.server.people import Principal, Role, User
from mpcredit.server.refusals import NotAllowed, NotFound
from mpcredit.server.security import allow, require
from mpcredit.server.web import go, page, parts
from mpcredit.state import Inquiry

router = APIRouter()

Supervisor = Annotated[User, Depends(require(Role.SUPERVISOR))]
READERS = allow(Role.SUPERVISOR, scope="applications:read")
InquiryId = Annotated[str, Path(pattern="^0x[0-9a-f]{64}$")]


@contextmanager
def _node(request: Request) -> Iterator[SupervisorNode]:
    with parts(request).node.locked() as party:
        if not isinstance(party, SupervisorNode):
            raise NotFound("this is not the supervisor's server")
        yield party


def _find(node: SupervisorNode, inquiry: str) -> Inquiry:
    found = node.supervisor.state.inquiries.get(hex_bytes(inquiry, 32))
    if found is None:
        raise NotFound("this inquiry is not on the ledger", remedy="look for it in the list")
    return found


@router.get("/supervision", include_in_schema=False)
def live(request: Request, user: Supervisor) -> Response:
    """Every inquiry and its stage, as it moves; what needs the supervisor first."""
    with _node(request) as node:
        rows = oversight.overview(node)
        alarms = oversight.alarms(node)
        waiting = [row for row in oversight.proposals(node) if row["awaits"]]
    return page(request, "supervision.html", inquiries=rows[:500], alarms=alarms, proposals=waiting)


@router.get("/supervision/export.csv", include_in_schema=False)
def export(request: Request, user: Supervisor) -> Response:
    """The list of inquiries as CSV: no subject, no figure."""
    with _node(request) as node:
        rows = oversight.overview(node)
    return _csv("inquiries.csv", rows)


@router.get("/supervision/institutions.csv", include_in_schema=False)
def export_institutions(request: Request, user: Supervisor) -> Response:
    """Response times, refusals and silences as CSV."""
    with _node(request) as node:
        rows = oversight.institutions(node)
    for row in rows:
        row["refused"] = " ".join(f"{name}:{count}" for name, count in sorted(row["refused"].items()))
    return _csv("institutions.csv", rows)


@router.get("/supervision/institutions", include_in_schema=False)
def institutions(request: Request, user: Supervisor) -> Response:
    """How each institution answers."""
    with _node(request) as node:
        rows = oversight.institutions(node)
    return page(request, "institutions.html", institutions=rows)


@router.get("/supervision/alarms", include_in_schema=False)
def alarms(request: Request, user: Supervisor) -> Response:
    """What needs a look."""
    with _node(request) as node:
        found = oversight.alarms(node)
    return page(request, "alarms.html", alarms=found)


@router.get("/supervision/proposals", include_in_schema=False)
def proposals(request: Request, user: Supervisor) -> Response:
    """Changes of the consortium, the supervisor's approval awaited or given."""
    with _node(request) as node:
        rows = oversight.proposals(node)
    return page(request, "proposals.html", proposals=rows)


@router.get("/supervision/inquiries/{inquiry}", include_in_schema=False)
def inquiry(request: Request, user: Supervisor, inquiry: InquiryId) -> Response:
    """One inquiry: time line, each contribution and the report checked. No figure."""
    return _inquiry(request, inquiry, None, "", "")


def _inquiry(
    request: Request, inquiry: str, figures: list[dict[str, Any]] | None, reason: str, problem: str, status: int = 200
) -> Response:
    with _node(request) as node:
        facts = oversight.detail(node, _find(node, inquiry))
        attests = node.supervisor.attests
    return page(
        request,
        "supervised_inquiry.html",
        status_code=status,
        facts=facts,
        figures=figures,
        reason=reason,
        problem=problem,
        attests=attests,
    )


@router.post("/supervision/inquiries/{inquiry}/figures", include_in_schema=False)
def figures(
    request: Request,
    user: Supervisor,
    inquiry: InquiryId,
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """The figures of each institution, once, for a stated reason that goes into the audit log first."""
    reason = reason.strip()
    if len(reason) < 5:
        return _inquiry(request, inquiry, None, reason, "Write why you need to see the figures.", 422)
    with _node(request) as node:
        found = _find(node, inquiry)
        parts(request).audit.append(
            user.actor, "subject.looked", f"inquiry/{inquiry}", reason, subjects=len(found.opening.consents)
        )
        rows = oversight.figures(node, found)
    return _inquiry(request, inquiry, rows, reason, "")


@router.post("/supervision/inquiries/{inquiry}/attest", include_in_schema=False)
def attest(request: Request, user: Supervisor, inquiry: InquiryId) -> Response:
    """The verdict by hand, where the node does not give it by itself; only on what its checks found right."""
    the = parts(request)
    with _node(request) as node:
        found = _find(node, inquiry)
        if not oversight.detail(node, found)["can_attest"]:
            raise NotAllowed("there is no checked report to attest")
        if node.outbox.store.outbox_by_key(f"attest/{inquiry}") is None:
            node.outbox.post(f"attest/{inquiry}", Call(found.joint_credit, "attest", (found.id, True, 0, bytes(32))))
        the.audit.append(user.actor, "inquiry.attested", f"inquiry/{inquiry}", valid=True)
    the.node.wake()
    return go(f"/supervision/inquiries/{inquiry}", "attested")


@router.get("/api/supervision/inquiries", tags=["supervision"])
def api_inquiries(request: Request, who: Annotated[Principal, Depends(READERS)]) -> list[dict[str, Any]]:
    """Every inquiry and its stage; no subject, no figure."""
    with _node(request) as node:
        return oversight.overview(node)


@router.get("/api/supervision/alarms", tags=["supervision"])
def api_alarms(request: Request, who: Annotated[Principal, Depends(READERS)]) -> list[dict[str, Any]]:
    """What needs a look."""
    with _node(request) as node:
        return [vars(alarm) for alarm in oversight.alarms(node)]
