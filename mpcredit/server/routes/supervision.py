"""The supervisor's pages: live inquiries, one inquiry with its checks and verdict, institutions, alarms, their exports.

Figures and who may see them are in `looks`, changes of the consortium in `proposals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.responses import Response

from mpcredit.encoding import hex_bytes
from mpcredit.institution import SupervisorNode
from mpcredit.server import oversight
from mpcredit.server.looks import SHORTEST_REASON
from mpcredit.server.people import Principal, Role, User
from mpcredit.server.refusals import NotAllowed, NotFound
from mpcredit.server.routes.proposals import orders_of, proposal_list
from mpcredit.server.security import allow, require
from mpcredit.server.tables import download, has_parquet
from mpcredit.server.web import go, page, parts
from mpcredit.state import Inquiry

router = APIRouter()

Supervisor = Annotated[User, Depends(require(Role.SUPERVISOR))]
READERS = allow(Role.SUPERVISOR, scope="applications:read")
Kind = Annotated[str, Path(pattern="^(csv|parquet)$")]
InquiryId = Annotated[str, Path(pattern="^0x[0-9a-f]{64}$")]


@contextmanager
def locked_node(request: Request) -> Iterator[SupervisorNode]:
    """The supervisor's node, while nobody else works with it."""
    with parts(request).node.locked() as party:
        if not isinstance(party, SupervisorNode):
            raise NotFound("this is not the supervisor's server")
        yield party


def find_inquiry(node: SupervisorNode, inquiry: str) -> Inquiry:
    """An inquiry by its id.

    Raises:
        NotFound: it is not on the ledger.
    """
    found = node.supervisor.state.inquiries.get(hex_bytes(inquiry, 32))
    if found is None:
        raise NotFound("this inquiry is not on the ledger", remedy="look for it in the list")
    return found


@router.get("/supervision", include_in_schema=False)
def live(request: Request, user: Supervisor) -> Response:
    """Every inquiry and its stage, as it moves; what needs the supervisor first."""
    with locked_node(request) as node:
        rows = oversight.overview(node)
        alarms = oversight.alarms(node)
        waiting = [row for row in proposal_list(orders_of(request), node) if row["awaits"]]
        due = oversight.verdicts_due(node)
    looks = [look for look in request.app.state.looks.waiting() if look.asked_by != user.actor]
    return page(
        request,
        "supervision.html",
        inquiries=rows[:500],
        alarms=alarms,
        proposals=waiting,
        looks=looks,
        due=due,
        parquet=has_parquet(),
    )


@router.get("/supervision/export.{kind}", include_in_schema=False)
def export(request: Request, user: Supervisor, kind: Kind) -> Response:
    """The list of inquiries: no subject, no figure."""
    with locked_node(request) as node:
        table = oversight.inquiry_table(node)
    return download(table, kind)


@router.get("/supervision/institutions.{kind}", include_in_schema=False)
def export_institutions(request: Request, user: Supervisor, kind: Kind) -> Response:
    """Response times, refusals and silences."""
    with locked_node(request) as node:
        table = oversight.institution_table(node)
    return download(table, kind)


@router.get("/supervision/institutions", include_in_schema=False)
def institutions(request: Request, user: Supervisor) -> Response:
    """How each institution answers; accounts of the parties, and the supervisors' period keys."""
    with locked_node(request) as node:
        rows = oversight.institutions(node)
        supervisors = oversight.supervisors(node)
        period_keys = oversight.period_keys(node)
    # Who is slow comes first: the table and the plot read in one order.
    rows.sort(key=lambda row: -(row["median"] if row["median"] is not None else -1))
    return page(
        request,
        "institutions.html",
        institutions=rows,
        supervisors=supervisors,
        period_keys=period_keys,
        parquet=has_parquet(),
    )


