"""The figures of an inquiry, on the page and as a file: for a stated reason, logged first, by two people if so set."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from mpcredit.server import oversight
from mpcredit.server.applications import NotAllowed
from mpcredit.server.looks import SHORTEST_REASON, LookRefused, Looks
from mpcredit.server.people import User
from mpcredit.server.routes.supervision import InquiryId, Supervisor, find_inquiry, locked_node, show_inquiry
from mpcredit.server.tables import Table, download
from mpcredit.server.web import go, page, parts
from mpcredit.state import Inquiry

router = APIRouter(include_in_schema=False)

Reason = Annotated[str, Form(max_length=1000)]


def _looks(request: Request) -> Looks:
    found = request.app.state.looks
    assert isinstance(found, Looks)
    return found


def _permitted(request: Request, user: User, inquiry: str, reason: str) -> tuple[str, dict[str, int]]:
    """The reason for which a person may see figures now, and the request that another one confirmed.

    Raises:
        LookRefused: he may not, or gave no reason.
    """
    if parts(request).settings.drill_down == "two":
        look = _looks(request).need_open(inquiry, user)
        return look.reason, {"look": look.id}
    if len(reason) < SHORTEST_REASON:
        raise LookRefused("Write why you need to see the figures.", remedy="the reason goes into the audit log")
    return reason, {}


def _log(request: Request, user: User, action: str, found: Inquiry, why: str, **facts: object) -> None:
    subjects = len(found.opening.consents)
    parts(request).audit.append(user.actor, action, f"inquiry/0x{found.id.hex()}", why, subjects=subjects, **facts)


@router.post("/supervision/inquiries/{inquiry}/figures")
def figures(request: Request, user: Supervisor, inquiry: InquiryId, reason: Reason = "") -> Response:
    """The figures of each institution, once, for a stated reason that goes into the audit log first."""
    with locked_node(request) as node:
        # With the node: who waited for it could see figures after his time.
        try:
            why, look = _permitted(request, user, inquiry, reason.strip())
        except LookRefused as error:
            return show_inquiry(request, user, inquiry, reason=reason.strip(), problem=error.message)
        found = find_inquiry(node, inquiry)
        _log(request, user, "subject.looked", found, why, **look)
        rows = oversight.figures(node, found)
    return show_inquiry(request, user, inquiry, figures=rows, reason=why)


@router.post("/supervision/inquiries/{inquiry}/figures/export")
def export(
    request: Request,
    user: Supervisor,
    inquiry: InquiryId,
    kind: Annotated[str, Form(pattern="^(csv|parquet)$")],
    reason: Reason = "",
) -> Response:
    """The same figures as a file, by the same rule."""
    with locked_node(request) as node:
        # With the node: who waited for it could see figures after his time.
        try:
            why, look = _permitted(request, user, inquiry, reason.strip())
        except LookRefused as error:
            return show_inquiry(request, user, inquiry, reason=reason.strip(), problem=error.message)
        found = find_inquiry(node, inquiry)
        # Logged before it is made: a file that cannot be made leaves an entry, never a file without one.
        _log(request, user, "subject.exported", found, why, kind=kind, **look)
        table: Table = oversight.figure_table(node, found)
    return download(table, kind)


@router.post("/supervision/inquiries/{inquiry}/looks")
def ask(request: Request, user: Supervisor, inquiry: InquiryId, reason: Reason = "") -> Response:
    """Ask another person to confirm that one may see the figures of an inquiry."""
    the = parts(request)
    if the.settings.drill_down != "two":
        raise NotAllowed("one person is enough here to see figures", remedy="state your reason on the inquiry's page")
    with locked_node(request) as node:
        find_inquiry(node, inquiry)
    try:
        _looks(request).ask(inquiry, reason, by=user)
    except LookRefused as error:
        return show_inquiry(request, user, inquiry, reason=reason.strip(), problem=error.message)
    the.node.publish("look", inquiry)
    return go(f"/supervision/inquiries/{inquiry}", "look_asked")


@router.get("/supervision/looks")
def requests(request: Request, user: Supervisor) -> Response:
    """Who asked to see figures and why; another one confirms, without seeing them."""
    looks = _looks(request)
    the = parts(request)
    shown = the.audit.search(action="subject.looked", limit=50) + the.audit.search(action="subject.exported", limit=50)
    return page(
        request,
        "looks.html",
        waiting=looks.waiting(),
        recent=[look for look in looks.recent() if look.state != "asked"],
        shown=sorted(shown, key=lambda entry: -entry.seq)[:50],
        two=the.settings.drill_down == "two",
        minutes=the.settings.drill_down_minutes,
    )


@router.post("/supervision/looks/{look}")
def decide(
    request: Request,
    user: Supervisor,
    look: int,
    agree: Annotated[str, Form(pattern="^(yes|no)$")],
    reason: Reason = "",
) -> Response:
    """Confirm or refuse what another person asked for."""
    looks = _looks(request)
    decided = looks.confirm(look, by=user) if agree == "yes" else looks.refuse(look, reason, by=user)
    parts(request).node.publish("look", decided.inquiry)
    return go("/supervision/looks", "look_confirmed" if agree == "yes" else "look_refused")
