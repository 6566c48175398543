"""The reviewer's pages: what waits for a second person, and alarms."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.responses import Response

from mpcredit.server.casefile import Step
from mpcredit.server.people import Role, User
from mpcredit.server.refusals import InvalidForm, NotFound
from mpcredit.server.routes.applications import show_with
from mpcredit.server.security import require
from mpcredit.server.web import go, page, parts

router = APIRouter(include_in_schema=False)

Reviewer = Annotated[User, Depends(require(Role.REVIEWER))]


@router.get("/reviews")
def reviews(request: Request, user: Reviewer) -> Response:
    """Who is suspended, decisions against the policy, changes of roles and API tokens, votes or approvals, alarms."""
    the = parts(request)
    desk = the.applications
    misuse = desk.misuse if desk else None
    return page(
        request,
        "reviews.html",
        decisions=desk.newest(steps=[Step.REVIEW]) if desk else [],
        changes=the.people.changes("pending"),
        suspended=misuse.open() if misuse else [],
        ended=misuse.lately(5) if misuse else [],
        alarms=misuse.alarms() if misuse else [],
        orders=request.app.state.orders.waiting(),
        kind=request.app.state.orders.kind.name,
        corrections=request.app.state.corrections.todo() if desk else [],
        tokens={token.id: token for token in the.people.tokens()},
        own={user.actor},
    )


@router.get("/reviews/waiting")
def waiting(request: Request, user: Reviewer) -> Response:
    """How many matters wait for a reviewer: what the mark in the navigation shows, as they change."""
    return page(request, "waiting.html")


@router.post("/suspensions/{suspension}/lift")
def lift(
    request: Request, user: Reviewer, suspension: int, reason: Annotated[str, Form(max_length=1000)] = ""
) -> Response:
    """Let go on who was suspended by a limit against misuse."""
    desk = parts(request).applications
    misuse = desk.misuse if desk else None
    if misuse is None:
        raise NotFound("there is no such suspension", remedy="look at the list again")
    misuse.lift(suspension, by=user, why=reason)
    return go("/reviews", "lifted")


@router.post("/applications/{application_id}/review")
def review(
    request: Request,
    user: Reviewer,
    application_id: Annotated[str, Path(pattern="^[0-9a-f]{16}$")],
    agree: Annotated[str, Form(max_length=5)],
    reason: Annotated[str, Form(max_length=4000)] = "",
) -> Response:
    """Confirm a decision, or send it back."""
    if agree not in ("yes", "no"):
        raise InvalidForm({"agree": "choose one"})
    try:
        parts(request).desk.review(application_id, reviewer=user.actor, agree=agree == "yes", reason=reason)
    except InvalidForm as error:
        return show_with(request, user, application_id, error.problems)
    return go("/reviews", "confirmed" if agree == "yes" else "returned")


@router.post("/changes/{change}")
def change(
    request: Request,
    user: Reviewer,
    change: int,
    agree: Annotated[str, Form(max_length=5)],
    reason: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Confirm or refuse a change of roles or a new API token."""
    people = parts(request).people
    if agree == "yes":
        people.confirm(change, by=user)
    else:
        people.refuse(change, by=user, why=reason)
    return go("/reviews", "saved")