@router.get("/supervision/alarms", include_in_schema=False)
def alarms(request: Request, user: Supervisor) -> Response:
    """What needs a look."""
    with locked_node(request) as node:
        found = oversight.alarms(node)
    return page(request, "alarms.html", alarms=found)


@router.get("/supervision/inquiries/{inquiry}", include_in_schema=False)
def inquiry(request: Request, user: Supervisor, inquiry: InquiryId) -> Response:
    """One inquiry: time line, each contribution and the report checked. No figure."""
    return show_inquiry(request, user, inquiry)


def show_inquiry(
    request: Request,
    user: User,
    inquiry: str,
    *,
    figures: list[dict[str, Any]] | None = None,
    reason: str = "",
    problem: str = "",
    verdict_problem: str = "",
) -> Response:
    """The page of an inquiry; with the figures, if the caller was permitted them and has logged it."""
    with locked_node(request) as node:
        found = find_inquiry(node, inquiry)
        facts = oversight.detail(node, found)
        gives_verdicts = node.supervisor.gives_verdicts
        fields = found.schema.fields
    settings = parts(request).settings
    two = settings.drill_down == "two"
    return page(
        request,
        "supervised_inquiry.html",
        status_code=422 if problem or verdict_problem else 200,
        facts=facts,
        fields=fields,
        figures=figures,
        reason=reason,
        problem=problem,
        verdict_problem=verdict_problem,
        gives_verdicts=gives_verdicts,
        two=two,
        look=request.app.state.looks.newest(inquiry, user) if two else None,
        minutes=settings.drill_down_minutes,
        parquet=has_parquet(),
    )


@router.post("/supervision/inquiries/{inquiry}/attest", include_in_schema=False)
def attest(
    request: Request,
    user: Supervisor,
    inquiry: InquiryId,
    verdict: Annotated[str, Form(pattern="^(valid|void|unnamed)$")] = "valid",
    culprits: Annotated[str, Form(pattern=r"^(\d{1,3}(,\d{1,3})*)?$")] = "",
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """The verdict by hand, where the node does not give it by itself; only the one that its checks bear out.

    "unnamed" voids the inquiry and names nobody, whatever the checks say and whoever gives the verdicts (R31.3).
    It is carried out on the node's own path: once, and again until it is on the ledger.
    """
    the, reason = parts(request), reason.strip()
    if verdict != "valid" and len(reason) < SHORTEST_REASON:
        return show_inquiry(request, user, inquiry, verdict_problem="Write why you void this inquiry.")
    named = sorted(int(index) for index in culprits.split(",") if index)
    with locked_node(request) as node:
        found = find_inquiry(node, inquiry)
        if node.supervisor.gives_verdicts and verdict != "unnamed":
            raise NotAllowed("this server gives its verdicts by itself", remedy='set verdicts = "by_hand" in [server]')
        with the.audit.database.transaction():
            names = [found.names[index] for index in named if index in found.names]
            the.audit.append(
                user.actor, "inquiry.attested", f"inquiry/{inquiry}", reason, valid=verdict == "valid", culprits=names
            )
            if verdict == "unnamed":
                node.supervisor.order_void(found)
            else:
                node.supervisor.order_verdict(found, valid=verdict == "valid", culprits=named)
    the.node.wake()
    return go(f"/supervision/inquiries/{inquiry}", "attested")


@router.get("/api/supervision/inquiries", tags=["supervision"])
def api_inquiries(request: Request, who: Annotated[Principal, Depends(READERS)]) -> list[dict[str, Any]]:
    """Every inquiry and its stage; no subject, no figure."""
    with locked_node(request) as node:
        return oversight.overview(node)


@router.get("/api/supervision/alarms", tags=["supervision"])
def api_alarms(request: Request, who: Annotated[Principal, Depends(READERS)]) -> list[dict[str, Any]]:
    """What needs a look."""
    with locked_node(request) as node:
        return [vars(alarm) for alarm in oversight.alarms(node)]
